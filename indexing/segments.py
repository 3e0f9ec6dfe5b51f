"""Vectors at rest: immutable ``.npy`` files, written once, fsynced, memory-mapped when read.

Values are float16 for both kinds: half the disk and page cache of float32, for an error of 0.05 % a
component, far under what separates two hits. Scores are computed in float32.
"""

import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import FlatcoatError
from .types import TokenVectors, Vectors

_FILE_NAME = re.compile(r"\d{6,}\.[a-z]+\.npy")
_MAP_FROM_BYTES = 1 << 20  # a mapping holds a file descriptor: many small segments are read instead


class SegmentFile(NamedTuple):
    """One file of a segment as the database records it."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """The live passages of one moment, ordered by segment and position.

    Passage ``i`` is row ``rows[i]`` of the store; its vectors stand at ``positions[i]`` of
    ``segments[segment_of[i]]`` (all three int64 [N]).
    """

    segments: tuple[Vectors, ...]
    rows: np.ndarray
    segment_of: np.ndarray
    positions: np.ndarray
    generation: int = 0

    def __len__(self) -> int:
        return len(self.rows)


def as_stored(vectors: Vectors) -> Vectors:
    """``vectors`` in float16; FlatcoatError where a component is NaN, infinite or beyond float16."""
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    finite = np.isfinite(half).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise FlatcoatError(f"vector {row} holds NaN, infinity or a number beyond float16 (65504)")
    return TokenVectors(half, vectors.offsets.astype(np.int64)) if isinstance(vectors, TokenVectors) else half


def file_names(number: int, kind: str) -> list[str]:
    """The files of segment ``number``, values first."""
    return [f"{number:06d}.{part}.npy" for part in (["values"] if kind == "dense" else ["values", "offsets"])]


def write_segment(folder: Path, number: int, vectors: Vectors) -> list[SegmentFile]:
    """Write and fsync the files of a new segment; they count once the database names them."""
    if isinstance(vectors, TokenVectors):
        names, arrays = file_names(number, "token"), [vectors.values_TD, vectors.offsets]
    else:
        names, arrays = file_names(number, "dense"), [vectors]
    written = [_write(folder / name, array) for name, array in zip(names, arrays, strict=True)]
    sync_folder(folder)
    return written


def _write(path: Path, array: np.ndarray) -> SegmentFile:
    with path.open("xb") as file:
        np.save(file, array)
        file.flush()
        os.fsync(file.fileno())
    return SegmentFile(path.name, path.stat().st_size, checksum(path))


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


def open_segment(folder: Path, sizes: Mapping[str, int]) -> Vectors:
    """Map the values of one segment, given its files' sizes; FlatcoatError where one is missing or cut."""
    arrays = {name.split(".")[1]: _open(folder / name, size) for name, size in sizes.items()}
    if "offsets" not in arrays:
        return arrays["values"]
    return TokenVectors(arrays["values"], np.array(arrays["offsets"]))


def _open(path: Path, size: int) -> np.ndarray:
    advice = "restore it from a backup, or index again"
    if not path.is_file():
        raise FlatcoatError(f"segment file {path} is missing: {advice}")
    if (found := path.stat().st_size) != size:
        raise FlatcoatError(f"segment file {path} has {found} bytes, {size} were written: {advice}")
    try:
        return np.load(path, mmap_mode="r" if size >= _MAP_FROM_BYTES else None)
    except (OSError, ValueError, EOFError) as error:
        raise FlatcoatError(f"segment file {path} cannot be read ({error}): {advice}") from error


def sweep(folder: Path, keep: Collection[str]) -> None:
    """Delete the segment files that the database does not name."""
    for path in folder.iterdir():
        if _FILE_NAME.fullmatch(path.name) and path.name not in keep:
            path.unlink(missing_ok=True)
