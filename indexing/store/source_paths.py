"""Where the sources of an index are: paths kept relative to the index, so that both can move together."""

import os
import re
from pathlib import Path
from typing import TypeAlias

from flatcoat.errors import UsageError
from flatcoat.indexing.documents import normalized

Root: TypeAlias = Path | str
"""A folder or file, or the name of a source that is no file: "-" (stdin) or "datasets:..." (a data set)."""

_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4}|[\\tnr])")
_BYTES = "bytes:"
"""Stands before the hexadecimal bytes of a path that is no valid text."""


def as_root(root: object) -> Root:
    """The root that a user names, whether it exists or not; UsageError where it cannot be one."""
    return root if isinstance(root, str) and is_name(root) else as_path(root)


def as_path(path: object) -> Path:
    """The path, whether it exists or not; UsageError where it is none, or no file can have such a name."""
    try:
        path = Path(path)  # type: ignore[arg-type]
        if b"\0" not in os.fsencode(path):
            return path
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{str(path)[:80]!a} is no path: the name of a folder or file is needed")


def is_name(path: str) -> bool:
    """Whether a root is no file, but stdin or a data set."""
    return path == "-" or path.startswith("datasets:")


def is_folder(root: Root) -> bool:
    """Whether the root is a folder of files, each of them a document."""
    return isinstance(root, Path) and root.is_dir() and not _is_rows(root)


def is_file(root: Root) -> bool:
    """Whether the root is one file that is one document (or does not exist any more)."""
    return isinstance(root, Path) and not root.is_dir() and not _is_rows(root)


def label(root: Root) -> str:
    """A short name of a root, for use as a prefix of ids."""
    if isinstance(root, str):
        return "stdin" if root == "-" else root
    return normalized(_printable(root.name)) or "root"


def absolute(path: str, index: Path) -> Root:
    """The root that ``relative`` gave ``path`` for, as seen from where the index is now."""
    if is_name(path):
        return path
    name = os.fsdecode(bytes.fromhex(path[len(_BYTES) :])) if path.startswith(_BYTES) else path
    return Path(os.path.normpath(index.resolve() / name))


def relative(root: Root, index: Path) -> str:
    """The path of a root relative to the index's folder, as the database holds it."""
    if isinstance(root, str):
        return root
    path = os.path.relpath(root, index.resolve())
    return path if path == _printable(path) else _BYTES + os.fsencode(path).hex()


def located(index: Path) -> Path:
    """Where an index is: the links on the way to it resolved, but not one in its own place."""
    path = _without_dots(index)
    return path.parent.resolve() / path.name


def canonical(root: Root, index: Path) -> Root:
    """The root as ``absolute`` gives it: absolute, and a link still a link, so that it is followed each time.

    Links in the path to the folder that holds both are resolved, so that root and index can move together.
    """
    if isinstance(root, str):
        return root
    path = _without_dots(root)
    home = index.resolve()
    for parent in (path, *path.parents):
        real = parent.resolve()
        if home.is_relative_to(real):
            return real / path.relative_to(parent)
    return path


def overlap(root: Root, other: Root) -> bool:
    """Whether one of two folders or files is inside the other."""
    if isinstance(root, str) or isinstance(other, str):
        return False
    one, two = root.resolve(), other.resolve()
    return one in two.parents or two in one.parents


def name_on_disk(name: str) -> str:
    """The inverse of ``gitignore.printable``: the name of a file, by the name of its document in a source."""
    if "\\" not in name:
        return name
    return _ESCAPE.sub(lambda escape: escape[0].encode().decode("unicode_escape"), name)


def _is_rows(path: Path) -> bool:
    from flatcoat.indexing.reading.rows import is_rows  # Heavy, and no part of a search.

    return is_rows(path)


def _printable(name: str) -> str:
    from flatcoat.indexing.reading.gitignore import printable

    return printable(name)


def _without_dots(path: Path) -> Path:
    parts = path.absolute().parts
    if ".." not in parts:
        return Path(*parts)
    last = len(parts) - parts[::-1].index("..")
    return Path(*parts[:last]).resolve().joinpath(*parts[last:])
