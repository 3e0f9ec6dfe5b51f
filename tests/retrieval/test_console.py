import pytest

from flatcoat.retrieval.console import SNIPPET_LINES, progress_bar, show_result
from flatcoat.retrieval.retriever import Result


def shown(text: str, query: str, first: int = 1) -> tuple[str, list[str]]:
    """What is printed, and the words in it that are highlighted."""
    lines = (first, first + text.count("\n"))
    printed = show_result(Result(3, 0.5, "a/b.py", "a/b.py", lines, text, {}), query)
    return printed.plain, [
        printed.plain[span.start : span.end] for span in printed.spans if "yellow" in str(span.style)
    ]


def test_a_short_passage_is_shown_whole() -> None:
    plain, _ = shown("one\ntwo", "anything", first=7)
    assert plain.split("\n") == ["  3  0.50  a/b.py:7  (lines 7-8)", "     one", "     two"]


def test_the_lines_that_say_most_of_the_query_are_shown() -> None:
    text = "\n".join(f"line {number}" for number in range(20)).replace("line 13", "the blue sky")
    text = text.replace("line 16", "is scattered light")
    plain, found = shown(text, "why does the blue sky scatter light?", first=100)
    header, *snippet = plain.split("\n")
    assert len(snippet) == SNIPPET_LINES
    assert "a/b.py:111" in header
    assert "(lines 100-119)" in header
    assert "     the blue sky" in snippet
    assert "     is scattered light" in snippet
    assert found == ["blue", "sky", "scattered", "light"]


def test_the_first_lines_are_shown_where_nothing_matches() -> None:
    plain, found = shown("\n".join(map(str, range(20))), "zebra")
    assert plain.split("\n")[1:] == [f"     {number}" for number in range(SNIPPET_LINES)]
    assert found == []


@pytest.mark.parametrize(
    ("text", "query", "words"),
    [
        ("def parseHttpResponse(raw):", "parse a response", ["parseHttpResponse"]),
        ("def parse_http_response(raw):", "parse a response", ["parse", "response"]),
        ("Parsing is fun, the parser knows.", "parsed", ["Parsing"]),
        ("the of and is", "what is the best of it", []),
        ("rivers and lakes", "river", ["rivers"]),
        ("[bold]cats[/bold]", "cats", ["cats"]),
    ],
)
def test_words_of_the_query_are_highlighted(text: str, query: str, words: list[str]) -> None:
    plain, found = shown(text, query)
    assert found == words
    assert text in plain


def test_long_lines_are_cut() -> None:
    plain, _ = shown("x" * 500, "q")
    assert plain.split("\n")[1] == "     " + "x" * 160


def test_nobody_watching_means_no_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress.add_task("working", total=None)
    assert capsys.readouterr() == ("", "")
