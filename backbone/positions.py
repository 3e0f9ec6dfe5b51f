"""Where tokens stand: rotary positions (arXiv 2104.09864) and linear biases (ALiBi, arXiv 2108.12409).

Rotary is half-split: component i turns with component i + head width / 2. ALiBi is symmetric, as in
MosaicBERT (arXiv 2312.17482). Axes: T tokens, H heads, D head width, P = D / 2 pairs.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHUNK = 512
"""Tokens rotated together: their float32 copies stay in a core's cache."""


class Rotary(NamedTuple):
    """Cosines and sines [T, 1, P] (float32) of the angles of one batch."""

    cos_T1P: Tensor
    sin_T1P: Tensor


def rotary_table(
    positions_T: Tensor, longest: int, head_width: int, theta: float, dtype: torch.dtype
) -> Rotary:
    """The table of a batch; ``longest`` is the length of its longest sequence.

    Angles are taken in float32, their cosines and sines rounded once to ``dtype``, that of the hidden states,
    as the published checkpoints were trained. Positions repeat from sequence to sequence, so each angle is
    computed once and looked up.
    """
    device = positions_T.device
    exponents_P = torch.arange(0, head_width, 2, dtype=torch.float32, device=device) / head_width
    angles_LP = torch.arange(longest, device=device).float()[:, None] * (1.0 / theta**exponents_P)
    tables = (angles_LP.cos(), angles_LP.sin())
    return Rotary(*(table.to(dtype).float()[positions_T][:, None] for table in tables))


def rotate(states_THD: Tensor, table: Rotary) -> Tensor:
    """Turn queries or keys [T, H, D] by their positions: computed in float32, returned in their own dtype."""
    return _Rotate.apply(states_THD, *table)  # type: ignore[return-value]


class _Rotate(torch.autograd.Function):
    """A rotation keeps nothing for its backward, which turns the gradient the other way."""

    @staticmethod
    def forward(ctx: Any, states_THD: Tensor, cos_T1P: Tensor, sin_T1P: Tensor) -> Tensor:
        ctx.save_for_backward(cos_T1P, sin_T1P)
        return _rotated(states_THD, cos_T1P, sin_T1P)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos_T1P, sin_T1P = ctx.saved_tensors
        return _rotated(grads[0], cos_T1P, -sin_T1P), None, None


def _rotated(states_THD: Tensor, cos_T1P: Tensor, sin_T1P: Tensor) -> Tensor:
    turned_THD = torch.empty(states_THD.shape, dtype=states_THD.dtype, device=states_THD.device)
    size = _CHUNK if states_THD.device.type == "cpu" else max(1, len(states_THD))
    pieces = (states_THD.split(size), cos_T1P.split(size), sin_T1P.split(size), turned_THD.split(size))
    for states, cos, sin, turned in zip(*pieces, strict=True):
        first, second = states.float().chunk(2, dim=-1)
        out_first, out_second = turned.chunk(2, dim=-1)
        out_first.copy_((first * cos).addcmul_(second, sin, value=-1))
        out_second.copy_((second * cos).addcmul_(first, sin))
    return turned_THD


def alibi_slopes(heads: int, device: torch.device | str | None = None) -> Tensor:
    """How far each head lowers a score per token of distance: [H] (float32).

    A geometric sequence from 2^(-8/H) down to 2^-8. Where ``heads`` is no power of two, those of the power
    below come first, then every other one of the power above, as in the paper's own code.
    """
    power = 1 << (heads.bit_length() - 1)
    whole = torch.arange(1, power + 1, device=device) / power
    between = (torch.arange(heads - power, device=device) + 0.5) / power
    return torch.exp2(-8 * torch.cat((whole, between)))
