"""Sources of packages: fetched once, checked, unpacked, kept in a cache folder.

An archive is opened only when its sha256 is the recorded one. What is fetched and unpacked is not fetched
again, and a run that was cut off goes on where it stopped.
"""

import os
import tarfile
from hashlib import file_digest
from pathlib import Path
from shutil import copyfileobj
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
                _extract(tar, Path(scratch), package=package)
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


def _extract(tar: tarfile.TarFile, folder: Path, *, package: Package) -> None:
    """Write files and folders alone, up to a total size (Python has filters for this from 3.11.4 on)."""
    folder, total = folder.resolve(), 0
    for member in tar:
        place = (folder / member.name).resolve()
        if not place.is_relative_to(folder):
            raise DataError(
                f"{package.file} cannot be unpacked: {member.name!r:.200} leads out of its folder"
            )
        if member.isdir():
            place.mkdir(parents=True, exist_ok=True)
        elif member.isfile() and (data := tar.extractfile(member)):
            total += member.size
            if total > _LARGEST:
                raise DataError(f"{package.file} unpacks to more than {_LARGEST:,} bytes")
            place.parent.mkdir(parents=True, exist_ok=True)
            with data, place.open("wb") as file:
                copyfileobj(data, file)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
