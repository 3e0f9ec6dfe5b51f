"""What an encoder does not read: documents and queries beyond its lengths."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flatcoat.retrieval.encoders.encoder import Encoder


class Truncation(NamedTuple):
    """How many documents and queries were cut, and at how many tokens (0: they are read whole).

    ``passages`` is the number of passages that documents were cut into, or 0 where they are encoded whole.

    >>> Truncation(documents=3, document_length=300).describe(documents=10, queries=5)
    '3 of 10 documents cut at 300 tokens'
    """

    documents: int = 0
    document_length: int = 0
    queries: int = 0
    query_length: int = 0
    passages: int = 0

    def describe(self, documents: int, queries: int) -> str:
        """The cuts in words, given the numbers of all documents and queries; empty where there were none."""
        parts = []
        if self.passages > documents:
            length = f"of at most {self.document_length:,} tokens"
            parts.append(f"{documents:,} documents in {self.passages:,} passages {length}")
        if self.documents:
            parts.append(
                f"{self.documents:,} of {documents:,} documents cut at {self.document_length:,} tokens"
            )
        if self.queries:
            parts.append(f"{self.queries:,} of {queries:,} queries cut at {self.query_length:,} tokens")
        return ", ".join(parts)


def count_cut(encoder: "Encoder", texts: Sequence[str], *, is_query: bool = False) -> int:
    """How many of these texts are longer than the encoder reads."""
    contract = encoder.contract
    length = contract.query_length if is_query else contract.document_length
    # A token has one byte at least: most texts need no counting.
    (least,) = encoder.token_counts([""], is_query=is_query)
    long = [text for text in texts if least + len(text.encode(errors="replace")) > length]
    return sum(count > length for count in encoder.token_counts(long, is_query=is_query)) if long else 0
