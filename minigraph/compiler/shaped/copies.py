"""Copies where strides cannot say what a kernel needs, or where it would stride over the same elements many times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from minigraph.compiler.shaped.layout import (
    Layout,
    is_contiguous,
    is_counted,
    is_gather,
    is_multipliable,
    is_view,
    keeps_order,
    layout_of,
    sizes,
)
from minigraph.compiler.shaped.target_ops import Copy, IntegerMatMul, Packed, PackedMatMul, ScatteredMatMul
from minigraph.core.dimensions import plain
from minigraph.core.graph import Graph, Variable
from minigraph.core.walks import transform
from minigraph.ops.array.shape import BroadcastTo, dimshuffle
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan

ALONG, TIMES, READS = 8, 64, 2**16
"""The least elements along an axis, times that each element is read, and reads in all, from which a copy pays that lies along
that axis."""


def insert_copies(graph: Graph) -> Graph:
    """The graph with copies where strides cannot say what is wanted: reshapes of scattered memory, matrices with gaps.

    A variable that counts positions has no memory, and is copied where some is needed. Outputs are computed variables, each in
    memory of its own.
    """
    copies = _Copies()
    seen: set[Variable] = set()
    outputs = []
    for root in transform(graph.roots, copies.over):
        shared = not root.inputs or is_view(root) or is_counted(root) or root in seen
        outputs.append(copies.of(root) if shared else root)
        seen.add(root)
    return Graph(graph.inputs, tuple(outputs))


class _Copies:
    """The layouts of what is there, and copies of what does not lie as a kernel needs it."""

    def __init__(self) -> None:
        self.layouts: dict[Variable, Layout] = {}

    def known(self, variable: Variable) -> Variable:
        """The variable, whose layout is known from here on."""
        self.layouts[variable] = layout_of(variable, self.layouts)
        return variable

    def of(self, variable: Variable) -> Variable:
        """A copy of a variable."""
        return self.known(Variable(Copy(), (variable,), variable.type, None, (), variable.origin))

    def over(self, variable: Variable) -> Variable:
        """A variable over operands that lie as its op needs them."""
        operands = tuple(self._operands(variable))
        return self.known(variable.with_inputs(operands) if operands != variable.inputs else variable)

    def _operands(self, variable: Variable) -> Iterable[Variable]:
        """The operands of a variable, copied where they must be."""
        op, operands = variable.op, variable.inputs
        match op:
            case MatMul() | IntegerMatMul():
                return [self._multipliable(one, sizes(variable)[:-2]) for one in operands]
            case ScatteredMatMul():
                return self._in_memory(operands[0]), self._multipliable(operands[1], sizes(operands[1])[:-2])
            case Packed() | PackedMatMul():
                return self._multipliable(operands[0], ()), *operands[1:]
            case Elementwise() if len(operands) > 1:
                return self._along(operands, sizes(variable))
            case _ if op.runs:
                return (self._in_rows(operands[0], 0),)
            case _ if op.slides:
                return [self._in_rows(one, 0) for one in operands]
            case Scan():
                rows = range(1, 1 + op.sequences)
                return operands[0], *(self._in_rows(one, int(k in rows)) for k, one in enumerate(operands[1:], 1))
        if keeps_order(variable) and not is_contiguous(self.layouts[operands[0]], sizes(operands[0])):
            return self.of(operands[0]), *operands[1:]
        return (self._in_memory(operands[0]), *operands[1:]) if is_gather(variable) else operands

    def _along(self, operands: Sequence[Variable], shape: Sequence[int]) -> Iterable[Variable]:
        """The operands of an elementwise op; those that are read many times over lie along with one that is not."""
        extents = [*map(plain, shape)]
        whole = [self._steps(one) for one in operands if [*map(plain, sizes(one))] == extents and not is_counted(one)]
        lying = [axis for axis, step in enumerate(whole[0]) if step == 1 and extents[axis] >= ALONG] if whole else []
        return [self._turned(one, len(shape) - lying[0], math.prod(shape)) for one in operands] if lying else operands

    def _steps(self, variable: Variable) -> list[int]:
        """The strides of a variable, for what only speed depends on."""
        return [*map(plain, self.layouts[variable].strides)]

    def _turned(self, variable: Variable, place: int, reads: int) -> Variable:
        """A variable, copied so that its elements along an axis, which has a `place` counted from the end, lie side by side if
        they do not, and are read often enough."""
        axis = variable.ndim - place
        if axis < 0 or self._steps(variable)[axis] in (0, 1) or is_counted(self.layouts[variable].storage):
            return variable
        if reads < READS or math.prod(sizes(variable)) * TIMES > reads:
            return variable
        order = [*(k for k in range(variable.ndim) if k != axis), axis]
        copy = self.of(self.known(dimshuffle(variable, order)))
        return self.known(dimshuffle(copy, [order.index(k) for k in range(variable.ndim)]))

    def _in_memory(self, variable: Variable) -> Variable:
        """A variable that lies in memory."""
        return self.of(variable) if is_counted(self.layouts[variable].storage) else variable

    def _in_rows(self, variable: Variable, axis: int) -> Variable:
        """A variable whose memory is contiguous from an axis on, as the bodies of loops, and running sums, take it."""
        layout, shape = self.layouts[variable], sizes(variable)
        whole = is_contiguous(Layout(layout.storage, layout.strides[axis:], 0), shape[axis:])
        return variable if whole and not is_counted(layout.storage) else self.of(variable)

    def _multipliable(self, matrix: Variable, stack: Sequence[int]) -> Variable:
        """A stack of matrices that lies as BLAS takes it."""
        layout = self.layouts[matrix]
        if not is_counted(layout.storage) and is_multipliable(layout, sizes(matrix), stack):
            return matrix
        target = (*stack, *sizes(matrix)[-2:])
        return self.of(matrix if target == sizes(matrix) else self.known(BroadcastTo(target, ())(matrix)))
