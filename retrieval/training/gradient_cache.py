"""Gradient caching (GradCache): batches larger than memory, with the gradients of the whole batch.

A contrastive loss needs the vectors of the whole batch at once, but memory goes to activations, not vectors.
So each mini batch is embedded without keeping activations, the loss is computed on all vectors, and the
backward recomputes one mini batch at a time. Gradients are equal to those of one large batch; the price is a
second forward. Source: Gao et al. 2021, https://arxiv.org/abs/2101.06983.

The paper calls the backward per mini batch by hand; here torch's activation checkpointing does, which also
restores the random state (dropout) of the first forward, and so serves any model and any loss.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from flatcoat.retrieval.encoders.backbone import packed_backbone

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_Features = dict[str, Tensor]
"""Tokenised texts of one column, or the model's outputs for them; the first axis counts texts."""


@contextmanager
def gradient_cached(
    model: "SentenceTransformer", *, max_texts: int | None = None, max_tokens: int | None = None
) -> Iterator[None]:
    """Within the context, training forwards of ``model`` run in mini batches of limited texts or tokens.

    A text longer than ``max_tokens`` is a mini batch by itself. Padding counts as tokens if the backbone
    computes padding. Without limits, and without gradients, forwards run whole.
    """
    if max_texts is None and max_tokens is None:
        yield
        return
    whole = model.forward

    def forward(features: _Features) -> _Features:
        if not torch.is_grad_enabled():
            return whole(features)
        slices = _slices(_token_counts(model, features), max_texts, max_tokens)
        parts: list[Any] = [
            checkpoint(_embed, whole, _rows(features, part), use_reentrant=False) for part in slices
        ]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    # On the instance, beneath any wrapper: DistributedDataParallel must see one forward per batch, since
    # each of its forwards prepares the synchronisation of gradients.
    model.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.forward


def _rows(features: _Features, part: slice) -> _Features:
    return {key: values[part] for key, values in features.items()}


def _embed(whole: Callable[[_Features], _Features], features: _Features) -> _Features:
    """The output that losses read. Only it may leave a checkpoint: other outputs would keep memory alive."""
    outputs = whole(features)
    key = "sentence_embedding" if "sentence_embedding" in outputs else "token_embeddings"
    return {key: outputs[key]}


def _token_counts(model: "SentenceTransformer", features: _Features) -> list[int]:
    """Tokens per text that the backbone computes."""
    ids_NL = features["input_ids"]
    if packed_backbone(model) is None:
        return [ids_NL.shape[1]] * len(ids_NL)
    # Query expansion tokens are masked as keys and computed all the same: keep_mask counts them.
    return features.get("keep_mask", features["attention_mask"]).sum(dim=1).tolist()


def _slices(counts: list[int], max_texts: int | None, max_tokens: int | None) -> Iterator[slice]:
    """Consecutive texts, each slice as long as the limits allow, at least one text."""
    start = tokens = 0
    for index, count in enumerate(counts):
        full = index - start == max_texts or (max_tokens is not None and tokens + count > max_tokens)
        if full and index > start:
            yield slice(start, index)
            start, tokens = index, 0
        tokens += count
    if counts:
        yield slice(start, len(counts))
