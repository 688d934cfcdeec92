"""A graph without what tells how it was made: it computes the same anywhere, without the layers and folders it came from."""

from __future__ import annotations

from pathlib import Path

from minigraph.core.graph import Graph, Variable, is_annotation, toposort
from minigraph.core.origin import Origin
from minigraph.ops.loop.loop import Scan


def anonymous(graph: Graph) -> Graph:
    """The graph of fresh variables without annotations and tags, that come from files without folders; in loops, too.

    Types stay as they were found, and shared variables keep their cells.
    """
    made: dict[Variable, Variable] = {}
    for one in toposort([*graph.inputs, *(target for target, _ in graph.updates), *graph.roots]):
        op = one.op
        if is_annotation(op) and not op.foreign:
            made[one] = made[one.inputs[0]]
            continue
        if isinstance(op, Scan):
            op = op.altered(body=anonymous(op.body))
        origin = Origin(Path(one.origin.filename).name, one.origin.line, one.origin.layer)
        made[one] = Variable(op, tuple([made[given] for given in one.inputs]), one.type, one.name, (), origin)
    return Graph(
        tuple([made[one] for one in graph.inputs]),
        tuple([made[one] for one in graph.outputs]),
        tuple([(made[target], made[value]) for target, value in graph.updates]),
    )
