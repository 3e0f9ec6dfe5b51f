"""Compaction: what it merges, codes and indexes, when it is due, and that nobody can tell but by speed."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing import segments
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.faiss.index import FaissIndex
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.segments import MOST_PASSAGES, CodedSegment
from flatcoat.indexing.store import compaction, engines, merge
from flatcoat.indexing.store.compaction import all_but_full, due
from flatcoat.indexing.store.engines import AUTO, EngineSettings
from flatcoat.indexing.store.segment_table import SegmentRecord
from flatcoat.indexing.store.store import StaleRow, Store
from flatcoat.indexing.vectors import TokenVectors

from ..corpus import contents, dense, error, held, passages, vectors

EXACT, PLAID, FAISS = EngineSettings("exact"), EngineSettings("plaid"), EngineSettings("faiss")


@pytest.fixture
def make(tmp_path: Path) -> Iterator:
    """Makes an index; a second one of other settings may stand beside it."""
    stores: list[Store] = []

    def make(engine: EngineSettings = AUTO) -> Store:
        stores.append(Store.create(tmp_path / str(len(stores)), {}, engine=engine))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def add(store: Store, count: int, first: int = 0, kind: str = "token") -> None:
    """``count`` documents of one passage, each a segment of its own."""
    with store.writer() as writer:
        for number in range(first, first + count):
            batch = passages(f"{number:04d}")
            writer.add(batch, dense(batch) if kind == "dense" else vectors(batch))


def remove(store: Store, *numbers: int) -> None:
    with store.writer() as writer:
        writer.remove([f"{number:04d}" for number in numbers])


def compact(store: Store, full: bool = True, budget: int = 1 << 30) -> None:
    with store.writer() as writer:
        writer.compact(full, budget)


def files(store: Store, kind: str) -> list[str]:
    return sorted(path.name for path in (store.path / "segments").glob(f"*.{kind}*"))


def record(number: int, live: int, passages: int | None = None) -> SegmentRecord:
    passages = live if passages is None else passages
    return SegmentRecord(number, passages, passages, live, live, {})


def test_segments_are_merged_and_rows_stay(make) -> None:
    store = make(EXACT)
    add(store, 20)
    remove(store, 3, 4, 19)
    before, texts = store.snapshot(), contents(store)
    compact(store)
    after = store.snapshot()
    assert [len(segment) for segment in after.segments] == [17]
    assert after.rows.tolist() == before.rows.tolist()
    assert all(map(np.array_equal, held(after), held(before)))
    assert contents(store) == texts
    assert store.stats().bytes < 1_000_000
    assert store.verify() == []


@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_coded_segments_are_merged_without_decoding(make, monkeypatch, budget: int) -> None:
    store = make(PLAID)
    add(store, 9)
    compact(store)
    add(store, 9, first=9)
    remove(store, 2, 11)
    before = store.snapshot()
    monkeypatch.setattr(segments, "LISTS_FROM_TOKENS", 1)
    monkeypatch.setattr(merge, "MOST_PASSAGES", 6)
    compact(store, budget=budget)
    after = store.snapshot()
    assert [len(segment) for segment in after.segments] == [6, 6, 4]
    assert all(isinstance(s, CodedSegment) and s.lists is not None for s in after.segments)
    assert after.rows.tolist() == before.rows.tolist()
    assert all(map(np.array_equal, held(after), held(before)))
    assert files(store, "codec") == ["000010.codec.npz"]
    assert store.verify() == []


def test_what_is_compact_stays_as_it_is(make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (compaction, merge):
        monkeypatch.setattr(module, "MOST_PASSAGES", 4)
    for engine, kind in ((EXACT, "token"), (PLAID, "token"), (FAISS, "dense")):
        store = make(engine)
        add(store, 10, kind=kind)
        compact(store)
        generation, names, full = store.generation, files(store, ""), store.snapshot().segments[:2]
        assert [len(segment) for segment in store.snapshot().segments] == [4, 4, 2]
        compact(store)
        assert (store.generation, files(store, "")) == (generation, names)
        add(store, 1, first=10, kind=kind)
        compact(store)
        assert [len(segment) for segment in store.snapshot().segments] == [4, 4, 3]
        assert all(a is b for a, b in zip(store.snapshot().segments, full, strict=False))


def test_empty_indexes_compact(make) -> None:
    for engine, kind in ((EXACT, "token"), (PLAID, "token"), (FAISS, "dense")):
        store = make(engine)
        compact(store)
        add(store, 2, kind=kind)
        compact(store)
        remove(store, 0, 1)
        compact(store)
        assert (len(store.snapshot()), store.stats().segments) == (0, 0)
        assert files(store, "faiss") == []
        add(store, 1, kind=kind)
        compact(store)
        assert len(store.index()) == 1
        assert store.verify() == []


def test_few_small_segments_are_left_alone() -> None:
    assert due([record(n, 10) for n in range(32)]) == []
    assert len(due([record(n, 10) for n in range(33)])) == 33


def test_large_segments_are_left_alone() -> None:
    large = [record(n, MOST_PASSAGES // 2 + 1 + n) for n in range(40)]
    assert due(large) == []
    small = [record(n, 1) for n in range(40, 73)]
    assert due(large + small) == small
    some = [record(200, 20_000), record(201, 66)]
    assert due([*some, *small]) == [*small, some[1]]


def test_segments_of_dead_vectors_are_due() -> None:
    dead, dying = record(1, 69, 100), record(2, 71, 100)
    assert due([dead, dying, record(3, 5)]) == [dead]
    assert due([record(4, 1, 3)]) == [record(4, 1, 3)]


def test_all_but_full_clean_segments_are_merged_in_full() -> None:
    full, worn, rest = record(1, MOST_PASSAGES), record(2, MOST_PASSAGES - 1, MOST_PASSAGES), record(3, 9)
    assert all_but_full([full, rest]) == []
    assert all_but_full([full, worn]) == [worn]
    assert all_but_full([full, worn, rest]) == [worn, rest]


@pytest.mark.parametrize("each", [1, 40, 1_000])
def test_merging_costs_little_however_often_one_adds(each: int) -> None:
    """Passages are rewritten less than ten times on their way into a segment that is left alone."""
    held, rewritten, added = [], 0, 200_000 if each > 1 else 40_000
    for number in range(added // each):
        held.append(record(number, each))
        if merged := due(held):
            sizes = sum(segment.live for segment in merged)
            rewritten += sizes
            whole, rest = divmod(sizes, MOST_PASSAGES)
            held = [segment for segment in held if segment not in merged]
            held += [record(number, size) for size in [MOST_PASSAGES] * whole + [rest] * (rest > 0)]
        assert len(held) <= 32 + 2 * added / MOST_PASSAGES + 1
    assert rewritten < 10 * added


def test_auto_codes_token_vectors_from_some_number_on(make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make()
    add(store, 9)
    compact(store)
    assert (store.stats().engine, files(store, "codec")) == ("exact", [])
    tokens = store.stats().vectors
    monkeypatch.setattr(engines, "PLAID_FROM", tokens + 1)
    add(store, 1, first=9)
    compact(store, full=False)
    assert (store.stats().engine, len(files(store, "codec"))) == ("plaid", 1)
    assert isinstance(store.index(), PlaidIndex)
    add(store, 1, first=10)
    assert len(files(store, "codes")) == 2
    assert files(store, "values") == []
    assert error(store) < 0.02
    assert store.verify() == []


def test_one_token_can_be_coded(make) -> None:
    store = make(PLAID)
    with store.writer() as writer:
        one = TokenVectors(np.array([[0.6, -0.8]], np.float32), np.array([0, 1, 1]))
        writer.add(passages("a", 2), one)
        writer.compact()
    (hits,) = store.index().search(TokenVectors(one.values_TD, np.array([0, 1])), 9)
    assert hits.ids == [1]
    assert hits.scores[0] == pytest.approx(1, abs=0.01)


def test_auto_gives_dense_vectors_a_faiss_file_from_some_number_on(make, monkeypatch) -> None:
    monkeypatch.setattr(engines, "FAISS_FROM", 10)
    store = make()
    add(store, 9, kind="dense")
    compact(store)
    assert (store.stats().engine, files(store, "faiss")) == ("exact", [])
    add(store, 1, first=9, kind="dense")
    compact(store, full=False)
    assert store.stats().engine == "faiss"
    assert isinstance(store.index(), FaissIndex)


def test_a_faiss_file_is_written_again_when_a_fifth_is_stale(make) -> None:
    store = make(FAISS)
    add(store, 20, kind="dense")
    compact(store, full=False)
    (first,) = files(store, "faiss")
    add(store, 2, first=20, kind="dense")
    remove(store, 0, 1)
    compact(store, full=False)
    assert files(store, "faiss") == [first]
    remove(store, 21)  # One that was never in it: now three of twenty are stale, not five.
    compact(store, full=False)
    assert files(store, "faiss") == [first]
    remove(store, 2, 3)
    compact(store, full=False)
    (second,) = files(store, "faiss")
    assert second > first
    compact(store)
    assert files(store, "faiss") == [second]
    remove(store, 4)
    compact(store)
    assert files(store, "faiss") > [second]
    assert sorted(store.index().search(dense(passages("x")), 99)[0].ids) == store.rows_where([]).tolist()
    assert store.verify() == []


def clustered(count: int, seed: int) -> TokenVectors:
    """``count`` passages of 20 unit vectors around 64 means, as token vectors are."""
    means_KD = np.random.default_rng(0).standard_normal((64, 32))
    random = np.random.default_rng(seed)
    values_TD = means_KD[random.integers(0, 64, count * 20)] + 0.6 * random.standard_normal((count * 20, 32))
    values_TD /= np.linalg.norm(values_TD, axis=1, keepdims=True)
    return TokenVectors(values_TD.astype(np.float32), np.arange(count + 1) * 20)


def test_retraining_loses_little(make) -> None:
    """Mean squared error of unit vectors that were coded once, twice, three times, as an index grew."""
    store, everything = make(PLAID), clustered(1_500, 1)
    losses = []
    for first, last in ((0, 50), (50, 300), (300, 1_500)):
        part = segments.take(everything, np.arange(first, last))
        assert isinstance(part, TokenVectors)
        with store.writer() as writer:
            writer.add([Passage(str(number), "text") for number in range(first, last)], part)
            writer.compact(full=False)
        snapshot = store.snapshot()
        assert snapshot.codec is not None and snapshot.codec.tokens == last * 20
        first_ones = np.concatenate(held(snapshot)[:50]) - everything.values_TD[: 50 * 20]
        losses.append(float((first_ones**2).sum(axis=1).mean()))
    assert losses == pytest.approx([0.0013, 0.0026, 0.0040], abs=0.0006)


@pytest.mark.parametrize("bits", [1, 4])
def test_a_tiny_first_batch_does_not_mark_what_comes_after_it(make, bits: int) -> None:
    """What outgrows a codec is coded by one that was trained on it, as in an index made at once."""
    everything = clustered(1_500, 1)

    def loss(store: Store, cuts: list[int]) -> float:
        for first, last in pairwise(cuts):
            part = segments.take(everything, np.arange(first, last))
            assert isinstance(part, TokenVectors)
            with store.writer() as writer:
                writer.add([Passage(str(number), "text") for number in range(first, last)], part)
                writer.compact(full=False)
        assert store.verify() == []
        return float(
            ((np.concatenate(held(store.snapshot())) - everything.values_TD) ** 2).sum(axis=1).mean()
        )

    at_once = loss(make(EngineSettings("plaid", bits=bits)), [0, 1_500])
    assert loss(make(EngineSettings("plaid", bits=bits)), [0, 2, 1_500]) < 1.02 * at_once


def test_a_reader_keeps_what_it_opened(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_MAP_FROM_BYTES", 0)
    for engine, kind in ((EXACT, "token"), (PLAID, "token"), (FAISS, "dense")):
        store = make(engine)
        add(store, 12, kind=kind)
        compact(store)
        add(store, 3, first=12, kind=kind)
        index = store.index()
        query = dense(passages("0005")) if kind == "dense" else vectors(passages("0005"))
        (before,) = index.search(query, 5)
        with Store.open(store.path) as other:
            remove(other, 0)
            compact(other)
        (after,) = index.search(query, 5)
        assert (after.ids, after.scores.tolist()) == (before.ids, before.scores.tolist())
        found = store.passages([row for row in after.ids if row != 1])
        assert {len(passage.text) for passage in found} == {len("word0 of 0000 part 0")}
        assert sorted(store.index().search(query, 99)[0].ids) == list(range(2, 16))


def test_the_faiss_file_may_go_between_a_snapshot_and_its_opening(make, monkeypatch) -> None:
    from flatcoat.indexing.store import store as store_module

    store, opened = make(FAISS), []
    add(store, 5, kind="dense")
    compact(store)

    def open_late(snapshot, settings):
        if not opened:
            add(store, 5, first=5, kind="dense")
            compact(store)
        opened.append(snapshot.faiss)
        return engines.open_index(snapshot, settings)

    monkeypatch.setattr(store_module, "open_index", open_late)
    assert len(store.index()) == 10
    assert len(set(opened)) == 2
    (path,) = (store.path / "segments").glob("*.faiss")
    path.unlink()
    with pytest.raises(FlatcoatError, match=path.name):
        store.index()


@pytest.mark.parametrize("engine", [PLAID, FAISS], ids=["plaid", "faiss"])
def test_readers_never_see_a_compaction(make, engine: EngineSettings) -> None:
    kind = "dense" if engine is FAISS else "token"
    store = make(engine)
    add(store, 4, kind=kind)
    compact(store)
    done, searches, failures = threading.Event(), 0, []

    def write() -> None:
        try:
            for number in range(4, 34, 2):
                add(store, 2, first=number, kind=kind)
                remove(store, number - 4)
                compact(store)
        except BaseException as problem:
            failures.append(problem)
        finally:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    query = dense(passages("0005")) if kind == "dense" else vectors(passages("0005"))
    with Store.open(store.path) as reader:
        while not done.is_set():
            (hits,) = reader.index().search(query, 99)
            assert len(hits.ids) >= 4
            searches += 1
            try:
                reader.passages(hits.ids)
            except StaleRow:
                continue
    thread.join()
    assert not failures
    assert searches > 3
    assert store.verify() == []


BIG = """
import sys, threading, time
from pathlib import Path
import numpy as np
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import TokenVectors

peak = 0

def watch():
    global peak
    while True:
        peak = max(peak, int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]))
        time.sleep(0.01)

threading.Thread(target=watch, daemon=True).start()
random = np.random.default_rng(0)
store = Store.create(Path(sys.argv[1]), {}, EngineSettings("plaid", centroids=1024))
with store.writer() as writer:
    for first in range(0, 30_000, 1_000):
        values_TD = random.standard_normal((100_000, 128), dtype=np.float32)
        batch = [Passage(str(number), "text") for number in range(first, first + 1_000)]
        writer.add(batch, TokenVectors(values_TD, np.arange(1_001) * 100))
        writer.commit()
    del values_TD
    writer.compact(budget=1 << 27)
assert store.stats().engine == "plaid" and store.verify() == []
print(peak >> 10)
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    """3 million tokens, 768 MB of float16, are coded in a process that holds less than half of them.

    Mapped pages are not counted: they go when memory is short, and kernels map as many at once as they like.
    """
    script = [sys.executable, "-c", BIG, str(tmp_path / "index")]
    printed = subprocess.run(script, capture_output=True, check=True, text=True).stdout
    assert int(printed) < 384
