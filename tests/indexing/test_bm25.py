"""BM25 against a plain loop over its definition: by NumPy and by the kernel, in one index and in shards."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing import bm25
from flatcoat.indexing.bm25 import Bm25Index, LivePostings, Statistics
from flatcoat.indexing.postings import Postings
from flatcoat.indexing.vectors import Hits

TERMS = [f"t{number}" for number in range(9)]
drawn = st.lists(st.lists(st.sampled_from(TERMS), max_size=10), max_size=30)
queries = st.lists(st.sampled_from([*TERMS, "none"]), max_size=5)
Corpus = dict[int, list[str]]
"""The terms of each live passage, by row."""

by_both = pytest.mark.parametrize("add_scores", [bm25.add_scores, bm25._add_scores_fast])


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever is scored here, other tests begin as a new process does."""
    monkeypatch.setattr(bm25, "_scored", 0)
    yield


def slow(corpus: Corpus, terms: Sequence[str], k: int) -> Hits[int]:
    """The definition, in float32, passage by passage."""
    mean = sum(map(len, corpus.values())) / max(1, len(corpus)) or 1
    base, slope = np.float32(1.2 * (1 - 0.75)), np.float32(1.2 * 0.75 / mean)
    scores: dict[int, np.float32] = {}
    for row, passage in corpus.items():
        total = np.float32(0)
        for term in terms:
            frequency = sum(term in other for other in corpus.values())
            idf = max(math.log((len(corpus) - frequency + 0.5) / (frequency + 0.5)), 1e-6)
            count = np.float32(passage.count(term))
            if count:
                total += np.float32(idf * 2.2) * count / (count + (base + slope * np.float32(len(passage))))
        if total:
            scores[row] = total
    order = sorted(scores, key=lambda row: (-scores[row], row))[:k]
    return Hits(order, np.array([scores[row] for row in order], np.float32))


def index_of(corpus: Corpus, dead: frozenset[int] = frozenset(), *, size: int) -> Bm25Index:
    """The passages in segments of ``size``, some of them tombstones."""
    rows = list(corpus)
    segments = []
    for first in range(0, len(rows), size):
        here = rows[first : first + size]
        live_N = np.array([row not in dead for row in here])
        postings = Postings.build([corpus[row] for row in here])
        segments.append(LivePostings(postings, np.array(here), None if live_N.all() else live_N))
    return Bm25Index(segments)


def same(one: Hits[int], other: Hits[int]) -> bool:
    return one.ids == other.ids and one.scores.tolist() == other.scores.tolist()


@by_both
@settings(deadline=None)  # The kernel is compiled once.
@given(drawn, queries, st.integers(0, 12), st.integers(1, 9), st.data())
def test_the_hits_are_those_of_a_plain_loop(
    add_scores, passages: list, terms: list[str], k: int, size: int, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bm25, "_add_scores", lambda: add_scores)
        rows = data.draw(st.permutations(range(len(passages))))
        corpus = dict(zip(rows, passages, strict=True))
        dead = frozenset(row for row in rows if data.draw(st.integers(0, 3)) == 0)
        index = index_of(corpus, dead, size=size)
        live = {row: passage for row, passage in corpus.items() if row not in dead}
        assert same(index.search(terms, k), slow(live, terms, k))

        allowed = [row for row in [*rows, 99] if data.draw(st.booleans())]
        every = slow(live, terms, len(live))
        kept = [place for place, row in enumerate(every.ids) if row in allowed][:k]
        found = index.search(terms, k, rows=np.array(allowed, np.int64))
        assert same(found, Hits([every.ids[place] for place in kept], every.scores[kept]))

        for row, passage in live.items():
            share = sum(term in passage for term in terms) / max(1, len(terms))
            assert index.coverage(terms, row) == share


@given(drawn, queries, st.integers(1, 5), st.integers(1, 40), st.integers(0, 10**6))
def test_shards_with_common_statistics_are_one_index(
    passages: list, terms: list[str], shards: int, k: int, seed: int
) -> None:
    corpus = dict(enumerate(passages))
    shard_of = np.random.default_rng(seed).integers(shards, size=len(corpus)).tolist()
    parts = [
        index_of({row: terms for row, terms in corpus.items() if shard_of[row] == shard}, size=4)
        for shard in range(shards)
    ]
    whole = index_of(corpus, size=7)
    statistics = reduce(add, (part.statistics(terms) for part in parts))
    assert statistics == whole.statistics(terms)
    hits = [part.search(terms, k, statistics=statistics) for part in parts]
    pairs = [
        (-score, row) for part in hits for row, score in zip(part.ids, part.scores.tolist(), strict=True)
    ]
    expected = whole.search(terms, k)
    assert sorted(pairs)[:k] == [
        (-score, row) for row, score in zip(expected.ids, expected.scores.tolist(), strict=True)
    ]


def test_many_passages_score_alike_by_numpy_and_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    words = [f"w{number}" for number in range(500)]
    passages = [[words[min(499, int(w))] for w in random.exponential(60, 50)] for _ in range(3_000)]
    index = index_of(dict(enumerate(passages)), frozenset(range(0, 3_000, 7)), size=1_000)
    asked = [[words[number] for number in numbers] for numbers in random.integers(500, size=(20, 3))]
    found = []
    for way in (bm25.add_scores, bm25._add_scores_fast):
        monkeypatch.setattr(bm25, "_add_scores", lambda way=way: way)
        found.append([index.search(terms, 100) for terms in asked])
    assert all(map(same, *found))
    assert max(len(hits.ids) for hits in found[0]) == 100


def test_numpy_scores_until_numba_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(dict(enumerate([["cat"], ["dog"], ["cat", "dog"], ["owl"], ["owl"]])), size=5)
    assert bm25._add_scores() is bm25.add_scores
    index.search(["cat", "dog"], 1)
    assert bm25._scored == 4
    monkeypatch.setattr(bm25, "KERNELS_FROM", 4)
    assert bm25._add_scores() is bm25._add_scores_fast


def test_a_term_counts_as_often_as_it_is_asked_for() -> None:
    index = index_of(dict(enumerate([["cat"], ["dog"], ["owl"], ["elk"]])), size=5)
    once, twice = index.search(["cat", "dog"], 2), index.search(["cat", "dog", "dog"], 2)
    assert (once.ids, twice.ids) == ([0, 1], [1, 0])
    assert twice.scores[0] == 2 * once.scores[1]


def test_a_term_of_every_second_passage_finds_but_hardly_counts() -> None:
    index = index_of({1: ["the", "cat"], 2: ["the"], 3: ["the"], 4: ["owl"], 5: ["elk"]}, size=5)
    assert index.search(["the"], 9).ids == [2, 3, 1]
    assert index.search(["the", "owl"], 9).ids == [4, 2, 3, 1]
    assert 0 < index.search(["the"], 1).scores[0] < 1e-5


def test_rows_that_lie_far_apart_are_filtered_alike() -> None:
    index = index_of({row * 10**11: ["cat"] * row for row in range(1, 9)}, size=3)
    allowed = np.array([2, 7, 9]) * 10**11
    assert sorted(index.search(["cat"], 9, rows=allowed).ids) == [2 * 10**11, 7 * 10**11]


def test_nothing_is_found_in_nothing() -> None:
    assert Bm25Index([]).search(["cat"], 3).ids == []
    assert Bm25Index([]).statistics(["cat"]) == Statistics(0, 0, {"cat": 0})
    assert index_of({1: []}, size=1).search(["cat"], 3).ids == []
    assert index_of({1: ["cat"]}, size=1).search([], 3).ids == []


@by_both
@pytest.mark.parametrize("live", [None, np.array([True, False, True])])
def test_a_posting_beyond_the_segment_is_found(
    monkeypatch: pytest.MonkeyPatch, add_scores, live: np.ndarray | None
) -> None:
    monkeypatch.setattr(bm25, "_add_scores", lambda: add_scores)
    whole = Postings.build([["cat"], ["dog"], ["cat"]])
    places_P = whole.places_P.copy()
    places_P[1] = 3
    index = Bm25Index([LivePostings(replace(whole, places_P=places_P), np.arange(3), live)])
    with pytest.raises(FlatcoatError, match="the postings of a segment is damaged"):
        index.search(["cat"], 3)
    assert index.search(["dog"], 3).ids == ([1] if live is None else [])


@pytest.mark.parametrize("starts", [[0, 9, 3], [0, -1, 3], [2, 1, 3]])
def test_a_range_beyond_the_postings_is_found(starts: list[int]) -> None:
    whole = Postings.build([["cat"], ["dog"], ["cat"]])
    index = Bm25Index([LivePostings(replace(whole, starts_V=np.array(starts)), np.arange(3))])
    with pytest.raises(FlatcoatError, match="the postings of a segment is damaged"):
        index.search(["cat"], 3)


def test_rows_and_postings_must_fit() -> None:
    with pytest.raises(FlatcoatError, match="postings of 1 passages for 2 rows"):
        Bm25Index([LivePostings(Postings.build([["cat"]]), np.arange(2))])
