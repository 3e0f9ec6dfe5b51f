"""What late interaction makes of texts before vectors: token ids, prefix, expansion; and the contract."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from .checkpoint import LateCheckpoint, max_positions, weights_of
from .contract import Contract, Precision
from .encoder import checked_texts
from .tokenization import TokenSpan, character_spans, token_counter, token_ids

if TYPE_CHECKING:
    from pylate.models import ColBERT


class LateTokens(NamedTuple):
    """Token ids per text; masks of the tokens that others attend to, None where that is all."""

    ids: list[list[int]]
    masks: list[list[bool]] | None


class ColbertTexts:
    """The part of late-interaction encoders that runs no model.

    >>> from flatcoat.retrieval.encoders.load import SHIPPED_MODEL, in_folder
    >>> texts = ColbertTexts(LateCheckpoint(in_folder(SHIPPED_MODEL)), "flatcoat-minilm", "fp32")
    >>> texts.token_counts(["cats purr"])
    [5]
    """

    def __init__(self, model: "ColBERT | LateCheckpoint", name: str, precision: Precision) -> None:
        # Any: PyLate declares its settings optional, and a loaded model has them all.
        self.model: Any = model
        self.name = name
        self.precision: Precision = precision
        self._own_length = self.model.document_length

    @property
    def width(self) -> int:
        """Components of one vector."""
        return self.model.width if isinstance(self.model, LateCheckpoint) else self.model[-1].out_features

    @cached_property
    def _weights(self) -> str:
        return weights_of(self.model)

    @property
    def contract(self) -> Contract:
        """The settings and weights that determine the vectors of a text."""
        model = self.model
        return Contract(
            kind="colbert",
            model=self.name,
            weights=self._weights,
            width=self.width,
            query_prefix=model.query_prefix,
            document_prefix=model.document_prefix,
            query_length=model.query_length,
            document_length=model.document_length,
            query_expansion=model.do_query_expansion,
            attend_to_expansion=model.attend_to_expansion_tokens,
            skiplist=tuple(model.skiplist_words),
            precision=self.precision,
        )

    @cached_property
    def _count(self) -> Callable[[Sequence[str]], list[int]]:
        return token_counter(self.model.tokenizer)

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """Tokens per text as a document or query, special tokens and prefix included, without truncation."""
        prefix, _ = self._prefix_and_length(is_query)
        return [count + (prefix is not None) for count in self._count(checked_texts(texts))]

    def truncate_documents(self, length: int | None) -> None:
        """Truncate documents at ``length`` tokens, at most the model's; None: the checkpoint's own length."""
        self.model.document_length = min(length or self._own_length, max_positions(self.model))

    def token_spans(self, texts: Sequence[str], *, is_query: bool) -> list[list[TokenSpan]]:
        """The token behind each vector of each text; UsageError for a tokenizer that does not know spans."""
        model, texts = self.model, checked_texts(texts)
        sequences = self._token_ids(texts, is_query).ids
        prefix, length = self._prefix_and_length(is_query)
        spans_of = character_spans(model, texts, max_length=length - (prefix is not None))
        tokens_of_texts = []
        for text, ids, spans in zip(texts, sequences, spans_of, strict=True):
            placed = spans if prefix is None else [spans[0], None, *spans[1:]]
            placed += [None] * (len(ids) - len(placed))
            names = model.tokenizer.convert_ids_to_tokens(ids)
            tokens = [
                TokenSpan(text[slice(*span)] if span else name, span)
                for name, span in zip(names, placed, strict=True)
            ]
            skipped = () if is_query else model.skiplist
            tokens_of_texts.append(
                [token for id, token in zip(ids, tokens, strict=True) if id not in skipped]
            )
        return tokens_of_texts

    def _token_ids(self, texts: Sequence[str], is_query: bool) -> LateTokens:
        """PyLate's token ids, and masks if expansion tokens are not attended to.

        The prefix follows CLS and counts for truncation; queries are expanded with MASK tokens.
        """
        model = self.model
        prefix, length = self._prefix_and_length(is_query)
        sequences = token_ids(model, texts, max_length=length - (prefix is not None))
        if prefix is not None:
            sequences = [[ids[0], prefix, *ids[1:]] for ids in sequences]
        if not is_query or not model.do_query_expansion:
            return LateTokens(sequences, None)
        pad = model.tokenizer.pad_token_id
        expanded = [ids + [pad] * (length - len(ids)) for ids in sequences]
        if model.attend_to_expansion_tokens:
            return LateTokens(expanded, None)
        attended = [[position < len(ids) for position in range(length)] for ids in sequences]
        return LateTokens(expanded, attended)

    def _prefix_and_length(self, is_query: bool) -> tuple[int | None, int]:
        model = self.model
        if is_query:
            return model.query_prefix_id, model.query_length
        return model.document_prefix_id, model.document_length
