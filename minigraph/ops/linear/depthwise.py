"""Depthwise convolutions: windows of each channel times filters of its own, added up where they lie.

An array is (batch, channels, *spatial), a kernel (channels, multiplier, *spatial). Products of matrices do not pay: the windows
would be copied, and each product has a few columns only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from minigraph.core.graph import Array, Composite, Variable
from minigraph.ops.array.arranging import flip, pad
from minigraph.ops.array.creation import zeros
from minigraph.ops.array.indexing import index, set_subtensor
from minigraph.ops.array.shape import dimshuffle, expand_dims, reshape, shape
from minigraph.ops.array.windows import Windows
from minigraph.ops.elementwise.base import Cotangents, cast, with_room
from minigraph.ops.reduce.reduction import NarrowSum
from minigraph.ops.reduce.reduction import sum as sum_over

Sizes = tuple[int, ...]


class Sliding(Composite):
    """The base of a depthwise convolution and of its gradient: windows slide over the spatial axes of an array.

    `strides` and `dilations` are those of windows, `widths` the numbers of zeros laid before and after each spatial axis, fewer
    than a window spans.
    """

    strides: Sizes
    dilations: Sizes
    widths: tuple[tuple[int, int], ...]

    @property
    def pads(self) -> bool:
        """Whether zeros are laid around the spatial axes."""
        return any(map(any, self.widths))

    @property
    def lengths(self) -> list[int]:
        """The axes that count windows, where those of the batch, of channels and of their multiplier come first."""
        return [3 + k for k in range(len(self.strides))]

    @property
    def within(self) -> list[int]:
        """The axes after these, which count the elements of a window."""
        return [3 + len(self.strides) + k for k in range(len(self.strides))]

    def patches(self, x: Variable, sizes: Sizes) -> Variable:
        """The windows of these `sizes` of an array x: (batch, channels, 1, *lengths, *sizes)."""
        padded = pad(x, [(0, 0), (0, 0), *self.widths]) if self.pads else x
        return expand_dims(self._windows(sizes)(padded), 2)

    def each_patch(self, xp: Any, x: Array, sizes: Sizes) -> Iterator[tuple[Sizes, Array]]:
        """For each place in windows of these `sizes` the elements there of an array `x`, (batch, channels, 1, *lengths), in 32
        bits or more, by `xp`.
        """
        spatial = list(zip(x.shape[2:], self.widths, strict=True))
        whole = (*x.shape[:2], *(length + sum(width) for length, width in spatial))
        padded = xp.zeros(whole, np.promote_types(x.dtype, np.float32))
        padded[(..., *(slice(before, before + length) for length, (before, _) in spatial))] = x
        shown = self._windows(sizes).forward(xp, padded)
        for place in product(*map(range, sizes)):
            yield place, shown[(..., *place)][:, :, None]

    def _windows(self, sizes: Sizes) -> Windows:
        """The op that shows windows of these sizes."""
        return Windows(tuple([axis - 1 for axis in self.lengths]), sizes, self.strides, self.dilations)


class DepthwiseConvolution(Sliding):
    """The correlation of an array with a kernel: (batch, channels * multiplier, *lengths)."""

    def expand(self, *inputs: Variable) -> Variable:
        x, kernel = inputs
        channels, multiplier, *sizes = known_sizes(kernel)
        patches = self.patches(with_room(x), tuple(sizes))
        filters = dimshuffle(with_room(kernel), "x", 0, 1, *("x" for _ in sizes), *range(2, kernel.ndim))
        whole = NarrowSum(tuple(self.within))(patches * filters)
        batch, _, _, *lengths = shape(whole)
        if multiplier == 1:  # a view of any order of axes, where a reshape would be a copy of some
            return dimshuffle(cast(whole, x.dtype), 0, 1, *self.lengths)
        return reshape(cast(whole, x.dtype), (batch, channels * multiplier, *lengths))

    def whole(self, xp: Any, *arrays: Array) -> Array:
        x, kernel = arrays
        result: Array = 0
        for place, patch in self.each_patch(xp, x, kernel.shape[2:]):
            factors = kernel[(..., *place)].astype(patch.dtype)
            result = result + patch * factors.reshape(*factors.shape, *(1 for _ in place))
        return result.reshape(len(x), x.shape[1] * kernel.shape[1], *result.shape[3:]).astype(x.dtype)

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        x, kernel = inputs
        of_kernel = KernelGradient(self.strides, self.dilations, self.widths, known_sizes(kernel))
        return self.spread(dy, x, kernel), of_kernel(x, dy)

    def spread(self, dy: Variable, x: Variable, kernel: Variable) -> Variable:
        """The gradient with respect to x: dy, as far apart as the strides are, in zeros, with the kernel turned round."""
        channels, multiplier, *sizes = known_sizes(kernel)
        (batch, _, *lengths), count = shape(x), len(sizes)
        spans = [(size - 1) * step for size, step in zip(sizes, self.dilations, strict=True)]
        whole = [length + span for length, span in zip(lengths, spans, strict=True)]
        places = [
            slice(span - before, after - span or None, stride)
            for span, (before, after), stride in zip(spans, self.widths, self.strides, strict=True)
        ]
        frame = zeros((batch, channels * multiplier, *whole), with_room(dy).dtype)
        placed = set_subtensor(index(frame, (slice(None), slice(None), *places)), dy)
        turned = flip(reshape(with_room(kernel), (channels * multiplier, 1, *sizes)), list(range(2, kernel.ndim)))
        result = DepthwiseConvolution((1,) * count, self.dilations, ((0, 0),) * count)(placed, turned)
        if multiplier > 1:
            result = NarrowSum((2,))(reshape(result, (batch, channels, multiplier, *lengths)))
        return cast(result, x.dtype)


class KernelGradient(Sliding):
    """The gradient of a depthwise convolution with respect to its kernel, of the shape `kernel`, from the array and dy."""

    kernel: Sizes

    def expand(self, *inputs: Variable) -> Variable:
        x, dy = inputs
        patches = self.patches(with_room(x), self.kernel[2:])
        batch, _, _, *lengths = shape(patches)[: 1 + len(self.kernel)]
        each = with_room(dy)
        if self.kernel[1] == 1:  # a view, as above
            each = dimshuffle(each, 0, 1, "x", *range(2, each.ndim), *("x" for _ in lengths))
        else:
            each = reshape(each, (batch, *self.kernel[:2], *lengths, *(1 for _ in lengths)))
        images = NarrowSum(tuple(self.lengths))(patches * each)
        return cast(sum_over(images, 0), x.dtype)

    def whole(self, xp: Any, *arrays: Array) -> Array:
        x, dy = arrays
        result = xp.empty(self.kernel, x.dtype)
        for place, patch in self.each_patch(xp, x, self.kernel[2:]):
            terms = patch * dy.reshape(len(x), *self.kernel[:2], *dy.shape[2:])
            result[(..., *place)] = terms.sum(tuple(self.lengths)).sum(0)
        return result

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Cotangents:
        x, cotangent = inputs
        convolution = DepthwiseConvolution(self.strides, self.dilations, self.widths)
        return convolution.spread(cotangent, x, dy), convolution(x, dy)


def known_sizes(kernel: Variable) -> Sizes:
    """The shape of a kernel, all of which is known."""
    return tuple([size or 0 for size in kernel.type.shape])
