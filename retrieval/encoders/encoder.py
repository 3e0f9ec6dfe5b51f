"""The Encoder protocol, the part of it that a search needs, and the texts that encoders take."""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.vectors import Vectors

from .contract import Contract

_SURROGATE = re.compile("[\ud800-\udfff]")


class QueryEncoder(Protocol):
    """Queries to vectors, and the lengths of texts: what a search needs, and the cutting of documents."""

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

    def token_counts(self, texts: Sequence[str], *, is_query: bool = False) -> list[int]:
        """Tokens per text as a document or query, special tokens included, without truncation."""
        ...

    def truncate_documents(self, length: int | None) -> None:
        """Truncate documents at ``length`` tokens, at most the model's; None: the checkpoint's own length."""
        ...


class Encoder(QueryEncoder, Protocol):
    """Texts to vectors: the interface of dense and late-interaction encoders.

    >>> encoder: Encoder = load_encoder("org/model")  # doctest: +SKIP
    >>> encoder.encode_queries(["why is the sky blue?"])  # doctest: +SKIP
    """

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of documents, in order."""
        ...


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
