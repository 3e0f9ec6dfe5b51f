"""Where an index's documents come from: folders and files, and what each file was when it was read.

The ids of a folder's documents are paths below it, those of rows their own, that of a single file its name. A
source whose ids could be those of another puts a prefix before them.
"""

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

from .. import FlatcoatError
from .rows import is_rows


class Source(NamedTuple):
    """``path`` is relative to the index's folder, so that both can move together.

    What is no file has a name there: "-" is stdin, "datasets:..." a data set.
    """

    key: int
    path: str
    prefix: str


Root: TypeAlias = Path | str
"""A folder or file, or the name of what is none."""


class FileState(NamedTuple):
    """A file as it was read: ``state`` as the reader tells, ``digest`` of its content, why it was skipped."""

    state: str
    digest: str = ""
    skipped: str = ""


def sources(connection: sqlite3.Connection) -> list[Source]:
    """All, in the order in which they came."""
    return [Source(*row) for row in connection.execute("SELECT key, path, prefix FROM sources ORDER BY key")]


def place(index: Path, source: Source) -> Root:
    """Where a source's files are now."""
    if is_name(source.path):
        return source.path
    return Path(os.path.normpath(index.resolve() / source.path))


def enter(connection: sqlite3.Connection, index: Path, roots: Sequence[Root]) -> list[Source]:
    """The sources at these places, new ones made; one that has moved away under the same name is found again.

    FlatcoatError where a root is inside another or holds one.
    """
    wanted = [root.resolve() if isinstance(root, Path) else root for root in roots]
    known = {place(index, source): source for source in sources(connection)}
    alone = sum(map(_is_folder, {*known, *wanted})) == 1
    for root in wanted:
        if root in known:
            continue
        if (moved := _moved(known, root)) is not None:
            known[root] = _move(connection, index, known.pop(moved), root)
            continue
        _check_apart(known, root)
        prefix = "" if alone and _is_folder(root) else _prefix(root, known)
        insert = "INSERT INTO sources(path, prefix) VALUES (?, ?) RETURNING key, path, prefix"
        known[root] = Source(*connection.execute(insert, (_relative(root, index), prefix)).fetchone())
    return [known[root] for root in dict.fromkeys(wanted)]


def file_states(connection: sqlite3.Connection, source: int) -> dict[str, FileState]:
    """By name within the source."""
    query = "SELECT name, state, digest, skipped FROM file_states WHERE source = ?"
    return {name: FileState(*state) for name, *state in connection.execute(query, [source])}


def remember(connection: sqlite3.Connection, source: int, states: Iterable[tuple[str, FileState]]) -> None:
    """Set the states of files."""
    rows = [(source, name, *state) for name, state in states]
    connection.executemany("INSERT OR REPLACE INTO file_states VALUES (?, ?, ?, ?, ?)", rows)


def forget(connection: sqlite3.Connection, source: int, names: Iterable[str]) -> None:
    """Drop the states of files that are gone."""
    rows = [(source, name) for name in names]
    connection.executemany("DELETE FROM file_states WHERE source = ? AND name = ?", rows)


def is_name(path: str) -> bool:
    """Whether a root is no file: stdin, or a data set."""
    return path == "-" or path.startswith("datasets:")


def _moved(known: Mapping[Root, Source], root: Root) -> Root | None:
    """The one known place of the same name where nothing is any more."""
    if isinstance(root, str):
        return None
    found = [path for path in known if isinstance(path, Path) and path.name == root.name]
    return found[0] if len(found) == 1 and not found[0].exists() else None


def _check_apart(known: Iterable[Root], root: Root) -> None:
    for other in known:
        if isinstance(root, Path) and isinstance(other, Path) and _one_holds_the_other(root, other):
            raise FlatcoatError(f"{root} and {other}, which is in the index, hold the same files: name one")


def _one_holds_the_other(root: Path, other: Path) -> bool:
    return root in other.parents or other in root.parents


def _move(connection: sqlite3.Connection, index: Path, source: Source, root: Root) -> Source:
    path = _relative(root, index)
    connection.execute("UPDATE sources SET path = ? WHERE key = ?", (path, source.key))
    return source._replace(path=path)


def _relative(root: Root, index: Path) -> str:
    return root if isinstance(root, str) else os.path.relpath(root, index.resolve())


def _is_folder(root: Root) -> bool:
    return isinstance(root, Path) and root.is_dir() and not is_rows(root)


def _is_file(root: Root) -> bool:
    return isinstance(root, Path) and not root.is_dir() and not is_rows(root)


def _prefix(root: Root, known: Mapping[Root, Source]) -> str:
    """Of a new source: empty where no other can have the same ids."""
    taken = {source.prefix for source in known.values()}
    if _is_folder(root):
        return _free_prefix(Path(root).name, taken)
    if _is_file(root):
        file = Path(root)
        rivals = any(_is_file(other) and Path(other).name == file.name for other in known)
        return _free_prefix(file.parent.name, taken) if rivals else ""
    rivals = any(not _is_folder(other) and not _is_file(other) for other in known)
    name = root.name if isinstance(root, Path) else "stdin" if root == "-" else root
    return _free_prefix(name, taken) if rivals else ""


def _free_prefix(name: str, taken: set[str]) -> str:
    numbered = (f"{name}/" if number == 1 else f"{name}-{number}/" for number in count(1))
    return next(prefix for prefix in numbered if prefix not in taken)
