"""The binding of a function that is one compiled region: the inputs and state that it takes, and the uses of its results."""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.compiler.interpreted import Kernel
from minigraph.compiler.schedule import Schedule, Step
from minigraph.core.graph import Array, Item, Variable
from minigraph.core.record import Record
from minigraph.core.state import Cell
from minigraph.rewrite.partition import Region


class CallSignature(Record):
    """The inputs, the state and the results of a function that is one compiled region.

    inputs: the number of inputs of the function; cells: the shared variables that it reads or updates; targets: those that it
    updates.
    sources: for each input of the region its position among the inputs of the function and, after these, the cells.
    outputs, new_state: the results of the region that callers get, and those that the targets get, by their positions.
    views: for each output the kernel that makes a view of it which callers get, None where they get the result itself.
    donations: inputs of the region, and the results that may be written over them.
    """

    inputs: int
    cells: tuple[Cell, ...]
    targets: tuple[Variable, ...]
    sources: tuple[int, ...]
    outputs: tuple[int, ...]
    new_state: tuple[int, ...]
    views: tuple[Kernel | None, ...]
    donations: tuple[tuple[int, int], ...]

    @property
    def target_cells(self) -> list[Cell]:
        """The cells of the targets."""
        return [target.cell for target in self.targets]

    def shown(self, outputs: Sequence[Array]) -> Sequence[Array]:
        """The outputs as callers get them."""
        return [one if view is None else view(one) for one, view in zip(outputs, self.views, strict=True)]


def signature_of(plan: Schedule, targets: Sequence[Variable]) -> CallSignature | None:
    """The signature of a plan whose last roots are the new values of `targets`.

    None if it has other steps than one region, or results that are no results of the region.
    """
    region, *rest = plan.steps or (None,)
    if region is None or not isinstance(region.variable.op, Region) or not all(plan.owned):
        return None
    slots = [*plan.inputs, *(slot for slot, _ in plan.shared)]
    index = {step.result: step.variable.op.index for step in rest if isinstance(step.variable.op, Item)}
    views = {step.result: step for step in rest if step.result not in index and _is_view(step)}
    from_region = all(step.operands == (region.result,) or step.result in views for step in rest)
    kept = len(plan.roots) - len(targets)
    shown, new = plan.roots[:kept], plan.roots[kept:]
    results = [views[root].operands[0] if root in views else root for root in shown]
    if not from_region or not index.keys() >= {*results, *new} or not set(region.operands) <= set(slots):
        return None
    cells = tuple(dict.fromkeys([*(variable.cell for _, variable in plan.shared), *(target.cell for target in targets)]))
    outputs, new_state = (tuple([index[result] for result in part]) for part in (results, new))
    slot_of = {variable.cell: slot for slot, variable in plan.shared}
    donations = tuple(
        (region.operands.index(slot_of[target.cell]), result)
        for target, result in zip(targets, new_state, strict=True)
        if region.operands.count(slot_of.get(target.cell, -1)) == 1
    )
    sources = tuple([slots.index(slot) for slot in region.operands])
    kernels = tuple([views[root].kernel if root in views else None for root in shown])
    return CallSignature(len(plan.inputs), cells, tuple(targets), sources, outputs, new_state, kernels, donations)


def _is_view(step: Step) -> bool:
    """Whether a step shows the memory of its only operand."""
    op = step.variable.op
    return op.view_of == 0 and len(step.operands) == 1 and not op.foreign
