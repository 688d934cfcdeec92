"""Sums of products over labelled axes, in Einstein's notation, as products of matrices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Composite, Variable
from minigraph.core.types import TensorType
from minigraph.ops.array.creation import arange
from minigraph.ops.array.indexing import index
from minigraph.ops.array.shape import dimshuffle, moveaxis, reshape, shape, size
from minigraph.ops.elementwise.base import Cotangents, Operand, promoted
from minigraph.ops.linear.products import MatMul, with_size
from minigraph.ops.reduce.reduction import sum as sum_over

__all__ = ["einsum"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

USUAL = 32
"""The size that an axis of unknown size counts as where operands are put in the order in which they are multiplied."""

Labelled = tuple[str, Variable]
"""A variable, and a label for each of its axes."""


class Einsum(Composite):
    """A sum of products by labelled axes; each label once per operand, and in the result or in another operand."""

    operands: tuple[str, ...]
    result: str
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        sizes: dict[str, int | None] = {}
        for labels, type in zip(self.operands, types, strict=True):
            for label, known in zip(labels, type.shape, strict=True):
                if known is not None and sizes.get(label) not in (None, known):
                    raise InvalidValueError(f"label {label!r} has sizes {sizes[label]} and {known}")
                sizes[label] = sizes.get(label) if known is None else known
        return TensorType(types[0].dtype, tuple(sizes[label] for label in self.result))

    def expand(self, *inputs: Variable) -> Variable:
        left = list(zip(self.operands, inputs, strict=True))
        for together in self._order([one.type.shape for one in inputs]):
            first, *others = [left.pop(k) for k in sorted(together, reverse=True)][::-1]
            for other in others:
                first = _contracted(first, other, set(self.result).union(*(labels for labels, _ in left)))
            left.append(first)
        ((labels, product),) = left
        return dimshuffle(product, *(labels.index(one) for one in self.result))

    def _order(self, shapes: Sequence[Sequence[int | None]]) -> list[tuple[int, ...]]:
        """The operands that are multiplied in each step, by their positions among those that are left, as NumPy plans it."""
        if len(shapes) <= 2:
            return [tuple(range(len(shapes)))]
        like = [np.broadcast_to(0, [USUAL if one is None else one for one in shape]) for shape in shapes]
        return np.einsum_path(f"{','.join(self.operands)}->{self.result}", *like, optimize="greedy")[0][1:]

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


def _contracted(first: Labelled, second: Labelled, kept: Iterable[str]) -> Labelled:
    """The product of two variables, over the labels of both, summed over those that are not kept."""
    (mine, a), (theirs, b) = first, second
    both = [one for one in mine if one in theirs]
    stack, summed = [one for one in both if one in kept], [one for one in both if one not in kept]
    rows, columns = [one for one in mine if one not in both], [one for one in theirs if one not in both]
    for one in both:
        if None in (a.type.shape[mine.index(one)], b.type.shape[theirs.index(one)]):
            b = with_size(b, theirs.index(one), shape(a)[mine.index(one)])
    if not summed or not (rows or columns):
        whole = [*stack, *rows, *columns, *summed]
        product = _in_order(mine, a, whole) * _in_order(theirs, b, whole)
        over = list(range(len(whole) - len(summed), len(whole)))
        return "".join([*stack, *rows, *columns]), sum_over(product, over, dtype=product.dtype) if summed else product
    left = _as_matrices(_in_order(mine, a, [*stack, *rows, *summed]), len(rows), len(summed))
    right = _as_matrices(_in_order(theirs, b, [*stack, *summed, *columns]), len(summed), len(columns))
    sizes = [shape(a)[mine.index(one)] for one in [*stack, *rows]] + [shape(b)[theirs.index(one)] for one in columns]
    product = MatMul()(left, right)
    plain = len(rows) == len(columns) == 1
    return "".join([*stack, *rows, *columns]), product if plain else reshape(product, sizes)


def _in_order(labels: str, variable: Variable, wanted: Sequence[str]) -> Variable:
    """A variable with an axis for each wanted label, of size 1 for those that it has not."""
    return dimshuffle(variable, *(labels.index(one) if one in labels else "x" for one in wanted))


def _as_matrices(variable: Variable, rows: int, columns: int) -> Variable:
    """A stack of matrices of a variable whose last axes are `rows` axes and `columns` axes."""
    if rows == columns == 1:
        return variable
    first, middle = variable.ndim - rows - columns, variable.ndim - columns
    merged = [size(variable, [*range(start, stop)]) for start, stop in ((first, middle), (middle, variable.ndim))]
    return reshape(variable, [*(shape(variable)[axis] for axis in range(first)), *merged])
