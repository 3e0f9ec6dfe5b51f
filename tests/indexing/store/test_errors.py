"""Each failure of the store is the error on which a caller would act differently."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flatcoat.errors import ConflictError, FlatcoatError, NotFoundError, StorageError, UsageError
from flatcoat.indexing.chunking.chunk import chunk
from flatcoat.indexing.documents import Document, Passage, checked
from flatcoat.indexing.filters.grammar import parse_filter
from flatcoat.indexing.reading.scan import FileState
from flatcoat.indexing.segments import as_stored
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.schema import DATABASE
from flatcoat.indexing.store.store import StaleRow, Store

TEXTS = [Passage("a", "text")]
VECTORS = np.eye(1, 4, dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "my.index", {})
    write(store, lambda writer: writer.add(TEXTS, VECTORS))
    return store


def write(store: Store, work: Callable) -> None:
    with store.writer() as writer:
        work(writer)


def cut_database(store: Store) -> None:
    store.close()
    (store.path / DATABASE).write_bytes(b"SQLite format 3\0 and no more")
    Store.open(store.path)


def cut_segment(store: Store) -> None:
    (file,) = (store.path / "segments").glob("*.values.npy")
    file.write_bytes(b"")
    Store.open(store.path).snapshot()


def of_future_format(store: Store) -> None:
    from flatcoat.indexing.store.schema import write_meta

    write(store, lambda writer: write_meta(writer._connection, "format", 99))
    Store.open(store.path)


def write_twice(store: Store) -> None:
    with store.writer(), store.writer():
        pass


FAILURES: list[tuple[type[FlatcoatError], Callable[[Store], object]]] = [
    (UsageError, lambda store: Store.create("a\0b", {})),
    (UsageError, lambda store: store.rows_where("lang python")),
    (UsageError, lambda store: parse_filter("=x")),
    (UsageError, lambda store: write(store, lambda writer: writer.add(TEXTS, VECTORS[:0]))),
    (UsageError, lambda store: write(store, lambda writer: writer.add(TEXTS, VECTORS * np.nan))),
    (UsageError, lambda store: write(store, lambda writer: writer.remove([1.5]))),
    (UsageError, lambda store: write(store, lambda writer: writer.remove(7))),
    (UsageError, lambda store: EngineSettings("plaid", bits=3).validate()),
    (UsageError, lambda store: as_stored(np.full((1, 2), np.inf))),
    (UsageError, lambda store: checked("text")),
    (UsageError, lambda store: chunk(Document("a", "b"), lambda texts: [1 for _ in texts], max_tokens=0)),
    (NotFoundError, lambda store: Store.open(store.path / "elsewhere")),
    (NotFoundError, lambda store: store.source_at("nowhere")),
    (NotFoundError, lambda store: write(store, lambda w: w.rename("b", Document("c", "text"), hash=""))),
    (NotFoundError, lambda store: write(store, lambda writer: writer.remember(1, [("b", FileState("1"))]))),
    (ConflictError, lambda store: Store.create(store.path, {})),
    (ConflictError, write_twice),
    (ConflictError, of_future_format),
    (StaleRow, lambda store: store.passages([999])),
    (StorageError, cut_database),
    (StorageError, cut_segment),
    (StorageError, lambda store: EngineSettings.from_json({"name": "hnsw"})),
]


@pytest.mark.parametrize(("leaf", "fail"), FAILURES)
def test_each_failure_is_of_its_own_kind(
    store: Store, leaf: type[FlatcoatError], fail: Callable[[Store], object]
) -> None:
    with pytest.raises(leaf):
        fail(store)
