"""Statistics of the steps of a loop, as rows, turned into the rows of populations that they are about."""

from __future__ import annotations

import numpy as np

from minigraph.core.graph import Constant, Variable, is_annotation
from minigraph.layers.normalization.conventions import Batch, pooled
from minigraph.ops.array.arranging import concatenate
from minigraph.ops.array.creation import Arange, arange, full
from minigraph.ops.array.entries import Range
from minigraph.ops.array.indexing import Index
from minigraph.ops.array.shape import expand_dims, shape, shape_padright
from minigraph.ops.elementwise.arithmetic import minimum
from minigraph.ops.elementwise.comparison import eq, gt, where
from minigraph.ops.loop.loop import Scan


def is_constant(variable: Variable) -> bool:
    """Whether a value is known when the graph is built."""
    return isinstance(behind_copies(variable).op, Constant)


def counts_steps(loop: Variable, number: Variable) -> bool:
    """Whether a value of a loop's body is the number of the step, counted from 0."""
    op = loop.op
    assert isinstance(op, Scan)
    inner = behind_copies(number)
    places = [k for k, one in enumerate(op.body.inputs[: op.sequences]) if one is inner]
    outer = behind_copies(loop.inputs[1 + places[0]]) if places and not op.backwards else None
    while outer is not None and _shows_the_first(outer):  # as many rows as there are steps
        outer = behind_copies(outer.inputs[0])
    if outer is None:
        return False
    if isinstance(outer.op, Constant):
        return np.array_equal(outer.op.value, np.arange(outer.op.value.size))
    if not isinstance(outer.op, Arange):
        return False
    start, _, step = (behind_copies(one) for one in outer.inputs)
    return all(isinstance(one.op, Constant) and one.op.value == value for one, value in ((start, 0), (step, 1)))


def _shows_the_first(variable: Variable) -> bool:
    """Whether a variable is the beginning of another."""
    match variable.op.entries if isinstance(variable.op, Index) else ():
        case (Range(start=None | 0, step=None | 1),):
            return True
    return False


def behind_copies(variable: Variable) -> Variable:
    """The variable that a chain of identities shows."""
    while is_annotation(variable.op):
        variable = variable.inputs[0]
    return variable


def in_rows(steps: Batch, rows: int) -> Batch:
    """Statistics of the steps 0, 1, ... as those of `rows` populations, the last of which stands for all later steps.

    Where there is no step they are not finite, and the count is 0.
    """
    last = pooled(steps.each(lambda one: one[rows - 1 :]))
    known = shape(steps.mean)[0]
    here = min(known, rows - 1) if isinstance(known, int) else minimum(known, rows - 1)
    absent = rows - 1 - here

    def laid_out(stack: Variable, end: Variable, missing: float) -> Variable:
        """The first rows of a stack, others where there are none, and one at the end."""
        nothing = full((absent, *shape(stack)[1:]), missing, stack.dtype)
        return concatenate([stack[0:here], nothing, expand_dims(end.astype(stack.dtype), 0)])

    variance = None if steps.variance is None else laid_out(steps.variance, last.variance, np.nan)
    return Batch(laid_out(steps.mean, last.mean, np.nan), variance, laid_out(steps.count, last.count, 0))


def by_row(steps: Batch, numbers: Variable, rows: int) -> Batch:
    """Statistics of steps, each about the population of its number in `numbers`, as those of `rows` populations."""
    mine = eq(expand_dims(arange(rows), 0), expand_dims(numbers, 1))
    mine = shape_padright(mine, steps.mean.ndim - 1)
    counts = where(mine, expand_dims(steps.count, 1), 0)
    spread = None if steps.variance is None else expand_dims(steps.variance, 1)
    return pooled(Batch(where(gt(counts, 0), expand_dims(steps.mean, 1), 0), spread, counts))
