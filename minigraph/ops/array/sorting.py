"""Sorting, and the greatest elements. NaN comes last, or is the greatest, as in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Op, Variable, items
from minigraph.core.types import TensorType, check_axis
from minigraph.ops.array.creation import zeros_like
from minigraph.ops.array.indexing import inc_subtensor, take_along_axis
from minigraph.ops.array.shape import ravel
from minigraph.ops.elementwise.base import Cotangents, Operand

__all__ = ["argsort", "sort", "topk", "unique"]

MANY = 4096
"""The number of elements from which on it is faster to sort them together with their positions."""


def _keys(xp: Any, x: Array) -> Array:
    """Unsigned integers of the width of x, in the order of its elements: all zeros are equal, and all NaN, the greatest."""
    bits = 8 * x.itemsize
    if x.dtype.kind in "ub":
        return x.view(f"uint{bits}")
    least = np.iinfo(f"int{bits}").min
    if x.dtype.kind == "i":
        return (x ^ least).view(f"uint{bits}")
    pattern = (x + x.dtype.type(0)).view(f"int{bits}")
    keys = (pattern ^ ((pattern >> (bits - 1)) | least)).view(f"uint{bits}")
    return xp.where(xp.isnan(x), keys.dtype.type(2**bits - 1), keys)


def _descending(xp: Any, x: Array) -> Array:
    """Numbers whose ascending order is the descending one of x, NaN first."""
    if x.dtype.kind != "f":
        return ~x
    return ~_keys(xp, x) if xp.isnan(x).any() else -x


def _stable_order(xp: Any, x: Array) -> Array:
    """The stable order that sorts x along its last axis.

    Many keys of up to 32 bits are sorted as the upper halves of integers whose lower halves are positions: no two are equal, so
    that any algorithm is stable, and NumPy's fastest one can be taken.
    """
    narrow = x.itemsize <= 4 and x.shape[-1] <= 2**32
    if x.size < MANY or not narrow or (x.itemsize <= 2 and x.dtype.kind != "f"):  # of short integers NumPy sorts the digits
        return xp.argsort(x, axis=-1, kind="stable")
    together = _keys(xp, x).astype("uint64") << np.uint64(32)
    together |= xp.arange(x.shape[-1], dtype="uint64")
    together.sort(axis=-1)
    together &= np.uint64(2**32 - 1)
    return together.view("int64")


class Ordering(Op):
    """An op that puts the elements of rows along an axis in order, or finds their places in it."""

    axis: int
    values, places = True, False
    """Whether the elements, and their places, are results of it."""

    @property
    def kept(self) -> int | None:
        """The number of the greatest elements that are kept, descending; None for all, ascending."""
        return None


class ArgSort(Ordering):
    """The order that sorts along an axis, stable, NaN last."""

    values, places = False, True

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(np.dtype("int64"), types[0].shape)

    def forward(self, xp: Any, x: Array) -> Array:
        last = xp.ascontiguousarray(xp.moveaxis(x, self.axis, -1))
        return xp.moveaxis(_stable_order(xp, last), -1, self.axis)


def argsort(x: Operand, axis: int | None = -1) -> Variable:
    """The indices that sort x along `axis` (the raveled x if None), equal elements in their order, NaN last."""
    variable = as_variable(x)
    return ArgSort(0)(ravel(variable)) if axis is None else ArgSort(check_axis(axis, variable.ndim))(variable)


def _put_back(dy: Variable, x: Variable, order: Variable, axis: int) -> Variable:
    """The cotangent of x from that of its elements taken along an axis in some order."""
    return inc_subtensor(take_along_axis(zeros_like(x), order, axis), dy)


class Sort(Ordering):
    """The elements sorted along an axis, NaN last."""

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sort(x, axis=self.axis)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (_put_back(dy, x, ArgSort(self.axis)(x), self.axis),)


def sort(x: Operand, axis: int | None = -1) -> Variable:
    """x sorted along `axis` (the raveled x if None), NaN last."""
    variable = as_variable(x)
    return Sort(0)(ravel(variable)) if axis is None else Sort(check_axis(axis, variable.ndim))(variable)


class TopK(Ordering):
    """The k greatest elements along an axis, descending, and their positions; of equal elements the first ones."""

    k: int
    places = True

    @property
    def kept(self) -> int | None:
        return self.k

    def infer(self, *types: TensorType) -> tuple[TensorType, TensorType]:
        (x,) = types
        size = x.shape[self.axis]
        if size is not None and self.k > size:
            raise InvalidValueError(f"axis {self.axis} of {x} has no {self.k} elements")
        shape = (*x.shape[: self.axis], self.k, *x.shape[self.axis + 1 :])
        return TensorType(x.dtype, shape), TensorType(np.dtype("int64"), shape)

    def forward(self, xp: Any, x: Array) -> Array:
        last = xp.ascontiguousarray(xp.moveaxis(x, self.axis, -1))
        if self.k > last.shape[-1]:
            raise ValueError(f"an axis of size {last.shape[-1]} has no {self.k} elements")
        order = _first(xp, _descending(xp, last), self.k)
        return tuple(xp.moveaxis(one, -1, self.axis) for one in (xp.take_along_axis(last, order, -1), order))

    def gradient(self, dy: Any, y: Variable, x: Variable) -> Cotangents:
        return (None if dy[0] is None else _put_back(dy[0], x, items(y)[1], self.axis),)


def _first(xp: Any, keys: Array, k: int) -> Array:
    """The positions of the k least keys along the last axis, ascending by key, then by position."""
    size = keys.shape[-1]
    if keys.size < MANY or k in (0, size):
        return _stable_order(xp, keys)[..., :k]
    limit = xp.partition(keys, k - 1, axis=-1)[..., k - 1 : k]
    chosen = keys <= limit
    if xp.count_nonzero(chosen) > limit.size * k:
        within, equal = keys < limit, keys == limit
        chosen = within | (equal & (xp.cumsum(equal, axis=-1) <= k - within.sum(-1, keepdims=True)))
    found = (xp.flatnonzero(chosen) % size).reshape(*keys.shape[:-1], k)
    order = _stable_order(xp, xp.take_along_axis(keys, found, -1))
    return xp.take_along_axis(found, order, -1)


def topk(x: Operand, k: int, axis: int = -1) -> tuple[Variable, Variable]:
    """The `k` greatest elements of x along `axis`, in descending order, and their positions, int64.

    Both have the shape of x but for a size of k along `axis`. Of equal elements the first ones are taken, and come first; NaN
    is the greatest. The gradient of an element that is taken goes to its place in x.

    TypeError if k is no int, ValueError if it is below 0 or x has fewer elements along `axis`, or no such axis.

    >>> values, positions = mg.topk([3.0, 9.0, 5.0, 9.0], 3)
    >>> values.eval().tolist(), positions.eval().tolist()
    ([9.0, 9.0, 5.0], [1, 3, 2])
    """
    variable = as_variable(x)
    if not isinstance(k, int | np.integer) or isinstance(k, bool):
        raise InvalidTypeError(f"topk takes k as an int, not {k!r}")
    if k < 0:
        raise InvalidValueError(f"topk takes k elements, 0 or more, not {k}")
    values, positions = items(TopK(check_axis(axis, variable.ndim), int(k))(variable))
    return values, positions


class Unique(Op):
    """The distinct elements, sorted."""

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, (None,))

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.unique(x)


def unique(x: Operand) -> Variable:
    """The distinct elements of x, sorted, as a vector. Not differentiable."""
    return Unique()(as_variable(x))
