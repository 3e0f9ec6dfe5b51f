"""What a pretraining step minimises; plain masked language modelling stands here.

An objective is a module: ``objective(batch, totals)`` gives this micro batch's share of the step's loss, so
that shares sum to the mean over the whole step, however many micro batches and processes it has.
Axes: M tokens that are predicted, V vocabulary, D width.
"""

from typing import NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from flatcoat.backbone.heads import MaskedLanguageModel
from flatcoat.backbone.model import ModernBert

from .batches import MaskedBatch, Totals


class Outcome(NamedTuple):
    """A micro batch's share of the step's loss, with gradients, and of figures to watch, by name."""

    loss: Tensor
    figures: dict[str, Tensor]


class Objective(Protocol):
    """``encoder`` is the backbone under training, ``product`` what is saved of it."""

    @property
    def encoder(self) -> ModernBert: ...

    @property
    def product(self) -> MaskedLanguageModel | ModernBert: ...

    def __call__(self, batch: MaskedBatch, totals: Totals) -> Outcome: ...


def masked_outcome(logits_MV: Tensor, labels_M: Tensor, totals: Totals) -> Outcome:
    """Cross-entropy and accuracy at the predicted tokens."""
    loss = F.cross_entropy(logits_MV.float(), labels_M, reduction="sum") / totals.predicted
    correct = (logits_MV.detach().argmax(dim=-1) == labels_M).sum() / totals.predicted
    return Outcome(loss, {"masked_loss": loss.detach(), "masked_accuracy": correct})


class MaskedLanguageModelling(nn.Module):
    """Predict the masked tokens; logits are computed for no others."""

    def __init__(self, model: MaskedLanguageModel):
        super().__init__()
        self.model = model

    @property
    def encoder(self) -> ModernBert:
        return self.model.model

    @property
    def product(self) -> MaskedLanguageModel:
        return self.model

    def forward(self, batch: MaskedBatch, totals: Totals) -> Outcome:
        return masked_outcome(self.model(batch.batch, batch.positions_M), batch.labels_M, totals)
