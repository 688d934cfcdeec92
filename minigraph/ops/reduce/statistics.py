"""Means, variances, norms and log-sum-exp: composites of sums, without overflow on the way."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, constant, is_weak
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Composite, Variable
from minigraph.core.types import as_dtype
from minigraph.ops.array.shape import broadcast_like, dimshuffle, restore_axes, size
from minigraph.ops.elementwise import arithmetic, comparison
from minigraph.ops.elementwise.arithmetic import multiply_or_zero, reciprocal, square
from minigraph.ops.elementwise.base import Cotangents, Operand, cast, floating, fractional, promoted
from minigraph.ops.elementwise.comparison import eq, gt, le, lt, where
from minigraph.ops.elementwise.transcendental import exp, log, sqrt
from minigraph.ops.reduce.base import Axis, remaining_axes, wider
from minigraph.ops.reduce.reduction import Peak, Sum, max, min, reduced, sum

__all__ = ["logsumexp", "mean", "norm", "std", "var"]


SMALLER = 2.0**-64
"""The factor of float64 numbers before they are added up, where their sum would be too large."""


def _count(x: Variable, axes: tuple[int, ...], dtype: np.dtype[Any]) -> Variable:
    """The number of elements that a reduction folds into one, in a float dtype."""
    return cast(size(x, axes), dtype)


def _mean_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a mean: the operand's own if it is a float, else float64."""
    return dtype if dtype.kind == "f" else np.dtype("float64")


def inverse_or_zero(x: Variable) -> Variable:
    """1 / x, but 0 where x is 0, with all its derivatives."""
    vanishing = eq(x, 0)
    return where(vanishing, 0, reciprocal(where(vanishing, 1, x)))


LARGE, SMALL = 2.0**400, 2.0**-400
"""Between these lie float64 numbers whose squares, and sums of them, are in range; the others are scaled by FACTOR."""
FACTOR = 2.0**600


def scale_for(peak: Variable, enlarges: bool = True) -> Variable:
    """A power of two that brings float64 numbers up to `peak`, and their squares, into range; above 1 only if it `enlarges`."""
    own = constant(1.0, dtype="float64")
    least = where(lt(peak, SMALL), constant(FACTOR, dtype="float64"), own) if enlarges else own
    return where(gt(peak, LARGE), constant(1 / FACTOR, dtype="float64"), least)


def _scaled(x: Variable, axes: tuple[int, ...]) -> tuple[Variable, Variable]:
    """x in floats that have room for its squares, and the power of two, 1 unless x is float64, that it was multiplied by."""
    if x.dtype != "float64":
        return cast(x, wider(_mean_dtype(x.dtype))), constant(1.0, dtype=wider(_mean_dtype(x.dtype)))
    scale = scale_for(restore_axes(Peak(axes)(arithmetic.abs(x)), axes, x.ndim))
    return x * scale, scale


class Folding(Composite):
    """A composite that folds the axes `axes` away."""

    axes: tuple[int, ...]
    of_numbers = True


class Mean(Folding):
    """The mean over `axes`; NaN of no elements. `dtype`: that of the result, if it is given."""

    dtype: np.dtype[Any] | None = None

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        result = _mean_dtype(x.dtype) if self.dtype is None else self.dtype
        total = Sum(self.axes, wider(result))(x)
        count = _count(x, self.axes, total.dtype)
        average = total / count
        if x.dtype == "float64":  # no wider float is there for a sum that is too large
            average = where(comparison.isfinite(total), average, sum(x * SMALLER, self.axes) / count / SMALLER)
        return cast(average, result)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        if x.dtype.kind != "f":
            return (None,)
        each = cast(dy, wider(dy.dtype)) / _count(x, self.axes, wider(dy.dtype))
        return (broadcast_like(restore_axes(cast(each, x.dtype), self.axes, x.ndim), x),)


def mean(x: Operand, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """The mean of x over `axis` (kept if `keepdims`), in float64 for integers, or in `dtype`, cut if whole; NaN of nothing.

    >>> mg.mean([[1.0, 2.0], [3.0, 4.0]], axis=0).eval()
    array([2., 3.], dtype=float32)
    """
    wanted = None if dtype is None else as_dtype(dtype)
    if wanted is not None and wanted.kind != "f":
        return cast(mean(cast(x, wanted), axis, None, keepdims), wanted)
    variable = fractional(x) if wanted is None else as_variable(x)
    if wanted is not None and is_weak(x):
        variable, wanted = cast(x, wanted), None
    return reduced(partial(Mean, dtype=wanted), variable, axis, keepdims)


class Variance(Folding):
    """The variance over `axes`: two passes, the second corrected for the rounding of the first's mean."""

    ddof: int

    def expand(self, *inputs: Variable) -> Variable:
        _, variance, scale = self._deviations(inputs[0])
        return self._finished(variance / scale / scale, inputs[0])

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        if x.dtype.kind != "f":
            return (None,)
        deviation, _, scale = self._deviations(x)
        count = _count(x, self.axes, deviation.dtype) - self.ddof
        each = restore_axes(cast(dy, deviation.dtype), self.axes, x.ndim) * (2 / count)
        return (cast(multiply_or_zero(each, deviation) / scale, x.dtype),)

    def _deviations(self, x: Variable) -> tuple[Variable, Variable, Variable]:
        """The deviations from the mean and the variance, its axes kept, of x times a power of two, and that power."""
        wide, scale = _scaled(x, self.axes)
        count = _count(wide, self.axes, wide.dtype)
        deviation = wide - sum(wide, self.axes, keepdims=True) / count
        deviation = deviation - sum(deviation, self.axes, keepdims=True) / count
        return deviation, sum(square(deviation), self.axes, keepdims=True) / (count - self.ddof), scale

    def _finished(self, kept: Variable, x: Variable) -> Variable:
        """A result for x without the axes that were kept, in its own dtype."""
        return cast(dimshuffle(kept, remaining_axes(x.ndim, self.axes)), _mean_dtype(x.dtype))


def var(x: Operand, axis: Axis = None, ddof: int = 0, keepdims: bool = False, *, dtype: Any = None) -> Variable:
    """The sum of squared deviations of x from the mean over `axis`, divided by (count - ddof), computed in `dtype` if given.

    `keepdims` leaves axes of size 1. TypeError for a `ddof` that is not a number.

    >>> mg.var([1.0, 2.0, 3.0], ddof=1).eval()
    array(1., dtype=float32)
    """
    return reduced(partial(Variance, ddof=ddof), _with_freedom(x, ddof, dtype), axis, keepdims)


class StandardDeviation(Variance):
    """The root of the variance, with gradient 0 where all elements are equal."""

    def expand(self, *inputs: Variable) -> Variable:
        _, variance, scale = self._deviations(inputs[0])
        return self._finished(sqrt(variance) / scale, inputs[0])

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        if x.dtype.kind != "f":
            return (None,)
        deviation, variance, _ = self._deviations(x)
        count = _count(x, self.axes, deviation.dtype) - self.ddof
        slope = multiply_or_zero(deviation, inverse_or_zero(sqrt(variance) * count))
        return (multiply_or_zero(restore_axes(dy, self.axes, x.ndim), cast(slope, x.dtype)),)


def _with_freedom(x: Operand, ddof: Any, dtype: Any) -> Variable:
    """The array that a variance is taken of; TypeError for a `ddof` that is no number."""
    if isinstance(ddof, bool) or not isinstance(ddof, int | float):
        raise InvalidTypeError(f"ddof must be a number, not {ddof!r}; a dtype is given by name")
    return fractional(x) if dtype is None else cast(x, dtype)


def std(x: Operand, axis: Axis = None, ddof: int = 0, keepdims: bool = False, *, dtype: Any = None) -> Variable:
    """The standard deviation of x over `axis`, the root of `var`; its gradient is 0 where all elements are equal.

    ddof, keepdims, dtype: those of `var`.

    >>> mg.std([1.0, 3.0]).eval()
    array(1., dtype=float32)
    """
    return reduced(partial(StandardDeviation, ddof=ddof), _with_freedom(x, ddof, dtype), axis, keepdims)


class LogSumExp(Folding):
    """log(sum(exp(x))) over `axes`, without overflow."""

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        _, total, peak = self._relative(x)
        return cast(dimshuffle(log(total) + peak, remaining_axes(x.ndim, self.axes)), x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        each, total, _ = self._relative(x)  # not exp(x - y), which has lost digits where y is far from 0
        share = cast(multiply_or_zero(each, inverse_or_zero(total)), x.dtype)
        return (multiply_or_zero(restore_axes(dy, self.axes, x.ndim), share),)

    def _relative(self, x: Variable) -> tuple[Variable, Variable, Variable]:
        """Exponentials relative to that of the greatest x, their sum, and the greatest x; in 32 bits for those of 16."""
        wide = cast(x, "float32") if x.dtype.itemsize == 2 else x
        peak = restore_axes(Peak(self.axes)(wide), self.axes, x.ndim)
        peak = where(comparison.eq(peak, -np.inf), 0, peak)
        each = exp(where(comparison.eq(wide, np.inf), 0, wide - peak))
        return each, sum(each, self.axes, keepdims=True), peak


def logsumexp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """log(sum(exp(x))) over `axis`, without overflow; `keepdims` leaves axes of size 1.

    >>> mg.logsumexp([1000.0, -1000.0]).eval()
    array(1000., dtype=float32)
    """
    return reduced(LogSumExp, floating(x), axis, keepdims)


class EuclideanNorm(Folding):
    """The root of the sum of squares over `axes`, with gradient 0 at 0."""

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        scaled, scale = _scaled(x, self.axes)
        length = sqrt(sum(square(scaled), self.axes, keepdims=True)) / scale
        return cast(dimshuffle(length, remaining_axes(x.ndim, self.axes)), x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        scaled, _ = _scaled(x, self.axes)
        length = sqrt(sum(square(scaled), self.axes, keepdims=True))
        direction = cast(multiply_or_zero(scaled, inverse_or_zero(length)), x.dtype)
        return (multiply_or_zero(restore_axes(dy, self.axes, x.ndim), direction),)


class PowerNorm(Folding):
    """The root of order `ord` of the sum of powers of magnitudes, taken relative to the greatest; with gradient 0 at 0."""

    ord: float

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        _, total, unit = self._relative(x)
        return cast(dimshuffle(unit * total ** (1 / self.ord), remaining_axes(x.ndim, self.axes)), x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        ratio, total, _ = self._relative(x)
        slope = (ratio * inverse_or_zero(total ** (1 / self.ord))) ** (self.ord - 1)
        each = multiply_or_zero(arithmetic.sign(x), cast(slope, x.dtype))
        return (multiply_or_zero(restore_axes(dy, self.axes, x.ndim), each),)

    def _relative(self, x: Variable) -> tuple[Variable, Variable, Variable]:
        """Magnitudes relative to the greatest, the sum of their powers, and the greatest (1 where it is 0 or infinite)."""
        size = arithmetic.abs(cast(x, "float32") if x.dtype.itemsize == 2 else x)
        peak = restore_axes(Peak(self.axes)(size), self.axes, x.ndim)
        unit = where(le(peak, 0), 1, where(comparison.isinf(peak), 1, peak))
        ratio = size / unit
        return ratio, sum(ratio**self.ord, self.axes, keepdims=True), unit


def norm(x: Operand, ord: float = 2, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The norm of vectors x, of order `ord` (positive, inf or -inf), over `axis` (kept if `keepdims`), with gradient 0 at 0.

    >>> mg.norm([3.0, 4.0]).eval()
    array(5., dtype=float32)
    """
    variable = promoted((x,), _mean_dtype)[0]
    if ord == 2:
        return reduced(EuclideanNorm, variable, axis, keepdims)
    if ord == 1:
        return sum(arithmetic.abs(variable), axis, keepdims=keepdims)
    if ord in (np.inf, -np.inf):
        return (max if ord > 0 else min)(arithmetic.abs(variable), axis, keepdims)
    if isinstance(ord, bool) or not isinstance(ord, int | float) or not ord > 0:
        raise InvalidValueError(f"the order of a norm must be a positive number, inf or -inf, not {ord!r}")
    return reduced(partial(PowerNorm, ord=float(ord)), variable, axis, keepdims)
