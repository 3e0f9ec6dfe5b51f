"""Documents partitioned by shard, before they are cut into passages: one file of JSON lines per shard.

Nothing but text is ever shuffled. A document goes whole to the shard that its id names.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flatcoat.indexing.collection.manifest import shard_of
from flatcoat.indexing.documents import Document, Heading, checked, content_hash

_BUFFERED = 1 << 26  # characters, of all shards together
_MODULUS = 1 << 256


@dataclass
class Content:
    """A digest of documents by their ids and content, whatever their order.

    It is the sum of the hashes of all (as in incremental hashing, Bellare and Micciancio 1997).

    >>> one, other = Content(), Content()
    >>> for id in ("a", "b"): one.add(id, "hash")
    >>> for id in ("b", "a"): other.add(id, "hash")
    >>> one.digest == other.digest
    True
    """

    documents: int = 0
    _sum: int = 0

    def add(self, id: str, hash: str) -> None:
        """Count a document in; ``hash`` is its ``content_hash``."""
        from hashlib import sha256

        self.documents += 1
        digest = sha256(json.dumps([id, hash]).encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % _MODULUS

    @property
    def digest(self) -> str:
        """The digest, in hexadecimal."""
        return f"{self.documents}-{self._sum:064x}"


@dataclass
class Part:
    """The documents of one shard: a file, and what is in it."""

    path: Path
    content: Content = field(default_factory=Content)


def partition(documents: Iterable[Document], shards: int, *, folder: Path) -> dict[int, Part]:
    """Write each document to the file of its shard in ``folder``; returns the shards that got any.

    Raises UsageError for what is no valid document.
    """
    parts: dict[int, Part] = {}
    buffers: defaultdict[int, list[str]] = defaultdict(list)
    size = 0
    for document in documents:
        document = checked(document)
        shard = shard_of(document.id, shards)
        part = parts.setdefault(shard, Part(folder / f"{shard:04d}.jsonl"))
        part.content.add(document.id, content_hash(document))
        line = _line(document)
        buffers[shard].append(line)
        size += len(line)
        if size > _BUFFERED:
            _flush(buffers, parts)
            size = 0
    _flush(buffers, parts)
    return parts


def read_part(path: Path) -> Iterator[Document]:
    """The documents of a part, in the order of their ids; of equal ids the last.

    In this order the same documents make the same shard. They stay on disk until their turn.
    """
    places: dict[str, int] = {}
    with path.open("rb") as file:
        start = 0
        for line in file:
            places[json.loads(line)["id"]] = start
            start += len(line)
        for id in sorted(places):
            file.seek(places[id])
            values = json.loads(file.readline())
            outline = tuple(Heading(*heading) for heading in values.pop("outline", ()))
            yield Document(**values, outline=outline)


def _line(document: Document) -> str:
    values = {"id": document.id, "text": document.text, "title": document.title}
    values |= {"metadata": document.metadata} | ({"outline": document.outline} if document.outline else {})
    return json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def _flush(buffers: dict[int, list[str]], parts: dict[int, Part]) -> None:
    for shard, lines in buffers.items():
        with parts[shard].path.open("a", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
    buffers.clear()
