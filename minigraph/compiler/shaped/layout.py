"""Where the elements of a value lie: views as strides over the memory of what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minigraph.core.graph import Graph, Op, Variable
from minigraph.core.index_map import IndexMap
from minigraph.core.record import Record
from minigraph.core.types import TensorType
from minigraph.core.walks import transform
from minigraph.ops.array.selection import Counting, Selection
from minigraph.ops.array.shape import BroadcastTo
from minigraph.ops.elementwise.base import Cotangents, Elementwise
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan


class Copy(Elementwise):
    """The same values in memory of their own, in C order."""

    kinds = "biuf"
    cost = 1

    def forward(self, xp: Any, x: Any) -> Any:
        return x

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (dy,)


class Packed(Op):
    """A matrix packed for products with it on the right, once for many of them; only products know what lies where."""

    size: int

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, (self.size,))


class PackedMatMul(Op):
    """The product with a packed matrix of so many columns."""

    columns: int

    def infer(self, *types: TensorType) -> TensorType:
        return TensorType(types[0].dtype, (types[0].shape[0], self.columns))


class ScatteredMatMul(Op):
    """The product of a matrix and another, of which the first is an array, so many of whose axes make rows, the others columns;
    `turned`: of its transposed. Sums of a turned one are left in so many parts, in a stack.
    """

    rows: int
    turned: bool
    parts: int

    def infer(self, *types: TensorType) -> TensorType:
        shown, matrix = types
        height = math.prod(size or 0 for size in (shown.shape[self.rows :] if self.turned else shown.shape[: self.rows]))
        stack = (self.parts,) if self.parts > 1 else ()
        return TensorType(shown.dtype, (*stack, height, matrix.shape[1]))


class Layout(Record):
    """The variable whose memory it is, a stride in elements for each axis, and where the first element lies."""

    storage: Variable
    strides: tuple[int, ...]
    offset: int


def sizes(variable: Variable) -> tuple[int, ...]:
    """The shape of a variable, all of it known."""
    shape = variable.type.shape
    assert None not in shape
    return shape  # type: ignore[return-value]


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array in C order, 0 along axes of size 1."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step if size != 1 else 0)
        step *= size
    return tuple(reversed(strides))


def is_view(variable: Variable) -> bool:
    """Whether a variable shows another's memory."""
    return isinstance(variable.op, Selection) and variable.op.is_view(*[one.type for one in variable.inputs])


def map_of(variable: Variable) -> IndexMap:
    """Where the elements of a selection come from in its first operand."""
    shown = variable.op.index_map(*[one.type for one in variable.inputs])
    assert shown is not None
    return shown


def layout_of(variable: Variable, known: dict[Variable, Layout]) -> Layout:
    """The layout of a variable, given those of its inputs."""
    if isinstance(variable.type, tuple):
        return Layout(variable, (), 0)
    if not is_view(variable):
        return Layout(variable, contiguous(sizes(variable)), 0)
    shown = known[variable.inputs[0]]
    if keeps_order(variable):
        return Layout(shown.storage, contiguous(sizes(variable)), shown.offset)
    return Layout(shown.storage, *map_of(variable).strided(shown.strides, shown.offset))


def is_counted(variable: Variable) -> bool:
    """Whether a variable is in no memory: each element is computed from its position wherever it is read."""
    return isinstance(variable.op, Counting) and variable.op.cheap


def is_gather(variable: Variable) -> bool:
    """Whether a variable picks elements of another where integers say."""
    return isinstance(variable.op, Selection) and not is_view(variable)


def keeps_order(variable: Variable) -> bool:
    """Whether a variable shows all elements of another in C order."""
    return isinstance(variable.op, Selection) and variable.op.in_order


def piece(shape: Sequence[int], strides: Sequence[int]) -> int:
    """How many elements in C order lie side by side."""
    length = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != length:
            break
        length *= size
    return length


def is_contiguous(layout: Layout, shape: Sequence[int]) -> bool:
    """Whether elements lie one after the other in C order."""
    return 0 in shape or all(
        size == 1 or mine == stride for size, mine, stride in zip(shape, layout.strides, contiguous(shape), strict=True)
    )


def is_multipliable(layout: Layout, shape: Sequence[int], stack: Sequence[int]) -> bool:
    """Whether matrices lie as BLAS takes them: one of the last two axes without gaps, the stack in one stride, or none."""
    rows, columns = shape[-2:]
    far, near = layout.strides[-2:]
    plain = (near == 1 or columns == 1) and (far >= columns or rows == 1)
    turned = (far == 1 or rows == 1) and (near >= rows or columns == 1)
    return (plain or turned) and _is_one_stride(layout.strides[:-2], shape[:-2], stack)


def _is_one_stride(strides: Sequence[int], shape: Sequence[int], stack: Sequence[int]) -> bool:
    """Whether the leading axes are walked in one stride along a stack, or not at all."""
    if all(size == 1 for size in shape):
        return True
    walked = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size != 1]
    even = all(far == near * size for (_, far), (size, near) in zip(walked[:-1], walked[1:], strict=True))
    return even and math.prod(shape) == math.prod(stack)


def layouts_of(graph: Graph) -> dict[Variable, Layout]:
    """The layout of every variable."""
    found: dict[Variable, Layout] = {}
    for variable in graph.variables:
        found[variable] = layout_of(variable, found)
    return found


def insert_copies(graph: Graph) -> Graph:
    """The graph with copies where strides cannot say what is wanted: reshapes of scattered memory, matrices with gaps.

    A variable that counts positions has no memory, and is copied where some is needed. Outputs are computed variables, each in
    memory of its own.
    """
    layouts: dict[Variable, Layout] = {}

    def in_rows(variable: Variable, axis: int) -> Variable:
        """A variable whose memory is one piece from an axis on, as the bodies of loops take it."""
        layout, shape = layouts[variable], sizes(variable)
        whole = is_contiguous(Layout(layout.storage, layout.strides[axis:], 0), shape[axis:])
        return variable if whole and not is_counted(layout.storage) else copied(variable)

    def known(variable: Variable) -> Variable:
        layouts[variable] = layout_of(variable, layouts)
        return variable

    def copied(variable: Variable) -> Variable:
        return known(Variable(Copy(), (variable,), variable.type, None, (), variable.origin))

    def settled(variable: Variable) -> Variable:
        operands = list(variable.inputs)
        if keeps_order(variable) and not is_contiguous(layouts[operands[0]], sizes(operands[0])):
            operands[0] = copied(operands[0])
        if isinstance(variable.op, MatMul):
            stack = sizes(variable)[:-2]
            for position, one in enumerate(operands):
                nowhere = is_counted(layouts[one].storage)
                if nowhere or not is_multipliable(layouts[one], sizes(one), stack):
                    spread = BroadcastTo((*stack, *sizes(one)[-2:]), ())(one)
                    operands[position] = copied(known(spread))
        if isinstance(variable.op, ScatteredMatMul):
            if is_counted(layouts[operands[0]].storage):
                operands[0] = copied(operands[0])
            if not is_multipliable(layouts[operands[1]], sizes(operands[1]), ()):
                operands[1] = copied(operands[1])
        if isinstance(variable.op, Packed | PackedMatMul) and not is_multipliable(layouts[operands[0]], sizes(operands[0]), ()):
            operands[0] = copied(operands[0])
        if is_gather(variable) and is_counted(layouts[operands[0]].storage):
            operands[0] = copied(operands[0])
        if isinstance(variable.op, Scan):
            rows = range(1, 1 + variable.op.sequences)
            operands[1:] = [in_rows(one, int(place in rows)) for place, one in enumerate(operands[1:], 1)]
        return known(variable.with_inputs(tuple(operands)) if tuple(operands) != variable.inputs else variable)

    roots = transform(graph.roots, settled)
    seen: set[Variable] = set()
    outputs = []
    for root in roots:
        own = not root.inputs or is_view(root) or is_counted(root) or root in seen
        outputs.append(copied(root) if own else root)
        seen.add(root)
    return Graph(graph.inputs, tuple(outputs))
