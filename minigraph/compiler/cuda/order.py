"""The order of the steps of a program for a GPU: those that can run at the same time, and those that may fail."""

from __future__ import annotations

from collections.abc import Container, Sequence

from minigraph.compiler.plan.steps import LoopStep, NestStep, ProductStep, Step
from minigraph.core.graph import Variable


def moments_of(steps: Sequence[Step], inputs: Container[Variable]) -> list[int]:
    """When each step runs: as late as what needs it allows, so that what nothing waits for, such as new state, is together.

    inputs: those of the program, over some of which state is written.
    """
    needed = _needed(steps, inputs)
    remaining = [0] * len(steps)
    for position in reversed(range(len(steps))):
        for one in needed[position]:
            remaining[one] = max(remaining[one], remaining[position] + 1)
    last = max(remaining, default=0)
    return [last - one for one in remaining]


def _needed(steps: Sequence[Step], inputs: Container[Variable]) -> list[set[int]]:
    """For each step those that must come before: writers of what it touches, readers of what it writes, and, if it writes over
    state, all that can fail.
    """
    needed: list[set[int]] = []
    writers: dict[Variable, list[int]] = {}
    readers: dict[Variable, list[int]] = {}
    failing: list[int] = []
    for position, step in enumerate(steps):
        written = written_by(step)
        before: set[int] = set(failing) if is_guarded(step, inputs) else set()
        for storage in dict.fromkeys(place.storage for place in step.places if place.in_memory):
            before.update(writers.get(storage, ()))
            if storage in written:
                before.update(readers.get(storage, ()))
                writers.setdefault(storage, []).append(position)
            else:
                readers.setdefault(storage, []).append(position)
        if can_fail(step):
            failing.append(position)
        needed.append(before)
    return needed


def is_guarded(step: Step, inputs: Container[Variable]) -> bool:
    """Whether a step writes over state, and so must not run after a failure."""
    return isinstance(step, NestStep) and any(one in inputs for one in written_by(step))


def written_by(step: Step) -> set[Variable]:
    """The memories that a step writes to."""
    match step:
        case NestStep():
            written = [*(one.operand for one in step.nest.stores), *(one.operand for one in step.nest.scatters)]
            return {step.places[operand].storage for operand in written}
        case ProductStep():
            return {step.places[-1].storage}
    return {place.storage for place in step.places}


def can_fail(step: Step) -> bool:
    """Whether a step may meet an index that is outside."""
    if isinstance(step, LoopStep):
        return any(can_fail(one) for one in step.body.steps)
    return isinstance(step, NestStep) and step.nest.fails
