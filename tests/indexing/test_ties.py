"""Of equal scores the passage added first comes first, in every engine, whatever stands beside it."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat.indexing.documents import Passage
from flatcoat.indexing.exact import ExactIndex
from flatcoat.indexing.faiss import index as faiss_index
from flatcoat.indexing.faiss.index import FaissIndex
from flatcoat.indexing.faiss.settings import FaissSettings
from flatcoat.indexing.plaid import index as plaid
from flatcoat.indexing.plaid.index import PlaidIndex
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.store.engines import EngineSettings
from flatcoat.indexing.store.store import Store
from flatcoat.indexing.vectors import TokenVectors, Vectors

WIDTH = 96
ENGINES = {
    "exact": EngineSettings("exact"),
    "exact dense": EngineSettings("exact"),
    "exact cosine": EngineSettings("exact", metric="cosine"),
    "plaid": EngineSettings("plaid"),
    "faiss": EngineSettings("faiss"),
    "faiss Flat cosine": EngineSettings("faiss", factory="Flat", metric="cosine"),
    "faiss SQ8": EngineSettings("faiss", factory="SQ8"),
    "faiss IVF": EngineSettings("faiss", factory="IVF2,Flat"),
    "faiss BFlat": EngineSettings("faiss", factory="BFlat"),
}


def drawn(name: str, contents: list[int]) -> Vectors:
    """The vectors of texts of which equal numbers are equal texts: unit vectors, one or some each."""
    matrices = []
    for content in contents:
        random = np.random.default_rng(content)
        size = int(random.integers(1, 6)) if is_token(name) else 1
        values = random.standard_normal((size, WIDTH)).astype(np.float32)
        matrices.append(values / np.linalg.norm(values, axis=1, keepdims=True))
    return TokenVectors.from_list(matrices, WIDTH) if is_token(name) else np.concatenate(matrices)


def is_token(name: str) -> bool:
    return name in ("exact", "plaid")


def queries(name: str, count: int, seed: int = 0) -> Vectors:
    random = np.random.default_rng(1_000 + seed)
    if is_token(name):
        sizes = random.integers(1, 40, count)
        values = random.standard_normal((sizes.sum(), WIDTH)).astype(np.float32)
        return TokenVectors(values, np.concatenate([[0], np.cumsum(sizes)]))
    return random.standard_normal((count, WIDTH)).astype(np.float32)


def single(asked: Vectors, query: int) -> Vectors:
    return TokenVectors.from_list([asked[query]]) if isinstance(asked, TokenVectors) else asked[[query]]


def add(store: Store, name: str, contents: list[int], first: int) -> None:
    with store.writer() as writer:
        texts = [Passage(f"d{first + i}", f"text {content}") for i, content in enumerate(contents)]
        writer.add(texts, drawn(name, contents))


def assert_ranked(found: list, content_of: dict[int, int], k: int, *, all_found: bool = True) -> None:
    """Equal texts have equal scores and rise by row, and (``all_found``) none gives way to a later one."""
    for hits in found:
        assert len(hits.ids) == min(k, len(content_of))
        order = np.lexsort((hits.ids, -hits.scores))
        assert order.tolist() == list(range(len(hits.ids)))
        score_of: dict[int, float] = {}
        for row, score in zip(hits.ids, hits.scores.tolist(), strict=True):
            assert score_of.setdefault(content_of[row], score) == score
        for content in score_of:
            rows = [row for row in hits.ids if content_of[row] == content]
            if all_found:
                assert rows == sorted(row for row in content_of if content_of[row] == content)[: len(rows)]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("seed", range(3))
def test_equal_texts_come_in_the_order_of_their_rows(tmp_path: Path, name: str, seed: int) -> None:
    """Over segments, removals, merging, reopening and a tail, at any k, alone and in a batch."""
    random = np.random.default_rng(seed)
    contents = [int(content) for content in random.integers(0, 12, 170)]
    with Store.create(tmp_path / "index", {}, engine=ENGINES[name]) as store:
        for first in range(0, 120, 40):
            add(store, name, contents[first : first + 40], first)
        with store.writer() as writer:
            writer.remove(f"d{i}" for i in range(40, 80) if i % 3)
            writer.compact(full=False)
        check(store, name)
        add(store, name, contents[120:], 120)
        check(store, name)
    with Store.open(tmp_path / "index") as store:
        with store.writer() as writer:
            writer.remove(f"d{i}" for i in range(0, 170, 7))
        check(store, name)
        store.compact()
        check(store, name)


def check(store: Store, name: str) -> None:
    index, asked = store.index(), queries(name, 25)
    ranked = partial(assert_ranked, all_found="BFlat" not in name)  # 33 by their signs may lack a text
    rows = store.rows_where([])
    texts = zip(rows.tolist(), store.passages(rows), strict=True)
    content_of = {row: int(passage.text.split()[1]) for row, passage in texts}
    for k in (1, 2, 7, 30, 500):
        ranked(index.search(asked, k), content_of, k)
    allowed = rows[1::2]
    ranked(
        index.search(asked, 9, allowed=allowed[::-1]), {row: content_of[row] for row in allowed.tolist()}, 9
    )
    batch = index.search(asked, 20)
    for query in range(0, 25, 6):
        (alone,) = index.search(single(asked, query), 20)
        assert (alone.ids, alone.scores.tolist()) == (batch[query].ids, batch[query].scores.tolist())


def test_rows_decide_where_segments_hold_them_in_another_order() -> None:
    """As when a merge has moved older passages into a later segment."""
    vectors = drawn("exact", [5] * 8)
    assert isinstance(vectors, TokenVectors)
    half = TokenVectors(vectors.values_TD[: vectors.offsets[4]], vectors.offsets[:5])
    rows = np.array([7, 3, 9, 5, 6, 2, 8, 4])
    table = rows, np.repeat([0, 1], 4), np.tile(np.arange(4), 2)
    exact = ExactIndex[int](Snapshot((half, half), *table), None)
    assert exact.search(queries("exact", 1), 3)[0].ids == [2, 3, 4]
    coded = PlaidIndex.from_vectors([str(i) for i in range(4)], half)._snapshot
    snapshot = Snapshot(coded.segments * 2, *table, codec=coded.codec)
    assert PlaidIndex.from_snapshot(snapshot).search(queries("plaid", 1), 3)[0].ids == [2, 3, 4]
    dense = drawn("faiss", [5] * 4)
    assert isinstance(dense, np.ndarray)
    snapshot = Snapshot((dense, dense), *table)
    ten = [str(i) for i in range(10)]
    built = FaissIndex.from_vectors(ten, np.tile(dense[:1], (10, 1)), settings=FaissSettings())
    faiss = FaissIndex[int](snapshot, None, index=built._faiss._owner, settings=FaissSettings())
    assert faiss.search(queries("faiss", 1), 3)[0].ids == [2, 3, 4]


@pytest.mark.parametrize("name", ["plaid", "plaid by lists"])
def test_the_cut_to_candidates_keeps_the_first_of_equals(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "plaid by lists":
        monkeypatch.setattr(plaid, "_SCANNED_TOKENS", 0)
        monkeypatch.setattr(plaid, "LISTS_FROM_TOKENS", 0)
        monkeypatch.setattr(plaid, "_LISTED", 2)
    monkeypatch.setattr(plaid, "MOST_PASSAGES", 70)
    vectors = drawn("plaid", [3, 4] * 150)
    assert isinstance(vectors, TokenVectors)
    index = PlaidIndex.from_vectors([str(i) for i in range(300)], vectors)
    for hits in index.search(queries("plaid", 9), 10, n_candidates=10):
        assert hits.ids in ([str(i) for i in range(0, 20, 2)], [str(i) for i in range(1, 20, 2)])


def test_thousands_of_equals_end_a_search_of_faiss_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than 2,000 it finds some of them, and none twice."""
    vectors = drawn("faiss", [3] * 3_000)
    assert isinstance(vectors, np.ndarray)
    index = FaissIndex.from_vectors([str(i) for i in range(3_000)], vectors, settings=FaissSettings("Flat"))
    (hits,) = index.search(queries("faiss", 1), 10)
    assert len(set(hits.ids)) == 10
    monkeypatch.setattr(faiss_index, "_TIED", 3_000)
    (hits,) = index.search(queries("faiss", 1), 10)
    assert hits.ids == [str(i) for i in range(10)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([33, 96, 128, 384]), st.booleans())
def test_a_score_is_of_its_vectors_alone(seed: int, count: int, width: int, is_token: bool) -> None:
    """Not of where they stand: a product of matrices rounds otherwise at its edges."""
    random = np.random.default_rng(seed)
    text, query = random.standard_normal((2, 3 if is_token else 1, width)).astype(np.float32)
    others = random.standard_normal((count, *text.shape)).astype(np.float32) / 9
    texts = np.insert(others, random.integers(0, count + 1, 4), text, axis=0)
    vectors = TokenVectors.from_list(list(texts)) if is_token else texts[:, 0]
    asked = TokenVectors.from_list([query]) if is_token else query
    (hits,) = ExactIndex.from_vectors([str(i) for i in range(count + 4)], vectors).search(asked, count + 4)
    same = [str(i) for i in np.flatnonzero((texts == text).all(axis=(1, 2)))]
    scores = {id: score for id, score in zip(hits.ids, hits.scores.tolist(), strict=True) if id in same}
    assert len(set(scores.values())) == 1
    assert list(scores) == same
