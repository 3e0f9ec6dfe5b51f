"""PLAID's inner loops over one segment: centroid interaction, inverted lists, and scores by residuals.

A query stands in panels of 32 tokens, the columns of byte products; its last panel is filled up with zeros,
which score 0 with everything: as many for every passage, they change no order.

Axes: N passages of a segment, T passage tokens, Q query tokens, G panels of C = 32 of them, K centroids, D
width, P width padded to whole bytes of codes, B bytes of codes per token, R = 8 rows of a tile.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import float32, int32, njit

from flatcoat.indexing.vectors import InvertedLists

from .int8_matmul import COLUMNS, OPTIONS, ROWS, largest, tile

_FAST: dict[str, Any] = OPTIONS | {"fastmath": True}


class QueryColumns(NamedTuple):
    """A query as the columns of byte products, panel after panel.

    ``panels`` int8 [G x C x P] as in ``int8_matmul.Columns``, ``starts`` int32 [G x C], ``units`` float32
    [G x C]: what a byte of 1 stands for in each token.
    """

    panels: np.ndarray
    starts: np.ndarray
    units: np.ndarray


class TileScales(NamedTuple):
    """How the products of a tile become scores and bytes: a number for each of each panel [G, R x C].

    The score of a product of 1 (``units``), the score that becomes byte 0 (``lows``), and how many bytes a
    score of 1 more is (``steps``). Written out for whole tiles: one plain loop goes over a tile, which the
    compiler turns into vector instructions.
    """

    units: np.ndarray
    lows: np.ndarray
    steps: np.ndarray


@njit(**_FAST)
def query_bytes(query_QD, columns):
    """Fill ``columns``, which are zeros, with a query; each token has a unit of its own."""
    panels, starts, units = columns
    width = len(panels) // len(starts)
    for q in range(len(query_QD)):
        largest_part = float32(1e-20)
        for d in range(query_QD.shape[1]):
            largest_part = max(largest_part, abs(query_QD[q, d]))
        units[q] = largest_part / 127
        # Groups of four components, which one instruction multiplies, stand column beside column in a panel.
        first = q // COLUMNS * COLUMNS * width + q % COLUMNS * 4
        total = int32(0)
        for d in range(query_QD.shape[1]):
            value = int32(np.round(query_QD[q, d] / units[q]))
            panels[first + d // 4 * 4 * COLUMNS + d % 4] = value
            total += value
        starts[q] = -128 * total  # Rows hold value + 128.


@njit(**_FAST)
def centroid_scores(rows_KP, first, last, columns, of_tiles, scores_GKC, table_GKC):
    """Scores of centroids ``first`` to ``last`` (of whole tiles) with each query token, and as bytes.

    ``columns`` are QueryColumns, ``of_tiles`` TileScales, ``scores_GKC`` float32 and ``table_GKC`` uint8.
    """
    panels, starts = columns.panels, columns.starts
    out = np.empty(ROWS * COLUMNS, np.int32)
    for panel in range(len(scores_GKC)):
        all_scores, all_bytes = scores_GKC[panel].ravel(), table_GKC[panel].ravel()
        unit, low, step = of_tiles.units[panel], of_tiles.lows[panel], of_tiles.steps[panel]
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
def interact(codes_T, offsets, passages, table_GKC, totals):
    """Centroid interaction: for each passage the sum over C of its tokens' largest bytes (int32).

    ``totals`` is -1 where a passage has no tokens.
    """
    best = np.empty(COLUMNS, np.uint8)
    for n in range(len(passages)):
        first, last = offsets[passages[n]], offsets[passages[n] + 1]
        total = int32(0)
        for panel in range(len(table_GKC)):
            largest(codes_T, first, last, table_GKC[panel], best)
            for c in range(COLUMNS):
                total += int32(best[c])
        totals[n] = total if last > first else -1


@njit(**_FAST)
def nearest_centroids(scores_KC, found, values):
    """Fill ``found`` with the centroids that score best with each query token of a panel, best first.

    ``found`` [Q, probes] has C rows at most; ``values`` (float32) becomes the scores.
    """
    columns, probes = found.shape
    values[:] = -np.inf
    # The score to beat for each token; what fills up the panel is never beaten.
    worst = np.full(COLUMNS, -np.inf, np.float32)
    worst[columns:] = np.inf
    for k in range(len(scores_KC)):
        scores = scores_KC[k]
        # Most centroids are among the best of no token: a pass without branches leaves them out.
        gap = -float32(np.inf)
        for c in range(COLUMNS):
            gap = max(gap, scores[c] - worst[c])
        if gap <= 0:
            continue
        for c in range(columns):
            if scores[c] > worst[c]:  # Goes in where it belongs, those behind it move by one.
                at = probes - 1
                while at > 0 and values[c, at - 1] < scores[c]:
                    values[c, at], found[c, at] = values[c, at - 1], found[c, at - 1]
                    at -= 1
                values[c, at], found[c, at] = scores[c], k
                worst[c] = values[c, probes - 1]


@njit(**OPTIONS)
def list_scores(lists, found, values, totals_N):
    """Add to each passage, for each query token, how far its best probed centroid is above the last one.

    What is in no probed list counts as the last (WARP's imputation, Scheerer et al. 2025).
    """
    tokens, probes = found.shape
    # One more than the last query token with the passage in a list: only its first list, the best, counts.
    seen_N = np.zeros(len(totals_N), np.int32)
    for q in range(tokens):
        for p in range(probes):
            gain = values[q, p] - values[q, probes - 1]
            k = found[q, p]
            for at in range(lists.offsets[k], lists.offsets[k + 1]):
                passage = lists.passages[at]
                if seen_N[passage] <= q:
                    seen_N[passage] = q + 1
                    totals_N[passage] += gain


@njit(**_FAST)
def residual_scores(coded, passages, scores_GKC, columns, level_table, scales, out_N):
    """MaxSim of each passage (float32): norm x (centroid score + scale x levels . query), the best summed up.

    ``coded`` are the CodedArrays of the segment, ``columns`` QueryColumns; ``level_table`` holds the levels +
    128 that a byte of codes stands for, side by side in one number.
    """
    codes_T, residuals_TB, scales_T2, offsets = coded
    panels, starts, all_units = columns
    bytes_each = residuals_TB.shape[1]
    # A tile of unpacked residuals, seen as numbers of one byte of codes each, and as the bytes of all levels.
    numbers = np.zeros((ROWS, bytes_each), level_table.dtype)
    rows_RP = numbers.view(np.uint8)
    out = np.empty(ROWS * COLUMNS, np.int32)
    best_GC = np.empty((len(scores_GKC), COLUMNS), np.float32)
    base = np.empty(ROWS * COLUMNS, np.float32)
    for n in range(len(passages)):
        first, last = offsets[passages[n]], offsets[passages[n] + 1]
        best_GC[:] = -np.inf
        for t in range(first, last, ROWS):
            count = min(ROWS, last - t)  # The rest of the last tile holds what was there, and is not read.
            for r in range(count):
                packed, unpacked = residuals_TB[t + r], numbers[r]
                for b in range(bytes_each):
                    unpacked[b] = level_table[packed[b]]
            for panel in range(len(scores_GKC)):
                scores_KC, best = scores_GKC[panel], best_GC[panel]
                units = all_units[panel * COLUMNS : (panel + 1) * COLUMNS]
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
        out_N[n] = best_GC.sum()


def inverted_lists(codes_T: np.ndarray, offsets: np.ndarray, *, centroids: int) -> InvertedLists:
    """The rising positions of passages with a token at each centroid, each once, list after list.

    ``codes_T`` uint16 and ``offsets`` int64 [N + 1] as in CodedTokens, N at most 65,536.
    """
    list_offsets = np.zeros(centroids + 1, np.uint32)
    # The passage last counted at each centroid: its further tokens there do not count again.
    last_K = np.full(centroids, -1, np.int32)
    _count(codes_T, offsets, last_K, list_offsets[1:])
    np.cumsum(list_offsets, out=list_offsets)
    lists = np.empty(list_offsets[-1], np.uint16)
    last_K[:] = -1
    _fill(codes_T, offsets, last_K, list_offsets[:-1].copy(), lists)
    return InvertedLists(lists, list_offsets)


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
