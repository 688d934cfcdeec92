"""Exponentials and logarithms as branch-free arithmetic on scalar values, so that loops over them are vectorized.

Arguments are reduced as in W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980). The logarithm follows
K. C. Ng's argument in fdlibm (1993): with f = m - 1 and s = f / (2 + f), log(1 + f) = f - s * (f - R(s^2)). Errors are below
2 ulp; NaN, infinities, zeros and denormals give what IEEE 754 asks for.
"""

from __future__ import annotations

import math

import numpy as np

from minigraph.compiler.scalar.scalar import INT64, DType, Value, fma, fused, in_float32, intrinsic, polynomial, select
from minigraph.core.record import Record


class Format(Record):
    """The parameters of the functions for a size of float."""

    integer: DType
    mantissa: int
    bias: int
    ln2: tuple[float, float]  # in two parts, the first of few bits
    exp_series: tuple[float, ...]  # (exp(r) - 1 - r) / r^2
    log_series: tuple[float, ...]
    log10_of_2: tuple[float, float]  # in two parts as well
    zero: float  # below it exp is 0
    infinite: float  # above it exp is infinite


FORMATS = {
    4: Format(
        np.dtype("int32"), 23, 127, (6.9313812256e-01, 9.0580006145e-06),
        (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
        (0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693), (3.0102920532e-01, 7.9034151668e-07), -104.0, 89.0,
    ),
    8: Format(
        INT64, 52, 1023, (6.93147180369123816490e-01, 1.90821492927058770002e-10),
        tuple(1 / math.factorial(k) for k in range(13, 1, -1)),
        (
            1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
            2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01,
        ), (3.01029995663611771306e-01, 3.69423907715893078616e-13), -746.0, 710.0,
    ),
}  # fmt: skip


def clamp(x: Value, low: float, high: float) -> Value:
    """x limited to [low, high]; NaN stays NaN."""
    below = select(x < low, low, x)
    return select(below > high, high, below)


Power = tuple[Value, Value]
"""A power of 2 as two factors, each within the normal range where their product is not."""


def _rounded(x: Value, scale: float) -> tuple[Value, Power]:
    """n = x * scale rounded to an integer, as a float, and 2**n, for small n."""
    form = FORMATS[x.dtype.itemsize]
    # 1.5 * 2**mantissa pushes the fraction out, and leaves n in the low bits, with twice the bias: half of both is an exponent
    shift = 1.5 * 2.0**form.mantissa + 2 * form.bias
    pushed = fma(x, scale, shift)
    both = pushed.bitcast(form.integer)
    half = both >> 1
    return pushed - shift, (_float_of(half, x.dtype), _float_of(both - half, x.dtype))


def small_power(k: Value) -> Value:
    """2**k for an integer k, a float, within the normal range."""
    form = FORMATS[k.dtype.itemsize]
    return _float_of((k + (1.5 * 2.0**form.mantissa + form.bias)).bitcast(form.integer), k.dtype)


def _float_of(exponent: Value, dtype: DType) -> Value:
    """The power of 2 with these bits as its exponent."""
    return (exponent << FORMATS[dtype.itemsize].mantissa).bitcast(dtype)


def _reduced(x: Value) -> tuple[Value, Power, Value]:
    """n, 2**n, and r with x = n * log(2) + r and |r| <= log(2) / 2."""
    form = FORMATS[x.dtype.itemsize]
    n, power = _rounded(x, 1 / math.log(2))
    return n, power, fma(n, -form.ln2[1], fma(n, -form.ln2[0], x))


def reduced_sum(x: Value, low: Value) -> tuple[Value, Power, Value, Value]:
    """The same of x + low, where `low` is what x lacks, and last what r lacks."""
    form = FORMATS[x.dtype.itemsize]
    n, power = _rounded(x, 1 / math.log(2))
    rough, tail = fma(n, -form.ln2[0], x), fma(n, -form.ln2[1], low)
    r = rough + tail
    return n, power, r, (rough - r) + tail


def _exponential(r: Value, power: Power) -> Value:
    """exp(r) times a power of 2, for |r| <= log(2) / 2."""
    series = polynomial(r, FORMATS[r.dtype.itemsize].exp_series)
    return fma(r, fma(r, series, 1.0), 1.0) * power[0] * power[1]


@in_float32
def exp(x: Value) -> Value:
    """e**x."""
    form = FORMATS[x.dtype.itemsize]
    _, power, r = _reduced(clamp(x, form.zero, form.infinite))
    return _exponential(r, power)


@in_float32
def exp2(x: Value) -> Value:
    """2**x."""
    form = FORMATS[x.dtype.itemsize]
    inside = clamp(x, form.zero / math.log(2), form.infinite / math.log(2))
    n, power = _rounded(inside, 1.0)
    return _exponential((inside - n) * math.log(2), power)


@in_float32
def expm1(x: Value) -> Value:
    """e**x - 1."""
    form = FORMATS[x.dtype.itemsize]
    n, power, r = _reduced(clamp(x, -(form.mantissa + 8) * math.log(2), form.infinite))
    fewer = small_power(select(n < 62.0, -n, -62.0))
    result = (fma(r * r, polynomial(r, form.exp_series), r) + (1.0 - fewer)) * power[0] * power[1]
    return select(intrinsic("fabs", x) < 2.0 ** -(form.mantissa + 2), x, result)


def _split(x: Value) -> tuple[Value, Value]:
    """k, as a float, and m with x = m * 2**k and m between sqrt(1/2) and sqrt(2), for positive normal x."""
    form = FORMATS[x.dtype.itemsize]
    root = int(np.array(math.sqrt(0.5), x.dtype).view(form.integer))
    bits = x.bitcast(form.integer) - root
    mantissa = (bits & ((1 << form.mantissa) - 1)) + root
    # with no sign, behind the bits of 2**mantissa, the exponent is a float that no machine has to convert
    positive = (bits + ((form.bias + 1) << form.mantissa)).bitcast(np.dtype(f"u{x.dtype.itemsize}")) >> form.mantissa
    pushed = (positive.bitcast(form.integer) + ((form.bias + form.mantissa) << form.mantissa)).bitcast(x.dtype)
    return pushed - (2.0**form.mantissa + form.bias + 1), mantissa.bitcast(x.dtype)


def split_any(x: Value) -> tuple[Value, Value]:
    """The same for any positive x."""
    form = FORMATS[x.dtype.itemsize]
    tiny = x < float(np.finfo(x.dtype).smallest_normal)
    k, m = _split(select(tiny, x * 2.0 ** (form.mantissa + 2), x))
    return select(tiny, k - float(form.mantissa + 2), k), m


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
    k, m = split_any(x)
    return _with_edges(_log_of_sum(k, m - 1.0, x.like(0.0)), x, 0.0)


def parts(dtype: DType, high: float, low: float) -> tuple[float, float]:
    """The number high + low, given in floats of 64 bits, as such a sum in floats of a dtype."""
    first = float(np.array(high, dtype))
    return first, high - first + low


def _log_to_base(x: Value, scale: tuple[float, float], two: tuple[float, float]) -> Value:
    """log(x) / log(base) as FreeBSD's e_log2.c has it: the sum of a rounded part and what it lacks.

    scale: 1 / log(base). two: log(2) / log(base). Both are in two parts.
    """
    form = FORMATS[x.dtype.itemsize]
    k, m = split_any(x)
    f = m - 1.0
    s, half_square = f / (f + 2.0), f * f * 0.5
    square = s * s
    high = f - half_square
    low = ((f - high) - half_square) + s * (half_square + square * polynomial(square, form.log_series))
    scaled = high.instruction("fmul", scale[0])
    rest = fused(high, scale[0], -scaled) + fma(low, scale[0], high * scale[1])
    whole = k * two[0]
    total = whole + scaled
    return _with_edges(total + (rest + fma(k, two[1], (whole - total) + scaled)), x, 0.0)


@in_float32
def log2(x: Value) -> Value:
    """The logarithm to base 2."""
    return _log_to_base(x, parts(x.dtype, 1.4426950408889634, 2.0355273740931033e-17), (1.0, 0.0))


@in_float32
def log10(x: Value) -> Value:
    """The logarithm to base 10."""
    scale = parts(x.dtype, 0.4342944819032518, 1.098319650216765e-17)
    return _log_to_base(x, scale, FORMATS[x.dtype.itemsize].log10_of_2)


@in_float32
def log1p(x: Value) -> Value:
    """log(1 + x)."""
    return log_of_sum(x, x.like(0.0))


def log_of_sum(x: Value, low: Value) -> Value:
    """log(1 + x + low), where `low` is what x lacks, less than its last digit."""
    u = x + 1.0
    k, m = _split(u)
    near = k.compare("eq", 0.0)
    lost = select(near, 0.0, select(u > 2.0, 1.0 - (u - x), x - (u - 1.0)))
    result = _log_of_sum(k, select(near, x, m - 1.0), (lost + low) / u)
    tiny = intrinsic("fabs", x) < 2.0 ** -(FORMATS[x.dtype.itemsize].mantissa + 2)
    return select(tiny, x, _with_edges(result, x, -1.0))


@in_float32
def logaddexp(a: Value, b: Value) -> Value:
    """log(exp(a) + exp(b))."""
    gap = a - b
    larger = select(gap > 0.0, a, b)
    result = larger + log1p(exp(-intrinsic("fabs", gap)))
    return select(a.compare("eq", b), a + math.log(2), select(gap.compare("ne", gap), gap, result))
