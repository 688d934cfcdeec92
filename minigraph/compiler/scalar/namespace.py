"""The functions of the scalar namespace under NumPy's names: `forward(xp, ...)` of an elementwise op with xp = SCALARS."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from minigraph.compiler.scalar import angles, elementary, hyperbolic, trigonometric
from minigraph.compiler.scalar.power import power
from minigraph.compiler.scalar.scalar import BOOL, FLOAT32, DType, Value, copysign, intrinsic, select
from minigraph.core.graph import Op
from minigraph.ops.elementwise.base import Elementwise


class Scalars:
    """NumPy's elementwise functions, for single values inside a loop."""

    pi, e, inf, nan = math.pi, math.e, math.inf, math.nan

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"kernels have no function {name!r}")

    # -- arithmetic --------------------------------------------------------------------------------------------------

    add = staticmethod(operator.add)
    subtract = staticmethod(operator.sub)
    multiply = staticmethod(operator.mul)
    divide = staticmethod(operator.truediv)
    negative = staticmethod(operator.neg)
    power = staticmethod(power)

    def reciprocal(self, x: Value) -> Value:
        return 1.0 / x

    def square(self, x: Value) -> Value:
        return x * x

    def floor_divide(self, a: Value, b: Value) -> Value:
        return self._floor_divide_floats(a, b)[0] if a.dtype.kind == "f" else _floor_divide_integers(a, b)[0]

    def remainder(self, a: Value, b: Value) -> Value:
        return self._floor_divide_floats(a, b)[1] if a.dtype.kind == "f" else _floor_divide_integers(a, b)[1]

    def _floor_divide_floats(self, a: Value, b: Value) -> tuple[Value, Value]:
        """NumPy's floor of a / b and what remains, which takes b's sign."""
        if a.dtype.itemsize == 2:
            floor, rest = self._floor_divide_floats(a.astype(FLOAT32), b.astype(FLOAT32))
            return floor.astype(a.dtype), rest.astype(a.dtype)
        rest = a.instruction("frem", b)
        quotient = (a - rest) / b
        crosses = rest.compare("ne", 0.0) & ((b < 0.0) ^ (rest < 0.0))
        remainder = select(rest.compare("eq", 0.0), copysign(rest.like(0.0), b), select(crosses, rest + b, rest))
        quotient = select(crosses, quotient - 1.0, quotient)
        floor = self.floor(quotient)
        floor = select((quotient - floor) > 0.5, floor + 1.0, floor)
        floor = select(quotient.compare("eq", 0.0), copysign(quotient.like(0.0), a / b), floor)
        by_zero = b.compare("eq", 0.0)
        return select(by_zero, a / b, floor), select(by_zero, rest, remainder)

    def abs(self, x: Value) -> Value:
        if x.dtype.kind == "f":
            return intrinsic("fabs", x)
        return select(x < 0, -x, x) if x.dtype.kind == "i" else x

    def maximum(self, a: Value, b: Any) -> Value:
        return _extreme("gt", a, b)

    def minimum(self, a: Value, b: Any) -> Value:
        return _extreme("lt", a, b)

    def clip(self, x: Value, low: float, high: float) -> Value:
        return self.minimum(self.maximum(x, low), high)

    def sign(self, x: Value) -> Value:
        if x.dtype.kind == "u":
            return x.compare("ne", 0).astype(x.dtype)
        signs = (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)
        return select(x.compare("ne", x), x, signs) if x.dtype.kind == "f" else signs

    # -- rounding and roots ------------------------------------------------------------------------------------------

    floor = staticmethod(partial(intrinsic, "floor"))
    ceil = staticmethod(partial(intrinsic, "ceil"))
    trunc = staticmethod(partial(intrinsic, "trunc"))
    rint = staticmethod(partial(intrinsic, "rint"))
    sqrt = staticmethod(partial(intrinsic, "sqrt"))

    def nextafter(self, x: Value, towards: Any) -> Value:
        bits, target = x.bitcast(np.dtype(f"int{8 * x.dtype.itemsize}")), x.like(towards)
        grows = ((x > 0.0) ^ (target > x)) ^ True  # away from 0, where bits count upwards
        moved = (bits + select(grows, bits.like(1), bits.like(-1))).bitcast(x.dtype)
        moved = select(x.compare("eq", 0.0), copysign(x.like(float(np.finfo(x.dtype).smallest_subnormal)), target), moved)
        moved = select(x.compare("eq", target), target, moved)
        return select(x.compare("ne", x) | target.compare("ne", target), x + target, moved)

    # -- comparison, logic, selection --------------------------------------------------------------------------------

    equal = staticmethod(operator.eq)
    not_equal = staticmethod(operator.ne)
    less = staticmethod(operator.lt)
    less_equal = staticmethod(operator.le)
    logical_and = bitwise_and = staticmethod(operator.and_)
    logical_or = bitwise_or = staticmethod(operator.or_)
    logical_xor = bitwise_xor = staticmethod(operator.xor)
    where = staticmethod(select)

    def logical_not(self, x: Value) -> Value:
        return x ^ True

    def isnan(self, x: Value) -> Value:
        return x.compare("ne", x)

    def isinf(self, x: Value) -> Value:
        return intrinsic("fabs", x).compare("eq", math.inf)

    def isfinite(self, x: Value) -> Value:
        return intrinsic("fabs", x) < math.inf

    # -- bits --------------------------------------------------------------------------------------------------------

    def invert(self, x: Value) -> Value:
        return x ^ (True if x.dtype == BOOL else -1)

    def left_shift(self, a: Value, b: Value) -> Value:
        fits = _within_width(b)
        return select(fits, a << select(fits, b, 0), 0)

    def right_shift(self, a: Value, b: Value) -> Value:
        fits = _within_width(b)
        beyond = a >> (8 * a.dtype.itemsize - 1) if a.dtype.kind == "i" else a.like(0)
        return select(fits, a >> select(fits, b, 0), beyond)

    # -- transcendental functions ------------------------------------------------------------------------------------

    exp = staticmethod(elementary.exp)
    exp2 = staticmethod(elementary.exp2)
    expm1 = staticmethod(elementary.expm1)
    log = staticmethod(elementary.log)
    log1p = staticmethod(elementary.log1p)
    logaddexp = staticmethod(elementary.logaddexp)
    log2 = staticmethod(elementary.log2)
    log10 = staticmethod(elementary.log10)
    sinh = staticmethod(hyperbolic.sinh)
    cosh = staticmethod(hyperbolic.cosh)
    tanh = staticmethod(hyperbolic.tanh)
    arcsinh = staticmethod(hyperbolic.arcsinh)
    arccosh = staticmethod(hyperbolic.arccosh)
    arctanh = staticmethod(hyperbolic.arctanh)
    arcsin = staticmethod(angles.arcsin)
    arccos = staticmethod(angles.arccos)
    arctan = staticmethod(angles.arctan)
    arctan2 = staticmethod(angles.arctan2)
    hypot = staticmethod(angles.hypot)
    sin = staticmethod(trigonometric.sin)
    cos = staticmethod(trigonometric.cos)
    tan = staticmethod(trigonometric.tan)


def _extreme(predicate: str, a: Value, b: Any) -> Value:
    """The one of two values that compares so with the other; NaN if either is NaN."""
    other = a.like(b)
    first = a.compare(predicate, other)
    return select(first | a.compare("ne", a) if a.dtype.kind == "f" else first, a, other)


def _floor_divide_integers(a: Value, b: Value) -> tuple[Value, Value]:
    """The floor of a / b and what remains; both are 0 where b is 0, and a quotient that does not fit wraps."""
    if a.dtype.kind == "u":
        safe, by_zero = select(b.compare("eq", 0), 1, b), b.compare("eq", 0)
        quotient = a.writer.quotient(a, safe, b)
        return select(by_zero, 0, quotient), select(by_zero, 0, a - quotient * safe)
    by_zero, wraps = b.compare("eq", 0), b.compare("eq", -1)
    safe = select(by_zero | wraps, 1, b)
    quotient = a.writer.quotient(a, safe, b)
    rest = a - quotient * safe
    crosses = rest.compare("ne", 0) & ((rest < 0) ^ (b < 0))
    quotient, rest = select(crosses, quotient - 1, quotient), select(crosses, rest + b, rest)
    return select(by_zero, 0, select(wraps, -a, quotient)), select(by_zero | wraps, 0, rest)


def _within_width(shift: Value) -> Value:
    """Whether a shift is not negative and less than the number of bits."""
    unsigned = Value(shift.writer, shift.text, np.dtype(f"u{shift.dtype.itemsize}"))
    return unsigned < 8 * shift.dtype.itemsize


SCALARS = Scalars()
"""The namespace itself."""


def applied(op: Op, xp: Scalars, arguments: Sequence[Value], dtype: DType) -> Value:
    """An op of `arguments`, as a dtype, by its own `forward` with `xp`, or by `element` if it computes from positions."""
    compute = op.forward if isinstance(op, Elementwise) else op.element  # type: ignore[attr-defined]
    result: Value = compute(xp, *arguments)
    return result.astype(dtype)
