"""The ablation: every signal alone and left out, from one index, with intervals over queries."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from flatcoat.eval import ablation, commands
from flatcoat.eval.ablation import ablated_systems, effects, variants
from flatcoat.eval.datasets import FolderCorpus, RetrievalDataset
from flatcoat.eval.report import Measured
from flatcoat.eval.runner import measure
from flatcoat.eval.systems.search import SearchIndex
from flatcoat.retrieval import retriever as retrieving
from flatcoat.retrieval.ranking import SIGNALS

root = typer.Typer()
root.add_typer(commands.app)
root.callback()(lambda: None)


@pytest.fixture
def code(tmp_path: Path) -> RetrievalDataset:
    """Functions, and tests of them that say the same words more often."""
    folder = tmp_path / "code"
    for bird in ("wren", "owl", "robin", "heron"):
        for path, text in (
            (f"src/{bird}.py", f"def build_{bird}_nest(twigs):\n    return sorted(twigs)\n"),
            (
                f"tests/test_{bird}.py",
                f"def test_{bird}():\n    assert build_{bird}_nest([2, 1]) == [1, 2]\n" * 2,
            ),
        ):
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    queries = {bird: f"build_{bird}_nest" for bird in ("wren", "owl", "robin", "heron")}
    qrels = {bird: {f"src/{bird}.py": 1} for bird in queries}
    groups = {"symbol": frozenset(["wren", "owl"]), "place": frozenset(["robin", "heron"])}
    return RetrievalDataset("birds", "dev", FolderCorpus(folder), queries, qrels, groups=groups)


def run(encoder, dataset: RetrievalDataset, results: Path, modes=("hybrid", "bm25")) -> list[Measured]:
    index = SearchIndex(encoder)
    systems = list(ablated_systems(index, modes))
    found = [
        Measured(measure(system, dataset, k=10, results=results), system, dataset.groups)
        for system in systems
    ]
    index.close()
    return found


def test_one_index_serves_every_variant(encoder, code, tmp_path: Path, monkeypatch) -> None:
    built = []
    create = retrieving.Retriever.create
    monkeypatch.setattr(
        retrieving.Retriever,
        "create",
        staticmethod(lambda *given, **named: built.append(1) or create(*given, **named)),
    )
    measured = run(encoder, code, tmp_path / "results")
    assert built == [1]
    assert len(measured) == 2 * (2 + 2 * len(SIGNALS)) == len({one.record.folder for one in measured})


def test_effects_are_differences_to_none_or_all_with_intervals(encoder, code, tmp_path: Path) -> None:
    measured = run(encoder, code, tmp_path)
    found = effects(measured)
    names = [variant.name for variant in variants()]
    for mode in ("hybrid", "bm25"):
        whole = {one.signals: one for one in found if one.mode == mode and not one.group}
        assert list(whole) == names
        for name, effect in whole.items():
            base = "all signals" if name.startswith("without") else "no signals"
            assert effect.difference == pytest.approx(effect.value - whole[base].value)
            assert effect.low <= effect.difference <= effect.high
            assert (effect.title, effect.split, effect.queries) == ("birds", "dev", 4)
        halves = [one for one in found if one.mode == mode and one.group and one.signals == "all signals"]
        assert [(one.group, one.queries) for one in halves] == [("symbol", 2), ("place", 2)]
        assert np.mean([one.value for one in halves]) == pytest.approx(whole["all signals"].value)


def test_the_command_prints_a_table_that_fits_or_json(loaded, write_beir, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = write_beir()
    shown = CliRunner().invoke(root, ["eval", str(folder), "--ablation"], catch_exceptions=False)
    lines = [line.rstrip() for line in shown.stdout.splitlines()]
    assert lines[0] == "pets test, 2 queries, bag search"
    assert lines[2].split() == ["nDCG@10", "hybrid", "difference", "bm25", "difference"]
    rows = [line.split() for line in lines if line.startswith((" only", " without", " all", " no"))]
    assert len(rows) == 2 + 2 * len(SIGNALS)
    assert max(map(len, lines)) <= 80
    told = CliRunner().invoke(root, ["eval", str(folder), "--ablation", "--mode", "bm25", "--json"])
    (rows,) = json.loads(told.stdout).values()
    assert [row["signals"] for row in rows] == [variant.name for variant in variants()]
    assert {row["mode"] for row in rows} == {"bm25"}
    assert list(rows[0]) == list(ablation.Effect._fields)
