from collections.abc import Mapping
from math import exp, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.indexing.fusion import HYBRID_CODE, Fusion, reciprocal_rank_fusion, weighted_fusion

rankings = st.lists(st.lists(st.integers(0, 9), unique=True), max_size=4)


@given(rankings, st.integers(0, 100))
def test_reciprocal_ranks_add_up(rankings, constant):
    fused = reciprocal_rank_fusion(rankings, constant)
    assert fused.keys() == {id for ranking in rankings for id in ranking}
    for id, score in fused.items():
        ranks = [ranking.index(id) + 1 for ranking in rankings if id in ranking]
        assert score == pytest.approx(sum(1 / (constant + rank) for rank in ranks))


def test_the_constant_is_that_of_the_paper():
    assert reciprocal_rank_fusion([["a"]]) == {"a": 1 / 61}


def test_scores_are_spread_before_they_are_weighted():
    first, second = {"a": 30.0, "b": 20.0, "c": 10.0}, {"b": 0.9, "d": 0.5}
    assert weighted_fusion([first, second], [0.25, 0.75]) == pytest.approx(
        {"a": 0.25, "b": 0.125 + 0.75, "c": 0.0, "d": 0.0}
    )


def test_equal_scores_all_count_as_the_best():
    assert weighted_fusion([{"a": 2.0, "b": 2.0}, {}], [0.4, 0.6]) == {"a": 0.4, "b": 0.4}


scores = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
ranked = st.dictionaries(st.integers(0, 30), scores, max_size=20).map(
    lambda found: dict(sorted(found.items(), key=lambda item: -item[1]))
)
shares = st.floats(0, 1)


def twin(
    vectors: Mapping[int, float], bm25: Mapping[int, float], weight: float, coverage: float
) -> dict[int, float]:
    """Adaptive fusion as its docstring has it, in NumPy."""
    supports: list[dict[int, float]] = []
    stand_out: list[float] = []
    for found in (vectors, bm25):
        head = np.array(list(found.values()))[:100]
        deviation = head.std() if len(set(head.tolist())) > 1 else 0.0
        stand_out.append((head.max() - head.mean()) / deviation if deviation else 0.0)
        supports.append(
            {id: exp(-(head.max() - x) / deviation / 2) if deviation else 1.0 for id, x in found.items()}
        )
    share = weight + 0.1 * (stand_out[0] - stand_out[1]) + 0.3 * (0.6 - coverage)
    share = min(max(share, 0), 1)
    return {
        id: share * supports[0].get(id, 0) + (1 - share) * supports[1].get(id, 0) for id in vectors | bm25
    }


@given(ranked, ranked, shares, shares)
def test_adaptive_fusion_is_that_of_its_twin(
    vectors: dict[int, float], bm25: dict[int, float], weight: float, coverage: float
) -> None:
    fused = Fusion(weight=weight).fuse(vectors, bm25, coverage=coverage)
    assert fused == pytest.approx(twin(vectors, bm25, weight, coverage))
    assert all(0 <= score <= 1 + 1e-9 for score in fused.values())


def test_adaptive_fusion_of_a_few_scores() -> None:
    vectors, bm25 = {"a": 0.9, "b": 0.5, "c": 0.1}, {"c": 8.0, "d": 2.0}
    # Deviations of 0.4 x sqrt(2/3) and 3: the firsts stand out by sqrt(3/2) and 1.
    weight = 0.5 + 0.1 * (sqrt(1.5) - 1) + 0.3 * (0.6 - 0.8)
    assert Fusion(weight=0.5).fuse(vectors, bm25, coverage=0.8) == pytest.approx(
        {
            "a": weight,
            "b": weight * exp(-sqrt(1.5) / 2),
            "c": weight * exp(-sqrt(1.5)) + 1 - weight,
            "d": (1 - weight) * exp(-1),
        }
    )


@given(ranked, ranked, shares, st.floats(0.01, 100), st.floats(-5, 5))
def test_the_scale_of_a_ranking_does_not_matter(
    vectors: dict[int, float], bm25: dict[int, float], coverage: float, factor: float, shift: float
) -> None:
    other = {id: factor * score + shift for id, score in vectors.items()}
    fused = Fusion().fuse(vectors, bm25, coverage=coverage)
    assert Fusion().fuse(other, bm25, coverage=coverage) == pytest.approx(fused)
    other = {id: factor * score + shift for id, score in bm25.items()}
    assert Fusion().fuse(vectors, other, coverage=coverage) == pytest.approx(fused)


@pytest.mark.parametrize("name", ["adaptive", "weighted", "rrf"])
@given(vectors=ranked, bm25=ranked, ids=st.permutations(range(31)))
def test_ids_do_not_matter(
    name: str, vectors: dict[int, float], bm25: dict[int, float], ids: list[int]
) -> None:
    fusion = Fusion(name)  # pyright: ignore[reportArgumentType]
    renamed = fusion.fuse(
        {ids[id]: score for id, score in vectors.items()}, {ids[id]: score for id, score in bm25.items()}
    )
    assert renamed == {ids[id]: score for id, score in fusion.fuse(vectors, bm25).items()}


@pytest.mark.parametrize("name", ["adaptive", "weighted", "rrf"])
@given(alone=ranked, coverage=shares)
def test_a_ranking_alone_keeps_its_order(name: str, alone: dict[int, float], coverage: float) -> None:
    fusion = Fusion(name)  # pyright: ignore[reportArgumentType]
    for vectors, bm25 in ((alone, {}), ({}, alone)):
        fused = fusion.fuse(vectors, bm25, coverage=coverage)
        assert list(fused) == list(alone)
        assert sorted(fused.values(), reverse=True) == list(fused.values())
    assert fusion.fuse({}, {}) == {}


def test_equal_scores_have_equal_support() -> None:
    fused = Fusion(weight=0.5).fuse({"a": 0.3, "b": 0.3}, {"b": 0.1, "c": 0.1}, coverage=0.6)
    assert fused == {"a": 0.5, "b": 1.0, "c": 0.5}


@given(st.lists(st.floats(0, 0.5), max_size=50))
def test_more_candidates_leave_the_fused_scores_of_the_others(more: list[float]) -> None:
    vectors = {id: 1 - id / 200 for id in range(100)}
    bm25 = {id: 30 - id / 5 for id in range(50, 150)}
    fused = Fusion().fuse(vectors, bm25)
    deeper = {1000 + number: score for number, score in enumerate(sorted(more, reverse=True))}
    assert Fusion().fuse(vectors | deeper, bm25).items() >= fused.items()


@given(ranked.filter(len), ranked.filter(len), shares, shares)
def test_vectors_count_more_where_the_best_by_bm25_has_fewer_terms(
    vectors: dict[int, float], bm25: dict[int, float], one: float, two: float
) -> None:
    first = next(iter(vectors))
    bm25 = {id: score for id, score in bm25.items() if id != first}
    few, many = (Fusion().fuse(vectors, bm25, coverage=coverage) for coverage in sorted((one, two)))
    assert few[first] >= many[first]


def test_vectors_count_more_where_their_first_stands_out() -> None:
    bm25 = {id: 10 - id / 10 for id in range(100, 150)}
    even = {id: 0.9 - id / 100 for id in range(50)}
    outstanding = {0: 0.9} | {id: 0.6 - id / 100 for id in range(1, 50)}
    assert Fusion().fuse(outstanding, bm25)[0] > Fusion().fuse(even, bm25)[0]


FUSIONS = [Fusion("rrf"), Fusion("weighted"), Fusion("adaptive"), HYBRID_CODE]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_any_vectors_bm25_decides(fusion: Fusion) -> None:
    bm25 = {"a": 5.0, "b": 3.0, "c": 1.0}
    fused = fusion.fuse({}, bm25, lacking=set(bm25))
    assert sorted(fused, key=lambda id: -fused[id]) == ["a", "b", "c"]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_passage_that_lacks_vectors_gets_what_is_usual_for_its_rank(fusion: Fusion) -> None:
    """All with vectors score there as by BM25: so it is taken to, and ranks as with its vectors."""
    bm25 = {number: 100.0 - number for number in range(60)}
    vectors = {number: (100.0 - number) / 100 for number in range(60)}
    whole = fusion.fuse(vectors, bm25)
    lacking = {7, 30}
    fused = fusion.fuse({n: v for n, v in vectors.items() if n not in lacking}, bm25, lacking=lacking)
    ranking, usual = (sorted(scores, key=lambda id: -scores[id]) for scores in (fused, whole))
    for id in lacking:
        assert abs(ranking.index(id) - usual.index(id)) <= 3


@pytest.mark.parametrize("fusion", FUSIONS)
def test_lacking_vectors_neither_wins_nor_loses(fusion: Fusion) -> None:
    """Of passages that vectors and BM25 judge at random, half lack vectors: about half of the best do."""
    random = np.random.default_rng(0)
    share = []
    for _ in range(50):
        bm25 = dict(sorted(enumerate(random.exponential(size=100)), key=lambda pair: -pair[1]))
        scores = {id: 0.5 * score + random.exponential() for id, score in bm25.items()}
        lacking = set(range(0, 100, 2))
        vectors = dict(
            sorted(((id, s) for id, s in scores.items() if id not in lacking), key=lambda pair: -pair[1])
        )
        fused = fusion.fuse(vectors, bm25, lacking=lacking)
        best = sorted(fused, key=lambda id: -fused[id])[:10]
        share.append(len(lacking.intersection(best)) / 10)
    assert 0.4 < np.mean(share) < 0.6


def test_lacking_none_changes_nothing() -> None:
    vectors, bm25 = {1: 0.9, 2: 0.4, 3: 0.1}, {2: 7.5, 4: 3.0}
    for fusion in FUSIONS:
        assert fusion.fuse(vectors, bm25, lacking=set()) == fusion.fuse(vectors, bm25)
