"""The updates that computing some variables asks for, in which branches, and what becomes of several of one shared variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import reduce

from minigraph.core.conversion import constant
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Composite, Identity, Item, Leaf, Shared, Variable, is_annotation, toposort
from minigraph.core.record import Record
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.creation import Arange
from minigraph.ops.array.indexing import Assign, Increment, Index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, reshape
from minigraph.ops.array.sizes import Size
from minigraph.ops.control import Advance, DefaultUpdate, GradientOp, IfElse, computed_by
from minigraph.ops.elementwise.arithmetic import maximum
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.elementwise.comparison import logical_not, logical_or
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import chain_of, final_state
from minigraph.ops.random import RandomBits
from minigraph.ops.reduce.base import Reduction

Accepts = Callable[[Variable], bool]
Branch = tuple[Variable, bool]
"""An `ifelse`, and whether it is the branch that is taken if its condition is true."""
Branches = Set[Branch]


def asked_updates(roots: Sequence[Variable], accepts: Accepts) -> dict[Variable, tuple[DefaultUpdate, Variable]]:
    """For each accepted target that computing the roots asks to update, in which way, and its new value.

    What only a branch of an `ifelse` asks for happens if that is taken: the new value is the old one otherwise. New values may
    ask for updates, too. ValueError for several updates of one target, unless one continues another, at most one can happen, or
    all advance it.
    """
    order = toposort(roots)
    requests = [(one, one.op) for one in order if isinstance(one.op, DefaultUpdate) and any(map(accepts, one.inputs[1::2]))]
    if not requests:
        return {}
    demand = _Demand(roots, order, accepts, sizes=False)
    if not demand.always.issuperset(one for one, _ in requests):
        demand = _Demand(roots, order, accepts, sizes=True)
    wishes: dict[Variable, dict[object, _Wish]] = {}
    for request, kind in requests:
        branches = demand.of(request)
        for target, new in zip(request.inputs[1::2], request.inputs[2::2], strict=True):
            if branches is not None and accepts(target):
                same = wishes.setdefault(target, {})
                key = final_state(new) or (new,)
                together = demand.either(same[key].branches, branches) if key in same else branches
                same[key] = _Wish(kind, new, together)
    return {target: _settled(target, list(several.values()), demand) for target, several in wishes.items()}


def asked_targets(roots: Sequence[Variable]) -> set[Variable]:
    """The shared variables that computing the roots may ask to update."""
    asking = [one for one in computed_by(roots) if isinstance(one.op, DefaultUpdate)]
    return {target for one in asking for target in one.inputs[1::2] if isinstance(target.op, Shared)}


class _Wish(Record):
    """A new value of a target, how it is asked for, and the branches that ask for it; none if it is asked for in any case."""

    kind: DefaultUpdate
    new: Variable
    branches: Branches


def _settled(target: Variable, wishes: Sequence[_Wish], demand: _Demand) -> tuple[DefaultUpdate, Variable]:
    """The way to update a target, and its new value, from those that are asked for."""
    overtaken = {key for one in wishes if not one.branches for key in chain_of(one.new)}
    wishes = [one for one in wishes if final_state(one.new) not in overtaken]
    if all(isinstance(one.kind, Advance) for one in wishes):
        return wishes[0].kind, reduce(maximum, (demand.guarded(one.branches, one.new, target) for one in wishes))
    value = target
    wishes = sorted(wishes, key=lambda one: len(chain_of(one.new)))
    for k, one in enumerate(wishes):
        for other in wishes[k + 1 :]:
            goes_on = final_state(one.new) in chain_of(other.new)
            if not goes_on and not demand.exclude_each_other(one.branches, other.branches):
                raise InvalidValueError(
                    f"two computed variables ask for different updates of {target!r} ({target.origin}): {one.new!r} "
                    f"({one.new.origin}) and {other.new!r} ({other.new.origin}), and one would be lost; {one.kind.remedy}"
                )
        value = demand.guarded(one.branches, one.new, value)
    return wishes[0].kind, value


Node = Variable | tuple[Variable]
"""A variable that is computed, or in a tuple one of which only the shape is needed."""


class _Demand:
    """For which branches the variables of a graph are computed.

    sizes: look into what computing a size computes; otherwise it computes nothing.
    """

    def __init__(self, roots: Sequence[Variable], order: Sequence[Variable], accepts: Accepts, sizes: bool) -> None:
        self._accepts, self._sizes = accepts, sizes
        self._order, self._places = order, {one: place for place, one in enumerate(order)}
        self._branches: dict[Node, Branches] = {}
        self._alike: dict[tuple[Variable, Branches | None], Variable] = {}
        """The first `ifelse` of all that share a condition and are computed for the same branches, as in gradients."""
        self._conditions: dict[Variable, Variable] = {}
        self._implied: dict[Variable, Set[Branch]] = {}
        self.always: set[Node] = set(roots)
        """The nodes that are computed in any case."""
        for variable in reversed(order):
            if sizes:
                self._pass_on((variable,))  # which may need the value
            self._pass_on(variable)

    def _pass_on(self, node: Node) -> None:
        """Hand on to what a node needs for which branches it is needed."""
        own = self._branches.pop(node, frozenset())
        if own and node not in self.always:
            own = self._joined(own)
            if not own:
                self.always.add(node)
        if node not in self.always:
            if not own:
                return
            self._branches[node] = own
        for one, branch in self._needs(node):
            if branch is not None:
                self._branches[one] = self._branches.get(one, frozenset()) | {branch}
            elif node in self.always:
                self.always.add(one)
            else:
                self._branches[one] = self._branches.get(one, frozenset()) | own

    def of(self, variable: Variable) -> Branches | None:
        """The branches that a variable is computed for: empty if it is in any case, None if it is not computed at all."""
        return frozenset() if variable in self.always else self._branches.get(variable)

    def either(self, one: Branches, other: Branches) -> Branches:
        """The branches that compute one variable or another."""
        return self._joined(one | other) if one and other else frozenset()

    def _joined(self, branches: Branches) -> Branches:
        """Branches without the two of one `ifelse`, in whose place those stand that compute it; empty for any case."""
        found = set(branches)
        whole = [variable for variable, side in found if side and (variable, False) in found]
        while whole:
            variable = whole.pop()
            if variable in self.always:
                return frozenset()
            found -= {(variable, True), (variable, False)}
            for outer in self._branches[variable]:
                found.add(outer)
                if (outer[0], not outer[1]) in found and outer[0] not in whole:
                    whole.append(outer[0])
        return frozenset(found)

    def _needs(self, node: Node) -> list[tuple[Node, Branch | None]]:
        """The nodes that a node needs first, each with the branch of this node that needs it, if only one does."""
        if isinstance(node, tuple):
            return [(one, None) for one in _shape_needs(node[0], self._places.keys())]
        op, inputs = node.op, node.inputs
        if isinstance(op, IfElse):
            demand = None if node in self.always else self._branches[node]
            alike = self._alike.setdefault((inputs[0], demand), node)
            return [(inputs[0], None), (inputs[1], (alike, True)), (inputs[2], (alike, False))]
        if isinstance(op, DefaultUpdate):
            news = [new for target, new in zip(inputs[1::2], inputs[2::2], strict=True) if self._accepts(target)]
            return [(one, None) for one in (inputs[0], *news)]
        if is_annotation(op):
            return [(inputs[0], None)]
        if isinstance(op, Size):
            return [((inputs[0],), None)] if self._sizes else []
        return [(one, None) for one in inputs]

    # -- conditions ------------------------------------------------------------------------------------------------------

    def guarded(self, branches: Branches, new: Variable, old: Variable) -> Variable:
        """A new value if one of some branches is taken, and the old one otherwise; the new one if there are none."""
        if not branches:
            return new
        self._look_at(branches)
        return IfElse()(self._condition(branches), _fitted(new, old), old)

    def exclude_each_other(self, some: Branches, others: Branches) -> bool:
        """Whether it is plain that no call takes one of some branches and one of others."""
        self._look_at(some | others)
        implied = self._implied_by(others) if others else frozenset()
        return any((condition, not side) in implied for condition, side in (self._implied_by(some) if some else ()))

    def _look_at(self, branches: Branches) -> None:
        """Find out when the `ifelse` that some branches belong to are computed, the outer ones first."""
        concerned, pending = set(), [variable for variable, _ in branches]
        while pending:
            variable = pending.pop()
            if variable not in concerned and variable not in self.always and variable not in self._conditions:
                concerned.add(variable)
                pending += [outer for outer, _ in self._branches[variable]]
        for variable in reversed(self._order) if concerned else ():
            if variable in concerned:
                self._conditions[variable] = self._condition(self._branches[variable])
                self._implied[variable] = self._implied_by(self._branches[variable])

    def _condition(self, branches: Branches) -> Variable:
        """Whether one of some branches is taken; a condition within a branch is computed only if that is taken."""
        found: Variable | None = None
        for variable, side in sorted(branches, key=lambda one: (self._places[one[0]], one[1])):
            own = variable.inputs[0] if side else logical_not(variable.inputs[0])
            if variable not in self.always:
                own = IfElse()(self._conditions[variable], own, constant(False))
            found = own if found is None else logical_or(found, own)
        assert found is not None
        return found

    def _implied_by(self, branches: Branches) -> Set[Branch]:
        """The conditions, with their values, that hold whichever of some branches is taken."""
        each = [{(one.inputs[0], side), *self._implied.get(one, ())} for one, side in branches]
        return frozenset(each[0].intersection(*each[1:]))


def _fitted(new: Variable, old: Variable) -> Variable:
    """A new value such that it can stand beside the old one in an `ifelse`: with sizes of 1 where that has them."""
    if new.broadcastable == old.broadcastable:
        return new
    sizes = [1 if known == 1 else Size(axis)(new) for axis, known in enumerate(old.type.shape)]
    return reshape(new, sizes)


def _shape_needs(variable: Variable, known: Set[Variable]) -> list[Node]:
    """The nodes that the shape of a variable follows from: some of the known variables, or their shapes."""
    if None not in variable.type.shape:
        return []
    found: list[Node] = []
    pending, seen = _shape_sources(variable), set[Node]()
    while pending:
        node = pending.pop()
        plain = node[0] if isinstance(node, tuple) else node
        if node in seen:
            continue
        seen.add(node)
        if plain in known:
            found.append(node)
        elif isinstance(node, tuple):  # of what a composite stands for
            pending += _shape_sources(plain)
        else:
            pending += [(one,) for one in plain.inputs] if isinstance(plain.op, Size) else plain.inputs
    return found


def _shape_sources(variable: Variable) -> list[Node]:
    """The variables whose shapes a variable's shape follows from, and those whose values it depends on."""
    op, inputs = variable.op, variable.inputs
    shapes: Sequence[Variable] = ()
    values: Sequence[Variable] = ()
    if isinstance(op, Item) and isinstance(inputs[0].op, Composite) and not inputs[0].op.foreign:
        return [(inputs[0].op.expand(*inputs[0].inputs)[op.index],)]
    match op:
        case _ if op.foreign:
            values = [variable]
        case Leaf():
            pass
        case Composite():
            shapes = [op.expand(*inputs)]
        case BroadcastTo() | Reshape() | RandomBits():
            shapes, values = inputs[:1], inputs[1:]
        case Arange():
            values = inputs
        case Assign() | Increment() | Identity() | GradientOp():
            shapes = inputs[:1]
        case Index():
            shapes = [inputs[0], *(one for one in inputs[1:] if one.ndim and one.dtype.kind != "b")]
            values = [one for one in inputs[1:] if one not in shapes]
        case Elementwise() | Dimshuffle() | Reduction() | MatMul() | Concatenate():
            shapes = inputs
        case _:
            values = [variable]
    return [*((one,) for one in shapes), *values]
