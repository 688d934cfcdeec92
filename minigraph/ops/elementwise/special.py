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

# W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of Computation 23 (1969), 631-637.
# Numerators and denominators from the highest power down.
_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
        2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
        3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
_FAR = (
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
        1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185e-3),
)  # fmt: skip


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """A polynomial by Horner's rule, coefficients from the highest power down."""
    result: Array = coefficients[0]
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return result


def _ratio(approximation: tuple[Sequence[float], Sequence[float]], x: Array) -> Array:
    """A rational function, given by its numerator and denominator."""
    return _polynomial(approximation[0], x) / _polynomial(approximation[1], x)


def _in_double(x: Array) -> Array:
    """x in float64, where intermediate results would cancel in less."""
    return x.astype(np.dtype("float64"))


def _erf_near(xp: Any, x: Array) -> Array:
    """erf for |x| up to 0.5; elsewhere a finite number."""
    inside = xp.clip(x, -0.5, 0.5)
    return inside * _ratio(_NEAR, inside * inside)


def _gaussian(xp: Any, x: Array, scale: float) -> Array:
    """exp(-scale * x^2) for x of 0 or more, in two factors, so that the rounding of x^2 is not magnified."""
    high = xp.trunc(x * 16.0) / 16.0
    return xp.exp(-scale * high * high) * xp.exp(scale * (high - x) * (high + x))


def _erfc_of_magnitude(xp: Any, x: Array) -> Array:
    """erfc(|x|) for |x| of 0.46875 or more; elsewhere a finite number."""
    size = xp.clip(xp.abs(x), 0.46875, 30.0)
    return _gaussian(xp, size, 1.0) * _scaled_erfc(xp, size)


def _scaled_erfc(xp: Any, size: Array) -> Array:
    """exp(x^2) erfc(x) for x from 0.46875 to 30."""
    inverse = 1.0 / (size * size)
    far = (1.0 / math.sqrt(math.pi) - inverse * _ratio(_FAR, inverse)) / size
    return xp.where(size > 4.0, far, _ratio(_MIDDLE, xp.minimum(size, 4.0)))


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
        far = xp.where(double < 0, -1.0, 1.0) * (1.0 - _erfc_of_magnitude(xp, double))
        return xp.where(xp.abs(double) <= 0.5, _erf_near(xp, double), far).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, exp(-square(x)) * (2 / math.sqrt(math.pi))),)


def erf(x: Operand) -> Variable:
    """The error function, elementwise."""
    return Erf().of(x)


class Erfc(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        double = _in_double(x)
        tail = _erfc_of_magnitude(xp, double)
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
            far = _gaussian(xp, xp.minimum(double, 42.0), 0.5) * _scaled_erfc(xp, xp.clip(size, 0.46875, 30.0))
            tail = 0.5 * xp.where(size <= 0.5, 1.0 - _erf_near(xp, size), far).astype(x.dtype)
        return xp.where(x < 0, tail, 1.0 - tail).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))),)


_SHIFT = 10
"""The number by which arguments are raised, with the recurrence, before an asymptotic series is used."""

# Bernoulli numbers B_2, B_4, ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


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
        below, above = x < 1.5, x > 2.5
        z = xp.clip(xp.where(below, x - 1.0, xp.where(above, x - 3.0, x - 2.0)), -0.5, 0.5)
        step = xp.log(xp.where(below, x, xp.where(above, x - 1.0, 1.0)))
        near = z * _polynomial(_AROUND_TWO, z) + xp.where(below, -step, step)
        return xp.where(x > 3.5, self._stirling(xp, x), near)

    def _stirling(self, xp: Any, x: Array) -> Array:
        """log gamma by Stirling's series, below 10 after the recurrence."""
        small = x < _SHIFT
        z = xp.where(small, x + _SHIFT, x)
        product: Array = 1.0
        for k in range(_SHIFT):
            product = product * xp.where(small, x + k, 1.0)
        series: Array = 0.0
        for k, number in enumerate(_BERNOULLI, start=1):
            series = series + number / (2 * k * (2 * k - 1)) * (1.0 / z) ** (2 * k - 1)
        return (z - 0.5) * xp.log(z) - z + 0.5 * math.log(2 * math.pi) + series - xp.log(product)

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
        series: Array = 0.0
        for k, number in enumerate(_BERNOULLI, start=1):
            series = series + number * math.factorial(2 * k + n - 1) / math.factorial(2 * k) * z ** -(2.0 * k + n)
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
