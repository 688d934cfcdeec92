"""Matrix products, and linear algebra through the array namespace's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Op, Shaped, Variable
from minigraph.core.types import TensorType, broadcast_shapes, check_axis
from minigraph.ops.array.creation import arange
from minigraph.ops.array.indexing import index
from minigraph.ops.array.shape import broadcast_to, expand_dims, moveaxis, reshape, shape, size, squeeze, swapaxes, transpose
from minigraph.ops.elementwise.base import Cotangents, Operand, promoted
from minigraph.ops.reduce.reduction import sum as sum_over

__all__ = ["batched_dot", "dot", "einsum", "matmul", "tensordot"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


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


def _with_size(x: Variable, axis: int, size: Any) -> Variable:
    """x, provided that an axis, whose size is unknown, has this size when it is computed; ValueError then if it has not."""
    sizes = list(shape(x))
    sizes[axis] = size
    return broadcast_to(x, sizes)


def with_agreeing_stacks(a: Variable, b: Variable) -> tuple[Variable, Variable]:
    """Two stacks of matrices, provided that sizes of the stacks which are not statically 1 agree when they are computed."""
    for axis in range(-min(a.ndim, b.ndim), -2):
        mine, theirs = a.type.shape[axis], b.type.shape[axis]
        if 1 not in (mine, theirs) and theirs is None:
            b = _with_size(b, axis, shape(a)[axis])
        elif 1 not in (mine, theirs) and mine is None:
            a = _with_size(a, axis, theirs)
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
            right = _with_size(right, other, shape(left)[one])
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


class Einsum(Op):
    """A sum of products by labelled axes; each label once per operand, and in the result or in another operand."""

    operands: tuple[str, ...]
    result: str
    view_of = 0  # with one operand NumPy returns a view
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        sizes: dict[str, int | None] = {}
        for labels, type in zip(self.operands, types, strict=True):
            for label, known in zip(labels, type.shape, strict=True):
                if known is not None and sizes.get(label) not in (None, known):
                    raise InvalidValueError(f"label {label!r} has sizes {sizes[label]} and {known}")
                sizes[label] = sizes.get(label) if known is None else known
        return TensorType(types[0].dtype, tuple(sizes[label] for label in self.result))

    def forward(self, xp: Any, *arrays: Array) -> Array:
        sizes: dict[str, int] = {}
        for labels, array in zip(self.operands, arrays, strict=True):
            for label, known in zip(labels, array.shape, strict=True):
                if sizes.setdefault(label, known) != known:
                    raise ValueError(f"label {label!r} has sizes {sizes[label]} and {known}")
        return xp.einsum(f"{','.join(self.operands)}->{self.result}", *arrays)

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        return [
            einsum(
                f"{','.join((self.result, *self.operands[:k], *self.operands[k + 1 :]))}->{labels}",
                dy, *inputs[:k], *inputs[k + 1 :],
            )
            for k, labels in enumerate(self.operands)
        ]  # fmt: skip


def einsum(subscripts: Any, *operands: Any) -> Variable:
    """The sum of products that Einstein's notation names, as in numpy.einsum, ellipses and diagonals included.

    Instead of `"ij,jk->ik", a, b` the operands may stand each before a list that numbers its axes, `a, [0, 1], b, [1, 2]`, and
    that of the result in the end.
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _subscripts_of_lists([subscripts, *operands])
    variables = promoted(operands)
    given, result = _parse_subscripts(subscripts, [variable.ndim for variable in variables])
    prepared: list[tuple[str, Variable]] = []
    for k, (labels, variable) in enumerate(zip(given, variables, strict=True)):
        elsewhere = set(result).union(*given[:k], *given[k + 1 :])
        prepared.append(_with_own_labels_reduced(labels, variable, elsewhere))
    return Einsum(tuple(labels for labels, _ in prepared), result)(*(variable for _, variable in prepared))


def _subscripts_of_lists(given: Sequence[Any]) -> tuple[str, tuple[Operand, ...]]:
    """The subscripts and the operands of operands that are each followed by a list of axes; TypeError if they are not."""
    operands, lists = given[: len(given) // 2 * 2 : 2], [*given[1::2], *given[len(given) // 2 * 2 :]]
    texts = []
    for axes in lists:
        listed: list[Any] = list(axes) if isinstance(axes, list | tuple) else [None]
        if not all(one is Ellipsis or (isinstance(one, int) and 0 <= one < 52) for one in listed):
            raise InvalidTypeError(
                f"einsum takes subscripts and operands, or each operand before a list of its axes, not {axes!r}"
            )
        texts.append("".join("..." if one is Ellipsis else _LETTERS[one] for one in listed))
    arrow = f"->{texts.pop()}" if len(given) % 2 else ""
    return ",".join(texts) + arrow, tuple(operands)


def _parse_subscripts(subscripts: str, ndims: Sequence[int]) -> tuple[list[str], str]:
    """The labels of each operand and of the result, ellipses spelled out; ValueError if they do not fit."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(ndims):
        raise InvalidValueError(f"einsum {subscripts!r} names {len(parts)} operands, {len(ndims)} were given")
    unused = [chr(code) for code in range(ord("A"), ord("z") + 1) if chr(code).isalpha() and chr(code) not in subscripts]
    widths = [ndim - len(part.replace("...", "")) for part, ndim in zip(parts, ndims, strict=True)]
    if any(width < 0 or (width and "..." not in part) for part, width in zip(parts, widths, strict=True)):
        raise InvalidValueError(f"einsum {subscripts!r} does not fit operands of {list(ndims)} axes")
    broadcast = "".join(unused[: max(widths)])
    given = [part.replace("...", broadcast[len(broadcast) - width :]) for part, width in zip(parts, widths, strict=True)]
    joined = "".join(given)
    implicit = "..." + "".join(sorted(label for label in set(joined) - set(broadcast) if joined.count(label) == 1))
    result = (right if arrow else implicit).replace("...", broadcast)
    unknown = not set(result) <= set(joined) or (joined and not joined.isalpha())
    if unknown or len(set(result)) != len(result):
        raise InvalidValueError(f"einsum {subscripts!r}: the result must have labels of the operands, each once")
    return given, result


def _with_own_labels_reduced(labels: str, variable: Variable, elsewhere: set[str]) -> tuple[str, Variable]:
    """An operand with repeated labels taken to diagonals, and labels of its own summed away."""
    for label in [one for one in dict.fromkeys(labels) if labels.count(one) > 1]:
        places = [place for place, one in enumerate(labels) if one == label]
        moved = moveaxis(variable, places, list(range(len(places))))
        variable = index(moved, (arange(shape(moved)[0]),) * len(places))
        labels = label + labels.replace(label, "")
    own = [place for place, label in enumerate(labels) if label not in elsewhere]
    reduced = sum_over(variable, own, dtype=variable.dtype) if own else variable
    return "".join(label for label in labels if label in elsewhere), reduced
