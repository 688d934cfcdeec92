"""The base of reductions: folds by accumulators, sums and products, extremes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from minigraph.core.graph import Array, Shaped, Variable
from minigraph.core.types import TensorType, drop_axes
from minigraph.ops.array.shape import restore_axes
from minigraph.ops.elementwise.base import Elementwise, cast

Axis = int | Sequence[int] | None


State = tuple[Array, ...]
"""The accumulators of a fold: arrays, or single values in a kernel."""


Steps = tuple["Reduction", "Reduction"]
"""A reduction, and one of its results."""

Stages = tuple["Reduction", Elementwise, "Reduction"]
"""A fold; an op of an element and of that fold's result; and a fold of what that gives."""


class Reduction(Shaped):
    """An op that folds the axes `axes` away.

    A subclass that states its fold, by `states`, `add`, `merge` and `result`, is compiled, and needs no `forward`. These are
    written like `forward`, for arrays and for single values alike: with operators, and functions of the namespace `xp`. The
    order in which elements are added and states merged is not fixed.
    """

    axes: tuple[int, ...]
    of_numbers = True
    blocks = 0
    """The number of blocks for each of which there is a result, along a first axis; 0 if there is one of all elements."""

    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        """The dtype of each accumulator, and the number that it begins with, for elements of a dtype."""
        raise TypeError(f"{type(self).__name__} does not define states")

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        """The state after `state` and an element x, at this `position`, an int64, along the last of the axes; by `xp`."""
        raise TypeError(f"{type(self).__name__} does not define add")

    def merge(self, xp: Any, state: State, other: State) -> State:
        """The state, by `xp`, of all elements of `state` and `other`, either of which may stand for the first elements."""
        raise TypeError(f"{type(self).__name__} does not define merge")

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        """The result, by `xp`, from the last `state`, for elements of a dtype."""
        raise TypeError(f"{type(self).__name__} does not define result")

    def forward(self, xp: Any, x: Array) -> Array:
        kept = remaining_axes(x.ndim, self.axes)
        outer = tuple([x.shape[axis] for axis in kept])
        rows = xp.transpose(x, (*kept, *self.axes)).reshape((*outer, -1) if x.size else (*outer, 0))
        count = rows.shape[-1]
        state = tuple([xp.full((*outer, count or 1), number, dtype) for dtype, number in self.states(x.dtype)])
        if count:
            last = x.shape[self.axes[-1]] if self.axes else 1
            state = self.add(xp, state, rows, xp.arange(count, dtype=np.dtype("int64")) % last)
        while count > 1:
            half = count // 2
            parts = slice(half), slice(half, 2 * half), slice(2 * half, None)
            first, second, rest = (tuple([one[..., part] for one in state]) for part in parts)
            merged = self.merge(xp, first, second)
            state = tuple([xp.concatenate(pair, -1) for pair in zip(merged, rest, strict=True)])
            count -= half
        return self.result(xp, tuple([one[..., 0] for one in state]), x.dtype)

    def compilable(self, *types: TensorType) -> bool:
        return type(self).add is not Reduction.add

    def over(self, axes: tuple[int, ...]) -> Reduction:
        """The same reduction over other axes."""
        return type(self)(**(vars(self) | {"axes": axes}))

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(self.result_dtype(types[0].dtype), drop_axes(types[0].shape, self.axes))

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype of the result: by default that of the operand."""
        return dtype

    def in_two_steps(self, first: tuple[int, ...], second: tuple[int, ...], dtype: np.dtype[Any]) -> Steps | None:
        """The ops that fold the axes `first`, for elements of a dtype, and `second` of the result; None if that cannot be."""
        return None

    def by_blocks(self, x: Variable, partial: Callable[[Reduction], Variable]) -> Variable | None:
        """The fold of x by way of folds of blocks of it, which `partial` gives along a first axis; None if that cannot be."""
        steps = self.in_two_steps(self.axes, (0,), x.dtype)
        return None if steps is None else steps[1](partial(steps[0]))

    def in_stages(self, length: int) -> Stages | None:
        """The stages in which elements that are there twice are folded, given the `length` of the last of the axes; None if
        that is quicker at once.
        """
        return None

    def of_one(self, x: Variable) -> Variable | None:
        """The fold of the single element x; None if nothing is known of it."""
        return None


class Associative(Reduction):
    """A reduction that may fold some axes first and then the others, and makes a single element of itself."""

    def in_two_steps(self, first: tuple[int, ...], second: tuple[int, ...], dtype: np.dtype[Any]) -> Steps | None:
        return self.over(first), self.over(second)

    def of_one(self, x: Variable) -> Variable | None:
        return x


class Accumulation(Reduction):
    """A reduction that adds up or multiplies, in 64 bits if they are integers; `dtype`: that of the result, if it is given.

    Floats are accumulated one size wider than the result is, so that partial results neither overflow nor lose digits.
    """

    dtype: np.dtype[Any] | None = None
    unit: ClassVar[int]

    def joined(self, xp: Any, a: Array, b: Array) -> Array:
        """The sum, or the product, of the numbers a and b, by `xp`."""
        raise TypeError(f"{type(self).__name__} does not define joined")

    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        return ((wide_integer(self.accumulator_dtype(dtype)), self.unit),)

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        return (self.joined(xp, state[0], x.astype(self.accumulator_dtype(x.dtype)).astype(state[0].dtype)),)

    def merge(self, xp: Any, state: State, other: State) -> State:
        return (self.joined(xp, state[0], other[0]),)

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return state[0].astype(self.result_dtype(dtype))

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return wide_integer(dtype) if self.dtype is None else self.dtype

    def accumulator_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The dtype in which elements of a dtype are accumulated."""
        result = self.result_dtype(dtype)
        return np.promote_types(wider(result), dtype) if result.kind == "f" else result

    def in_two_steps(self, first: tuple[int, ...], second: tuple[int, ...], dtype: np.dtype[Any]) -> Steps | None:
        return type(self)(first, self.accumulator_dtype(dtype)), type(self)(second, self.result_dtype(dtype))

    def of_one(self, x: Variable) -> Variable | None:
        return cast(x, self.result_dtype(x.dtype))

    def narrowed(self, dy: Variable, x: Variable) -> Variable | None:
        """A cotangent with the axes and the dtype of the operand; None if it is of integers."""
        return cast(restore_axes(dy, self.axes, x.ndim), x.dtype) if x.dtype.kind == "f" else None


def wide_integer(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which elements of a dtype are added up: 64 bits for integers and booleans, floats their own."""
    return {"b": np.dtype("int64"), "i": np.dtype("int64"), "u": np.dtype("uint64")}.get(dtype.kind, dtype)


def wider(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The next wider float, of 64 bits at most; other dtypes unchanged."""
    return np.dtype({"float16": "float32", "float32": "float64"}.get(dtype.name, dtype))


def ranked(x: Array) -> Array:
    """The bits of a float as an integer that is ordered as floats are, or back; NaN may rank first or last.

    LLVM folds extremes of integers several at a time, those of floats only if it may forget about NaN.
    """
    bits = x.view(np.dtype(f"int{8 * x.dtype.itemsize}"))
    return bits ^ ((bits >> (8 * bits.dtype.itemsize - 1)) & int(np.iinfo(bits.dtype).max))


class Ordering(Reduction):
    """A reduction that finds the greatest element, or the smallest; NaN outdoes all others."""

    smallest: ClassVar[bool] = False

    def worst(self, dtype: np.dtype[Any]) -> Any:
        """The number that outdoes no element of a dtype."""
        if dtype.kind == "f":
            return np.inf if self.smallest else -np.inf
        if dtype.kind == "b":
            return self.smallest
        return np.iinfo(dtype).max if self.smallest else np.iinfo(dtype).min

    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        if dtype.kind != "f":
            return ((dtype, self.worst(dtype)),)
        rank = ranked(np.asarray(self.worst(dtype), dtype))
        return ((rank.dtype, int(rank)),)

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        if x.dtype.kind == "f":
            ends = np.iinfo(state[0].dtype)
            x = xp.where(x != x, ends.min if self.smallest else ends.max, ranked(x))
        return self.merge(xp, state, (x,))

    def merge(self, xp: Any, state: State, other: State) -> State:
        best, x = state[0], other[0]
        if best.dtype.kind == "b":
            return (best & x if self.smallest else best | x,)
        return (xp.where(x < best if self.smallest else x > best, x, best),)

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return ranked(state[0]).view(dtype) if dtype.kind == "f" else state[0]


def remaining_axes(ndim: int, axes: tuple[int, ...]) -> list[int]:
    """The axes that a reduction leaves."""
    return [axis for axis in range(ndim) if axis not in axes]
