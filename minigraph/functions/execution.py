"""Calls that are all or nothing: everything is computed from one state of the shared variables, which change only then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigraph.compiler.interpreted import Backend
from minigraph.compiler.schedule import Schedule, schedule
from minigraph.core.context import without_collector
from minigraph.core.errors import ExecutionError, InvalidValueError
from minigraph.core.graph import Array, Graph
from minigraph.core.locks import holding
from minigraph.core.state import Cell, locks_of, move, replace_unchanged, snapshot

Runner = Callable[[Schedule, list[Any]], None]
"""A function that runs a schedule over a value for each slot, such as `schedule.run`."""

ATTEMPTS = 20
"""The number of times that a call computes anew, with all that it reads locked, before it gives up."""


class Execution:
    """A graph as steps on a backend, and the shared variables that these read and update.

    graph: after all passes. lent: the inputs, by position, whose memory results may share; borrow: for each output, whether
    callers take it without a copy.
    """

    def __init__(self, graph: Graph, backend: Backend, lent: Sequence[int], borrow: Sequence[bool]) -> None:
        self.plan: Schedule = without_collector(schedule, graph, backend)
        self._backend, self._outputs = backend, len(graph.outputs)
        self.targets = [target for target, _ in graph.updates]
        self._cells = [variable.cell for _, variable in self.plan.shared]
        self._target_cells: list[Cell] = [target.cell for target in self.targets]
        self._state = list(dict.fromkeys([*self._cells, *self._target_cells]))
        every = locks_of(self._state)
        at_first = every if backend.writes_over_state else locks_of(self._target_cells)
        self._locks = (at_first, *[every] * ATTEMPTS)
        """The locks held in each attempt to compute while other threads, or calls within this one, change what is read."""
        slots = {self.plan.inputs[k] for k in lent}
        self._borrowed = tuple(out or slot in slots for out, slot in zip(borrow, self.plan.holders, strict=False))

    def take_state(self) -> None:
        """Move the shared variables to where the backend computes; they stay there."""
        for cell, value in zip(self._state, snapshot(self._state), strict=True):
            loaded = self._backend.load(value)
            if loaded is not value:
                move(cell, value, loaded)

    def committed(self, owner: object, arrays: Sequence[Array], runner: Runner) -> list[Array]:
        """The outputs that `runner` computes from `arrays`, the targets having got their new values; errors name `owner`."""
        for locks in self._locks:
            outputs = holding(locks, self._attempt, arrays, runner)
            if outputs is not None:
                return outputs
        raise ExecutionError(
            f"{owner!r} updates shared variables from others that change whenever it is computed: something that it runs "
            "itself, such as an op of your own, calls a function that updates them, or sets them; no state was changed"
        )

    def _attempt(self, arrays: Sequence[Array], runner: Runner) -> list[Array] | None:
        """The outputs, the targets having got their new values; None if what they were computed from has changed meanwhile."""
        # the targets are locked, but another thread may have updated a variable that this function only reads
        state = snapshot(self._cells)
        memory = self._computed(arrays, state, runner)
        results, holders = ([memory[slot] for slot in slots] for slots in (self.plan.roots, self.plan.holders))
        outputs = [self._release(k, results[k], holders[k]) for k in range(self._outputs)]
        values = [self._new_value(k, results[k]) for k in range(self._outputs, len(results))]
        done = not values or replace_unchanged(self._target_cells, values, self._cells, state)
        return outputs if done else None

    def _computed(self, arrays: Sequence[Array], state: Sequence[Array], runner: Runner) -> list[Any]:
        """A value for each slot, those of the roots among them, from those of the inputs and of the shared variables."""
        plan = self.plan
        memory: list[Any] = [None] * plan.slots
        for slot, value in plan.constants:
            memory[slot] = value
        for slot, value in zip(plan.inputs, arrays, strict=True):
            memory[slot] = value
        for (slot, _), value in zip(plan.shared, state, strict=True):
            memory[slot] = self._backend.load(value)
        runner(plan, memory)
        return memory

    def _release(self, root: int, value: Array, holder: Array) -> Array:
        """A result as the caller's own array, or a view of all of one, `holder`, unless it may be borrowed."""
        if self._borrowed[root] or (self.plan.owned[root] and _is_own(holder) and _shows_all(value, holder)):
            return value
        return value.copy()

    def _new_value(self, root: int, value: Array) -> Array:
        """A new value of shared state, checked against its type."""
        target = self.targets[root - self._outputs]
        if not target.type.accepts(value.shape):
            raise InvalidValueError(
                f"the new value of {target!r} ({target.origin}) has shape {value.shape}, expected {target.type.shape}; "
                "no state was changed"
            )
        return value if self.plan.owned[root] and _is_own(value) else value.copy()


def _is_own(array: Array) -> bool:
    """Whether an array has memory of its own, which may be written to."""
    return array.flags.owndata and not (isinstance(array, np.ndarray) and not array.flags.writeable)


def _shows_all(view: Array, array: Array) -> bool:
    """Whether a view of an array shows every element of it once."""
    apart = all(stride or size == 1 for stride, size in zip(view.strides, view.shape, strict=True))
    return view is array or (view.size == array.size and apart)
