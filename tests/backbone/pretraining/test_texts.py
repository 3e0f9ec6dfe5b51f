"""Text out of files and rows, in order, with errors that name the place."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from flatcoat.backbone.pretraining.settings import TextSource
from flatcoat.backbone.pretraining.texts import read_texts, source_files
from flatcoat.errors import DataError, NotFoundError


def read(root: Path, **values: Any) -> list[str]:
    return list(read_texts(TextSource.model_validate(values), root))


def test_files_are_read_whole_by_paragraph_or_by_line(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes("\ufeffone\ntwo\n\n  \nthree".encode())
    (tmp_path / "a.txt").write_text("zero")
    assert read(tmp_path, files=["*.txt"]) == ["zero", "one\ntwo\n\n  \nthree"]
    assert read(tmp_path, files=["*.txt"], documents="paragraph") == ["zero", "one\ntwo", "three"]
    assert read(tmp_path, files=["*.txt"], documents="line") == ["zero", "one", "two", "three"]
    assert read(tmp_path, files=[str(tmp_path / "*.txt")], exclude=["b*"]) == ["zero"]


def test_rows_are_read_by_column(tmp_path: Path) -> None:
    rows = [{"text": "a", "other": 1}, {"text": " "}, {"text": "c"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "x.jsonl").write_text(lines)
    with gzip.open(tmp_path / "y.jsonl.gz", "wt") as file:
        file.write(lines)
    assert read(tmp_path, jsonl=["*.jsonl*"]) == ["a", "c", "a", "c"]
    table = pyarrow.table({"body": ["p", None, "q"]})
    pyarrow.parquet.write_table(table, tmp_path / "z.parquet")
    assert read(tmp_path, parquet=["z.parquet"], text="body") == ["p", "q"]


@pytest.mark.parametrize(
    ("name", "content", "source", "message"),
    [
        ("a.txt", b"caf\xe9 au lait", {"files": ["a.txt"]}, "a.txt is not UTF-8 .* at byte 3.*: convert it"),
        ("a.jsonl", b'{"text": "x"}\n{', {"jsonl": ["a.jsonl"]}, "a.jsonl:2 is not JSON"),
        ("a.jsonl", b'{"body": "x"}', {"jsonl": ["a.jsonl"]}, r"a.jsonl:1 has no column 'text' \(.* body"),
        ("a.jsonl", b'{"text": 3}', {"jsonl": ["a.jsonl"]}, "a.jsonl:1: text is int where text is wanted"),
        ("a.parquet", b"PAR1", {"parquet": ["a.parquet"]}, "a.parquet cannot be read as Parquet"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, source: dict[str, Any], message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path, **source)


def test_patterns_must_match(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(NotFoundError, match=r"no file matches b\*"):
        source_files(TextSource(files=("a.txt", "b*")), tmp_path)
    with pytest.raises(NotFoundError, match="exclude leaves no file"):
        source_files(TextSource(files=("a.txt",), exclude=("*",)), tmp_path)


def test_a_source_is_of_one_kind() -> None:
    for values in ({}, {"files": ["a"], "hub": "b"}, {"hub": "b", "documents": "line"}):
        with pytest.raises(ValidationError):
            TextSource.model_validate(values)
