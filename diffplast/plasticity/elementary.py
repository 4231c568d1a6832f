"""tanh, exp, log and the logistic function in plain arithmetic of fixed order, for numbers and vectors alike.

The mathematical libraries of two machines differ in the last bits of these, and numba's vectorised ones do with the
processor. An expression written with `Value` becomes LLVM instructions: IEEE operations and fused multiply-adds.
Without branches, so that a vector's numbers go the same way. NaN stays NaN.
"""

import math
import struct
from collections.abc import Callable
from functools import reduce

from llvmlite import ir


class Value:
    """A number of LLVM, float or double, or a vector of them; Python numbers take its type."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value):
        self.builder, self.value = builder, value
        self.vector = isinstance(value.type, ir.VectorType)
        self.number = value.type.element if self.vector else value.type
        self.single = isinstance(self.number, ir.FloatType)

    def _like(self, number_type: ir.Type) -> ir.Type:
        return ir.VectorType(number_type, self.value.type.count) if self.vector else number_type

    def _constant(self, number: float, number_type: ir.Type | None = None) -> ir.Constant:
        kind = self._like(number_type or self.number)
        if self.single and number_type is None:
            number = struct.unpack("f", struct.pack("f", number))[0]
        return ir.Constant(kind, [number] * kind.count if self.vector else number)

    def _given(self, other):
        return other.value if isinstance(other, Value) else self._constant(other)

    def _made(self, instruction, *others):
        return Value(self.builder, getattr(self.builder, instruction)(self.value, *map(self._given, others)))

    def __add__(self, other):
        return self._made("fadd", other)

    def __sub__(self, other):
        return self._made("fsub", other)

    def __mul__(self, other):
        return self._made("fmul", other)

    def __truediv__(self, other):
        return self._made("fdiv", other)

    def __neg__(self):
        return Value(self.builder, self.builder.fneg(self.value))

    def call(self, name: str, *others) -> "Value":
        """An intrinsic of LLVM whose arguments all have this value's type, such as fma or fabs."""
        kind = self.value.type
        suffix = (f"v{kind.count}" if self.vector else "") + ("f32" if self.single else "f64")
        symbol, args = f"llvm.{name}.{suffix}", [self.value, *map(self._given, others)]
        function = self.builder.module.globals.get(symbol) or ir.Function(
            self.builder.module, ir.FunctionType(kind, [kind] * len(args)), symbol
        )
        return Value(self.builder, self.builder.call(function, args))

    def fma(self, factor, term) -> "Value":
        """self * factor + term, rounded once."""
        return self.call("fma", factor, term)

    def where(self, comparison: str, bound: float, found: "Value | float") -> "Value":
        """`found` where self compares so with `bound`, else self."""
        return self.choose(comparison, bound, found, self)

    def choose(self, comparison: str, bound: float, yes, no) -> "Value":
        """`yes` where self compares so with `bound`, else `no`; a NaN compares with nothing but by `!=`."""
        ordered = self.builder.fcmp_unordered if comparison == "!=" else self.builder.fcmp_ordered
        chosen = ordered(comparison, self.value, self._given(bound))
        return Value(self.builder, self.builder.select(chosen, self._given(yes), self._given(no)))

    def bits(self) -> ir.Value:
        """The bits as an integer, or as integers."""
        return self.builder.bitcast(self.value, self._like(ir.IntType(32 if self.single else 64)))

    def from_bits(self, bits: ir.Value) -> "Value":
        """The number of this type that has these bits."""
        return Value(self.builder, self.builder.bitcast(bits, self.value.type))

    def integer(self, number: int) -> ir.Constant:
        """An integer, or a vector of it, as `bits` gives them."""
        return self._constant(number, ir.IntType(32 if self.single else 64))

    @property
    def mantissa(self) -> int:
        """Bits of the mantissa that are stored."""
        return 23 if self.single else 52

    def power_of_two(self, exponent: ir.Value) -> "Value":
        """2 to an integer, whose result must be a normal number."""
        biased = self.builder.add(exponent, self.integer(127 if self.single else 1023))
        return self.from_bits(self.builder.shl(biased, self.integer(self.mantissa)))


def _polynomial(x: Value, coefficients: list[float]) -> Value:
    """By Horner's rule, the highest power's coefficient first."""
    first = Value(x.builder, x._constant(coefficients[0]))
    return reduce(lambda value, coefficient: value.fma(x, coefficient), coefficients[1:], first)


# (exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2. Single: Moshier's coefficients (Cephes, expf). Double: Taylor's, whose
# rest is below 2^-54.
_EXP_SINGLE = [1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1]
_EXP_DOUBLE = [1 / math.factorial(power) for power in range(14, 1, -1)]
# log(2) in two parts; the first has so few bits that whole multiples of it are exact.
_LOG2_SINGLE = 0.693359375, -2.12194440e-4
_LOG2_DOUBLE = 0.693145751953125, 1.42860682030941723212e-6
# (log(1 + f) - f + f^2 / 2) / f^3 for 1 + f from sqrt(1/2) to sqrt(2), single (Cephes, logf).
_LOG_SINGLE = [
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
    2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
]  # fmt: skip


def _reduced(x: Value) -> tuple[ir.Value, Value]:
    """(k, exp(r) - 1) where x = k log(2) + r, with k an integer and |r| at most log(2) / 2."""
    rounder = 1.5 * 2.0**x.mantissa  # added, it leaves the nearest integer in the lowest bits
    shifted = x.fma(1 / math.log(2), rounder)
    whole = shifted - rounder
    high, low = _LOG2_SINGLE if x.single else _LOG2_DOUBLE
    rest = whole.fma(-low, whole.fma(-high, x))
    series = _polynomial(rest, _EXP_SINGLE if x.single else _EXP_DOUBLE)
    k = x.builder.sub(shifted.bits(), Value(x.builder, x._constant(rounder)).bits())
    return k, (rest * rest).fma(series, rest)


def _tanh(x: Value) -> Value:
    limit = 10.0 if x.single else 20.0  # tanh rounds to 1 from there on
    size = x.call("fabs").where(">", limit, limit)
    k, part = _reduced(size + size)
    power = x.power_of_two(k)
    grown = power.fma(part, power - 1.0)  # exp(2 |x|) - 1
    return (grown / (grown + 2.0)).call("copysign", x)


def _exp(x: Value) -> Value:
    highest, lowest = (89.0, -105.0) if x.single else (710.0, -746.0)  # infinite, and zero, from there on
    k, part = _reduced(x.where(">", highest, highest).where("<", lowest, lowest))
    half = x.builder.ashr(k, x.integer(1))  # in two steps, since 2^k may be no normal number
    return (part + 1.0) * x.power_of_two(half) * x.power_of_two(x.builder.sub(k, half))


def _log(x: Value) -> Value:
    smallest = 2.0**-126
    scaled = x.where("<", smallest, x * 2.0**23)
    builder, half = x.builder, x.integer(0x3F3504F3)  # the bits of sqrt(1/2)
    bits = scaled.bits()
    k = builder.ashr(builder.sub(bits, half), x.integer(23))
    f = x.from_bits(builder.sub(bits, builder.shl(k, x.integer(23)))) - 1.0
    power = Value(builder, builder.sitofp(k, x.value.type))
    power = power + x.choose("<", smallest, -23.0, 0.0)
    square = f * f
    high, low = _LOG2_SINGLE
    series = square.fma(-0.5, power.fma(low, square * f * _polynomial(f, _LOG_SINGLE)))
    found = power.fma(high, f + series)
    found = x.choose("==", 0.0, -math.inf, found)
    found = x.choose("<", 0.0, math.nan, found)
    return x.choose("<", math.inf, found, x)


def _sigmoid(x: Value) -> Value:
    lowest = -88.0  # below, the result would be a denormal number
    k, part = _reduced(-x.where("<", lowest, lowest).where(">", 80.0, 80.0))
    power = x.power_of_two(k)
    # exp(-x) + 1, the 1 added to what is small: it must not cost a rounding of what is large.
    small = x.choose("<", 0.0, x.power_of_two(x.builder.neg(k)), 0.0)
    large = x.choose("<", 0.0, power, power + 1.0)
    return Value(x.builder, x._constant(1.0)) / power.fma(part + small, large)


_FUNCTIONS = {"tanh": _tanh, "exp": _exp, "log": _log, "sigmoid": _sigmoid}


def elementary(name: str) -> Callable[[ir.IRBuilder, ir.Value], ir.Value]:
    """The code (builder, value) -> value of "tanh" or "exp", or of "log" or "sigmoid" in single precision."""
    return lambda builder, value: _FUNCTIONS[name](Value(builder, value)).value
