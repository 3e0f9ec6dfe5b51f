"""Sources of packages: fetched once, checked, unpacked, kept in a cache folder.

An archive is opened only when its sha256 is the recorded one. What is fetched and unpacked is not fetched
again, and a run that was cut off goes on where it stopped.
"""

import os
import tarfile
from collections.abc import Callable
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory

from flatcoat.errors import DataError

from .package import Package
from .registries import fetch

_CACHE = "FLATCOAT_CODE_QUESTIONS_CACHE"
_LARGEST = 500_000_000  # bytes unpacked


def source_folder(package: Package, cache: Path) -> Path:
    """The folder of the package's files, fetched and unpacked unless it is in ``cache``.

    Links and devices are left out. Raises NotFoundError where the archive cannot be fetched, DataError where
    it is another one than was recorded or cannot be unpacked.
    """
    folder = cache / "sources" / f"{package.name}-{package.version}-{package.sha256[:8]}"
    if not folder.is_dir():
        _unpack(package, _archive(package, cache), folder)
    return folder


def cache_folder() -> Path:
    """Where archives and sources are kept: ``$FLATCOAT_CODE_QUESTIONS_CACHE``, or the user's cache folder."""
    if chosen := os.environ.get(_CACHE):
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "flatcoat" / "code-questions"


def _archive(package: Package, cache: Path) -> Path:
    """The package's archive in ``cache``, fetched unless it is there with the recorded sha256."""
    archive = cache / "archives" / package.file
    if archive.is_file() and _hash(archive) == package.sha256:
        return archive
    archive.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=archive.parent, prefix=".fetch-") as scratch:
        fetched = fetch(package, Path(scratch))
        if (found := _hash(fetched)) != package.sha256:
            raise DataError(
                f"{package.file}: its sha256 is {found[:12]}..., {package.sha256[:12]}... was recorded; "
                "what was fetched is thrown away"
            )
        fetched.replace(archive)
    return archive


def _unpack(package: Package, archive: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".unpack-") as scratch:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter=_plain_files(package))
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{package.file} cannot be unpacked: {error}") from error
        inner = list(Path(scratch).iterdir())
        if len(inner) != 1 or not inner[0].is_dir():
            raise DataError(f"{package.file} holds {len(inner)} entries at its top; one folder was expected")
        try:
            inner[0].replace(folder)
        except OSError:  # another process was first
            if not folder.is_dir():
                raise


def _plain_files(package: Package) -> Callable[[tarfile.TarInfo, str], tarfile.TarInfo | None]:
    """The ``data`` filter of tarfile, for files and folders alone and up to a total size."""
    total = 0

    def checked(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
        nonlocal total
        if not (member.isfile() or member.isdir()):
            return None
        total += member.size
        if total > _LARGEST:
            raise DataError(f"{package.file} unpacks to more than {_LARGEST:,} bytes")
        return tarfile.data_filter(member, destination)

    return checked


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
