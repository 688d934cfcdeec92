"""Reductions over axes, and running sums and products.

`axis` is None (all), an int or several, negative ones counted from the end; `keepdims` leaves an axis of size 1.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, is_weak
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Array, Op, Variable
from minigraph.core.types import TensorType, as_dtype, broadcast_shapes, check_axes
from minigraph.ops.array.creation import arange
from minigraph.ops.array.shape import broadcast_like, dimshuffle, expand_dims, moveaxis, reshape, restore_axes, shape, size
from minigraph.ops.elementwise.arithmetic import multiply_or_zero, reciprocal
from minigraph.ops.elementwise.base import Cotangents, Elementwise, Operand, cast, truth
from minigraph.ops.elementwise.comparison import eq, where
from minigraph.ops.reduce.base import Accumulation, Associative, Axis, Ordering, Reduction, Stages, State, remaining_axes, wider

__all__ = ["all", "any", "argmax", "argmin", "max", "min", "prod", "ptp", "sum"]


class Extreme(Ordering):
    """The greatest or smallest element; there must be one. Equal ones share the gradient equally."""

    def infer(self, *types: TensorType) -> TensorType:
        if builtins.any(types[0].shape[axis] == 0 for axis in self.axes):
            raise InvalidValueError(f"{type(self).__name__} of no elements: {types[0]} over axes {self.axes}")
        return super().infer(*types)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        ties = cast(eq(x, restore_axes(y, self.axes, x.ndim)), x.dtype)
        each = multiply_or_zero(dy, reciprocal(sum(ties, self.axes)))
        return (multiply_or_zero(restore_axes(each, self.axes, x.ndim), ties),)


def reduced(op: Callable[[tuple[int, ...]], Op], x: Operand, axis: Axis, keepdims: bool) -> Variable:
    """The result of `op` over `axis` of x; `keepdims` leaves axes of size 1."""
    variable = as_variable(x)
    axes = check_axes(axis, variable.ndim)
    return keep_axes(op(axes)(variable), axes, variable.ndim, keepdims)


def _accumulated(op: type[Accumulation], x: Operand, axis: Axis, dtype: Any, keepdims: bool) -> Variable:
    """`op` over `axis` of x, computed from and returned in `dtype` if that is given."""
    wanted = None if dtype is None else as_dtype(dtype)
    variable = as_variable(x) if wanted is None or not is_weak(x) else cast(x, wanted)
    axes = check_axes(axis, variable.ndim)
    plain = op(axes)
    own = wanted is None or wanted == plain.result_dtype(variable.dtype)
    fold = plain if own else op(axes, wanted)
    return keep_axes(fold(variable), axes, variable.ndim, keepdims)


def keep_axes(result: Variable, axes: tuple[int, ...], ndim: int, keepdims: bool) -> Variable:
    """The `result` of a reduction over `axes` of `ndim`, with these restored, of size 1, if `keepdims`."""
    return restore_axes(result, axes, ndim) if keepdims else result


class Sum(Accumulation):
    unit = 0

    def joined(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.add(a, b)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.sum(x, axis=self.axes, dtype=self.accumulator_dtype(x.dtype)).astype(self.result_dtype(x.dtype))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        each = self.narrowed(dy, x)
        return (None if each is None else broadcast_like(each, x),)


def sum(x: Operand, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """The sum of x over `axis`, in `dtype`, by default x's own or 64 bits for integers; `keepdims` leaves axes of size 1.

    >>> mg.sum([[1, 2], [3, 4]], axis=0).eval()
    array([4, 6])
    """
    return _accumulated(Sum, x, axis, dtype, keepdims)


class NarrowSum(Sum):
    """The sum of floats in 32 bits, or in 64 if they have as many, as in a product of matrices: the terms are products."""

    def accumulator_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype in which elements of a dtype are accumulated."""
        return np.promote_types(self.result_dtype(dtype), np.float32)


class Prod(Accumulation):
    unit = 1

    def joined(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.multiply(a, b)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.prod(x, axis=self.axes, dtype=self.accumulator_dtype(x.dtype)).astype(self.result_dtype(x.dtype))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        each = self.narrowed(dy, x)
        if each is None or not self.axes:
            return (each,)
        last = tuple(range(x.ndim - len(self.axes), x.ndim))
        moved = moveaxis(x, self.axes, last)
        others = reshape(ProductOfOthers()(reshape(moved, (*shape(y), size(x, self.axes)))), shape(moved))
        return (multiply_or_zero(each, moveaxis(others, last, self.axes)),)


def prod(x: Operand, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Variable:
    """The product of x over `axis`; `dtype` and `keepdims` are those of `sum`. Its gradient is right at zeros too.

    >>> mg.prod([[1, 2], [3, 4]], axis=0).eval()
    array([3, 8])
    """
    return _accumulated(Prod, x, axis, dtype, keepdims)


class ProductOfOthers(Op):
    """For each element, the product of all others along the last axis: the derivative of `prod`, zeros or not."""

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def forward(self, xp: Any, x: Array) -> Array:
        wide = wider(x.dtype)
        before, after = xp.ones_like(x, dtype=wide), xp.ones_like(x, dtype=wide)
        if x.shape[-1] > 1:
            before[..., 1:] = xp.cumprod(x[..., :-1], axis=-1, dtype=wide)
            after[..., :-1] = xp.flip(xp.cumprod(xp.flip(x[..., 1:], -1), axis=-1, dtype=wide), -1)
        return (before * after).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        position = arange(shape(x)[-1])
        itself = eq(dimshuffle(position, 0, "x"), dimshuffle(position, "x", 0))
        others = ProductOfOthers()(where(itself, 1, expand_dims(x, -2)))
        return (sum(where(itself, 0, multiply_or_zero(expand_dims(dy, -1), others)), -2),)


class Max(Extreme, Associative):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.max(x, axis=self.axes)


def max(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The greatest element of x over `axis` (kept if `keepdims`), NaN if there is one; equals share the gradient equally.

    ValueError, as for `min`, if there is no element.

    >>> mg.max([[1, 5], [3, 4]], axis=1).eval()
    array([5, 4])
    """
    return reduced(Max, x, axis, keepdims)


class Peak(Ordering, Associative):
    """The greatest element, -inf if there is none: what exponentials are taken relative to."""

    def forward(self, xp: Any, x: Array) -> Array:
        if 0 not in x.shape:
            return xp.max(x, axis=self.axes)
        return xp.full([size for axis, size in enumerate(x.shape) if axis not in self.axes], -np.inf, x.dtype)


class Min(Extreme, Associative):
    smallest = True

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.min(x, axis=self.axes)


def min(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The smallest element of x over `axis` (kept if `keepdims`), NaN if there is one; equals share the gradient equally.

    >>> mg.min([[1, 5], [3, 4]], axis=1).eval()
    array([1, 3])
    """
    return reduced(Min, x, axis, keepdims)


def ptp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The greatest minus the smallest element of x over `axis`; `keepdims` leaves axes of size 1.

    >>> mg.ptp([[1, 5], [3, 4]], axis=1).eval()
    array([4, 1])
    """
    return max(x, axis, keepdims) - min(x, axis, keepdims)


class All(Associative):
    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        return ((dtype, True),)

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        return (state[0] & x,)

    def merge(self, xp: Any, state: State, other: State) -> State:
        return (state[0] & other[0],)

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return state[0]

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.all(x, axis=self.axes)


def all(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """Whether every element of x over `axis` is true (or not 0); `keepdims` leaves axes of size 1.

    >>> mg.all([[1, 0], [3, 4]], axis=1).eval()
    array([False,  True])
    """
    return reduced(All, truth(x), axis, keepdims)


class Any_(Associative):
    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        return ((dtype, False),)

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        return (state[0] | x,)

    def merge(self, xp: Any, state: State, other: State) -> State:
        return (state[0] | other[0],)

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return state[0]

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.any(x, axis=self.axes)


def any(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """Whether some element of x over `axis` is true (or not 0); `keepdims` leaves axes of size 1.

    >>> mg.any([[1, 0], [0, 0]], axis=1).eval()
    array([ True, False])
    """
    return reduced(Any_, truth(x), axis, keepdims)


class Attaining(Elementwise):
    """Whether an element is the best, as is every NaN."""

    cost = 1

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(np.dtype(bool), broadcast_shapes([one.shape for one in types]))

    def forward(self, xp: Any, x: Array, best: Array) -> Array:
        return (x == best) | (x != x)


class First(Reduction):
    """The position of the first true element along the last of the axes, as an `integer`; its greatest number if none is."""

    integer: np.dtype[Any]

    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        return ((self.integer, int(np.iinfo(self.integer).max)),)

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        return self.merge(xp, state, (xp.where(x, position.astype(self.integer), int(np.iinfo(self.integer).max)),))

    def merge(self, xp: Any, state: State, other: State) -> State:
        return (xp.where(other[0] < state[0], other[0], state[0]),)

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return state[0]

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return self.integer


class Position(Extreme):
    """The position of the greatest or smallest element along one axis; the first of equals."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype("int64")

    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        return (dtype, self.worst(dtype)), (np.dtype("int64"), 0)

    def _outdoes(self, x: Array, best: Array) -> Array:
        """Whether an element outdoes another, which a NaN does if the other is none."""
        if x.dtype.kind == "b":
            return best & (x ^ True) if self.smallest else x & (best ^ True)
        better = x < best if self.smallest else x > best
        return better | ((x != x) & (best == best)) if x.dtype.kind == "f" else better

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        better = self._outdoes(x, state[0])
        return xp.where(better, x, state[0]), xp.where(better, position, state[1])

    def merge(self, xp: Any, state: State, other: State) -> State:
        (best, place), (x, position) = state, other
        equal = x == best
        if x.dtype.kind == "f":
            equal = equal | ((x != x) & (best != best))
        better = self._outdoes(x, best) | (equal & (position < place))
        return xp.where(better, x, best), xp.where(better, position, place)

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return state[1]

    def in_stages(self, length: int) -> Stages:
        integer = np.dtype("int32" if length < 2**31 else "int64")
        return (Min if self.smallest else Max)(self.axes), Attaining(), First(self.axes, integer)

    def by_blocks(self, x: Variable, partial: Callable[[Reduction], Variable]) -> Variable | None:
        extreme = Min if self.smallest else Max
        places, best = partial(self), partial(extreme(self.axes))
        return Min((0,))(where(Attaining()(best, extreme((0,))(best)), places, np.iinfo(places.dtype).max))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (None,)


class ArgMax(Position):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.argmax(x, axis=self.axes[0])


def argmax(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The position of the greatest element along `axis` (of the raveled x if None), the first of equals, as int64.

    Over several axes it is the position among their elements in C order; `keepdims` leaves axes of size 1.

    >>> mg.argmax([[1, 5], [4, 3]], axis=1).eval()
    array([1, 0])
    """
    return _position(ArgMax, x, axis, keepdims)


class ArgMin(Position):
    smallest = True

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.argmin(x, axis=self.axes[0])


def argmin(x: Operand, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The position of the smallest element along `axis` (of the raveled x if None), the first of equals, as int64.

    Over several axes it is the position among their elements in C order; `keepdims` leaves axes of size 1.

    >>> mg.argmin([[1, 5], [4, 3]], axis=1).eval()
    array([0, 1])
    """
    return _position(ArgMin, x, axis, keepdims)


def _position(op: type[Position], x: Operand, axis: Axis, keepdims: bool) -> Variable:
    """`op` along one axis, or among the elements of several."""
    variable = as_variable(x)
    axes = check_axes(axis, variable.ndim)
    if len(axes) == 1:
        return reduced(op, variable, axes, keepdims)
    kept = remaining_axes(variable.ndim, axes)
    sizes = shape(variable)
    joined = reshape(dimshuffle(variable, [*kept, *axes]), [*(sizes[one] for one in kept), size(variable, axes)])
    return keep_axes(op((len(kept),))(joined), axes, variable.ndim, keepdims)
