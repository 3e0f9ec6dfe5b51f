"""trec_eval's figures against worked examples and against a slow twin."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.eval.metrics import MEASURES, drop_self_hits, evaluate, ranked

CUT = [
    "ndcg@1",
    "ndcg@3",
    "ndcg@10",
    "map@2",
    "recall@2",
    "precision@3",
    "success@1",
    "mrr@2",
    "mrr@3",
    "mrr@10",
]
ALL = [*CUT, "ndcg", "map", "mrr", "recall@100"]


def score_slowly(measure: str, scores: dict[str, float], grades: dict[str, int]) -> float:
    """The textbook definition, on results ordered by score and then by id, both falling."""
    family, _, cutoff = measure.partition("@")
    depth = int(cutoff) if cutoff else len(scores)
    order = sorted(scores, key=lambda id: (np.float32(scores[id]), id), reverse=True)[:depth]
    gains = [max(grades.get(id, 0), 0) for id in order]
    ranks = [rank for rank, gain in enumerate(gains, start=1) if gain > 0]
    relevant = sum(grade > 0 for grade in grades.values())
    if not ranks:
        return 0.0
    if family == "ndcg":
        ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[
            : int(cutoff or 10**9)
        ]
        return _discount(gains) / _discount(ideal)
    return {
        "map": sum(found / rank for found, rank in enumerate(ranks, start=1)) / relevant,
        "mrr": 1 / ranks[0],
        "recall": len(ranks) / relevant,
        "precision": len(ranks) / max(depth, 1),
        "success": 1.0,
    }[family]


def _discount(gains: list[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


IDS = st.sampled_from([*"abcdefghijklmnop", "doc9", "doc10", "é"])
RESULTS = st.dictionaries(IDS, st.sampled_from([-1.5, 0.0, 1.0, 1.0 + 1e-9, 2.0, 1e30]), max_size=17)
GRADES = st.dictionaries(IDS, st.integers(-1, 4), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["q1", "q2", "q3"]), RESULTS),
    st.dictionaries(st.sampled_from(["q1", "q2", "q4"]), GRADES, min_size=1),
)
def test_every_measure_equals_its_definition(run, qrels):
    scores = evaluate(run, qrels, measures=ALL)
    assert scores.per_query.keys() == qrels.keys()
    for measure in ALL:
        expected = {query: score_slowly(measure, run.get(query, {}), qrels[query]) for query in qrels}
        for query, value in expected.items():
            assert scores.per_query[query][measure] == pytest.approx(value, abs=1e-9), (measure, query)
        assert scores.mean[measure] == pytest.approx(sum(expected.values()) / len(expected), abs=1e-9)


def test_a_worked_example():
    qrels = {"q": {"a": 3, "b": 1, "c": 0, "lost": 1}}
    run = {"q": {"c": 9.0, "a": 8.0, "x": 7.0, "b": 6.0}}
    ideal = 3 + 1 / math.log2(3) + 1 / 2
    assert evaluate(run, qrels).mean == pytest.approx(
        {
            "ndcg@10": (3 / math.log2(3) + 1 / math.log2(5)) / ideal,
            "map": (1 / 2 + 2 / 4) / 3,
            "recall@100": 2 / 3,
            "mrr@10": 1 / 2,
        }
    )


def test_mrr_stops_at_its_cutoff():
    run = {"q": {f"d{rank:02}": -float(rank) for rank in range(1, 50)}}
    for rank in range(1, 50):
        qrels = {"q": {f"d{rank:02}": 1}}
        for cutoff in (1, 3, 10, 49):
            value = evaluate(run, qrels, measures=[f"mrr@{cutoff}"]).mean[f"mrr@{cutoff}"]
            assert value == (1 / rank if rank <= cutoff else 0.0)


def test_ties_fall_to_the_greater_id():
    run = {"q": {"a": 1.0, "b": 1.0}}
    assert evaluate(run, {"q": {"b": 1}}, measures=["mrr"]).mean["mrr"] == 1.0
    assert evaluate(run, {"q": {"a": 1}}, measures=["mrr"]).mean["mrr"] == 0.5
    assert ranked({"d9": 1.0, "d10": 1.0 + 1e-12, "d1": 5}) == ["d1", "d9", "d10"]


def test_a_query_without_results_counts_zero():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}, "unjudged": {}}
    scores = evaluate({"q1": {"a": 1.0}, "q2": {}, "stranger": {"a": 1.0}}, qrels)
    assert scores.mean["ndcg@10"] == pytest.approx(1 / 3)
    assert scores.per_query["q2"] == scores.per_query["q3"] == dict.fromkeys(MEASURES, 0.0)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e39, np.float32("nan")])
def test_a_score_that_is_not_finite_names_its_query(score):
    with pytest.raises(FlatcoatError, match="query 'q7', document 'd'"):
        evaluate({"q7": {"d": score}}, {"q7": {"d": 1}})


def test_negative_grades_count_as_zero():
    """pytrec_eval by itself may loop for ever on a query that has no others."""
    qrels = {"q2": {"f": 2, "i": 0, "g": -1, "a": 4}, "q4": {"i": -1, "b": -1}}
    scores = evaluate({"q4": {"n": -1.5, "a": 0.0, "i": 1.0}}, qrels, measures=ALL)
    assert scores.mean == dict.fromkeys(ALL, 0.0)


def test_numpy_numbers_are_numbers():
    run = {"q": {"a": np.float32(0.5), "b": np.int64(2), "c": 1}}
    assert evaluate(run, {"q": {"a": np.int64(1)}}, measures=["mrr"]).mean["mrr"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "measure", ["ndcg@", "ndcg@0", "nDCG@10", "recall", "precision", "bogus@5", "", "P_10"]
)
def test_an_unknown_measure_lists_the_known_ones(measure):
    with pytest.raises(FlatcoatError, match=r"known are ndcg, ndcg@k, map, .*success@k"):
        evaluate({}, {"q": {"a": 1}}, measures=[measure])


def test_qrels_that_judge_nothing_are_an_error():
    with pytest.raises(FlatcoatError, match="judge no query"):
        evaluate({"q": {"a": 1.0}}, {"q": {}})


def test_self_hits_are_dropped_by_id():
    assert drop_self_hits({"a": {"a": 2.0, "b": 1.0}, "b": {"c": 1.0}}) == {"a": {"b": 1.0}, "b": {"c": 1.0}}
