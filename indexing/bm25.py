"""BM25 over postings, segment by segment; what all passages together decide may come from outside.

Okapi BM25 with k1 1.2 and b 0.75: each term of the query that a passage of ``length`` terms has ``count``
times adds

    idf * count * (k1 + 1) / (count + k1 * (1 - b + b * length / mean length))

where idf is log((passages - frequency + 0.5) / (frequency + 0.5)), and a millionth for terms that every
second passage has. Frequencies, the number of passages and their mean length are of live passages only.

Axes: N passages of a segment, P postings of a term, Q terms of a query.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .array_checks import damaged
from .postings import Postings, Range
from .top_k import NOTHING, best, reaching
from .vectors import Hits

K1, B = 1.2, 0.75
_LEAST_IDF = 1e-6

KERNELS_FROM = 30_000_000
"""Postings that a process scores by NumPy, 15 ns each, before it loads numba's kernel, which takes as long.

Two hundred questions to a million passages come to as many.
"""

_scored = 0  # postings by NumPy so far


@dataclass(frozen=True)
class Statistics:
    """What all passages that are searched together decide; those of several indexes add up.

    ``frequencies`` has the number of passages with each term of a query, ``tokens`` counts the terms of all
    passages, with repetition.

    >>> Statistics(2, 10, {"cat": 1}) + Statistics(3, 10, {"cat": 2})
    Statistics(passages=5, tokens=20, frequencies={'cat': 3})
    """

    passages: int
    tokens: int
    frequencies: dict[str, int]

    def __add__(self, other: "Statistics") -> "Statistics":
        """Of both; they are about the same terms."""
        frequencies = {term: count + other.frequencies[term] for term, count in self.frequencies.items()}
        return Statistics(self.passages + other.passages, self.tokens + other.tokens, frequencies)

    def idf(self, term: str) -> float:
        """The weight of a term."""
        frequency = self.frequencies[term]
        return max(math.log((self.passages - frequency + 0.5) / (frequency + 0.5)), _LEAST_IDF)

    @property
    def mean_length(self) -> float:
        """Terms of a passage."""
        return self.tokens / self.passages if self.tokens else 1.0


class Weights(NamedTuple):
    """What a posting adds to a score: ``w * count / (count + base + slope * length)``.

    ``terms_Q`` (float32) has the ``w`` of each term.
    """

    terms_Q: np.ndarray
    base: np.float32
    slope: np.float32

    @staticmethod
    def of(terms: Sequence[str], statistics: Statistics) -> "Weights":
        """The weights of a query."""
        terms_Q = np.array([statistics.idf(term) * (K1 + 1) for term in terms], np.float32)
        return Weights(terms_Q, np.float32(K1 * (1 - B)), np.float32(K1 * B / statistics.mean_length))


class LivePostings(NamedTuple):
    """Postings of a segment, the row of each passage (int64 [N]), and which live (bool [N]; None: all)."""

    postings: Postings
    rows_N: np.ndarray
    live_N: np.ndarray | None = None


class Bm25Index:
    """The passages of some segments, as of one commit; threads may share it.

    >>> index = Bm25Index([LivePostings(Postings.build([["cat"], ["dog"], ["owl"]]), np.array([7, 8, 9]))])
    >>> index.search(["dog"], 5).ids
    [8]
    """

    def __init__(self, segments: Sequence[LivePostings]) -> None:
        self._segments = segments
        self._bounds = np.cumsum([0, *(len(segment.rows_N) for segment in segments)]).tolist()
        for postings, rows_N, _ in segments:
            if len(postings) != len(rows_N):
                raise damaged(f"a segment with postings of {len(postings)} passages for {len(rows_N)} rows")

    def statistics(self, terms: Iterable[str]) -> Statistics:
        """The statistics of these terms here."""
        distinct = list(dict.fromkeys(terms))
        return self._statistics(distinct, self._ranges(distinct))

    def search(
        self,
        terms: Sequence[str],
        k: int,
        *,
        rows: np.ndarray | None = None,
        statistics: Statistics | None = None,
    ) -> Hits[int]:
        """The best ``k`` passages (ids are rows) with one of the terms, among ``rows`` if given.

        A term counts as often as it comes. ``statistics`` are those of all indexes that are searched
        together, by default of this one; scores are then equal wherever a passage is stored. Equal scores
        come in the order of rows.
        """
        if k <= 0 or not terms:
            return NOTHING
        ranges_of = self._ranges(terms)
        statistics = statistics or self._statistics(terms, ranges_of)
        weights = Weights.of(terms, statistics)
        allowed = None if rows is None else np.isin(self._rows, rows)
        buffer = np.empty(max((len(segment.postings) for segment in self._segments), default=0), np.float32)
        found = _Best(k)
        for number, (segment, ranges) in enumerate(zip(self._segments, ranges_of, strict=True)):
            scores_N = buffer[: len(segment.postings)]
            scores_N.fill(0)
            _add_scores()(segment.postings, ranges, weights=weights, scores_N=scores_N)
            part = allowed if allowed is None else allowed[slice(*self._bounds[number : number + 2])]
            found.add(scores_N, segment, part)
        return best(found.rows, found.scores, k=k)

    def coverage(self, terms: Sequence[str], row: int) -> float:
        """The share (0 to 1) of the terms that the passage ``row`` has; 0 without terms."""
        for postings, rows_N, _ in self._segments:
            for position in np.flatnonzero(rows_N == row).tolist():
                ranges = postings.find(terms)
                return sum(_has(postings, one, position) for one in ranges) / max(1, len(terms))
        return 0.0

    @cached_property
    def _rows(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *(segment.rows_N for segment in self._segments)])

    @cached_property
    def _sizes(self) -> tuple[int, int]:
        """The number of live passages and of their terms."""
        passages = tokens = 0
        for postings, rows_N, live_N in self._segments:
            lengths = postings.lengths_N if live_N is None else postings.lengths_N[live_N]
            passages += len(rows_N) if live_N is None else len(lengths)
            tokens += int(lengths.sum(dtype=np.int64))
        return passages, tokens

    def _ranges(self, terms: Sequence[str]) -> list[list[Range]]:
        return [segment.postings.find(terms) for segment in self._segments]

    def _statistics(self, terms: Sequence[str], ranges_of: Sequence[Sequence[Range]]) -> Statistics:
        frequencies = dict.fromkeys(terms, 0)
        for (postings, _, live_N), ranges in zip(self._segments, ranges_of, strict=True):
            for term, (first, last) in dict(zip(terms, ranges, strict=True)).items():
                if live_N is None:
                    frequencies[term] += last - first
                elif first < last:
                    frequencies[term] += int(np.count_nonzero(_at(live_N, postings.places_P[first:last])))
        return Statistics(*self._sizes, frequencies)


class _Best:
    """The best rows so far, with their scores; a few more where scores are equal."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._worst = np.nextafter(np.float32(0), np.float32(1))  # Without a term a passage scores 0.
        self.rows = np.zeros(0, np.int64)
        self.scores = np.zeros(0, np.float32)

    def add(self, scores_N: np.ndarray, segment: LivePostings, allowed_N: np.ndarray | None) -> None:
        places = np.flatnonzero(scores_N >= self._worst)
        for mask_N in (segment.live_N, allowed_N):
            if mask_N is not None:
                places = places[mask_N[places]]
        self.scores = np.concatenate([self.scores, scores_N[places]])
        self.rows = np.concatenate([self.rows, segment.rows_N[places]])
        if len(self.scores) > self._k:
            kept = reaching(self.scores, self._k)
            self.rows, self.scores = self.rows[kept], self.scores[kept]
            self._worst = self.scores.min()


def add_scores(
    postings: Postings, ranges: Sequence[Range], *, weights: Weights, scores_N: np.ndarray
) -> None:
    """Add to ``scores_N`` (float32) the score of each term, whose postings are in ``ranges``.

    StorageError where a posting names no passage.
    """
    global _scored
    terms_Q, base, slope = weights
    for (first, last), weight in zip(ranges, terms_Q, strict=True):
        if first < last:
            places_P = postings.places_P[first:last]
            counts_P = postings.counts_P[first:last].astype(np.float32)
            lengths_P = _at(postings.lengths_N, places_P).astype(np.float32)
            scores_N[places_P] += weight * counts_P / (counts_P + (base + slope * lengths_P))
            _scored += last - first


def _add_scores_fast(
    postings: Postings, ranges: Sequence[Range], *, weights: Weights, scores_N: np.ndarray
) -> None:
    """``add_scores`` by a kernel."""
    from . import bm25_kernels

    arrays = postings.places_P, postings.counts_P, postings.lengths_N, np.array(ranges, np.int64)
    if not bm25_kernels.add_scores(*arrays, *weights, scores_N):
        raise damaged("the postings of a segment")


def _add_scores() -> Callable[..., None]:
    return _add_scores_fast if _scored >= KERNELS_FROM else add_scores


def _has(postings: Postings, range: Range, position: int) -> bool:
    places_P = postings.places_P[range.first : range.last]
    place = int(np.searchsorted(places_P, position))
    return place < len(places_P) and int(places_P[place]) == position


def _at(values_N: np.ndarray, places_P: np.ndarray) -> np.ndarray:
    """The values at these places; StorageError where one is of no passage."""
    try:
        return values_N[places_P]
    except IndexError as error:
        raise damaged("the postings of a segment", str(error)) from error
