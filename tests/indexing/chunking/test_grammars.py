"""One small source per language: its definitions with their kinds, what is exported, and where it is cut.

``sources/expected.txt`` has per source the lines of each part, its kind, "+" where it is exported, its name;
then the lines of each passage of 25 words at most.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from flatcoat.indexing.chunking.chunk import chunk
from flatcoat.indexing.chunking.code import code_structure
from flatcoat.indexing.chunking.grammars import LANGUAGES, grammar
from flatcoat.indexing.documents import OWN_FIELDS, Document, Metadata
from flatcoat.indexing.reading.languages import language_of

SOURCES = Path(__file__).parent / "sources"
NAMES = sorted(path.name for path in SOURCES.iterdir() if path.name != "expected.txt")


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


@cache
def expected() -> dict[str, list[str]]:
    sections = (SOURCES / "expected.txt").read_text().split("== ")[1:]
    return {lines[0]: lines[1:] for lines in (section.rstrip("\n").split("\n") for section in sections)}


def described(name: str) -> list[str]:
    text, lang = (SOURCES / name).read_text(), language_of(name)
    structure = code_structure(text, lang)
    assert structure is not None
    parts = [
        f"{part.first + 1}-{part.last + 1} {part.kind} {'+' if part.exported else '-'} {part.label}".rstrip()
        for part in structure.parts
    ]
    passages = chunk(Document("d", text, metadata={"lang": lang}), words, max_tokens=25)
    lines = text.split("\n")
    assert all(p.text == "\n".join(lines[p.lines[0] - 1 : p.lines[1]]) for p in passages)
    return [*parts, "cut: " + " ".join(f"{first}-{last}" for first, last in (p.lines for p in passages))]


@pytest.mark.parametrize("name", NAMES)
def test_a_source_has_its_definitions_and_cuts(name: str) -> None:
    assert described(name) == expected()[name]


def test_each_language_has_a_grammar_in_the_installed_wheel() -> None:
    assert len(LANGUAGES) >= 25
    assert [lang for lang in LANGUAGES if grammar(lang) is None] == []


def test_each_language_has_a_source() -> None:
    assert {*LANGUAGES} == {*map(language_of, NAMES)}


def test_each_query_belongs_to_a_language() -> None:
    from flatcoat.indexing.chunking import grammars

    queries = files("flatcoat.indexing.chunking").joinpath("queries").iterdir()
    assert {query.name for query in queries} == {
        f"{part}.scm" for parts in grammars._QUERIES.values() for part in parts
    }


def test_a_grammar_that_the_pack_lacks_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from flatcoat.indexing.chunking import grammars

    monkeypatch.setitem(grammars._QUERIES, "nolang", ("nolang",))
    assert (grammar("nolang"), grammar("nolang")) == (None, None)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage().startswith("nolang is cut by lines")) == ("WARNING", True)


def own(text: str, lang: str, limit: int) -> list[dict[str, object]]:
    passages = chunk(Document("d", text, metadata={"lang": lang}), words, max_tokens=limit)
    assert all({*passage.own} == passage.metadata.keys() - {"lang"} for passage in passages)
    return [{field: passage.metadata[field] for field in passage.own} for passage in passages]


PYTHON = (
    '"""About this file."""\nimport os\nimport re\n\nLIMIT = 1\n\n\nclass Store:\n    def open(self):\n'
    "        return os.name\n\n    def _close(self):\n        return re.escape(LIMIT)\n\n\ndef _helper():\n"
    "    first()\n    second()\n    third()\n    fourth()\n"
)


def test_a_passage_names_all_that_begins_in_it_and_imports_stand_apart() -> None:
    assert own(PYTHON, "python", 9) == [
        {"kind": "docs"},
        {"kind": "code"},
        {"symbol": "Store, Store.open", "kind": "class", "exported": True},
        {"symbol": "Store._close", "kind": "function", "exported": False},
        {"symbol": "_helper", "kind": "function", "exported": False},
    ]


def test_imports_without_documentation_are_a_header() -> None:
    first, *_ = own(PYTHON.replace('"""About this file."""', "import abc"), "python", 9)
    assert first == {"kind": "header"}


def test_a_file_that_fits_is_described_by_its_longest_definition() -> None:
    (only,) = own(PYTHON, "python", 100)
    assert only == {
        "symbol": "Store, Store.open, Store._close, _helper",
        "kind": "class",
        "exported": True,
    }


def test_the_rest_of_a_long_definition_has_its_name() -> None:
    text = "def run():\n" + "".join(f"    step({number}, {number})\n" for number in range(20))
    pieces = own(text, "python", 12)
    assert len(pieces) > 3
    assert pieces == [{"symbol": "run", "kind": "function", "exported": True}] * len(pieces)


def test_a_file_without_definitions_is_told_by_what_stands_in_it() -> None:
    notes = "".join(f"# line {number} of the notes\n" for number in range(9))
    licence = "".join(f"# line {number} of the licence\n" for number in range(9))
    for text, kind in [
        ("import a\nimport b\nimport c\n", "header"),
        (f'"""{notes}"""\nimport a\n', "docs"),
        (f"{notes}\nimport a\n", "docs"),
        (f"{licence}\nimport a\n", "header"),
        ("first()\nsecond()\nthird()\n", "code"),
    ]:
        assert own(text, "python", 100) == [{"kind": kind}], text


def test_a_documents_own_metadata_take_the_place_of_what_a_passage_defines() -> None:
    metadata: Metadata = {"lang": "python", "kind": "snippet", "symbol": 7}
    (passage,) = chunk(Document("d", PYTHON, metadata=dict(metadata)), words, max_tokens=100)
    assert passage.metadata == metadata | {"exported": True}
    assert passage.document_metadata == metadata
    assert passage.own == ("exported",)


def test_prose_and_code_without_a_grammar_say_nothing() -> None:
    for lang in ("markdown", "fortran", None):
        metadata: Metadata = {"lang": lang} if lang else {}
        (passage,) = chunk(Document("d", "one\n\ntwo\n", metadata=metadata), words, max_tokens=100)
        assert (passage.metadata, passage.own) == (metadata, ())
    assert {*OWN_FIELDS} == {"symbol", "kind", "exported"}
