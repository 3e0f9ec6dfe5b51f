import { useState } from 'react';

type Props = { entries: Entry[] };

/** Shows the entries of a store. */
export function View({ entries }: Props) {
  const [key, setKey] = useState('');
  return (
    <ul>
      {entries.map((entry) => (
        <li key={entry.key} onClick={() => setKey(entry.key)}>
          {entry.value}
        </li>
      ))}
    </ul>
  );
}

const Row = (props: Entry) => {
  return <b>{props.key}</b>;
};
