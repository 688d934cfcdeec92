"""Loops do less: what steps have in common is done before or after, for all of them at once.

`lift_loops` takes products of matrices out of loops where no step waits for them: those of sequences come before the loop,
those that only results need, and sums over all steps, after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

from minigraph.core.graph import Graph, Variable, toposort
from minigraph.core.origin import carry_on
from minigraph.core.walks import rebuild
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
from minigraph.rewrite.specialize import follows_from_sizes
from minigraph.rewrite.tidy_loops import Change, Roots, as_asked, is_slice, items_of, pruned, remade, with_each, with_loops

Factors = tuple[Variable, Variable, bool]
"""Two matrices of a body, and whether what is meant is their product transposed."""


def lift_loops(graph: Graph) -> Graph:
    """The graph with products of matrices outside of loops where no step waits for them."""
    return with_loops(graph, lambda roots: pruned(with_each(with_each(roots, _taken_before), _taken_after)))


# -- all steps at once -------------------------------------------------------------------------------------------------


class _CannotBeStacked(Exception):
    """A value of a loop cannot be computed for all steps at once."""


class _Stacks:
    """The values of a loop's body seen from outside: all their rows at once, or the one value of all steps."""

    def __init__(self, whole: Variable) -> None:
        self.whole, self.op = whole, cast(Scan, whole.op)
        self.steps: Any = whole.inputs[0] if self.op.steps is None else self.op.steps
        parts = self.op.split(list(zip(self.op.body.inputs, whole.inputs[1:], strict=True)))
        self.sequences, self.states, self.shared = parts
        self.stacks: dict[Variable, Variable] = dict(self.sequences)
        """For values of the body all their rows."""
        self.varying = self.depending(inner for inner, _ in self.sequences + self.states)

    def depending(self, on: Iterable[Variable]) -> set[Variable]:
        """The body's variables whose values depend on some of its inputs, these included; sizes are the same at every step."""
        found = set(on)
        for one in self.op.body.variables:
            if not isinstance(one.op, Size) and any(operand in found for operand in one.inputs):
                found.add(one)
        return found

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

    def fixed(self, variable: Variable) -> Variable:
        """A value that is the same at every step, outside of the loop."""
        if variable in self.varying:
            raise _CannotBeStacked
        measured = [one for one in toposort([variable]) if isinstance(one.op, Size) and one.inputs[0] in self.varying]
        return rebuild([variable], dict(self.shared) | {one: self._size_outside(one) for one in measured})[0]

    def _size_outside(self, size: Variable) -> Variable:
        """The size of an axis of a value that varies, read off what is there outside of the loop."""
        variable, axis = size.inputs[0], cast(Size, size.op).axis
        states = dict(self.states)
        if variable in states:
            return Size(axis)(states[variable])
        if variable not in self.stacks:
            raise _CannotBeStacked
        return Size(axis + 1)(self.stacks[variable])

    def _aligned(self, variable: Variable, ndim: int) -> Variable:
        """All rows of a value, or the one value, such that its last axes are those of a row of `ndim` axes."""
        if variable not in self.stacks:
            return self.fixed(variable)
        rows = self.stacks[variable]
        return dimshuffle(rows, 0, *("x",) * (ndim + 1 - rows.ndim), *range(1, rows.ndim))

    def _sizes(self, variables: Sequence[Variable], pattern: Sequence[int | None]) -> list[Any]:
        """The shape of all rows, whose unknown sizes are given by variables."""
        remaining = iter(variables)
        return [self.steps, *(self.fixed(next(remaining)) if one is None else one for one in pattern)]

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
            case Index(entries) if first in self.stacks:
                return Index((WHOLE, *entries))(self.stacks[first], *map(self.fixed, operands[1:]))
            case Index((Hole(), *rest) as entries) if all(entry == WHOLE for entry in rest):  # a row of a table
                return Index(entries)(self.fixed(first), self.stacks[operands[1]])
            case Concatenate(axis) if all(one in self.stacks for one in operands):
                return Concatenate(axis + 1)(*(self.stacks[one] for one in operands))
            case Reduction():
                return op.over(tuple([axis + 1 for axis in op.axes]))(self.stacks[first])
        return None

    def _product(self, left: Variable, right: Variable) -> Variable | None:
        """All rows of a product with a matrix that does not vary, as one product."""
        if left in self.stacks and right not in self.stacks and left.ndim == right.ndim == 2:
            rows, matrix = self.stacks[left], self.fixed(right)
            height = shape(rows)[1]
            flat = MatMul()(reshape(rows, (self.steps * height, shape(rows)[2])), matrix)
            return reshape(flat, (self.steps, height, shape(matrix)[1]))
        if right in self.stacks and left not in self.stacks and left.ndim == 2 and right.type.shape[1:] == (1,):
            rows, matrix = self.stacks[right], self.fixed(left)
            flat = MatMul()(dimshuffle(rows, 0, 1), dimshuffle(matrix, 1, 0))
            return dimshuffle(flat, 0, 1, "x")
        return None


def _is_stackable(variable: Variable) -> bool:
    """Whether all rows of a value can be computed from those of its operands at once."""
    able = isinstance(variable.op, Elementwise | Dimshuffle | Reshape | BroadcastTo | Concatenate | Reduction)
    return able or is_slice(variable) or (isinstance(variable.op, MatMul) and variable.ndim == 2)


# -- before the loop ---------------------------------------------------------------------------------------------------


def _taken_before(roots: Roots, whole: Variable) -> Change:
    """The results of a loop, and that, with products of sequences, and what does not vary, computed before it."""
    values = _Stacks(whole)
    if values.op.stops:
        return {}, whole
    waiting = values.depending(inner for inner, _ in values.states)
    products: dict[Variable, Variable] = {}
    for one in values.op.body.variables:
        if isinstance(one.op, MatMul) and one in values.varying and one not in waiting:
            left, right = one.inputs
            if 1 not in (left.type.shape[-1], right.type.shape[-2]):  # else it is one multiplication an element
                with suppress(_CannotBeStacked):
                    products[one] = values.stacked(one)
    fixed = _fixed_parts(values, products)
    if not products and not fixed:
        return {}, whole
    inner = {one: stand_in(one) for one in (*products, *fixed)}
    sequences = values.sequences + [(inner[one], rows) for one, rows in products.items()]
    shared = values.shared + [(inner[one], value) for one, value in fixed.items()]
    changed = remade(whole, (sequences, values.states, shared), rebuild(values.op.body.outputs, inner))
    results = list(results_of(changed))
    return {item: results[place] for place, item in items_of(whole, roots)}, changed


def _fixed_parts(values: _Stacks, products: Collection[Variable]) -> dict[Variable, Variable]:
    """The largest parts of the body that are the same at every step and take computing, with their values."""
    order = values.op.body.variables
    constant = values.depending(inner for inner, _ in values.shared) - values.varying
    work: set[Variable] = set()
    for one in order:
        view = isinstance(one.op, Dimshuffle | BroadcastTo | Reshape | Size) or is_slice(one)
        if one in constant and one.inputs and (not view or any(operand in work for operand in one.inputs)):
            work.add(one)
    read = [operand for one in order if one in values.varying and one not in products for operand in one.inputs]
    fallible = {one for one in order if may_fail(one) or isinstance(one.op, IfElse)}
    found: dict[Variable, Variable] = {}
    for one in dict.fromkeys([*read, *values.op.body.outputs]):
        wanted = one in work and not isinstance(one.type, tuple) and (one.ndim > 0 or not follows_from_sizes(one))
        if wanted and fallible.isdisjoint(toposort([one])):
            with suppress(_CannotBeStacked):
                found[one] = values.fixed(one)
    return found


# -- after the loop ----------------------------------------------------------------------------------------------------


def _taken_after(roots: Roots, whole: Variable) -> Change:
    """The results of a loop, and that, with products that only results need, and sums of them, computed after it."""
    with suppress(_CannotBeStacked):
        values = _After(whole)
        if not values.op.stops and (values.sums or values.late):
            return values.taken(roots)
    return {}, whole


class _After(_Stacks):
    """The work that can be done after a loop: the sums and the rows that no step reads, and what they are computed from."""

    def __init__(self, whole: Variable) -> None:
        super().__init__(whole)
        new, rows = self.op.body.outputs[: self.op.states], self.op.body.outputs[self.op.states :]
        self.sums = {place: factors for place in range(self.op.states) if (factors := self._summed(place))}
        """For states that are sums over all steps the products that are added up."""
        self.staying = [place for place in range(self.op.states) if place not in self.sums]
        self.inside = set(toposort(new[place] for place in self.staying)) & self.varying
        self.late = [row for row in rows if row not in self.inside and self._multiplies(row)]
        """The rows that are computed after the loop."""
        self.extra: dict[Variable, None] = dict.fromkeys(row for row in rows if row not in self.late)
        """The rows that the loop leaves."""

    def taken(self, roots: Roots) -> Change:
        """The results of the loop, and that, without the sums and late rows, which are computed after it."""
        op, new = self.op, self.op.body.outputs
        old = [inner for inner, _ in self.states]
        wanted = self._wanted_stacks()
        kept = {place: op.kept[place] or old[place] in wanted or new[place] in wanted for place in self.staying}
        states = [self.states[place] for place in self.staying]
        outputs = [*(new[place] for place in self.staying), *self.extra]
        whole = remade(self.whole, (self.sequences, states, self.shared), outputs, kept=tuple(kept.values()))
        results = list(results_of(whole))
        before, after = (slice(1, None), slice(0, -1)) if op.backwards else (slice(0, -1), slice(1, None))
        state = dict(zip(self.staying, results, strict=False))
        for place in self.staying:
            if kept[place]:
                self.stacks[old[place]] = index(state[place], before)
                self.stacks.setdefault(new[place], index(state[place], after))
        self.stacks.update(zip(self.extra, results[len(states) :], strict=True))
        found: dict[Variable, Variable] = {}
        for place, item in items_of(self.whole, roots):
            if place >= op.states:
                found[item] = self.stacked(new[place])
            elif place in self.sums:
                found[item] = self._total(self.states[place][1], self.sums[place])
            else:
                found[item] = as_asked(op, place, kept[place], state[place])
        return found, whole

    def _summed(self, place: int) -> list[Factors]:
        """The products that are added to a state at every step, if that is all, and only the sum is asked for; else nothing."""
        if self.op.kept[place]:
            return []
        state, new = self.states[place][0], self.op.body.outputs[place]
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
        factors = [found for one in terms if (found := self._factors(one)) is not None]
        alone = seen == 1 and state not in toposort([*terms, *others])
        return factors if alone and len(factors) == len(terms) else []

    def _factors(self, term: Variable) -> Factors | None:
        """The varying matrices whose product a term is, if it is one of more than a row or a column."""
        turned = isinstance(term.op, Dimshuffle) and term.op.pattern == (1, 0)
        product = term.inputs[0] if turned else term
        if not isinstance(product.op, MatMul) or 1 in term.type.shape:
            return None
        left, right = product.inputs
        varying = all(one.ndim == 2 and one in self.varying for one in (left, right))
        return (left, right, turned) if varying else None

    def _total(self, first: Variable, factors: Sequence[Factors]) -> Variable:
        """A first state and the sum over all steps of products: one product of longer matrices."""
        total = first
        for one, other, turned in factors:
            left, right = self.stacked(one), self.stacked(other)
            rows, inner, columns = shape(left)[1], shape(right)[1], shape(right)[2]
            upright = reshape(dimshuffle(left, 0, 2, 1), (self.steps * inner, rows))
            product = MatMul()(dimshuffle(upright, 1, 0), reshape(right, (self.steps * inner, columns)))
            product = dimshuffle(product, 1, 0) if turned else product
            total = product if is_zeros(total) and product.type == total.type else total + product
        return total

    def _multiplies(self, row: Variable) -> bool:
        """Whether a row is computed by a product with a matrix that does not vary, outside of what stays in the loop."""
        outside = [one for one in toposort([row], stop=self.inside) if one not in self.inside and one in self.varying]
        products = [one for one in outside if isinstance(one.op, MatMul)]
        liftable = any(one.inputs[1] not in self.varying and one.inputs[0].ndim == 2 for one in products)
        return liftable and all(_is_stackable(one) or one in self.stacks for one in outside)

    def _wanted_stacks(self) -> set[Variable]:
        """The values of the loop that must be known for all steps; those that are neither states nor rows become rows."""
        states = {inner for inner, _ in self.states}.union(self.op.body.outputs[: self.op.states])
        pending = [one for factors in self.sums.values() for left, right, _ in factors for one in (left, right)] + self.late
        wanted: set[Variable] = set()
        seen: set[Variable] = set()
        while pending:
            one = pending.pop()
            if one in seen or one not in self.varying or one in self.stacks:
                continue
            seen.add(one)
            kept = one in self.inside or one in self.extra or not _is_stackable(one)
            view = isinstance(one.op, Dimshuffle) or (is_slice(one) and len(one.inputs) == 1)
            if kept and not view:
                wanted.add(one)
                if one not in states:
                    self.extra[one] = None
            else:
                pending += one.inputs
        return wanted
