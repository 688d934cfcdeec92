"""Updates that are asked for inside of loops: what they change is a state of the loop, and one update outside of it."""

from __future__ import annotations

from typing import Any

from minigraph.errors import InvalidValueError
from minigraph.graph import Graph, Item, Variable, from_inside, rebuild, toposort
from minigraph.ops.control import DefaultUpdate, computed_by, with_default_update
from minigraph.ops.indexing import index
from minigraph.ops.loop import Scan, results_of, stand_in


def carry_updates(roots: list[Variable]) -> list[Variable]:
    """The roots of a graph in which the updates asked for in bodies of loops are applied step after step."""
    if not any(isinstance(one.op, Scan) for one in toposort(roots)):
        return roots
    return from_inside(roots, _carried_at_this_level)


def _carried_at_this_level(roots: list[Variable]) -> list[Variable]:
    """The roots with the loops that they depend on changed, but not those inside of loops."""
    done: set[Variable] = set()
    while True:
        order = toposort(roots)
        whole = next((one for one in order if isinstance(one.op, Scan) and one not in done), None)
        if whole is None:
            return roots
        changed, updates = carried(whole)
        done.add(changed)
        if updates:
            results = [with_default_update(one, updates) for one in matching_results(whole, changed)]
            items = [one for one in order if isinstance(one.op, Item) and one.inputs[0] is whole]
            roots = rebuild(roots, {item: results[item.op.index] for item in items})  # type: ignore[attr-defined]


def carried(whole: Variable) -> tuple[Variable, dict[Variable, Variable]]:
    """A loop with a state more for each captured variable that its body asks to update, and what these are in the end."""
    op = whole.op
    assert isinstance(op, Scan)
    sequences, states, shared = op.split(list(zip(op.body.inputs, whole.inputs[1:], strict=True)))
    asked = _asked(op.body, {inner for inner, _ in shared})
    if not asked:
        return whole, {}
    outer = dict(shared)
    fresh = {target: stand_in(target) for target in asked}
    roots = rebuild([*op.body.outputs, *asked.values()], fresh)
    old, new = roots[: len(op.body.outputs)], roots[len(op.body.outputs) :]
    added = [(fresh[target], outer[target]) for target in asked]
    pairs = [*sequences, *states, *added, *((inner, one) for inner, one in shared if inner not in asked)]
    body = Graph(tuple(inner for inner, _ in pairs), (*old[: op.states], *new, *old[op.states :]))
    kept = (*op.kept, *(op.stops,) * len(added))
    more = op.altered(body=body, states=op.states + len(added), kept=kept)
    changed = more(whole.inputs[0], *(one for _, one in pairs))
    results = list(results_of(changed))[op.states : op.states + len(added)]
    finals = [index(one, -1) if op.stops else one for one in results]
    return changed, dict(zip([one for _, one in added], finals, strict=True))


def matching_results(whole: Variable, changed: Variable) -> list[Variable]:
    """For each result of a loop that of one with more states."""
    op: Any = whole.op
    added = changed.op.states - op.states  # type: ignore[attr-defined]
    results = list(results_of(changed))
    return [*results[: op.states], *results[op.states + added :]]


def _asked(body: Graph, captured: set[Variable]) -> dict[Variable, Variable]:
    """The updates of captured variables that computing a body asks for, those that new values ask for, too."""
    found: dict[Variable, Variable] = {}
    before = -1
    while before < len(found):
        before = len(found)
        for one in computed_by([*body.outputs, *found.values()]):
            if isinstance(one.op, DefaultUpdate):
                for target, new in zip(one.inputs[1::2], one.inputs[2::2], strict=True):
                    if target in captured and found.setdefault(target, new) is not new:
                        raise InvalidValueError(
                            f"two computed variables of a loop ask for different updates of {target!r} ({target.origin}): "
                            f"{found[target]!r} ({found[target].origin}) and {new!r} ({new.origin})"
                        )
    return found
