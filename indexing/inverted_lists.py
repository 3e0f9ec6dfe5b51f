"""For each centroid the passages that have a token there. Axes: N passages, T tokens, K centroids."""

import numpy as np
from numba import njit

from .byte_products import OPTIONS


def inverted_lists(codes_T: np.ndarray, offsets: np.ndarray, centroids: int) -> tuple[np.ndarray, np.ndarray]:
    """The rising positions of passages with a token at each centroid, each once, list after list.

    ``codes_T`` uint16 and ``offsets`` int64 [N + 1] as in CodedTokens, N at most 65,536. Returns ``lists``
    uint16 and ``list_offsets`` uint32 [K + 1]: the list of centroid ``k`` is
    ``lists[list_offsets[k]:list_offsets[k + 1]]``.
    """
    list_offsets = np.zeros(centroids + 1, np.uint32)
    last_K = np.full(centroids, -1, np.int32)
    _count(codes_T, offsets, last_K, list_offsets[1:])
    np.cumsum(list_offsets, out=list_offsets)
    lists = np.empty(list_offsets[-1], np.uint16)
    last_K[:] = -1
    _fill(codes_T, offsets, last_K, list_offsets[:-1].copy(), lists)
    return lists, list_offsets


@njit(**OPTIONS)
def _count(codes_T, offsets, last_K, sizes_K):
    for n in range(len(offsets) - 1):
        for t in range(offsets[n], offsets[n + 1]):
            k = codes_T[t]
            if last_K[k] != n:
                last_K[k] = n
                sizes_K[k] += np.uint32(1)


@njit(**OPTIONS)
def _fill(codes_T, offsets, last_K, next_K, lists):
    for n in range(len(offsets) - 1):
        for t in range(offsets[n], offsets[n + 1]):
            k = codes_T[t]
            if last_K[k] != n:
                last_K[k] = n
                lists[next_K[k]] = n
                next_K[k] += np.uint32(1)
