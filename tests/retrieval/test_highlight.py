from typing import Any

import pytest
from rich.text import Text

from flatcoat.console import progress_bar
from flatcoat.retrieval.highlight import LINE_WIDTH, SNIPPET_LINES, show_result
from flatcoat.retrieval.results import Match, Result


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


def explained(text: str, matches: list[Match], query: str = "why cats purr", **fields: Any) -> Text:
    """What is printed of a result with this explanation."""
    lines = (1, 1 + text.count("\n"))
    return show_result(Result(1, 0.5, "a.md", "", lines, text, {}, explanation=matches, **fields), query)


def test_the_place_in_the_document_is_shown() -> None:
    result = Result(1, 12.3456, "a.md", "A", (4, 5), "one\ntwo", {}, "Guide > Install")
    assert (
        show_result(result, "two").plain.split("\n")[0] == "  1  12.35  a.md:4  Guide > Install  (lines 4-5)"
    )


def test_matches_are_highlighted_by_their_strength() -> None:
    text = "cats purr at night"
    matches = [
        Match("[CLS]", None, (13, 18), 1.0),
        Match("why", (0, 3), (10, 12), 0.1),
        Match("cats", (4, 8), (0, 4), 0.5),
        Match("purr", (9, 13), (5, 9), 0.9),
        Match("s", (8, 9), None, 0.9),
        Match("x", (8, 9), (13, 18), -0.2),
    ]
    shown = explained(text, matches)
    spans = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert (spans["at"], spans["cats"], spans["purr"]) == ("dim yellow", "yellow", "bold yellow")
    assert "night" not in spans
    only_special = explained(text, [Match("[CLS]", None, (13, 18), 1.0), Match("x", (0, 1), (0, 1), -1.0)])
    assert not [span for span in only_special.spans if "yellow" in str(span.style)]


def test_parts_of_a_match_add_up() -> None:
    """Two tokens of the query meet the same word: it is stronger than either."""
    matches = [
        Match("a", (0, 1), (0, 4), 0.5),
        Match("b", (1, 2), (0, 4), 0.5),
        Match("c", (2, 3), (5, 9), 0.6),
    ]
    shown = explained("cats purr", matches)
    spans = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert (spans["cats"], spans["purr"]) == ("bold yellow", "yellow")


def test_which_word_met_which_is_said_below() -> None:
    matches = [
        Match("[CLS]", None, (0, 4), 1.0),
        Match("wh", (0, 2), (0, 2), 0.25),
        Match("y", (2, 3), (10, 12), 0.5),
        Match("cats", (4, 8), (0, 4), 1.5),
        Match("purr", (9, 13), None, 0.125),
    ]
    last = explained("cats purr at night", matches).plain.split("\n")[-1]
    assert last == "     cats -> cats 1.50, why -> at 0.75, purr -> (beside the text) 0.12"


def test_the_lines_of_the_best_matches_are_shown() -> None:
    text = "\n".join(f"cats {number:02}" for number in range(30))
    matches = [
        Match("why", (0, 3), (8 * 3, 8 * 3 + 4), 0.9),
        Match("cats", (4, 8), (8 * 20, 8 * 20 + 4), 0.5),
        Match("purr", (9, 13), (8 * 22, 8 * 22 + 4), 0.5),
    ]
    header, *lines = explained(text, matches).plain.split("\n")
    assert "a.md:18" in header
    assert [line.strip() for line in lines[:-1]] == [f"cats {number}" for number in range(17, 23)]


def test_a_long_line_is_shown_where_it_matches() -> None:
    plain, found = shown(f"{'x ' * 300}the blue sky {'y ' * 300}", "blue sky")
    line = plain.split("\n")[1].strip()
    assert "the blue sky" in line
    assert len(line) <= LINE_WIDTH
    assert found == ["blue", "sky"]


def test_duplicates_and_other_passages_are_named() -> None:
    places = tuple(f"{name}.md:1" for name in "bcdef")
    result = Result(1, 0.5, "a.md", "", (1, 1), "cats", {}, duplicates=places, more=2)
    assert show_result(result, "cats").plain.split("\n")[2:] == [
        "     also in b.md:1, c.md:1, d.md:1 and 2 more",
        "     2 more passages of it",
    ]
    one = Result(1, 0.5, "a.md", "", (1, 1), "cats", {}, duplicates=places[:1], more=1)
    assert show_result(one, "cats").plain.split("\n")[2:] == [
        "     also in b.md:1",
        "     1 more passage of it",
    ]


def test_control_characters_neither_reach_the_terminal_nor_move_the_highlights() -> None:
    plain, found = shown("a\x1b[31m\r\x07 cats\r\npurr \x9b2J", "cats")
    assert found == ["cats"]
    assert plain.split("\n")[1:] == ["     a [31m   cats", "     purr  2J"]
    result = Result(1, 0.5, "a\nb.md", "", (1, 1), "x", {}, section="c\x1bd")
    assert show_result(result, "x").plain.split("\n")[0] == "  1  0.50  a b.md:1  c d  (lines 1-1)"


def test_a_passage_without_text_shows_its_title() -> None:
    printed = show_result(Result(1, 0.5, "a", "Walrus season", (1, 1), "", {}), "walrus")
    assert printed.plain.split("\n") == ["  1  0.50  a:1  (lines 1-1)", "     Walrus season"]
    assert [
        printed.plain[span.start : span.end] for span in printed.spans if "yellow" in str(span.style)
    ] == ["Walrus"]


@pytest.mark.parametrize(
    ("text", "query"), [("हिन्दी में लिखा", "हिन्दी"), ("un r\u00e9sum\u00e9", "re\u0301sume\u0301")]
)
def test_words_with_marks_are_highlighted_whole(text: str, query: str) -> None:
    assert shown(text, query)[1] == [text.split()[0] if query in text else text.split()[1]]
