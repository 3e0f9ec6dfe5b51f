"""The pairs of the shipped model from a folder of small collections, by the command."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat.eval.datasets import load_beir
from flatcoat.recipes.shipped_commands import app
from flatcoat.recipes.shipped_pairs import MEASURED

RUN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def lines(rows: Iterable[object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_beir(folder: Path, pairs: Iterable[tuple[str, str, str]], split: str) -> None:
    """Pairs of a query, a document and its title."""
    (folder / "qrels").mkdir(parents=True)
    numbered = list(enumerate(pairs))
    corpus = [{"_id": f"d{n}", "title": title, "text": text} for n, (_, text, title) in numbered]
    (folder / "corpus.jsonl").write_text(lines(corpus))
    (folder / "queries.jsonl").write_text(lines({"_id": f"q{n}", "text": q} for n, (q, _, _) in numbered))
    qrels = "".join(f"q{n}\td{n}\t1\n" for n, _ in numbered)
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in MEASURED:
        write_beir(root / name, [(f"query of {name}", f"{name} says {RUN}", "")], "test")
    write_beir(
        root / "squad-train", [(f"ask {n}?", f"paragraph {n}", f"Page {n % 9}") for n in range(99)], "train"
    )
    write_beir(root / "nl2bash", [(f"list {n}", f"ls {n}", "") for n in range(9)], "train")
    write_beir(root / "mbpp", [("query of cosqa", "f()", ""), ("add", "a + b", "")], "train")
    (root / "medquad").mkdir()
    medical = [{"question": f"what is {n}?", "answer": f"a disease {n}", "focus": f"F{n}"} for n in range(9)]
    (root / "medquad" / "pairs.jsonl").write_text(
        lines([*medical, {"question": "", "answer": "", "focus": ""}])
    )
    (root / "code-pairs").mkdir()
    code = [
        {"query": f"do {n}", "document": f"def f{n}(): {RUN if n == 7 else n}", "lang": "python"}
        | {"source": f"owner/repo{n % 40}", "path": "a.py"}
        for n in range(2_400)
    ]
    docs = [
        {"query": f"Heading {n}", "document": f"Section {n}", "lang": "en", "source": f"owner/repo{n % 40}"}
        | {"path": f"{n}.md"}
        for n in range(2_400)
    ]
    for name, rows in (("code", code), ("docs", docs), ("commands", docs[:60])):
        with gzip.open(root / "code-pairs" / f"{name}.jsonl.gz", "wt") as file:
            file.write(lines(rows))
    return root


def test_pairs_are_trained_on_or_held_back_as_whole_groups(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs"
    result = CliRunner().invoke(app, ["prepare-pairs", str(data), "--output", str(output), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads((output / "pairs.json").read_text())
    assert json.loads(result.stdout) == report
    trained = {
        kind: [json.loads(line) for line in (output / kind / "pairs.jsonl").read_text().splitlines()]
        for kind in report
    }
    # What overlaps a set that measures the model is nowhere.
    assert report["code-python"]["removed"] == {"nfcorpus": 1}
    assert report["tasks"]["removed"] == {"cosqa": 1}
    assert [row["query"] for row in trained["tasks"]] == ["add"]
    assert report["medical"]["read"] == 9
    # A repository is held back with its code and its documentation.
    held = set(report["code-python"]["dev_groups"]) | set(report["docs"]["dev_groups"])
    for kind in ("code-python", "docs"):
        numbers = {int(row["query"].split()[1]) for row in trained[kind]}
        assert numbers
        assert not {f"owner/repo{number % 40}" for number in numbers} & held
        dev = load_beir(output / "dev" / kind, "dev")
        asked = {int(text.split()[1]) for text in dev.queries.values()}
        assert asked
        assert {f"owner/repo{number % 40}" for number in asked} <= held
        assert report[kind]["trained"] == len(trained[kind])
    assert len(trained["shell"]) == 9


def test_the_same_data_give_the_same_files(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        arguments = ["prepare-pairs", str(data), "--output", str(tmp_path / name)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "code-python" in result.output
    one, two = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two


def test_an_output_that_is_there_is_kept(data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["prepare-pairs", str(data), "--output", str(tmp_path)])
    assert result.exit_code != 0
    assert "name another --output" in str(result.exception)
