"""What a search is asked for and what it gives back."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from ..indexing.documents import Metadata

Mode = Literal["vectors", "bm25", "hybrid"]
"""What passages are ranked by."""

Span = tuple[int, int]
"""First character and the one after the last."""


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
