import json
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.eval.metrics import Scores, evaluate
from flatcoat.eval.trec_files import read_run, write_per_query, write_run

IDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=5)
RUNS = st.dictionaries(
    IDS, st.dictionaries(IDS, st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
def test_a_run_comes_back_to_the_last_bit(tmp_path: Path, run):
    path = tmp_path / "a.trec"
    write_run(path, run, tag="flatcoat")
    back = read_run(path)
    assert {query: dict.fromkeys(scores) for query, scores in back.items()} == {
        query: dict.fromkeys(scores) for query, scores in run.items()
    }
    for query, scores in run.items():
        for document, score in scores.items():
            assert np.float32(back[query][document]) == np.float32(score)


def test_lines_stand_in_trec_evals_order(tmp_path):
    path = tmp_path / "a.trec"
    write_run(path, {"q": {"a": 0.25, "b": 1 / 3, "c": 0.25, "d": -2}}, tag="system-1")
    assert path.read_text() == (
        "q Q0 b 1 0.333333343 system-1\n"
        "q Q0 c 2 0.25 system-1\nq Q0 a 3 0.25 system-1\nq Q0 d 4 -2 system-1\n"
    )
    with path.open() as file:
        assert pytrec_eval.parse_run(file) == read_run(path)


def test_a_run_is_measured_the_same_from_its_file(tmp_path):
    generator = np.random.default_rng(0)
    run = {f"q{q}": {f"d{d}": float(generator.normal()) for d in range(50)} for q in range(5)}
    qrels = {query: {f"d{d}": 1 for d in range(0, 50, 7)} for query in run}
    write_run(tmp_path / "a.trec", run, tag="x")
    assert evaluate(read_run(tmp_path / "a.trec"), qrels) == evaluate(run, qrels)


@pytest.mark.parametrize(
    ("run", "tag", "message"),
    [
        ({"q 1": {"d": 1.0}}, "t", "query id 'q 1'"),
        ({"q": {"d\t1": 1.0}}, "t", "document id"),
        ({"q": {"": 1.0}}, "t", "document id ''"),
        ({"q": {"d": 1.0}}, "my tag", "tag 'my tag'"),
        ({"q": {"d": float("nan")}}, "t", "query 'q', document 'd'"),
    ],
)
def test_what_a_run_file_cannot_carry_is_an_error(tmp_path, run, tag, message):
    with pytest.raises(FlatcoatError, match=message):
        write_run(tmp_path / "a.trec", run, tag=tag)


@pytest.mark.parametrize("line", ["q Q0 d 2 0.5", "q Q0 d 2 high tag", "q Q0 c 2 0.5 tag"])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "a.trec"
    path.write_text(f"q Q0 c 1 0.7 tag\n{line}\n")
    with pytest.raises(FlatcoatError, match=r"a\.trec:2 "):
        read_run(path)


def test_scores_by_query_are_tsv_or_json(tmp_path):
    scores = Scores(
        {"q1": {"map": 0.1, "mrr": 1 / 3}, "q2": {"map": 0.0, "mrr": 1.0}}, {"map": 0.05, "mrr": 2 / 3}
    )
    write_per_query(tmp_path / "a.tsv", scores)
    assert (tmp_path / "a.tsv").read_text() == f"query-id\tmap\tmrr\nq1\t0.1\t{1 / 3}\nq2\t0.0\t1.0\n"
    write_per_query(tmp_path / "a.json", scores)
    assert json.loads((tmp_path / "a.json").read_text()) == scores.per_query
