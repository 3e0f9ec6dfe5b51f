"""The attention kernel of a forward: the fastest that can run, or the one that FLATCOAT_ATTENTION names."""

import os

import torch

from flatcoat.errors import UsageError

from .attention import Attend, AttentionPlan, Kernel, reference_attention
from .attention_cpu import grouped_attention
from .attention_cuda import flash_attention, has_flash, has_varlen, varlen_attention

KERNELS: dict[str, Kernel] = {
    "flash": flash_attention,
    "varlen": varlen_attention,
    "grouped": grouped_attention,
    "reference": reference_attention,
}
"""The kernels, the fastest first where several can run."""


def attend_to(plan: AttentionPlan, device: torch.device, *, dtype: torch.dtype) -> Attend:
    """The chosen kernel over a plan, for layers that compute in ``dtype`` unless autocast is on."""
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    kernel = KERNELS[choose(device, dtype, plan=plan)]
    return lambda query, key, value, window: kernel(query, key, value, plan, window)


def choose(device: torch.device, dtype: torch.dtype, *, plan: AttentionPlan | None = None) -> str:
    """The name of the kernel for a forward: the one that FLATCOAT_ATTENTION forces, else the fastest.

    Raises UsageError where the forced kernel is unknown or cannot run.

    >>> choose(torch.device("cpu"), torch.float32)
    'grouped'
    """
    forced = os.environ.get("FLATCOAT_ATTENTION", "auto")
    if forced == "auto":
        return next(name for name in KERNELS if obstacle(name, device, dtype=dtype, plan=plan) is None)
    if forced not in KERNELS:
        raise UsageError(f"FLATCOAT_ATTENTION is {forced!r}: auto, {', '.join(KERNELS)} are known")
    if (reason := obstacle(forced, device, dtype=dtype, plan=plan)) is not None:
        raise UsageError(f"FLATCOAT_ATTENTION={forced} {reason}; this forward is {dtype} on {device}")
    return forced


def obstacle(
    name: str, device: torch.device, *, dtype: torch.dtype, plan: AttentionPlan | None = None
) -> str | None:
    """Why a kernel cannot run on this device, in this dtype, for this plan; None where it can."""
    if name in ("grouped", "reference"):
        return None
    if device.type != "cuda":
        return "needs a CUDA device"
    if name == "flash" and not has_flash():
        return "needs flash-attn: pip install 'flatcoat[flash]'"
    if name == "varlen" and not has_varlen():
        return "needs torch 2.11 or later and a GPU of compute capability 8.0 or later"
    if dtype not in (torch.float16, torch.bfloat16):
        return "needs float16 or bfloat16"
    if plan is not None and plan.key_mask_T is not None:
        return "cannot hide single keys"
    if plan is not None and plan.slopes_H is not None and name == "varlen":
        return "has no ALiBi"
    if plan is not None and plan.bias_HR is not None:
        return "has no learned biases by distance"
    if plan is not None and plan.dropout and name == "varlen":
        return "has no dropout"
    return None
