"""Updates that are asked for inside of loops: what they change is a state of the loop, and one update outside of it."""

from __future__ import annotations

from minigraph.core.graph import Graph, Item, Variable, toposort
from minigraph.core.walks import from_inside, rebuild
from minigraph.ops.control import with_asked
from minigraph.ops.loop.asked import asked_updates
from minigraph.ops.loop.loop import Scan, results_of, stand_in, updates_of


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
        changed = carried(whole)
        done.add(changed)
        if changed is not whole:
            updates = updates_of(changed)
            results = [with_asked(one, updates) for one in matching_results(whole, changed)]
            items = [one for one in order if isinstance(one.op, Item) and one.inputs[0] is whole]
            roots = rebuild(roots, {item: results[item.op.index] for item in items})  # type: ignore[attr-defined]


def carried(whole: Variable) -> Variable:
    """A loop with a state more for each captured variable that its body asks to update; itself if there is none."""
    op = whole.op
    assert isinstance(op, Scan)
    sequences, states, shared = op.split(list(zip(op.body.inputs, whole.inputs[1:], strict=True)))
    captured = {inner for inner, _ in shared}
    asked = asked_updates(op.body.outputs, captured.__contains__)
    if not asked:
        return whole
    outer = dict(shared)
    fresh = {target: stand_in(target) for target in asked}
    roots = rebuild([*op.body.outputs, *(new for _, new in asked.values())], fresh)
    old, new = roots[: len(op.body.outputs)], roots[len(op.body.outputs) :]
    added = [(fresh[target], outer[target]) for target in asked]
    pairs = [*sequences, *states, *added, *((inner, one) for inner, one in shared if inner not in asked)]
    body = Graph(tuple(inner for inner, _ in pairs), (*old[: op.states], *new, *old[op.states :]))
    more = op.altered(
        body=body,
        states=op.states + len(added),
        kept=(*op.kept, *(op.stops,) * len(added)),
        updated=(*op.updated, *(kind for kind, _ in asked.values())),
    )
    return more(whole.inputs[0], *(one for _, one in pairs))


def matching_results(whole: Variable, changed: Variable) -> list[Variable]:
    """For each result of a loop, that of `changed`, which has more states."""
    op, more = whole.op, changed.op
    assert isinstance(op, Scan) and isinstance(more, Scan)
    results = list(results_of(changed))
    return [*results[: op.states], *results[more.states :]]
