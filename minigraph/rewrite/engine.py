"""Applying rules to a graph until none fires."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from minigraph.core.errors import ExecutionError
from minigraph.core.graph import Graph, Variable
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import transform

Rule = Callable[[Variable], Variable | None]
"""A variable in; an equal one, of the same type, out, or None where the rule does not apply."""

MOST_SWEEPS = 16
MOST_STEPS = 64


def changed(graph: Graph, step: Rule) -> Graph:
    """The graph in which each variable, its inputs changed already, became what a step makes of it at its origin."""

    def made(variable: Variable) -> Variable:
        carry_on(variable.origin)
        result = step(variable)
        return variable if result is None else result

    with carry_origin(here()):
        return graph.with_roots(transform(graph.roots, made))


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph with the rules applied to every variable until none applies, bounded so that it always ends."""

    settled: set[Variable] = set()  # what a rule sees never changes, so one look at each variable is enough

    def simplified(variable: Variable) -> Variable:
        for _ in range(0 if variable in settled else MOST_STEPS):
            better = _first_result(variable, rules)
            if better is None:
                settled.add(variable)
                return variable
            variable = better
        return variable

    for _ in range(MOST_SWEEPS):
        improved = changed(graph, simplified)
        if improved.roots == graph.roots:
            break
        graph = improved
    return graph


def users_of(variables: Iterable[Variable]) -> dict[Variable, list[Variable]]:
    """For each variable those of `variables` that take it, in order, once for each time that they do."""
    users: dict[Variable, list[Variable]] = {}
    for one in variables:
        for operand in one.inputs:
            users.setdefault(operand, []).append(one)
    return users


def _first_result(variable: Variable, rules: Sequence[Rule]) -> Variable | None:
    """The result of the first rule that applies to a variable."""
    for rule in rules:
        result = rule(variable)
        if result is not None and result is not variable:
            if not variable.type.admits(result.type):
                raise ExecutionError(
                    f"rule {rule.__name__} turned {variable!r} ({variable.origin}) into {result!r}: a rule must keep the type"
                )
            return result
    return None
