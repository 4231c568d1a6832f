"""Matrix products whose bits depend on neither the number of threads nor the processor. CPU, float32 and float64.

Every number of a result is computed whole by one thread, as a chain of fused multiply-adds over k in order (`_tile`,
`_sweep`), or as a line of such chains, k = 0, 16, ..., k = 1, 17, ... and so on, whose ends are added as a tree
(`_dots`). Which of the two, depends on the shape alone. The blocking, which
is free to differ between processors, changes no chain.
"""

from typing import NamedTuple

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic
from torch.autograd.function import once_differentiable

from .jit import kernel
from .threads import Team, run_team

# A line is a vector of so many bytes, in one register or several.
LINE = 64

_features = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
_WIDE = "+avx512f" in _features  # 32 registers of 64 bytes; elsewhere there are at least 16 of 32 or 32 of 16

# The tile of a result that the registers hold: rows, and lines of columns.
TILE_ROWS, TILE_LINES = 6, 4 if _WIDE else 1

# Rows of b of which `_sweep` holds a line each.
SWEEP_ROWS = 8 if _WIDE else 4

# The dot products that the registers hold: a square of them, or a row where a has a single one.
DOT_SQUARE = 4 if _WIDE else 2
DOT_ROW = 2 * DOT_SQUARE

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


class _Builder:
    """What the intrinsics below share: how to work on a line of numbers at a place in an array."""

    def __init__(self, context, builder, kind):
        self.context, self.builder = context, builder
        self.number = context.get_value_type(kind.dtype)
        self.bytes = kind.dtype.bitwidth // 8
        self.lanes = LINE // self.bytes
        self.vector = ir.VectorType(self.number, self.lanes)
        name = f"llvm.fma.v{self.lanes}f{kind.dtype.bitwidth}"
        self._fma = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), name
        )

    def data(self, kind, array):
        return self.context.make_array(kind)(self.context, self.builder, array).data

    def load(self, data, at):
        pointer = self.builder.bitcast(self.builder.gep(data, [at]), self.vector.as_pointer())
        return self.builder.load(pointer, align=self.bytes)

    def store(self, data, at, vector):
        pointer = self.builder.bitcast(self.builder.gep(data, [at]), self.vector.as_pointer())
        self.builder.store(vector, pointer, align=self.bytes)

    def spread(self, value):
        """A line of equal numbers"""
        empty = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        one = self.builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), None))

    def number_at(self, data, at):
        return self.spread(self.builder.load(self.builder.gep(data, [at])))

    def fma(self, a, b, c):
        return self.builder.call(self._fma, [a, b, c])

    def zeros(self):
        return ir.Constant(self.vector, None)

    def integer(self, value):
        return ir.Constant(ir.IntType(64), value)

    def places(self, at, step, count):
        """at, at + step, ...: `count` of them"""
        return [self.builder.add(at, self.builder.mul(step, self.integer(i))) for i in range(count)]

    def first_lanes(self, count):
        """A mask, true for the first `count` numbers of a line"""
        lanes = ir.Constant(ir.VectorType(ir.IntType(64), self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", lanes, self.spread(count))

    def total(self, vector):
        """The sum of a line, whose halves are added until one number is left"""
        width = self.lanes
        while width > 1:
            width //= 2
            empty = ir.Constant(vector.type, ir.Undefined)
            halves = [
                self.builder.shuffle_vector(
                    vector, empty, ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width)))
                )
                for start in (0, width)
            ]
            vector = self.builder.fadd(*halves)
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@intrinsic
def _tile(typingctx, a, a_at, a_row, a_k, b, b_at, depth, out, out_at, out_row, begin):
    """out's tile += a's rows (at a_at, steps a_row between rows and a_k between columns) times a panel of b.

    The panel (depth, columns of a tile) begins at b_at. If `begin`, the tile's own numbers count as 0.
    """

    def codegen(context, builder, signature, args):
        v = _Builder(context, builder, signature.args[0])
        a_data, b_data, out_data = (v.data(signature.args[i], args[i]) for i in (0, 4, 7))
        _, a_at, a_row, a_k, _, b_at, depth, _, out_at, out_row, begin = args
        rows = v.places(out_at, out_row, TILE_ROWS)
        tile = [builder.add(row, v.integer(j * v.lanes)) for row in rows for j in range(TILE_LINES)]
        sums = [cgutils.alloca_once_value(builder, v.zeros()) for _ in tile]
        for place in sums:
            builder.store(v.zeros(), place)
        with builder.if_then(builder.not_(begin)):
            for place, at in zip(sums, tile, strict=True):
                builder.store(v.load(out_data, at), place)
        starts = v.places(a_at, a_row, TILE_ROWS)
        with cgutils.for_range(builder, depth) as loop:
            row = builder.add(b_at, builder.mul(loop.index, v.integer(TILE_LINES * v.lanes)))
            along = builder.mul(loop.index, a_k)
            columns = [v.load(b_data, builder.add(row, v.integer(j * v.lanes))) for j in range(TILE_LINES)]
            for i, start in enumerate(starts):
                value = v.number_at(a_data, builder.add(start, along))
                for j, column in enumerate(columns):
                    place = sums[i * TILE_LINES + j]
                    builder.store(v.fma(value, column, builder.load(place)), place)
        for place, at in zip(sums, tile, strict=True):
            v.store(out_data, at, builder.load(place))
        return context.get_dummy_value()

    integer = types.int64
    return types.void(a, integer, integer, integer, b, integer, integer, out, integer, integer, types.boolean), codegen


@intrinsic(prefer_literal=True)
def _sweep(typingctx, a, a_at, a_row, rows, b, b_at, b_row, out, out_at, out_row, kept, depth):
    """A line of columns of out += columns of a times `depth` rows of b, for `rows` rows; the first `kept` stay.

    depth: a literal.
    """
    literal, depth = depth, depth.literal_value

    def codegen(context, builder, signature, args):
        v = _Builder(context, builder, signature.args[0])
        a_data, b_data, out_data = (v.data(signature.args[i], args[i]) for i in (0, 4, 7))
        _, a_at, a_row, rows, _, b_at, b_row, _, out_at, out_row, kept, _ = args
        held = [v.load(b_data, at) for at in v.places(b_at, b_row, depth)]
        kept = v.first_lanes(kept)
        with cgutils.for_range(builder, rows) as loop:
            out_at = builder.add(out_at, builder.mul(loop.index, out_row))
            start = builder.add(a_at, builder.mul(loop.index, a_row))
            old = value = v.load(out_data, out_at)
            for k, row in enumerate(held):
                value = v.fma(v.number_at(a_data, builder.add(start, v.integer(k))), row, value)
            v.store(out_data, out_at, builder.select(kept, old, value))
        return context.get_dummy_value()

    integer = types.int64
    return types.void(
        a, integer, integer, integer, b, integer, integer, out, integer, integer, integer, literal
    ), codegen


@intrinsic(prefer_literal=True)
def _dots(typingctx, a, a_at, a_row, b, b_at, b_row, depth, out, out_at, out_row, add, rows, columns):
    """out's block (+)= products of `rows` rows of a and `columns` rows of b, of `depth` numbers each, a line or more.

    rows, columns: literals.
    """
    literals, rows, columns = (rows, columns), rows.literal_value, columns.literal_value

    def codegen(context, builder, signature, args):
        v = _Builder(context, builder, signature.args[0])
        a_data, b_data, out_data = (v.data(signature.args[i], args[i]) for i in (0, 3, 7))
        _, a_at, a_row, _, b_at, b_row, depth, _, out_at, out_row, add, _, _ = args
        a_rows, b_rows = v.places(a_at, a_row, rows), v.places(b_at, b_row, columns)
        sums = [cgutils.alloca_once_value(builder, v.zeros()) for _ in range(rows * columns)]
        for place in sums:
            builder.store(v.zeros(), place)

        def accumulate(k, hidden=None):
            def numbers(data, row):
                vector = v.load(data, builder.add(row, k))
                return vector if hidden is None else builder.select(hidden, v.zeros(), vector)

            held = [numbers(b_data, row) for row in b_rows]
            for i, row in enumerate(a_rows):
                value = numbers(a_data, row)
                for j, other in enumerate(held):
                    place = sums[i * columns + j]
                    builder.store(v.fma(value, other, builder.load(place)), place)

        rest = builder.urem(depth, v.integer(v.lanes))
        with cgutils.for_range_slice(builder, v.integer(0), builder.sub(depth, rest), v.integer(v.lanes)) as (k, _):
            accumulate(k)
        with builder.if_then(builder.icmp_signed(">", rest, v.integer(0))):
            accumulate(builder.sub(depth, v.integer(v.lanes)), v.first_lanes(builder.sub(v.integer(v.lanes), rest)))
        for i, row in enumerate(v.places(out_at, out_row, rows)):
            for j in range(columns):
                pointer = builder.gep(out_data, [builder.add(row, v.integer(j))])
                value = v.total(builder.load(sums[i * columns + j]))
                value = builder.select(add, builder.fadd(builder.load(pointer), value), value)
                builder.store(value, pointer)
        return context.get_dummy_value()

    integer = types.int64
    return types.void(
        a, integer, integer, b, integer, integer, integer, out, integer, integer, types.boolean,
        *literals,
    ), codegen  # fmt: skip


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
            _sweep(a, k, depth, rows, b, k * n + at, n, sums, at - low, width, j - at, SWEEP_ROWS)
    for k in range(swept, depth):
        for j in range(low, high, lanes):
            at = min(j, high - lanes)
            _sweep(a, k, depth, rows, b, k * n + at, n, sums, at - low, width, j - at, 1)
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
                _dots(a, i * depth, depth, b, at, depth, depth, out, to, n, add, DOT_SQUARE, DOT_SQUARE)
        for i in range(squares, rows):
            _dots(a, i * depth, depth, b, j * depth, depth, depth, out, i * n + j, n, add, 1, DOT_ROW)
    for j in range(full, high):
        for i in range(rows):
            _dots(a, i * depth, depth, b, j * depth, depth, depth, out, i * n + j, n, add, 1, 1)


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
                _pack(b, b_turned, begin, length, j, min(width, n - j), width, panels, (j - first) * length)
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
                        _tile(a, at, a_row, a_k, panels, panel, length, out, i * n + j, n, fresh)
                    else:
                        for r in range(rows):
                            for c in range(columns):
                                tile[r, c] = out[i + r, j + c]
                        _tile(edge, 0, DEPTH, 1, panels, panel, length, tile, 0, width, fresh)
                        for r in range(rows):
                            for c in range(columns):
                                out[i + r, j + c] = tile[r, c]


@_part
def _pack(b, b_turned, begin, length, j, columns, width, panels, to):
    """The panel at `to` <- rows begin.., `length` of them, of b's columns j.., and 0 beyond `columns` of them."""
    step = b.shape[1]
    for k in range(length if columns < width else 0):
        for c in range(columns, width):
            panels[to + k * width + c] = 0
    flat = b.reshape(-1)
    if b_turned:
        for c in range(columns):
            at = (j + c) * step + begin
            for k in range(length):
                panels[to + k * width + c] = flat[at + k]
    else:
        for k in range(length):
            at, row = (begin + k) * step + j, to + k * width
            for c in range(columns):
                panels[row + c] = flat[at + c]


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


class _MatMul(torch.autograd.Function):
    """`product` of two matrices, and of gradients and matrices."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.from_numpy(product(a.detach().numpy(), b.detach().numpy()))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        a, b = (tensor.detach().numpy() for tensor in ctx.saved_tensors)
        grad = grad.numpy()
        wanted = ctx.needs_input_grad
        return (
            torch.from_numpy(product(grad, b.T)) if wanted[0] else None,
            torch.from_numpy(product(a.T, grad)) if wanted[1] else None,
        )


def matmul(a, b):
    """Multiply tensors a (..., K) and b (K, N), differentiably: (..., N).

    On the CPU in float32 and float64 by `product`; elsewhere by torch, whose order of summation is its own.
    """
    if a.device.type != "cpu" or a.dtype not in (torch.float32, torch.float64):
        return torch.matmul(a, b)
    return _MatMul.apply(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
