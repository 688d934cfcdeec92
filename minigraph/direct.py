"""The short way through a call: a function that is one compiled region, called with arrays that its last plan was made for.

What the long way does in general, checking, casting and ordering, is here either known beforehand or checked by the native
call itself. Arrays that held state and that nobody else holds are written to again, so that large updates take no new memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from operator import is_, itemgetter
from sys import getrefcount
from typing import Any

import numpy as np

from minigraph.backends.native import CompiledRegion, KernelFailure, Plan
from minigraph.graph import Array, Item, Variable
from minigraph.schedule import Schedule
from minigraph.state import Cell, snapshot

_acquire = type(threading.RLock()).acquire
_release = type(threading.RLock()).release

Commit = Callable[[Sequence[Array], Sequence[Array]], bool]


def single_region(plan: Schedule) -> CompiledRegion | None:
    """The region that a plan consists of; None if it has other steps, or results that are no results of the region."""
    region, *rest = plan.steps or (None,)
    if region is None or not isinstance(region.kernel, CompiledRegion) or not all(plan.owned):
        return None
    picks = {step.result for step in rest if isinstance(step.variable.op, Item) and step.operands == (region.result,)}
    given = {*plan.inputs, *(slot for slot, _ in plan.shared)}
    fits = len(picks) == len(rest) and set(plan.roots) <= picks and set(region.operands) <= given
    return region.kernel if fits else None


def _reference_counts(arrays: Sequence[Array]) -> list[int]:
    """How many references each array has, those of the list and of the counting included."""
    return list(map(getrefcount, arrays))


_UNSHARED = _reference_counts([np.empty(0)])[0]
"""The count of an array that nothing but the list refers to."""


def _picker(order: Sequence[int]) -> Callable[[tuple[Array, ...]], tuple[Array, ...]]:
    """What takes these elements out of a tuple, as a tuple."""
    if len(order) > 1:
        return itemgetter(*order)
    return lambda given: tuple([given[k] for k in order])


class Direct:
    """Calls one region with inputs and state, and hands new state to `commit`."""

    def __init__(self, plan: Schedule, region: CompiledRegion, cells: Sequence[Cell], targets: Sequence[Variable]) -> None:
        self._region, self._cells, self._targets = region, cells, [target.cell for target in targets]
        self._types = [target.type for target in targets]
        self._locks = tuple(cell.lock for cell in sorted(self._targets, key=id))
        position = {slot: k for k, slot in enumerate([*plan.inputs, *(slot for slot, _ in plan.shared)])}
        self._ordered = _picker([position[slot] for slot in plan.steps[0].operands])
        index = {step.result: step.variable.op.index for step in plan.steps[1:]}  # type: ignore[attr-defined]
        kept = len(plan.roots) - len(targets)
        self._results = tuple(index[root] for root in plan.roots[:kept])
        self._news = tuple(index[root] for root in plan.roots[kept:])
        self._pick = _picker(self._results)
        self._inputs = len(plan.inputs)
        self._checked: Plan | None = None
        self._made: list[Array] = []
        self._free: list[Array] = []
        """The arrays that held the state before the last call, if nobody else holds one of them."""

    def __call__(self, args: tuple[Any, ...], commit: Commit) -> Sequence[Array] | None:
        """The outputs; None where the long way must be gone, with nothing changed."""
        plan = self._region.recent
        if plan is None or len(args) != self._inputs or (plan is not self._checked and not self._fits(plan)):
            return None
        try:
            if self._targets:
                return self._update(plan, args, commit)
            outputs = plan(self._ordered(args + snapshot(self._cells)))
            return None if outputs is None else self._pick(outputs)
        except KernelFailure:
            return None

    def _update(self, plan: Plan, args: tuple[Any, ...], commit: Commit) -> Sequence[Array] | None:
        """The outputs, the targets having got their new values."""
        held: list[bool] = []
        try:
            held.extend(map(_acquire, self._locks))
            while True:
                state = snapshot(self._cells)
                outputs = plan(self._ordered(args + state), self._outputs(plan))
                if outputs is None:
                    return None
                old = list(snapshot(self._targets))
                news = [outputs[k] for k in self._news]
                if commit(state, news):
                    break
            del state
            self._recycle(old, news)
            return self._pick(outputs)
        finally:
            deque(map(_release, self._locks[: len(held)]), maxlen=0)

    def _fits(self, plan: Plan) -> bool:
        """Whether what a plan computes may become the new state."""
        shapes = [plan.program.outputs[k][0] for k in self._news]
        if all(type.accepts(shape) for type, shape in zip(self._types, shapes, strict=True)):
            self._checked, self._free = plan, []
            return True
        return False

    def _outputs(self, plan: Plan) -> tuple[Array, ...]:
        """Memory for the outputs: for new state what held the state before the last, if it is free."""
        free, self._free = self._free, []
        if not free:
            return plan.empty_outputs()
        outputs: list[Any] = [None] * len(plan.program.outputs)
        for k, array in zip(self._news, free, strict=True):
            outputs[k] = array
        for k in self._results:
            outputs[k] = np.empty(*plan.program.outputs[k])
        return tuple(outputs)

    def _recycle(self, old: list[Array], news: list[Array]) -> None:
        """Keep the arrays that held the state, if this object made them and nobody else holds one."""
        made, self._made = self._made, news
        ours = len(made) == len(old) and all(map(is_, made, old))
        del made
        if ours and _reference_counts(old) == [_UNSHARED] * len(old):
            self._free = old
