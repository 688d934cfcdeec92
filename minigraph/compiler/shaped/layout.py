"""The places of the elements of a value: views as strides over the memory of what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from minigraph.core.graph import Graph, Variable
from minigraph.core.index_map import IndexMap
from minigraph.core.record import Record
from minigraph.ops.array.selection import Counting, Selection


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
    """The map from the elements of a selection to those of its first operand."""
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
    """The number of elements in C order that lie side by side."""
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
    """Whether BLAS takes this layout and shape: one of the last two axes without gaps, the stack in one stride, or none."""
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
