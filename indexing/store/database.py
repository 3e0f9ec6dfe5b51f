"""The SQLite file of an index, opened as data that somebody else may have made.

Nothing in an index folder may be a link or a pipe, and its schema must be exactly ours before anything else
is read: a foreign view or trigger never runs.

A reader opens the file read-only. This is more than caution: the last connection that may write deletes the
``-wal`` and ``-shm`` files *by name* when it closes, and a reader that outlives its index would delete the
files of the index that was made in its place. ``_tidy`` deletes them where the database is still the same
file.
"""

import logging
import re
import sqlite3
import stat
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple

from flatcoat.errors import ConflictError, NotFoundError, StorageError

from . import schema
from .upgrade import FORMER, FORMER_TABLES

_WAIT_S = 30.0
_BESIDE = ("-wal", "-shm", "-journal")
# The errors where no -shm can be made: no permission, a read-only medium, a full disk.
_NO_SHARED_MEMORY = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
)
# The SQL of the tables of FTS5, which the former format has, depends on the version of SQLite.
_SCHEMA = """
    SELECT type, name, tbl_name, iif(type = 'table' AND name LIKE 'texts@_%' ESCAPE '@', '', ifnull(sql, ''))
    FROM sqlite_master LIMIT ?
"""
_MOST_MORE = 8  # entries of a schema that is not ours, or of FTS5
_log = logging.getLogger(__name__)


class File(NamedTuple):
    """Identity of the file at a path; for a file that is read without locks also its last change."""

    device: int
    inode: int
    changed: tuple[int, int, int] | None = None


class _Entry(NamedTuple):
    """An entry of the schema: a table, index or trigger."""

    kind: str
    name: str
    table: str
    sql: str


class Database:
    """The connection of one reader. Not for two threads at once."""

    def __init__(self, folder: Path, *, is_immutable: bool = False) -> None:
        """NotFoundError where there is no index, ConflictError or StorageError where it cannot be read.

        ``is_immutable`` says that nobody ever writes the file: it is read without locks.
        """
        self.folder = folder
        self.connection, self.file = (_open_immutable if is_immutable else _open)(folder)
        self._is_closed = False

    def was_replaced(self) -> bool:
        """Whether another file is in the place of the open one; NotFoundError where there is none."""
        if self._is_closed:
            return False
        try:
            return _file(self.folder, self.file.changed is not None) != self.file
        except FileNotFoundError as error:
            raise NotFoundError(
                f"index {self.folder} is gone, it was removed or moved: open it where it is now"
            ) from error

    def require_unmoved(self) -> None:
        """Raise ConflictError where a file that is read without locks changed in the meantime."""
        if self.file.changed is not None and self.was_replaced():
            raise ConflictError(f"index {self.folder} was written while it was read: try again")

    def close(self) -> None:
        """Close the connection; the last one leaves a single file behind."""
        if not self._is_closed:
            self._is_closed = True
            self.connection.close()
            if self.file.changed is None:
                _tidy(self.folder, self.file)


def connect_to_write(folder: Path) -> sqlite3.Connection:
    """The writer's connection to the index in ``folder``, in autocommit; transactions are begun by name.

    NotFoundError where there is no index, ConflictError or StorageError where it cannot be read.
    """
    require_plain(folder)
    connection = _connect(folder, "mode=rw")
    try:
        _require_ours(connection, folder)
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def require_plain(folder: Path) -> None:
    """NotFoundError where ``folder`` has no database, StorageError where its parts are links or pipes."""
    if _kind(folder / schema.DATABASE) is None:
        raise NotFoundError(f"{folder} is not an index: it has no {schema.DATABASE}")
    files = [schema.DATABASE, schema.LOCK, *(schema.DATABASE + suffix for suffix in _BESIDE)]
    for name in files:
        if _kind(folder / name) not in (None, stat.S_IFREG):
            raise StorageError(
                f"{folder / name} is no plain file: an index holds no links, folders or pipes there"
            )
    if _kind(folder / schema.SEGMENTS) not in (None, stat.S_IFDIR):
        raise StorageError(f"{folder / schema.SEGMENTS} is no folder: an index holds no links")


def explained(error: Exception) -> str:
    """SQLite's message in one line, and what to do where another program holds the database."""
    message = " ".join(str(error).split())
    if _code(error) == sqlite3.SQLITE_BUSY:
        return f"{message}: another program holds it, such as a shell of SQLite's: end that, then try again"
    return message


def check(connection: sqlite3.Connection, folder: Path) -> None:
    """ConflictError where the database has another format, StorageError where its schema is not ours."""
    most = len(_expected(schema.TABLES))
    found = [_Entry(*row) for row in connection.execute(_SCHEMA, [most + _MOST_MORE])]
    tables = {entry.name for entry in found if entry.kind == "table"}
    is_former = "meta" in tables and _format(connection, folder) == FORMER
    expected = _expected(FORMER_TABLES if is_former else schema.TABLES)
    for entry in found:
        if entry not in expected:
            made = any(entry.name == ours.name for ours in expected)
            what = "is not as flatcoat makes it" if made else "was not made by flatcoat"
            raise StorageError(f"index {folder}: its {entry.kind} {entry.name!r:.60} {what}: do not use it")
    if missing := [entry for entry in expected if entry not in found]:
        raise StorageError(f"index {folder} has no {missing[0].kind} {missing[0].name!r}: it is no index")


@cache
def _expected(tables: str) -> tuple[_Entry, ...]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tables)
        return tuple(_Entry(*row) for row in connection.execute(_SCHEMA, [-1]))


def _format(connection: sqlite3.Connection, folder: Path) -> int:
    """The format of the index; ConflictError where it is of another flatcoat."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    version = str(row and row[0])
    if not re.fullmatch(r"\d{1,9}", version, re.ASCII):
        raise StorageError(f"{folder} cannot be read as an index: its format is {version!r:.40}")
    if int(version) not in (FORMER, schema.FORMAT):
        advice = "upgrade flatcoat" if int(version) > schema.FORMAT else "index again, in another folder"
        raise ConflictError(
            f"index {folder} has format {version}, this flatcoat reads {schema.FORMAT}: {advice}"
        )
    return int(version)


def _open(folder: Path) -> tuple[sqlite3.Connection, File]:
    """A connection for reading.

    Where no ``-shm`` can be made there can be no writer either; unless a writer left a log behind, the file
    is read as an immutable one, and opened again when it changes.
    """
    require_plain(folder)
    file = _file(folder, False)
    try:
        return _checked(folder, "mode=ro"), file
    except sqlite3.OperationalError as error:
        if _code(error) not in _NO_SHARED_MEMORY:
            raise
        reason = error
    _log.info("index %s is read without locks, as what does not change: %s", folder, reason)
    return _open_immutable(folder, str(reason))


def _open_immutable(folder: Path, reason: str = "read without locks") -> tuple[sqlite3.Connection, File]:
    """A connection without locks; StorageError where a writer left a log behind."""
    require_plain(folder)
    file = _file(folder, True)
    if file.changed and file.changed[2]:
        raise StorageError(
            f"index {folder} holds commits that its last writer left in {schema.DATABASE}-wal ({reason}): "
            "open it once where you may write"
        )
    return _checked(folder, "mode=ro&immutable=1"), file


def _checked(folder: Path, options: str) -> sqlite3.Connection:
    connection = _connect(folder, options)
    try:
        connection.execute("PRAGMA query_only = ON")
        _require_ours(connection, folder)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_ours(connection: sqlite3.Connection, folder: Path) -> None:
    connection.execute("BEGIN")
    try:
        check(connection, folder)
    finally:
        connection.execute("ROLLBACK")


def _connect(folder: Path, options: str, wait_s: float | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{(folder / schema.DATABASE).absolute().as_uri()}?{options}",
        uri=True,
        timeout=_WAIT_S if wait_s is None else wait_s,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _file(folder: Path, unchanging: bool) -> File:
    path = folder / schema.DATABASE
    found = path.stat()
    if not unchanging:
        return File(found.st_dev, found.st_ino)
    log = path.with_name(f"{path.name}-wal")
    left = log.stat().st_size if log.exists() else 0
    return File(found.st_dev, found.st_ino, (found.st_mtime_ns, found.st_size, left))


def _tidy(folder: Path, file: File) -> None:
    """Let SQLite empty ``-wal`` into the database and delete it, unless somebody has the index open."""
    try:
        there = (folder / f"{schema.DATABASE}-wal").exists() or (folder / f"{schema.DATABASE}-shm").exists()
        if there and file == _file(folder, False):
            with closing(_connect(folder, "mode=rw", wait_s=0)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (OSError, sqlite3.Error) as error:
        _log.info("index %s keeps its write-ahead log: %s", folder, error)


def _kind(path: Path) -> int | None:
    """The type of the file at ``path``, links not followed; None where there is none."""
    try:
        return stat.S_IFMT(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"{str(path)!r:.200} cannot be an index: {error!s:.100}") from error


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
