"""Attention without padding on CPU (and on any device without a kernel of its own), forward and backward.

Sequences of one length are attended to together; local layers cut long ones into blocks of queries.
Axes: T tokens, H heads, W head width, N sequences of one length, L their length, S keys around a block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import BLOCK, AttentionPlan

_SCORES = 1 << 23
"""Attention scores in memory at once where the scores are stored: 16 MiB of bfloat16."""


def grouped_attention(
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """Scaled dot-product attention over each run of equal-length sequences: [T, H, W].

    Local layers score blocks of queries against their own window of keys.
    """
    if torch.is_grad_enabled() or query_THW.is_cuda:
        return _in_runs(query_THW, key_THW, value_THW, plan, window)
    mixed_THW = value_THW.new_empty(value_THW.shape)
    for run in plan.runs:
        sizes = (run.sequences, run.length)
        # One product per run where sequences are short; hidden keys differ from sequence to sequence.
        if plan.key_mask_T is not None or window is None or run.length <= window + 1:
            states = [part[run.rows].unflatten(0, sizes) for part in (query_THW, key_THW, value_THW)]
            query, key, value = (part.transpose(1, 2) for part in states)
            mixed = _attend(query, key, value, plan.run_bias(run, window, dtype=query_THW.dtype))
            mixed_THW[run.rows].unflatten(0, sizes).copy_(mixed.transpose(1, 2))
        else:
            strip = plan.strip(window, query_THW.dtype)
            for first in range(run.start, run.rows.stop, run.length):
                rows = slice(first, first + run.length)
                query, key, value = (part[rows].transpose(0, 1) for part in (query_THW, key_THW, value_THW))
                _windowed(query, key, value, strip, window, mixed_THW[rows])
    return mixed_THW


def _windowed(
    query_HLW: Tensor, key_HLW: Tensor, value_HLW: Tensor, strip: Tensor, window: int, mixed_LHW: Tensor
) -> None:
    """Local attention of one sequence, block by block of queries, written to ``mixed_LHW``.

    Each block meets the keys within its window, so its scores stay in the cache. Without gradients only: each
    block's would be added to a gradient of all keys.
    """
    length, width = query_HLW.shape[1:]
    for start in range(0, length, BLOCK):
        end = min(length, start + BLOCK)
        first, last = max(0, start - window), min(length, end + window)
        # The strip covers a window before the block and one after it; the sequence may end within either.
        bias = strip[:, : end - start, first - start + window : last - start + window]
        key_HWS = key_HLW[:, first:last].transpose(1, 2)
        scores = torch.baddbmm(bias, query_HLW[:, start:end], key_HWS, alpha=width**-0.5)
        mixed_LHW[start:end] = (scores.softmax(dim=-1) @ value_HLW[:, first:last]).transpose(0, 1)


def _in_runs(
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    # Split rather than sliced: the backward of a slice fills a gradient of the whole batch for each run.
    sizes = [run.sequences * run.length for run in plan.runs]
    pieces = [states.split(sizes) for states in (query_THW, key_THW, value_THW)]
    outputs = []
    for run, *states in zip(plan.runs, *pieces, strict=True):
        query, key, value = (
            part.unflatten(0, (run.sequences, run.length)).transpose(1, 2) for part in states
        )
        if plan.key_mask_T is not None or window is None or run.length <= BLOCK + 2 * window:
            bias = plan.run_bias(run, window, dtype=query.dtype)
            output = _attend(query, key, value, bias, dropout=plan.dropout)
        else:
            blocks = plan.blocks(run.length, window, dtype=query.dtype)
            # One sequence at a time: their blocks are views, which a batch of them could not be.
            texts = zip(query, key, value, strict=True)
            output = torch.stack([_banded(*text, blocks, window, dropout=plan.dropout) for text in texts])
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs) if outputs else torch.empty_like(value_THW)


def _banded(
    query_HLW: Tensor, key_HLW: Tensor, value_HLW: Tensor, bias: Tensor, window: int, *, dropout: float
) -> Tensor:
    """Local attention of one sequence [H, L, W] over blocks of queries and overlapping views of keys."""
    length, blocks = query_HLW.shape[1], len(bias)
    tail = blocks * BLOCK - length
    query = F.pad(query_HLW, (0, 0, 0, tail)).unflatten(1, (blocks, BLOCK)).transpose(0, 1)
    key, value = (
        # Overlapping views of the padded keys: no block is copied.
        F.pad(states, (0, 0, window, tail + window)).unfold(1, BLOCK + 2 * window, BLOCK).permute(1, 0, 3, 2)
        for states in (key_HLW, value_HLW)
    )
    return _attend(query, key, value, bias, dropout=dropout).transpose(0, 1).flatten(1, 2)[:, :length]


def _attend(
    query_NHLW: Tensor,
    key_NHLW: Tensor,
    value_NHLW: Tensor,
    bias: Tensor | None,
    *,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of every query of a sequence to every key, ``bias`` added to the scores."""
    if query_NHLW.dtype != torch.bfloat16 or query_NHLW.is_cuda or torch.is_grad_enabled():
        states = query_NHLW, key_NHLW, value_NHLW
        return F.scaled_dot_product_attention(*states, attn_mask=bias, dropout_p=dropout)
    # PyTorch's CPU kernel is no faster in bfloat16 than in float32; the plain products are.
    sequences, heads, length, width = query_NHLW.shape
    rows = max(1, _SCORES // (sequences * heads * key_NHLW.shape[2]))
    scaled, key_NHWL = query_NHLW * width**-0.5, key_NHLW.transpose(-1, -2)
    mixed = []
    for start in range(0, length, rows):
        scores = scaled[:, :, start : start + rows] @ key_NHWL
        if bias is not None:
            scores += bias if bias.shape[-2] == 1 else bias[..., start : start + rows, :]
        mixed.append(scores.softmax(dim=-1) @ value_NHLW)
    return torch.cat(mixed, dim=2)
