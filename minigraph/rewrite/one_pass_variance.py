"""Statistics in one pass over memory, for machines whose float64 arithmetic is faster than their memory.

`Standardize` of 32-bit floats takes the mean, corrects it, and takes the variance of what is left: three passes. In float64 the
sums of x - x0 and of its square, with x0 the first element of each sample, tell both. Subtracting the squared mean from the
mean square loses little: x0 is one of the m elements, so (x0 - mean)^2 is at most m times the variance, and the relative error
of the variance is in the order of m * 2^-53.
"""

from __future__ import annotations

import numpy as np

from minigraph.core.graph import Graph, Item, Variable
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import transform
from minigraph.ops.array.indexing import index
from minigraph.ops.elementwise.arithmetic import maximum, square
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.ops.reduce.normalization import Standardize
from minigraph.ops.reduce.reduction import sum as sum_over
from minigraph.ops.reduce.statistics import inverse_or_zero, mean


def one_pass_variance(graph: Graph) -> Graph:
    """The graph with the statistics of 16- and 32-bit floats computed in one pass, except of masked or divided samples."""
    several: dict[Variable, tuple[Variable, ...]] = {}

    def step(variable: Variable) -> Variable:
        if not isinstance(variable.op, Item) or not _is_whole(variable.inputs[0]):
            return variable
        whole = variable.inputs[0]
        if whole not in several:
            carry_on(variable.origin)
            assert isinstance(whole.op, Standardize)
            several[whole] = _in_one_pass(whole.op, whole.inputs[0])
        return several[whole][variable.op.index]

    with carry_origin(here()):
        return graph.with_roots(transform(graph.roots, step))


def _is_whole(variable: Variable) -> bool:
    """Whether a variable standardizes all elements of 16- or 32-bit floats, in this process alone."""
    op = variable.op
    return (
        isinstance(op, Standardize)
        and op.all_reduce is None
        and len(variable.inputs) == 1
        and variable.inputs[0].dtype.itemsize < 8
    )


def _in_one_pass(op: Standardize, x: Variable) -> tuple[Variable, ...]:
    """What `op` makes of x: normalized, mean, stdev, variance."""
    beginning = tuple(slice(0, 1) if axis in op.axes else slice(None) for axis in range(x.ndim))
    first = sum_over(index(x, beginning), op.axes, keepdims=True)  # a sum, since there may be no element at all
    origin = cast(first, np.float64)
    moved = cast(x, np.float64) - origin
    shift = mean(moved, op.axes, keepdims=True)
    variance = maximum(mean(square(moved), op.axes, keepdims=True) - square(shift), 0.0)
    stdev = sqrt(variance + op.epsilon)
    normalized = (moved - shift) * (1.0 / stdev if op.epsilon else inverse_or_zero(stdev))
    statistics = np.dtype(np.float32)
    average = origin + shift + (shift - shift)  # of infinite elements NaN, as their mean is once it has been corrected
    return cast(normalized, x.dtype), cast(average, statistics), cast(stdev, statistics), variance
