"""Elementwise steps of a layer on one core, each in one pass over rows that stay in its cache (numba).

The core's thread holds no lock meanwhile, so threads run them side by side; torch does the matrix products.
Float32 only. Axes: T tokens, H heads, W head width, P = W / 2 pairs, D width, I inner width, E = 3 H W.
"""

from typing import Any

import numpy as np
from numba import float32, int32, njit, uint8

_FAST = {"nogil": True, "fastmath": True, "cache": True, "error_model": "numpy"}
_SQRT_HALF = float32(0.5**0.5)
_TURNED = 16
_LOWEST_ROW = float32(1e-30)


@njit(inline="always")
def _erf(x: Any) -> Any:
    """The error function as a quotient of polynomials in x^2, within 2e-7 of it, flat beyond 4.

    Coefficients as in Eigen's single-precision erf.
    """
    x = min(max(x, float32(-4.0)), float32(4.0))
    z = x * x
    top = float32(-2.72614225801306e-10)
    top = top * z + float32(2.77068142495902e-08)
    top = top * z + float32(-2.10102402082508e-06)
    top = top * z + float32(-5.69250639462346e-05)
    top = top * z + float32(-7.34990630326855e-04)
    top = top * z + float32(-2.95459980854025e-03)
    top = top * z + float32(-1.60960333262415e-02)
    bottom = float32(-1.45660718464996e-05)
    bottom = bottom * z + float32(-2.13374055278905e-04)
    bottom = bottom * z + float32(-1.68282697438203e-03)
    bottom = bottom * z + float32(-7.37332916720468e-03)
    bottom = bottom * z + float32(-1.42647390514189e-02)
    return x * top / bottom


@njit(**_FAST)
def turn(
    projected_TE: np.ndarray,
    scales_T: np.ndarray,
    cos_TP: np.ndarray,
    sin_TP: np.ndarray,
    turned_3HTW: np.ndarray,
) -> None:
    """Scale queries | keys | values, turn the first two (half-split), and lay each head's rows together."""
    heads, tokens, width = turned_3HTW.shape[1:]
    pairs = width // 2
    for first in range(0, tokens, _TURNED):  # Few rows at a time, or each head's next row leaves the cache.
        last = min(first + _TURNED, tokens)
        for part in range(3 * heads):
            turned_TW = turned_3HTW[part // heads, part % heads]
            start = part * width
            for token in range(first, last):
                scale = scales_T[token]
                row = projected_TE[token, start : start + width]
                turned = turned_TW[token]
                if part >= 2 * heads:
                    for column in range(width):
                        turned[column] = row[column] * scale
                    continue
                lower, upper = row[:pairs], row[pairs:]
                out_lower, out_upper = turned[:pairs], turned[pairs:]
                cos, sin = cos_TP[token], sin_TP[token]
                for pair in range(pairs):
                    out_lower[pair] = (lower[pair] * cos[pair] - upper[pair] * sin[pair]) * scale
                for pair in range(pairs):
                    out_upper[pair] = (upper[pair] * cos[pair] + lower[pair] * sin[pair]) * scale


@njit(inline="always")
def _gate(projected: Any, scale: Any, gated: Any) -> None:
    inner = len(gated)
    activated, gates = projected[:inner], projected[inner:]
    for column in range(inner):
        x = activated[column] * scale
        gated[column] = float32(0.5) * x * (float32(1) + _erf(x * _SQRT_HALF)) * gates[column] * scale


@njit(inline="always")
def _norm(states: Any, weight: Any, bias: Any, eps: Any, normed: Any) -> None:
    width = len(states)
    mean = float32(0)
    for column in range(width):
        mean += states[column]
    mean /= float32(width)
    spread = float32(0)
    for column in range(width):
        spread += (states[column] - mean) ** 2
    scale = float32(1) / np.sqrt(spread / float32(width) + float32(eps))
    for column in range(width):
        normed[column] = (states[column] - mean) * scale * weight[column] + bias[column]


@njit(inline="always")
def _quantize(row: Any, codes: Any) -> Any:
    """The scale of a row. Magnitudes are compared as the integers that share their bits: much faster."""
    bits = row.view(np.int32)
    largest_bits = np.zeros(1, np.int32)
    most = int32(0)
    for column in range(len(bits)):
        most = max(most, bits[column] & int32(0x7FFFFFFF))
    largest_bits[0] = most
    largest = max(largest_bits.view(np.float32)[0], _LOWEST_ROW)
    steps = float32(127) / largest
    for column in range(len(row)):
        codes[column] = uint8(int32(row[column] * steps + float32(128.5)))
    return largest / float32(127)


@njit(**_FAST)
def gate(projected_T2I: np.ndarray, gated_TI: np.ndarray) -> None:
    """gelu (erf) of the first half of each row times the second."""
    for token in range(len(gated_TI)):
        _gate(projected_T2I[token], float32(1), gated_TI[token])


@njit(**_FAST)
def gate_quantize(
    projected_T2I: np.ndarray, scales_T: np.ndarray, codes_TI: np.ndarray, code_scales_T: np.ndarray
) -> None:
    """The same of rows yet to be scaled, as bytes."""
    gated = np.empty(codes_TI.shape[1], np.float32)
    for token in range(len(codes_TI)):
        _gate(projected_T2I[token], scales_T[token], gated)
        code_scales_T[token] = _quantize(gated, codes_TI[token])


@njit(**_FAST)
def add_norm(
    hidden_TD: np.ndarray,
    update_TD: np.ndarray,
    weight_D: np.ndarray,
    bias_D: np.ndarray,
    eps: float,
    total_TD: np.ndarray,
    normed_TD: np.ndarray,
) -> None:
    """``hidden + update``, and its LayerNorm."""
    for token in range(len(hidden_TD)):
        hidden, update, total = hidden_TD[token], update_TD[token], total_TD[token]
        for column in range(len(hidden)):
            total[column] = hidden[column] + update[column]
        _norm(total, weight_D, bias_D, eps, normed_TD[token])


@njit(**_FAST)
def add_norm_quantize(
    hidden_TD: np.ndarray,
    update_TD: np.ndarray,
    scales_T: np.ndarray,
    weight_D: np.ndarray,
    bias_D: np.ndarray,
    eps: float,
    total_TD: np.ndarray,
    codes_TD: np.ndarray,
    code_scales_T: np.ndarray,
) -> None:
    """``hidden + update x scale``, and the bytes of its LayerNorm."""
    normed = np.empty(hidden_TD.shape[1], np.float32)
    for token in range(len(hidden_TD)):
        hidden, update, total = hidden_TD[token], update_TD[token], total_TD[token]
        scale = scales_T[token]
        for column in range(len(hidden)):
            total[column] = hidden[column] + update[column] * scale
        _norm(total, weight_D, bias_D, eps, normed)
        code_scales_T[token] = _quantize(normed, codes_TD[token])


@njit(**_FAST)
def norm_quantize(
    hidden_TD: np.ndarray,
    weight_D: np.ndarray,
    bias_D: np.ndarray,
    eps: float,
    codes_TD: np.ndarray,
    code_scales_T: np.ndarray,
) -> None:
    """The bytes of a LayerNorm."""
    normed = np.empty(hidden_TD.shape[1], np.float32)
    for token in range(len(hidden_TD)):
        _norm(hidden_TD[token], weight_D, bias_D, eps, normed)
        code_scales_T[token] = _quantize(normed, codes_TD[token])


@njit(**_FAST)
def quantize_rows(states_TD: np.ndarray, codes_TD: np.ndarray, scales_T: np.ndarray) -> None:
    """Each row as bytes around 128, its largest magnitude at 127 steps: value = (code - 128) x scale."""
    for token in range(len(states_TD)):
        scales_T[token] = _quantize(states_TD[token], codes_TD[token])
