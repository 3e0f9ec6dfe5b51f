"""The files of a folder in a fixed order, without those that .gitignore and its like exclude."""

import logging
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

from pathspec import GitIgnoreSpec

from flatcoat.errors import UsageError

OnSkip: TypeAlias = Callable[[str, str], None]
"""Called with the printable path of everything that is left out, and the reason."""

MAX_BYTES = 10_000_000
MAX_DATA_BYTES = 100_000
"""The limit for formats that machines mostly write: vocabularies and fixtures would drown the texts."""

UNREADABLE = "unreadable"
"""The start of a reason where the system, not the content, kept a file or folder from being read."""

_MOST_STARS = 12  # the time to match a pattern may double with each

_DATA = frozenset(".json .jsonl .csv .tsv .xml .svg .lock .po".split())  # noqa: SIM905
_IGNORE_FILES = (".git/info/exclude", ".gitignore", ".ignore", ".flatcoatignore")  # the last decides
_INDEX = "index.sqlite"
_SPECIAL = ("Cc", "Cs", "Zl", "Zp")  # control characters, undecodable bytes, line and paragraph separators
_FRESH_NS = 2_000_000_000  # FAT keeps time in steps of two seconds


class File(NamedTuple):
    """A file to read.

    ``name`` is its posix path relative to the folder, or its file name where the file was given itself:
    printable, with backslashes doubled and other escapes behind a single one, so that no two files share a
    name. ``state`` is its ``file_state``.
    """

    name: str
    path: Path
    state: str


def log_skip(path: str, reason: str) -> None:
    """The default ``OnSkip``: logs a warning."""
    logging.getLogger(__name__).warning("skipped %s: %s", path, reason)


def list_files(
    root: Path,
    include: Sequence[str] = (),
    *,
    exclude: Sequence[str] = (),
    on_skip: OnSkip = log_skip,
    max_bytes: int = MAX_BYTES,
) -> Iterator[File]:
    """The files in ``root``, or ``root`` itself where it is a file; none is opened.

    Left out are hidden names, links to folders or out of ``root``, flatcoat's indexes, files larger than
    ``max_bytes`` (data files: MAX_DATA_BYTES), names that ignore files at any level exclude, names that match
    a pattern of ``exclude``, and those that match none of ``include``, if given. Patterns are written as in
    .gitignore. Each file or whole folder left out is reported to ``on_skip``. Raises UsageError for a
    malformed pattern.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name, text in {".gitignore": "*.log", "a.py": "x = 1", "b.log": "", "c.md": "# C"}.items():
    ...     _ = (root / name).write_text(text)
    >>> [file.name for file in list_files(root, on_skip=lambda path, reason: None)]
    ['a.py', 'c.md']
    """
    chosen = _Chosen(patterns_spec(include) if include else None, patterns_spec(exclude))
    return _listed(root, chosen, on_skip, max_bytes)


class _Chosen(NamedTuple):
    """The caller's patterns; no ``include`` means all files."""

    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec

    def reason(self, name: str) -> str:
        """Why a file (or a folder: its name ends with a slash) is left out; "" where it is not."""
        if self.exclude.check_file(name).include:
            return "excluded"
        if self.include and not name.endswith("/") and not self.include.check_file(name).include:
            return "not included"
        return ""


class _Rules(NamedTuple):
    """One ignore file: its name, its folder as a posix prefix, its patterns."""

    source: str
    prefix: str
    spec: GitIgnoreSpec


class _Entry(NamedTuple):
    """A file, or a folder where ``name`` ends with a slash or is empty, and the ignore files above it."""

    name: str
    path: Path
    rules: tuple[_Rules, ...] = ()


def _listed(root: Path, chosen: _Chosen, on_skip: OnSkip, max_bytes: int) -> Iterator[File]:
    is_folder, real = root.is_dir(), os.path.realpath(root)
    waiting = [_Entry("" if is_folder else root.name, root)]
    while waiting:  # Folders may be nested deeper than calls.
        entry = waiting.pop()
        if entry.name.endswith("/") or not entry.name:
            waiting += reversed(_inside(entry, chosen, real, on_skip))
            continue
        is_data = is_folder and PurePosixPath(entry.name).suffix.lower() in _DATA
        found = _file(entry, chosen, min(max_bytes, MAX_DATA_BYTES) if is_data else max_bytes)
        if isinstance(found, str):
            on_skip(printable(entry.name), found)
        else:
            yield found


def _inside(folder: _Entry, chosen: _Chosen, root: str, on_skip: OnSkip) -> list[_Entry]:
    """The entries of a folder that are not left out, in order of name."""
    try:
        with os.scandir(folder.path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        on_skip(printable(folder.name) or ".", f"{UNREADABLE}: {error.strerror}")
        return []
    names = {entry.name for entry in entries}
    if _INDEX in names:
        on_skip(printable(folder.name) or ".", "a flatcoat index")
        return []
    sources = [source for source in _IGNORE_FILES if source.split("/")[0] in names]
    rules = (*folder.rules, *(_read_rules(folder, source, on_skip) for source in sources))
    kept = []
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        name = folder.name + entry.name + "/" * is_folder
        if reason := _reason_to_skip(entry, name, rules, root) or (chosen.reason(name) if is_folder else ""):
            on_skip(printable(name), reason)
        else:
            kept.append(_Entry(name, Path(entry.path), rules))
    return kept


def _reason_to_skip(entry: os.DirEntry[str], name: str, rules: tuple[_Rules, ...], root: str) -> str:
    if entry.name.startswith("."):
        return "hidden"
    if source := _ignored_by(name, rules):
        return f"ignored by {source}"
    if not entry.is_symlink():
        return ""
    try:
        if entry.is_dir():
            return "a link to a folder"
    except OSError as error:  # in a loop, or behind a closed folder
        return f"{UNREADABLE}: {error.strerror}"
    return "" if Path(os.path.realpath(entry.path)).is_relative_to(root) else "a link out of the folder"


def _ignored_by(name: str, rules: tuple[_Rules, ...]) -> str:
    # As in git the innermost file that says anything about a name decides.
    for source, prefix, spec in reversed(rules):
        decision = spec.check_file(name.removeprefix(prefix)).include
        if decision is not None:
            return source if decision else ""
    return ""


def _read_rules(folder: _Entry, source: str, on_skip: OnSkip) -> _Rules:
    path, lines = folder.path / source, []
    try:
        if path.is_file():
            with path.open("rb") as file:
                data = file.read(MAX_DATA_BYTES + 1)
            if len(data) > MAX_DATA_BYTES:
                raise ValueError(f"over {MAX_DATA_BYTES:,} bytes")
            lines = data.decode("utf-8-sig", "replace").splitlines()
            if wild := next((line for line in lines if line.count("*") > _MOST_STARS), None):
                raise ValueError(f"over {_MOST_STARS} stars in {wild:.40}")
        spec = GitIgnoreSpec.from_lines(lines)
    except (OSError, ValueError) as error:
        on_skip(printable(folder.name + source), f"{UNREADABLE}: {getattr(error, 'strerror', error)}")
        spec = GitIgnoreSpec.from_lines([])
    return _Rules(source, folder.name, spec)


def _file(entry: _Entry, chosen: _Chosen, max_bytes: int) -> File | str:
    """The file, or why it is left out."""
    if reason := chosen.reason(entry.name):
        return reason
    try:
        status = entry.path.stat()
    except OSError as error:
        return "not a regular file" if entry.path.is_symlink() else f"{UNREADABLE}: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):  # A pipe or device would be waited for forever.
        return "not a regular file"
    if status.st_size > max_bytes:
        return f"over {max_bytes:,} bytes"
    return File(printable(entry.name), entry.path, file_state(status))


def file_state(status: os.stat_result) -> str:
    """A file's size, inode, change time and modification time (ns); "" while the clock is too coarse to tell.

    Equal states mean that the file was not written in between, except "", which tells nothing. As in git: a
    file that replaces one of equal size and time has another inode, and one that was overwritten or renamed
    another change time.
    """
    if time.time_ns() - status.st_mtime_ns < _FRESH_NS:
        return ""
    return f"{status.st_size}:{status.st_ino}:{status.st_ctime_ns}:{status.st_mtime_ns}"


def patterns_spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    """The matcher of patterns written as in .gitignore; UsageError where one is malformed."""
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"{error}: write patterns as in .gitignore, such as docs/ or *.py") from error


def printable(name: str) -> str:
    """``name`` with backslashes, control characters and undecodable bytes escaped, unambiguously."""
    return "".join(ascii(c)[1:-1] if c == "\\" or unicodedata.category(c) in _SPECIAL else c for c in name)
