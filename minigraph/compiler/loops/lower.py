"""From the members of a group to the loop nest that computes them: nodes, and operands with their strides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

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
from minigraph.compiler.shaped.layout import Layout, contiguous, indexed, sizes
from minigraph.core.dimensions import Dimension
from minigraph.core.graph import Constant, Variable
from minigraph.core.record import Record
from minigraph.ops.array.creation import Arange
from minigraph.ops.array.indexing import Hole, Increment, Index
from minigraph.ops.random import RandomBits
from minigraph.ops.reduce.reduction import Reduction


class Place(Record):
    """An operand of a nest: a memory (or what counts positions), and how it is walked along the axes of the space."""

    storage: Variable
    dtype: np.dtype[Any]
    strides: tuple[int, ...]
    offset: int
    in_memory: bool = True


def along_space(shape: Sequence[int]) -> list[int | None]:
    """The axes of a space of this shape without its axes of size 1, for each axis of the shape; None for those."""
    axes = iter(range(len(shape)))
    return [None if size == 1 else next(axes) for size in shape]


class Builder:
    """Collects the nodes and operands of one loop nest over a space."""

    def __init__(
        self,
        space: tuple[int, ...],
        folded: frozenset[int],
        layouts: dict[Variable, Layout],
        is_literal: Callable[[Constant], bool],
    ) -> None:
        """is_literal: whether a number is written into the code, instead of being read from memory."""
        self.space, self.folded, self.layouts, self.is_literal = space, folded, layouts, is_literal
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
        """The number of an operand whose own axes run along `axes` of the space."""
        strides = [0] * len(self.space)
        for axis, stride in zip(axes, layout.strides, strict=True):
            if axis is not None:
                strides[axis] = stride
        where = Place(layout.storage, dtype, tuple(strides), layout.offset, in_memory)
        return self.places.setdefault(where, len(self.places))

    def read(self, operand: Variable, axes: Sequence[int | None]) -> int:
        """The node of an operand, whose last axis runs along the last of `axes`."""
        layout = self.layouts[operand]
        storage = layout.storage
        if storage in self.computed:
            return self.computed[storage]
        mine = [
            None if size == 1 else axis for axis, size in zip(axes[len(axes) - operand.ndim :], sizes(operand), strict=True)
        ]
        op = storage.op
        if isinstance(op, Constant) and op.value.size == 1 and self.is_literal(op):
            return self.node(Literal(op.value.dtype, op.value.tobytes()))
        if isinstance(op, Arange):
            position = self.node(Load(self.place(layout, np.dtype("int64"), mine, in_memory=False)))
            scalars = [self.read(one, ()) for one in storage.inputs]
            return self.node(Apply(op, (position, scalars[0], scalars[2]), op.dtype))
        return self.node(Load(self.place(layout, storage.dtype, mine)))

    def compute(self, variable: Variable, axes: Sequence[int | None]) -> int:
        """The node of a member."""
        op, dtype = variable.op, variable.dtype
        if isinstance(op, Reduction):
            operand = variable.inputs[0]
            argument = self.read(operand, along_space(sizes(operand)))
            node = self.node(Fold(op, argument, dtype))
        elif isinstance(op, RandomBits):
            own = Layout(variable, contiguous(sizes(variable)), 0)
            position = self.node(Load(self.place(own, np.dtype("int64"), axes, in_memory=False)))
            state = self.layouts[variable.inputs[0]]
            words = [Layout(state.storage, (), state.offset + k * state.strides[0]) for k in (0, 1)]
            seed, calls = (self.node(Load(self.place(word, np.dtype("uint64"), ()))) for word in words)
            node = self.node(Apply(op, (position, seed, calls), dtype))
        elif isinstance(op, Index):
            node = self.gather(variable, axes)
        else:
            node = self.node(Apply(op, tuple(self.read(one, axes) for one in variable.inputs), dtype))
        self.computed[variable] = node
        return node

    def gather(self, variable: Variable, axes: Sequence[int | None]) -> int:
        """The node of an element that arrays of integers pick."""
        x, *fillers = variable.inputs
        layout, indices, picks = self._picking(variable.op, x, fillers, axes)
        gather = Gather(self.place(layout, x.dtype, axes), indices, x.dtype)
        self._picks[gather] = picks
        return self.node(gather)

    def scatter(self, node: int, op: Any, target: Variable, fillers: Sequence[Variable], axes: Sequence[int | None]) -> None:
        """Put a node where an index of the target says, or add it."""
        layout, indices, picks = self._picking(op, target, fillers, axes)
        scatter = Scatter(self.place(layout, target.dtype, axes), node, indices, not isinstance(op, Increment))
        self._picks[scatter] = picks
        self.scatters.append(scatter)

    def _picking(
        self, op: Any, x: Variable, fillers: Sequence[Variable], axes: Sequence[int | None]
    ) -> tuple[Layout, tuple[int, ...], list[tuple[int, int]]]:
        """The layout of x[...] without what arrays pick, the nodes of the picking indices, and sizes and strides they pick in.

        Known integers beside arrays are part of the offset. The axes of the picks stand where NumPy puts them.
        """
        layout = self.layouts[x]
        strides, offset = indexed(op.entries, sizes(x), layout.strides, layout.offset)
        width = max((one.ndim for one in fillers), default=0)
        where = _place_of_picks(op.entries) if fillers else 0
        walked = (*strides[:where], *(0,) * width, *strides[where:])
        indices, picks = [], []
        remaining = iter(fillers)
        axis = 0
        for entry in op.entries:
            if isinstance(entry, Hole):
                filler = next(remaining)
                indices.append(self.read(filler, axes[where : where + width]))
                picks.append((sizes(x)[axis], layout.strides[axis]))
            axis += entry is not None
        return Layout(layout.storage, walked, offset), tuple(indices), picks

    def store(self, node: int, layout: Layout, dtype: np.dtype[Any], axes: Sequence[int | None]) -> None:
        """Write a node to memory."""
        self.stores.append(Store(self.place(layout, dtype, axes), node))

    def build(self) -> tuple[LoopNest, Bindings]:
        """The nest, its neighbouring axes joined where that makes no difference, and its numbers."""
        places = list(self.places)
        flags = [axis in self.folded for axis in range(len(self.space))]
        lengths, strides, folded = collapse(self.space, [one.strides for one in places], flags)
        accesses = tuple(
            Access(place.dtype, tuple(map(stride_class, walked)), place.in_memory)
            for place, walked in zip(places, strides, strict=True)
        )
        nest = LoopNest(folded, accesses, tuple(self.nodes), tuple(self.stores), tuple(self.scatters))
        picking = [one for one in (*self.nodes, *self.scatters) if isinstance(one, Gather | Scatter)]
        return nest, Bindings(lengths, strides, tuple(pick for one in picking for pick in self._picks[one]))


def _place_of_picks(entries: Sequence[Any]) -> int:
    """Where among the axes of x[...] those of the picking arrays stand: in their place if they stand together, else first."""
    places = [k for k, entry in enumerate(entries) if isinstance(entry, Hole | int | Dimension)]
    if places[-1] - places[0] + 1 != len(places):
        return 0
    return places[0]
