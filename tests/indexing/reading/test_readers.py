"""Readers: what is read, what is left out and why, and what is refused."""

import gzip
import io
import os
from pathlib import Path
from typing import Any

import pytest

from flatcoat import FlatcoatError
from flatcoat.errors import DataError, NotFoundError, UsageError
from flatcoat.indexing.documents import Document, Heading
from flatcoat.indexing.reading.columns import Columns
from flatcoat.indexing.reading.gitignore import MAX_DATA_BYTES, list_files
from flatcoat.indexing.reading.languages import language_of
from flatcoat.indexing.reading.readers import read_documents
from flatcoat.indexing.reading.rows import IncompleteRows


def read(path: Path, **options: Any) -> tuple[dict[str, Document], dict[str, str]]:
    skipped: dict[str, str] = {}
    documents = list(read_documents(path, on_skip=skipped.__setitem__, **options))
    assert len({document.id for document in documents}) == len(documents)
    return {document.id: document for document in documents}, skipped


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_a_folder_gives_its_text_files_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"b.py": "x = 1\r\ny = 2\r", "a/z.md": b"\xef\xbb\xbf# Z", "a/LICENSE": "free", "data.jsonl": "{"},
    )
    documents, skipped = read(tmp_path)
    assert list(documents) == ["a/LICENSE", "a/z.md", "b.py", "data.jsonl"]
    assert documents["a/z.md"] == Document(
        "a/z.md", "# Z", "a/z.md", {"path": "a/z.md", "lang": "markdown", "content": "docs"}
    )
    assert documents["b.py"].text == "x = 1\ny = 2\n"
    assert not skipped


def test_what_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    write(
        tmp_path, {"nul": b"a\0b", "latin": b"caf\xe9", "empty": " \n", "big": "x" * 101, "fits": "x" * 100}
    )
    write(tmp_path, {".git/config": "x", ".env": "secret", "sub/.hidden/x": "x"})
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("fits")
    (tmp_path / "loop").symlink_to(".")
    documents, skipped = read(tmp_path, max_bytes=100)
    assert list(documents) == ["fits", "link"]
    assert skipped == {
        ".env": "hidden",
        ".git/": "hidden",
        "big": "over 100 bytes",
        "dangling": "not a regular file",
        "empty": "empty",
        "latin": "unknown encoding",
        "loop": "a link to a folder",
        "nul": "binary",
        "pipe": "not a regular file",
        "sub/.hidden/": "hidden",
    }


def test_gitignore_files_count_at_every_level(tmp_path: Path) -> None:
    write(
        tmp_path, {".gitignore": "*.log\nbuild/\n/only_top\n", "a.log": "x", "keep.txt": "x", "only_top": "x"}
    )
    write(tmp_path, {"sub/.gitignore": "!keep.log\n*.tmp\n", "sub/keep.log": "x", "sub/other.log": "x"})
    write(
        tmp_path,
        {"sub/a.tmp": "x", "sub/only_top": "x", "a.tmp": "x", "sub/build/x": "x", "sub/deep/b.tmp": "x"},
    )
    documents, skipped = read(tmp_path)
    assert set(documents) == {"a.tmp", "keep.txt", "sub/keep.log", "sub/only_top"}
    ignored = {name for name, reason in skipped.items() if reason == "ignored by .gitignore"}
    assert ignored == {"a.log", "only_top", "sub/other.log", "sub/a.tmp", "sub/build/", "sub/deep/b.tmp"}


def test_an_unreadable_file_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.txt": "x", "b.txt": "x"})
    opened = Path.open

    def refuse(self: Path, *arguments, **options):
        if self.name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    documents, skipped = read(tmp_path)
    assert list(documents) == ["b.txt"]
    assert skipped == {"a.txt": "unreadable: Permission denied"}


def test_a_single_file_is_called_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"a/b.TS": "x"})
    documents, _ = read(tmp_path / "a" / "b.TS")
    assert documents["b.TS"].metadata == {"path": "b.TS", "lang": "typescript", "content": "code"}


def test_a_skip_is_logged_where_nobody_asks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, {"nul": b"\0"})
    assert list(read_documents(tmp_path)) == []
    assert "skipped nul: binary" in caplog.text


def test_reading_streams(tmp_path: Path) -> None:
    rows = write(tmp_path, {"rows.jsonl": '{"id": "a", "text": "x"}\nbroken\n'}) / "rows.jsonl"
    skipped: list[str] = []
    documents = read_documents(rows, on_skip=lambda place, reason: skipped.append(place))
    assert next(documents).id == "a"
    assert not skipped
    assert list(documents) == []
    assert skipped == [f"{rows}, line 2"]


def test_a_beir_folder_gives_its_corpus(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"corpus.jsonl": '{"_id": "1", "text": "x"}\n', "queries.jsonl": "{}", "qrels/test.tsv": "x"},
    )
    assert list(read(tmp_path)[0]) == ["1"]


def test_a_missing_path_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="does not exist"):
        read_documents(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "language"),
    [
        *[("a.py", "python"), ("A.JS", "javascript"), ("sub/Makefile", "make"), ("CMakeLists.txt", "cmake")],
        *[
            ("notes.txt", "text"),
            ("LICENSE", "text"),
            (".bashrc", "bash"),
            ("analysis.R", "r"),
            ("BUILD", "starlark"),
        ],
    ],
)
def test_languages(name: str, language: str) -> None:
    assert language_of(name) == language


@pytest.mark.parametrize(
    ("line", "language"),
    [
        ("#!/bin/sh", "bash"),
        ("#!/usr/bin/env python3", "python"),
        ("#! /usr/bin/python3.12 -u", "python"),
        ("#!/usr/bin/env -S node --watch", "javascript"),
        ("#!/usr/bin/env -S LANG=C perl -w", "perl"),
        ("#!/usr/bin/env -S uv run --script", "python"),
        ("#!/opt/bin/Rscript", "r"),
        ("#!/usr/bin/awk -f", "text"),
        ("#!", "text"),
        ("# python", "text"),
    ],
)
def test_scripts_without_a_suffix_go_by_their_first_line(tmp_path: Path, line: str, language: str) -> None:
    write(tmp_path, {"run": f"{line}\ntext\n", "run.txt": f"{line}\r\ntext\n", "run.py": f"{line}\ntext\n"})
    documents, _ = read(tmp_path)
    assert [documents[name].metadata["lang"] for name in ("run", "run.txt", "run.py")] == [
        language,
        language,
        "python",
    ]


def test_large_data_files_are_left_out_of_folders_but_read_when_named(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text(" " * MAX_DATA_BYTES + "{}")
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "long.txt").write_text("word " * MAX_DATA_BYTES)
    skipped: list[tuple[str, str]] = []
    found = read_documents(tmp_path, on_skip=lambda name, reason: skipped.append((name, reason)))
    assert [document.id for document in found] == ["long.txt", "settings.json"]
    assert skipped == [("vocabulary.json", f"over {MAX_DATA_BYTES:,} bytes")]
    assert [document.id for document in read_documents(tmp_path / "vocabulary.json")] == ["vocabulary.json"]


def test_ignore_files_stand_beside_gitignore(tmp_path: Path) -> None:
    write(
        tmp_path, {".git/info/exclude": "*.a\n*.b\n", ".gitignore": "*.c\n!keep.b\n", ".ignore": "*.d\n!x.c"}
    )
    write(tmp_path, {".flatcoatignore": "*.e\n!x.d\n", "sub/.ignore": "!y.a\n"})
    write(
        tmp_path, dict.fromkeys(["x.a", "x.b", "keep.b", "x.c", "y.c", "x.d", "y.d", "x.e", "sub/y.a"], "x")
    )
    documents, skipped = read(tmp_path)
    assert set(documents) == {"keep.b", "x.c", "x.d", "sub/y.a"}
    assert {name: reason for name, reason in skipped.items() if reason != "hidden"} == {
        "x.a": "ignored by .git/info/exclude",
        "x.b": "ignored by .git/info/exclude",
        "y.c": "ignored by .gitignore",
        "y.d": "ignored by .ignore",
        "x.e": "ignored by .flatcoatignore",
    }


def test_include_and_exclude_choose_as_gitignore_does(tmp_path: Path) -> None:
    write(
        tmp_path, dict.fromkeys(["a.py", "b.md", "docs/c.md", "docs/old/d.md", "docs/e.txt", "src/f.py"], "x")
    )
    documents, skipped = read(tmp_path, include=["docs/", "*.py"], exclude=["/docs/old/", "a.*"])
    assert set(documents) == {"docs/c.md", "docs/e.txt", "src/f.py"}
    assert skipped == {"a.py": "excluded", "b.md": "not included", "docs/old/": "excluded"}
    assert read(tmp_path / "a.py", exclude=["*.py"]) == ({}, {"a.py": "excluded"})
    assert set(read(tmp_path, include=["*.py", "!a.*"])[0]) == {"src/f.py"}


def test_a_malformed_pattern_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="gitignore"):
        read_documents(tmp_path, exclude=["!"])


def test_patterns_are_refused_where_there_are_no_files_to_choose_among(tmp_path: Path) -> None:
    rows = write(tmp_path, {"rows.jsonl": '{"id": "a", "text": "x"}'}) / "rows.jsonl"
    for path in (rows, "-", "datasets:any"):
        with pytest.raises(FlatcoatError, match="is no folder of files"):
            read_documents(path, include=["*.py"])


def test_what_a_format_tells_reaches_the_document(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a.html": "<title>A page</title>\n<h1>Top</h1>", "b.ipynb": '{"cells": [], "metadata": {}}'},
    )
    documents, skipped = read(tmp_path)
    metadata = {"path": "a.html", "lang": "html", "content": "docs"}
    assert documents == {"a.html": Document("a.html", "\nTop", "A page", metadata, (Heading(2, 1, "Top"),))}
    assert skipped == {"b.ipynb": "empty"}


def test_standard_input_is_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("héllo\r\n".encode())))
    documents, _ = read(Path("-"))
    assert documents == {
        "stdin": Document("stdin", "héllo\n", "stdin", {"path": "stdin", "lang": "text", "content": "docs"})
    }


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty"), (b"x" * 9, "over 8 bytes"), (b"\0", "binary")])
def test_standard_input_may_be_skipped(monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read(Path("-"), max_bytes=8) == ({}, {"stdin": reason})


def test_a_named_encoding_is_that_of_every_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.txt": "caf\u00e9".encode("cp1252"), "b.md": "na\u00efve".encode("cp1252")})
    write(tmp_path, {"marked.txt": "\u00e9".encode("utf-16"), "page.html": "<p>\u00e9".encode("cp1252")})
    write(tmp_path, {"picture": b"\x89PNG\0\0\xff"})
    documents, skipped = read(tmp_path, encoding="cp1252")
    assert {name: document.text for name, document in documents.items()} == {
        "a.txt": "caf\u00e9",
        "b.md": "na\u00efve",
        "marked.txt": "\u00e9",
        "page.html": "\u00e9",
    }
    assert skipped == {"picture": "binary"}
    assert read(tmp_path / "a.txt", encoding="CP1252")[0]["a.txt"].text == "caf\u00e9"
    assert read(tmp_path / "a.txt", encoding="ascii") == ({}, {"a.txt": "not ascii"})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\u0434\u0430".encode("koi8-r"))))
    assert read(Path("-"), encoding="koi8-r")[0]["stdin"].text == "\u0434\u0430"


@pytest.mark.parametrize("encoding", ["nonsense", "", "hex", "undefined", "utf-8\0", "\u00e9"])
def test_an_unknown_encoding_is_refused_at_once(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(FlatcoatError, match="no encoding"):
        read_documents(tmp_path, encoding=encoding)


def test_a_path_that_is_too_long_is_refused_in_one_line() -> None:
    for path in ("x" * 5_000, "x/" * 5_000, "a\0b", "x" * 5_000 + ".jsonl"):
        with pytest.raises(FlatcoatError, match=r"does not exist|File name too long"):
            read_documents(path)


def test_rows_in_a_file_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"rows\xff.jsonl")
    path.write_text('{"id": "a", "text": "x"}\nbroken')
    skipped: list[str] = []
    (row,) = read_documents(path, on_skip=lambda place, _: skipped.append(place))
    assert row.id == "a"
    assert skipped[0].endswith(r"rows\udcff.jsonl, line 2")


def test_a_files_state_changes_when_it_is_written(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "one", "b.txt": "two"})
    assert [file.state for file in list_files(tmp_path)] == ["", ""]
    for name in ("a.txt", "b.txt"):
        os.utime(tmp_path / name, ns=(0, 5))
    before = list(list_files(tmp_path))
    assert [file.name for file in before] == ["a.txt", "b.txt"]
    assert all(file.state.startswith("3:") and file.state.endswith(":5") for file in before)
    os.utime(tmp_path / "b.txt", ns=(0, 6))
    written = list(list_files(tmp_path))
    assert written[0] == before[0]
    assert written[1].state.endswith(":6")
    (tmp_path / "new").write_text("one")
    os.utime(tmp_path / "new", ns=(0, 5))
    (tmp_path / "new").replace(tmp_path / "a.txt")
    assert next(list_files(tmp_path)).state not in ("", before[0].state)
    assert list(list_files(tmp_path / "b.txt")) == [written[1]]


@pytest.mark.parametrize(
    ("error", "path", "options"),
    [
        (NotFoundError, "nowhere", {}),
        (NotFoundError, "x" * 5_000, {}),
        (NotFoundError, "rows.csv", {"columns": Columns(text="body")}),
        (NotFoundError, "datasets:nobody/nothing", {}),
        (UsageError, "", {"encoding": "klingon"}),
        (UsageError, "", {"include": ["!"]}),
        (UsageError, "rows.csv", {"include": ["*.py"]}),
        (UsageError, "datasets:", {}),
        (DataError, "broken.jsonl", {}),
        (DataError, "broken.parquet", {}),
        (DataError, "twice.csv", {}),
        (IncompleteRows, "cut.jsonl.gz", {}),
    ],
)
def test_errors_tell_what_a_caller_can_do(
    tmp_path: Path, error: type[FlatcoatError], path: str, options: dict[str, Any]
) -> None:
    (tmp_path / "rows.csv").write_text("id,text\n1,x\n")
    (tmp_path / "twice.csv").write_text("id,id\n1,x\n")
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "broken.parquet").write_text("{")
    rows = "".join(f'{{"id": {number}, "text": "{number**9}"}}\n' for number in range(20_000))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-20_000])
    name = path if path.startswith("datasets:") else str(tmp_path / path)
    with pytest.raises(error) as caught:
        list(read_documents(name, **options))
    assert caught.type is error
