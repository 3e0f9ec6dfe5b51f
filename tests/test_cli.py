"""The command line from end to end, with a small random model; in a child process where exit codes matter."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flatcoat import FlatcoatError, Retriever, __version__
from flatcoat.__main__ import app

MakeFolder = Callable[..., Path]

COMMAND = [sys.executable, "-m", "flatcoat"]


@pytest.fixture(scope="session")
def model(make_colbert: MakeFolder) -> Path:
    return make_colbert()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "http.py").write_text("def parse_http_response(raw):\n    return raw\n")
    (folder / "cats.md").write_text("# Cats\n\nCats purr when they are content.\n")
    (folder / "image.png").write_bytes(b"\x89PNG\0\0")
    return folder


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=120, check=False
    )


def invoke(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def unbox(message: str) -> str:
    """Undo the frame and the line breaks that typer puts into an error."""
    return " ".join(message.replace("│", " ").split())


@pytest.fixture
def index(tree: Path, model: Path, tmp_path: Path) -> Path:
    invoke("index", tree, "--index", tmp_path / "my.index", "--model", model)
    return tmp_path / "my.index"


TWO_COMMANDS = """
import typer
app = typer.Typer()
app.command("one")(lambda number: None)
app.command("two")(lambda number: None)
app(["--help"])
"""


def test_help_takes_about_as_long_as_that_of_two_commands() -> None:
    def seconds(*arguments: str) -> float:
        before = os.times()
        command = [sys.executable, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=with_bytecode)
        listed.update(re.findall(r"^│ (\w[\w-]*) +", done.stdout, re.MULTILINE))
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    listed: set[str] = set()
    with_bytecode = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = [(seconds("-m", "flatcoat", "--help"), seconds("-c", TWO_COMMANDS)) for _ in range(5)]
    ours, least = map(min, zip(*times, strict=True))
    assert ours < 1.5 * least
    commands = {"index", "search", "remove", "forget", "compact", "verify", "info"}
    commands |= {"mine", "score", "train", "push", "eval", "compare", "glue", "bench"}
    assert commands | {"pretrain", "tokenizer"} <= listed


def test_nothing_heavy_is_imported_for_help() -> None:
    code = "import sys, flatcoat.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "transformers", "pylate", "mteb", "yaml", "pydantic"} & set(
        done.stdout.split()
    )


def test_version() -> None:
    assert invoke("--version").stdout == f"flatcoat {__version__}\n"


def test_index_says_what_it_did_as_json(tree: Path, model: Path, tmp_path: Path) -> None:
    arguments = ("index", tree, "--index", tmp_path / "i", "--model", model, "--json")
    report = json.loads(invoke(*arguments).stdout)
    sizes = ("documents", "passages", "passages_with_vectors", "vectors", "segments", "bytes", "engine")
    counts = ("found", "added", "unchanged", "renamed", "removed", "skipped", "encoded")
    assert list(report) == [*counts, *sizes, "seconds"]
    assert (report["added"], report["unchanged"], report["documents"], report["passages"]) == (2, 0, 2, 2)
    assert report["skipped"] == [{"path": "image.png", "reason": "binary"}]
    assert report["vectors"] > 10
    again = json.loads(invoke("index", tree, "--index", tmp_path / "i", "--json").stdout)
    assert (again["added"], again["unchanged"], again["documents"]) == (0, 2, 2)


def test_index_says_what_it_did_to_people(tree: Path, model: Path, tmp_path: Path) -> None:
    text = unbox(invoke("index", tree, "--index", tmp_path / "i", "--model", model).stdout)
    assert "3 found: 2 documents indexed (2 passages), 0 unchanged, 1 skipped" in text
    assert "skipped 1: binary, as image.png" in text
    assert "holds 2 documents, 2 passages" in text


def test_search_as_json(index: Path) -> None:
    found = json.loads(invoke("search", "cats purr", "--index", index, "--json").stdout)
    assert list(found) == ["query", "results", "index"]
    encoded = {"passages": 2, "passages_with_vectors": 2}
    assert found["index"] == encoded | {"behind": None, "missing_shards": []}
    assert found["query"] == "cats purr"
    assert [result["rank"] for result in found["results"]] == [1, 2]
    first = found["results"][0]
    assert set(first) == {
        *("rank", "score", "document_id", "title", "lines", "text", "metadata", "section"),
        *("scores", "duplicates", "more", "explanation", "best_span", "best_lines", "evidence"),
    }
    assert all(len(result["best_lines"]) == 2 for result in found["results"])
    assert {result["document_id"] for result in found["results"]} == {"cats.md", "src/http.py"}
    assert len(json.loads(invoke("search", "x", "--index", index, "-k", 1, "--json").stdout)["results"]) == 1


def test_search_for_people_and_with_conditions(index: Path) -> None:
    text = invoke("search", "parse http", "--index", index, "--where", "lang=python").stdout
    unquoted = invoke("search", "parse", "http", "--top-k", "5", "--index", index, "--where", "lang=python")
    assert unquoted.stdout == text
    assert f"{index.parent}/tree/src/http.py:1" in text
    assert "    1: def parse_http_response(raw):" in text
    assert "cats.md" not in text
    none = invoke("search", "x", "--index", index, "--where", "lang=python", "--where", "path=y")
    assert "nothing found that meets the conditions" in none.stdout
    values = json.loads(invoke("search", "x", "--index", index, "--where", "lang=go", "--json").stdout)
    assert (values["query"], values["results"]) == ("x", [])


def test_patterns_and_filters_find_without_a_query(index: Path) -> None:
    for arguments in (
        ("--regex", r"def \w+\("),
        ("-F", "parse_http"),
        ("--where", "lang=python and symbol exists"),
        ("--where", '{"lang": {"$in": ["python", "go"]}}'),
        ("cats", "--regex", "DEF", "--case", "ignore", "--mode", "bm25", "--where", "not lang=go"),
    ):
        values = json.loads(invoke("search", *arguments, "--index", index, "--json").stdout)
        found = [result["document_id"] for result in values["results"]]
        assert found == ([] if arguments[0] == "cats" else ["src/http.py"])
        assert values["query"] == ("cats" if arguments[0] == "cats" else None)
    text = invoke("search", "--regex", "PURR", "--case", "ignore", "--index", index).stdout
    assert "cats.md:" in text
    assert "nothing found that meets" in invoke("search", "--fixed", "zebra", "--index", index).stdout
    unknown = run("search", "x", "--index", index, "--where", "lamg=python")
    assert (unknown.returncode, "did you mean 'lang'" in unknown.stderr) == (1, True)


def test_files_that_match_are_paths_for_the_shell(
    index: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tree.parent / "rows.jsonl"
    rows.write_text("".join(f'{{"id": "row{n}", "text": "cats purr {n}"}}\n' for n in range(9)))
    invoke("index", rows, "--index", index)
    found = invoke("search", "cats", "--index", index, "-l", "-k", 20).stdout.splitlines()
    assert sorted(found) == [str(rows), str(tree / "cats.md"), str(tree / "src" / "http.py")]
    best = invoke("search", "content cats", "--index", index, "-l", "--mode", "bm25").stdout.splitlines()
    assert best == [str(tree / "cats.md"), str(rows)]
    monkeypatch.chdir(tree)
    (tree / "cats.md").unlink()
    only = invoke("search", "cats", "--index", index, "--files-with-matches", "-k", 20, "--no-sync").stdout
    assert sorted(only.splitlines()) == [str(rows), "src/http.py"]
    shown = invoke("search", "cats", "--index", index, "-k", 20, "--no-sync").stdout
    places = re.findall(r"^ +\d+  -?\d\.\d\d  (.+):\d+  ", shown, re.MULTILINE)
    assert {"src/http.py", "cats.md", "row7"} <= {*places}


def test_a_budget_prints_lines_for_a_prompt(index: Path) -> None:
    arguments = ("search", "when do cats purr", "--index", index, "--mode", "bm25")
    text = invoke(*arguments, "--budget", 60).stdout
    assert "cats.md:3\nCats purr when they are content." in text
    assert json.loads(invoke(*arguments, "--budget", 60, "--json").stdout)["results"][0]["evidence"]
    both = run(*arguments, "--budget", 60, "-l")
    assert (both.returncode, "--files-with-matches" in both.stderr) == (2, True)


def test_no_file_that_matches_is_no_line_on_stdout(index: Path) -> None:
    none = invoke("search", "x", "--index", index, "-l", "--where", "lang=go")
    assert (none.stdout, none.stderr) == ("", "nothing found that meets the conditions\n")


def test_context_and_colours(index: Path) -> None:
    arguments = ("search", "purr", "--index", index, "--mode", "bm25")
    assert invoke(*arguments, "-C", 0).stdout.splitlines()[1:] == ["    3: Cats purr when they are content."]
    assert invoke(*arguments, "--context", 2).stdout.splitlines()[1:] == [
        "    1  # Cats",
        "    2",
        "    3: Cats purr when they are content.",
    ]
    assert "\x1b" not in invoke(*arguments).stdout
    colored = invoke(*arguments, "--color", "always").stdout
    assert "\x1b[1;33mpurr\x1b[0m" in colored
    assert "\x1b]8" not in colored


def test_scores_and_matched_words_are_explained(index: Path) -> None:
    lines = invoke("search", "parse http", "--index", index, "-k", 1, "--explain").stdout.splitlines()
    assert re.match(r" {7}vectors +-?\d+\.\d\d  bm25 +\d+\.\d\d  fused \d\.\d\d", lines[-2])
    assert "parse" in lines[-1] and "http" in lines[-1]
    assert max(map(len, lines[-2:])) <= 80


def test_one_is_no_plural(tmp_path: Path, model: Path) -> None:
    (tmp_path / "one.md").write_text("cats")
    text = unbox(invoke("index", tmp_path / "one.md", "--index", tmp_path / "i", "--model", model).stdout)
    assert "1 found: 1 document indexed (1 passage), 0 unchanged, 0 skipped" in text
    assert "holds 1 document, 1 passage, " in text
    assert "i: 1 document, 1 passage, " in invoke("info", "--index", tmp_path / "i").stdout
    assert invoke("remove", "x", "--index", tmp_path / "i").stdout == "0 of 1 document removed\n"
    assert (
        "forgotten, 1 document removed"
        in invoke("forget", tmp_path / "one.md", "--index", tmp_path / "i").stdout
    )


def test_info_without_an_index_says_what_computes_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = json.loads(invoke("info", "--json").stdout)
    assert values["attention"]["bf16"] in ("flash", "varlen", "grouped")
    assert f"attention in fp32: {values['attention']['fp32']}" in invoke("info").stdout


def test_info_and_remove(index: Path, model: Path) -> None:
    values = json.loads(invoke("info", "--index", index, "--json").stdout)
    assert (values["documents"], values["passages"]) == (2, 2)
    assert values["contract"]["encoder"]["kind"] == "colbert"
    assert values["contract"]["encoder"]["model"] == str(model.resolve())
    assert "query prefix: '[Q] '" in invoke("info", "--index", index).stdout
    assert "1 of 2 documents removed" in invoke("remove", "cats.md", "nobody", "--index", index).stdout
    assert json.loads(invoke("info", "--index", index, "--json").stdout)["documents"] == 1
    assert "cats.md" not in invoke("search", "cats", "--index", index, "--no-sync").stdout


def test_a_document_is_removed_by_its_file(index: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.parent)
    (shown,) = invoke("search", "parse", "--index", index, "--mode", "bm25", "-l").stdout.splitlines()
    assert shown == "tree/src/http.py"
    for other in ("tree/src", "tree", "src", "tree/none.md", "none.md"):
        assert invoke("remove", other, "--index", index).stdout == "0 of 1 document removed\n"
    (tree / "src" / "http.py").unlink()
    assert invoke("remove", shown, tree / "cats.md", "--index", index).stdout == "2 of 2 documents removed\n"


def test_an_index_searched_by_plaid(tree: Path, model: Path, tmp_path: Path) -> None:
    index = tmp_path / "plaid.index"
    invoke("index", tree, "--index", index, "--model", model, "--engine", "plaid", "--bits", 2)
    assert "searched by: plaid" in invoke("info", "--index", index).stdout
    arguments = ("search", "cats purr", "--index", index, "--recall", 0.9, "--json")
    found = json.loads(invoke(*arguments).stdout)["results"]
    assert {result["document_id"] for result in found} == {"cats.md", "src/http.py"}
    assert invoke("verify", "--index", index).stdout == f"{index} is whole\n"


def test_compact_takes_what_removals_left(index: Path) -> None:
    invoke("remove", "cats.md", "--index", index)
    assert re.fullmatch(
        r"1 segment, .* MB before; 1 segment, .* MB, searched by exact\n",
        invoke("compact", "--index", index).stdout,
    )
    assert "src/http.py" in invoke("search", "parse http", "--index", index).stdout


def test_verify_names_a_damaged_file(index: Path) -> None:
    file = next((index / "segments").glob("*.values.npy"))
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    assert file.name in invoke("verify", "--index", index, code=1).stdout


def write_recipe(folder: Path, text: str) -> Path:
    (folder / "tiny.yaml").write_text(text)
    return folder / "tiny.yaml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "nowhere", "--index", "i"], "does not exist"),
        (["search", "x", "--index", "nowhere"], "does not exist"),
        (["search", " ", "--index", "{index}"], "the query is empty"),
        (["search", "x", "--index", "{index}", "-k", "0"], "Invalid value for '-k'"),
        (["search", "x", "--index", "{index}", "-C", "-1"], "Invalid value for '-C'"),
        (["search", "x", "--index", "{index}", "-l", "--json"], "leave out one of the two"),
        (["search", "x", "--index", "{index}", "--color", "red"], "Invalid value for '--color'"),
        (["search", "x", "--index", "{index}", "--where", "lang"], "has no operator"),
        (["search", "x", "--index", "{index}", "--where", "=python"], "names no field"),
        (["search", "--index", "{index}"], "say what to look for"),
        (["search", "x", "--index", "{index}", "--regex", "("], "Invalid value for --regex: regex '(' is"),
        (["search", "x", "--index", "{index}", "--fixed", ""], "Invalid value for --fixed: fixed is ''"),
        (["index", "{tree}", "--index", "{index}", "--passage-tokens", "20"], "its passage length stays"),
        (["index", "{tree}", "--index", "{index}", "--overlap", "20"], "its overlap stays 0"),
        (["index", "{tree}", "--index", "{index}", "--engine", "plaid"], "its engine stays auto"),
        (["search", "x", "--index", "{index}", "--recall", "2"], "Invalid value for '--recall'"),
        (["train", "{recipe}"], "unknown key training.batchsize; did you mean batch_size?"),
        (["train", "no-such-recipe"], "no recipe no-such-recipe"),
        (
            ["train", "flatcoat-small", "--set", "training.epoch=1"],
            "unknown key training.epoch; did you mean",
        ),
        (["fetch"], "No such command"),
    ],
)
def test_bad_usage_exits_with_2(index: Path, tree: Path, arguments: list[str], message: str) -> None:
    recipe = write_recipe(
        tree, "name: a\nkind: dense\nbase: b\ndata: [{beir: c}]\ntraining: {batchsize: 4}\n"
    )
    places = {"{tree}": tree, "{index}": index, "{recipe}": recipe}
    result = invoke(*(places.get(argument, argument) for argument in arguments), code=2)
    assert message in unbox(result.stderr)
    assert result.stdout == ""


def failures(tree: Path, index: Path, tmp_path: Path, model: Path) -> list[tuple[list[Any], str]]:
    (tmp_path / "nothing").mkdir()
    return [
        (
            ["index", tree, "--index", tmp_path / "n", "--model", "nobody/no-such-model"],
            "cannot be read from the Hugging Face hub",
        ),
        (["index", tmp_path / "nothing", "--index", tmp_path / "n", "--model", model], "nothing to index"),
        (["index", tree, "--index", tree, "--model", model], "holds something else"),
        (["search", "x", "--index", tree], "is not an index"),
        (["info", "--index", tree], "is not an index"),
        (["remove", "x", "--index", tree], "is not an index"),
        (
            ["search", "x", "--index", index, "--model", "nobody/no-such-model"],
            "cannot be read from the Hugging Face hub",
        ),
        (
            ["index", tree, "--index", tmp_path / "n", "--model", model, "--passage-tokens", 99_999],
            "passage_tokens 99999",
        ),
    ]


def test_failures_rise_to_main(tree: Path, index: Path, tmp_path: Path, model: Path) -> None:
    for arguments, message in failures(tree, index, tmp_path, model):
        with pytest.raises(FlatcoatError, match=message):
            invoke(*arguments)


def test_a_failure_is_one_line_and_exits_with_1(tree: Path) -> None:
    done = run("search", "x", "--index", tree)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {tree} is not an index: it has no index.sqlite\n"
    assert run("search", " ", "--index", tree).returncode == 2


def test_an_unknown_model_is_one_line_and_exits_with_1(tree: Path, tmp_path: Path) -> None:
    done = run("index", tree, "--index", tmp_path / "i", "--model", "nobody/no-such-model")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "error: model 'nobody/no-such-model' cannot be read from the Hugging Face hub"
    )
    assert not (tmp_path / "i").exists()


def documents_in(database: Path) -> int:
    if not database.exists():
        return 0
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute("SELECT count(*) FROM documents").fetchone()[0]
    finally:
        connection.close()


@pytest.mark.slow
def test_a_killed_index_run_is_completed_by_the_same_command(model: Path, tmp_path: Path) -> None:
    count, index = 4_000, tmp_path / "i"
    rows = [{"_id": f"d{number}", "text": f"cat number {number} purrs"} for number in range(count)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("index", tmp_path / "rows.jsonl", "--index", index, "--model", model, "--json")
    child = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 100
    while documents_in(index / "index.sqlite") == 0 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    held = documents_in(index / "index.sqlite")
    assert 0 < held < count
    report = json.loads(run(*arguments).stdout)
    assert (report["added"], report["unchanged"]) == (count - held, held)
    assert report["documents"] == count
    retriever = Retriever.open(index)
    assert retriever.store.verify() == []
    assert len(retriever.search("cat number 77", k=count + 1)) == count
