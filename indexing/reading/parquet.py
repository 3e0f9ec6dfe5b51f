"""Parquet files, batch by batch."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatcoat.errors import first_line
from flatcoat.indexing.documents import normalized

from .lines import PIECE
from .row import BadRow, Break, Row, RowResult, require_distinct, unreadable_file

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS, _BATCH_BYTES = 256, 32_000_000


def parquet_rows(path: Path, nested: Collection[str] | None = None) -> Iterator[RowResult]:
    """The rows of a Parquet file; of the columns of lists and objects only ``nested``, or all for None.

    Raises DataError where none of the file can be read or two columns share a name, NotFoundError where there
    is no such file.
    """
    import pyarrow
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        # Reading ahead would take in whole row groups, one after the other.
        with ParquetFile(path, pre_buffer=False, buffer_size=PIECE) as file:
            fields = list(file.schema_arrow)
            require_distinct(path, [field.name for field in fields])
            columns = [
                field.name
                for field in fields
                if nested is None
                or normalized(field.name) in nested
                or not pyarrow.types.is_nested(field.type)
            ]
            for batch in file.iter_batches(_rows_at_once(file), columns=columns):
                for row in _rows(batch):
                    number += 1
                    place = f"row {number}"
                    size = batch.nbytes // len(batch)
                    yield BadRow(place, row) if isinstance(row, str) else Row(place, row, size)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        if not number:
            raise unreadable_file(path, error) from error
        yield Break(f"row {number + 1}", first_line(error))


def _rows_at_once(file: "ParquetFile") -> int:
    """How many rows take about _BATCH_BYTES where those of a group are of one size."""
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    largest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, largest)))


def _rows(batch: "RecordBatch") -> Iterator[dict[str, Any] | str]:
    """Each row, or why Python cannot hold it: bytes that are no text, a time out of range."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass
    for row in range(len(batch)):
        try:
            yield batch.slice(row, 1).to_pylist()[0]
        except (ValueError, OverflowError) as error:
            yield first_line(error)
