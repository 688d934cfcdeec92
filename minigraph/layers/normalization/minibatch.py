"""Minibatches as ghost batches, each of which is normalized by its own statistics."""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.normalization.conventions import Batch, pooled
from minigraph.ops.array.arranging import concatenate
from minigraph.ops.array.creation import ones_like, zeros
from minigraph.ops.array.shape import broadcast_like, reshape, shape
from minigraph.ops.reduce.normalization import Sample


class GhostBatches:
    """x as groups of `rows` rows along a new first axis, filled up with rows that a mask leaves out.

    `axes` and `weights` are those to take statistics with: each group has its own.
    """

    def __init__(self, x: Variable, axes: tuple[int, ...], weights: Sequence[Variable], rows: int) -> None:
        if 0 not in axes:
            raise InvalidValueError(f"virtual batches are parts of axis 0, over which statistics of {x!r} are not taken")
        self._sizes = shape(x)
        count, *rest = self._sizes
        groups = (count + rows - 1) // rows
        there = broadcast_like(weights[0], x) if weights else ones_like(x)

        def grouped(values: Variable) -> Variable:
            filling = zeros((groups * rows - count, *rest), values.dtype)
            return reshape(concatenate([values, filling]), (groups, rows, *rest))

        self.x = grouped(x)
        self.axes = tuple(axis + 1 for axis in axes)
        self.weights = [grouped(there)]
        self._filled = (groups * rows, *rest)

    def joined(self, normalized: Variable) -> Variable:
        """A normalized value of the groups with the rows and the shape of x."""
        return reshape(normalized, self._filled)[: self._sizes[0]]

    def pooled(self, statistics: Sequence[Variable]) -> Batch:
        """The statistics of x as a whole, from the mean, and perhaps deviation and variance, of each group."""
        mean, *spread = statistics
        count = Sample(self.x, self.axes, None, self.weights).count
        return pooled(Batch(mean, spread[1] if spread else None, count))
