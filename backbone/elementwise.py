"""Elementwise steps of a layer, each in one pass: Triton kernels on CUDA, numba kernels on single cores.

Elsewhere, and in training on a CPU (rotations aside), plain PyTorch computes the same.
FLATCOAT_TRITON=0 keeps to plain PyTorch; TRITON_INTERPRET=1 runs the kernels on any device, slowly.
Axes: T tokens, H heads, W head width, D width, I inner width, E = 3 H W.
"""

import os
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from flatcoat.errors import UsageError

from . import elementwise_cpu
from .elementwise_cpu import uses_numba
from .positions import QueryKeyValue, Rotary, apply_rotary_

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}

_TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def rotated_qkv(projected_TE: Tensor, heads: int, rotary: Rotary | None) -> QueryKeyValue:
    """Cut queries | keys | values and rotate the first two, half-split (arXiv 2104.09864), in float32.

    Without a table nothing rotates. With one, ``projected_TE`` is overwritten: nothing else may read it.
    """
    if rotary is None:
        return QueryKeyValue(*projected_TE.unflatten(-1, (3, heads, -1)).unbind(1))
    in_place, fused_backward = apply_rotary_, None
    if uses_triton(projected_TE):
        from . import kernels_triton

        projected_TE = projected_TE.contiguous()
        in_place, fused_backward = kernels_triton.apply_rotary_, kernels_triton.apply_rotary_backward
    elif uses_numba(projected_TE):
        return elementwise_cpu.rotated_qkv(projected_TE, None, heads, rotary, projected_TE.dtype)
    elif elementwise_cpu.trains_in_numba(projected_TE):
        in_place = elementwise_cpu.apply_rotary_
    states = _ApplyRotary.apply(projected_TE, heads, *rotary, in_place, fused_backward)
    return QueryKeyValue(*states)  # type: ignore[misc]


def gated(projected_T2I: Tensor, activation: str) -> Tensor:
    """The activated first half times the second (arXiv 2002.05202): [T, I]. For names see ACTIVATIONS."""
    if activation not in ACTIVATIONS:
        raise UsageError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
    if uses_triton(projected_T2I):
        return _Gated.apply(projected_T2I.contiguous(), activation)  # type: ignore[return-value]
    if activation == "gelu" and uses_numba(projected_T2I):
        return elementwise_cpu.gated(projected_T2I)
    activated, gates = projected_T2I.chunk(2, dim=-1)
    return ACTIVATIONS[activation](activated) * gates


def activated(states_TI: Tensor, activation: str) -> Tensor:
    """The activation of every component: [T, I]. For names see ACTIVATIONS."""
    if activation == "gelu" and uses_numba(states_TI):
        return elementwise_cpu.activated(states_TI)
    return ACTIVATIONS[activation](states_TI)


class Normed(NamedTuple):
    """A residual sum [T, D] in the stream's dtype, and its norm [T, D] in the dtype of what was added."""

    total_TD: Tensor
    normed_TD: Tensor


def add_norm(hidden_TD: Tensor, update_TD: Tensor, norm: nn.Module) -> Normed:
    """``hidden + update`` and its norm, with statistics in float32; ``hidden`` may have the wider dtype."""
    if isinstance(norm, (nn.LayerNorm, nn.RMSNorm)) and uses_triton(hidden_TD) and uses_triton(update_TD):
        eps = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        states = hidden_TD.contiguous(), update_TD.contiguous()
        bias_D, centred = getattr(norm, "bias", None), isinstance(norm, nn.LayerNorm)
        return Normed(*_AddNorm.apply(*states, norm.weight, bias_D, eps, centred))  # type: ignore[misc]
    total_TD = added(hidden_TD, update_TD)
    return Normed(total_TD, normed(total_TD, norm, update_TD.dtype))


def added(hidden_TD: Tensor, update_TD: Tensor) -> Tensor:
    """``hidden + update`` in the stream's dtype, which may be the wider one."""
    if _wide_in_numba(hidden_TD) and uses_numba(update_TD):
        return elementwise_cpu.added(hidden_TD, update_TD)
    return (hidden_TD + update_TD).to(hidden_TD.dtype)


def normed(states_TD: Tensor, norm: nn.Module, dtype: torch.dtype) -> Tensor:
    """A norm over a stream that may be wider than the norm's weights: [T, D] in ``dtype``."""
    if isinstance(norm, nn.LayerNorm) and _wide_in_numba(states_TD) and elementwise_cpu.writes(dtype):
        return elementwise_cpu.normed(states_TD, norm, dtype)
    weight_D = getattr(norm, "weight", None)
    if weight_D is None or weight_D.dtype == states_TD.dtype:
        return norm(states_TD).to(dtype)
    shape = (states_TD.shape[-1],)
    if isinstance(norm, nn.RMSNorm):
        return F.rms_norm(states_TD, shape, weight_D.to(states_TD.dtype), norm.eps).to(dtype)
    assert isinstance(norm, nn.LayerNorm)
    bias_D = None if norm.bias is None else norm.bias.to(states_TD.dtype)
    return F.layer_norm(states_TD, shape, weight_D.to(states_TD.dtype), bias_D, norm.eps).to(dtype)


def _wide_in_numba(hidden_TD: Tensor) -> bool:
    return hidden_TD.dtype == torch.float32 and uses_numba(hidden_TD)


def uses_triton(states: Tensor) -> bool:
    """True if the Triton kernels apply to these states: on a GPU of compute capability 8.0 or later."""
    if os.environ.get("FLATCOAT_TRITON") == "0" or states.dtype not in _TRITON_DTYPES:
        return False
    if os.environ.get("TRITON_INTERPRET") == "1":
        return _has_triton()
    return states.is_cuda and _has_triton() and _is_recent(states.device)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


@cache
def _is_recent(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


class _ApplyRotary(Function):
    """A rotation keeps nothing of the states for its backward, which rotates gradients by the negative angle.

    ``in_place(projected_TE, heads, cos_T1P, sin_T1P)`` rotates queries and keys; ``fused_backward`` gives
    the gradient [T, E] in one pass where there is such a kernel.
    """

    @staticmethod
    def forward(
        ctx: Any,
        projected_TE: Tensor,
        heads: int,
        cos_T1P: Tensor,
        sin_T1P: Tensor,
        in_place: Callable[[Tensor, int, Tensor, Tensor], None],
        fused_backward: Callable[..., Tensor] | None,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cos_T1P, sin_T1P)
        ctx.heads, ctx.in_place, ctx.fused_backward = heads, in_place, fused_backward
        in_place(projected_TE, heads, cos_T1P, sin_T1P)
        # A backward that saved the states before the rotation must raise, not compute wrong gradients:
        # kernels write to memory, which autograd does not see.
        torch.autograd.graph.increment_version(projected_TE)
        return projected_TE.unflatten(-1, (3, heads, -1)).unbind(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cos_T1P, sin_T1P = ctx.saved_tensors
        if ctx.fused_backward is not None:
            d_projected_TE = ctx.fused_backward(*grads, cos_T1P, sin_T1P)
        else:
            d_projected_TE = torch.stack(grads, dim=1).flatten(1)
            ctx.in_place(d_projected_TE, ctx.heads, cos_T1P, -sin_T1P)
        return d_projected_TE, None, None, None, None, None


class _Gated(Function):
    @staticmethod
    def forward(ctx: Any, projected_T2I: Tensor, activation: str) -> Tensor:
        from . import kernels_triton

        ctx.save_for_backward(projected_T2I)
        ctx.activation = activation
        return kernels_triton.gated(projected_T2I, activation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out_TI: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        from .kernels_triton import gated_backward

        (projected_T2I,) = ctx.saved_tensors
        return gated_backward(projected_T2I, d_out_TI, ctx.activation), None


class _AddNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        update_TD: Tensor,
        weight_D: Tensor | None,
        bias_D: Tensor | None,
        eps: float,
        centred: bool,
    ) -> tuple[Tensor, Tensor]:
        from . import kernels_triton

        found = kernels_triton.add_norm(hidden_TD, update_TD, weight_D, bias_D, eps, centred)
        # Not the normed states: the matrix product that reads them keeps them.
        ctx.save_for_backward(found.total_TD, *found.statistics, weight_D)
        ctx.update_dtype = update_TD.dtype
        ctx.set_materialize_grads(False)
        return found.total_TD, found.normed_TD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from .kernels_triton import Statistics, add_norm_backward

        d_total_TD, d_normed_TD = grads
        if d_normed_TD is None:
            assert d_total_TD is not None
            return d_total_TD, d_total_TD.to(ctx.update_dtype), None, None, None, None
        total_TD, means_T, scales_T, weight_D = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:4]
        statistics = Statistics(means_T, scales_T)
        found = add_norm_backward(total_TD, statistics, weight_D, d_total_TD, d_normed_TD, needed)
        return *found, None, None
