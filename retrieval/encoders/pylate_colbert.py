"""PyLate's ColBERT with query expansion on an unpadded backbone, for training.

In a file by itself: it imports PyLate, which encoders read by ``checkpoint`` do without.
"""

from typing import Any

import torch
from pylate.models import ColBERT
from torch import Tensor

from .backbone import packed_backbone


class UnpaddedColBERT(ColBERT):
    """PyLate's ColBERT whose query features keep expansion tokens from being unpadded.

    PyLate masks expansion tokens as keys, and reads their vectors all the same; an unpadded backbone computes
    masked tokens only if ``keep_mask`` says so.
    """

    def tokenize(self, texts: Any, is_query: bool = True, *args: Any, **options: Any) -> dict[str, Tensor]:
        features = super().tokenize(texts, is_query, *args, **options)
        if is_query and self.do_query_expansion and packed_backbone(self) is not None:
            features["keep_mask"] = torch.ones_like(features["attention_mask"])
        return features
