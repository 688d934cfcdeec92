"""The loop as one op: a body, which is a graph of its own, run step after step.

A loop reads one row of each sequence at a time, carries states from one step to the next, and leaves the history of each state
and the rows of each output. What the body needs besides, it captures: values that are the same at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from types import MappingProxyType
from typing import Any

import numpy as np

from minigraph.core.conversion import constant
from minigraph.core.errors import InvalidIndexError, InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Constant, Graph, Identity, Input, Item, Structural, Types, Variable, toposort
from minigraph.core.types import TensorType
from minigraph.core.walks import rebuild
from minigraph.ops.array.entries import WHOLE
from minigraph.ops.array.indexing import Index, index
from minigraph.ops.array.shape import BroadcastTo
from minigraph.ops.control import DefaultUpdate, computed_by, with_asked

Body = Callable[..., Sequence[Array]]
"""A function that computes the roots of a body from the values of its inputs."""


class Scan(Structural):
    """Its inputs are the number of steps, sequences with a row for each step, first states, and what the body captures.

    The body's inputs are a row of each sequence, the states, and what is captured; its outputs the new states, one row of each
    output, and with `stops` whether this step is the last one. The results are, for each state, its history, which begins with
    the first state, or where it is not `kept` the last state alone; then the stacked rows of each output; and with `stops` how
    many steps were done.
    """

    body: Graph
    sequences: int
    states: int
    steps: int | None
    """The number of steps where it is known when the graph is built."""
    kept: tuple[bool, ...]
    stops: bool = False
    roomy: bool = False
    """Whether results of a loop that stops have room for all steps; what was not done is then whatever lay in memory."""
    backwards: bool = False
    """Whether it goes from the last row to the first. All keep their places: the first state is the last row of a history."""
    truncated: int = -1
    """The number of last steps that gradients flow through, -1 for all."""
    recomputed: bool = False
    """Whether gradients compute the body's values again instead of keeping them."""
    updated: tuple[DefaultUpdate, ...] = ()
    """The ways to update, outside of the loop, the shared variables with whose values the last of the states begin."""
    least: int = 0
    """The number of steps that a loop must have for the rows that are picked from histories to exist."""
    name: str | None = None

    def __repr__(self) -> str:
        steps = "?" if self.steps is None else self.steps
        way = ", backwards" if self.backwards else ""
        return f"Scan({self.name or 'loop'}: {steps} steps, {self.sequences} sequences, {self.states} states{way})"

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable]:
        return inputs[:1]

    def may_fail(self, *types: TensorType) -> bool:
        return any(map(may_fail, self.body.variables))

    @property
    def outputs(self) -> int:
        """The number of outputs that are not states."""
        return len(self.body.outputs) - self.states - self.stops

    def split(self, given: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """The parts of the op's inputs, or the body's, that are sequences, states and captured values."""
        last = self.sequences + self.states
        return list(given[: self.sequences]), list(given[self.sequences : last]), list(given[last:])

    def infer(self, *types: Any) -> Types:
        count, *given = types
        if count.ndim or count.dtype.kind not in "iu":
            raise InvalidTypeError(f"the number of steps must be an integer scalar, not {count}")
        places = self.split(range(len(given)))[0]
        for place, (kind, variable) in enumerate(zip(given, self.body.inputs, strict=True)):
            row = _row_type(kind, self.steps) if place in places else kind
            if not variable.type.admits(row):
                raise InvalidTypeError(f"the body of the loop takes {variable.type} as {variable!r}, not {row}")
        rows = None if self.steps is None or (self.stops and not self.roomy) else self.steps
        history = None if rows is None else rows + 1
        kinds = [one.type for one in self.body.outputs]
        states = [
            kind if not keep else TensorType(kind.dtype, (history, *kind.shape))
            for kind, keep in zip((one.type for one in self.body.inputs[self.sequences :]), self.kept, strict=False)
        ]
        outputs = kinds[self.states : self.states + self.outputs]
        done = [TensorType(np.dtype(np.int64), ())] * self.stops
        return (*states, *(TensorType(kind.dtype, (rows, *kind.shape)) for kind in outputs), *done)

    def forward(self, xp: Any, *arrays: Array) -> Any:
        order = self.body.variables

        def evaluate(*values: Array) -> list[Array]:
            known = dict(zip(self.body.inputs, values, strict=True))
            for variable in order:
                if variable not in known:
                    op = variable.op
                    operands = [known[one] for one in variable.inputs]
                    known[variable] = op.value if isinstance(op, Constant) else op.forward(xp, *operands)
            return [xp.asarray(known[root]) for root in self.body.outputs]

        return self.run(xp, evaluate, *arrays)

    def run(self, xp: Any, body: Body, count: Array, *arrays: Array) -> tuple[Array, ...]:
        """The results of `count` steps over `arrays` of `xp`; without steps `body` gets zeros if it must show the shapes."""
        steps = int(count)
        self.check_steps(steps)
        sequences, states, captured = self.split(arrays)
        for position, sequence in enumerate(sequences):
            if sequence.shape[0] != steps:
                raise ValueError(f"sequence {position} of the loop has {sequence.shape[0]} rows for {steps} steps")
        if not steps:
            return self._without_steps(xp, body, sequences, states, captured)
        first, stacks, done, stopped = list(states), [], 0, False
        while done < steps and not stopped:
            row = steps - 1 - done if self.backwards else done
            results = body(*[one[row, ...] for one in sequences], *states, *captured)
            self._check_states(first, results)
            states = list(results[: self.states])
            written = [*states, *results[self.states : self.states + self.outputs]]
            if not done:
                stacks = [self._memory(xp, k, steps, one) for k, one in enumerate(written)]
            for k, (target, value) in enumerate(zip(stacks, written, strict=True)):
                if target is not None:
                    if value.shape != target.shape[1:]:
                        raise ValueError(f"rows {target.shape[1:]} and {value.shape} of an output of the loop do not stack")
                    target[row + (k < self.states and not self.backwards)] = value
            done += 1
            stopped = self.stops and bool(results[-1])
        return self._collected(xp, first, states, stacks, done)

    def check_steps(self, steps: int) -> None:
        """IndexError for too few steps, ValueError for a negative number."""
        if steps < 0:
            raise InvalidValueError(f"a loop cannot do {steps} steps")
        if steps < self.least:
            raise InvalidIndexError(f"a row of a loop's results is asked for that a loop of {steps} steps does not have")

    def _memory(self, xp: Any, position: int, steps: int, value: Array) -> Array | None:
        """Room for the history of a state, or the rows of an output; None for a state that is not kept."""
        if position >= self.states:
            return xp.empty((steps, *value.shape), value.dtype)
        return xp.empty((steps + 1, *value.shape), value.dtype) if self.kept[position] else None

    def _collected(
        self, xp: Any, first: Sequence[Array], last: Sequence[Array], stacks: Sequence[Any], done: int
    ) -> tuple[Array, ...]:
        """The results once all steps are done."""
        results = []
        for k, target in enumerate(stacks):
            if target is None:
                results.append(xp.array(last[k]))
            elif k < self.states:
                target[-1 if self.backwards else 0] = first[k]
                results.append(target[: done + 1])
            else:
                results.append(target[:done])
        return tuple(results + [xp.asarray(done)] * self.stops)

    def _check_states(self, states: Sequence[Array], results: Sequence[Array]) -> None:
        """ValueError if a state does not keep its shape."""
        for k, state in enumerate(states):
            if results[k].shape != state.shape:
                raise ValueError(f"state {k} of the loop has shape {state.shape} at first, and {results[k].shape} after a step")

    def _without_steps(
        self, xp: Any, body: Body, sequences: Sequence[Array], states: Sequence[Array], captured: Sequence[Array]
    ) -> tuple[Array, ...]:
        """The results of no step: first states, and no rows, whose shapes a step on zeros shows where they are not known."""
        kinds = [one.type for one in self.body.outputs[self.states : self.states + self.outputs]]
        shapes = [kind.shape for kind in kinds]
        if any(None in shape for shape in shapes):
            rows = [xp.zeros(one.shape[1:], one.dtype) for one in sequences]
            shapes = [one.shape for one in body(*rows, *states, *captured)[self.states : self.states + self.outputs]]
        kept = [xp.array(one)[None] if keep else xp.array(one) for one, keep in zip(states, self.kept, strict=True)]
        rows_of = [xp.empty((0, *shape), kind.dtype) for kind, shape in zip(kinds, shapes, strict=True)]
        return (*kept, *rows_of, *([xp.asarray(0)] * self.stops))

    def with_body(self, roots: Sequence[Variable], inputs: tuple[Variable, ...]) -> tuple[Structural, tuple[Variable, ...]]:
        own = self.body.inputs[: self.sequences + self.states]
        shared = self.split(list(zip(self.body.inputs, inputs[1:], strict=True)))[2]
        first: dict[Variable, Variable] = {}
        for inner, outer in shared:
            first.setdefault(outer, inner)
        fixed = {inner: outer for outer, inner in first.items() if not isinstance(outer.op, Constant)}
        leaves = {outer: inner for inner, outer in fixed.items() if not outer.inputs}
        before, after = ({fixed.get(one, one) for one in _updated(some, own)} for some in (self.body.outputs, roots))
        moving = _following(fixed.values(), after - before)
        fixed = {inner: outer for inner, outer in fixed.items() if outer not in moving}
        inside = dict(zip(moving, rebuild(moving, leaves), strict=True))
        placed = {inner: first[outer] if first[outer] in fixed else inside.get(outer, outer) for inner, outer in shared}
        kept = {outer for outer in fixed.values() if outer.inputs}
        taken, fresh, changed = captured(own, rebuild(roots, placed | leaves), fixed, kept)
        return self.altered(body=Graph((*own, *fresh), tuple(changed))), (*inputs[: 1 + len(own)], *taken)

    def altered(self, **fields: Any) -> Scan:
        """The op with some fields changed."""
        return type(self)(**(vars(self) | fields))


class Continued(Identity):
    """The number of steps of a loop that goes on where another ended, a result of which follows, over what is left of rows."""


def goes_on_from(whole: Variable) -> Variable | None:
    """The loop that a loop continues, None if it stands for itself."""
    count = whole.inputs[0]
    if not isinstance(count.op, Continued):
        return None
    result = count.inputs[1]
    while isinstance(result.op, Identity):
        result = result.inputs[0]
    return result.inputs[0]


def _row_type(kind: TensorType, steps: int | None) -> TensorType:
    """The type of one row of a sequence."""
    if not kind.ndim:
        raise InvalidTypeError(f"a loop runs over the first axis of sequences, and {kind} has none")
    if steps is not None and kind.shape[0] not in (None, steps):
        raise InvalidValueError(f"a sequence of {kind} has {kind.shape[0]} rows, and the loop {steps} steps")
    return TensorType(kind.dtype, kind.shape[1:])


def stand_in(variable: Variable) -> Variable:
    """A fresh input in the place of a variable that a body captures."""
    return Variable(Input(), (), variable.type, variable.name, variable.tags, variable.origin)


def captured(
    inputs: Sequence[Variable],
    roots: Sequence[Variable],
    fixed: Mapping[Variable, Variable] = MappingProxyType({}),
    outside: Set[Variable] = frozenset(),
) -> tuple[list[Variable], list[Variable], list[Variable]]:
    """The variables that the roots of a body take from outside, inputs for them, and the roots over those.

    Taken is what depends on none of the body's `inputs`, in parts as large as possible; constants, stretched or not, stay
    inside. What the body asks to update is taken alone; what may fail stays inside, where it is computed when its turn comes.
    `fixed` are inputs that the roots hold already, and what they stand for. What is `outside` is taken, whatever it computes.
    """
    targets = _updated(roots, inputs, outside)
    held = {target: target if target in fixed else stand_in(target) for target in targets}
    roots = rebuild(roots, held | {one: one for one in outside})
    own = {*inputs, *held.values()}
    order = toposort(roots, stop=own | outside)
    bound: set[Variable] = set()
    free: set[Variable] = set()
    for variable in order:
        stretched = isinstance(variable.op, BroadcastTo) and variable.inputs[0] not in free  # which takes no memory inside
        if variable in outside:
            free.add(variable)
        elif variable in own or any(one in bound for one in variable.inputs) or stretched or may_fail(variable):
            bound.add(variable)
        elif not isinstance(variable.op, Constant) and (not variable.inputs or any(one in free for one in variable.inputs)):
            free.add(variable)
    used = [one for variable in order if variable in bound for one in variable.inputs]
    outer = [one for one in dict.fromkeys([*used, *roots]) if one in free]
    fresh = [one if one in fixed else stand_in(one) for one in outer]
    taken = rebuild([*targets, *outer], fixed)
    return taken, [*held.values(), *fresh], rebuild(roots, dict(zip(outer, fresh, strict=True)))


def may_fail(variable: Variable) -> bool:
    """Whether computing a variable may raise for the values of its inputs, so that it must wait until it is needed."""
    return variable.op.may_fail(*[one.type for one in variable.inputs])


def _updated(roots: Sequence[Variable], inside: Iterable[Variable], outside: Set[Variable] = frozenset()) -> list[Variable]:
    """The variables outside of a body that it asks to update: what depends on them is another value at each step."""
    own = set(inside)
    asking = [one for one in toposort(roots, stop=outside) if isinstance(one.op, DefaultUpdate) and one not in outside]
    return [one for one in dict.fromkeys(target for ask in asking for target in ask.inputs[1::2]) if one not in own]


def _following(captured: Iterable[Variable], targets: Set[Variable]) -> list[Variable]:
    """The captured values that are computed from any of some targets, without a request to update on the way."""
    found: list[Variable] = []
    for one in captured if targets else ():
        order = computed_by([one])
        if one.inputs and targets & set(order) and not any(isinstance(other.op, DefaultUpdate) for other in order):
            found.append(one)
    return found


def loop(op: Scan, count: Variable, arguments: Sequence[Variable], outside: Set[Variable] = frozenset()) -> list[Variable]:
    """The results of the loop `op` of `count` steps over `arguments`, whose body may refer to variables outside of it.

    Of these it takes the variables in `outside` whole, whatever they compute.
    """
    own = op.body.inputs
    outer, fresh, roots = captured(own, op.body.outputs, outside=outside)
    whole = op.altered(body=Graph((*own, *fresh), tuple(roots)))(count, *arguments, *outer)
    return list(results_of(whole))


def exposed(variable: Variable, values: Sequence[Variable]) -> list[Variable]:
    """Values of a loop's body outside of the loop: for each a stack with a row for every step.

    They are further results of a loop that is otherwise the same; compiling unites the two.
    """
    op = variable.op
    assert isinstance(op, Scan)
    count = op.states + op.outputs
    outputs = (*op.body.outputs[:count], *values, *op.body.outputs[count:])
    more, inputs = op.with_body(outputs, variable.inputs)
    whole = more(*inputs)
    updates = updates_of(whole)
    return [with_asked(Item(count + k)(whole), updates) for k in range(len(values))]


def results_of(variable: Variable) -> Iterator[Variable]:
    """The results of a loop as variables."""
    kinds: Any = variable.type
    return (Item(k)(variable) for k in range(len(kinds)))


def updates_of(variable: Variable) -> dict[Variable, tuple[DefaultUpdate, Variable]]:
    """The variables that a loop asks to update, each with the way to do it and the new value."""
    op = variable.op
    assert isinstance(op, Scan)
    found: dict[Variable, tuple[DefaultUpdate, Variable]] = {}
    for place, kind in enumerate(op.updated, op.states - len(op.updated)):
        result = Item(place)(variable)
        final = index(result, 0 if op.backwards else -1) if op.kept[place] else result
        begun = variable.inputs[1 + op.sequences + place]
        while (before := _first_state(begun)) is not None:
            begun = before
        found[begun] = (kind, final)
    return found


Ended = tuple[object, ...]
"""A loop, and one of its states: equal for a loop and what is made of it to give more outputs, and for these alone."""


def final_state(variable: Variable) -> Ended | None:
    """The state that a loop updates and of which a variable is the last value; None of any other variable."""
    found = _final_item(variable)
    if found is None:
        return None
    whole, op, place = found
    start, new = op.sequences + op.states, op.body.outputs[: op.states]
    read = set(toposort(new))
    shared = [(inner, outer) for inner, outer in zip(op.body.inputs, whole.inputs[1:], strict=True) if inner in read]
    return whole.inputs[0], op.body.inputs[:start], whole.inputs[1 : 1 + start], new, frozenset(shared), place


def chain_of(variable: Variable) -> list[Ended]:
    """The last states of the loops that a loop, whose last state is the variable, continues, the nearest first."""
    chain: list[Ended] = []
    first = _first_state(variable)
    while first is not None and (ended := final_state(first)) is not None:
        chain.append(ended)
        first = _first_state(first)
    return chain


def _first_state(variable: Variable) -> Variable | None:
    """The value from which the state begins whose last value is the variable; None if there is no such state."""
    found = _final_item(variable)
    return None if found is None else found[0].inputs[1 + found[1].sequences + found[2]]


def _final_item(variable: Variable) -> tuple[Variable, Scan, int] | None:
    """The loop, and the place of the state that it updates, of which a variable is the last value."""
    item, picked = variable, False
    if isinstance(variable.op, Index) and len(variable.inputs) == 1:
        item, picked = variable.inputs[0], True
    if not isinstance(item.op, Item) or not isinstance(item.inputs[0].op, Scan):
        return None
    whole, place = item.inputs[0], item.op.index
    op = whole.op
    assert isinstance(op, Scan)
    if not op.states - len(op.updated) <= place < op.states or op.kept[place] != picked:
        return None
    first, *others = variable.op.entries if picked else (None,)  # type: ignore[attr-defined]
    last = not picked or (first == (0 if op.backwards else -1) and all(one == WHOLE for one in others))
    return (whole, op, place) if last else None


def steps_constant(steps: int | Variable) -> Variable:
    """A number of steps as a variable."""
    return steps if isinstance(steps, Variable) else constant(np.int64(steps))
