"""Replaced-token detection (ELECTRA, arXiv 2003.10555): a generator fills masks, a discriminator finds where.

Axes: T tokens of all sequences together, M tokens that are predicted, V vocabulary, D width.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flatcoat.backbone.config import ModernBertConfig
from flatcoat.backbone.heads import MaskedLanguageModel, prediction_head
from flatcoat.backbone.layers import truncated_normal
from flatcoat.backbone.model import ModernBert
from flatcoat.backbone.packing import PackedBatch

from .batches import MaskedBatch, Totals
from .objectives import Outcome, masked_outcome


class ReplacedTokenDetection(nn.Module):
    """The generator's masked-language-model loss, and ``weight`` times the discriminator's over all tokens.

    Tokens are sampled from the generator without gradients. A sample that equals the original counts as
    original. Figures are the generator's and, for the discriminator, accuracy and the share that is replaced.
    """

    def __init__(self, discriminator: ModernBert, *, generator_share: float, weight: float):
        super().__init__()
        config = discriminator.config
        self.generator = MaskedLanguageModel(generator_config(config, generator_share))
        self.discriminator = discriminator
        self.head = prediction_head(config, "token")
        self.classifier = nn.Linear(config.hidden_size, 1)
        truncated_normal(self.classifier.weight, config.hidden_size**-0.5)
        nn.init.zeros_(self.classifier.bias)
        self._weight = weight

    @property
    def encoder(self) -> ModernBert:
        return self.discriminator

    @property
    def product(self) -> ModernBert:
        return self.discriminator

    def forward(self, batch: MaskedBatch, totals: Totals) -> Outcome:
        logits_MV = self.generator(batch.batch, batch.positions_M)
        masked = masked_outcome(logits_MV, batch.labels_M, totals)
        ids_T = batch.original_ids_T.index_copy(0, batch.positions_M, _sampled(logits_MV))
        is_replaced_T = ids_T != batch.original_ids_T
        packed = PackedBatch(ids_T, batch.batch.cu_seqlens, batch.batch.lengths)
        scores_T = self.classifier(self.head(self.discriminator(packed))).squeeze(-1).float()
        found = F.binary_cross_entropy_with_logits(scores_T, is_replaced_T.float(), reduction="sum")
        found = found / totals.tokens
        correct = ((scores_T > 0) == is_replaced_T).sum() / totals.tokens
        figures = {
            "detection_loss": found.detach(),
            "detection_accuracy": correct,
            "replaced": is_replaced_T.sum() / totals.tokens,
        }
        return Outcome(masked.loss + self._weight * found, masked.figures | figures)


def generator_config(config: ModernBertConfig, share: float) -> ModernBertConfig:
    """The shape of a generator: as deep, and ``share`` times as wide, in whole heads of the same width.

    >>> generator_config(ModernBertConfig(), 1 / 4).hidden_size
    192
    """
    heads = max(1, round(config.num_attention_heads * share))
    return replace(
        config,
        hidden_size=heads * config.head_width,
        num_attention_heads=heads,
        intermediate_size=max(1, round(config.intermediate_size * share)),
    )


@torch.no_grad()
def _sampled(logits_MV: Tensor) -> Tensor:
    if not len(logits_MV):
        return torch.empty(0, dtype=torch.long, device=logits_MV.device)
    return torch.multinomial(logits_MV.float().softmax(dim=-1), 1).squeeze(1)
