"""Inverse trigonometric functions as branch-free arithmetic on scalar values, so that loops over them are vectorized.

Arguments are reduced as by K. C. Ng in fdlibm (1993), and the polynomial of the arctangent in float64 is his. The others
interpolate at Chebyshev's points. Quotients and roots are corrected by what they leave.
"""

from __future__ import annotations

import math

import numpy as np

from minigraph.compiler.scalar.elementary import FORMATS, parts
from minigraph.compiler.scalar.scalar import Value, copysign, fma, fused, in_float32, intrinsic, polynomial, select

ARCTAN = {
    4: (-6.2158114213e-02, 1.0668385457e-01, -1.4256574978e-01, 1.9999314681e-01, -3.3333330718e-01),
    8: (
        -1.62858201153657823623e-02, 3.65315727442169155270e-02, -4.97687799461593236017e-02, 5.83357013379057348645e-02,
        -6.66107313738753120669e-02, 7.69187620504482999495e-02, -9.09088713343650656196e-02, 1.11111104054623557880e-01,
        -1.42857142725034663711e-01, 1.99999999998764832476e-01, -3.33333333333329318027e-01,
    ),
}  # fmt: skip
"""(arctan(t) / t - 1) / t^2 in t^2 for |t| <= 7/16."""

ARCSIN = {
    4: (3.3690847203e-02, 1.7149238358e-02, 3.1100662735e-02, 4.4599401529e-02, 7.5000945435e-02, 1.6666666337e-01),
    8: (
        0.028757851367421566, -0.014851887071247204, 0.01740087944269402, 0.005457506718640358, 0.01032281435018578,
        0.011479177415184906, 0.013971212973552933, 0.017352392720869973, 0.02237217294214989, 0.030381944138531247,
        0.04464285714635543, 0.07499999999998433, 1 / 6,
    ),
}  # fmt: skip
"""(arcsin(s) / s - 1) / s^2 in s^2 for |s| <= 1/2."""

STEPS = (
    (7 / 16, 0.0, (0.0, 0.0)),
    (11 / 16, 0.5, (4.63647609000806093515e-01, 2.26987774529616870924e-17)),
    (19 / 16, 1.0, (7.85398163397448278999e-01, 3.06161699786838301793e-17)),
    (39 / 16, 1.5, (9.82793723247329054082e-01, 1.39033110312309984516e-17)),
)
"""The slopes below which the angle is taken from a base, the base's slope, and the base in two parts."""

QUARTER, HALF = (1.5707963267948966, 6.123233995736766e-17), (3.141592653589793, 1.2246467991473532e-16)
"""Quarter and half a turn, in two parts."""


def _reflected(high: Value, low: Value) -> tuple[Value, Value]:
    """Half a turn less an angle given in two parts, as two parts."""
    whole, rest = parts(high.dtype, *HALF)
    gap = whole - high
    return gap, ((whole - gap) - high) + (rest - low)


def _angle(a: Value, b: Value, turned: Value | None = None) -> Value:
    """The angle of the point with ordinate `a` and abscissa `b`, neither negative; taken from half a turn where `turned`."""
    steep = a >= b * STEPS[-1][0]
    slope, high, low = a.like(STEPS[-1][1]), *(a.like(one) for one in parts(a.dtype, *STEPS[-1][2]))
    for bound, base, angle in reversed(STEPS[:-1]):
        below = a < b * bound
        first, second = parts(a.dtype, *angle)
        slope, high, low = select(below, base, slope), select(below, first, high), select(below, second, low)
    first, second = parts(a.dtype, *QUARTER)
    high, low = select(steep, first, high), select(steep, second, low)
    above, under = select(steep, -b, fma(-slope, b, a)), select(steep, a, fma(slope, a, b))
    inverse = 1.0 / under
    t = above * inverse
    square = t * t
    rest = fma(t * square, polynomial(square, ARCTAN[a.dtype.itemsize]), fused(-t, under, above) * inverse)
    if turned is not None:
        over, more = _reflected(high, low)
        high, low = select(turned, over, high), select(turned, more, low)
        t, rest = select(turned, -t, t), select(turned, -rest, rest)
    return high + (t + (rest + low))


@in_float32
def arctan(x: Value) -> Value:
    """The angle in (-pi/2, pi/2) whose tangent is x."""
    size = intrinsic("fabs", x)
    return copysign(_angle(select(size > 2.0**60, 2.0**60, size), x.like(1.0)), x)


@in_float32
def arctan2(y: Value, x: Value) -> Value:
    """The angle in [-pi, pi] of the point with ordinate y and abscissa x."""
    a, b = intrinsic("fabs", y), intrinsic("fabs", x)
    larger = select(a > b, a, b)
    infinite = larger.compare("eq", math.inf)
    top = 1000 if x.dtype.itemsize == 8 else 120
    scale = select(larger > 2.0**top, 2.0 ** (-0.1 * top), select(larger < 1.0, larger.like(2.0 ** (0.25 * top)), 1.0))
    a = select(infinite, select(a.compare("eq", math.inf), a.like(1.0), 0.0), a * scale)
    b = select(infinite, select(b.compare("eq", math.inf), b.like(1.0), 0.0), b * scale)
    b = select(larger.compare("eq", 0.0), 1.0, b)
    angle = copysign(_angle(a, b, x.bitcast(FORMATS[x.dtype.itemsize].integer) < 0), y)
    return select(x.compare("ne", x) | y.compare("ne", y), x + y, angle)


@in_float32
def hypot(a: Value, b: Value) -> Value:
    """sqrt(a^2 + b^2), the root of a sum of exact squares corrected by what it leaves."""
    first, second = intrinsic("fabs", a), intrinsic("fabs", b)
    swap = second > first
    larger, smaller = select(swap, second, first), select(swap, first, second)
    infinite = first.compare("eq", math.inf) | second.compare("eq", math.inf)
    bound = 500 if a.dtype.itemsize == 8 else 60
    much = select(larger < 2.0**-bound, larger.like(2.0 ** (1.5 * bound)), 1.0)
    scale = select(larger > 2.0**bound, 2.0 ** (-1.5 * bound), much)
    larger, smaller = larger * scale, smaller * scale
    square, other = larger.instruction("fmul", larger), smaller.instruction("fmul", smaller)
    total = square + other
    low = ((square - total) + other) + (fused(larger, larger, -square) + fused(smaller, smaller, -other))
    root = intrinsic("sqrt", total)
    corrected = root + (fused(-root, root, total) + low) * (0.5 / root)
    return select(infinite, math.inf, select(total > 0.0, corrected, total) * (1.0 / scale))


def _inverse_sine(x: Value) -> tuple[Value, Value, Value]:
    """Whether |x| <= 1/2, and arcsin(|x|), else that of sqrt((1 - |x|) / 2), as a sum whose second part is small."""
    size = intrinsic("fabs", x)
    near = size <= 0.5
    square = select(near, size * size, fma(size, -0.5, 0.5))
    root = select(near, size, intrinsic("sqrt", square))
    left = fused(-root, root, square) * (0.5 / (root + float(np.finfo(x.dtype).smallest_normal)))
    series = fma(root * square, polynomial(square, ARCSIN[x.dtype.itemsize]), select(near, 0.0, left))
    return near, root, series


def _less(high: Value, low: Value, angle: Value, small: Value) -> Value:
    """The difference of two angles, each given as a sum."""
    gap = high - angle
    return gap + ((((high - gap) - angle) + low) - small)


@in_float32
def arcsin(x: Value) -> Value:
    """The angle in [-pi/2, pi/2] whose sine is x."""
    near, root, series = _inverse_sine(x)
    far = _less(*_constants(x, QUARTER), root * 2.0, series * 2.0)
    return copysign(select(near, root + series, far), x)


@in_float32
def arccos(x: Value) -> Value:
    """The angle in [0, pi] whose cosine is x."""
    near, root, series = _inverse_sine(x)
    negative = x < 0.0
    factor = select(near, select(negative, x.like(-1.0), 1.0), select(negative, x.like(2.0), -2.0))
    (quarter, quarter_low), (half, half_low) = _constants(x, QUARTER), _constants(x, HALF)
    high = select(near, quarter, select(negative, half, 0.0))
    low = select(near, quarter_low, select(negative, half_low, 0.0))
    return _less(high, low, root * factor, series * factor)


def _constants(x: Value, number: tuple[float, float]) -> tuple[Value, Value]:
    """A number in two parts, as values of x's dtype."""
    high, low = parts(x.dtype, *number)
    return x.like(high), x.like(low)
