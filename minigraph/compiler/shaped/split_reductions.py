"""Long sums in blocks, which the cores of a processor share, or the blocks of threads of a GPU.

A product of matrices whose few elements are sums of many terms would be the work of one core, and long columns that are folded
that of few threads. Blocks of terms are the work of many, and always the same, however many cores there are.

A product of a vector and a matrix that is computed element for element is a fold, which goes with that computation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

from minigraph.compiler.shaped.layout import sizes
from minigraph.core.graph import Graph, Variable
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.shape import Dimshuffle, dimshuffle, reshape
from minigraph.ops.elementwise.arithmetic import multiply
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.linear.products import MatMul
from minigraph.ops.reduce.base import Reduction
from minigraph.ops.reduce.reduction import sum as sum_over
from minigraph.rewrite.engine import changed

BLOCKS = 16
"""Into how many blocks sums are split, at most."""
SOME_RESULTS, MOST_TERMS = 16, 8192
"""The least number of results of a product that is computed as that many folds, and what the terms of each are less than."""
MANY_TERMS, TERMS_A_BLOCK, FEW_ELEMENTS = 4096, 1024, 256
"""From how many terms on the sums of a product are split, in blocks of how many, and up to how many elements for each that
both matrices have along the sides of the result.
"""


def split_rows(graph: Graph, blocks_of: Callable[[Variable, int, int], int]) -> Graph:
    """The graph, all of whose sizes are known, with folds of long columns done block by block.

    blocks_of: in how many blocks a fold is wanted to be done, given it, its rows and its columns; 1 for folds that are fine.
    """

    @cache
    def in_blocks(variable: Variable, leading: int, count: int) -> Variable:
        """A value whose leading axes were joined, and split into blocks; what is cheap is computed in that shape."""
        shape = sizes(variable)
        if isinstance(variable.op, Elementwise) and variable.op.cost == 1 and variable.inputs:
            whole = [_operand(one, shape, leading) for one in variable.inputs]
            if None not in whole:
                parts = [one if flat else in_blocks(one, leading, count) for one, flat in whole]  # type: ignore[misc]
                return variable.op(*parts)
        return reshape(variable, (count, math.prod(shape[:leading]) // count, *shape[leading:]))

    def step(variable: Variable) -> Variable | None:
        op = variable.op
        if not isinstance(op, Reduction) or not op.axes or op.axes != tuple(range(len(op.axes))):
            return None
        x, leading = variable.inputs[0], len(op.axes)
        rows, columns = math.prod(sizes(x)[:leading]), math.prod(sizes(variable))
        count = equal_parts(rows, blocks_of(variable, rows, columns)) if rows else 1
        steps = op.in_two_steps((1,), (0,), x.dtype) if count > 1 else None
        return None if steps is None else steps[1](steps[0](in_blocks(x, leading, count)))

    return changed(graph, step)


def pass_single(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with that element in the place of a fold of one element."""

    def step(variable: Variable) -> Variable | None:
        match variable:
            case Variable(Reduction(axes) as op, (x,)) if axes and all(sizes(x)[axis] == 1 for axis in axes):
                element = op.of_one(x)
                return None if element is None else dimshuffle(element, *(axis for axis in range(x.ndim) if axis not in axes))
        return None

    return changed(graph, step)


def split_products(graph: Graph) -> Graph:
    """The graph with products of vectors, and products whose sums have many terms, done as folds of what goes with them."""

    def step(variable: Variable) -> Variable | None:
        if not isinstance(variable.op, MatMul) or variable.ndim != 2:
            return None
        folds = _as_folds(variable)
        return _sum_of_products(variable) if folds is None else folds

    return changed(graph, step)


def equal_parts(length: int, most: int) -> int:
    """The largest number of equal parts that there are of a length, up to a number."""
    return next(count for count in range(most, 0, -1) if not length % count)


def blocks_of_terms(terms: int) -> int:
    """The number of blocks of equal length in which sums of `terms` terms are computed."""
    if terms < MANY_TERMS:
        return 1
    return equal_parts(terms, next(count for count in range(BLOCKS, 0, -1) if count * TERMS_A_BLOCK <= terms))


def _as_folds(variable: Variable) -> Variable | None:
    """A product of a vector and a matrix that is computed element for element as folds; None if it is none."""
    a, b = variable.inputs
    row = sizes(a)[0] == 1 and isinstance(b.op, Elementwise | Concatenate)
    column = sizes(b)[1] == 1 and isinstance(a.op, Elementwise | Concatenate)
    if not (row or column) or sizes(a)[1] >= MOST_TERMS or math.prod(sizes(variable)) < SOME_RESULTS:
        return None
    if row:
        return dimshuffle(sum_over(multiply(dimshuffle(a, 1, 0), b), 0), None, 0)
    return dimshuffle(sum_over(multiply(a, dimshuffle(b, 1, 0)), 1), 0, None)


def _sum_of_products(variable: Variable) -> Variable | None:
    """A product of two matrices whose sums have many terms as the sum of a stack of products of parts."""
    a, b = variable.inputs
    (rows, columns), terms = sizes(variable), sizes(a)[1]
    count = blocks_of_terms(terms) if rows * columns <= FEW_ELEMENTS * (rows + columns) else 1
    return None if count == 1 else sum_over(MatMul()(_in_stack(a, 1, count), _in_stack(b, 0, count)), 0)


def _in_stack(matrix: Variable, axis: int, count: int) -> Variable:
    """A stack of the `count` parts that a matrix has along an axis, as views of its memory."""
    if isinstance(matrix.op, Dimshuffle) and matrix.op.pattern == (1, 0):
        return dimshuffle(_in_stack(matrix.inputs[0], 1 - axis, count), 0, 2, 1)
    rows, columns = sizes(matrix)
    if axis == 0:
        return reshape(matrix, (count, rows // count, columns))
    return dimshuffle(reshape(matrix, (rows, count, columns // count)), 1, 0, 2)


def split_apart(graph: Graph, pays: Callable[[int, int], bool]) -> Graph:
    """The graph with folds over axes that lie apart done in two steps: over the last ones that lie together, then the others.

    pays: whether that is wanted for a fold, given the numbers of its elements and of its results.
    """

    def step(variable: Variable) -> Variable | None:
        op = variable.op
        if not isinstance(op, Reduction):
            return None
        x, last = variable.inputs[0], [axis for k, axis in enumerate(op.axes) if op.axes[-1] - axis == len(op.axes) - 1 - k]
        others = op.axes[: len(op.axes) - len(last)]
        wanted = others and pays(math.prod(sizes(x)), math.prod(sizes(variable)))
        steps = op.in_two_steps(tuple(last), others, x.dtype) if wanted else None
        return None if steps is None else steps[1](steps[0](x))

    return changed(graph, step)


def _operand(one: Variable, shape: tuple[int, ...], leading: int) -> tuple[Variable, bool] | None:
    """An operand of a result of some shape: itself, to be split as that is; or a row of columns, and True; else None."""
    own = sizes(one)
    if own == shape:
        return one, False
    missing = len(shape) - len(own)
    if math.prod(own[: max(leading - missing, 0)]) != 1:
        return None
    kept = range(max(leading - missing, 0), one.ndim)
    return dimshuffle(one, *kept) if len(kept) < one.ndim else one, True
