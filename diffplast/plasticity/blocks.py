"""The innermost blocks of matrix products, held in registers, for compiled loops. See products.py.

Each number of a block is a chain of fused multiply-adds over k in order (`tile_block`, `sweep_line`), or a line of such
chains (`dot_block`). How large a block is, differs between processors and changes no chain.
"""

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

# A line is a vector of so many bytes, in one register or several.
LINE = 64

_features = get_host_cpu_features() if numba.config.CPU_FEATURES is None else numba.config.CPU_FEATURES
_WIDE = "+avx512f" in _features  # 32 registers of 64 bytes; elsewhere there are at least 16 of 32 or 32 of 16

# The tile of a result that the registers hold: rows, and lines of columns.
TILE_ROWS, TILE_LINES = 6, 4 if _WIDE else 1

# Rows of b of which `sweep_line` holds a line each.
SWEEP_ROWS = 8 if _WIDE else 4

# The dot products that the registers hold: a square of them, or a row where a has a single one.
DOT_SQUARE = 4 if _WIDE else 2
DOT_ROW = 2 * DOT_SQUARE


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
def tile_block(typingctx, a, a_at, a_row, a_k, b, b_at, depth, out, out_at, out_row, begin):
    """out's tile += a's rows (at a_at, steps a_row between rows and a_k between columns) times a panel of b.

    The panel (depth, columns of a tile) begins at b_at. If `begin`, the tile's own numbers count as 0.
    More than eight parameters: each matrix has its place and step, as numbers, which LLVM keeps in registers.
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
def sweep_line(typingctx, a, a_at, a_row, rows, b, b_at, b_row, out, out_at, out_row, kept, depth):
    """A line of columns of out += columns of a times `depth` rows of b, for `rows` rows; the first `kept` stay.

    depth: a literal. More than eight parameters: as of `tile_block`.
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
def dot_block(typingctx, a, a_at, a_row, b, b_at, b_row, depth, out, out_at, out_row, add, rows, columns):
    """out's block (+)= products of `rows` rows of a and `columns` rows of b, of `depth` numbers each, a line or more.

    rows, columns: literals. More than eight parameters: as of `tile_block`.
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
