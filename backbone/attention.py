"""Attention over packed sequences: each token attends within its own sequence, globally or in a window.

``reference_attention`` defines the meaning of every kernel; ``attention_dispatch`` picks one.
Axes: T tokens, H heads, W head width, N sequences of one length, L their length.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from .packing import PackedBatch

BLOCK = 64
"""Queries that a local layer scores together; their keys are the block and a window on each side."""

Kernel = Callable[[Tensor, Tensor, Tensor, "AttentionPlan", int | None], Tensor]
"""Queries, keys and values [T, H, W], the plan, the window on each side (None: global) to [T, H, W]."""

Attend = Callable[[Tensor, Tensor, Tensor, int | None], Tensor]
"""A kernel with its plan, as layers call it."""


class Run(NamedTuple):
    """Neighbouring ``sequences`` of one ``length``, the first of them from token ``start`` on."""

    start: int
    sequences: int
    length: int

    @property
    def rows(self) -> slice:
        """The tokens of the run."""
        return slice(self.start, self.start + self.sequences * self.length)


@dataclass
class AttentionPlan:
    """What all layers of one forward share: runs of equal lengths, and masks made once.

    ``slopes_H`` (float32), where given, lowers a score by slope x distance (ALiBi, arXiv 2108.12409).
    ``bias_HR`` (float32) is added to scores by the distance of a key from a query, from -(max_seqlen - 1) on;
    layers are then global. ``dropout`` is the share of attention weights that are dropped, in training only.
    """

    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    key_mask_T: Tensor | None = None
    slopes_H: Tensor | None = None
    dropout: float = 0.0
    bias_HR: Tensor | None = None
    _masks: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    @staticmethod
    def of(
        batch: PackedBatch,
        slopes_H: Tensor | None = None,
        *,
        bias_HR: Tensor | None = None,
        dropout: float = 0.0,
    ) -> "AttentionPlan":
        """The plan of a batch; its tensors stay on the batch's device."""
        return AttentionPlan(batch.cu_seqlens, batch.lengths, batch.key_mask_T, slopes_H, dropout, bias_HR)

    @property
    def max_seqlen(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths, default=0)

    @cached_property
    def runs(self) -> list[Run]:
        """The batch as runs of equal lengths, in order."""
        runs: list[Run] = []
        for length, same in groupby(self.lengths):
            start = runs[-1].rows.stop if runs else 0
            runs.append(Run(start, sum(1 for _ in same), length))
        return runs

    def band(self, length: int, window: int | None, *, dtype: torch.dtype) -> Tensor | None:
        """The bias of a sequence's scores: [1, 1 or H, L, L], low beyond the window; None: no bias."""
        if self.bias_HR is not None:
            assert window is None, "learned biases by distance are for global layers"
            return self._learned(dtype)[:, :, :length, :length]
        reach = length if window is None else window
        if self.slopes_H is None and length <= reach + 1:
            return None
        key = ("band", length, reach, dtype)
        if key not in self._masks:
            positions_L = torch.arange(length, device=self.cu_seqlens.device)
            distance_LL = (positions_L[:, None] - positions_L).abs()
            self._masks[key] = self._bias(distance_LL[None, None], (distance_LL <= reach)[None, None], dtype)
        return self._masks[key]

    def _learned(self, dtype: torch.dtype) -> Tensor:
        """The learned biases of the longest sequence, those of the others at its upper left: [1, H, L, L]."""
        key = ("learned", dtype)
        if key not in self._masks:
            assert self.bias_HR is not None
            places_L = torch.arange(self.max_seqlen, device=self.bias_HR.device)
            distances_LL = places_L - places_L[:, None] + self.max_seqlen - 1
            self._masks[key] = self.bias_HR[:, distances_LL][None].to(dtype)
        return self._masks[key]

    def run_bias(self, run: Run, window: int | None, *, dtype: torch.dtype) -> Tensor | None:
        """The band of a run, low at hidden keys too: [1 or N, 1 or H, 1 or L, L]."""
        band = self.band(run.length, window, dtype=dtype)
        if self.key_mask_T is None:
            return band
        # Where every window reaches all keys, they share one.
        key = ("run", run.start, None if band is None else window, dtype)
        if key not in self._masks:
            seen = self.key_mask_T[run.rows].view(run.sequences, 1, 1, run.length)
            band = torch.zeros((), dtype=dtype, device=seen.device) if band is None else band
            self._masks[key] = band.masked_fill(~seen, unseen(dtype))
        return self._masks[key]

    def blocks(self, length: int, window: int, *, dtype: torch.dtype) -> Tensor:
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
        """Distances of the queries of a block to the keys around it: [1, BLOCK, BLOCK + 2 window]."""
        keys = torch.arange(BLOCK + 2 * window, device=self.cu_seqlens.device) - window
        return (torch.arange(BLOCK, device=keys.device)[:, None] - keys).abs()[None]

    def _bias(self, distance: Tensor, seen: Tensor, dtype: torch.dtype) -> Tensor:
        bias = torch.zeros((), device=distance.device)
        if self.slopes_H is not None:
            bias = distance * -self.slopes_H[:, None, None]
        return torch.where(seen, bias, unseen(dtype)).to(dtype)


def unseen(dtype: torch.dtype) -> float:
    """The score of a hidden key. Finite in bfloat16, where a plain softmax makes NaN of a row of -inf."""
    return torch.finfo(dtype).min if dtype == torch.bfloat16 else float("-inf")


def reference_attention(
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """The definition, over one [T, T] score matrix per head, for tests and small inputs: [T, H, W].

    Scores, softmax and sums are float32; a query without visible keys gets zeros.
    """
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
    if plan.bias_HR is not None:
        farthest = plan.max_seqlen - 1
        signed_TT = (tokens - tokens[:, None]).clamp(-farthest, farthest)
        scores_HTT = scores_HTT + plan.bias_HR[:, signed_TT + farthest]
    weights_HTT = scores_HTT.masked_fill(~allowed_TT, float("-inf")).softmax(dim=-1).nan_to_num(0.0)
    weights_HTT = torch.dropout(weights_HTT, plan.dropout, train=plan.dropout > 0)
    return torch.einsum("hqk,khw->qhw", weights_HTT, value_THW.float()).to(value_THW.dtype)
