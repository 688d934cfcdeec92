"""Exponentials and logarithms as branch-free arithmetic on scalar values, so that loops over them are vectorized.

Arguments are reduced as in W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980). The logarithm follows
K. C. Ng's argument in fdlibm (1993): with f = m - 1 and s = f / (2 + f), log(1 + f) = f - s * (f - R(s^2)). Errors are below
3 ulp; NaN, infinities, zeros and denormals give what IEEE 754 asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minigraph.kernels.scalar import (
    INT64,
    DType,
    Value,
    copysign,
    fma,
    in_float32,
    intrinsic,
    polynomial,
    select,
)
from minigraph.record import Record


class Format(Record):
    """What the functions need to know about a size of float."""

    integer: DType
    mantissa: int
    bias: int
    ln2: tuple[float, float]  # in two parts, the first of few bits
    exp_series: tuple[float, ...]  # (exp(r) - 1 - r) / r^2
    log_series: tuple[float, ...]
    zero: float  # below it exp is 0
    denormal: float  # below it exp is denormal
    infinite: float  # above it exp is infinite


FORMATS = {
    4: Format(
        np.dtype("int32"), 23, 127, (6.9313812256e-01, 9.0580006145e-06),
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
        (0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693), -104.0, -87.0, 88.72283,
    ),
    8: Format(
        INT64, 52, 1023, (6.93147180369123816490e-01, 1.90821492927058770002e-10),
        tuple(1 / math.factorial(k) for k in range(13, 1, -1)),
        (
            1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
            2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01,
        ), -746.0, -708.0, 709.782712893384,
    ),
}  # fmt: skip


def power_of_two(n: Value, dtype: DType) -> Value:
    """2**n for an integer n within the normal range of a float dtype."""
    form = FORMATS[dtype.itemsize]
    return ((n + form.bias) << form.mantissa).bitcast(dtype)


def clamp(x: Value, low: float, high: float) -> Value:
    """x limited to [low, high]; NaN stays NaN."""
    below = select(x < low, low, x)
    return select(below > high, high, below)


def _rounded(x: Value) -> tuple[Value, Value]:
    """x rounded to an integer, as a float and as an integer with other bits above its lowest nine, for small x.

    Adding 1.5 * 2**mantissa pushes the fraction out; what remains in the low bits is the integer.
    """
    form = FORMATS[x.dtype.itemsize]
    shift = 1.5 * 2.0**form.mantissa
    pushed = x + shift
    return pushed - shift, pushed.bitcast(form.integer)


def _reduced(x: Value) -> tuple[Value, Value, Value]:
    """n, as a float and as an integer's low bits, and r with x = n * log(2) + r and |r| <= log(2) / 2."""
    form = FORMATS[x.dtype.itemsize]
    n, bits = _rounded(x * (1 / math.log(2)))
    return n, bits, fma(n, -form.ln2[1], fma(n, -form.ln2[0], x))


def _series(r: Value) -> Value:
    """exp(r) - 1 for |r| <= log(2) / 2."""
    return fma(r * r, polynomial(r, FORMATS[r.dtype.itemsize].exp_series), r)


def _scaled(x: Value, n: Value, small: Value) -> Value:
    """x * 2**n for x near 1 and n in the low bits of an integer, by adding to the exponent; in two steps where `small`."""
    form = FORMATS[x.dtype.itemsize]
    half = form.bias // 2
    lifted = (x.bitcast(form.integer) + (n << form.mantissa)) + select(small, n.like(half << form.mantissa), 0)
    return lifted.bitcast(x.dtype) * select(small, x.like(2.0**-half), 1.0)


def _exponential(x: Value, unit: float, reduce: Callable[[Value], tuple[Value, Value, Value]]) -> Value:
    """exp(x * unit), with `reduce` to take the argument apart."""
    form = FORMATS[x.dtype.itemsize]
    inside = clamp(x, form.zero / unit, form.infinite / unit)
    _, n, r = reduce(inside)
    result = _scaled(_series(r) + 1.0, n, inside < form.denormal / unit)
    return select(x <= form.infinite / unit, result, x + math.inf)


@in_float32
def exp(x: Value) -> Value:
    """e**x."""
    return _exponential(x, 1.0, _reduced)


@in_float32
def exp2(x: Value) -> Value:
    """2**x."""

    def reduced(inside: Value) -> tuple[Value, Value, Value]:
        n, bits = _rounded(inside)
        return n, bits, (inside - n) * math.log(2)

    return select(x.compare("eq", 128.0 if x.dtype.itemsize == 4 else 1024.0), math.inf, _exponential(x, math.log(2), reduced))


@in_float32
def expm1(x: Value) -> Value:
    """e**x - 1."""
    form = FORMATS[x.dtype.itemsize]
    inside = clamp(x, -(form.mantissa + 8) * math.log(2), form.infinite)
    n, _, r = _reduced(inside)
    fewer = power_of_two(-(select(n < 64.0, n, 64.0).astype(form.integer)), x.dtype)
    result = (_series(r) + (1.0 - fewer)) * 0.5
    result = (
        result * power_of_two(select(n < 2.0, n, n - 1.0).astype(form.integer), x.dtype) * select(n < 2.0, x.like(2.0), 4.0)
    )
    small = intrinsic("fabs", x) < 2.0 ** -(form.mantissa + 2)
    result = select(x <= form.infinite, result, x + math.inf)
    return select(small, x, result)


@in_float32
def tanh(x: Value) -> Value:
    """The hyperbolic tangent, from expm1(2 |x|)."""
    t = expm1(clamp(intrinsic("fabs", x), 0.0, 22.0) * 2.0)
    return copysign(t / (t + 2.0), x)


def _split(x: Value) -> tuple[Value, Value]:
    """k, as a float, and m with x = m * 2**k and m between sqrt(1/2) and sqrt(2), for positive normal x."""
    form = FORMATS[x.dtype.itemsize]
    root = int(np.array(math.sqrt(0.5), x.dtype).view(form.integer))
    bits = x.bitcast(form.integer) - root
    mantissa = (bits & ((1 << form.mantissa) - 1)) + root
    return (bits >> form.mantissa).astype(x.dtype), mantissa.bitcast(x.dtype)


def _log_of_sum(k: Value, f: Value, correction: Value) -> Value:
    """k * log(2) + log(1 + f) + correction, for f between sqrt(1/2) - 1 and sqrt(2) - 1."""
    form = FORMATS[f.dtype.itemsize]
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    series = s * (half_square + z * polynomial(z, form.log_series))
    return fma(k, form.ln2[0], f - (half_square - (series + fma(k, form.ln2[1], correction))))


def _with_edges(result: Value, x: Value, pole: float) -> Value:
    """A logarithm with its values where the argument is at the pole, below it, infinite, or NaN."""
    finite = select(x < math.inf, result, x)
    return select(x > pole, finite, select(x.compare("eq", pole), -math.inf, x.like(math.nan)))


@in_float32
def log(x: Value) -> Value:
    """The natural logarithm."""
    form = FORMATS[x.dtype.itemsize]
    tiny = x < float(np.finfo(x.dtype).smallest_normal)
    k, m = _split(select(tiny, x * 2.0 ** (form.mantissa + 2), x))
    k = select(tiny, k - float(form.mantissa + 2), k)
    return _with_edges(_log_of_sum(k, m - 1.0, x.like(0.0)), x, 0.0)


@in_float32
def log1p(x: Value) -> Value:
    """log(1 + x)."""
    u = x + 1.0
    k, m = _split(u)
    lost = select(u > 2.0, 1.0 - (u - x), x - (u - 1.0)) / u
    near = k.compare("eq", 0.0)
    result = _log_of_sum(k, select(near, x, m - 1.0), select(near, x.like(0.0), lost))
    tiny = intrinsic("fabs", x) < 2.0 ** -(FORMATS[x.dtype.itemsize].mantissa + 2)
    return select(tiny, x, _with_edges(result, x, -1.0))


@in_float32
def logaddexp(a: Value, b: Value) -> Value:
    """log(exp(a) + exp(b))."""
    gap = a - b
    larger = select(gap > 0.0, a, b)
    result = larger + log1p(exp(-intrinsic("fabs", gap)))
    return select(a.compare("eq", b), a + math.log(2), select(gap.compare("ne", gap), gap, result))
