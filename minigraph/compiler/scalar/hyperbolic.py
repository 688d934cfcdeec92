"""Hyperbolic functions and their inverses as branch-free arithmetic on scalar values, so that loops over them are vectorized.

With |x| = n * log(2) + r they follow from cosh(r) and sinh(r), and from 2**n, by the theorems of addition. The inverses are
those of fdlibm (1993), logarithms of 1 + u. The polynomials are Taylor's in float64, and interpolate at Chebyshev's points in
float32.
"""

from __future__ import annotations

import math

from minigraph.compiler.scalar.elementary import FORMATS, clamp, expm1, log_of_sum, reduced_sum, small_power
from minigraph.compiler.scalar.scalar import Value, copysign, fma, in_float32, intrinsic, polynomial, select

SINH = {
    4: (1.9891981314e-04, 8.3333100242e-03, 1.6666666683e-01),
    8: (1.6059043836821613e-10, 2.5052108385441720e-08, 2.7557319223985893e-06, 1 / 5040, 1 / 120, 1 / 6),
}
"""(sinh(r) / r - 1) / r^2 in r^2 for |r| <= log(2) / 2."""

COSH = {
    4: (2.4869204167e-05, 1.3888837088e-03, 4.1666666794e-02, 0.5),
    8: (1.1470745597729725e-11, 2.0876756987868099e-09, 2.7557319223985888e-07, 1 / 40320, 1 / 720, 1 / 24, 0.5),
}
"""(cosh(r) - 1) / r^2 in r^2."""


def _sum_of_exponentials(x: Value, sign: float) -> Value:
    """(exp(|x|) + sign * exp(-|x|)) / 2, for a sign of 1 or -1."""
    inside = clamp(intrinsic("fabs", x), 0.0, FORMATS[x.dtype.itemsize].infinite + 1.0)
    n, power, r, rest = reduced_sum(inside, x.like(0.0))
    square = r * r
    sine = fma(r * square, polynomial(square, SINH[x.dtype.itemsize]), rest)  # less r
    cosine = square * polynomial(square, COSH[x.dtype.itemsize])  # less 1
    inverse = small_power(select(n < 60.0, n, 60.0) * -2.0) * sign
    alike, other = 1.0 + inverse, 1.0 - inverse
    lost = inverse - (alike - 1.0)
    small = fma(other, sine, fma(alike, cosine, lost))
    return (alike + fma(other, r, small)) * 0.5 * power[0] * power[1]


@in_float32
def sinh(x: Value) -> Value:
    """The hyperbolic sine."""
    return copysign(_sum_of_exponentials(x, -1.0), x)


@in_float32
def cosh(x: Value) -> Value:
    """The hyperbolic cosine."""
    return _sum_of_exponentials(x, 1.0)


@in_float32
def tanh(x: Value) -> Value:
    """The hyperbolic tangent: t / (t + 2) for t = expm1(2 |x|), the quotient corrected by what remains."""
    t = expm1(clamp(intrinsic("fabs", x), 0.0, 22.0) * 2.0)
    inverse = 1.0 / (t + 2.0)
    quotient = t * inverse
    rest = fma(-quotient, t, fma(quotient, -2.0, t))
    return copysign(fma(rest, inverse, quotient), x)


def _log_of_twice(x: Value, a: Value, b: Value) -> Value:
    """log(2 x) for x so large that x + 1 is x, else log(1 + a + b), where `a` is larger than `b`."""
    large, total = x > 2.0**60, a + b
    result = log_of_sum(select(large, x, total), select(large, 0.0, (a - total) + b))
    return select(large, result + math.log(2), result)


@in_float32
def arcsinh(x: Value) -> Value:
    """The inverse of sinh: log(1 + |x| + x^2 / (1 + sqrt(1 + x^2)))."""
    size = intrinsic("fabs", x)
    square = size * size
    return copysign(_log_of_twice(size, size, square / (1.0 + intrinsic("sqrt", 1.0 + square))), x)


@in_float32
def arccosh(x: Value) -> Value:
    """The inverse of cosh: log(1 + t + sqrt(t * (t + 2))) for t = x - 1."""
    t = x - 1.0
    root = intrinsic("sqrt", fma(t, t, t * 2.0))
    return select(x < 1.0, math.nan, _log_of_twice(x, root, t))


@in_float32
def arctanh(x: Value) -> Value:
    """The inverse of tanh: log(1 + u) / 2 for u = 2 |x| / (1 - |x|), below 0.5 as 2 |x| + 2 x^2 / (1 - |x|)."""
    size = intrinsic("fabs", x)
    twice, near = size + size, size < 0.5
    quotient = select(near, twice * size, twice) / (1.0 - size)
    first = select(near, twice, 0.0)
    u = first + quotient
    return copysign(log_of_sum(u, (first - u) + quotient) * 0.5, x)
