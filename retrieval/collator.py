"""Rows of texts to tokenised columns, as sentence-transformers' trainer passes them to a loss."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from pylate.models import ColBERT
from torch import Tensor

from .examples import PLACE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SCORES = "scores"


class Collator:
    """Tokenises the queries of a batch and all its documents, each padded to the longest there is.

    Rows hold query, document, negatives, a teacher's scores where the loss wants them, and their places,
    which are passed on as they are.
    """

    # No texts, of which a batch holds none twice.
    valid_label_columns: Sequence[str] = (SCORES, PLACE)

    def __init__(self, model: "SentenceTransformer"):
        self._model = model

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        query, *documents = (name for name in rows[0] if name not in self.valid_label_columns)
        batch: dict[str, Any] = _prefixed(query, self._tokenized([row[query] for row in rows], is_query=True))
        together = self._tokenized([row[name] for name in documents for row in rows], is_query=False)
        for index, name in enumerate(documents):
            part = slice(index * len(rows), (index + 1) * len(rows))
            batch |= _prefixed(name, {key: values[part] for key, values in together.items()})
        if SCORES in rows[0]:
            batch["label"] = torch.tensor([row[SCORES] for row in rows])
        if PLACE in rows[0]:
            batch[PLACE] = [row[PLACE] for row in rows]
        return batch

    def _tokenized(self, texts: list[str], is_query: bool) -> dict[str, Tensor]:
        model = self._model
        if isinstance(model, ColBERT):
            return model.tokenize(texts, is_query=is_query)
        prompt = model.prompts.get("query" if is_query else "document", "")
        return model.tokenize([prompt + text for text in texts])


def _prefixed(column: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{column}_{key}": values for key, values in features.items()}
