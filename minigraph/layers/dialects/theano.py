"""Batch normalization as Theano has it: two functions of variables, without layers."""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.errors import InvalidValueError
from minigraph.graph import Variable, as_variable, items
from minigraph.layers.conventions import Batch, Convention, Variance
from minigraph.layers.population import Pairs
from minigraph.ops.arithmetic import reciprocal
from minigraph.ops.elementwise import Operand, cast
from minigraph.ops.normalization import FiniteOr, Sample, Standardize, check_epsilon, normalizable, normalize_by
from minigraph.ops.transcendental import sqrt
from minigraph.transforms.averages import moving_average
from minigraph.types import as_ints

THEANO = Convention("Theano", "gamma", "beta", "running_mean", "running_var", Variance(unbiased=True), 1e-4)


def _averaged(x: Variable, axes: str | Sequence[int]) -> tuple[int, ...]:
    """The axes to average over: 'per-activation' is the first, 'spatial' all but the second."""
    if not isinstance(axes, str):
        return as_ints(axes, "axes")
    if axes not in ("per-activation", "spatial"):
        raise InvalidValueError(f"axes must be 'per-activation', 'spatial', or ints, not {axes!r}")
    return (0,) if axes == "per-activation" else (0, *range(2, x.ndim))


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
    """(output, mean, inverse deviation) of the minibatch, and new running averages where the old ones are given.

    gamma, beta and the averages have size 1 in `axes`. The caller updates: `updates=[(running_mean, new_running_mean), ...]`.
    The running variance is the unbiased one.
    """
    x, averaged = normalizable(inputs, _averaged(as_variable(inputs), axes))
    x_hat, mean, stdev, variance = items(Standardize(averaged, None, check_epsilon(epsilon))(x))
    output = x_hat * cast(gamma, x.dtype) + cast(beta, x.dtype)
    if (running_mean is None) != (running_var is None):
        raise InvalidValueError("give both running_mean and running_var, or none of them")
    if running_mean is None or running_var is None:
        return output, mean, reciprocal(stdev)
    batch = Batch(mean, variance, Sample(x, averaged, None, []).count)
    running = running_mean, running_var
    pairs: Pairs = [
        (old, FiniteOr()(estimate, old)) for old, estimate in zip(running, THEANO.estimate(batch, epsilon), strict=True)
    ]
    averages = dict(moving_average(pairs, running_average_factor))
    return output, mean, reciprocal(stdev), averages[running_mean], averages[running_var]


def batch_normalization_test(
    inputs: Operand,
    gamma: Operand,
    beta: Operand,
    mean: Operand,
    var: Operand,
    axes: str | Sequence[int] = "per-activation",
    epsilon: float = 1e-4,
) -> Variable:
    """The inputs normalized by a given mean and variance, times gamma, plus beta; these have size 1 in `axes`."""
    x = as_variable(inputs)
    _averaged(x, axes)
    normalized = normalize_by(x, mean, sqrt(as_variable(var) + check_epsilon(epsilon)))
    return normalized * cast(gamma, x.dtype) + cast(beta, x.dtype)
