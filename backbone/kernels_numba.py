"""Elementwise steps of a layer on one core, each in one pass over rows that stay in its cache (numba).

Kernels release Python's lock, so threads run them side by side; torch does the matrix products. Arrays are
float32, or uint16 with the bits of bfloat16 where a comment says "any". Every kernel widens a row to float32,
computes and sums in float32, and rounds once on the way out. ``fastmath`` lets LLVM vectorise sums, which
then differ from torch's in their last bits; inner loops run over one contiguous row for the same reason.
Axes: T tokens, H heads, W head width, P = W / 2 pairs, D width, I inner width, E = 3 H W.
"""

from typing import Any

import numpy as np
from numba import float32, int32, njit, types, uint8, uint16
from numba.extending import overload

from flatcoat.numba_options import OPTIONS

from .error_function import BEYOND, BOTTOM, TOP

_FAST: dict[str, Any] = OPTIONS | {"fastmath": True}
_SQRT_HALF = float32(0.5**0.5)
_LOWEST_ROW = float32(1e-30)
"""Scale of a row of zeros, so that none is divided by 0."""

_ROTATED_TOGETHER = 16
"""Rows rotated together: one alone would write to places far apart, each in a cache line of its own."""


def _widen(row: Any, wide: Any) -> None:
    """Any row to float32."""
    raise NotImplementedError


@overload(_widen, inline="always")
def _widen_typed(row: Any, wide: Any) -> Any:
    if row.dtype == types.uint16:

        def widen(row: Any, wide: Any) -> None:
            # bfloat16 is the upper half of a float32.
            bits = wide.view(np.int32)
            for column in range(len(row)):
                bits[column] = int32(row[column]) << int32(16)

        return widen

    def copy(row: Any, wide: Any) -> None:
        for column in range(len(row)):
            wide[column] = row[column]

    return copy


def _narrow(wide: Any, row: Any) -> None:
    """A float32 row to any, rounded to nearest, ties to even."""
    raise NotImplementedError


@overload(_narrow, inline="always")
def _narrow_typed(wide: Any, row: Any) -> Any:
    if row.dtype == types.uint16:

        def narrow(wide: Any, row: Any) -> None:
            bits = wide.view(np.int32)
            for column in range(len(row)):
                # Half a unit of the last place kept, less one where that place is even: ties go to even.
                even = (bits[column] >> int32(16)) & int32(1)
                row[column] = uint16((bits[column] + int32(0x7FFF) + even) >> int32(16))

        return narrow

    def copy(wide: Any, row: Any) -> None:
        for column in range(len(row)):
            row[column] = wide[column]

    return copy


@njit(inline="always")
def _erf(x: Any) -> Any:
    """``error_function.erf``, written out for LLVM to vectorise."""
    x = min(max(x, float32(-BEYOND)), float32(BEYOND))
    z = x * x
    top = float32(TOP[0])
    top = top * z + float32(TOP[1])
    top = top * z + float32(TOP[2])
    top = top * z + float32(TOP[3])
    top = top * z + float32(TOP[4])
    top = top * z + float32(TOP[5])
    top = top * z + float32(TOP[6])
    bottom = float32(BOTTOM[0])
    bottom = bottom * z + float32(BOTTOM[1])
    bottom = bottom * z + float32(BOTTOM[2])
    bottom = bottom * z + float32(BOTTOM[3])
    bottom = bottom * z + float32(BOTTOM[4])
    return x * top / bottom


@njit(inline="always")
def _gate_row(projected: Any, scale: Any, gated: Any) -> None:
    """gelu (erf) of the first half times the second, both times ``scale``."""
    inner = len(gated)
    activated, gates = projected[:inner], projected[inner:]
    for column in range(inner):
        x = activated[column] * scale
        gated[column] = float32(0.5) * x * (float32(1) + _erf(x * _SQRT_HALF)) * gates[column] * scale


@njit(inline="always")
def _norm_row(states: Any, weight: Any, bias: Any, eps: Any, normed: Any) -> None:
    width = len(states)
    mean = float32(0)
    for column in range(width):
        mean += states[column]
    mean /= float32(width)
    # A second pass for the variance: E[x^2] - mean^2 would cancel in float32.
    spread = float32(0)
    for column in range(width):
        spread += (states[column] - mean) ** 2
    scale = float32(1) / np.sqrt(spread / float32(width) + float32(eps))
    for column in range(width):
        normed[column] = (states[column] - mean) * scale * weight[column] + bias[column]


@njit(inline="always")
def _quantize_row(row: Any, codes: Any) -> Any:
    """Write a row's bytes around 128 and return its scale.

    Magnitudes are compared as the integers that share their bits (the sign cleared, they order alike): a
    maximum of integers vectorises, a maximum of floats, which may be NaN, does not.
    """
    bits = row.view(np.int32)
    largest_bits = np.zeros(1, np.int32)
    most = int32(0)
    for column in range(len(bits)):
        most = max(most, bits[column] & int32(0x7FFFFFFF))
    largest_bits[0] = most
    largest = max(largest_bits.view(np.float32)[0], _LOWEST_ROW)
    steps = float32(127) / largest
    for column in range(len(row)):
        # Positive after adding 128, so cutting off rounds to nearest.
        codes[column] = uint8(int32(row[column] * steps + float32(128.5)))
    return largest / float32(127)


@njit(**_FAST)
def apply_rotary(
    projected_TE: np.ndarray,  # any
    scales_T: np.ndarray,
    cos_TP: np.ndarray,
    sin_TP: np.ndarray,
    rotated_3HTW: np.ndarray,  # any
) -> None:
    """Scale queries | keys | values, rotate the first two (half-split), and lay each head's rows together.

    A block of rows is widened once; then, head by head, its rows go out next to each other.
    """
    heads, tokens, width = rotated_3HTW.shape[1:]
    pairs = width // 2
    wide = np.empty((_ROTATED_TOGETHER, 3 * heads * width), np.float32)
    out = np.empty(width, np.float32)
    out_lower, out_upper = out[:pairs], out[pairs:]
    for start in range(0, tokens, _ROTATED_TOGETHER):
        rows = min(_ROTATED_TOGETHER, tokens - start)
        for row in range(rows):
            _widen(projected_TE[start + row], wide[row])
        for part in range(3 * heads):
            rotated_TW = rotated_3HTW[part // heads, part % heads]
            for row in range(rows):
                scale = scales_T[start + row]
                states = wide[row, part * width : (part + 1) * width]
                if part < 2 * heads:
                    lower, upper = states[:pairs], states[pairs:]
                    cos, sin = cos_TP[start + row], sin_TP[start + row]
                    # Two loops, so that each writes to one place: both vectorise.
                    for pair in range(pairs):
                        out_lower[pair] = (lower[pair] * cos[pair] - upper[pair] * sin[pair]) * scale
                    for pair in range(pairs):
                        out_upper[pair] = (upper[pair] * cos[pair] + lower[pair] * sin[pair]) * scale
                else:
                    for column in range(width):
                        out[column] = states[column] * scale
                _narrow(out, rotated_TW[start + row])


@njit(**_FAST)
def apply_rotary_(states_TE: np.ndarray, parts: int, cos_TP: np.ndarray, sin_TP: np.ndarray) -> None:
    """Rotate the first ``parts`` heads of each row in place, half-split; float32."""
    pairs = cos_TP.shape[1]
    lower = np.empty(pairs, np.float32)
    for token in range(len(states_TE)):
        cos, sin = cos_TP[token], sin_TP[token]
        for part in range(parts):
            start = part * 2 * pairs
            first = states_TE[token, start : start + pairs]
            second = states_TE[token, start + pairs : start + 2 * pairs]
            # The new lower half waits in ``lower`` until the upper half has read the old one.
            for pair in range(pairs):
                lower[pair] = first[pair] * cos[pair] - second[pair] * sin[pair]
            for pair in range(pairs):
                second[pair] = second[pair] * cos[pair] + first[pair] * sin[pair]
            for pair in range(pairs):
                first[pair] = lower[pair]


@njit(**_FAST)
def gate(projected_T2I: np.ndarray, gated_TI: np.ndarray) -> None:  # any, any
    """gelu (erf) of the first half of each row times the second."""
    inner = gated_TI.shape[1]
    wide, gated = np.empty(2 * inner, np.float32), np.empty(inner, np.float32)
    for token in range(len(gated_TI)):
        _widen(projected_T2I[token], wide)
        _gate_row(wide, float32(1), gated)
        _narrow(gated, gated_TI[token])


@njit(**_FAST)
def gate_quantize(
    projected_T2I: np.ndarray,  # any
    scales_T: np.ndarray,
    codes_TI: np.ndarray,
    code_scales_T: np.ndarray,
) -> None:
    """``gate`` of rows times their scales, quantised to bytes and a scale per row."""
    inner = codes_TI.shape[1]
    wide, gated = np.empty(2 * inner, np.float32), np.empty(inner, np.float32)
    for token in range(len(codes_TI)):
        _widen(projected_T2I[token], wide)
        _gate_row(wide, scales_T[token], gated)
        code_scales_T[token] = _quantize_row(gated, codes_TI[token])


@njit(inline="always")
def _gelu_row(projected: Any, scale: Any, bias: Any, activated: Any) -> None:
    """gelu (erf) of ``projected x scale + bias``."""
    for column in range(len(activated)):
        x = projected[column] * scale + bias[column]
        activated[column] = float32(0.5) * x * (float32(1) + _erf(x * _SQRT_HALF))


@njit(**_FAST)
def activate_quantize(
    projected_TI: np.ndarray,  # any
    scales_T: np.ndarray,
    bias_I: np.ndarray,
    codes_TI: np.ndarray,
    code_scales_T: np.ndarray,
) -> None:
    """gelu (erf) of rows times their scales plus a bias, quantised to bytes and a scale per row."""
    inner = codes_TI.shape[1]
    wide, activated = np.empty(inner, np.float32), np.empty(inner, np.float32)
    for token in range(len(codes_TI)):
        _widen(projected_TI[token], wide)
        _gelu_row(wide, scales_T[token], bias_I, activated)
        code_scales_T[token] = _quantize_row(activated, codes_TI[token])


@njit(**_FAST)
def activate(projected_TI: np.ndarray, activated_TI: np.ndarray) -> None:  # any, any
    """gelu (erf) of each row."""
    inner = activated_TI.shape[1]
    wide, activated, bias = (
        np.empty(inner, np.float32),
        np.empty(inner, np.float32),
        np.zeros(inner, np.float32),
    )
    for token in range(len(activated_TI)):
        _widen(projected_TI[token], wide)
        _gelu_row(wide, float32(1), bias, activated)
        _narrow(activated, activated_TI[token])


@njit(**_FAST)
def add_norm_quantize(
    hidden_TD: np.ndarray,
    update_TD: np.ndarray,  # any
    scales_T: np.ndarray,
    update_bias_D: np.ndarray,
    weight_D: np.ndarray,
    bias_D: np.ndarray,
    eps: float,
    normed_TD: np.ndarray,
    codes_TD: np.ndarray,
    code_scales_T: np.ndarray,
) -> None:
    """LayerNorm of ``hidden + update x scale + update bias``, in float32 and quantised."""
    width = hidden_TD.shape[1]
    update, total = np.empty(width, np.float32), np.empty(width, np.float32)
    for token in range(len(hidden_TD)):
        hidden, scale = hidden_TD[token], scales_T[token]
        _widen(update_TD[token], update)
        for column in range(width):
            total[column] = hidden[column] + update[column] * scale + update_bias_D[column]
        _norm_row(total, weight_D, bias_D, eps, normed_TD[token])
        code_scales_T[token] = _quantize_row(normed_TD[token], codes_TD[token])


@njit(**_FAST)
def lay_heads(
    projected_TE: np.ndarray,  # any
    scales_T: np.ndarray,
    bias_E: np.ndarray,
    heads_3HTW: np.ndarray,  # any
) -> None:
    """Queries | keys | values times their scales plus a bias, each head's rows together."""
    heads, tokens, width = heads_3HTW.shape[1:]
    wide = np.empty((_ROTATED_TOGETHER, 3 * heads * width), np.float32)
    for start in range(0, tokens, _ROTATED_TOGETHER):
        rows = min(_ROTATED_TOGETHER, tokens - start)
        for row in range(rows):
            _widen(projected_TE[start + row], wide[row])
            scale = scales_T[start + row]
            for column in range(len(bias_E)):
                wide[row, column] = wide[row, column] * scale + bias_E[column]
        for part in range(3 * heads):
            laid_TW = heads_3HTW[part // heads, part % heads]
            for row in range(rows):
                _narrow(wide[row, part * width : (part + 1) * width], laid_TW[start + row])


@njit(**_FAST)
def norm(
    hidden_TD: np.ndarray,
    weight_D: np.ndarray,
    bias_D: np.ndarray,
    eps: float,
    normed_TD: np.ndarray,  # any
) -> None:
    """LayerNorm of each row."""
    normed = np.empty(hidden_TD.shape[1], np.float32)
    for token in range(len(hidden_TD)):
        _norm_row(hidden_TD[token], weight_D, bias_D, eps, normed)
        _narrow(normed, normed_TD[token])


@njit(**_FAST)
def norm_quantize(
    hidden_TD: np.ndarray,
    weight_D: np.ndarray,
    bias_D: np.ndarray,
    eps: float,
    codes_TD: np.ndarray,
    code_scales_T: np.ndarray,
) -> None:
    """``norm`` quantised to bytes and a scale per row."""
    normed = np.empty(hidden_TD.shape[1], np.float32)
    for token in range(len(hidden_TD)):
        _norm_row(hidden_TD[token], weight_D, bias_D, eps, normed)
        code_scales_T[token] = _quantize_row(normed, codes_TD[token])


@njit(**_FAST)
def add(
    hidden_TD: np.ndarray,
    update_TD: np.ndarray,  # any
    scales_T: np.ndarray,
    total_TD: np.ndarray,
) -> None:
    """``hidden + update x scale``."""
    update = np.empty(hidden_TD.shape[1], np.float32)
    for token in range(len(hidden_TD)):
        hidden, total, scale = hidden_TD[token], total_TD[token], scales_T[token]
        _widen(update_TD[token], update)
        for column in range(len(hidden)):
            total[column] = hidden[column] + update[column] * scale


@njit(**_FAST)
def quantize_rows(states_TD: np.ndarray, codes_TD: np.ndarray, scales_T: np.ndarray) -> None:
    """Each row as bytes around 128, its largest magnitude 127 steps off: value = (code - 128) x scale."""
    for token in range(len(states_TD)):
        scales_T[token] = _quantize_row(states_TD[token], codes_TD[token])
