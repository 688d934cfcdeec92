"""Reductions over axes, and running sums and products.

`axis` is None (all), an int or several, negative ones counted from the end; `keepdims` leaves an axis of size 1.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Array, Composite, Op, Variable, as_variable, constant, is_weak
from minigraph.ops import arithmetic, comparison
from minigraph.ops.arithmetic import multiply_or_zero, reciprocal, square
from minigraph.ops.comparison import eq, gt, le, lt, where
from minigraph.ops.creation import arange
from minigraph.ops.elementwise import Cotangents, Operand, cast, floating, fractional, promoted, truth
from minigraph.ops.shape import broadcast_like, dimshuffle, expand_dims, moveaxis, ravel, reshape, restore_axes, shape, size
from minigraph.ops.transcendental import exp, log, sqrt
from minigraph.types import TensorType, as_dtype, check_axes, check_axis, drop_axes

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "cumprod",
    "cumsum",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "prod",
    "ptp",
    "std",
    "sum",
    "var",
]

Axis = int | Sequence[int] | None


class Reduction(Op):
    """An op that folds the axes `axes` away."""

    axes: tuple[int, ...]
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.result_dtype(types[0].dtype), drop_axes(types[0].shape, self.axes))

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of the result: by default that of the operand."""
        return dtype

    def in_two_steps(self, first: tuple[int, ...], second: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Op, Op] | None:
        """What folds some axes of elements of a dtype, and what folds those that are left of it; None if that cannot be."""
        return type(self)(first), type(self)(second)

    def of_one(self, x: Variable) -> Variable | None:
        """What the fold of a single element makes of it; None if that is not the element."""
        return x


class Accumulation(Reduction):
    """A reduction that adds up or multiplies, in 64 bits if they are integers; `dtype`: that of the result, if it is given.

    Floats are accumulated one size wider than the result is, so that partial results neither overflow nor lose digits.
    """

    dtype: np.dtype[Any] | None = None

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return wide_integer(dtype) if self.dtype is None else self.dtype

    def accumulator_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype in which elements of a dtype are accumulated."""
        result = self.result_dtype(dtype)
        return np.promote_types(wider(result), dtype) if result.kind == "f" else result

    def in_two_steps(self, first: tuple[int, ...], second: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Op, Op] | None:
        return type(self)(first, self.accumulator_dtype(dtype)), type(self)(second, self.result_dtype(dtype))

    def of_one(self, x: Variable) -> Variable | None:
        return cast(x, self.result_dtype(x.dtype))

    def narrowed(self, dy: Variable, x: Variable) -> Variable | None:
        """A cotangent with the axes and the dtype of the operand; None if it is of integers."""
        return cast(restore_axes(dy, self.axes, x.ndim), x.dtype) if x.dtype.kind == "f" else None


def wide_integer(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which elements of a dtype are added up: 64 bits for integers and booleans, floats their own."""
    return {"b": np.dtype("int64"), "i": np.dtype("int64"), "u": np.dtype("uint64")}.get(dtype.kind, dtype)


def wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The next wider float of 64 bits at most; other dtypes as they are."""
    return np.dtype({"float16": "float32", "float32": "float64"}.get(dtype.name, dtype))


class Extreme(Reduction):
    """The greatest or smallest element; there must be one. Equal ones share the gradient equally."""

    def infer(self, *types: TensorType) -> TensorType:
        if builtins.any(types[0].shape[axis] == 0 for axis in self.axes):
            raise InvalidValueError(f"{type(self).__name__} of no elements: {types[0]} over axes {self.axes}")
        return super().infer(*types)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        ties = cast(eq(x, restore_axes(y, self.axes, x.ndim)), x.dtype)
        each = multiply_or_zero(dy, reciprocal(sum(ties, self.axes)))
        return (multiply_or_zero(restore_axes(each, self.axes, x.ndim), ties),)


def _reduced(op: type[Reduction], x: Operand, axis: Axis, keepdims: bool) -> Variable:
    """`op` over `axis` of x, the axes kept with size 1 if asked for."""
    variable = as_variable(x)
    axes = check_axes(axis, variable.ndim)
    return _kept(op(axes)(variable), axes, variable.ndim, keepdims)


def _accumulated(op: type[Accumulation], x: Operand, axis: Axis, dtype: Any, keepdims: bool) -> Variable:
    """`op` over `axis` of x, computed from and returned in `dtype` if that is given."""
    wanted = None if dtype is None else as_dtype(dtype)
    variable = as_variable(x) if wanted is None or not is_weak(x) else cast(x, wanted)
    axes = check_axes(axis, variable.ndim)
    plain = op(axes)
    own = wanted is None or wanted == plain.result_dtype(variable.dtype)
    fold = plain if own else op(axes, wanted)
    return _kept(fold(variable), axes, variable.ndim, keepdims)


def _kept(result: Variable, axes: tuple[int, ...], ndim: int, keepdims: bool) -> Variable:
    """A reduced variable with its axes restored if asked for."""
    return restore_axes(result, axes, ndim) if keepdims else result


class Sum(Accumulation):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sum(x, axis=self.axes, dtype=self.accumulator_dtype(x.dtype)).astype(self.result_dtype(x.dtype))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        each = self.narrowed(dy, x)
        return (None if each is None else broadcast_like(each, x),)


def sum(x: Operand, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """The sum over `axis`; integers are summed in 64 bits, other dtypes in `dtype` or their own."""
    return _accumulated(Sum, x, axis, dtype, keepdims)


class Prod(Accumulation):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.prod(x, axis=self.axes, dtype=self.accumulator_dtype(x.dtype)).astype(self.result_dtype(x.dtype))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        each = self.narrowed(dy, x)
        if each is None or not self.axes:
            return (each,)
        last = tuple(range(x.ndim - len(self.axes), x.ndim))
        moved = moveaxis(x, self.axes, last)
        others = reshape(ProductOfOthers()(reshape(moved, (*shape(y), size(x, self.axes)))), shape(moved))
        return (multiply_or_zero(each, moveaxis(others, last, self.axes)),)


def prod(x: Operand, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """The product over `axis`; integers are multiplied in 64 bits. Its gradient is right at zeros too."""
    return _accumulated(Prod, x, axis, dtype, keepdims)


class ProductOfOthers(Op):
    """For each element, the product of all others along the last axis: the derivative of `prod`, zeros or not."""

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def forward(self, xp: Any, x: Array) -> Array:
        wide = wider(x.dtype)
        before, after = xp.ones_like(x, dtype=wide), xp.ones_like(x, dtype=wide)
        if x.shape[-1] > 1:
            before[..., 1:] = xp.cumprod(x[..., :-1], axis=-1, dtype=wide)
            after[..., :-1] = xp.flip(xp.cumprod(xp.flip(x[..., 1:], -1), axis=-1, dtype=wide), -1)
        return (before * after).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        position = arange(shape(x)[-1])
        itself = eq(dimshuffle(position, 0, "x"), dimshuffle(position, "x", 0))
        others = ProductOfOthers()(where(itself, 1, expand_dims(x, -2)))
        return (sum(where(itself, 0, multiply_or_zero(expand_dims(dy, -1), others)), -2),)


class Max(Extreme):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.max(x, axis=self.axes)


def max(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The greatest element over `axis`, NaN if there is one; equal ones share the gradient equally."""
    return _reduced(Max, x, axis, keepdims)


class Peak(Reduction):
    """The greatest element, -inf if there is none: what exponentials are taken relative to."""

    def forward(self, xp: Any, x: Array) -> Array:
        if 0 not in x.shape:
            return xp.max(x, axis=self.axes)
        return xp.full([size for axis, size in enumerate(x.shape) if axis not in self.axes], -np.inf, x.dtype)


class Min(Extreme):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.min(x, axis=self.axes)


def min(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The smallest element over `axis`, NaN if there is one; equal ones share the gradient equally."""
    return _reduced(Min, x, axis, keepdims)


def ptp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The greatest minus the smallest element over `axis`."""
    return max(x, axis, keepdims) - min(x, axis, keepdims)


class All(Reduction):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.all(x, axis=self.axes)


def all(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """Whether every element over `axis` is true (or not 0)."""
    return _reduced(All, truth(x), axis, keepdims)


class Any_(Reduction):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.any(x, axis=self.axes)


def any(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """Whether some element over `axis` is true (or not 0)."""
    return _reduced(Any_, truth(x), axis, keepdims)


class Position(Extreme):
    """Where the greatest or smallest element stands along one axis; the first of equals."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype("int64")

    def in_two_steps(self, first: tuple[int, ...], second: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Op, Op] | None:
        return None

    def of_one(self, x: Variable) -> Variable | None:
        return None

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (None,)


class ArgMax(Position):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.argmax(x, axis=self.axes[0])


def argmax(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The position of the greatest element along `axis` (of the raveled x if None), the first of equals, as int64.

    Over several axes it is the position among their elements in C order.
    """
    return _position(ArgMax, x, axis, keepdims)


class ArgMin(Position):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.argmin(x, axis=self.axes[0])


def argmin(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The position of the smallest element along `axis` (of the raveled x if None), the first of equals, as int64.

    Over several axes it is the position among their elements in C order.
    """
    return _position(ArgMin, x, axis, keepdims)


def _position(op: type[Position], x: Operand, axis: Axis, keepdims: bool) -> Variable:
    """`op` along one axis, or among the elements of several."""
    variable = as_variable(x)
    axes = check_axes(axis, variable.ndim)
    if len(axes) == 1:
        return _reduced(op, variable, axes, keepdims)
    kept = _remaining(variable.ndim, axes)
    sizes = shape(variable)
    joined = reshape(dimshuffle(variable, [*kept, *axes]), [*(sizes[one] for one in kept), size(variable, axes)])
    return _kept(op((len(kept),))(joined), axes, variable.ndim, keepdims)


# -- means and what builds on them -----------------------------------------------------------------------------------


SMALLER = 2.0**-64
"""What float64 numbers are multiplied by before they are added up, where their sum would be too large."""


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
    """The mean over `axis`, in float64 for integers, or in `dtype`, by which an integer is cut; NaN of no elements."""
    wanted = None if dtype is None else as_dtype(dtype)
    if wanted is not None and wanted.kind != "f":
        return cast(mean(cast(x, wanted), axis, None, keepdims), wanted)
    variable = fractional(x) if wanted is None else as_variable(x)
    if wanted is not None and is_weak(x):
        variable, wanted = cast(x, wanted), None
    axes = check_axes(axis, variable.ndim)
    return _kept(Mean(axes, wanted)(variable), axes, variable.ndim, keepdims)


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
        return cast(dimshuffle(kept, _remaining(x.ndim, self.axes)), _mean_dtype(x.dtype))


def var(x: Operand, axis: Axis = None, ddof: int = 0, keepdims: bool = False, *, dtype: Any = None) -> Variable:
    """The mean squared deviation from the mean over `axis`, divided by (count - ddof), computed in `dtype` if that is given."""
    variable = _with_freedom(x, ddof, dtype)
    axes = check_axes(axis, variable.ndim)
    return _kept(Variance(axes, ddof)(variable), axes, variable.ndim, keepdims)


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
    """What a variance is taken of; TypeError for a `ddof` that is no number."""
    if isinstance(ddof, bool) or not isinstance(ddof, int | float):
        raise InvalidTypeError(f"ddof must be a number, not {ddof!r}; a dtype is given by name")
    return fractional(x) if dtype is None else cast(x, dtype)


def std(x: Operand, axis: Axis = None, ddof: int = 0, keepdims: bool = False, *, dtype: Any = None) -> Variable:
    """The standard deviation over `axis`, computed in `dtype` if given; its gradient is 0 where all elements are equal."""
    variable = _with_freedom(x, ddof, dtype)
    axes = check_axes(axis, variable.ndim)
    return _kept(StandardDeviation(axes, ddof)(variable), axes, variable.ndim, keepdims)


class LogSumExp(Folding):
    """log(sum(exp(x))) over `axes`, without overflow."""

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        _, total, peak = self._relative(x)
        return cast(dimshuffle(log(total) + peak, _remaining(x.ndim, self.axes)), x.dtype)

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


def _remaining(ndim: int, axes: tuple[int, ...]) -> list[int]:
    """The axes that a reduction leaves."""
    return [axis for axis in range(ndim) if axis not in axes]


def logsumexp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """log(sum(exp(x))) over `axis`, without overflow."""
    variable = floating(x)
    axes = check_axes(axis, variable.ndim)
    return _kept(LogSumExp(axes)(variable), axes, variable.ndim, keepdims)


class EuclideanNorm(Folding):
    """The root of the sum of squares over `axes`, with gradient 0 at 0."""

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        scaled, scale = _scaled(x, self.axes)
        length = sqrt(sum(square(scaled), self.axes, keepdims=True)) / scale
        return cast(dimshuffle(length, _remaining(x.ndim, self.axes)), x.dtype)

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
        return cast(dimshuffle(unit * total ** (1 / self.ord), _remaining(x.ndim, self.axes)), x.dtype)

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
    """The vector norm of order `ord` (a positive number, inf or -inf) over `axis`; its gradient at 0 is 0."""
    variable = promoted((x,), _mean_dtype)[0]
    axes = check_axes(axis, variable.ndim)
    if ord == 2:
        return _kept(EuclideanNorm(axes)(variable), axes, variable.ndim, keepdims)
    size_of = arithmetic.abs(variable)
    if ord == 1:
        return sum(size_of, axes, keepdims=keepdims)
    if ord == np.inf:
        return max(size_of, axes, keepdims)
    if ord == -np.inf:
        return min(size_of, axes, keepdims)
    if isinstance(ord, bool) or not isinstance(ord, int | float) or not ord > 0:
        raise InvalidValueError(f"the order of a norm must be a positive number, inf or -inf, not {ord!r}")
    return _kept(PowerNorm(axes, float(ord))(variable), axes, variable.ndim, keepdims)


# -- running sums and products ---------------------------------------------------------------------------------------


class Running(Op):
    """A sum or product of each element and all before it along one axis."""

    axis: int
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        if types[0].dtype.kind == "b":
            raise InvalidTypeError("running sums and products of booleans: cast to an integer first")
        return TensorType(wide_integer(types[0].dtype), types[0].shape)


class CumSum(Running):
    """The running sum; from the end, if `reverse`."""

    reverse: bool = False

    def forward(self, xp: Any, x: Array) -> Array:
        ordered = xp.flip(x, self.axis) if self.reverse else x
        result = xp.cumsum(ordered, axis=self.axis, dtype=wider(wide_integer(x.dtype))).astype(wide_integer(x.dtype))
        return xp.flip(result, self.axis) if self.reverse else result

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (CumSum(self.axis, not self.reverse)(dy),)


def cumsum(x: Operand, axis: int | None = None, dtype: Any = None) -> Variable:
    """The running sum along `axis`, of the raveled x if None, in `dtype` if given; integers are summed in 64 bits."""
    return _running(CumSum, x, axis, dtype)


class CumProd(Running):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.cumprod(x, axis=self.axis, dtype=wider(wide_integer(x.dtype))).astype(wide_integer(x.dtype))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        last = x.ndim - 1
        moved, cotangent = moveaxis(x, self.axis, last), moveaxis(dy, self.axis, last)
        position = arange(shape(moved)[-1])
        included = le(dimshuffle(position, "x", 0), dimshuffle(position, 0, "x"))
        others = ProductOfOthers()(where(included, expand_dims(moved, -2), 1))
        summed = sum(where(included, multiply_or_zero(expand_dims(cotangent, -1), others), 0), -2)
        return (moveaxis(summed, last, self.axis),)


def cumprod(x: Operand, axis: int | None = None, dtype: Any = None) -> Variable:
    """The running product along `axis`, of the raveled x if None, in `dtype` if given; integers are multiplied in 64 bits."""
    return _running(CumProd, x, axis, dtype)


def _running(op: type[Running], x: Operand, axis: int | None, dtype: Any) -> Variable:
    """`op` along one axis, or over the raveled x, computed from and returned in `dtype` if that is given."""
    if dtype is not None:
        return cast(_running(op, cast(x, dtype), axis, None), dtype)
    variable = as_variable(x)
    variable = cast(variable, "int64") if variable.dtype.kind == "b" else variable
    return op(0)(ravel(variable)) if axis is None else op(check_axis(axis, variable.ndim))(variable)
