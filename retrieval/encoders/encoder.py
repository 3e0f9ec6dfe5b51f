"""The Encoder protocol, and how dense and late-interaction encoders run texts in batches without padding.

Axes: T tokens, D width.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from flatcoat.backbone.packing import PackedBatch, budget_batches
from flatcoat.errors import UsageError
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.vectors import Vectors

from .contract import Contract
from .tokenization import taking_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKEN_BUDGET = 16_384
"""Tokens per forward: enough for the cores of a CPU to share evenly."""

_BATCH = 32
"""Texts per forward of a model that transformers runs, the default of sentence-transformers and PyLate."""

_SURROGATE = re.compile("[\ud800-\udfff]")


class Encoder(Protocol):
    """Texts to vectors: the interface of dense and late-interaction encoders.

    >>> encoder: Encoder = load_encoder("org/model")  # doctest: +SKIP
    >>> encoder.encode_queries(["why is the sky blue?"])  # doctest: +SKIP
    """

    @property
    def name(self) -> str:
        """The folder or hub name of its checkpoint."""
        ...

    @property
    def contract(self) -> Contract:
        """The settings and weights that determine the vectors of a text."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, in order."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of documents, in order."""
        ...

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """Tokens per text as a document or query, special tokens included, without truncation."""
        ...

    def truncate_documents(self, length: int | None) -> None:
        """Truncate documents at ``length`` tokens, at most the model's; None: the checkpoint's own length."""
        ...


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
    for start in range(0, len(texts), _BATCH):
        batch = longest_first[start : start + _BATCH]
        with taking_turns(tokenizer):
            vectors = encode([texts[index] for index in batch])
        yield from zip(batch, vectors, strict=True)


def checked_texts(texts: Iterable[str]) -> list[str]:
    """The texts as tokenizers accept them: lone surrogates replaced.

    Raises UsageError for a single string, for a set or a mapping, and for items that are no strings.

    >>> checked_texts(("cats", "purr"))
    ['cats', 'purr']
    """
    if isinstance(texts, str):
        raise UsageError("one text came where a list of texts is wanted: wrap it as [text]")
    if not isinstance(texts, Iterable) or isinstance(texts, bytes | Mapping | Set):
        raise UsageError(f"the texts are {type(texts).__name__} {texts!r:.60}: a list of strings is wanted")
    checked = []
    for text in texts:
        if not isinstance(text, str):
            raise UsageError(f"a text is {type(text).__name__} {text!r:.60}: strings are wanted")
        checked.append(normalized(text) if _SURROGATE.search(text) else text)
    return checked
