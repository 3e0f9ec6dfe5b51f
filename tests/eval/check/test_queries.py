"""Queries drawn from an index, and the texts that they were drawn from."""

import json
from pathlib import Path

import pytest

from flatcoat import DataError, Document, Retriever
from flatcoat.eval.check.masking import masked_copy, without
from flatcoat.eval.check.queries import (
    CheckQuery,
    candidates,
    draw_queries,
    read_queries,
    still_answerable,
)
from flatcoat.indexing.documents import Passage

PYTHON = '''# Copyright of nobody in particular, see the licence for details of this.
"""Reads files of configuration from a folder."""

def resolve(path):
    """Follow links until a path names a plain file.

    Raises OSError where links form a circle.
    """
    seen = set()
    while path.is_symlink():
        path = path.readlink()
    return path
'''
GO = """package store

// Open reads the journal and replays unfinished commits.
func Open(path string) (*Store, error) {
\treturn nil, nil
}
"""
PROSE = """# Baking with rye

## How to feed a sour dough starter

Mix equal parts of *flour* and water every morning. Discard what is
left of yesterday.

- a list of things is not asked for at all
"""


def queries_of(text: str, lang: str | None) -> dict[str, str]:
    metadata: dict = {"lang": lang} if lang else {}
    return {query.text: query.kind for query in candidates(Document("a", text, metadata=metadata))}


def test_docstrings_and_comments_of_code_are_asked_for() -> None:
    assert queries_of(PYTHON, "python") == {
        "Reads files of configuration from a folder": "docstring",
        "Follow links until a path names a plain file": "docstring",
    }
    assert queries_of(GO, "go") == {"Open reads the journal and replays unfinished commits": "docstring"}


def test_headings_and_first_sentences_of_prose_are_asked_for() -> None:
    assert queries_of(PROSE, "markdown") == {
        "How to feed a sour dough starter": "heading",
        "Mix equal parts of flour and water every morning": "sentence",
    }
    # A row of a table of documents has no language.
    assert list(queries_of("The wren builds its nest of moss. " * 3, None).values()) == ["sentence"]


def test_a_document_that_is_all_query_is_not_asked_for() -> None:
    assert queries_of("The wren builds its nest of moss and leaves.", None) == {}


@pytest.fixture
def retriever(tmp_path: Path) -> Retriever:
    retriever = Retriever.create(tmp_path / "my.index", model=None, passage_tokens=32)
    files = {"src/paths.py": PYTHON, "src/open.go": GO, "bread.md": PROSE}
    for name, text in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(text)
    retriever.add_files(tmp_path / "tree")
    return retriever


def test_a_draw_takes_one_query_per_document_first_and_is_the_same_again(retriever: Retriever) -> None:
    three = draw_queries(retriever.store, 3)
    assert {query.documents for query in three} == {("src/paths.py",), ("src/open.go",), ("bread.md",)}
    assert draw_queries(retriever.store, 3) == three
    assert len({query.text for query in draw_queries(retriever.store, 100)}) == 5


def test_an_index_without_sentences_says_so(tmp_path: Path) -> None:
    retriever = Retriever.create(tmp_path / "my.index", model=None)
    retriever.add([Document("numbers", "1 2 3\n4 5 6")])
    with pytest.raises(DataError, match="--queries FILE"):
        draw_queries(retriever.store, 5)


@pytest.mark.parametrize("tokens", [16, 300])
def test_what_a_query_was_drawn_from_is_nowhere_in_the_copy(tmp_path: Path, tokens: int) -> None:
    retriever = Retriever.create(tmp_path / "my.index", model=None, passage_tokens=tokens)
    long = PROSE + "\n" + "Bakers keep their starters warm in winter. " * 30
    retriever.add([Document("bread", long, title="How to feed a sour dough starter"), Document("other", GO)])
    queries = draw_queries(retriever.store, 100)
    copy = masked_copy(retriever.store, queries, folder=tmp_path / "copy")
    passages = copy.store.passages(copy.store.rows_of(["bread"]))
    held = " ".join(" ".join(passage.searchable.split()) for passage in passages)
    for words in ("feed a sour dough", "equal parts", "every morning"):
        assert words not in held
    assert "Discard what is" in held and "Baking with rye" in held
    assert copy.store.verify() == []
    # The original is as it was.
    assert retriever.search("feed a sour dough starter", 1, mode="bm25")[0].document_id == "bread"
    assert retriever.store.verify() == []


def test_lines_keep_their_numbers() -> None:
    query = CheckQuery("one two three four five six", ("a",), "sentence", "one two three\n    four five six")
    passage = Passage("a", "before\none two three\n    four five six\nafter", lines=(4, 7))
    (masked,) = without([passage], [query])
    assert masked.text.split("\n") == ["before", "", "", "after"]


def test_queries_whose_documents_have_changed_are_left_out(retriever: Retriever, tmp_path: Path) -> None:
    queries = draw_queries(retriever.store, 3)
    (tmp_path / "tree" / "src" / "open.go").write_text("package store\n")
    retriever.add_files()
    kept = {query.documents for query in still_answerable(queries, retriever.store)}
    assert kept == {("src/paths.py",), ("bread.md",)}


def test_queries_from_a_file_may_have_several_answers_by_id_or_by_file(
    retriever: Retriever, tmp_path: Path
) -> None:
    file = tmp_path / "queries.jsonl"
    rows = [("follow links", "src/paths.py"), ("follow links", "bread.md")]
    file.write_text("".join(json.dumps({"query": query, "document": id}) + "\n" for query, id in rows))
    assert read_queries(file, retriever.store) == [
        CheckQuery("follow links", ("src/paths.py", "bread.md"), "file")
    ]
    shown = str(tmp_path / "tree" / "src" / "paths.py")
    file.write_text(json.dumps({"query": "follow links", "document": shown}))
    assert read_queries(file, retriever.store) == [CheckQuery("follow links", ("src/paths.py",), "file")]
    file.write_text(json.dumps({"query": "why", "document": "no.md"}))
    with pytest.raises(DataError, match=r"queries.jsonl:1.*'no.md'"):
        read_queries(file, retriever.store)
