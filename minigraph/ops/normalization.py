"""The formula of batch normalization, and the only place where it stands (Ioffe and Szegedy 2015).

The mean is taken in two passes: what the first leaves, the mean of the deviations, corrects its rounding. So a batch far
from 0 loses no digits, and a constant column becomes exactly 0. 16-bit inputs have 32-bit statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Composite, Identity, Variable, as_variable, items
from minigraph.ops.arithmetic import reciprocal, square
from minigraph.ops.comparison import isfinite, where
from minigraph.ops.elementwise import Cotangents, Operand, cast
from minigraph.ops.reduction import mean
from minigraph.ops.shape import broadcast_like, size
from minigraph.ops.transcendental import sqrt
from minigraph.types import check_axes

__all__ = ["center", "normalize_by", "standardize"]


def _statistics_dtype(x: Variable) -> Any:
    """The dtype of x's statistics."""
    return "float32" if x.dtype.itemsize == 2 else x.dtype


class Center(Composite):
    """x minus its mean, and the mean."""

    axes: tuple[int, ...]

    def expand(self, *inputs: Variable) -> tuple[Variable, Variable]:
        wide = cast(inputs[0], _statistics_dtype(inputs[0]))
        rough = mean(wide, self.axes, keepdims=True)
        deviation = wide - rough
        correction = mean(deviation, self.axes, keepdims=True)
        return cast(deviation - correction, inputs[0].dtype), rough + correction

    def gradient(self, dy: Any, y: Variable, x: Variable) -> Cotangents:
        dcentered, dmean = dy
        result = None
        if dcentered is not None:
            wide = cast(dcentered, _statistics_dtype(x))
            result = wide - mean(wide, self.axes, keepdims=True)
        if dmean is not None:
            share = dmean / _elements(x, self.axes)
            result = broadcast_like(share, x) if result is None else result + share
        return (None if result is None else cast(result, x.dtype),)


class Standardize(Composite):
    """x_hat = (x - mean) / stdev with stdev = sqrt(biased variance + epsilon), and mean and stdev themselves."""

    axes: tuple[int, ...]
    epsilon: float

    def expand(self, *inputs: Variable) -> tuple[Variable, Variable, Variable]:
        wide = cast(inputs[0], _statistics_dtype(inputs[0]))
        centered, average = center(wide, self.axes)
        stdev = sqrt(mean(square(centered), self.axes, keepdims=True) + self.epsilon)
        return cast(centered * reciprocal(stdev), inputs[0].dtype), average, stdev

    def gradient(self, dy: Any, y: Variable, x: Variable) -> Cotangents:
        # dx = (dx_hat - mean(dx_hat) - x_hat * mean(dx_hat * x_hat)) / stdev + dmean / m + dstdev * x_hat / m
        dx_hat, dmean, dstdev = dy
        normalized, _, stdev = items(y)
        x_hat = cast(normalized, _statistics_dtype(x))
        terms = []
        if dx_hat is not None:
            wide = cast(dx_hat, x_hat.dtype)
            projection = x_hat * mean(wide * x_hat, self.axes, keepdims=True)
            terms.append((wide - mean(wide, self.axes, keepdims=True) - projection) * reciprocal(stdev))
        if dmean is not None:
            terms.append(broadcast_like(dmean / _elements(x, self.axes), x))
        if dstdev is not None:
            terms.append(dstdev * x_hat / _elements(x, self.axes))
        if not terms:
            return (None,)
        return (cast(sum(terms[1:], terms[0]), x.dtype),)


def _elements(x: Variable, axes: tuple[int, ...]) -> Variable:
    """The number of elements per statistic, in the dtype of the statistics."""
    return cast(size(x, axes), _statistics_dtype(x))


def _normalizable(x: Operand, axes: int | Sequence[int]) -> tuple[Variable, tuple[int, ...]]:
    """x as a float variable, and the axes; TypeError for integers, ValueError for no axes."""
    variable = as_variable(x)
    if variable.dtype.kind != "f":
        raise InvalidTypeError(f"only floats can be normalized, not {variable!r}; cast them first")
    checked = check_axes(axes, variable.ndim)
    if not checked:
        raise InvalidValueError(f"{variable!r}: name at least one axis to normalize over")
    return variable, checked


def center(x: Operand, axes: int | Sequence[int]) -> tuple[Variable, Variable]:
    """x minus its mean over `axes`, and that mean with the axes kept at size 1."""
    variable, checked = _normalizable(x, axes)
    centered, average = items(Center(checked)(variable))
    return centered, average


def standardize(x: Operand, axes: int | Sequence[int], epsilon: float = 1e-4) -> tuple[Variable, Variable, Variable]:
    """(x_hat, mean, stdev) over `axes`: x_hat = (x - mean) / stdev, stdev = sqrt(E[(x - mean)^2] + epsilon).

    mean and stdev keep the axes at size 1, and are float32 for 16-bit x. ValueError for a negative epsilon.
    """
    variable, checked = _normalizable(x, axes)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.number) or not epsilon >= 0:
        raise InvalidValueError(f"epsilon must be a number of 0 or more, not {epsilon!r}")
    x_hat, average, stdev = items(Standardize(checked, float(epsilon))(variable))
    return x_hat, average, stdev


class NormalizeBy(Composite):
    """(x - mean) / stdev with given statistics, which broadcast; x - mean where no stdev is given."""

    def expand(self, *inputs: Variable) -> Variable:
        x, offset, *divisor = inputs
        centered = cast(x, _statistics_dtype(x)) - offset
        return cast(centered / divisor[0] if divisor else centered, x.dtype)


def normalize_by(x: Operand, mean: Operand, stdev: Operand = None) -> Variable:
    """(x - mean) / stdev with given statistics, in x's dtype; x - mean if stdev is None."""
    variable = as_variable(x)
    if variable.dtype.kind != "f":
        raise InvalidTypeError(f"only floats can be normalized, not {variable!r}; cast them first")
    statistics = [mean] if stdev is None else [mean, stdev]
    return NormalizeBy()(variable, *(as_variable(one) for one in statistics))


class WithStatistics(Identity):
    """Its first input, normalized by statistics of its own batch, which follow and so can be found in the graph."""


class FiniteOr(Composite):
    """The first input where it is finite, else the second."""

    def expand(self, *inputs: Variable) -> Variable:
        new, old = inputs
        return where(isfinite(new), new, old)
