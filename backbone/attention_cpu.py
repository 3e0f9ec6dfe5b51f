"""Attention without padding on CPU (and on any device without a kernel of its own), forward and backward.

Sequences of one length are attended to together; local layers cut long ones into blocks of queries.
Axes: T tokens, H heads, W head width, N sequences of one length, L that length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import BLOCK, AttentionPlan

_SCORES = 1 << 23
"""Attention scores held at once where they are held at all: 16 MiB of bfloat16."""


def grouped_attention(
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """Scaled dot-product attention over each run of equal-length sequences: [T, H, W].

    Local layers score blocks of queries against their own window of keys.
    """
    if torch.is_grad_enabled() or query_THW.is_cuda:
        return _in_runs(query_THW, key_THW, value_THW, plan, window)
    mixed_THW = value_THW.new_empty(value_THW.shape)
    start = 0
    for count, length in plan.runs:
        if plan.key_mask_T is not None or window is None or length <= window + 1:
            rows = slice(start, start + count * length)
            states = [part[rows].unflatten(0, (count, length)) for part in (query_THW, key_THW, value_THW)]
            bias = plan.run_bias(start, count, length, window, query_THW.dtype)
            mixed = _attend(*(part.transpose(1, 2) for part in states), bias)
            mixed_THW[rows].unflatten(0, (count, length)).copy_(mixed.transpose(1, 2))
        else:
            strip = plan.strip(window, query_THW.dtype)
            for first in range(start, start + count * length, length):
                rows = slice(first, first + length)
                query, key, value = (part[rows].transpose(0, 1) for part in (query_THW, key_THW, value_THW))
                _windowed(query, key, value, strip, window, mixed_THW[rows])
        start += count * length
    return mixed_THW


def _windowed(
    query_HLW: Tensor, key_HLW: Tensor, value_HLW: Tensor, strip: Tensor, window: int, mixed_LHW: Tensor
) -> None:
    """Block by block of queries, each against the keys that it can see: what is held stays in the cache.

    Without gradients only: they would be summed over all keys once a block.
    """
    length, width = query_HLW.shape[1:]
    for start in range(0, length, BLOCK):
        end = min(length, start + BLOCK)
        first, last = max(0, start - window), min(length, end + window)
        bias = strip[:, : end - start, first - start + window : last - start + window]
        key_HWS = key_HLW[:, first:last].transpose(1, 2)
        scores = torch.baddbmm(bias, query_HLW[:, start:end], key_HWS, alpha=width**-0.5)
        mixed_LHW[start:end] = (scores.softmax(dim=-1) @ value_HLW[:, first:last]).transpose(0, 1)


def _in_runs(
    query_THW: Tensor, key_THW: Tensor, value_THW: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    # Split rather than sliced: the backward of a slice fills a gradient of the whole batch for each run.
    sizes = [count * length for count, length in plan.runs]
    pieces = [states.split(sizes) for states in (query_THW, key_THW, value_THW)]
    outputs = []
    start = 0
    for index, (count, length) in enumerate(plan.runs):
        query, key, value = (piece[index].unflatten(0, (count, length)).transpose(1, 2) for piece in pieces)
        if plan.key_mask_T is not None or window is None or length <= BLOCK + 2 * window:
            output = _attend(query, key, value, plan.run_bias(start, count, length, window, query.dtype))
        else:
            blocks = plan.blocks(length, window, query.dtype)
            # One sequence at a time: their blocks are views, which a batch of them could not be.
            sequences = zip(query, key, value, strict=True)
            output = torch.stack([_banded(*states, blocks, window) for states in sequences])
        outputs.append(output.transpose(1, 2).flatten(0, 1))
        start += count * length
    return torch.cat(outputs) if outputs else torch.empty_like(value_THW)


def _banded(query_HLW: Tensor, key_HLW: Tensor, value_HLW: Tensor, bias: Tensor, window: int) -> Tensor:
    length, blocks = query_HLW.shape[1], len(bias)
    tail = blocks * BLOCK - length
    query = F.pad(query_HLW, (0, 0, 0, tail)).unflatten(1, (blocks, BLOCK)).transpose(0, 1)
    key, value = (
        # Overlapping views of the padded keys: no block is copied.
        F.pad(states, (0, 0, window, tail + window)).unfold(1, BLOCK + 2 * window, BLOCK).permute(1, 0, 3, 2)
        for states in (key_HLW, value_HLW)
    )
    return _attend(query, key, value, bias).transpose(0, 1).flatten(1, 2)[:, :length]


def _attend(query_NHLW: Tensor, key_NHLW: Tensor, value_NHLW: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of every query of a sequence to every key, ``bias`` added to the scores."""
    if query_NHLW.dtype != torch.bfloat16 or query_NHLW.is_cuda or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query_NHLW, key_NHLW, value_NHLW, attn_mask=bias)
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
