"""Chunking: exact line ranges, whole coverage, the limit kept, structure preferred."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.chunking import chunk
from flatcoat.indexing.documents import Document, Passage


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def characters(texts: list[str]) -> list[int]:
    """Like a byte-level tokenizer with two special tokens: not one token a word."""
    return [2 + len(text.encode()) for text in texts]


def check(document: Document, passages: list[Passage]) -> None:
    """Whole lines equal the lines they claim; all text that is not blank is there once, in order."""
    lines = document.text.split("\n")
    end = 0
    for passage in passages:
        first, last = passage.lines
        whole = "\n".join(lines[first - 1 : last])
        assert passage.text == whole or (first == last and passage.text in whole)
        assert passage.text.strip()
        assert first > end or first == last == end
        end = last
        assert (passage.document_id, passage.metadata) == (document.id, document.metadata)
    assert "".join("".join(p.text for p in passages).split()) == "".join(document.text.split())


line = st.sampled_from(
    ["", "  ", "# One", "### Three", "def f():", "    body of f", "@mark", "}", "```"]
) | st.text(st.sampled_from("ab é\t#"), max_size=30)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(line, max_size=40),
    title=st.sampled_from(["", "t", "a title of words"]),
    lang=st.sampled_from(["markdown", "python", None]),
    limit=st.integers(10, 60),
    count=st.sampled_from([words, characters]),
)
def test_passages_are_the_lines_they_claim_and_fit(lines, title, lang, limit, count) -> None:
    document = Document("d", "\n".join(lines), title, {"lang": lang} if lang else {})
    passages = chunk(document, count, limit)
    check(document, passages)
    assert all(size <= limit for size in count([passage.searchable for passage in passages]))


def test_a_short_document_is_one_passage() -> None:
    document = Document("d", "\n\n# One\n\ntwo\n\n", "title", {"lang": "markdown"})
    assert chunk(document, words, 4) == [Passage("d", "# One\n\ntwo", "title", (3, 5), {"lang": "markdown"})]


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_blank_text_gives_no_passage(text: str) -> None:
    assert chunk(Document("d", text, "title"), words, 8) == []


def test_markdown_breaks_at_the_outermost_heading() -> None:
    text = "# A\n\none two\n\n## A1\n\nthree four\n\n# B\n\nfive six\n\n```\n# no heading\n```\n"
    passages = chunk(Document("d", text, metadata={"lang": "markdown"}), words, 10)
    assert [passage.lines for passage in passages] == [(1, 7), (9, 15)]


def test_a_heading_stays_with_its_text() -> None:
    text = "# A\n\none two three\n\nfour five six\n"
    passages = chunk(Document("d", text, metadata={"lang": "markdown"}), words, 7)
    assert [passage.lines for passage in passages] == [(1, 3), (5, 5)]


def test_code_breaks_at_definitions_and_keeps_what_is_attached() -> None:
    text = (
        "import os\n\n# about f\n@cache(\n    size=1,\n)\ndef f():\n    a\n\n    b\n"
        "# about g\ndef g():\n    c\n\n\nclass H:\n    d\n\n    def e(self): pass\n"
    )
    passages = chunk(Document("d", text, metadata={"lang": "python"}), words, 10)
    assert [passage.lines for passage in passages] == [(1, 1), (3, 10), (11, 13), (16, 19)]


def test_prose_that_starts_with_a_keyword_is_no_code() -> None:
    text = "one two three\nclass struggle and more\n\nnext words here and"
    assert [p.lines for p in chunk(Document("d", text), words, 8)] == [(1, 2), (4, 4)]


@pytest.mark.parametrize("filler", ["x", "word ", "é"])
def test_a_very_long_line_is_cut_fast(filler: str) -> None:
    document = Document("d", "short\n" + filler * (100_000 // len(filler)) + "\nshort", "title")
    begin = time.perf_counter()
    passages = chunk(document, characters, 256)
    assert time.perf_counter() - begin < 5
    check(document, passages)
    assert max(characters([passage.searchable for passage in passages])) <= 256
    assert len(passages) < 2_500


def test_tokens_are_counted_in_few_calls() -> None:
    calls = []

    def count(texts: list[str]) -> list[int]:
        calls.append(len(texts))
        return words(texts)

    text = "\n\n".join("some words in a paragraph\nof two lines" for _ in range(2_000))
    check(Document("d", text), chunk(Document("d", text), count, 50))
    assert len(calls) <= 5


def test_a_title_of_more_than_half_is_cut() -> None:
    title = "t" * 100
    passages = chunk(Document("d", "some words " * 20, title), characters, 60)
    assert {passage.title for passage in passages} == {"t" * 30}
    assert max(characters([passage.searchable for passage in passages])) <= 60


def test_a_deeply_indented_text_does_not_exhaust_the_stack() -> None:
    text = "\n".join(" " * depth + "word" for depth in range(3_000))
    check(Document("d", text), chunk(Document("d", text), words, 8))


def test_a_limit_under_one_is_refused() -> None:
    with pytest.raises(FlatcoatError, match="at least 1"):
        chunk(Document("d", "text"), words, 0)
