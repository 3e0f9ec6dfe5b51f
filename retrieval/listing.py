"""What filters and patterns find without a query: every passage, by the ids of documents."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flatcoat.indexing.filters.condition import Filter
from flatcoat.indexing.filters.text_pattern import TextPattern

from .results import Result
from .shard import Shard
from .snippets import Evidence, best_span

if TYPE_CHECKING:
    from flatcoat.indexing.documents import Passage
    from flatcoat.indexing.terms import Span


def listed(
    shard: Shard, filters: Sequence[Filter], pattern: TextPattern | None, *, k: int, group: bool
) -> list[Result]:
    """The first ``k`` passages, or documents by their first passage, that filters and a pattern let through.

    Their score is 0; the best lines are those of the first match, where there is a pattern.
    """
    found = shard.filtered(filters, pattern, limit=k, by_document=group)
    passages = shard.passages([one.row for one in found])
    return [
        Result(
            rank=rank,
            score=0.0,
            document_id=passage.document_id,
            title=passage.title,
            lines=passage.lines,
            text=passage.text,
            metadata=passage.metadata,
            section=passage.section,
            more=one.rows - 1,
            best_span=_lines_of_match(passage, pattern),
        )
        for rank, (passage, one) in enumerate(zip(passages, found, strict=True), start=1)
    ]


def _lines_of_match(passage: "Passage", pattern: TextPattern | None) -> "Span | None":
    span = pattern.spans()(passage.text) if pattern else None
    if span is None:
        return None
    return best_span(passage.text, Evidence([span], np.ones((1, 1), np.float32)))
