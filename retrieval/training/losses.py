"""The losses of retrievers: sentence-transformers' for dense ones, late interaction's equal to PyLate's.

Below, s is the student's score (inner product, or MaxSim), t the teacher's, T the temperature, q a query, d+
its document, d- a negative.

contrastive     -log exp(s(q, d+) / T) / sum over d exp(s(q, d) / T), d over all documents of the batch and
                the hard negatives of all its rows; ``symmetric`` averages it with the same per document over
                the batch's queries. InfoNCE, https://arxiv.org/abs/1807.03748; in-batch negatives as in DPR,
                https://arxiv.org/abs/2004.04906
margin-mse      mean over a row's d- of ((s(q, d+) - s(q, d-)) / T - (t(q, d+) - t(q, d-)))^2;
                https://arxiv.org/abs/2010.02666
distillation    KL(softmax(t / T) || softmax(s / T)) over the documents of a row; teacher scores are min-max
                normalised per row, a ColBERT's own too. https://arxiv.org/abs/2010.11386 (dense: T^2 times
                it), https://arxiv.org/abs/2112.01488 (late interaction: T is 1)
teachers        contrastive + teacher_weight * KL(softmax(t) || softmax(s / T)) over all documents of the
                batch, t standardised per query (``batch_teachers``)
matryoshka      a dense loss summed over prefixes of the vectors; https://arxiv.org/abs/2205.13147

Axes: B rows of a batch, C documents per row (the positive first), Q query tokens, L padded document length, D
width.
"""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from sentence_transformers import losses as dense
from sentence_transformers.util import pairwise_dot_score
from torch import Tensor, nn

from flatcoat.errors import UsageError
from flatcoat.retrieval.encoders.colbert_model import ColbertModel
from flatcoat.retrieval.encoders.dense_texts import embedding_width

from .maxsim import BatchMaxSim, GatheredContrast, GatheredMaxSim
from .settings import TrainingSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

Features = list[dict[str, Tensor]]
"""Tokenised columns: queries, documents, then each column of negatives."""


def make_loss(model: "SentenceTransformer", settings: TrainingSettings) -> nn.Module:
    """A loss module for sentence-transformers' trainer, called with tokenised columns and scores [B, C].

    Of the settings it reads ``loss``, ``temperature``, ``symmetric``, ``gather`` and ``matryoshka``.
    """
    if isinstance(model, ColbertModel):
        return _late_loss(model, settings)
    loss = _dense_loss(model, settings)
    if settings.matryoshka:
        width = embedding_width(model)
        return dense.MatryoshkaLoss(model, loss, sorted({width, *settings.matryoshka}))
    return loss


def require_learnable(
    model: "SentenceTransformer", settings: TrainingSettings, *, source: str, documents: int, rows: int
) -> None:
    """Raise UsageError if the loss is constant, whatever the model does.

    ``documents`` counts the documents per row, the positive included, ``rows`` the rows whose documents are
    each other's negatives.
    """
    if settings.loss == "contrastive" and rows * documents == 1:
        raise UsageError(
            f"a batch of one row without negatives has nothing to tell a document from ({source}): name a "
            "larger batch_size, a multiple of the processes, or negatives"
        )
    late = isinstance(model, ColbertModel)
    if settings.loss == "distillation" and documents == 2:
        if late:
            raise UsageError(
                f"distillation of a colbert lays scores out from 0 to 1 within a row; of two documents they "
                f"are 0 and 1 whatever the model does: give the rows of {source} more (data.ways), or name "
                "loss: margin-mse"
            )
        logger.warning(
            "%s has two documents in a row, whose scores become 1 and 0: margin-mse keeps their difference",
            source,
        )
    width = 0 if late else embedding_width(model)
    if not late and max(settings.matryoshka, default=0) > width:
        raise UsageError(
            f"matryoshka names {max(settings.matryoshka)} components; the model's vectors are {width} wide"
        )


def _dense_loss(model: "SentenceTransformer", settings: TrainingSettings) -> nn.Module:
    if settings.loss == "margin-mse":
        return dense.MarginMSELoss(
            model, lambda queries, documents: pairwise_dot_score(queries, documents) / settings.temperature
        )
    if settings.loss == "distillation":
        return NormalizedScores(dense.DistillKLDivLoss(model, temperature=settings.temperature))
    # One softmax per direction, averaged: jointly, queries would compete with documents.
    directions = ("query_to_doc", "doc_to_query") if settings.symmetric else ("query_to_doc",)
    contrast = GatheredContrast if settings.gather else dense.MultipleNegativesRankingLoss
    return contrast(
        model, scale=1 / settings.temperature, directions=directions, partition_mode="per_direction"
    )


def _late_loss(model: ColbertModel, settings: TrainingSettings) -> nn.Module:
    if settings.loss == "margin-mse":
        return LateMarginMSE(model, settings.temperature)
    if settings.loss == "distillation":
        return NormalizedScores(LateDistillation(model))
    if settings.teachers:
        return TaughtContrast(model, settings)
    scores = GatheredMaxSim() if settings.gather else BatchMaxSim()
    return LateContrast(model, scores, temperature=settings.temperature)


class _Columns(NamedTuple):
    """Token vectors of length 1 of a batch, and True at the tokens that MaxSim counts."""

    queries_BQD: Tensor
    scored_BQ: Tensor
    documents_BCLD: Tensor
    scored_BCL: Tensor


class LateLoss(nn.Module):
    """What the losses of late interaction share: the token vectors of a batch.

    ``model`` may be wrapped later, for several processes: what it says of tokens is asked of it as it came.
    """

    def __init__(self, model: ColbertModel) -> None:
        super().__init__()
        self.model = model
        self._scored = model.scored

    def columns(self, features: Iterable[dict[str, Tensor]]) -> _Columns:
        """The vectors of tokenised columns, whose documents have one padded length."""
        queries, *documents = features
        return _Columns(
            self._vectors(queries),
            self._scored(queries, is_query=True),
            torch.stack([self._vectors(column) for column in documents], dim=1),
            torch.stack([self._scored(column, is_query=False) for column in documents], dim=1),
        )

    def _vectors(self, column: dict[str, Tensor]) -> Tensor:
        return F.normalize(self.model(dict(column))["token_embeddings"], dim=-1)


class LateContrast(LateLoss):
    """Every query of a batch against every document by ``scores``, MaxSim: PyLate's Contrastive."""

    def __init__(self, model: ColbertModel, scores: BatchMaxSim, *, temperature: float = 1.0) -> None:
        super().__init__(model)
        self._scores = scores
        self._temperature = temperature

    def forward(self, features: Features, labels: Tensor | None = None) -> Tensor:
        return self.contrast(self.logits(features), columns=len(features) - 1)

    def logits(self, features: Features) -> Tensor:
        """Scores [B, N] over the temperature; the documents of a row side by side, the positive first."""
        batch = self.columns(features)
        scores_BN = self._scores(
            batch.queries_BQD,
            batch.documents_BCLD,
            queries_mask=batch.scored_BQ,
            documents_mask=batch.scored_BCL,
        )
        return scores_BN / self._temperature

    @staticmethod
    def contrast(logits_BN: Tensor, *, columns: int) -> Tensor:
        """The cross-entropy of each query's own document, the first of its ``columns``."""
        own_B = torch.arange(len(logits_BN), device=logits_BN.device) * columns
        return F.cross_entropy(logits_BN, own_B)


class TaughtContrast(LateContrast):
    """The contrastive loss, and the divergence from teachers' scores of all documents of the batch."""

    def __init__(self, model: ColbertModel, settings: TrainingSettings) -> None:
        super().__init__(model, BatchMaxSim(), temperature=settings.temperature)
        self._teacher_weight = settings.teacher_weight

    def forward(self, features: Features, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        logits_BN = self.logits(features).float()
        # A check of a few rows brings a few documents: their scores come first.
        teacher_BN = labels[:, : logits_BN.shape[1]].float()
        divergence = F.kl_div(logits_BN.log_softmax(dim=1), teacher_BN.softmax(dim=1), reduction="batchmean")
        contrast = self.contrast(logits_BN, columns=len(features) - 1)
        return contrast + self._teacher_weight * divergence


class NormalizedScores(nn.Module):
    """A loss on teacher scores that are min-max normalised per row: 0 the lowest, 1 the highest."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.model = loss.model
        self.loss = loss

    def forward(self, features: Features, scores_BC: Tensor) -> Tensor:
        lowest, highest = scores_BC.aminmax(dim=1, keepdim=True)
        # The bound keeps rows whose scores are all equal at 0.
        normalised_BC = (scores_BC - lowest) / (highest - lowest).clamp(min=1e-8)
        if normalised_BC.isnan().any():
            # The trainer says in which rows; sentence-transformers 6 would refuse the batch as a whole.
            return normalised_BC.sum()
        return self.loss(features, normalised_BC)


class LateDistillation(LateLoss):
    """The divergence over the documents of a row, scores laid out from 0 to 1: PyLate's Distillation."""

    def forward(self, features: Features, scores_BC: Tensor) -> Tensor:
        student_BC = _row_scores(self.columns(features))
        lowest_B1 = student_BC.min(dim=1, keepdim=True).values
        highest_B1 = student_BC.max(dim=1, keepdim=True).values
        student_BC = (student_BC - lowest_B1) / (highest_B1 - lowest_B1 + 1e-8)
        return F.kl_div(
            student_BC.log_softmax(dim=1),
            scores_BC.log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )


class LateMarginMSE(LateLoss):
    """Margin-MSE over MaxSim. Source: https://arxiv.org/abs/2010.02666."""

    def __init__(self, model: ColbertModel, temperature: float = 1.0) -> None:
        super().__init__(model)
        self._temperature = temperature

    def forward(self, features: Features, scores_BC: Tensor) -> Tensor:
        student_BC = _row_scores(self.columns(features)) / self._temperature
        student, teacher = (scores[:, :1] - scores[:, 1:] for scores in (student_BC, scores_BC))
        return F.mse_loss(student, teacher)


def _row_scores(batch: _Columns) -> Tensor:
    """MaxSim of each query with the documents of its row, [B, C].

    A masked token scores 0: a query's adds nothing, a document's takes part in the maximum, as in PyLate.
    """
    queries_BQD = batch.queries_BQD * batch.scored_BQ[..., None]
    documents_BCLD = batch.documents_BCLD * batch.scored_BCL[..., None]
    return torch.einsum("bqd,bcld->bcql", queries_BQD, documents_BCLD).amax(dim=3).sum(dim=2)
