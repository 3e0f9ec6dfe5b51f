"""Collections of shards from the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat.__main__ import app


def run(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output if not code else " ".join(result.output.replace("│", " ").split())


def write(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    for number in range(count):
        (folder / f"{number}.md").write_text(f"# Note {number}\n\nThe river number {number} is cold.\n")


def test_from_files_to_answers(tmp_path: Path) -> None:
    docs, wiki = tmp_path / "docs", tmp_path / "wiki"
    write(docs, 12)
    made = json.loads(run("index", docs, "--index", wiki, "--shards", "4", "--no-vectors", "--json"))
    assert (made["added"], made["documents"]) == (12, 12)
    (found,) = json.loads(run("search", "river number 7", "-k", "1", "--index", wiki, "--json"))["results"]
    assert found["document_id"] == "7.md"
    assert "7.md" in run("search", "river number 7", "-k", "1", "--index", wiki)
    assert run("search", "river number 7", "-k", "1", "--index", wiki, "-l") == "7.md\n"
    assert f"{wiki} in 4 shards" in run("info", "--index", wiki)
    assert json.loads(run("info", "--index", wiki, "--json"))["sources"] == [str(docs)]
    write(docs, 10)
    again = json.loads(run("index", docs, "--index", wiki, "--json"))
    assert (again["unchanged"], again["removed"]) == (10, 2)
    assert "1 of 1 document removed" in run("remove", "7.md", "--index", wiki)
    run("compact", "--index", wiki)
    assert "is whole" in run("verify", "--index", wiki)
    run("forget", docs, "--index", wiki)
    assert "9 passages" in run("export", wiki, tmp_path / "out.jsonl")


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    docs, wiki = tmp_path / "docs", tmp_path / "wiki"
    write(docs, 3)
    run("index", docs, "--index", wiki, "--shards", "2", "--no-vectors")
    assert "number of shards stays 2" in run("index", docs, "--index", wiki, "--shards", "3", code=2)
    assert "not watched" in run("index", docs, "--index", wiki, "--watch", code=2)
    assert "not exist" in run("search", "x", "--index", tmp_path / "absent", code=2)
    with pytest.raises(Exception, match="no collection of shards"):
        CliRunner().invoke(app, ["search", "x", "--index", "memory://absent"], catch_exceptions=False)
