"""A recall that is asked for is found, by the least work that finds it."""

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest

from flatcoat import FlatcoatError, threads
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.plaid import calibration
from flatcoat.indexing.plaid import index as plaid
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.plaid.operating_points import OperatingPoint, Work, cheapest
from flatcoat.indexing.segments import take
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.schema import write_meta
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import TokenVectors

STEPS = (OperatingPoint(4, 16, 0.7, 1.0), OperatingPoint(4, 64, 0.9, 2.0), OperatingPoint(16, 64, 0.95, 1.5))


def test_the_fastest_of_those_that_find_enough() -> None:
    assert cheapest(STEPS, 0.5) == STEPS[0]
    assert cheapest(STEPS, 0.9) == STEPS[2]
    with pytest.raises(FlatcoatError, match=r"recall 0.99 is out of reach: .* 0.950"):
        cheapest(STEPS, 0.99)
    with pytest.raises(FlatcoatError, match="never calibrated: compact it"):
        cheapest((), 0.9)


def vectors(count: int) -> TokenVectors:
    random = np.random.default_rng(0)
    words = random.standard_normal((300, 32))
    sizes = random.integers(5, 25, count)
    values = words[(300 * random.random(sizes.sum()) ** 2).astype(int)]
    values += 0.7 * random.standard_normal(values.shape)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return TokenVectors(values.astype(np.float32), np.concatenate([[0], np.cumsum(sizes)]))


def test_a_compacted_index_meets_the_recall_it_is_asked_for(tmp_path: Path) -> None:
    texts = vectors(1_500)
    passages = [Passage(f"d{i}", f"text {i}") for i in range(len(texts))]
    with Store.create(tmp_path / "index", {}, engine=EngineSettings("plaid")) as store:
        with store.writer() as writer:
            writer.add(passages, texts)
        store.compact()
        steps = store.snapshot().calibration
        index = store.index()
    assert [step.recall for step in steps] == sorted(step.recall for step in steps)
    assert [step.cost for step in steps] == sorted(step.cost for step in steps)
    queries = TokenVectors.from_list([texts[i][:6] for i in range(0, 1_500, 25)])
    exact = ExactIndex.from_vectors([str(i) for i in range(1_500)], texts).search(queries, 10)
    rows = store_rows(index)
    for recall in (steps[0].recall, steps[-1].recall):
        found = index.search(queries, 10, recall=recall)
        shares = [
            len({rows[row] for row in a.ids} & {int(id) for id in b.ids}) / 10
            for a, b in zip(found, exact, strict=True)
        ]
        assert np.mean(shares) > recall - 0.1
    with pytest.raises(FlatcoatError, match="out of reach"):
        index.search(queries, 10, recall=1.1)


def store_rows(index) -> dict[int, int]:
    """The text that each row holds: they were added in order."""
    return {row: place for place, row in enumerate(sorted(index._snapshot.rows.tolist()))}


def calibrated(path: Path, order: np.ndarray) -> tuple[tuple[OperatingPoint, ...], bytes]:
    """The steps of an index of the same texts added in this order, and its codec."""
    texts = take(vectors(900), order)
    assert isinstance(texts, TokenVectors)
    with Store.create(path, {}, engine=EngineSettings("plaid")) as store:
        with store.writer() as writer:
            writer.add([Passage(f"d{i}", f"text {i}") for i in order.tolist()], texts)
            writer.compact(full=False)
        snapshot = store.snapshot()
    assert snapshot.codec and snapshot.calibration
    return snapshot.calibration, snapshot.codec.centroids_KP.tobytes()


def test_the_same_texts_are_calibrated_alike_whatever_else_the_machine_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.arange(900)
    alone = calibrated(tmp_path / "alone", order)
    done = threading.Event()
    busy = threading.Thread(target=lambda: [sum(range(10_000)) for _ in iter(done.is_set, True)])
    busy.start()
    try:
        assert calibrated(tmp_path / "busy", order) == alone
    finally:
        done.set()
        busy.join()
    for module in (threads, plaid):
        monkeypatch.setattr(module, "cores", lambda: 1, raising=False)
    assert calibrated(tmp_path / "one core", order) == alone


def test_a_codec_does_not_depend_on_the_order_of_adding(tmp_path: Path) -> None:
    order = np.random.default_rng(3).permutation(900)
    _, codec = calibrated(tmp_path / "shuffled", order)
    assert codec == calibrated(tmp_path / "sorted", np.arange(900))[1]


def test_work_is_what_a_search_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = vectors(400)
    names = [str(i) for i in range(400)]
    tokens = len(texts.values_TD)
    query = texts.values_TD[:40]  # more than one panel of 32
    index = PlaidIndex.from_vectors(names, texts)
    assert index.work(query, n_probe=4, n_candidates=400) == Work(0, 0, 2 * tokens)
    entries, interacted, scored = index.work(query, n_probe=4, n_candidates=30)
    assert (entries, interacted) == (0, 2 * tokens)
    assert 0 < scored < 2 * tokens / 3
    monkeypatch.setattr(plaid, "_SCANNED_TOKENS", 0)
    monkeypatch.setattr(plaid, "LISTS_FROM_TOKENS", 0)
    monkeypatch.setattr(plaid, "_LISTED", 3)
    by_lists = PlaidIndex.from_vectors(names, texts)
    few, more = (
        by_lists.work(query, n_probe=2, n_candidates=30),
        by_lists.work(query, n_probe=8, n_candidates=30),
    )
    assert 0 < few.list_entries < more.list_entries
    assert 0 < few.centroid_tokens < 2 * tokens
    assert few.nanoseconds < more.nanoseconds
    every = by_lists.work(query, n_probe=len(by_lists._codec.centroids_KP), n_candidates=30)
    assert every.list_entries == sum(len(part.lists.passages) for part in by_lists._parts if part.lists) * 40
    assert by_lists.work(query[:0], n_probe=4, n_candidates=30) == Work(0, 0, 0)


def test_an_index_that_grows_under_its_codec_is_calibrated(tmp_path: Path, monkeypatch) -> None:
    """Too small for it when the codec was trained, and again when another one is."""
    monkeypatch.setattr(calibration, "THOROUGH", 60)
    monkeypatch.setattr(plaid, "THOROUGH", 60)
    texts = vectors(400)

    def add(store: Store, first: int, last: int) -> None:
        some = take(texts, np.arange(first, last))
        assert isinstance(some, TokenVectors)
        with store.writer() as writer:
            writer.add([Passage(f"d{i}", f"text {i}") for i in range(first, last)], some)
            writer.compact(full=False)

    with Store.create(tmp_path / "index", {}, engine=EngineSettings("plaid")) as store:
        add(store, 0, 50)
        assert store.snapshot().calibration == ()
        codec = store.snapshot().codec
        add(store, 50, 100)
        assert store.snapshot().codec is codec
        first = store.snapshot().calibration
        assert first
        assert store.index().search(
            TokenVectors(texts.values_TD[:5], np.array([0, 5])), 3, recall=first[0].recall
        )
        add(store, 100, 400)
        assert store.snapshot().codec is not codec
        assert store.snapshot().calibration not in ((), first)


def test_milliseconds_of_older_indexes_still_compare_their_steps(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", {}, engine=EngineSettings("plaid")) as store:
        with store.writer() as writer:
            writer.add([Passage(f"d{i}", f"text {i}") for i in range(600)], vectors(600))
            writer.compact()
        connection = sqlite3.connect(store.path / "index.sqlite")
        with connection:
            write_meta(connection, "calibration", [[4, 32, 0.5, 0.31], [4, 128, 0.9, 0.5]])
        connection.close()
        assert cheapest(store.snapshot().calibration, 0.6) == OperatingPoint(4, 128, 0.9, 0.5)
