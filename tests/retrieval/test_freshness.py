"""An index that is brought up to date before a search: no change is missed, and little is looked at."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from flatcoat import Retriever
from flatcoat.__main__ import app
from flatcoat.indexing.store.store import Store
from flatcoat.retrieval import freshness, sync
from flatcoat.retrieval.freshness import stale_sources

from .folders import Sources, small_work

Change = Callable[[Path], object]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with small_work(monkeypatch) as folder:
        yield folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files, folders with and without files to index, and rules.

    The clock is a minute on: nothing is too young to be known by its time.
    """
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60 * 10**9)
    root = tmp_path / "root"
    for folder in ("src/deep", "empty/inner", "build", ".hidden"):
        (root / folder).mkdir(parents=True)
    for name in ("cats.md", "src/birds.md", "src/deep/dogs.md", "build/made.md", ".hidden/h.md"):
        (root / name).write_text(f"all about {Path(name).stem}")
        os.utime(root / name, (1_600_000_000, 1_600_000_000))
    (root / "binary.bin").write_bytes(b"\0")
    (root / "tab\tand \\ é.md").write_text("strange")
    for name in ("binary.bin", "tab\tand \\ é.md"):
        os.utime(root / name, (1_600_000_000, 1_600_000_000))
    (root / ".gitignore").write_text("build/\n")
    return root


@pytest.fixture
def retriever(root: Path, tmp_path: Path) -> Retriever:
    retriever = Retriever.create(tmp_path / "index", None)
    retriever.add_files(root)
    assert is_current(retriever)
    time.sleep(0.02)  # The clock of folders has steps of some milliseconds.
    return retriever


def is_current(retriever: Retriever) -> bool:
    return stale_sources(retriever.store, seconds=10) == []


def found(retriever: Retriever, word: str) -> list[str]:
    return sorted({result.document_id for result in retriever.search(word, mode="bm25", k=50)})


CHANGES: dict[str, tuple[Change, str, list[str]]] = {
    "a changed file": (lambda root: (root / "cats.md").write_text("zebra"), "zebra", ["cats.md"]),
    "a new file": (lambda root: (root / "new.md").write_text("zebra"), "zebra", ["new.md"]),
    "a file deep down": (
        lambda root: (root / "src" / "deep" / "new.md").write_text("zebra"),
        "zebra",
        ["src/deep/new.md"],
    ),
    "a file in an empty folder": (
        lambda root: (root / "empty" / "inner" / "new.md").write_text("zebra"),
        "zebra",
        ["empty/inner/new.md"],
    ),
    "a deleted file": (lambda root: (root / "src" / "birds.md").unlink(), "birds", []),
    "a renamed file": (
        lambda root: (root / "src" / "birds.md").rename(root / "wings.md"),
        "birds",
        ["wings.md"],
    ),
    "a renamed folder": (
        lambda root: (root / "src" / "deep").rename(root / "src" / "far"),
        "dogs",
        ["src/far/dogs.md"],
    ),
    "another rule": (lambda root: (root / ".gitignore").write_text("src/\n"), "made", ["build/made.md"]),
    "a new rule": (lambda root: (root / "src" / ".gitignore").write_text("birds.md\n"), "birds", []),
    "no rule": (lambda root: (root / ".gitignore").unlink(), "made", ["build/made.md"]),
    "a file that was binary": (
        lambda root: (root / "binary.bin").write_text("zebra"),
        "zebra",
        ["binary.bin"],
    ),
    "a file with a strange name": (
        lambda root: (root / "tab\tand \\ é.md").write_text("zebra"),
        "zebra",
        ["tab\\tand \\\\ é.md"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found_by_the_next_search(retriever: Retriever, root: Path, change: str) -> None:
    make, word, wanted = CHANGES[change]
    make(root)
    assert not is_current(retriever)
    assert retriever.refresh(seconds=20) is None
    assert found(retriever, word) == wanted
    assert is_current(retriever)
    assert retriever.store.verify() == []


@pytest.mark.parametrize("name", ["build/new.md", ".hidden/new.md", "build/sub/new.md"])
def test_what_is_ignored_is_not_looked_at(retriever: Retriever, root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("zebra")
    assert is_current(retriever)


def test_the_rules_of_the_repository_above_count(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", root], check=True)
    retriever = Retriever.create(tmp_path / "index", None)
    retriever.add_files(root / "src")
    assert is_current(retriever)
    for rules in (".gitignore", ".git/info/exclude"):
        (root / rules).write_text("# others\n")
        assert not is_current(retriever)
        retriever.refresh(seconds=20)
        assert is_current(retriever)


def test_rows_and_single_files(root: Path, tmp_path: Path) -> None:
    rows, single = tmp_path / "rows.jsonl", root / "cats.md"
    rows.write_text('{"_id": "a", "text": "zebra"}\n')
    os.utime(rows, (1_600_000_000, 1_600_000_000))
    retriever = Retriever.create(tmp_path / "index", None)
    retriever.add_files(rows, single)
    assert is_current(retriever)
    rows.write_text('{"_id": "b", "text": "lion"}\n')
    single.write_text("tiger")
    assert retriever.refresh(seconds=20) is None
    assert (found(retriever, "zebra"), found(retriever, "lion"), found(retriever, "tiger")) == (
        [],
        ["b"],
        ["cats.md"],
    )


def test_what_was_written_a_moment_ago_is_never_taken_for_unchanged(
    retriever: Retriever, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "_FRESH_NS", 120 * 10**9)
    (root / "new.md").write_text("zebra")
    retriever.add_files()
    assert not is_current(retriever)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 12))])
def test_any_changes_leave_what_a_whole_run_leaves(place: Path, seed: int) -> None:
    sources = Sources(place, Random(seed))
    index = place / "index"
    sources.create(index)
    sources.sync(index)
    for _ in range(8):
        time.sleep(0.02)
        sources.change()
        retriever = sources.open(index)
        assert retriever.refresh(seconds=60) is None
        refreshed = sources.contents(index)
        sources.sync(index)
        assert refreshed == sources.contents(index)
        sources.require_synced(index)
        retriever.close()


def test_nothing_is_written_where_nothing_changed(retriever: Retriever) -> None:
    before = retriever.store.generation
    with retriever.store.writer():  # Nobody else could write.
        assert retriever.refresh() is None
    assert retriever.store.generation == before


def test_another_process_that_writes_is_not_waited_for(retriever: Retriever, root: Path) -> None:
    (root / "new.md").write_text("zebra")
    with Store.open(retriever.store.path) as other, other.writer():
        behind = retriever.refresh()
    assert behind and "is being written by another process" in behind
    assert found(retriever, "cats") == ["cats.md"]


def test_what_takes_too_long_is_left_undone_and_said(
    retriever: Retriever, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "long.md").write_text("zebra " * 100_000)
    (root / "short.md").write_text("zebra lion")
    (root / "cats.md").unlink()
    behind = retriever.refresh(seconds=2)
    assert behind == "more has changed than can be read before a search"
    assert found(retriever, "zebra") == ["short.md"]
    assert found(retriever, "cats") == [], "what is gone is taken out"
    assert not is_current(retriever)
    monkeypatch.setattr(sync, "_CHARACTERS_PER_SECOND", 10**9)
    assert retriever.refresh(seconds=60) is None
    assert found(retriever, "zebra") == ["long.md", "short.md"]


def test_no_time_at_all_changes_nothing(retriever: Retriever, root: Path) -> None:
    (root / "new.md").write_text("zebra")
    assert retriever.refresh(seconds=1e-9)
    assert found(retriever, "zebra") == []
    assert retriever.store.verify() == []


def test_sources_of_others_are_not_read(
    retriever: Retriever, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "new.md").write_text("zebra")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    assert retriever.refresh() is None
    assert found(retriever, "zebra") == []


def invoke(*arguments: object) -> tuple[str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_the_command_searches_what_is_there_now(retriever: Retriever, root: Path) -> None:
    index = retriever.store.path
    (root / "new.md").write_text("zebra")
    assert invoke("search", "zebra", "--index", index, "-l", "--no-sync")[0] == ""
    assert invoke("search", "zebra", "--index", index, "-l")[0] == f"{root / 'new.md'}\n"
    (root / "later.md").write_text("zebra lion")
    with retriever.store.writer():
        out, err = invoke("search", "zebra", "--index", index, "-l")
        assert "not all changes are searched: index " in err
        behind = json.loads(invoke("search", "zebra", "--index", index, "--json")[0])["index"]["behind"]
    assert out == f"{root / 'new.md'}\n"
    assert "is being written by another process" in behind
    values = json.loads(invoke("search", "zebra", "--index", index, "--json")[0])
    assert (len(values["results"]), values["index"]["behind"]) == (2, None)


def test_a_search_where_nothing_changed_imports_no_reader(retriever: Retriever) -> None:
    code = (
        "import sys\nfrom flatcoat import Retriever\nretriever = Retriever.open(sys.argv[1])\n"
        "assert retriever.refresh() is None\nprint(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(retriever.store.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy = {"pathspec", "tree_sitter", "torch", "flatcoat.retrieval.sync", "flatcoat.indexing.reading.scan"}
    assert not heavy & set(done.stdout.split())
