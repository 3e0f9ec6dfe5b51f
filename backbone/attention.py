"""Attention over packed sequences: each token attends within its own sequence, globally or in a window.

``reference_attention`` defines the meaning; ``grouped_attention`` is fast on CPU and works on any device.
Axes: T tokens, H heads, D head width, N sequences of one length, L that length, B a block of queries.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from .packing import PackedBatch

BLOCK = 64
"""Queries that a local layer scores together; their keys are the block and a window on each side."""

_SCORES = 1 << 23
"""Attention scores held at once where they are held at all: 16 MiB of bfloat16."""


@dataclass
class AttentionPlan:
    """What every layer of one forward shares: runs of equal-length sequences, and masks made once.

    ``window``: tokens that a local layer sees on each side, None for a global layer.
    """

    cu_seqlens: Tensor
    lengths: tuple[int, ...]
    key_mask_T: Tensor | None = None
    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    @staticmethod
    def of(batch: PackedBatch) -> "AttentionPlan":
        """The plan of a batch; its tensors stay on the batch's device."""
        return AttentionPlan(batch.cu_seqlens, batch.lengths, batch.key_mask_T)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(sequences, length) of each run of neighbours of one length."""
        return [(sum(1 for _ in run), length) for length, run in groupby(self.lengths)]

    def band(self, length: int, window: int, device: torch.device) -> Tensor:
        """True where |query - key| <= window: bool [length, length]."""
        if (length, window) not in self._masks:
            positions = torch.arange(length, device=device)
            self._masks[length, window] = (positions[:, None] - positions).abs() <= window
        return self._masks[length, window]

    def blocks(self, length: int, window: int, device: torch.device) -> Tensor:
        """The band cut into blocks of queries: bool [blocks, 1, BLOCK, BLOCK + 2 window]."""
        if (-length, window) not in self._masks:
            count = -(-length // BLOCK)
            starts = torch.arange(count, device=device)[:, None, None] * BLOCK
            query = torch.arange(BLOCK, device=device)[:, None]
            key = torch.arange(BLOCK + 2 * window, device=device) - window
            inside = (key + starts >= 0) & (key + starts < length)
            self._masks[-length, window] = (inside & ((query - key).abs() <= window))[:, None]
        return self._masks[-length, window]


def reference_attention(
    query_THD: Tensor, key_THD: Tensor, value_THD: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """The definition, over one [T, T] score matrix per head: for tests and small inputs: [T, H, D]."""
    tokens = torch.arange(len(query_THD), device=query_THD.device)
    sequence_T = torch.bucketize(tokens, plan.cu_seqlens[1:], right=True)
    allowed_TT = sequence_T[:, None] == sequence_T
    if window is not None:
        allowed_TT &= (tokens[:, None] - tokens).abs() <= window
    if plan.key_mask_T is not None:
        allowed_TT &= plan.key_mask_T
    scores_HTT = (
        torch.einsum("qhd,khd->hqk", query_THD.float(), key_THD.float()) * query_THD.shape[-1] ** -0.5
    )
    weights_HTT = scores_HTT.masked_fill(~allowed_TT, float("-inf")).softmax(dim=-1).nan_to_num(0.0)
    return torch.einsum("hqk,khd->qhd", weights_HTT, value_THD.float()).to(value_THD.dtype)


def grouped_attention(
    query_THD: Tensor, key_THD: Tensor, value_THD: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """Scaled dot-product attention over each run of equal-length sequences, forward and backward.

    Local layers score blocks of queries against their own window of keys once a sequence is long enough for
    that to be less work than the whole band. Returns [T, H, D].
    """
    # Split rather than sliced: the backward of a slice fills a gradient of the whole batch for each run.
    sizes = [count * length for count, length in plan.runs]
    pieces = [states.split(sizes) for states in (query_THD, key_THD, value_THD)]
    key_masks = () if plan.key_mask_T is None else plan.key_mask_T.split(sizes)
    outputs = []
    for index, (count, length) in enumerate(plan.runs):
        query, key, value = (piece[index].unflatten(0, (count, length)).transpose(1, 2) for piece in pieces)
        key_mask = key_masks[index].view(count, 1, 1, length) if key_masks else None
        if window is None or length <= window + 1:
            output = _attend(query, key, value, key_mask)
        elif key_mask is not None or length <= BLOCK + 2 * window:
            mask = plan.band(length, window, query.device)
            output = _attend(query, key, value, mask if key_mask is None else mask & key_mask)
        else:
            mask = plan.blocks(length, window, query.device)
            # One sequence at a time: their blocks are views, which a batch of them could not be.
            sequences = zip(query, key, value, strict=True)
            output = torch.stack([_banded(*states, mask, window) for states in sequences])
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs) if outputs else torch.empty_like(value_THD)


def _banded(query_HLD: Tensor, key_HLD: Tensor, value_HLD: Tensor, mask: Tensor, window: int) -> Tensor:
    length, blocks = query_HLD.shape[1], len(mask)
    tail = blocks * BLOCK - length
    query = F.pad(query_HLD, (0, 0, 0, tail)).unflatten(1, (blocks, BLOCK)).transpose(0, 1)
    key, value = (
        # Overlapping views of the padded keys: no block is copied.
        F.pad(states, (0, 0, window, tail + window)).unfold(1, BLOCK + 2 * window, BLOCK).permute(1, 0, 3, 2)
        for states in (key_HLD, value_HLD)
    )
    return _attend(query, key, value, mask).transpose(0, 1).flatten(1, 2)[:, :length]


def _attend(query_NHLD: Tensor, key_NHLD: Tensor, value_NHLD: Tensor, mask: Tensor | None) -> Tensor:
    """Attention where every query of a sequence may see every key that ``mask`` allows."""
    if query_NHLD.dtype != torch.bfloat16 or query_NHLD.is_cuda or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query_NHLD, key_NHLD, value_NHLD, attn_mask=mask)
    # PyTorch's CPU kernel is no faster in bfloat16 than in float32; the plain products are.
    sequences, heads, length, width = query_NHLD.shape
    rows = max(1, _SCORES // (sequences * heads * key_NHLD.shape[2]))
    scaled, key_NHDL = query_NHLD * width**-0.5, key_NHLD.transpose(-1, -2)
    mixed = []
    for start in range(0, length, rows):
        scores = scaled[:, :, start : start + rows] @ key_NHDL
        if mask is not None:
            seen = mask if mask.shape[-2] == 1 else mask[..., start : start + rows, :]
            scores.masked_fill_(~seen, torch.finfo(scores.dtype).min)
        mixed.append(scores.softmax(dim=-1) @ value_NHLD)
    return torch.cat(mixed, dim=2)
