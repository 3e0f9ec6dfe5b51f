"""The losses of retrievers: those of sentence-transformers and PyLate, and ours where they have none.

contrastive     multiple negatives: every other document of a batch, and hard negatives where a row has them
margin-mse      differences of scores between the document and each negative, as a teacher has them
distillation    Kullback-Leibler divergence from a teacher's min-max-normalised scores

Axes: B rows of a batch, C documents of a row, Q query tokens, L document tokens, D width.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from pylate import losses as late
from pylate.losses.contrastive import extract_skiplist_mask
from pylate.models import ColBERT
from sentence_transformers import losses as dense
from sentence_transformers.util import pairwise_dot_score
from torch import Tensor, nn

from flatcoat.errors import FlatcoatError

from .maxsim import BatchMaxSim, GatheredContrast, GatheredMaxSim

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

LossName = Literal["contrastive", "margin-mse", "distillation"]
Features = list[dict[str, Tensor]]
"""Tokenised columns: queries, documents, then each column of negatives."""


@dataclass(frozen=True)
class LossSettings:
    """Scores are divided by ``temperature``.

    ``symmetric`` contrasts a document with the batch's queries as well, ``gather`` takes negatives from all
    processes: both for ``contrastive``. ``matryoshka`` adds the same loss on so many first components of a
    dense vector.
    """

    name: LossName = "contrastive"
    temperature: float = 1.0
    symmetric: bool = False
    gather: bool = False
    matryoshka: tuple[int, ...] = ()

    @property
    def needs_scores(self) -> bool:
        """Whether rows must carry a teacher's scores."""
        return self.name != "contrastive"


def make_loss(model: "SentenceTransformer", settings: LossSettings) -> nn.Module:
    """A loss module for sentence-transformers' trainer, called with tokenised columns and scores [B, C]."""
    if isinstance(model, ColBERT):
        return _late_loss(model, settings)
    loss = _dense_loss(model, settings)
    if settings.matryoshka:
        width = model.get_sentence_embedding_dimension()
        assert width is not None
        return dense.MatryoshkaLoss(model, loss, sorted({width, *settings.matryoshka}))
    return loss


def require_learnable(
    model: "SentenceTransformer", settings: LossSettings, source: str, documents: int, rows: int
) -> None:
    """FlatcoatError where a loss is the same whatever the model does.

    ``documents`` of a row, the positive counted, and ``rows`` that are contrasted with each other.
    """
    late = isinstance(model, ColBERT)
    if settings.name == "contrastive" and rows * documents == 1:
        raise FlatcoatError(
            f"a batch of one row without negatives has nothing to tell a document from ({source}): name a "
            "larger batch_size, a multiple of the processes, or negatives"
        )
    if settings.name == "distillation" and documents == 2:
        if late:
            raise FlatcoatError(
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
        raise FlatcoatError(
            f"matryoshka names {max(settings.matryoshka)} components; the model's vectors are {width} wide"
        )


def _dense_loss(model: "SentenceTransformer", settings: LossSettings) -> nn.Module:
    if settings.name == "margin-mse":
        return dense.MarginMSELoss(
            model, lambda queries, documents: pairwise_dot_score(queries, documents) / settings.temperature
        )
    if settings.name == "distillation":
        return NormalizedScores(dense.DistillKLDivLoss(model, temperature=settings.temperature))
    directions = ("query_to_doc", "doc_to_query") if settings.symmetric else ("query_to_doc",)
    contrast = GatheredContrast if settings.gather else dense.MultipleNegativesRankingLoss
    return contrast(
        model, scale=1 / settings.temperature, directions=directions, partition_mode="per_direction"
    )


def _late_loss(model: ColBERT, settings: LossSettings) -> nn.Module:
    if settings.name == "margin-mse":
        return LateMarginMSE(model, settings.temperature)
    if settings.name == "distillation":
        return NormalizedScores(RowDistillation(late.Distillation(model)))
    scores = GatheredMaxSim() if settings.gather else BatchMaxSim()
    return late.Contrastive(model, scores, temperature=settings.temperature)


class NormalizedScores(nn.Module):
    """A loss given each row's teacher scores laid out from 0 (its lowest) to 1 (its highest)."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.model = loss.model
        self.loss = loss

    def forward(self, features: Features, scores_BC: Tensor) -> Tensor:
        lowest, highest = scores_BC.aminmax(dim=1, keepdim=True)
        return self.loss(features, (scores_BC - lowest) / (highest - lowest).clamp(min=1e-8))


class RowDistillation(nn.Module):
    """PyLate's distillation, which wants the documents of a row next to each other in one column."""

    def __init__(self, loss: late.Distillation):
        super().__init__()
        self.model = loss.model
        self.loss = loss

    def forward(self, features: Features, scores_BC: Tensor) -> Tensor:
        queries, *columns = features
        documents = {
            key: torch.stack([column[key] for column in columns], dim=1).flatten(0, 1) for key in columns[0]
        }
        return self.loss([queries, documents], scores_BC)


class LateMarginMSE(dense.MarginMSELoss):
    """Margin-MSE over MaxSim. Source: https://arxiv.org/abs/2010.02666."""

    def __init__(self, model: ColBERT, temperature: float = 1.0):
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
        # A masked token scores 0, as in PyLate.
        vectors = [
            F.normalize(self.model(column)["token_embeddings"], dim=-1) * mask[:, :, None]
            for column, mask in zip(features, masks, strict=True)
        ]
        return self.compute_loss_from_embeddings(vectors, labels)
