"""The spread of a loop nest over a GPU: blocks, points of the parallel axes, lanes of the serial ones, vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minigraph.compiler.loops.nest import Bindings, Fold, Gather, Load, LoopNest
from minigraph.core.record import Record

THREADS, WARP = 256, 32
"""Threads of a block, and how many of them run in step."""

VECTOR_BYTES = 16
"""The most that one thread moves at once."""

BUSY = 132 * 2048
"""Threads that keep a large GPU busy."""

FEW, ENOUGH = 4, 16
"""The number of elements that a lane folds at least along columns, and along rows where there are many of these."""


class Arrangement(Record):
    """The spread of a nest over threads: points and lanes of a block, neighbouring elements of a thread, and blocks."""

    points: int
    lanes: int
    width: int
    blocks: int


def arrange(nest: LoopNest, bindings: Bindings, aligned: Sequence[int]) -> Arrangement:
    """The arrangement of a nest with these bindings; `aligned` tells by how many bytes each operand is aligned, at least."""
    kept, folded = (volume(bindings, nest, fold) for fold in (False, True))
    if not folds(nest):
        width = vector_width(nest, bindings, aligned)
        return Arrangement(THREADS, 1, width, -(-kept // (THREADS * width)))
    if nest.scatters:
        return Arrangement(THREADS, 1, 1, -(-kept // THREADS))
    if nest.by_column:
        points = next((one for one in (WARP, WARP // 2) if kept // one >= BUSY // THREADS // 4), WARP // 4)
        lanes = min(THREADS // points, _power_of_two(max(1, folded // FEW)))
        points = THREADS // lanes
        return Arrangement(points, lanes, 1, -(-kept // points))
    width = vector_width(nest, bindings, aligned) if any(nest.folded) else 1
    vectors = max(1, folded // width)
    lanes = min(THREADS, _power_of_two(vectors))
    while lanes > 1 and kept * lanes > BUSY and vectors < ENOUGH * lanes:
        lanes //= 2
    points = THREADS // lanes
    return Arrangement(points, lanes, width, -(-kept // points))


def folds(nest: LoopNest) -> bool:
    """Whether a nest has stages: something is folded, or at least done one after the other."""
    return any(nest.folded) or any(isinstance(node, Fold) for node in nest.nodes)


def volume(bindings: Bindings, nest: LoopNest, folded: bool) -> int:
    """The number of points that the parallel axes of a nest have with these bindings, or the `folded` ones."""
    return math.prod(size for size, fold in zip(bindings.sizes, nest.folded, strict=True) if fold == folded)


def _power_of_two(count: int) -> int:
    """The smallest power of 2 that is not less."""
    return 1 << (count - 1).bit_length()


def vector_width(nest: LoopNest, bindings: Bindings, aligned: Sequence[int]) -> int:
    """The elements along the innermost axis of a nest with these bindings that a thread moves at once; `aligned`: above."""
    if not bindings.sizes or nest.scatters:
        return 1
    walking = [k for k, one in enumerate(nest.operands) if one.in_memory and bindings.strides[k][-1]]
    if any(bindings.strides[k][-1] != 1 for k in walking):
        return 1
    whole = [k for k in walking if all(bindings.strides[k])]  # what is spread comes from the cache
    width = VECTOR_BYTES // max((nest.operands[k].dtype.itemsize for k in whole or walking), default=VECTOR_BYTES)

    def fits(width: int) -> bool:
        if bindings.sizes[-1] % width:
            return False
        for k in walking:
            itemsize = nest.operands[k].dtype.itemsize
            if aligned[k] % min(VECTOR_BYTES, width * itemsize):
                return False
            if any(
                stride % width for stride, size in zip(bindings.strides[k][:-1], bindings.sizes[:-1], strict=True) if size > 1
            ):
                return False
        return True

    while width > 1 and not fits(width):
        width //= 2
    return width


def spread_scatters(nest: LoopNest) -> LoopNest:
    """A nest that scatters with the axes folded along which two elements may meet, so that one thread goes along them."""
    if not nest.scatters or any(nest.folded):
        return nest
    varying = _varying(nest)
    (add,) = nest.scatters
    strides = nest.operands[add.operand].strides
    picked = set().union(*(varying[one] for one in add.indices)) if add.indices else set()
    folded = tuple(axis in picked or not stride for axis, stride in enumerate(strides))
    return LoopNest(folded, nest.operands, nest.nodes, nest.stores, nest.scatters)


def _varying(nest: LoopNest) -> list[set[int]]:
    """For each node the axes along which it varies."""
    result: list[set[int]] = []
    for k, node in enumerate(nest.nodes):
        axes = set().union(*(result[one] for one in nest.arguments_of(k)))
        if isinstance(node, Load | Gather):
            axes |= {axis for axis, stride in enumerate(nest.operands[node.operand].strides) if stride}
        if isinstance(node, Fold):
            axes -= {axis for axis, fold in enumerate(nest.folded) if fold}
        result.append(axes)
    return result
