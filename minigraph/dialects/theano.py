"""Batch normalization as Theano has it: two functions of variables, without layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable, items
from minigraph.core.types import as_ints
from minigraph.layers.normalization.conventions import Batch, Convention, Variance
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.array.shape import dimshuffle, reshape, restore_axes, shape
from minigraph.ops.elementwise.arithmetic import reciprocal
from minigraph.ops.elementwise.base import Operand, cast
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.ops.reduce.normalization import FiniteOr, Sample, Standardize, check_epsilon, normalizable, normalize_by
from minigraph.transforms.averages import moving_average

THEANO = Convention("Theano", "gamma", "beta", "running_mean", "running_var", Variance(unbiased=True), 1e-4)


def _averaged(x: Variable, axes: str | Sequence[int]) -> tuple[int, ...]:
    """The axes to average over: 'per-activation' is the first, 'spatial' all but the second."""
    if not isinstance(axes, str):
        return as_ints(axes, "axes")
    if axes not in ("per-activation", "spatial"):
        raise InvalidValueError(f"axes must be 'per-activation', 'spatial', or ints, not {axes!r}")
    return (0,) if axes == "per-activation" else (0, *range(2, x.ndim))


class _Layout:
    """The layout of the parameters of one call: with all axes of the input, or without those that are averaged over."""

    def __init__(self, inputs: Operand, axes: str | Sequence[int], gamma: Operand, beta: Operand) -> None:
        self.x, self.averaged = normalizable(inputs, _averaged(as_variable(inputs), axes))
        self._kept = tuple(axis for axis in range(self.x.ndim) if axis not in self.averaged)
        self._ndim = as_variable(gamma).ndim
        self._scale, self._shift = self.whole(gamma, "gamma"), self.whole(beta, "beta")

    def whole(self, given: Operand, what: str) -> Variable:
        """A parameter with all axes of the input, of size 1 where it is averaged over; ValueError if it cannot be one."""
        x, parameter = self.x, as_variable(given)
        if parameter.ndim not in (x.ndim, len(self._kept)) or parameter.ndim != self._ndim:
            raise InvalidValueError(
                f"{what} has {parameter.ndim} axes: all parameters have the {x.ndim} axes of {x!r}, with size 1 in the axes "
                f"{self.averaged}, or all have the {len(self._kept)} others alone"
            )
        wide = parameter if parameter.ndim == x.ndim else restore_axes(parameter, self.averaged, x.ndim)
        for axis, (own, size) in enumerate(zip(wide.type.shape, x.type.shape, strict=True)):
            wanted = 1 if axis in self.averaged else size
            if own not in (1, None, wanted) and wanted is not None:
                raise InvalidValueError(f"{what} has size {own} where {x!r} needs {wanted}, in axis {axis}")
        if all(wide.type.shape[axis] == 1 for axis in self.averaged):
            return wide
        return reshape(wide, tuple(1 if axis in self.averaged else size for axis, size in enumerate(shape(wide))))

    def narrow(self, statistic: Variable) -> Variable:
        """A statistic with all axes of the input as the caller lays out parameters."""
        return statistic if self._ndim == self.x.ndim else dimshuffle(statistic, self._kept)

    def scaled(self, normalized: Variable) -> Variable:
        """A normalized value times gamma, plus beta."""
        return normalized * cast(self._scale, self.x.dtype) + cast(self._shift, self.x.dtype)


def _checked_epsilon(epsilon: float) -> float:
    """An epsilon that Theano takes; ValueError below 1e-5."""
    if np.float32(check_epsilon(epsilon)) < np.float32(1e-5):
        raise InvalidValueError(f"epsilon must be at least 1e-5, not {epsilon!r}")
    return float(epsilon)


def batch_normalization_train(
    inputs: Operand,
    gamma: Operand,
    beta: Operand,
    axes: str | Sequence[int] = "per-activation",
    epsilon: float = 1e-4,
    running_average_factor: float = 0.1,
    running_mean: Variable | None = None,
    running_var: Variable | None = None,
) -> tuple[Variable, ...]:
    """(output, mean, inverse deviation) of the minibatch `inputs`, and new running averages where the old ones are given.

    gamma, beta and the averages have size 1 in `axes`, or lack them; statistics are returned in the same layout. The caller
    updates: `updates=[(running_mean, new_running_mean), ...]`. running_average_factor: the weight of the minibatch.
    running_mean, running_var: shared variables; the variance is the unbiased one.

    ValueError for axes, an epsilon below 1e-5, or parameters that do not fit.
    """
    layout = _Layout(inputs, axes, gamma, beta)
    x_hat, mean, stdev, variance = items(Standardize(layout.averaged, None, _checked_epsilon(epsilon))(layout.x))
    output = layout.scaled(x_hat)
    shown = [layout.narrow(mean), layout.narrow(reciprocal(stdev))]
    if (running_mean is None) != (running_var is None):
        raise InvalidValueError("give both running_mean and running_var, or none of them")
    if running_mean is None or running_var is None:
        return output, *shown
    batch = Batch(mean, variance, Sample(layout.x, layout.averaged, None, []).count)
    wide = [layout.whole(running_mean, "running_mean"), layout.whole(running_var, "running_var")]
    pairs: Pairs = [
        (old, FiniteOr()(cast(new, old.dtype), old)) for old, new in zip(wide, THEANO.estimate(batch, epsilon), strict=True)
    ]
    averages = dict(moving_average(pairs, running_average_factor))
    return output, *shown, *(layout.narrow(averages[old]) for old in wide)


def batch_normalization_test(
    inputs: Operand,
    gamma: Operand,
    beta: Operand,
    mean: Operand,
    var: Operand,
    axes: str | Sequence[int] = "per-activation",
    epsilon: float = 1e-4,
) -> Variable:
    """The inputs normalized by a given mean and variance, var, times gamma, plus beta; these have size 1 in `axes`, or lack
    them.

    ValueError for axes, an epsilon below 1e-5, or parameters that do not fit.
    """
    layout = _Layout(inputs, axes, gamma, beta)
    centers, spreads = layout.whole(mean, "mean"), layout.whole(var, "var")
    return layout.scaled(normalize_by(layout.x, centers, sqrt(spreads + _checked_epsilon(epsilon))))
