"""What late interaction makes of texts before vectors: token ids, prefix, expansion; and the contract."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from .checkpoint import max_positions, weights_of
from .contract import Contract, Precision
from .encoder import checked_texts
from .identifiers import are_split
from .tokenization import TokenSpan, character_spans, token_counter, token_ids


class LateTokens(NamedTuple):
    """Token ids per text; masks of the tokens that others attend to, None where that is all."""

    ids: list[list[int]]
    masks: list[list[bool]] | None


class ColbertTexts:
    """The part of late-interaction encoders that runs no model.

    >>> from flatcoat.retrieval.encoders.checkpoint import LateCheckpoint
    >>> from flatcoat.retrieval.encoders.load import SHIPPED_MODEL, in_folder
    >>> texts = ColbertTexts(LateCheckpoint(in_folder(SHIPPED_MODEL)), "flatcoat-minilm", "fp32")
    >>> texts.token_counts(["cats purr"])
    [5]
    """

    def __init__(self, model: Any, name: str, precision: Precision) -> None:
        # A LateCheckpoint or a ColbertModel: they have the same attributes, and no common type.
        self.model = model
        self.name = name
        self.precision: Precision = precision
        self._own_length = self.model.document_length

    @property
    def width(self) -> int:
        """Components of one vector."""
        return self.model.width

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
            split_identifiers=are_split(model.tokenizer),
        )

    @cached_property
    def _count(self) -> Callable[[Sequence[str]], list[int]]:
        return token_counter(self.model.tokenizer)

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """Tokens per text as a document or query, special tokens and prefix included, without truncation."""
        prefix = _prefix(self.model, is_query)
        counts = self._count([prefix.text + text for text in checked_texts(texts)])
        return [count + (prefix.token is not None) for count in counts]

    def truncate_documents(self, length: int | None) -> None:
        """Truncate documents at ``length`` tokens, at most the model's; None: the checkpoint's own length."""
        self.model.document_length = min(length or self._own_length, max_positions(self.model))

    def token_spans(self, texts: Sequence[str], *, is_query: bool) -> list[list[TokenSpan]]:
        """The token behind each vector of each text; UsageError for a tokenizer that does not know spans."""
        model, texts = self.model, checked_texts(texts)
        sequences = late_token_ids(model, texts, is_query=is_query).ids
        prefix = _prefix(model, is_query)
        spans_of = character_spans(
            model,
            [prefix.text + text for text in texts],
            max_length=prefix.length - (prefix.token is not None),
            strip=not prefix.is_text,
        )
        tokens_of_texts = []
        for text, ids, spans in zip(texts, sequences, spans_of, strict=True):
            placed = [_within(text, span, len(prefix.text)) for span in spans]
            if prefix.token is not None:
                placed.insert(1, None)
            placed += [None] * (len(ids) - len(placed))
            names = model.tokenizer.convert_ids_to_tokens(ids)
            if prefix.token is not None:  # Newest tokenizers name an added token in lower case.
                names[1] = model.query_prefix if is_query else model.document_prefix
            tokens = [
                TokenSpan(text[slice(*span)] if span else name, span)
                for name, span in zip(names, placed, strict=True)
            ]
            skipped = () if is_query else model.skiplist
            tokens_of_texts.append(
                [token for id, token in zip(ids, tokens, strict=True) if id not in skipped]
            )
        return tokens_of_texts


class _Prefix(NamedTuple):
    """What stands before the text: a token after the first one, or text; and the length of both in tokens."""

    token: int | None
    text: str
    is_text: bool
    length: int


def _prefix(model: Any, is_query: bool) -> _Prefix:
    is_text = getattr(model, "prefixes_are_text", False)
    if is_query:
        token, text, length = model.query_prefix_id, model.query_prefix, model.query_length
    else:
        token, text, length = model.document_prefix_id, model.document_prefix, model.document_length
    return _Prefix(token, text if is_text else "", is_text, length)


def _within(text: str, span: tuple[int, int] | None, before: int) -> tuple[int, int] | None:
    """A span of a text with ``before`` characters in front, as a span of the text; None outside of it."""
    if span is None or span[1] <= before:
        return None
    first = max(span[0] - before, 0)
    first += len(text[first : span[1] - before]) - len(text[first : span[1] - before].lstrip())
    return (first, span[1] - before) if first < span[1] - before else None


def late_token_ids(model: Any, texts: Sequence[str], *, is_query: bool) -> LateTokens:
    """PyLate's token ids, and masks if expansion tokens are not attended to.

    ``model`` has the attributes of a ``LateCheckpoint``. A prefix follows CLS and counts for truncation, as a
    token, or of a MultiVectorEncoder as text; queries are expanded with MASK tokens.
    """
    prefix = _prefix(model, is_query)
    length, inserted = prefix.length, prefix.token is not None
    prefixed = [prefix.text + text for text in texts] if prefix.text else texts
    sequences = token_ids(model, prefixed, max_length=length - inserted, strip=not prefix.is_text)
    if inserted:
        sequences = [[ids[0], prefix.token, *ids[1:]] for ids in sequences]
    if not is_query or not model.do_query_expansion:
        return LateTokens(sequences, None)
    pad = model.tokenizer.pad_token_id
    expanded = [ids + [pad] * (length - len(ids)) for ids in sequences]
    if model.attend_to_expansion_tokens:
        return LateTokens(expanded, None)
    attended = [[position < len(ids) for position in range(length)] for ids in sequences]
    return LateTokens(expanded, attended)
