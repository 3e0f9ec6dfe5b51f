"""Byte products against numpy: the vector instruction and the plain loops alike."""

import numpy as np
import pytest
from numba import njit

from flatcoat.indexing.plaid.int8_matmul import (
    COLUMNS,
    ROWS,
    Columns,
    aligned,
    as_rows,
    has_vnni,
    largest,
    nearest,
    plain_tile,
    tile,
)


def bytes_of(seed: int, count: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, (count, width), dtype=np.int8)


@njit
def _tile(rows, row, panels, starts, panel, out):
    tile(rows, row, panels, starts, panel, out)


@njit
def _largest(codes, first, last, table, out):
    largest(codes, first, last, table, out)


@pytest.mark.parametrize("multiply", [_tile, plain_tile])
@pytest.mark.parametrize("width", [4, 8, 40, 128])
def test_a_tile_is_eight_rows_times_a_panel(multiply, width: int) -> None:
    left, right = bytes_of(1, 21, width), bytes_of(2, 2 * COLUMNS, width)
    rows, columns, out = as_rows(left), Columns(right), np.empty(ROWS * COLUMNS, np.int32)
    expected = left[8:16].astype(np.int32) @ right[COLUMNS:].T.astype(np.int32)
    multiply(rows, 8, columns.panels, columns.starts, 1, out)
    assert np.array_equal(out.reshape(ROWS, COLUMNS), expected)


def test_this_processor_was_asked() -> None:
    assert has_vnni() == (tile is not plain_tile)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (7, 31), (64, 32), (100, 333)])
def test_nearest_is_the_largest_product(count: int, columns: int) -> None:
    left, right = bytes_of(3, count, 24), bytes_of(4, columns, 24)
    packed, found = Columns(right), np.empty(count, np.int32)
    nearest(as_rows(left), count, packed.panels, packed.starts, found)
    products = left.astype(np.int32) @ right.T.astype(np.int32)
    assert np.array_equal(products[np.arange(count), found], products.max(axis=1))


@pytest.mark.parametrize("last", [0, 1, 50])
def test_largest_goes_over_the_coded_rows(last: int) -> None:
    random = np.random.default_rng(5)
    table = random.integers(0, 256, (40, COLUMNS), dtype=np.uint8)
    codes, out = random.integers(0, 40, 50).astype(np.uint16), np.full(COLUMNS, 7, np.uint8)
    _largest(codes, 0, last, table, out)
    assert np.array_equal(out, table[codes[:last]].max(axis=0, initial=0))


def test_aligned_arrays_start_a_cache_line() -> None:
    array = aligned((3, 5), np.float32)
    assert array.shape == (3, 5)
    assert array.ctypes.data % 64 == 0
