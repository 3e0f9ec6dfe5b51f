"""Files and folders that appear whole or not at all: written beside their place, then renamed to it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED = ".new"
"""The suffix of what is being written."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path to write in place of ``path``: ``PATH.new``, which is renamed to it at the end.

    Readers of ``path`` meet the earlier content or all of the new, whenever a crash or power cut comes: the
    content is on disk before the rename, and the rename before the return. A folder may be written too, where
    ``path`` is absent or an empty folder. An exception removes the unfinished file; what a killed process
    leaves, the next write removes. Two writers at a time are for the caller to exclude.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "figures.txt"
    >>> with atomic_write(path) as unfinished:
    ...     _ = unfinished.write_text("42")
    ...     path.exists()
    False
    >>> path.read_text()
    '42'
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    _remove(unfinished)
    try:
        yield unfinished
        _sync(unfinished)
        unfinished.replace(path)
    except BaseException:
        _remove(unfinished)
        raise
    with suppress(PermissionError):  # A folder that may be written to but not listed cannot be opened.
        sync_folder(path.absolute().parent)


def atomic_write_text(path: Path, text: str) -> None:
    """Replace a file's content by ``text`` in UTF-8, as ``atomic_write`` does."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    _sync_one(folder)


def readable_weights(folder: Path) -> None:
    """Give the weights of a checkpoint the permissions of new files; safetensors' are for their owner alone.

    Other checkpoints below the folder stay as they are.
    """
    umask = os.umask(0o022)  # It cannot be read without being set.
    os.umask(umask)
    for file in (*folder.glob("model*.safetensors"), *folder.glob("[0-9]_*/model.safetensors")):
        file.chmod(0o666 & ~umask)


def _sync(path: Path) -> None:
    if path.is_dir():
        for entry in path.rglob("*"):
            _sync_one(entry)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
