"""Readers: what is read, what is left out and why, and what is refused."""

import json
import os
from pathlib import Path

import pytest

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.readers import MAX_DATA_BYTES, language_of, read_documents


def read(path: Path, **options: int) -> tuple[dict[str, Document], dict[str, str]]:
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
    assert documents["a/z.md"] == Document("a/z.md", "# Z", "a/z.md", {"path": "a/z.md", "lang": "markdown"})
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
        "latin": "not UTF-8",
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


def test_hostile_names_are_left_out_and_printable(tmp_path: Path) -> None:
    for name in [b"new\nline.txt", b"bad\xff.txt", "naïve 名.txt".encode()]:
        (tmp_path / os.fsdecode(name)).write_text("x")
    (tmp_path / os.fsdecode(b"folder\xfe")).mkdir()
    documents, skipped = read(tmp_path)
    assert list(documents) == ["naïve 名.txt"]
    assert set(skipped) == {"new\\nline.txt", "bad\\udcff.txt", "folder\\udcfe/"}


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
    assert documents["b.TS"].metadata == {"path": "b.TS", "lang": "typescript"}


def test_a_skip_is_logged_where_nobody_asks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, {"nul": b"\0"})
    assert list(read_documents(tmp_path)) == []
    assert "skipped nul: binary" in caplog.text


def test_reading_streams(tmp_path: Path) -> None:
    rows = write(tmp_path, {"rows.jsonl": '{"id": "a", "text": "x"}\nbroken\n'}) / "rows.jsonl"
    documents = read_documents(rows)
    assert next(documents).id == "a"
    with pytest.raises(FlatcoatError, match="line 2"):
        next(documents)


def test_jsonl_rows(tmp_path: Path) -> None:
    rows = [
        {"_id": "a", "title": None, "text": "x", "year": 2020, "tags": ["no"], "none": None},
        {"id": 7, "title": "T", "text": "", "metadata": {"url": "u", "deep": {}}, "ok": True},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    documents, _ = read(write(tmp_path, {"rows.jsonl": text}) / "rows.jsonl")
    assert documents == {
        "a": Document("a", "x", "", {"year": 2020}),
        "7": Document("7", "", "T", {"url": "u", "ok": True}),
    }


def test_a_beir_folder_gives_its_corpus(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"corpus.jsonl": '{"_id": "1", "text": "x"}\n', "queries.jsonl": "{}", "qrels/test.tsv": "x"},
    )
    assert list(read(tmp_path)[0]) == ["1"]


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "3",
        '{"text": "x"}',
        '{"id": "a"}',
        '{"id": "a", "text": null}',
        '{"id": "", "text": "x"}',
        '{"id": true, "text": "x"}',
        '{"id": "a", "text": "x", "title": 3}',
        '{"id": "a", "text": "x", "n": NaN}',
        '{"id": "a", "text": "x", "n": 1e999}',
        '{"id": "a", "text": "\\ud800"}',
        '{"id": "first", "text": "again"}',
        "[" * 100_000,
        b"\xff",
    ],
)
def test_a_malformed_row_is_refused_by_file_and_line(tmp_path: Path, row: str | bytes) -> None:
    content = b'{"id": "first", "text": "x"}\n' + (row if isinstance(row, bytes) else row.encode())
    path = write(tmp_path, {"rows.jsonl": content}) / "rows.jsonl"
    with pytest.raises(FlatcoatError, match=r"rows\.jsonl, line 2: "):
        list(read_documents(path))


def test_a_missing_path_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="does not exist"):
        read_documents(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "language"), [("a.py", "python"), ("A.JS", "javascript"), ("Makefile", "text")]
)
def test_languages(name: str, language: str) -> None:
    assert language_of(name) == language


def test_large_data_files_are_left_out_of_folders_but_read_when_named(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text(" " * MAX_DATA_BYTES + "{}")
    (tmp_path / "settings.json").write_text("{}")
    (tmp_path / "long.txt").write_text("word " * MAX_DATA_BYTES)
    skipped: list[tuple[str, str]] = []
    found = read_documents(tmp_path, on_skip=lambda name, reason: skipped.append((name, reason)))
    assert [document.id for document in found] == ["long.txt", "settings.json"]
    assert skipped == [("vocabulary.json", f"over {MAX_DATA_BYTES:,} bytes")]
    assert [document.id for document in read_documents(tmp_path / "vocabulary.json")] == ["vocabulary.json"]
