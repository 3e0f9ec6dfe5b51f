"""Segments: vectors at rest in immutable ``.npy`` files, written once, fsynced, memory-mapped when read.

A segment holds the vectors themselves, in float16 (half the disk and page cache of float32, for an error of
0.05 % per component, far below the difference between two hits), or token vectors as a codec encoded them:

    000012.values.npy .offsets.npy                                              no offsets for dense vectors
    000012.codes.npy .residuals.npy .scales.npy .offsets.npy .lists.npy .list_offsets.npy

Segments are never changed. Vectors of deleted passages stay in them as tombstones until a segment merge;
files that the database does not name are orphans, which ``sweep`` deletes.

Axes: T tokens, D width, B bytes of a packed residual.
"""

import mmap
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from flatcoat.atomic_files import sync_folder
from flatcoat.errors import StorageError, UsageError

from .array_checks import damaged, require_array, require_offsets
from .array_files import ArrayFile, WrittenFile, open_array, write_array
from .vectors import CodedTokens, TokenVectors, Vectors

MOST_PASSAGES = 1 << 16
"""Passages per segment at most: its inverted lists name a passage in two bytes."""

LISTS_FROM_TOKENS = 1 << 20
"""Tokens from which a segment has inverted lists: a scan of fewer codes is as fast."""

FILE_NAME = re.compile(r"\d{6,18}\.([a-z_]+\.np[yz]|faiss)", re.ASCII)
"""Name of every file that flatcoat writes beside the database; the part after the number is the kind."""

_MAP_FROM_BYTES = 1 << 20  # a mapping holds a file descriptor: many small segments are read instead
_LAYOUT = {
    "values": (np.float16, 2),
    "codes": (np.uint16, 1),
    "residuals": (np.uint8, 2),
    "scales": (np.uint8, 2),
    "offsets": (np.int64, 1),
    "lists": (np.uint16, 1),
    "list_offsets": (np.uint32, 1),
}
"""Dtype and number of axes of each part of a segment."""


@dataclass(frozen=True)
class CodedSegment:
    """Encoded token vectors; large segments have inverted lists, as ``inverted_lists`` makes them."""

    tokens: CodedTokens
    lists: np.ndarray | None = None
    list_offsets: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)


Segment: TypeAlias = Vectors | CodedSegment
Stored: TypeAlias = np.ndarray | TokenVectors | CodedTokens
"""The contents of a segment: float16 vectors, dense or one per token, or encoded token vectors."""
ListBuilder: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""``Codec.inverted_lists``: from codes and offsets of tokens to inverted lists and their ends."""


def as_stored(vectors: Vectors) -> Vectors:
    """``vectors`` in float16; UsageError where a component is NaN, infinite or beyond float16.

    >>> as_stored(np.array([[0.1, 2.0]])).dtype
    dtype('float16')
    """
    values = vectors.values_TD if isinstance(vectors, TokenVectors) else vectors
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    finite = np.isfinite(half).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise UsageError(f"vector {row} holds NaN, infinity or a number beyond float16 (65504)")
    return TokenVectors(half, vectors.offsets.astype(np.int64)) if isinstance(vectors, TokenVectors) else half


def take(stored: Stored, positions: np.ndarray) -> Stored:
    """A copy of the passages at ``positions`` (int64)."""
    if isinstance(stored, np.ndarray):
        return stored[positions]
    starts = stored.offsets[positions]
    sizes = stored.offsets[positions + 1] - starts
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    tokens = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
    if isinstance(stored, TokenVectors):
        return TokenVectors(stored.values_TD[tokens], offsets)
    parts = stored.codes_T[tokens], stored.residuals_TB[tokens], stored.scales_T2[tokens]
    return type(stored)(*parts, offsets)


def write_segment(
    folder: Path, number: int, *, stored: Stored, lists_of: ListBuilder | None = None
) -> list[WrittenFile]:
    """Write and fsync the files of a new segment; they are orphans until the database names them.

    A large segment of encoded vectors gets the inverted lists that ``lists_of`` makes.
    """
    if isinstance(stored, np.ndarray):
        return write_blocks(folder, number, blocks=[stored], vectors=len(stored))
    count = int(stored.offsets[-1])
    return write_blocks(
        folder, number, blocks=[stored], vectors=count, offsets=stored.offsets, lists_of=lists_of
    )


def write_blocks(
    folder: Path,
    number: int,
    *,
    blocks: Iterable[Stored],
    vectors: int,
    offsets: np.ndarray | None = None,
    lists_of: ListBuilder | None = None,
) -> list[WrittenFile]:
    """``write_segment`` block by block (one at least), with ``vectors`` vectors in total.

    ``offsets`` covers the token vectors of all blocks; ``lists_of`` is as in ``write_segment``.
    """
    open_files: dict[str, ArrayFile] = {}
    try:
        for block in blocks:
            for part, array in _parts(block).items():
                if part not in open_files:
                    shape = vectors, *array.shape[1:]
                    open_files[part] = ArrayFile(_path(folder, number, part), shape, dtype=array.dtype)
                open_files[part].append(array)
        written = [file.close() for file in open_files.values()]
    finally:
        for file in open_files.values():
            file.abandon()
    if offsets is not None:
        written.append(write_array(_path(folder, number, "offsets"), offsets))
        if lists_of and vectors >= LISTS_FROM_TOKENS:
            written += _write_lists(folder, number, offsets, lists_of)
    sync_folder(folder)
    return written


def _path(folder: Path, number: int, part: str) -> Path:
    return folder / f"{number:06d}.{part}.npy"


def _parts(stored: Stored) -> dict[str, np.ndarray]:
    if isinstance(stored, np.ndarray):
        return {"values": stored}
    if isinstance(stored, TokenVectors):
        return {"values": stored.values_TD}
    return {"codes": stored.codes_T, "residuals": stored.residuals_TB, "scales": stored.scales_T2}


def _write_lists(folder: Path, number: int, offsets: np.ndarray, lists_of: ListBuilder) -> list[WrittenFile]:
    codes_T = np.load(_path(folder, number, "codes"))
    lists, list_offsets = lists_of(codes_T, offsets)
    return [
        write_array(_path(folder, number, "lists"), lists),
        write_array(_path(folder, number, "list_offsets"), list_offsets),
    ]


def open_segment(folder: Path, sizes: Mapping[str, int]) -> Segment:
    """Map the files of one segment, given their sizes in bytes by name.

    StorageError where a file is missing or truncated, or is no array of the expected dtype and axes, or the
    arrays do not fit together; ``plaid.parts`` checks the codes themselves.
    """
    arrays = {name.split(".")[1]: open_file(folder / name, size) for name, size in sizes.items()}
    for part, array in arrays.items():
        if part not in _LAYOUT:
            raise damaged(f"a segment in {folder}, with a part {part!r},")
        dtype, axes = _LAYOUT[part]
        require_array(f"{part} in {folder}", array, dtype=dtype, shape=(None,) * axes)
    try:
        return _together(arrays)
    except KeyError as error:
        raise damaged(f"a segment in {folder}, of which {error} is missing,") from error


def _together(arrays: dict[str, np.ndarray]) -> Segment:
    if "codes" not in arrays:
        if "offsets" not in arrays:
            return arrays["values"]
        return TokenVectors(arrays["values"], np.array(arrays["offsets"]))
    tokens = CodedTokens(*(arrays[part] for part in ("codes", "residuals", "scales", "offsets")))
    count = len(tokens.codes_T)
    require_offsets("offsets", tokens.offsets, end=count)
    if not count == len(tokens.residuals_TB) == len(tokens.scales_T2) or tokens.scales_T2.shape[1] != 2:
        shapes = tokens.codes_T.shape, tokens.residuals_TB.shape, tokens.scales_T2.shape
        raise damaged(f"a segment whose codes, residuals and scales do not fit together, {shapes},")
    if ("lists" in arrays) != ("list_offsets" in arrays):
        raise damaged("a segment with inverted lists or their ends alone")
    if "lists" in arrays:
        require_offsets("ends of inverted lists", arrays["list_offsets"], end=len(arrays["lists"]))
    return CodedSegment(tokens, arrays.get("lists"), arrays.get("list_offsets"))


def release(segments: Iterable[Segment]) -> None:
    """Release mapped pages from memory; they are read again when needed."""
    for segment in segments:
        values = segment.values_TD if isinstance(segment, TokenVectors) else segment
        if isinstance(values, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            values._mmap.madvise(mmap.MADV_DONTNEED)  # pyright: ignore[reportAttributeAccessIssue]


def require_file(path: Path, size: int) -> Path:
    """``path``; StorageError where it is missing, no plain file, or of another size than was written."""
    advice = "restore it from a backup, or index again"
    try:
        found = path.lstat()
    except FileNotFoundError as error:
        raise StorageError(f"index file {path} is missing: {advice}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"index file {path} is no plain file: an index holds no links or pipes there")
    if found.st_size != size:
        raise StorageError(f"index file {path} has {found.st_size} bytes, {size} were written: {advice}")
    return path


def open_file(path: Path, size: int) -> np.ndarray:
    """Map an array of ``size`` bytes on disk; StorageError where it is missing or is no such file."""
    require_file(path, size)
    try:
        return open_array(path, mapped=size >= _MAP_FROM_BYTES)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"index file {path} cannot be read ({error}): restore it from a backup, or index again"
        ) from error


def sweep(folder: Path, keep: Collection[str]) -> None:
    """Delete orphan files: files of segments and engines that are not in ``keep``."""
    for path in folder.iterdir():
        if FILE_NAME.fullmatch(path.name) and path.name not in keep:
            path.unlink(missing_ok=True)
