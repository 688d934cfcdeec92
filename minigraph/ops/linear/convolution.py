"""Convolution: windows of the input times filters, as one product of matrices.

Arrays are (batch, channels, *spatial), or (batch, *spatial, channels) where `layout` says so, and filters (output channels,
channels of a group, *spatial). As in most of today's systems what is computed is the correlation; `flip_filters` gives the
convolution of mathematics, and of Theano.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.types import as_ints
from minigraph.ops.array.arranging import flip, pad
from minigraph.ops.array.indexing import index
from minigraph.ops.array.shape import dimshuffle, reshape, shape
from minigraph.ops.array.windows import overlap, per_axis, windows
from minigraph.ops.elementwise.base import Operand, promoted
from minigraph.ops.linear.depthwise import DepthwiseConvolution
from minigraph.ops.linear.layouts import in_layout
from minigraph.ops.linear.products import matmul

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

Widths = list[tuple[int, int]]

MOST_OUTPUTS = 8
"""The most outputs of a channel of its own up to which loops over windows are faster than a product of matrices."""


def conv1d(
    x: Operand, filters: Operand, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, groups: int = 1,
    *, flip_filters: bool = False, layout: str | None = "NCW",
) -> Variable:  # fmt: skip
    """`conv2d` along one axis: x of shape (batch, channels, length), filters (outputs, channels / groups, length).

    stride, padding, dilation, groups, flip_filters: those of `conv2d`. layout: "NCW", or "NWC" for the channels last.
    """
    settings = 1, stride, padding, dilation, groups, flip_filters
    return in_layout(lambda images: _convolved(images, filters, *settings), x, layout, 1)


def conv2d(
    x: Operand, filters: Operand, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, groups: int = 1,
    *, flip_filters: bool = False, layout: str | None = "NCHW",
) -> Variable:  # fmt: skip
    """The correlation of x, (batch, channels, height, width), with filters, (outputs, channels / groups, height, width).

    stride, dilation: an int, or one for each spatial axis. padding: "valid" (none), "same" (as many results as steps fit into
    the input; what cannot be halved is added at the end), "full" (every overlap), an int, or for each spatial axis an int or a
    pair (before, after). groups: outputs see the channels of their own group alone. flip_filters: convolve as Theano does.
    layout: "NCHW", or "NHWC" for an x and a result with the channels last; filters are the same in both.

    The result is (batch, outputs, *spatial). ValueError, where it can be known, for channels or groups that do not fit, and for
    filters that are larger than the padded input.

    >>> x, filters = mg.constant(np.ones((1, 1, 4, 4))), mg.constant(np.ones((1, 1, 3, 3)))
    >>> mg.conv2d(x, filters).eval()[0, 0]
    array([[9., 9.],
           [9., 9.]])
    """
    settings = 2, stride, padding, dilation, groups, flip_filters
    return in_layout(lambda images: _convolved(images, filters, *settings), x, layout, 2)


def conv3d(
    x: Operand, filters: Operand, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, groups: int = 1,
    *, flip_filters: bool = False, layout: str | None = "NCDHW",
) -> Variable:  # fmt: skip
    """`conv2d` along three axes: x of shape (batch, channels, depth, height, width), filters of five axes likewise.

    stride, padding, dilation, groups, flip_filters: those of `conv2d`. layout: "NCDHW", or "NDHWC" for the channels last.
    """
    settings = 3, stride, padding, dilation, groups, flip_filters
    return in_layout(lambda images: _convolved(images, filters, *settings), x, layout, 3)


def conv_transpose1d(
    x: Operand, filters: Operand, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: int = 1, *, flip_filters: bool = False, layout: str | None = "NCW",
) -> Variable:  # fmt: skip
    """`conv_transpose2d` along one axis: x (batch, channels, length), filters (channels, outputs / groups, length).

    stride, padding, output_padding, dilation, groups, flip_filters: those of `conv_transpose2d`. layout: "NCW", or
    "NWC" for the channels last.
    """
    settings = 1, stride, padding, output_padding, dilation, groups, flip_filters
    return in_layout(lambda images: _transposed(images, filters, *settings), x, layout, 1)


def conv_transpose2d(
    x: Operand, filters: Operand, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: int = 1, *, flip_filters: bool = False, layout: str | None = "NCHW",
) -> Variable:  # fmt: skip
    """The gradient of `conv2d` with respect to its input, as a function: x (batch, channels, height, width) spread by filters.

    filters: (channels, outputs / groups, height, width), which `conv2d` would take to get from the result back to the shape of
    x. stride, dilation, groups: those of that `conv2d`. padding: the number of elements cut off at both ends, an int, or for
    each axis an int or a pair. output_padding: the number of elements added at the end, less than the stride, where several
    lengths would do. flip_filters: be the gradient of a `conv2d` that flips them. layout: "NCHW", or "NHWC" for an x and a
    result with the channels last.
    """
    settings = 2, stride, padding, output_padding, dilation, groups, flip_filters
    return in_layout(lambda images: _transposed(images, filters, *settings), x, layout, 2)


def conv_transpose3d(
    x: Operand, filters: Operand, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, dilation: Any = 1,
    groups: int = 1, *, flip_filters: bool = False, layout: str | None = "NCDHW",
) -> Variable:  # fmt: skip
    """`conv_transpose2d` along three axes: x (batch, channels, depth, height, width), filters of five axes likewise.

    stride, padding, output_padding, dilation, groups, flip_filters: those of `conv_transpose2d`. layout: "NCDHW", or
    "NDHWC" for the channels last.
    """
    settings = 3, stride, padding, output_padding, dilation, groups, flip_filters
    return in_layout(lambda images: _transposed(images, filters, *settings), x, layout, 3)


def _operands(x: Operand, filters: Operand, count: int, groups: Any, channels_at: int) -> tuple[Variable, Variable]:
    """Input and filters of one dtype, checked; `channels_at` is the axis of the filters that says how many channels x has."""
    given, kernel = promoted((x, filters))
    for one, what in ((given, "(batch, channels, *spatial)"), (kernel, "filters")):
        if one.ndim != count + 2 or one.dtype.kind != "f":
            raise InvalidTypeError(f"a convolution along {count} axes takes floats of {count + 2} axes as {what}, not {one!r}")
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise InvalidValueError(f"groups must be an int of 1 or more, not {groups!r}")
    sizes = kernel.type.shape
    if None in sizes:
        raise InvalidValueError(
            f"the sizes of filters must be known, not {sizes} of {kernel!r}: make them with shape=, or use specify_shape"
        )
    outputs, inner = sizes[0] or 0, sizes[1] or 0
    channels = inner * groups if channels_at else outputs
    if given.type.shape[1] not in (None, channels):
        raise InvalidValueError(
            f"filters of shape {sizes} with groups={groups} take {channels} channels, and {given!r} has {given.type.shape[1]}"
        )
    if outputs % groups:
        raise InvalidValueError(f"the first axis of filters of shape {sizes} does not fall into {groups} groups")
    return given, kernel


def _convolved(
    x: Operand, filters: Operand, count: int, stride: Any, padding: Any, dilation: Any, groups: int, flip_filters: bool
) -> Variable:
    """A convolution along `count` axes."""
    given, kernel = _operands(x, filters, count, groups, 1)
    strides, dilations = per_axis(stride, count, "a stride"), per_axis(dilation, count, "a dilation")
    outputs, inner, *sizes = (size or 0 for size in kernel.type.shape)
    spatial = list(range(2, count + 2))
    if flip_filters:
        kernel = flip(kernel, spatial)
    extents = [(size - 1) * step + 1 for size, step in zip(sizes, dilations, strict=True)]
    widths = _widths(padding, extents, strides, given.type.shape[2:])
    inside = all(width < extent for pair, extent in zip(widths, extents, strict=True) for width in pair)
    if groups > 1 == inner and inside and outputs // groups <= MOST_OUTPUTS:
        own = reshape(kernel, (groups, outputs // groups, *sizes))
        return DepthwiseConvolution(strides, dilations, tuple(widths))(given, own)
    # groups are told apart before there are windows, which overlap in memory: reshaped, they would be copied
    image = given if groups == 1 else reshape(given, (shape(given)[0], groups, inner, *shape(given)[2:]))
    places = range(image.ndim - count, image.ndim)
    padded = pad(image, [(0, 0)] * places[0] + widths) if any(map(any, widths)) else image
    patches = windows(padded, sizes, places, strides, dilations)
    batch, *lengths = (shape(patches)[axis] for axis in (0, *places))
    # as matrices: a row for each window, what it holds of a group along it, the channel last, so that it is read in one piece
    within = list(range(count + 2, 2 * count + 2))
    terms = math.prod(sizes) * inner
    if groups == 1:
        rows = reshape(dimshuffle(patches, 0, *spatial, *within, 1), (_product([batch, *lengths]), terms))
        matrix = reshape(dimshuffle(kernel, *spatial, 1, 0), (terms, outputs))
        flat = matmul(rows, matrix)
    else:
        turned = dimshuffle(patches, 1, 0, *places, *(one + 1 for one in within), 2)
        rows = reshape(turned, (groups, _product([batch, *lengths]), terms))
        own = reshape(kernel, (groups, outputs // groups, inner, *sizes))
        matrix = reshape(dimshuffle(own, 0, *(one + 1 for one in spatial), 2, 1), (groups, terms, outputs // groups))
        flat = dimshuffle(matmul(rows, matrix), 1, 0, 2)
    result = reshape(flat, (batch, *lengths, outputs))
    return dimshuffle(result, 0, count + 1, *range(1, count + 1))


def _transposed(
    x: Operand, filters: Operand, count: int, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int,
    flip_filters: bool,
) -> Variable:  # fmt: skip
    """A transposed convolution along `count` axes."""
    given, kernel = _operands(x, filters, count, groups, 0)
    strides, dilations = per_axis(stride, count, "a stride"), per_axis(dilation, count, "a dilation")
    channels, outputs, *sizes = (size or 0 for size in kernel.type.shape)
    extra = as_ints(output_padding, "output_padding", 0)
    extra = extra * count if len(extra) == 1 else extra
    if len(extra) != count or any(more >= step for more, step in zip(extra, strides, strict=False)):
        raise InvalidValueError(
            f"output_padding must be less than the stride {strides} along each axis, not {output_padding!r}"
        )
    batch, _, *lengths = shape(given)
    spatial = list(range(2, count + 2))
    if flip_filters:
        kernel = flip(kernel, spatial)
    inner, terms = channels // groups, outputs * math.prod(sizes)
    rows = reshape(dimshuffle(given, 0, *spatial, 1), (_product([batch, *lengths]), groups, inner))
    matrix = reshape(kernel, (groups, inner, terms))
    flat = dimshuffle(matmul(dimshuffle(rows, 1, 0, 2), matrix), 1, 0, 2)
    within = list(range(count + 3, 2 * count + 3))
    split = reshape(flat, (batch, *lengths, groups, outputs, *sizes))
    patches = dimshuffle(split, 0, count + 1, count + 2, *range(1, count + 1), *within)
    joined = reshape(patches, (batch, groups * outputs, *lengths, *sizes))
    extents = [(size - 1) * step + 1 for size, step in zip(sizes, dilations, strict=True)]
    whole = [(length - 1) * step + extent for length, step, extent in zip(lengths, strides, extents, strict=True)]
    spread = overlap(joined, whole, spatial, strides, dilations)
    spread = pad(spread, [(0, 0), (0, 0), *((0, more) for more in extra)]) if any(extra) else spread
    cuts = _explicit(padding, count)
    if not any(map(any, cuts)):
        return spread
    for length, (before, after) in zip(spread.type.shape[2:], cuts, strict=True):
        if length is not None and length <= before + after:
            raise InvalidValueError(
                f"padding={padding!r} cuts {before} + {after} off an axis of {length} elements; none is left"
            )
    kept = tuple(slice(before, -after if after else None) for before, after in cuts)
    return index(spread, (slice(None), slice(None), *kept))


def _product(sizes: Sequence[Any]) -> Any:
    """The product of sizes, some of which may be symbolic."""
    total: Any = 1
    for one in sizes:
        total = one if isinstance(total, int) and total == 1 else total * one
    return total


def _widths(padding: Any, extents: Sequence[int], strides: Sequence[int], lengths: Sequence[int | None]) -> Widths:
    """The numbers of elements added before and after each spatial axis."""
    if padding == "valid":
        return [(0, 0)] * len(extents)
    if padding == "full":
        return [(extent - 1, extent - 1) for extent in extents]
    if padding != "same":
        return _explicit(padding, len(extents))
    found: Widths = []
    for extent, stride, length in zip(extents, strides, lengths, strict=True):
        if stride > 1 and length is None:
            raise InvalidValueError("padding='same' with a stride needs spatial sizes that are known; give numbers instead")
        total = extent - 1 if stride == 1 else max(0, (-(-(length or 0) // stride) - 1) * stride + extent - (length or 0))
        found.append((total // 2, total - total // 2))
    return found


def _explicit(padding: Any, count: int) -> Widths:
    """Padding that is given in numbers: one for all, or for each axis one or a pair."""
    if isinstance(padding, str):
        raise InvalidValueError(f"padding must be 'valid', 'same', 'full', or numbers, not {padding!r}")
    listed = list(padding) if isinstance(padding, list | tuple) else [padding] * count
    if len(listed) != count:
        raise InvalidValueError(f"padding is needed for each of {count} axes, not {padding!r}")
    widths: Widths = []
    for one in listed:
        pair = as_ints(one, "padding", 0)
        if len(pair) > 2:
            raise InvalidValueError(f"padding of an axis is an int or a pair (before, after), not {one!r}")
        widths.append((pair[0], pair[-1]))
    return widths
