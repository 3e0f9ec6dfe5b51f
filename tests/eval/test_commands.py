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
from flatcoat.retrieval.encoders import load as load_module

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


ALONE = ("--no-bm25", "--no-search", "--json")
"""The models alone."""


def unbox(message: str) -> str:
    """Undo the frame and the line breaks that typer puts into an error."""
    return " ".join(message.replace("│", " ").split())


def test_json_is_all_that_stands_on_stdout(write_beir, loaded):
    result = invoke(write_beir(), "--json")
    report = json.loads(result.stdout)
    assert list(report) == ["rows", "means"]
    assert [row["system"] for row in report["rows"]] == ["BM25", "bag", "bag search (hybrid)"]
    assert report["means"] == []
    for row in report["rows"]:
        assert list(row) == ["dataset", "split", "system", *MEASURES, "costs", "truncation"]
        assert (row["dataset"], row["split"]) == ("pets", "test")
        assert all(0 <= row[measure] <= 1 for measure in MEASURES)
    assert report["rows"][0]["mrr@10"] == 1.0
    assert "1 queries have no judgement" in result.stderr
    assert loaded == [None]


def test_each_kind_of_system_can_be_left_out(write_beir, loaded):
    folder = write_beir()
    rows = json.loads(invoke(folder, "--no-bm25", "--no-alone", "--mode", "bm25", "--json").stdout)["rows"]
    assert [row["system"] for row in rows] == ["bag search (bm25)"]
    with pytest.raises(FlatcoatError, match="nothing to evaluate"):
        invoke(folder, "--no-bm25", "--no-alone", "--no-search")


def test_a_row_for_every_model_and_folder(write_beir, loaded):
    folders = [write_beir("one"), write_beir("two")]
    result = invoke(*folders, "--model", "org/words", "--model", "bag-of-words", *ALONE)
    rows = [(row["dataset"], row["system"]) for row in json.loads(result.stdout)["rows"]]
    assert rows == [(name, system) for name in ("one", "two") for system in ("org/words", "bag-of-words")]
    assert loaded == ["org/words", "bag-of-words"]


def test_the_table_shows_hundredths_and_notices(write_beir, loaded):
    lines = invoke(write_beir()).stdout.splitlines()
    assert lines[0].strip() == "pets test, 2 queries"
    (row,) = [line for line in lines if line.startswith(" BM25")]
    assert row.split()[:-1] == ["BM25", "80.7", "75.0", "75.0", "100.0"]
    assert "x 100" in "".join(lines)
    assert lines[-1] == "pets test: 1 queries have no judgement in 'test': left out"


def test_the_table_fits_80_columns_and_breaks_no_name(write_beir, loaded, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    data = write_beir("a-collection-of-questions-and-answers-of-a-forum-about-astronomy")
    model = tmp_path / "late-interaction-modernbert-base-msmarco-distilled"
    model.mkdir()
    (model / "config.json").write_text("{}")
    engines = ["--index", "exact", "--index", "auto", "--index", "faiss:Flat"]
    lines = [line.rstrip() for line in invoke(data, model, *engines, "--mode", "vectors").stdout.splitlines()]
    table = lines[: lines.index("measures x 100, means over the judged queries")]
    assert max(map(len, table)) <= 80
    names = ["BM25", model.name, f"{model.name} (auto)", f"{model.name} (faiss:Flat)"]
    for name in [*names, f"{model.name} search (vectors)"]:
        figures = lines[lines.index(name) + 1].split()
        assert len(figures) == len(MEASURES) + 1
    assert lines[0] == f"{data.name} test, 2 queries"


def test_records_hold_what_the_row_says(write_beir, loaded, tmp_path):
    folder, results = write_beir(), tmp_path / "out" / "results"
    options = ["--model", "org/words", "--mode", "hybrid", "--mode", "bm25", "--json", "--output", results]
    rows = json.loads(invoke(folder, *options).stdout)["rows"]
    searches = ["org/words search (hybrid)", "org/words search (bm25)"]
    assert [row["system"] for row in rows] == ["BM25", "org/words", *searches]
    records = {record.system: record for record in read_records([results])}
    for row in rows:
        record = records[row["system"]]
        again = evaluate(read_run(record.folder / "run.trec"), load_beir(folder).qrels)
        assert again.mean == pytest.approx({measure: row[measure] for measure in MEASURES})
        assert record.per_query() == again.per_query
    assert invoke(folder, *options).stdout == json.dumps({"rows": rows, "means": []}, indent=2) + "\n"


def test_an_index_beside_exact_search(write_beir, loaded):
    options = ["--model", "org/words", "--index", "exact", "--index", "plaid:2", "--index", "plaid:1", *ALONE]
    rows = json.loads(invoke("--benchmark", write_beir(), *options).stdout)["rows"]
    assert [row["system"] for row in rows] == ["org/words", "org/words (plaid:2)", "org/words (plaid:1)"]
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
    twins = [write_beir("a/same"), write_beir("b/same", corpus='{"_id": "cats", "text": "Cats purr."}')]
    assert "share a name" in unbox(invoke(*twins, "--output", tmp_path, code=2).stderr)
    assert len(json.loads(invoke(*twins, "--no-search", "--json").stdout)["rows"]) == 4
    assert sum("same test, 2 queries" in line for line in invoke(*twins).stdout.splitlines()) == 2


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
    assert len(read_records([results])) == 6
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
    assert len(records) == 6
    assert all((record.folder / "run.trec").is_file() for record in records)


def test_the_corpus_is_encoded_once_for_all_engines_and_modes(write_beir, loaded, tmp_path, monkeypatch):
    encoded = []
    load = load_module.load_encoder

    def load_counting(name=None, precision=None):
        encoder = load(name, precision)
        encode = encoder.encode_documents

        def counted(texts):
            encoded.extend(texts)
            return encode(texts)

        encoder.encode_documents = counted
        return encoder

    monkeypatch.setattr(load_module, "load_encoder", load_counting)
    engines = ["--index", "exact", "--index", "plaid:2", "--index", "auto"]
    modes = ["--mode", "hybrid", "--mode", "bm25", "--mode", "vectors"]
    folder = write_beir()
    options = ["--model", "org/words", "--output", tmp_path / "r", "--json"]
    rows = json.loads(invoke(folder, *options, *engines, *modes).stdout)["rows"]
    assert len(rows) == 7
    assert len(encoded) == 4, "every document, once"
    vectors = [row["costs"]["vectors"] for row in rows[1:]]
    assert len(set(vectors)) == 1
    assert not list((tmp_path / "r" / "vectors").iterdir()), "they are deleted with the data set"


def test_a_sample_of_queries_is_drawn_by_its_seed_and_recorded_apart(write_beir, loaded, tmp_path):
    folder = write_beir(
        queries="".join(f'{{"_id": "q{number}", "text": "cats purr"}}\n' for number in range(20)),
        test="".join(f"q{number}\tcats\t1\n" for number in range(20)),
    )
    options = [folder, "--no-search", "--no-bm25", "--output", tmp_path / "results"]
    first = invoke(*options, "--queries", 5)
    assert "pets test, 5 queries" in first.stdout
    assert "pets test: 5 of 20 judged queries, drawn with seed 0" in first.stdout.splitlines()
    invoke(*options, "--queries", 5)
    assert len(read_records([tmp_path])) == 1
    invoke(*options, "--queries", 5, "--seed", 1)
    invoke(*options, "--queries", 20)
    invoke(*options)
    records = read_records([tmp_path])
    drawn = [frozenset(record.per_query()) for record in records]
    assert sorted(map(len, drawn)) == [5, 5, 20]
    assert len(set(drawn)) == 3
    assert len({record.folder for record in records}) == 3
