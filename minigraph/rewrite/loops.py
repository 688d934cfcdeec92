"""Loops do less: what several share is done once, what nobody needs not at all, what steps have in common before or after.

`tidy_loops` unites loops that run over the same states, as those of a gradient do with the loop that was written, and drops
results, states and operands without use. `lift_loops` takes products of matrices out of loops where no step waits for them:
those of sequences come before, for all steps at once; those that only results need, and sums over all steps, come after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from minigraph.core.graph import Graph, Item, Variable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import from_inside, rebuild
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.entries import WHOLE, Hole
from minigraph.ops.array.indexing import Index, index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, broadcast_to, dimshuffle, reshape, shape
from minigraph.ops.array.sizes import Size
from minigraph.ops.control import IfElse
from minigraph.ops.elementwise.arithmetic import Add
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan, may_fail, results_of, stand_in
from minigraph.ops.reduce.base import Reduction
from minigraph.rewrite.algebra import is_zeros
from minigraph.rewrite.merge import merge
from minigraph.rewrite.specialize import follows_from_sizes

Roots = list[Variable]

Change = tuple[dict[Variable, Variable], Variable]
"""What to put in the place of results of a loop, and the loop that these are results of then."""


def tidy_loops(graph: Graph) -> Graph:
    """The graph with equal loops united, and without what is not used of loops."""
    if not _loops(graph.roots):
        return graph
    with carry_origin(here()):
        return graph.with_roots(from_inside(graph.roots, lambda roots: _pruned(_united(roots))))


def unite_loops(roots: Roots) -> Roots:
    """The roots of a graph as users made it with equal loops united, so that what they ask for is asked for once."""
    if len(_loops(roots)) < 2:
        return roots
    with carry_origin(here()):
        return _united(roots)


def lift_loops(graph: Graph) -> Graph:
    """The graph with products of matrices outside of loops where no step waits for them."""
    if not _loops(graph.roots):
        return graph
    with carry_origin(here()):
        return graph.with_roots(from_inside(graph.roots, _lifted))


def _loops(roots: Sequence[Variable]) -> Roots:
    """The loops that some roots depend on, those inside of loops left out."""
    return [one for one in toposort(roots) if isinstance(one.op, Scan) and not one.op.foreign]


def _items(roots: Sequence[Variable], whole: Variable) -> list[tuple[int, Variable]]:
    """The variables that are results of a loop, with the positions of the results."""
    return [(one.op.index, one) for one in toposort(roots) if isinstance(one.op, Item) and one.inputs[0] is whole]


def _with_each(roots: Roots, change: Callable[[Roots, Variable], Change]) -> Roots:
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


def _last_row(op: Scan) -> int:
    """Where the last state stands in a history."""
    return 0 if op.backwards else -1


# -- uniting -----------------------------------------------------------------------------------------------------------


def _united(roots: Roots) -> Roots:
    """The roots with loops over the same sequences and first states united, if their states are the same at every step."""
    while True:
        by_start: dict[tuple[object, ...], Variable] = {}
        for second in _loops(roots):
            op = cast(Scan, second.op)
            start = second.inputs[: 1 + op.sequences + op.states]
            key = (*map(id, start), op.sequences, op.states, op.backwards, op.stops)
            first = by_start.setdefault(key, second)
            substitutes = None if first is second else _union(roots, first, second)
            if substitutes is not None:
                roots = rebuild(roots, substitutes)
                break
        else:
            return roots


def _union(roots: Roots, first: Variable, second: Variable) -> dict[Variable, Variable] | None:
    """For each result of two loops that of one which computes both; None if they differ in more than outputs.

    Two that ask for updates, however equal, ask twice.
    """
    one, two = cast(Scan, first.op), cast(Scan, second.op)
    count = one.sequences + one.states
    if [v.type for v in one.body.inputs[:count]] != [v.type for v in two.body.inputs[:count]]:
        return None
    own = dict(zip(first.inputs[1 + count :], one.body.inputs[count:], strict=True))
    others = second.inputs[1 + count :]
    extra = [outer for outer in dict.fromkeys(others) if outer not in own]
    if any(variable is first for variable in toposort(extra)):
        return None
    fresh = {outer: stand_in(outer) for outer in extra}
    given = own | fresh
    substitutes = dict(zip(two.body.inputs, [*one.body.inputs[:count], *(given[outer] for outer in others)], strict=True))
    inputs = (*one.body.inputs, *fresh.values())
    both = (*one.body.outputs, *rebuild(two.body.outputs, substitutes))
    if both[: one.states] != both[len(one.body.outputs) :][: one.states]:  # not one loop of which a gradient asks for more
        if one.updated or two.updated:
            return None
        both = merge(Graph(inputs, both)).outputs
    mine, theirs = both[: len(one.body.outputs)], both[len(one.body.outputs) :]
    states = one.states
    ends = [(a[:states], a[states : len(a) - op.stops], a[len(a) - op.stops :]) for a, op in ((mine, one), (theirs, two))]
    (new, rows, stop), (new_two, rows_two, stop_two) = ends
    if any(a is not b for a, b in zip((*new, *stop), (*new_two, *stop_two), strict=True)):
        return None
    outputs = list(dict.fromkeys([*rows, *rows_two]))
    kept = tuple(a or b for a, b in zip(one.kept, two.kept, strict=True))
    carry_on(first.origin)
    united = one.altered(body=Graph(inputs, (*new, *outputs, *stop)), kept=kept)(*first.inputs, *extra)
    results = list(results_of(united))
    found: dict[Variable, Variable] = {}
    for whole, op, its_rows in ((first, one, rows), (second, two, rows_two)):
        for place, item in _items(roots, whole):
            if place == states + op.outputs:
                found[item] = results[-1]
            elif place >= states:
                found[item] = results[states + outputs.index(its_rows[place - states])]
            else:
                found[item] = results[place] if op.kept[place] == kept[place] else index(results[place], _last_row(op))
    return found


# -- pruning -----------------------------------------------------------------------------------------------------------


def _pruned(roots: Roots) -> Roots:
    """The roots with every loop computing only what is used of it."""
    return _with_each(roots, _without_waste)


def _without_waste(roots: Roots, whole: Variable) -> Change:
    """What results of a loop, or what is picked from them, are in a loop without what is not used; and that loop."""
    op, body = cast(Scan, whole.op), cast(Scan, whole.op).body
    items = _items(roots, whole)
    used = {place for place, _ in items}
    lasts, after_a_step = _picked_last(roots, op, items)
    own = {one: place for place, one in enumerate(body.outputs[: op.states])}
    before = {one: place for place, one in enumerate(body.inputs[op.sequences : op.sequences + op.states])}
    rows: dict[Variable, int] = {}
    shown: dict[int, tuple[int, slice | None]] = {}
    """For an output the result that it is part of, and which rows of that."""
    ahead, behind = (slice(0, -1), slice(1, None)) if op.backwards else (slice(1, None), slice(0, -1))
    histories = {place for place in used if place < op.states and op.kept[place] and place not in lasts}
    for place in sorted(used & set(range(op.states, op.states + op.outputs))):
        row = body.outputs[place]
        if row in own or row in before:
            shown[place] = (own[row], ahead) if row in own else (before[row], behind)
            histories.add(shown[place][0])
        else:
            shown[place] = (op.states + rows.setdefault(row, len(rows)), None)
    live = _live_states(op, {place for place in used if place < op.states} | histories, list(rows))
    new_place = {place: k for k, place in enumerate(live)}
    stop = body.outputs[len(body.outputs) - op.stops :]
    outputs = (*(body.outputs[place] for place in live), *rows, *stop)
    sequences, states, shared = op.split(list(zip(body.inputs, whole.inputs[1:], strict=True)))
    twice = _twice(sequences) | _twice(shared)
    outputs = tuple(rebuild(outputs, twice))
    needed = set(toposort(outputs))
    sequences = [pair for pair in sequences if pair[0] in needed]
    states = [states[place] for place in live]
    shared = [pair for pair in shared if pair[0] in needed]
    kept = tuple(place in histories or op.stops for place in live)
    pairs = [*sequences, *states, *shared]
    least = max(op.least, int(after_a_step and op.steps is None))
    fields = {"sequences": len(sequences), "states": len(states), "kept": kept, "least": least}
    smaller = op.altered(body=Graph(tuple(inner for inner, _ in pairs), outputs), **fields)
    if smaller == op:
        return {}, whole
    carry_on(whole.origin)
    pruned = smaller(whole.inputs[0], *(outer for _, outer in pairs))
    results = list(results_of(pruned))
    substitutes: dict[Variable, Variable] = {}
    for place, item in items:
        if place == op.states + op.outputs:
            substitutes[item] = results[-1]
        elif place >= op.states:
            result, part = shown[place]
            position = result - op.states + len(live) if result >= op.states else new_place[result]
            substitutes[item] = results[position] if part is None else index(results[position], part)
        elif place not in lasts or kept[new_place[place]]:
            whole_history = results[new_place[place]]
            substitutes[item] = (
                whole_history if kept[new_place[place]] == op.kept[place] else index(whole_history, _last_row(op))
            )
        else:
            for pick in lasts[place]:
                rest = cast(Index, pick.op).entries[1:]
                final = results[new_place[place]]
                substitutes[pick] = type(pick.op)(rest)(final, *pick.inputs[1:]) if rest else final
    return substitutes, pruned


def _twice(pairs: Sequence[tuple[Variable, Variable]]) -> dict[Variable, Variable]:
    """For inputs of a body that stand for the same as an earlier one that one."""
    first: dict[Variable, Variable] = {}
    return {inner: first[outer] for inner, outer in pairs if first.setdefault(outer, inner) is not inner}


def _picked_last(roots: Roots, op: Scan, items: Sequence[tuple[int, Variable]]) -> tuple[dict[int, Roots], bool]:
    """For each state of whose history only the last row is used, the variables that pick it; and whether one picks it from
    the rows after the first state, which are there only after a step.
    """
    users: dict[Variable, Roots] = {}
    for one in toposort(roots):
        for operand in one.inputs:
            users.setdefault(operand, []).append(one)
    ends = set(roots)
    lazy = not op.steps and any(isinstance(one.op, IfElse) for one in toposort(roots))  # what is picked may not be asked for

    def picks(variable: Variable, inner: bool = False) -> Roots | None:
        """The variables that pick the last row of a history, None if it is used otherwise, too."""
        found: Roots = []
        for one in users.get(variable, []):
            entry = one.op.entries[0] if _is_slice(one) else None  # type: ignore[attr-defined]
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

    result: dict[int, Roots] = {}
    other: set[int] = set()
    for place, item in items:
        if place < op.states and op.kept[place] and not op.stops:
            found = picks(item)
            if found is None:
                other.add(place)
            else:
                result.setdefault(place, []).extend(found)
    result = {place: found for place, found in result.items() if place not in other}
    return result, any(isinstance(pick.inputs[0].op, Index) for found in result.values() for pick in found)


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
    live = set(wanted)
    while True:
        roots = [*(body.outputs[place] for place in live), *rows, *body.outputs[len(body.outputs) - op.stops :]]
        reached = {inputs[one] for one in toposort(roots) if one in inputs} | live
        if reached == live:
            return sorted(live)
        live = reached


# -- lifting -----------------------------------------------------------------------------------------------------------


def _lifted(roots: Roots) -> Roots:
    """The roots with products of matrices taken out of every loop."""
    roots = _with_each(roots, lambda now, whole: _Lift(now, whole).taken_before())
    return _pruned(_with_each(roots, lambda now, whole: _Lift(now, whole).taken_after()))


class _CannotBeStacked(Exception):
    """A value of a loop cannot be computed for all steps at once."""


class _Lift:
    """What can be taken out of one loop."""

    def __init__(self, roots: Roots, whole: Variable) -> None:
        self.roots, self.whole = roots, whole
        self.op = cast(Scan, whole.op)
        self.count, *given = whole.inputs
        self.inputs = list(zip(self.op.body.inputs, given, strict=True))
        sequences, _, shared = self.op.split(self.inputs)
        self.outer: dict[Variable, Variable] = dict(shared)
        """For each captured input of the body what it stands for."""
        self.stacks: dict[Variable, Variable] = dict(sequences)
        """For values of the body all their rows."""
        self.varying = self._depending(inner for inner, _ in self.inputs[: self.op.sequences + self.op.states])

    def _depending(self, on: Iterable[Variable]) -> set[Variable]:
        """The body's variables whose values depend on some of its inputs, these included; sizes are the same at every step."""
        found = set(on)
        for one in self.op.body.variables:
            if not isinstance(one.op, Size) and any(operand in found for operand in one.inputs):
                found.add(one)
        return found

    # -- before the loop -----------------------------------------------------------------------------------------------

    def taken_before(self) -> Change:
        """The results of the loop, and that, with products of sequences, and what does not vary, computed before it."""
        body, op = self.op.body, self.op
        if op.stops:
            return {}, self.whole
        waiting = self._depending(inner for inner, _ in self.inputs[op.sequences : op.sequences + op.states])
        products: dict[Variable, Variable] = {}
        for one in body.variables:
            if isinstance(one.op, MatMul) and one in self.varying and one not in waiting and not _is_outer(one):
                with suppress(_CannotBeStacked):
                    products[one] = self.stacked(one)
        fixed = self._fixed(products)
        if not products and not fixed:
            return {}, self.whole
        sequences, states, shared = op.split(self.inputs)
        stand_ins = {one: stand_in(one) for one in (*products, *fixed)}
        roots = rebuild(body.outputs, stand_ins)
        sequences += [(stand_ins[one], rows) for one, rows in products.items()]
        shared += [(stand_ins[one], value) for one, value in fixed.items()]
        pairs = [*sequences, *states, *shared]
        changed = op.altered(body=Graph(tuple(inner for inner, _ in pairs), tuple(roots)), sequences=len(sequences))
        carry_on(self.whole.origin)
        whole = changed(self.count, *(outer for _, outer in pairs))
        results = list(results_of(whole))
        return {item: results[place] for place, item in _items(self.roots, self.whole)}, whole

    def _fixed(self, products: Mapping[Variable, Variable]) -> dict[Variable, Variable]:
        """The largest parts of the body that are the same at every step and take computing, with their values."""
        body = self.op.body
        shared = [inner for inner, _ in self.inputs[self.op.sequences + self.op.states :]]
        order = body.variables
        constant = self._depending(shared) - self.varying
        work: set[Variable] = set()
        for one in order:
            if one in constant and one.inputs:
                view = isinstance(one.op, Dimshuffle | BroadcastTo | Reshape | Size) or _is_slice(one)
                if not view or any(operand in work for operand in one.inputs):
                    work.add(one)
        read = [operand for one in order if one in self.varying and one not in products for operand in one.inputs]
        wanted = [one for one in dict.fromkeys([*read, *body.outputs]) if one in work and not isinstance(one.type, tuple)]
        scalars = {one for one in wanted if not one.ndim and follows_from_sizes(one)}
        fallible = {one for one in order if may_fail(one) or isinstance(one.op, IfElse)}
        wanted = [one for one in wanted if one not in scalars and not fallible & set(toposort([one]))]
        values: dict[Variable, Variable] = {}
        for one in wanted:
            with suppress(_CannotBeStacked):
                values[one] = self._fixed_value(one)
        return values

    # -- after the loop ------------------------------------------------------------------------------------------------

    def taken_after(self) -> Change:
        """The results of the loop, and that, with products that only results need, and sums of them, computed after it."""
        if self.op.stops:
            return {}, self.whole
        try:
            return self._taken_after()
        except _CannotBeStacked:
            return {}, self.whole

    def _taken_after(self) -> Change:
        """What `taken_after` returns, unless it raises."""
        op, body = self.op, self.op.body
        new, rows = list(body.outputs[: op.states]), list(body.outputs[op.states :])
        states = [inner for inner, _ in self.inputs[op.sequences : op.sequences + op.states]]
        sums = {k: terms for k in range(op.states) if (terms := self._summed(k, states[k], new[k]))}
        staying = [one for k, one in enumerate(new) if k not in sums]
        self.inside = set(toposort(staying)) & self.varying
        late = [k for k, row in enumerate(rows) if row not in self.inside and self._multiplies(row)]
        if not sums and not late:
            return {}, self.whole
        self.extra: dict[Variable, None] = {}
        for row in rows:
            if row not in [rows[k] for k in late]:
                self.extra[row] = None
        wanted = self._stack_plan(sums, [rows[k] for k in late])
        kept_states = [k for k in range(op.states) if k not in sums]
        outputs = (*(new[k] for k in kept_states), *self.extra)
        read = {states[k] for k in kept_states if states[k] in wanted}
        kept = tuple(op.kept[k] or states[k] in read or new[k] in wanted for k in kept_states)
        sequences, pairs, shared = op.split(self.inputs)
        inputs = [*sequences, *(pairs[k] for k in kept_states), *shared]
        graph = Graph(tuple(inner for inner, _ in inputs), outputs)
        changed = op.altered(body=graph, states=len(kept_states), kept=kept)
        carry_on(self.whole.origin)
        whole = changed(self.count, *(outer for _, outer in inputs))
        results = list(results_of(whole))
        before, after = (slice(1, None), slice(0, -1)) if op.backwards else (slice(0, -1), slice(1, None))
        for position, k in enumerate(kept_states):
            if kept[position]:
                self.stacks[states[k]] = index(results[position], before)
                self.stacks.setdefault(new[k], index(results[position], after))
        for position, row in enumerate(self.extra, len(kept_states)):
            self.stacks[row] = results[position]
        found: dict[Variable, Variable] = {}
        for place, item in _items(self.roots, self.whole):
            if place >= op.states:
                found[item] = self.stacked(rows[place - op.states])
            elif place in sums:
                found[item] = self._total(pairs[place][1], sums[place])
            else:
                position = kept_states.index(place)
                same = kept[position] == op.kept[place]
                found[item] = results[position] if same else index(results[position], _last_row(op))
        return found, whole

    def _summed(self, place: int, state: Variable, new: Variable) -> Roots:
        """What is added to a state at every step, if that is all that happens to it, the sum alone is asked for, and products
        of matrices are among it; nothing otherwise.
        """
        if self.op.kept[place]:
            return []
        terms, pending, seen = [], [new], 0
        while pending:
            one = pending.pop()
            if one is state:
                seen += 1
            elif isinstance(one.op, Add) and all(operand.type == new.type for operand in one.inputs) and one in self.varying:
                pending += reversed(one.inputs)
            else:
                terms.append(one)
        others = [one for k, one in enumerate(self.op.body.outputs) if k != place]
        alone = seen == 1 and state not in toposort([*terms, *others])
        multiplied = [one for one in terms if self._factors(one) is not None and 1 not in one.type.shape]
        return terms if alone and multiplied and len(multiplied) == len(terms) else []

    def _factors(self, term: Variable) -> tuple[Variable, Variable, bool] | None:
        """The varying matrices whose product a term is, and whether it is the product transposed; None of another term."""
        turned = isinstance(term.op, Dimshuffle) and term.op.pattern == (1, 0)
        product = term.inputs[0] if turned else term
        if isinstance(product.op, MatMul) and all(one.ndim == 2 and one in self.varying for one in product.inputs):
            return product.inputs[0], product.inputs[1], turned
        return None

    def _total(self, first: Variable, terms: Roots) -> Variable:
        """A first state and the sum over all steps of products: one product of longer matrices."""
        total = first
        for term in terms:
            factors = self._factors(term)
            assert factors is not None
            left, right = self.stacked(factors[0]), self.stacked(factors[1])
            rows, inner = shape(left)[1], shape(right)[1]
            columns = shape(right)[2]
            upright = reshape(dimshuffle(left, 0, 2, 1), (self._steps() * inner, rows))
            product = MatMul()(dimshuffle(upright, 1, 0), reshape(right, (self._steps() * inner, columns)))
            product = dimshuffle(product, 1, 0) if factors[2] else product
            total = product if is_zeros(total) and product.type == total.type else total + product
        return total

    def _steps(self) -> Any:
        """The number of steps, an int where it is known."""
        return self.op.steps if self.op.steps is not None else self.count

    def _multiplies(self, row: Variable) -> bool:
        """Whether a row is computed by a product with a matrix that does not vary, outside of what stays in the loop."""
        outside = [one for one in toposort([row], stop=self.inside) if one not in self.inside and one in self.varying]
        products = [one for one in outside if isinstance(one.op, MatMul)]
        liftable = [one for one in products if one.inputs[1] not in self.varying and one.inputs[0].ndim == 2]
        return bool(liftable) and all(_is_stackable(one) or one in self.stacks for one in outside)

    def _stack_plan(self, sums: Mapping[int, Roots], late: Sequence[Variable]) -> set[Variable]:
        """The values of the loop that must be known for all steps; those that are neither states nor rows become rows."""
        op, body = self.op, self.op.body
        states = [inner for inner, _ in self.inputs[op.sequences : op.sequences + op.states]]
        new = body.outputs[: op.states]
        factors = [self._factors(term) for terms in sums.values() for term in terms]
        pending = [one for each in factors if each is not None for one in each[:2]] + list(late)
        wanted: set[Variable] = set()
        seen: set[Variable] = set()
        while pending:
            one = pending.pop()
            if one in seen or one not in self.varying or one in self.stacks:
                continue
            seen.add(one)
            kept = one in self.inside or one in self.extra or not _is_stackable(one)
            if kept and not _is_plain_view(one):
                wanted.add(one)
                if one not in states and one not in new:
                    self.extra[one] = None
            else:
                pending += one.inputs
        return wanted

    # -- all steps at once -----------------------------------------------------------------------------------------------

    def stacked(self, variable: Variable) -> Variable:
        """All rows of a value of the body, computed outside of the loop."""
        carry_on(variable.origin)
        for one in toposort([variable], stop=self.stacks.keys()):
            if one not in self.stacks and one in self.varying:
                rows = self._rows(one) if _is_stackable(one) else None
                if rows is None:
                    raise _CannotBeStacked
                self.stacks[one] = rows
        return self.stacks[variable]

    def _fixed_value(self, variable: Variable) -> Variable:
        """A value that is the same at every step, outside of the loop."""
        if variable in self.varying:
            raise _CannotBeStacked
        measured = [one for one in toposort([variable]) if isinstance(one.op, Size) and one.inputs[0] in self.varying]
        return rebuild([variable], self.outer | {one: self._size_outside(one) for one in measured})[0]

    def _size_outside(self, size: Variable) -> Variable:
        """The size of an axis of a value that varies, read off what is there outside of the loop."""
        variable, axis = size.inputs[0], cast(Size, size.op).axis
        states = dict(self.inputs[self.op.sequences : self.op.sequences + self.op.states])
        if variable in states:
            return Size(axis)(states[variable])
        if variable not in self.stacks:
            raise _CannotBeStacked
        return Size(axis + 1)(self.stacks[variable])

    def _aligned(self, variable: Variable, ndim: int) -> Variable:
        """All rows of a value, or the one value, such that its last axes are those of a row of `ndim` axes."""
        if variable not in self.stacks:
            return self._fixed_value(variable)
        rows = self.stacks[variable]
        missing = ndim + 1 - rows.ndim
        return dimshuffle(rows, 0, *("x",) * missing, *range(1, rows.ndim))

    def _sizes(self, variables: Sequence[Variable], pattern: Sequence[int | None]) -> list[Any]:
        """The shape of all rows, whose unknown sizes are given by variables."""
        remaining = iter(variables)
        return [self._steps(), *(self._fixed_value(next(remaining)) if one is None else one for one in pattern)]

    def _rows(self, variable: Variable) -> Variable | None:
        """All rows of a value, from those of its operands."""
        op, operands = variable.op, variable.inputs
        first = operands[0]
        match op:
            case Elementwise():
                return op(*(self._aligned(one, variable.ndim) for one in operands))
            case MatMul():
                return self._product(*operands)
            case Dimshuffle(pattern):
                return dimshuffle(self.stacks[first], 0, *("x" if one is None else one + 1 for one in pattern))
            case Reshape(pattern) if first in self.stacks:
                return reshape(self.stacks[first], self._sizes(operands[1:], pattern))
            case BroadcastTo(pattern, _):
                return broadcast_to(self._aligned(first, len(pattern)), self._sizes(operands[1:], pattern))
            case Index(entries):
                if first in self.stacks:
                    fillers = [self._fixed_value(one) for one in operands[1:]]
                    return Index((WHOLE, *entries))(self.stacks[first], *fillers)
                if entries[0] == Hole() and all(entry == WHOLE for entry in entries[1:]):  # rows of a table, such as embeddings
                    return Index(entries)(self._fixed_value(first), self.stacks[operands[1]])
            case Concatenate(axis) if all(one in self.stacks for one in operands):
                return Concatenate(axis + 1)(*(self.stacks[one] for one in operands))
            case Reduction():
                return op.over(tuple([axis + 1 for axis in op.axes]))(self.stacks[first])
        return None

    def _product(self, left: Variable, right: Variable) -> Variable | None:
        """All rows of a product with a matrix that does not vary, as one product."""
        if left in self.stacks and right not in self.stacks and left.ndim == right.ndim == 2:
            rows, matrix = self.stacks[left], self._fixed_value(right)
            height = shape(rows)[1]
            flat = MatMul()(reshape(rows, (self._steps() * height, shape(rows)[2])), matrix)
            return reshape(flat, (self._steps(), height, shape(matrix)[1]))
        if right in self.stacks and left not in self.stacks and left.ndim == 2 and right.type.shape[1:] == (1,):
            rows, matrix = self.stacks[right], self._fixed_value(left)
            flat = MatMul()(dimshuffle(rows, 0, 1), dimshuffle(matrix, 1, 0))
            return dimshuffle(flat, 0, 1, "x")
        return None


def _is_outer(product: Variable) -> bool:
    """Whether a product is one multiplication an element."""
    left, right = product.inputs
    return 1 in (left.type.shape[-1], right.type.shape[-2])


def _is_stackable(variable: Variable) -> bool:
    """Whether all rows of a value can be computed from those of its operands at once."""
    match variable.op:
        case Elementwise() | Dimshuffle() | Reshape() | BroadcastTo() | Concatenate() | Reduction():
            return True
        case MatMul():
            return variable.ndim == 2
        case Index():
            return _is_slice(variable)
    return False


def _is_slice(variable: Variable) -> bool:
    """Whether a variable is a view into another by a basic index."""
    return isinstance(variable.op, Index) and all(not one.ndim for one in variable.inputs[1:])


def _is_plain_view(variable: Variable) -> bool:
    """Whether a variable shows another's elements in other places."""
    return isinstance(variable.op, Dimshuffle) or (_is_slice(variable) and len(variable.inputs) == 1)
