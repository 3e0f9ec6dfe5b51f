"""Whether the files of an index changed since they were read, without reading or listing them.

Known files are compared by their states, which their documents remember. New files show in the times of the
folders that were listed, and other rules in the ignore files: a folder's source remembers the states of both,
as JSON {path below the root: state}. So a search is not held up by a look for changes.
"""

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flatcoat.indexing.store.source_paths import name_on_disk
from flatcoat.indexing.store.sources import Source, place

if TYPE_CHECKING:
    from flatcoat.indexing.store.store import Store

_IGNORE_FILES = (".gitignore", ".ignore", ".flatcoatignore", ".git/info/exclude")
_REPOSITORY = ".git"
_FRESH_NS = 100_000_000  # several steps of the clock of a file system, which are some milliseconds
_COARSE_NS = 2_000_000_000  # where it counts in seconds
_MISSING = "-"


def stale_sources(store: "Store", *, seconds: float) -> list[Source]:
    """The sources that may have changed since they were read, or that could not be compared in the time.

    Left out are those that nothing reads unasked: stdin, data sets, what is gone, and what another user
    named.
    """
    until = time.monotonic() + seconds
    return [
        source
        for source in store.sources()
        if source.is_own
        and isinstance(root := place(store.path, source), Path)
        and root.exists()
        and not _is_current(store, source, root, until)
    ]


def _is_current(store: "Store", source: Source, root: Path, until: float) -> bool:
    watched = _parsed(source.state)
    if watched is None:
        return _is_current_file(store, source, root)
    encoding = f":{source.reading.encoding}" if source.reading.encoding else ""
    for number, (name, state) in enumerate(store.read_states(source.key).items()):
        if number % 1_000 == 0 and time.monotonic() > until:
            return False
        if not state or state != _state(root / name_on_disk(name)) + encoding:
            return False
    return all(state and state == _state(root / name) for name, state in watched.items())


def _is_current_file(store: "Store", source: Source, root: Path) -> bool:
    """Whether a source that is one file, or a file of rows, is as it was read."""
    from flatcoat.indexing.reading.rows import is_rows, rows_file

    if is_rows(root):
        return bool(source.state) and source.state == _state(rows_file(root))
    encoding = f":{source.reading.encoding}" if source.reading.encoding else ""
    states = store.read_states(source.key).values()
    return bool(states) and not root.is_dir() and all(state == _state(root) + encoding for state in states)


def watched_state(root: Path, left_out: Collection[str], *, began_ns: int) -> str:
    """The states of the folders below ``root`` that are listed and of all ignore files, as JSON.

    ``left_out`` are the printable names of folders that are not listed, with a slash at the end. What was
    written since ``began_ns`` or shortly before may have been listed earlier: it has no state, and is never
    taken for unchanged.
    """
    states = {name: _state(root / name, began_ns) for name in _folders(root, left_out)}
    files = [f"{name}{file}" for name in states for file in _IGNORE_FILES[:3]]
    above = ["", *_above(root)]
    files += [f"{folder}{file}" for folder in above for file in _IGNORE_FILES]
    found = {name: _state(root / name, began_ns) for name in dict.fromkeys(files)}
    # A new one changes its folder, which is among the states, or is among them as missing.
    outside = ("../", _IGNORE_FILES[-1])
    kept = {name: state for name, state in found.items() if state != _MISSING or name.startswith(outside)}
    return json.dumps(states | kept, sort_keys=True)


def _folders(root: Path, left_out: Collection[str]) -> Iterator[str]:
    """The names of the folders that are listed, "" for the root, others with a slash at the end."""
    from flatcoat.indexing.reading.gitignore import printable

    waiting = [""]
    while waiting:
        folder = waiting.pop()
        yield folder
        try:
            with os.scandir(root / folder) as entries:
                names = [f"{folder}{entry.name}/" for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        waiting += [name for name in names if printable(name) not in left_out]


def _above(root: Path) -> list[str]:
    """The folders above the root up to the one of its repository, whose rules count below too."""
    if os.path.lexists(root / _REPOSITORY):
        return []
    names = []
    for number, folder in enumerate(root.resolve().parents, start=1):
        names.append("../" * number)
        if os.path.lexists(folder / _REPOSITORY):
            return names
    return []


def _state(path: Path, began_ns: int | None = None) -> str:
    """The state of a file or folder, as of the files that are read; "" where it was written too lately."""
    try:
        found = os.stat(path)  # noqa: PTH116  # Path.stat takes three times as long.
    except (OSError, ValueError):
        return _MISSING
    if began_ns is not None:
        last_ns = max(found.st_mtime_ns, found.st_ctime_ns)
        if last_ns >= began_ns - (_FRESH_NS if last_ns % 1_000_000_000 else _COARSE_NS):
            return ""
    return f"{found.st_size}:{found.st_ino}:{found.st_ctime_ns}:{found.st_mtime_ns}"


def _parsed(state: str) -> Mapping[str, str] | None:
    """The states that ``watched_state`` wrote; None for the state of another kind of source."""
    if not state.startswith("{"):
        return None
    try:
        states = json.loads(state)
    except (ValueError, RecursionError):
        return None
    return states if all(isinstance(one, str) for one in states.values()) else None
