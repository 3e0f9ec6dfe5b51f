"""Rows of data sets on the Hugging Face hub, or of a copy of one: whole, streamed, or joined by id.

Data sets too large to repeat their texts keep three subsets: rows of ids, the queries and the documents, as
lightonai/ms-marco-en-bge does, and as BEIR's qrels, queries and corpus do.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.errors import DataError
from flatcoat.hub import load_dataset
from flatcoat.indexing.reading.row import Row, as_list

from .source import Source

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 1_000


def hub_rows(source: Source, root: Path, *, folder: Path) -> Iterator[Row]:
    """The rows of a hub source, ids replaced by their texts; a copy below ``root`` is unpacked in ``folder``.

    Raises NotFoundError where the data set cannot be read (the message names the place for a copy below
    ``root``), and DataError where a row names an id without a text.
    """
    assert source.hub is not None
    copy = root / source.hub
    rows = _load(source, copy, folder, source.subset, source.split)
    texts = {}
    if source.queries is not None and source.documents is not None:
        texts = {
            source.query: _Texts(_only_split(source, copy, folder, source.queries)),
            source.document: _Texts(_only_split(source, copy, folder, source.documents)),
        }
    place = f"{source.hub} ({source.subset or 'default'}, {source.split})"
    number = 0
    for batch in rows.iter(_BATCH):
        found = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        numbered = [Row(f"{place}, row {number + row}", values) for row, values in enumerate(found, start=1)]
        for column, part in texts.items():
            part.put(numbered, column)
        yield from numbered
        number += len(numbered)


class _Texts:
    """The texts of a subset by their ids, memory-mapped, each after its title."""

    def __init__(self, dataset: "Dataset") -> None:
        names = [name for name in dataset.column_names if name.endswith("id")]
        if len(names) != 1 or "text" not in dataset.column_names:
            raise DataError(
                f"{dataset.config_name} of {dataset.builder_name} has the columns "
                f"{', '.join(dataset.column_names)}: one that ends in id, and text, are wanted"
            )
        self._dataset = dataset
        self._titled = "title" in dataset.column_names
        self._row_of = {str(id): row for row, id in enumerate(dataset[names[0]][:])}

    def put(self, rows: Sequence[Row], column: str) -> None:
        """Replace the ids in a column by their texts."""
        places = [self._places(row, column) for row in rows]
        found = self._dataset[list(chain.from_iterable(places))]
        titles = found["title"] if self._titled else [None] * len(found["text"])
        texts = iter(
            f"{title} {text}" if title else text for title, text in zip(titles, found["text"], strict=True)
        )
        for row, wanted in zip(rows, places, strict=True):
            joined = list(islice(texts, len(wanted)))
            row.values[column] = joined if _is_list(row.values[column]) else joined[0]

    def _places(self, row: Row, column: str) -> list[int]:
        """The rows of this subset whose ids a column of ``row`` holds."""
        value = row.value(column)
        try:
            return [self._row_of[str(id)] for id in (as_list(value) if _is_list(value) else [value])]
        except KeyError as error:
            raise row.refused(column, f"names {error}, which has no text") from None
        except (TypeError, ValueError, SyntaxError, RecursionError, MemoryError):
            raise row.refused(column, "must be an id or a list of ids") from None


def _is_list(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.startswith("["))


def _only_split(source: Source, copy: Path, folder: Path, subset: str) -> "Dataset":
    """A subset of texts: its only split, or the one that the rows are from."""
    splits = _load(source, copy, folder, subset, None)
    return splits[source.split if source.split in splits else next(iter(splits))]


def _load(source: Source, copy: Path, folder: Path, subset: str | None, split: str | None) -> Any:
    is_placed = copy.is_dir()
    return load_dataset(
        str(copy) if is_placed else str(source.hub),
        subset,
        label=f"data set {source.hub} (subset {subset or 'default'}, split {split or 'any'})",
        by_hand=f"copy its files to {copy}",
        split=split,
        revision=source.revision,
        # The library's own cache does not see that a file was changed or added by hand.
        cache_dir=folder / "copies" if is_placed else None,
        streaming=source.streaming and split is not None,
    )
