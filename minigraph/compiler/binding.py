"""The binding of a function that is one compiled region: the inputs and state that it takes, and the uses of its results."""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.compiler.schedule import Schedule
from minigraph.core.graph import Item, Variable
from minigraph.core.record import Record
from minigraph.core.state import Cell
from minigraph.rewrite.partition import Region


class CallSignature(Record):
    """The inputs, the state and the results of a function that is one compiled region.

    inputs: the number of inputs of the function; cells: the shared variables that it reads or updates; targets: those that it
    updates.
    sources: for each input of the region its position among the inputs of the function and, after these, the cells.
    outputs, new_state: the results of the region that callers get, and those that the targets get, by their positions.
    donations: inputs of the region, and the results that may be written over them.
    """

    inputs: int
    cells: tuple[Cell, ...]
    targets: tuple[Variable, ...]
    sources: tuple[int, ...]
    outputs: tuple[int, ...]
    new_state: tuple[int, ...]
    donations: tuple[tuple[int, int], ...]

    @property
    def target_cells(self) -> list[Cell]:
        """The cells of the targets."""
        return [target.cell for target in self.targets]


def signature_of(plan: Schedule, targets: Sequence[Variable]) -> CallSignature | None:
    """The signature of a plan whose last roots are the new values of `targets`.

    None if it has other steps than one region, or results that are no results of the region.
    """
    region, *rest = plan.steps or (None,)
    if region is None or not isinstance(region.variable.op, Region) or not all(plan.owned):
        return None
    slots = [*plan.inputs, *(slot for slot, _ in plan.shared)]
    index = {step.result: step.variable.op.index for step in rest if isinstance(step.variable.op, Item)}
    from_region = len(index) == len(rest) and all(step.operands == (region.result,) for step in rest)
    if not from_region or not index.keys() >= set(plan.roots) or not set(region.operands) <= set(slots):
        return None
    cells = tuple(dict.fromkeys([*(variable.cell for _, variable in plan.shared), *(target.cell for target in targets)]))
    kept = len(plan.roots) - len(targets)
    outputs, new_state = (tuple([index[root] for root in part]) for part in (plan.roots[:kept], plan.roots[kept:]))
    slot_of = {variable.cell: slot for slot, variable in plan.shared}
    donations = tuple(
        (region.operands.index(slot_of[target.cell]), result)
        for target, result in zip(targets, new_state, strict=True)
        if region.operands.count(slot_of.get(target.cell, -1)) == 1
    )
    sources = tuple([slots.index(slot) for slot in region.operands])
    return CallSignature(len(plan.inputs), cells, tuple(targets), sources, outputs, new_state, donations)
