"""`scan` and its short forms, with Theano's arguments: a function of one step becomes a loop over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Constant, Graph, Input, Variable, toposort
from minigraph.core.noted import noted_calls
from minigraph.core.types import TensorType
from minigraph.core.walks import rebuild
from minigraph.ops.array.arranging import concatenate
from minigraph.ops.array.indexing import index
from minigraph.ops.array.shape import reshape, shape
from minigraph.ops.control import DefaultUpdate, computed_by, with_asked, with_default_update
from minigraph.ops.elementwise.arithmetic import ceil, floor_divide, maximum, minimum
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.ops.loop.loop import Continued, Scan, captured, loop, may_fail, results_of, steps_constant, updates_of
from minigraph.ops.loop.scan_arguments import as_sequence, as_state, kept_type, length_of, listed, rows_of, understood, until
from minigraph.ops.loop.updates import carried, matching_results

__all__ = ["foldl", "foldr", "map", "reduce", "scan", "scan_checkpoints", "until"]

Step = Callable[..., Any]
Asked = Mapping[Variable, tuple[DefaultUpdate, Variable]]
"""Shared variables that are to be updated, each with the op that asks for it and the new value."""


def scan(
    fn: Step, sequences: Any = None, outputs_info: Any = None, non_sequences: Any = None, n_steps: int | Variable | None = None,
    truncate_gradient: int = -1, go_backwards: bool = False, strict: bool = False, name: str | None = None,
) -> Any:  # fmt: skip
    """Call `fn` at every step of a loop, which becomes one op, and return the stacked outputs: one variable, or a list.

    sequences: variables with a row for each step on their first axis: one, a list of them, or of dict(input=x, taps=[-1, 0]),
    which hands the rows t - 1 and t to step t. The shortest decides on the number of steps, unless `n_steps` is given.
    outputs_info: for each output its first value if it is fed back to the next step, dict(initial=x, taps=[-2, -1]) with the
    rows of x before the first step (the oldest first) for earlier steps, or None for one that is not fed back.
    non_sequences: variables that every step takes whole; others that `fn` uses need not be listed, unless `strict`.
    `fn` takes a row of each sequence, then earlier outputs, then non_sequences. It returns the new outputs, and may add a dict
    of updates of shared variables, and `until(condition)`, which ends the loop after that step. Updates made inside, by `fn`,
    random streams or layers, are applied step after step, and are one update of whatever function computes an output.
    truncate_gradient: the number of last steps that gradients flow through; -1 for all. go_backwards: take the last rows first.
    name: that of the loop, in messages and printed graphs.

    Returns for each output a variable with a row for each step that was done, none for zero steps.
    TypeError or ValueError: outputs that do not fit `outputs_info`, a state that changes its type, a loop without an end.

    >>> x = mg.vector("x")
    >>> running = mg.scan(lambda x, total: total + x, sequences=x, outputs_info=0.0)
    >>> running.eval({x: [1, 2, 3]})
    array([1., 3., 6.], dtype=float32)
    """
    return _Loop(fn, sequences, outputs_info, non_sequences, n_steps, go_backwards, strict, name).results(truncate_gradient)


def scan_checkpoints(
    fn: Step, sequences: Any = None, outputs_info: Any = None, non_sequences: Any = None, n_steps: int | Variable | None = None,
    save_every_N: int | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`scan`, whose gradients keep the states of every N-th step alone, and compute those between them again.

    fn, sequences, outputs_info, non_sequences, n_steps, name: as for `scan`, and so is the result. save_every_N: with sqrt(T)
    of T steps, the default, a gradient takes the memory of 2 sqrt(T) steps instead of T, and one more pass forwards.

    ValueError for a step function that returns `until`.
    """
    if save_every_N is not None and (isinstance(save_every_N, bool) or not isinstance(save_every_N, int) or save_every_N < 1):
        raise InvalidValueError(f"save_every_N must be a number of steps, 1 or more, not {save_every_N!r}")
    return _Loop(fn, sequences, outputs_info, non_sequences, n_steps, False, False, name).checkpointed(save_every_N)


def map(
    fn: Step, sequences: Any, non_sequences: Any = None, truncate_gradient: int = -1, go_backwards: bool = False,
    name: str | None = None,
) -> Any:  # fmt: skip
    """The results of `fn` for each row of the sequences, stacked.

    non_sequences, truncate_gradient, go_backwards, name: as for `scan`.
    """
    return scan(fn, sequences, None, non_sequences, None, truncate_gradient, go_backwards, name=name)


def reduce(
    fn: Step, sequences: Any, outputs_info: Any, non_sequences: Any = None, go_backwards: bool = False, name: str | None = None
) -> Any:
    """The last outputs of `fn`, which takes rows of the sequences and its former outputs, first those in `outputs_info`.

    Without rows it returns these. non_sequences, go_backwards, name: as for `scan`.
    """
    return _Loop(fn, sequences, outputs_info, non_sequences, None, go_backwards, False, name).last()


def foldl(fn: Step, sequences: Any, outputs_info: Any, non_sequences: Any = None, name: str | None = None) -> Any:
    """`reduce` from the first row to the last; fn, sequences, outputs_info, non_sequences and name are those of `scan`."""
    return reduce(fn, sequences, outputs_info, non_sequences, False, name)


def foldr(fn: Step, sequences: Any, outputs_info: Any, non_sequences: Any = None, name: str | None = None) -> Any:
    """`reduce` from the last row to the first; fn, sequences, outputs_info, non_sequences and name are those of `scan`."""
    return reduce(fn, sequences, outputs_info, non_sequences, True, name)


class _Loop:
    """The loop of a call of `scan`: its step function is applied, and its results can be computed in several ways."""

    def __init__(
        self, fn: Step, sequences: Any, outputs_info: Any, non_sequences: Any, n_steps: Any, backwards: bool, strict: bool,
        name: str | None,
    ) -> None:  # fmt: skip
        if not callable(fn):
            raise InvalidTypeError(f"scan takes a function of one step, not {fn!r}")
        self._name = name
        given = [as_sequence(one) for one in listed(sequences)]
        extra = [as_variable(one) for one in listed(non_sequences)]
        infos = [as_state(one, [*(one.variable for one in given), *extra]) for one in listed(outputs_info)]
        self._count, rows = rows_of(given, n_steps, backwards)
        elements = [_element(row, f"{one.variable.name or 'sequence'}[t{tap:+d}]", 1) for row, one, tap in rows]
        before = [
            [_element(first, f"state[t{-1 - k}]") for k, first in enumerate(one.firsts())] if one else [] for one in infos
        ]
        taken = [former[-1 - tap] for one, former in zip(infos, before, strict=True) if one for tap in one.taps]
        with noted_calls() as made:
            outputs, updates, condition = understood(fn(*elements, *taken, *extra))
            self._only_updates = not outputs and bool(updates) and not infos
            if self._only_updates:
                outputs = [as_variable(False)]  # whose rows nobody sees: a body asks for updates when it computes something
            if not listed(outputs_info):
                infos, before = [None] * len(outputs), [[] for _ in outputs]
            _check_number(len(outputs), len(infos))
            followed = [one for output, former in zip(outputs, before, strict=True) if former for one in (output, *former[:-1])]
            plain = [output for output, one in zip(outputs, infos, strict=True) if one is None]
            roots = [*followed, *plain, *([] if condition is None else [condition])]
            roots[0] = with_default_update(roots[0], updates)
        states = [one for former in before for one in former]
        self._sequences = [row for row, _, _ in rows]
        self._infos = infos
        self._firsts = [first for one in infos if one for first in one.firsts()]
        self._outside = _made_outside(roots, made, extra, [*elements, *states])
        states, roots = self._settled(states, roots)
        self._body = Graph((*elements, *states), tuple(roots))
        self._stops = condition is not None
        if strict:
            self._refuse_captured(extra)

    def _settled(self, states: list[Variable], roots: list[Variable]) -> tuple[list[Variable], list[Variable]]:
        """States and roots over types that states keep: sizes that change are unknown."""
        for _ in range(1 + sum(one.ndim + 1 for one in states)):
            wanted = [kept_type(k, one, new) for k, (one, new) in enumerate(zip(states, roots, strict=False))]
            if all(kind == one.type for kind, one in zip(wanted, states, strict=True)):
                break
            fresh = [Variable(Input(), (), kind, one.name) for kind, one in zip(wanted, states, strict=True)]
            roots = rebuild(roots, dict(zip(states, fresh, strict=True)))
            states = fresh
        return states, roots

    def _refuse_captured(self, extra: Sequence[Variable]) -> None:
        """ValueError if the body uses variables that were not handed to it."""
        allowed, outside = set(extra), self._outside
        outer, _, _ = captured(self._body.inputs, self._body.outputs, outside=outside)
        asking = {one for one in outside if isinstance(one.op, DefaultUpdate)}
        order = toposort(outer, stop=allowed | asking)
        missing = [one for one in order if one in asking or not (one.inputs or isinstance(one.op, Constant))]
        unexpected = [one for one in missing if one not in allowed]
        if unexpected:
            listed = ", ".join(f"{one!r} ({one.origin})" for one in unexpected)
            raise InvalidValueError(f"the step function uses {listed}: with strict=True, hand it over in non_sequences")

    def _op(self, count: Variable, truncated: int = -1) -> Scan:
        """The loop as an op."""
        states = len(self._firsts)
        return Scan(
            self._body, len(self._sequences), states, length_of(count), (True,) * states,
            stops=self._stops, truncated=truncated, name=self._name,
        )  # fmt: skip

    def results(self, truncated: int) -> Any:
        """The stacked outputs."""
        if isinstance(truncated, bool) or not isinstance(truncated, int) or (truncated < 0 and truncated != -1):
            raise InvalidValueError(f"truncate_gradient must be a number of steps, or -1 for all, not {truncated!r}")
        results, updates = self._computed(self._op(self._count, truncated))
        histories, rows = results[: len(self._firsts)], results[len(self._firsts) : len(results) - self._stops]
        return self._delivered([index(one, slice(1, None)) for one in histories], rows, updates)

    def last(self) -> Any:
        """The last outputs."""
        if any(one is None for one in self._infos) and not self._only_updates:
            raise InvalidValueError("reduce needs a first value for every output in outputs_info")
        results, updates = self._computed(self._op(self._count))
        return self._delivered([index(one, -1) for one in results[: len(self._firsts)]], results, updates)

    def _computed(self, op: Scan) -> tuple[list[Variable], Asked]:
        """The results of the loop, and the updates that are asked for inside."""
        whole = _whole(op, self._count, [*self._sequences, *self._firsts], self._outside)
        changed = carried(whole)
        return matching_results(whole, changed), updates_of(changed)

    def _delivered(self, states: Sequence[Variable], rows: Sequence[Variable], updates: Asked) -> Any:
        """The outputs in the order of the step function's, asking for updates; these alone where there are no outputs."""
        if self._only_updates:
            return {target: new for target, (_, new) in updates.items()}
        remaining, position, outputs = iter(rows), 0, []
        for info in self._infos:
            outputs.append(with_asked(next(remaining) if info is None else states[position], updates))
            position += info.depth if info else 0
        return outputs[0] if len(outputs) == 1 else outputs

    def checkpointed(self, every: int | None) -> Any:
        """The stacked outputs of a loop over parts, each a loop, whose gradients keep the states between parts alone."""
        if self._stops:
            raise InvalidValueError("scan_checkpoints cannot end early: a step function that returns until(...) needs scan")
        count = self._count
        if isinstance(count.op, Constant):
            size: Any = every or max(1, int(np.ceil(np.sqrt(float(count.op.value)))))
            parts: Any = int(count.op.value) // size
        else:
            size = every or cast(ceil(sqrt(cast(maximum(count, 0), "float64"))), "int64")
            parts = floor_divide(count, size if every else -minimum(-size, -steps_constant(1)))
        done = parts * size
        length = steps_constant(size)
        body = self._part(length)
        known = parts if isinstance(parts, int) else None
        states = len(self._firsts)
        outer = Scan(body, len(self._sequences), states, known, (True,) * states, recomputed=True, name=self._name)
        chunks = [reshape(index(one, slice(0, done)), (parts, size, *shape(one)[1:])) for one in self._sequences]
        first = _whole(outer, steps_constant(parts), [*chunks, *self._firsts], self._outside)
        updated = carried(first)
        results = matching_results(first, updated)
        known_steps = length_of(count)
        remaining = count - done if known_steps is None else steps_constant(known_steps - done)
        rests = [index(one, slice(done, None)) for one in self._sequences]
        ends = [index(one, -1) for one in results[:states]]
        length = Continued()(remaining, next(results_of(updated)))
        rest = _whole(self._op(remaining), length, [*rests, *ends], self._outside)
        continued = _continued(carried(rest), {target: new for target, (_, new) in updates_of(updated).items()})
        tail = matching_results(rest, continued)
        head = [reshape(one, (done, *shape(one)[2:])) for one in results[states:]]
        rows = [*(index(one, slice(1, None)) for one in tail[:states]), *tail[states:]]
        joined = [concatenate([one, two]) for one, two in zip(head, rows, strict=True)]
        return self._delivered(joined[:states], joined[states:], updates_of(continued))

    def _part(self, length: Variable) -> Graph:
        """The body of the loop over parts: a loop over the steps of one."""
        rows = [TensorType(one.dtype, (length_of(length), *one.type.shape[1:])) for one in self._sequences]
        sequences = [Variable(Input(), (), kind) for kind in rows]
        states = [Variable(Input(), (), one.type) for one in self._body.inputs[len(sequences) :]]
        whole = _whole(self._op(length), length, [*sequences, *states], self._outside)
        updated = carried(whole)
        results = [with_asked(one, updates_of(updated)) for one in matching_results(whole, updated)]
        histories, outputs = results[: len(states)], results[len(states) :]
        lasts, rests = [index(one, -1) for one in histories], [index(one, slice(1, None)) for one in histories]
        return Graph((*sequences, *states), (*lasts, *rests, *outputs))


def _check_number(outputs: int, described: int) -> None:
    """ValueError unless there are outputs, as many as were described."""
    if outputs != described:
        raise InvalidValueError(f"the step function returned {outputs} outputs, outputs_info describes {described}")
    if not outputs:
        raise InvalidValueError("the step function returned nothing: it must return at least one output, or a dict of updates")


def _whole(op: Scan, count: Variable, arguments: Sequence[Variable], outside: Set[Variable]) -> Variable:
    """A loop with all its results."""
    return loop(op, count, arguments, outside)[0].inputs[0]


def _continued(whole: Variable, reached: Mapping[Variable, Variable]) -> Variable:
    """A loop that begins with the values which the shared variables that it updates have reached."""
    op = whole.op
    assert isinstance(op, Scan)
    last = 1 + op.sequences + op.states
    first = last - len(op.updated)
    return op(*whole.inputs[:first], *(reached[one] for one in whole.inputs[first:last]), *whole.inputs[last:])


def _made_outside(
    roots: Sequence[Variable], made: Set[Variable], extra: Sequence[Variable], inside: Sequence[Variable]
) -> set[Variable]:
    """The variables that a step does not compute again: the computed `extra` that were handed over; and those that ask for
    updates or may fail, were not `made` by the step function, and do not follow state that the steps update.
    """
    order = toposort(roots)
    targets = {target for one in order if isinstance(one.op, DefaultUpdate) for target in one.inputs[1::2]}
    outside: set[Variable] = set()
    for given in extra:
        followed = [isinstance(one.op, DefaultUpdate) or may_fail(one) or one in targets for one in computed_by([given])]
        if given.inputs and any(followed):
            outside.add(given)
    bound, following = set(inside), set(targets)
    for one in order:
        if any(operand in bound for operand in one.inputs):
            bound.add(one)
        elif one not in made and (isinstance(one.op, DefaultUpdate) or (may_fail(one) and one.inputs[0] not in following)):
            outside.add(one)
        elif any(operand in following for operand in one.inputs):
            following.add(one)
    return outside


def _element(variable: Variable, name: str | None, dropped: int = 0) -> Variable:
    """The input of a step for a variable, without its first axes if some are to be dropped."""
    return Variable(Input(), (), TensorType(variable.dtype, variable.type.shape[dropped:]), name, (), variable.origin)
