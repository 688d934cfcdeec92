"""Folds of windows that slide along the last two axes of an array become ops that a kernel of its own computes.

Loop nests read windows from an array with its padding, which is written first as a whole, and vectors of windows that lie apart
by gathers. The kernel pads each plane within the first cache.
"""

from __future__ import annotations

import math

import numpy as np

from minigraph.compiler.cpu.jit import register_bytes
from minigraph.compiler.cpu.sliding import can_slide
from minigraph.compiler.cpu.sliding_writer import GREATEST, PRODUCTS, SUM
from minigraph.compiler.shaped.layout import sizes
from minigraph.compiler.shaped.target_ops import SlidingFold
from minigraph.core.dimensions import plain
from minigraph.core.graph import Graph, Variable
from minigraph.core.record import Record
from minigraph.ops.array.entries import Range
from minigraph.ops.array.indexing import Assign, Increment
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, broadcast_to, dimshuffle
from minigraph.ops.array.windows import Windows
from minigraph.ops.elementwise.arithmetic import Divide, Multiply
from minigraph.ops.elementwise.base import Cast
from minigraph.ops.reduce.reduction import Max, NarrowSum, Sum
from minigraph.rewrite.engine import changed
from minigraph.rewrite.stability.sight import is_constant

FEWEST_COLUMNS = 4
"""The least number of windows in a row for which the kernel is faster than loops."""


class Slid(Record):
    """Windows along the last two axes of an array, with places around it."""

    array: Variable
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]

    def folded(self, fold: str, dtype: str, *filters: Variable) -> Variable | None:
        """The fold of each window, perhaps with `filters`, in a `dtype`; None if the kernel cannot, or loops are as fast."""
        op = SlidingFold(fold, dtype, self.sizes, self.strides, self.dilations, self.widths, bool(filters))
        x = self.array
        if x.dtype not in (np.float32, np.float64) or 0 in sizes(x) or not can_slide(op, x.dtype, plain(sizes(x)[-1])):
            return None
        result = op(x, *filters)
        return result if plain(sizes(result)[-1]) >= FEWEST_COLUMNS else None


def slide_windows(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with folds of windows by a kernel of their own."""
    if register_bytes() < 32 or not any(isinstance(one.op, Windows) for one in graph.variables):
        return graph
    return changed(graph, _replaced)


def _replaced(variable: Variable) -> Variable | None:
    """A fold of windows, or one that is divided, as an op of its own; None for all else."""
    match variable.op:
        case Max(axes) if axes:
            found = _at_once(variable, -np.inf) or _axis_by_axis(variable)
            return None if found is None else found.folded(GREATEST, variable.dtype.name)
        case NarrowSum() if isinstance(variable.inputs[0].op, Multiply):
            return _products(variable)
        case Sum():
            found = _at_once(variable, 0)
            return None if found is None else found.folded(SUM, variable.dtype.name)
        case Divide():
            return _divided(variable)
        case Cast():
            return _rounded(variable)
    return None


def _at_once(variable: Variable, filling: float) -> Slid | None:
    """The windows along two axes that a reduction folds, of an array padded by a number."""
    windows = variable.inputs[0]
    return _slid(windows, filling) if _folds_windows(variable, 2) else None


def _folds_windows(variable: Variable, count: int) -> bool:
    """Whether a reduction folds windows along as many axes, just these."""
    windows = variable.inputs[0]
    if not isinstance(windows.op, Windows) or len(windows.op.axes) != count:
        return False
    axes = variable.op.axes  # type: ignore[attr-defined]
    return tuple(axes) == tuple(range(windows.ndim - count, windows.ndim))


def _slid(windows: Variable, filling: float) -> Slid | None:
    """Windows along the last two axes of an array, which may be padded by a number."""
    op, array = windows.op, windows.inputs[0]
    assert isinstance(op, Windows)
    if op.axes != (array.ndim - 2, array.ndim - 1):
        return None
    return _around(Slid(array, op.sizes, op.strides, op.dilations, ((0, 0), (0, 0))), filling)


def _axis_by_axis(variable: Variable) -> Slid | None:
    """The windows whose greatest elements are found along one axis after the other."""
    if not _folds_windows(variable, 1):
        return None
    second = variable.inputs[0]
    inner = second.inputs[0]
    if not isinstance(inner.op, Max) or not _folds_windows(inner, 1):
        return None
    first = inner.inputs[0]
    array, outer, own = first.inputs[0], second.op, first.op
    assert isinstance(outer, Windows)
    assert isinstance(own, Windows)
    if own.axes != (array.ndim - 2,) or outer.axes != (array.ndim - 1,):
        return None
    strides, dilations = own.strides + outer.strides, own.dilations + outer.dilations
    return _around(Slid(array, own.sizes + outer.sizes, strides, dilations, ((0, 0), (0, 0))), -np.inf)


def _around(slid: Slid, filling: float) -> Slid:
    """The same windows of an array without its padding, if a number was put around it."""
    padded = slid.array
    if not isinstance(padded.op, Assign) or isinstance(padded.op, Increment) or len(padded.inputs) != 2:
        return slid
    frame, inside = padded.inputs
    while isinstance(frame.op, BroadcastTo | Dimshuffle):
        frame = frame.inputs[0]
    entries = padded.op.entries
    if not is_constant(frame, filling) or inside.ndim != padded.ndim or len(entries) != padded.ndim:
        return slid
    widths = []
    for entry, size, whole in zip(entries, sizes(inside), sizes(padded), strict=True):
        if not isinstance(entry, Range) or entry.holes or entry.step not in (None, 1):
            return slid
        before = entry.start or 0
        assert isinstance(before, int)
        before = before + plain(whole) if before < 0 else before
        after = whole - size - before
        if not isinstance(after, int) and after != plain(after):
            return slid
        widths.append((before, plain(after)))
    if any(map(any, widths[:-2])) or any(width < 0 for pair in widths for width in pair):
        return slid
    return Slid(_bare(inside), slid.sizes, slid.strides, slid.dilations, tuple(widths[-2:]))


def _bare(variable: Variable) -> Variable:
    """A variable without a broadcast that changes nothing."""
    while isinstance(variable.op, BroadcastTo) and sizes(variable.inputs[0]) == sizes(variable):
        variable = variable.inputs[0]
    return variable


def _products(variable: Variable) -> Variable | None:
    """A sum of windows times filters."""
    product = variable.inputs[0]
    for shown, spread in (product.inputs, product.inputs[::-1]):
        if not isinstance(shown.op, Dimshuffle) or shown.op.pattern != (0, 1, None, 2, 3, 4, 5):
            continue
        windows = shown.inputs[0]
        one, channels, _, *around = sizes(spread)
        if not isinstance(windows.op, Windows) or variable.op.axes != (5, 6) or {one, *around[:2]} != {1}:  # type: ignore[attr-defined]
            continue
        filters = dimshuffle(spread, 1, 2, 5, 6)
        found = _slid(windows, 0)
        whole = (channels, *around[2:]) == (sizes(windows)[1], *sizes(windows)[4:])
        apart = found is not None and found.strides[1] > 1  # others loops read along as fast
        if found is not None and apart and whole and windows.dtype == filters.dtype == variable.dtype:
            return found.folded(PRODUCTS, variable.dtype.name, filters)
    return None


def _divided(variable: Variable) -> Variable | None:
    """A sum of windows divided by a number for each place of a plane, or by one number."""
    whole, by = variable.inputs
    op = whole.op
    if not isinstance(op, SlidingFold) or op.fold != SUM or op.divided or {whole.dtype, by.dtype} != {variable.dtype}:
        return None
    if sizes(whole) != sizes(variable) or math.prod(map(plain, sizes(by)[:-2])) != 1:
        return None
    plane = dimshuffle(by, *range(max(by.ndim - 2, 0), by.ndim))
    divisors = broadcast_to(plane, sizes(variable)[-2:])
    return SlidingFold(**(vars(op) | {"divided": True}))(whole.inputs[0], divisors)


def _rounded(variable: Variable) -> Variable | None:
    """A sum of windows, divided in a wider dtype, in that of the array."""
    (wide,) = variable.inputs
    if not isinstance(wide.op, SlidingFold) or wide.op.fold != SUM or variable.dtype != wide.inputs[0].dtype:
        return None
    return SlidingFold(**(vars(wide.op) | {"dtype": variable.dtype.name}))(*wide.inputs)
