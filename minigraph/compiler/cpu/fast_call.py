"""The short way through a call: a function that is one compiled region, called with arrays that its last plan was made for.

What the long way does in general, checking, casting and ordering, is here either known beforehand or checked by the native
call itself. New state is written over old state that nobody else holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from minigraph.compiler.binding import CallSignature
from minigraph.compiler.cpu.answers import answer_of
from minigraph.compiler.cpu.plan import NativePlan, picker
from minigraph.compiler.cpu.runtime import SHARED
from minigraph.compiler.shape_cache import Arrays, FastCall, KernelFailure, PlannedRegion, listed, no_answer
from minigraph.core.errors import MinigraphError
from minigraph.core.graph import Array
from minigraph.core.locks import holding
from minigraph.core.state import CHANGED, SUCCESS, Change, exchange, snapshot

_REFERENCES = 5
"""To an array of state that nobody else holds, once `Direct._update` has taken it: from `state`, which is `found`, from `old`,
from `new`, and as input and as output from `arrays`.
"""


class Direct(FastCall[NativePlan]):
    """Calls one region with inputs and state, and replaces the state."""

    def __init__(self, region: PlannedRegion[NativePlan], signature: CallSignature) -> None:
        super().__init__(region, signature)
        self._inputs, self._types = signature.inputs, [target.type for target in signature.targets]
        self._olds = picker([self._cells.index(cell) for cell in self._targets])
        results = len(region.graph.outputs)
        self._picked, self._news = [picker(order, results) for order in (signature.outputs, signature.new_state)]
        self._pick = self._shown if any(signature.views) else self._picked
        self._ordered = picker(signature.sources, signature.inputs + len(self._cells))
        self._checked: NativePlan | None = None
        self._signature = signature

    def __call__(self, args: tuple[Any, ...]) -> Sequence[Array] | None:
        plan = self._region.recent
        if plan is None or len(args) != self._inputs or (plan is not self._checked and not self._fits(plan)):
            return None
        try:
            if self._targets:
                return holding(self._locks, self._update, plan, args)
            outputs = plan(self._ordered(args + snapshot(self._cells) if self._cells else args))
            return None if outputs is None else self._pick(outputs)
        except KernelFailure:
            return None

    def planned(self, arrays: Sequence[Array]) -> Sequence[Array] | None:
        args = self._region.backend.in_order(arrays)
        try:
            plan = self._region.plan(self._ordered(args + snapshot(self._cells)))
        except MinigraphError:
            return None
        if plan.answer is None:
            plan.answer = self._answer(plan)
        self.answer = plan.answer
        return self(args)

    def _answer(self, plan: NativePlan) -> Callable[..., Any]:
        """The answer of the function by a plan."""
        found = answer_of(plan, self._signature) if self._fits(plan) else None
        if found is None or not any(self._signature.views):
            return found or no_answer

        def viewed(*args: Any) -> Any:
            outputs = found(*args)
            shown = outputs if outputs is None else self._signature.shown(listed(outputs))
            return shown if shown is None or len(shown) > 1 else shown[0]

        return viewed

    def _update(self, plan: NativePlan, args: tuple[Any, ...]) -> Sequence[Array] | None:
        """The outputs, the targets having got their new values. The locks of all that the values depend on are held."""
        shared = False
        while True:
            seen = Change.last
            found = snapshot(self._cells)
            state = tuple([one.copy() for one in found]) if shared else found
            arrays, outputs, new = self._bound(plan, args, state)
            old = list(self._olds(found))
            memory = plan.lease()
            failed = exchange(self._targets, old, new, plan.attempt(arrays, memory, _REFERENCES), seen)
            plan.release(memory)
            if failed == SUCCESS:
                return outputs
            if failed not in (SHARED, CHANGED):
                return None
            shared = shared or failed == SHARED

    def _bound(self, plan: NativePlan, args: tuple[Any, ...], state: Arrays) -> tuple[Arrays, Sequence[Array], Arrays]:
        """The arrays that a plan is called with, the outputs that the caller gets, and the new state."""
        inputs = self._ordered(args + state)
        outputs = plan.outputs(inputs)
        return inputs + outputs, self._pick(outputs), self._news(outputs)

    def _shown(self, results: Arrays) -> Sequence[Array]:
        """The outputs, some of them views, among the results of the region."""
        return self._signature.shown(self._picked(results))

    def _fits(self, plan: NativePlan) -> bool:
        """Whether what a plan computes may become the new state."""
        shapes = [shape for shape, _ in self._news(tuple(plan.frame.outputs))]
        if all(type.accepts(shape) for type, shape in zip(self._types, shapes, strict=True)):
            self._checked = plan
            return True
        return False
