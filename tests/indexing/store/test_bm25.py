"""BM25 of a store: against SQLite's full-text search, through every change that an index knows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Document, Passage
from flatcoat.indexing.store import bm25
from flatcoat.indexing.store.schema import SEGMENTS
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.terms import index_terms, query_terms
from flatcoat.indexing.top_k import best
from flatcoat.indexing.vectors import Hits

from ..corpus import vectors

WORDS = [
    "otter",
    "otters",
    "walrus",
    "parseHTTPReply",
    "parse",
    "Reply",
    "naïve",
    "ＦＵＬＬ",
    "हिन्दी",
    "東京都",
    "the",
    "x1",
]
PHRASES = ["otter walrus", "parse otters otter", "http reply", "the otter", "naive full", "京都", "\u0301"]
QUERIES = [*WORDS, *PHRASES]
texts = st.lists(st.sampled_from([*WORDS, "-", "_", ". "]), max_size=15).map(" ".join)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "my.index", {}) as store:
        yield store


def add(store: Store, *passages: Passage) -> None:
    with store.writer() as writer:
        writer.add(passages, vectors(list(passages)))


def of_sqlite(store: Store, query: str) -> Hits[int]:
    """What SQLite's FTS5 finds among the terms of the live passages: the best 100."""
    with closing(sqlite3.connect(":memory:")) as connection:
        tokenizer = "unicode61 remove_diacritics 0 categories 'L* N* Mn Mc'"
        connection.execute(f'CREATE VIRTUAL TABLE texts USING fts5(terms, tokenize = "{tokenizer}")')
        rows = store.rows_where([])
        for row, one in zip(rows.tolist(), store.passages(rows), strict=True):
            values = row, " ".join(index_terms(one.searchable))
            connection.execute("INSERT INTO texts(rowid, terms) VALUES (?, ?)", values)
        match = " OR ".join(f'"{term}"' for term in query_terms(query)) or '""'
        found = connection.execute(
            "SELECT rowid, -bm25(texts) FROM texts WHERE texts MATCH ? ORDER BY rank, rowid LIMIT 100",
            [match],
        ).fetchall()
    return Hits([row for row, _ in found], np.array([score for _, score in found], np.float32))


def check(store: Store) -> None:
    """Scores are those of SQLite, in order; what is equal there may differ in the last bit."""
    for query in QUERIES:
        found, wanted = store.bm25(query, 100), of_sqlite(store, query)
        assert sorted(found.ids) == sorted(wanted.ids), query
        assert found.scores == pytest.approx(wanted.scores, rel=2e-6), query
        score_of = dict(zip(wanted.ids, wanted.scores.tolist(), strict=True))
        assert found.scores == pytest.approx([score_of[row] for row in found.ids], rel=2e-6), query


def test_places_that_are_kept_are_those_of_a_fresh_reader(store: Store) -> None:
    ids = [f"{number:02}" for number in range(40)]
    for some in (ids[:20], ids[20:]):
        add(store, *(Passage(id, f"otter {id}") for id in some))
    left = dict.fromkeys(ids)
    for removed in (["03", "04"], ["39"], ["00", "20"], [], ids[5:19], ids[21:]):
        with store.writer() as writer:
            writer.remove(removed)
        left = {id: None for id in left if id not in removed}
        snapshot, hits = store.snapshot(), store.bm25("otter", 50)
        with Store.open(store.path) as fresh:
            again = fresh.snapshot()
            for one in ("rows", "segment_of", "positions"):
                assert np.array_equal(getattr(snapshot, one), getattr(again, one))
            assert hits.ids == fresh.bm25("otter", 50).ids
        assert [passage.document_id for passage in store.passages(snapshot.rows)] == list(left)
        assert sorted(hits.ids) == snapshot.rows.tolist()
    store.compact()
    assert store.snapshot().positions.tolist() == list(range(len(left)))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=12), st.data())
def test_scores_are_those_of_sqlite(
    tmp_path_factory: pytest.TempPathFactory, parts: list, data: st.DataObject
) -> None:
    with Store.create(tmp_path_factory.mktemp("any") / "my.index", {}) as store:
        passages = [
            Passage(str(number), text, title, section=section)
            for number, (title, section, text) in enumerate(parts)
        ]
        half = len(passages) // 2
        add(store, *passages[:half])
        add(store, *passages[half:])
        check(store)
        with store.writer() as writer:
            writer.remove([one.document_id for one in passages if data.draw(st.booleans())])
        check(store)
        store.compact()
        check(store)
        assert store.verify() == []


def test_a_replaced_document_counts_as_it_is_now(store: Store) -> None:
    add(store, Passage("a", "otter"), Passage("b", "otter walrus"), Passage("c", "lynx"))
    add(store, Passage("a", "walrus"))
    check(store)
    assert store.bm25("otter", 9).ids == [2]
    assert store.bm25("otter", 9, rows=np.array([1, 4])).ids == []


def test_a_renamed_document_is_found_by_its_new_title(store: Store) -> None:
    add(store, *(Passage(str(number), f"text {number}", f"Old {number}") for number in range(5)))
    add(store, Passage("far", "text", "Old far"))
    files = {path.name for path in (store.path / SEGMENTS).iterdir()}
    with store.writer() as writer:
        for number in (1, 3):
            writer.rename(str(number), Document(f"new{number}", "", "An otterHeron"), hash="")
        writer.remove("0")
    assert store.bm25("heron", 9).ids == [2, 4]
    assert store.bm25("old", 9).ids == [6, 3, 5]
    check(store)
    assert store.verify() == []
    now = {path.name for path in (store.path / SEGMENTS).iterdir()}
    assert (files - now, now - files) == ({"000001.postings.npy"}, {"000003.postings.npy"})
    with store.writer() as writer:
        writer.rename("new1", Document("newer", "", "An otterHeron"), hash="")  # The title stays.
    assert {path.name for path in (store.path / SEGMENTS).iterdir()} == now


def test_what_was_renamed_and_undone_is_as_before(store: Store) -> None:
    add(store, Passage("a", "text", "Old"), Passage("b", "text", "Old"))
    with pytest.raises(FlatcoatError), store.writer() as writer:
        writer.rename("a", Document("c", "", "New"), hash="")
        writer.rename("nothing", Document("d", "", "New"), hash="")
    assert store.bm25("old", 9).ids == [1, 2]
    with store.writer() as writer:
        writer.rename("a", Document("c", "", "New"), hash="")
        writer.remove("c")
    assert store.bm25("old new", 9).ids == [2]
    assert store.verify() == []


def test_shards_with_common_statistics_are_one_index(store: Store, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    passages = [Passage(str(number), " ".join(random.choice(WORDS, 12))) for number in range(60)]
    add(store, *passages)
    shards = []
    for shard in range(3):
        one = Store.create(tmp_path / f"{shard}.index", {})
        add(one, *passages[shard::3])
        shards.append(one)
    for query in QUERIES:
        first, *others = (one.bm25_statistics(query) for one in shards)
        statistics = sum(others, first)
        assert statistics == store.bm25_statistics(query)
        hits = [one.bm25(query, 20, statistics=statistics) for one in shards]
        rows = [3 * row - 2 + shard for shard, part in enumerate(hits) for row in part.ids]
        found = best(np.array(rows, np.int64), np.concatenate([part.scores for part in hits]), k=20)
        wanted = store.bm25(query, 20)
        assert (found.ids, found.scores.tolist()) == (wanted.ids, wanted.scores.tolist())
    for one in shards:
        one.close()


@pytest.mark.parametrize("number", range(40))
def test_a_flipped_byte_of_the_postings_is_found_or_answered(store: Store, number: int) -> None:
    """Any byte: ``verify`` finds it, and a search ends in an answer or in a FlatcoatError."""
    add(store, *(Passage(str(row), f"otter {'walrus ' * row}parseHTTPReply") for row in range(9)))
    path = store.path / SEGMENTS / "000001.postings.npy"
    whole = bytearray(path.read_bytes())
    whole[len(whole) * number // 40] ^= 0xFF
    path.write_bytes(whole)
    assert any("000001.postings.npy" in problem for problem in store.verify())
    with Store.open(store.path) as other:
        for query in QUERIES:
            try:
                other.bm25(query, 9)
                other.coverage(query, 3)
            except FlatcoatError as error:
                assert "damaged" in str(error) or "cannot be read" in str(error)


def test_verify_compares_postings_with_texts(store: Store) -> None:
    """Files of another index: whole, but not of these texts."""
    add(store, Passage("a", "otter"), Passage("b", "walrus"))
    other = bm25.postings_of(["otter", "heron"])
    with store.writer() as writer:
        (record,) = bm25.segment_table.segments(writer._connection)
        file = bm25.write_postings(store.path / SEGMENTS, 7, other)
        bm25.segment_table.replace_postings(writer._connection, record.number, file)
        writer._connection.execute("DELETE FROM files WHERE name = '000001.postings.npy'")
    assert store.verify() == ["segment 1: its postings are not those of its texts"]


SCRIPTS = {
    "海象": "海象生活在北极地区，以贝类为食。",
    "しりとり": "友達としりとりをした。",
    "바다코끼리": "바다코끼리는 북극에 산다.",
    "เครื่องพิมพ์": "การติดตั้งเครื่องพิมพ์ในเครือข่าย",
    "اعدادات": "تغيير الإعدادات",
    "настройки": "Настройка принтера",
    "ज़रूरत": "जरूरतें कम हैं",
}


def test_words_are_found_in_any_script(store: Store) -> None:
    add(store, *(Passage(word, text) for word, text in SCRIPTS.items()))
    for row, word in enumerate(SCRIPTS, 1):
        assert store.bm25(word, 9).ids[:1] == [row]
        assert store.coverage(word, row) == 1


@pytest.mark.parametrize("letter", ["a", "é"])
def test_of_a_very_long_word_the_beginning_counts(store: Store, letter: str) -> None:
    add(store, Passage("a", f"see {letter * 300}b"), Passage("b", f"see {letter * 99}"), Passage("c", "more"))
    add(store, Passage("d", letter * 50_000))
    assert store.bm25(letter * 70_000, 9).ids == [4, 1]
    assert store.verify() == []
