"""A stack of products with one matrix is one product of longer matrices, and so is the sum of a stack of products."""

from __future__ import annotations

from minigraph.core.graph import Graph, Variable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import from_inside
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, broadcast_to, dimshuffle, reshape, shape, size, swapaxes
from minigraph.ops.linear.products import MatMul
from minigraph.ops.reduce.reduction import Sum
from minigraph.rewrite.algebra import merge_dimshuffles
from minigraph.rewrite.engine import users_of

MANY_ROWS = 64
"""The least number of rows of matrices whose products take as little time in a stack as in one product."""


def flatten_stacks(graph: Graph) -> Graph:
    """The graph with products of stacks that share a matrix, and sums of stacks of products, as products of two matrices.

    The gradient of such a shared matrix is a sum of products. A stack whose rows do not lie in one piece stays: it would have
    to be copied. So does one of matrices of many rows, each of which is worth a product.
    """
    with carry_origin(here()):
        return graph.with_roots(from_inside(graph.roots, _flattened))


def _flattened(roots: list[Variable]) -> list[Variable]:
    """The roots with each product of stacks flattened that can be."""
    order = toposort(roots)
    users, ends = users_of(order), set(roots)
    done: dict[Variable, Variable] = {}
    for variable in order:
        carry_on(variable.origin)
        inputs = tuple([done[one] for one in variable.inputs])
        new = variable.with_inputs(inputs) if inputs != variable.inputs else variable
        alone = len(variable.inputs) == 1 and len(users[variable.inputs[0]]) == 1 and variable.inputs[0] not in ends
        flat = _flat(new, alone)
        done[variable] = new if flat is None or flat.type != new.type else flat
    return [done[root] for root in roots]


def _flat(variable: Variable, alone: bool) -> Variable | None:
    """A variable as a product of two matrices, None if it is none; alone: whether nothing else uses its operand."""
    match variable:
        case Variable(Sum(axes), (Variable(MatMul(), (left, right)) as product,)) if alone and variable.dtype == product.dtype:
            return _total(left, right) if axes and axes == tuple(range(product.ndim - 2)) else None
        case Variable(MatMul(), (left, right)):
            return _shared(left, right)
    return None


def _shared(left: Variable, right: Variable) -> Variable | None:
    """The product of a stack and one matrix, of matrices by it, or of it by columns; None if it is another product."""
    few = (left.type.shape[-2] or 0) < MANY_ROWS
    if left.ndim > 2 and few and (matrix := _one_matrix(right, left.ndim)) is not None and _is_in_rows(left):
        rows = reshape(left, (size(left, tuple(range(left.ndim - 1))), shape(left)[-1]))
        return reshape(MatMul()(rows, matrix), (*shape(left)[:-1], shape(matrix)[1]))
    if right.ndim > 2 and (matrix := _one_matrix(left, right.ndim)) is not None and right.type.shape[-1] == 1:
        turned = _shared(swapaxes(right, -1, -2), swapaxes(matrix, 0, 1))
        return None if turned is None else swapaxes(turned, -1, -2)
    return None


def _one_matrix(variable: Variable, ndim: int) -> Variable | None:
    """The matrix that a variable is for each of a stack of `ndim` axes, None if it is several."""
    if variable.ndim > ndim or any(one != 1 for one in variable.type.shape[:-2]):
        return None
    return dimshuffle(variable, variable.ndim - 2, variable.ndim - 1)


def _is_in_rows(variable: Variable) -> bool:
    """Whether the last axis of a variable is the last one of memory, as far as the graph tells; axes of size 1 do not count."""
    if isinstance(variable.op, Dimshuffle):
        pairs = zip(variable.op.pattern, variable.type.shape, strict=True)
        axes = [axis for axis, size in pairs if axis is not None and size != 1]
        return not axes or axes[-1] == max(axes)
    return not isinstance(variable.op, BroadcastTo)


def _total(left: Variable, right: Variable) -> Variable | None:
    """The sum of all products of two stacks of one shape as one product; None where rows do not lie in one piece."""
    turned = swapaxes(left, -1, -2)
    merged = merge_dimshuffles(turned)
    upright = turned if merged is None else merged
    if left.type.shape[:-2] != right.type.shape[:-2] or not _is_in_rows(upright):
        return None
    agreeing = broadcast_to(right, (*shape(upright)[:-1], shape(right)[-1]))
    rows = size(upright, tuple(range(left.ndim - 1)))
    first, second = (reshape(one, (rows, shape(one)[-1])) for one in (upright, agreeing))
    return MatMul()(dimshuffle(first, 1, 0), second)
