"""The files of a folder in a fixed order, without those that .gitignore and its like exclude."""

import logging
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from flatcoat.errors import UsageError

from .ignore_files import IgnoreRules, Patterns, is_inner_worktree, rules_above

OnSkip: TypeAlias = Callable[[str, str], None]
"""Called with the printable path of everything that is left out, and the reason."""

MAX_BYTES = 10_000_000
MAX_DATA_BYTES = 100_000
"""The limit for formats that machines mostly write: vocabularies and fixtures would drown the texts."""

UNREADABLE = "unreadable"
"""The start of a reason where the system, not the content, kept a file or folder from being read."""

_DATA = frozenset(".json .jsonl .csv .tsv .xml .svg .lock .po".split())  # noqa: SIM905
_VERSION_CONTROL = frozenset((".git", ".hg", ".jj", ".svn"))
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
    hidden: bool = False,
    on_skip: OnSkip = log_skip,
    max_bytes: int = MAX_BYTES,
) -> Iterator[File]:
    """The files in ``root``, or ``root`` itself where it is a file; none is opened.

    Left out are links to folders or out of ``root``, flatcoat's indexes, folders of version control, files
    larger than ``max_bytes`` (data files: MAX_DATA_BYTES), names that ignore files exclude, in ``root`` and
    above it up to the root of the repository, names that match a pattern of ``exclude``, and those that match
    none of ``include``, if given. Hidden names are left out unless ``hidden`` is true or a pattern of
    ``include`` spells their dot, as ``.github/`` does. Patterns are written as in .gitignore. Each file or
    whole folder left out is reported to ``on_skip``. Raises UsageError for a malformed pattern.

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name, text in {".gitignore": "*.log", "a.py": "x = 1", "b.log": "", "c.md": "# C"}.items():
    ...     _ = (root / name).write_text(text)
    >>> [file.name for file in list_files(root, on_skip=lambda path, reason: None)]
    ['a.py', 'c.md']
    """
    chosen = _Chosen(
        patterns_of(include) if include else None,
        patterns_of(exclude),
        None if hidden else Patterns(_with_dots(include)),
    )
    return _listed(root, chosen, on_skip, max_bytes)


class _Chosen(NamedTuple):
    """The caller's patterns: no ``include`` means all files, no ``dots`` that hidden names are as others."""

    include: Patterns | None
    exclude: Patterns
    dots: Patterns | None


class _Entry(NamedTuple):
    """A file, or a folder where ``name`` ends with a slash or is empty, and the rules that hold above it.

    ``included`` is what the innermost folder says that a pattern of ``include`` matches.
    """

    name: str
    path: str
    rules: IgnoreRules
    included: bool = False


def _listed(root: Path, chosen: _Chosen, on_skip: OnSkip, max_bytes: int) -> Iterator[File]:
    def unread(path: str, reason: str) -> None:
        on_skip(printable(path), f"{UNREADABLE}: {reason}")

    is_folder = root.is_dir()
    walk = _Walk(chosen, os.path.realpath(root), on_skip, unread)
    rules = rules_above(root, unread) if is_folder else IgnoreRules()
    waiting = [_Entry("" if is_folder else root.name, str(root), rules)]
    while waiting:  # Folders may be nested deeper than calls.
        entry = waiting.pop()
        if entry.name.endswith("/") or not entry.name:
            waiting += reversed(walk.inside(entry))
            continue
        is_data = is_folder and os.path.splitext(entry.name)[1].lower() in _DATA  # noqa: PTH122 faster
        found = walk.file(entry, min(max_bytes, MAX_DATA_BYTES) if is_data else max_bytes)
        if isinstance(found, str):
            on_skip(printable(entry.name), found)
        else:
            yield found


class _Walk(NamedTuple):
    chosen: _Chosen
    real_root: str
    on_skip: OnSkip
    on_unread: OnSkip

    def inside(self, folder: _Entry) -> list[_Entry]:
        """The entries of a folder that are not left out, in order of name."""
        try:
            with os.scandir(Path(folder.path)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.on_unread(folder.name or ".", error.strerror or "")
            return []
        names = [entry.name for entry in entries]
        if _INDEX in names:
            self.on_skip(printable(folder.name) or ".", "a flatcoat index")
            return []
        if folder.name and ".git" in names and is_inner_worktree(Path(folder.path)):
            self.on_skip(printable(folder.name), "another worktree of the repository")
            return []
        path = folder.rules.lead + os.fsencode(folder.name)
        rules = folder.rules.inside(Path(folder.path), path, names, self.on_unread)
        kept = []
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            name = folder.name + entry.name + "/" * is_folder
            reason = self._reason(entry, path + os.fsencode(entry.name), rules, is_folder)
            if reason:
                self.on_skip(printable(name), reason)
            else:
                included = is_folder and self._included(name, folder.included)
                kept.append(_Entry(name, entry.path, rules, included if is_folder else folder.included))
        return kept

    def _reason(self, entry: "os.DirEntry[str]", path: bytes, rules: IgnoreRules, is_folder: bool) -> str:
        """Why an entry is left out; "" where it is not, or where ``file`` is to say."""
        start, dots = len(rules.lead), self.chosen.dots
        if entry.name.startswith("."):
            if entry.name in _VERSION_CONTROL:
                return "hidden" if dots is not None else "version control"
            if dots is not None and not dots.decision(path, start, is_folder=is_folder):
                return "hidden"
        if source := rules.ignored_by(path, is_folder=is_folder):
            return f"ignored by {printable(source)}"
        if is_folder:
            return "excluded" if self.chosen.exclude.decision(path, start, is_folder=True) else ""
        return self._reason_of_link(entry) if entry.is_symlink() else ""

    def _reason_of_link(self, entry: "os.DirEntry[str]") -> str:
        try:
            if entry.is_dir():
                return "a link to a folder"
        except OSError as error:  # in a loop, or behind a closed folder
            return f"{UNREADABLE}: {error.strerror}"
        is_inside = Path(os.path.realpath(entry.path)).is_relative_to(self.real_root)
        return "" if is_inside else "a link out of the folder"

    def _included(self, name: str, above: bool) -> bool:
        """Whether ``include`` takes a name, or else the folder above it; a slash ends a folder's name."""
        if self.chosen.include is None:
            return True
        path = os.fsencode(name)
        decision = self.chosen.include.decision(path.removesuffix(b"/"), is_folder=name.endswith("/"))
        return above if decision is None else decision

    def file(self, entry: _Entry, max_bytes: int) -> File | str:
        """The file, or why it is left out."""
        if self.chosen.exclude.decision(os.fsencode(entry.name)):
            return "excluded"
        if not self._included(entry.name, entry.included):
            return "not included"
        path = Path(entry.path)
        try:
            status = path.stat()
        except OSError as error:
            return "not a regular file" if path.is_symlink() else f"{UNREADABLE}: {error.strerror}"
        if not stat.S_ISREG(status.st_mode):  # A pipe or device would be waited for forever.
            return "not a regular file"
        if status.st_size > max_bytes:
            return f"over {max_bytes:,} bytes"
        return File(printable(entry.name), path, file_state(status))


def file_state(status: os.stat_result) -> str:
    """A file's size, inode, change time and modification time (ns); "" while the clock is too coarse to tell.

    Equal states mean that the file was not written in between, except "", which tells nothing. As in git: a
    file that replaces one of equal size and time has another inode, and one that was overwritten or renamed
    another change time.
    """
    if time.time_ns() - status.st_mtime_ns < _FRESH_NS:
        return ""
    return f"{status.st_size}:{status.st_ino}:{status.st_ctime_ns}:{status.st_mtime_ns}"


def patterns_of(patterns: Sequence[str]) -> Patterns:
    """The matcher of patterns written as in .gitignore; UsageError where one can match nothing."""
    for pattern in patterns:
        if not pattern.startswith("#") and not Patterns([os.fsencode(pattern)]):
            raise UsageError(
                f"pattern {pattern!r:.80} matches nothing: write one as in .gitignore, such as docs/ or *.py"
            )
    return Patterns(map(os.fsencode, patterns))


def _with_dots(patterns: Iterable[str]) -> Iterator[bytes]:
    """Patterns of the hidden names that ``patterns`` spell: each up to a part that begins with a dot."""
    for pattern in patterns:
        parts = pattern.split("/")
        for number, part in enumerate(parts, start=1):
            if part.startswith((".", "\\.")) and not pattern.startswith(("!", "#")):
                is_anchored = "/" in pattern.rstrip("/") and number == 1
                yield os.fsencode("/" * is_anchored + "/".join(parts[:number]))


def printable(name: str) -> str:
    """``name`` with backslashes, control characters and undecodable bytes escaped, unambiguously."""
    return "".join(ascii(c)[1:-1] if c == "\\" or unicodedata.category(c) in _SPECIAL else c for c in name)
