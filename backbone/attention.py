"""Attention over packed sequences: each token attends within its own sequence, globally or in a window.

``reference_attention`` defines the meaning; ``grouped_attention`` is fast on CPU and works on any device.
Axes: T tokens, H heads, D head width, N sequences of one length, L that length, B a block of queries.
"""

from dataclasses import dataclass, field
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from .packing import PackedBatch

BLOCK = 64
"""Queries that a local layer scores together; their keys are the block and a window on each side."""


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
    runs = plan.runs()
    # Split rather than sliced: the backward of a slice fills a gradient of the whole batch for each run.
    pieces = [
        states.split([count * length for count, length in runs]) for states in (query_THD, key_THD, value_THD)
    ]
    key_masks = (
        plan.key_mask_T.split([count * length for count, length in runs])
        if plan.key_mask_T is not None
        else ()
    )
    outputs = []
    for index, (count, length) in enumerate(runs):
        query, key, value = (piece[index].unflatten(0, (count, length)).transpose(1, 2) for piece in pieces)
        key_mask = key_masks[index].view(count, 1, 1, length) if key_masks else None
        if window is None or length <= window + 1:
            output = F.scaled_dot_product_attention(query, key, value, attn_mask=key_mask)
        elif key_mask is not None or length <= BLOCK + 2 * window:
            mask = plan.band(length, window, query.device)
            mask = mask if key_mask is None else mask & key_mask
            output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            output = _banded(query, key, value, plan.blocks(length, window, query.device), window)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs) if outputs else torch.empty_like(value_THD)


def _banded(query_NHLD: Tensor, key_NHLD: Tensor, value_NHLD: Tensor, mask: Tensor, window: int) -> Tensor:
    length = query_NHLD.shape[2]
    blocks = len(mask)
    tail = blocks * BLOCK - length
    query = F.pad(query_NHLD, (0, 0, 0, tail)).unflatten(2, (blocks, BLOCK)).transpose(1, 2)
    key, value = (
        # Overlapping views of the padded keys: no block is copied.
        F.pad(states, (0, 0, window, tail + window))
        .unfold(2, BLOCK + 2 * window, BLOCK)
        .permute(0, 2, 1, 4, 3)
        for states in (key_NHLD, value_NHLD)
    )
    mask = mask.expand(len(query), *mask.shape).flatten(0, 1)
    output = F.scaled_dot_product_attention(
        query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), attn_mask=mask
    )
    return output.unflatten(0, (-1, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :length]
