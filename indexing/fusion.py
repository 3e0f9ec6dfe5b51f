"""Fusion: several rankings of one query become one. Larger scores are better."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Generic, Literal, NamedTuple

import numpy as np

from flatcoat.errors import UsageError

from .documents import is_number
from .vectors import Id

RRF_CONSTANT = 60


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Id]], constant: int = RRF_CONSTANT) -> dict[Id, float]:
    """RRF: score each id by the sum of 1 / (constant + rank) over the rankings (best first) that have it.

    Source: Cormack, Clarke and Buettcher 2009, https://doi.org/10.1145/1571941.1572114

    >>> reciprocal_rank_fusion([["a", "b"], ["b"]], constant=1)
    {'a': 0.5, 'b': 0.8333333333333333}
    """
    fused: dict[Id, float] = {}
    for ranking in rankings:
        for rank, id in enumerate(ranking, start=1):
            fused[id] = fused.get(id, 0.0) + 1 / (constant + rank)
    return fused


def weighted_fusion(results: Sequence[Mapping[Id, float]], weights: Sequence[float]) -> dict[Id, float]:
    """Score each id by the weighted sum of its min-max normalised scores (0 to 1 within each result).

    An id that a result lacks counts as 0 there. Where all scores of a result are equal they count as 1.

    >>> weighted_fusion([{"a": 30.0, "b": 10.0}, {"b": 0.9}], [0.25, 0.75])
    {'a': 0.25, 'b': 0.75}
    """
    fused: dict[Id, float] = {}
    for scores, weight in zip(results, weights, strict=True):
        lowest = min(scores.values(), default=0.0)
        span = max(scores.values(), default=0.0) - lowest
        for id, score in scores.items():
            fused[id] = fused.get(id, 0.0) + weight * ((score - lowest) / span if span else 1.0)
    return fused


_HEAD = 100
"""Scores that tell how a ranking is spread: however many are asked for, the fused scores are the same."""

_USUAL_SHARE = 0.8
"""What vectors add to the first of BM25, of what they add to their own: 0.5 to 0.8 on cosqa, cranfield."""

_STAND_OUT, _COVERAGE, _USUAL_COVERAGE = 0.1, 0.3, 0.6


@dataclass(frozen=True)
class Fusion:
    """How the rankings by vectors and by BM25 are fused.

    "adaptive" is the sum of each ranking's support for a passage, 1 for its first and exp(-1/2) for every
    standard deviation below that, with a share for vectors that is chosen per query: ``weight``, and more
    where the first by vectors stands out further than the first by BM25, and where BM25's best has few of the
    query's words. "weighted" is the sum of scores scaled to 0..1, with the share ``weight`` for vectors.
    "rrf" is reciprocal rank fusion: the sum of 1 / (``constant`` + rank).

    >>> fused = Fusion("rrf", constant=60).fuse({1: 0.9, 2: 0.1}, {2: 7.5})
    >>> max(fused, key=fused.get)
    2
    """

    name: Literal["adaptive", "weighted", "rrf"] = "adaptive"
    _: KW_ONLY
    constant: int = RRF_CONSTANT
    weight: float = 0.75

    def __post_init__(self) -> None:
        if self.name not in ("adaptive", "weighted", "rrf"):
            raise UsageError(f"fusion is {self.name!r:.60}: adaptive, weighted, rrf are possible")
        if not is_number(self.constant) or self.constant < 0:
            raise UsageError(f"constant is {self.constant!r:.60}: a number from 0 is wanted")
        if not is_number(self.weight) or not 0 <= self.weight <= 1:
            raise UsageError(f"weight is {self.weight!r:.60}: a number from 0 to 1 is wanted")

    def fuse(
        self,
        vectors: Mapping[Id, float],
        bm25: Mapping[Id, float],
        *,
        coverage: float = _USUAL_COVERAGE,
        lacking: Collection[Id] | None = None,
    ) -> dict[Id, float]:
        """The fused score of each row of either ranking; both are ordered best first.

        ``coverage`` is the share of the query's terms that BM25's first has, 0 to 1. ``lacking`` are passages
        without vectors: they get the score that is usual for their rank by BM25.
        """
        shares = self._shares(vectors, bm25, coverage)
        fused = dict(shares.vectors)
        for id, share in shares.bm25.items():
            fused[id] = fused.get(id, 0.0) + share
        return fused | _expected(shares, fused, lacking) if lacking else fused

    def _shares(
        self, vectors: Mapping[Id, float], bm25: Mapping[Id, float], coverage: float
    ) -> "_Shares[Id]":
        """What each ranking adds to the fused scores."""
        if self.name == "rrf":
            return _Shares(*(reciprocal_rank_fusion([list(one)], self.constant) for one in (vectors, bm25)))
        if self.name == "weighted":
            weights = self.weight, 1 - self.weight
            return _Shares(
                *(
                    weighted_fusion([one], [weight])
                    for one, weight in zip((vectors, bm25), weights, strict=True)
                )
            )
        one, two = _Ranking.of(vectors), _Ranking.of(bm25)
        weight = self.weight + _STAND_OUT * (one.stand_out - two.stand_out)
        weight = min(max(weight + _COVERAGE * (_USUAL_COVERAGE - coverage), 0.0), 1.0)
        return _Shares(
            {id: weight * one.support(score) for id, score in vectors.items()},
            {id: (1 - weight) * two.support(score) for id, score in bm25.items()},
        )


class _Shares(NamedTuple, Generic[Id]):
    """What each ranking adds to the fused score of a row."""

    vectors: dict[Id, float]
    bm25: dict[Id, float]


def _expected(shares: _Shares[Id], fused: Mapping[Id, float], lacking: Collection[Id]) -> dict[Id, float]:
    """The fused scores that may be expected of rows of BM25's ranking that have no vectors.

    The scores of the rows with vectors are spread over them by their shares of BM25: the median has the
    median, and so on. So as many of the best lack vectors as of all, and BM25 alone orders those. Where few
    rows have vectors the ends are what is usual.

    With half the vectors left out (cranfield and cosqa, 200 queries each, flatcoat-small) 50 and 50 % of the
    ten best lack them, and nDCG@10 x 100 is 36.3 and 55.3. Counted as 0, they are 25 and 24 %, 34.3 and 53.7.
    With all vectors 36.5 and 58.5.
    """
    top, best = max(shares.vectors.values(), default=0.0), max(shares.bm25.values(), default=0.0)
    known = [id for id in shares.bm25 if id not in lacking]
    bm25 = sorted([0.0, best, *(shares.bm25[id] for id in known)])
    scores = sorted([0.0, best + _USUAL_SHARE * top, *(fused[id] for id in known)])
    return {id: float(np.interp(share, bm25, scores)) for id, share in shares.bm25.items() if id in lacking}


class _Ranking(NamedTuple):
    """How the scores of a ranking are spread: its best score, and mean and standard deviation of its head."""

    best: float
    mean: float
    deviation: float

    @staticmethod
    def of(scores: Mapping[Id, float]) -> "_Ranking":
        head = np.array(sorted(scores.values(), reverse=True)[:_HEAD] or [0.0])
        best = float(head[0])
        if head[-1] == best:  # The mean of equal scores may be another number, by rounding.
            return _Ranking(best, best, 0.0)
        return _Ranking(best, float(head.mean()), float(head.std()))

    @property
    def stand_out(self) -> float:
        """How many standard deviations the best score lies above the mean; 0 if all are equal."""
        return (self.best - self.mean) / self.deviation if self.deviation else 0.0

    def support(self, score: float) -> float:
        """1 for the best score, less by the factor exp(-1/2) per standard deviation below it."""
        return math.exp((score - self.best) / (2 * self.deviation)) if self.deviation else 1.0


HYBRID = Fusion()

HYBRID_CODE = Fusion("weighted", weight=0.5)
"""For files of code, where questions name what the code names and ranking signals add to the scores.

nDCG@10 x 100, by file, of 111 questions about 7 of the packages of the development half of ``flatcoat eval
--benchmark code-questions``: 78.0, 79.8 and 79.1 with the weights 0.4, 0.5 and 0.6, 76.1 with HYBRID.
"""
