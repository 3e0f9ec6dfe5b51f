"""Teacher scores for distillation: a cross-encoder's, of how well documents answer queries."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.backbone.packing import budget_batches
from flatcoat.errors import ConflictError, DataError
from flatcoat.indexing.reading.row import Row

from .files import file_rows

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_ROWS_AT_ONCE = 256
"""Rows scored and written together: an interrupted run loses at most these."""

_CHARACTERS = 65_536
"""Characters of queries and documents per forward pass: about TOKEN_BUDGET tokens of English."""


def score_file(
    path: Path,
    output: Path,
    *,
    teacher: "CrossEncoder",
    on_progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write the rows of a JSONL or Parquet file with "scores": of the document, then of each negative.

    Rows hold "query", "document" and optionally "negatives" (a list). ``output`` is JSONL; an interrupted run
    continues after the rows that it holds. Returns the number of rows scored now. Raises NotFoundError for
    rows without those columns, ConflictError for an output of other rows, and DataError for a teacher whose
    scores are not finite.
    """
    rows = file_rows(path)
    done = _resume(output, rows)
    scored = 0
    # Half a surrogate pair, which UTF-8 lacks, as it is written in JSON.
    with output.open("a", encoding="utf-8", errors="backslashreplace") as file:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            for row, scores in zip(batch, _scores(batch, teacher), strict=True):
                _require_finite(scores, row)
                line = json.dumps(row.values | {"scores": scores}, ensure_ascii=False, default=str)
                file.write(line + "\n")
            file.flush()
            scored += len(batch)
            on_progress(done + scored)
    return scored


def _scores(rows: Sequence[Row], teacher: "CrossEncoder") -> Iterator[list[float]]:
    """The scores of every row's documents, pairs of similar length scored together."""
    documents = [_documents(row) for row in rows]
    pairs = [(row.text("query"), text) for row, texts in zip(rows, documents, strict=True) for text in texts]
    found: list[float] = [0.0] * len(pairs)
    for indices in budget_batches([len(query) + len(text) for query, text in pairs], _CHARACTERS):
        batch = [pairs[index] for index in indices]
        scores = teacher.predict(batch, batch_size=len(batch), show_progress_bar=False)
        for index, score in zip(indices, scores, strict=True):
            found[index] = float(score)
    waiting = iter(found)
    return (list(islice(waiting, len(texts))) for texts in documents)


def _require_finite(scores: Sequence[float], row: Row) -> None:
    for place, score in enumerate(scores):
        if not math.isfinite(score):
            document = f"negative {place}" if place else "document"
            raise DataError(
                f"{row.place}: the teacher's score of the {document} is {score}: the model's weights are "
                "damaged, or too large for its precision: name another --teacher"
            )


def _documents(row: Row) -> list[str]:
    return [row.text("document"), *(row.texts("negatives") if "negatives" in row.values else [])]


def _resume(output: Path, rows: Iterator[Row]) -> int:
    """Pass over the rows that ``output`` holds, and cut off an incomplete last line; the number of rows."""
    if not output.exists():
        return 0
    done = whole = 0
    with output.open("rb+") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            row = next(rows, None)
            if row is None or _unscored(json.loads(line)) != _unscored(row.values):
                raise ConflictError(
                    f"{output}:{done + 1} is not the same row as in the input: name another --output"
                )
            done, whole = done + 1, whole + len(line)
        file.truncate(whole)
    return done


def _unscored(values: dict[str, Any]) -> str:
    """A row without scores, as JSON, in which a NaN equals a NaN."""
    return json.dumps({name: value for name, value in values.items() if name != "scores"}, default=str)
