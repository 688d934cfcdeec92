"""Outputs that show axes in another order than they were computed in: what is cheap is computed in the order of the output.

It would be copied otherwise, element by element.
"""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.core.graph import Graph, Variable
from minigraph.core.walks import rebuild
from minigraph.ops.array.shape import Dimshuffle, dimshuffle
from minigraph.ops.elementwise.base import Elementwise
from minigraph.rewrite.engine import users_of


def order_outputs(graph: Graph) -> Graph:
    """The graph with cheap elementwise work that only an output shows, in another order of axes, done in that order."""
    users, ends = users_of(graph.variables), set(graph.outputs)

    def moves(shown: Variable, ndim: int) -> bool:
        """Whether a variable is computed in the order of an output with `ndim` axes."""
        alone = shown not in ends and len(users[shown]) == 1 and shown.ndim == ndim
        return isinstance(shown.op, Elementwise) and bool(shown.inputs) and shown.op.cost == 1 and alone

    def ordered(shown: Variable, order: Sequence[int]) -> Variable:
        """A variable with its axes in an order."""
        if moves(shown, len(order)):
            return shown.op(*[ordered(operand, order) for operand in shown.inputs])
        missing = len(order) - shown.ndim
        return shown if not shown.ndim else dimshuffle(shown, ["x" if axis < missing else axis - missing for axis in order])

    found = {
        root: ordered(root.inputs[0], [axis for axis in root.op.pattern if axis is not None])
        for root in graph.outputs
        if isinstance(root.op, Dimshuffle) and {*root.op.pattern} == {*range(root.ndim)}
        if moves(root.inputs[0], root.ndim) and root not in users
    }
    return graph.with_roots(rebuild(graph.roots, found)) if found else graph
