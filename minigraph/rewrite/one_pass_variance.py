"""Statistics in one pass over memory, for machines whose float64 arithmetic is faster than their memory.

`Standardize` of 32-bit floats takes the mean, corrects it, and takes the variance of what is left: three passes. In float64 the
sums of x - x0 and of its square, with x0 the first element of each sample, tell both. Subtracting the squared mean from the
mean square loses little: x0 is one of the m elements, so (x0 - mean)^2 is at most m times the variance, and the relative error
of the variance is in the order of m * 2^-53.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minigraph.core.graph import Graph, Item, Variable
from minigraph.ops.array.indexing import index
from minigraph.ops.elementwise.arithmetic import maximum, square
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.ops.reduce.normalization import Standardize
from minigraph.ops.reduce.reduction import sum as sum_over
from minigraph.ops.reduce.statistics import inverse_or_zero, mean
from minigraph.rewrite.engine import changed


def one_pass_variance(graph: Graph) -> Graph:
    """The graph with the statistics of 16- and 32-bit floats computed in one pass, except of masked or divided samples."""
    in_one_pass = cache(_in_one_pass)

    def step(variable: Variable) -> Variable | None:
        match variable:
            case Variable(Item(place), (Variable(Standardize(all_reduce=None), (x,)) as whole,)) if x.dtype.itemsize < 8:
                return in_one_pass(whole)[place]
        return None

    return changed(graph, step)


def _in_one_pass(whole: Variable) -> tuple[Variable, ...]:
    """The results of a `Standardize`: normalized, mean, stdev, variance."""
    op, x = whole.op, whole.inputs[0]
    assert isinstance(op, Standardize)
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
