"""PyLate's ColBERT as flatcoat trains it."""

from typing import Any

import torch
from pylate.models import ColBERT
from torch import Tensor

from .encoder import packed_backbone


class UnpaddedColBERT(ColBERT):
    """PyLate's ColBERT whose features name the masked tokens that are query expansion, still computed."""

    def tokenize(self, texts: Any, is_query: bool = True, *args: Any, **options: Any) -> dict[str, Tensor]:
        features = super().tokenize(texts, is_query, *args, **options)
        if is_query and self.do_query_expansion and packed_backbone(self) is not None:
            features["keep_mask"] = torch.ones_like(features["attention_mask"])
        return features
