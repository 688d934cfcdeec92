"""The gradient of a loop is a loop that runs the other way.

Its body is the gradient of the forward loop's body. What that reads of the forward loop's values is kept as further results of
it, or, where the loop is `recomputed`, computed again from each step's inputs. Cotangents of states are states; those of what
the body captures are summed up in states, too; those of sequences are outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import cast

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Constant, Graph, Identity, Input, Item, Variable, toposort
from minigraph.core.types import TensorType
from minigraph.core.walks import rebuild
from minigraph.ops.array.arranging import concatenate
from minigraph.ops.array.creation import Arange, zeros, zeros_like
from minigraph.ops.array.entries import WHOLE, Indexing, Range
from minigraph.ops.array.indexing import Increment, Index, index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, shape
from minigraph.ops.array.sizes import Size
from minigraph.ops.control import GradientOp, with_asked
from minigraph.ops.elementwise.arithmetic import Add, minimum
from minigraph.ops.elementwise.base import Elementwise, with_room
from minigraph.ops.elementwise.base import cast as to_dtype
from minigraph.ops.elementwise.comparison import gt, where
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan, loop, results_of, steps_constant, updates_of
from minigraph.ops.loop.updates import carried
from minigraph.ops.random import RandomBits
from minigraph.ops.reduce.base import Reduction

Pull = Callable[[Mapping[Variable, Variable], Sequence[Variable]], Mapping[Variable, Variable]]
"""From cotangents of some variables those of others, for each that they depend on."""


def loop_cotangents(variable: Variable, dy: Sequence[Variable | None], pull: Pull) -> list[Variable | None]:
    """The cotangents of the inputs of a loop, `variable`, from `dy`, those of its results; `pull` goes through its body."""
    if carried(variable) is not variable:
        raise InvalidValueError(
            f"{variable!r} ({variable.origin}) holds updates that were put into it after it was made: give its graph to "
            "ComputationGraph, and differentiate what that returns"
        )
    return _Backward(variable, dy, pull).cotangents()


class _Backward:
    """The backward loop of one loop."""

    def __init__(self, variable: Variable, dy: Sequence[Variable | None], pull: Pull) -> None:
        self.forward = variable
        self.op = cast(Scan, variable.op)
        self.count, *given = variable.inputs
        self.given = given
        op, body = self.op, self.op.body
        self.rows, self.states, _ = op.split(body.inputs)
        self.new = list(body.outputs[: op.states])
        self.outputs = list(body.outputs[op.states : op.states + op.outputs])
        self.dy_states, self.dy_outputs = list(dy[: op.states]), list(dy[op.states : op.states + op.outputs])
        self.dy_last: list[Variable | None] = [None] * op.states
        """For each state the cotangent of what it is after the last step."""
        for k, one in enumerate(self.dy_states):
            if one is not None and not op.kept[k]:
                self.dy_states[k], self.dy_last[k] = None, one
            elif one is not None and not op.stops:
                self.dy_states[k], self.dy_last[k] = _split_last(one, op.backwards)
        self.flows: dict[int, Variable] = {}
        """The cotangent of each state that gradients flow through, as an input of the backward body."""
        self.found = self._pulled(pull)

    def _pulled(self, pull: Pull) -> Mapping[Variable, Variable]:
        """The cotangents of the body's inputs; which states gradients flow through shows only when they do."""
        wanted = [one for one in self.op.body.inputs if one.dtype.kind == "f"]
        self.arriving = {k: _stand_in(self.outputs[k]) for k, one in enumerate(self.dy_outputs) if one is not None}
        for k, state in enumerate(self.states):
            if self.dy_states[k] is not None or self.dy_last[k] is not None:
                self.flows[k] = _stand_in(state)
        while True:
            start: dict[Variable, Variable] = {}
            pairs = [(self.new[k], seed) for k, seed in self.flows.items()]
            for one, seed in [*pairs, *((self.outputs[k], seed) for k, seed in self.arriving.items())]:
                start[one] = start[one] + seed if one in start else seed
            found = pull(start, wanted)
            reached = [k for k, one in enumerate(self.states) if one in found and k not in self.flows]
            if not reached:
                return found
            for k in reached:
                self.flows[k] = _stand_in(self.states[k])

    # -- what is kept of the forward loop --------------------------------------------------------------------------------

    def _needed(self, roots: Sequence[Variable]) -> dict[Variable, Variable]:
        """The values of the forward loop that the backward body reads, each as what it is read from: itself, or one behind
        identities.
        """
        body = self.op.body
        bound = {*self.rows, *self.states}
        order = toposort([*roots, *body.outputs])
        seeds = {*self.flows.values(), *self.arriving.values()}
        varies, backward = set(bound), set(seeds)
        for one in order:
            if any(operand in varies for operand in one.inputs):
                varies.add(one)
            if any(operand in backward for operand in one.inputs):
                backward.add(one)
        inside = set(toposort(body.outputs))
        ragged = _ragged(order, bound)
        needed: dict[Variable, Variable] = {}
        pending, seen = list(roots), set(roots)
        while pending:
            one = pending.pop()
            if one in seeds or one not in varies:
                continue
            if one not in backward and one not in ragged and self._is_kept(one, inside):
                needed[one] = _behind_identities(one)
                continue
            fresh = [operand for operand in one.inputs if operand not in seen]
            pending += fresh
            seen.update(fresh)
        return needed

    def _is_kept(self, one: Variable, inside: set[Variable]) -> bool:
        """Whether a value of the forward loop is kept rather than computed again."""
        if one in self.rows or one in self.states:
            return True
        if self.op.recomputed or isinstance(one.type, tuple):
            return False
        plain = _behind_identities(one)
        if isinstance(plain.op, Item):
            return True
        view = isinstance(plain.op, Dimshuffle | BroadcastTo | Reshape | Size)
        slices = isinstance(plain.op, Index) and all(not filler.ndim for filler in plain.inputs[1:])
        return plain in inside and not view and not slices

    def _stacks(self, values: Sequence[Variable]) -> dict[Variable, Variable]:
        """For each value of the forward loop its values at all steps."""
        op, body = self.op, self.op.body
        before, after = (slice(1, None), slice(0, -1)) if op.backwards else (slice(0, -1), slice(1, None))
        known: dict[Variable, tuple[int, slice | None]] = {}
        for k, one in enumerate(self.outputs):
            known[one] = (op.states + k, None)
        for k, one in enumerate(self.new):
            known.setdefault(one, (k, after))
        for k, one in enumerate(self.states):
            known[one] = (k, before)
        extra = [one for one in dict.fromkeys(values) if one not in known and one not in self.rows]
        for k, one in enumerate(extra):
            known[one] = (op.states + op.outputs + k, None)
        read = {known[one][0] for one in values if one not in self.rows}
        kept = tuple(keep or op.stops or k in read for k, keep in enumerate(op.kept))
        outputs = (*body.outputs[: op.states + op.outputs], *extra, *body.outputs[op.states + op.outputs :])
        altered = op.altered(body=Graph(body.inputs, outputs), kept=kept)
        forward = self.forward if altered == op else altered(self.count, *self.given)
        updates = updates_of(forward)
        results = [with_asked(one, updates) for one in results_of(forward)]
        self.done: int | Variable = results[-1] if op.stops else self.count if op.steps is None else op.steps
        """The number of steps that the forward loop did, an int where that is known."""
        stacks = {}
        for one in values:
            if one in self.rows:
                stack = self.given[self.rows.index(one)]
            else:
                place, part = known[one]
                stack = results[place] if part is None else index(results[place], part)
            stacks[one] = self._reached(stack)
        return stacks

    @property
    def steps(self) -> int | Variable:
        """The number of steps that gradients go back through, an int where that is known."""
        if self.op.truncated < 0:
            return self.done
        return min(self.done, self.op.truncated) if isinstance(self.done, int) else minimum(self.done, self.op.truncated)

    def _reached(self, stack: Variable) -> Variable:
        """The rows of a stack that gradients go back through."""
        if self.op.truncated >= 0:
            last = slice(0, self.steps) if self.op.backwards else slice(self.done - self.steps, self.done)
            return index(stack, last)
        return index(stack, slice(0, self.done)) if self.op.stops else stack

    # -- the backward loop ---------------------------------------------------------------------------------------------

    def cotangents(self) -> list[Variable | None]:
        """The cotangents of the forward loop's inputs: none for the number of steps."""
        op, found = self.op, self.found
        _, firsts, shared = op.split(self.given)
        after = slice(0, -1) if op.backwards else slice(1, None)
        captured = op.split(op.body.inputs)[2]
        summed = [k for k, one in enumerate(captured) if one in found]
        told = [k for k, one in enumerate(self.rows) if one in found]
        totals = [_stand_in(with_room(captured[k])) for k in summed]
        incoming = {k: _stand_in(self.states[k]) for k in self.flows if self.dy_states[k] is not None}
        seen = {self.flows[k]: self.flows[k] + row for k, row in incoming.items()}
        news = [found[self.states[k]] if self.states[k] in found else zeros_like(self.states[k]) for k in self.flows]
        news += [total + with_room(found[captured[k]]) for k, total in zip(summed, totals, strict=True)]
        news += [found[self.rows[k]] for k in told]
        news = _with_sizes_outside(op, self.given, news)
        needed = self._needed(news)
        stacks = self._stacks(list(needed.values()))
        rows = {one: _stand_in(one) for one in stacks}
        substitutes = dict(zip(captured, shared, strict=True)) | {one: rows[plain] for one, plain in needed.items()}
        roots = rebuild(rebuild(news, substitutes), seen)
        inputs = [*self.arriving.values(), *incoming.values(), *rows.values(), *self.flows.values(), *totals]
        sequences = [
            *(self._reached(cast(Variable, self.dy_outputs[k])) for k in self.arriving),
            *(self._reached(index(cast(Variable, self.dy_states[k]), after)) for k in incoming),
            *stacks.values(),
        ]
        begin = [zeros_like(firsts[k]) if (last := self.dy_last[k]) is None else last for k in self.flows]
        begin += [zeros_like(with_room(shared[k])) for k in summed]
        steps = self.steps
        known = steps if isinstance(steps, int) else None
        count = len(begin)
        body = Graph(tuple(inputs), tuple(roots))
        backward = Scan(
            body, len(sequences), count, known, (False,) * count, backwards=not op.backwards, recomputed=op.recomputed
        )
        outside = {one for one in self.given if one.inputs}
        results = loop(backward, steps_constant(steps), [*sequences, *begin], outside)
        result: list[Variable | None] = [None] * len(self.forward.inputs)
        for place, k in enumerate(self.flows):
            result[1 + op.sequences + k] = self._first_cotangent(k, results[place])
        for place, k in enumerate(summed, len(self.flows)):
            result[1 + op.sequences + op.states + k] = to_dtype(results[place], shared[k].dtype)
        for place, k in enumerate(told, count):
            result[1 + k] = self._of_sequence(self.given[k], results[place])
        return result

    def _first_cotangent(self, state: int, arrived: Variable) -> Variable:
        """The cotangent of a first state: what arrived there, unless that was cut off, and its own as part of the history."""
        if self.op.truncated >= 0:
            cut = self.done > self.op.truncated if isinstance(self.done, int) else gt(self.done, self.op.truncated)
            arrived = where(cut, 0, arrived)
        given = self.dy_states[state]
        return arrived if given is None else arrived + index(given, -1 if self.op.backwards else 0)

    def _of_sequence(self, sequence: Variable, rows: Variable) -> Variable:
        """The cotangent of a sequence: zeros in the rows that no gradient reached."""
        parts = [rows]
        around = shape(sequence)[1:]
        if self.op.truncated >= 0:
            parts.insert(int(self.op.backwards), zeros((self.done - self.steps, *around), sequence.dtype))
        if self.op.stops:
            parts.append(zeros((shape(sequence)[0] - self.done, *around), sequence.dtype))
        return concatenate(parts) if len(parts) > 1 else parts[0]


def _with_sizes_outside(op: Scan, given: Sequence[Variable], roots: list[Variable]) -> list[Variable]:
    """The roots of a backward body with the sizes of the forward loop's values read off its inputs, where that can be."""
    places = op.split(list(zip(op.body.inputs, given, strict=True)))
    outside = {inner: (outer, int(kind == 0)) for kind, pairs in enumerate(places) for inner, outer in pairs}
    found: dict[Variable, Variable] = {}
    for one in toposort(roots):
        if isinstance(one.op, Size):
            source, axis = size_source(one.inputs[0], one.op.axis)
            if source in outside:
                outer, shift = outside[source]
                found[one] = Size(axis + shift)(outer)
    return rebuild(roots, found)


def _ragged(order: Sequence[Variable], bound: set[Variable]) -> set[Variable]:
    """The variables whose sizes may differ from step to step, and whose values do not stack; `bound` are rows and states."""
    found: set[Variable] = set()
    varies = set(bound)
    for one in order:
        if not isinstance(one.op, Size) and any(operand in varies for operand in one.inputs):
            varies.add(one)
        op = one.op
        given: Sequence[Variable] = ()
        match op:
            case BroadcastTo() | Reshape() | RandomBits():
                given = one.inputs[1:]
            case Arange():
                given = one.inputs
            case Scan():
                given = one.inputs[: 1 + len(one.inputs) * op.stops]
            case Indexing():
                given = [filler for filler in one.inputs[1:] if not filler.ndim or filler.dtype.kind == "b"]
        known = isinstance(one.type, TensorType) and None not in one.type.shape
        if not known and (any(size in varies for size in given) or any(operand in found for operand in one.inputs)):
            found.add(one)
    return found


def _split_last(dy: Variable, backwards: bool) -> tuple[Variable | None, Variable | None]:
    """The cotangent of a history as that of all its rows and that of the last state alone, where it is made of those."""
    match dy:
        case Variable(op, _) if op.foreign:
            return dy, None
        case Variable(Add(), (one, other)) if one.type == other.type:
            parts = [_split_last(part, backwards) for part in (one, other)]
            return _sum([rows for rows, _ in parts]), _sum([last for _, last in parts])
        case Variable(Increment((entry, *others)), (zero, part)) if _is_zeros(zero) and all(one == WHOLE for one in others):
            place = 0 if backwards else -1
            if entry == place:
                return None, part
            inner = _behind_identities(part)
            if entry == (Range(None, -1, None) if backwards else Range(1, None, None)) and isinstance(inner.op, Increment):
                deeper = _split_last(inner, backwards)
                if deeper[0] is None:
                    return deeper
    return dy, None


def _sum(parts: Sequence[Variable | None]) -> Variable | None:
    """The sum of those that are variables, None of none."""
    given = [part for part in parts if part is not None]
    return reduce(Add(), given) if given else None


def _is_zeros(variable: Variable) -> bool:
    """Whether a variable is zero throughout, as far as the graph tells."""
    while isinstance(variable.op, BroadcastTo) and not variable.op.foreign:
        variable = variable.inputs[0]
    return isinstance(variable.op, Constant) and not variable.op.value.any()


def size_source(variable: Variable, axis: int) -> tuple[Variable, int]:
    """A variable, as far up as one can see, with an axis of the same size as this axis of this one."""
    while True:
        variable = _behind_identities(variable)
        op = variable.op
        match op:
            case _ if op.foreign:
                return variable, axis
            case Elementwise():
                from_end = axis - variable.ndim
                wide = [one for one in variable.inputs if one.ndim >= -from_end and one.type.shape[from_end] != 1]
                if not wide:
                    return variable, axis
                variable, axis = wide[0], wide[0].ndim + from_end
            case MatMul() if axis >= variable.ndim - 2:
                operand = variable.inputs[int(axis == variable.ndim - 1)]
                variable, axis = operand, operand.ndim + axis - variable.ndim
            case Dimshuffle(pattern):
                source = pattern[axis]
                if source is None:
                    return variable, axis
                variable, axis = variable.inputs[0], source
            case Index(entries) if all(isinstance(one, Range) for one in entries) and entries[axis] == WHOLE:
                variable = variable.inputs[0]
            case Reduction():
                variable, axis = variable.inputs[0], [k for k in range(variable.inputs[0].ndim) if k not in op.axes][axis]
            case _:
                return variable, axis


def _stand_in(variable: Variable) -> Variable:
    """An input of the backward body for a variable, or for its cotangent."""
    return Variable(Input(), (), variable.type, variable.name, (), variable.origin)


def _behind_identities(variable: Variable) -> Variable:
    """The variable that a chain of identities shows."""
    while isinstance(variable.op, Identity | GradientOp) and not variable.op.foreign:
        variable = variable.inputs[0]
    return variable
