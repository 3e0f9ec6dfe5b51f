"""Explain results: which words of a passage matched which tokens of the query.

Axes: Q query tokens, T tokens of a passage, D width.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flatcoat.indexing.bm25 import Weights
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.postings import MOST_COUNTED
from flatcoat.indexing.terms import Span, find_terms, index_terms, query_spans, query_terms

from .results import Match
from .snippets import Evidence

if TYPE_CHECKING:
    from flatcoat.indexing.vectors import TokenVectors, Vectors
    from flatcoat.retrieval.encoders.tokenization import TokenSpan

    from .shard import Shard


@runtime_checkable
class LateInteraction(Protocol):
    """What encodes queries with one vector per token."""

    def encode_queries(self, texts: Sequence[str]) -> "TokenVectors":
        """Token vectors of queries."""
        ...

    def token_spans(self, texts: Sequence[str], *, is_query: bool) -> "list[list[TokenSpan]]":
        """The token behind each vector of each text."""
        ...


class Interaction(NamedTuple):
    """Late interaction of a query with a passage: inner products of their tokens.

    ``places`` are the spans of the T passage tokens in its text, None outside it.
    """

    query_tokens: "Sequence[TokenSpan]"
    places: Sequence[Span | None]
    scores_QT: np.ndarray

    def matches(self) -> list[Match]:
        """The best match of every query token; their scores add up to MaxSim."""
        best_Q = self.scores_QT.argmax(axis=1).tolist()
        return [
            Match(token.text, token.span, self.places[best], float(scores_T[best]))
            for token, best, scores_T in zip(self.query_tokens, best_Q, self.scores_QT, strict=True)
        ]

    def evidence(self) -> Evidence:
        """The scores of the words of the query: special tokens match anything."""
        words = [number for number, token in enumerate(self.query_tokens) if token.span]
        return Evidence(self.places, self.scores_QT[words])


def interactions(
    encoder: LateInteraction,
    query: str,
    *,
    passages: Sequence[Passage],
    encode: "Callable[[Sequence[str]], Vectors]",
    query_QD: np.ndarray | None = None,
    stored: Sequence[np.ndarray | None] | None = None,
) -> list[Interaction]:
    """The interaction of a query with each passage.

    ``query_QD`` are the token vectors of the query where they are known, ``stored`` those of the passages
    ([T, D]) as an index holds them. A passage without, or with another number of vectors than it has tokens,
    is encoded by ``encode``.
    """
    if query_QD is None:
        (query_QD,) = encoder.encode_queries([query])
    (query_tokens,) = encoder.token_spans([query], is_query=True)
    texts = [passage.searchable for passage in passages]
    tokens_of_texts = encoder.token_spans(texts, is_query=False)
    vectors = [
        document_TD if document_TD is not None and len(document_TD) == len(tokens) else None
        for document_TD, tokens in zip(stored or [None] * len(texts), tokens_of_texts, strict=True)
    ]
    lacking = [number for number, document_TD in enumerate(vectors) if document_TD is None]
    if lacking:
        encoded = encode([texts[number] for number in lacking])
        for number, document_TD in zip(lacking, encoded, strict=True):
            vectors[number] = document_TD
    befores = [len(text) - len(passage.text) for text, passage in zip(texts, passages, strict=True)]
    return [
        Interaction(
            query_tokens, [_shifted(token.span, before) for token in tokens], query_QD @ document_TD.T
        )
        for document_TD, tokens, before in zip(vectors, tokens_of_texts, befores, strict=True)
        if document_TD is not None
    ]


def _shifted(span: Span | None, before: int) -> Span | None:
    """A span of title, section and text as a span of the text, which comes last; None outside the text."""
    if span is None or span[1] <= before:
        return None
    return max(span[0] - before, 0), span[1] - before


def explain_bm25(shard: "Shard", query: str, passages: Sequence[Passage]) -> list[list[Match]]:
    """For each passage the words that match a term of the query; their scores add up to BM25.

    Words that match the same term share its score.
    """
    spans = query_spans(query)
    terms = query_terms(query)
    weights = Weights.of(terms, shard.statistics(query).bm25)
    return [
        _matches(spans, _shares(terms, index_terms(passage.searchable), weights), passage.text)
        for passage in passages
    ]


def _shares(terms: Sequence[str], found: Sequence[str], weights: Weights) -> list[float]:
    """What each term of a query adds to the score of a passage of the terms ``found``."""
    counts, normal = Counter(found), weights.base + weights.slope * len(found)
    counted = np.array([min(counts[term], MOST_COUNTED) for term in terms])
    return (weights.terms_Q * counted / (counted + normal)).tolist()


def _matches(spans: Mapping[str, Span], shares: Sequence[float], text: str) -> list[Match]:
    matched = {word: share for word, share in zip(spans, shares, strict=True) if share}
    matches = []
    for word, places in find_terms(text, list(matched)).items():
        share = matched[word] / max(len(places), 1)
        matches += [Match(word, spans[word], place, share) for place in places or [None]]
    return matches
