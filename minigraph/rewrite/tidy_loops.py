"""Loops do less: what several share is done once, and what nobody needs not at all.

`tidy_loops` unites loops that run over the same states, as those of a gradient do with the loop that was written, and drops
results, states and operands without use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from minigraph.core.graph import Graph, Item, Variable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import from_inside, rebuild
from minigraph.ops.array.entries import WHOLE
from minigraph.ops.array.indexing import Index, index
from minigraph.ops.control import IfElse
from minigraph.ops.loop.loop import Scan, results_of, stand_in
from minigraph.rewrite.engine import users_of
from minigraph.rewrite.merge import merge

Roots = list[Variable]

Change = tuple[dict[Variable, Variable], Variable]
"""Substitutes for results of a loop, and the loop that these are results of then."""

Pairs = list[tuple[Variable, Variable]]
"""Inputs of a body, and what they stand for."""


def tidy_loops(graph: Graph) -> Graph:
    """The graph with equal loops united, and without what is not used of loops."""
    return with_loops(graph, lambda roots: pruned(_united(roots)))


def unite_loops(roots: Roots) -> Roots:
    """The roots of a graph as users made it with equal loops united, so that what they ask for is asked for once."""
    if len(_loops(roots)) < 2:
        return roots
    with carry_origin(here()):
        return _united(roots)


# -- what passes over loops share --------------------------------------------------------------------------------------


def with_loops(graph: Graph, change: Callable[[Roots], Roots]) -> Graph:
    """The graph, if it has loops, after a change to the roots of each body, inner ones first, and to its own."""
    if not _loops(graph.roots):
        return graph
    with carry_origin(here()):
        return graph.with_roots(from_inside(graph.roots, change))


def _loops(roots: Sequence[Variable]) -> Roots:
    """The loops that some roots depend on, those inside of loops left out."""
    return [one for one in toposort(roots) if isinstance(one.op, Scan) and not one.op.foreign]


def items_of(whole: Variable, roots: Sequence[Variable]) -> list[tuple[int, Variable]]:
    """The variables that are results of a loop, with the positions of the results."""
    return [(one.op.index, one) for one in toposort(roots) if isinstance(one.op, Item) and one.inputs[0] is whole]


def with_each(roots: Roots, change: Callable[[Roots, Variable], Change]) -> Roots:
    """The roots with every loop changed, those that use others first."""
    done: Roots = []
    while True:
        seen = set(done)
        whole = next((one for one in reversed(_loops(roots)) if one not in seen), None)
        if whole is None:
            return roots
        substitutes, changed = change(roots, whole)
        done.append(changed)
        if substitutes:  # which makes the loops that use this one anew
            renewed = rebuild([*roots, *done], substitutes)
            roots, done = renewed[: len(roots)], renewed[len(roots) :]


def remade(whole: Variable, parts: Sequence[Pairs], outputs: Sequence[Variable], **fields: Any) -> Variable:
    """The loop `whole` with other `parts` (sequences, states and captured values) and a body over them with other outputs."""
    pairs = [pair for part in parts for pair in part]
    body = Graph(tuple(inner for inner, _ in pairs), tuple(outputs))
    op = cast(Scan, whole.op).altered(body=body, sequences=len(parts[0]), states=len(parts[1]), **fields)
    carry_on(whole.origin)
    return op(whole.inputs[0], *(outer for _, outer in pairs))


def as_asked(op: Scan, place: int, kept: bool, result: Variable) -> Variable:
    """The history, or the last value alone, of the state of `op` at a place, from the result of one that may have `kept` it."""
    return result if kept == op.kept[place] else index(result, _last_row(op))


def _last_row(op: Scan) -> int:
    """The position of the last state in a history."""
    return 0 if op.backwards else -1


def is_slice(variable: Variable) -> bool:
    """Whether a variable is a view into another by a basic index."""
    return isinstance(variable.op, Index) and all(not one.ndim for one in variable.inputs[1:])


# -- uniting -----------------------------------------------------------------------------------------------------------


def _united(roots: Roots) -> Roots:
    """The roots with loops over the same sequences and first states united, if their states are the same at every step."""
    while True:
        by_start: dict[tuple[object, ...], Variable] = {}
        for second in _loops(roots):
            op = cast(Scan, second.op)
            start = second.inputs[: 1 + op.sequences + op.states]
            first = by_start.setdefault((start, op.sequences, op.states, op.backwards, op.stops), second)
            substitutes = None if first is second else _union(roots, first, second)
            if substitutes is not None:
                roots = rebuild(roots, substitutes)
                break
        else:
            return roots


def _union(roots: Roots, first: Variable, second: Variable) -> dict[Variable, Variable] | None:
    """For each result of two loops that of one which computes both; None if they differ in more than outputs."""
    one, two = cast(Scan, first.op), cast(Scan, second.op)
    states, count = one.states, one.sequences + one.states
    if [v.type for v in one.body.inputs[:count]] != [v.type for v in two.body.inputs[:count]]:
        return None
    own = dict(zip(first.inputs[1 + count :], one.body.inputs[count:], strict=True))
    others = second.inputs[1 + count :]
    fresh = {outer: stand_in(outer) for outer in others if outer not in own}
    if first in toposort(fresh):
        return None
    given = own | fresh
    substitutes = dict(zip(two.body.inputs, [*one.body.inputs[:count], *(given[outer] for outer in others)], strict=True))
    inputs = (*one.body.inputs, *fresh.values())
    mine, theirs = one.body.outputs, tuple(rebuild(two.body.outputs, substitutes))
    if mine[:states] != theirs[:states]:  # not one loop of which a gradient asks for more
        if one.updated or two.updated:  # which are asked for twice, however equal
            return None
        both = merge(Graph(inputs, mine + theirs)).outputs
        mine, theirs = both[: len(mine)], both[len(mine) :]
    if (mine[:states], mine[len(mine) - one.stops :]) != (theirs[:states], theirs[len(theirs) - two.stops :]):
        return None
    rows, rows_two = (outputs[states : len(outputs) - one.stops] for outputs in (mine, theirs))
    outputs = list(dict.fromkeys(rows + rows_two))
    kept = tuple(a or b for a, b in zip(one.kept, two.kept, strict=True))
    carry_on(first.origin)
    body = Graph(inputs, (*mine[:states], *outputs, *mine[len(mine) - one.stops :]))
    results = list(results_of(one.altered(body=body, kept=kept)(*first.inputs, *fresh)))
    found: dict[Variable, Variable] = {}
    for whole, op, its_rows in ((first, one, rows), (second, two, rows_two)):
        for place, item in items_of(whole, roots):
            if place == states + op.outputs:
                found[item] = results[-1]
            elif place >= states:
                found[item] = results[states + outputs.index(its_rows[place - states])]
            else:
                found[item] = as_asked(op, place, kept[place], results[place])
    return found


# -- pruning -----------------------------------------------------------------------------------------------------------


def pruned(roots: Roots) -> Roots:
    """The roots with every loop computing only what is used of it."""
    return with_each(roots, _without_waste)


def _without_waste(roots: Roots, whole: Variable) -> Change:
    """Substitutes for results of a loop, or for what is picked from them, in a loop without what is not used; and that loop."""
    op, body = cast(Scan, whole.op), cast(Scan, whole.op).body
    items = items_of(whole, roots)
    used = {place for place, _ in items}
    lasts, after_a_step = _picked_last(roots, op, items)
    ahead, behind = (slice(0, -1), slice(1, None)) if op.backwards else (slice(1, None), slice(0, -1))
    old = body.inputs[op.sequences : op.sequences + op.states]
    parts = {one: (place, behind) for place, one in enumerate(old)}
    parts |= {one: (place, ahead) for place, one in enumerate(body.outputs[: op.states])}
    asked = [body.outputs[place] for place in range(op.states, op.states + op.outputs) if place in used]
    rows = list(dict.fromkeys(row for row in asked if row not in parts))
    histories = {place for place in used if place < op.states and op.kept[place] and place not in lasts}
    histories |= {parts[row][0] for row in asked if row in parts}
    live = _live_states(op, {place for place in used if place < op.states} | histories, rows)
    sequences, states, shared = op.split(list(zip(body.inputs, whole.inputs[1:], strict=True)))
    outputs = [*(body.outputs[place] for place in live), *rows, *body.outputs[len(body.outputs) - op.stops :]]
    outputs = rebuild(outputs, _twice(sequences) | _twice(shared))
    needed = set(toposort(outputs))
    sequences, shared = ([pair for pair in pairs if pair[0] in needed] for pairs in (sequences, shared))
    kept = {place: place in histories or op.stops for place in live}
    least = max(op.least, int(after_a_step and op.steps is None))
    smaller = remade(
        whole, (sequences, [states[place] for place in live], shared), outputs, kept=tuple(kept.values()), least=least
    )
    if smaller.op == op:
        return {}, whole
    results = list(results_of(smaller))
    state = dict(zip(live, results, strict=False))
    substitutes: dict[Variable, Variable] = {}
    for place, item in items:
        if place == op.states + op.outputs:
            substitutes[item] = results[-1]
        elif place >= op.states and (row := body.outputs[place]) in parts:
            substitutes[item] = index(state[parts[row][0]], parts[row][1])
        elif place >= op.states:
            substitutes[item] = results[len(live) + rows.index(row)]
        elif place not in lasts or kept[place]:
            substitutes[item] = as_asked(op, place, kept[place], state[place])
        else:
            substitutes |= {pick: _picked(pick, state[place]) for pick in lasts[place]}
    return substitutes, smaller


def _picked(pick: Variable, last: Variable) -> Variable:
    """A pick of the last row of a history, and perhaps of some of its elements, as a pick from that row."""
    rest = cast(Index, pick.op).entries[1:]
    return type(pick.op)(rest)(last, *pick.inputs[1:]) if rest else last


def _twice(pairs: Pairs) -> dict[Variable, Variable]:
    """For inputs of a body that stand for the same as an earlier one that one."""
    first: dict[Variable, Variable] = {}
    return {inner: first[outer] for inner, outer in pairs if first.setdefault(outer, inner) is not inner}


def _picked_last(roots: Roots, op: Scan, items: Sequence[tuple[int, Variable]]) -> tuple[dict[int, Roots], bool]:
    """The variables that pick the last row of each history of which no more is used; whether any does from the later rows."""
    order = toposort(roots)
    users, ends = users_of(order), set(roots)
    lazy = not op.steps and any(isinstance(one.op, IfElse) for one in order)  # what is picked may not be asked for

    def picks(variable: Variable, inner: bool = False) -> Roots | None:
        """The variables that pick the last row of a history, None if it is used otherwise, too."""
        found: Roots = []
        for one in users.get(variable, []):
            entry = one.op.entries[0] if is_slice(one) else None  # type: ignore[attr-defined]
            if entry == _last_row(op):
                found.append(one)
            elif not inner and not lazy and _rows_after(one, op):
                deeper = picks(one, inner=True)
                if deeper is None:
                    return None
                found += deeper
            else:
                return None
        return None if variable in ends else found

    found: dict[int, list[Roots | None]] = {}
    for place, item in items:
        if place < op.states and op.kept[place] and not op.stops:
            found.setdefault(place, []).append(picks(item))
    result = {place: [pick for one in lists for pick in one or ()] for place, lists in found.items() if None not in lists}
    return result, any(isinstance(pick.inputs[0].op, Index) for picked in result.values() for pick in picked)


def _rows_after(variable: Variable, op: Scan) -> bool:
    """Whether a variable shows a history without the first state."""
    if not isinstance(variable.op, Index) or len(variable.inputs) > 1:
        return False
    first, *rest = variable.op.entries
    start, stop, step = (getattr(first, name, 0) for name in ("start", "stop", "step"))
    wanted = ((None, 0), -1) if op.backwards else ((1,), None)
    return start in wanted[0] and stop == wanted[1] and step in (None, 1) and all(one == WHOLE for one in rest)


def _live_states(op: Scan, wanted: set[int], rows: Sequence[Variable]) -> list[int]:
    """The states that are wanted, or that those, the rows of outputs, or the end of the loop depend on."""
    body = op.body
    inputs = {one: place for place, one in enumerate(body.inputs[op.sequences : op.sequences + op.states])}
    live = wanted
    while True:
        roots = [*(body.outputs[place] for place in live), *rows, *body.outputs[len(body.outputs) - op.stops :]]
        reached = {inputs[one] for one in toposort(roots) if one in inputs} | live
        if reached == live:
            return sorted(live)
        live = reached
