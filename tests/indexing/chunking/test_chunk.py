"""Chunking: exact line ranges, whole coverage, the limit kept, structure preferred."""

import random
import re
import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatcoat import FlatcoatError
from flatcoat.indexing.chunking.chunk import chunk
from flatcoat.indexing.chunking.prose import sentences
from flatcoat.indexing.documents import Document, Heading, Passage


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def characters(texts: list[str]) -> list[int]:
    """Like a byte-level tokenizer with two special tokens: not one token a word."""
    return [2 + len(text.encode()) for text in texts]


def check(document: Document, passages: list[Passage]) -> None:
    """Lines equal those they claim, but for parts of a cut line; all text is there once, in order."""
    if not document.text.strip():
        assert [passage.text for passage in passages] == [""] * bool(document.title)
        return
    lines = document.text.split("\n")
    ends = Counter(line for passage in passages for line in {*passage.lines})
    end = 0
    for passage in passages:
        first, last = passage.lines
        whole = "\n".join(lines[first - 1 : last])
        is_cut = ends[first] > 1 or ends[last] > 1
        assert passage.text.strip() == whole.strip() or is_cut
        assert passage.text in whole
        assert passage.text.count("\n") == last - first
        assert passage.text.strip()
        assert first > end or (first == end and ends[end] > 1)
        end = last
        assert (passage.document_id, passage.document_metadata) == (document.id, document.metadata)
    assert "".join("".join(p.text for p in passages).split()) == "".join(document.text.split())


line = st.sampled_from(
    [
        "",
        "  ",
        "# One",
        "Title",
        "=====",
        "-----",
        "One. Two! Three? Four.",
        "class A {",
        "### Three",
        "def f():",
        "    body of f",
        "@mark",
        "}",
        "```",
    ]
) | st.text(st.sampled_from("ab é\t#"), max_size=30)


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(line, max_size=40),
    overlap=st.sampled_from([0, 4]),
    title=st.sampled_from(["", "t", "a title of words"]),
    lang=st.sampled_from(["markdown", "restructuredtext", "python", "java", "kotlin", None]),
    limit=st.integers(10, 60),
    count=st.sampled_from([words, characters]),
)
def test_passages_are_the_lines_they_claim_and_fit(lines, overlap, title, lang, limit, count) -> None:
    document = Document("d", "\n".join(lines), title, {"lang": lang} if lang else {})
    passages = chunk(document, count, max_tokens=limit, overlap=overlap)
    check(document, chunk(document, count, max_tokens=limit))
    whole = document.text.split("\n")
    for first, last, text in ((*passage.lines, passage.text) for passage in passages):
        assert text in "\n".join(whole[first - 1 : last]) and (
            first == last or text.count("\n") == last - first
        )
    assert all(size <= limit for size in count([passage.searchable for passage in passages]))


def test_a_short_document_is_one_passage() -> None:
    document = Document("d", "\n\n# One\n\ntwo\n\n", "title", {"lang": "markdown"})
    assert chunk(document, words, max_tokens=4) == [
        Passage("d", "# One\n\ntwo", "title", (3, 5), {"lang": "markdown"})
    ]


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_blank_text_gives_no_passage(text: str) -> None:
    assert chunk(Document("d", text), words, max_tokens=8) == []
    assert chunk(Document("d", text, " \n"), words, max_tokens=8) == []


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_a_title_without_a_text_is_a_passage(text: str) -> None:
    document = Document("d", text, "a walrus title", {"n": 1})
    (passage,) = chunk(document, words, max_tokens=8)
    assert passage == Passage("d", "", "a walrus title", (1, 1), {"n": 1})
    assert passage.searchable == "a walrus title"


@pytest.mark.parametrize("count", [words, characters])
def test_a_title_without_a_text_is_cut_where_it_is_too_long(count) -> None:
    for title in ("walrus " * 1_000, "w" * 5_000, "\u540d" * 5_000):
        (passage,) = chunk(Document("d", "", title), count, max_tokens=8)
        assert passage.title and title.startswith(passage.title)
        assert count([passage.searchable])[0] <= 8


def long_lines() -> dict[str, str]:
    generator = random.Random(0)
    words = ["on", "cities", "the", "walruses", "ice", "a", "international", "of", "water"]
    transcript = " ".join(generator.choice(words) for _ in range(5_000))
    chinese = "".join(generator.choice("海象生活在北极地区以贝类为食") for _ in range(9_000))
    return {
        "transcript": transcript,
        "no spaces": chinese,
        "commas": "\uff0c".join(chinese[at : at + 40] for at in range(0, len(chinese), 40)),
        "short sentences between": " ".join(
            f"Yes. {transcript[at : at + 3_000]}. No." for at in range(0, 9_000, 3_000)
        ),
        "long words": " ".join("x" * 90 for _ in range(300)),
    }


@pytest.mark.parametrize("limit", [64, 300])
@pytest.mark.parametrize("name", list(long_lines()))
def test_a_long_line_is_cut_into_parts_of_about_one_size(name: str, limit: int) -> None:
    def pieces(texts: list[str]) -> list[int]:
        """Like a subword tokenizer: words in pieces of six letters, other scripts in letters."""
        return [2 + len(re.findall(r"[a-zA-Z]{1,6}|[^\sa-zA-Z]", text)) for text in texts]

    text = long_lines()[name]
    document = Document("d", f"# Walruses\n\n{text}\n", "title", {"lang": "markdown"})
    passages = chunk(document, pieces, max_tokens=limit)
    check(document, passages)
    sizes = pieces([passage.text for passage in passages])
    assert min(sizes) >= limit / 3
    assert len(passages) <= 1.35 * sum(sizes) / limit + 1
    assert passages[0].text.startswith("# Walruses\n\n")
    if name != "long words" and " " in text:
        assert all(passage.text.endswith((" ", ".")) for passage in passages[:-1])


def test_markdown_breaks_at_the_outermost_heading() -> None:
    text = "# A\n\none two\n\n## A1\n\nthree four\n\n# B\n\nfive six\n\n```\n# no heading\n```\n"
    passages = chunk(Document("d", text, metadata={"lang": "markdown"}), words, max_tokens=10)
    assert [passage.lines for passage in passages] == [(1, 7), (9, 15)]


def test_a_heading_stays_with_its_text() -> None:
    text = "# A\n\none two three\n\nfour five six\n"
    passages = chunk(Document("d", text, metadata={"lang": "markdown"}), words, max_tokens=7)
    assert [passage.lines for passage in passages] == [(1, 3), (5, 5)]


def test_code_breaks_at_definitions_and_keeps_what_is_attached() -> None:
    text = (
        "import os\n\n# about f\n@cache(\n    size=1,\n)\ndef f():\n    a\n\n    b\n"
        "# about g\ndef g():\n    c\n\n\nclass H:\n    d\n\n    def e(self): pass\n"
    )
    for lang in ("python", "fortran"):  # by syntax and by keyword
        passages = chunk(Document("d", text, metadata={"lang": lang}), words, max_tokens=11)
        assert [passage.lines for passage in passages] == [(1, 1), (3, 10), (11, 13), (16, 19)]


def test_prose_that_starts_with_a_keyword_is_no_code() -> None:
    text = "one two three\nclass struggle and more\n\nnext words here and"
    assert [p.lines for p in chunk(Document("d", text), words, max_tokens=8)] == [(1, 2), (4, 4)]


@pytest.mark.parametrize("filler", ["x", "word ", "é", ".", "?)", "[", "# "])
def test_a_very_long_line_is_cut_fast(filler: str) -> None:
    document = Document(
        "d", "short\n" + filler * (100_000 // len(filler)) + "\nshort", "title", {"lang": "markdown"}
    )
    begin = time.perf_counter()
    passages = chunk(document, characters, max_tokens=256)
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
    check(Document("d", text), chunk(Document("d", text), count, max_tokens=50))
    assert len(calls) <= 5


def test_a_title_of_more_than_half_is_cut() -> None:
    title = "t" * 100
    passages = chunk(Document("d", "some words " * 20, title), characters, max_tokens=60)
    assert {passage.title for passage in passages} == {"t" * 30}
    assert max(characters([passage.searchable for passage in passages])) <= 60


def test_a_deeply_indented_text_does_not_exhaust_the_stack() -> None:
    text = "\n".join(" " * depth + "word" for depth in range(3_000))
    check(Document("d", text), chunk(Document("d", text), words, max_tokens=8))


def sections(text: str, lang: str, limit: int) -> list[tuple[str, tuple[int, int]]]:
    passages = chunk(Document("d", text, metadata={"lang": lang}), words, max_tokens=limit)
    return [(passage.section, passage.lines) for passage in passages]


def test_markdown_sections_are_paths_of_headings() -> None:
    text = (
        "---\ntitle: x\n---\nGuide\n=====\n\none two three\n\n"
        "## Install `it` ##\n\na b c d e\n\n### [Linux](u)\n\n"
        "f g h i j\n\n```sh\n# no heading\n```\n\nUse\n---\n\nk l m n o p\n\n# End\n\nq r s t u v\n"
    )
    assert sections(text, "markdown", 14) == [
        ("", (1, 3)),
        ("Guide", (4, 7)),
        ("Guide > Install it", (9, 11)),
        ("Guide > Install it > Linux", (13, 15)),
        ("Guide > Install it > Linux", (17, 19)),
        ("Guide > Use", (21, 24)),
        ("End", (26, 28)),
    ]


def test_restructuredtext_levels_come_in_order_of_appearance() -> None:
    text = (
        "=====\nGuide\n=====\n\na b c d\n\nInstall\n~~~~~~~\n\ne f g h\n\nLinux\n-----\n\ni j k l\n\n"
        "Use\n~~~\n\nm n o p\n"
    )
    assert sections(text, "restructuredtext", 12) == [
        ("Guide", (1, 5)),
        ("Guide > Install", (7, 10)),
        ("Guide > Install > Linux", (12, 15)),
        ("Guide > Use", (17, 20)),
    ]


def test_an_outline_names_what_the_text_does_not_show() -> None:
    text = "\n".join(f"w{i} a b c d e f." for i in range(6))
    outline = (Heading(1, 1, "page 1"), Heading(3, 1, "page 2"), Heading(5, 2, "Notes"))
    passages = chunk(Document("d", text, metadata={"lang": "python"}, outline=outline), words, max_tokens=19)
    assert [(p.section, p.lines) for p in passages] == [
        ("page 1", (1, 2)),
        ("page 2", (3, 4)),
        ("page 2 > Notes", (5, 6)),
    ]


def test_a_passage_over_several_headings_has_the_section_around_them() -> None:
    text = "# A\n\n## B\n\none\n\n## C\n\ntwo\n\n## D\n\nthree four five six seven eight\n"
    assert sections(text, "markdown", 12) == [("A", (1, 9)), ("A > D", (11, 13))]


def test_long_sections_lose_their_outer_names() -> None:
    names = ["a" * 30, "b" * 30, "c" * 20]
    text = "\n\n".join(f"{'#' * (i + 1)} {name}\n\n{'word ' * 9}" for i, name in enumerate(names))
    assert [p[0] for p in sections(text, "markdown", 16)] == [names[0], names[1], " > ".join(names[1:])]


def test_title_and_section_never_fill_more_than_half() -> None:
    text = f"# {'many ' * 9}\n\n{'some words ' * 50}"
    for passage in chunk(Document("d", text, "a b", {"lang": "markdown"}), words, max_tokens=20):
        assert len(f"{passage.title} {passage.section}".split()) <= 10


@pytest.mark.parametrize(
    "text",
    [
        "One is. |Two is!” |(Three?) |Four… |5 is next.",
        "Dr. Who met J. R. Smith, e.g. Here or i.e. There. |Then left.",
        "See fig. 3 vs. Table 4. |Version 1.5 is not an end. nor is this",
        "这是一句。|这是另一句！|完",
        "「はい。」と言った。|「いいえ。」|終わり｡|次",
        "Das sind z. B. zehn, vgl. Abb. 3. |Nr. 4 fehlt. |Ende",
        "В 1990 г. в Москве, см. рис. 2. |Потом уехал.",
        "ما هذا؟ |جملة أخرى. |نعم",
        "یہ جملہ ہے۔ |دوسرا جملہ۔",
        "डॉ. राम आए। |दूसरा वाक्य।|तीसरा?",
        "မြန်မာ။|နောက်တစ်။",
        "ខ្មែរ។ |ពីរ។",
        "ሰላም። |እንዴት ነህ፧",
        "Բարև։ |Ինչպես ես։",
        "no end at all",
    ],
)
def test_sentences(text: str) -> None:
    assert sentences(text.replace("|", "")) == text.split("|")


def test_long_lines_are_cut_at_sentences() -> None:
    text = " ".join(f"Sentence {i} has six words." for i in range(9))
    passages = chunk(Document("d", f"short\n{text}\nshort"), words, max_tokens=22)
    assert all(passage.text.strip().endswith(("words.", "short")) for passage in passages)
    assert {len(passage.text.split()) for passage in passages} == {1, 15}  # as even as can be


def test_wrapped_paragraphs_break_where_a_line_ends_a_sentence() -> None:
    text = "one two three\nfour five.\nSix seven\neight nine ten"
    assert [p.lines for p in chunk(Document("d", text), words, max_tokens=8)] == [(1, 2), (3, 4)]


def test_overlap_repeats_whole_lines_of_the_section() -> None:
    text = "# A\n\n" + "\n\n".join(f"p{i} a b c." for i in range(6)) + "\n\n# B\n\n" + "q r s t u v w"
    passages = chunk(Document("d", text, metadata={"lang": "markdown"}), words, max_tokens=15, overlap=5)
    assert [p.lines for p in passages] == [(1, 3), (3, 7), (7, 11), (11, 13), (15, 17)]
    by_line = "def f():\n" + "    x = 1 + 2\n" * 20
    document = Document("d", by_line, metadata={"lang": "python"})
    assert chunk(document, words, max_tokens=20, overlap=8) == chunk(document, words, max_tokens=20)


def test_overlap_repeats_sentences_of_a_long_line() -> None:
    text = " ".join(f"Sentence {i} has six words." for i in range(9))
    texts = [passage.text for passage in chunk(Document("d", text), words, max_tokens=20, overlap=5)]
    assert len(texts) > 2
    for before, after in pairwise(texts):
        assert sentences(before)[-1].strip() == sentences(after)[0].strip()


def test_a_whole_document_is_one_passage_where_it_fits() -> None:
    text = "# A\n\n" + "\n\n".join("some words in a paragraph" for _ in range(1_000)) + "\n\n# B\n\nend"
    (passage,) = chunk(Document("d", text, "t", {"lang": "markdown"}), words, max_tokens=8_192)
    assert (passage.text, passage.section, passage.lines) == (text, "", (1, text.count("\n") + 1))
    spaced = "a" + " " * 10_000 + "b"
    assert len(chunk(Document("d", spaced), words, max_tokens=8)) == 1


@pytest.mark.parametrize("overlap", [-1, 6])
def test_an_overlap_of_more_than_half_is_refused(overlap: int) -> None:
    with pytest.raises(FlatcoatError, match="at most half"):
        chunk(Document("d", "text"), words, max_tokens=10, overlap=overlap)


def test_a_limit_under_one_is_refused() -> None:
    with pytest.raises(FlatcoatError, match="at least 1"):
        chunk(Document("d", "text"), words, max_tokens=0)
