"""One small source per language: its definitions with their kinds, what is exported, and where it is cut.

``sources/expected.txt`` has per source the lines of each part, its kind, "+" where it is exported, its name; then
the lines of each passage of 25 words at most.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from flatcoat.indexing.chunking.chunk import chunk
from flatcoat.indexing.chunking.code import code_structure
from flatcoat.indexing.chunking.grammars import LANGUAGES, grammar
from flatcoat.indexing.documents import OWN_FIELDS, Document
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


def test_each_language_has_a_source_here_or_among_the_tests_of_code() -> None:
    from .test_code import SOURCES as others

    assert {*LANGUAGES} == {*map(language_of, NAMES), *others, "python"}


def test_each_query_belongs_to_a_language() -> None:
    from flatcoat.indexing.chunking import grammars

    queries = files(grammars.__package__).joinpath("queries").iterdir()
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


KINDS = {
    "python": (
        "class _Store:\n    def read(self):\n        pass\nclass Store:\n    def _load(self):\n        pass\n"
        "    def __len__(self):\n        def inner():\n            pass\ndef test_read():\n    pass\n"
        "class TestStore:\n    def read(self):\n        pass\n",
        "-class _Store, -function _Store.read, +class Store, -function Store._load, +function Store.__len__, "
        "-function Store.__len__.inner, +test test_read, +test TestStore, +test TestStore.read",
    ),
    "javascript": (
        "class Hidden {\n  read() {\n  }\n}\nexport class Store {\n  read() {\n  }\n  #load() {\n  }\n}\n"
        "export const open = () => {\n};\nconst close = () => {\n};\nfunction named() {\n}\nfunction local() {\n}\n"
        "export { named };\nexports.stop = function () {\n};\nmodule.exports = { local };\n"
        "describe('Store', () => {\n  it('reads', () => {\n  });\n});\n",
        "-class Hidden, -function Hidden.read, +class Store, +function Store.read, -function Store.#load, "
        "+function open, -function close, +function named, +function local, +function stop, -test Store, "
        "-test Store.reads",
    ),
    "typescript": (
        "export interface Shape {\n  a: number;\n}\ninterface Hidden {\n  a: number;\n}\nexport class Store {\n"
        "  private load() {\n  }\n  read() {\n  }\n}\nnamespace inner {\n  function run() {\n  }\n}\n",
        "+class Shape, -class Hidden, +class Store, -function Store.load, +function Store.read, -module inner, "
        "-function inner.run",
    ),
    "go": (
        "package a\nfunc Open() {\n}\nfunc load() {\n}\ntype Store struct {\n}\ntype entry struct {\n}\n"
        "func (s *Store) Read() {\n}\nfunc (s *Store) load() {\n}\nfunc TestOpen(t *testing.T) {\n}\n"
        "func TestConnection(a int) {\n}\n",
        "+function Open, -function load, +class Store, -class entry, +function Store.Read, -function Store.load, "
        "+test TestOpen, +function TestConnection",
    ),
    "java": (
        "public class Store {\n  public void read() {\n  }\n  void load() {\n  }\n}\npublic interface Source {\n"
        "  void read();\n}\nclass Reading {\n  @Test\n  public void reads() {\n  }\n}\n",
        "+class Store, +function Store.read, -function Store.load, +class Source, +function Source.read, "
        "-class Reading, -test Reading.reads",
    ),
    "csharp": (
        "public class Store {\n  public void Read() {\n  }\n  void Load() {\n  }\n  [Fact]\n"
        "  public void Reads() {\n  }\n}\ninternal class Entry {\n}\n",
        "+class Store, +function Store.Read, -function Store.Load, +test Store.Reads, -class Entry",
    ),
    "rust": (
        "pub struct Store {\n}\nstruct Entry {\n}\nimpl Store {\n  pub fn open() {\n  }\n  pub(crate) fn load() {\n"
        "  }\n}\nimpl Source for Store {\n  fn read() {\n  }\n}\n#[cfg(test)]\nmod tests {\n  fn help() {\n  }\n}\n",
        "+class Store, -class Entry, +class Store, +function Store::open, -function Store::load, +class Store, "
        "+function Store::read, -test tests, -test tests::help",
    ),
    "ruby": (
        "class Store\n  def read\n  end\n  private\n  def load\n  end\n  public\n  def close\n  end\nend\n"
        "describe 'a store' do\n  it 'reads' do\n  end\nend\n",
        "+class Store, +function Store.read, -function Store.load, +function Store.close, +test a store, "
        "+test a store.reads",
    ),
    "c": (
        "static int load(void) {\n  return 1;\n}\nint open(void) {\n  return 1;\n}\n#ifdef A\n"
        "static int other(void) {\n  return 1;\n}\n#endif\n",
        "-function load, +function open, -function other",
    ),
    "cpp": (
        "class Store {\n  int load() {\n    return 1;\n  }\n public:\n  static int open() {\n    return 1;\n  }\n"
        " private:\n  int close() {\n    return 1;\n  }\n};\nnamespace {\nint hidden() {\n  return 1;\n}\n}\n"
        "namespace a {\nstatic int local() {\n  return 1;\n}\n}\nTEST(Store, Opens) {\n  open();\n}\n",
        "+class Store, -function Store::load, +function Store::open, -function Store::close, -function hidden, "
        "-function local, +test Store,Opens",
    ),
    "php": (
        "<?php\nclass Store {\n  public function read() {\n  }\n  private function load() {\n  }\n}\n"
        "class ReadTest extends Base {\n  public function testRead() {\n  }\n}\n",
        "+class Store, +function Store::read, -function Store::load, +test ReadTest, +test ReadTest::testRead",
    ),
}


@pytest.mark.parametrize("lang", KINDS)
def test_kinds_and_what_is_exported_follow_the_rules_of_the_language(lang: str) -> None:
    text, described = KINDS[lang]
    structure = code_structure(text, lang)
    assert structure is not None
    found = [f"{'+' if part.exported else '-'}{part.kind} {part.label}" for part in structure.parts if part.label]
    assert ", ".join(found) == described


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
    metadata = {"lang": "python", "kind": "snippet", "symbol": 7}
    (passage,) = chunk(Document("d", PYTHON, metadata=dict(metadata)), words, max_tokens=100)
    assert passage.metadata == metadata | {"exported": True}
    assert passage.document_metadata == metadata
    assert passage.own == ("exported",)


def test_prose_and_code_without_a_grammar_say_nothing() -> None:
    for lang in ("markdown", "fortran", None):
        metadata = {"lang": lang} if lang else {}
        (passage,) = chunk(Document("d", "one\n\ntwo\n", metadata=metadata), words, max_tokens=100)
        assert (passage.metadata, passage.own) == (metadata, ())
    assert {*OWN_FIELDS} == {"symbol", "kind", "exported"}
