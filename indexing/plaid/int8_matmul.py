"""Inner products of bytes: the one matrix product of PLAID, eight rows by a panel of 32 columns at a time.

Rows are uint8, value + 128; columns are int8, packed four components of 32 columns after another, as the
instruction VPDPBUSD of AVX-512 VNNI reads them. Elsewhere plain loops compute the same.

The layout follows from that instruction. It takes two registers of 64 bytes, multiplies each unsigned byte of
the one by the signed byte of the other and adds the products four by four to 16 int32 (lanes) of a third:

    lane c of the sums += row[d] x column_c[d] + ... + row[d + 3] x column_c[d + 3]         c = 0 ... 15

- Four components of a row, one int32, are repeated in all lanes, so a row stays as it is.
- Columns have to stand four components of 16 columns side by side. A panel is 32 columns, two registers:

      panels   column 0: d 0-3 | column 1: d 0-3 | ... | column 31: d 0-3 | column 0: d 4-7 | ...

- One side is unsigned: rows hold value + 128. 128 x the sum of a column is what that adds to each of its
  products, so the sums do not begin at zero but at ``starts``, which takes it out again. Whatever else is to
  be added to all products of a column, such as -|column|^2 / 2 for distances, goes there for nothing.
- A tile is eight rows by a panel: 16 registers of sums, two of columns and one of a row, of the 32 that a
  core has. Each register of columns is loaded once for eight rows, and as no sum waits for another, the time
  that one instruction takes to finish is spent on the next ones.

To change it: ``plain_tile`` says what a tile means, and tests compare the two with each other and with numpy.
``ROWS`` and ``COLUMNS`` may change together with ``_LANES`` = 16 if the registers still suffice; what depends
on the layout are ``Columns`` here and ``kernels.query_bytes``. The intermediate code (LLVM IR) is
written by hand as numba has no such instruction, and LLVM does not find it in plain loops.

Axes: R rows, D width (a multiple of 4), C columns.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import int32, njit, types
from numba.core import errors
from numba.extending import intrinsic
from numba.np import arrayobj

from flatcoat.numba_options import OPTIONS

ROWS = 8
COLUMNS = 32
_TILE = ROWS * COLUMNS
_LANES = 16  # int32 of a register
_ROWS_AT_ONCE = 32  # with their best products they leave room for one panel in the first-level cache
_LOWEST = int32(-(2**31) + 1)


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
        # [panel, column, group of four, component] to [panel, group, column, component]
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


# numba compiles to LLVM's intermediate code (https://llvm.org/docs/LangRef.html), and an ``intrinsic`` is a
# function that writes its own: called once for each kernel that uses it, with numba's types of the arguments
# and a ``builder`` that appends instructions to the kernel. Nothing here runs when the kernel does.


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


_BYTE, _WORD, _SIZE = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_SUMS = ir.VectorType(_WORD, _LANES)  # one register
_VECTORS = COLUMNS // _LANES  # registers of a panel's columns
_INSTRUCTION = "llvm.x86.avx512.vpdpbusd.512"


def _address(builder: Any, array: Any, kind: Any, index: Any, stored: Any) -> Any:
    """Where an array of ``kind`` has element ``index``, as the address of a ``stored``."""
    base = builder.bitcast(array.data, kind.as_pointer())
    return builder.bitcast(builder.gep(base, [index]), stored.as_pointer())


def _load(builder: Any, array: Any, kind: Any, index: Any, stored: Any) -> Any:
    """Read a ``stored`` from there, aligned or not: a caller's array may start anywhere."""
    return builder.load(_address(builder, array, kind, index, stored), align=1)


def _in_all_lanes(builder: Any, word: Any) -> Any:
    """A register of the same int32 everywhere: LLVM makes one broadcast of the two instructions."""
    undefined, first_lane = ir.Constant(_SUMS, ir.Undefined), ir.Constant(_SUMS, [0] * _LANES)
    return builder.shuffle_vector(builder.insert_element(undefined, word, _WORD(0)), undefined, first_lane)


def _build_tile(builder: Any, rows: Any, row: Any, panels: Any, starts: Any, panel: Any, out: Any) -> None:
    """Eight rows by two vectors of columns, all sixteen sums in registers over one loop down the width.

    The block that is there loads where the sums begin; the block "down" adds four components of each row and
    column and jumps to its own beginning; the block "done" stores the sums. Phi nodes are what a loop has of
    variables: their value where it is entered from before, and where it is entered again.
    """
    width = builder.extract_value(rows.shape, 1)
    first = builder.mul(panel, _SIZE(COLUMNS))
    begins = [builder.add(first, _SIZE(_LANES * v)) for v in range(_VECTORS)]
    begin = [_load(builder, starts, _WORD, begins[v], _SUMS) for v in range(_VECTORS)]
    before = builder.block
    loop, done = builder.append_basic_block("down"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    component = builder.phi(_SIZE)
    component.add_incoming(_SIZE(0), before)
    sums = [[builder.phi(_SUMS) for _ in range(_VECTORS)] for _ in range(ROWS)]
    # Ahead of this component stand the panels before, of width x 32 bytes, and 32 bytes for each component.
    ahead = builder.mul(builder.add(builder.mul(panel, width), component), _SIZE(COLUMNS))
    wheres = [builder.add(ahead, _SIZE(4 * _LANES * v)) for v in range(_VECTORS)]
    columns = [_load(builder, panels, _BYTE, wheres[v], _SUMS) for v in range(_VECTORS)]
    multiply = builder.module.declare_intrinsic(_INSTRUCTION, (), ir.FunctionType(_SUMS, [_SUMS] * 3))
    following = builder.add(component, _SIZE(4))
    component.add_incoming(following, loop)
    totals = []
    for r in range(ROWS):
        at = builder.add(builder.mul(builder.add(row, _SIZE(r)), width), component)
        left = _in_all_lanes(builder, _load(builder, rows, _BYTE, at, _WORD))
        for v in range(_VECTORS):
            totals.append(builder.call(multiply, [sums[r][v], left, columns[v]]))
            sums[r][v].add_incoming(begin[v], before)
            sums[r][v].add_incoming(totals[-1], loop)
    builder.cbranch(builder.icmp_signed("<", following, width), loop, done)
    builder.position_at_end(done)
    for place, total in enumerate(totals):  # row by row, as ``out`` is laid out
        builder.store(total, _address(builder, out, _WORD, _SIZE(_LANES * place), _SUMS), align=1)


@intrinsic
def _largest(typing: Any, codes: Any, first: Any, last: Any, table: Any, out: Any) -> Any:
    """out[c] = the largest table[codes[t], c] (uint8 [32]) for t from ``first`` to before ``last``.

    The largest so far stay in one register of 32 bytes over the loop: plain loops would write them to memory
    and back for every t. Zeros where there is no t.
    """

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [_unpack(context, builder, *pair) for pair in zip(signature.args, values, strict=True)]
        _build_largest(builder, *arrays)
        return context.get_dummy_value()

    return types.void(codes, first, last, table, out), generate


def _build_largest(builder: Any, codes: Any, first: Any, last: Any, table: Any, out: Any) -> None:
    vector = ir.VectorType(_BYTE, COLUMNS)
    none = ir.Constant(vector, [0] * COLUMNS)
    before, loop = builder.block, builder.append_basic_block("tokens")
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
    builder.position_at_end(loop)
    t, best = builder.phi(_SIZE), builder.phi(vector)
    code = builder.zext(builder.load(builder.gep(codes.data, [t])), _SIZE)
    place = builder.gep(table.data, [builder.mul(code, _SIZE(COLUMNS))])
    row = builder.load(builder.bitcast(place, vector.as_pointer()), align=1)
    # LLVM makes one unsigned maximum (VPMAXUB) of comparison and selection.
    larger = builder.select(builder.icmp_unsigned(">", row, best), row, best)
    following = builder.add(t, _SIZE(1))
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
    """``found[r]`` (any integer): the column whose product with row r is largest, for the first ``count``.

    Panel by panel over 32 rows: each panel is read from memory once for all of them. Where in a tile a column
    has its largest product so far, and in which panel, are kept for all 32 columns of a panel apart, so that
    the inner loop has no branch; only in the end the best of the 32 is looked for.
    """
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
                best_here, panel_here = best[t], panel_of[t]
                for i in range(_TILE):
                    better = out[i] > best_here[i]
                    best_here[i] = out[i] if better else best_here[i]
                    panel_here[i] = int32(panel) if better else panel_here[i]
        for r in range(first, min(first + tiles * ROWS, count)):
            t, at = (r - first) // ROWS, (r - first) % ROWS * COLUMNS
            column = 0
            for c in range(1, COLUMNS):
                if best[t, at + c] > best[t, at + column]:
                    column = c
            found[r] = panel_of[t, at + column] * COLUMNS + column
