"""Sine, cosine and tangent as branch-free arithmetic on scalar values, so that loops over them are vectorized.

Arguments are reduced as by W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980), but with pi/2 in three
parts of full width: the first difference is fused with its product and exact, and what the second two round off is kept. The
polynomials are those of K. C. Ng's kernels in fdlibm (1993) for float64, and interpolate at Chebyshev's points for float32.
Arguments beyond a limit are left to the C library.
"""

from __future__ import annotations

import math

import numpy as np

from minigraph.compiler.scalar.scalar import INT64, DType, Value, fma, fused, in_float32, polynomial, select
from minigraph.core.record import Record


class Circle(Record):
    """The parameters of the functions for a size of float."""

    integer: DType
    mantissa: int
    limit: float  # beyond it arguments are not reduced here
    quarter: tuple[float, float, float]  # pi/2 in three parts
    sine: tuple[float, ...]  # (sin(r) / r - 1) / r^2 in r^2
    cosine: tuple[float, ...]  # (cos(r) - 1 + r^2 / 2) / r^4 in r^2


CIRCLES = {
    4: Circle(
        np.dtype("int32"), 23, 2.0**17, (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
        (-1.9577775656e-04, 8.3327005108e-03, -1.6666664412e-01), (2.4537805112e-05, -1.3888255177e-03, 4.1666664408e-02),
    ),
    8: Circle(
        INT64, 52, 2.0**45, (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
        (
            1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
            -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01,
        ),
        (
            -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
            2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02,
        ),
    ),
}  # fmt: skip


class Turned(Record):
    """An angle as quarter turns, an integer of which the last two bits matter, and what remains, with what was rounded off."""

    quarters: Value
    rest: Value
    tail: Value

    def is_odd(self, more: int = 0) -> Value:
        """Whether the quarter turns, with `more` added, are odd."""
        return ((self.quarters + more) & 1).compare("ne", 0)

    def sign_bit(self, more: int = 0) -> Value:
        """The sign that the sine of the quarter turns, with `more` added, has, as the first bit."""
        return ((self.quarters + more) & 2) << (8 * self.quarters.dtype.itemsize - 2)


def _turned(x: Value) -> Turned:
    """x in quarter turns."""
    circle = CIRCLES[x.dtype.itemsize]
    first, second, third = circle.quarter
    shift = 1.5 * 2.0**circle.mantissa  # pushes the fraction out, and leaves an integer in the low bits
    pushed = fma(x, 2 / math.pi, shift)
    n = pushed - shift
    above, product = fused(n, -first, x), n.instruction("fmul", second)
    rest = above - product
    back = rest - above
    lost = (above - (rest - back)) - (product + back)
    return Turned(pushed.bitcast(circle.integer), rest, lost - fused(n, second, -product) - n * third)


def _sine_correction(angle: Turned, square: Value) -> Value:
    """sin(r) - r for what remains of an angle, and r^2 rounded."""
    cube = square * angle.rest
    *series, first = CIRCLES[square.dtype.itemsize].sine
    higher = polynomial(square, tuple(series))
    return fma(cube, first, angle.tail - square * (angle.tail * 0.5 - cube * higher))


def _cosine(angle: Turned, square: Value) -> tuple[Value, Value]:
    """The cosine of what remains of an angle, and r^2 rounded, as a sum whose second part is small."""
    half = square * 0.5
    leading = 1.0 - half
    fourth = square * square
    small = fma(fourth, polynomial(square, CIRCLES[square.dtype.itemsize].cosine), -(angle.rest * angle.tail))
    return leading, ((1.0 - leading) - half) + small


def _signed(x: Value, bit: Value) -> Value:
    """x, its sign turned where a bit, the first one, is set."""
    return (x.bitcast(bit.dtype) ^ bit).bitcast(x.dtype)


def _wave(x: Value, ahead: int) -> Value:
    """The sine of x and `ahead` quarter turns more, for x = 0 without a sign."""
    angle = _turned(x)
    square = angle.rest * angle.rest
    sine = angle.rest + _sine_correction(angle, square)
    cosine, small = _cosine(angle, square)
    value = select(angle.is_odd(ahead), cosine + small, sine)
    return _signed(value, angle.sign_bit(ahead))


def _within(name: str, x: Value, result: Value) -> Value:
    """The result of the function `name` of x, within the limit."""
    return x.writer.beyond(CIRCLES[x.dtype.itemsize].limit, name, x, result)


@in_float32
def sin(x: Value) -> Value:
    """The sine of x in radians."""
    return _within("sin", x, select(x.compare("eq", 0.0), x, _wave(x, 0)))


@in_float32
def cos(x: Value) -> Value:
    """The cosine of x in radians."""
    return _within("cos", x, _wave(x, 1))


@in_float32
def tan(x: Value) -> Value:
    """The tangent of x in radians: sine over cosine or the reverse, both as sums, the quotient corrected by what remains."""
    angle = _turned(x)
    square = angle.rest * angle.rest
    correction = _sine_correction(angle, square)
    sine = angle.rest + correction
    sine_low = correction - (sine - angle.rest)
    leading, small = _cosine(angle, square)
    small = small - fused(angle.rest, angle.rest, -square) * 0.5
    cosine = leading + small
    cosine_low = small - (cosine - leading)
    odd = angle.is_odd()
    above, below = select(odd, -cosine, sine), select(odd, sine, cosine)
    above_low, below_low = select(odd, -cosine_low, sine_low), select(odd, sine_low, cosine_low)
    inverse = 1.0 / below
    quotient = above * inverse
    rest = fused(-quotient, below, above) + fma(-quotient, below_low, above_low)
    return _within("tan", x, select(x.compare("eq", 0.0), x, fma(rest, inverse, quotient)))
