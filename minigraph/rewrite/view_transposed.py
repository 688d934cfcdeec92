"""Outputs that show in another order of axes what a call computes are views, as NumPy's are: nothing is copied across.

Only what the call itself computes can be shown so, and what is no other root: results share memory neither with inputs or state
nor with each other. New state is no view; it lies in the order of C.
"""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.core.graph import Graph, Variable
from minigraph.core.types import TensorType
from minigraph.ops.array.shape import Dimshuffle
from minigraph.ops.elementwise.base import Elementwise
from minigraph.rewrite.engine import users_of


class TransposedView(Dimshuffle):
    """A view, with its axes in another order, that callers get of a result; no kernel copies it."""

    def compilable(self, *types: TensorType) -> bool:
        return False


def view_transposed(graph: Graph) -> Graph:
    """The graph with views in the place of outputs that show a computed value with its axes in another order."""
    users, roots = users_of(graph.variables), [*graph.roots]
    shown = set(roots)
    outputs = [*graph.outputs]
    for k, root in enumerate(graph.outputs):
        if _reorders(root) and roots.count(root) == 1 and root.inputs[0].inputs and root.inputs[0] not in shown:
            (value,) = root.inputs
            if _reads_along(value, _axes(root), users, shown) > 0:
                shown.add(value)
                outputs[k] = _viewed(root)
    return Graph(graph.inputs, tuple(outputs), graph.updates)


def _axes(variable: Variable) -> list[int]:
    """The axes of another that a variable shows, in their order in it; none if it does not show another's."""
    return [axis for axis in variable.op.pattern if axis is not None] if isinstance(variable.op, Dimshuffle) else []


def _reorders(variable: Variable) -> bool:
    """Whether a variable shows all axes of another in an order that is not theirs."""
    axes = _axes(variable)
    return axes != sorted(axes) and len(axes) == variable.inputs[0].ndim


def _viewed(variable: Variable) -> Variable:
    """A variable that shows another as a view of it."""
    assert isinstance(variable.op, Dimshuffle)
    view = TransposedView(variable.op.pattern)
    return Variable(view, variable.inputs, variable.type, variable.name, variable.tags, variable.origin)


def _reads_along(value: Variable, order: Sequence[int], users: dict[Variable, list[Variable]], ends: set[Variable]) -> int:
    """The number of arrays that are walked along if a value is computed in its own order, less those if in another one.

    Cheap elementwise work that nothing else needs can be done in either.
    """
    balance, pending = 0, [value]
    while pending:
        one = pending.pop()
        alone = one is value or (one not in ends and len(users[one]) == 1)
        if isinstance(one.op, Elementwise) and one.inputs and one.op.cost == 1 and alone:
            pending += [operand for operand in one.inputs if _is_whole(operand, value)]
        else:
            turned = isinstance(one.op, Dimshuffle) and [one.op.pattern[axis] for axis in order] == [*range(one.ndim)]
            balance += -1 if turned else 1
    return balance


def _is_whole(operand: Variable, value: Variable) -> bool:
    """Whether an operand is not stretched to the shape of a value."""
    return operand.ndim == value.ndim and all(
        mine != 1 or size == 1 for mine, size in zip(operand.type.shape, value.type.shape, strict=True)
    )
