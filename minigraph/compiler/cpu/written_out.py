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
LONG = 8
"""The least number of points along the loop that becomes the innermost."""


def written_out(step: NestStep) -> LoopNest | None:
    """The nest of a step with its short inner loops written out; None if that is not worth it."""
    nest, lengths = step.nest, step.bindings.sizes
    kept = [axis for axis, fold in enumerate(nest.folded) if not fold]
    out = [axis for axis, fold in enumerate(nest.folded) if fold] or kept[-1:]
    around = [axis for axis in kept if axis not in out]
    short = [lengths[axis] for axis in out]
    if nest.scatters or nest.shared is not None or not around or plain(lengths[around[-1]]) < LONG:
        return None
    points = math.prod(map(plain, short))
    most = MOST_POINTS if any(nest.folded) and all(isinstance(size, int) for size in short) else SHORT
    work = points * sum([1 + node.op.cost for node in nest.nodes if isinstance(node, Apply)])
    if not 1 < points <= most or work > MOST_WORK:
        return None
    settled = tuple([index(size) if axis in out else 0 for axis, size in enumerate(lengths)])
    places = zip(nest.operands, step.bindings.strides, strict=True)
    operands = tuple([_beside(one, strides, around[-1]) for one, strides in places])
    return LoopNest(nest.folded, operands, nest.nodes, nest.stores, nest.scatters, None, None, settled)


def _beside(access: Access, strides: Sequence[Any], axis: int) -> Access:
    """An access whose stride along an axis is a number in the code, if it is small."""
    stride = strides[axis]
    if not 1 < plain(stride) <= CLOSE:
        return access
    return Access(access.dtype, (*access.strides[:axis], index(stride), *access.strides[axis + 1 :]), access.in_memory)
