"""From what users write to what backends compute: annotations off, composites expanded."""

from __future__ import annotations

from functools import cache
from operator import attrgetter
from typing import Any

import numpy as np

from minigraph.core.conversion import constant, number
from minigraph.core.graph import Composite, Constant, Graph, Identity, Item, Op, Variable
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import transform, with_bodies
from minigraph.ops.control import GradientOp
from minigraph.ops.elementwise.base import Cast
from minigraph.ops.loop.loop import Scan
from minigraph.rewrite.engine import changed


def strip(graph: Graph) -> Graph:
    """The graph without the ops that are the identity of a value: annotations, recorded updates, changed gradients.

    What was made from Python numbers alone becomes constants, in the dtype of what it meets.
    """

    @cache
    def settled(variable: Variable) -> Variable:
        carry_on(variable.origin)
        return constant(variable.op.value) if variable.weak and isinstance(variable.op, Constant) else variable

    def bare(variable: Variable) -> Variable:
        while isinstance(variable.op, Identity | GradientOp):
            variable = variable.inputs[0]
        op = variable.op
        if isinstance(op, Scan) and op.updated:
            without = op.altered(updated=())
            return Variable(without, variable.inputs, variable.type, variable.name, variable.tags, variable.origin)
        if variable.weak or True in [one.weak for one in variable.inputs]:
            carry_on(variable.origin)
            known = _number(variable)
            return variable.with_inputs(tuple(map(settled, variable.inputs))) if known is None else known
        return variable

    with carry_origin(here()):
        return graph.with_roots([settled(root) for root in transform(graph.roots, bare)])


def _number(variable: Variable) -> Variable | None:
    """A variable computed from Python numbers alone as a constant: weak, or strong where it meets a dtype; None for others."""
    if not variable.inputs:
        return variable
    if not (variable.weak or type(variable.op) is Cast) or None in variable.type.shape:  # what follows is built for any size
        return None
    operands = [one.op for one in variable.inputs if isinstance(one.op, Constant)]
    exact = [op.exact for op in operands if op.exact is not None]
    if len(exact) < len(variable.inputs):
        return None
    try:
        with np.errstate(all="ignore"):
            if variable.weak:
                return number(variable.op.exactly(*exact), variable.dtype)
            return constant(exact[0], dtype=variable.dtype)
    except Exception:  # whatever it is, the user shall see it when the function is called
        return None


class Whole(Op):
    """A composite that is computed at once."""

    op: Composite
    shown = property(attrgetter("op"))
    infer = property(attrgetter("op.infer"))
    forward = property(attrgetter("op.whole"))


def keep_whole(graph: Graph) -> Graph:
    """The graph with composites not expanded whose `whole` is quicker for arrays than what they expand to."""

    def held(variable: Variable) -> Variable | None:
        op = variable.op
        if not isinstance(op, Composite) or type(op).whole is Composite.whole:
            return None
        return Variable(Whole(op), variable.inputs, variable.type, variable.name, variable.tags, variable.origin)

    return changed(graph, held)


def lower(graph: Graph) -> Graph:
    """The graph with every composite replaced by what it expands to, those within expansions too."""
    while any(isinstance(variable.op, Composite) for variable in with_bodies(graph.variables)):
        graph = _expanded_once(graph)
    return graph


def _expanded_once(graph: Graph) -> Graph:
    """The graph with its composites expanded, but not those that expansions contain."""

    @cache
    def results(whole: Variable) -> Any:
        carry_on(whole.origin)
        return whole.op.expand(*whole.inputs)  # type: ignore[attr-defined]

    def expanded(variable: Variable) -> Any:
        if isinstance(variable.op, Item) and isinstance(variable.inputs[0].op, Composite):
            return results(variable.inputs[0])[variable.op.index]
        if isinstance(variable.op, Composite) and not isinstance(variable.type, tuple):
            return results(variable)
        return None

    return changed(graph, expanded)
