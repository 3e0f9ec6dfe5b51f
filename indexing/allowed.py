"""Rows of passages that a search may find: kept from one search to the next, and told to SQLite."""

import json
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np

_MOST_FILTERS, _KEPT_BYTES = 32, 1 << 26
_WIDEST_TABLE = 1 << 26  # from the first to the last row


class KeptRows:
    """Rows that met some conditions (int64), of the latest conditions, in bounded memory."""

    def __init__(self) -> None:
        self._rows: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, asked: Hashable) -> np.ndarray | None:
        """What was kept for these conditions."""
        if asked in self._rows:
            self._rows.move_to_end(asked)
        return self._rows.get(asked)

    def keep(self, asked: Hashable, rows: np.ndarray) -> None:
        """Keep ``rows``, which nobody may change any more."""
        rows.setflags(write=False)
        self._rows[asked] = rows
        while len(self._rows) > _MOST_FILTERS or self._bytes > _KEPT_BYTES:
            self._rows.popitem(last=False)

    @property
    def _bytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows.values())


def among(rows: np.ndarray) -> tuple[str, list[Any]]:
    """SQL that holds where FTS5's ``rowid`` is one of ``rows``, and what it binds.

    A table of bytes tells at once. With ``rowid IN``, less the +, SQLite would hand each row to FTS5, which
    would answer the query anew for each.
    """
    if not len(rows):
        return "0", []
    first, last = int(rows.min()), int(rows.max())
    if last - first > _WIDEST_TABLE:
        return "+rowid IN (SELECT value FROM json_each(?))", [json_of(rows)]
    table = np.zeros(last - first + 1, np.uint8)
    table[rows - first] = 1
    condition = "rowid BETWEEN ? AND ? AND substr(?, rowid - ?, 1) = x'01'"
    return condition, [first, last, table.data, first - 1]


def json_of(rows: Iterable[int]) -> str:
    """For ``json_each``, which takes more of them than SQLite binds."""
    return json.dumps([int(row) for row in rows])
