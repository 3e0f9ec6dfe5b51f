"""The elementwise steps of a layer on one core, by numba kernels.

For inference, in float32 and bfloat16; the residual stream is float32. Rotations in training use all cores.
Axes: T tokens, H heads, W head width, D width, I inner width, E = 3 H W.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .cpu_workers import share_rows
from .positions import QueryKeyValue, Rotary

_MANY_ROWS = 256
"""Fewest rows for the kernels: for fewer, plain PyTorch is as fast and loads no kernel."""

_DTYPES = (torch.float32, torch.bfloat16)


class Rows(NamedTuple):
    """States as bytes: value = (code - 128) x the scale of its row."""

    codes_TI: Tensor
    scales_T: Tensor

    @staticmethod
    def empty(tokens: int, width: int) -> "Rows":
        return Rows(torch.empty(tokens, width, dtype=torch.uint8), torch.empty(tokens))


def uses_numba(*states: Tensor) -> bool:
    """True if the kernels apply: contiguous CPU states of 256 rows or more, inference, one torch thread.

    With several threads torch spreads each of its own steps over the cores, and is faster.
    """
    return (
        torch.get_num_threads() == 1
        and not torch.is_grad_enabled()
        and len(states[0]) >= _MANY_ROWS
        and all(state.device.type == "cpu" and writes(state.dtype) for state in states)
        and all(state.is_contiguous() for state in states)
    )


def trains_in_numba(states_TE: Tensor) -> bool:
    """True if ``apply_rotary_`` applies: contiguous float32 CPU states, 256 rows or more, gradients on."""
    return (
        torch.is_grad_enabled()
        and states_TE.device.type == "cpu"
        and states_TE.dtype == torch.float32
        and len(states_TE) >= _MANY_ROWS
        and states_TE.is_contiguous()
    )


def writes(dtype: torch.dtype) -> bool:
    """Whether the kernels can write this dtype."""
    return dtype in _DTYPES


def rotated_qkv(
    projected_TE: Tensor, scales_T: Tensor | None, heads: int, rotary: Rotary, dtype: torch.dtype
) -> QueryKeyValue:
    """Queries and keys rotated by their positions, and values, in ``dtype``, times ``scales_T``."""
    from .kernels_numba import apply_rotary

    scales_T = torch.ones(len(projected_TE)) if scales_T is None else scales_T
    shape = (3, heads, len(projected_TE), projected_TE.shape[1] // (3 * heads))
    rotated_3HTW = torch.empty(shape, dtype=dtype)
    cos_TP, sin_TP = (array(table.squeeze(1)) for table in rotary)
    apply_rotary(array(projected_TE), array(scales_T), cos_TP, sin_TP, array(rotated_3HTW))
    return QueryKeyValue(*rotated_3HTW.transpose(1, 2).unbind())


def apply_rotary_(projected_TE: Tensor, heads: int, cos_T1P: Tensor, sin_T1P: Tensor) -> None:
    """Rotate the queries and keys within queries | keys | values [T, E] in place, on all cores; float32."""
    from .kernels_numba import apply_rotary_ as kernel

    states = array(projected_TE.detach())
    cos_TP, sin_TP = array(cos_T1P.squeeze(1)), array(sin_T1P.squeeze(1))
    share_rows(lambda rows: kernel(states[rows], 2 * heads, cos_TP[rows], sin_TP[rows]), len(states))


def gated(projected_T2I: Tensor) -> Tensor:
    """gelu (erf) of the first half of each row times the second: [T, I]."""
    from .kernels_numba import gate

    gated_TI = projected_T2I.new_empty(len(projected_T2I), projected_T2I.shape[1] // 2)
    gate(array(projected_T2I), array(gated_TI))
    return gated_TI


def gated_quantized(projected_T2I: Tensor, scales_T: Tensor) -> Rows:
    """``gated`` of rows times their scales, quantised."""
    from .kernels_numba import gate_quantize

    rows = Rows.empty(len(projected_T2I), projected_T2I.shape[1] // 2)
    gate_quantize(array(projected_T2I), array(scales_T), array(rows.codes_TI), array(rows.scales_T))
    return rows


def activated(projected_TI: Tensor) -> Tensor:
    """gelu (erf) of each row: [T, I]."""
    from .kernels_numba import activate

    activated_TI = torch.empty_like(projected_TI)
    activate(array(projected_TI), array(activated_TI))
    return activated_TI


def activated_quantized(projected_TI: Tensor, scales_T: Tensor, bias_I: Tensor) -> Rows:
    """gelu (erf) of rows times their scales plus a bias, quantised."""
    from .kernels_numba import activate_quantize

    rows = Rows.empty(*projected_TI.shape)
    states = array(projected_TI), array(scales_T), array(bias_I)
    activate_quantize(*states, array(rows.codes_TI), array(rows.scales_T))
    return rows


def laid_in_heads(projected_TE: Tensor, scales_T: Tensor, bias_E: Tensor, heads: int) -> QueryKeyValue:
    """Queries | keys | values times their scales plus a bias, in float32, each head's rows together."""
    from .kernels_numba import lay_heads

    laid_3HTW = torch.empty(3, heads, len(projected_TE), projected_TE.shape[1] // (3 * heads))
    lay_heads(array(projected_TE), array(scales_T), array(bias_E), array(laid_3HTW))
    return QueryKeyValue(*laid_3HTW.transpose(1, 2).unbind())


class NormedRows(NamedTuple):
    """Normed states [T, D], in float32 and as bytes."""

    states_TD: Tensor
    rows: Rows


def add_norm_quantized(
    hidden_TD: Tensor, update_TD: Tensor, scales_T: Tensor, *, bias_D: Tensor, norm: nn.LayerNorm
) -> NormedRows:
    """The LayerNorm of ``hidden + update x scale + bias``, also quantised."""
    from .kernels_numba import add_norm_quantize

    normed_TD, rows = torch.empty_like(hidden_TD), Rows.empty(*hidden_TD.shape)
    states = (array(hidden_TD), array(update_TD), array(scales_T), array(bias_D))
    out = (array(normed_TD), array(rows.codes_TI), array(rows.scales_T))
    add_norm_quantize(*states, *_weights(norm), norm.eps, *out)
    return NormedRows(normed_TD, rows)


def added(hidden_TD: Tensor, update_TD: Tensor, scales_T: Tensor | None = None) -> Tensor:
    """``hidden + update``, the rows of the update times ``scales_T`` where given: [T, D]."""
    from .kernels_numba import add

    total_TD = torch.empty_like(hidden_TD)
    scales_T = torch.ones(len(hidden_TD)) if scales_T is None else scales_T
    add(array(hidden_TD), array(update_TD), array(scales_T), array(total_TD))
    return total_TD


def normed(hidden_TD: Tensor, norm: nn.LayerNorm, dtype: torch.dtype) -> Tensor:
    """A LayerNorm in ``dtype``: [T, D]."""
    from .kernels_numba import norm as kernel

    normed_TD = torch.empty_like(hidden_TD, dtype=dtype)
    kernel(array(hidden_TD), *_weights(norm), norm.eps, array(normed_TD))
    return normed_TD


def normed_quantized(hidden_TD: Tensor, norm: nn.LayerNorm) -> Rows:
    """A LayerNorm, quantised."""
    from .kernels_numba import norm_quantize

    rows = Rows.empty(*hidden_TD.shape)
    norm_quantize(array(hidden_TD), *_weights(norm), norm.eps, array(rows.codes_TI), array(rows.scales_T))
    return rows


def quantized(states_TI: Tensor) -> Rows:
    """Float32 states, quantised: the largest magnitude of each row at 127 steps."""
    from .kernels_numba import quantize_rows

    rows = Rows.empty(*states_TI.shape)
    quantize_rows(array(states_TI), array(rows.codes_TI), array(rows.scales_T))
    return rows


def array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory for the kernels: bfloat16 as the 16-bit integers that share its bits."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _weights(norm: nn.LayerNorm) -> tuple[np.ndarray, np.ndarray]:
    weight_D = norm.weight.detach().float()
    bias_D = torch.zeros_like(weight_D) if norm.bias is None else norm.bias.detach().float()
    return weight_D.numpy(), bias_D.numpy()
