"""k-means by Lloyd's iterations, with products of bytes.

Axes: T points (token vectors), D width, K centroids.
"""

import numpy as np
from numba import njit

from flatcoat.threads import cores, pieces, spread

from .int8_matmul import OPTIONS, Columns, nearest

_ITERATIONS = 6
_ROWS_PER_TASK = 8_192


def kmeans(rows_TD: np.ndarray, count: int, *, means: int, seed: int = 0) -> np.ndarray:
    """``means`` centres [K, D] (float32, in the units of the bytes) of the first ``count`` rows.

    ``rows_TD`` is uint8, value + 128, as ``int8_matmul.as_rows`` makes them; K never exceeds ``count``.
    """
    random = np.random.default_rng(seed)
    means = min(means, count)
    first = np.sort(random.choice(count, means, replace=False))
    means_KD = rows_TD[first].astype(np.float32) - 128
    if means == count:
        return means_KD
    for _ in range(_ITERATIONS):
        found_T = assign(rows_TD, count, means_KD=means_KD)
        sizes_K = np.bincount(found_T, minlength=means)
        means_KD = _sums(rows_TD, found_T, means) / np.maximum(sizes_K, 1)[:, None]
        empty = np.flatnonzero(sizes_K == 0)
        means_KD[empty] = rows_TD[random.choice(count, len(empty))].astype(np.float32) - 128
    return means_KD


def assign(rows_TD: np.ndarray, count: int, *, means_KD: np.ndarray) -> np.ndarray:
    """The nearest mean (int32 [T]) of each of the first ``count`` rows, by Euclidean distance."""
    step = max(float(np.abs(means_KD).max()), 1e-6) / 127
    columns = Columns(np.round(means_KD / step).astype(np.int8))
    # The largest of these products is the smallest distance.
    columns.starts[: columns.count] -= np.round((means_KD**2).sum(axis=1) / (2 * step)).astype(np.int32)
    found_T = np.empty(count, np.int32)

    def assign_some(here: slice) -> None:
        # Whole tiles of rows: the last piece keeps the padding.
        rows = rows_TD[here.start : here.start + _ROWS_PER_TASK]
        nearest(rows, here.stop - here.start, columns.panels, columns.starts, found_T[here])

    spread(assign_some, pieces(count, _ROWS_PER_TASK))
    return found_T


def _sums(rows_TD: np.ndarray, found_T: np.ndarray, means: int) -> np.ndarray:
    sums_KD = np.zeros((means, rows_TD.shape[1]), np.float32)
    # A task per range of means: no two write to the same place.
    spread(
        lambda some: _add(rows_TD, found_T, sums_KD, some.start, some.stop),
        pieces(means, -(-means // cores())),
    )
    return sums_KD


@njit(**OPTIONS)
def _add(rows_TD, found_T, sums_KD, first, last):
    for t in range(len(found_T)):
        k = found_T[t]
        if first <= k < last:
            for d in range(rows_TD.shape[1]):
                sums_KD[k, d] += np.float32(rows_TD[t, d]) - np.float32(128)
