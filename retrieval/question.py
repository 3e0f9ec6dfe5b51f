"""What one search is asked: the arguments of ``Retriever.search``, checked."""

from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import Passage
from flatcoat.indexing.filters.condition import Condition, Filter
from flatcoat.indexing.filters.forms import Filters, as_filters
from flatcoat.indexing.filters.text_pattern import Case, TextPattern
from flatcoat.indexing.fusion import HYBRID, HYBRID_CODE, Fusion
from flatcoat.indexing.reading.content import Content

from .ranking import checked_signals
from .results import Mode, checked_budget, checked_k, checked_query, checked_recall

if TYPE_CHECKING:
    from .rerank import Reranker


@dataclass(frozen=True)
class Question:
    """The arguments of ``Retriever.search``, checked: the query in NFC, the filters parsed.

    Without a query, there are filters or a pattern, and the passages that they let through are wanted.

    Raises UsageError if one is of the wrong type or out of range.
    """

    query: str | None
    k: int = 10
    _: KW_ONLY
    where: Filters = ()
    regex: str | None = None
    fixed: str | None = None
    case: Case = "smart"
    recall: float | None = None
    mode: Mode | Fusion = "hybrid"
    rerank: "Reranker | str | Path | None" = None
    group: bool = False
    explain: bool = False
    signals: Collection[str] | None = None
    content: Content | Literal["all"] = "all"
    best_lines: bool = False
    budget: int | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        for name, checked in (
            ("query", None if self.query is None else checked_query(self.query)),
            ("k", checked_k(self.k)),
            ("where", tuple(as_filters(self.where))),
            ("recall", checked_recall(self.recall)),
            ("budget", checked_budget(self.budget)),
            ("signals", checked_signals(self.signals)),
        ):
            object.__setattr__(self, name, checked)
        self._require_something()
        if not isinstance(self.mode, Fusion) and not (
            isinstance(self.mode, str) and self.mode in get_args(Mode)
        ):
            raise UsageError(f"mode is {self.mode!r:.60}: {', '.join(get_args(Mode))} are possible")
        if self.content not in (contents := (*get_args(Content), "all")):
            raise UsageError(f"content is {self.content!r:.60}: {', '.join(contents)} are possible")
        named = isinstance(self.rerank, str | Path) and str(self.rerank)
        if not named and self.rerank is not None and not hasattr(self.rerank, "scorer"):
            raise UsageError(f"rerank is {self.rerank!r:.60}: a model's name or a Reranker is wanted")

    def _require_something(self) -> None:
        if self.pattern is None and self.query is None and not self.filters:
            raise UsageError("no query, no filter and no pattern: say what to look for")
        if self.query is None and self.rerank is not None:
            raise UsageError("there is nothing to rerank by: give a query")
        if self.query is None and self.budget is not None:
            raise UsageError("there is nothing to choose evidence by: give a query")

    @cached_property
    def pattern(self) -> TextPattern | None:
        """What the texts must match, by ``regex`` and ``fixed``."""
        pattern = TextPattern(self.regex, self.fixed, self.case)
        return None if self.regex is None and self.fixed is None else pattern

    @property
    def filters(self) -> Sequence[Filter]:
        """The filters of ``where``, parsed, and that of ``content``."""
        filters = cast(Sequence[Filter], self.where)
        if self.content == "all":
            return filters
        there, equal = Condition("content", "exists", True), Condition("content", "=", self.content)
        return [*filters, there, equal]

    @property
    def asked(self) -> str:
        """The query, empty where there is none."""
        return self.query or ""

    @property
    def ranks_twice(self) -> bool:
        """Whether a ranking by vectors and one by BM25 are fused."""
        return self.mode not in ("vectors", "bm25")

    def fusion_of(self, passages: Collection[Passage]) -> Fusion:
        """How the two rankings of these candidates are fused: otherwise where a third of them are code."""
        if isinstance(self.mode, Fusion):
            return self.mode
        code = sum(passage.metadata.get("content") == "code" for passage in passages)
        return HYBRID_CODE if 3 * code >= len(passages) > 0 else HYBRID
