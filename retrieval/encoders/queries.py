"""Vectors of queries by NumPy: a search needs no torch, whose import takes longer than the search.

In float32 on the CPU, one query after the other, equal to the torch encoders' in float32 up to rounding.
Axes: N texts, T tokens, D width.
"""

from collections.abc import Callable, Sequence

import numpy as np

from flatcoat.backbone.numpy_model import linear
from flatcoat.indexing.exact import unit_length
from flatcoat.indexing.vectors import TokenVectors

from .checkpoint import DenseCheckpoint, LateCheckpoint
from .checkpoint_modules import Module, Normalize, Projection
from .colbert_texts import ColbertTexts, late_token_ids
from .dense_texts import CLS_AFTER_PROMPT, NO_MAXIMUM, QUERY_PROMPTS, DenseTexts
from .encoder import checked_texts
from .tokenization import token_ids

_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"Identity": lambda x: x, "Tanh": np.tanh}


class ColbertQueries(ColbertTexts):
    """Queries to token vectors, as ``ColbertEncoder`` has them.

    >>> from flatcoat.retrieval.encoders.load import SHIPPED_MODEL, in_folder
    >>> queries = ColbertQueries(LateCheckpoint(in_folder(SHIPPED_MODEL)), "flatcoat-minilm")
    >>> queries.encode_queries(["cats purr"]).values_TD.shape
    (5, 128)
    """

    def __init__(self, checkpoint: LateCheckpoint, name: str) -> None:
        super().__init__(checkpoint, name, "fp32")

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """Vectors of all query tokens, and of expansion tokens if the checkpoint uses them."""
        ids, masks = late_token_ids(self.model, checked_texts(texts), is_query=True)
        model: LateCheckpoint = self.model
        hidden = map(model.backbone, ids, masks or [None] * len(ids))
        matrices = [unit_length(_applied(model.after, hidden_TD)) for hidden_TD in hidden]
        return TokenVectors.from_list(matrices, self.width)


class DenseQueries(DenseTexts):
    """Queries to one vector each, as ``DenseEncoder`` has them."""

    def __init__(self, checkpoint: DenseCheckpoint, name: str) -> None:
        super().__init__(checkpoint, name, "fp32")

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors [N, D] (float32, length 1), with the checkpoint's query prompt."""
        model: DenseCheckpoint = self.model
        prompt = self._prompt(QUERY_PROMPTS)
        skipped = self._prompt_tokens(prompt)
        prompted = [prompt + text for text in checked_texts(texts)]
        vectors_ND = np.empty((len(prompted), self.width), np.float32)
        for row, ids in enumerate(token_ids(model, prompted, max_length=model.max_seq_length)):
            pooled_D = pooled(model.backbone(ids), self._modes.split("+"), prompt_tokens=skipped)
            vectors_ND[row] = _applied(model.after[1:], pooled_D[None])[0]
        return unit_length(vectors_ND)


def pooled(hidden_TD: np.ndarray, modes: Sequence[str], *, prompt_tokens: int = 0) -> np.ndarray:
    """One vector of one text, the twin of ``dense.pooled``: [D x modes].

    >>> pooled(np.array([[1.0], [3.0]], np.float32), ("cls", "mean")).tolist()
    [1.0, 2.0]
    """
    kept_TD = hidden_TD[prompt_tokens:]
    count = max(len(kept_TD), 1)
    weights_T1 = np.arange(prompt_tokens + 1, len(hidden_TD) + 1, dtype=np.float32)[:, None]
    poolings: dict[str, Callable[[], np.ndarray]] = {
        "cls": lambda: hidden_TD[0],
        CLS_AFTER_PROMPT: lambda: hidden_TD[prompt_tokens if len(kept_TD) else 0],
        "max": lambda: kept_TD.max(axis=0, initial=NO_MAXIMUM),
        "mean": lambda: kept_TD.sum(axis=0) / count,
        "mean_sqrt_len_tokens": lambda: kept_TD.sum(axis=0) / count**0.5,
        "weightedmean": lambda: (kept_TD * weights_T1).sum(axis=0) / max(float(weights_T1.sum()), 1.0),
        "lasttoken": lambda: hidden_TD[-1],
    }
    return np.concatenate([pool() for mode, pool in poolings.items() if mode in modes])


def _applied(modules: Sequence[Module], vectors_ND: np.ndarray) -> np.ndarray:
    for module in modules:
        if isinstance(module, Projection):
            weights = module.weights
            vectors_ND = linear(vectors_ND, weights["linear.weight"], weights.get("linear.bias"))
            vectors_ND = _ACTIVATIONS[module.activation](vectors_ND)
        elif isinstance(module, Normalize):
            vectors_ND = unit_length(vectors_ND)
    return vectors_ND
