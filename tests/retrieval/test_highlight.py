"""Which words of a passage are highlighted, and how strongly."""

import pytest

from flatcoat.retrieval.highlight import Mark, highlighted, marks, word_around
from flatcoat.retrieval.results import Match, Result


def result_of(text: str, matches: list[Match] | None = None, title: str = "") -> Result:
    return Result(1, 0.5, "a.md", title, (1, 1), text, {}, explanation=matches)


def words(text: str, query: str) -> list[str]:
    return [text[mark.start : mark.end] for mark in marks(result_of(text), query)]


@pytest.mark.parametrize(
    ("text", "query", "found"),
    [
        ("def parseHttpResponse(raw):", "parse a response", ["parseHttpResponse"]),
        ("def parse_http_response(raw):", "parse a response", ["parse", "response"]),
        ("Parsing is fun, the parser knows.", "parsed", ["Parsing"]),
        ("the of and is", "what is the best of it", []),
        ("rivers and lakes", "river", ["rivers"]),
        ("[bold]cats[/bold]", "cats", ["cats"]),
        ("हिन्दी में लिखा", "हिन्दी", ["हिन्दी"]),
        ("un r\u00e9sum\u00e9", "re\u0301sume\u0301", ["r\u00e9sum\u00e9"]),
        ("海象生活在北极地区，北极熊也是。", "北极的海象", ["海象", "北极", "北极"]),
        ("单元格的格式", "单元格", ["单元格"]),
        ("東京都庁は新宿区にある。", "東京都庁", ["東京都庁"]),
        ("바다코끼리는 바다에 산다", "바다코끼리", ["바다코끼리", "바다"]),
        ("셀의 값을 바꾼다", "셀을 보호", ["셀", "을"]),
        ("มาที่นี่", "ที่นี่", ["ที่นี่"]),
        ("ＦＩＬＥとｶﾞｽ", "file ガス", ["ＦＩＬＥ", "ｶﾞｽ"]),
    ],
)
def test_words_of_the_query_are_found(text: str, query: str, found: list[str]) -> None:
    assert words(text, query) == found


def test_words_of_a_title_are_found_where_there_is_no_text() -> None:
    assert marks(result_of("", title="Walrus season"), "walrus") == [Mark(0, 6, 1.0)]


def test_matches_of_an_explanation_are_marked_and_add_up() -> None:
    matches = [
        Match("[CLS]", None, (13, 18), 1.0),
        Match("why", (0, 3), (10, 12), 0.25),
        Match("cats", (4, 8), (0, 4), 0.5),
        Match("ca", (4, 6), (0, 2), 0.25),
        Match("purr", (9, 13), (6, 8), 1.0),
        Match("s", (8, 9), None, 0.9),
        Match("x", (8, 9), (13, 18), -0.2),
    ]
    found = marks(result_of("cats purr at night", matches), "why cats purr")
    assert sorted(found) == [Mark(0, 4, 0.75), Mark(5, 9, 1.0), Mark(10, 12, 0.25)]


def test_matches_that_overlap_are_one_mark() -> None:
    matches = [
        Match("表格", (0, 2), (2, 4), 0.5),
        Match("格式", (1, 3), (3, 5), 0.25),
        Match("格", (1, 2), (3, 4), 0.125),
        Match("式", (2, 3), (7, 8), 0.25),
    ]
    found = marks(result_of("修改表格式样的公式", matches), "表格式")
    assert found == [Mark(2, 5, 0.875), Mark(7, 8, 0.25)]


def test_marks_are_styled_by_strength() -> None:
    shown = highlighted("cats purr at", (0, 12), [Mark(0, 4, 0.5), Mark(5, 9, 1.0), Mark(10, 12, 0.1)])
    styles = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert styles == {"cats": "yellow", "purr": "bold yellow", "at": "dim yellow"}


def test_a_mark_is_cut_to_what_is_shown() -> None:
    shown = highlighted("cats purr at", (2, 7), [Mark(0, 4, 1.0), Mark(5, 9, 1.0), Mark(10, 12, 1.0)])
    assert shown.plain == "ts pu"
    assert [shown.plain[span.start : span.end] for span in shown.spans] == ["ts", "pu"]


def test_control_characters_neither_reach_the_terminal_nor_move_the_marks() -> None:
    shown = highlighted("a\x1b[31m\r\x07 cats\x9b2J", (0, 16), [Mark(9, 13, 1.0)])
    assert shown.plain == "a [31m   cats 2J"
    assert [shown.plain[span.start : span.end] for span in shown.spans] == ["cats"]


def test_the_word_around_a_token() -> None:
    assert word_around("maxsim = 1", (3, 6)) == (0, 6)
    assert word_around("a, b", (1, 2)) == (1, 2)
