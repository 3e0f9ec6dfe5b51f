"""Files that no program should write: documents or one-line errors come out; every row is accounted for."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.reading.extracted import Unreadable
from flatcoat.indexing.reading.readers import extract
from flatcoat.indexing.reading.rows import read_rows

Check = Callable[[Any], None]

AS_LONG_AS = pytest.mark.parametrize("examples", [100, pytest.param(2_000, marks=pytest.mark.slow)])

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([10**400, "", "a"]),
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def run(strategy: st.SearchStrategy[Any], check: Check, examples: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    settings(max_examples=examples, deadline=None, suppress_health_check=checks)(given(strategy)(check))()


def accounted(path: Path, content: bytes) -> int:
    """Rows that came or were left out, each said in one line; texts are such."""
    path.write_bytes(content)
    skipped: list[tuple[str, str]] = []
    documents = list(read_rows(path, on_skip=lambda *skip: skipped.append(skip)))
    for document in documents:
        json.dumps([document.id, document.text, document.title, document.metadata], allow_nan=False)
        "".join([document.id, document.text, document.title]).encode()
        assert document.text.strip() or document.title.strip()
    for place, reason in skipped:
        assert place.startswith(f"{path}, line ")
        assert reason and "\n" not in reason
    assert len({document.id for document in documents}) == len(documents)
    assert len(set(skipped)) == len(skipped)
    return len(documents) + len(skipped)


_ROWS = st.fixed_dictionaries(
    {},
    optional={"id": _SCALARS, "_id": _SCALARS, "text": _JSON, "title": _JSON, "metadata": _JSON, "n": _JSON},
)
_JSON_LINES = st.one_of(
    _ROWS.map(lambda row: json.dumps(row).encode()),
    _ROWS.map(lambda row: json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    _ROWS.map(lambda row: json.dumps(row).encode()[:-2]),
    st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")),
    st.sampled_from([b"", b" \t", b"\r", b"[" * 5_000, b"\xef\xbb\xbf{}", b"\xe2\x80\xa8", b'{"id":NaN}']),
)


@AS_LONG_AS
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_every_line_of_json_is_a_document_or_named(tmp_path: Path, name: str, examples: int) -> None:
    def check(lines: list[bytes]) -> None:
        content = b"\n".join([b'{"id": "first", "text": "x"}', *lines])
        filled = [line for line in content.split(b"\n") if line.decode(errors="replace").strip()]
        content = gzip.compress(content, 1) if name.endswith("gz") else content
        assert accounted(tmp_path / name, content) == len(filled)

    run(st.lists(_JSON_LINES, max_size=12), check, examples)


@AS_LONG_AS
def test_every_line_of_tsv_is_a_document_or_named(tmp_path: Path, examples: int) -> None:
    def check(lines: list[bytes]) -> None:
        lines = [b"first\tx\t1", *lines]
        content = b"\n".join([b"id\ttext\tn", *lines])
        filled = [line for line in lines if line.strip(b"\r")]
        assert accounted(tmp_path / "rows.tsv", content) == len(filled)

    cells = st.sampled_from([b"a", b'"', b"\xff", b"", b"1", "é".encode()]) | st.binary(max_size=4)
    lines = st.lists(cells, max_size=4).map(lambda line: b"\t".join(line).replace(b"\n", b""))
    run(st.lists(lines, max_size=12), check, examples)


@AS_LONG_AS
def test_every_record_of_csv_is_a_document_or_named(tmp_path: Path, examples: int) -> None:
    def check(records: list[list[str]]) -> None:
        records = [["first", "x", "1"], *records]
        written = io.StringIO(newline="")
        csv.writer(written, quoting=csv.QUOTE_ALL).writerows([["id", "text", "n"], *records])
        content = written.getvalue().encode("utf-8", "surrogatepass")
        assert accounted(tmp_path / "rows.csv", content) == len(records)

    cells = st.sampled_from(["a", "b", "", "1", "x\ny", '"', ","]) | st.text(max_size=5)
    run(st.lists(st.lists(cells, min_size=1, max_size=4), max_size=8), check, examples)


@AS_LONG_AS
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.jsonl.gz"])
def test_any_bytes_are_rows_or_one_error(tmp_path: Path, name: str, examples: int) -> None:
    def check(pieces: list[bytes]) -> None:
        content = b"".join(pieces)
        for data in (content, gzip.compress(content, 1)[: len(content)]):
            try:
                accounted(tmp_path / name, data)
            except FlatcoatError as error:
                assert "\n" not in str(error)

    pieces = [b"id,text\n", b"id\ttext\n", b'"', b",", b"\t", b"\n", b"\r", b"a", b'""', b'"a\nb"', b"\0"]
    run(st.lists(st.sampled_from(pieces) | st.binary(max_size=3), max_size=30), check, examples)


@AS_LONG_AS
def test_any_notebook_is_read_or_refused(examples: int) -> None:
    def check(notebook: object) -> None:
        try:
            extracted = extract("a.ipynb", json.dumps(notebook).encode())
        except Unreadable as error:
            assert str(error) and "\n" not in str(error)
        else:
            extracted.text.encode()
            assert all(1 <= h.line <= extracted.text.count("\n") + 1 for h in extracted.outline)

    kinds = st.sampled_from(["markdown", "code", "heading", "raw", None, 3])
    sources = st.one_of(_JSON, st.lists(st.sampled_from(["# A\n", "x\r\n", None, "\ud800"]), max_size=3))
    keys = {"cell_type": kinds, "source": sources, "input": sources, "level": _JSON, "language": _JSON}
    cells = st.lists(_JSON | st.fixed_dictionaries({}, optional=keys), max_size=4) | _JSON
    metadata = st.fixed_dictionaries({}, optional={"kernelspec": _JSON, "language_info": _JSON}) | _JSON
    sheets = st.lists(st.fixed_dictionaries({}, optional={"cells": cells}) | _JSON, max_size=2) | _JSON
    parts = {"cells": cells, "worksheets": sheets, "metadata": metadata}
    run(st.fixed_dictionaries({}, optional=parts) | _JSON, check, examples)


@AS_LONG_AS
def test_any_page_is_read_or_refused(examples: int) -> None:
    def check(bits: list[str]) -> None:
        source = "".join(bits)
        try:
            extracted = extract("a.html", source.encode("utf-8", "surrogatepass"))
        except Unreadable as error:
            assert str(error)
        else:
            extracted.text.encode()
            assert extracted.text.strip() or extracted.title
            assert "\n" not in extracted.title
            assert all(1 <= h.line <= extracted.text.count("\n") + 1 for h in extracted.outline)

    names = ["p", "nav", "svg", "title", "template", "pre", "h1", "h2", "script", "textarea", "a b=c"]
    tags = [tag for name in names for tag in (f"<{name}>", f"</{name.split()[0]}>", f"<{name}/>")]
    more = [
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<!",
        "<?",
        ">",
        "<",
        "&#xD800;",
        "&#0;",
        "&#x301;",
        "&#10;",
        "\n",
    ]
    run(st.lists(st.sampled_from(tags + more) | st.text(max_size=3), max_size=25), check, examples)
