"""The codec's inner loops: vectors to scales and packed codes, and back.

A vector is coded as norm x (centroid + scale x level of each component). The levels are the codec's; a code
for each component and a scale remain to be chosen. Given the scale the best codes are those of the nearest
levels; given the codes the best scale is that of least squares, (residual . levels) / (levels . levels). Each
is chosen in turn, as in k-means. The norm then makes the decoded vector as long as the original.

Axes: T tokens, D width, P width padded to whole bytes of codes, B bytes of codes per token, K centroids.
"""

import numpy as np
from numba import float32, njit, uint8

from .int8_matmul import OPTIONS

_ROUNDS = 2  # of choosing codes for the scale and the scale for the codes


@njit(**OPTIONS, fastmath=True)
def encode(
    values_TD, codes_T, centroids_KP, step, levels, thresholds, unit, logs, residuals_TB, scales_T2, norms_T
):
    """Code the residuals of ``values_TD`` (float32); ``norms_T`` are the norms before they become bytes.

    ``logs`` [2, 256] are the logarithms of the scales and of the norms that the bytes stand for.
    """
    tokens, width = values_TD.shape
    residual, picked = np.zeros(width, np.float32), np.empty(width, np.float32)
    picks = np.zeros(centroids_KP.shape[1], np.uint8)
    for t in range(tokens):
        k = codes_T[t]
        square, length = float32(0), float32(0)
        for d in range(width):
            residual[d] = values_TD[t, d] - step * centroids_KP[k, d]
            square += residual[d] * residual[d]
            length += values_TD[t, d] * values_TD[t, d]
        scale = np.sqrt(square / width) * unit  # as if this residual were spread as the average one
        for _ in range(_ROUNDS):
            _pick(residual, scale, thresholds, levels, picks, picked)
            along, across = float32(0), float32(1e-20)
            for d in range(width):
                along += residual[d] * picked[d]
                across += picked[d] * picked[d]
            scale = along / across
        # Codes are chosen once more for the scale that will be read, the one of 256 that a byte can name.
        scales_T2[t, 0] = _place(scale, logs[0])
        scale = np.exp(logs[0, scales_T2[t, 0]])
        _pick(residual, scale, thresholds, levels, picks, picked)
        found = float32(1e-20)
        for d in range(width):
            part = step * centroids_KP[k, d] + scale * picked[d]
            found += part * part
        norms_T[t] = np.sqrt(length / found)
        scales_T2[t, 1] = _place(norms_T[t], logs[1])
        _pack(picks, residuals_TB[t])


@njit(**OPTIONS, fastmath=True)
def _pick(residual, scale, thresholds, levels, picks, picked):
    """The nearest level of each component of ``residual / scale``: its place and its value."""
    # A place is how many thresholds lie below: additions without branches, which the compiler turns into
    # vector instructions. What pads the width keeps place 0; a query's components there are 0.
    width = len(residual)
    for d in range(width):
        picks[d] = 0
    for threshold in thresholds:
        bound = threshold * scale
        for d in range(width):
            picks[d] += uint8(residual[d] > bound)
    for d in range(width):
        picked[d] = levels[picks[d]]


@njit(**OPTIONS)
def _place(value, logs):
    """The place of the nearest of 256 evenly spaced logarithms."""
    place = (np.log(max(value, float32(1e-20))) - logs[0]) / (logs[255] - logs[0]) * 255
    return uint8(min(max(np.round(place), 0), 255))


@njit(**OPTIONS)
def _pack(picks, packed):
    """Several places in one byte, the first in its lowest bits."""
    each = len(picks) // len(packed)
    bits = 8 // each
    for b in range(len(packed)):
        byte = 0
        for i in range(each):
            byte |= picks[b * each + i] << (bits * i)
        packed[b] = byte


@njit(**OPTIONS)
def decode(codes_T, residuals_TB, scales_T2, centroids_KP, step, levels, scales, values_TD):
    """Fill float32 ``values_TD`` with what the bytes keep of the vectors."""
    tokens, width = values_TD.shape
    each = centroids_KP.shape[1] // residuals_TB.shape[1]
    bits, mask = 8 // each, len(levels) - 1
    for t in range(tokens):
        scale, norm = scales[0, scales_T2[t, 0]], scales[1, scales_T2[t, 1]]
        for d in range(width):
            level = levels[(residuals_TB[t, d // each] >> (bits * (d % each))) & mask]
            values_TD[t, d] = norm * (step * centroids_KP[codes_T[t], d] + scale * level)
