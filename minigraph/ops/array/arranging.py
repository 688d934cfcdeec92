"""Arrays put together, taken apart, repeated, turned, padded."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, constant
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Composite, Shaped, Variable
from minigraph.core.types import TensorType, check_axes, check_axis
from minigraph.ops.array.creation import arange, full, tri
from minigraph.ops.array.indexing import index, set_subtensor, take
from minigraph.ops.array.shape import broadcast_to, expand_dims, ravel, reshape, shape
from minigraph.ops.elementwise.base import Cotangents, Operand, cast, promoted
from minigraph.ops.elementwise.comparison import lt, where

__all__ = ["concatenate", "diag", "flip", "outer", "pad", "repeat", "roll", "split", "stack", "tile", "tril", "triu"]

SHORT = 16
"""The elements in one piece of memory from which on it is as fast to gather pieces as to copy blocks of them."""


def _along(axis: int, part: Any) -> tuple[Any, ...]:
    """A key that takes `part` of one axis, and all of those before it."""
    return (slice(None),) * axis + (part,)


class Concatenate(Shaped):
    """Arrays joined along an existing axis."""

    axis: int
    of_numbers = True

    def compilable(self, *types: TensorType) -> bool:
        return True

    def infer(self, *types: TensorType) -> TensorType:
        first = types[0]
        if any(type.dtype != first.dtype or type.ndim != first.ndim for type in types):
            raise InvalidTypeError("concatenated arrays must have one dtype and one number of axes")
        sizes: list[int | None] = []
        for axis, column in enumerate(zip(*(type.shape for type in types), strict=True)):
            known = {size for size in column if size is not None}
            if axis == self.axis:
                sizes.append(None if None in column else sum(size for size in column if size is not None))
            elif len(known) > 1:
                raise InvalidValueError(
                    f"sizes {sorted(known)} of axis {axis} differ, which only the joined axis {self.axis} may"
                )
            else:
                sizes.append(known.pop() if known else None)
        return TensorType(first.dtype, tuple(sizes))

    def forward(self, xp: Any, *arrays: Array) -> Array:
        return xp.concatenate(arrays, axis=self.axis)

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        parts: list[Variable | None] = []
        start: Any = 0
        for variable in inputs:
            stop = start + shape(variable)[self.axis]
            parts.append(index(dy, _along(self.axis, slice(start, stop))))
            start = stop
        return parts


def concatenate(arrays: Sequence[Operand], axis: int | None = 0) -> Variable:
    """The arrays joined along an existing axis, raveled if it is None; ValueError if there is none, or other sizes differ."""
    variables = promoted(list(arrays)) if len(arrays) else []
    if axis is None:
        return concatenate([ravel(one) for one in variables])
    if not variables or not variables[0].ndim:
        raise InvalidValueError("concatenate needs at least one array, of one axis or more")
    place = check_axis(axis, variables[0].ndim)
    return Concatenate(place)(*variables)


def stack(arrays: Sequence[Operand], axis: int = 0) -> Variable:
    """The arrays, all of one shape, joined along a new axis."""
    variables = promoted(list(arrays)) if len(arrays) else []
    return concatenate([expand_dims(one, axis) for one in variables], axis)


def split(x: Operand, indices_or_sections: int | Sequence[Any], axis: int = 0) -> list[Variable]:
    """x cut along `axis` into equal parts, if `indices_or_sections` is their number, or before each of these indices.

    ValueError where the size is no multiple of the number of parts; if it is unknown, when it is computed.
    """
    variable = as_variable(x)
    place = check_axis(axis, variable.ndim)
    if not isinstance(indices_or_sections, int):
        bounds = [0, *indices_or_sections, None]
        return [index(variable, _along(place, slice(*pair))) for pair in zip(bounds[:-1], bounds[1:], strict=True)]
    known = variable.type.shape[place]
    if indices_or_sections < 1 or (known or 0) % indices_or_sections:
        raise InvalidValueError(
            f"axis {axis} of {variable!r} cannot be split into {indices_or_sections} equal parts: its size must be a multiple; "
            "give the indices to cut at instead"
        )
    if known is None:
        sizes = list(shape(variable))
        each = sizes[place] // indices_or_sections
        parts = reshape(variable, [*sizes[:place], indices_or_sections, each, *sizes[place + 1 :]])
        return [index(parts, _along(place, k)) for k in range(indices_or_sections)]
    step = known // indices_or_sections
    return [index(variable, _along(place, slice(k * step, (k + 1) * step))) for k in range(indices_or_sections)]


def tile(x: Operand, reps: int | Sequence[Any]) -> Variable:
    """x repeated as a whole, `reps` times along each axis (missing leading ones are 1)."""
    variable = as_variable(x)
    times = [reps] if isinstance(reps, int | Variable) else list(reps)
    times = [1] * (variable.ndim - len(times)) + times
    variable = expand_dims(variable, tuple(range(len(times) - variable.ndim)))
    sizes = shape(variable)
    spread = expand_dims(variable, tuple(range(0, 2 * len(times), 2)))
    wide = [one for pair in zip(times, sizes, strict=True) for one in pair]
    return reshape(broadcast_to(spread, wide), [n * one for n, one in zip(times, sizes, strict=True)])


def repeat(x: Operand, repeats: Any, axis: int | None = None) -> Variable:
    """x with each element (along `axis`, or of the raveled x) repeated `repeats` times; an int or integer scalar."""
    variable = ravel(x) if axis is None else as_variable(x)
    place = 0 if axis is None else check_axis(axis, variable.ndim)
    if as_variable(repeats).ndim:
        raise InvalidTypeError("repeats must be one number for all elements, not an array")
    sizes = list(shape(variable))
    wide = broadcast_to(expand_dims(variable, place + 1), [*sizes[: place + 1], repeats, *sizes[place + 1 :]])
    return reshape(wide, [*sizes[:place], sizes[place] * repeats, *sizes[place + 1 :]])


def flip(x: Operand, axis: int | Sequence[int] | None = None) -> Variable:
    """x with the order of its elements reversed along `axis`, all axes if None."""
    variable = as_variable(x)
    axes = check_axes(axis, variable.ndim)
    return index(variable, tuple(slice(None, None, -1) if one in axes else slice(None) for one in range(variable.ndim)))


class Roll(Composite):
    """An array with its elements moved by `shift` places along an axis, around the end to the beginning."""

    shift: int
    axis: int

    def expand(self, *inputs: Variable) -> Variable:
        """Rows taken in another order; short pieces of memory, which are slow to gather one by one, as two blocks."""
        (x,) = inputs
        count, after = shape(x)[self.axis], x.type.shape[self.axis + 1 :]
        if None in after or prod(size or 0 for size in after) >= SHORT or count == 0:
            return _taken_around(x, self.shift, self.axis)
        begin = -self.shift % count
        return concatenate([index(x, _along(self.axis, part)) for part in (slice(begin, None), slice(begin))], self.axis)

    def whole(self, xp: Any, *arrays: Array) -> Array:
        return xp.roll(arrays[0], self.shift, self.axis)

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        return (Roll(-self.shift, self.axis)(dy),)


def _taken_around(x: Variable, shift: Operand, axis: int) -> Variable:
    """An array with its elements moved along an axis, around the end, each taken from its place."""
    count = shape(x)[axis]
    return take(x, (arange(count) - shift) % count, axis)


def roll(x: Operand, shift: Operand, axis: int | None = None) -> Variable:
    """x with its elements moved by `shift` places along `axis` (in the raveled x if None), around the end to the beginning."""
    variable = as_variable(x)
    if axis is None:
        return reshape(roll(ravel(variable), shift, 0), shape(variable))
    place = check_axis(axis, variable.ndim)
    if isinstance(shift, int | np.integer) and not isinstance(shift, bool):
        return Roll(int(shift), place)(variable)
    return _taken_around(variable, shift, place)


def pad(x: Operand, pad_width: Any, constant_values: Operand = 0, *, mode: str = "constant") -> Variable:
    """x inside a larger array of `constant_values`; pad_width: an int, a pair (before, after), or a pair for each axis.

    ValueError for a negative width, or a `mode` other than "constant".
    """
    if mode != "constant":
        raise InvalidValueError(f"pad knows the mode 'constant', not {mode!r}")
    variable = as_variable(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (variable.ndim, 2))
    except ValueError:
        raise InvalidValueError(f"pad_width {pad_width!r} does not give a pair for each axis of {variable!r}") from None
    if widths.dtype.kind not in "iu" or (widths < 0).any():
        raise InvalidValueError(f"pad_width must be made of ints of 0 or more, not {pad_width!r}")
    sizes = shape(variable)
    total = [one + int(before + after) for one, (before, after) in zip(sizes, widths, strict=True)]
    frame = full(total, cast(constant_values, variable.dtype))
    inside = tuple(slice(int(before), one + int(before)) for one, (before, _) in zip(sizes, widths, strict=True))
    return set_subtensor(index(frame, inside), variable) if variable.ndim else variable


def diag(x: Operand, k: int = 0) -> Variable:
    """The diagonal k of a matrix, or a matrix with a vector on its diagonal k."""
    variable = as_variable(x)
    down, right = max(-k, 0), max(k, 0)
    if variable.ndim == 1:
        side = shape(variable)[0] + (down + right)
        places = arange(shape(variable)[0])
        return set_subtensor(index(full((side, side), 0, variable.dtype), (places + down, places + right)), variable)
    if variable.ndim != 2:
        raise InvalidTypeError(f"diag takes a vector or a matrix, not {variable!r}")
    rows, columns = shape(variable)
    height, width = rows - down, columns - right
    if isinstance(height, int) and isinstance(width, int):
        places = arange(max(min(height, width), 0))
    else:
        places = arange(_smaller(height, width))
    return index(variable, (places + down, places + right))


def _smaller(a: Any, b: Any) -> Variable:
    """The smaller of two sizes, 0 if one is negative."""
    smaller = where(lt(a, b), a, b)
    return where(lt(smaller, 0), 0, smaller)


def tril(x: Operand, k: int = 0) -> Variable:
    """x, of two or more axes, with zeros above the diagonal k of its last two."""
    variable = _matrices(x)
    rows, columns = shape(variable)[-2:]
    return where(tri(rows, columns, k, "bool"), variable, constant(0, dtype=variable.dtype))


def triu(x: Operand, k: int = 0) -> Variable:
    """x, of two or more axes, with zeros below the diagonal k of its last two."""
    variable = _matrices(x)
    rows, columns = shape(variable)[-2:]
    return where(tri(rows, columns, k - 1, "bool"), constant(0, dtype=variable.dtype), variable)


def _matrices(x: Operand) -> Variable:
    """x as a variable of at least two axes; TypeError otherwise."""
    variable = as_variable(x)
    if variable.ndim < 2:
        raise InvalidTypeError(f"a triangle needs at least two axes, not {variable!r}")
    return variable


def outer(a: Operand, b: Operand) -> Variable:
    """a[i] * b[j] of two arrays, raveled if they are no vectors."""
    return expand_dims(ravel(a), 1) * expand_dims(ravel(b), 0)
