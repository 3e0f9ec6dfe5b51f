"""Attention over packed sequences: each token attends within its own sequence, globally or in a window.

``reference_attention`` defines the meaning. ``choose`` picks the fastest kernel that a device can run, once a
forward; FLATCOAT_ATTENTION forces one.
Axes: T tokens, H heads, D head width, L length of a sequence, B a block of queries.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from .. import FlatcoatError
from .packing import PackedBatch

BLOCK = 64
"""Queries that a local layer scores together; their keys are the block and a window on each side."""

Kernel = Callable[[Tensor, Tensor, Tensor, "AttentionPlan", int | None], Tensor]
"""Queries, keys and values [T, H, D], the plan, the window on each side (None: global) to [T, H, D]."""

KERNELS = ("flash", "varlen", "grouped", "reference")
"""Names of the kernels, the fastest first where several can run."""

Attend = Callable[[Tensor, Tensor, Tensor, int | None], Tensor]
"""A kernel with its plan, as layers call it."""


@dataclass
class AttentionPlan:
    """What every layer of one forward shares: runs of equal lengths, and masks made once.

    ``slopes_H`` (float32), where given, lowers a score by slope x distance (ALiBi, arXiv 2108.12409).
    """

    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    key_mask_T: Tensor | None = None
    slopes_H: Tensor | None = None
    _masks: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    @staticmethod
    def of(batch: PackedBatch, slopes_H: Tensor | None = None) -> "AttentionPlan":
        """The plan of a batch; its tensors stay on the batch's device."""
        return AttentionPlan(batch.cu_seqlens, batch.lengths, batch.key_mask_T, slopes_H)

    @property
    def max_seqlen(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths, default=0)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(sequences, length) of each run of neighbours of one length."""
        return [(sum(1 for _ in run), length) for length, run in groupby(self.lengths)]

    def band(self, length: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """What a sequence adds to its scores: [1, 1 or H, L, L], low beyond the window; None: nothing."""
        reach = length if window is None else window
        if self.slopes_H is None and length <= reach + 1:
            return None
        key = ("band", length, reach, dtype)
        if key not in self._masks:
            positions_L = torch.arange(length, device=self.cu_seqlens.device)
            distance_LL = (positions_L[:, None] - positions_L).abs()
            self._masks[key] = self._bias(distance_LL[None, None], (distance_LL <= reach)[None, None], dtype)
        return self._masks[key]

    def blocks(self, length: int, window: int, dtype: torch.dtype) -> Tensor:
        """The band cut into blocks of queries: [blocks, 1 or H, BLOCK, BLOCK + 2 window]."""
        key = ("blocks", length, window, dtype)
        if key not in self._masks:
            distance = self._around(window)
            starts = torch.arange(-(-length // BLOCK), device=distance.device)[:, None, None, None] * BLOCK
            keys = torch.arange(BLOCK + 2 * window, device=distance.device) - window + starts
            inside = (keys >= 0) & (keys < length)
            self._masks[key] = self._bias(distance[None], inside & (distance <= window), dtype)
        return self._masks[key]

    def strip(self, window: int, dtype: torch.dtype) -> Tensor:
        """The bias of a block of queries and the keys around it: [1 or H, BLOCK, BLOCK + 2 window]."""
        key = ("strip", window, dtype)
        if key not in self._masks:
            distance = self._around(window)
            self._masks[key] = self._bias(distance, distance <= window, dtype)
        return self._masks[key]

    def _around(self, window: int) -> Tensor:
        """How far the queries of a block stand from the keys around it: [1, BLOCK, BLOCK + 2 window]."""
        keys = torch.arange(BLOCK + 2 * window, device=self.cu_seqlens.device) - window
        return (torch.arange(BLOCK, device=keys.device)[:, None] - keys).abs()[None]

    def _bias(self, distance: Tensor, seen: Tensor, dtype: torch.dtype) -> Tensor:
        bias = torch.zeros((), device=distance.device)
        if self.slopes_H is not None:
            bias = distance * -self.slopes_H[:, None, None]
        return torch.where(seen, bias, unseen(dtype)).to(dtype)


def unseen(dtype: torch.dtype) -> float:
    """What hides a key: finite in bfloat16, where a softmax is taken that would turn all -inf to NaN."""
    return torch.finfo(dtype).min if dtype == torch.bfloat16 else float("-inf")


def reference_attention(
    query_THD: Tensor, key_THD: Tensor, value_THD: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """The definition, over one [T, T] score matrix per head: for tests and small inputs: [T, H, D]."""
    tokens = torch.arange(len(query_THD), device=query_THD.device)
    sequence_T = torch.bucketize(tokens, plan.cu_seqlens[1:], right=True)
    distance_TT = (tokens[:, None] - tokens).abs()
    allowed_TT = sequence_T[:, None] == sequence_T
    if window is not None:
        allowed_TT &= distance_TT <= window
    if plan.key_mask_T is not None:
        allowed_TT &= plan.key_mask_T
    scores_HTT = (
        torch.einsum("qhd,khd->hqk", query_THD.float(), key_THD.float()) * query_THD.shape[-1] ** -0.5
    )
    if plan.slopes_H is not None:
        scores_HTT = scores_HTT - plan.slopes_H[:, None, None] * distance_TT
    weights_HTT = scores_HTT.masked_fill(~allowed_TT, float("-inf")).softmax(dim=-1).nan_to_num(0.0)
    return torch.einsum("hqk,khd->qhd", weights_HTT, value_THD.float()).to(value_THD.dtype)


def attend_to(plan: AttentionPlan, device: torch.device, dtype: torch.dtype) -> Attend:
    """The chosen kernel over a plan, for layers that compute in ``dtype`` unless autocast is on."""
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    kernel = kernels()[choose(device, dtype, plan)]
    return lambda query, key, value, window: kernel(query, key, value, plan, window)


def kernels() -> dict[str, Kernel]:
    """The functions of KERNELS."""
    from .attention_cpu import grouped_attention
    from .attention_cuda import flash_attention, varlen_attention

    return {
        "flash": flash_attention,
        "varlen": varlen_attention,
        "grouped": grouped_attention,
        "reference": reference_attention,
    }


def obstacle(
    name: str, device: torch.device, dtype: torch.dtype, plan: AttentionPlan | None = None
) -> str | None:
    """Why a kernel cannot run on this device, in this dtype, for this plan; None where it can."""
    if name in ("grouped", "reference"):
        return None
    from .attention_cuda import has_flash, has_varlen

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
    return None


def choose(device: torch.device, dtype: torch.dtype, plan: AttentionPlan | None = None) -> str:
    """The name of the kernel for a forward: the one that FLATCOAT_ATTENTION forces, else the fastest.

    Raises FlatcoatError where the forced one is unknown or cannot run.
    """
    forced = os.environ.get("FLATCOAT_ATTENTION", "auto")
    if forced == "auto":
        return next(name for name in KERNELS if obstacle(name, device, dtype, plan) is None)
    if forced not in KERNELS:
        raise FlatcoatError(f"FLATCOAT_ATTENTION is {forced!r}: auto, {', '.join(KERNELS)} are known")
    if (reason := obstacle(forced, device, dtype, plan)) is not None:
        raise FlatcoatError(f"FLATCOAT_ATTENTION={forced} {reason}; this forward is {dtype} on {device}")
    return forced
