"""Large batches in little memory: a batch is embedded in mini batches that keep nothing for the backward.

A loss over a batch sees all its vectors at once, yet activations exist for one mini batch at a time: the
backward computes them again (gradient caching, https://arxiv.org/abs/2101.06983).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from flatcoat.retrieval.encoders.encoder import packed_backbone

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@contextmanager
def mini_batches(
    model: "SentenceTransformer", max_texts: int | None = None, max_tokens: int | None = None
) -> Iterator[None]:
    """While it lasts, training forwards of ``model`` run in mini batches of at most so many texts or tokens.

    A longer text is a mini batch of its own. Padding counts where the backbone computes it.
    """
    if max_texts is None and max_tokens is None:
        yield
        return
    whole = model.forward

    def forward(features: dict[str, Tensor]) -> dict[str, Tensor]:
        if not torch.is_grad_enabled():
            return whole(features)
        bounds = _bounds(_token_counts(model, features), max_texts, max_tokens)
        parts: list[Any] = [
            checkpoint(_embed, whole, _rows(features, start, end), use_reentrant=False)
            for start, end in bounds
        ]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    # Inside the model's own forward, so that a wrapper for several processes sees one forward a batch.
    model.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.forward


def _embed(
    whole: Callable[[dict[str, Tensor]], dict[str, Tensor]], features: dict[str, Tensor]
) -> dict[str, Tensor]:
    found = whole(features)
    key = "sentence_embedding" if "sentence_embedding" in found else "token_embeddings"
    return {key: found[key]}


def _rows(features: dict[str, Tensor], start: int, end: int) -> dict[str, Tensor]:
    return {key: values[start:end] for key, values in features.items()}


def _token_counts(model: "SentenceTransformer", features: dict[str, Tensor]) -> list[int]:
    ids = features["input_ids"]
    if packed_backbone(model) is None:
        return [ids.shape[1]] * len(ids)
    return features.get("keep_mask", features["attention_mask"]).sum(dim=1).tolist()


def _bounds(counts: list[int], max_texts: int | None, max_tokens: int | None) -> Iterator[tuple[int, int]]:
    """Slices of consecutive texts, each as long as the limits allow."""
    start = tokens = 0
    for index, count in enumerate(counts):
        full = index - start == max_texts or (max_tokens is not None and tokens + count > max_tokens)
        if full and index > start:
            yield start, index
            start, tokens = index, 0
        tokens += count
    if counts:
        yield start, len(counts)
