"""What the database holds of documents and their passages: read, inserted, deleted.

Deleting a document deletes the rows of its passages, which turns their vectors into tombstones: they stay in
the immutable segment files, no search finds them, and compaction drops them. The trigger ``passages_delete``
of ``schema`` keeps count of what lives.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.indexing.array_checks import damaged
from flatcoat.indexing.documents import OWN_FIELDS, Document, Metadata, Passage, Scalar, is_value, whole_text

from .schema import document_checksum, integers, json_of


class StoredDocument(NamedTuple):
    """The id of a document, and the hash of the content that it was added with."""

    id: str
    hash: str


class PassagePlace(NamedTuple):
    """The place of a passage: its row, its document's key, its segment, and its number of vectors there."""

    row: int
    document: int
    segment: int
    vectors: int


def hashes(connection: sqlite3.Connection) -> dict[str, str]:
    """The content hash of every document, by id."""
    return dict(connection.execute("SELECT id, hash FROM documents"))


def ids(connection: sqlite3.Connection, *, after: str, limit: int) -> list[str]:
    """The ids of documents: the next ``limit`` behind ``after``, in their order."""
    query = "SELECT id FROM documents WHERE id > ? ORDER BY id LIMIT ?"
    return [id for (id,) in connection.execute(query, (after, limit))]


def ids_of_source(connection: sqlite3.Connection, source: int) -> list[str]:
    """The ids of the documents that were read from a source."""
    query = "SELECT id FROM documents WHERE source = ? ORDER BY key"
    return [id for (id,) in connection.execute(query, [source])]


def names_of_source(connection: sqlite3.Connection, source: int, *, after: str, limit: int) -> list[str]:
    """The names of a source's documents: the next ``limit`` behind ``after``, in their order."""
    query = "SELECT name FROM documents WHERE source = ? AND name > ? ORDER BY name LIMIT ?"
    return [name for (name,) in connection.execute(query, (source, after, limit))]


def count_of_source(connection: sqlite3.Connection, source: int) -> int:
    """How many documents were read from a source."""
    return connection.execute("SELECT count(*) FROM documents WHERE source = ?", [source]).fetchone()[0]


def find(connection: sqlite3.Connection, source: int | None, name: str) -> StoredDocument | None:
    """The document of this name in a source; with ``source`` None the one of this id without a source."""
    # With "source IS ?" SQLite would use no index: it might ask for NULL, which is in none.
    condition, values = "id = ? AND source IS NULL", [name]
    if source is not None:
        condition, values = "source = ? AND name = ?", [source, name]
    found = connection.execute(f"SELECT id, hash FROM documents WHERE {condition}", values).fetchone()
    return found and StoredDocument(*found)


def origins(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, tuple[int, str]]:
    """The source of each document that was read from one (its key), and the document's name there, by id."""
    query = (
        "SELECT documents.id, source, name FROM json_each(?) JOIN documents ON documents.id = value"
        " WHERE source IS NOT NULL"
    )
    wanted = json.dumps(list(ids))
    return {id: (source, name) for id, source, name in connection.execute(query, [wanted])}


def contains(connection: sqlite3.Connection, id: str) -> bool:
    """Whether there is a document of this id."""
    return connection.execute("SELECT 1 FROM documents WHERE id = ?", [id]).fetchone() is not None


def passages(connection: sqlite3.Connection, rows: Iterable[int]) -> dict[int, Passage]:
    """The passages of ``rows``, by row, less those that were removed."""
    query = """
        SELECT passages.row, documents.id, text, documents.title, section, first_line, last_line,
            documents.metadata, passages.metadata
        FROM json_each(?) AS wanted
        JOIN passages ON passages.row = wanted.value
        LEFT JOIN documents ON documents.key = passages.document
        LEFT JOIN texts ON texts.rowid = passages.row
    """
    return {row: _passage(row, *parts) for row, *parts in connection.execute(query, [json_of(rows)])}


def places(connection: sqlite3.Connection, rows: Iterable[int]) -> dict[int, tuple[str, int]]:
    """The id of the document and the first line of each of ``rows`` that is there."""
    query = """
        SELECT passages.row, documents.id, first_line FROM json_each(?) AS wanted
        JOIN passages ON passages.row = wanted.value JOIN documents ON documents.key = passages.document
    """
    return {row: (id, line) for row, id, line in connection.execute(query, [json_of(rows)])}


def rows_of(connection: sqlite3.Connection, ids: Iterable[str]) -> list[int]:
    """The rows of the passages of these documents, rising."""
    query = """
        SELECT row FROM passages JOIN documents ON documents.key = document
        WHERE documents.id IN (SELECT value FROM json_each(?)) ORDER BY row
    """
    return [row for (row,) in connection.execute(query, [json.dumps([*ids])])]


def searchable(connection: sqlite3.Connection, segment: int) -> Iterator[tuple[int, str]]:
    """Row and searchable text (``Passage.searchable``) of each live passage of a segment."""
    query = """
        SELECT passages.row, text, documents.title, section FROM passages
        JOIN documents ON documents.key = document JOIN texts ON texts.rowid = passages.row
        WHERE segment = ? ORDER BY passages.row
    """
    for row, text, title, section in connection.execute(query, [segment]):
        if not all(isinstance(part, str) for part in (text, title, section)):
            raise damaged(f"passage {row} of the index")
        yield row, Passage("", text, title, section=section).searchable


def segments_of(connection: sqlite3.Connection, keys: Iterable[int]) -> dict[int, list[int]]:
    """The rows of the passages of these documents, by segment."""
    query = "SELECT segment, row FROM json_each(?) JOIN passages ON document = value"
    found: dict[int, list[int]] = {}
    for segment, row in connection.execute(query, [json_of(keys)]):
        found.setdefault(segment, []).append(row)
    return found


def keys_of_segment(connection: sqlite3.Connection, segment: int) -> list[int]:
    """The keys of the documents that have passages in a segment."""
    query = "SELECT DISTINCT document FROM passages WHERE segment = ?"
    return [key for (key,) in connection.execute(query, [segment])]


def without_vectors(connection: sqlite3.Connection, rows: Iterable[int]) -> set[int]:
    """Those of the passages ``rows`` whose segment has no vectors."""
    query = (
        "SELECT row FROM json_each(?) JOIN passages ON row = value"
        " WHERE segment NOT IN (SELECT segment FROM files WHERE kind IN ('values', 'codes'))"
    )
    return {row for (row,) in connection.execute(query, [json_of(rows)])}


def texts(connection: sqlite3.Connection, rows: Iterable[int]) -> list[tuple[int, str]]:
    """Each of ``rows`` that is there, with its text."""
    query = "SELECT texts.rowid, text FROM json_each(?) AS wanted JOIN texts ON texts.rowid = wanted.value"
    return connection.execute(query, [json_of(rows)]).fetchall()


def in_order(
    connection: sqlite3.Connection, rows: Iterable[int], limit: int, *, by_document: bool
) -> list[tuple[int, int, tuple[str, int]]]:
    """The first ``limit`` of ``rows`` by the ids of their documents, and for how many rows each stands.

    That is one, or all of its document. Behind them the id of the document, and the first line.
    """
    query = """
        SELECT min(row), count(*), documents.id, first_line FROM json_each(?) AS wanted
        JOIN passages ON passages.row = wanted.value JOIN documents ON documents.key = passages.document
        GROUP BY documents.id, CASE WHEN ? THEN 0 ELSE row END ORDER BY documents.id, row LIMIT ?
    """
    found = connection.execute(query, [json_of(rows), by_document, min(limit, 2**63 - 1)])
    return [(row, count, (id, line)) for row, count, id, line in found]


def documents(
    connection: sqlite3.Connection, clause: str, values: Sequence[Any], *, overlap: bool
) -> list[Document]:
    """The documents that meet a condition on ``documents`` and ``passages``, in the order of adding."""
    query = f"""
        SELECT documents.id, documents.title, documents.metadata, first_line, text
        FROM documents JOIN passages ON document = key JOIN texts ON texts.rowid = passages.row
        WHERE key IN (SELECT key FROM documents CROSS JOIN passages ON document = key WHERE {clause})
        ORDER BY key, passages.row
    """
    found = []
    for (id, title, metadata), parts in groupby(connection.execute(query, values), lambda part: part[:3]):
        values_of_it = None
        with suppress(TypeError, ValueError, RecursionError):
            values_of_it = json.loads(metadata)
        if not isinstance(values_of_it, dict) or not all(map(is_value, values_of_it.values())):
            raise damaged(f"document {id!r:.60} of the index")
        text = whole_text((part[3:] for part in parts), overlap=overlap)
        found.append(Document(id, text, title, values_of_it))
    return found


def rows_where(connection: sqlite3.Connection, clause: str, values: Sequence[Any]) -> np.ndarray:
    """Rows (int64, rising) of the passages that meet a condition as ``filters.sql.where`` gives it."""
    # Each document is looked at once, whatever SQLite would choose.
    query = f"SELECT row FROM documents CROSS JOIN passages ON document = key WHERE {clause}"
    return np.sort(integers(connection.execute(query, values)))


def by_document(passages: Sequence[Passage]) -> dict[str, Passage]:
    """The first passage of each document, whose title and metadata all its passages share; or UsageError."""
    first: dict[str, Passage] = {}
    for passage in passages:
        known = first.setdefault(passage.document_id, passage)
        if (known.title, known.document_metadata) != (passage.title, passage.document_metadata):
            raise UsageError(
                f"passages of {passage.document_id!r} differ in title or metadata: give all the same, or "
                "name the metadata that are a passage's own"
            )
    return first


def insert_document(
    connection: sqlite3.Connection, passage: Passage, *, hash: str, source: int | None, name: str
) -> int:
    """Insert the document of ``passage``; returns its key. Its checksum is written with the commit."""
    insert = "INSERT INTO documents VALUES (NULL, ?, ?, ?, ?, ?, ?, '', '', 0)"
    metadata = _metadata_json(passage.document_id, passage.document_metadata)
    row = passage.document_id, passage.title, hash, metadata, source, name
    key = connection.execute(insert, row).lastrowid
    assert key is not None
    return key


def insert_passage(connection: sqlite3.Connection, passage: Passage, place: PassagePlace) -> None:
    """Insert a passage and its text."""
    row = *place, *passage.lines, _own_json(passage)
    connection.execute("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    text = place.row, passage.section, passage.text
    connection.execute("INSERT INTO texts VALUES (?, ?, ?)", text)


def delete(connection: sqlite3.Connection, ids: Iterable[str]) -> int:
    """Delete documents, which makes tombstones of their vectors; returns how many documents there were."""
    query = "DELETE FROM documents WHERE id = ?"
    return sum(connection.execute(query, [id]).rowcount for id in ids)


def delete_named(connection: sqlite3.Connection, source: int, name: str) -> int:
    """Delete the document of this name in a source, as ``delete`` does; returns 1, or 0 without one."""
    query = "DELETE FROM documents WHERE source = ? AND name = ?"
    return connection.execute(query, (source, name)).rowcount


def rename(connection: sqlite3.Connection, key: int, document: Document, *, hash: str, name: str) -> None:
    """Give a document another id, title, metadata, hash and name."""
    metadata = _metadata_json(document.id, document.metadata)
    connection.execute(
        "UPDATE documents SET id = ?, title = ?, hash = ?, metadata = ?, name = ? WHERE key = ?",
        (document.id, document.title, hash, metadata, name, key),
    )


def other_claim(connection: sqlite3.Connection, id: str, source: int | None) -> str | None:
    """What else a document of this id came from: the path of another source, "add()" for none."""
    query = (
        "SELECT coalesce(path, 'add()') FROM documents LEFT JOIN sources ON sources.key = source"
        " WHERE id = ? AND source IS NOT ?"
    )
    found = connection.execute(query, (id, source)).fetchone()
    return found and found[0]


def write_checksums(connection: sqlite3.Connection, keys: Iterable[int]) -> None:
    """Write the checksums of changed documents; keys of deleted documents are passed over."""
    update = "UPDATE documents SET checksum = ? WHERE key = ?"
    for key in keys:
        with suppress(KeyError):
            connection.execute(update, (document_checksum(connection, key), key))


def _passage(row: int, *parts: Any) -> Passage:
    *texts, first, last, metadata, own = parts
    if isinstance(first, int) and isinstance(last, int) and all(isinstance(text, str) for text in texts):
        id, text, title, section = texts
        with suppress(TypeError, ValueError, RecursionError):
            values, own_values = json.loads(metadata), _own(json.loads(own))
            if isinstance(values, dict) and all(map(is_value, values.values())):
                names = tuple(name for name in own_values if name not in values)
                return Passage(id, text, title, (first, last), own_values | values, section, names)
    raise damaged(f"passage {row} of the index")


def _own_json(passage: Passage) -> str:
    """The metadata that are a passage's own, as they are stored."""
    if not passage.own:
        return "{}"
    if not set(passage.own) <= set(OWN_FIELDS) & passage.metadata.keys():
        raise UsageError(
            f"a passage of {passage.document_id!r} names its own metadata {passage.own}: "
            f"those may be {', '.join(OWN_FIELDS)}, where it has them"
        )
    own: dict[str, Any] = {name: passage.metadata[name] for name in passage.own}
    if "symbol" in own:
        own["symbol"] = str(own["symbol"]).split(", ")
    return json.dumps(own, ensure_ascii=False)


def _own(stored: Any) -> Metadata:
    """The metadata that are a passage's own; TypeError where they are not as ``_own_json`` stores them."""
    if stored:
        stored |= {"symbol": ", ".join(stored["symbol"])} if "symbol" in stored else {}
        if not stored.keys() <= set(OWN_FIELDS) or not all(
            isinstance(one, Scalar) for one in stored.values()
        ):
            raise TypeError(stored)
    return stored


def _metadata_json(id: str, metadata: Metadata) -> str:
    for name, value in metadata.items():
        if not isinstance(name, str) or not is_value(value):
            raise UsageError(
                f"metadata {name!r} of {id!r} is {value!r}: a text, number, boolean or list is needed"
            )
    try:
        return json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise UsageError(f"metadata of {id!r} holds NaN or infinity: {metadata}") from error
