"""The store: what goes in comes out, and what does not fit is refused with the reason."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.store import writer
from flatcoat.indexing.store.store import StaleRow, Store
from flatcoat.indexing.terms import query_words
from flatcoat.indexing.vectors import TokenVectors

from ..corpus import WIDTH, held, passages, vectors

CONTRACT = {"model": "m", "lengths": [32, 180]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "my.index", CONTRACT) as store:
        yield store


def add(store: Store, *batches: list[Passage], hashes: dict[str, str] | None = None) -> None:
    with store.writer() as writer:
        for batch in batches:
            writer.add(batch, vectors(batch), hashes=hashes or {})


def segment_files(store: Store) -> list[str]:
    return sorted(path.name for path in (store.path / "segments").iterdir())


def test_what_goes_in_comes_out(store: Store) -> None:
    first, second = passages("a", 3, title="A") + passages("b", 1), passages("c", 2, content=7)
    add(store, first, second, hashes={"a": "h1"})
    with Store.open(store.path) as again:
        assert again.contract == CONTRACT
        rows = again.rows_where([])
        assert again.passages(rows) == first + second
        assert again.passages(rows[::-1]) == (first + second)[::-1]
        assert again.document_hashes() == {"a": "h1", "b": "", "c": ""}
        snapshot = again.snapshot()
        assert snapshot.rows.tolist() == rows.tolist()
        assert all(map(np.array_equal, held(snapshot), vectors(first + second)))
        assert again.verify() == []


def test_a_search_finds_the_passage_of_its_vectors(store: Store) -> None:
    batch = passages("a", 4) + passages("b", 4)
    add(store, batch[:4], batch[4:])
    index = ExactIndex.from_snapshot(store.snapshot())
    expected = ExactIndex.from_vectors([p.text for p in batch], vectors(batch)).search(vectors(batch), 3)
    for hits, wanted in zip(index.search(vectors(batch), 3), expected, strict=True):
        assert [passage.text for passage in store.passages(hits.ids)] == wanted.ids
        assert hits.scores.tolist() == wanted.scores.tolist()


def test_large_segments_are_mapped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatcoat.indexing.segments._MAP_FROM_BYTES", 0)
    add(store, passages("a"))
    (segment,) = store.snapshot().segments
    assert isinstance(segment, TokenVectors)
    assert isinstance(segment.values_TD, np.memmap)


def test_a_document_is_replaced_and_its_old_segment_goes(store: Store) -> None:
    add(store, passages("a", 3))
    old = store.snapshot()
    add(store, passages("a", 1, content=1))
    assert store.passages(store.rows_where([])) == passages("a", 1, content=1)
    assert segment_files(store) == ["000002.offsets.npy", "000002.postings.npy", "000002.values.npy"]
    with pytest.raises(StaleRow, match="no longer in index"):
        store.passages(old.rows)


def test_hashes_of_other_documents_change_nothing(store: Store) -> None:
    """One mapping for all batches is safe to pass with each."""
    add(store, passages("a"), passages("b"), hashes={"a": "1", "b": "2", "c": "3"})
    assert store.document_hashes() == {"a": "1", "b": "2"}


def test_ids_come_sorted_and_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatcoat.indexing.store.store._IDS_AT_ONCE", 2)
    names = ["b", "é", "a", "\U0001f600", "\uffff", "z"]
    for count in range(len(names) + 1):
        with Store.open(store.path) as again:
            assert list(again.document_ids()) == sorted(names[:count])
        if count < len(names):
            add(store, passages(names[count]))


def test_remove_counts_what_was_there(store: Store) -> None:
    add(store, passages("a", 2) + passages("b"))
    with store.writer() as writer:
        assert writer.remove(["a", "nobody", "a"]) == 1
    assert [passage.document_id for passage in store.passages(store.rows_where([]))] == ["b"]
    assert store.bm25("part", 9).ids == store.rows_where([]).tolist()
    assert store.verify() == []


def test_bm25(store: Store) -> None:
    texts = [
        "the cat sat",
        "the dog sat sat",
        "ein Käfer, parse_condition",
        "nothing else",
        "more filler",
        "and more",
    ]
    batch = [Passage(str(i), text, title="zebra" if i == 3 else "") for i, text in enumerate(texts)]
    add(store, batch)
    rows = store.rows_where([])
    hits = store.bm25("sat cat", 10)
    assert hits.ids == [rows[0], rows[1]]
    assert hits.scores[0] > hits.scores[1] > 0
    assert store.bm25("kafer", 1).ids == store.bm25("CONDITION", 1).ids == [rows[2]]
    assert store.bm25("Zebra", 1).ids == [rows[3]]
    assert store.bm25("sat", 10, rows=rows[1:]).ids == [rows[1]]
    assert store.bm25("sat", 10, rows=rows[:0]).ids == []


def test_coverage_is_the_share_of_terms_that_bm25_finds(store: Store) -> None:
    add(store, [Passage("a", "def parseConditions(): sat", title="Zebra"), Passage("b", "cats")])
    first, second = (int(row) for row in store.rows_where([]))
    for query, found in (("zebras sitting", 0.5), ("the zebra condition cat", 2 / 3), ("cat", 0.0)):
        assert store.coverage(query, first) == pytest.approx(found)
        telling = query_words(query)
        alone = [store.bm25(term, 2, rows=np.array([first])).ids for term in telling]
        assert store.coverage(query, first) == pytest.approx(sum(map(bool, alone)) / len(telling))
    assert store.coverage("cat", second) == 1.0
    assert store.coverage("?!", first) == store.coverage("cat", 99) == 0.0


HOSTILE = [
    "",
    " ",
    '"',
    "q AND",
    "NOT",
    "text:part",
    "part*",
    "(((",
    "NEAR(",
    "^q -b",
    "\0",
    "'; --",
    "😀 \u0301",
]
LONG = ["\ud800 part", "part " * 5_000, " ".join(f"w{i}" for i in range(5_000))]


@pytest.mark.parametrize("query", HOSTILE + LONG)
def test_bm25_takes_any_text(store: Store, query: str) -> None:
    add(store, passages("a"))
    found = store.bm25(query, 3)
    assert len(found.ids) == len(found.scores) == ("part" in query)


def test_stats(store: Store) -> None:
    batch = passages("a", 2) + passages("b")
    add(store, batch)
    stats = store.stats()
    assert (stats.documents, stats.passages, stats.segments) == (2, 3, 1)
    assert (stats.kind, stats.width) == ("token", WIDTH)
    assert stats.vectors == len(vectors(batch).values_TD)
    assert stats.bytes > 4_000
    assert stats.engine == "exact"


def test_snapshots_share_what_is_open(store: Store) -> None:
    add(store, passages("a"))
    first = store.snapshot()
    add(store, passages("b"))
    second = store.snapshot()
    assert second.segments[0] is first.segments[0]
    assert (len(first), len(second)) == (1, 2)


def test_a_large_addition_fills_several_segments(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MOST_PASSAGES", 3)
    batch = passages("a", 3) + passages("b", 4)
    add(store, batch)
    snapshot = store.snapshot()
    assert [len(segment) for segment in snapshot.segments] == [3, 3, 1]
    assert store.passages(snapshot.rows) == batch
    assert all(map(np.array_equal, held(snapshot), vectors(batch)))
    assert store.verify() == []


def test_rows_of_removed_passages_are_not_used_again(store: Store) -> None:
    add(store, passages("a", 3))
    add(store, passages("a", 2))
    assert store.snapshot().rows.tolist() == store.rows_where([]).tolist() == [4, 5]


def test_generations_count_commits_that_changed_something(store: Store) -> None:
    add(store, passages("a"))
    add(store)
    assert store.generation == store.snapshot().generation == 1


def test_an_exception_rolls_back_to_the_last_commit(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.writer() as writer:
        writer.add(passages("a"), vectors(passages("a")))
        writer.commit()
        writer.add(passages("b"), vectors(passages("b")))
        raise KeyboardInterrupt
    assert list(store.document_hashes()) == ["a"]
    assert segment_files(store) == ["000001.offsets.npy", "000001.postings.npy", "000001.values.npy"]


def test_a_refused_add_leaves_the_rest_of_the_transaction(store: Store) -> None:
    bad = vectors(passages("b"))
    bad.values_TD[0, 0] = np.nan
    with store.writer() as writer:
        writer.add(passages("a"), vectors(passages("a")))
        for batch, values in [(passages("b"), bad), ([Passage("c", "\ud800")], vectors(passages("c")))]:
            with pytest.raises(FlatcoatError):
                writer.add(batch, TokenVectors(values.values_TD, np.array([0, len(values.values_TD)])))
        writer.add(passages("d"), vectors(passages("d")))
    assert list(store.document_hashes()) == ["a", "d"]
    assert len(segment_files(store)) == 6
    assert store.verify() == []


def test_what_sqlite_rolled_back_by_itself_is_not_committed_in_part(store: Store) -> None:
    add(store, passages("a"))
    with pytest.raises(FlatcoatError, match="undid all since the last commit"), store.writer() as writer:
        writer.add(passages("b"), vectors(passages("b")))
        writer._connection.execute("PRAGMA max_page_count = 1")  # As a full disk: no more than there are.
        with pytest.raises(FlatcoatError, match="cannot be written: database or disk is full"):
            writer.add(passages("c", 200), vectors(passages("c", 200)))
        writer.add(passages("d"), vectors(passages("d")))
    assert list(store.document_hashes()) == ["a"]
    assert store.verify() == []
    add(store, passages("e"))


ONE = passages("x")


@pytest.mark.parametrize(
    ("batch", "values", "message"),
    [
        (ONE, np.ones((1, WIDTH)), "vectors are dense, index vectors are token"),
        (ONE, TokenVectors.from_list([np.ones((2, 3))]), "passage width 3 != index width 4"),
        (ONE, TokenVectors.from_list([np.ones((2, WIDTH), int)]), "int64"),
        (ONE, TokenVectors.from_list([np.full((2, WIDTH), np.inf)]), "NaN, infinity"),
        (ONE, TokenVectors.from_list([np.full((2, WIDTH), 1e6)]), "beyond float16"),
        (ONE, TokenVectors.from_list([], WIDTH), "0 vectors came for 1 passages"),
        ([Passage("x", "t", metadata={"n": float("nan")})], vectors(ONE), "NaN"),
        ([Passage("x", "t", metadata={"n": None})], vectors(ONE), "metadata 'n' of 'x'"),  # type: ignore[dict-item]
        ([Passage("x", "t", "A"), Passage("x", "t", "B")], vectors(ONE * 2), "differ in title"),
    ],
)
def test_what_does_not_fit_is_refused(store: Store, batch, values, message: str) -> None:
    add(store, passages("a"))
    with pytest.raises(FlatcoatError, match=message), store.writer() as writer:
        writer.add(batch, values)
    assert list(store.document_hashes()) == ["a"]


def test_a_second_writer_is_refused_at_once(store: Store) -> None:
    refused = pytest.raises(FlatcoatError, match=r"my\.index is being written")
    with Store.open(store.path) as other, store.writer(), refused, other.writer():
        pass
    with store.writer():
        pass


def test_a_snapshot_is_unmoved_by_a_concurrent_write(store: Store) -> None:
    add(store, passages("a", 3))
    index = ExactIndex.from_snapshot(store.snapshot())
    before = index.search(vectors(passages("a", 3)), 2)
    with Store.open(store.path) as other, other.writer() as writer:
        writer.add(passages("b", 5), vectors(passages("b", 5)))
        assert list(store.document_hashes()) == ["a"]
        writer.remove(["a"])
        writer.commit()
        assert list(store.document_hashes()) == ["b"]
    after = index.search(vectors(passages("a", 3)), 2)
    assert [hits.ids for hits in after] == [hits.ids for hits in before]


@pytest.mark.parametrize("part", ["values", "offsets"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_found(store: Store, part: str, damage: str) -> None:
    add(store, passages("a", 3))
    path = store.path / "segments" / f"000001.{part}.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 64
    path.unlink()
    if damage != "gone":
        path.write_bytes(data if damage == "flip" else data[:-3])
    (problem,) = store.verify()
    assert "segment 1" in problem
    if damage != "flip":
        with pytest.raises(FlatcoatError, match=rf"000001\.{part}\.npy"):
            store.snapshot()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE segment_rows SET rows = zeroblob(24)",
        "UPDATE segment_rows SET rows = zeroblob(16)",
        "UPDATE segments SET live = 2",
        "UPDATE segments SET live_vectors = live_vectors + 1",
        "UPDATE segments SET vectors = vectors + 1",
        "UPDATE passages SET vectors = vectors + 1 WHERE row = 1",
        "DELETE FROM texts WHERE rowid = 1",
        "INSERT INTO texts VALUES (99, '', 'x')",
        "UPDATE files SET kind = 'values' WHERE kind = 'postings'",
        "DELETE FROM files WHERE kind = 'postings'",
        "PRAGMA foreign_keys = OFF; DELETE FROM documents",
        "PRAGMA foreign_keys = OFF; DELETE FROM files WHERE name LIKE '%values%'",
        "UPDATE documents SET metadata = '{'",
        "UPDATE segments SET passages = 7",
    ],
)
def test_a_broken_cross_reference_is_found(store: Store, damage: str) -> None:
    add(store, passages("a", 3))
    connection = sqlite3.connect(store.path / "index.sqlite")
    connection.executescript(damage)
    connection.close()
    assert store.verify()


def test_a_damaged_database_is_named(store: Store) -> None:
    add(store, passages("a", 3))
    connection = sqlite3.connect(store.path / "index.sqlite")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'passages'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with (store.path / "index.sqlite").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with Store.open(store.path) as damaged:
        assert damaged.verify()
        with pytest.raises(FlatcoatError, match="cannot be read"):
            damaged.passages([1])


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(FlatcoatError, match="closed"):
        store.snapshot()


def test_create_wants_a_free_path(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="already an index"):
        Store.create(store.path, {})
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("x")
    for name in ("file", "folder"):
        with pytest.raises(FlatcoatError, match="holds something else"):
            Store.create(tmp_path / name, {})
    with pytest.raises(FlatcoatError, match="JSON"):
        Store.create(tmp_path / "new", {"model": object()})
    with Store.create(tmp_path / "new", {"model": 1}) as second:
        assert second.contract == {"model": 1}


def test_threads_that_share_a_store_write_in_turns(store: Store) -> None:
    def add(number: int) -> None:
        for part in range(3):
            texts = passages(f"{number}-{part}")
            with store.writer() as writer:
                writer.add(texts, vectors(texts))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert store.stats().documents == 24
    assert store.verify() == []
    with store.writer(), pytest.raises(FlatcoatError, match="by the caller of this"), store.writer():
        pass
    add(8)
    assert store.stats().documents == 27


def test_no_document_is_looked_up_by_reading_all(store: Store) -> None:
    asked: list[str] = []
    with store._reading() as connection:
        connection.set_trace_callback(asked.append)
        store.document(1, "name")
        store.document(None, "id")
        store.holds("id")
        store.names_of(1)
        store.count_of(1)
        connection.set_trace_callback(None)
        queries = [query for query in asked if query.startswith("SELECT") and "documents" in query]
        assert len(queries) == 5
        for query in queries:
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {query}"):
                assert step.startswith("SEARCH documents USING"), query


def test_open_wants_an_index(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="is not an index"):
        Store.open(tmp_path / "nowhere")
    (tmp_path / "index.sqlite").write_text("not a database, but long enough to be read as one" * 50)
    with pytest.raises(FlatcoatError, match="cannot be read as an index"):
        Store.open(tmp_path)
    connection = sqlite3.connect(store.path / "index.sqlite")
    for version, advice in ((99, "reads 6: upgrade"), (4, "reads 6: index again")):
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", [version])
        connection.commit()
        with pytest.raises(FlatcoatError, match=f"has format {version}, this flatcoat {advice}"):
            Store.open(store.path)
    connection.close()
