"""Windows are multiplied where they lie, instead of being copied into a matrix.

The first matrix of a convolution has a row for each window. Neighbouring windows share most of their elements, so that the
matrix is many times as large as the array that it shows. A product that packs the matrix panel by panel anyway can read it off
that array. The gradient by the array, patches that overlap, is another convolution, with filters that are flipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from minigraph.compiler.cpu.products import reads_scattered
from minigraph.compiler.shaped.layout import Layout, contiguous, is_contiguous, is_view, layout_of, sizes
from minigraph.compiler.shaped.target_ops import ScatteredMatMul
from minigraph.core.graph import Graph, Variable
from minigraph.ops.array.arranging import flip, pad
from minigraph.ops.array.entries import Range
from minigraph.ops.array.indexing import Index, index
from minigraph.ops.array.shape import Dimshuffle, Reshape, dimshuffle, reshape
from minigraph.ops.array.windows import Overlap, Windows
from minigraph.ops.linear.products import MatMul
from minigraph.rewrite.engine import changed
from minigraph.rewrite.sink_transposes import sunk

FEWEST_COLUMNS = 4
"""Of the second matrix of a gradient, from which on a convolution is faster than a product whose patches are added."""
MOST_WORK = 1.5
"""The most windows that a gradient may have, relative to those of the convolution."""


def implicit_gemm(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with products of windows that read them where they lie."""
    if not reads_scattered() or not any(isinstance(one.op, Windows | Overlap) for one in graph.variables):
        return graph
    return _transformed(graph, _with_windows, _of_patches)


def convolve_patches(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with sums of patches that are convolutions as products of copied windows."""
    if not any(isinstance(one.op, Overlap) for one in graph.variables):
        return graph
    return _transformed(graph, lambda variable: None, _of_a_copy)


Product = Callable[[Variable, int, Variable], Variable | None]
"""A function that multiplies an array, given the number of its axes that are rows, by a matrix; None if it is not worth it."""


def _transformed(graph: Graph, of_windows: Callable[[Variable], Variable | None], multiply: Product) -> Graph:
    """The graph with products replaced by `of_windows`, and sums of patches by convolutions; axes go down from these."""
    spread: dict[Variable, Variable] = {}
    """For sums of patches that became convolutions what they were."""
    moved: set[Variable] = set()
    """The new variables, some of which show axes of a product in another order."""

    def replaced(variable: Variable) -> Variable | None:
        match variable.op:
            case MatMul():
                return of_windows(variable)
            case Overlap():
                found = _as_convolution(variable, [(0, size) for size in sizes(variable)], multiply)
                if found is not None:
                    spread[found] = variable
                return found
            case Index() if variable.inputs[0] in spread:
                return _cut(spread[variable.inputs[0]], variable, multiply)
        return None if moved.isdisjoint(variable.inputs) else sunk(variable)

    def step(variable: Variable) -> Variable | None:
        result = replaced(variable)
        if result is not None:
            moved.add(result)
        return result

    return changed(graph, step)


def _where_it_lies(shown: Variable, rows: int, matrix: Variable) -> Variable | None:
    """The product of floats, read where they lie, and a matrix; None if there are none. `rows`: the axes that are rows."""
    stack = matrix.ndim - 2
    if shown.dtype not in (np.float32, np.float64) or 0 in sizes(shown):
        return None
    product = ScatteredMatMul(stack, rows)(*_along_memory(shown, stack + rows, matrix))
    return dimshuffle(product, 1, 0, 2) if stack else product


def _of_patches(shown: Variable, rows: int, matrix: Variable) -> Variable | None:
    """The product that a sum of patches becomes; None if these are added faster."""
    return _where_it_lies(shown, rows, matrix) if sizes(matrix)[-1] >= FEWEST_COLUMNS else None


def _along_memory(shown: Variable, first: int, matrix: Variable) -> tuple[Variable, Variable]:
    """An array whose axes from `first` on, and a matrix whose rows, are in the order in which the array lies in memory.

    The matrix is a view of what it shows wherever that lies in the same order.
    """
    stack, whole = matrix.ndim - 2, matrix.inputs[0] if isinstance(matrix.op, Reshape) else matrix
    if sizes(whole)[stack:-1] != sizes(shown)[first:]:
        return shown, matrix
    strides, leading, last = _layout(shown).strides, range(stack), whole.ndim - 1
    order = sorted(range(first, shown.ndim), key=lambda axis: -strides[axis])
    terms = [axis - first + stack for axis in order]
    upright = dimshuffle(whole, *leading, last, *terms)
    if is_contiguous(_layout(upright), sizes(upright)):
        columns = reshape(upright, (*sizes(matrix)[:stack], sizes(matrix)[-1], sizes(matrix)[-2]))
        turned = dimshuffle(columns, *leading, stack + 1, stack)
    else:
        turned = reshape(dimshuffle(whole, *leading, *terms, last), sizes(matrix))
    return dimshuffle(shown, *range(first), *order), turned


def _of_a_copy(shown: Variable, rows: int, matrix: Variable) -> Variable:
    """A product of an array that is copied into a matrix."""
    *stack, terms, _ = sizes(matrix)
    height = math.prod(sizes(shown)[len(stack) : len(stack) + rows])
    return MatMul()(reshape(shown, (*stack, height, terms)), matrix)


def _with_windows(variable: Variable) -> Variable | None:
    """A product with windows, or with their transposed, or a stack of these, as one that reads them where they lie."""
    a, b = variable.inputs
    stack = variable.ndim - 2
    turned = isinstance(a.op, Dimshuffle) and a.op.pattern == (*range(stack), stack + 1, stack)
    matrix = a.inputs[0] if turned else a
    if stack > 1 or a.ndim != b.ndim or not isinstance(matrix.op, Reshape):
        return None
    shown = matrix.inputs[0]
    rows = _axes_of(sizes(shown)[stack:], sizes(matrix)[-2])
    if rows is None or sizes(shown)[:stack] != sizes(b)[:stack] or is_contiguous(_layout(shown), sizes(shown)):
        return None
    if not turned:
        return _where_it_lies(shown, rows, b)
    first = stack + rows
    return _where_it_lies(
        dimshuffle(shown, *range(stack), *range(first, shown.ndim), *range(stack, first)), shown.ndim - first, b
    )


def _layout(shown: Variable) -> Layout:
    """The layout of a variable, whose operands need not have been asked for theirs."""
    views = []
    source = shown
    while is_view(source) and not isinstance(source.op, Reshape):
        views.append(source)
        source = source.inputs[0]
    known = {source: Layout(source, contiguous(sizes(source)), 0)}
    for view in reversed(views):
        known[view] = layout_of(view, known)
    return known[shown]


Patches = tuple[Variable, Variable, tuple[int, ...], int, tuple[int, ...]]
"""Rows, one for each patch, and filters whose product is patches, the axes that its elements have, how many of these are those
of rows, and which of them each axis of the patches is.
"""


def _as_patches(variable: Variable) -> Patches | None:
    """A value as patches that are a product, if it is that."""
    if not isinstance(variable.op, Dimshuffle):
        return None
    order = tuple([axis for axis in variable.op.pattern if axis is not None])
    parts = variable.inputs[0]
    if not isinstance(parts.op, Reshape) or len(order) != parts.ndim or not isinstance(parts.inputs[0].op, MatMul):
        return None
    rows, filters = parts.inputs[0].inputs
    shape = sizes(parts)
    stack = rows.ndim - 2
    split = _axes_of(shape[stack:], sizes(rows)[-2])
    if split is None or stack > 1 or sizes(rows)[:stack] != shape[:stack] or sizes(filters)[:stack] != shape[:stack]:
        return None
    return rows, filters, shape, stack + split, order


def _axes_of(shape: Sequence[int], rows: int) -> int | None:
    """The number of leading axes of a shape that make `rows` rows, if there are axes for that, and others."""
    return next((k for k in range(1, len(shape)) if math.prod(shape[:k]) == rows), None)


def _as_convolution(variable: Variable, kept: Sequence[tuple[int, int]], multiply: Product) -> Variable | None:
    """The part, from a place on each axis to another, of a sum of patches as a convolution, if it has not too many windows."""
    op, patches = variable.op, _as_patches(variable.inputs[0])
    assert isinstance(op, Overlap)
    if patches is None or set(op.strides) != {1}:
        return None
    rows, filters, shape, split, order = patches
    slid, taps, stack = [order[axis] for axis in op.axes], order[variable.ndim :], rows.ndim - 2
    if any(axis not in range(stack, split) for axis in slid) or any(axis < split for axis in taps):
        return None
    wanted, widths = list(shape[:split]), [(0, 0)] * split
    for axis, place, extent in zip(slid, op.axes, op.extents, strict=True):
        start, stop = kept[place]
        widths[axis] = (extent - 1 - start, extent - 1 - (sizes(variable)[place] - stop))
        wanted[axis] = stop - start
    if any(width < 0 for pair in widths for width in pair) or math.prod(wanted) > MOST_WORK * math.prod(shape[:split]):
        return None
    image = pad(_lying(reshape(rows, (*shape[:split], sizes(rows)[-1]))), [*widths, (0, 0)])
    windows = Windows(tuple(slid), op.sizes, op.strides, op.dilations)(image)
    shown = dimshuffle(windows, *range(split), *range(split + 1, windows.ndim), split)
    others = [axis for axis in range(split, len(shape)) if axis not in taps]
    matrix = _flipped(filters, shape[split:], [axis - split for axis in taps], [axis - split for axis in others])
    product = multiply(shown, split - stack, matrix)
    if product is None:
        return None
    result = _lying(reshape(product, (*wanted, *(shape[axis] for axis in others))))
    places = {axis: k for k, axis in enumerate([*range(split), *others])}
    return dimshuffle(result, *(places[axis] for axis in order[: variable.ndim]))


def _lying(variable: Variable) -> Variable:
    """A variable whose axes are reordered after it was computed, if its operand's are: so that these need not be copied."""
    result = sunk(variable)
    return variable if result is None else result


def _flipped(filters: Variable, shape: Sequence[int], taps: Sequence[int], others: Sequence[int]) -> Variable:
    """The matrix of a convolution's filters, a row an output, as that of its gradient's: taps and outputs make the rows."""
    apart = _with_columns_apart(filters, shape)
    stack, first = range(filters.ndim - 2), filters.ndim - 1
    flipped = flip(apart, [first + axis for axis in taps])
    turned = dimshuffle(flipped, *stack, *(first + axis for axis in taps), first - 1, *(first + axis for axis in others))
    return reshape(turned, (*sizes(filters)[:-2], -1, math.prod(shape[axis] for axis in others)))


def _with_columns_apart(matrix: Variable, shape: Sequence[int]) -> Variable:
    """A matrix with an axis for each of the sizes that its columns are made of; a view of what it was made of, if there is."""
    stack = matrix.ndim - 2
    match matrix:
        case Variable(Dimshuffle(pattern), (Variable(Reshape(), (whole, *_)),)):
            if pattern == (*range(stack), stack + 1, stack) and sizes(whole)[stack:-1] == tuple(shape):
                return dimshuffle(whole, *range(stack), whole.ndim - 1, *range(stack, whole.ndim - 1))
    return reshape(matrix, (*sizes(matrix)[:-1], *shape))


def _cut(variable: Variable, cut: Variable, multiply: Product) -> Variable | None:
    """Slices of a sum of patches as a convolution that computes no more; None if they are not that."""
    shape = sizes(variable)
    kept, rest = [], []
    slid = variable.op.axes  # type: ignore[attr-defined]
    for axis, entry in enumerate(cut.op.entries):  # type: ignore[attr-defined]
        if not isinstance(entry, Range) or entry.holes or entry.step not in (None, 1):
            return None
        start, stop, _ = slice(entry.start, entry.stop).indices(shape[axis])
        kept.append((start, stop) if axis in slid else (0, shape[axis]))
        rest.append(slice(None) if axis in slid else slice(start, stop))
    if len(kept) != len(shape) or any(start >= stop for start, stop in kept):
        return None
    found = _as_convolution(variable, kept, multiply)
    whole = all(one in (slice(None), slice(0, size)) for one, size in zip(rest, shape, strict=True))
    return found if found is None or whole else index(found, tuple(rest))
