"""Short loops that are written out, so that a longer one around them, many of whose points are computed at once, is innermost.

So are folds of rows of a few elements, and of small windows. Neighbouring points of the longer loop then lie a few elements
apart, a number that is written into the code, for the processor to read them together and sort them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

from minigraph.compiler.loops.nest import Access, Apply, LoopNest
from minigraph.compiler.plan.steps import NestStep
from minigraph.core.dimensions import plain

MOST_POINTS, MOST_WORK = 64, 640
"""The most points that are written out for each of the others, and the most operations that these may take."""
SHORT, CLOSE = 8, 8
"""The most points that are written out where nothing is folded, or where their number is left open, which settles it; and the
most elements by which neighbours may lie apart.
"""
MOST_COLUMNS, MOST_BESIDE = 16, 64
"""The most columns of known number that are written out within the loops that fold them, and where all that is read lies close
along these loops, as in the gradient of filters.
"""
LONG = 4
"""The least number of points along the loop that becomes the innermost."""


def written_out(step: NestStep) -> LoopNest | None:
    """The nest of a step with its short inner loops written out; None if that is not worth it."""
    nest, lengths = step.nest, step.bindings.sizes
    kept = [axis for axis, fold in enumerate(nest.folded) if not fold]
    folded = [axis for axis, fold in enumerate(nest.folded) if fold]
    last = folded[-1] if folded else -1
    columns = [axis for axis in kept if axis > last] if folded else kept[-1:]
    for out, around in ((folded, kept), (columns, folded or kept[:-1])):
        if out and around and not nest.scatters and plain(lengths[around[-1]]) >= LONG and _is_short(step, out, around[-1]):
            return _changed(step, out, around[-1])
    return None


def _is_short(step: NestStep, axes: Sequence[int], axis: int) -> bool:
    """Whether the points along axes are few enough to be written out within the loop along an axis."""
    nest, lengths = step.nest, step.bindings.sizes
    if nest.shared in axes or (nest.shared is not None and 0 in axes):
        return False
    points = math.prod([plain(lengths[one]) for one in axes])
    work = points * sum([1 + node.op.cost for node in nest.nodes if isinstance(node, Apply)])
    return 1 < points <= _most_points(step, axes, axis) and work <= MOST_WORK


def _most_points(step: NestStep, axes: Sequence[int], axis: int) -> int:
    """The most points along axes that are written out within the loop along an axis."""
    folded, bindings = step.nest.folded, step.bindings
    if not any(folded) or not all(isinstance(bindings.sizes[one], int) for one in axes):
        return SHORT
    if folded[axes[0]]:
        return MOST_POINTS
    return MOST_BESIDE if all(plain(strides[axis]) <= CLOSE for strides in bindings.strides) else MOST_COLUMNS


def _changed(step: NestStep, out: Sequence[int], axis: int) -> LoopNest:
    """The nest of a step with axes written out within the loop along an axis."""
    nest = step.nest
    sizes = tuple([index(size) if axis in out else 0 for axis, size in enumerate(step.bindings.sizes)])
    places = zip(nest.operands, step.bindings.strides, strict=True)
    operands = tuple([_beside(one, strides, axis) for one, strides in places])
    return LoopNest(nest.folded, operands, nest.nodes, nest.stores, nest.scatters, nest.shared, written_out=sizes)


def _beside(access: Access, strides: Sequence[Any], axis: int) -> Access:
    """An access whose stride along an axis is a number in the code, if it is small."""
    stride = strides[axis]
    if not 1 < plain(stride) <= CLOSE:
        return access
    return Access(access.dtype, (*access.strides[:axis], index(stride), *access.strides[axis + 1 :]), access.in_memory)
