"""Explain results: which words of a passage matched which tokens of the query.

Axes: Q query tokens, T tokens of a passage, D width.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store.terms import Span, find_terms, query_spans

from .results import Match

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store
    from flatcoat.indexing.vectors import TokenVectors
    from flatcoat.retrieval.encoders.tokenization import TokenSpan


@runtime_checkable
class LateInteraction(Protocol):
    """An encoder with one vector per token."""

    def encode_queries(self, texts: Sequence[str]) -> "TokenVectors":
        """Token vectors of queries."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> "TokenVectors":
        """Token vectors of documents."""
        ...

    def token_spans(self, texts: Sequence[str], *, is_query: bool) -> "list[list[TokenSpan]]":
        """The token behind each vector of each text."""
        ...


def explain_maxsim(encoder: LateInteraction, query: str, *, passages: Sequence[Passage]) -> list[list[Match]]:
    """For each passage the best match of every query token; their scores add up to MaxSim."""
    (query_QD,) = encoder.encode_queries([query])
    (query_tokens,) = encoder.token_spans([query], is_query=True)
    texts = [passage.searchable for passage in passages]
    vectors = encoder.encode_documents(texts)
    spans = encoder.token_spans(texts, is_query=False)
    explanations = []
    for passage, text, document_TD, tokens in zip(passages, texts, vectors, spans, strict=True):
        scores_QT = query_QD @ document_TD.T
        best_Q = scores_QT.argmax(axis=1)
        before = len(text) - len(passage.text)
        explanations.append(
            [
                Match(token.text, token.span, _shifted(tokens[best].span, before), float(scores[best]))
                for token, best, scores in zip(query_tokens, best_Q.tolist(), scores_QT, strict=True)
            ]
        )
    return explanations


def _shifted(span: Span | None, before: int) -> Span | None:
    """A span of title, section and text as a span of the text, which comes last; None outside the text."""
    if span is None or span[1] <= before:
        return None
    return max(span[0] - before, 0), span[1] - before


class _Term(NamedTuple):
    """A term of the query, its place there, and its part of the score of each passage, by row."""

    text: str
    span: Span
    scores: dict[int, float]


def explain_bm25(
    store: "Store", query: str, *, rows: Sequence[int], passages: Sequence[Passage]
) -> list[list[Match]]:
    """For each passage the words that match a term of the query; their scores add up to BM25.

    Words that match the same term share its score.
    """
    among = np.array(rows, dtype=np.int64)
    terms = []
    for text, span in query_spans(query).items():
        hits = store.bm25(text, len(rows), rows=among)
        terms.append(_Term(text, span, dict(zip(hits.ids, hits.scores.tolist(), strict=True))))
    return [_matches(terms, row, passage.text) for row, passage in zip(rows, passages, strict=True)]


def _matches(terms: Sequence[_Term], row: int, text: str) -> list[Match]:
    matched = [term for term in terms if term.scores.get(row)]
    spans = find_terms(text, [term.text for term in matched])
    matches = []
    for term in matched:
        places: Sequence[Span | None] = spans[term.text] or [None]
        share = term.scores[row] / len(places)
        matches += [Match(term.text, term.span, place, share) for place in places]
    return matches
