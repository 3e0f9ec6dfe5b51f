"""Triton kernels for the elementwise steps of a layer, and their launchers; ``elementwise`` calls them.

Each kernel reads and writes every element once: the steps are bound by memory, not by arithmetic. Loads are
widened to float32, everything is computed and summed in float32, and a store rounds once to the dtype of its
tensor. Blocks are powers of two, as Triton requires; masks cut off columns beyond a row and rows beyond the
last. Offsets are int64: T x E may be more than 2^31. Grids follow from shapes alone, so a launch never waits
for the device; without tokens nothing is launched.
Axes: T tokens, H heads, W head width, P = W / 2 pairs, D width, I inner width, E = 3 H W.
"""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024
"""Elements of one program: 4 warps of 32 threads, each with 8, which are 16 bytes of bfloat16."""

_PARTIALS = 1024
"""Programs of a norm's backward, each with its own sums for the weights: eight fit on each SM of an H100."""


# One program: ROWS rows of (token, head), each with its PAIRS pairs of components padded to BLOCK columns;
# about _BLOCK pairs in all. Queries and keys share the cosines and sines, so one program rotates both. In
# place, a program reads both halves of its pairs before it writes either, and no other program touches them.
@triton.jit(do_not_specialize=["rows"])
def _rotary_kernel(
    query, key, value, cos, sin, out, rows, stride,
    SIGN: tl.constexpr, HEADS: tl.constexpr, PAIRS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    pair = tl.arange(0, BLOCK)[None, :]
    mask = (row < rows) & (pair < PAIRS)
    # Sources have their own stride per token (gradients come as three tensors); the target is [T, 3, H, 2 P].
    token = row // HEADS
    part = (row - token * HEADS) * (2 * PAIRS) + pair
    source, target = token * stride + part, out + token * (6 * HEADS * PAIRS) + part
    c = tl.load(cos + token * PAIRS + pair, mask=mask).to(tl.float32)
    s = tl.load(sin + token * PAIRS + pair, mask=mask).to(tl.float32) * SIGN
    query_first = tl.load(query + source, mask=mask).to(tl.float32)
    query_second = tl.load(query + source + PAIRS, mask=mask).to(tl.float32)
    key_first = tl.load(key + source, mask=mask).to(tl.float32)
    key_second = tl.load(key + source + PAIRS, mask=mask).to(tl.float32)
    tl.store(target, query_first * c - query_second * s, mask=mask)
    tl.store(target + PAIRS, query_second * c + query_first * s, mask=mask)
    target += 2 * HEADS * PAIRS
    tl.store(target, key_first * c - key_second * s, mask=mask)
    tl.store(target + PAIRS, key_second * c + key_first * s, mask=mask)
    if value is not None:
        target += 2 * HEADS * PAIRS
        tl.store(target, tl.load(value + source, mask=mask), mask=mask)
        tl.store(target + PAIRS, tl.load(value + source + PAIRS, mask=mask), mask=mask)


def apply_rotary_(projected_TE: Tensor, heads: int, cos_T1P: Tensor, sin_T1P: Tensor) -> None:
    """Rotate the queries and keys within queries | keys | values [T, E], in place."""
    query, key, _ = projected_TE.unflatten(-1, (3, heads, -1)).unbind(1)
    _launch_rotary(query, key, None, projected_TE, cos_T1P, sin_T1P, sign=1)


def apply_rotary_backward(
    d_query_THW: Tensor, d_key_THW: Tensor, d_value_THW: Tensor, cos_T1P: Tensor, sin_T1P: Tensor
) -> Tensor:
    """The gradient of queries | keys | values [T, E]: queries' and keys' rotated by the negative angle."""
    tokens, heads, width = d_query_THW.shape
    out_TE = d_query_THW.new_empty(tokens, 3 * heads * width)
    query, key, value = (grad.contiguous() for grad in (d_query_THW, d_key_THW, d_value_THW))
    _launch_rotary(query, key, value, out_TE, cos_T1P, sin_T1P, sign=-1)
    return out_TE


def _launch_rotary(
    query: Tensor, key: Tensor, value: Tensor | None, out_TE: Tensor, cos: Tensor, sin: Tensor, sign: int
) -> None:
    tokens, heads, width = query.shape
    block = _power_of_two(width // 2)
    per_program = max(1, _BLOCK // block)
    _launch(
        _rotary_kernel, _ceil(tokens * heads, per_program),
        query, key, value, cos.contiguous(), sin.contiguous(), out_TE, tokens * heads, query.stride(0),
        sign, heads, width // 2, per_program, block,
    )  # fmt: skip


@triton.jit
def _activation(x, KIND: tl.constexpr):
    """The activation of x, and its slope there; the unused one of the two is not computed."""
    # relu passes NaN on, which tl.maximum(x, 0) would not.
    if KIND == "relu":
        value = tl.where(x <= 0, 0.0, x)
        slope = tl.where(x <= 0, 0.0, 1.0)
    elif KIND == "gelu":
        share = 0.5 + 0.5 * tl.erf(x * 0.7071067811865476)
        value = x * share
        slope = share + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
    else:
        # silu is x sigmoid(x); gelu's tanh form is x sigmoid(2 u) with u its cubic, as (1 + tanh u) / 2 =
        # sigmoid(2 u).
        bent, bend = x, 1.0
        if KIND == "gelu_tanh":
            bent = 1.5957691216057308 * (x + 0.044715 * x * x * x)
            bend = 1.5957691216057308 * (1 + 0.134145 * x * x)
        share = tl.sigmoid(bent)
        value = x * share
        slope = share + value * (1 - share) * bend
    return value, slope


# One program: BLOCK elements of the flat output [T x I]. Element t I + i reads t 2 I + i (activated) and, I
# further on, its gate: neighbouring threads read neighbouring addresses in both halves.
@triton.jit
def _gated_kernel(projected, out, total, INNER: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr):
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = element < total
    at = projected + element + element // INNER * INNER
    a = tl.load(at, mask=mask).to(tl.float32)
    gate = tl.load(at + INNER, mask=mask).to(tl.float32)
    value, _ = _activation(a, KIND)  # type: ignore[misc]
    tl.store(out + element, value * gate, mask=mask)


# As the forward: the activation is computed again rather than kept.
@triton.jit
def _gated_backward_kernel(
    projected, d_out, d_projected, total, INNER: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr
):
    element = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = element < total
    offset = element + element // INNER * INNER
    a = tl.load(projected + offset, mask=mask).to(tl.float32)
    gate = tl.load(projected + offset + INNER, mask=mask).to(tl.float32)
    d = tl.load(d_out + element, mask=mask).to(tl.float32)
    value, slope = _activation(a, KIND)  # type: ignore[misc]
    tl.store(d_projected + offset, d * gate * slope, mask=mask)
    tl.store(d_projected + offset + INNER, d * value, mask=mask)


def gated(projected_T2I: Tensor, activation: str) -> Tensor:
    """The activated first half times the second: [T, I]."""
    inner = projected_T2I.shape[-1] // 2
    out_TI = projected_T2I.new_empty(len(projected_T2I), inner)
    total = out_TI.numel()
    _launch(_gated_kernel, _ceil(total, _BLOCK), projected_T2I, out_TI, total, inner, activation, _BLOCK)
    return out_TI


def gated_backward(projected_T2I: Tensor, d_out_TI: Tensor, activation: str) -> Tensor:
    """The gradient of both halves: [T, 2 I]."""
    d_projected_T2I = torch.empty_like(projected_T2I)
    total, inner = d_out_TI.numel(), d_out_TI.shape[-1]
    states = projected_T2I, d_out_TI.contiguous(), d_projected_T2I
    _launch(_gated_backward_kernel, _ceil(total, _BLOCK), *states, total, inner, activation, _BLOCK)
    return d_projected_T2I


# One program: one token, its whole row in registers (BLOCK >= WIDTH), so the row is read once for sum, mean,
# variance and output. Columns beyond WIDTH are 0, which leaves sums alone; after centring they are set to 0
# again.
@triton.jit
def _add_norm_kernel(
    hidden, update, weight, bias, total, normed, means, scales, eps,
    WIDTH: tl.constexpr, CENTRED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < WIDTH
    at = row * WIDTH + column
    x = tl.load(hidden + at, mask=mask, other=0.0).to(tl.float32)
    x += tl.load(update + at, mask=mask, other=0.0).to(tl.float32)
    # Norm the sum as stored, after rounding: the backward has no other.
    stored = x.to(total.dtype.element_ty)
    tl.store(total + at, stored, mask=mask)
    x = stored.to(tl.float32)
    if CENTRED:
        mean = tl.sum(x, axis=0) / WIDTH
        tl.store(means + row, mean)
        x = tl.where(mask, x - mean, 0.0)
    scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / WIDTH + eps)
    tl.store(scales + row, scale)
    x *= scale
    if weight is not None:
        x *= tl.load(weight + column, mask=mask).to(tl.float32)
    if bias is not None:
        x += tl.load(bias + column, mask=mask).to(tl.float32)
    tl.store(normed + at, x, mask=mask)


# One program: ``each`` tokens in a row, one after the other, so that sums for weight and bias stay in
# registers. Every program writes its own row of partial sums; torch adds them up. Atomic adds would come in
# any order, and a run could not be repeated to the bit. ``tokens`` and ``each`` change from batch to batch:
# not specialised on, or each new value divisible by 16, or not, would compile again.
@triton.jit(do_not_specialize=["tokens", "each"])
def _add_norm_backward_kernel(
    total, d_total, d_normed, weight, means, scales, d_hidden, d_update, d_weights, d_biases, tokens, each,
    WIDTH: tl.constexpr, CENTRED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    mask = column < WIDTH
    d_weight = tl.zeros((BLOCK,), dtype=tl.float32)
    d_bias = tl.zeros((BLOCK,), dtype=tl.float32)
    if weight is not None:
        scaling = tl.load(weight + column, mask=mask, other=0.0).to(tl.float32)
    row = program * each
    end = tl.minimum(row + each, tokens)
    # Not a range: the interpreter of Triton 3.6 cannot count to a tensor with NumPy 2.4.
    while row < end:
        at = row * WIDTH + column
        x = tl.load(total + at, mask=mask, other=0.0).to(tl.float32)
        d = tl.load(d_normed + at, mask=mask, other=0.0).to(tl.float32)
        scale = tl.load(scales + row)
        if CENTRED:
            x = tl.where(mask, x - tl.load(means + row), 0.0)
        x *= scale
        d_weight += d * x
        d_bias += d
        if weight is not None:
            d *= scaling
        # x is the normed row: what the mean and the scale pass on of d is taken off (arXiv 1607.06450).
        along = d - x * (tl.sum(d * x, axis=0) / WIDTH)
        if CENTRED:
            along -= tl.sum(d, axis=0) / WIDTH
        grad = along * scale
        if d_total is not None:
            grad += tl.load(d_total + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(d_hidden + at, grad, mask=mask)
        if d_update is not None:
            tl.store(d_update + at, grad, mask=mask)
        row += 1
    if d_weights is not None:
        tl.store(d_weights + program * WIDTH + column, d_weight, mask=mask)
    if d_biases is not None:
        tl.store(d_biases + program * WIDTH + column, d_bias, mask=mask)


class Statistics(NamedTuple):
    """Of each token, in float32: the mean (none for RMSNorm) and 1 / the deviation, [T]."""

    means_T: Tensor | None
    scales_T: Tensor


class NormedSum(NamedTuple):
    """The sum and the normed sum [T, D], and what the backward needs besides."""

    total_TD: Tensor
    normed_TD: Tensor
    statistics: Statistics


def add_norm(
    hidden_TD: Tensor,
    update_TD: Tensor,
    weight_D: Tensor | None,
    bias_D: Tensor | None,
    eps: float,
    centred: bool,
) -> NormedSum:
    """LayerNorm (centred) or RMSNorm of the sum: the sum in the dtype of ``hidden``, normed of ``update``."""
    tokens, width = hidden_TD.shape
    scales_T = hidden_TD.new_empty(tokens, dtype=torch.float32)
    statistics = Statistics(torch.empty_like(scales_T) if centred else None, scales_T)
    total_TD, normed_TD = torch.empty_like(hidden_TD), torch.empty_like(update_TD)
    block = _power_of_two(width)
    _launch(
        _add_norm_kernel, tokens,
        hidden_TD, update_TD, weight_D, bias_D, total_TD, normed_TD, *statistics, eps, width, centred, block,
        num_warps=_warps(block),
    )  # fmt: skip
    return NormedSum(total_TD, normed_TD, statistics)


class AddNormGrads(NamedTuple):
    """Gradients [T, D] of hidden and update (one tensor where their dtypes agree), and [D] of the weights."""

    d_hidden_TD: Tensor
    d_update_TD: Tensor
    d_weight_D: Tensor | None
    d_bias_D: Tensor | None


def add_norm_backward(
    total_TD: Tensor,
    statistics: Statistics,
    weight_D: Tensor | None,
    d_total_TD: Tensor | None,
    d_normed_TD: Tensor,
    needed: tuple[bool, bool],
) -> AddNormGrads:
    """The gradients; ``needed`` says whether weight and bias need theirs.

    Tokens are summed for the weights in a fixed order, so that a run can be repeated to the bit.
    """
    tokens, width = total_TD.shape
    # At least 16 tokens per program: fewer would write more partial sums than they read states.
    each = max(16, _ceil(tokens, _PARTIALS))
    programs = _ceil(tokens, each)
    d_hidden_TD = torch.empty_like(total_TD)
    d_update_TD = None if d_normed_TD.dtype == total_TD.dtype else torch.empty_like(d_normed_TD)
    partials = [statistics.scales_T.new_empty(programs, width) if need else None for need in needed]
    block = _power_of_two(width)
    _launch(
        _add_norm_backward_kernel, programs,
        total_TD, None if d_total_TD is None else d_total_TD.contiguous(), d_normed_TD.contiguous(),
        weight_D, *statistics, d_hidden_TD, d_update_TD, *partials, tokens, each,
        width, statistics.means_T is not None, block,
        num_warps=_warps(block),
    )  # fmt: skip
    sums = (None if partial is None else partial.sum(0) for partial in partials)
    return AddNormGrads(d_hidden_TD, d_hidden_TD if d_update_TD is None else d_update_TD, *sums)


def _launch(kernel: Any, programs: int, states: Tensor, *arguments: object, num_warps: int = 4) -> None:
    """Launch on the device of the states: Triton itself launches on the current one."""
    if programs:
        with torch.cuda.device(states.device) if states.is_cuda else nullcontext():
            kernel[(programs,)](states, *arguments, num_warps=num_warps)


def _warps(block: int) -> int:
    """Warps for a row of ``block`` elements: eight elements per thread, 16 warps at most."""
    return min(max(block // 256, 1), 16)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()
