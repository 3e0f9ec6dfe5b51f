"""Docstring pairs from distributions that the test installs and from the real standard library."""

import ast
import json
import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flatcoat import FlatcoatError
from flatcoat.errors import ConflictError
from flatcoat.retrieval.data import docstrings
from flatcoat.retrieval.data.commands import app
from flatcoat.retrieval.data.docstrings import docstring_pairs, first_sentence
from flatcoat.retrieval.data.files import Pair, file_pairs, file_rows

AREA = '''
import functools

class Shape:
    """A closed shape in the plane. It has an area."""

    sides = 3

    def __init__(self, width: float) -> None:
        """Keeps the width of the shape around."""
        self.a = width
        self.b = width
        self.c = width

    @functools.cache
    def area(
        self, scale: float = 1.0
    ) -> float:
        """Compute the `area` of a :class:`~shapes.Shape`."""
        # a comment is no line of code
        first = self.a * scale
        text = """
no margin"""
        return first

    def short(self):
        """Return nothing of any interest."""
        return None
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a distribution: its files and the lines of its metadata."""

    def install(name: str, files: dict[str, str], *metadata: str) -> None:
        information = tmp_path / f"{name}-1.0.dist-info"
        information.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *metadata]
        (information / "METADATA").write_text("\n".join(lines) + "\n")
        (information / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        for file, text in files.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text)

    monkeypatch.syspath_prepend(tmp_path)
    return install


def numbered(number: int, indent: str = "") -> str:
    """A function with a docstring of its own."""
    lines = [f"def function_{number}(x):", f'    """Compute number {number} of the many."""']
    lines += [f"    x += {number}", "    x *= 2", "    return x", ""]
    return "".join(f"{indent}{line}\n" for line in lines)


def test_functions_come_whole_and_classes_as_signatures(install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docstrings, "_REMOVED_IN_TEN", 10)
    install("shapes", {"shapes.py": AREA}, "License-Expression: MIT")
    shape, area = docstring_pairs(["shapes"])
    assert shape == Pair(
        "A closed shape in the plane",
        "class Shape:\n    def __init__(self, width: float) -> None:\n"
        "    def area(\n        self, scale: float = 1.0\n    ) -> float:\n    def short(self):",
    )
    assert area == Pair(
        "Compute the area of a Shape",
        "@functools.cache\ndef area(\n    self, scale: float = 1.0\n) -> float:\n"
        "    # a comment is no line of code\n    first = self.a * scale\n"
        '    text = """\nno margin"""\n    return first',
    )


def test_seven_in_ten_lose_their_docstring_the_same_ones_every_time(install) -> None:
    install("many", {"many.py": "".join(map(numbered, range(600)))}, "License-Expression: MIT")
    pairs = list(docstring_pairs(["many"]))
    assert len(pairs) == 600
    removed = [pair.query not in pair.document for pair in pairs]
    assert 0.64 < sum(removed) / len(removed) < 0.76
    assert pairs == list(docstring_pairs(["many"]))
    assert pairs[:7] == list(docstring_pairs(["many"], max_pairs=7))
    assert all(ast.parse(pair.document) for pair in pairs)


def test_a_query_or_body_seen_before_is_left_out(install) -> None:
    same_body = numbered(1).replace("number 1", "another number")
    same_query = numbered(1).replace("x += 1", "x += 11")
    install("one", {"one.py": numbered(1) + same_body + same_query}, "License-Expression: MIT")
    install("two", {"two.py": numbered(1) + numbered(2)}, "License-Expression: MIT")
    queries = [pair.query for pair in docstring_pairs(["one", "two"])]
    assert queries == ["Compute number 1 of the many", "Compute number 2 of the many"]


def test_tests_and_vendored_code_stay_out_and_broken_files_are_counted(
    install, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    files = {
        "pack/b.py": numbered(2) + "x = '\\d' is 'd'\n",
        "pack/a.py": numbered(1),
        "pack/broken.py": "def f(:\n",
        "pack/tests/c.py": numbered(3),
        "pack/_vendor/d.py": numbered(4),
        "pack/data.txt": "",
    }
    install("pack", files, "License-Expression: MIT")
    with caplog.at_level(logging.INFO):
        queries = [pair.query for pair in docstring_pairs(["pack"])]
    assert queries == ["Compute number 1 of the many", "Compute number 2 of the many"]
    assert "3 files, 1 of them skipped" in caplog.text
    assert not recwarn.list


def test_a_long_document_is_cut_at_a_line(install) -> None:
    body = "".join(f"    value_{number} = x + {number}\n" for number in range(400))
    install(
        "long", {"long.py": f'def f(x):\n    """Add many numbers up."""\n{body}'}, "License-Expression: MIT"
    )
    (pair,) = docstring_pairs(["long"])
    assert 3_900 < len(pair.document) <= 4_000
    ast.parse(pair.document)


@pytest.mark.parametrize(
    "metadata",
    [
        ["License-Expression: MIT OR Apache-2.0"],
        ["License-Expression: BSD-3-Clause AND (0BSD OR Zlib)"],
        ["License: Apache 2.0 License"],
        ["License: BSD"],
        ["Classifier: License :: OSI Approved :: BSD License", "License: a long text", "    of many lines"],
        ["Classifier: License :: OSI Approved :: ISC License (ISCL)"],
        ["Classifier: License :: OSI Approved :: Historical Permission Notice and Disclaimer (HPND)"],
        ["Classifier: License :: OSI Approved :: Python Software Foundation License"],
        ["Classifier: License :: OSI Approved :: The Unlicense (Unlicense)"],
    ],
)
def test_permissive_licences_are_mined(install, metadata: list[str]) -> None:
    install("free", {"free.py": numbered(1)}, *metadata)
    assert len(list(docstring_pairs(["free"]))) == 1


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ([], "none in its metadata"),
        (["License-Expression: GPL-3.0-only"], "GPL-3.0-only"),
        (["License-Expression: MIT AND MPL-2.0"], "MIT AND MPL-2.0"),
        (
            ["License: MIT", "Classifier: License :: Other/Proprietary License"],
            "Other/Proprietary License; MIT",
        ),
        (["License: LGPL", "Classifier: License :: OSI Approved :: MIT License"], "MIT License; LGPL"),
        (["License: MIT License", "    Copyright"], "none in its metadata"),
        (["License: Not MIT"], "Not MIT"),
    ],
)
def test_other_licences_are_refused_before_the_first_pair(install, metadata: list[str], found: str) -> None:
    install("shut", {"shut.py": numbered(1)}, *metadata)
    with pytest.raises(FlatcoatError, match=f"shut: licence not known to be permissive, found: {found}"):
        docstring_pairs(["python", "shut"])


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(FlatcoatError, match="no installed package 'surely-not-there'"):
        docstring_pairs(["surely-not-there"])


@pytest.mark.parametrize(
    ("docstring", "query"),
    [
        ("Read a file, e.g. Parquet, into memory. Slow.", "Read a file, e.g. Parquet, into memory"),
        ("Read ``path``\n  into :func:`~io.open`.\n\nMore.", "Read path into open"),
        (
            "Look at `the page <https://x.org>`_ and [this](https://y.org) one.",
            "Look at the page and this one",
        ),
        ("Return *all* of [`Trainer`] and ``**kwargs``:\n- a list", "Return all of Trainer and kwargs"),
        ("Add x and y to z\nArgs: x: a number", "Add x and y to z"),
        ("Add x\n*y* to\n:class:`z`\n:param x: a number", "Add x y to z"),
        ("Two words.", None),
        ("word " * 41, None),
        ("Ein Wörterbuch größer öffnen ändern übä äöüß", None),
        (">>> a b c d e", None),
        ("TODO write this one day", None),
        ("Deprecated alias of the other function", None),
        (".. note:: this is a note", None),
        ("Returns: the number of the things", None),
        ("f(x, y) -> the sum of both", None),
    ],
)
def test_first_sentence(docstring: str, query: str | None) -> None:
    assert first_sentence(docstring) == query


def test_the_standard_library_gives_code_that_parses() -> None:
    pairs = list(docstring_pairs(["python"], max_pairs=500))
    assert len(pairs) == 500 == len({pair.query.lower() for pair in pairs})
    functions = [pair.document for pair in pairs if "def " in pair.document.split("\n")[0]]
    whole = [document for document in functions if len(document) < 3_000]
    assert len(whole) > 300
    for document in whole:
        ast.parse(document)
    assert not any(
        {"test", "idlelib", "site-packages"} & set(p.parts) for p in docstrings.source_files("python")
    )


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.parquet"])
def test_the_command_writes_pairs_and_counts(install, tmp_path: Path, name: str) -> None:
    install("one", {"one.py": numbered(1) + numbered(2)}, "License: MIT")
    install("two", {"two.py": numbered(1)}, "License: MIT")
    arguments = ["mine-docstrings", "one", "two", "--output", str(tmp_path / name)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1:] == ["  one: 2", "  two: 0"]
    assert [sorted(row.values) for row in file_rows(tmp_path / name)] == [["document", "query"]] * 2
    queries = [pair.query for pair in file_pairs(tmp_path / name)]
    assert queries == ["Compute number 1 of the many", "Compute number 2 of the many"]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--max-pairs", "1"]).stdout)
    assert (found["pairs"], found["packages"]) == (1, {"one": 1, "two": 0})


def test_the_command_leaves_no_file_where_a_package_is_refused(install, tmp_path: Path) -> None:
    install("one", {"one.py": numbered(1)}, "License: GPL")
    done = CliRunner().invoke(app, ["mine-docstrings", "one", "--output", str(tmp_path / "pairs.jsonl")])
    assert done.exit_code == 1 and isinstance(done.exception, ConflictError)
    assert not (tmp_path / "pairs.jsonl").exists()
