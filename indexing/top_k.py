"""Top-k selection and merging: by falling score, equal scores by rising place, the order of adding.

Axes: N passages.
"""

import numpy as np

from .vectors import Hits

NOTHING: Hits[int] = Hits([], np.zeros(0, np.float32))


def reaching(scores_N: np.ndarray, k: int, *, margin: float = 0) -> np.ndarray:
    """Indices (rising) of the ``k`` highest scores and of all scores at most ``margin`` below the k-th."""
    if len(scores_N) <= k:
        return np.arange(len(scores_N))
    # Many of the lowest score (passages in no list that was read) would slow down NumPy's partition 20 times.
    worst = scores_N.min()
    above = scores_N[scores_N > worst]
    if len(above) >= k:
        worst = np.partition(above, len(above) - k)[len(above) - k]
    return np.flatnonzero(scores_N >= worst - margin)


def top_k(scores_N: np.ndarray, places_N: np.ndarray, *, k: int) -> np.ndarray:
    """Indices of the ``k`` highest scores (all, if there are fewer), best first; ties by rising place.

    ``places_N`` (int64) are numbers in the order of adding, such as passage rows. No score may be NaN.

    >>> top_k(np.array([0.1, 0.9, 0.9]), np.array([7, 8, 5]), k=2).tolist()
    [2, 1]
    """
    near = reaching(scores_N, k)
    return near[np.lexsort((places_N[near], -scores_N[near]))[:k]]


def best(places_N: np.ndarray, scores_N: np.ndarray, *, k: int) -> Hits[int]:
    """The ``k`` best places with their scores."""
    order = top_k(scores_N, places_N, k=k)
    return Hits(places_N[order].tolist(), scores_N[order])


def merge(left: list[Hits[int]], right: list[Hits[int]], *, k: int) -> list[Hits[int]]:
    """The ``k`` best hits per query of two searches that have no place in common."""
    return [
        best(np.array(a.ids + b.ids, np.int64), np.concatenate([a.scores, b.scores]), k=k)
        for a, b in zip(left, right, strict=True)
    ]
