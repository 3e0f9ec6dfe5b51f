"""PLAID's inner loops over one segment: centroid interaction, inverted lists, and scores by residuals.

Axes: N passages of a segment, T their tokens, H panels of C = 32 query tokens, K centroids, P width padded to
whole bytes of codes.
"""

from typing import Any

import numpy as np
from numba import float32, int32, njit

from .int8_matmul import COLUMNS, OPTIONS, ROWS, largest, tile

_FAST: dict[str, Any] = OPTIONS | {"fastmath": True}


@njit(**_FAST)
def query_bytes(query_CD, panels, starts, scales_C):
    """A query [C, D] as the columns of byte products: ``panels`` int8, ``starts``, and each token's scale."""
    width = len(panels) // len(starts)
    for c in range(len(query_CD)):
        largest_part = float32(1e-20)
        for d in range(query_CD.shape[1]):
            largest_part = max(largest_part, abs(query_CD[c, d]))
        scales_C[c] = largest_part / 127
        first = c // COLUMNS * COLUMNS * width + c % COLUMNS * 4
        total = int32(0)
        for d in range(query_CD.shape[1]):
            value = int32(np.round(query_CD[c, d] / scales_C[c]))
            panels[first + d // 4 * 4 * COLUMNS + d % 4] = value
            total += value
        starts[c] = -128 * total


@njit(**_FAST)
def centroid_scores(rows_KP, first, last, columns, places, scores_HKC, table_HKC):
    """Scores of centroids ``first`` to ``last`` (of whole tiles) with each query token, and as bytes.

    ``scores_HKC`` float32; ``table_HKC`` uint8. ``places`` holds, for a tile of every panel [H, 8 x 32], the
    score of a product of 1, the score that becomes byte 0, and how many bytes a score of 1 more is.
    """
    panels, starts, _ = columns
    units, lows, steps = places
    out = np.empty(ROWS * COLUMNS, np.int32)
    for panel in range(len(scores_HKC)):
        all_scores, all_bytes = scores_HKC[panel].ravel(), table_HKC[panel].ravel()
        unit, low, step = units[panel], lows[panel], steps[panel]
        for row in range(first, last, ROWS):
            tile(rows_KP, row, panels, starts, panel, out)
            scores = all_scores[row * COLUMNS : (row + ROWS) * COLUMNS]
            table = all_bytes[row * COLUMNS : (row + ROWS) * COLUMNS]
            for i in range(ROWS * COLUMNS):
                scores[i] = float32(out[i]) * unit[i]
            for i in range(ROWS * COLUMNS):
                place = (scores[i] - low[i]) * step[i]
                table[i] = np.int32(min(max(place, float32(0)), float32(255)))


@njit(**OPTIONS)
def interact(codes_T, offsets, passages, table_HKC, totals):
    """Centroid interaction: for each passage the sum over C of its tokens' largest bytes (int32).

    ``totals`` is -1 where a passage has no tokens.
    """
    best = np.empty(COLUMNS, np.uint8)
    for n in range(len(passages)):
        first, last = offsets[passages[n]], offsets[passages[n] + 1]
        total = int32(0)
        for panel in range(len(table_HKC)):
            largest(codes_T, first, last, table_HKC[panel], best)
            for c in range(COLUMNS):
                total += int32(best[c])
        totals[n] = total if last > first else -1


@njit(**_FAST)
def nearest_centroids(scores_KC, found, values):
    """Fill ``found`` [C, probes] with the centroids that score best with each query token, best first.

    ``values`` (float32) becomes their scores.
    """
    columns, probes = found.shape
    values[:] = -np.inf
    worst = np.full(COLUMNS, -np.inf, np.float32)
    worst[columns:] = np.inf
    for k in range(len(scores_KC)):
        scores = scores_KC[k]
        gap = -float32(np.inf)
        for c in range(COLUMNS):
            gap = max(gap, scores[c] - worst[c])
        if gap <= 0:
            continue
        for c in range(columns):
            if scores[c] > worst[c]:
                at = probes - 1
                while at > 0 and values[c, at - 1] < scores[c]:
                    values[c, at], found[c, at] = values[c, at - 1], found[c, at - 1]
                    at -= 1
                values[c, at], found[c, at] = scores[c], k
                worst[c] = values[c, probes - 1]


@njit(**OPTIONS)
def list_scores(lists, list_offsets, found, values, totals_N):
    """Add to each passage, for each query token, how far its best probed centroid is above the last one.

    What is in no probed list counts as the last (WARP's imputation, Scheerer et al. 2025).
    """
    columns, probes = found.shape
    seen_N = np.zeros(len(totals_N), np.int32)
    for c in range(columns):
        for p in range(probes):
            gain = values[c, p] - values[c, probes - 1]
            k = found[c, p]
            for at in range(list_offsets[k], list_offsets[k + 1]):
                passage = lists[at]
                if seen_N[passage] <= c:
                    seen_N[passage] = c + 1
                    totals_N[passage] += gain


@njit(**_FAST)
def residual_scores(coded, passages, scores_HKC, columns, level_table, scales, out_N):
    """MaxSim of each passage (float32): norm x (centroid score + scale x levels . query), the best summed up.

    ``coded`` holds codes, packed residuals, scales and offsets of the segment; ``level_table`` the levels +
    128 that a byte of codes stands for, in one number.
    """
    codes_T, residuals_TB, scales_T2, offsets = coded
    panels, starts, units_C = columns
    bytes_each = residuals_TB.shape[1]
    numbers = np.zeros((ROWS, bytes_each), level_table.dtype)
    rows_RP = numbers.view(np.uint8)
    out = np.empty(ROWS * COLUMNS, np.int32)
    best_HC = np.empty((len(scores_HKC), COLUMNS), np.float32)
    base = np.empty(ROWS * COLUMNS, np.float32)
    for n in range(len(passages)):
        first, last = offsets[passages[n]], offsets[passages[n] + 1]
        best_HC[:] = -np.inf
        for t in range(first, last, ROWS):
            count = min(ROWS, last - t)
            for r in range(count):
                packed, unpacked = residuals_TB[t + r], numbers[r]
                for b in range(bytes_each):
                    unpacked[b] = level_table[packed[b]]
            for panel in range(len(scores_HKC)):
                scores_KC, best = scores_HKC[panel], best_HC[panel]
                units = units_C[panel * COLUMNS : (panel + 1) * COLUMNS]
                for r in range(count):  # Before they are needed: the cache misses of all rows overlap.
                    scores, to = scores_KC[codes_T[t + r]], base[r * COLUMNS : (r + 1) * COLUMNS]
                    for c in range(COLUMNS):
                        to[c] = scores[c]
                tile(rows_RP, 0, panels, starts, panel, out)
                for r in range(count):
                    scale, norm = scales[0, scales_T2[t + r, 0]], scales[1, scales_T2[t + r, 1]]
                    scores = base[r * COLUMNS : (r + 1) * COLUMNS]
                    products = out[r * COLUMNS : (r + 1) * COLUMNS]
                    for c in range(COLUMNS):
                        score = norm * (scores[c] + scale * (float32(products[c]) * units[c]))
                        best[c] = score if score > best[c] else best[c]
        out_N[n] = best_HC.sum()


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
