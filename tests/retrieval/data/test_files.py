"""Pairs from BEIR folders and JSONL files."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from flatcoat import FlatcoatError
from flatcoat.errors import DataError, NotFoundError
from flatcoat.retrieval.data.dataset import load_source
from flatcoat.retrieval.data.files import Pair, beir_pairs, file_pairs
from flatcoat.retrieval.data.source import Source

HEADER = "query-id\tcorpus-id\tscore\n"


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    write_jsonl(
        tmp_path / "corpus.jsonl",
        {"_id": "d1", "title": "Sky", "text": "Blue light scatters."},
        {"_id": "d2", "title": "", "text": "Grass is green."},
        {"_id": "d3", "title": None, "text": "Snow is white. \u2028 Cold, too."},
        {"_id": "d4", "text": ""},
    )
    write_jsonl(
        tmp_path / "queries.jsonl", {"_id": "q1", "text": "why blue?"}, {"_id": "q2", "text": "colours"}
    )
    (tmp_path / "qrels").mkdir()
    rows = "q2\td2\t1\nq1\td1\t2\nq1\td2\t0\nq2\td3\t1\nq2\td4\t1\n"
    (tmp_path / "qrels" / "train.tsv").write_text(HEADER + rows)
    return tmp_path


def qrels(folder: Path, text: str) -> Path:
    (folder / "qrels" / "dev.tsv").write_text(text)
    return folder


def test_beir_pairs_are_the_positives_in_the_order_of_the_qrels(
    beir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pairs = list(beir_pairs(beir, "train"))
    assert pairs == [
        Pair("colours", "Grass is green."),
        Pair("why blue?", "Sky Blue light scatters."),
        Pair("colours", "Snow is white. \u2028 Cold, too."),
    ]
    assert "skipped 1 pairs" in caplog.text


def test_a_missing_split_lists_the_splits_there(beir: Path) -> None:
    with pytest.raises(FlatcoatError, match="has no split 'test': choose one of train"):
        list(beir_pairs(beir, "test"))


def test_a_missing_corpus_says_the_layout(beir: Path) -> None:
    (beir / "corpus.jsonl").unlink()
    with pytest.raises(FlatcoatError, match=r"corpus\.jsonl is missing: a BEIR folder holds"):
        list(beir_pairs(beir, "train"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no query is judged in 'dev'"),
        (HEADER + "q1\td1\t1\nq1 d1 1\n", r"dev\.tsv:3 has 1 columns"),
        (HEADER + "q1\td1\thigh\n", r"dev\.tsv:2: the score 'high' is not an integer"),
        (HEADER + "q9\td1\t1\n", "no query is judged in 'dev'"),
    ],
)
def test_bad_qrels_name_file_and_line(beir: Path, text: str, message: str) -> None:
    with pytest.raises(FlatcoatError, match=message):
        list(beir_pairs(qrels(beir, text), "dev"))


def test_jsonl_pairs_take_the_named_columns_and_skip_empty_sides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"q": "a b", "code": "x = 1"}, {"q": " ", "code": "y"}, {"q": "c", "code": None}]
    with caplog.at_level(logging.WARNING):
        pairs = list(file_pairs(write_jsonl(tmp_path / "pairs.jsonl", *rows), "q", document="code"))
    assert pairs == [Pair("a b", "x = 1")]
    assert "skipped 2 pairs" in caplog.text


def test_jsonl_pairs_stream(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "pairs.jsonl", {"q": "a", "d": "b"}, "no object")
    pairs = file_pairs(path, "q", document="d")
    assert next(pairs) == Pair("a", "b")
    with pytest.raises(FlatcoatError, match=r"pairs\.jsonl:2: not a JSON object"):
        next(pairs)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"q": "a"}', r":2: no column 'd'; columns there: q$"),
        (b'{"q": "a", "d": 3}', r""":2: 'd' must be text: \{"q": "a", "d": 3\}"""),
        (b'{"q": "a", ' + b"x" * 500, r":2: not JSON .*x{20,120}\.\.\.$"),
        (b'{"q": "\xff"}', ":2: not UTF-8"),
    ],
)
def test_a_bad_row_is_named_and_shown_shortened(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\n" + raw + b"\n")
    with pytest.raises(FlatcoatError, match=message):
        list(file_pairs(path, "q", document="d"))


def test_a_missing_folder_holds_nothing(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match="holds nothing"):
        list(file_pairs(tmp_path / "none" / "pairs.jsonl"))


@pytest.mark.parametrize(
    ("error", "source"),
    [
        (NotFoundError, {"jsonl": "nowhere.jsonl"}),
        (NotFoundError, {"jsonl": "pairs.jsonl", "query": "question"}),
        (NotFoundError, {"beir": "nowhere"}),
        (NotFoundError, {"docstrings": ("surely-not-there",)}),
        (DataError, {"jsonl": "broken.jsonl"}),
        (DataError, {"parquet": "broken.jsonl"}),
        (DataError, {"jsonl": "pairs.jsonl", "document": "number"}),
        (DataError, {"jsonl": "empty.jsonl"}),
    ],
)
def test_errors_tell_what_a_caller_can_do(
    tmp_path: Path, error: type[FlatcoatError], source: dict[str, Any]
) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", {"query": "why?", "document": "so", "number": 3})
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(error) as caught:
        load_source(Source(**source), tmp_path, folder=tmp_path / "arrow")
    assert caught.type is error
