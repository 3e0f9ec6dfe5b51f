"""What a search is asked for and what it gives back."""

from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, TypeGuard

from flatcoat.errors import FlatcoatError
from flatcoat.indexing.documents import Metadata, normalized
from flatcoat.indexing.store.terms import Span

Mode = Literal["vectors", "bm25", "hybrid"]
"""What passages are ranked by."""


class Match(NamedTuple):
    """What one token of the query found, and what that adds to the score.

    ``query_span`` is None of special, prefix and expansion tokens, ``text_span`` where the match is in the
    title, the section or a special token.
    """

    query_token: str
    query_span: Span | None
    text_span: Span | None
    score: float


@dataclass(frozen=True)
class Result:
    """A passage that was found. ``lines`` are those of its document, 1-based and inclusive.

    ``section`` is its path of headings, or the names of the classes and functions around it. ``score`` is
    that of the last stage, ``scores`` has those of all stages that found it ("vectors", "bm25", "fused",
    "rerank"). ``duplicates`` names the places ("path:line") of candidates that say the same, ``more`` counts
    the other candidates of its document where results are one a document.
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

    def to_json(self) -> dict[str, Any]:
        """JSON values; spans of an explanation are in characters of the query and of ``text``."""
        matches = self.explanation
        explanation = None if matches is None else [match._asdict() for match in matches]
        lists = {"lines": list(self.lines), "duplicates": list(self.duplicates)}
        return asdict(self) | lists | {"explanation": explanation}


def checked_query(query: object) -> str:
    """A query in the form in which all text is stored."""
    if not isinstance(query, str):
        raise FlatcoatError(f"the query is {type(query).__name__} {query!r:.60}: a str is wanted")
    if not query.strip():
        raise FlatcoatError("the query is empty: say what to look for")
    return normalized(str(query))


def checked_k(k: object) -> int:
    """How many results; numpy's integers will do."""
    if not isinstance(k, Integral) or isinstance(k, bool):
        raise FlatcoatError(f"k is {k!r:.60}: a whole number is wanted")
    if k < 1:
        raise FlatcoatError(f"k is {k!s:.60}: at least 1 is needed")
    return int(k)


def checked_recall(recall: object) -> float | None:
    """A share of the best to be found; None is what the index thinks right."""
    if recall is None:
        return None
    if not is_number(recall) or not 0 < recall <= 1:
        raise FlatcoatError(f"recall is {recall!r:.60}: a number above 0, and 1 at most, is wanted")
    return float(recall)


def is_number(value: object) -> TypeGuard[float]:
    """Of Python or numpy, truth values aside."""
    return isinstance(value, Real) and not isinstance(value, bool)
