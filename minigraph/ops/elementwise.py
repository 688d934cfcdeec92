"""Elementwise operations: arithmetic, comparison, logic, selection, bits.

Operands are promoted to one dtype when the graph is built, so `forward` always meets operands of equal dtype. A cotangent
has the shape of the result; the gradient driver sums it over the axes that were broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Array, Op, Variable, as_variable, constant, is_weak
from minigraph.types import TensorType, as_dtype, broadcast_shapes, float_dtype, promote

__all__ = [
    "abs",
    "add",
    "and_",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "cast",
    "ceil",
    "clip",
    "divide",
    "divmod",
    "eq",
    "equal",
    "floor",
    "floor_divide",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "identity",
    "invert",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "left_shift",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "multiply",
    "multiply_or_zero",
    "neg",
    "negative",
    "neq",
    "not_equal",
    "or_",
    "power",
    "reciprocal",
    "remainder",
    "right_shift",
    "round",
    "sign",
    "square",
    "subtract",
    "switch",
    "trunc",
    "where",
    "xor",
]

Operand = Any
"""A variable, an array, a Python number, or a list of numbers."""

Cotangents = Sequence[Variable | None]


class Elementwise(Op):
    """An op that computes each element of its result from one element of each operand, broadcasting static 1s."""

    kinds: ClassVar[str] = "iuf"
    """The kinds of dtypes it takes: b(ool), i(nteger), u(nsigned), f(loat)."""

    def of(self, *operands: Operand) -> Variable:
        """The op applied to anything array-like, promoted to one dtype."""
        return self(*promoted(operands, self.operand_dtype))

    def operand_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype to compute in, given the common dtype of the operands."""
        return dtype

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of the result, given the one computed in."""
        return dtype

    def infer(self, *types: TensorType) -> TensorType:
        dtype = types[0].dtype
        if any(type.dtype != dtype for type in types):
            raise InvalidTypeError("the operands must have one dtype by now; apply the function, not the op")
        if dtype.kind not in self.kinds:
            raise InvalidTypeError(f"{type(self).__name__} is not defined for dtype {dtype}")
        return TensorType(self.result_dtype(dtype), broadcast_shapes([type.shape for type in types]))


class Floating(Elementwise):
    """An elementwise op computed in floats, as NumPy chooses them for integers."""

    kinds = "f"

    def operand_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return float_dtype(dtype)


class Comparison(Elementwise):
    """An elementwise op from numbers to truth."""

    kinds = "biuf"

    def of(self, *operands: Operand) -> Variable:
        fitting = [_widened(one, operands) for one in operands]
        strong = [as_variable(one).dtype for one in fitting if not is_weak(one)]
        if len({dtype.kind for dtype in strong}) > 1:  # unlike arithmetic, a comparison must not lose integers
            exact = np.result_type(*strong)
            if exact.kind == "f" and all(dtype.kind in "iu" for dtype in strong):
                # no dtype holds both uint64 and int64, but NumPy compares them as they are
                return self(*[as_variable(one) for one in fitting])
            fitting = [one if is_weak(one) else cast(one, exact) for one in fitting]
        return super().of(*fitting)

    def infer(self, *types: TensorType) -> TensorType:
        if all(type.dtype.kind in "iu" for type in types):
            types = tuple(type.with_dtype(types[0].dtype) for type in types)
        return super().infer(*types)

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(bool)


class Logical(Comparison):
    """An elementwise op on truth values; numbers count as true unless 0."""

    kinds = "b"

    def of(self, *operands: Operand) -> Variable:
        return self(*[cast(one, "bool") for one in operands])


class Predicate(Floating):
    """An elementwise question about floats."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(bool)


class Stepwise(Elementwise):
    """An elementwise op that is constant almost everywhere: its gradient is zero."""

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        return tuple(zero_of(dy) for _ in inputs)


class Bitwise(Elementwise):
    """An elementwise op on the bits of integers and booleans."""

    kinds = "biu"


def promoted(operands: Sequence[Operand], choose: Any = lambda dtype: dtype) -> list[Variable]:
    """The operands as variables of one dtype: `choose` of their common one. Python numbers are weak."""
    strong = [as_variable(one) for one in operands if not is_weak(one)]
    weak = [_exemplar(one) for one in operands if is_weak(one)]
    dtype = as_dtype(choose(promote([one.dtype for one in strong], weak)))
    remaining = iter(strong)
    return [_weak_constant(one, dtype) if is_weak(one) else cast(next(remaining), dtype) for one in operands]


def _exemplar(weak: Any) -> bool | int | float:
    """A Python number of the kind that a weak operand holds."""
    if isinstance(weak, list | tuple):
        return {"b": False, "i": 0}.get(np.asarray(weak).dtype.kind, 0.0)
    return type(weak)(0)  # type: ignore[no-any-return]


def _weak_constant(value: Any, dtype: np.dtype[Any]) -> Variable:
    """A Python number as a constant of `dtype`; ValueError where an integer does not fit."""
    try:
        with np.errstate(over="ignore"):
            return constant(value, dtype=dtype)
    except OverflowError:
        raise InvalidValueError(f"the Python integer {value} does not fit into {dtype}, the dtype it meets") from None


def _widened(operand: Operand, others: Sequence[Operand]) -> Operand:
    """A Python integer that fits no integer array among `others`, as an int64 constant; else the operand itself."""
    kinds = [as_variable(one).dtype for one in others if not is_weak(one)]
    if type(operand) is int and kinds and all(dtype.kind in "iu" for dtype in kinds):
        bounds = np.iinfo(np.result_type(*kinds))
        if not bounds.min <= operand <= bounds.max:
            return _weak_constant(operand, np.dtype("int64"))
    return operand


# -- casts and copies ------------------------------------------------------------------------------------------------


class Cast(Elementwise):
    """The same values in another dtype."""

    dtype: np.dtype[Any]
    kinds = "biuf"

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return self.dtype

    def forward(self, xp: Any, x: Array) -> Array:
        return x.astype(self.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (cast(dy, x.dtype) if x.dtype.kind == y.dtype.kind == "f" else None,)


def cast(x: Operand, dtype: Any) -> Variable:
    """`x` with another dtype: floats are truncated to integers, numbers are true unless 0."""
    variable, wanted = as_variable(x), as_dtype(dtype)
    return variable if variable.dtype == wanted else Cast(wanted)(variable)


def identity(x: Operand, name: str | None = None) -> Variable:
    """A copy of `x` as a variable of its own, for instance to give it a name."""
    return as_variable(x).copy(name)


# -- arithmetic ------------------------------------------------------------------------------------------------------


class Add(Elementwise):
    kinds = "biuf"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.add(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return dy, dy


def add(a: Operand, b: Operand) -> Variable:
    """a + b, elementwise."""
    return Add().of(a, b)


class Subtract(Elementwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.subtract(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return dy, -dy


def subtract(a: Operand, b: Operand) -> Variable:
    """a - b, elementwise."""
    return Subtract().of(a, b)


class Multiply(Elementwise):
    kinds = "biuf"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.multiply(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return dy * b, dy * a


def multiply(a: Operand, b: Operand) -> Variable:
    """a * b, elementwise."""
    return Multiply().of(a, b)


class MultiplyOrZero(Floating):
    """a * b, but 0 wherever a is 0, even where b is infinite or NaN: how a zero cotangent passes a pole."""

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.where(xp.equal(a, 0), a * 0, a * b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return multiply_or_zero(dy, b), multiply_or_zero(a, dy)


def multiply_or_zero(a: Operand, b: Operand) -> Variable:
    """a * b, but 0 wherever a is 0, even where b is infinite or NaN."""
    return MultiplyOrZero().of(a, b)


def zero_of(dy: Variable) -> Variable:
    """Zeros of dy's type, whatever dy holds."""
    return multiply_or_zero(constant(0, dtype=dy.dtype), dy)


class Divide(Floating):
    def operand_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return dtype if dtype.kind == "f" else np.dtype("float64")

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.divide(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        inverse = reciprocal(b)
        da = multiply_or_zero(dy, inverse)
        return da, -multiply_or_zero(da * a, inverse)


def divide(a: Operand, b: Operand) -> Variable:
    """a / b, elementwise, in floats."""
    return Divide().of(a, b)


class FloorDivide(Stepwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.floor_divide(a, b)


def floor_divide(a: Operand, b: Operand) -> Variable:
    """The floor of a / b, elementwise; an integer divided by 0 is 0, as in NumPy."""
    return FloorDivide().of(a, b)


class Remainder(Elementwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.remainder(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return dy, -dy * floor_divide(a, b)


def remainder(a: Operand, b: Operand) -> Variable:
    """a % b, elementwise, with the sign of b; an integer modulo 0 is 0, as in NumPy."""
    return Remainder().of(a, b)


def divmod(a: Operand, b: Operand) -> tuple[Variable, Variable]:
    """(a // b, a % b), elementwise."""
    return floor_divide(a, b), remainder(a, b)


class Power(Elementwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.power(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        # b * a**(b - 1) is 0 for b = 0 even at a = 0, and a**b * log(a) is taken as 0 at a = 0
        slope = multiply_or_zero(b, power(a, b - 1))
        safe = where(eq(a, 0), 1, a)
        return multiply_or_zero(dy, slope), dy * y * Log().of(safe)


def power(a: Operand, b: Operand) -> Variable:
    """a to the power of b, elementwise; ValueError for integers with a negative Python integer."""
    if type(b) is int and b < 0 and as_variable(a).dtype.kind in "biu":
        raise InvalidValueError(f"an integer cannot be raised to the negative integer power {b}; cast it to float first")
    return Power().of(a, b)


class Log(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(x)),)


class Negative(Elementwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.negative(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (-dy,)


def negative(x: Operand) -> Variable:
    """-x, elementwise."""
    return Negative().of(x)


neg = negative


class Reciprocal(Floating):
    def operand_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return dtype if dtype.kind == "f" else np.dtype("float64")

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.reciprocal(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (-multiply_or_zero(multiply_or_zero(dy, y), y),)


def reciprocal(x: Operand) -> Variable:
    """1 / x, elementwise, in floats."""
    return Reciprocal().of(x)


class Square(Elementwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.square(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (dy * (x * 2),)


def square(x: Operand) -> Variable:
    """x * x, elementwise."""
    return Square().of(x)


class Absolute(Elementwise):
    kinds = "biuf"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.abs(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (dy * sign(x),)


def abs(x: Operand) -> Variable:
    """The absolute value, elementwise; its derivative at 0 is taken as 0."""
    return Absolute().of(x)


class Maximum(Elementwise):
    kinds = "biuf"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.maximum(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return _shared_between_ties(dy, gt(a, b), lt(a, b))


def maximum(a: Operand, b: Operand) -> Variable:
    """The greater of a and b, elementwise, NaN if one is; equal operands share the gradient equally."""
    return Maximum().of(a, b)


class Minimum(Elementwise):
    kinds = "biuf"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.minimum(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return _shared_between_ties(dy, lt(a, b), gt(a, b))


def minimum(a: Operand, b: Operand) -> Variable:
    """The smaller of a and b, elementwise, NaN if one is; equal operands share the gradient equally."""
    return Minimum().of(a, b)


def _shared_between_ties(dy: Variable, first: Variable, second: Variable) -> Cotangents:
    """dy to the winning operand, half of it to each where neither wins."""
    half = dy * 0.5
    return where(first, dy, where(second, 0, half)), where(second, dy, where(first, 0, half))


def clip(x: Operand, a_min: Operand = None, a_max: Operand = None) -> Variable:
    """x limited to [a_min, a_max], elementwise; a bound of None does not limit. The dtype is that of all three."""
    given = [bound for bound in (a_min, a_max) if bound is not None]
    if not given:
        raise InvalidValueError("clip needs a_min, a_max, or both")
    result = as_variable(x)
    if a_min is not None:
        result = maximum(result, a_min)
    return result if a_max is None else minimum(result, a_max)


# -- rounding and sign -----------------------------------------------------------------------------------------------


class Sign(Stepwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sign(x)


def sign(x: Operand) -> Variable:
    """-1, 0 or 1, elementwise; NaN stays NaN."""
    return Sign().of(x)


class Floor(Stepwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.floor(x)


def floor(x: Operand) -> Variable:
    """The greatest integer not above x, elementwise, in x's dtype."""
    return _rounded(Floor(), x)


class Ceil(Stepwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.ceil(x)


def ceil(x: Operand) -> Variable:
    """The smallest integer not below x, elementwise, in x's dtype."""
    return _rounded(Ceil(), x)


class Trunc(Stepwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.trunc(x)


def trunc(x: Operand) -> Variable:
    """x without its fraction, elementwise, in x's dtype."""
    return _rounded(Trunc(), x)


class Round(Stepwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.rint(x)


def round(x: Operand, decimals: int = 0) -> Variable:
    """x with so many decimals (digits before the point, if negative), halves to even, elementwise, in x's dtype."""
    if not decimals:
        return _rounded(Round(), x)
    scale = 10.0**decimals
    return cast(_rounded(Round(), multiply(x, scale)) / scale, as_variable(x).dtype)


def _rounded(op: Elementwise, x: Operand) -> Variable:
    """`op` on floats; integers and booleans are whole already."""
    variable = as_variable(x)
    return op.of(variable) if variable.dtype.kind == "f" else variable


# -- comparison, logic, selection ------------------------------------------------------------------------------------


class Equal(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.equal(a, b)


def equal(a: Operand, b: Operand) -> Variable:
    """a == b, elementwise."""
    return Equal().of(a, b)


class NotEqual(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.not_equal(a, b)


def not_equal(a: Operand, b: Operand) -> Variable:
    """a != b, elementwise."""
    return NotEqual().of(a, b)


class Less(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less(a, b)


def less(a: Operand, b: Operand) -> Variable:
    """a < b, elementwise."""
    return Less().of(a, b)


class LessEqual(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less_equal(a, b)


def less_equal(a: Operand, b: Operand) -> Variable:
    """a <= b, elementwise."""
    return LessEqual().of(a, b)


def greater(a: Operand, b: Operand) -> Variable:
    """a > b, elementwise."""
    return Less().of(b, a)


def greater_equal(a: Operand, b: Operand) -> Variable:
    """a >= b, elementwise."""
    return LessEqual().of(b, a)


eq, neq, lt, le, gt, ge = equal, not_equal, less, less_equal, greater, greater_equal


class LogicalAnd(Logical):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_and(a, b)


def logical_and(a: Operand, b: Operand) -> Variable:
    """Whether both are true, elementwise."""
    return LogicalAnd().of(a, b)


class LogicalOr(Logical):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_or(a, b)


def logical_or(a: Operand, b: Operand) -> Variable:
    """Whether one or both are true, elementwise."""
    return LogicalOr().of(a, b)


class LogicalXor(Logical):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_xor(a, b)


def logical_xor(a: Operand, b: Operand) -> Variable:
    """Whether exactly one is true, elementwise."""
    return LogicalXor().of(a, b)


class LogicalNot(Logical):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.logical_not(x)


def logical_not(x: Operand) -> Variable:
    """Whether x is false (or 0), elementwise."""
    return LogicalNot().of(x)


class IsNan(Predicate):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isnan(x)


def isnan(x: Operand) -> Variable:
    """Whether x is NaN, elementwise."""
    return IsNan().of(x)


class IsInf(Predicate):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isinf(x)


def isinf(x: Operand) -> Variable:
    """Whether x is infinite, elementwise."""
    return IsInf().of(x)


class IsFinite(Predicate):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isfinite(x)


def isfinite(x: Operand) -> Variable:
    """Whether x is neither infinite nor NaN, elementwise."""
    return IsFinite().of(x)


class Where(Elementwise):
    """The second operand where the first, a boolean, is true, else the third."""

    kinds = "biuf"

    def of(self, *operands: Operand) -> Variable:
        condition, *choices = operands
        return self(cast(condition, "bool"), *promoted(choices))

    def infer(self, *types: TensorType) -> TensorType:
        condition, *choices = types
        if condition.dtype.kind != "b":
            raise InvalidTypeError(f"the condition must be boolean, not {condition.dtype}")
        result = super().infer(*choices)
        return TensorType(result.dtype, broadcast_shapes([type.shape for type in types]))

    def forward(self, xp: Any, condition: Array, a: Array, b: Array) -> Array:
        return xp.where(condition, a, b)

    def gradient(self, dy: Variable, y: Variable, condition: Variable, a: Variable, b: Variable) -> Cotangents:
        return None, where(condition, dy, 0), where(condition, 0, dy)


def where(condition: Operand, a: Operand, b: Operand) -> Variable:
    """a where the condition is true (or not 0), else b, elementwise."""
    return Where().of(condition, a, b)


switch = where


# -- bits ------------------------------------------------------------------------------------------------------------


class BitwiseAnd(Bitwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_and(a, b)


def bitwise_and(a: Operand, b: Operand) -> Variable:
    """The bits set in both integers (or booleans), elementwise."""
    return BitwiseAnd().of(a, b)


class BitwiseOr(Bitwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_or(a, b)


def bitwise_or(a: Operand, b: Operand) -> Variable:
    """The bits set in one or both integers (or booleans), elementwise."""
    return BitwiseOr().of(a, b)


class BitwiseXor(Bitwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_xor(a, b)


def bitwise_xor(a: Operand, b: Operand) -> Variable:
    """The bits set in exactly one of two integers (or booleans), elementwise."""
    return BitwiseXor().of(a, b)


and_, or_, xor = bitwise_and, bitwise_or, bitwise_xor


class Invert(Bitwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.invert(x)


def invert(x: Operand) -> Variable:
    """All bits of an integer flipped, or the negation of a boolean, elementwise."""
    return Invert().of(x)


class LeftShift(Bitwise):
    kinds = "iu"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.left_shift(a, b)


def left_shift(a: Operand, b: Operand) -> Variable:
    """The bits of integer a moved up by b places, elementwise."""
    return LeftShift().of(a, b)


class RightShift(Bitwise):
    kinds = "iu"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.right_shift(a, b)


def right_shift(a: Operand, b: Operand) -> Variable:
    """The bits of integer a moved down by b places, elementwise."""
    return RightShift().of(a, b)
