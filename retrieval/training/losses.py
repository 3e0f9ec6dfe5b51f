"""The losses of retrievers: those of sentence-transformers and PyLate, and ours where they have none.

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
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pylate import losses as late
from pylate.losses.contrastive import extract_skiplist_mask
from pylate.models import ColBERT
from sentence_transformers import losses as dense
from sentence_transformers.util import pairwise_dot_score
from torch import Tensor, nn

from flatcoat.errors import UsageError

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
    if isinstance(model, ColBERT):
        return _late_loss(model, settings)
    loss = _dense_loss(model, settings)
    if settings.matryoshka:
        width = model.get_sentence_embedding_dimension()
        assert width is not None
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
    late = isinstance(model, ColBERT)
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
    width = 0 if late else model.get_sentence_embedding_dimension() or 0
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


def _late_loss(model: ColBERT, settings: TrainingSettings) -> nn.Module:
    if settings.loss == "margin-mse":
        return LateMarginMSE(model, settings.temperature)
    if settings.loss == "distillation":
        return NormalizedScores(RowDistillation(late.Distillation(model)))
    if settings.teachers:
        return TaughtContrast(model, settings)
    scores = GatheredMaxSim() if settings.gather else BatchMaxSim()
    return late.Contrastive(model, scores, temperature=settings.temperature)


class TaughtContrast(late.Contrastive):
    """PyLate's contrastive loss, and the divergence from teachers' scores of all documents of the batch."""

    def __init__(self, model: ColBERT, settings: TrainingSettings):
        super().__init__(model, self._score, temperature=settings.temperature)
        self._maxsim = BatchMaxSim()
        self._teacher_weight = settings.teacher_weight

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        contrast = super().forward(list(sentence_features))
        student_BN = self._scores_BN.float() / self.temperature
        # A check of a few rows brings a few documents: their scores come first.
        teacher_BN = labels[:, : student_BN.shape[1]].float()
        divergence = F.kl_div(student_BN.log_softmax(dim=1), teacher_BN.softmax(dim=1), reduction="batchmean")
        return contrast + self._teacher_weight * divergence

    def _score(self, *vectors: Tensor, **masks: Tensor | None) -> Tensor:
        """MaxSim, kept for the divergence: the loss above does not hand it out."""
        self._scores_BN = self._maxsim(*vectors, **masks)
        return self._scores_BN


class NormalizedScores(nn.Module):
    """A loss on teacher scores that are min-max normalised per row: 0 the lowest, 1 the highest."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.model = loss.model
        self.loss = loss

    def forward(self, features: Features, scores_BC: Tensor) -> Tensor:
        lowest, highest = scores_BC.aminmax(dim=1, keepdim=True)
        # The bound keeps rows whose scores are all equal at 0.
        return self.loss(features, (scores_BC - lowest) / (highest - lowest).clamp(min=1e-8))


class RowDistillation(nn.Module):
    """PyLate's distillation over columns: it expects one column with the documents of a row side by side."""

    def __init__(self, loss: late.Distillation):
        super().__init__()
        self.model = loss.model
        self.loss = loss

    def forward(self, features: Features, scores_BC: Tensor) -> Tensor:
        queries, *columns = features
        # C columns of [B, L] become one of [B * C, L], row by row.
        documents = {
            key: torch.stack([column[key] for column in columns], dim=1).flatten(0, 1) for key in columns[0]
        }
        return self.loss([queries, documents], scores_BC)


class LateMarginMSE(dense.MarginMSELoss):
    """Margin-MSE over MaxSim. Source: https://arxiv.org/abs/2010.02666."""

    def __init__(self, model: ColBERT, temperature: float = 1.0):
        # Masked tokens are zero vectors here, so that each scores 0: a query's adds nothing, a document's
        # takes part in the maximum, as in PyLate.
        def maxsim(queries_BQD: Tensor, documents_BLD: Tensor) -> Tensor:
            return (queries_BQD @ documents_BLD.mT).amax(dim=2).sum(dim=1) / temperature

        super().__init__(model, maxsim)  # type: ignore[arg-type]
        self._skiplist = model.skiplist
        self._expands = model.do_query_expansion

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        features = list(sentence_features)
        masks = extract_skiplist_mask(features, self._skiplist)
        if self._expands:
            masks[0] = torch.ones_like(masks[0])
        vectors = [
            F.normalize(self.model(column)["token_embeddings"], dim=-1) * mask[:, :, None]
            for column, mask in zip(features, masks, strict=True)
        ]
        return self.compute_loss_from_embeddings(vectors, labels)
