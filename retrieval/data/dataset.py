"""Training data: a recipe's source as a memory-mapped data set of one shape.

query, document (the positive), [negative_1 ... negative_n], [scores: n + 1 floats of a teacher]
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.errors import DataError
from flatcoat.indexing.documents import normalized
from flatcoat.indexing.reading.row import Row

from .examples import PLACE, Example, ExampleColumns, examples
from .files import Pair, beir_pairs, file_rows
from .hub import hub_rows
from .source import Source

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 1_000


def load_source(
    source: Source, root: Path, *, folder: Path, seed: int = 42, places: bool = False
) -> "Dataset":
    """Read a source into an Arrow file in ``folder`` and open it memory-mapped, its rows drawn with ``seed``.

    Relative paths start at ``root``; so does a copy of a hub data set, which is preferred to the hub. Columns
    as above; with ``places`` one more has the place of each row, as ``file:line``. Raises NotFoundError for
    missing data or columns, DataError for malformed rows (shown in the message) and for empty data.
    """
    found = _examples(source, root, folder)
    if source.streaming:
        found = islice(found, source.max_pairs)
    dataset = _written(found, source, folder, places)
    rows = _sampled(dataset, source, random.Random(seed)) * source.repeat
    return dataset if rows == list(range(len(dataset))) else dataset.select(rows)


def _examples(source: Source, root: Path, folder: Path) -> Iterator[Example]:
    if source.beir is not None:
        return _paired(beir_pairs(root / source.beir, source.split))
    if source.docstrings is not None:
        from .docstrings import docstring_pairs

        return _paired(docstring_pairs(source.docstrings))
    columns = ExampleColumns(source.query, source.document, source.negatives, source.scores)
    return examples(_rows(source, root, folder), columns, ways=source.ways, source=source.label)


def _paired(pairs: Iterable[Pair]) -> Iterator[Example]:
    for pair in pairs:
        yield Example(normalized(pair.query), normalized(pair.document), place=pair.place)


def _rows(source: Source, root: Path, folder: Path) -> Iterator[Row]:
    if source.jsonl is not None:
        return file_rows(root / source.jsonl, "jsonl")
    if source.parquet is not None:
        return file_rows(root / source.parquet, "parquet")
    return hub_rows(source, root, folder=folder)


def _written(found: Iterator[Example], source: Source, folder: Path, places: bool) -> "Dataset":
    """All examples in an Arrow file, opened; memory holds one batch of them."""
    from datasets import Dataset, Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    first = next(found, None)
    if first is None:
        raise DataError(f"{source.label} has no pair of a query and a document to train on")
    names = ["query", "document", *(f"negative_{number + 1}" for number in range(len(first.negatives)))]
    features = Features({name: Value("string") for name in names})
    if first.scores:
        features["scores"] = List(Value("float32"))
    if places:
        features[PLACE] = Value("string")
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=folder)) / "rows.arrow"
    with ArrowWriter(features=features, path=str(path)) as writer:
        for batch in _batches(chain([first], found)):
            texts = zip(*((row.query, row.document, *row.negatives) for row in batch), strict=True)
            columns: dict[str, list[Any]] = dict(zip(names, map(list, texts), strict=True))
            if first.scores:
                columns["scores"] = [row.scores for row in batch]
            if places:
                columns[PLACE] = [row.place for row in batch]
            writer.write_batch(columns)
        writer.finalize()
    return Dataset.from_file(str(path))


def _batches(found: Iterator[Example]) -> Iterator[list[Example]]:
    return iter(lambda: list(islice(found, _BATCH)), [])


def _sampled(dataset: "Dataset", source: Source, generator: random.Random) -> list[int]:
    """The numbers of the rows to keep, in their new order."""
    rows = list(range(len(dataset)))
    limit = None if source.streaming else source.max_pairs
    if source.per_document is None and limit is None:
        return rows
    generator.shuffle(rows)
    if source.per_document is not None:
        documents = dataset["document"][:]
        seen: Counter[str] = Counter()
        kept = []
        for row in rows:
            seen[documents[row]] += 1
            if seen[documents[row]] <= source.per_document:
                kept.append(row)
        rows = kept
    return rows[:limit]
