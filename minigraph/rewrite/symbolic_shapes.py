"""Sizes are read where they are known earliest, so that nothing is computed for its shape alone; what passes ask of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.core.graph import Graph, Variable
from minigraph.ops.array.shape import Dimshuffle
from minigraph.ops.array.sizes import Size
from minigraph.ops.elementwise.base import Elementwise
from minigraph.rewrite.engine import changed

Source = tuple[Variable, int]
"""A variable and the axis of it that has the same size."""


def trace_sizes(graph: Graph) -> Graph:
    """The graph in which the size of an elementwise result of one array, or of reordered axes, is read off its operand."""
    sources: dict[Variable, tuple[Source, ...]] = {}

    def traced(variable: Variable) -> Variable:
        if isinstance(variable.op, Size):
            source, axis = sources[variable.inputs[0]][variable.op.axis]
            variable = variable if source is variable.inputs[0] else Size(axis)(source)
        if not isinstance(variable.type, tuple):
            sources[variable] = _sources(variable, sources)
        return variable

    return changed(graph, traced)


def _sources(variable: Variable, known: dict[Variable, tuple[Source, ...]]) -> tuple[Source, ...]:
    """For each axis of a variable the source from which its size can be read."""
    own = tuple((variable, axis) for axis in range(variable.ndim))
    op = variable.op
    if isinstance(op, Elementwise):
        wide = [one for one in variable.inputs if one.type.shape.count(1) < one.ndim]
        # with several arrays, only computing the result shows that their sizes agree
        return known[wide[0]] if len(wide) == 1 and wide[0].type.shape == variable.type.shape else own
    if isinstance(op, Dimshuffle):
        inner = known[variable.inputs[0]]
        return tuple(mine if axis is None else inner[axis] for mine, axis in zip(own, op.pattern, strict=True))
    return own


def split_axes(whole: Sequence[int | None], parts: Sequence[int | None]) -> list[list[int]] | None:
    """For each axis of one shape the axes of another that it is split into; None if that is not how they belong together."""
    groups: list[list[int]] = []
    remaining = list(enumerate(parts))
    for size in whole:
        if not remaining:
            return None
        group = [remaining.pop(0)]
        product = group[0][1]
        while None not in (size, product) and product != size and remaining and remaining[0][1] is not None:
            group.append(remaining.pop(0))
            product = (product or 0) * (group[-1][1] or 0)
        if product != size:
            return None
        groups.append([axis for axis, _ in group])
    return groups if not remaining and whole.count(None) <= 1 else None


def pattern_sizes(variable: Variable) -> list[Any]:
    """The shape that a broadcast or reshaped variable is given, known sizes as numbers."""
    remaining = iter(variable.inputs[1:])
    return [next(remaining) if size is None else size for size in variable.op.pattern]  # type: ignore[attr-defined]
