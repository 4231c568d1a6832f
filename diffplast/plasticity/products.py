"""Matrix products whose bits depend on neither the number of threads nor the processor. CPU, float32 and float64.

Every number of a result is computed whole by one thread, as a chain of fused multiply-adds over k in order
(`tile_block`, `sweep_line`), or as a line of such chains, k = 0, 16, ..., k = 1, 17, ... and so on, whose ends are
added as a tree (`dot_block`). Which of the two, depends on the shape alone. The blocking, which is free to differ
between processors, changes no chain.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit

from .blocks import DOT_ROW, DOT_SQUARE, LINE, SWEEP_ROWS, TILE_LINES, TILE_ROWS, dot_block, sweep_line, tile_block
from .jit import kernel
from .threads import Team, run_team

# Rows of b packed at a time, so that a panel of them, as wide as a tile, fits into the first-level cache; and bytes of
# such panels side by side, which stay in the second level while a's rows pass by.
DEPTH, PACKED_BYTES = 128, 2**19

# Rows of a up to which b is read in place, once, rather than packed.
FEW_ROWS = 64

# Multiply-adds for which it pays to wake another thread.
WORTH_A_THREAD = 2**19

# Threads share out columns of so many numbers: a line of the smallest.
COLUMNS = 16

# Compiles what is large and called from loops; in its place each time it would take twice as long to compile.
_part = njit(nogil=True, error_model="numpy")


@_part
def _sweep_columns(a, b, out, add, low, high):
    """Columns low..high of out (+)= a b, for few rows of a: b is read once, in order."""
    rows, depth = a.shape
    n, lanes = b.shape[1], LINE // b.itemsize
    lines = -(-(high - low) // lanes)
    width = (lines + (5 - lines) % 64) * lanes  # rows 5 cache lines apart within a page: no two of them share a set
    sums = np.empty((rows, width), out.dtype)
    for i in range(rows):
        for j in range(high - low):
            sums[i, j] = out[i, low + j] if add else 0
    swept = depth // SWEEP_ROWS * SWEEP_ROWS
    for k in range(0, swept, SWEEP_ROWS):
        for j in range(low, high, lanes):
            at = min(j, high - lanes)  # the last line begins earlier, where it is not full
            sweep_line(a, k, depth, rows, b, k * n + at, n, sums, at - low, width, j - at, SWEEP_ROWS)
    for k in range(swept, depth):
        for j in range(low, high, lanes):
            at = min(j, high - lanes)
            sweep_line(a, k, depth, rows, b, k * n + at, n, sums, at - low, width, j - at, 1)
    for i in range(rows):
        for j in range(high - low):
            out[i, low + j] = sums[i, j]


@_part
def _dot_columns(a, b, out, add, low, high):
    """Columns low..high of out (+)= a b^T, for few rows of a: b is read once, in order."""
    rows, depth = a.shape
    n = out.shape[1]
    squares = rows // DOT_SQUARE * DOT_SQUARE
    full = low + (high - low) // DOT_ROW * DOT_ROW
    for j in range(low, full, DOT_ROW):
        for i in range(0, squares, DOT_SQUARE):
            for c in range(j, j + DOT_ROW, DOT_SQUARE):
                at, to = c * depth, i * n + c
                dot_block(a, i * depth, depth, b, at, depth, depth, out, to, n, add, DOT_SQUARE, DOT_SQUARE)
        for i in range(squares, rows):
            dot_block(a, i * depth, depth, b, j * depth, depth, depth, out, i * n + j, n, add, 1, DOT_ROW)
    for j in range(full, high):
        for i in range(rows):
            dot_block(a, i * depth, depth, b, j * depth, depth, depth, out, i * n + j, n, add, 1, 1)


@_part
def _tile_rows(a, a_turned, b, b_turned, out, add, low, high):
    """Rows low..high of out (+)= a b, of which a_turned and b_turned say that the transposed matrix is given."""
    n = out.shape[1]
    depth = a.shape[0] if a_turned else a.shape[1]
    a_row, a_k = (1, a.shape[1]) if a_turned else (a.shape[1], 1)
    width = TILE_LINES * LINE // out.itemsize
    longest = min(DEPTH, depth)
    held = min(-(-n // width), max(1, PACKED_BYTES // (longest * width * out.itemsize)))  # panels packed at a time
    panels = np.empty(held * longest * width, out.dtype)
    edge = np.zeros((TILE_ROWS, DEPTH), out.dtype)
    tile = np.zeros((TILE_ROWS, width), out.dtype)
    flat_a = a.reshape(-1)
    for begin in range(0, depth, DEPTH):
        length = min(DEPTH, depth - begin)
        fresh = begin == 0 and not add
        for first in range(0, n, held * width):
            last = min(n, first + held * width)
            for j in range(first, last, width):
                _pack(b, b_turned, begin, length, j, min(width, n - j), width, panels[(j - first) * length :])
            for i in range(low, high, TILE_ROWS):
                rows = min(TILE_ROWS, high - i)
                at = begin * a_k + i * a_row
                if rows < TILE_ROWS or n % width > 0:
                    for r in range(rows):
                        for k in range(length):
                            edge[r, k] = flat_a[at + r * a_row + k * a_k]
                for j in range(first, last, width):
                    columns, panel = min(width, n - j), (j - first) * length
                    if rows == TILE_ROWS and columns == width:
                        tile_block(a, at, a_row, a_k, panels, panel, length, out, i * n + j, n, fresh)
                    else:
                        for r in range(rows):
                            for c in range(columns):
                                tile[r, c] = out[i + r, j + c]
                        tile_block(edge, 0, DEPTH, 1, panels, panel, length, tile, 0, width, fresh)
                        for r in range(rows):
                            for c in range(columns):
                                out[i + r, j + c] = tile[r, c]


@_part
def _pack(b, b_turned, begin, length, j, columns, width, panel):
    """The panel <- rows begin.., `length` of them, of b's columns j.., and 0 beyond `columns` of them."""
    step = b.shape[1]
    for k in range(length if columns < width else 0):
        for c in range(columns, width):
            panel[k * width + c] = 0
    flat = b.reshape(-1)
    if b_turned:
        for c in range(columns):
            at = (j + c) * step + begin
            for k in range(length):
                panel[k * width + c] = flat[at + k]
    else:
        for k in range(length):
            at, row = (begin + k) * step + j, k * width
            for c in range(columns):
                panel[row + c] = flat[at + c]


SWEEP, DOTS, TILES = 0, 1, 2


class Share(NamedTuple):
    """What a member of a team has of a product, computed in one of the forms SWEEP, DOTS, TILES, see `form_of`."""

    form: int
    rank: int
    size: int


@_part
def part_of(share, shape):
    """The part of a result of this shape that a member computes: row_low, row_high, column_low, column_high."""
    rows, columns = shape
    if share.form == TILES:
        blocks = -(-rows // TILE_ROWS)
        low, high = blocks * share.rank // share.size, blocks * (share.rank + 1) // share.size
        return min(rows, low * TILE_ROWS), min(rows, high * TILE_ROWS), 0, columns
    blocks = columns // COLUMNS  # the last member takes the rest too
    low, high = blocks * share.rank // share.size * COLUMNS, blocks * (share.rank + 1) // share.size * COLUMNS
    return 0, rows, low, columns if share.rank == share.size - 1 else high


@_part
def multiply(share, a, a_turned, b, b_turned, out, add):
    """A member's part of out = a b, or of out += a b; "turned" says that the transpose is given. For compiled loops."""
    row_low, row_high, column_low, column_high = part_of(share, out.shape)
    if share.form == TILES:
        _tile_rows(a, a_turned, b, b_turned, out, add, row_low, row_high)
    elif share.form == SWEEP:
        _sweep_columns(a, b, out, add, column_low, column_high)
    else:
        _dot_columns(a, b, out, add, column_low, column_high)


_multiply = kernel(multiply.py_func)


def form_of(rows, depth, columns, b_turned):
    """The form for such a product: SWEEP and DOTS, for few rows, read b once, in order, and take no turned a."""
    if rows > FEW_ROWS or (depth if b_turned else columns) < COLUMNS:
        return TILES
    return DOTS if b_turned else SWEEP


def team_size(rows, depth, columns):
    """How many of torch's threads are worth waking for such a product."""
    return max(1, min(torch.get_num_threads(), rows * depth * columns // WORTH_A_THREAD))


def share_out(rows, depth, columns, b_turned, loop):
    """Call loop(team, form) in a thread for each member of a team, for a loop over products of such a shape."""
    form, size = form_of(rows, depth, columns, b_turned), team_size(rows, depth, columns)
    counter = np.zeros(1, np.int64)
    run_team(size, lambda rank: loop(Team(0, 1, size, rank, counter), form), counter)


def _contiguous(matrix):
    """The matrix or its transpose, C-contiguous, and whether it is the transpose; a copy where neither is."""
    if matrix.flags.c_contiguous:
        return matrix, False
    return (matrix.T, True) if matrix.T.flags.c_contiguous else (np.ascontiguousarray(matrix), False)


def product(a, b, out=None, add=False):
    """Multiply two matrices: out = a b, or out += a b.

    The threads are torch's (`torch.set_num_threads`). Transposed arrays such as `b.T` are read in place.

    Args:
        a: (M, K) array, float32 or float64.
        b: (K, N) array of the same dtype.
        out: C-contiguous (M, N) array of the same dtype, which shares no memory with a or b; None: a new one.
        add: whether the product is added to what `out` holds.

    Returns:
        out.

    Raises:
        ValueError: shapes or dtypes do not fit, or `out` is not C-contiguous, or is missing where `add` needs it.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"product: expected shapes (M, K) and (K, N), got {a.shape} and {b.shape}")
    if a.dtype != b.dtype or a.dtype not in (np.float32, np.float64):
        raise ValueError(f"product: expected two arrays of float32 or two of float64, got {a.dtype} and {b.dtype}")
    rows, depth, n = *a.shape, b.shape[1]
    if out is None:
        if add:
            raise ValueError("product: nothing to add to, out is missing")
        out = np.empty((rows, n), a.dtype)
    elif out.shape != (rows, n) or out.dtype != a.dtype or not out.flags.c_contiguous:
        raise ValueError(f"product: out is to be C-contiguous, of shape {(rows, n)} and {a.dtype}")
    if depth == 0 and not add:
        out[:] = 0
    if 0 in (rows, depth, n):
        return out
    a, a_turned = _contiguous(a)
    b, b_turned = _contiguous(b)
    if a_turned and form_of(rows, depth, n, b_turned) != TILES:
        a, a_turned = np.ascontiguousarray(a.T), False

    def member(team, form):
        _multiply(Share(form, team.rank, team.size), a, a_turned, b, b_turned, out, add)

    share_out(rows, depth, n, b_turned, member)
    return out
