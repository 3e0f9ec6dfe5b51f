"""A copy of an index that can be written without touching the original; unchanged files take no room."""

import os
import shutil
import sqlite3
from pathlib import Path

from flatcoat.errors import StorageError

from . import schema
from .verify import copy_database


def copy_index(connection: sqlite3.Connection, index: Path, folder: Path) -> None:
    """Copy the index at ``index``, as ``connection`` sees it, to ``folder``, which holds nothing else.

    Files of segments are never changed once written, so that hard links do; where the file system has none
    they are copied. StorageError where one is missing or there is no room.
    """
    try:
        (folder / schema.SEGMENTS).mkdir(parents=True, exist_ok=True)
        (folder / schema.DATABASE).unlink(missing_ok=True)
        copy_database(connection, folder / schema.DATABASE)
        for name in schema.file_names(connection):
            _link(index / schema.SEGMENTS / name, folder / schema.SEGMENTS / name)
    except OSError as error:
        raise StorageError(f"index {index} cannot be copied to {folder}: {error}") from error


def _link(file: Path, copy: Path) -> None:
    if copy.exists():
        return
    try:
        os.link(file, copy, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:  # Another file system, or one without hard links.
        shutil.copyfile(file, copy, follow_symlinks=False)
