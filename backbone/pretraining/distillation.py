"""A small model learns from a larger one: its logits, its token vectors or its sentence vectors.

Sources: arXiv 1503.02531 (logits at a temperature), arXiv 1910.01108 (DistilBERT: with masked language
modelling, and cosine of states). Axes: T tokens, D width, N sequences, M tokens that are predicted.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatcoat.backbone.heads import MaskedLanguageModel
from flatcoat.backbone.layers import truncated_normal
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch

from .batches import MaskedBatch, Totals
from .objectives import Outcome, masked_outcome


class Divergence(Protocol):
    """How far the student is from the teacher: this micro batch's share of the step's mean."""

    def __call__(
        self, batch: MaskedBatch, hidden_TD: Tensor, logits_MV: Tensor, totals: Totals
    ) -> Tensor: ...


class DistilledModel(nn.Module):
    """``weight`` times the divergence from a teacher, 1 - ``weight`` times masked language modelling."""

    def __init__(self, model: MaskedLanguageModel, divergence: nn.Module, *, weight: float):
        super().__init__()
        self.model = model
        self.divergence = divergence
        self._weight = weight

    @property
    def encoder(self) -> ModernBert:
        return self.model.model

    @property
    def product(self) -> MaskedLanguageModel:
        return self.model

    def forward(self, batch: MaskedBatch, totals: Totals) -> Outcome:
        hidden_TD = self.model.model(batch.batch)
        logits_MV = self.model.decoder(self.model.head(hidden_TD[batch.positions_M]))
        masked = masked_outcome(logits_MV, batch.labels_M, totals)
        divergence = self.divergence(batch, hidden_TD, logits_MV, totals)
        loss = self._weight * divergence + (1 - self._weight) * masked.loss
        return Outcome(loss, masked.figures | {"divergence": divergence.detach()})


class LogitDivergence(nn.Module):
    """KL divergence of the teacher's distribution at predicted tokens, which it sees masked as well.

    Both are softened by ``temperature``, whose square keeps the gradients' size. Entries that only the
    teacher has, for rounding, are left out.
    """

    def __init__(self, teacher: MaskedLanguageModel, *, temperature: float):
        super().__init__()
        self._teacher = _Frozen(teacher)
        self._temperature = temperature

    def forward(self, batch: MaskedBatch, hidden_TD: Tensor, logits_MV: Tensor, totals: Totals) -> Tensor:
        del hidden_TD
        with torch.no_grad():
            teacher_MV = self._teacher.on(logits_MV.device)(batch.batch, batch.positions_M)
        teacher_MV = teacher_MV[:, : logits_MV.shape[1]]
        student, teacher = (
            (logits.float() / self._temperature).log_softmax(dim=-1) for logits in (logits_MV, teacher_MV)
        )
        divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
        return divergence * self._temperature**2 / totals.predicted


class VectorDivergence(nn.Module):
    """1 - cosine between vectors of the student, projected to the teacher's width, and the teacher's.

    The teacher reads the text without masks. ``sentences`` compares means over the tokens of a sequence,
    otherwise the vector of each token.
    """

    def __init__(self, teacher: ModernBert, width: int, *, sentences: bool):
        super().__init__()
        self._teacher = _Frozen(teacher)
        self._sentences = sentences
        self.projection = nn.Linear(width, teacher.config.hidden_size, bias=False)
        truncated_normal(self.projection.weight, width**-0.5)

    def forward(self, batch: MaskedBatch, hidden_TD: Tensor, logits_MV: Tensor, totals: Totals) -> Tensor:
        del logits_MV
        plain = PackedBatch(batch.original_ids_T, batch.batch.cu_seqlens, batch.batch.lengths)
        with torch.no_grad():
            teacher_TD = self._teacher.on(hidden_TD.device)(plain)
        student_TD = self.projection(hidden_TD)
        vectors = (student_TD, teacher_TD)
        count = totals.tokens
        if self._sentences:
            vectors = tuple(sentence_means(states_TD, plain) for states_TD in vectors)
            count = totals.sequences
        similarity = F.cosine_similarity(vectors[0].float(), vectors[1].float(), dim=-1)
        return (1 - similarity).sum() / count


def sentence_means(states_TD: Tensor, batch: PackedBatch) -> Tensor:
    """The mean of each sequence's states [N, D]."""
    lengths_N = torch.tensor(batch.lengths, device=states_TD.device)
    return torch.segment_reduce(states_TD.float(), "mean", lengths=lengths_N)


class _Frozen:
    """A teacher: no part of the objective's weights, so that it is neither trained nor saved."""

    def __init__(self, model: nn.Module):
        self._model = model.eval().requires_grad_(False)

    def on(self, device: torch.device) -> nn.Module:
        self._model = self._model.to(device)
        return self._model
