"""Elementwise arithmetic, rounding and sign."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, constant, is_weak
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Array, Constant, Variable, evaluated
from minigraph.core.types import TensorType
from minigraph.ops.elementwise.base import Cast, Cotangents, Elementwise, Floating, Operand, cast
from minigraph.ops.elementwise.comparison import eq, gt, lt, where

__all__ = [
    "abs", "add", "ceil", "clip", "divide", "divmod", "floor", "floor_divide", "maximum", "minimum", "multiply",
    "multiply_or_zero", "neg", "negative", "power", "reciprocal", "remainder", "round", "sign", "square", "subtract", "trunc",
]  # fmt: skip


class Stepwise(Elementwise):
    """An elementwise op that is constant almost everywhere: its gradient is zero."""

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        return tuple(zero_of(dy) for _ in inputs)


# -- arithmetic ------------------------------------------------------------------------------------------------------


class Add(Elementwise):
    kinds = "biuf"
    cost, cheap, rounds_alone = 1, True, True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.add(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return dy, dy


def add(a: Operand, b: Operand) -> Variable:
    """a + b, elementwise."""
    return Add().of(a, b)


class Subtract(Elementwise):
    cost, cheap, rounds_alone = 1, True, True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.subtract(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return dy, -dy


def subtract(a: Operand, b: Operand) -> Variable:
    """a - b, elementwise."""
    return Subtract().of(a, b)


class Multiply(Elementwise):
    kinds = "biuf"
    cost, cheap, rounds_alone = 1, True, True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.multiply(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return multiply_or_zero(dy, b), multiply_or_zero(dy, a)


def multiply(a: Operand, b: Operand) -> Variable:
    """a * b, elementwise."""
    return Multiply().of(a, b)


class MultiplyOrZero(Floating):
    """a * b, but 0 wherever a is 0, even where b is infinite or NaN: how a zero cotangent passes a pole."""

    cost, cheap, rounds_alone = 1, True, True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.where(xp.equal(a, 0), 0, a * b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return multiply_or_zero(dy, b), where(eq(a, 0), 0, multiply_or_zero(dy, a))


def multiply_or_zero(a: Operand, b: Operand) -> Variable:
    """a * b, but 0 wherever a is 0, even where b is infinite or NaN; the sign of such a zero is not specified.

    Every gradient multiplies a cotangent in this way by what may not be finite, so that a zero cotangent stays zero.
    """
    product = MultiplyOrZero().of(a, b)
    return multiply(*product.inputs) if _is_finite(product.inputs[1]) else product


def _is_finite(variable: Variable) -> bool:
    """Whether a variable is known to be neither infinite nor NaN: a constant, or a boolean as a number."""
    match variable:
        case Variable(Constant(value), _):
            return bool(np.isfinite(value).all())
        case Variable(Cast(), (x,)):
            return x.dtype.kind == "b"
    return False


def zero_of(dy: Variable) -> Variable:
    """Zeros of dy's type, whatever dy holds."""
    return multiply_or_zero(constant(0, dtype=dy.dtype), dy)


class Divide(Floating):
    cost, cheap = 1, True

    def operand_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return dtype if dtype.kind == "f" else np.dtype("float64")

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.divide(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        inverse = reciprocal(b)
        da = multiply_or_zero(dy, inverse)
        return da, -multiply_or_zero(multiply_or_zero(da, a), inverse)


def divide(a: Operand, b: Operand) -> Variable:
    """a / b, elementwise, in floats."""
    return Divide().of(a, b)


class FloorDivide(Stepwise):
    divisor = 1

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.floor_divide(a, b)


def floor_divide(a: Operand, b: Operand) -> Variable:
    """The floor of a / b, elementwise; an integer divided by 0 is 0, as in NumPy."""
    return FloorDivide().of(a, b)


class Remainder(Elementwise):
    divisor = 1

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.remainder(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return dy, -multiply_or_zero(dy, floor_divide(a, b))


def remainder(a: Operand, b: Operand) -> Variable:
    """a % b, elementwise, with the sign of b; an integer modulo 0 is 0, as in NumPy."""
    return Remainder().of(a, b)


def divmod(a: Operand, b: Operand) -> tuple[Variable, Variable]:
    """(a // b, a % b), elementwise."""
    return floor_divide(a, b), remainder(a, b)


class Power(Elementwise):
    def compilable(self, *types: TensorType) -> bool:
        return types[0].dtype.kind == "f"  # an integer to a negative power is an error at run time

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.power(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        # b * a**(b - 1) is 0 for b = 0 even at a = 0, and a**b * log(a) is taken as 0 at a = 0
        slope = multiply_or_zero(b, power(a, b - 1))
        safe = where(eq(a, 0), 1, a)
        return multiply_or_zero(dy, slope), multiply_or_zero(dy, y * Log().of(safe))


def power(a: Operand, b: Operand) -> Variable:
    """a to the power of b, elementwise; ValueError for integers with a negative Python integer."""
    if is_weak(b):
        least = evaluated(as_variable(b)).min(initial=0)
        if least.dtype.kind == "i" and least < 0 and as_variable(a).dtype.kind in "biu":
            raise InvalidValueError(
                f"an integer cannot be raised to the negative integer power {least}; cast it to float first"
            )
    return Power().of(a, b)


class Log(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(x)),)


class Negative(Elementwise):
    cost, cheap = 1, True

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.negative(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (-dy,)


def negative(x: Operand) -> Variable:
    """-x, elementwise."""
    return Negative().of(x)


neg = negative


class Reciprocal(Floating):
    cost = 1

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
    cost, cheap, rounds_alone = 1, True, True

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.square(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, x * 2),)


def square(x: Operand) -> Variable:
    """x * x, elementwise."""
    return Square().of(x)


class Absolute(Elementwise):
    kinds = "biuf"
    cost, cheap = 1, True

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.abs(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, sign(x)),)


def abs(x: Operand) -> Variable:
    """The absolute value, elementwise; its derivative at 0 is taken as 0."""
    return Absolute().of(x)


class Maximum(Elementwise):
    kinds = "biuf"
    cost, cheap = 1, True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.maximum(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return _shared_between_ties(dy, gt(a, b), lt(a, b))


def maximum(a: Operand, b: Operand) -> Variable:
    """The greater of a and b, elementwise, NaN if one is; equal operands share the gradient equally."""
    return Maximum().of(a, b)


class Minimum(Elementwise):
    kinds = "biuf"
    cost, cheap = 1, True

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
    """x rounded to `decimals` digits after the point (before it, if negative), halves to even, elementwise, in x's dtype."""
    if not decimals:
        return _rounded(Round(), x)
    scale = 10.0**decimals
    result = _rounded(Round(), multiply(x, scale)) / scale
    return result if is_weak(result) and as_variable(x).dtype.kind == "f" else cast(result, as_variable(x).dtype)


def _rounded(op: Elementwise, x: Operand) -> Variable:
    """`op` on floats; integers and booleans are whole already."""
    variable = as_variable(x)
    return op.of(variable) if variable.dtype.kind == "f" else variable
