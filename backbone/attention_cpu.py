"""Attention without padding on CPU (and on any device without a kernel of its own), forward and backward.

Sequences of one length are attended to together; local layers cut long ones into blocks of queries.
Axes: T tokens, H heads, D head width, N sequences of one length, L that length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import BLOCK, AttentionPlan, unseen

_SCORES = 1 << 23
"""Attention scores held at once where they are held at all: 16 MiB of bfloat16."""


def grouped_attention(
    query_THD: Tensor, key_THD: Tensor, value_THD: Tensor, plan: AttentionPlan, window: int | None
) -> Tensor:
    """Scaled dot-product attention over each run of equal-length sequences: [T, H, D].

    Local layers score blocks of queries against their own window of keys once a sequence is long enough for
    that to be less work than the whole band.
    """
    # Split rather than sliced: the backward of a slice fills a gradient of the whole batch for each run.
    sizes = [count * length for count, length in plan.runs]
    pieces = [states.split(sizes) for states in (query_THD, key_THD, value_THD)]
    key_masks = () if plan.key_mask_T is None else plan.key_mask_T.split(sizes)
    dtype = query_THD.dtype
    outputs = []
    for index, (count, length) in enumerate(plan.runs):
        query, key, value = (piece[index].unflatten(0, (count, length)).transpose(1, 2) for piece in pieces)
        if key_masks:
            hidden = ~key_masks[index].view(count, 1, 1, length)
            band = plan.band(length, window, dtype)
            band = torch.zeros((), dtype=dtype, device=query.device) if band is None else band
            output = _attend(query, key, value, band.masked_fill(hidden, unseen(dtype)))
        elif window is None or length <= BLOCK + 2 * window:
            output = _attend(query, key, value, plan.band(length, window, dtype))
        else:
            blocks = plan.blocks(length, window, dtype)
            # One sequence at a time: their blocks are views, which a batch of them could not be.
            sequences = zip(query, key, value, strict=True)
            output = torch.stack([_banded(*states, blocks, window) for states in sequences])
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    if len(outputs) == 1:
        return outputs[0]
    return torch.cat(outputs) if outputs else torch.empty_like(value_THD)


def _banded(query_HLD: Tensor, key_HLD: Tensor, value_HLD: Tensor, bias: Tensor, window: int) -> Tensor:
    length, blocks = query_HLD.shape[1], len(bias)
    tail = blocks * BLOCK - length
    query = F.pad(query_HLD, (0, 0, 0, tail)).unflatten(1, (blocks, BLOCK)).transpose(0, 1)
    key, value = (
        # Overlapping views of the padded keys: no block is copied.
        F.pad(states, (0, 0, window, tail + window)).unfold(1, BLOCK + 2 * window, BLOCK).permute(1, 0, 3, 2)
        for states in (key_HLD, value_HLD)
    )
    return _attend(query, key, value, bias).transpose(0, 1).flatten(1, 2)[:, :length]


def _attend(query_NHLD: Tensor, key_NHLD: Tensor, value_NHLD: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of every query of a sequence to every key, ``bias`` added to the scores."""
    if query_NHLD.dtype != torch.bfloat16 or query_NHLD.is_cuda or torch.is_grad_enabled():
        return F.scaled_dot_product_attention(query_NHLD, key_NHLD, value_NHLD, attn_mask=bias)
    # PyTorch's CPU kernel is no faster in bfloat16 than in float32; the plain products are.
    sequences, heads, length, width = query_NHLD.shape
    rows = max(1, _SCORES // (sequences * heads * key_NHLD.shape[2]))
    scaled, key_NHDL = query_NHLD * width**-0.5, key_NHLD.transpose(-1, -2)
    mixed = []
    for start in range(0, length, rows):
        scores = scaled[:, :, start : start + rows] @ key_NHDL
        if bias is not None:
            scores += bias if bias.shape[-2] == 1 else bias[..., start : start + rows, :]
        mixed.append(scores.softmax(dim=-1) @ value_NHLD)
    return torch.cat(mixed, dim=2)
