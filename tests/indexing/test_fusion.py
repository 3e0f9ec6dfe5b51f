import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.indexing.fusion import reciprocal_rank_fusion, weighted_fusion

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
