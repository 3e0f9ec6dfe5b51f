"""ExactIndex against a naive double loop."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing import exact
from flatcoat.indexing.exact import ExactIndex, unit_length
from flatcoat.indexing.metric import Metric
from flatcoat.indexing.snapshot import Snapshot
from flatcoat.indexing.vectors import TokenVectors, Vectors


def tokens(seed: int, sizes: list[int], width: int = 8) -> TokenVectors:
    """Small whole numbers, so that float32 sums are exact and ties are common."""
    random = np.random.default_rng(seed)
    return TokenVectors.from_list(
        [random.integers(-2, 3, (n, width)).astype(np.float32) for n in sizes], width
    )


def naive(documents: Vectors, queries: Vectors, k: int, allowed: set[int]) -> list[list[tuple[int, float]]]:
    """The definition: every query against every allowed document, one by one."""
    everything = []
    for query in queries:
        scored = []
        for row, document in enumerate(documents):
            if row not in allowed or not np.atleast_2d(document).size or not np.atleast_2d(query).size:
                continue
            scores = np.atleast_2d(query) @ np.atleast_2d(document).T
            scored.append((row, float(sum(max(line) for line in scores))))
        everything.append(sorted(scored, key=lambda hit: (-hit[1], hit[0]))[:k])
    return everything


def found(index: ExactIndex[int], queries: Vectors, k: int, allowed: np.ndarray | None = None):
    hits = index.search(queries, k, allowed=allowed)
    return [list(zip(hit.ids, hit.scores.tolist(), strict=True)) for hit in hits]


def in_memory(
    vectors: Vectors, cuts: list[int], keep_bytes: int = 1 << 29, metric: Metric = "ip"
) -> ExactIndex[int]:
    """An index whose rows are 0, 1, 2 ... over several segments."""
    bounds = [0, *cuts, len(vectors)]
    segments, segment_of, positions = [], [], []
    for number, (first, last) in enumerate(pairwise(bounds)):
        if isinstance(vectors, TokenVectors):
            segments.append(TokenVectors.from_list([vectors[i] for i in range(first, last)], vectors.width))
        else:
            segments.append(vectors[first:last])
        segment_of += [number] * (last - first)
        positions += range(last - first)
    table = np.array([segment_of, positions], dtype=np.int64)
    snapshot = Snapshot(tuple(segments), np.arange(len(vectors)), *table)
    return ExactIndex(snapshot, None, metric=metric, keep_bytes=keep_bytes)


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 6), max_size=12),
    asked=st.lists(st.integers(0, 4), min_size=1, max_size=5),
    k=st.integers(1, 15),
    cut=st.integers(0, 12),
    allowed=st.none() | st.sets(st.integers(0, 14)),
    block=st.sampled_from([1, 30, 1 << 20]),
    keep=st.sampled_from([0, 1 << 20]),
)
def test_token_search_equals_the_double_loop(sizes, asked, k, cut, allowed, block, keep) -> None:
    documents, queries = tokens(1, sizes), tokens(2, asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_BLOCK", block)
        patch.setattr(exact, "_RANKED_AT_ONCE", block)
        patch.setattr(exact, "_QUERY_TOKENS", 5)
        index = in_memory(documents, [min(cut, len(sizes))], keep)
        mask = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
        expected = naive(documents, queries, k, set(range(len(sizes))) if allowed is None else allowed)
        assert found(index, queries, k, mask) == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_dense_search_equals_the_double_loop(dtype: type, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_RANKED_AT_ONCE", 64)
    random = np.random.default_rng(3)
    documents = random.integers(-2, 3, (50, 8)).astype(dtype)
    queries = random.integers(-2, 3, (9, 8)).astype(dtype)
    expected = naive(documents.astype(np.float32), queries.astype(np.float32), k, set(range(50)))
    assert found(in_memory(documents, [20, 20, 41]), queries, k) == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("keep", [0, 1 << 20])
def test_a_cosine_is_the_inner_product_of_what_has_length_one(
    dtype: type, keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, however long the vectors, over segments and blocks; and equals in their order."""
    monkeypatch.setattr(exact, "_BLOCK", 64)
    random = np.random.default_rng(6)
    documents = random.standard_normal((50, 8)).repeat(2, axis=0)
    documents = (documents * np.tile([1.0, 1024.0], 50)[:, None]).astype(dtype)
    documents[60:62] = 0
    queries = (random.standard_normal((9, 8)) * 300).astype(dtype)
    unit, unit_queries = (unit_length(values.astype(np.float32)) for values in (documents, queries))
    index = in_memory(documents, [20, 20, 41], keep, "cosine")
    assert found(index, queries, 100) == found(in_memory(unit, [30]), unit_queries, 100)
    for hits, query in zip(index.search(queries, 100), unit_queries, strict=True):
        np.testing.assert_allclose(hits.scores, unit[hits.ids] @ query, atol=2e-6)
        places = {row: place for place, row in enumerate(hits.ids)}
        assert all(places[row + 1] == places[row] + 1 for row in range(0, 100, 2))
        assert hits.scores[[places[60], places[61]]].tolist() == [0, 0]


def test_a_cosine_of_what_float32_cannot_square() -> None:
    documents = np.array([[3e30, 4e30], [4e-30, 3e-30], [0, 0]], np.float32)
    (hits,) = in_memory(documents, [], metric="cosine").search(np.array([[3e-4, 4e-4]], np.float32), 3)
    assert hits.ids == [0, 1, 2]
    assert hits.scores == pytest.approx([1, 0.96, 0], abs=1e-6)


def test_a_cosine_of_token_vectors_is_refused() -> None:
    with pytest.raises(FlatcoatError, match="metric 'cosine' is of dense vectors: token vectors take 'ip'"):
        in_memory(tokens(0, [2]), [], metric="cosine")


def test_ids_are_the_callers_own() -> None:
    index = ExactIndex.from_vectors(["b", "a"], np.eye(2, dtype=np.float32))
    (hits,) = index.search(np.array([[0.5, 1.0]], dtype=np.float32), k=5)
    assert hits.ids == ["a", "b"]
    assert hits.scores.tolist() == [1.0, 0.5]
    assert (len(index), index.width) == (2, 2)
