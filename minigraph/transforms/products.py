"""Matrix products and convolutions as a graph holds them, found from their results and from their operands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigraph.core.graph import Constant, Variable
from minigraph.core.record import Record
from minigraph.ops.array.entries import Range
from minigraph.ops.array.indexing import Assign, Index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, expand_dims, reshape
from minigraph.ops.array.windows import Overlap, Windows
from minigraph.ops.linear.depthwise import DepthwiseConvolution, known_sizes
from minigraph.ops.linear.products import MatMul

Matrix = np.ndarray[Any, Any]
User = Callable[[Variable], Variable | None]
"""From a variable to the one that alone uses its elements, or None."""


class Product(Record):
    """A matrix product, or a convolution, which is one of patches: for groups a product of stacks of matrices."""

    path: tuple[Variable, ...]
    """The variables from its result down to the one that multiplies, or from its operand up to that."""
    elements: int = 1
    """The number of elements of a channel that its filters see, or spread a value to."""

    @property
    def variable(self) -> Variable:
        """The product of matrices, or what else multiplies."""
        return self.path[-1]

    @property
    def matrix(self) -> Variable:
        """The weights, as one matrix or one for each group."""
        return self.variable.inputs[1]

    def over(self, x: Variable, weights: Variable) -> Variable:
        """The product of something else, or with other weights."""
        return self.variable.with_inputs((x, weights))

    def added(self, result: Variable, bias: Variable) -> Variable:
        """The result of a product with a bias added, a number for each channel that is computed."""
        *stack, _, columns = self.matrix.type.shape
        return result + (reshape(bias, (*stack, 1, columns)) if stack else bias)

    def summed(self, terms: Matrix) -> Matrix:
        """The sums of `terms`, which are those of the matrix, for each channel that is computed."""
        return np.ravel(terms.sum(-2))

    def along_columns(self, vector: Any) -> Matrix:
        """A number for each channel that is computed, in a shape that broadcasts against the matrix."""
        *stack, _, columns = self.matrix.type.shape
        count = (stack[0] or 0 if stack else 1) * (columns or 0) // self.elements
        return np.repeat(np.broadcast_to(vector, (count,)), self.elements).reshape([*stack, 1, columns])

    def along_rows(self, vector: Any) -> Matrix:
        """A number for each channel that is taken, in a shape that broadcasts against the matrix."""
        *stack, rows, _ = self.matrix.type.shape
        groups = stack[0] or 0 if stack else 1
        channels = np.broadcast_to(vector, (groups * (rows or 0) // self.elements,)).reshape(groups, -1)
        return np.tile(channels, (1, self.elements)).reshape([*stack, rows, 1])


class Depthwise(Product):
    """A depthwise convolution; its weights are (channels, multiplier, *spatial)."""

    def added(self, result: Variable, bias: Variable) -> Variable:
        return result + expand_dims(bias, list(range(1, result.ndim - 1)))

    def summed(self, terms: Matrix) -> Matrix:
        return np.ravel(terms.sum(tuple(range(2, terms.ndim))))

    def along_columns(self, vector: Any) -> Matrix:
        channels, multiplier, *spatial = known_sizes(self.matrix)
        return np.broadcast_to(vector, (channels * multiplier,)).reshape(channels, multiplier, *(1 for _ in spatial))

    def along_rows(self, vector: Any) -> Matrix:
        channels, _, *spatial = known_sizes(self.matrix)
        return np.broadcast_to(vector, (channels,)).reshape(channels, 1, *(1 for _ in spatial))


def product_below(result: Variable, axis: int) -> Product | None:
    """The product or convolution that computes a variable, whose channels lie along an axis of it; None if none does.

    Between them may stand what reorders the result, takes parts of it along other axes, or lays zeros around it.
    """
    path = [result]
    while (former := _moved(path[-1], axis)) is not None:
        variable, axis = former
        path.append(variable)
    last = path[-1].ndim - 1
    match path[-1]:
        case Variable(MatMul(), (_, matrix)) if axis == last and matrix.ndim == 2:
            return Product(tuple(path))
        case Variable(Reshape(), (Variable(Dimshuffle((1, 0, 2)), (Variable(MatMul()) as product,)) as flat, *_)):
            groups, _, outputs = (size or 0 for size in product.type.shape)
            if axis == last and product.inputs[1].ndim == 3 and path[-1].type.shape[-1] == groups * outputs:
                return Product((*path, flat, product))
        case Variable(Overlap()) if axis == 1:
            return _spread(path)
        case Variable(DepthwiseConvolution()) if axis == 1:
            return Depthwise(tuple(path))
    return None


def product_above(taken: Variable, axis: int, only_user: User) -> Product | None:
    """The product, or the convolution without padding, that alone takes `taken`, whose channels lie along an axis of it.

    only_user: a function from a variable to the only one that uses its elements, or None.
    """
    user = only_user(taken)
    match user:
        case Variable(MatMul(), (x, matrix)) if x is taken and matrix.ndim == 2 and axis == taken.ndim - 1:
            return Product((taken, user))
        case Variable(Windows() as op) if axis == 1 and len(op.axes) == taken.ndim - 2:
            return _filtered((taken, user), only_user)
        case Variable(Reshape()) if axis == 1 and _in_groups(taken, user) and (windows := only_user(user)) is not None:
            return _filtered((taken, user, windows), only_user)
        case Variable(DepthwiseConvolution() as op, (x, _)) if x is taken and axis == 1 and not op.pads:
            return Depthwise((taken, user))
    return None


def padded(taken: Variable, axis: int, only_user: User) -> bool:
    """Whether a convolution takes `taken`, its channels along an axis, with something laid around it; `only_user`: as above."""
    user = only_user(taken)
    around = user if user is not None and _in_groups(taken, user) else taken
    inside = around
    while isinstance(user := only_user(around), Variable) and isinstance(user.op, BroadcastTo | Assign):
        around = user
    match user:
        case Variable(DepthwiseConvolution() as op, (x, _)) if op.pads:
            return x is taken and axis == 1
        case Variable(Windows()):
            return around is not inside and axis == 1 and _filtered((around, user), only_user) is not None
        case Variable(DepthwiseConvolution()):
            return around is not inside and product_above(around, axis, only_user) is not None
    return False


def spread_out(taken: Variable, only_user: User) -> bool:
    """Whether a transposed convolution takes a variable."""
    user = only_user(taken)
    multiplied = False
    while user is not None and isinstance(user.op, Dimshuffle | Reshape | MatMul) and not (multiplied and user.op == MatMul()):
        multiplied = multiplied or isinstance(user.op, MatMul)
        user = only_user(user)
    return multiplied and user is not None and isinstance(user.op, Overlap)


def _moved(variable: Variable, axis: int) -> tuple[Variable, int] | None:
    """The variable that another has its elements from, beside zeros, and the axis of it; None if it computes them."""
    match variable:
        case Variable(Dimshuffle(pattern), (x,)):
            former = pattern[axis]
            return None if former is None else (x, former)
        case Variable(Reshape(), (x, *_)) if x.ndim and axis == variable.ndim - 1:
            return (x, x.ndim - 1) if variable.type.shape[-1] == x.type.shape[-1] is not None else None
        case Variable(Index(entries), (x, *_)) if _keeps(entries, axis):
            return x, axis
        case Variable(BroadcastTo(_, kept), (x, *_)) if x.ndim == variable.ndim and axis in kept:
            return x, axis
        case Variable(Assign(entries), (frame, x, *_)) if _is_zero(frame) and x.ndim == variable.ndim:
            slices = [one for one in entries if isinstance(one, Range)]
            whole = x.type.shape[axis] is not None and x.type.shape[axis] == variable.type.shape[axis]
            in_order = len(slices) == len(entries) and all(one.step in (None, 1) for one in slices[axis : axis + 1])
            return (x, axis) if whole and in_order else None
    return None


def _keeps(entries: tuple[Any, ...], axis: int) -> bool:
    """Whether an index is made of slices, and takes an axis whole."""
    return all(isinstance(one, Range) for one in entries) and entries[axis : axis + 1] in ((), (Range(None, None, None),))


def _is_zero(frame: Variable) -> bool:
    """Whether all elements of a variable are zeros."""
    while isinstance(frame.op, BroadcastTo):
        frame = frame.inputs[0]
    return isinstance(frame.op, Constant) and not np.any(frame.op.value)


def _spread(path: list[Variable]) -> Product | None:
    """The transposed convolution that ends with patches added up, which are the last of a path."""
    overlap = path[-1].op
    assert isinstance(overlap, Overlap)
    count = len(overlap.axes)
    pattern = (0, count + 1, count + 2, *range(1, count + 1), *range(count + 3, 2 * count + 3))
    kinds = (Reshape, Dimshuffle, Reshape, Dimshuffle, MatMul)
    for kind in kinds:
        path = [*path, path[-1].inputs[0]]
        if not isinstance(path[-1].op, kind):
            return None
    joined, turned, split, flat, product = path[-len(kinds) :]
    if overlap.axes != tuple(range(2, count + 2)) or joined.type.shape[2:] != turned.type.shape[3:]:
        return None
    if turned.op != Dimshuffle(pattern) or flat.op != Dimshuffle((1, 0, 2)) or product.inputs[1].ndim != 3:
        return None
    groups, outputs = split.type.shape[count + 1 : count + 3]
    elements = int(np.prod(overlap.sizes))
    if product.type.shape[0] != groups or product.type.shape[2] != (outputs or 0) * elements:
        return None
    return Product(tuple(path), elements)


def _in_groups(taken: Variable, user: Variable) -> bool:
    """Whether a variable tells the channels of another, which lie along its second axis, apart by their groups."""
    if not isinstance(user.op, Reshape) or user.ndim != taken.ndim + 1 or taken.ndim < 3:
        return False
    groups, inner = user.type.shape[1:3]
    return None not in (groups, inner) and taken.type.shape[1] == (groups or 0) * (inner or 0)


def _filtered(path: tuple[Variable, ...], only_user: User) -> Product | None:
    """The convolution whose patches are the last of a path, and the image that they show the one before."""
    *_, image, windows = path
    if not isinstance(windows.op, Windows) or windows.op.foreign:
        return None
    count = len(windows.op.axes)
    spatial = range(image.ndim - count, image.ndim)
    stack = spatial[0]
    if windows.op.axes != tuple(spatial) or stack not in (2, 3):
        return None
    elements, channels = int(np.prod(windows.op.sizes)), windows.type.shape[stack - 1]
    within = range(image.ndim, image.ndim + count)
    turned = Dimshuffle((*range(stack - 2, -1, -1), *spatial, *within, stack - 1))
    user = only_user(windows)
    rows = None if user is None or user.op != turned else only_user(user)
    if user is None or rows is None or not isinstance(rows.op, Reshape) or rows.ndim != stack or channels is None:
        return None
    product = only_user(rows)
    if product is None or not isinstance(product.op, MatMul) or product.inputs[0] is not rows:
        return None
    fits = product.inputs[1].ndim == stack and rows.type.shape[-1] == elements * channels
    return Product((*path, user, rows, product), elements) if fits else None
