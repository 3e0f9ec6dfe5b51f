"""Rows: documents from JSON lines, CSV, TSV, Parquet and data sets, and what is refused."""

import contextlib
import csv
import gzip
import hashlib
import json
import os
import random
import time
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.documents import Document, normalized
from flatcoat.indexing.reading import lines as line_reading
from flatcoat.indexing.reading.columns import USUAL, Columns
from flatcoat.indexing.reading.readers import read_documents
from flatcoat.indexing.reading.rows import (
    IncompleteRows,
    is_rows,
    read_dataset,
    read_rows,
    rows_file,
)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(folder: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Path:
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.Table.from_pylist(list(rows)), folder / "rows.parquet", **options)
    return folder / "rows.parquet"


def read(
    path: Path, columns: Columns = USUAL, **options: Any
) -> tuple[list[Document], list[tuple[str, str]]]:
    """Documents, and what was left out: its place in the file, and why."""
    skipped: list[tuple[str, str]] = []
    documents = list(read_rows(path, columns, on_skip=lambda *skip: skipped.append(skip), **options))
    return documents, [(place.removeprefix(f"{path}, "), reason) for place, reason in skipped]


def test_jsonl_rows(tmp_path: Path) -> None:
    rows = [
        {"_id": "a", "title": None, "text": "x", "year": 2020, "tags": ["no"], "none": None},
        {"id": 7, "title": "T", "text": "", "metadata": {"url": "u", "deep": {}}, "ok": True},
    ]
    text = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    documents = {row.id: row for row in read_rows(write(tmp_path, "rows.jsonl", text))}
    assert documents == {
        "a": Document("a", "x", "", {"year": 2020, "tags": ["no"]}),
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
        '{"id": "", "text": "x"}',
        '{"id": true, "text": "x"}',
        '{"id": "a", "text": "x", "title": 3}',
        '{"id": "a", "text": "x", "n": NaN}',
        '{"id": "a", "text": "x", "n": 1e999}',
        '{"id": "first", "text": "again"}',
        '{"id": null, "text": "x"}',
        '{"id": 1.5, "text": "x"}',
        '{"id": [1], "text": "x"}',
        '{"id": "a", "text": 3}',
        '{"id": "a", "text": ["x"]}',
        '{"id": "a", "text": null}',
        '{"id": "a", "text": " ", "title": "\\n"}',
        '{"id": "a", "text": "x", "n": ' + "9" * 5_000 + "}",
        '{"id": "a", "text": "x"} {"id": "b", "text": "y"}',
        '{"id": "a\\u0000", "text": "x"}',
        '{"id": "a", "text": "x", "n": 18446744073709551616}',
        "[" * 100_000,
        '{"a":' * 100_000,
        b"\xff",
        b'{"id": "a", "text": "caf\xe9"}',
        b'{"id": "a", "text": "\0"}',
    ],
)
def test_a_malformed_row_is_left_out_by_file_and_line(tmp_path: Path, row: str | bytes) -> None:
    content = row if isinstance(row, bytes) else row.encode()
    content = b'{"id": "first", "text": "x"}\n\n' + content + b'\n{"id": "last", "text": "y"}'
    documents, skipped = read(write(tmp_path, "rows.jsonl", content))
    assert documents == [Document("first", "x"), Document("last", "y")]
    ((place, reason),) = skipped
    assert place == "line 3"
    assert reason and "\n" not in reason and len(reason) < 200


def test_all_text_of_rows_is_kept_in_one_form(tmp_path: Path) -> None:
    row = {"id": "e\u0301", "title": "Vie\u0323\u0302t", "text": "re\u0301sume\u0301 \ud83e"}
    row |= {"ville\u0301": "Ze\u0301", "metadata": {"cle\u0301": "e\u0301"}}
    expected = Document(
        "\u00e9",
        "r\u00e9sum\u00e9 \ufffd\ufffd\ufffd",
        "Vi\u1ec7t",
        {"cl\u00e9": "\u00e9", "vill\u00e9": "Z\u00e9"},
    )
    path = write(tmp_path, "rows.jsonl", json.dumps(row) + "\n" + json.dumps(row | {"id": "\u00e9"}))
    documents, skipped = read(path)
    assert documents == [expected]
    assert skipped == [("line 2", "id '\u00e9' came before")]
    (named,), _ = read(path, Columns(id="ville\u0301", text="title", metadata=("ville\u0301",)))
    assert named.id == "Z\u00e9" and named.metadata == {"vill\u00e9": "Z\u00e9"}


def test_a_title_alone_is_a_document(tmp_path: Path) -> None:
    rows = [{"id": n, "title": "walrus", "text": text} for n, text in enumerate([None, "", " "])]
    path = write(tmp_path, "rows.jsonl", "\n".join(map(json.dumps, rows)))
    documents, skipped = read(path)
    assert [(row.id, row.title, row.text) for row in documents] == [
        ("0", "walrus", ""),
        ("1", "walrus", ""),
        ("2", "walrus", " "),
    ]
    assert not skipped
    assert [row.id for row in read(parquet(tmp_path, rows))[0]] == ["0", "1", "2"]
    (row,), skipped = read(write(tmp_path, "rows.csv", "id,title,text\n1,walrus,\n2,,\n"))
    assert (row.title, row.text) == ("walrus", "")
    assert skipped == [("line 3", "empty")]


def test_whole_numbers_are_ids_however_they_are_written(tmp_path: Path) -> None:
    rows = "".join(f'{{"id": {id}, "text": "x"}}\n' for id in ("1", "2.0", "-3", "1e3", "2e18", "1"))
    documents, skipped = read(write(tmp_path, "rows.jsonl", rows))
    assert [row.id for row in documents] == ["1", "2", "-3", "1000"]
    assert [place for place, _ in skipped] == ["line 5", "line 6"]
    documents, _ = read(parquet(tmp_path, [{"id": 7.0, "text": "x"}, {"id": None, "text": "y"}]))
    assert [row.id for row in documents] == ["7"]


def test_a_row_without_end_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_reading, "LONGEST_ROW", 3_000_000)
    lines = ['{"id": "a", "text": "x"}', json.dumps({"id": "b", "text": "b" * 3_000_000}), "c" * 9_000_000]
    lines += [json.dumps({"id": "d", "text": "d" * 2_900_000}), '{"id": "e", "text": "e"}']
    for name, data in (("rows.jsonl", lines), ("rows.jsonl.gz", lines)):
        content = "\n".join(data).encode()
        path = write(tmp_path, name, gzip.compress(content, 1) if name.endswith("gz") else content)
        documents, skipped = read(path)
        assert [row.id for row in documents] == ["a", "d", "e"]
        assert skipped == [(f"line {line}", "a line of over 3,000,000 characters") for line in (2, 3)]
    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t")):
        rows = [("id", "text"), ("a", "x"), ("b", "b" * 3_000_000), ("c", "x")]
        documents, skipped = read(write(tmp_path, name, "\n".join(map(delimiter.join, rows))))
        assert [row.id for row in documents] == ["a", "c"]
        assert skipped == [("line 3", "a line of over 3,000,000 characters")]


def test_a_row_may_be_longer_than_a_text(tmp_path: Path) -> None:
    text = "walrus " * 2_000_000
    path = write(tmp_path, "rows.jsonl", json.dumps({"id": 1, "text": text, "v": ["x" * 12_000_000]}))
    ((row,), skipped) = read(path)
    assert (row.text, skipped) == (text, [])


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl", "rows.csv", "rows.tsv"])
def test_millions_of_blank_lines_cost_little(tmp_path: Path, name: str) -> None:
    delimiter = "," if name == "rows.csv" else "\t"
    header, row = (
        ("", '{"id": "a", "text": "x"}')
        if ".jsonl" in name
        else (
            f"id{delimiter}text\n",
            f"a{delimiter}x",
        )
    )
    content = (header + "\n" * 20_000_000 + row + "\r\n" * 2_000_000).encode()
    path = write(tmp_path, name, gzip.compress(content, 1) if name.endswith("gz") else content)
    begin = time.process_time()
    assert read(path) == ([Document("a", "x")], [])
    assert time.process_time() - begin < 3


def test_gzipped_jsonl(tmp_path: Path) -> None:
    data = gzip.compress(b'{"id": "a", "text": "x"}\n')
    assert read(write(tmp_path, "rows.jsonl.gz", data)) == ([Document("a", "x")], [])
    for broken in (data[:-9], data[:12], b"no gzip", data[:14] + b"\xff" + data[15:]):
        with pytest.raises(FlatcoatError, match=r"rows\.jsonl\.gz(, line \d+:)? "):
            read(write(tmp_path, "rows.jsonl.gz", broken))


def test_rows_before_a_break_are_given_and_the_break_is_an_error_of_its_own(tmp_path: Path) -> None:
    rows = [{"id": n, "text": hashlib.sha256(str(n).encode()).hexdigest()} for n in range(20_000)]
    data = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    for cut, broken in (("cut", data[: len(data) // 2]), ("checksum", data[:-8] + b"\0" * 8)):
        documents = read_rows(write(tmp_path, "rows.jsonl.gz", broken))
        ids = []
        with pytest.raises(IncompleteRows, match=r"rows\.jsonl\.gz, line \d+: cannot be read from here on"):
            ids.extend(document.id for document in documents)
        assert ids == [str(n) for n in range(len(ids))]
        assert len(ids) == 19_999 if cut == "checksum" else 5_000 < len(ids) < 15_000


def test_a_broken_parquet_gives_the_rows_before(tmp_path: Path) -> None:
    rows = [{"id": n, "text": hashlib.sha256(str(n).encode()).hexdigest()} for n in range(4_000)]
    path = parquet(tmp_path, rows, row_group_size=1_000, compression="zstd")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 9_000] = b"\xff" * 9_000
    path.write_bytes(data)
    ids = []
    with pytest.raises(IncompleteRows, match=r"rows\.parquet, row \d+: cannot be read from here on"):
        ids.extend(document.id for document in read_rows(path))
    assert ids == [str(n) for n in range(len(ids))] and 256 <= len(ids) < 4_000


def test_rows_without_ids_are_numbered(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", '{"text": "x"}\n\n{"text": "y"}\nbroken\n{"text": "z"}\n')
    documents, skipped = read(path)
    assert documents == [Document("1", "x"), Document("2", "y"), Document("4", "z")]
    assert [place for place, _ in skipped] == ["line 4"]


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_row_without_the_id_that_others_have_is_left_out(tmp_path: Path, lacking: int) -> None:
    rows = ['{"id": "a", "text": "x"}', '{"id": "b", "text": "y"}']
    rows.insert(lacking, '{"text": "no id"}')
    documents, skipped = read(write(tmp_path, "rows.jsonl", "\n".join(rows)))
    assert [row.id for row in documents] == ["a", "b"]
    assert skipped == [(f"line {lacking + 1}", "no column '_id' or 'id'")]


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
    content = {"rows.csv": "a\n1\n2\n", "rows.tsv": "a\n1\n2\n", "rows.jsonl": '{"a": "1"}\n{"a": "2"}\n'}
    for path in (*(write(tmp_path, *item) for item in content.items()), parquet(tmp_path, [{"a": "1"}])):
        with pytest.raises(FlatcoatError, match=r"rows\.\w+: no column '(text|b)'; there are 'a'"):
            read(path, columns)


def test_a_column_that_one_row_lacks_costs_that_row(tmp_path: Path) -> None:
    lines = ['{"id": 1, "title": "T", "q": "x"}', '{"id": 2, "text": "no q"}', '{"id": 3, "q": "z"}']
    path = write(tmp_path, "rows.jsonl", "\n".join([*lines, '{"id": 4, "q": "u", "year": 1999}']))
    documents, skipped = read(path, Columns(text="q", title="title", metadata=("year",)))
    assert [(row.id, row.title, row.metadata) for row in documents] == [
        ("1", "T", {}),
        ("3", "", {}),
        ("4", "", {"year": 1999}),
    ]
    assert skipped == [("line 2", "no column 'q'; there are 'id', 'text'")]
    joined, _ = read(path, Columns(text=("q", "text")))
    assert [row.text for row in joined] == ["x", "no q", "z", "u"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.tsv"])
def test_a_file_of_which_nothing_is_a_row_is_one_error(tmp_path: Path, name: str) -> None:
    pretty = json.dumps([{"id": n, "text": "x"} for n in range(999)], indent=1)
    with pytest.raises(
        FlatcoatError, match=rf"{name}: no row can be read; line \d: |{name}: no column 'text'"
    ):
        read(write(tmp_path, name, pretty))
    with pytest.raises(FlatcoatError, match=rf"{name}: no row can be read; line 2: "):
        read(write(tmp_path, name, "\nno rows" if ".jsonl" in name else "id,text\ta,b\n1"))


@pytest.mark.parametrize(
    ("content", "place", "reason"),
    [
        ("id,text\n1,x\n2\n3,z\n", "line 3", "1 fields came, the header has 2"),
        ("id,text\n1,x\n2,y,z\n3,z\n", "line 3", "3 fields came, the header has 2"),
        ('id,text\n1,x\n3,z\n2,"y\n', "line 4", "unexpected end of data"),
        ('id,text\n1,x\n2,"y\n3,z\n', "line 3", "unexpected end of data"),
        ('id,text\n1,x\n2,"y\n3,"z"\n', "line 3", "',' expected after '\"'"),
        ('id,text\n1,x\n2,"y"z\n3,z\n', "line 3", "',' expected after '\"'"),
        (
            b"id,text\n1,x\n2,caf\xe9\n3,z\n",
            "line 3",
            "not UTF-8: name the file's encoding, or save it as UTF-8",
        ),
        ("id,text\n1,x\n1,y\n3,z\n", "line 3", "id '1' came before"),
        ("id,text\n1,x\n,y\n3,z\n", "line 3", "the id must be a text or whole number, '' came"),
        ('id,text\n1,"x"\n\n2,"y\ny",4\n3,z', "line 4", "3 fields came, the header has 2"),
    ],
)
def test_a_malformed_row_of_csv_is_left_out_by_file_and_line(
    tmp_path: Path, content: str | bytes, place: str, reason: str
) -> None:
    documents, skipped = read(write(tmp_path, "rows.csv", content))
    assert documents == [Document("1", "x"), Document("3", "z")]
    assert skipped == [(place, reason)]


def test_a_quote_that_is_never_closed_takes_no_other_row(tmp_path: Path) -> None:
    rows = [f"{n},otter {n}" for n in range(30_000)]
    rows[7] = '7,"otter'
    rows[9] = '9,"two\nlines"'
    documents, skipped = read(write(tmp_path, "rows.csv", "\n".join(["id,text", *rows])))
    assert [row.id for row in documents] == [str(n) for n in range(30_000) if n != 7]
    assert skipped == [("line 9", "',' expected after '\"'")] or skipped == [
        ("line 9", "unexpected end of data")
    ]


@pytest.mark.parametrize("line", ['a","b', '"a', '"', 'a"b', '""a', '"a"b"', ',"'])
def test_quotes_at_random_cost_little_time(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "rows.csv", "id,text\n" + f"{line}\n" * (1_000_000 // len(line)))
    begin = time.process_time()
    with contextlib.suppress(FlatcoatError):
        read(path)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize("content", ["id,text,id\n1,x,2\n", "e\u0301,text,\u00e9\n1,x,2\n"])
def test_a_column_that_comes_twice_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(FlatcoatError, match=r"rows\.csv: column '.*' comes twice"):
        read(write(tmp_path, "rows.csv", content))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
def test_rows_in_the_encoding_that_their_mark_or_the_caller_says(tmp_path: Path, encoding: str) -> None:
    named = encoding if encoding in ("utf-16-be", "cp1252") else None
    contents = {"rows.csv": "id,text\n1,café\n", "rows.tsv": "id\ttext\n1\tcafé\n"}
    for name, content in (*contents.items(), ("rows.jsonl", '{"id": 1, "text": "café"}\n')):
        path = write(tmp_path, name, content.encode(encoding))
        assert read(path, encoding=named) == ([Document("1", "café")], [])


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_the_delimiter_of_csv_is_told_by_its_header(tmp_path: Path, delimiter: str) -> None:
    rows = [("id", "text", "n"), ("1", "x, y, z", "2")]
    assert read(write(tmp_path, "rows.csv", "\n".join(map(delimiter.join, rows)))) == (
        [Document("1", "x, y, z", "", {"n": 2})],
        [],
    )


def test_a_collection_of_ids_and_texts_has_no_header(tmp_path: Path) -> None:
    content = "0\tAir scatters blue light.\n1\t17\n2\tone\ttwo\n"
    documents, skipped = read(write(tmp_path, "collection.tsv", content))
    assert documents == [Document("0", "Air scatters blue light."), Document("1", "17")]
    assert skipped == [("line 3", "3 fields came, the header has 2")]
    titled = write(tmp_path, "titled.tsv", "7\tIt is blue.\tSky\n")
    assert read(titled) == ([Document("7", "It is blue.", "Sky")], [])
    with pytest.raises(FlatcoatError, match="no column 'text'"):
        read(write(tmp_path, "ids.tsv", "7\n8\n"))


def test_quotes_in_tsv_are_characters(tmp_path: Path) -> None:
    content = 'id\ttext\t"n"\n1\t"walrus season begins\t1\r\n2\t"Zebra" herds\t""\n3\totter"\t"\n4\n'
    documents, skipped = read(write(tmp_path, "rows.tsv", content))
    assert documents == [
        Document("1", '"walrus season begins', "", {'"n"': 1}),
        Document("2", '"Zebra" herds', "", {'"n"': '""'}),
        Document("3", 'otter"', "", {'"n"': '"'}),
    ]
    assert skipped == [("line 5", "1 fields came, the header has 3")]


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
    written = [(normalized(text).replace("\0", "\ufffd"), n) for text, n in rows if text.strip()]
    assert [(row.text, row.metadata["n"]) for row in read_rows(path)] == written


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


def test_a_bad_row_of_parquet_is_left_out_by_its_number(tmp_path: Path) -> None:
    documents, skipped = read(
        parquet(tmp_path, [{"text": f"{n}" if n != 1499 else None} for n in range(2000)])
    )
    assert [row.id for row in documents] == [str(n + 1) for n in range(2000) if n != 1499]
    assert skipped == [("row 1500", "empty")]
    assert read(parquet(tmp_path, [{"text": ["x"]}])) == (
        [],
        [("row 1", "the text must be a text or null, ['x'] came")],
    )
    with pytest.raises(FlatcoatError, match=r"broken\.parquet cannot be read"):
        read(write(tmp_path, "broken.parquet", b"PAR1"))


def test_bytes_that_are_no_text_cost_one_row_of_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    texts = pyarrow.array([b"x", b"caf\xe9", b"z"], pyarrow.binary()).view(pyarrow.string())
    write_table(pyarrow.table({"text": texts}), tmp_path / "rows.parquet")
    documents, skipped = read(tmp_path / "rows.parquet")
    assert documents == [Document("1", "x"), Document("3", "z")]
    assert [place for place, _ in skipped] == ["row 2"]


def test_a_large_row_of_parquet_that_is_no_text_costs_only_itself(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    large = b"x" * 40_000_000  # more than is read at once
    texts = pyarrow.array([large, b"\xff", large, b"z"], pyarrow.binary()).view(pyarrow.string())
    write_table(pyarrow.table({"text": texts}), tmp_path / "rows.parquet", use_dictionary=False)
    documents, skipped = read(tmp_path / "rows.parquet")
    assert [(row.id, len(row.text)) for row in documents] == [("1", 40_000_000), ("3", 40_000_000), ("4", 1)]
    assert [place for place, _ in skipped] == ["row 2"]


def test_large_row_groups_are_read_in_parts(tmp_path: Path) -> None:
    import pyarrow

    noise = random.Random(0).randbytes(5_000_000).hex()  # does not compress
    rows = [{"id": n, "text": noise[n * 500 : n * 500 + 5_000]} for n in range(20_000)]
    path = parquet(tmp_path, rows, row_group_size=10_000)
    before = pyarrow.total_allocated_bytes()
    most = max(pyarrow.total_allocated_bytes() - before for _ in read_rows(path))
    assert most < path.stat().st_size / 2


def test_what_holds_rows(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.JSONL.gz", "a.csv", "a.tsv", "a.parquet"):
        assert is_rows(tmp_path / name)
    for name in ("a.json", "a.gz", "a.csv.txt", "a"):
        assert not is_rows(tmp_path / name)
        with pytest.raises(FlatcoatError, match="holds no rows"):
            read_rows(tmp_path / name)
    assert not is_rows(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    assert not is_rows(tmp_path / "folder.jsonl")


@pytest.mark.parametrize("beside", ["queries.jsonl", "queries.jsonl.gz", "qrels/test.tsv"])
@pytest.mark.parametrize("corpus", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_beir_collection_is_a_corpus_beside_queries_or_judgements(
    tmp_path: Path, corpus: str, beside: str
) -> None:
    content = b'{"_id": "a", "text": "x"}'
    write(tmp_path, corpus, gzip.compress(content) if corpus.endswith("gz") else content)
    write(tmp_path, "README.md", "about it")
    assert not is_rows(tmp_path)
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    write(tmp_path, beside, "")
    (tmp_path / "src").mkdir()
    assert is_rows(tmp_path)
    assert rows_file(tmp_path) == tmp_path / corpus
    assert read(tmp_path) == (
        [Document("a", "x")],
        [(name, "not part of the BEIR collection") for name in ("README.md", "src/")],
    )


def test_a_folder_with_a_corpus_alone_is_a_folder(tmp_path: Path) -> None:
    write(tmp_path, "corpus.jsonl", '{"_id": "a", "text": "x"}')
    write(tmp_path, "main.py", "x = 1")
    assert [document.id for document in read_documents(tmp_path)] == ["corpus.jsonl", "main.py"]


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.csv", "p.tsv", "p.parquet"])
def test_pipes_and_devices_are_no_files_of_rows(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
    (tmp_path / f"folder-{name}").mkdir()
    for path in (tmp_path / name, tmp_path / f"zero-{name}", tmp_path / f"folder-{name}"):
        with pytest.raises(FlatcoatError, match=r"not a regular file|cannot be read"):
            list(read_rows(path))


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
