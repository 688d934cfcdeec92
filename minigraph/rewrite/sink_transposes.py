"""Reordered axes go down: what is computed from a value with its axes in another order is computed in the order of its memory.

A convolution leaves its result with the channels last, and shows them second. Where nothing else stands in the way, everything
that follows, up to the next convolution, is computed with the channels last as well, so that memory is walked along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

from minigraph.core.graph import Constant, Graph, Variable
from minigraph.ops.array.entries import Indexing, Range
from minigraph.ops.array.indexing import Assign, Index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, broadcast_to, dimshuffle, reshape
from minigraph.ops.array.windows import Overlap, Windows
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.reduce.base import Reduction
from minigraph.rewrite.algebra import merge_dimshuffles
from minigraph.rewrite.engine import changed
from minigraph.rewrite.symbolic_shapes import pattern_sizes, split_axes

Order = tuple[int, ...]


def sink_transposes(graph: Graph) -> Graph:
    """The graph with reorderings of axes taken of results instead of operands, where these are walked along then."""
    return changed(graph, sunk)


def sunk(variable: Variable) -> Variable | None:
    """A variable as a reordered one that is computed from what its operands show, if that is better."""
    result: Variable | None = None
    op, operands = variable.op, variable.inputs
    if isinstance(op, Dimshuffle):
        result = merge_dimshuffles(variable)
    elif isinstance(op, Elementwise):
        result = _elementwise(variable)
    elif operands and (found := _shown(operands[isinstance(op, Assign)])) is not None:
        result = _over_shown(variable, *found)
    return None if result is None or result.type != variable.type else result


def _over_shown(variable: Variable, order: Order, inner: Variable) -> Variable | None:
    """A variable whose first operand, or what it assigns, shows the axes of `inner` in an order, computed from that."""
    match variable.op:
        case Reduction() as op:
            axes = tuple(sorted(order[axis] for axis in op.axes))
            remaining = [axis for axis in range(inner.ndim) if axis not in axes]
            return dimshuffle(op.over(axes)(inner), [remaining.index(axis) for axis in order if axis not in axes])
        case BroadcastTo() if inner.ndim == variable.ndim:
            sizes = pattern_sizes(variable)
            return dimshuffle(broadcast_to(inner, [sizes[axis] for axis in _inverse(order)]), order)
        case Index() as op:
            return _in_slices(op, order, variable.inputs[1:], inner)
        case Assign() as op:
            frame = _reordered(variable.inputs[0], _inverse(order))
            return None if frame is None else _in_slices(op, order, variable.inputs[2:], frame, inner)
        case Windows(axes, sizes, strides, dilations):
            moved = Windows(tuple(order[axis] for axis in axes), sizes, strides, dilations)(inner)
            return dimshuffle(moved, (*order, *range(inner.ndim, moved.ndim)))
        case Overlap() as op:
            return _overlap(op, order, inner, variable.inputs[1:], variable.ndim)
        case Reshape():
            return _reshape(variable, order, inner)
    return None


def _shown(variable: Variable) -> tuple[Order, Variable] | None:
    """The order in which a variable shows all axes of another, if that is not their own."""
    if not isinstance(variable.op, Dimshuffle):
        return None
    pattern, inner = variable.op.pattern, variable.inputs[0]
    if None in pattern or len(pattern) != inner.ndim or pattern == tuple(range(inner.ndim)):
        return None
    return tuple(axis for axis in pattern if axis is not None), inner


def _order_shown(variable: Variable) -> Order | None:
    """The order in which a variable shows axes of another, if that is not their own; a new axis stays beside that before it."""
    if not isinstance(variable.op, Dimshuffle):
        return None
    keys: list[int] = []
    for axis in variable.op.pattern:
        keys.append(axis if axis is not None else keys[-1] if keys else -1)
    lying = tuple(sorted(range(variable.ndim), key=lambda place: keys[place]))
    return None if lying == tuple(range(variable.ndim)) else _inverse(lying)


def _inverse(order: Order) -> Order:
    """The order that brings axes back."""
    return tuple(order.index(axis) for axis in range(len(order)))


def _reordered(variable: Variable, order: Order) -> Variable | None:
    """An operand with its axes, those that it lacks at the front included, in another order, if it is walked along then."""
    if not variable.ndim:
        return variable
    if variable.ndim < len(order):
        return _reordered(_padded(variable, len(order)), order)
    if sum(size != 1 for size in variable.type.shape) <= 1 or isinstance(variable.op, Constant):
        return dimshuffle(variable, *order)
    if isinstance(variable.op, Dimshuffle):
        base, pattern = variable.inputs[0], [variable.op.pattern[axis] for axis in order]
        axes = [axis for axis in pattern if axis is not None]
        return dimshuffle(base, ["x" if axis is None else axis for axis in pattern]) if axes == sorted(axes) else None
    if isinstance(variable.op, BroadcastTo):
        inner = _reordered(variable.inputs[0], order)
        return None if inner is None else broadcast_to(inner, [pattern_sizes(variable)[axis] for axis in order])
    return None


def _padded(variable: Variable, ndim: int) -> Variable:
    """A variable with the axes that it lacks at the front."""
    return dimshuffle(variable, *("x",) * (ndim - variable.ndim), *range(variable.ndim))


def _elementwise(variable: Variable) -> Variable | None:
    """An elementwise result of reordered operands."""
    order = next((found for one in variable.inputs if one.ndim == variable.ndim and (found := _order_shown(one))), None)
    if order is None:
        return None
    operands = [_reordered(one, _inverse(order)) for one in variable.inputs]
    others = [one for one, moved in zip(variable.inputs, operands, strict=True) if moved is None]
    if sum(map(_known_size, others)) > _known_size(variable):  # more would be read in another order than is now
        return None
    turned = [
        dimshuffle(_padded(one, len(order)), *_inverse(order)) if moved is None else moved
        for one, moved in zip(variable.inputs, operands, strict=True)
    ]
    return dimshuffle(variable.op(*turned), order)


def _known_size(variable: Variable) -> int:
    """The number of elements that a variable has along the axes whose sizes are known."""
    return math.prod(size for size in variable.type.shape if size is not None)


def _in_slices(op: Indexing, order: Order, fillers: Sequence[Variable], *operands: Variable) -> Variable | None:
    """Slices of, or into, operands that are shown in an order; None if the index is not made of slices alone."""
    if not all(isinstance(entry, Range) for entry in op.entries):
        return None
    remaining = iter(fillers)
    filled = [list(islice(remaining, entry.holes)) for entry in op.entries]  # type: ignore[union-attr]
    axes = _inverse(order)
    sliced = type(op)(tuple(op.entries[axis] for axis in axes))(*operands, *(one for axis in axes for one in filled[axis]))
    return dimshuffle(sliced, order)


def _overlap(op: Overlap, order: Order, inner: Variable, lengths: Sequence[Variable], ndim: int) -> Variable | None:
    """Patches that lie in another order added up in the order in which they lie."""
    lying = sorted(range(ndim), key=lambda axis: order[axis])
    if lying == list(range(ndim)):
        return None
    view = dimshuffle(inner, [*(order[axis] for axis in lying), *order[ndim:]])
    axes = tuple(lying.index(axis) for axis in op.axes)
    added = Overlap(axes, op.sizes, op.strides, op.dilations, op.lengths)(view, *lengths)
    return dimshuffle(added, [lying.index(axis) for axis in range(ndim)])


def _reshape(variable: Variable, order: Order, inner: Variable) -> Variable | None:
    """A reordered operand some of whose axes are split in several, or joined with their neighbours."""
    before, after = variable.inputs[0].type.shape, variable.type.shape
    if (split := split_axes(before, after)) is not None:
        lying = [axis for place in _inverse(order) for axis in split[place]]
    elif (joined := split_axes(after, before)) is not None:
        own = [[order[axis] for axis in group] for group in joined]
        if any(group != list(range(group[0], group[0] + len(group))) for group in own):  # they are no neighbours there
            return None
        lying = sorted(range(len(own)), key=lambda k: own[k][0])
    else:
        return None
    sizes = pattern_sizes(variable)
    return dimshuffle(reshape(inner, [sizes[axis] for axis in lying]), [lying.index(axis) for axis in range(variable.ndim)])
