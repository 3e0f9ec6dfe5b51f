"""Attention over packed sequences: each token attends within its own sequence, globally or in a window.

``reference_attention`` defines the meaning of every kernel; ``attention_choice`` picks one.
Axes: T tokens, H heads, W head width, L length of a sequence, N sequences of one length.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from .packing import PackedBatch

BLOCK = 64
"""Queries that a local layer scores together; their keys are the block and a window on each side."""

Kernel = Callable[[Tensor, Tensor, Tensor, "AttentionPlan", int | None], Tensor]
"""Queries, keys and values [T, H, W], the plan, the window on each side (None: global) to [T, H, W]."""

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

    def run_bias(
        self, start: int, count: int, length: int, window: int | None, dtype: torch.dtype
    ) -> Tensor | None:
        """The band of the run from token ``start`` on, with its hidden keys: [1 or N, 1 or H, 1 or L, L]."""
        band = self.band(length, window, dtype)
        if self.key_mask_T is None:
            return band
        # Where every window reaches all keys, they share one.
        key = ("run", start, None if band is None else window, dtype)
        if key not in self._masks:
            seen = self.key_mask_T[start : start + count * length].view(count, 1, 1, length)
            band = torch.zeros((), dtype=dtype, device=seen.device) if band is None else band
            self._masks[key] = band.masked_fill(~seen, unseen(dtype))
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
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """The definition, over one [T, T] score matrix per head: for tests and small inputs: [T, H, W]."""
    tokens = torch.arange(len(query_THW), device=query_THW.device)
    sequence_T = torch.bucketize(tokens, plan.cu_seqlens[1:], right=True)
    distance_TT = (tokens[:, None] - tokens).abs()
    allowed_TT = sequence_T[:, None] == sequence_T
    if window is not None:
        allowed_TT &= distance_TT <= window
    if plan.key_mask_T is not None:
        allowed_TT &= plan.key_mask_T
    scores_HTT = (
        torch.einsum("qhw,khw->hqk", query_THW.float(), key_THW.float()) * query_THW.shape[-1] ** -0.5
    )
    if plan.slopes_H is not None:
        scores_HTT = scores_HTT - plan.slopes_H[:, None, None] * distance_TT
    weights_HTT = scores_HTT.masked_fill(~allowed_TT, float("-inf")).softmax(dim=-1).nan_to_num(0.0)
    return torch.einsum("hqk,khw->qhw", weights_HTT, value_THW.float()).to(value_THW.dtype)
