"""Long columns are folded in two steps: many rows at a time, each by whichever core is free, then the few results.

A fold over the leading axes of an array with few columns would be the work of one core. Seen as so many blocks of rows, it is
that of many, and always of the same blocks, however many cores there are.
"""

from __future__ import annotations

import math

from minigraph.graph import Graph, Variable, transform
from minigraph.kernels.effort import cost
from minigraph.kernels.layout import sizes
from minigraph.ops.elementwise import Elementwise
from minigraph.ops.reduction import Reduction
from minigraph.ops.shape import dimshuffle, reshape

BLOCKS = 16
"""Into how many blocks rows are split, at most."""
MANY_ROWS, FEW_COLUMNS = 8192, 512
"""From how many rows on, and up to how many columns, a fold is split."""


def split_rows(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with folds of long columns done block by block."""
    blocks: dict[tuple[Variable, int, int], Variable] = {}

    def in_blocks(variable: Variable, leading: int, count: int) -> Variable:
        """A value whose leading axes were joined, and split into blocks; what is cheap is computed in that shape."""
        shape = sizes(variable)
        key = (variable, leading, count)
        if key not in blocks:
            rows = math.prod(shape[:leading])
            if isinstance(variable.op, Elementwise) and cost(variable.op) == 1 and variable.inputs:
                whole = [_operand(one, shape, leading) for one in variable.inputs]
                if None not in whole:
                    parts = [one if flat else in_blocks(one, leading, count) for one, flat in whole if one is not None]  # type: ignore[misc]
                    blocks[key] = variable.op(*parts)
                    return blocks[key]
            blocks[key] = reshape(variable, (count, rows // count, *shape[leading:]))
        return blocks[key]

    def step(variable: Variable) -> Variable:
        op = variable.op
        if not isinstance(op, Reduction) or not _is_long(variable):
            return variable
        x = variable.inputs[0]
        leading = len(op.axes)
        count = next(k for k in range(BLOCKS, 0, -1) if math.prod(sizes(x)[:leading]) % k == 0)
        if count == 1:
            return variable
        once, twice = (type(op)(**(vars(op) | {"axes": (axis,)})) for axis in (1, 0))
        return twice(once(in_blocks(x, leading, count)))

    return graph.with_roots(transform(graph.roots, step))


def _is_long(variable: Variable) -> bool:
    """Whether a variable folds the leading axes of an array with many rows and few columns."""
    op, x = variable.op, variable.inputs[0]
    assert isinstance(op, Reduction)
    if not hasattr(op, "axes") or op.axes != tuple(range(len(op.axes))) or len(op.axes) in (0, x.ndim):
        return False
    rows, columns = math.prod(sizes(x)[: len(op.axes)]), math.prod(sizes(variable))
    return rows >= MANY_ROWS and 1 < columns <= FEW_COLUMNS and variable.dtype == x.dtype


def _operand(one: Variable, shape: tuple[int, ...], leading: int) -> tuple[Variable, bool] | None:
    """An operand of a result of some shape: itself, to be split as that is; or a row of columns, and True; else None."""
    own = sizes(one)
    trailing = shape[leading:]
    if own == shape:
        return one, False
    missing = len(shape) - len(own)
    padded = (1,) * missing + own
    if math.prod(padded[:leading]) != 1 or len(padded) != len(shape):
        return None
    if not one.ndim:
        return one, True
    kept = [axis - missing for axis in range(leading, len(shape)) if axis >= missing]
    dropped = dimshuffle(one, *kept) if len(kept) < one.ndim else one
    return (dropped, True) if len(trailing) >= dropped.ndim else None
