"""Folders that nobody meant well: everything left out is said, nothing hangs, nothing raises."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatcoat.indexing.documents import Document
from flatcoat.indexing.reading import readers
from flatcoat.indexing.reading.gitignore import MAX_BYTES, File, list_files, printable
from flatcoat.indexing.reading.readers import read_documents, read_file
from flatcoat.indexing.store.source_paths import name_on_disk


def read(root: Path) -> tuple[dict[str, Document], dict[str, str]]:
    skipped: dict[str, str] = {}
    documents = list(read_documents(root, on_skip=skipped.__setitem__))
    assert len({document.id for document in documents}) == len(documents)
    return {document.id: document for document in documents}, skipped


def test_a_huge_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(2**30)
    monkeypatch.setattr(Path, "open", None)
    assert read(tmp_path) == ({}, {"huge.txt": f"over {MAX_BYTES:,} bytes"})


def test_a_file_that_grew_since_it_was_listed_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 11)
    assert read_file(File("a.txt", tmp_path / "a.txt", ""), max_bytes=10) == "over 10 bytes"


def test_a_line_of_100_000_characters_is_text(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("x" * 100_000)
    (tmp_path / "long.js").write_text("x" * 100_000)
    documents, skipped = read(tmp_path)
    assert len(documents["long.txt"].text) == 100_000
    assert skipped == {"long.js": "machine-written"}


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Where folders may be nested deeper than pytest can remove them."""
    root = tmp_path / "deep"
    root.mkdir()
    yield root
    subprocess.run(["rm", "-rf", root], check=True)


def nest(root: Path, name: str, depth: int) -> None:
    """Folders in one another, "file.txt" in each, however long the path."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file.txt", os.O_WRONLY | os.O_CREAT, dir_fd=here))
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_a_thousand_folders_in_one_another(deep: Path) -> None:
    nest(deep, "d", 1_000)
    names = [file.name for file in list_files(deep)]
    assert names == sorted(("d/" * depth + "file.txt" for depth in range(1_000)), key=lambda name: -len(name))


def test_a_path_too_long_is_said(deep: Path) -> None:
    nest(deep, "d" * 200, 40)
    skipped: dict[str, str] = {}
    names = [file.name for file in list_files(deep, on_skip=skipped.__setitem__)]
    assert 10 < len(names) < 40
    assert set(skipped.values()) == {"unreadable: File name too long"}
    assert all(name.startswith("d" * 200 + "/") for name in skipped)


def test_links_that_loop_lead_nowhere_or_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("secret")
    for name, target in {
        "inside": "a.txt",
        "sub/inside": "../a.txt",
        "absolute": root / "a.txt",
        "out": "../secret.txt",
        "sub/out": tmp_path / "secret.txt",
        "through": "out",
        "self": "self",
        "ping": "pong",
        "pong": "ping",
        "parent": "..",
        "sub/root": root,
        "nowhere": "missing",
        "null": os.devnull,
    }.items():
        (root / name).symlink_to(target)
    documents, skipped = read(root)
    assert set(documents) == {"a.txt", "inside", "sub/inside", "absolute"}
    assert skipped == {
        "out": "a link out of the folder",
        "sub/out": "a link out of the folder",
        "through": "a link out of the folder",
        "null": "a link out of the folder",
        "parent": "a link to a folder",
        "sub/root": "a link to a folder",
        "nowhere": "not a regular file",
        **dict.fromkeys(["self", "ping", "pong"], "unreadable: Too many levels of symbolic links"),
    }
    (tmp_path / "linked").symlink_to(root)
    assert set(read(tmp_path / "linked")[0]) == set(documents)


def test_pipes_and_sockets_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    for name in ("pipe", ".gitignore", ".ignore"):
        os.mkfifo(name)
    (tmp_path / "a.txt").write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        documents, skipped = read(tmp_path)
    assert list(documents) == ["a.txt"]
    assert skipped == {
        **dict.fromkeys(["pipe", "socket"], "not a regular file"),
        **dict.fromkeys([".gitignore", ".ignore"], "hidden"),
    }
    assert read_file(File("pipe", tmp_path / "pipe", "")) == "not a regular file"


def test_any_name_is_escaped_and_stays_its_own(tmp_path: Path) -> None:
    names = [b"new\nline.txt", b"new\\nline.txt", b"bad\xff.txt", b"bad\\udcff.txt", b"tab\t\x1b[31m.txt"]
    names += ["naïve 名.txt".encode(), "line\u2028.txt".encode(), b"folder\xfe/a.txt"]
    (tmp_path / os.fsdecode(b"folder\xfe")).mkdir()
    for name in names:
        (tmp_path / os.fsdecode(name)).write_text("x")
    documents, skipped = read(tmp_path)
    assert not skipped
    assert set(documents) == {
        r"new\nline.txt",
        r"new\\nline.txt",
        r"bad\udcff.txt",
        r"bad\\udcff.txt",
        r"tab\t\x1b[31m.txt",
        "naïve 名.txt",
        r"line\u2028.txt",
        r"folder\udcfe/a.txt",
    }
    for id, document in documents.items():
        id.encode()
        assert document.metadata["path"] == document.title == id
    (alone,) = read_documents(tmp_path / os.fsdecode(b"bad\xff.txt"))
    assert alone.id == r"bad\udcff.txt"


def test_no_two_names_are_printed_alike() -> None:
    parts = ["\n", "\\", "n", "\\n", "\udcff", "\\udcff", "udcff", "\x1b", "x1b"]
    names = {first + second + third for first in parts for second in parts for third in parts}
    assert len({printable(name) for name in names}) == len(names)
    assert all(name_on_disk(printable(name)) == name for name in names)
    for foreign in (r"\q", r"\x4", r"\Uffffffff", "\\"):
        assert name_on_disk(foreign) == foreign


def test_unreadable_files_and_folders_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed/a.txt", "open/.gitignore", "open/b.txt", "open/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    scanned, opened = os.scandir, Path.open

    def scan(path: Path):
        return refuse(path) if path.name == "closed" else scanned(path)

    def open_file(path: Path, *arguments, **options):
        return refuse(path) if path.name in (".gitignore", "c.txt") else opened(path, *arguments, **options)

    def refuse(path: Path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(Path, "open", open_file)
    skipped: list[tuple[str, str]] = []
    documents = list(read_documents(tmp_path, on_skip=lambda *skip: skipped.append(skip)))
    assert [document.id for document in documents] == ["open/b.txt"]
    assert sorted(skipped) == [
        ("closed/", "unreadable: Permission denied"),
        ("open/.gitignore", "hidden"),
        ("open/.gitignore", "unreadable: Permission denied"),
        ("open/c.txt", "unreadable: Permission denied"),
    ]


def test_files_that_vanish_or_change_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("x")
    a, b, c = list_files(tmp_path)
    b.path.unlink()
    assert read_file(b) == "gone"
    c.path.unlink()
    c.path.mkdir()
    assert read_file(c) == "not a regular file"
    extracted = readers._limited

    def meanwhile(file, max_bytes: int) -> bytes:
        data = extracted(file, max_bytes)
        a.path.write_text("other")
        return data

    monkeypatch.setattr(readers, "_limited", meanwhile)
    assert read_file(a) == "changed while it was read"


def test_a_folder_that_vanishes_is_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_text("x")
    skipped: dict[str, str] = {}
    files = list_files(tmp_path, on_skip=skipped.__setitem__)
    assert next(files).name == "a/file.txt"
    (tmp_path / "b" / "file.txt").unlink()
    (tmp_path / "b").rmdir()
    assert list(files) == []
    assert skipped == {"b/": "unreadable: No such file or directory"}


def test_indexes_of_ours_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "index.sqlite").write_text("x")
    (tmp_path / "found" / "notes.txt").write_text("x")
    (tmp_path / "a.txt").write_text("x")
    documents, skipped = read(tmp_path)
    assert (list(documents), skipped) == (["a.txt"], {"found/": "a flatcoat index"})
    assert read(tmp_path / "found") == ({}, {".": "a flatcoat index"})


def test_a_huge_ignore_file_is_said_and_a_malformed_line_matches_nothing(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("!\n[a\n")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".gitignore").write_text("#" * 200_000 + "\n*.txt\n")
    (tmp_path / "sub" / "b.txt").write_text("x")
    skipped: list[tuple[str, str]] = []
    documents = list(read_documents(tmp_path, on_skip=lambda *skip: skipped.append(skip)))
    assert [document.id for document in documents] == ["a.txt", "sub/b.txt"]
    reasons = {name: reason for name, reason in skipped if reason != "hidden"}
    assert reasons == {"sub/.gitignore": "unreadable: over 100,000 bytes"}
