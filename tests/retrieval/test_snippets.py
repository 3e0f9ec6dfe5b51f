"""The best lines of a text against a twin that tries every run of lines."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatcoat.retrieval.snippets import (
    LINE,
    PIECE,
    PIECES,
    Evidence,
    best_span,
    snippet_span,
    text_pieces,
    words_of_query,
)

texts = st.text(st.sampled_from("ab \n"), max_size=60).map(lambda text: text.replace("bb", "b" * 150))
numbered = "\n".join(f"line {number}" for number in range(20))


def span_of(text: str, query: str) -> str:
    return text[slice(*best_span(text, words_of_query(text, query)))]


@given(texts)
def test_pieces_are_the_text_without_its_line_breaks(text: str) -> None:
    pieces = list(text_pieces(text))
    assert "".join(text[start:end] for start, end in pieces) == text.replace("\n", "")
    assert all(end == start or text[end] == "\n" for (_, end), (start, _) in pairwise(pieces))
    assert max(end - start for start, end in pieces) <= LINE
    assert len(pieces) >= text.count("\n") + 1


def test_long_lines_are_cut_at_blanks() -> None:
    pieces = [text[slice(*span)] for text in ["word " * 60] for span in text_pieces(text)]
    assert all(piece.startswith("word") and piece.endswith(" ") for piece in pieces)
    assert [len(piece) for piece in pieces[:-1]] == [PIECE] * (len(pieces) - 1)


def test_long_lines_without_blanks_are_cut_behind_wide_marks() -> None:
    text = "海象生活在北极地区，以贝类为食。" * 12
    pieces = [text[slice(*span)] for span in text_pieces(text)]
    assert "".join(pieces) == text
    assert all(piece.endswith(("，", "。")) for piece in pieces)


def test_the_best_piece_of_a_line_without_blanks() -> None:
    text = "海象以贝类为食。" * 30 + "北极熊捕食海豹。" + "海象以贝类为食。" * 30
    assert "北极熊捕食海豹" in span_of(text, "北极熊")
    assert len(span_of(text, "北极熊")) <= PIECE


@given(st.data())
def test_the_best_run_is_that_of_a_twin_that_tries_all(data: st.DataObject) -> None:
    text = data.draw(texts)
    pieces = list(text_pieces(text))
    starts = data.draw(st.lists(st.integers(0, max(0, len(text) - 1)), max_size=6))
    places = [None if start % 5 == 4 else (start, start + 1) for start in starts]
    numbers = st.integers(-4, 8).map(lambda number: number / 8)
    scores = [[data.draw(numbers) for _ in starts] for _ in range(data.draw(st.integers(1, 3)))]
    scores_QT = np.array(scores, np.float32).reshape(len(scores), len(starts))

    def value(first: int, last: int) -> float:
        bounds = pieces[first][0], pieces[last + 1][0] if last + 1 < len(pieces) else len(text) + 1
        inside = [place is not None and bounds[0] <= place[0] < bounds[1] for place in places]
        return sum(max([0.0, *row[inside]]) for row in scores_QT)

    whole = value(0, len(pieces) - 1)
    runs = [
        (first, last)
        for first in range(len(pieces))
        for last in range(first, min(first + PIECES, len(pieces)))
    ]
    values = [value(first, last) - 0.05 * whole * (last - first) for first, last in runs]
    found = best_span(text, Evidence(places, scores_QT))
    chosen = next(run for run in runs if (pieces[run[0]][0], pieces[run[1]][1]) == found)
    assert values[runs.index(chosen)] == pytest.approx(max(values), abs=1e-5)


def test_the_best_lines_are_few_and_the_first_of_equals() -> None:
    text = numbered.replace("line 7", "the blue sky").replace("line 9", "a blue sky, and scattered light")
    assert span_of(text, "why does the blue sky scatter light?") == "a blue sky, and scattered light"
    assert span_of(text, "blue sky") == "the blue sky"
    assert span_of(text, "sky with line 8") == "the blue sky\nline 8"


def test_characters_tell_the_best_line_where_no_pair_does() -> None:
    text = "屏幕是黑的。\n改正文章里的错误。\n结束。"
    assert text[slice(*best_span(text, words_of_query(text, "查错")))] == "改正文章里的错误。"


def test_where_nothing_matches_the_best_line_is_the_first() -> None:
    assert best_span("one\ntwo", words_of_query("one\ntwo", "zebra")) == (0, 3)
    assert best_span("", Evidence([], np.zeros((2, 0), np.float32))) == (0, 0)
    assert best_span("one\ntwo", Evidence([None], np.ones((1, 1), np.float32))) == (0, 3)


def test_a_long_line_is_as_good_as_its_best_part() -> None:
    text = f"{'x ' * 300}the blue sky {'y ' * 300}"
    assert "blue sky" in span_of(text, "blue sky")
    assert len(span_of(text, "blue sky")) <= PIECE


@pytest.mark.parametrize(
    ("best", "context", "lines"),
    [
        (3, None, range(3, 3 + PIECES)),
        (18, None, range(20 - PIECES, 20)),
        (3, 0, [3]),
        (3, 2, range(1, 6)),
        (0, 2, range(3)),
        (19, 2, range(17, 20)),
    ],
)
def test_the_snippet_around_the_best_line(best: int, context: int | None, lines: range) -> None:
    start = numbered.index(f"line {best}")
    span = snippet_span(numbered, (start, start + len(f"line {best}")), context)
    assert numbered[slice(*span)].split("\n") == [f"line {line}" for line in lines]


def test_a_snippet_neither_begins_nor_ends_with_a_blank_line() -> None:
    text = "\n\ncats\n\n  \ndogs\n\n"
    start = text.index("cats")
    assert text[slice(*snippet_span(text, (start, start + 4), 2))] == "cats"
    assert text[slice(*snippet_span(text, (start, start + 4)))] == "cats\n\n  \ndogs"
    assert snippet_span("\n\n", (1, 1), 0) == (1, 1)


@given(texts, st.integers(0, 59), st.integers(0, 30), st.none() | st.integers(0, 5))
def test_a_snippet_holds_the_best_lines(text: str, start: int, length: int, context: int | None) -> None:
    pieces = list(text_pieces(text))
    first = start % len(pieces)
    last = min(first + length % PIECES, len(pieces) - 1)
    best = pieces[first][0], pieces[last][1]
    span = snippet_span(text, best, context)
    assert text[slice(*best)].strip() in text[slice(*span)]
    assert span[0] <= span[1]
