"""The best k against sorting everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.indexing.top_k import NOTHING, best, merge, reaching, top_k

# Few values, so that ties are common; places in any order, none twice.
hits_of = st.tuples(st.integers(-3, 3), st.integers(0, 99))
scored = st.lists(hits_of, max_size=40, unique_by=lambda hit: hit[1])


def arrays(hits: list[tuple[int, int]], dtype: type) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(hits, np.int64).reshape(-1, 2)
    return table[:, 1], table[:, 0].astype(dtype)


def ranked(hits: list[tuple[int, int]], k: int) -> list[tuple[int, int]]:
    return sorted(hits, key=lambda hit: (-hit[0], hit[1]))[:k]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@given(hits=scored, k=st.integers(1, 45))
def test_the_best_come_first_and_equals_by_place(dtype: type, hits: list[tuple[int, int]], k: int) -> None:
    places, scores = arrays(hits, dtype)
    order = top_k(scores, places, k=k)
    assert [(int(scores[i]), int(places[i])) for i in order] == ranked(hits, k)
    found = best(places, scores, k=k)
    assert list(zip(found.scores.tolist(), found.ids, strict=True)) == ranked(hits, k)
    assert found.scores.dtype == dtype


@given(hits=scored, k=st.integers(1, 45), margin=st.sampled_from([0, 1, 2.5, 99]))
def test_what_reaches_the_kth_score(hits: list[tuple[int, int]], k: int, margin: float) -> None:
    _, scores = arrays(hits, np.float32)
    worst = sorted(scores.tolist(), reverse=True)[k - 1] if len(hits) > k else -np.inf
    assert reaching(scores, k, margin=margin).tolist() == np.flatnonzero(scores >= worst - margin).tolist()


@given(hits=scored, cut=st.integers(0, 40), k=st.integers(1, 45))
def test_merging_is_as_if_all_had_been_ranked_at_once(hits: list[tuple[int, int]], cut: int, k: int) -> None:
    parts = [best(*arrays(part, np.float32), k=k) for part in (hits[:cut], hits[cut:])]
    (found,) = merge([parts[0]], [parts[1]], k=k)
    assert list(zip(found.scores.tolist(), found.ids, strict=True)) == ranked(hits, k)
    (alone,) = merge([NOTHING], [parts[1]], k=k)
    assert alone.ids == parts[1].ids
