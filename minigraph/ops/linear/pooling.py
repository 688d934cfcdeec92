"""Pooling: the greatest, or the mean, of every window along the spatial axes of images, (batch, channels, *spatial)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Composite, Variable
from minigraph.core.record import Record
from minigraph.core.types import as_ints
from minigraph.ops.array.arranging import pad
from minigraph.ops.array.creation import ones, zeros
from minigraph.ops.array.indexing import index, set_subtensor
from minigraph.ops.array.shape import expand_dims, reshape, shape
from minigraph.ops.array.windows import per_axis, windows
from minigraph.ops.control import assert_
from minigraph.ops.elementwise.arithmetic import maximum, multiply_or_zero, reciprocal
from minigraph.ops.elementwise.base import Cotangents, Operand, cast, with_room
from minigraph.ops.elementwise.comparison import eq, ge
from minigraph.ops.linear.layouts import has_channels_last, in_layout
from minigraph.ops.reduce.reduction import NarrowSum
from minigraph.ops.reduce.reduction import max as max_over
from minigraph.ops.reduce.reduction import sum as sum_over
from minigraph.ops.reduce.statistics import mean

__all__ = ["average_pool", "global_average_pool", "max_pool"]

MOST_ELEMENTS = 64
"""The most elements of windows that overlap whose gradient is gathered, from each place in a window, instead of added up."""


def max_pool(
    x: Operand, size: Any, stride: Any = None, padding: Any = 0, ignore_border: bool = True, *, layout: str | None = None
) -> Variable:
    """The greatest element of every window of x; equal elements share the gradient equally.

    size: that of the window along each of the last axes, as many as are given; an int for all but the first two. stride: the
    distance of windows, `size` unless given. padding: the number of elements added at both ends, less than the window; they
    never count. ignore_border: leave out windows that are not whole; otherwise they count as far as they go. layout: "NHWC", or
    "NWC" and "NDHWC" for one and three axes, where the channels come after those pooled over; "NCHW" and its like otherwise.
    """
    return _pooled(x, size, stride, padding, ignore_border, Pooling(averages=False), layout)


def average_pool(
    x: Operand, size: Any, stride: Any = None, padding: Any = 0, ignore_border: bool = True, count_padding: bool = True,
    *, layout: str | None = None,
) -> Variable:  # fmt: skip
    """The mean of every window of x; size, stride, padding, ignore_border and layout are those of `max_pool`.

    count_padding: divide by the size of the window, zeros that were added included; otherwise by the number of elements of x
    in it. Elements beyond the border, with ignore_border=False, never count.
    """
    return _pooled(x, size, stride, padding, ignore_border, Pooling(True, count_padding), layout)


def global_average_pool(x: Operand, keepdims: bool = False, *, layout: str | None = None) -> Variable:
    """The mean of x over all spatial axes: (batch, channels), or with `keepdims` axes of size 1 where they were.

    layout: that of `max_pool`.
    """
    variable = _as_floats(x)
    if variable.ndim < 3:
        raise InvalidTypeError(f"pooling takes (batch, channels, *spatial), not {variable!r}")
    count = variable.ndim - 2
    first = 1 if has_channels_last(layout, count) else 2
    return mean(variable, tuple(range(first, first + count)), keepdims=keepdims)


def _as_floats(x: Operand) -> Variable:
    """x as a variable of floats with at least one axis."""
    variable = as_variable(x)
    if variable.dtype.kind != "f" or not variable.ndim:
        raise InvalidTypeError(f"pooling takes floats along spatial axes, not {variable!r}")
    return variable


class Pooling(Record):
    """The mean of windows, if it `averages`, or the greatest element; `count_padding`: whether added zeros count in a mean."""

    averages: bool
    count_padding: bool = False

    @property
    def filling(self) -> float:
        """The number that fills places without an element."""
        return 0.0 if self.averages else -np.inf

    def whole(self, parts: Variable, axes: Sequence[int]) -> Variable:
        """The result from windows that are all there."""
        return mean(parts, tuple(axes)) if self.averages else max_over(parts, tuple(axes))

    def partial(self, parts: Variable, axes: Sequence[int], counted: Variable) -> Variable:
        """The result over `axes` of `parts`, windows of a padded array; `counted` is 1 where an element counts, else 0."""
        if not self.averages:
            return max_over(parts, tuple(axes))
        return sum_over(parts, tuple(axes)) / sum_over(counted, tuple(axes))


class SlidingMax(Composite):
    """The greatest element of windows that overlap along the last axes, with `widths` of places around that never count."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]

    def expand(self, *inputs: Variable) -> Variable:
        found = self._padded(inputs[0])
        axes, ndim = self._axes(found), found.ndim
        if math.prod(self.sizes) <= 2 * sum(self.sizes) and self.strides[-1] == 1:
            return max_over(windows(found, self.sizes, axes, self.strides), self._within(found))
        for axis, size, stride in zip(axes, self.sizes, self.strides, strict=True):
            found = max_over(windows(found, size, axis, stride), ndim)
        return found

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        (x,) = inputs
        padded, within = self._padded(x), self._within(x)
        ties = eq(windows(padded, self.sizes, self._axes(x), self.strides), expand_dims(y, within))
        wide = with_room(dy)
        each = multiply_or_zero(wide, reciprocal(NarrowSum(tuple(within))(cast(ties, wide.dtype))))
        attained = cast(eq(expand_dims(x, within), self._seen_from_each(y, x)), wide.dtype)
        return (cast(NarrowSum(tuple(within))(multiply_or_zero(self._seen_from_each(each, x), attained)), x.dtype),)

    def _axes(self, x: Variable) -> list[int]:
        """The axes along which windows slide."""
        return list(range(x.ndim - len(self.sizes), x.ndim))

    def _within(self, x: Variable) -> list[int]:
        """The axes after those of x, which count the elements of a window."""
        return list(range(x.ndim, x.ndim + len(self.sizes)))

    def _padded(self, x: Variable) -> Variable:
        """An array with places around it that are never the greatest."""
        if not any(map(any, self.widths)):
            return x
        return pad(x, [*((0, 0) for _ in range(x.ndim - len(self.sizes))), *self.widths], -np.inf)

    def _seen_from_each(self, values: Variable, x: Variable) -> Variable:
        """For each element of x the values, one a window, of all windows that it is in, and 0 where there is no window."""
        axes, spans = self._axes(x), [size - 1 for size in self.sizes]
        lengths = [one + span for one, span in zip(shape(x)[axes[0] :], spans, strict=True)]
        places = [
            slice(span - before, after - span or None, stride)
            for span, (before, after), stride in zip(spans, self.widths, self.strides, strict=True)
        ]
        frame = zeros((*shape(x)[: axes[0]], *lengths), values.dtype)
        placed = set_subtensor(index(frame, (*(slice(None) for _ in range(axes[0])), *places)), values)
        return windows(placed, self.sizes, axes)


def _pooled(
    images: Operand, size: Any, stride: Any, padding: Any, ignore_border: bool, kind: Pooling, layout: str | None
) -> Variable:
    """Pooling of one kind, of images in a layout."""
    x = _as_floats(images)
    count = len(size) if isinstance(size, list | tuple) else x.ndim - 2
    settings = count, size, stride, padding, ignore_border, kind
    return in_layout(lambda one: _pooled_last(as_variable(one), *settings), x, layout, count)


def _pooled_last(x: Variable, count: int, size: Any, stride: Any, padding: Any, ignore_border: bool, kind: Pooling) -> Variable:
    """Pooling of one kind along the last `count` axes."""
    if not 1 <= count <= x.ndim:
        raise InvalidTypeError(f"pooling along {count} axes takes arrays with as many axes at least, not {x!r}")
    sizes = per_axis(size, count, "the size of a window")
    strides = sizes if stride is None else per_axis(stride, count, "a stride")
    pads = as_ints(padding, "padding", 0)
    pads = pads * count if len(pads) == 1 and not isinstance(padding, list | tuple) else pads
    if len(pads) != count or any(one >= size for one, size in zip(pads, sizes, strict=True)):
        raise InvalidValueError(f"padding must be less than the window {sizes} along each axis, not {padding!r}")
    first = x.ndim - count
    spatial = list(range(first, x.ndim))
    within = list(range(x.ndim, x.ndim + count))
    if not any(pads) and ignore_border and strides == sizes:
        return _tiled(x, sizes, first, kind)
    lengths = shape(x)[first:]
    ends = [(0, None)] * count if ignore_border else [
        _end(length, size, stride, one) for length, size, stride, one in zip(lengths, sizes, strides, pads, strict=True)
    ]  # fmt: skip
    around = [(0, 0)] * first
    widths = tuple([(one, one + beyond) for one, (beyond, _) in zip(pads, ends, strict=True)])
    if all(whole is None for _, whole in ends):
        overlaps = any(stride < size for stride, size in zip(strides, sizes, strict=True))
        if overlaps and not kind.averages and math.prod(sizes) <= MOST_ELEMENTS:
            return SlidingMax(sizes, strides, widths)(x)
        if not any(map(any, widths)):
            return kind.whole(windows(x, sizes, spatial, strides), within)
    both = [*around, *widths]
    kept = (*(slice(None) for _ in around), *(slice(0, whole) for _, whole in ends))

    def seen(values: Variable) -> Variable:
        """The windows of an array that was padded, as many as there are."""
        found = windows(values, sizes, spatial, strides)
        return found if all(whole is None for _, whole in ends) else index(found, kept)

    inside = ones((*(1,) * first, *lengths), x.dtype)
    if kind.count_padding:
        inside = pad(inside, [*around, *((one, one) for one in pads)], 1.0)
        known = pad(inside, [*around, *((0, beyond) for beyond, _ in ends)], 0.0)
    else:
        known = pad(inside, both, 0.0)
    return kind.partial(seen(pad(x, both, kind.filling)), within, seen(known))


def _end(length: Any, size: int, stride: int, padding: int) -> tuple[int, Variable | None]:
    """The number of elements added after an axis so that the last window fits that begins within it or the padding before it;
    for an axis of unknown length also the number of windows there are, of all that fit.
    """
    whole = length + 2 * padding
    if isinstance(length, int):
        more = max(0, -(-(whole - size) // stride))
        if more * stride >= length + padding:  # a window that would begin in the padding after the end
            more -= 1
        return max(0, more * stride + size - whole), None
    later = maximum((whole - size + stride - 1) // stride, 0)
    within = later - cast(ge(later * stride, length + padding), "int64")
    return max(size, stride) - 1, maximum(within, 0) + 1


def _tiled(x: Variable, sizes: Sequence[int], first: int, kind: Pooling) -> Variable:
    """Pooling of windows side by side: axes are split in two, of which one is pooled over."""
    lengths = shape(x)[first:]
    counts = [_whole_windows(length, size) for length, size in zip(lengths, sizes, strict=True)]
    if not all(isinstance(length, int) and length % size == 0 for length, size in zip(lengths, sizes, strict=True)):
        kept = tuple(slice(0, count * size) for count, size in zip(counts, sizes, strict=True))
        x = index(x, (slice(None),) * first + kept)
    pairs = [part for count, size in zip(counts, sizes, strict=True) for part in (count, size)]
    split = reshape(x, (*shape(x)[:first], *pairs))
    return kind.whole(split, [first + 2 * k + 1 for k in range(len(sizes))])


def _whole_windows(length: Any, size: int) -> Any:
    """The number of windows that fit side by side into an axis of a length that may be symbolic; an error where none does."""
    message = f"a window of {size} elements does not fit into an axis"
    if not isinstance(length, int):
        return assert_(length // size, ge(length, size), f"{message} that is shorter")
    if length < size:
        raise InvalidValueError(f"{message} of {length}")
    return length // size
