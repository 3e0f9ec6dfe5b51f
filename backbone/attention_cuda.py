"""Attention without padding on CUDA: torch's own variable-length kernel, and flash-attn where installed.

Both take the packed states as they are. Axes: T tokens, H heads, W head width.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .attention import AttentionPlan


def varlen_attention(
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """``torch.nn.attention.varlen.varlen_attn``, forward and backward: [T, H, W], float16 or bfloat16."""
    from torch.nn.attention.varlen import varlen_attn

    offsets, longest = plan.cu_seqlens, plan.max_seqlen
    mixed_THW = varlen_attn(
        query_THW, key_THW, value_THW, offsets, offsets, longest, longest, window_size=_window(window)
    )
    assert isinstance(mixed_THW, Tensor)
    return mixed_THW


def flash_attention(
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """flash-attn 2, or 3 for the global layers on Hopper where it is installed: [T, H, W].

    Version 3 is slower than 2 on narrow windows, so local layers stay with 2 (arXiv 2412.13663).
    """
    sizes = {
        "cu_seqlens_q": plan.cu_seqlens,
        "cu_seqlens_k": plan.cu_seqlens,
        "max_seqlen_q": plan.max_seqlen,
        "max_seqlen_k": plan.max_seqlen,
    }
    if (
        window is None
        and plan.slopes_H is None
        and not plan.dropout
        and _on_hopper(query_THW.device)
        and _has("flash_attn_interface")
    ):
        from flash_attn_interface import flash_attn_varlen_func  # type: ignore[import-not-found]

        return _first(flash_attn_varlen_func(query_THW, key_THW, value_THW, **sizes))
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]

    return flash_attn_varlen_func(
        query_THW,
        key_THW,
        value_THW,
        **sizes,
        window_size=_window(window),
        alibi_slopes=plan.slopes_H,
        dropout_p=plan.dropout,
    )


def has_flash() -> bool:
    """Whether flash-attn 2 is installed; 3 alone lacks the kernels of the local layers."""
    return _has("flash_attn")


@cache
def has_varlen() -> bool:
    """Whether torch has a variable-length kernel with windows (2.11) and the GPU can run it (Ampere)."""
    return _has("torch.nn.attention.varlen") and torch.cuda.get_device_capability() >= (8, 0)


@cache
def _has(module: str) -> bool:
    return find_spec(module) is not None


@cache
def _on_hopper(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device)[0] == 9


def _window(window: int | None) -> tuple[int, int]:
    return (-1, -1) if window is None else (window, window)


def _first(output: Any) -> Tensor:
    """Releases of flash-attn 3 differ in whether the log-sum-exp comes along."""
    return output[0] if isinstance(output, tuple) else output
