"""Where an index's documents come from: folders, files and rows, and the state of each file when it was read.

The id of a folder's document is its path below the folder, the id of a row its own, the id of a single file
its name. A source whose ids could clash with another's puts a prefix before them.
"""

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flatcoat.errors import ConflictError, StorageError
from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.reading.columns import Columns

from .schema import read_meta, row_checksum, write_meta
from .source_paths import (
    Root,
    absolute,
    canonical,
    is_file,
    is_folder,
    label,
    located,
    name_on_disk,
    overlap,
    relative,
)
from .user_secret import user_secret

if TYPE_CHECKING:
    from flatcoat.indexing.reading.scan import FileState


_LOCATION = "location"  # in the table meta


@dataclass(frozen=True)
class Reading:
    """How a source is read; None stands for the default, or for the setting that the source remembers.

    ``include`` and ``exclude`` are patterns as in .gitignore, ``hidden`` says whether hidden files are read
    too (folders only), ``columns`` names the columns (rows only), ``encoding`` is the charset of texts (by
    default it is detected).

    >>> Reading(exclude=("*.log",)).over(Reading(encoding="latin-1")).describe()
    ' (exclude *.log; encoding latin-1)'
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    columns: Columns | None = None
    encoding: str | None = None
    hidden: bool | None = None

    def validate(self) -> None:
        """UsageError where a pattern is malformed or a charset unknown."""
        from flatcoat.indexing.reading.charset import require_encoding
        from flatcoat.indexing.reading.gitignore import patterns_of

        for patterns in (self.include, self.exclude):
            patterns_of(patterns or ())
        require_encoding(self.encoding)

    def over(self, remembered: "Reading") -> "Reading":
        """``remembered``, with the settings given here in place of its own."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(remembered, **given)

    def for_root(self, root: Root) -> "Reading":
        """The settings that concern a source of this kind."""
        if is_folder(root):
            return replace(self, columns=None)
        return replace(
            self, include=None, exclude=None, hidden=None, columns=None if is_file(root) else self.columns
        )

    def to_json(self) -> dict[str, Any]:
        """The settings that are given, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def describe(self) -> str:
        """The settings that are given, in words to stand behind the source's path."""
        words = []
        for name, value in self.to_json().items():
            if isinstance(value, dict):
                value = [f"{part}={_joined(columns, '+')}" for part, columns in value.items() if columns]
            if isinstance(value, bool):
                value = "yes" if value else "no"
            words.append(f"{name} {_joined(value, ', ')}")
        return f" ({'; '.join(words)})" if words else ""

    @staticmethod
    def from_json(values: dict[str, Any]) -> "Reading":
        """The inverse of ``to_json``; StorageError where ``values`` has another form."""
        try:
            columns = values.get("columns")
            return Reading(
                _texts(values.get("include")),
                _texts(values.get("exclude")),
                columns and _columns(columns),
                values.get("encoding"),
                values.get("hidden"),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise StorageError(f"a source of the index is read in an unknown way: {values!r:.80}") from error


class Source(NamedTuple):
    """A row of the table of sources.

    ``path`` is relative to the index's folder, so that both can move together; a source that is no file has a
    name there ("-", "datasets:..."). ``state`` is the state of a file of rows when it was read, or of the
    folders and rules of a folder. ``is_own`` tells whether this user named the source on this machine.
    """

    key: int
    path: str
    prefix: str
    reading: Reading = Reading()
    state: str = ""
    is_own: bool = True


class DocumentFile(NamedTuple):
    """The file that a document was read from; ``is_shared`` if the document is one of several rows in it."""

    path: Path
    is_shared: bool


def sources(connection: sqlite3.Connection) -> list[Source]:
    """All sources, in the order in which they were entered."""
    rows = connection.execute("SELECT key, path, prefix, reading, state, seal FROM sources ORDER BY key")
    secret = user_secret()
    return [
        Source(
            key,
            path,
            prefix,
            _reading_of(reading),
            state,
            bool(seal) and hmac.compare_digest(_as_bytes(seal), _as_bytes(_seal(connection, path, secret))),
        )
        for key, path, prefix, reading, state, seal in rows.fetchall()
    ]


def _reading_of(text: Any) -> Reading:
    try:
        return Reading.from_json(json.loads(text))
    except (RecursionError, TypeError, ValueError) as error:
        raise damaged("a source of the index", f"it is read as {text!r:.40}") from error


def _as_bytes(value: object) -> bytes:
    return str(value).encode(errors="surrogatepass")


def place(index: Path, source: Source) -> Root:
    """Where a source's files are now."""
    return absolute(source.path, index)


def file_of(index: Path, source: Source, name: str) -> DocumentFile | None:
    """The file of the document called ``name`` in a source, if it is there now and its name is text."""
    from flatcoat.indexing.reading.rows import is_rows, rows_file

    root = place(index, source)
    if isinstance(root, str):
        return None
    is_shared = is_rows(root)
    path = rows_file(root) if is_shared else root / name_on_disk(name) if root.is_dir() else root
    return DocumentFile(path, is_shared) if path.is_file() and _is_text(path) else None


def _is_text(path: Path) -> bool:
    """Whether a path can be printed and sent."""
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def name_of(index: Path, source: Source, file: Path) -> str | None:
    """The inverse of ``file_of``: the name that a file has in a source; None outside it."""
    from flatcoat.indexing.reading.gitignore import printable
    from flatcoat.indexing.reading.rows import is_rows

    root = place(index, source)
    file = Path(canonical(file, index))
    if isinstance(root, str) or is_rows(root) or not file.is_relative_to(root):
        return None
    if file == root:
        return printable(root.name) if is_file(root) else None
    return printable(file.relative_to(root).as_posix())


def enter(
    connection: sqlite3.Connection, index: Path, roots: Sequence[Root], *, reading: Reading | None = None
) -> list[Source]:
    """The sources at these roots: known ones, known ones that moved under the same name, or new ones.

    They remember what ``reading`` gives, and that this user named them; the index remembers where it is.
    ConflictError where a root is inside another or holds one.
    """
    if reading:
        reading.validate()
    named = list(dict.fromkeys(canonical(root, index) for root in roots))
    known = {place(index, source): source for source in sources(connection)}
    alone = sum(isinstance(root, Path) for root in {*known, *named}) == 1
    secret = user_secret(create=True)
    entered = []
    for root in named:
        source = source_at(known, root)
        if source is None and (moved := _moved(known, root)) is not None:
            source = known[root] = known.pop(moved)._replace(path=relative(root, index))
        if source is None:
            _require_apart(known, root)
            prefix = "" if alone and is_folder(root) else _new_prefix(connection, root, known)
            (key,) = connection.execute("SELECT 1 + coalesce(max(key), 0) FROM sources").fetchone()
            source = known[root] = Source(key, relative(root, index), prefix)
        remembered = (reading or Reading()).for_root(root).over(source.reading)
        if remembered != source.reading:
            source = source._replace(reading=remembered, state="")
        entered.append(source._replace(is_own=True))
        _write(connection, entered[-1], secret)
    if (here := str(located(index))) != read_meta(connection, _LOCATION):
        write_meta(connection, _LOCATION, here)
    return entered


def read_location(connection: sqlite3.Connection) -> Path | None:
    """Where the index was when its sources were last named; None before, or in an earlier index."""
    location = read_meta(connection, _LOCATION)
    if location is not None and not isinstance(location, str):
        raise damaged(f"the location of the index, {location!r:.60},")
    return None if location is None else Path(location)


def source_at(known: Mapping[Root, Source], root: Root) -> Source | None:
    """The source at ``root``, under whatever name: two links may lead to one folder."""
    if root in known or isinstance(root, str):
        return known.get(root)
    real = root.resolve()
    same = (source for path, source in known.items() if isinstance(path, Path) and path.resolve() == real)
    return next(same, None)


def set_state(connection: sqlite3.Connection, source: Source, state: str) -> None:
    """Remember the state of a file of rows, once all of it has been read."""
    _write(connection, source._replace(state=state), user_secret())


def file_states(connection: sqlite3.Connection, source: int) -> "dict[str, FileState]":
    """The states of the files of a source, read and skipped ones, by name within the source."""
    from flatcoat.indexing.reading.scan import FileState

    read = connection.execute("SELECT name, state, digest FROM documents WHERE source = ?", [source])
    states = {name: FileState(state, digest) for name, state, digest in read}
    skipped = connection.execute("SELECT name, state, reason FROM skipped_files WHERE source = ?", [source])
    return states | {name: FileState(state, skipped=reason) for name, state, reason in skipped}


def read_states(connection: sqlite3.Connection, source: int) -> dict[str, str]:
    """The ``file_state`` that each file of a source had when it was read or skipped, by name."""
    query = (
        "SELECT name, state FROM documents WHERE source = ?1"
        " UNION ALL SELECT name, state FROM skipped_files WHERE source = ?1"
    )
    return dict(connection.execute(query, [source]))


def _write(connection: sqlite3.Connection, source: Source, secret: bytes) -> None:
    reading = json.dumps(source.reading.to_json(), sort_keys=True)
    seal = _seal(connection, source.path, secret) if source.is_own else ""
    row = source.key, source.path, source.prefix, reading, source.state, seal
    connection.execute(
        "INSERT INTO sources VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT(key) DO UPDATE SET"
        " path = ?2, prefix = ?3, reading = ?4, state = ?5, seal = ?6, checksum = ?7"
        " WHERE (path, prefix, reading, state, seal) != (?2, ?3, ?4, ?5, ?6)",
        (*row, row_checksum(*row)),
    )


def _seal(connection: sqlite3.Connection, path: str, secret: bytes) -> str:
    """Proof that the owner of ``secret`` named ``path`` for this index; "" without a secret."""
    content = f"{read_meta(connection, 'uuid')} {path}".encode(errors="surrogatepass")
    return hmac.new(secret, content, hashlib.sha256).hexdigest() if secret else ""


def _columns(values: dict[str, Any]) -> Columns:
    text = values["text"]
    text = text if isinstance(text, str) else _texts(text)
    return Columns(**values | {"text": text, "metadata": _texts(values["metadata"])})


def _joined(value: object, separator: str) -> str:
    return value if isinstance(value, str) else separator.join(value)  # type: ignore[arg-type]


def _texts(values: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(map(str, values))


def _moved(known: Mapping[Root, Source], root: Root) -> Root | None:
    """The root of the one known source of the same name, if nothing is there any more."""
    if isinstance(root, str):
        return None
    same_name = [path for path in known if isinstance(path, Path) and path.name == root.name]
    return same_name[0] if len(same_name) == 1 and not same_name[0].exists() else None


def _require_apart(known: Iterable[Root], root: Root) -> None:
    for other in known:
        if overlap(root, other):
            raise ConflictError(f"{root} and {other}, which is in the index, hold the same files: name one")


def _new_prefix(connection: sqlite3.Connection, root: Root, known: Mapping[Root, Source]) -> str:
    """Id prefix for a new source; empty unless ids could clash."""
    if is_folder(root):
        return _free_prefix(connection, label(root), known)
    if is_file(root):
        file = Path(root)
        rivals = any(is_file(other) and Path(other).name == file.name for other in known)
        return _free_prefix(connection, label(file.parent), known) if rivals else ""
    rivals = any(not is_folder(other) and not is_file(other) for other in known)
    return _free_prefix(connection, label(root), known) if rivals else ""


def _free_prefix(connection: sqlite3.Connection, name: str, known: Mapping[Root, Source]) -> str:
    """The name, numbered where another source has it as prefix or an id in the index begins with it."""
    taken = {source.prefix for source in known.values()}
    numbered = (f"{name}/" if number == 1 else f"{name}-{number}/" for number in count(1))
    return next(
        prefix for prefix in numbered if prefix not in taken and not _begins_an_id(connection, prefix)
    )


def _begins_an_id(connection: sqlite3.Connection, prefix: str) -> bool:
    after = f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"
    query = "SELECT EXISTS (SELECT 1 FROM documents WHERE id >= ? AND id < ?)"
    return bool(connection.execute(query, [prefix, after]).fetchone()[0])
