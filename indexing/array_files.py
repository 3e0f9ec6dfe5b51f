"""Immutable ``.npy`` files, written block by block: an array need not be in memory as a whole."""

import hashlib
import math
import os
import stat
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np


class WrittenFile(NamedTuple):
    """One file of an index as the database records it."""

    name: str
    bytes: int
    sha256: str


class ArrayFile:
    """A new ``.npy`` file whose shape is known before its contents; ``close`` makes it durable.

    >>> file = ArrayFile(Path("numbers.npy"), (3,), dtype=np.dtype(np.int64))
    >>> file.append(np.arange(2))
    >>> file.append(np.arange(2, 3))
    >>> file.close().bytes
    152
    """

    def __init__(self, path: Path, shape: tuple[int, ...], *, dtype: np.dtype) -> None:
        self._path, self._dtype = path, dtype
        self._sum = hashlib.sha256()
        self._bytes = 0
        header = BytesIO()
        descr = np.lib.format.dtype_to_descr(dtype)
        np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
        self._expected = header.tell() + int(np.prod(shape)) * dtype.itemsize
        self._file = path.open("xb", buffering=0)
        self._write(memoryview(header.getvalue()))

    def append(self, array: np.ndarray) -> None:
        """Write the next rows."""
        self._write(np.ascontiguousarray(array, self._dtype).reshape(-1).view(np.uint8).data)

    def close(self) -> WrittenFile:
        """Flush to the disk; the file is an orphan until the database names it."""
        assert self._bytes == self._expected, f"{self._path} got {self._bytes} bytes of {self._expected}"
        os.fsync(self._file.fileno())
        self._file.close()
        return WrittenFile(self._path.name, self._bytes, self._sum.hexdigest())

    def abandon(self) -> None:
        """Close the file as it is, an orphan for the next sweep to delete."""
        self._file.close()

    def _write(self, data: memoryview) -> None:
        self._sum.update(data)
        self._bytes += len(data)
        while data:
            data = data[self._file.write(data) :]


def write_array(path: Path, array: np.ndarray) -> WrittenFile:
    """Write a whole array."""
    file = ArrayFile(path, array.shape, dtype=array.dtype)
    try:
        file.append(array)
        return file.close()
    finally:
        file.abandon()


def seal(path: Path) -> WrittenFile:
    """Make durable a file that a library wrote."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
    return WrittenFile(path.name, path.stat().st_size, checksum(path))


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading; OSError where ``path`` is a link, a pipe or anything else but a file."""
    # Without O_NONBLOCK opening a pipe would wait for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is no plain file")
    return file


def open_array(path: Path, mapped: bool) -> np.ndarray:
    """The array of a ``.npy`` file that ``ArrayFile`` wrote; OSError or ValueError where it is no such file.

    Shape and dtype must fit the size of the file. Arrays of objects are refused: nothing is unpickled.
    """
    with open_plain(path) as file:
        try:
            np.lib.format.read_magic(file)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        except Exception as error:  # NumPy evaluates a Python literal, whose errors are of many kinds.
            raise ValueError(f"no header of an array: {error!s:.80}") from error
        start, count = file.tell(), math.prod(shape)
        size = os.fstat(file.fileno()).st_size
        if (
            is_fortran
            or dtype.hasobject
            or min(shape, default=0) < 0
            or start + count * dtype.itemsize != size
        ):
            raise ValueError(f"{size} bytes are no array of {dtype} {shape}")
        if mapped and count:
            return np.memmap(file, dtype, "r", start, shape)
        return np.fromfile(file, dtype, count).reshape(shape)


def checksum(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
