"""From what users write to what backends compute: annotations off, composites expanded."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.conversion import constant, number
from minigraph.core.graph import Composite, Constant, Graph, Identity, Item, Variable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import transform, with_bodies
from minigraph.ops.control import GradientOp
from minigraph.ops.elementwise.base import Cast
from minigraph.ops.loop.loop import Scan


def strip(graph: Graph) -> Graph:
    """The graph without the ops that are the identity of a value: annotations, recorded updates, changed gradients.

    What was made from Python numbers alone becomes constants, in the dtype of what it meets.
    """
    strong: dict[Variable, Variable] = {}

    def settled(variable: Variable) -> Variable:
        if not variable.weak:
            return variable
        if variable not in strong:
            carry_on(variable.origin)
            strong[variable] = constant(variable.op.value) if isinstance(variable.op, Constant) else variable
        return strong[variable]

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
            return variable.with_inputs(tuple([settled(one) for one in variable.inputs])) if known is None else known
        return variable

    with carry_origin(here()):
        return graph.with_roots([settled(root) for root in transform(graph.roots, bare)])


def _number(variable: Variable) -> Variable | None:
    """What is computed from Python numbers alone as a constant: weak, or strong where it meets a dtype; None if it is not."""
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


def lower(graph: Graph) -> Graph:
    """The graph with every composite replaced by what it expands to, those within expansions too."""
    roots = graph.roots
    while any(isinstance(variable.op, Composite) for variable in with_bodies(toposort(roots))):
        roots = _expanded_once(roots)
    return graph.with_roots(roots)


def _expanded_once(roots: list[Variable]) -> list[Variable]:
    """The roots with the composites in their graph expanded, but not those that expansions contain."""
    several: dict[Variable, tuple[Variable, ...]] = {}

    def expanded(variable: Variable) -> Variable:
        if isinstance(variable.op, Item) and isinstance(variable.inputs[0].op, Composite):
            whole = variable.inputs[0]
            if whole not in several:
                several[whole] = _expand(whole)
            return several[whole][variable.op.index]
        if isinstance(variable.op, Composite) and not isinstance(variable.type, tuple):
            variable = _expand(variable)
        return variable

    with carry_origin(here()):
        return transform(roots, expanded)


def _expand(variable: Variable) -> Any:
    """What a composite expands to, with the composite's origin."""
    carry_on(variable.origin)
    return variable.op.expand(*variable.inputs)  # type: ignore[attr-defined]
