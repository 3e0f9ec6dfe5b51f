"""Pooling of packed token vectors, as sentence-transformers' ``Pooling`` module does on padded rows.

Axes: N texts, T tokens, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..backbone.packing import PackedBatch

_LOWEST = -1e9
"""A maximum over no token, as sentence-transformers has it."""


def pooled(hidden_TD: Tensor, batch: PackedBatch, modes: str, prompt_tokens: int = 0) -> Tensor:
    """One float32 vector a text, the ``modes`` ("cls", "mean+max") side by side: [N, D x modes].

    Means and maxima leave out the first ``prompt_tokens`` of every text.
    """
    states_TD, positions_T = hidden_TD.float(), batch.positions()
    starts_N, ends_N = batch.cu_seqlens[:-1].long(), batch.cu_seqlens[1:].long()
    lengths_N = (ends_N - starts_N - prompt_tokens).clamp(min=0)
    kept_T = positions_T >= prompt_tokens
    kept_TD = states_TD[kept_T] if prompt_tokens else states_TD
    weights_T1 = (positions_T[kept_T] + 1).float()[:, None]

    def total(states_TD: Tensor) -> Tensor:
        return torch.segment_reduce(states_TD, "sum", lengths=lengths_N, unsafe=True)

    counts_N1 = lengths_N.clamp(min=1)[:, None]
    ways: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: states_TD[starts_N],
        "max": lambda: torch.segment_reduce(kept_TD, "max", lengths=lengths_N, unsafe=True, initial=_LOWEST),
        "mean": lambda: total(kept_TD) / counts_N1,
        "mean_sqrt_len_tokens": lambda: total(kept_TD) / counts_N1.sqrt(),
        "weightedmean": lambda: total(kept_TD * weights_T1) / total(weights_T1).clamp(min=1),
        "lasttoken": lambda: states_TD[ends_N - 1],
    }
    return torch.cat([pool() for mode, pool in ways.items() if mode in modes.split("+")], dim=1)
