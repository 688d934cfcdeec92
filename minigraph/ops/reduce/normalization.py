"""The formula of batch normalization, and the only place where it stands (Ioffe and Szegedy 2015).

The mean is taken in two passes: what the first leaves, the mean of the deviations, corrects its rounding. So a batch far
from 0 loses no digits, and a constant column becomes exactly 0. 16-bit inputs have 32-bit statistics. Sums and squares are
taken in float64, which has room for those of smaller floats; float64 itself is scaled by a power of two where that is needed.
Elements may be left out by a mask, and a batch may be spread over several processes that add up their totals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Composite, Identity, Op, Variable, items
from minigraph.core.types import TensorType, check_axes
from minigraph.ops.array.shape import broadcast_like, restore_axes, shape_padleft, size
from minigraph.ops.elementwise.arithmetic import Multiply, MultiplyOrZero, maximum, multiply_or_zero, reciprocal, square
from minigraph.ops.elementwise.arithmetic import abs as absolute
from minigraph.ops.elementwise.base import Cotangents, Operand, cast
from minigraph.ops.elementwise.comparison import eq, gt, isfinite, where
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.ops.reduce.reduction import Peak
from minigraph.ops.reduce.reduction import sum as sum_over
from minigraph.ops.reduce.statistics import inverse_or_zero, scale_for

__all__ = ["center", "normalize_by", "standardize"]

Reduction = Callable[[Array], Array]
"""From an array to the sum of such arrays over all processes that work on parts of one batch."""


class AllReduce(Op):
    """The sum of x over all processes, computed by a function that the user supplies.

    Every process must compute the same graph. As each one's cost depends on the sum, the cotangents are summed alike.
    """

    function: Reduction
    pure = False

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def forward(self, xp: Any, x: Array) -> Array:
        result = xp.asarray(self.function(x), dtype=x.dtype)
        if result.shape != x.shape:
            raise InvalidValueError(f"all_reduce was given an array of shape {x.shape} and returned one of {result.shape}")
        return result

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (self(dy),)


class Sample:
    """The elements of x that statistics over `axes` are taken of: all, or those where the mask, in `weights`, is above 0.

    `all_reduce` adds up arrays over the processes that each hold a part of the batch, if there are several.
    """

    def __init__(self, x: Variable, axes: tuple[int, ...], all_reduce: Reduction | None, weights: Sequence[Variable]) -> None:
        self.axes, self._all_reduce = axes, all_reduce
        self.dtype = statistics_dtype(x)
        self._weights = broadcast_like(cast(weights[0], self.dtype), x) if weights else None
        self._elements = cast(size(x, axes), "float64")

    @cached_property
    def count(self) -> Variable:
        """The number of elements per statistic: a scalar, or with a mask one for each statistic, axes kept."""
        return cast(self._count, self.dtype)

    @cached_property
    def _count(self) -> Variable:
        """The number of elements in float64, which holds any."""
        return self._everywhere(self._elements if self._weights is None else self._total(self._weights))

    def _total(self, values: Variable) -> Variable:
        """The sum of `values` in this process, in float64."""
        return sum_over(values, self.axes, "float64", keepdims=True)

    def _everywhere(self, own: Variable) -> Variable:
        """The total of all processes, from that of this one."""
        return own if self._all_reduce is None else AllReduce(self._all_reduce)(own)

    def present(self, values: Variable) -> Variable:
        """`values`, with 0 where the mask leaves an element out."""
        return values if self._weights is None else where(gt(self._weights, 0), values, 0)

    def weighed(self, values: Variable) -> Variable:
        """`values` times the mask."""
        return values if self._weights is None else values * self._weights

    def share(self, values: Variable) -> Variable:
        """The sum of `values` over all elements, divided by how many there are."""
        return self._everywhere(sum_over(values, self.axes, keepdims=True)) / self.count

    def mean(self, values: Variable) -> Variable:
        """The mean of `values`, in float64."""
        return self._everywhere(self._total(self.weighed(values))) / self._count

    def centered(self, values: Variable) -> tuple[Variable, Variable]:
        """`values` minus their mean, and the mean."""
        rough = cast(self.mean(self.present(values)), values.dtype)
        deviation = self.present(values - rough)
        correction = cast(self.mean(deviation), values.dtype)
        return self.present(deviation - correction), rough + correction

    def scale(self, values: Variable, epsilon: float = 0.0) -> Variable | None:
        """A power of two that brings float64 `values` and their squares into range; None for smaller floats."""
        if values.dtype != "float64":
            return None
        peak = restore_axes(Peak(self.axes)(absolute(self.present(values))), self.axes, values.ndim)
        return scale_for(self._everywhere(maximum(peak, 0)), epsilon < NEGLIGIBLE)

    def each(self, dstatistic: Variable) -> Variable:
        """The contribution of an element to a mean whose cotangent this is."""
        return self.weighed(self._everywhere(dstatistic) / self.count)


class Normalizing(Composite):
    """The common part of `Center` and `Standardize`: x, and perhaps weights, in; x normalized and its statistics out."""

    axes: tuple[int, ...]
    all_reduce: Reduction | None

    def sample(self, x: Variable, weights: Sequence[Variable]) -> Sample:
        """The elements that the statistics are taken of."""
        return Sample(x, self.axes, self.all_reduce, weights)


class Center(Normalizing):
    """x minus its mean, and the mean."""

    def expand(self, *inputs: Variable) -> tuple[Variable, Variable]:
        x, *weights = inputs
        sample = self.sample(x, weights)
        values = cast(x, sample.dtype)
        scale = sample.scale(values)
        centered, average = sample.centered(values if scale is None else values * scale)
        return cast(centered, x.dtype) if scale is None else centered / scale, average if scale is None else average / scale

    def gradient(self, dy: Any, y: Variable, x: Variable, *weights: Variable) -> Cotangents:
        dcentered, dmean = dy
        sample = self.sample(x, weights)
        result = None
        if dcentered is not None:
            wide = sample.present(cast(dcentered, sample.dtype))
            result = wide - sample.weighed(sample.share(wide))
        if dmean is not None:
            each = sample.each(dmean)
            result = broadcast_like(each, x) if result is None else result + each
        return (None if result is None else cast(sample.present(result), x.dtype), *(None for _ in weights))


class Standardize(Normalizing):
    """x_hat = (x - mean) / stdev with stdev = sqrt(biased variance + epsilon); mean, stdev and variance themselves."""

    epsilon: float

    def expand(self, *inputs: Variable) -> tuple[Variable, Variable, Variable, Variable]:
        x, *weights = inputs
        sample = self.sample(x, weights)
        values = cast(x, sample.dtype)
        scale = sample.scale(values, self.epsilon)
        centered, average = sample.centered(values if scale is None else values * scale)
        variance = sample.mean(square(cast(centered, "float64")))
        root = _root(variance, self.epsilon, scale)
        normalized = cast(sample.present(_times(centered, _inverse(root, self.epsilon, scale), self.epsilon)), x.dtype)
        if scale is None:
            return normalized, average, cast(root, sample.dtype), variance
        stdev = where(eq(variance, 0), np.sqrt(self.epsilon), root / scale)
        return normalized, average / scale, stdev, variance / scale / scale

    def gradient(self, dy: Any, y: Variable, x: Variable, *weights: Variable) -> Cotangents:
        # dx = (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)) / stdev
        #      + dmean / m + dstdev * x_hat / m + dvariance * 2 * x_hat * stdev / m
        # A scale is taken out of dx_hat, so that the sums are those of its own gradient, and of its shift's.
        dx_hat, dmean, dstdev, dvariance = dy
        normalized, _, stdev, _ = items(y)
        sample = self.sample(x, weights)
        x_hat = cast(normalized, sample.dtype)
        terms = []
        if dx_hat is not None:
            scale, varying = (None, dx_hat) if self.all_reduce else _factors(dx_hat, sample.axes)
            wide = sample.present(cast(varying, sample.dtype))
            projection = sample.weighed(multiply_or_zero(sample.share(multiply_or_zero(wide, x_hat)), x_hat))
            slope = _inverse(stdev, self.epsilon)
            slope = slope if scale is None else slope * cast(scale, sample.dtype)
            terms.append(multiply_or_zero(wide - sample.weighed(sample.share(wide)) - projection, slope))
        if dmean is not None:
            terms.append(broadcast_like(sample.each(dmean), x))
        if dstdev is not None:
            terms.append(multiply_or_zero(sample.each(dstdev), x_hat))
        if dvariance is not None:
            terms.append(multiply_or_zero(sample.each(dvariance), x_hat * (2 * stdev)))
        if not terms:
            return (None, *(None for _ in weights))
        return (cast(sample.present(sum(terms[1:], terms[0])), x.dtype), *(None for _ in weights))


NEGLIGIBLE = 1e-60
"""An epsilon below this is no bound: deviations may be so small that one divided by them is beyond a float of 32 bits."""


def _root(square_mean: Variable, epsilon: float, scale: Variable | None) -> Variable:
    """sqrt(mean square + epsilon), times what the values were scaled by."""
    return sqrt(square_mean + (epsilon if scale is None else scale * epsilon * scale))


def _inverse(root: Variable, epsilon: float, scale: Variable | None = None) -> Variable:
    """1 / a root, but 0 where that is 0; in float64 where it may be large."""
    if epsilon >= NEGLIGIBLE and scale is None:
        return reciprocal(root)
    return inverse_or_zero(cast(root, "float64"))


def _times(values: Variable, inverse: Variable, epsilon: float) -> Variable:
    """Values times an inverse, in float64 where that may be large, else in their own dtype."""
    return values * (cast(inverse, values.dtype) if epsilon >= NEGLIGIBLE else inverse)


class DivideByLength(Composite):
    """x / sqrt(s + epsilon), with s the sum, or if `averaged` the mean, of squares over axes; 0 where that root is 0."""

    axes: tuple[int, ...]
    epsilon: float
    averaged: bool

    def expand(self, *inputs: Variable) -> Variable:
        (x,) = inputs
        scaled, root, scale = self._length(x)
        return cast(_times(scaled, _inverse(root, self.epsilon, scale), self.epsilon), x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        # dx = (dy - y * share(dy * y)) / root
        _, root, scale = self._length(x)
        inverse = _inverse(root, self.epsilon, scale)
        slope = inverse if scale is None else inverse * scale
        wide, y = (cast(one, statistics_dtype(x)) for one in (dy, y))
        share = sum_over(multiply_or_zero(wide, y), self.axes, keepdims=True)
        share = share / cast(size(x, self.axes), share.dtype) if self.averaged else share
        slope = cast(slope, wide.dtype) if self.epsilon >= NEGLIGIBLE else slope
        return (cast(multiply_or_zero(wide - multiply_or_zero(share, y), slope), x.dtype),)

    def _length(self, x: Variable) -> tuple[Variable, Variable, Variable | None]:
        """x in the dtype of statistics, perhaps scaled, the root, scaled alike, and the scale."""
        values = cast(x, statistics_dtype(x))
        scale = None
        if values.dtype == "float64":
            peak = restore_axes(Peak(self.axes)(absolute(values)), self.axes, values.ndim)
            scale = scale_for(peak, self.epsilon < NEGLIGIBLE)
            values = values * scale
        total = sum_over(square(cast(values, "float64")), self.axes, keepdims=True)
        total = total / cast(size(x, self.axes), total.dtype) if self.averaged else total
        return values, _root(total, self.epsilon, scale), scale


def _factors(dy: Variable, axes: tuple[int, ...]) -> tuple[Variable | None, Variable]:
    """A factor of a cotangent that does not vary along axes, if it has one, and the rest."""
    if dy.op.foreign:
        return None, dy
    if isinstance(dy.op, FlowedThrough):
        factor, rest = _factors(dy.inputs[0], axes)
        return factor, dy if factor is None else FlowedThrough()(rest, *dy.inputs[1:])
    for one, rest in zip(dy.inputs, reversed(dy.inputs), strict=True) if isinstance(dy.op, Multiply | MultiplyOrZero) else ():
        shape = (1,) * (dy.ndim - one.ndim) + one.type.shape
        if rest.type == dy.type and all(shape[axis] == 1 for axis in axes):
            return one, rest
    return None, dy


def statistics_dtype(x: Variable) -> Any:
    """The dtype of x's statistics."""
    return "float32" if x.dtype.itemsize == 2 else x.dtype


def normalizable(x: Operand, axes: int | Sequence[int]) -> tuple[Variable, tuple[int, ...]]:
    """x as a float variable, and the axes; TypeError for integers, ValueError for no axes."""
    variable = as_variable(x)
    if variable.dtype.kind != "f":
        raise InvalidTypeError(f"only floats can be normalized, not {variable!r}; cast them first")
    checked = check_axes(axes, variable.ndim)
    if not checked:
        raise InvalidValueError(f"{variable!r}: name at least one axis to normalize over")
    return variable, checked


def check_epsilon(epsilon: Any) -> float:
    """`epsilon` as a float; ValueError unless it is a finite number of 0 or more."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.number) or not 0 <= epsilon < np.inf:
        raise InvalidValueError(f"epsilon must be a finite number of 0 or more, not {epsilon!r}")
    return float(epsilon)


def center(
    x: Operand, axes: int | Sequence[int], *, mask: Operand | None = None, all_reduce: Reduction | None = None
) -> tuple[Variable, Variable]:
    """x minus its mean over `axes`, and that mean with the axes kept at size 1; mask and all_reduce as for `standardize`."""
    variable, checked = normalizable(x, axes)
    centered, average = items(Center(checked, all_reduce)(variable, *_weights(mask, variable)))
    return centered, average


def standardize(
    x: Operand, axes: int | Sequence[int], epsilon: float = 1e-4, *, mask: Operand | None = None,
    all_reduce: Reduction | None = None,
) -> tuple[Variable, Variable, Variable]:  # fmt: skip
    """(x_hat, mean, stdev) over `axes`: x_hat = (x - mean) / stdev, stdev = sqrt(E[(x - mean)^2] + epsilon).

    mean and stdev keep the axes at size 1, and are float32 for 16-bit x. Where a `mask`, which broadcasts to x, is 0 or False,
    x_hat is 0, and x counts for nothing, whatever it is. `all_reduce` adds up arrays over processes that each hold a part of
    the batch; each must compute the same graph. ValueError for an epsilon that is negative or not finite; with one of 0,
    x_hat is 0 where all x are equal.
    """
    variable, checked = normalizable(x, axes)
    op = Standardize(checked, all_reduce, check_epsilon(epsilon))
    x_hat, average, stdev, _ = items(op(variable, *_weights(mask, variable)))
    return x_hat, average, stdev


def _weights(mask: Operand | None, x: Variable) -> list[Variable]:
    """A mask as the further input of an op, with as many axes as x; ValueError if it has more."""
    if mask is None:
        return []
    weights = as_variable(mask)
    if weights.ndim > x.ndim:
        raise InvalidValueError(f"the mask {weights!r} has more axes than {x!r}")
    return [shape_padleft(weights, x.ndim - weights.ndim) if weights.ndim < x.ndim else weights]


class NormalizeBy(Composite):
    """(x - mean) / stdev with given statistics, which broadcast; x - mean where no stdev is given."""

    def expand(self, *inputs: Variable) -> Variable:
        x, offset, *divisor = inputs
        centered = cast(x, statistics_dtype(x)) - offset
        return cast(centered / divisor[0] if divisor else centered, x.dtype)


def normalize_by(x: Operand, mean: Operand, stdev: Operand = None) -> Variable:
    """(x - mean) / stdev with given statistics, in x's dtype; x - mean if stdev is None."""
    variable = as_variable(x)
    if variable.dtype.kind != "f":
        raise InvalidTypeError(f"only floats can be normalized, not {variable!r}; cast them first")
    statistics = [mean] if stdev is None else [mean, stdev]
    return NormalizeBy()(variable, *(as_variable(one) for one in statistics))


class FiniteOr(Composite):
    """The first input where it is finite, else the second."""

    def expand(self, *inputs: Variable) -> Variable:
        new, old = inputs
        return where(isfinite(new), new, old)


class FlowedThrough(Identity):
    """A cotangent, the first input, that flowed through the second, and is right only as long as that is what it was."""


class Replaceable(Identity):
    """An identity whose first input a transform may exchange: a cotangent through it remembers it."""

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        return (FlowedThrough()(dy, y), *(None for _ in inputs[1:]))


class Normalized(Replaceable):
    """Its first input: the second, normalized. What else its application was about follows, and is not computed for it:
    the options that it was given, the variables that hold the population, and the statistics of the minibatch.
    """

    training: bool
    freeze: int | None
    options: tuple[bool, ...]
    """For each option, whether it is among the inputs."""
    populations: int
    """The number of variables that hold the population."""
