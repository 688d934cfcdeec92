"""Equal computations are done once."""

from __future__ import annotations

from collections.abc import Hashable

from minigraph.core.graph import Constant, Graph, Op, Variable
from minigraph.core.walks import transform

LARGEST_CONSTANT = 4096
"""The size in bytes up to which constants are compared by value."""


def merge(graph: Graph) -> Graph:
    """The graph in which variables of one op on the same inputs are one variable."""
    seen: dict[Hashable, Variable] = {}
    return graph.with_roots(transform(graph.roots, lambda variable: seen.setdefault(_key(variable), variable)))


def _key(variable: Variable) -> Hashable:
    """A key that two variables have in common only if they always have the same value."""
    op = variable.op
    if isinstance(op, Constant):
        value = op.value
        return (value.dtype, value.shape, value.tobytes()) if value.nbytes <= LARGEST_CONSTANT else variable
    if not variable.inputs or not op.pure or (op.shown.foreign and not _is_hashable(op)):
        return variable
    return (type(op), op, *map(id, variable.inputs))


def _is_hashable(op: Op) -> bool:
    """Whether an op can be compared: one from outside of the package may have fields of any kind."""
    try:
        hash(op)
    except TypeError:
        return False
    return True
