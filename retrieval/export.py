"""The passages and vectors of an index for other systems: an Arrow table in Parquet, or a feed of Vespa's.

Vectors are those that are searched: float16 as encoded, or decoded from PLAID's codes, whose bits the file
names. LanceDB and Qdrant read the lists of vectors as multivectors.

Axes: N passages, T tokens, D width.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from flatcoat.atomic_files import atomic_write
from flatcoat.errors import ConflictError, UsageError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.segments import CodedSegment, take
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import CodedTokens, TokenVectors, Vectors
from flatcoat.threads import pieces

from .shard import SHARD_BITS

if TYPE_CHECKING:
    import pyarrow

    from flatcoat.indexing.collection.collection import ShardCollection

Format = Literal["parquet", "vespa"]

_AT_ONCE = 1_000  # passages of a block, which becomes a row group
_DIGITS = 5  # of a component in JSON: more than float16 has


class Block(NamedTuple):
    """Some passages with their rows (in a collection the shard's number stands in front, as in searches)."""

    rows: list[int]
    passages: Sequence[Passage]
    vectors: Vectors | None


def export(
    index: "Store | ShardCollection",
    path: str | Path,
    format: Format | None = None,
    *,
    name: str = "flatcoat",
) -> int:
    """Write all passages to a file, which appears whole; returns their number.

    ``format`` is told by the suffix (.parquet; .jsonl is Vespa's) unless given. ``name`` is the namespace of
    Vespa's document ids. UsageError for another suffix or format, ConflictError where there are no passages.
    """
    path = Path(path)
    format = format or {".parquet": "parquet", ".jsonl": "vespa"}.get(path.suffix)  # type: ignore[assignment]
    if format not in get_args(Format):
        raise UsageError(f"{path.name}: name a .parquet or .jsonl file, or give the format: parquet, vespa")
    if not index.encoded().of:
        raise ConflictError(f"index {index.path} has no passages to export")
    with atomic_write(path) as unfinished:
        if format == "parquet":
            return _write_parquet(index, unfinished)
        return _write_vespa(index, unfinished, name)


def blocks(index: "Store | ShardCollection") -> Iterator[Block]:
    """All live passages, with vectors first, in each index or shard by segment and position."""
    for number, store in [(0, index)] if isinstance(index, Store) else index.stores():
        snapshot, first = store.snapshot(), number << SHARD_BITS
        bounds = np.searchsorted(snapshot.segment_of, np.arange(len(snapshot.segments) + 1)).tolist()
        for segment, start, end in zip(snapshot.segments, bounds[:-1], bounds[1:], strict=True):
            stored = segment.tokens if isinstance(segment, CodedSegment) else segment
            for here in pieces(end - start, _AT_ONCE):
                some = slice(start + here.start, start + here.stop)
                vectors = take(stored, snapshot.positions[some])
                yield _block(store, snapshot.rows[some], _decoded(snapshot, vectors), first)
        bare = np.setdiff1d(store.rows_where([]), snapshot.rows)
        for here in pieces(len(bare), _AT_ONCE):
            yield _block(store, bare[here], None, first)


def _block(store: Store, rows_N: np.ndarray, vectors: Vectors | None, first: int) -> Block:
    return Block((rows_N + first).tolist(), store.passages(rows_N), vectors)


def _decoded(snapshot: Snapshot, vectors: Vectors | CodedTokens) -> Vectors:
    if isinstance(vectors, CodedTokens):
        assert snapshot.codec is not None
        return snapshot.codec.decode(vectors)
    return vectors


def _write_parquet(index: "Store | ShardCollection", path: Path) -> int:
    import pyarrow.parquet

    written, schema = 0, _schema(index)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in blocks(index):
            writer.write_table(_table(block, schema))
            written += len(block.rows)
    return written


def _schema(index: "Store | ShardCollection") -> "pyarrow.Schema":
    """The columns; the file's metadata say what made the vectors, and in how many bits they were coded."""
    import pyarrow as pa

    texts = [pa.field(name, pa.string()) for name in ("document_id", "title", "section", "text", "metadata")]
    lines = [pa.field(name, pa.int32()) for name in ("first_line", "last_line")]
    stats, encoder = index.stats(), index.contract.get("encoder") or {}
    vector = pa.list_(pa.float16(), stats.width or 0)
    if stats.kind == "token":
        vector = pa.list_(vector)
    columns = [pa.field("row", pa.int64()), *texts, *lines]
    if stats.width:
        columns.append(pa.field("vector", vector))
    about = {
        "flatcoat.model": str(encoder.get("model", "")),
        "flatcoat.weights": str(encoder.get("weights", "")),
        "flatcoat.similarity": "MaxSim of inner products" if stats.kind == "token" else "inner product",
        "flatcoat.bits": str(_bits(index)),
    }
    return pa.schema(columns, metadata=about)


def _bits(index: "Store | ShardCollection") -> int:
    """Bits per component that the vectors went through: those of the codec, 16 without one."""
    stores = [index] if isinstance(index, Store) else [store for _, store in index.stores()]
    codecs = (store.snapshot().codec for store in stores)
    return min((codec.bits for codec in codecs if codec), default=16)


def _table(block: Block, schema: "pyarrow.Schema") -> "pyarrow.Table":
    import pyarrow as pa

    columns: dict[str, Any] = {
        "row": block.rows,
        "document_id": [one.document_id for one in block.passages],
        "title": [one.title for one in block.passages],
        "section": [one.section for one in block.passages],
        "text": [one.text for one in block.passages],
        "metadata": [json.dumps(one.metadata, ensure_ascii=False) for one in block.passages],
        "first_line": [one.lines[0] for one in block.passages],
        "last_line": [one.lines[1] for one in block.passages],
    }
    if "vector" in schema.names:
        kind = schema.field("vector").type
        columns["vector"] = (
            pa.nulls(len(block.rows), kind) if block.vectors is None else _array(block.vectors)
        )
    return pa.table(columns, schema=schema)


def _array(vectors: Vectors) -> "pyarrow.Array":
    import pyarrow as pa

    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    flat = pa.array(values.astype(np.float16).ravel(), pa.float16())
    array = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if isinstance(vectors, TokenVectors):
        return pa.ListArray.from_arrays(pa.array(vectors.offsets, pa.int32()), array)
    return array


def _write_vespa(index: "Store | ShardCollection", path: Path, name: str) -> int:
    """Vespa's JSON feed, a document of the type "passage" a line: docs.vespa.ai, document JSON format."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for block in blocks(index):
            for place, (row, passage) in enumerate(zip(block.rows, block.passages, strict=True)):
                fields: dict[str, Any] = {
                    "document_id": passage.document_id,
                    "title": passage.title,
                    "section": passage.section,
                    "text": passage.text,
                    "metadata": json.dumps(passage.metadata, ensure_ascii=False),
                    "first_line": passage.lines[0],
                    "last_line": passage.lines[1],
                }
                if block.vectors is not None:
                    fields |= _tensor(block.vectors, place)
                document = {"put": f"id:{name}:passage::{row}", "fields": fields}
                file.write(json.dumps(document, ensure_ascii=False) + "\n")
            written += len(block.rows)
    return written


def _tensor(vectors: Vectors, place: int) -> dict[str, Any]:
    """A tensor(token{}, x[D]) for MaxSim, or tensor(x[D])."""
    rounded = np.round(vectors[place].astype(np.float64), _DIGITS)
    if isinstance(vectors, TokenVectors):
        blocks = {str(token): values_D.tolist() for token, values_D in enumerate(rounded)}
        return {"colbert": {"blocks": blocks}}
    return {"embedding": {"values": rounded.tolist()}}
