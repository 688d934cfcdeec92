"""New state written over old state: which groups may do so, and in which order groups then run.

An output may take the memory of an input if it is computed element for element from it, and if everything that reads the input
otherwise, or that can fail, comes before. What nobody else reads is put off until then.
"""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.compiler.loops.fusion import Group, Grouping
from minigraph.compiler.shaped.layout import Layout, contiguous, sizes
from minigraph.core.graph import Graph, Variable
from minigraph.ops.elementwise.base import Elementwise


def overwrite(
    graph: Graph, grouping: Grouping, donations: Sequence[tuple[int, int]]
) -> tuple[list[Group], dict[Variable, Variable]]:
    """The groups of `grouping` in running order, and the input that each output in `donations` is written over, if it may be.

    donations: positions of an input of the graph and of the output that shall take its memory.
    """
    readers: dict[Variable, list[Group]] = {}
    for group in grouping.groups:
        for storage in group.reads:
            readers.setdefault(storage, []).append(group)
    pairs = [(graph.outputs[output], graph.inputs[given]) for given, output in donations]
    fitting = {new: old for new, old in pairs if _fits(new, old, grouping, readers)}
    failing = [group.position for group in grouping.groups if _can_fail(group)]
    due = {group: group.position for group in grouping.groups}
    for new, old in fitting.items():
        group = grouping.group_of[new]
        if all(one is group for member in group.members for one in readers.get(member, ())):  # no other reads of it
            due[group] = max(due[group], *failing, *(one.position for one in readers.get(old, ())))
    order = sorted(grouping.groups, key=lambda group: (due[group], group.position != due[group], group.position))
    place = {group: k for k, group in enumerate(order)}
    last_failing = max((place[group] for group in order if _can_fail(group)), default=-1)
    for new, old in list(fitting.items()):
        group = grouping.group_of[new]
        before = max((place[one] for one in readers.get(old, ()) if one is not group), default=-1)
        if place[group] < max(before, last_failing):
            del fitting[new]
    return order, fitting


def _fits(new: Variable, old: Variable, grouping: Grouping, readers: dict[Variable, list[Group]]) -> bool:
    """Whether `new` has the type of `old`, and a group that cannot fail computes it element for element, and alone reads it."""
    group = grouping.group_of.get(new)
    if group is None or group.alone or group.folded or _can_fail(group):
        return False
    if (sizes(new), new.dtype) != (sizes(old), old.dtype) or any(one is not group for one in readers.get(new, ())):
        return False
    return all(
        isinstance(member.op, Elementwise) and _is_whole(one, grouping.layouts[one], group.space)
        for member in group.members
        for one in member.inputs
        if grouping.layouts[one].storage is old
    )


def _is_whole(variable: Variable, layout: Layout, space: Sequence[int]) -> bool:
    """Whether a variable, walked along a space, is met element by element in memory order."""
    strides = [stride for stride, size in zip(layout.strides, sizes(variable), strict=True) if size != 1]
    return strides == [*contiguous(space)]


def _can_fail(group: Group) -> bool:
    """Whether a group may meet an index that is outside, or a requirement that does not hold."""
    return any(one.op.may_fail(*[operand.type for operand in one.inputs]) for one in group.members)
