"""Immutable ``.npy`` files, written block by block: no array need be whole in memory to reach the disk."""

import hashlib
import os
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np


class WrittenFile(NamedTuple):
    """One file of an index as the database records it."""

    name: str
    bytes: int
    sha256: str


class ArrayFile:
    """A new ``.npy`` file whose shape is known before its contents; ``close`` makes it durable."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self._path, self._dtype = path, dtype
        self._sum = hashlib.sha256()
        self._bytes = 0
        header = BytesIO()
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
        self._wanted = header.tell() + int(np.prod(shape)) * dtype.itemsize
        self._file = path.open("xb", buffering=0)
        self._write(memoryview(header.getvalue()))

    def append(self, array: np.ndarray) -> None:
        """Write the next rows."""
        self._write(np.ascontiguousarray(array, self._dtype).reshape(-1).view(np.uint8).data)

    def close(self) -> WrittenFile:
        """Flush to the disk; the file counts once the database names it."""
        assert self._bytes == self._wanted, f"{self._path} got {self._bytes} bytes of {self._wanted}"
        os.fsync(self._file.fileno())
        self._file.close()
        return WrittenFile(self._path.name, self._bytes, self._sum.hexdigest())

    def abandon(self) -> None:
        """Close the file as it is, for a sweep to delete."""
        self._file.close()

    def _write(self, data: memoryview) -> None:
        self._sum.update(data)
        self._bytes += len(data)
        while data:
            data = data[self._file.write(data) :]


def write_array(path: Path, array: np.ndarray) -> WrittenFile:
    """Write a whole array."""
    file = ArrayFile(path, array.shape, array.dtype)
    try:
        file.append(array)
        return file.close()
    finally:
        file.abandon()


def seal(path: Path) -> WrittenFile:
    """Make durable a file that something else wrote."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
    return WrittenFile(path.name, path.stat().st_size, checksum(path))


def checksum(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
