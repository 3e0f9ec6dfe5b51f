"""The evidence of results: the few lines of each that hold most of its score, within a number of tokens.

A prompt has room for little, and a passage says most of what answers a query in two or three of its lines.

Axes: Q parts of the query (tokens, or terms), U pieces of a text.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .results import Excerpt
from .snippets import Evidence, best_per_piece, snippet_span, text_pieces

if TYPE_CHECKING:
    from flatcoat.indexing.terms import Span

    from .results import Result

SHARE = 0.8
"""Of what a passage scores above its usual line, which matches "how" and "the" as well as the best does."""


class Telling(NamedTuple):
    """The pieces of a text that tell most, the first telling the most, as spans of characters."""

    text: str
    first_line: int
    pieces: "Sequence[Span]"

    def excerpts(self, count: int) -> tuple[Excerpt, ...]:
        """The first ``count`` pieces in the order of the text; those with at most blanks between are one."""
        spans: list[Span] = []
        for start, end in sorted(self.pieces[:count]):
            if not self.text[start:end].strip():
                continue
            if spans and not self.text[spans[-1][1] : start].strip():
                start = spans.pop()[0]
            spans.append((start, end))
        return tuple(Excerpt(self._lines(span), self.text[slice(*span)]) for span in spans)

    def _lines(self, span: "Span") -> tuple[int, int]:
        first = self.first_line + self.text.count("\n", 0, span[0])
        return first, first + self.text.count("\n", *span)


def telling_pieces(text: str, evidence: Evidence, first_line: int = 1) -> Telling:
    """The fewest pieces, chosen one by one, that hold SHARE of what the text scores above its usual piece.

    Where nothing of the query is in the text, its beginning.

    >>> text = "Cats:\\nthey purr.\\nDogs:\\nthey bark."
    >>> evidence = Evidence([(0, 4), (29, 33)], np.array([[0.9, 0.0], [0.0, 0.8]]))
    >>> telling_pieces(text, evidence).excerpts(2)
    (Excerpt(lines=(1, 1), text='Cats:'), Excerpt(lines=(4, 4), text='they bark.'))
    """
    pieces = list(text_pieces(text))
    best_QU = best_per_piece(pieces, evidence)
    whole = float(best_QU.max(axis=1).sum()) if len(best_QU) else 0.0
    if not whole:
        return Telling(text, first_line, [snippet_span(text, pieces[0])])
    usual = float(np.median(best_QU.sum(axis=0)))
    chosen: list[int] = []
    have_Q = np.zeros(len(best_QU), np.float32)
    while not chosen or have_Q.sum() < usual + SHARE * (whole - usual) - 1e-6:
        values_U = np.maximum(best_QU, have_Q[:, None]).sum(axis=0)
        chosen.append(int(values_U.round(6).argmax()))
        have_Q = np.maximum(have_Q, best_QU[:, chosen[-1]])
    return Telling(text, first_line, [pieces[at] for at in chosen])


def within_budget(
    places: Sequence[str],
    tellings: Sequence[Telling],
    *,
    budget: int,
    count_tokens: Callable[[Sequence[str]], list[int]],
) -> list[tuple[Excerpt, ...]]:
    """The excerpts of each result, best result first, in at most ``budget`` tokens with their ``places``.

    A result that does not fit whole gives the lines that tell most; one of which nothing fits gives none.
    ``count_tokens`` counts the tokens of texts, special tokens included.
    """
    texts = [one.text[slice(*span)] for one in tellings for span in one.pieces]
    (special, *counts) = count_tokens(["", *places, *texts])
    costs = iter([max(count - special, 1) for count in counts])
    heads = [next(costs) for _ in places]
    excerpts: list[tuple[Excerpt, ...]] = []
    for head, one in zip(heads, tellings, strict=True):
        spent, kept = 0, 0
        for cost in [next(costs) for _ in one.pieces]:
            if spent + head + cost > budget:
                break
            # Each excerpt has its own line of place at most.
            spent, kept = spent + head + cost, kept + 1
        budget -= spent
        excerpts.append(one.excerpts(kept))
    return excerpts


def as_prompt(results: "Iterable[Result]") -> str:
    """The evidence of results as a prompt quotes it: each excerpt below its place, a blank line between.

    >>> from flatcoat.retrieval.results import Result
    >>> result = Result(1, 0.5, "sky.md", "", (1, 9), "", {}, evidence=(Excerpt((2, 2), "It is blue."),))
    >>> print(as_prompt([result]))
    sky.md:2
    It is blue.
    """
    return "\n\n".join(
        f"{place(result.document_id, excerpt.lines)}\n{excerpt.text}"
        for result in results
        for excerpt in result.evidence or ()
    )


def place(id: str, lines: tuple[int, int]) -> str:
    """Where lines of a document are, as editors and models write it.

    >>> place("sky.md", (2, 4))
    'sky.md:2-4'
    """
    first, last = lines
    return f"{id}:{first}" if first == last else f"{id}:{first}-{last}"
