"""Scores between 0 and 1, and the parts of a document that earn them.

Axes: N documents, Q query tokens, T document tokens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Passage
from flatcoat.retrieval.explain import LateInteraction, interactions
from flatcoat.retrieval.rerank import EncoderReranker, Reranker
from flatcoat.retrieval.snippets import Evidence, text_pieces

if TYPE_CHECKING:
    from flatcoat.indexing.vectors import TokenVectors


class RelevantSpan(NamedTuple):
    """Characters (code points) of a document from ``start`` up to ``end``, and their score in 0..1."""

    start: int
    end: int
    score: float


def scores(reranker: Reranker, query: str, texts: Sequence[str], *, raw: bool = False) -> np.ndarray:
    """The score of each text [N] for the query: in 0..1, or as the model gives it.

    In 0..1 stand cosines below 0 as 0, MaxSim per query token, and the sigmoid of a cross-encoder.
    """
    pairs_N2 = np.stack([np.zeros(len(texts), np.int64), np.arange(len(texts))], axis=1)
    scores_N = reranker.scorer([query])(texts, pairs_N2)
    if raw:
        return scores_N
    if not isinstance(reranker, EncoderReranker):
        return 1 / (1 + np.exp(-scores_N.astype(np.float64)))
    tokens = 1
    if isinstance(reranker.encoder, LateInteraction):
        tokens = len(cast("TokenVectors", reranker.encoder.encode_queries([query]))[0])
    return np.clip(scores_N / max(tokens, 1), 0.0, 1.0)


def relevant_spans(
    reranker: Reranker, query: str, texts: Sequence[str], *, threshold: float, most: int
) -> list[list[RelevantSpan]]:
    """For each text up to ``most`` parts that score ``threshold`` or more, best first.

    A part is a line, or a piece of a long one, and scores as a document of late interaction does: the best
    match of each word of the query in it, on average. UsageError where the model has no late interaction.
    """
    encoder = getattr(reranker, "encoder", None)
    if not isinstance(encoder, LateInteraction):
        raise UsageError(f"relevant_spans: {reranker.name} has no vectors per token, which these come from")
    passages = [Passage(str(number), text) for number, text in enumerate(texts)]
    found = interactions(encoder, query, passages=passages, encode=encoder.encode_documents)  # type: ignore[attr-defined]
    return [
        spans_of(text, one.evidence(), threshold=threshold, most=most)
        for text, one in zip(texts, found, strict=True)
    ]


def spans_of(text: str, evidence: Evidence, *, threshold: float, most: int) -> list[RelevantSpan]:
    """The parts of one text by its evidence.

    >>> evidence = Evidence([(0, 4), (11, 15)], np.array([[0.1, 0.9]]))
    >>> spans_of("Cats purr.\\nDogs bark.", evidence, threshold=0.5, most=3)
    [RelevantSpan(start=11, end=21, score=0.9)]
    """
    spans = []
    for start, end in text_pieces(text):
        inside = [at for at, place in enumerate(evidence.places) if place and start <= place[0] < end]
        if inside and len(evidence.scores_QT):
            score = float(evidence.scores_QT[:, inside].max(axis=1).mean())
            if score >= threshold:
                spans.append(RelevantSpan(start, end, round(min(score, 1.0), 6)))
    return sorted(spans, key=lambda span: -span.score)[:most]
