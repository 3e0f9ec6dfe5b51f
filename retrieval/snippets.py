"""The best lines of a passage: the few that answer the query, and the piece of text that is shown of it.

Axes: Q parts of the query (tokens, or terms), T places in the text, U pieces of the text.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from flatcoat.indexing.terms import Span, find_query

PIECES = 6
"""Pieces per snippet at most."""

LINE, PIECE = 120, 80
"""A line of more characters than the first is cut at blanks into pieces of at most the second."""

_BLANKS = " 、，；：。！？"
"""What a line is cut behind: blanks, and the marks of Chinese and Japanese that are as wide as one."""

_COST = 0.05
"""What a further piece must add to a run of pieces, as a share of what the whole text scores."""


class Evidence(NamedTuple):
    """How well each place of a text answers each part of the query, 0 being not at all.

    ``places`` are T spans of characters, None outside the text.
    """

    places: Sequence[Span | None]
    scores_QT: np.ndarray


def words_of_query(text: str, query: str) -> Evidence:
    """The words that match a term of the query, as full-text search matches them."""
    found = find_query(text, query)
    places = sorted({span for spans in found.values() for span in spans})
    column = {span: number for number, span in enumerate(places)}
    scores_QT = np.zeros((len(found), len(places)), np.float32)
    for row, spans in enumerate(found.values()):
        scores_QT[row, [column[span] for span in spans]] = 1
    return Evidence(places, scores_QT)


def best_span(text: str, evidence: Evidence) -> Span:
    """The characters of the run of at most PIECES pieces that answers the query best; the first of equals.

    A run scores as a passage does in late interaction: the best place per part of the query, summed. Each
    piece costs a share of what the whole text scores, so that a run ends where it says nothing new.

    >>> text = "Cats:\\nthey purr.\\nDogs:\\nthey bark."
    >>> best_span(text, words_of_query(text, "which dogs bark"))
    (17, 33)
    """
    pieces = list(text_pieces(text))
    best_QU = best_per_piece(pieces, evidence)
    score = best_QU.max(axis=1).sum() if len(best_QU) else 0.0
    if not score:
        return pieces[0]
    runs: dict[tuple[int, int], float] = {}
    run_QU = best_QU
    for more in range(min(PIECES, len(pieces))):
        run_QU = np.maximum(run_QU[:, : len(pieces) - more], best_QU[:, more:])
        values_U = run_QU.sum(axis=0) - more * _COST * score
        first = int(np.argmax(values_U.round(6)))
        runs[first, first + more] = float(values_U[first])
    first, last = max(runs, key=lambda run: round(runs[run], 6))
    return pieces[first][0], pieces[last][1]


def best_per_piece(pieces: Sequence[Span], evidence: Evidence) -> np.ndarray:
    """The best score of each part of the query in each piece [Q, U], 0 at least."""
    best_QU = np.zeros((len(evidence.scores_QT), len(pieces)), np.float32)
    kept = [number for number, place in enumerate(evidence.places) if place]
    starts = [place[0] for place in evidence.places if place]
    columns = np.searchsorted([start for start, _ in pieces], starts, side="right") - 1
    for column, number in zip(columns.tolist(), kept, strict=True):
        np.maximum(best_QU[:, column], evidence.scores_QT[:, number], out=best_QU[:, column])
    return best_QU


def snippet_span(text: str, best: Span, context: int | None = None, *, least: int = 0) -> Span:
    """The characters to show around the best ones: ``context`` pieces before and behind.

    By default PIECES pieces from the best ones on, or the last PIECES of the text. Where these are fewer than
    ``least`` pieces there are more behind, or else before. Blank lines at either end are left out.
    """
    pieces = list(text_pieces(text))
    first = next(number for number, (_, end) in enumerate(pieces) if best[0] <= end)
    last = max(number for number, (start, _) in enumerate(pieces) if start < best[1] or number == first)
    if context is None:
        first = max(0, min(first, len(pieces) - PIECES))
        last = max(last, min(first + PIECES, len(pieces)) - 1)
    else:
        first, last = max(0, first - context), min(last + context, len(pieces) - 1)
    last = min(max(last, first + least - 1), len(pieces) - 1)
    first = max(0, min(first, last - least + 1))
    while first < last and not text[slice(*pieces[first])].strip():
        first += 1
    while first < last and not text[slice(*pieces[last])].strip():
        last -= 1
    return pieces[first][0], pieces[last][1]


def text_pieces(text: str) -> Iterator[Span]:
    """The lines of a text without their line breaks; one of more than LINE characters in several pieces.

    >>> [end - start for start, end in text_pieces("short\\n" + 30 * "seven " + "\\n")]
    [5, 78, 102, 0]
    """
    start = 0
    for line in text.split("\n"):
        end = start + len(line)
        while end - start > LINE:
            blank = max(text.rfind(mark, start + PIECE // 2, start + PIECE) for mark in _BLANKS)
            cut = start + PIECE if blank < 0 else blank + 1
            yield start, cut
            start = cut
        yield start, end
        start = end + 1
