"""Where tokens stand: rotary positions (arXiv 2104.09864).

Half-split: component i rotates with component i + W / 2.
Axes: T tokens, L padded length, H heads, W head width, P = W / 2 pairs, E = 3 H W.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 512
"""Tokens rotated together: their float32 copies stay in a core's cache."""


class Rotary(NamedTuple):
    """Cosines and sines [T, 1, P] (float32) of the angles of one batch."""

    cos_T1P: Tensor
    sin_T1P: Tensor


class QueryKeyValue(NamedTuple):
    """Queries and keys rotated by their positions, and values: [T, H, W], the last axis contiguous."""

    query_THW: Tensor
    key_THW: Tensor
    value_THW: Tensor


def rotary_table(
    positions_T: Tensor,
    longest: int,
    *,
    head_width: int,
    theta: float,
    dtype: torch.dtype,
    scale: float = 1.0,
) -> Rotary:
    """The table of a batch; ``longest`` is the length of its longest sequence, ``scale`` multiplies angles.

    Angles are taken in float32, their cosines and sines rounded once to ``dtype``, the dtype of the hidden
    states, as the published checkpoints were trained. Positions repeat from sequence to sequence, so each
    angle is computed once and looked up.

    >>> table = rotary_table(torch.tensor([0, 1, 0]), 2, head_width=4, theta=100.0, dtype=torch.float32)
    >>> table.cos_T1P.shape
    torch.Size([3, 1, 2])
    """
    device = positions_T.device
    exponents_P = torch.arange(0, head_width, 2, dtype=torch.float32, device=device) / head_width
    angles_LP = torch.arange(longest, device=device).float()[:, None] * (scale / theta**exponents_P)
    tables = (angles_LP.cos(), angles_LP.sin())
    return Rotary(*(table.to(dtype).float()[positions_T][:, None] for table in tables))


def apply_rotary_(projected_TE: Tensor, heads: int, cos_T1P: Tensor, sin_T1P: Tensor) -> None:
    """Rotate the queries and keys within queries | keys | values [T, E] in place, in float32."""
    rotated_TGW = projected_TE.unflatten(-1, (3 * heads, -1))[:, : 2 * heads]
    size = _CHUNK if projected_TE.device.type == "cpu" else max(1, len(projected_TE))
    for states, cos, sin in zip(
        rotated_TGW.split(size), cos_T1P.split(size), sin_T1P.split(size), strict=True
    ):
        out_first, out_second = states.chunk(2, dim=-1)
        # Copies, also of float32: the halves are written one after the other.
        first, second = states.to(torch.float32, copy=True).chunk(2, dim=-1)
        out_first.copy_((first * cos).addcmul_(second, sin, value=-1))
        out_second.copy_((second * cos).addcmul_(first, sin))
