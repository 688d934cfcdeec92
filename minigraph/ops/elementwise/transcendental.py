"""Elementwise exponentials, logarithms, roots, and trigonometric and hyperbolic functions."""

from __future__ import annotations

import math
from typing import Any

from minigraph.core.graph import Array, Variable
from minigraph.ops.elementwise.arithmetic import Log, abs, multiply_or_zero, reciprocal, square
from minigraph.ops.elementwise.base import Cotangents, Floating, Operand
from minigraph.ops.elementwise.comparison import eq, gt, where

__all__ = [
    "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctan2", "arctanh", "cos", "cosh", "exp", "exp2", "expm1", "hypot",
    "log", "log10", "log1p", "log2", "logaddexp", "sin", "sinh", "sqrt", "tan", "tanh",
]  # fmt: skip


def log(x: Operand) -> Variable:
    """The natural logarithm, elementwise."""
    return Log().of(x)


class Exp(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.exp(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, y),)


def exp(x: Operand) -> Variable:
    """e to the power of x, elementwise."""
    return Exp().of(x)


class Exp2(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.exp2(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, y * math.log(2)),)


def exp2(x: Operand) -> Variable:
    """2 to the power of x, elementwise."""
    return Exp2().of(x)


class Expm1(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.expm1(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, y + 1),)


def expm1(x: Operand) -> Variable:
    """exp(x) - 1, elementwise, exact near 0."""
    return Expm1().of(x)


class Log2(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log2(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(x * math.log(2))),)


def log2(x: Operand) -> Variable:
    """The logarithm to base 2, elementwise."""
    return Log2().of(x)


class Log10(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log10(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(x * math.log(10))),)


def log10(x: Operand) -> Variable:
    """The logarithm to base 10, elementwise."""
    return Log10().of(x)


class Log1p(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.log1p(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(x + 1)),)


def log1p(x: Operand) -> Variable:
    """log(1 + x), elementwise, exact near 0."""
    return Log1p().of(x)


class Sqrt(Floating):
    cost = 1

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sqrt(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(y * 2)),)


def sqrt(x: Operand) -> Variable:
    """The square root, elementwise."""
    return Sqrt().of(x)


class Sin(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sin(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, cos(x)),)


def sin(x: Operand) -> Variable:
    """The sine of x in radians, elementwise."""
    return Sin().of(x)


class Cos(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cos(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (-multiply_or_zero(dy, sin(x)),)


def cos(x: Operand) -> Variable:
    """The cosine of x in radians, elementwise."""
    return Cos().of(x)


class Tan(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.tan(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, square(y) + 1),)


def tan(x: Operand) -> Variable:
    """The tangent of x in radians, elementwise."""
    return Tan().of(x)


class Arcsin(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arcsin(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(sqrt(1 - square(x)))),)


def arcsin(x: Operand) -> Variable:
    """The angle in [-pi/2, pi/2] whose sine is x, elementwise."""
    return Arcsin().of(x)


class Arccos(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arccos(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (-multiply_or_zero(dy, reciprocal(sqrt(1 - square(x)))),)


def arccos(x: Operand) -> Variable:
    """The angle in [0, pi] whose cosine is x, elementwise."""
    return Arccos().of(x)


class Arctan(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arctan(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(square(x) + 1)),)


def arctan(x: Operand) -> Variable:
    """The angle in (-pi/2, pi/2) whose tangent is x, elementwise."""
    return Arctan().of(x)


class Sinh(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sinh(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, cosh(x)),)


def sinh(x: Operand) -> Variable:
    """The hyperbolic sine, elementwise."""
    return Sinh().of(x)


class Cosh(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cosh(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, sinh(x)),)


def cosh(x: Operand) -> Variable:
    """The hyperbolic cosine, elementwise."""
    return Cosh().of(x)


class Tanh(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.tanh(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, 1 - square(y)),)


def tanh(x: Operand) -> Variable:
    """The hyperbolic tangent, elementwise."""
    return Tanh().of(x)


class Arcsinh(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arcsinh(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(sqrt(square(x) + 1))),)


def arcsinh(x: Operand) -> Variable:
    """The inverse of sinh, elementwise."""
    return Arcsinh().of(x)


class Arccosh(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arccosh(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(sqrt(x - 1) * sqrt(x + 1))),)


def arccosh(x: Operand) -> Variable:
    """The inverse of cosh for x >= 1, elementwise."""
    return Arccosh().of(x)


class Arctanh(Floating):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.arctanh(x)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (multiply_or_zero(dy, reciprocal(1 - square(x))),)


def arctanh(x: Operand) -> Variable:
    """The inverse of tanh for |x| < 1, elementwise."""
    return Arctanh().of(x)


class Arctan2(Floating):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.arctan2(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        per_square = multiply_or_zero(dy, reciprocal(square(a) + square(b)))
        return multiply_or_zero(per_square, b), -multiply_or_zero(per_square, a)


def arctan2(a: Operand, b: Operand) -> Variable:
    """The angle in [-pi, pi] of the point with ordinate a and abscissa b, elementwise."""
    return Arctan2().of(a, b)


class Hypot(Floating):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.hypot(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        length = where(eq(y, 0), 1, y)
        return multiply_or_zero(dy, a / length), multiply_or_zero(dy, b / length)


def hypot(a: Operand, b: Operand) -> Variable:
    """sqrt(a^2 + b^2), elementwise, without overflow; its derivatives at 0 are taken as 0."""
    return Hypot().of(a, b)


class Logaddexp(Floating):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logaddexp(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        gap = where(eq(a, b), 0, a - b)  # equal infinities have no difference
        smaller = exp(-abs(gap))
        larger_part = reciprocal(smaller + 1)
        smaller_part = smaller * larger_part
        parts = where(gt(gap, 0), larger_part, smaller_part), where(gt(gap, 0), smaller_part, larger_part)
        return multiply_or_zero(dy, parts[0]), multiply_or_zero(dy, parts[1])


def logaddexp(a: Operand, b: Operand) -> Variable:
    """log(exp(a) + exp(b)), elementwise, without overflow; equal operands, infinite ones too, share the gradient equally."""
    return Logaddexp().of(a, b)
