import json

import pytest
import typer
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.eval import commands
from flatcoat.eval.compare import commands as comparison
from flatcoat.eval.datasets import load_beir
from flatcoat.eval.metrics import MEASURES, evaluate
from flatcoat.eval.records import read_records
from flatcoat.eval.trec_files import read_run

root = typer.Typer()
root.add_typer(commands.app)
root.add_typer(comparison.app)


@root.callback()
def keep_the_commands_name() -> None:
    """A lone command would lose its name."""


def invoke(*arguments: object, code: int = 0):
    result = CliRunner().invoke(root, ["eval", *map(str, arguments)])
    if isinstance(result.exception, FlatcoatError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def unbox(message: str) -> str:
    """Undo the frame and the line breaks that typer puts into an error."""
    return " ".join(message.replace("│", " ").split())


def test_json_is_all_that_stands_on_stdout(write_beir, loaded):
    result = invoke(write_beir(), "--json")
    report = json.loads(result.stdout)
    assert list(report) == ["rows"]
    assert [row["system"] for row in report["rows"]] == ["BM25", "bag"]
    for row in report["rows"]:
        assert list(row) == ["dataset", "split", "system", *MEASURES, "costs"]
        assert (row["dataset"], row["split"]) == ("pets", "test")
        assert all(0 <= row[measure] <= 1 for measure in MEASURES)
    assert report["rows"][0]["mrr@10"] == 1.0
    assert "1 queries have no judgement" in result.stderr
    assert loaded == [None]


def test_a_row_for_every_model_and_folder(write_beir, loaded):
    folders = [write_beir("one"), write_beir("two")]
    result = invoke(*folders, "--model", "org/words", "--model", "bag-of-words", "--no-bm25", "--json")
    rows = [(row["dataset"], row["system"]) for row in json.loads(result.stdout)["rows"]]
    assert rows == [(name, system) for name in ("one", "two") for system in ("org/words", "bag-of-words")]
    assert loaded == ["org/words", "bag-of-words"]


def test_the_table_shows_hundredths_and_notices(write_beir, loaded):
    lines = invoke(write_beir()).stdout.splitlines()
    (row,) = [line for line in lines if "BM25" in line]
    assert row.split() == [
        "pets",
        "test",
        "BM25",
        "80.7",
        "75.0",
        "75.0",
        "100.0",
        row.split()[-1],
    ]
    assert "x 100" in "".join(lines)
    assert lines[-1] == "pets test: 1 queries have no judgement in 'test': left out"


def test_records_hold_what_the_row_says(write_beir, loaded, tmp_path):
    folder, results = write_beir(), tmp_path / "out" / "results"
    options = ["--model", "org/words", "--hybrid", "--json", "--output", results]
    rows = json.loads(invoke(folder, *options).stdout)["rows"]
    assert [row["system"] for row in rows] == ["BM25", "org/words", "org/words + BM25"]
    records = {record.system: record for record in read_records([results])}
    for row in rows:
        record = records[row["system"]]
        again = evaluate(read_run(record.folder / "run.trec"), load_beir(folder).qrels)
        assert again.mean == pytest.approx({measure: row[measure] for measure in MEASURES})
        assert record.per_query() == again.per_query
    assert invoke(folder, *options).stdout == json.dumps({"rows": rows}, indent=2) + "\n"


def test_an_index_beside_exact_search(write_beir, loaded):
    options = ["--model", "org/words", "--index", "exact", "--index", "plaid:2", "--no-bm25", "--json"]
    rows = json.loads(invoke("--benchmark", write_beir(), *options).stdout)["rows"]
    assert [row["system"] for row in rows] == ["org/words", "org/words (plaid)"]
    assert rows[1]["ndcg@10"] == pytest.approx(rows[0]["ndcg@10"])
    assert rows[1]["costs"]["build"] > 0 == rows[0]["costs"]["build"]


def test_a_small_k_is_said_to_blind_the_measures(write_beir, loaded, tmp_path):
    result = invoke(write_beir(), "--k", 1, "--output", tmp_path)
    assert "k is 1: no measure sees beyond it" in result.stdout
    (bag,) = (record for record in read_records([tmp_path]) if record.system == "bag")
    assert all(len(scores) == 1 for scores in read_run(bag.folder / "run.trec").values())


def test_bad_usage_exits_with_2(write_beir, loaded, tmp_path):
    assert "nowhere is no folder" in unbox(invoke(tmp_path / "nowhere", code=2).stderr)
    invoke(code=2)
    invoke(write_beir(), "--k", 0, code=2)
    twins = [write_beir("a/same"), write_beir("b/same")]
    assert "share a name" in unbox(invoke(*twins, "--output", tmp_path, code=2).stderr)
    assert len(json.loads(invoke(*twins, "--json").stdout)["rows"]) == 4


def test_what_does_not_fit_rises_to_main(write_beir, loaded):
    folder = write_beir()
    with pytest.raises(FlatcoatError, match="no index 'hnsw'"):
        invoke(folder, "--index", "hnsw")
    with pytest.raises(FlatcoatError, match="bag is named twice"):
        invoke(folder, "--model", "bag", "--model", "bag")
    with pytest.raises(FlatcoatError, match="does not search dense vectors"):
        invoke(folder, "--index", "plaid")


def test_a_broken_folder_rises_to_main(write_beir, loaded):
    with pytest.raises(FlatcoatError, match=r"corpus\.jsonl is missing"):
        invoke(write_beir("broken", corpus=None))
    with pytest.raises(FlatcoatError, match="choose one of test"):
        invoke(write_beir("whole"), "--split", "dev")


def test_folders_of_one_name_are_measured_one_after_the_other_and_compared_apart(
    write_beir, loaded, tmp_path
):
    other = json.dumps({"_id": "cats", "text": "Bread rises."}) + "\n"
    folders, results = [write_beir("a/data"), write_beir("b/data", corpus=other)], tmp_path / "results"
    rows = [json.loads(invoke(folder, "--output", results, "--json").stdout)["rows"] for folder in folders]
    assert rows[0][0]["ndcg@10"] > rows[1][0]["ndcg@10"] == 0
    assert len(read_records([results])) == 4
    for folder, first in zip(folders, rows, strict=True):
        assert json.loads(invoke(folder, "--output", results, "--json").stdout)["rows"] == first
    shown = CliRunner().invoke(root, ["compare", str(results), "--format", "json"])
    tables = json.loads(shown.stdout)["tables"]
    assert {(table["dataset"], table["revision"]) for table in tables} == {
        ("data", load_beir(folder).revision) for folder in folders
    }
    markdown = CliRunner().invoke(root, ["compare", str(results), "--format", "markdown"]).stdout
    for folder in folders:
        assert f"revision {load_beir(folder).revision}" in markdown


def test_a_folder_whose_content_changed_is_measured_beside_what_it_was(write_beir, loaded, tmp_path):
    folder, results = write_beir(), tmp_path / "results"
    invoke(folder, "--output", results)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tdogs\t1\n")
    invoke(folder, "--output", results)
    records = read_records([results])
    assert len({record.revision for record in records}) == 2
    assert len(records) == 4
    assert all((record.folder / "run.trec").is_file() for record in records)
