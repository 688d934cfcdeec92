"""The nonlinearities of neural networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigraph.core.graph import Array, Composite, Variable
from minigraph.ops.elementwise.arithmetic import clip, maximum, multiply_or_zero, square
from minigraph.ops.elementwise.base import Cotangents, Floating, Operand, floating
from minigraph.ops.elementwise.comparison import ge, gt, where
from minigraph.ops.elementwise.special import NormalCdf
from minigraph.ops.elementwise.transcendental import exp

__all__ = ["elu", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softplus"]


def _in_single(x: Array) -> Array:
    """x, if it is of 16 bits in 32, so that only the result is rounded to 16."""
    return x.astype(np.dtype("float32")) if x.dtype.itemsize == 2 else x


def _logistic(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)), which is exp(x) where that is small."""
    odds = xp.exp(xp.where(x > 40.0, 40.0, x))  # beyond, 1 + odds is odds
    return odds / (1.0 + odds)


class Sigmoid(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return _logistic(xp, _in_single(x)).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, y * (1 - y)),)


def sigmoid(x: Operand) -> Variable:
    """1 / (1 + exp(-x)), elementwise."""
    return Sigmoid().of(x)


class Softplus(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, sigmoid(x)),)


def softplus(x: Operand) -> Variable:
    """log(1 + exp(x)), elementwise, without overflow."""
    return Softplus().of(x)


class Relu(Floating):
    """x where positive, else alpha * x."""

    alpha: float
    cost, cheap = 1, True

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.where(x > 0, x, self.alpha * x) if self.alpha else xp.maximum(x, 0)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (where(gt(x, 0), dy, dy * self.alpha if self.alpha else 0),)


def relu(x: Operand, alpha: float = 0) -> Variable:
    """x where positive, else alpha * x, elementwise; its derivative at 0 is alpha, and so 0 by default."""
    return Relu(float(alpha)).of(x)


def leaky_relu(x: Operand, alpha: float = 0.01) -> Variable:
    """x where positive, else alpha * x, elementwise, with a small alpha."""
    return relu(x, alpha)


class Elu(Floating):
    """x where positive, else alpha * (exp(x) - 1)."""

    alpha: float

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.where(x >= 0, x, self.alpha * xp.expm1(xp.minimum(x, 0)))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (where(ge(x, 0), dy, multiply_or_zero(dy, y + self.alpha)),)


def elu(x: Operand, alpha: float = 1) -> Variable:
    """x where positive, else alpha * (exp(x) - 1), elementwise (Clevert et al. 2016)."""
    return Elu(float(alpha)).of(x)


class Silu(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        wide = _in_single(x)
        bounded = xp.where(wide < -2000.0, -2000.0, wide)  # far beyond what underflows: -inf gives 0
        # exp(x) comes in two halves, since it loses digits, as x * exp(x) does not yet, where it is subnormal.
        half = xp.exp(xp.where(wide > 40.0, 40.0, wide) * 0.5)
        odds, low = half * half, wide < 0.0
        share = xp.where(low, half, odds) / (1.0 + odds)
        return (bounded * share * xp.where(low, half, 1.0)).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        x = clip(x, -800.0, 800.0)  # beyond which nothing changes any more, and infinities would meet zeros
        gate = sigmoid(x)
        return (multiply_or_zero(dy, gate + (1 - gate) * (x * gate)),)


def silu(x: Operand) -> Variable:
    """x * sigmoid(x), elementwise."""
    return Silu().of(x)


_GELU_SLOPE, _GELU_CUBE, _GELU_ENDS = math.sqrt(8 / math.pi), 0.044715, 40.0
"""The coefficients of the approximation, and a size from which on gelu is x or 0 in every dtype."""


class Gelu(Composite):
    """x times the normal distribution function at x, or its approximation by tanh (Hendrycks and Gimpel 2016)."""

    approximate: bool
    of_numbers = True

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        return maximum(x, -_GELU_ENDS) * self._share(x)  # -inf gives 0

    def _share(self, x: Variable) -> Variable:
        """The factor of x in the result; (1 + tanh(z)) / 2 is the sigmoid of 2 z, exact where it is small."""
        return sigmoid(_GELU_SLOPE * (x + _GELU_CUBE * x * x * x)) if self.approximate else NormalCdf()(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        x = clip(x, -_GELU_ENDS, _GELU_ENDS)  # beyond which nothing changes any more, and infinities would meet zeros
        share = self._share(x)
        if self.approximate:
            slope = share * (1 - share) * (_GELU_SLOPE * (1 + (3 * _GELU_CUBE) * square(x)))
        else:
            slope = exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (multiply_or_zero(dy, share + x * slope),)


def gelu(x: Operand, approximate: bool = False) -> Variable:
    """x times the probability that a standard normal variable is below x, elementwise; by tanh if `approximate`."""
    return Gelu(approximate)(floating(x))
