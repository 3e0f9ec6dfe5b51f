"""The rows that met the latest filters, kept from one search to the next."""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock

import numpy as np

_MOST_FILTERS, _CACHE_BYTES = 32, 1 << 26


class FilterCache:
    """The rows (int64) that met the latest conditions, in bounded memory. Threads may share it.

    >>> cache = FilterCache()
    >>> cache.put("lang=python", np.array([3, 5]))
    >>> cache.get("lang=python")
    array([3, 5])
    """

    def __init__(self) -> None:
        self._rows: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> np.ndarray | None:
        """The rows that were put under this key; None where they are not in the cache."""
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: Hashable, rows: np.ndarray) -> None:
        """Cache ``rows``, which become read-only."""
        rows.setflags(write=False)
        with self._lock:
            self._rows[key] = rows
            while len(self._rows) > _MOST_FILTERS or self._bytes > _CACHE_BYTES:
                self._rows.popitem(last=False)

    @property
    def _bytes(self) -> int:
        return sum(rows.nbytes for rows in self._rows.values())
