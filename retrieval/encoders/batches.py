"""How dense and late-interaction encoders run texts in batches, packed or by another library.

Axes: T tokens, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from flatcoat.backbone.packing import PackedBatch, budget_batches

from .tokenization import taking_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_BUDGET = 16_384
"""Tokens per forward: enough for the cores of a CPU to share evenly."""

BATCH = 32
"""Texts per forward of a model that transformers runs, the default of sentence-transformers."""


class HiddenBatch(NamedTuple):
    """Token vectors of the texts at ``indices`` in the input, end to end as in ``batch``."""

    indices: list[int]
    batch: PackedBatch
    hidden_TD: Tensor


def hidden_batches(
    encode: Callable[[PackedBatch], Tensor],
    sequences: Sequence[Sequence[int]],
    *,
    key_masks: Sequence[Sequence[bool]] | None = None,
    max_tokens: int = TOKEN_BUDGET,
    device: torch.device | str = "cpu",
) -> Iterator[HiddenBatch]:
    """Run sequences of token ids through a packed backbone, in batches of similar lengths, without gradients.

    ``key_masks`` is False for tokens that no other token attends to.
    """
    for indices in budget_batches([len(sequence) for sequence in sequences], max_tokens):
        batch = PackedBatch.from_sequences([sequences[index] for index in indices], device)
        if key_masks is not None:
            flat = [attended for index in indices for attended in key_masks[index]]
            batch = PackedBatch(
                batch.input_ids_T, batch.cu_seqlens, batch.lengths, torch.tensor(flat, device=device)
            )
        with torch.inference_mode():
            yield HiddenBatch(indices, batch, encode(batch))


def in_batches(
    encode: Callable[[list[str]], Sequence[Any]],
    texts: Sequence[str],
    *,
    tokenizer: "PreTrainedTokenizerBase",
) -> Iterator[tuple[int, Any]]:
    """Positions and vectors of texts that ``encode`` of another library encodes, batch by batch."""
    longest_first = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    for start in range(0, len(texts), BATCH):
        batch = longest_first[start : start + BATCH]
        with taking_turns(tokenizer):
            vectors = encode([texts[index] for index in batch])
        yield from zip(batch, vectors, strict=True)
