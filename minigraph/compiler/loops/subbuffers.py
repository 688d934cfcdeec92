"""Values that are only parts of others, and where in those they are written to at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minigraph.compiler.loops.fusion import Grouping
from minigraph.compiler.shaped.layout import Layout, is_view, map_of, sizes
from minigraph.core.graph import Constant, Graph, Variable
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.indexing import Assign


def parts_in_place(graph: Graph, grouping: Grouping) -> dict[Variable, Layout]:
    """The values that nothing needs but what they are a part of, and their places there."""
    layouts = grouping.layouts
    readers: dict[Variable, list[Variable]] = {}
    for variable in graph.variables:
        for operand in () if is_view(variable) else variable.inputs:
            readers.setdefault(layouts[operand].storage, []).append(variable)
    kept = {layouts[root].storage for root in graph.outputs}
    found: dict[Variable, Layout] = {}
    for whole in graph.variables:
        for part, place in parts_of(whole, layouts):
            storage = layouts[part].storage
            group = grouping.group_of.get(storage)
            alone = readers[storage] == [whole] and storage not in kept
            same = layouts[part] == layouts[storage] and sizes(part) == sizes(storage)
            if group and not group.alone and alone and same:
                found[storage] = place
    return found


def parts_of(whole: Variable, layouts: Mapping[Variable, Layout]) -> Iterator[tuple[Variable, Layout]]:
    """The values that are joined, or put into a constant, and their places in the result."""
    match whole.op:
        case Concatenate(axis):
            start, own = 0, layouts[whole]
            for part in whole.inputs:
                yield part, Layout(whole, own.strides, own.offset + start * own.strides[axis])
                start += sizes(part)[axis]
        case Assign(adds=False) if len(whole.inputs) == 2 and isinstance(layouts[whole.inputs[0]].storage.op, Constant):
            own = layouts[whole]
            yield whole.inputs[1], Layout(whole, *map_of(whole).strided(own.strides, own.offset))
