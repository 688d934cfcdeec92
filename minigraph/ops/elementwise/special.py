"""Elementwise special functions, written in terms of the array namespace's basic ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Variable
from minigraph.ops.elementwise.arithmetic import multiply_or_zero, square
from minigraph.ops.elementwise.base import Cotangents, Floating, Operand
from minigraph.ops.elementwise.transcendental import exp

__all__ = ["digamma", "erf", "erfc", "gammaln", "polygamma"]

# Polynomials that interpolate at Chebyshev's points, from the highest power down: erf(x) / x in x^2 for |x| up to 0.5, and
# exp(x^2) erfc(x) / t for x from 0.46 to 30.1 with t = 1 / (1 + c x), in (t - m) / h, which lies between -1 and 1: c, m, h,
# and the coefficients, for results in float64, for erf up to 6.1, and for results that are rounded to float32.
_NEAR = (
    1.4725865480556744e-06, -1.4845849259707869e-05, 1.2053335124353741e-04, -8.548297753674966e-04, 5.22397737302147e-03,
    -0.026866170632887928, 0.11283791670925353, -0.37612638903183476, 1.1283791670955126,
)  # fmt: skip
_FAR = (0.4, 0.4606408555795059, 0.3839537390150887, (
    -2.8975131297412835e-11, -9.120392151888166e-12, 3.5612121311225063e-10, -1.896526993998871e-10,
    -2.4312351128786372e-09, 4.138806718814998e-09, 1.1814039863092204e-08, -4.4677881602472754e-08,
    -3.80996033277807e-08, 3.938421267773184e-07, -9.863949412070048e-09, -3.4572554355660485e-06,
    1.2947950181103637e-06, 3.440698502501281e-05, -5.999220664601627e-07, -0.0004049615083949242,
    -0.0006493211400296641, 0.0043412026319031615, 0.029315324239262953, 0.09778457394001419, 0.22616896743211617,
    0.39736851740984236,
))  # fmt: skip
_FAR_OF_ERF = (0.35, 0.5901528545347395, 0.27117358818705206, (
    8.017569449193618e-12, -9.699153906851305e-12, -1.7470151617875745e-10, 4.98881502690033e-10, 2.9999063919403673e-09,
    -1.5063971485840006e-08, -5.6841217588813986e-08, 3.960600971813819e-07, 1.5638992146463898e-06, -9.62966072374651e-06,
    -6.599816723779324e-05, 0.00010829385682984193, 0.0030305875909275807, 0.019036761746414367, 0.07415713949938735,
    0.20741545305914952, 0.4356356533285052,
))  # fmt: skip
_FAR_OF_SINGLE = (0.3, 0.4892177597260941, 0.38951686241801836, (
    9.644897005041667e-07, 2.1664096126653277e-06, -1.170108371643117e-05, -6.221986891585808e-05, -1.7657628898060508e-05,
    0.0009783838933366791, 0.005691739628347602, 0.020181126283566674, 0.05385049867171809, 0.11607303661732095,
    0.20886961019110586, 0.3191080952624938,
))  # fmt: skip


LONG = 12
"""The number of coefficients up to which a polynomial is quicker one term after the other: two take more operations."""


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """A polynomial by Horner's rule, coefficients from the highest power down; a long one as two in x^2, side by side."""
    if len(coefficients) > LONG:
        square = x * x
        return _polynomial(coefficients[-2::-2][::-1], square) * x + _polynomial(coefficients[-1::-2][::-1], square)
    result: Array = coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def _in_double(x: Array) -> Array:
    """x in float64, where intermediate results would cancel in less."""
    return x.astype(np.dtype("float64"))


def _erf_near(xp: Any, x: Array) -> Array:
    """erf for |x| up to 0.5; elsewhere a finite number."""
    inside = xp.clip(x, -0.5, 0.5)
    return inside * _polynomial(_NEAR, inside * inside)


def _gaussian(xp: Any, x: Array, scale: float) -> Array:
    """exp(-scale * x^2) for x of 0 or more: x in few digits has an exact square, and the rest is expanded into a series."""
    high = x.astype(np.dtype("float32")).astype(np.dtype("float64"))
    rest = scale * (high - x) * (high + x)
    return xp.exp(-scale * high * high) * _polynomial((1 / 6, 0.5, 1.0, 1.0), rest)


def _scaled_erfc(size: Array, approximation: tuple[float, float, float, Sequence[float]]) -> Array:
    """exp(x^2) erfc(x) for x from 0.46875 to 30."""
    factor, middle, reach, coefficients = approximation
    t = 1.0 / (1.0 + factor * size)
    return t * _polynomial(coefficients, (t - middle) * (1 / reach))


# Polynomials fitted for float32, with relative errors below 1e-8: erf(x) / x in x^2 for |x| up to 0.5, and
# exp(x^2) erfc(x) / t in 2 t - 1 with t = 1 / (1 + 0.4 x) for x from 0 to 10.5.
_NEAR_SINGLE = (4.7179895897e-3, -2.6757184177e-2, 1.1282822812e-1, -3.7612608573e-1, 1.1283791656)
_FAR_SINGLE = (
    -5.5931598446e-05, 2.4982956599e-04, 2.1037161358e-04, -1.9204172694e-03, -3.3688962328e-03,
    1.1344027889e-02, 6.8501933666e-02, 1.8156567473e-01, 3.2186068918e-01, 4.2161272749e-01,
)  # fmt: skip


def _tail_single(xp: Any, scaled: Array, gaussian: Array) -> Array:
    """erfc(size) in float32, given 0.4 * size and exp(-size^2)."""
    t = 1.0 / (1.0 + scaled)
    return gaussian * t * _polynomial(_FAR_SINGLE, 2.0 * t - 1.0)


class Erf(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        if x.dtype == np.float32:
            inside, size = xp.clip(x, -0.5, 0.5), xp.minimum(xp.abs(x), 10.5)
            near = inside * _polynomial(_NEAR_SINGLE, inside * inside)
            tail = _tail_single(xp, 0.4 * size, xp.exp(-size * size))
            return xp.where(xp.abs(x) <= 0.5, near, xp.where(x < 0, tail - 1.0, 1.0 - tail))
        double = _in_double(x)
        size = xp.clip(xp.abs(double), 0.46875, 6.0)
        tail = xp.exp(-size * size) * _scaled_erfc(size, _FAR_OF_ERF)
        far = xp.where(double < 0, tail - 1.0, 1.0 - tail)
        return xp.where(xp.abs(double) <= 0.5, _erf_near(xp, double), far).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, exp(-square(x)) * (2 / math.sqrt(math.pi))),)


def erf(x: Operand) -> Variable:
    """The error function, elementwise."""
    return Erf().of(x)


class Erfc(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        double = _in_double(x)
        size = xp.clip(xp.abs(double), 0.46875, 30.0)
        if x.dtype == np.float64:
            tail = _gaussian(xp, size, 1.0) * _scaled_erfc(size, _FAR)
        else:  # whose square is exact
            tail = xp.exp(-size * size) * _scaled_erfc(size, _FAR_OF_SINGLE)
        far = xp.where(double < 0, 2.0 - tail, tail)
        return xp.where(xp.abs(double) <= 0.5, 1.0 - _erf_near(xp, double), far).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, exp(-square(x)) * (-2 / math.sqrt(math.pi))),)


def erfc(x: Operand) -> Variable:
    """1 - erf(x), elementwise, exact where erf is almost 1."""
    return Erfc().of(x)


class NormalCdf(Floating):
    """The probability that a standard normal variable is below x; in float32 exact to 1e-7, not to the last digit."""

    def forward(self, xp: Any, x: Array) -> Array:
        if x.dtype == np.float32:
            size = xp.where(xp.abs(x) > 15.0, 15.0, xp.abs(x))  # cheaper than the minimum, and NaN stays NaN
            tail = 0.5 * _tail_single(xp, size * (0.4 * math.sqrt(0.5)), xp.exp(size * size * -0.5))
        else:
            double = xp.abs(_in_double(x))
            size = double * math.sqrt(0.5)
            far = _gaussian(xp, xp.minimum(double, 42.0), 0.5) * _scaled_erfc(xp.clip(size, 0.46875, 30.0), _FAR)
            tail = 0.5 * xp.where(size <= 0.5, 1.0 - _erf_near(xp, size), far).astype(x.dtype)
        return xp.where(x < 0, tail, 1.0 - tail).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))),)


_SHIFT = 10
"""The number by which arguments are raised, with the recurrence, before an asymptotic series is used."""

# Bernoulli numbers B_2, B_4, ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
_STIRLING = tuple(number / (2 * k * (2 * k - 1)) for k, number in enumerate(_BERNOULLI, start=1))[::-1]


# log gamma(2 + z) / z as its series around z = 0 (Abramowitz and Stegun, 6.1.33), for |z| up to 0.5.
_AROUND_TWO = (
    -2.7595228851242331e-10, 5.731367241678862e-10, -1.1921401405860912e-9, 2.4836745438024783e-9, -5.1834750419700467e-9,
    1.0838659214896954e-8, -2.2711094608943165e-8, 4.7698101693639806e-8, -1.00432248239681e-7, 2.1207184805554666e-7,
    -4.492469198764566e-7, 9.5514121304074198e-7, -2.0392157538013662e-6, 4.3748667899074878e-6, -9.4394882752683959e-6,
    2.0507212775670692e-5, -4.4926236738133142e-5, 9.9457512781808534e-5, -0.00022315475845357938, 0.00050966952474304242,
    -0.001192753911703261, 0.0028905103307415233, -0.0073855510286739853, 0.020580808427784548, -0.067352301053198095,
    0.32246703342411322, 0.42278433509846714,
)  # fmt: skip


class GammaLn(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        double = _in_double(x)
        reflected = double < 0.5
        positive = self._positive(xp, xp.where(reflected, 1.0 - double, double))
        turn = xp.abs(double - xp.rint(double))
        sine = xp.where(turn < 1e-9, turn, xp.sin(math.pi * turn) / math.pi)  # pi times a subnormal number is hardly one
        result = xp.where(reflected, -xp.log(sine) - positive, positive)
        return xp.where(xp.isinf(double), math.inf, result).astype(x.dtype)

    def _positive(self, xp: Any, x: Array) -> Array:
        """log gamma for x of 0.5 or more: up to 3.5, and so near its zeros 1 and 2, by the series around 2."""
        below, above, far, small = x < 1.5, x > 2.5, x > 3.5, x < _SHIFT
        z = xp.clip(xp.where(below, x - 1.0, xp.where(above, x - 3.0, x - 2.0)), -0.5, 0.5)
        step = xp.where(below, x, xp.where(above, x - 1.0, 1.0))
        log = xp.log(xp.where(far, xp.where(small, self._rising(xp.where(small, x, 0.0)), 1.0), step))
        near = z * _polynomial(_AROUND_TWO, z) + xp.where(below, -log, log)
        return xp.where(far, self._stirling(xp, xp.where(small, x + _SHIFT, x)) - log, near)

    def _rising(self, x: Array) -> Array:
        """The product of x, x + 1, and so on, by which gamma grows when its argument is raised."""
        product = x
        for k in range(1, _SHIFT):
            product = product * (x + k)
        return product

    def _stirling(self, xp: Any, z: Array) -> Array:
        """log gamma of a large number by Stirling's series."""
        inverse = 1.0 / z
        series = inverse * _polynomial(_STIRLING, inverse * inverse)
        return (z - 0.5) * xp.log(z) - z + 0.5 * math.log(2 * math.pi) + series

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, digamma(x)),)


def gammaln(x: Operand) -> Variable:
    """The logarithm of |gamma(x)|, elementwise."""
    return GammaLn().of(x)


class Polygamma(Floating):
    """The derivative of order n of digamma (Abramowitz and Stegun, 6.3 and 6.4)."""

    n: int

    def forward(self, xp: Any, x: Array) -> Array:
        double = _in_double(x)
        reflected = double < 0.5
        positive = self._positive(xp, xp.where(reflected, 1.0 - double, double))
        sign = (-1.0) ** self.n
        turn = math.pi * (double - xp.rint(double))
        cotangent = _polynomial(self._cotangent_derivative(), xp.cos(turn) / xp.sin(turn))
        result = xp.where(reflected, sign * positive - math.pi * cotangent, positive)
        if not self.n:  # at the poles below 0 the values on one side are large, and on the other small
            result = xp.where(xp.equal(turn, 0.0) & (double < 0.0), math.nan, result)
        return result.astype(x.dtype)

    def _positive(self, xp: Any, x: Array) -> Array:
        """The value for x of 0.5 or more: the recurrence, then the asymptotic series."""
        n, z = self.n, x + _SHIFT
        steps: Array = 0.0
        for k in range(_SHIFT):
            steps = steps + (x + k) ** -(n + 1.0)
        scaled = [
            number * math.factorial(2 * k + n - 1) / math.factorial(2 * k) for k, number in enumerate(_BERNOULLI, start=1)
        ]
        square = z**-2.0
        series = z ** -float(n) * square * _polynomial(scaled[::-1], square)
        sign = (-1.0) ** (n + 1)
        leading = xp.log(z) if n == 0 else sign * math.factorial(n - 1) * z ** -float(n)
        tail = sign * (math.factorial(n) / 2 * z ** -(n + 1.0) + series)
        return leading + tail + sign * math.factorial(n) * steps

    def _cotangent_derivative(self) -> list[float]:
        """The derivative of order n of cot(pi x) as a polynomial in cot(pi x), from the highest power down."""
        polynomial = np.polynomial.Polynomial([0.0, 1.0])
        for _ in range(self.n):
            polynomial = polynomial.deriv() * np.polynomial.Polynomial([-math.pi, 0.0, -math.pi])
        return [float(coefficient) for coefficient in reversed(polynomial.coef)]

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, polygamma(self.n + 1, x)),)


def polygamma(n: int, x: Operand) -> Variable:
    """The derivative of order n of digamma, elementwise; TypeError for an n that is no int, ValueError for a negative one."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise InvalidTypeError(f"the order of polygamma must be an int, not {n!r}")
    if n < 0:
        raise InvalidValueError(f"the order of polygamma must be 0 or more, not {n}")
    return Polygamma(n).of(x)


def digamma(x: Operand) -> Variable:
    """The derivative of gammaln, elementwise."""
    return polygamma(0, x)
