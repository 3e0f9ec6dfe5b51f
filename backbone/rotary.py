"""Rotary positions (arXiv 2104.09864), half-split: component i turns with component i + head width / 2.

Axes: T tokens, H heads, D head width, P = D / 2 pairs.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Rotary(NamedTuple):
    """Cosines and sines [T, 1, P] of the angles of one batch, in the dtype of the hidden states."""

    cos_T1P: Tensor
    sin_T1P: Tensor


def rotary_table(positions_T: Tensor, head_width: int, theta: float, dtype: torch.dtype) -> Rotary:
    """Angles are taken in float32 and rounded once, as the published checkpoints were trained."""
    exponents_P = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions_T.device) / head_width
    angles_TP = positions_T.float()[:, None] * (1.0 / theta**exponents_P)
    return Rotary(angles_TP.cos().to(dtype)[:, None], angles_TP.sin().to(dtype)[:, None])


def rotate(states_THD: Tensor, table: Rotary) -> Tensor:
    """Turn queries or keys [T, H, D] by their positions: computed in float32, returned in their own dtype."""
    first_THP, second_THP = states_THD.float().chunk(2, dim=-1)
    cos_T1P, sin_T1P = table
    rotated = (first_THP * cos_T1P - second_THP * sin_T1P, second_THP * cos_T1P + first_THP * sin_T1P)
    return torch.cat(rotated, dim=-1).to(states_THD.dtype)
