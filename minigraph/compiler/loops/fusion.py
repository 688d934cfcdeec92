"""Fusion: groups of elementwise work and reductions that are computed together, over one iteration space.

A group's space is the shape of what it computes or folds, without axes of size 1. Members either run over the whole space or,
being results of folds, over its kept axes. A variable joins the group of its operands if it reads what is computed there
element for element; groups are kept in an order in which each comes after those that it reads from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from minigraph.compiler.shaped.layout import Layout, is_counted, is_gather, is_view, keeps_order, map_of, sizes
from minigraph.core.dimensions import plain
from minigraph.core.graph import Graph, Item, Variable
from minigraph.ops.array.selection import Counting
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.loop.loop import Scan
from minigraph.ops.reduce.base import Reduction

AxisMap = tuple[int | None, ...]
"""For each axis of a variable the axis of the space that it runs along, None where it does not vary."""

MOST_REPEATED = 8
"""The most cheap ops with which a value may be computed again."""
MOST_MEMBERS, MOST_AROUND_FOLDS = 64, 96
"""The most variables that a group may have; more if it folds, since apart they would run through the same memory once more."""
MOST_APART = 16
"""The most places after a group at which another may stand that takes its members."""
LONG_ROW = 16
"""The elements of a row from which it is quicker to write them to memory, and to fold them in stages there."""
LOOKED_AT = 6
"""The number of latest groups that a variable may join without reading from them."""


class Group:
    """The variables of one loop nest over a space, or of one op that stands `alone`, at a position among the groups.

    `folded`: the axes that its folds go along, once it has some; `blocks`: the number of blocks in which they do, 0 for all at
    once. What is left of blocks runs along them as along one more axis of the space.
    """

    def __init__(self, position: int, space: tuple[int, ...], alone: bool = False) -> None:
        self.position, self.space, self.alone = position, space, alone
        self.folded: frozenset[int] | None = None
        self.blocks = 0
        self.members: dict[Variable, AxisMap] = {}
        self.reads: set[Variable] = set()

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes of the space that are not folded."""
        return tuple(axis for axis in range(len(self.space)) if axis not in (self.folded or ()))


class Grouping:
    """The groups of a graph, and which variables must lie in memory."""

    def __init__(
        self, graph: Graph, layouts: dict[Variable, Layout], new: Iterable[Variable] = (), staged: bool = False
    ) -> None:
        """layouts: of all variables. new: values of state to be written over old ones, which no group that folds can do.
        staged: whether folds that can are done in stages, which read what they fold from memory."""
        self.layouts, self.new, self._staged = layouts, frozenset(new), staged
        self.groups: list[Group] = []
        self.group_of: dict[Variable, Group] = {}
        for variable in graph.variables:
            if variable.inputs and not is_view(variable) and not is_counted(variable):
                self._place(variable)
        self._merge()
        self.stored: set[Variable] = self._needed_in_memory(graph)
        _repeat_cheap(self, {self.layouts[root].storage for root in graph.outputs})

    # -- placing -----------------------------------------------------------------------------------------------------

    def _place(self, variable: Variable) -> None:
        """Give a variable its group."""
        if isinstance(variable.op, Item):
            self.group_of[variable] = self.group_of[variable.inputs[0]]
            self.group_of[variable].members[variable] = ()
            return
        storages = [self.layouts[one].storage for one in variable.inputs]
        producers = [self.group_of[one] for one in storages if one in self.group_of]
        latest = max((one.position for one in producers), default=-1)
        nested = isinstance(variable.op, Elementwise | Reduction | Counting) or is_gather(variable)
        group = self._joined(variable, latest, storages) if nested else None
        if group is None:
            whole = variable.inputs[0] if isinstance(variable.op, Reduction) else variable
            space = () if isinstance(variable.op, Scan) else squeezed(sizes(whole))
            group = Group(len(self.groups), space, alone=not nested)
            self.groups.append(group)
            if group.alone:
                group.members[variable] = ()
            elif not self._join(variable, group):
                raise AssertionError(f"{variable!r} does not fit its own space")
        self.group_of[variable] = group
        group.reads.update(storages)

    def _joined(self, variable: Variable, latest: int, storages: Sequence[Variable]) -> Group | None:
        """The group that a variable joins: the latest it reads from, or one after that which reads the same."""
        recent = range(max(latest, len(self.groups) - LOOKED_AT, 0), len(self.groups))
        for position in dict.fromkeys([*([latest] if latest >= 0 else []), *reversed(recent)]):
            group = self.groups[position]
            related = position == latest or not group.space or not group.reads.isdisjoint(storages)
            if related and not group.alone and len(group.members) < MOST_MEMBERS and self._join(variable, group):
                return group
        return None

    def _join(self, variable: Variable, group: Group) -> bool:
        """Make a variable a member of a group, if it fits."""
        if isinstance(variable.op, Reduction):
            return self._join_fold(variable, group)
        ways = [range(len(group.space)), group.kept] if group.folded and not group.blocks else [range(len(group.space))]
        for way in ways:
            if squeezed(sizes(variable)) == tuple(group.space[axis] for axis in way):
                axes = spread(sizes(variable), way)
                if all(self.agrees(one, axes, variable, group) for one in variable.inputs):
                    group.members[variable] = axes
                    return True
        return False

    def _join_fold(self, variable: Variable, group: Group) -> bool:
        """Make a reduction a member of a group, if its operand runs over the whole space."""
        operand = variable.inputs[0]
        shape = sizes(operand)
        if squeezed(shape) != group.space:
            return False
        axes = spread(shape)
        assert isinstance(variable.op, Reduction)
        folded = frozenset(axis for one in variable.op.axes if (axis := axes[one]) is not None)
        blocks = variable.op.blocks
        alike = group.folded is None or (group.folded, group.blocks) == (folded, blocks)
        if not alike or not self.agrees(operand, axes, variable, group) or self.in_stages_of(variable, group):
            return False
        group.folded, group.blocks = folded, blocks
        own = tuple(axis for place, axis in enumerate(axes) if place not in variable.op.axes)
        group.members[variable] = (len(group.space), *own) if blocks else own
        return True

    def in_stages_of(self, variable: Variable, group: Group) -> bool:
        """Whether a reduction is done in stages, which cannot be for what a group computes on the way: along rows that pay."""
        op, operand = variable.op, variable.inputs[0]
        assert isinstance(op, Reduction)
        if not self._staged or self.layouts[operand].storage not in group.members or operand.ndim - 1 not in op.axes:
            return False
        length = plain(sizes(operand)[-1])
        return length >= LONG_ROW and op.in_stages(length) is not None

    def agrees(self, operand: Variable, axes: AxisMap, variable: Variable, group: Group) -> bool:
        """Whether an operand of `variable`, a member with these axes, is outside of the group, or read element for element."""
        storage = self.layouts[operand].storage
        if storage not in group.members:
            return True
        mine = None if is_gather(variable) else self.axes_of(operand, group)
        if mine is None:
            return False
        aligned = axes[len(axes) - len(mine) :]
        return all(one is None or one == other for one, other in zip(mine, aligned, strict=True))

    def axes_of(self, variable: Variable, group: Group) -> AxisMap | None:
        """The axes of the space that a member, or a view of one, runs along; None if not element for element."""
        chain = []
        while variable not in group.members:
            chain.append(variable)
            variable = variable.inputs[0]
        axes: AxisMap | None = group.members[variable]
        for view in reversed(chain):
            axes = None if axes is None else _viewed(view, axes)
        return axes

    # -- merging -----------------------------------------------------------------------------------------------------

    def _merge(self) -> None:
        """Let one nest do the work of several groups, where nothing has to come between; first of those that fold alike."""
        readers: dict[Group, set[Group]] = {group: set() for group in self.groups}
        for group in self.groups:
            for producer in self._producers(group):
                readers[producer].add(group)
        self._merge_where(_folds_alike, readers)
        self._merge_where(lambda one, other: other in readers[one] or _share(one, other), readers)

    def _merge_where(self, related: Callable[[Group, Group], bool], readers: dict[Group, set[Group]]) -> None:
        """Merge pairs of groups, an earlier and a later one, that are related."""
        pending = list(self.groups)
        while pending:
            group = pending.pop()
            if group not in readers:
                continue
            for other in self.groups[group.position + 1 : group.position + 1 + MOST_APART]:
                if related(group, other) and self._absorb(group, other, readers):
                    pending += [*self._producers(other), other]
                    break

    def _producers(self, group: Group) -> set[Group]:
        """The groups that a group reads from."""
        return {self.group_of[one] for one in group.reads if one in self.group_of} - {group}

    def _absorb(self, group: Group, later: Group, readers: dict[Group, set[Group]]) -> bool:
        """Make the members of a group members of a later one, if they fit, and nothing that reads the first leads there."""
        both = self._united(group, later)
        after = self._dependents(group, later)
        if both is None or after is None:
            return False
        later.space, later.folded, later.blocks, later.members = both.space, both.folded, both.blocks, both.members
        later.reads |= group.reads
        self.group_of.update(dict.fromkeys(group.members, later))
        for producer in self._producers(later):
            readers[producer] = readers[producer] - {group} | {later}
        readers[later] = (readers[later] | readers.pop(group)) - {later}
        first, between = group.position, self.groups[group.position + 1 : later.position]
        before = [one for one in between if one not in after]
        self.groups[first : later.position + 1] = [*before, later, *(one for one in between if one in after)]
        for position in range(first, len(self.groups)):
            self.groups[position].position = position
        return True

    def _united(self, group: Group, later: Group) -> Group | None:
        """A group of the members of both, if they fit."""
        most = MOST_AROUND_FOLDS if group.folded or later.folded else MOST_MEMBERS
        if group.alone or later.alone or len(group.members) + len(later.members) > most:
            return None
        if any(one.folded and not self.new.isdisjoint(other.members) for one, other in ((group, later), (later, group))):
            return None
        both = Group(later.position, max(group.space, later.space, key=len))
        folding = group if group.space == both.space and group.folded else later
        both.folded, both.blocks = folding.folded, folding.blocks
        fit = all(self._join(variable, both) for variable in (*group.members, *later.members))
        return both if fit else None

    def _dependents(self, group: Group, later: Group) -> set[Group] | None:
        """The groups between two that read from the first, or from such; None if the last reads from one of them."""
        found = {group}
        for other in self.groups[group.position + 1 : later.position]:
            if not found.isdisjoint(self._producers(other)):
                found.add(other)
        return None if self._producers(later) & found - {group} else found

    # -- memory ------------------------------------------------------------------------------------------------------

    def stores(self, variable: Variable, group: Group) -> bool:
        """Whether a variable is written to memory by a group."""
        return variable in self.stored and self.group_of[variable] is group

    def _needed_in_memory(self, graph: Graph) -> set[Variable]:
        """The variables that are read otherwise than element for element within their group."""
        stored = {self.layouts[root].storage for root in graph.outputs}
        for variable, group in self.group_of.items():
            for operand in variable.inputs:
                storage = self.layouts[operand].storage
                if storage in self.group_of and (group.alone or self.group_of[storage] is not group):
                    stored.add(storage)
        return stored | {variable for variable, group in self.group_of.items() if group.alone}


# -- what is computed again rather than kept ---------------------------------------------------------------------------


def _repeat_cheap(grouping: Grouping, pinned: set[Variable]) -> None:
    """Compute a value again where it is read, if that takes a few cheap ops on what is in memory anyway."""
    group_of, layouts = grouping.group_of, grouping.layouts
    readers: dict[Variable, list[Variable]] = {}
    for variable, group in group_of.items():
        for operand in variable.inputs:
            storage = layouts[operand].storage
            if group_of.get(storage) not in (None, group):
                readers.setdefault(storage, []).append(variable)
    for variable in group_of:  # inputs first, so that what is decided of them is settled
        if variable not in readers or variable in pinned or not _is_whole(variable, group_of[variable]):
            continue
        recipe = _recipe(variable, grouping)
        homes = {group_of[reader] for reader in readers[variable]}
        if recipe is None or not all(_is_repeatable(variable, recipe, home, readers[variable], grouping) for home in homes):
            continue
        ops, ingredients = recipe
        for home in homes:
            home.members = {**{one: group_of[one].members[one] for one in ops}, **home.members}
            home.reads |= ingredients
        grouping.stored.discard(variable)
        grouping.stored |= {one for one in ingredients if one in group_of}


def _is_whole(variable: Variable, group: Group) -> bool:
    """Whether a variable runs over the whole space of its group, and is cheap."""
    return variable.op.cheap and not group.alone and squeezed(sizes(variable)) == group.space


Recipe = tuple[list[Variable], set[Variable]]
"""The ops that compute a variable from what is in memory, inputs first, and what they read."""


def _recipe(variable: Variable, grouping: Grouping) -> Recipe | None:
    """The recipe that computes a variable again; None if that takes too many ops, or others than cheap ones."""
    ops: list[Variable] = []
    ingredients: set[Variable] = set()
    pending = [variable]
    while pending:
        current = pending.pop()
        ops.append(current)
        if len(ops) > MOST_REPEATED:
            return None
        for operand in current.inputs:
            storage = grouping.layouts[operand].storage
            group = grouping.group_of.get(storage)
            reduced = group is not None and group.folded and group.folded.isdisjoint(group.members[storage])
            if group is None or storage in grouping.stored or reduced:  # what folds leave is small
                ingredients.add(storage)
            elif _is_whole(storage, group):
                pending.append(storage)
            else:
                return None
    return list(dict.fromkeys(reversed(ops))), ingredients


def _is_repeatable(variable: Variable, recipe: Recipe, home: Group, readers: Sequence[Variable], grouping: Grouping) -> bool:
    """Whether a group may compute a variable of another itself: same space, read element for element, no more to read."""
    ops, ingredients = recipe
    if home.alone or len(home.members) + len(ops) > MOST_MEMBERS:
        return False
    if any(grouping.group_of[one].space != home.space for one in ops):
        return False
    large = [one for one in ingredients if home.space and sizes(one) != () and squeezed(sizes(one)) == home.space]
    if len([one for one in large if one not in home.reads]) > 1:
        return False
    present = home.members
    home.members = present | {variable: spread(sizes(variable))}
    try:
        for reader in readers:
            if grouping.group_of[reader] is home:
                folds = isinstance(reader.op, Reduction)
                if folds and grouping.in_stages_of(reader, home):
                    return False
                axes = spread(sizes(reader.inputs[0])) if folds else home.members[reader]
                read = [one for one in reader.inputs if grouping.layouts[one].storage is variable]
                if not all(grouping.agrees(one, axes, reader, home) for one in read):
                    return False
        return True
    finally:
        home.members = present


def _folds_alike(group: Group, other: Group) -> bool:
    """Whether two groups fold the same axes of one space, and read the same memory."""
    alike = (group.space, group.folded, group.blocks) == (other.space, other.folded, other.blocks)
    return bool(group.folded) and alike and _share(group, other)


def _share(group: Group, other: Group) -> bool:
    """Whether two groups read the same memory, no less of it than they compute."""
    computed = plain(math.prod(group.space))
    return any(plain(math.prod(sizes(one))) >= computed > 1 for one in group.reads & other.reads)


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its axes of size 1."""
    return tuple(size for size in shape if size != 1)


def spread(shape: Sequence[int], axes: Iterable[int] | None = None) -> AxisMap:
    """`axes`, or those of a space of this shape, given to the axes of a shape in order, None to those of size 1."""
    remaining = count() if axes is None else iter(axes)
    return tuple(None if size == 1 else next(remaining) for size in shape)


def _viewed(view: Variable, axes: AxisMap) -> AxisMap | None:
    """The axes that a view runs along, given those of the value that it shows; None if it does not go element for element."""
    shape = sizes(view.inputs[0])
    if not keeps_order(view):
        return map_of(view).along(axes, sizes(view), shape)
    varying = all(axis is not None for axis, size in zip(axes, shape, strict=True) if size != 1)
    if squeezed(shape) == squeezed(sizes(view)) and varying:
        return spread(sizes(view), [axis for axis in axes if axis is not None])
    return None
