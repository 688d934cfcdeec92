"""Applying rules to a graph until none fires."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minigraph.core.errors import ExecutionError
from minigraph.core.graph import Graph, Variable
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import transform

Rule = Callable[[Variable], Variable | None]
"""A variable in; an equal one, of the same type, out, or None where the rule does not apply."""

MOST_SWEEPS = 16
MOST_STEPS = 64


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Graph:
    """The graph with the rules applied to every variable until none applies, bounded so that it always ends."""

    settled: set[Variable] = set()  # what a rule sees never changes, so one look at each variable is enough

    def simplified(variable: Variable) -> Variable:
        if variable in settled:
            return variable
        carry_on(variable.origin)
        for _ in range(MOST_STEPS):
            better = _first_result(variable, rules)
            if better is None:
                settled.add(variable)
                return variable
            variable = better
        return variable

    roots = graph.roots
    with carry_origin(here()):
        for _ in range(MOST_SWEEPS):
            improved = transform(roots, simplified)
            if all(new is old for new, old in zip(improved, roots, strict=True)):
                break
            roots = improved
    return graph.with_roots(roots)


def _first_result(variable: Variable, rules: Sequence[Rule]) -> Variable | None:
    """What the first rule that applies makes of a variable."""
    for rule in rules:
        result = rule(variable)
        if result is not None and result is not variable:
            if not variable.type.admits(result.type):
                raise ExecutionError(
                    f"rule {rule.__name__} turned {variable!r} ({variable.origin}) into {result!r}: a rule must keep the type"
                )
            return result
    return None
