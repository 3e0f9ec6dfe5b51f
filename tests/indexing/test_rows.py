"""Rows: documents from JSON lines, CSV, TSV, Parquet and data sets, and what is refused."""

import csv
import gzip
import json
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Document
from flatcoat.indexing.readers import read_documents
from flatcoat.indexing.rows import Columns, is_rows, read_dataset, read_rows


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(folder: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Path:
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.Table.from_pylist(list(rows)), folder / "rows.parquet", **options)
    return folder / "rows.parquet"


def test_jsonl_rows(tmp_path: Path) -> None:
    rows = [
        {"_id": "a", "title": None, "text": "x", "year": 2020, "tags": ["no"], "none": None},
        {"id": 7, "title": "T", "text": "", "metadata": {"url": "u", "deep": {}}, "ok": True},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    documents = {row.id: row for row in read_rows(write(tmp_path, "rows.jsonl", text))}
    assert documents == {
        "a": Document("a", "x", "", {"year": 2020}),
        "7": Document("7", "", "T", {"url": "u", "ok": True}),
    }


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
    path = write(tmp_path, "rows.jsonl", content)
    with pytest.raises(FlatcoatError, match=r"rows\.jsonl, line 2: "):
        list(read_rows(path))


def test_gzipped_jsonl(tmp_path: Path) -> None:
    data = gzip.compress(b'{"id": "a", "text": "x"}\n')
    assert list(read_rows(write(tmp_path, "rows.jsonl.gz", data))) == [Document("a", "x")]
    for broken in (data[:-9], data[:12], b"no gzip", data[:14] + b"\xff" + data[15:]):
        with pytest.raises(FlatcoatError, match=r"rows\.jsonl\.gz(, line \d+:)? "):
            list(read_rows(write(tmp_path, "rows.jsonl.gz", broken)))


def test_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", '{"text": "x"}\n\n{"text": "y"}\n')
    assert list(read_rows(path)) == [Document("1", "x"), Document("2", "y")]
    mixed = write(tmp_path, "mixed.jsonl", '{"text": "x"}\n{"id": "a", "text": "y"}\n')
    with pytest.raises(FlatcoatError, match=r"mixed\.jsonl, line 2: some rows have"):
        list(read_rows(mixed))


def test_csv_rows(tmp_path: Path) -> None:
    text = "\ufeffid,title,text,year,price,zip,note\r\n"
    text += '7,T,"two\nlines, ""quoted""",2020,1.50,01234,\n\n8,,x,-1,2,1e5,n\n'
    assert list(read_rows(write(tmp_path, "rows.CSV", text))) == [
        Document("7", 'two\nlines, "quoted"', "T", {"year": 2020, "price": 1.5, "zip": "01234", "note": ""}),
        Document("8", "x", "", {"year": -1, "price": 2, "zip": "1e5", "note": "n"}),
    ]


def test_tsv_rows_and_their_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.tsv", "text\tn\n12\t12\nb,c\tx\n")
    assert list(read_rows(path)) == [Document("1", "12", "", {"n": 12}), Document("2", "b,c", "", {"n": "x"})]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.csv", "key,q,a,name,year,lang\nk1,why?,because,N,2020,en\n")
    columns = Columns(id="key", text=("q", "a"), title="name", metadata=("year",))
    assert list(read_rows(path, columns)) == [Document("k1", "why?\nbecause", "N", {"year": 2020})]
    (row,) = read_documents(path, columns=Columns(text="q"))
    metadata = {"key": "k1", "a": "because", "name": "N", "year": 2020, "lang": "en"}
    assert row == Document("1", "why?", "", metadata)


@pytest.mark.parametrize(
    "columns",
    [Columns(), Columns(text="a", id="b"), Columns(text="a", title="b"), Columns("a", "a", metadata=("b",))],
)
def test_a_missing_column_is_named(tmp_path: Path, columns: Columns) -> None:
    for path in (write(tmp_path, "rows.csv", "a\n1\n"), parquet(tmp_path, [{"a": "1"}])):
        with pytest.raises(
            FlatcoatError, match=r"rows\.\w+, (line 2|row 1): no column '(text|b)'; there are 'a'"
        ):
            list(read_rows(path, columns))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("id,text,id\n1,x,2\n", "line 1: column 'id' comes twice"),
        ("id,text\n1,x\n2\n", "line 3: 1 fields came, the header has 2"),
        ("id,text\n1,x,y\n", "line 2: 3 fields came, the header has 2"),
        ('id,text\n1,"x\n', "line 2: unexpected end of data"),
        ('id,text\n1,"x"y\n', "line 2: "),
        (b"id,text\n1,x\n2,caf\xe9\n", "line 3: .* save it as UTF-8"),
        ("id,text\n1,x\n1,y\n", "line 3: id '1' came before"),
        ("id,text\n,x\n", "line 2: the id must be"),
        ('id,text\n1,"x\ny"\n\n2,"y\ny",3\n', "line 5: 3 fields came"),
    ],
)
def test_malformed_csv_is_refused_by_file_and_line(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(FlatcoatError, match=rf"rows\.csv, {reason}"):
        list(read_rows(write(tmp_path, "rows.csv", content)))


def test_long_csv_cells_are_read(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, "rows.csv", "text\n" + "word " * 100_000))
    assert len(row.text) == 500_000


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-99, 10**15 - 1))))
def test_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("text", "n"), *rows])
    assert [(row.text, row.metadata["n"]) for row in read_rows(path)] == rows


def test_parquet_rows(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [
        {
            "id": 1,
            "text": "x",
            "title": None,
            "n": 1.5,
            "day": date(2020, 1, 2),
            "vector": [0.1],
            "metadata": {"a": 1},
        },
        {"id": 2, "text": "y", "title": "T", "n": nan, "day": None, "vector": [], "metadata": {"a": None}},
    ]
    assert list(read_rows(parquet(tmp_path, rows, row_group_size=1))) == [
        Document("1", "x", "", {"a": 1, "n": 1.5, "day": "2020-01-02"}),
        Document("2", "y", "T"),
    ]


def test_parquet_errors_name_the_row(tmp_path: Path) -> None:
    with pytest.raises(FlatcoatError, match=r"rows\.parquet, row 1500: the text must be a text, None came"):
        list(read_rows(parquet(tmp_path, [{"text": "x" if row != 1499 else None} for row in range(2000)])))
    with pytest.raises(FlatcoatError, match=r"rows\.parquet, row 1: the text must be a text, \['x'\] came"):
        list(read_rows(parquet(tmp_path, [{"text": ["x"]}])))
    with pytest.raises(FlatcoatError, match=r"broken\.parquet cannot be read"):
        list(read_rows(write(tmp_path, "broken.parquet", b"PAR1")))


def test_what_holds_rows(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.JSONL.gz", "a.csv", "a.tsv", "a.parquet"):
        assert is_rows(tmp_path / name)
    for name in ("a.json", "a.gz", "a.csv.txt", "a"):
        assert not is_rows(tmp_path / name)
        with pytest.raises(FlatcoatError, match="holds no rows"):
            read_rows(tmp_path / name)
    assert not is_rows(tmp_path)
    write(tmp_path, "corpus.jsonl", '{"_id": "a", "text": "x"}')
    assert is_rows(tmp_path)
    assert list(read_rows(tmp_path)) == [Document("a", "x")]


@pytest.mark.parametrize("name", ["no.jsonl", "no.jsonl.gz", "no.csv", "no.parquet"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FlatcoatError, match="cannot be read"):
        list(read_rows(tmp_path / name))


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for split in ("train", "test"):
        rows = [{"text": f"{split} {row}", "n": row, "when": str(datetime(2020, 1, 1))} for row in range(3)]
        write(tmp_path, f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_dataset_streams(dataset: Path) -> None:
    rows = list(read_documents(f"datasets:{dataset}"))
    assert [(row.id, row.text, row.metadata["n"]) for row in rows] == [
        (str(n + 1), f"train {n}", n) for n in range(3)
    ]
    assert [row.text for row in read_documents(Path(f"datasets:{dataset}::test"))] == [
        "test 0",
        "test 1",
        "test 2",
    ]
    assert next(read_dataset(f"{dataset}:default:test", Columns(id="text"))).id == "test 0"


@pytest.mark.parametrize("name", ["", "{}::nosuch", "{}:nosuch", "{}/nowhere", "{}:default:train:more"])
def test_a_missing_dataset_is_refused(dataset: Path, name: str) -> None:
    with pytest.raises(FlatcoatError, match=r"^'?datasets:"):
        list(read_documents("datasets:" + name.format(dataset)))
