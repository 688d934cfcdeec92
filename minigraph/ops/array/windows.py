"""Windows that slide over an array, and their adjoint: what convolution and pooling are made of.

`windows` shows every patch of an array without copying it; `overlap` adds patches to where they came from. Each is the gradient
of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Array, Op, Variable
from minigraph.core.index_map import IndexMap
from minigraph.core.static import filled
from minigraph.core.types import Shape, TensorType, as_ints, check_axes, check_axis
from minigraph.ops.array.selection import Selection
from minigraph.ops.array.shape import shape
from minigraph.ops.array.sizes import Sizes, fill_sizes, split_sizes
from minigraph.ops.elementwise.base import Cotangents, Operand, cast, with_room

__all__ = ["overlap", "windows"]


class Windowing(Op):
    """The base of windows and their adjoint: `sizes` elements, `dilations` apart, slide along `axes` by `strides`."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def extents(self) -> list[int]:
        """The number of elements of each axis that a window spans."""
        return [(size - 1) * dilation + 1 for size, dilation in zip(self.sizes, self.dilations, strict=True)]

    def counts(self, lengths: Sequence[int | None]) -> list[int | None]:
        """The numbers of windows that fit into axes of these lengths; ValueError where none does."""
        found: list[int | None] = []
        for length, extent, stride in zip(lengths, self.extents, self.strides, strict=True):
            if length is not None and length < extent:
                raise InvalidValueError(f"a window that spans {extent} elements does not fit into an axis of {length}")
            found.append(None if length is None else (length - extent) // stride + 1)
        return found

    def placed(self, offsets: Sequence[int], counts: Sequence[int], ndim: int) -> tuple[slice, ...]:
        """The elements at `offsets` within windows, of which there are `counts`, as slices of an array of `ndim` axes."""
        where = [slice(None)] * ndim
        for axis, offset, count, stride, dilation in zip(self.axes, offsets, counts, self.strides, self.dilations, strict=True):
            start = offset * dilation
            where[axis] = slice(start, start + (count - 1) * stride + 1 if count else start, stride)
        return tuple(where)


class Windows(Windowing, Selection):
    """Every window of an array: its axes, as long as there are windows, then an axis for each of those within a window."""

    view_of = 0

    def infer(self, *types: TensorType) -> TensorType:
        x = types[0]
        sizes = list(x.shape)
        for axis, count in zip(self.axes, self.counts([sizes[axis] for axis in self.axes]), strict=True):
            sizes[axis] = count
        return TensorType(x.dtype, (*sizes, *self.sizes))

    def index_map(self, *types: TensorType) -> IndexMap:
        ndim = types[0].ndim
        steps = dict(zip(self.axes, self.strides, strict=True))
        windows = [((axis, steps.get(axis, 1)),) for axis in range(ndim)]
        within = [((axis, dilation),) for axis, dilation in zip(self.axes, self.dilations, strict=True)]
        return IndexMap((0,) * ndim, (*windows, *within))

    def forward(self, xp: Any, x: Array) -> Array:
        self.counts([x.shape[axis] for axis in self.axes])
        order = sorted(range(len(self.axes)), key=lambda k: self.axes[k])  # which is the only one that CuPy gets right
        extents, axes = (tuple([what[k] for k in order]) for what in (self.extents, self.axes))
        view = xp.lib.stride_tricks.sliding_window_view(x, extents, axes)
        view = view.transpose(*range(x.ndim), *(x.ndim + order.index(k) for k in range(len(order))))
        every = [slice(None)] * view.ndim
        for k, (axis, stride, dilation) in enumerate(zip(self.axes, self.strides, self.dilations, strict=True), x.ndim):
            every[axis], every[k] = slice(None, None, stride), slice(None, None, dilation)
        return view[tuple(every)]

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        lengths = [shape(x)[axis] for axis in self.axes]
        return (overlap(dy, lengths, self.axes, self.strides, self.dilations),)


class Overlap(Windowing):
    """The array in which every element is the sum of what it is in all windows; the last inputs are lengths of axes."""

    lengths: Shape

    def compilable(self, *types: TensorType) -> bool:
        return True

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable]:
        return inputs[1:]

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        if None not in self.lengths:
            return self, inputs
        lengths = filled(self.lengths, inputs[1:])
        return Overlap(self.axes, self.sizes, self.strides, self.dilations, lengths), inputs[:1]

    def infer(self, *types: TensorType) -> TensorType:
        windows = types[0]
        ndim = len(windows.shape) - len(self.axes)
        sizes = list(windows.shape[:ndim])
        for axis, length, count in zip(self.axes, self.lengths, self.counts(self.lengths), strict=True):
            if None not in (count, sizes[axis]) and count != sizes[axis]:
                raise InvalidValueError(f"an axis of {length} elements has {count} windows, not {sizes[axis]}")
            sizes[axis] = length
        if windows.shape[ndim:] != self.sizes:
            raise InvalidValueError(f"windows of {self.sizes} elements are expected, not of {windows.shape[ndim:]}")
        return TensorType(windows.dtype, tuple(sizes))

    def forward(self, xp: Any, windows: Array, *symbolic: Array) -> Array:
        lengths = fill_sizes(self.lengths, symbolic)
        counts = [windows.shape[axis] for axis in self.axes]
        if self.counts(lengths) != counts:
            raise InvalidValueError(f"axes of {lengths} elements have {self.counts(lengths)} windows, not {counts}")
        ndim = windows.ndim - len(self.axes)
        sizes = list(windows.shape[:ndim])
        for axis, length in zip(self.axes, lengths, strict=True):
            sizes[axis] = length
        result = xp.zeros(sizes, windows.dtype)
        for offsets in product(*map(range, self.sizes)):
            result[self.placed(offsets, counts, ndim)] += windows[(..., *offsets)]
        return result

    def gradient(self, dy: Variable, y: Variable, windows: Variable, *symbolic: Variable) -> Cotangents:
        return Windows(self.axes, self.sizes, self.strides, self.dilations)(dy), *(None for _ in symbolic)


def windows(
    x: Operand, sizes: int | Sequence[int], axes: int | Sequence[int], strides: Any = 1, dilations: Any = 1
) -> Variable:
    """Every window of `sizes` elements along `axes` of x, `strides` apart, whose elements lie `dilations` apart.

    The result has the axes of x, as long as there are windows, then one of size sizes[k] for each of `axes`; nothing is copied.
    ValueError where no window fits.

    >>> mg.windows(mg.constant([1, 2, 3, 4]), 3, [0]).eval()
    array([[1, 2, 3],
           [2, 3, 4]])
    """
    variable = as_variable(x)
    places = _in_order(axes, variable.ndim)
    return Windows(places, *(per_axis(one, len(places), what) for one, what in _named(sizes, strides, dilations)))(variable)


def overlap(patches: Operand, lengths: Sizes, axes: int | Sequence[int], strides: Any = 1, dilations: Any = 1) -> Variable:
    """The sum of `patches`, as `windows` shows them, where each comes from, in an array whose `axes` have these `lengths`.

    strides, dilations: those of the windows. ValueError if the sizes of patches are unknown, or their numbers do not fit.

    >>> mg.overlap(mg.constant([[1, 2, 3], [2, 3, 4]]), 4, [0]).eval()
    array([1, 4, 6, 4])
    """
    variable = as_variable(patches)
    ndim = variable.ndim - (1 if isinstance(axes, int | np.integer) else len(axes))
    places = _in_order(axes, ndim)
    sizes = variable.type.shape[ndim:]
    if None in sizes:
        raise InvalidValueError(f"the sizes of windows must be known, not {sizes} of {variable!r}")
    pattern, symbolic = split_sizes(lengths)
    within, steps, apart = (per_axis(one, len(places), what) for one, what in _named(sizes, strides, dilations))
    added = Overlap(places, within, steps, apart, pattern)(with_room(variable), *symbolic)
    return cast(added, variable.dtype)


def _in_order(axes: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes of an array with `ndim` of them, counted from the front, in the order in which they are given."""
    listed = (axes,) if isinstance(axes, int | np.integer) else tuple(axes)
    check_axes(listed, ndim)
    return tuple(check_axis(one, ndim) for one in listed)


def _named(sizes: Any, strides: Any, dilations: Any) -> list[tuple[Any, str]]:
    """The arguments for each axis, with their names."""
    return [(sizes, "the size of a window"), (strides, "a stride"), (dilations, "a dilation")]


def per_axis(given: Any, count: int, what: str) -> tuple[int, ...]:
    """An int of 1 or more for each of `count` axes: `given` is an int for all, or one for each; errors name `what` it is."""
    listed = as_ints(given, what, 1)
    if len(listed) == 1 and not isinstance(given, list | tuple | np.ndarray):
        return listed * count
    if len(listed) != count:
        raise InvalidValueError(f"{what} is needed for each of {count} axes, not {given!r}")
    return listed
