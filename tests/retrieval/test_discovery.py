"""Commands that name no index: the one of the folder or repository, never that of another one."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flatcoat import Retriever
from flatcoat.__main__ import app
from flatcoat.errors import ConflictError, FlatcoatError, NotFoundError
from flatcoat.indexing.documents import Document
from flatcoat.retrieval.discovery import find_index, repository_of

MakeFolder = Callable[..., Path]


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def git(*arguments: str, cwd: Path) -> str:
    options = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *options, *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a file above and one in a sub-folder, which is where we are."""
    root = tmp_path / "repository"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "cats.md").write_text("# Cats\n\nCats purr when they are content.\n")
    (root / "src" / "http.py").write_text("def parse_http_response(raw):\n    return raw\n")
    git("init", "-q", cwd=root)
    git("add", ".", cwd=root)
    git("commit", "-qm", "Begin", cwd=root)
    monkeypatch.chdir(root / "src")
    return root


@pytest.fixture
def indexed(repository: Path, make_colbert: MakeFolder) -> Path:
    invoke("index", "--model", make_colbert())
    return repository


def documents(*options: object) -> set[str]:
    values = json.loads(invoke("search", "cats http", "--mode", "bm25", "--json", *options).stdout)
    return {result["document_id"] for result in values["results"]}


def test_the_whole_repository_is_indexed_from_anywhere_in_it(indexed: Path) -> None:
    assert (indexed / ".flatcoat" / "index.sqlite").exists()
    assert documents() == {"cats.md", "src/http.py"}
    found = invoke("search", "cats http", "--mode", "bm25", "-l").stdout.splitlines()
    assert sorted(found) == [str(indexed / "cats.md"), "http.py"]


def test_git_never_sees_the_index(indexed: Path) -> None:
    assert git("status", "--porcelain", "--untracked-files=all", cwd=indexed) == ""
    assert (indexed / ".flatcoat" / ".gitignore").read_text() == "*\n"


def test_the_index_does_not_index_itself(indexed: Path) -> None:
    report = json.loads(invoke("index", "--json").stdout)
    assert (report["added"], report["unchanged"], report["documents"]) == (0, 2, 2)


def test_every_command_finds_it(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(indexed / "src" / "deep")
    index = indexed / ".flatcoat"
    assert invoke("info").stdout.startswith(f"{index}: 2 documents")
    assert json.loads(invoke("info", "--environment", "--json").stdout)["attention"]
    assert invoke("remove", "cats.md").stdout == "1 of 1 document removed\n"
    assert "searched by exact" in invoke("compact").stdout
    assert invoke("verify").stdout == f"{index} is whole\n"
    assert "1 document removed" in invoke("forget", indexed).stdout


def test_the_file_that_is_removed_is_the_one_that_search_shows(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = os.fsdecode(b"odd\xff.md")
    for name in ("src/cats.md", odd):
        (repository / name).write_text("cats too")
    invoke("index", "--no-vectors")
    monkeypatch.chdir(repository / "src")
    assert "cats.md" in invoke("search", "cats", "-l").stdout.splitlines()
    invoke("remove", "cats.md", f"../{odd}")
    assert documents("--no-sync") == {"cats.md", "src/http.py"}


def test_a_folder_without_a_repository_has_an_index_too(
    tmp_path: Path, make_colbert: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes" / "sub").mkdir(parents=True)
    (tmp_path / "notes" / "cats.md").write_text("cats purr")
    monkeypatch.chdir(tmp_path / "notes")
    invoke("index", "--model", make_colbert())
    monkeypatch.chdir(tmp_path / "notes" / "sub")
    assert documents() == {"cats.md"}


def test_paths_choose_what_is_indexed_and_stay_chosen(repository: Path, make_colbert: MakeFolder) -> None:
    invoke("index", repository / "src", "--model", make_colbert())
    (repository / "src" / "new.md").write_text("cats too")
    invoke("index")
    assert documents() == {"http.py", "new.md"}
    assert Retriever.open(repository / ".flatcoat").store.sources()[0].path == "../src"


@pytest.mark.parametrize("command", ["search x", "remove x", "forget x", "compact", "verify"])
def test_without_an_index_the_error_says_what_to_do(repository: Path, command: str) -> None:
    with pytest.raises(NotFoundError, match=r"up to its repository .* make one with flatcoat index"):
        invoke(*command.split())


def test_a_model_that_is_not_there_leaves_nothing_behind(repository: Path) -> None:
    with pytest.raises(FlatcoatError, match="nobody/no-such-model"):
        invoke("index", "--model", "nobody/no-such-model")
    assert not (repository / ".flatcoat").exists()


def test_the_index_of_an_outer_repository_is_not_that_of_a_worktree_in_it(
    indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("worktree", "add", "-q", "trees/other", cwd=indexed)
    tree = indexed / "trees" / "other"
    monkeypatch.chdir(tree / "src")
    assert repository_of(Path.cwd()) == tree
    assert find_index() is None
    with pytest.raises(NotFoundError, match="no index here"):
        invoke("search", "cats")


def test_a_copied_folder_does_not_use_the_index_until_it_is_made_its_own(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(indexed, copy)
    (copy / "birds.md").write_text("cats hunt birds")
    monkeypatch.chdir(copy)
    for command in ("search cats", "remove cats.md", "info", "compact"):
        with pytest.raises(
            ConflictError, match=r"was made as .*repository/.flatcoat, and was moved or copied"
        ):
            invoke(*command.split())
    assert documents("--index", ".flatcoat", "--no-sync") == {"cats.md", "src/http.py"}
    done = invoke("index", "--json")
    report = json.loads(done.stdout)
    assert (report["added"], report["unchanged"]) == (1, 2)
    assert "it is made the index of this folder" in done.stderr
    assert documents() == {"birds.md", "cats.md", "src/http.py"}
    assert invoke("index").stderr == ""
    monkeypatch.chdir(indexed)
    assert documents() == {"cats.md", "src/http.py"}


def test_a_renamed_repository_says_so(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = indexed.rename(indexed.with_name("moved"))
    monkeypatch.chdir(moved)
    with pytest.raises(ConflictError, match="flatcoat index"):
        invoke("search", "cats")
    assert json.loads(invoke("index", "--json").stdout)["unchanged"] == 2
    assert documents() == {"cats.md", "src/http.py"}


def test_a_link_to_the_index_of_another_repository_is_not_followed(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git("init", "-q", cwd=other)
    (other / ".flatcoat").symlink_to(indexed / ".flatcoat")
    monkeypatch.chdir(other)
    with pytest.raises(ConflictError, match="moved or copied"):
        invoke("search", "cats")


def test_somebody_elses_index_is_not_written_unasked(
    indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "clone"
    shutil.copytree(indexed, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    with pytest.raises(ConflictError, match="by another user or on another machine"):
        invoke("index")
    assert documents("--index", ".flatcoat") == {"cats.md", "src/http.py"}


def test_an_index_without_files_is_no_index_of_the_folder(repository: Path, make_colbert: MakeFolder) -> None:
    Retriever.create(repository / ".flatcoat", make_colbert()).add([Document("a", "cats")])
    with pytest.raises(ConflictError, match="no folder or file as its source"):
        invoke("search", "cats")
    invoke("index")
    assert documents() == {"a", "cats.md", "src/http.py"}
