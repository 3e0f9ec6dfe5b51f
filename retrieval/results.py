"""Results of a search, and the checks of its arguments."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any, Literal, NamedTuple

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Metadata, is_number, normalized
from flatcoat.indexing.terms import Span

Mode = Literal["vectors", "bm25", "hybrid"]
"""How passages are ranked: by embedding vectors, by BM25, or by both fused."""


class Match(NamedTuple):
    """The best match of one query token, and its share of the score.

    ``query_span`` is None for special, prefix and expansion tokens; ``text_span`` is None if the match is in
    the title, the section or a special token. Spans are in characters of the query and of the text.
    """

    query_token: str
    query_span: Span | None
    text_span: Span | None
    score: float


class Excerpt(NamedTuple):
    """A few lines of a document, by their numbers (1-based, inclusive), and their text."""

    lines: tuple[int, int]
    text: str


@dataclass(frozen=True)
class Result:
    """A passage in the results. ``lines`` are line numbers of its document, 1-based and inclusive.

    ``section`` is its path of headings, or the names of the classes and functions around it. ``score`` is
    the score of the last stage, ``scores`` has the scores of all stages ("vectors", "bm25", "fused",
    "rerank"). ``duplicates`` names the places ("path:line") of near-duplicates among the candidates, ``more``
    counts the other candidates of its document when results are grouped by document. ``best_span`` is where
    its text answers the query, in characters, ``best_lines`` the same in lines of its document; both are None
    unless asked for. ``evidence`` has what of it fits into the budget that was given, None without one.

    >>> result = Result(1, 0.5, "sky.md", "Sky", (1, 2), "The sky is blue.", {"lang": "markdown"})
    >>> result.to_json()["lines"]
    [1, 2]
    """

    rank: int
    score: float
    document_id: str
    title: str
    lines: tuple[int, int]
    text: str
    metadata: Metadata
    section: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    duplicates: tuple[str, ...] = ()
    more: int = 0
    explanation: list[Match] | None = None
    best_span: Span | None = None
    evidence: tuple[Excerpt, ...] | None = None

    @property
    def best_lines(self) -> tuple[int, int] | None:
        """The lines of the document, 1-based and inclusive, that answer the query; None unless asked for."""
        if self.best_span is None:
            return None
        start, end = self.best_span
        first = self.lines[0] + self.text.count("\n", 0, start)
        return first, first + self.text.count("\n", start, end)

    def to_json(self) -> dict[str, Any]:
        """JSON values; spans of an explanation are in characters of the query and of ``text``."""
        matches = self.explanation
        explanation = None if matches is None else [match._asdict() for match in matches]
        evidence = self.evidence
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # asdict would copy them.
        lists = {
            "evidence": None
            if evidence is None
            else [{"lines": [*lines], "text": text} for lines, text in evidence],
            "lines": list(self.lines),
            "duplicates": list(self.duplicates),
            "best_span": self.best_span and list(self.best_span),
            "best_lines": self.best_lines and list(self.best_lines),
        }
        return values | lists | {"explanation": explanation}


class Results(list[Result]):
    """Results, best first; ``missing_shards`` are those of the collection that a partial answer lacks.

    >>> Results([], {5, 2}).missing_shards
    (2, 5)
    """

    def __init__(self, results: Iterable[Result] = (), missing_shards: Iterable[int] = ()) -> None:
        super().__init__(results)
        self.missing_shards = tuple(sorted(missing_shards))


def checked_query(query: object) -> str:
    """The query in the form of all stored text (NFC); UsageError if it is empty or no str."""
    if not isinstance(query, str):
        raise UsageError(f"the query is {type(query).__name__} {query!r:.60}: a str is wanted")
    if not query.strip():
        raise UsageError("the query is empty: say what to look for")
    return normalized(str(query))


def checked_k(k: object) -> int:
    """The number of results as an int, at least 1; NumPy integers are accepted. UsageError otherwise."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise UsageError(f"k is {k!r:.60}: a whole number is wanted")
    if k < 1:
        raise UsageError(f"k is {k!s:.60}: at least 1 is needed")
    return int(k)


def checked_budget(budget: object) -> int | None:
    """The number of tokens, at least 1; None is none. UsageError otherwise."""
    if budget is None:
        return None
    if not isinstance(budget, Integral) or isinstance(budget, bool) or budget < 1:
        raise UsageError(f"budget is {budget!r:.60}: a number of tokens, 1 at least, is wanted")
    return int(budget)


def checked_recall(recall: object) -> float | None:
    """The target recall, above 0 and at most 1; None leaves it to the index. UsageError otherwise."""
    if recall is None:
        return None
    if not is_number(recall) or not 0 < recall <= 1:
        raise UsageError(f"recall is {recall!r:.60}: a number above 0, and 1 at most, is wanted")
    return float(recall)
