"""Inner products of bytes: the one matrix product of PLAID, eight rows by a panel of 32 columns at a time.

Rows are uint8, value + 128; columns are int8, packed four components of 32 columns after another, as the
instruction VPDPBUSD of AVX-512 VNNI reads them. Elsewhere plain loops compute the same.
Axes: R rows, D width (a multiple of 4), C columns, P panels, K centroids.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import int32, njit, types
from numba.core import errors
from numba.extending import intrinsic
from numba.np import arrayobj

ROWS = 8
COLUMNS = 32
_TILE = ROWS * COLUMNS
_LANES = 16
_ROWS_AT_ONCE = 32  # with their best products they leave room for one panel in the first-level cache
_LOWEST = int32(-(2**31) + 1)

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
"""How every kernel here is compiled: other threads run meanwhile, and the next process finds it compiled."""


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised array that starts a cache line, so that no vector load crosses two."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def as_rows(bytes_RD: np.ndarray) -> np.ndarray:
    """int8 rows as the products take them: value + 128, padded to whole tiles of eight."""
    rows_RD = aligned((-(-len(bytes_RD) // ROWS) * ROWS, bytes_RD.shape[1]), np.uint8)
    rows_RD[: len(bytes_RD)] = bytes_RD.view(np.uint8) ^ 128
    rows_RD[len(bytes_RD) :] = 128
    return rows_RD


class Columns:
    """int8 columns in panels: ``panels`` flat, ``starts`` int32 takes the rows' 128 out again."""

    def __init__(self, bytes_CD: np.ndarray) -> None:
        self.count, width = bytes_CD.shape
        padded_CD = np.zeros((-(-self.count // COLUMNS) * COLUMNS, width), np.int8)
        padded_CD[: self.count] = bytes_CD
        by_group = padded_CD.reshape(-1, COLUMNS, width // 4, 4).transpose(0, 2, 1, 3)
        self.panels = aligned((padded_CD.size,), np.int8)
        self.panels[:] = by_group.ravel()
        self.starts = aligned((len(padded_CD),), np.int32)
        self.starts[:] = -128 * padded_CD.sum(axis=1, dtype=np.int32)
        self.starts[self.count :] = _LOWEST  # Padding is never the nearest.


def has_vnni() -> bool:
    """Whether this processor multiplies bytes in one instruction."""
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512vnni") and features.get("avx512bw"))


def _unpack(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return arrayobj.make_array(kind)(context, builder, value) if isinstance(kind, types.Array) else value


@intrinsic
def _vnni_tile(typing: Any, rows: Any, row: Any, panels: Any, starts: Any, panel: Any, out: Any) -> Any:
    signature = types.void(rows, row, panels, starts, panel, out)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [_unpack(context, builder, *pair) for pair in zip(signature.args, values, strict=True)]
        _build_tile(builder, *arrays)
        return context.get_dummy_value()

    if not all(isinstance(array, types.Array) and array.layout == "C" for array in (rows, panels, starts)):
        raise errors.TypingError("contiguous arrays are needed")
    return signature, generate


def _build_tile(builder: Any, rows: Any, row: Any, panels: Any, starts: Any, panel: Any, out: Any) -> None:
    """Eight rows by two vectors of columns, all sixteen sums in registers over one loop down the width."""
    byte, word, size = ir.IntType(8), ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(word, _LANES)
    width = builder.extract_value(rows.shape, 1)
    vectors = COLUMNS // _LANES

    def at(array: Any, kind: Any, index: Any, stored: Any) -> Any:
        base = builder.bitcast(array.data, kind.as_pointer())
        return builder.bitcast(builder.gep(base, [index]), stored.as_pointer())

    def load(array: Any, kind: Any, index: Any, stored: Any) -> Any:
        return builder.load(at(array, kind, index, stored), align=1)

    first = builder.mul(panel, size(COLUMNS))
    begin = [load(starts, word, builder.add(first, size(_LANES * v)), vector) for v in range(vectors)]
    before = builder.block
    loop, done = builder.append_basic_block("down"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    column = builder.phi(size)
    column.add_incoming(size(0), before)
    sums = [[builder.phi(vector) for _ in range(vectors)] for _ in range(ROWS)]
    where = builder.mul(builder.add(builder.mul(panel, width), column), size(COLUMNS))
    right = [load(panels, byte, builder.add(where, size(4 * _LANES * v)), vector) for v in range(vectors)]
    multiply = builder.module.declare_intrinsic(
        "llvm.x86.avx512.vpdpbusd.512", (), ir.FunctionType(vector, [vector] * 3)
    )
    undefined, first_lane = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0] * _LANES)
    following = builder.add(column, size(4))
    column.add_incoming(following, loop)
    for r in range(ROWS):
        place = builder.add(builder.mul(builder.add(row, size(r)), width), column)
        lane = builder.insert_element(undefined, load(rows, byte, place, word), word(0))
        left = builder.shuffle_vector(lane, undefined, first_lane)
        for v in range(vectors):
            sums[r][v].add_incoming(begin[v], before)
            sums[r][v].add_incoming(builder.call(multiply, [sums[r][v], left, right[v]]), loop)
    totals = [[total.incomings[1][0] for total in row_sums] for row_sums in sums]
    builder.cbranch(builder.icmp_signed("<", following, width), loop, done)
    builder.position_at_end(done)
    for r in range(ROWS):
        for v in range(vectors):
            index = size(COLUMNS * r + _LANES * v)
            builder.store(totals[r][v], at(out, word, index, vector), align=1)


@intrinsic
def _largest(typing: Any, codes: Any, first: Any, last: Any, table: Any, out: Any) -> Any:
    """out[c] = the largest table[codes[t], c] (uint8 [32]) for t from ``first`` to before ``last``.

    Plain loops would write the largest so far to memory and back for every t.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [_unpack(context, builder, *pair) for pair in zip(signature.args, values, strict=True)]
        _build_largest(builder, *arrays)
        return context.get_dummy_value()

    return types.void(codes, first, last, table, out), generate


def _build_largest(builder: Any, codes: Any, first: Any, last: Any, table: Any, out: Any) -> None:
    byte, size = ir.IntType(8), ir.IntType(64)
    vector = ir.VectorType(byte, COLUMNS)
    none = ir.Constant(vector, [0] * COLUMNS)
    before, loop = builder.block, builder.append_basic_block("tokens")
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
    builder.position_at_end(loop)
    t, best = builder.phi(size), builder.phi(vector)
    code = builder.zext(builder.load(builder.gep(codes.data, [t])), size)
    place = builder.gep(table.data, [builder.mul(code, size(COLUMNS))])
    row = builder.load(builder.bitcast(place, vector.as_pointer()), align=1)
    larger = builder.select(builder.icmp_unsigned(">", row, best), row, best)
    following = builder.add(t, size(1))
    for value, start, then in ((t, first, following), (best, none, larger)):
        value.add_incoming(start, before)
        value.add_incoming(then, loop)
    builder.cbranch(builder.icmp_signed("<", following, last), loop, done)
    builder.position_at_end(done)
    found = builder.phi(vector)
    found.add_incoming(none, before)
    found.add_incoming(larger, loop)
    builder.store(found, builder.bitcast(out.data, vector.as_pointer()), align=1)


largest: Any = _largest


@njit(**OPTIONS)
def plain_tile(rows_RD, row, panels, starts, panel, out):
    """What the tile means: out[r, c] = starts[c] + rows[row + r] . column c of the panel (int32 [8 x 32])."""
    width = rows_RD.shape[1]
    first = panel * width * COLUMNS
    for r in range(ROWS):
        for c in range(COLUMNS):
            out[COLUMNS * r + c] = starts[panel * COLUMNS + c]
        for group in range(width // 4):
            at = first + group * 4 * COLUMNS
            for c in range(COLUMNS):
                total = int32(0)
                for i in range(4):
                    total += int32(rows_RD[row + r, 4 * group + i]) * int32(panels[at + 4 * c + i])
                out[COLUMNS * r + c] += total


tile: Any = _vnni_tile if has_vnni() else plain_tile
"""The products of eight rows and one panel, by the fastest means of this processor."""


@njit(**OPTIONS)
def nearest(rows_RD, count, panels, starts, found):
    """``found[r]`` (any integer): the column whose product with row r is largest, for the first ``count``."""
    width = rows_RD.shape[1]
    out = np.empty(_TILE, np.int32)
    best = np.empty((_ROWS_AT_ONCE // ROWS, _TILE), np.int32)
    panel_of = np.empty((_ROWS_AT_ONCE // ROWS, _TILE), np.int32)
    for first in range(0, count, _ROWS_AT_ONCE):
        tiles = min(_ROWS_AT_ONCE, rows_RD.shape[0] - first) // ROWS
        best[:] = _LOWEST
        panel_of[:] = 0
        for panel in range(len(panels) // (width * COLUMNS)):
            for t in range(tiles):
                tile(rows_RD, first + t * ROWS, panels, starts, panel, out)
                best_T, panel_T = best[t], panel_of[t]
                for c in range(_TILE):
                    better = out[c] > best_T[c]
                    best_T[c] = out[c] if better else best_T[c]
                    panel_T[c] = int32(panel) if better else panel_T[c]
        for r in range(first, min(first + tiles * ROWS, count)):
            t, at = (r - first) // ROWS, (r - first) % ROWS * COLUMNS
            column = 0
            for c in range(1, COLUMNS):
                if best[t, at + c] > best[t, at + column]:
                    column = c
            found[r] = panel_of[t, at + column] * COLUMNS + column
