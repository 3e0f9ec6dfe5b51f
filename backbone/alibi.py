"""Attention with linear biases (ALiBi, arXiv 2108.12409), symmetric as in MosaicBERT (arXiv 2312.17482)."""

import torch
from torch import Tensor


def alibi_slopes(heads: int, device: torch.device | str | None = None) -> Tensor:
    """How far each head lowers a score per token of distance: [H] (float32).

    A geometric sequence from 2^(-8/H) down to 2^-8. Where ``heads`` is no power of two, those of the power
    below come first, then every other one of the power above, as in the paper's own code.
    """
    power = 1 << (heads.bit_length() - 1)
    whole = torch.arange(1, power + 1, device=device) / power
    between = (torch.arange(heads - power, device=device) + 0.5) / power
    return torch.exp2(-8 * torch.cat((whole, between)))
