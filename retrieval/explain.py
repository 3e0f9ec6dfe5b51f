"""Which parts of a passage answered which parts of a query.

Axes: U tokens of a query, T tokens of a passage, D width.
"""

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store.terms import TOKENIZER, camel_parts, find_words, query_terms

from .results import Match, Span

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store
    from flatcoat.indexing.vectors import TokenVectors
    from flatcoat.retrieval.encoders.encoder import TokenSpan


@runtime_checkable
class LateInteraction(Protocol):
    """An encoder whose vectors belong to tokens."""

    def encode_queries(self, texts: Sequence[str]) -> "TokenVectors":
        """Vectors of queries, in their order."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> "TokenVectors":
        """Vectors of documents, in their order."""
        ...

    def token_spans(self, texts: Sequence[str], is_query: bool) -> "list[list[TokenSpan]]":
        """The token behind each vector of each text."""
        ...


def explain_maxsim(encoder: LateInteraction, query: str, passages: Sequence[Passage]) -> list[list[Match]]:
    """For each passage the best match of every query token; their scores add up to MaxSim."""
    (query_UD,) = encoder.encode_queries([query])
    (query_tokens,) = encoder.token_spans([query], is_query=True)
    texts = [passage.searchable for passage in passages]
    vectors = encoder.encode_documents(texts)
    spans = encoder.token_spans(texts, is_query=False)
    explanations = []
    for passage, text, document_TD, tokens in zip(passages, texts, vectors, spans, strict=True):
        scores_UT = query_UD @ document_TD.T
        best_U = scores_UT.argmax(axis=1)
        before = len(text) - len(passage.text)
        explanations.append(
            [
                Match(token.text, token.span, _shifted(tokens[best].span, before), float(scores[best]))
                for token, best, scores in zip(query_tokens, best_U.tolist(), scores_UT, strict=True)
            ]
        )
    return explanations


def _shifted(span: Span | None, before: int) -> Span | None:
    """A span of title, section and text as one of the text, which comes last."""
    if span is None or span[1] <= before:
        return None
    return max(span[0] - before, 0), span[1] - before


class _Term(NamedTuple):
    """A word looked for, and what it adds to the scores of passages, by row."""

    text: str
    span: Span | None
    scores: dict[int, float]


def explain_bm25(
    store: "Store", query: str, rows: Sequence[int], passages: Sequence[Passage]
) -> list[list[Match]]:
    """For each passage the words that match a term of the query; their scores add up to BM25.

    Words that match the same term share what it adds.
    """
    among = np.array(rows, dtype=np.int64)
    terms = []
    for text in query_terms(query):
        hits = store.bm25(text, len(rows), rows=among)
        place = re.search(re.escape(text), query, re.IGNORECASE)
        scores = dict(zip(hits.ids, hits.scores.tolist(), strict=True))
        terms.append(_Term(text, place.span() if place else None, scores))
    return [_matches(terms, row, passage.text) for row, passage in zip(rows, passages, strict=True)]


def _matches(terms: Sequence[_Term], row: int, text: str) -> list[Match]:
    found = [term for term in terms if term.scores.get(row)]
    places: dict[str, list[Span]] = {}
    for word in find_words(text):
        places.setdefault(word[0], []).append(word.span())
    matches = []
    for term, words in zip(found, _matching(list(places), [term.text for term in found]), strict=True):
        spans = sorted(span for word in words for span in places[word]) or [None]
        matches += [Match(term.text, term.span, span, term.scores[row] / len(spans)) for span in spans]
    return matches


def _matching(words: Sequence[str], terms: Sequence[str]) -> list[list[str]]:
    """For each term the words that SQLite finds by it, camelCase words by their parts too."""
    table = f'fts5(word UNINDEXED, forms, tokenize = "{TOKENIZER}")'
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE words USING {table}")
        forms = ((word, f"{word} {camel_parts(word)}") for word in words)
        connection.executemany("INSERT INTO words VALUES (?, ?)", forms)
        find = "SELECT word FROM words WHERE words MATCH ?"
        return [[word for (word,) in connection.execute(find, [f'"{term}"'])] for term in terms]
