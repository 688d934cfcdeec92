"""Folds of much into little, done in blocks, which the cores of a processor share.

A fold over long columns, or of rows that are few, would be the work of one core. Blocks of what is folded are the work of many,
and always the same, however many cores there are; what they leave is folded again. All that is computed on the way, element
for element, stays in one loop with them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigraph.compiler.shaped.layout import sizes
from minigraph.core.graph import Array, Graph, Op, Variable
from minigraph.core.types import TensorType
from minigraph.ops.reduce.base import Reduction, Stages, State
from minigraph.rewrite.engine import changed

BLOCKS = 16
"""The number of blocks."""
MANY, FEW = 32768, 16
"""The least number of elements a result of a fold in blocks, and the most results."""
MANY_ROWS, FEW_COLUMNS = 8192, 512
"""The same of a fold over the leading axes, whose results are computed side by side."""


class BlockFold(Reduction):
    """The results of `fold` for each of `blocks` blocks, along a first axis; any equal parts of the elements are blocks."""

    fold: Reduction
    blocks: int

    @property
    def shown(self) -> Op:
        return self.fold

    def states(self, dtype: np.dtype[Any]) -> tuple[tuple[np.dtype[Any], Any], ...]:
        return self.fold.states(dtype)

    def add(self, xp: Any, state: State, x: Array, position: Array) -> State:
        return self.fold.add(xp, state, x, position)

    def merge(self, xp: Any, state: State, other: State) -> State:
        return self.fold.merge(xp, state, other)

    def result(self, xp: Any, state: State, dtype: np.dtype[Any]) -> Array:
        return self.fold.result(xp, state, dtype)

    def in_stages(self, length: int) -> Stages | None:
        stages = self.fold.in_stages(length)
        return stages and (BlockFold(self.axes, stages[0], self.blocks), *stages[1:])

    def forward(self, xp: Any, x: Array) -> Array:
        raise TypeError("only kernels fold in blocks")

    def infer(self, *types: TensorType) -> TensorType:
        whole = self.fold.infer(*types)
        return TensorType(whole.dtype, (self.blocks, *whole.shape))


def block_folds(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with folds of much into little done block by block."""

    def step(variable: Variable) -> Variable | None:
        op = variable.op
        if not isinstance(op, Reduction) or op.blocks or not _pays(variable):
            return None
        return op.by_blocks(variable.inputs[0], lambda fold: BlockFold(fold.axes, fold, BLOCKS)(variable.inputs[0]))

    return changed(graph, step)


def _pays(variable: Variable) -> bool:
    """Whether a fold is worth blocks."""
    (x,), op = variable.inputs, variable.op
    assert isinstance(op, Reduction)
    rows, results = math.prod([sizes(x)[axis] for axis in op.axes]), math.prod(sizes(variable))
    leads = op.axes == tuple(range(len(op.axes)))
    return (rows >= MANY and 0 < results <= FEW) or (leads and rows >= MANY_ROWS and 1 < results <= FEW_COLUMNS)
