"""The BM25 benchmark on texts small enough for a test."""

import json
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.__main__ import app
from flatcoat.eval.bench.bm25 import ENGINES, engines_of, passages_of, queries_of
from flatcoat.indexing import bm25


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    (tmp_path / "plain.txt").write_text("one two three four\nfive six seven eight nine")
    rows = [
        {"_id": "a b", "text": "otters swim far", "title": "Otters"},
        {"n": 3, "answer": "cats purr at night"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return [tmp_path / "plain.txt", tmp_path / "rows.jsonl"]


def test_passages_are_those_of_the_texts_and_then_mixtures(texts: list[Path]) -> None:
    passages = list(islice(passages_of(texts, 4), 8))
    assert passages[:4] == [
        "one two three four",
        "five six seven eight",
        "otters swim far Otters",
        "cats purr at night",
    ]
    assert passages[4:6] == ["one two seven eight", "five six three four"]
    assert passages[6] == "otters swim at night"


def test_texts_without_two_passages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three")
    with pytest.raises(FlatcoatError, match=r"a\.txt hold no two passages of 4 words"):
        next(passages_of([tmp_path / "a.txt"], 4))


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(FlatcoatError, match="engine 'other' is not known or not installed: flatcoat, bm25s"):
        engines_of(["flatcoat", "other"])


def test_every_engine_finds_the_same_best_passage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bm25, "KERNELS_FROM", bm25.KERNELS_FROM)  # Which the benchmark changes.
    passages = [
        "otters swim",
        "cats purr at night",
        "dogs bark",
        "an otter and another otter swim with otters",
    ]
    for name, engine in ENGINES.items():
        if find_spec(engine.package):
            folder = tmp_path / name
            folder.mkdir()
            engine.build(iter(passages), folder)
            search = engine.open(folder)
            assert [len(search(query, 9)) for query in ("otter swim", "cat", "walrus")] == [2, 1, 0], name


def test_the_command_measures_each_size(texts: list[Path], tmp_path: Path) -> None:
    queries = tmp_path / "queries.jsonl"
    queries.write_text(
        '{"_id": "1", "text": "otters"}\n{"_id": "2", "text": "cats"}\n{"_id": "3", "text": "x"}\n'
    )
    assert queries_of(queries, 2) == ["otters", "cats"]
    arguments = ["bench", "bm25", *map(str, texts), "--queries-from", str(queries), "--sizes", "5,9"]
    arguments += ["--engine", "flatcoat", "--engine", "fts5", "--words", "4", "-k", "10", "--queries", "2"]
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    found = json.loads(result.stdout)
    assert [(row["passages"], row["engine"]) for row in found["rows"]] == [
        (size, engine) for size in (5, 9) for engine in ("flatcoat", "fts5")
    ]
    assert all(
        row[name] > 0 for row in found["rows"] for name in ("build_s", "bytes", "ms", "ms_p95", "search_mb")
    )
