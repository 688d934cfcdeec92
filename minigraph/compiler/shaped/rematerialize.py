"""Rows that a loop would leave for later loops are computed there again, where that is quicker than to fetch them from memory.

A normalized input of a recurrence, say, is a few operations on an input, weights and two statistics. All of them together are
smaller than it is by far, and stay in a core's cache, where its rows at all steps would not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from minigraph.compiler.shaped.layout import is_view, sizes
from minigraph.core.graph import Constant, Graph, Input, Item, Variable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import rebuild
from minigraph.ops.array.indexing import Index
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.loop.loop import Scan
from minigraph.rewrite.engine import users_of
from minigraph.rewrite.merge import merge
from minigraph.rewrite.push_slices import push_slices

MANY_BYTES = 1 << 22
"""From what size on rows are worth it: that of a core's second cache, about."""
MOST_OPS, TIMES_SMALLER = 8, 8
"""The most operations that rows may take, and the factor by which what they are computed from must be smaller."""


Rows = tuple[Variable, list[Variable]]
"""A row of a stack, in the body of the loop that makes it, and what it is computed from there."""


def rematerialize(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with rows of loops computed where they are read."""
    roots = graph.roots
    with carry_origin(here()):
        while found := _first_change(roots):
            roots = rebuild(roots, found)
    return graph if roots == graph.roots else merge(push_slices(graph.with_roots(roots)))


def _first_change(roots: Sequence[Variable]) -> dict[Variable, Variable]:
    """Substitutes for a loop whose rows are computed again, and for those that read them; empty if there is no such loop."""
    order = toposort(roots)
    readers = users_of(order)
    for whole in order:
        if isinstance(whole.op, Scan) and not whole.op.stops:
            chosen = {
                stack: rows
                for stack in readers.get(whole, ())
                if stack not in roots and all(_reads_rows(one, stack, whole.op) for one in readers.get(stack, ()))
                if (rows := _rows(stack, whole.op)) is not None
            }
            if chosen:
                carry_on(whole.origin)
                return _changed(order, whole, chosen)
    return {}


def _reads_rows(reader: Variable, stack: Variable, op: Scan) -> bool:
    """Whether a reader of a stack is a loop that reads a row of it at each step."""
    other = reader.op
    return isinstance(other, Scan) and other.steps == op.steps and stack not in reader.inputs[1 + other.sequences :]


def _rows(stack: Variable, op: Scan) -> Rows | None:
    """The computation of a stack's rows; None if that takes long, needs what is large, or is not worth it."""
    assert isinstance(stack.op, Item)
    place = stack.op.index
    if place < op.states or math.prod(sizes(stack)) * stack.dtype.itemsize < MANY_BYTES:
        return None
    row = op.body.outputs[place]
    small = math.prod(sizes(row)) // TIMES_SMALLER
    pending, seen, leaves, ops = [row], {row}, [], 0
    while pending:
        one = pending.pop()
        if one is not row and math.prod(sizes(one)) <= small:
            leaves += [] if isinstance(one.op, Constant) else [one]
            continue
        if not one.inputs or not (is_view(one) or (isinstance(one.op, Elementwise) and one.op.cost == 1)):
            return None
        ops += not is_view(one)
        pending += [operand for operand in one.inputs if operand not in seen]
        seen.update(one.inputs)
    if ops > MOST_OPS or sum(math.prod(sizes(one)) for one in leaves) > small:
        return None
    return row, leaves


def _changed(order: Sequence[Variable], whole: Variable, chosen: Mapping[Variable, Rows]) -> dict[Variable, Variable]:
    """Substitutes for a loop's results, and for the loops that read those that it no longer has."""
    op = whole.op
    assert isinstance(op, Scan)
    results = {one.op.index: one for one in order if isinstance(one.op, Item) and one.inputs == (whole,)}
    places = [k for k in range(len(op.body.outputs)) if results.get(k) not in chosen]
    sequences, _, shared = op.split(list(zip(op.body.inputs, whole.inputs[1:], strict=True)))
    rows = {inner: outer for inner, outer in sequences if sizes(outer)[0] == op.steps}
    rows |= {op.body.outputs[k]: results[k] for k in places if k >= op.states and k in results}
    fixed = dict(shared)
    leaves = dict.fromkeys(leaf for _, some in chosen.values() for leaf in some)
    fresh = [leaf for leaf in leaves if leaf not in rows and leaf not in fixed]
    body = Graph(op.body.inputs, (*(op.body.outputs[k] for k in places), *fresh))
    altered = op.altered(body=body)(*whole.inputs)
    found = {results[k]: Item(place)(altered) for place, k in enumerate(places) if k in results}
    rows |= {leaf: Item(len(places) + k)(altered) for k, leaf in enumerate(fresh)}
    for reader in order:
        if isinstance(reader.op, Scan) and not chosen.keys().isdisjoint(reader.inputs):
            found[reader] = _reading(reader, chosen, rows, fixed, found)
    return found


def _reading(
    reader: Variable,
    chosen: Mapping[Variable, Rows],
    rows: Mapping[Variable, Variable],
    fixed: Mapping[Variable, Variable],
    found: Mapping[Variable, Variable],
) -> Variable:
    """A loop that computes rows instead of reading them, from what stands for `rows` and `fixed` values outside of loops."""
    op = reader.op
    assert isinstance(op, Scan)
    sequences, states, shared = op.split(list(zip(op.body.inputs, reader.inputs[1:], strict=True)))
    given = [pair for pair in sequences if pair[1] not in chosen], shared
    swaps: dict[Variable, Variable] = {}
    for inner, outer in sequences:
        if outer in chosen:
            taken: dict[Variable, Variable] = {}
            row, leaves = chosen[outer]
            for leaf in leaves:
                pairs, source = (given[0], rows[leaf]) if leaf in rows else (given[1], fixed[leaf])
                if source not in [known for _, known in pairs]:
                    pairs.append((Variable(Input(), (), leaf.type, leaf.name, (), leaf.origin), source))
                taken[leaf] = next(one for one, known in pairs if known is source)
            readers = [one for one in op.body.variables if isinstance(one.op, Index) and one.inputs == (inner,)]
            whole, parts = (rebuild([row], taken)[0] for _ in range(2))  # slices are taken of a copy of their own
            swaps |= {inner: whole} | {one: one.op(parts) for one in readers}
    pairs = [*given[0], *states, *given[1]]
    body = Graph(tuple(inner for inner, _ in pairs), tuple(rebuild(op.body.outputs, swaps)))
    inputs = rebuild([reader.inputs[0], *(outer for _, outer in pairs)], found)
    return op.altered(body=body, sequences=len(given[0]))(*inputs)
