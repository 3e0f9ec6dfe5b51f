"""The ids read so far in bounded memory: a temporary SQLite file, in memory while it is small."""

import sqlite3


class SeenIds:
    """A set of texts whose memory is bounded.

    >>> seen = SeenIds()
    >>> seen.add("a"), seen.add("a"), "a" in seen, "b" in seen
    (True, False, True, False)
    """

    def __init__(self) -> None:
        # An empty name makes SQLite use a temporary file, deleted with the connection.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("CREATE TABLE seen(id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def add(self, id: str) -> bool:
        """Whether ``id`` is new; UnicodeEncodeError where it holds half a surrogate pair."""
        return self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?)", [id]).rowcount == 1

    def __contains__(self, id: str) -> bool:
        return self._connection.execute("SELECT 1 FROM seen WHERE id = ?", [id]).fetchone() is not None

    def __len__(self) -> int:
        return self._connection.execute("SELECT count(*) FROM seen").fetchone()[0]
