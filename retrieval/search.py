"""Answer one query: rank by vectors and BM25, fuse, apply signals, fold, rerank, group, explain."""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flatcoat.errors import StorageError, UsageError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.store.store import StaleRow
from flatcoat.indexing.terms import Span

from .deduplicate import fold_duplicates, group_by
from .evidence import Telling, place, telling_pieces, within_budget
from .explain import Interaction, LateInteraction, explain_bm25, interactions
from .listing import listed
from .question import Question
from .ranking import apply_signals, checked_signals
from .results import Match, Result, Results
from .shard import Ranking, RankingRequest, Shard
from .snippets import Evidence, best_span, words_of_query

if TYPE_CHECKING:
    from flatcoat.indexing.vectors import Vectors
    from flatcoat.retrieval.encoders.encoder import Encoder, QueryEncoder

    from .rerank import Reranker


_log = logging.getLogger(__name__)

_DEEP = 10_000
"""Candidates. Only for more than these the number of passages is looked up, which costs an SQL query."""


@dataclass(frozen=True)
class _Candidate:
    """A passage with its score at each stage so far, in the order of the stages."""

    row: int
    passage: Passage
    scores: dict[str, float]
    duplicates: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        return next(reversed(self.scores.values()))

    @property
    def place(self) -> str:
        return f"{self.passage.document_id}:{self.passage.lines[0]}"


class _Asked(NamedTuple):
    """A question and what ranks its answers: the vectors of its query, encoded once, and a reranker."""

    question: Question
    vectors: "Vectors | None"
    reranker: "Reranker | None"


class _Finding(NamedTuple):
    """What of a passage answers the query, as far as it was asked for."""

    best_span: Span | None = None
    explanation: list[Match] | None = None
    telling: Telling | None = None


class Searcher:
    """Answers questions to one index, or to all shards of a collection as to one.

    Encoders are loaded at the first question that needs them: ``queries`` for vectors, the whole ``encoder``
    to explain them. ``count_tokens`` counts the tokens of texts, which a budget is of.
    """

    def __init__(
        self,
        shard: Shard,
        queries: "Callable[[], QueryEncoder]",
        encoder: "Callable[[], Encoder]",
        *,
        count_tokens: Callable[[Sequence[str]], list[int]],
    ) -> None:
        self._shard = shard
        self._queries = queries
        self._encoder = encoder
        self._count_tokens = count_tokens
        self._rerankers: dict[str, Reranker] = {}
        self._loading = Lock()  # Models may be large: one thread loads, the others wait.

    def search(self, question: Question) -> Results:
        """The best passages, or the best passage per document, best first; without a query in their order.

        From beginning to end one commit is read. MissingShards where shards of a collection do not answer,
        unless a partial answer will do.
        """
        vectors = reranker = None
        if question.query is not None:
            question = self._possible(question)
            reranker = self._reranker(question.rerank)
            if question.mode != "bm25":
                vectors = self._queries().encode_queries([question.asked])

        def read(state: Shard) -> Results:
            if question.query is None:
                return Results(_listed(state, question), state.missing)
            ranked = self._reading(state)._ranked(_Asked(question, vectors, reranker))
            return Results(ranked, state.missing)

        try:
            return self._shard.of_one_state(read, partial=question.partial)
        except StaleRow as stale:
            raise StorageError(
                f"index {self._shard.name} is damaged: a passage that was found is not stored "
                "(flatcoat verify says what else is wrong)"
            ) from stale

    def _reading(self, state: Shard) -> "Searcher":
        """This searcher of one state of the index."""
        searcher = copy(self)
        searcher._shard = state
        return searcher

    def _ranked(self, asked: _Asked) -> list[Result]:
        question, vectors, reranker = asked
        count = self._bounded(max(5 * question.k, 50))
        while True:
            candidates = self._candidates(question, vectors, count)
            exhausted = len(candidates) < count
            candidates = _folded(candidates)
            if reranker and candidates:
                candidates = _reranked(question.asked, candidates, reranker)
            groups = _grouped(candidates) if question.group else [[one] for one in candidates]
            if exhausted or len(groups) >= question.k:
                return self._results(asked, groups[: question.k])
            count = self._bounded(4 * count)

    def _possible(self, question: Question) -> Question:
        """The question as this index can answer it: by BM25 alone until most passages have vectors."""
        if not question.ranks_twice or self._shard.encoded().is_ranked_by:
            return question
        return replace(question, mode="bm25")

    def _bounded(self, count: int) -> int:
        """A number of candidates, no larger than the index beyond _DEEP."""
        return count if count <= _DEEP else min(count, max(self._shard.encoded().of + 1, _DEEP))

    def _candidates(self, question: Question, vectors: "Vectors | None", count: int) -> list[_Candidate]:
        """The best ``count`` passages of the first stage; rankings to be fused are twice as deep."""
        rankings = self._shard.rank(
            RankingRequest(
                None if question.mode == "vectors" else question.asked,
                vectors,
                2 * count if question.ranks_twice else count,
                filters=question.filters,
                pattern=question.pattern,
                recall=question.recall,
            )
        )
        named = {"vectors": rankings.vectors, "bm25": rankings.bm25}
        rows = list(dict.fromkeys(row for one in named.values() if one for row in one.rows))
        passages = dict(zip(rows, self._shard.passages(rows), strict=True))
        stages = {name: _scores(one, passages) for name, one in named.items() if one}
        if question.ranks_twice:
            first = next(iter(stages["bm25"]), None)
            coverage = 0.0 if first is None else self._shard.coverage(question.asked, first)
            fusion = question.fusion_of(passages.values())
            stages["fused"] = fusion.fuse(
                stages["vectors"], stages["bm25"], coverage=coverage, lacking=rankings.lacking
            )
        last = next(reversed(stages.values()))
        candidates = [
            _Candidate(
                row, passages[row], {name: stage[row] for name, stage in stages.items() if row in stage}
            )
            for row in _in_order(last, passages)
        ]
        return _with_signals(question, candidates)[:count]

    def _reranker(self, model: "Reranker | str | Path | None") -> "Reranker | None":
        if not isinstance(model, str | Path):
            return model
        name = str(model)
        with self._loading:
            if name not in self._rerankers:
                from .rerank import load_reranker

                self._rerankers[name] = load_reranker(name)
            return self._rerankers[name]

    def _results(self, asked: _Asked, groups: Sequence[Sequence[_Candidate]]) -> list[Result]:
        question = asked.question
        findings = self._findings(asked, [best for best, *_ in groups])
        results = [
            _result(rank, group, finding)
            for rank, (group, finding) in enumerate(zip(groups, findings, strict=True), start=1)
        ]
        if question.budget is None:
            return results
        excerpts = within_budget(
            [place(result.document_id, result.lines) for result in results],
            [finding.telling for finding in findings if finding.telling],
            budget=question.budget,
            count_tokens=self._count_tokens,
        )
        return [replace(result, evidence=one) for result, one in zip(results, excerpts, strict=True)]

    def _findings(self, asked: _Asked, firsts: Sequence[_Candidate]) -> Sequence["_Finding"]:
        """Best lines and explanations by the last stage that matches tokens, or by the words of the query.

        A stage that matches neither explains nothing.
        """
        question = asked.question
        if not (question.explain or question.best_lines or question.budget):
            return [_Finding()] * len(firsts)
        found = self._interactions(asked, firsts)
        others = [one for one, interaction in zip(firsts, found, strict=True) if interaction is None]
        by_words = iter(self._by_words(question, others))
        return [
            next(by_words)
            if one is None
            else _found(
                question, candidate.passage, one.evidence(), one.matches() if question.explain else None
            )
            for candidate, one in zip(firsts, found, strict=True)
        ]

    def _by_words(self, question: Question, candidates: Sequence[_Candidate]) -> list[_Finding]:
        """What of each passage answers the query by its words, explained by BM25 where that ranked."""
        passages = [candidate.passage for candidate in candidates]
        explanations: Sequence[list[Match] | None] = [None] * len(candidates)
        if question.explain and question.mode != "vectors":
            explanations = explain_bm25(self._shard, question.asked, passages)
        return [
            _found(question, passage, words_of_query(passage.text, question.asked), explanation)
            for passage, explanation in zip(passages, explanations, strict=True)
        ]

    def _interactions(self, asked: _Asked, firsts: Sequence[_Candidate]) -> Sequence[Interaction | None]:
        """Late interaction by the reranker or by the index; None where neither has vectors of the passage."""
        question, vectors, reranker = asked
        none: Sequence[Interaction | None] = [None] * len(firsts)
        encoder: Encoder | None = getattr(reranker, "encoder", None)
        stored: Sequence[np.ndarray | None] | None = None
        if isinstance(encoder, LateInteraction):
            explain = partial(interactions, encoder, encode=encoder.encode_documents)
        elif vectors is not None and isinstance(queries := self._queries(), LateInteraction):
            stored = self._shard.token_vectors([candidate.row for candidate in firsts])
            explain = partial(interactions, queries, query_QD=vectors[0], encode=self._encode_documents)
        else:
            return none
        held = [place for place in range(len(firsts)) if stored is None or stored[place] is not None]
        passages = [firsts[place].passage for place in held]
        try:
            found = explain(
                question.asked, passages=passages, stored=stored and [stored[place] for place in held]
            )
        except UsageError as error:
            if question.explain:
                raise
            _log.debug("the words of the query decide which lines are the best: %s", error)
            return none
        by_place = dict(zip(held, found, strict=True))
        return [by_place.get(place) for place in range(len(firsts))]

    def _encode_documents(self, texts: Sequence[str]) -> "Vectors":
        return self._encoder().encode_documents(texts)  # Which loads torch: no other way needs it.


def _listed(state: Shard, question: Question) -> list[Result]:
    results = listed(state, question.filters, question.pattern, k=question.k, group=question.group)
    return results if question.best_lines else [replace(one, best_span=None) for one in results]


def _found(
    question: Question, passage: Passage, evidence: Evidence, explanation: list[Match] | None
) -> _Finding:
    telling = telling_pieces(passage.text, evidence, passage.lines[0]) if question.budget else None
    return _Finding(best_span(passage.text, evidence), explanation, telling)


def _scores(ranking: Ranking, passages: Mapping[int, Passage]) -> dict[int, float]:
    """Scores by row, best first."""
    scores = dict(zip(ranking.rows, ranking.scores.tolist(), strict=True))
    if not (ranking.scores[1:] == ranking.scores[:-1]).any():
        return scores
    return {row: scores[row] for row in _in_order(scores, passages)}


def _in_order(scores: Mapping[int, float], passages: Mapping[int, Passage]) -> list[int]:
    """The rows, best first; of equal scores by document and line, which every index agrees on."""

    def key(row: int) -> tuple[float, str, int, int]:
        passage = passages[row]
        return -scores[row], passage.document_id, passage.lines[0], row

    if len(set(scores.values())) == len(scores):
        return sorted(scores, key=lambda row: -scores[row])
    return sorted(scores, key=key)


def _with_signals(question: Question, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The candidates, best first, with what each ranking signal adds to their scores."""
    scores = [candidate.score for candidate in candidates]
    added = apply_signals(
        question.asked,
        [candidate.passage for candidate in candidates],
        scores=scores,
        floor=min(scores, default=0.0) if question.mode == "vectors" else 0.0,
        signals=checked_signals(question.signals),
    )
    if not any(added):
        return list(candidates)
    ranked = [replace(one, scores=one.scores | more) for one, more in zip(candidates, added, strict=True)]
    return sorted(ranked, key=lambda candidate: -candidate.score)


def _folded(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    passages = [candidate.passage for candidate in candidates]
    groups = fold_duplicates([passage.text or passage.title for passage in passages])
    return [
        replace(candidates[best], duplicates=tuple(candidates[other].place for other in others))
        if others
        else candidates[best]
        for best, *others in groups
    ]


def _reranked(query: str, candidates: Sequence[_Candidate], reranker: "Reranker") -> list[_Candidate]:
    from .rerank import order

    ranked = order(reranker, query, texts=[candidate.passage.searchable for candidate in candidates])
    return [
        replace(candidates[place], scores=candidates[place].scores | {"rerank": score})
        for place, score in ranked
    ]


def _grouped(candidates: Sequence[_Candidate]) -> list[list[_Candidate]]:
    return group_by(candidates, lambda candidate: candidate.passage.document_id)


def _result(rank: int, group: Sequence[_Candidate], finding: _Finding) -> Result:
    best, passage = group[0], group[0].passage
    return Result(
        rank=rank,
        score=best.score,
        document_id=passage.document_id,
        title=passage.title,
        lines=passage.lines,
        text=passage.text,
        metadata=passage.metadata,
        section=passage.section,
        scores=best.scores,
        duplicates=best.duplicates,
        more=len(group) - 1,
        explanation=finding.explanation,
        best_span=finding.best_span,
    )
