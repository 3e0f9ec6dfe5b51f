"""Checks of arrays read from disk: kernels check no bounds, damaged numbers lead beyond an array."""

import numpy as np
from numpy.typing import DTypeLike

from flatcoat.errors import StorageError

_ARRAY = "an array of the index"
_ADVICE = "verify the index, restore it from a backup or index again"


def damaged(what: str, problem: str = "") -> StorageError:
    """The error for a damaged ``what``, with the ``problem`` found and what to do about it."""
    details = f" ({problem})" if problem else ""
    return StorageError(f"{what} is damaged: {_ADVICE}{details}")


def require_array(what: str, array: np.ndarray, *, dtype: DTypeLike, shape: tuple[int | None, ...]) -> None:
    """Raise StorageError unless ``array`` is contiguous, of this type and shape (None: any size)."""
    fits = len(shape) == array.ndim and all(
        expected in (None, size) for expected, size in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits or not array.flags.c_contiguous:
        expected = f"{np.dtype(dtype)} [{', '.join('any' if size is None else str(size) for size in shape)}]"
        raise damaged(_ARRAY, f"{what}: {array.dtype} {list(array.shape)}, {expected} is needed")


def require_offsets(what: str, offsets_N: np.ndarray, *, end: int) -> None:
    """Raise StorageError unless the offsets never fall and run from 0 to ``end``."""
    rising = len(offsets_N) and offsets_N[0] == 0 and offsets_N[-1] == end
    if not rising or (offsets_N[1:] < offsets_N[:-1]).any():
        raise damaged(_ARRAY, f"{what} do not rise from 0 to {end}")


def require_below(what: str, numbers: np.ndarray, *, bound: int) -> None:
    """Raise StorageError unless all of these unsigned numbers are below ``bound``."""
    if len(numbers) and int(numbers.max()) >= bound:
        raise damaged(_ARRAY, f"{what} name {numbers.max()}, there are {bound}")
