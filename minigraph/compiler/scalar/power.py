"""Powers as branch-free arithmetic on scalar values, so that loops over them are vectorized.

a**b is exp(b * log(a)), with the logarithm in two floats, of which the second holds what the first lacks: for m between
sqrt(1/2) and sqrt(2) and s = (m - 1) / (m + 1), log(m) = 2 s (1 + s^2 / 3 + s^4 P(s^2)), where P interpolates at Chebyshev's
points. The special cases are those of C99, F.9.4.4.
"""

from __future__ import annotations

import math

from minigraph.compiler.scalar.elementary import FORMATS, clamp, parts, reduced_sum, split_any
from minigraph.compiler.scalar.scalar import Value, copysign, fma, fused, in_float32, intrinsic, polynomial, select

SERIES = {
    4: (1.1524076569e-01, 1.4281118985e-01, 2.0000007526e-01),
    8: (
        0.05381145709314322, 0.052281709727126424, 0.058834062330574734, 0.06666648274786181, 0.07692307880488732,
        0.09090909089829123, 0.11111111111114212, 0.14285714285714282, 0.2,
    ),
}  # fmt: skip
"""((arctanh(s) / s - 1) / s^2 - 1/3) / s^2 in s^2."""

LARGEST = {4: 2.0**34, 8: 2.0**65}
"""A larger exponent gives what this one does: 1, 0 or infinity."""


def _log(x: Value) -> tuple[Value, Value]:
    """log(x) for x > 0 as a sum whose second part is small."""
    k, m = split_any(x)
    f, below = m - 1.0, m + 1.0
    inverse = 1.0 / below
    s = f.instruction("fmul", inverse)
    s_low = (fused(-s, below, f) - s * (m - (below - 1.0))) * inverse
    square = s.instruction("fmul", s)
    square_low = fma(s * 2.0, s_low, fused(s, s, -square))
    high, low = parts(x.dtype, 0.3333333333333333, 1.850371707708594e-17)
    third = square.instruction("fmul", high)
    series = (square * square).instruction("fmul", polynomial(square, SERIES[x.dtype.itemsize]))
    ratio = third + series
    ratio_low = ((third - ratio) + series) + fma(square_low, high, fma(square, low, fused(square, high, -third)))
    twice, twice_low = s * 2.0, s_low * 2.0
    product = twice.instruction("fmul", ratio)
    rest = fused(twice, ratio, -product) + fma(twice, ratio_low, twice_low * ratio)
    total = twice.instruction("fadd", product)
    total_low = ((twice - total) + product) + (twice_low + rest)
    ln2 = FORMATS[x.dtype.itemsize].ln2
    result = fused(k, ln2[0], total)
    return result, (fused(k, ln2[0], -result) + total) + fma(k, ln2[1], total_low)


def _of_magnitude(size: Value, b: Value) -> Value:
    """size**b for a size of 0 or more."""
    form, largest = FORMATS[size.dtype.itemsize], LARGEST[size.dtype.itemsize]
    log, log_low = _log(size)
    log = select(size < math.inf, select(size > 0.0, log, -math.inf), size)
    exponent = clamp(b, -largest, largest)
    product = exponent.instruction("fmul", log)
    low = fused(exponent, log, -product) + exponent * log_low
    low = select(intrinsic("fabs", product) < -form.zero, low, 0.0)
    _, scale, r, rest = reduced_sum(clamp(product, form.zero, form.infinite), low)
    return (fma(r * r, polynomial(r, form.exp_series), rest) + r + 1.0) * scale[0] * scale[1]


@in_float32
def power(a: Value, b: Value) -> Value:
    """a**b; a negative number to a power that is no integer is NaN."""
    half = b * 0.5
    is_whole = intrinsic("rint", b).compare("eq", b)
    is_odd = is_whole & intrinsic("rint", half).compare("ne", half)
    size = _of_magnitude(intrinsic("fabs", a), b)
    signed = select(is_odd, copysign(size, a), size)
    undefined = (a < 0.0) & (a > -math.inf) & (is_whole ^ True)
    result = select(undefined, math.nan, signed)
    return select(b.compare("eq", 0.0) | a.compare("eq", 1.0), 1.0, result)
