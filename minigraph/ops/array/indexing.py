"""Indexing as NumPy does it, and setting and adding to what is indexed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidIndexError, InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Constant, Op, Variable, items
from minigraph.core.types import TensorType, check_axis
from minigraph.ops.array.creation import arange, zeros_like
from minigraph.ops.array.entries import WHOLE, Entry, Hole, Indexing, Range, consumed_axes
from minigraph.ops.array.selection import Selection
from minigraph.ops.array.shape import broadcast_to, dimshuffle, ravel, reshape, shape, size
from minigraph.ops.elementwise.arithmetic import zero_of
from minigraph.ops.elementwise.base import Cotangents, Operand, cast, with_room
from minigraph.ops.elementwise.comparison import eq, where

__all__ = ["inc_subtensor", "index", "nonzero", "set_subtensor", "take", "take_along_axis"]


class Index(Indexing, Selection):
    """x[...]; the inputs after x fill the holes of the index."""

    view_of = 0
    of_numbers = True
    first_filler = 1

    def infer(self, *types: TensorType) -> TensorType:
        return self.result_type(types[0], types[1:])

    def forward(self, xp: Any, x: Array, *fillers: Array) -> Array:
        return x[self.fill(fillers)]

    def gradient(self, dy: Variable, y: Variable, x: Variable, *fillers: Variable) -> Cotangents:
        if all(entry == WHOLE for entry in self.entries):
            return (dy,)
        return (_incremented(self.entries, zeros_like(x), dy, fillers), *(None for _ in fillers))


class Assign(Indexing):
    """x with x[...] replaced by the second input; the later inputs fill the holes."""

    first_filler = 2
    adds: ClassVar[bool] = False
    """Whether the value is added to what is there, instead of replacing it."""

    def infer(self, *types: TensorType) -> TensorType:
        x, value, *fillers = types
        expected = self.result_type(x, fillers)
        if not expected.admits(value):
            raise InvalidTypeError(f"what is written has type {value}, but what is written to has type {expected}")
        return x

    def forward(self, xp: Any, x: Array, value: Array, *fillers: Array) -> Array:
        index = self.fill(fillers)
        if (shape := x[index].shape) != value.shape:
            raise ValueError(f"what is written has shape {value.shape}, but what is written to has shape {shape}")
        result = xp.array(x, order="C")
        self.write(xp, result, index, value, any(one.ndim for one in fillers))
        return result

    def write(self, xp: Any, result: Array, index: tuple[Any, ...], value: Array, repeats: bool) -> None:
        """Put `value` at `index` into `result`, an array of `xp`; an element that the index `repeats` keeps its last value."""
        result[index] = value

    def gradient(self, dy: Variable, y: Variable, x: Variable, value: Variable, *fillers: Variable) -> Cotangents:
        dvalue = Index(self.entries)(dy, *fillers)
        kept = self._kept(x, value, fillers) if any(one.ndim and one.dtype.kind != "b" for one in fillers) else None
        return (
            Assign(self.entries)(dy, zero_of(dvalue), *fillers),
            dvalue if kept is None else where(kept, dvalue, 0),
            *(None for _ in fillers),
        )

    def _kept(self, x: Variable, value: Variable, fillers: Sequence[Variable]) -> Variable:
        """Whether each element of the value outlasts later ones: then its number is found in the place where it was put."""
        numbers = reshape(arange(size(value)), shape(value))
        written = Assign(self.entries)(zeros_like(x, "int64"), numbers, *fillers)
        return eq(Index(self.entries)(written, *fillers), numbers)


class Increment(Assign):
    """x with the second input added to x[...]; elements picked more than once are added to each time."""

    adds = True

    def write(self, xp: Any, result: Array, index: tuple[Any, ...], value: Array, repeats: bool) -> None:
        if repeats:
            xp.add.at(result, index, value)
        else:
            result[index] += value

    def gradient(self, dy: Variable, y: Variable, x: Variable, value: Variable, *fillers: Variable) -> Cotangents:
        return dy, Index(self.entries)(dy, *fillers), *(None for _ in fillers)


def index(x: Operand, key: Any) -> Variable:
    """x[key], for all that NumPy takes as a key, with variables where NumPy has arrays and integers.

    IndexError for too many indices or a known index out of bounds, TypeError for a key that is no index.
    """
    variable = as_variable(x)
    entries, fillers = _parse(key, variable)
    return Index(entries)(variable, *fillers)


def _parse(key: Any, x: Variable) -> tuple[tuple[Entry, ...], list[Variable]]:
    """A key as entries, one for each axis of x, and the variables that fill their holes."""
    parts = key if isinstance(key, tuple) else (key,)
    if sum(part is Ellipsis for part in parts) > 1:
        raise InvalidIndexError("an index can have only one ellipsis ('...')")
    fillers: list[Variable] = []
    entries: list[Entry] = []
    rest: list[Entry] | None = None  # the entries after an ellipsis
    taken = 0
    for part in parts:
        if part is Ellipsis:
            rest = []
            continue
        before = len(fillers)
        (entries if rest is None else rest).append(entry := _entry(part, fillers))
        taken += 0 if entry is None else consumed_axes(fillers[before].type) if isinstance(entry, Hole) else 1
    if taken > x.ndim:
        raise InvalidIndexError(f"too many indices: {taken} for {x!r} with {x.ndim} axes")
    return (*entries, *[WHOLE] * (x.ndim - taken), *(rest or [])), fillers


def _entry(part: Any, fillers: list[Variable]) -> Entry:
    """A part of a key as an entry; variables that are not known when the graph is built go to `fillers`."""
    if part is None:
        return None
    if isinstance(part, slice):
        bounds = [None if bound is None else _integer_or_hole(bound, fillers) for bound in (part.start, part.stop, part.step)]
        if bounds[2] == 0:
            raise InvalidValueError("the step of a slice must not be 0")
        return Range(*bounds)
    return _integer_or_hole(part, fillers)


def _integer_or_hole(part: Any, fillers: list[Variable]) -> int | Hole:
    """A known integer, or a hole and the variable that fills it; TypeError for what cannot index."""
    if isinstance(part, int | np.integer) and not isinstance(part, bool):
        return int(part)
    if isinstance(part, str | float) or part is Ellipsis:
        raise InvalidTypeError(
            f"{part!r} cannot be an index: use integers, slices, None, '...', or arrays of integers or booleans"
        )
    filler = as_variable(np.asarray(part, "int64") if isinstance(part, list) and not part else part)
    if filler.dtype.kind not in "biu" or (filler.dtype.kind == "b" and not filler.ndim):
        raise InvalidTypeError(f"an index must be of integers, or an array of booleans, not {filler!r}")
    if isinstance(filler.op, Constant) and not filler.ndim:
        return int(filler.op.value)
    fillers.append(filler)
    return Hole()


def set_subtensor(indexed: Variable, value: Operand) -> Variable:
    """x with x[...] replaced by `value`, where `indexed` is x[...]; of elements picked twice the last is kept."""
    return _written(Assign, indexed, value)


def inc_subtensor(indexed: Variable, value: Operand) -> Variable:
    """x with `value` added to x[...], where `indexed` is x[...]; elements picked twice are added to twice."""
    return _written(Increment, indexed, value)


def _written(op: type[Assign], indexed: Variable, value: Operand) -> Variable:
    """`op` applied to the variable behind `indexed`; TypeError if that is not an indexing."""
    if not isinstance(indexed, Variable) or not isinstance(indexed.op, Index) or indexed.op.foreign:
        raise InvalidTypeError(f"the first argument must be an indexed variable such as x[1:3], not {indexed!r}")
    x, *fillers = indexed.inputs
    new = as_variable(value)
    if new.dtype != x.dtype and not (np.can_cast(new.dtype, x.dtype, "same_kind") or not isinstance(value, Variable)):
        raise InvalidTypeError(f"{new!r} cannot be written into {x!r}: convert it yourself, with .astype(...)")
    stretched = broadcast_to(cast(new, x.dtype), shape(indexed))
    if op is Increment:
        return _incremented(indexed.op.entries, x, stretched, fillers)
    return op(indexed.op.entries)(x, stretched, *fillers)


def _incremented(entries: tuple[Entry, ...], x: Variable, value: Variable, fillers: Sequence[Variable]) -> Variable:
    """x with a value added where an index says; in 32 bits, for floats of 16, where elements may be picked many times."""
    if not any(one.ndim for one in fillers):
        return Increment(entries)(x, value, *fillers)
    return cast(Increment(entries)(with_room(x), with_room(value), *fillers), x.dtype)


def take(x: Operand, indices: Operand, axis: int | None = None) -> Variable:
    """The elements of x (of the raveled x if axis is None) at `indices` along `axis`."""
    variable = as_variable(x)
    if axis is None:
        return index(ravel(variable), indices)
    place = check_axis(axis, variable.ndim)
    return index(variable, (slice(None),) * place + (indices,))


def take_along_axis(x: Operand, indices: Operand, axis: int = -1) -> Variable:
    """x[..., indices[..., j, ...], ...]: picks along `axis`, for every position on the other axes, by integers."""
    variable, picks = as_variable(x), as_variable(indices)
    if picks.ndim != variable.ndim:
        raise InvalidTypeError(f"indices must have as many axes as {variable!r}, not {picks!r}")
    place = check_axis(axis, variable.ndim)
    sizes = shape(variable)
    others = [
        picks if one == place else dimshuffle(arange(sizes[one]), *("x" if k != one else 0 for k in range(variable.ndim)))
        for one in range(variable.ndim)
    ]
    return index(variable, tuple(others))


class NonZero(Op):
    """The positions of the elements that are not 0, a vector for each axis."""

    def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
        if not types[0].ndim:
            raise InvalidTypeError("nonzero needs at least one axis")
        return tuple(TensorType(np.dtype("int64"), (None,)) for _ in types[0].shape)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.nonzero(x)


def nonzero(x: Operand) -> tuple[Variable, ...]:
    """The positions of the elements of x that are not 0: an int64 vector for each axis."""
    return items(NonZero()(as_variable(x)))
