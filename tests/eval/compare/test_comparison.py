import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.eval.benchmarks import BENCHMARKS
from flatcoat.eval.compare.commands import app
from flatcoat.eval.compare.comparison import compare_results
from flatcoat.eval.compare.text import render_json, render_markdown
from flatcoat.eval.costs import Costs
from flatcoat.eval.metrics import Scores
from flatcoat.eval.records import Record, key_of, record_folder
from flatcoat.eval.trec_files import write_per_query

COSTS = Costs(
    encode=2.0,
    build=1.0,
    search=0.04,
    queries=8,
    index_bytes=3_200_000,
    peak_bytes=10**9,
    documents=100,
    vectors=100,
)
LOW = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.6]
HIGH = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.7, 0.8]

Write = Callable[..., Record]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a record with these scores by query; ``changed`` replaces fields of it."""

    def write(system: str, values: list[float], dataset: str = "pets", k: int = 100, **changed) -> Record:
        settings = changed.pop("settings", {"kind": system})
        queries = changed.pop("ids", [f"q{place}" for place in range(len(values))])
        key = key_of(settings, k)
        results = changed.pop("results", tmp_path / "results")
        folder = record_folder(results, system, key=key, dataset=dataset, split="test")
        folder.mkdir(parents=True)
        rows = {
            query: {"ndcg@10": value, "map": value / 2} for query, value in zip(queries, values, strict=True)
        }
        mean = sum(values) / len(values)
        scores = Scores(rows, {"ndcg@10": mean, "map": mean / 2})
        write_per_query(folder / "per_query.tsv", scores)
        record = Record(
            system=system,
            key=key,
            dataset=dataset,
            split="test",
            benchmark="",
            revision="r1",
            k=k,
            settings=settings,
            measures=scores.mean,
            costs=COSTS._asdict(),
            truncation={},
            versions={"flatcoat": "0"},
            queries=len(values),
            notices=[],
            finished="2026-11-21T12:00:00+00:00",
            folder=folder,
        )
        record = replace(record, **changed)
        record.write()
        return record

    return write


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    return [tmp_path / "results"]


def test_a_table_tests_every_system_against_the_baseline(write, results):
    write("BM25", LOW)
    write("better", HIGH)
    write("same", LOW)
    (table,) = compare_results(results, "ndcg@10").tables
    assert [row.label for row in table.rows] == ["better", "BM25", "same"]
    better, bm25, same = (row.contrast for row in table.rows)
    assert bm25 is None
    assert (better.wins, better.ties, better.losses) == (8, 0, 0)
    assert better.difference == pytest.approx(0.2)
    assert better.p_randomisation == pytest.approx(2 / 2**8)
    assert better.p_holm == pytest.approx(2 * 2 / 2**8)
    assert better.mark == "†"
    assert (same.wins, same.ties, same.losses, same.p_holm, same.mark) == (0, 8, 0, 1.0, "")
    assert table.rows[0].milliseconds == pytest.approx(5)


def test_other_measures_and_baselines_may_be_chosen(write, results):
    write("BM25", LOW)
    key = write("better", HIGH).key
    for wanted in ("better", key):
        comparison = compare_results(results, "map", baseline=wanted)
        assert comparison.baseline == "better"
        assert comparison.tables[0].rows[1].contrast.difference == pytest.approx(-0.1)
    with pytest.raises(FlatcoatError, match=r"'worse' is no system here: choose one of BM25, better"):
        compare_results(results, "map", baseline="worse")
    with pytest.raises(FlatcoatError, match=r"record\.json has no 'recall@5': choose one of ndcg@10, map"):
        compare_results(results, "recall@5")


def test_two_systems_of_one_name_are_told_apart(write, results):
    one = write("small", LOW, settings={"bits": 1})
    two = write("small", HIGH, settings={"bits": 2})
    labels = {f"small [{one.key}]", f"small [{two.key}]"}
    assert set(compare_results(results, "ndcg@10", baseline=one.key).settings) == labels
    with pytest.raises(FlatcoatError, match="'small' are 2 systems"):
        compare_results(results, "ndcg@10", baseline="small")


@pytest.mark.parametrize(
    "change", [{"revision": "r2"}, {"k": 10}, {"ids": [f"other{place}" for place in range(8)]}]
)
def test_what_was_measured_otherwise_is_not_compared_and_said_so(write, results, change):
    write("BM25", LOW)
    write("better", HIGH, **change)
    comparison = compare_results(results, "ndcg@10")
    assert [len(table.rows) for table in comparison.tables] == [1, 1]
    assert all(row.contrast is None for table in comparison.tables for row in table.rows)
    assert "pets test is shown in 2 tables, not compared" in comparison.notices[0]
    assert any("BM25 was not measured, so nothing is tested" in notice for notice in comparison.notices)


def test_of_two_measurements_of_the_same_the_later_counts(write, results, tmp_path):
    write("BM25", LOW)
    later = {"results": tmp_path / "again", "finished": "2026-11-22T12:00:00+00:00"}
    write("BM25", HIGH, **later)
    comparison = compare_results([*results, tmp_path / "again"], "ndcg@10")
    assert [row.mean for row in comparison.tables[0].rows] == [pytest.approx(0.525)]
    assert "holds the same, measured later" in comparison.notices[0]


def test_cqadupstack_counts_once_in_the_mean(write, results):
    parts = BENCHMARKS["beir"].average_of["CQADupstackRetrieval"]
    for dataset, values in [("SciFact", HIGH), *((part, LOW) for part in parts)]:
        write("BM25", values, dataset, benchmark="beir")
    write("partial", HIGH, "SciFact", benchmark="beir")
    (mean,) = compare_results(results, "ndcg@10").means
    assert mean.means == {"BM25": pytest.approx((0.525 + 0.325) / 2)}
    assert mean.partial == {"partial": 1}
    assert (sorted(mean.measured), mean.tasks) == (["CQADupstackRetrieval", "SciFact"], 15)


def test_the_mean_leaves_out_what_has_two_tables(write, results):
    write("BM25", LOW, "SciFact", benchmark="beir")
    write("BM25", HIGH, "SciFact", k=10, benchmark="beir")
    comparison = compare_results(results, "ndcg@10")
    assert comparison.means == []
    assert "beir: SciFact is left out of the mean, it is in several tables" in comparison.notices


def test_an_index_is_held_against_exact_search_of_its_own_encoder(write, results):
    exact = {"kind": "encoder", "encoder": {"weights": "a"}, "engine": {"name": "exact"}, "recall": None}
    plaid = exact | {"engine": {"name": "plaid", "bits": 2}, "recall": 0.9}
    write("exact", HIGH, settings=exact)
    write("plaid", LOW, settings=plaid, costs=COSTS._replace(search=0.01)._asdict())
    write("other", LOW, settings=plaid | {"encoder": {"weights": "b"}})
    (loss,) = compare_results(results, "ndcg@10").losses
    assert (loss.exact, loss.index) == ("exact", "plaid")
    assert loss.loss == pytest.approx(0.2)
    assert loss.p_randomisation == pytest.approx(2 / 2**8)
    assert loss.speedup == pytest.approx(4)


def test_published_figures_stand_beside_and_are_marked(write, results):
    write("BM25", LOW, "nfcorpus")
    comparison = compare_results(results, "ndcg@10")
    assert {figure.system: figure.value for figure in comparison.published["nfcorpus"]}["bm25s"] == 0.321
    assert "not measured here" in render_markdown(comparison)
    assert compare_results(results, "map").published == {}


def test_files_that_contradict_each_other_are_named(write, results):
    record = write("BM25", LOW)
    replace(record, queries=9).write()
    with pytest.raises(FlatcoatError, match=r"record\.json says .* over 9 queries, per_query\.tsv .* over 8"):
        compare_results(results, "ndcg@10")
    replace(record, measures={"ndcg@10": 0.9}).write()
    with pytest.raises(FlatcoatError, match=r"record\.json says 0\.900000"):
        compare_results(results, "ndcg@10")
    replace(record, costs={"search": 1.0}).write()
    with pytest.raises(FlatcoatError, match=r"record\.json has other costs than encode, build"):
        compare_results(results, "ndcg@10")
    record.write()
    for text in ("query-id\tndcg@10\n", "query-id\tmap\n" + "".join(f"q{n}\t0.5\n" for n in range(8))):
        (record.folder / "per_query.tsv").write_text(text)
        with pytest.raises(FlatcoatError, match=r"per_query\.tsv nan over"):
            compare_results(results, "ndcg@10")
    (record.folder / "per_query.tsv").unlink()
    with pytest.raises(FlatcoatError, match=r"per_query\.tsv is missing"):
        compare_results(results, "ndcg@10")


def test_markdown_and_json_say_the_same(write, results):
    write("BM25", LOW)
    write("a|b", HIGH)
    comparison = compare_results(results, "ndcg@10")
    assert "| a\\|b | 52.5 | +20.0 ‡ | 0.008 | 8/0/0 | 26.2 | 5 | 3.2 MB |" in render_markdown(comparison)
    report = json.loads(render_json(comparison))
    better, baseline = report["tables"][0]["systems"]
    assert (better["system"], better["contrast"]["wins"], baseline["contrast"]) == ("a|b", 8, None)
    assert better["measures"]["ndcg@10"] == pytest.approx(0.525)


def test_the_command_writes_what_the_ending_says(write, results, tmp_path):
    write("BM25", LOW)
    write("better", HIGH)

    def run(*options: object):
        return CliRunner().invoke(app, [str(results[0]), *map(str, options)])

    assert "+20.0 ‡" in run().stdout
    assert run("--format", "markdown").stdout.startswith("# nDCG@10 x 100")
    page = tmp_path / "page.html"
    assert run("--output", page, "--measure", "map").exit_code == 0
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert json.loads(run("--format", "json").stdout)["baseline"] == "BM25"
    assert run("--output", tmp_path / "page.pdf").exit_code == 2
