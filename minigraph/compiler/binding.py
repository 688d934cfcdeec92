"""How a function that is one compiled region is wired: which inputs and state the region takes, and where its results go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.compiler.schedule import Schedule
from minigraph.compiler.shape_cache import PlannedRegion
from minigraph.core.graph import Item
from minigraph.core.record import Record
from minigraph.core.state import Cell


def single_region(plan: Schedule) -> PlannedRegion[Any] | None:
    """The region that a plan consists of; None if it has other steps, or results that are no results of the region."""
    region, *rest = plan.steps or (None,)
    if region is None or not isinstance(region.kernel, PlannedRegion) or not all(plan.owned):
        return None
    picks = {step.result for step in rest if isinstance(step.variable.op, Item) and step.operands == (region.result,)}
    given = {*plan.inputs, *(slot for slot, _ in plan.shared)}
    fits = len(picks) == len(rest) and set(plan.roots) <= picks and set(region.operands) <= given
    return region.kernel if fits else None


class Wiring(Record):
    """For each input of the region its position among the function's inputs and the shared variables that it reads; the results
    that callers get; those that are new state; and pairs of an input and of the result that may be written over it.
    """

    inputs: int
    sources: tuple[int, ...]
    picked: tuple[int, ...]
    news: tuple[int, ...]
    wanted: tuple[tuple[int, int], ...]


def wire(plan: Schedule, targets: Sequence[Cell]) -> Wiring:
    """The wiring of a plan that is a single region, and of the cells that its last roots update."""
    operands = plan.steps[0].operands
    slots = [*plan.inputs, *(slot for slot, _ in plan.shared)]
    index = {step.result: step.variable.op.index for step in plan.steps[1:]}  # type: ignore[attr-defined]
    kept = len(plan.roots) - len(targets)
    slot_of = {variable.cell: slot for slot, variable in plan.shared}
    wanted = tuple(
        (operands.index(slot_of[cell]), index[root])
        for cell, root in zip(targets, plan.roots[kept:], strict=True)
        if operands.count(slot_of.get(cell, -1)) == 1
    )
    picked, news = (tuple(index[root] for root in part) for part in (plan.roots[:kept], plan.roots[kept:]))
    return Wiring(len(plan.inputs), tuple(slots.index(slot) for slot in operands), picked, news, wanted)
