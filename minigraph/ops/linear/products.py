"""Matrix products."""

from __future__ import annotations

from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Shaped, Variable
from minigraph.core.types import TensorType, broadcast_shapes, check_axis
from minigraph.ops.array.shape import broadcast_to, expand_dims, reshape, shape, size, squeeze, swapaxes, transpose
from minigraph.ops.elementwise.base import Cotangents, Operand, promoted

__all__ = ["batched_dot", "dot", "matmul", "tensordot"]


class MatMul(Shaped):
    """The product of matrices on the last two axes; leading axes broadcast where they are statically 1."""

    of_numbers = True
    multiplies = True

    def compilable(self, *types: TensorType) -> bool:
        return types[0].dtype.kind in "fiu"

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        if a.ndim < 2 or b.ndim < 2 or a.dtype != b.dtype:
            raise InvalidTypeError("a product needs two operands of one dtype and at least two axes")
        if None not in (a.shape[-1], b.shape[-2]) and a.shape[-1] != b.shape[-2]:
            raise InvalidValueError(f"shapes {a.shape} and {b.shape} cannot be multiplied: {a.shape[-1]} is not {b.shape[-2]}")
        batch = broadcast_shapes([a.shape[:-2], b.shape[:-2]])
        return TensorType(a.dtype, (*batch, a.shape[-2], b.shape[-1]))

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.matmul(a, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        return MatMul()(dy, swapaxes(b, -1, -2)), MatMul()(swapaxes(a, -1, -2), dy)


def with_size(x: Variable, axis: int, size: Any) -> Variable:
    """x, provided that an axis, whose size is unknown, has this size when it is computed; ValueError then if it has not."""
    sizes = list(shape(x))
    sizes[axis] = size
    return broadcast_to(x, sizes)


def with_agreeing_stacks(a: Variable, b: Variable) -> tuple[Variable, Variable]:
    """Two stacks of matrices, provided that sizes of the stacks which are not statically 1 agree when they are computed."""
    for axis in range(-min(a.ndim, b.ndim), -2):
        mine, theirs = a.type.shape[axis], b.type.shape[axis]
        if 1 not in (mine, theirs) and theirs is None:
            b = with_size(b, axis, shape(a)[axis])
        elif 1 not in (mine, theirs) and mine is None:
            a = with_size(a, axis, theirs)
    return a, b


def matmul(a: Operand, b: Operand) -> Variable:
    """The matrix product a @ b as in NumPy: vectors are rows or columns, leading axes broadcast.

    TypeError for a scalar, ValueError for sizes that do not match.
    """
    left, right = promoted((a, b))
    if not left.ndim or not right.ndim:
        raise InvalidTypeError(f"a matrix product needs operands with axes, not {left!r} and {right!r}: use * for scalars")
    return _multiplied(left, right, 2)


def _multiplied(left: Variable, right: Variable, ndim: int) -> Variable:
    """The product of stacks of matrices, or of a row or a column where there are fewer than `ndim` axes."""
    is_row, is_column = left.ndim < ndim, right.ndim < ndim
    rows, columns = expand_dims(left, -2) if is_row else left, expand_dims(right, -1) if is_column else right
    result = MatMul()(*with_agreeing_stacks(rows, columns))
    dropped = [axis for axis, vector in ((-2, is_row), (-1, is_column)) if vector]
    return squeeze(result, dropped) if dropped else result


def dot(a: Operand, b: Operand) -> Variable:
    """numpy.dot: the product of matrices or vectors; of a's last with b's last but one axis for more of them."""
    left, right = promoted((a, b))
    if not left.ndim or not right.ndim:
        return left * right
    if left.ndim <= 2 and right.ndim <= 2:
        return matmul(left, right)
    return tensordot(left, right, ([left.ndim - 1], [max(right.ndim - 2, 0)]))


def tensordot(a: Operand, b: Operand, axes: int | tuple[Any, Any] = 2) -> Variable:
    """The sum of products over `axes`: the last of a with the first of b, or two lists of axes."""
    left, right = promoted((a, b))
    if isinstance(axes, int):
        if not 0 <= axes <= min(left.ndim, right.ndim):
            raise InvalidValueError(f"{left!r} and {right!r} have no {axes} axes to sum over")
        mine, theirs = list(range(left.ndim - axes, left.ndim)), list(range(axes))
    else:
        mine, theirs = (
            [check_axis(one, of.ndim) for one in ([given] if isinstance(given, int) else given)]
            for given, of in zip(axes, (left, right), strict=True)
        )
    if len(mine) != len(theirs):
        raise InvalidValueError(f"axes {axes} pair {len(mine)} axes with {len(theirs)}")
    for one, other in zip(mine, theirs, strict=True):
        sizes = (left.type.shape[one], right.type.shape[other])
        if None not in sizes and sizes[0] != sizes[1]:
            raise InvalidValueError(f"axis {one} of {left!r} and axis {other} of {right!r} differ in size")
        if None in sizes:
            right = with_size(right, other, shape(left)[one])
    free_left = [axis for axis in range(left.ndim) if axis not in mine]
    free_right = [axis for axis in range(right.ndim) if axis not in theirs]
    rows = reshape(transpose(left, free_left + mine), (size(left, free_left), size(left, mine)))
    columns = reshape(transpose(right, theirs + free_right), (size(right, theirs), size(right, free_right)))
    result_shape = [shape(left)[axis] for axis in free_left] + [shape(right)[axis] for axis in free_right]
    return reshape(MatMul()(rows, columns), result_shape)


def batched_dot(a: Operand, b: Operand) -> Variable:
    """For each i, dot(a[i], b[i]) of matrices or vectors."""
    left, right = promoted((a, b))
    if left.ndim not in (2, 3) or right.ndim not in (2, 3):
        raise InvalidTypeError(f"batched_dot takes two or three axes each, not {left!r} and {right!r}")
    return _multiplied(left, right, 3)
