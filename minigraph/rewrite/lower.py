"""From what users write to what backends compute: annotations off, composites expanded."""

from __future__ import annotations

from typing import Any

from minigraph.graph import Composite, Graph, Identity, Item, Variable, toposort, transform, with_bodies
from minigraph.ops.control import GradientOp
from minigraph.origin import carry_on, carry_origin, here


def strip(graph: Graph) -> Graph:
    """The graph without the ops that are the identity of a value: annotations, recorded updates, changed gradients."""

    def bare(variable: Variable) -> Variable:
        while isinstance(variable.op, Identity | GradientOp):
            variable = variable.inputs[0]
        return variable

    return graph.with_roots(transform(graph.roots, bare))


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
