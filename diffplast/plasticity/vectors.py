"""Short vectors for numba: LANES numbers of an array at a time, held in registers.

Numba's own loops are vectorised only where LLVM proves that the arrays do not overlap, which takes a check for each
pair of them before every row, and it cannot keep a block of rows in registers. Offsets count numbers from the start
of a C-contiguous array of any dimension. On any processor LLVM splits a vector into what the hardware has.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

LANES = 16


class Vector(types.Type):
    """The numba type of LANES numbers of one dtype."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is an LLVM vector."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(manager[kind.dtype].get_value_type(), LANES))


def _pointer(context, builder, array_type, array, offset):
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(context.get_value_type(array_type.dtype), LANES)
    return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())


def _bytes(array_type):
    return array_type.dtype.bitwidth // 8


@intrinsic
def load(typingctx, array, offset):
    """array[offset : offset + LANES]"""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        return builder.load(_pointer(context, builder, kind, *args), align=_bytes(kind))

    return Vector(array.dtype)(array, types.int64), codegen


@intrinsic
def store(typingctx, array, offset, vector):
    """array[offset : offset + LANES] = vector"""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        builder.store(args[2], _pointer(context, builder, kind, *args[:2]), align=_bytes(kind))
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), codegen


@intrinsic
def spread(typingctx, array, offset):
    """A vector of LANES times array[offset]"""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        value = builder.load(builder.gep(data, [args[1]]))
        empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
        one = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, empty, ir.Constant(ir.VectorType(ir.IntType(32), LANES), None))

    return Vector(array.dtype)(array, types.int64), codegen


@intrinsic
def zeros(typingctx, array):
    """A vector of zeros of the array's dtype"""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return Vector(array.dtype)(array), codegen


@intrinsic
def times(typingctx, a, b):
    """a * b"""

    def codegen(context, builder, signature, args):
        return builder.fmul(*args, flags=("contract",))

    return a(a, b), codegen


@intrinsic
def times_plus(typingctx, a, b, c):
    """a * b + c, in one instruction where there is one"""

    def codegen(context, builder, signature, args):
        return builder.fadd(builder.fmul(*args[:2], flags=("contract",)), args[2], flags=("contract",))

    return a(a, b, c), codegen


@intrinsic
def total(typingctx, a):
    """The sum of a vector's numbers"""

    def codegen(context, builder, signature, args):
        number = args[0].type.element
        name = f"llvm.vector.reduce.fadd.v{LANES}f{signature.return_type.bitwidth}"
        function = builder.module.globals.get(name) or ir.Function(
            builder.module, ir.FunctionType(number, [number, args[0].type]), name
        )
        return builder.call(function, [ir.Constant(number, -0.0), args[0]], fastmath=("reassoc",))

    return a.dtype(a), codegen
