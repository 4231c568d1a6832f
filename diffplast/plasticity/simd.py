"""Vectors in registers for numba, and functions of numbers and vectors whose bits depend on no processor.

A `Tile` is `rows` x `columns` vectors of LANES numbers. + - * / work on tiles, whose single row or single column is
repeated where the other has more, and on tiles and numbers. All of it is plain IEEE arithmetic in the order written,
`fma` one rounding for a product and a sum: the width of a processor decides how fast a loop is and nothing else.

Numba's own loops are vectorised only where LLVM proves that arrays do not overlap, which takes a check for each pair
of them before every row, and it cannot keep a block of rows in registers. Offsets count numbers from the start of a
C-contiguous array of any dimension.
"""

import operator

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from .elementary import Value, elementary

LANES = 16


class Tile(types.Type):
    """The numba type of `rows` x `columns` vectors of LANES numbers of one dtype."""

    def __init__(self, dtype, rows, columns):
        self.dtype, self.rows, self.columns = dtype, rows, columns
        super().__init__(f"Tile({dtype}, {rows}, {columns})")


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    """An array of LLVM vectors, row by row; LLVM keeps each in a register, or in several where its own are shorter."""

    def __init__(self, manager, kind):
        vector = ir.VectorType(manager[kind.dtype].get_value_type(), LANES)
        super().__init__(manager, kind, ir.ArrayType(vector, kind.rows * kind.columns))


def _repeated(builder, value):
    """A vector of one number."""
    empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    one = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))


def _places(kind):
    """(place in the array of vectors, row, column) of each vector of a tile."""
    return [(row * kind.columns + column, row, column) for row in range(kind.rows) for column in range(kind.columns)]


def _vector(builder, kind, value, row, column):
    """The vector of a tile at a place, its single row or column repeated; a repeated number is one everywhere."""
    if not isinstance(kind, Tile):
        return value
    index = (row if kind.rows > 1 else 0) * kind.columns + (column if kind.columns > 1 else 0)
    return builder.extract_value(value, index)


def _elementwise(kinds, operation):
    """Signature and code of an operation (builder, *values) -> value, on numbers or on tiles and numbers."""
    tiles = [kind for kind in kinds if isinstance(kind, Tile)]
    if not tiles:
        return kinds[0](*kinds), lambda context, builder, signature, args: operation(builder, *args)
    dtype = tiles[0].dtype
    result = Tile(dtype, max(tile.rows for tile in tiles), max(tile.columns for tile in tiles))

    def codegen(context, builder, signature, args):
        values = [
            arg if isinstance(kind, Tile) else _repeated(builder, context.cast(builder, arg, kind, dtype))
            for kind, arg in zip(signature.args, args, strict=True)
        ]
        found = ir.Constant(context.get_value_type(result), ir.Undefined)
        for index, row, column in _places(result):
            vectors = [
                _vector(builder, kind, value, row, column) for kind, value in zip(signature.args, values, strict=True)
            ]
            found = builder.insert_value(found, operation(builder, *vectors), index)
        return found

    return result(*kinds), codegen


def _operator(symbol, instruction):
    @intrinsic
    def apply(typingctx, a, b):
        return _elementwise((a, b), lambda builder, x, y: getattr(builder, instruction)(x, y))

    @overload(symbol)
    def of_tiles(a, b):
        return (lambda a, b: apply(a, b)) if isinstance(a, Tile) or isinstance(b, Tile) else None


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


@intrinsic
def maximum(typingctx, a, b):
    """a where it is larger, else b."""
    return _elementwise((a, b), lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))


def _fma(builder, x, y, z):
    """The code of x * y + z, rounded once."""
    return Value(builder, x).fma(Value(builder, y), Value(builder, z)).value


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once."""
    return _elementwise((a, b, c), _fma)


@intrinsic
def tanh(typingctx, x):
    """The hyperbolic tangent of numbers of either precision, to 3 ulp."""
    return _elementwise((x,), elementary("tanh"))


@intrinsic
def exp32(typingctx, x):
    """The exponential function of float32, to 2 ulp."""
    return _single(x, "exp")


@intrinsic
def log32(typingctx, x):
    """The natural logarithm of float32, to 2 ulp."""
    return _single(x, "log")


@intrinsic
def sigmoid32(typingctx, x):
    """The logistic function 1 / (1 + exp(-x)) of float32, to 2 ulp."""
    return _single(x, "sigmoid")


def _single(kind, name):
    """The signature and code of a function of float32; None, which numba reports, for another type."""
    number = kind.dtype if isinstance(kind, Tile) else kind
    return _elementwise((kind,), elementary(name)) if number == types.float32 else None


def _pointer(context, builder, array_type, array, offset, count=LANES):
    """A pointer to a vector of numbers of an array."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(context.get_value_type(array_type.dtype), count)
    return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())


def _offset(builder, at, stride, row, column):
    integer = at.type
    at = builder.add(at, builder.mul(stride, ir.Constant(integer, row)))
    return builder.add(at, ir.Constant(integer, column * LANES))


def _bytes(array_type):
    return array_type.dtype.bitwidth // 8


@intrinsic(prefer_literal=True)
def load(typingctx, array, at, stride, rows, columns):
    """The tile of `columns` vectors of each of `rows` rows, the first at `at`, the next `stride` numbers further."""
    result = Tile(array.dtype, rows.literal_value, columns.literal_value)

    def codegen(context, builder, signature, args):
        kind, found = signature.args[0], ir.Constant(context.get_value_type(result), ir.Undefined)
        for index, row, column in _places(result):
            pointer = _pointer(context, builder, kind, args[0], _offset(builder, args[1], args[2], row, column))
            found = builder.insert_value(found, builder.load(pointer, align=_bytes(kind)), index)
        return found

    return result(array, types.int64, types.int64, rows, columns), codegen


@intrinsic
def store(typingctx, array, at, stride, tile):
    """Write a tile to where `load` would read it."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        for index, row, column in _places(signature.args[3]):
            pointer = _pointer(context, builder, kind, args[0], _offset(builder, args[1], args[2], row, column))
            builder.store(builder.extract_value(args[3], index), pointer, align=_bytes(kind))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, tile), codegen


@intrinsic(prefer_literal=True)
def spread(typingctx, array, at, rows):
    """The tile of one column whose row r is LANES times array[at + r]."""
    result = Tile(array.dtype, rows.literal_value, 1)

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        found = ir.Constant(context.get_value_type(result), ir.Undefined)
        for index, row, _ in _places(result):
            value = builder.load(builder.gep(data, [builder.add(args[1], ir.Constant(args[1].type, row))]))
            found = builder.insert_value(found, _repeated(builder, value), index)
        return found

    return result(array, types.int64, rows), codegen


@intrinsic(prefer_literal=True)
def spread_rows(typingctx, array, at, stride, rows):
    """The tile of one column whose row r is LANES times array[at + r * stride]."""
    result = Tile(array.dtype, rows.literal_value, 1)

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        found = ir.Constant(context.get_value_type(result), ir.Undefined)
        for index, row, column in _places(result):
            value = builder.load(builder.gep(data, [_offset(builder, args[1], args[2], row, column)]))
            found = builder.insert_value(found, _repeated(builder, value), index)
        return found

    return result(array, types.int64, types.int64, rows), codegen


@intrinsic(prefer_literal=True)
def zeros(typingctx, array, rows, columns):
    """A tile of zeros of an array's dtype."""
    result = Tile(array.dtype, rows.literal_value, columns.literal_value)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(result), None)

    return result(array, rows, columns), codegen


@intrinsic
def fma_rows(typingctx, a, b, total):
    """total (one row) + a * b of the first row, then of the second, and so on, each sum rounded once."""
    factors = Tile(total.dtype, max(a.rows, b.rows), total.columns)

    def codegen(context, builder, signature, args):
        found = args[2]
        for column in range(total.columns):
            value = builder.extract_value(found, column)
            for row in range(factors.rows):
                x, y = (_vector(builder, kind, arg, row, column) for kind, arg in zip((a, b), args, strict=False))
                value = _fma(builder, x, y, value)
            found = builder.insert_value(found, value, column)
        return found

    return total(a, b, total), codegen


@intrinsic
def store_totals(typingctx, array, at, tile):
    """array[at + r] = the sum of row r of a tile of one column: halves are added until one number is left."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        vectors = [builder.extract_value(args[2], index) for index, _, _ in _places(tile)]
        width = LANES  # each vector has groups of `width` lanes, a row each; the tree is one for any number of rows
        while width > 1:
            width //= 2
            pairs = zip(vectors[::2], vectors[1::2], strict=True) if len(vectors) > 1 else [(vectors[0], vectors[0])]
            vectors = [_folded(builder, *pair, width, len(vectors) > 1) for pair in pairs]
        pointer = _pointer(context, builder, kind, args[0], args[1], tile.rows)
        builder.store(vectors[0], pointer, align=_bytes(kind))
        return context.get_dummy_value()

    return types.void(array, types.int64, tile), codegen


def _folded(builder, first, second, width, both):
    """Groups of 2 * width lanes of one vector, or of both, become groups of width: lower half + upper half."""
    lanes = first.type.count * (2 if both else 1)
    lower = [lane for lane in range(lanes) if lane % (2 * width) < width]

    def picked(shift):
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lower)), [lane + shift for lane in lower])
        return builder.shuffle_vector(first, second, mask)

    return builder.fadd(picked(0), picked(width))


@intrinsic
def choose(typingctx, flags, at, yes, no):
    """A tile of one row: `yes` where flags[at + lane], bytes, is not 0, else `no`."""

    def codegen(context, builder, signature, args):
        found = args[3]
        for index, row, column in _places(no):
            pointer = _pointer(context, builder, flags, args[0], _offset(builder, args[1], args[1], row, column))
            chosen = builder.load(pointer, align=1)
            chosen = builder.icmp_unsigned("!=", chosen, ir.Constant(chosen.type, None))
            value = builder.select(chosen, builder.extract_value(args[2], index), builder.extract_value(found, index))
            found = builder.insert_value(found, value, index)
        return found

    return no(flags, types.int64, yes, no), codegen
