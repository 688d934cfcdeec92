"""From the members of a group to the loop nest that computes them: nodes, and operands with their strides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.compiler.loops.fusion import AxisMap, Group, Grouping, spread
from minigraph.compiler.loops.nest import (
    Access,
    Apply,
    Bindings,
    Fold,
    Gather,
    Literal,
    Load,
    LoopNest,
    Node,
    Scatter,
    Store,
    collapse,
    stride_class,
)
from minigraph.compiler.shaped.layout import Layout, contiguous, is_counted, sizes
from minigraph.core.graph import Constant, Op, Variable
from minigraph.core.record import Record
from minigraph.core.types import TensorType
from minigraph.ops.array.selection import Counting, Selection
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.reduce.base import Reduction


class Place(Record):
    """An operand of a nest: a memory (or what counts positions), and how it is walked along the axes of the space."""

    storage: Variable
    dtype: np.dtype[Any]
    strides: tuple[int, ...]
    offset: int
    in_memory: bool = True


def kept_for_later(group: Group, members: Mapping[Variable, AxisMap], grouping: Grouping) -> dict[Variable, Variable]:
    """The costly members of a group that a later stage needs, and the members in whose memory, by `grouping`, they are kept."""
    if not group.folded:
        return {}
    inside: dict[Variable, list[Variable]] = {}
    level: dict[Variable, int] = {}
    for variable in members:
        storages = [grouping.layouts[one].storage for one in variable.inputs]
        inside[variable] = [one for one in storages if one in members]
        level[variable] = max((level[one] for one in inside[variable]), default=0) + isinstance(variable.op, Reduction)
    last = dict.fromkeys(members, 0)
    for variable in reversed(list(members)):
        folds = isinstance(variable.op, Reduction)
        if folds or variable in grouping.stored:
            last[variable] = max(last[variable], level[variable])
        for one in inside[variable]:
            last[one] = max(last[one], level[one] if folds else last[variable])
    kept: dict[Variable, Variable] = {}
    for variable, axes in members.items():
        full = not group.folded.isdisjoint(axes)
        if variable.op.cost > 1 and last[variable] > level[variable] and full:
            kind = variable.dtype, sizes(variable), axes
            like = [one for one in members if grouping.stores(one, group) and (one.dtype, sizes(one), members[one]) == kind]
            later = [one for one in like if level[one] >= last[variable] and one not in kept.values()]
            kept[variable] = variable if variable in grouping.stored or not later else later[0]
    return kept


class Builder:
    """Collects the nodes and operands of one loop nest over a space with `folded` axes."""

    def __init__(
        self,
        space: tuple[int, ...],
        folded: frozenset[int],
        layouts: dict[Variable, Layout],
        is_literal: Callable[[Constant, bool], bool],
        blocks: int = 0,
        staged: bool = False,
    ) -> None:
        """layouts: of all variables. is_literal: whether a number is written into the code, instead of read from memory, given
        whether it is a divisor.

        blocks: the number of blocks in which axes are folded, 0 for all at once. staged: whether folds that can are done in
        stages.
        """
        self.space, self.folded, self.layouts, self.is_literal = space, folded, layouts, is_literal
        self.blocks, self.staged = blocks, staged
        self.places: dict[Place, int] = {}
        self.nodes: dict[Node, int] = {}
        self.stores: list[Store] = []
        self.scatters: list[Scatter] = []
        self._picks: dict[Gather | Scatter, list[tuple[int, int]]] = {}
        self.computed: dict[Variable, int] = {}

    def node(self, node: Node) -> int:
        """The number of a node."""
        return self.nodes.setdefault(node, len(self.nodes))

    def place(self, layout: Layout, dtype: np.dtype[Any], axes: Sequence[int | None], in_memory: bool = True) -> int:
        """The number of an operand with this layout and dtype, whose own axes run along `axes`; `in_memory`: as in `Place`."""
        strides = [0] * (len(self.space) + bool(self.blocks))
        for axis, stride in zip(axes, layout.strides, strict=True):
            if axis is not None:
                strides[axis] = stride
        where = Place(layout.storage, dtype, tuple(strides), layout.offset, in_memory)
        return self.places.setdefault(where, len(self.places))

    def read(self, operand: Variable, axes: Sequence[int | None], divides: bool = False) -> int:
        """The node of an operand, whose last axis runs along the last of `axes`; `divides`: it is a divisor."""
        layout = self.layouts[operand]
        storage = layout.storage
        if storage in self.computed:
            return self.computed[storage]
        aligned = zip(axes[len(axes) - operand.ndim :], sizes(operand), strict=True)
        mine = [None if size == 1 else axis for axis, size in aligned]
        op = storage.op
        if isinstance(op, Constant) and op.value.size == 1 and self.is_literal(op, divides):
            return self.node(Literal(op.value.dtype, op.value.tobytes()))
        if is_counted(storage):
            return self.count(storage, layout, mine)
        return self.node(Load(self.place(layout, storage.dtype, mine)))

    def compute(self, variable: Variable, axes: Sequence[int | None]) -> int:
        """The node of a member."""
        op, dtype = variable.op, variable.dtype
        if isinstance(op, Reduction):
            node = self.fold(op, variable.inputs[0], dtype)
        elif isinstance(op, Counting):
            node = self.count(variable, Layout(variable, contiguous(sizes(variable)), 0), axes)
        elif isinstance(op, Selection):
            node = self.gather(variable, axes)
        else:
            assert isinstance(op, Elementwise)
            operands = [self.read(one, axes, k == op.divisor) for k, one in enumerate(variable.inputs)]
            node = self.node(Apply(op, tuple(operands), dtype))
        self.computed[variable] = node
        return node

    def fold(self, op: Reduction, operand: Variable, dtype: np.dtype[Any]) -> int:
        """The node of a fold of an operand by an op to a dtype, that of its last stage if elements lie in memory."""
        axes = spread(sizes(operand))
        x, along = self.read(operand, axes), axes[op.axes[-1]] if op.axes else None
        stages = None if along is None or not self.staged else op.in_stages(self.space[along])
        if stages is None or not isinstance([*self.nodes][x], Load):
            return self.node(Fold(op, x, dtype))
        first, attaining, last = stages
        best = self.node(Fold(first, x, operand.dtype))
        attained = attaining.infer(*[TensorType(operand.dtype, ())] * 2)
        return self.node(Fold(last, self.node(Apply(attaining, (x, best), attained.dtype)), dtype))

    def count(self, variable: Variable, layout: Layout, axes: Sequence[int | None]) -> int:
        """The node of an element of `variable` that follows from its position, by `layout` along `axes`, and from operands."""
        op = variable.op
        assert isinstance(op, Counting)
        position = self.node(Load(self.place(layout, np.dtype("int64"), axes, in_memory=False)))
        elements = [self._element(variable.inputs[k], at) for k, at in op.parameters()]
        return self.node(Apply(op, (position, *elements), variable.dtype))

    def _element(self, operand: Variable, index: tuple[int, ...]) -> int:
        """The node of one element of an operand."""
        if not index:
            return self.read(operand, ())
        layout = self.layouts[operand]
        offset = sum([place * stride for place, stride in zip(index, layout.strides, strict=True)], layout.offset)
        return self.node(Load(self.place(Layout(layout.storage, (), offset), operand.dtype, ())))

    def gather(self, variable: Variable, axes: Sequence[int | None]) -> int:
        """The node of an element that arrays of integers pick."""
        x = variable.inputs[0]
        layout, indices, picks = self._picking(variable.op, variable.inputs, axes)
        gather = Gather(self.place(layout, x.dtype, axes), indices, x.dtype)
        self._picks[gather] = picks
        return self.node(gather)

    def scatter(self, node: int, written: Variable, axes: Sequence[int | None], replaces: bool) -> None:
        """Add a node along `axes` where the index of the `written` variable says, or, if it `replaces`, put it there."""
        layout, indices, picks = self._picking(written.op, (written, *written.inputs[1:]), axes)
        scatter = Scatter(self.place(layout, written.dtype, axes), node, indices, replaces)
        self._picks[scatter] = picks
        self.scatters.append(scatter)

    def _picking(
        self, op: Op, operands: Sequence[Variable], axes: Sequence[int | None]
    ) -> tuple[Layout, tuple[int, ...], list[tuple[int, int]]]:
        """The layout of a selection but for its picks, the nodes that pick, the counts and strides of what they pick."""
        shown = op.index_map(*[one.type for one in operands])
        assert shown is not None
        layout = self.layouts[operands[0]]
        indices = tuple([self.read(operands[pick.operand], [axes[axis] for axis in pick.along]) for pick in shown.picks])
        picks = [(pick.count, pick.step * layout.strides[pick.axis]) for pick in shown.picks]
        return Layout(layout.storage, *shown.strided(layout.strides, layout.offset)), indices, picks

    def store(self, node: int, layout: Layout, dtype: np.dtype[Any], axes: Sequence[int | None]) -> None:
        """Write a node to memory with this layout and dtype, along `axes` of the space."""
        self.stores.append(Store(self.place(layout, dtype, axes), node))

    def build(self) -> tuple[LoopNest, Bindings]:
        """The nest, its neighbouring axes joined where that makes no difference, and its numbers."""
        places, count = list(self.places), len(self.space)
        flags = [axis in self.folded for axis in range(count)]
        lengths, strides, folded = collapse(self.space, [one.strides[:count] for one in places], flags)
        if self.blocks:
            lengths, folded = (self.blocks, *lengths), (False, *folded)
            strides = tuple((one.strides[-1], *walked) for one, walked in zip(places, strides, strict=True))
        lying = zip(places, strides, strict=True)
        accesses = tuple(Access(one.dtype, tuple(map(stride_class, walked)), one.in_memory) for one, walked in lying)
        shared = _longest(lengths, folded) if self.blocks else None
        nest = LoopNest(folded, accesses, tuple(self.nodes), tuple(self.stores), tuple(self.scatters), shared)
        picking = [one for one in (*self.nodes, *self.scatters) if isinstance(one, Gather | Scatter)]
        return nest, Bindings(lengths, strides, tuple(pick for one in picking for pick in self._picks[one]))


def _longest(lengths: Sequence[int], folded: Sequence[bool]) -> int:
    """The first folded axis that is as long as one block for each, else the longest."""
    axes = [axis for axis, fold in enumerate(folded) if fold]
    long = [axis for axis in axes if lengths[axis] >= lengths[0]]
    return long[0] if long else max(axes, key=lambda axis: lengths[axis])
