"""Products of many rows that stand upright in memory become stacks of products, so that neither they nor results are copied.

A convolution of single elements multiplies the channels of each place by a matrix. Where the channels of an image do not lie
last, all places of all images would be copied into rows; but the channels of each image are the rows of a matrix as it lies,
which another one multiplies from the left.
"""

from __future__ import annotations

import math

from minigraph.core.graph import Graph, Variable
from minigraph.ops.array.shape import Dimshuffle, Reshape, dimshuffle, reshape, shape, swapaxes
from minigraph.ops.linear.products import MatMul
from minigraph.ops.reduce.reduction import sum as sum_over
from minigraph.rewrite.engine import changed
from minigraph.rewrite.sink_transposes import sunk
from minigraph.rewrite.symbolic_shapes import pattern_sizes

FEWEST_PLACES = 32
"""Of an image, from which on a product of its own is worth being called."""


def stack_products(graph: Graph) -> Graph:
    """The graph with products of single elements of images whose channels do not lie last as stacks of products.

    What follows is computed in the order of these, as after `sink_transposes`, up to the next product, which may stand upright.
    """
    turned: set[Variable] = set()
    """The new variables, which alone are followed: elsewhere axes are in the best order."""

    def step(variable: Variable) -> Variable | None:
        result = _stacked(variable)
        if result is None and not turned.isdisjoint(variable.inputs):
            result = sunk(variable)
        if result is not None:
            turned.add(result)
        return result

    return changed(graph, step)


def _stacked(variable: Variable) -> Variable | None:
    """A product as a stack of products that copies less; None if it is none."""
    match variable:
        case Variable(Reshape(), (Variable(MatMul(), (rows, matrix)), *_)) if matrix.ndim == 2:
            return _of_images(variable, rows, matrix)
        case Variable(MatMul(), (Variable(Dimshuffle((1, 0)), (rows,)), others)):
            return _total(rows, others)
    return None


def _of_images(variable: Variable, rows: Variable, matrix: Variable) -> Variable | None:
    """A product of rows, reshaped to (batch, *lengths, columns) with axes of size 1, as one of the matrix and each image."""
    x = _upright(rows)
    if x is None:
        return None
    batch, *middle, columns = pattern_sizes(variable)
    lengths = list(x.type.shape[2:])
    if [size for size in middle if size != 1] != [size for size in lengths if size != 1]:
        return None
    product = MatMul()(dimshuffle(matrix, "x", 1, 0), _as_matrices(x))
    places = iter([k for k, size in enumerate(lengths, 2) if size != 1])
    order = ["x" if size == 1 else next(places) for size in middle]
    return dimshuffle(reshape(product, (batch, columns, *lengths)), 0, *order, 1)


def _total(rows: Variable, others: Variable) -> Variable | None:
    """The sum of the outer products of rows, if both stand upright, as that of a product for each image."""
    x, y = _upright(rows), _upright(others)
    if x is None or y is None or x.type.shape[2:] != y.type.shape[2:]:
        return None
    return sum_over(MatMul()(_as_matrices(x), swapaxes(_as_matrices(y), -1, -2)), 0)


def _upright(rows: Variable) -> Variable | None:
    """The array (batch, channels, *lengths) whose channels, at each place of each image, are the rows; None if it is none."""
    match rows:
        case Variable(Reshape(), (Variable(Dimshuffle(pattern), (x,)), *_)) if rows.ndim == 2 and x.ndim > 2:
            order = [axis for axis in pattern if axis is not None and x.type.shape[axis] != 1]
            expected = [axis for axis in (0, *range(2, x.ndim), 1) if x.type.shape[axis] != 1]
            known = x.type.shape[1:]
            if order != expected or None in known or rows.type.shape[1] != known[0]:
                return None
            return x if math.prod(size or 0 for size in known[1:]) >= FEWEST_PLACES else None
    return None


def _as_matrices(x: Variable) -> Variable:
    """An array (batch, channels, *lengths) as a matrix for each image."""
    return reshape(x, (*shape(x)[:2], math.prod(size or 0 for size in x.type.shape[2:])))
