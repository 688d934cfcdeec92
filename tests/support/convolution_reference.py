"""Convolution and pooling in NumPy, element by element, as their definitions say."""

from __future__ import annotations

from itertools import product

import numpy as np


def per_axis(given, count):
    return [given] * count if isinstance(given, int) else list(given)


def pairs(padding, count, extents, strides, lengths):
    if padding == "valid":
        return [(0, 0)] * count
    if padding == "full":
        return [(extent - 1, extent - 1) for extent in extents]
    if padding == "same":
        totals = [
            max(0, (-(-length // stride) - 1) * stride + extent - length)
            for length, stride, extent in zip(lengths, strides, extents, strict=True)
        ]
        return [(total // 2, total - total // 2) for total in totals]
    return [one if isinstance(one, tuple) else (one, one) for one in per_axis(padding, count)]


def windows(x, sizes, axes, strides=1, dilations=1):
    sizes, strides, dilations = (per_axis(one, len(axes)) for one in (sizes, strides, dilations))
    counts = [
        (x.shape[axis] - (size - 1) * dilation - 1) // stride + 1
        for axis, size, stride, dilation in zip(axes, sizes, strides, dilations, strict=True)
    ]
    shape = list(x.shape)
    for axis, count in zip(axes, counts, strict=True):
        shape[axis] = count
    result = np.empty((*shape, *sizes), x.dtype)
    for offsets in product(*map(range, sizes)):
        result[(..., *offsets)] = x[places(x.ndim, axes, offsets, counts, strides, dilations)]
    return result


def places(ndim, axes, offsets, counts, strides, dilations):
    """What has these offsets in all windows, as slices."""
    where = [slice(None)] * ndim
    for axis, offset, count, stride, dilation in zip(axes, offsets, counts, strides, dilations, strict=True):
        where[axis] = slice(offset * dilation, offset * dilation + (count - 1) * stride + 1, stride)
    return tuple(where)


def overlap(patches, lengths, axes, strides=1, dilations=1):
    count = len(axes)
    strides, dilations = per_axis(strides, count), per_axis(dilations, count)
    sizes = patches.shape[patches.ndim - count :]
    shape = list(patches.shape[: patches.ndim - count])
    counts = [shape[axis] for axis in axes]
    for axis, length in zip(axes, per_axis(lengths, count), strict=True):
        shape[axis] = length
    result = np.zeros(shape, patches.dtype)
    for offsets in product(*map(range, sizes)):
        result[places(len(shape), axes, offsets, counts, strides, dilations)] += patches[(..., *offsets)]
    return result


def convolved(x, filters, stride=1, padding="valid", dilation=1, groups=1, flip_filters=False):
    count = x.ndim - 2
    strides, dilations = per_axis(stride, count), per_axis(dilation, count)
    if flip_filters:
        filters = filters[(slice(None), slice(None), *(slice(None, None, -1),) * count)]
    extents = [(size - 1) * step + 1 for size, step in zip(filters.shape[2:], dilations, strict=True)]
    around = pairs(padding, count, extents, strides, x.shape[2:])
    padded = np.pad(x, [(0, 0), (0, 0), *around])
    lengths = [(length - extent) // step + 1 for length, extent, step in zip(padded.shape[2:], extents, strides, strict=True)]
    outputs, inner = filters.shape[:2]
    result = np.zeros((x.shape[0], outputs, *lengths), np.result_type(x, filters))
    for out in range(outputs):
        group = out // (outputs // groups)
        channels = slice(group * inner, (group + 1) * inner)
        for place in product(*map(range, lengths)):
            window = tuple(
                slice(k * step, k * step + extent, apart)
                for k, step, extent, apart in zip(place, strides, extents, dilations, strict=True)
            )
            seen = padded[(slice(None), channels, *window)] * filters[out]
            result[(slice(None), out, *place)] = seen.sum(tuple(range(1, seen.ndim)))
    return result


def transposed(x, filters, stride=1, padding=0, output_padding=0, dilation=1, groups=1, flip_filters=False):
    count = x.ndim - 2
    if flip_filters:
        filters = filters[(slice(None), slice(None), *(slice(None, None, -1),) * count)]
    strides, dilations, extra = (per_axis(one, count) for one in (stride, dilation, output_padding))
    inner = filters.shape[0] // groups
    extents = [(size - 1) * step + 1 for size, step in zip(filters.shape[2:], dilations, strict=True)]
    whole = [(n - 1) * s + e + more for n, s, e, more in zip(x.shape[2:], strides, extents, extra, strict=True)]
    result = np.zeros((x.shape[0], groups * filters.shape[1], *whole), np.result_type(x, filters))
    for channel in range(x.shape[1]):
        group = channel // inner
        outputs = slice(group * filters.shape[1], (group + 1) * filters.shape[1])
        for place in product(*map(range, x.shape[2:])):
            window = tuple(
                slice(k * step, k * step + extent, apart)
                for k, step, extent, apart in zip(place, strides, extents, dilations, strict=True)
            )
            spread = x[(slice(None), channel, *place)].reshape(-1, *(1,) * (count + 1)) * filters[channel]
            result[(slice(None), outputs, *window)] += spread
    cuts = [one if isinstance(one, tuple) else (one, one) for one in per_axis(padding, count)]
    kept = tuple(slice(before, length - after) for (before, after), length in zip(cuts, whole, strict=True))
    return result[(slice(None), slice(None), *kept)]


def pooled(reduce, x, size, stride=None, padding=0, ignore_border=True, count_padding=True):
    count = x.ndim - 2 if isinstance(size, int) else len(size)
    sizes = per_axis(size, count)
    strides = sizes if stride is None else per_axis(stride, count)
    pads = per_axis(padding, count)
    lengths = x.shape[x.ndim - count :]
    counts = []
    for length, n, step, pad in zip(lengths, sizes, strides, pads, strict=True):
        more = (length + 2 * pad - n) / step
        number = int(np.floor(more) if ignore_border else np.ceil(max(more, 0))) + 1
        if not ignore_border and (number - 1) * step >= length + pad:
            number -= 1
        counts.append(number)
    result = np.empty((*x.shape[: x.ndim - count], *counts), x.dtype)
    for place in product(*map(range, counts)):
        window, elements = [], 1
        for k, n, step, pad, length in zip(place, sizes, strides, pads, lengths, strict=True):
            begin = k * step - pad
            window.append(slice(max(begin, 0), min(begin + n, length)))
            elements *= min(begin + n, length + pad) - begin if count_padding else len(range(length)[window[-1]])
        part = x[(..., *window)].reshape(*x.shape[: x.ndim - count], -1)
        result[(..., *place)] = part.max(-1) if reduce == "max" else part.sum(-1) / elements
    return result
