"""Where the elements of a value lie: views as strides over the memory of what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minigraph.core.dimensions import taken
from minigraph.core.graph import Graph, Op, Variable
from minigraph.core.record import Record
from minigraph.core.types import TensorType
from minigraph.core.walks import transform
from minigraph.ops.array.creation import Arange
from minigraph.ops.array.indexing import Hole, Index, Range
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape
from minigraph.ops.array.windows import Windows
from minigraph.ops.elementwise.base import Cotangents, Elementwise
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan


class Copy(Elementwise):
    """The same values in memory of their own, in C order."""

    kinds = "biuf"

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
    match variable.op:
        case Dimshuffle() | BroadcastTo() | Reshape() | Windows():
            return True
        case Index():
            return len(variable.inputs) == 1
    return False


def layout_of(variable: Variable, known: dict[Variable, Layout]) -> Layout:
    """The layout of a variable, given those of its inputs."""
    if isinstance(variable.type, tuple):
        return Layout(variable, (), 0)
    if not is_view(variable):
        return Layout(variable, contiguous(sizes(variable)), 0)
    shown = known[variable.inputs[0]]
    storage, strides, offset = shown.storage, shown.strides, shown.offset
    shape = sizes(variable.inputs[0])
    match variable.op:
        case Dimshuffle(pattern):
            return Layout(storage, tuple(0 if axis is None else strides[axis] for axis in pattern), offset)
        case BroadcastTo(pattern, _):
            added = len(pattern) - len(strides)
            kept = [0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True)]
            return Layout(storage, (0,) * added + tuple(kept), offset)
        case Windows(axes, _, steps, dilations):
            own = list(strides)
            for axis, step in zip(axes, steps, strict=True):
                own[axis] *= step
            inner = [strides[axis] * dilation for axis, dilation in zip(axes, dilations, strict=True)]
            return Layout(storage, (*own, *inner), offset)
        case Reshape():
            return Layout(storage, contiguous(sizes(variable)), offset)
    return Layout(storage, *indexed(variable.op.entries, shape, strides, offset))  # type: ignore[attr-defined]


def indexed(entries: Sequence[Any], shape: Sequence[int], strides: Sequence[int], offset: int) -> tuple[tuple[int, ...], int]:
    """Strides and offset of what an index of integers, slices and new axes shows; holes take an axis without a stride."""
    result: list[int] = []
    axis = 0
    for entry in entries:
        if entry is None:
            result.append(0)
            continue
        if isinstance(entry, Range):
            start, length, step = taken(entry.start, entry.stop, entry.step, shape[axis])
            offset += start * strides[axis] if length else 0
            result.append(step * strides[axis] if length > 1 else 0)
        elif not isinstance(entry, Hole):
            offset += (entry + shape[axis] if entry < 0 else entry) * strides[axis]
        axis += 1
    return tuple(result), offset


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


def with_copies(graph: Graph) -> tuple[Graph, dict[Variable, Layout]]:
    """The graph with copies where strides cannot say what is wanted: reshapes of scattered memory, matrices with gaps.

    What counts positions is in no memory, and is copied where one is needed. Outputs are computed variables, each in memory of
    its own. Also returns the layout of every variable.
    """
    layouts: dict[Variable, Layout] = {}

    def in_rows(variable: Variable, axis: int) -> Variable:
        """A variable whose memory is one piece from an axis on, as the bodies of loops take it."""
        layout, shape = layouts[variable], sizes(variable)
        whole = is_contiguous(Layout(layout.storage, layout.strides[axis:], 0), shape[axis:])
        return variable if whole and not isinstance(layout.storage.op, Arange) else copied(variable)

    def known(variable: Variable) -> Variable:
        layouts[variable] = layout_of(variable, layouts)
        return variable

    def copied(variable: Variable) -> Variable:
        return known(Variable(Copy(), (variable,), variable.type, None, (), variable.origin))

    def settled(variable: Variable) -> Variable:
        operands = list(variable.inputs)
        if isinstance(variable.op, Reshape) and not is_contiguous(layouts[operands[0]], sizes(operands[0])):
            operands[0] = copied(operands[0])
        if isinstance(variable.op, MatMul):
            stack = sizes(variable)[:-2]
            for position, one in enumerate(operands):
                nowhere = isinstance(layouts[one].storage.op, Arange)
                if nowhere or not is_multipliable(layouts[one], sizes(one), stack):
                    spread = BroadcastTo((*stack, *sizes(one)[-2:]), ())(one)
                    operands[position] = copied(known(spread))
        if isinstance(variable.op, ScatteredMatMul):
            if isinstance(layouts[operands[0]].storage.op, Arange):
                operands[0] = copied(operands[0])
            if not is_multipliable(layouts[operands[1]], sizes(operands[1]), ()):
                operands[1] = copied(operands[1])
        if isinstance(variable.op, Packed | PackedMatMul) and not is_multipliable(layouts[operands[0]], sizes(operands[0]), ()):
            operands[0] = copied(operands[0])
        if isinstance(variable.op, Index) and not is_view(variable) and isinstance(layouts[operands[0]].storage.op, Arange):
            operands[0] = copied(operands[0])
        if isinstance(variable.op, Scan):
            rows = range(1, 1 + variable.op.sequences)
            operands[1:] = [in_rows(one, int(place in rows)) for place, one in enumerate(operands[1:], 1)]
        return known(variable.with_inputs(tuple(operands)) if tuple(operands) != variable.inputs else variable)

    roots = transform(graph.roots, settled)
    seen: set[Variable] = set()
    outputs = []
    for root in roots:
        own = not root.inputs or is_view(root) or isinstance(root.op, Arange) or root in seen
        outputs.append(copied(root) if own else root)
        seen.add(root)
    return Graph(graph.inputs, tuple(outputs)), layouts
