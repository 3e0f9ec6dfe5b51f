"""The folder of a collection: of this machine, or a URL that fsspec knows (s3://, gs://, memory://, ...).

Both kinds have the few operations that a collection needs. The only one that must be atomic is ``create``.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from flatcoat.atomic_files import sync_folder
from flatcoat.errors import ConflictError, MissingExtraError, NotFoundError, StorageError, UsageError

_FILE = "file://"


class Folder(Protocol):
    """A folder of files, which are named by their paths below it, with ``/``."""

    @property
    def url(self) -> str:
        """The path or URL of the folder."""
        ...

    @property
    def local(self) -> Path | None:
        """The folder where it is one of this machine, whose files can be mapped; None elsewhere."""
        ...

    def names(self, below: str = "") -> list[str]:
        """The names of the files and folders directly in a folder below, sorted; none where it is not."""
        ...

    def read(self, name: str) -> bytes:
        """The content of a file; NotFoundError where there is none."""
        ...

    def create(self, name: str, content: bytes) -> None:
        """Write a new file, which appears whole; ConflictError where there is one of this name."""
        ...

    def upload(self, file: Path, name: str) -> None:
        """Copy a file of this machine into the folder."""
        ...

    def download(self, name: str, file: Path) -> None:
        """Copy a file to this machine; NotFoundError where there is none."""
        ...

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; what is not there is passed over."""
        ...

    def age(self, name: str) -> float:
        """Seconds since the file was written; 0 where nobody knows."""
        ...


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL.

    >>> is_url("s3://bucket/wiki"), is_url("folder/wiki")
    (True, False)
    """
    return isinstance(path, str) and "://" in path


def folder_at(path: str | Path) -> Folder:
    """The folder at a path or URL, whether it exists or not.

    UsageError for a URL that fsspec does not know, MissingExtraError where its package is not installed.
    """
    if not is_url(path) or str(path).startswith(_FILE):
        return LocalFolder(Path(str(path).removeprefix(_FILE)))
    return UrlFolder(str(path))


class LocalFolder:
    """A folder of this machine.

    >>> import tempfile
    >>> folder = LocalFolder(Path(tempfile.mkdtemp()))
    >>> folder.create("parts/one.txt", b"content")
    >>> folder.names("parts"), folder.read("parts/one.txt")
    (['one.txt'], b'content')
    """

    def __init__(self, path: Path) -> None:
        self.local: Path = path.absolute()

    @property
    def url(self) -> str:
        """Its path."""
        return str(self.local)

    def names(self, below: str = "") -> list[str]:
        """As ``Folder.names``."""
        with self._errors(below):
            try:
                return sorted(entry.name for entry in (self.local / below).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def read(self, name: str) -> bytes:
        """As ``Folder.read``."""
        with self._errors(name):
            return (self.local / name).read_bytes()

    def create(self, name: str, content: bytes) -> None:
        """As ``Folder.create``: a link to the complete file, which fails where the name is taken."""
        path = self.local / name
        with self._errors(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.{uuid4().hex}")
            try:
                with new.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(new, path)
            except FileExistsError:
                raise ConflictError(f"{path} exists already") from None
            finally:
                new.unlink(missing_ok=True)
            sync_folder(path.parent)

    def upload(self, file: Path, name: str) -> None:
        """As ``Folder.upload``; the copy is on disk when this returns."""
        path = self.local / name
        with self._errors(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, path)
            with path.open("rb") as copy:
                os.fsync(copy.fileno())
            sync_folder(path.parent)

    def download(self, name: str, file: Path) -> None:
        """As ``Folder.download``."""
        with self._errors(name):
            shutil.copyfile(self.local / name, file)

    def delete(self, name: str) -> None:
        """As ``Folder.delete``."""
        path = self.local / name
        with self._errors(name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def age(self, name: str) -> float:
        """As ``Folder.age``."""
        with suppress(OSError):
            return max(0.0, time.time() - (self.local / name).stat().st_mtime)
        return 0.0

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.local / name} is not there") from error
        except OSError as error:
            raise StorageError(f"{self.local / name}: {error.strerror or error}") from error


class UrlFolder:
    """A folder that fsspec reads and writes."""

    local: Path | None = None

    def __init__(self, url: str) -> None:
        fsspec = import_module("fsspec")
        try:
            self._files, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingExtraError(f"{url} needs a package of fsspec: {error}") from error
        except ValueError as error:
            raise UsageError(f"{url} is no folder that fsspec knows: {error}") from error
        self.url = url.rstrip("/")
        self._path = path.rstrip("/")

    def names(self, below: str = "") -> list[str]:
        """As ``Folder.names``."""
        with self._errors(below):
            self._files.invalidate_cache()
            try:
                entries = self._files.ls(self._at(below), detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted({str(entry).rstrip("/").rpartition("/")[2] for entry in entries} - {""})

    def read(self, name: str) -> bytes:
        """As ``Folder.read``."""
        with self._errors(name):
            return self._files.cat_file(self._at(name))

    def create(self, name: str, content: bytes) -> None:
        """As ``Folder.create``, where the storage can refuse to overwrite; S3 and Google's do.

        Of other storages fsspec asks whether the file is there, and then writes it: two writers in the same
        moment may not see each other.
        """
        with self._errors(name):
            try:
                self._make_parent(name)
                self._files.pipe_file(self._at(name), content, mode="create")
            except FileExistsError:
                raise ConflictError(f"{self.url}/{name} exists already") from None

    def upload(self, file: Path, name: str) -> None:
        """As ``Folder.upload``."""
        with self._errors(name):
            self._make_parent(name)
            self._files.put_file(str(file), self._at(name))

    def download(self, name: str, file: Path) -> None:
        """As ``Folder.download``."""
        with self._errors(name):
            self._files.get_file(self._at(name), str(file))

    def delete(self, name: str) -> None:
        """As ``Folder.delete``."""
        with self._errors(name), suppress(FileNotFoundError):
            self._files.rm(self._at(name), recursive=True)

    def age(self, name: str) -> float:
        """As ``Folder.age``."""
        try:
            written = self._files.modified(self._at(name))
            return max(0.0, time.time() - written.timestamp())
        except (AttributeError, NotImplementedError, OSError):
            return 0.0

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path

    def _make_parent(self, name: str) -> None:
        with suppress(FileExistsError):
            self._files.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Errors of storages are of many kinds: each has its own library."""
        try:
            yield
        except (ConflictError, NotFoundError):
            raise
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.url}/{name} is not there") from error
        except Exception as error:
            raise StorageError(f"{self.url}/{name}: {error!s:.200}") from error
