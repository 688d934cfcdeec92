"""The loop nest: what is computed for every point of an iteration space, in memory order, and what is folded on the way.

An axis of the space is either kept or folded. For each point of the kept axes the folded ones are run through in stages:
a fold of stage s is complete when the stage is, and what depends on it comes in stage s + 1, over the same data. So softmax
is one nest of three stages over a row, and batch normalization one of a few stages over a column.

A `LoopNest` is pure structure, without sizes, and so the key under which compiled kernels are kept; `Bindings` are the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from minigraph.core.dimensions import Dimension, Sizes
from minigraph.core.graph import Op
from minigraph.core.record import Record
from minigraph.ops.reduce.base import Reduction

DType = np.dtype[Any]


class Access(Record):
    """The access to an operand: per axis a stride of 0, 1, a few elements, or of some other number (-1), that is known later.

    An operand that is not in memory stands for its flat positions themselves.
    """

    dtype: DType
    strides: tuple[int, ...]
    in_memory: bool = True


class Load(Record):
    """An element of an operand; its position, if that is not in memory."""

    operand: int


class Literal(Record):
    """A number, given by its bits."""

    dtype: DType
    bits: bytes

    @property
    def value(self) -> Any:
        """The number."""
        return np.frombuffer(self.bits, self.dtype)[0]


class Apply(Record):
    """An op on elements."""

    op: Op
    arguments: tuple[int, ...]
    dtype: DType


class Fold(Record):
    """A reduction of an element over the folded axes."""

    op: Reduction
    argument: int
    dtype: DType


class Gather(Record):
    """An element of an operand that indices pick; an index outside makes the kernel fail."""

    operand: int
    indices: tuple[int, ...]
    dtype: DType


class Store(Record):
    """An element written to an operand."""

    operand: int
    node: int


class Scatter(Record):
    """An element added to what an operand holds, where indices pick."""

    operand: int
    node: int
    indices: tuple[int, ...]
    replaces: bool


Node = Load | Literal | Apply | Fold | Gather


class LoopNest(Record):
    """The structure of a kernel: axes (True where folded), operands, nodes (arguments first), and what is written.

    `shared`: the folded axis of which each point of the first axis goes along an equal part only; None if all is one part.
    `tiled`: the axis that is run along in tiles together with the innermost, as some operands lie element by element along it.
    `written_out`: the sizes of the axes whose points are written one by one instead of in a loop, 0 for others; () if none is.
    """

    folded: tuple[bool, ...]
    operands: tuple[Access, ...]
    nodes: tuple[Node, ...]
    stores: tuple[Store, ...]
    scatters: tuple[Scatter, ...] = ()
    shared: int | None = None
    tiled: int | None = None
    written_out: tuple[int, ...] = ()

    def __hash__(self) -> int:
        return hash((self.folded, self.nodes, self.stores))

    @property
    def by_column(self) -> bool:
        """Whether the innermost axis is kept while others are folded, so that folds run in many columns at once."""
        return any(self.folded) and not self.folded[-1] and not self.written_out

    @property
    def columns(self) -> list[int]:
        """The kept axes whose points are written out within the loops along the folded ones."""
        inside = any(self.folded) and self.written_out
        return [axis for axis, fold in enumerate(self.folded) if inside and not fold and self.written_out[axis]]

    @property
    def parallel(self) -> list[int]:
        """The other kept axes."""
        columns = self.columns
        return [axis for axis, fold in enumerate(self.folded) if not fold and axis not in columns]

    @property
    def fails(self) -> bool:
        """Whether the kernel may report an index that is outside, or a requirement that does not hold."""
        return bool(self.scatters) or any(
            isinstance(node, Gather) or (isinstance(node, Apply) and node.op.requires is not None) for node in self.nodes
        )

    def points(self, sizes: Sequence[int]) -> int:
        """The number of points of the space, given the sizes of the axes."""
        return math.prod(sizes[self.shared is not None :])

    def is_full(self) -> list[bool]:
        """For each node whether it varies along folded axes."""
        full: list[bool] = []
        for k, node in enumerate(self.nodes):
            read = isinstance(node, Load | Gather) and self._varies(node.operand)
            full.append(not isinstance(node, Fold) and (read or any(full[one] for one in self.arguments_of(k))))
        return full

    def _varies(self, operand: int) -> bool:
        """Whether an operand has a stride along a folded axis."""
        return any(fold and stride for fold, stride in zip(self.folded, self.operands[operand].strides, strict=True))

    def is_inner(self, store: Store) -> bool:
        """Whether a store takes place within the folded loops: its value varies there, or is spread along them."""
        return self._varies(store.operand) or self.is_full()[store.node]

    def dtype_of(self, node: int) -> DType:
        """The dtype of a node."""
        what = self.nodes[node]
        return self.operands[what.operand].dtype if isinstance(what, Load) else what.dtype

    def levels(self) -> list[int]:
        """For each node the first stage in which its value is there."""
        level: list[int] = []
        for k, node in enumerate(self.nodes):
            level.append(max((level[one] for one in self.arguments_of(k)), default=0) + isinstance(node, Fold))
        return level

    def evaluate(
        self, node: int, known: dict[int, Any], ready: Callable[[int], Any], apply: Callable[[int, list[Any]], Any]
    ) -> Any:
        """The value of a node from those that are known, to which new ones are added: `ready` gives it, if it is not None, else
        `apply` does from the values of its arguments.
        """
        pending = [node]
        while pending:
            current = pending[-1]
            if current in known:
                pending.pop()
            elif (value := ready(current)) is not None:
                known[current] = value
            elif missing := [one for one in self.arguments_of(current) if one not in known]:
                pending += missing
            else:
                known[current] = apply(current, [known[one] for one in self.arguments_of(current)])
        return known[node]

    def arguments_of(self, node: int) -> tuple[int, ...]:
        """The nodes that a node is computed from."""
        match self.nodes[node]:
            case Apply(_, arguments, _):
                return arguments
            case Gather(_, indices, _):
                return indices
            case Fold(_, argument, _):
                return (argument,)
        return ()


class Bindings(Record):
    """The numbers of a loop nest: sizes of the axes, strides of the operands in elements, sizes and strides of picks."""

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    picks: tuple[tuple[int, int], ...] = ()

    def settled(self, sizes: Sizes) -> Bindings:
        """The numbers for sizes that are settled."""
        picks: Any = tuple(map(sizes.all, self.picks))
        return Bindings(sizes.all(self.sizes), tuple(map(sizes.all, self.strides)), picks)

    def walked(self, operand: int) -> list[int]:
        """The sizes of the axes along which an operand moves."""
        along = zip(self.sizes, self.strides[operand], strict=True)
        return [size for size, stride in along if isinstance(stride, Dimension) or stride]

    def words(self) -> list[int]:
        """The numbers as they lie in the parameters of a kernel, after the places of its operands."""
        return [*self.sizes, *chain(*self.strides), *chain(*self.picks)]


def collapse(sizes: Sequence[int], strides: Sequence[Sequence[int]], folded: Sequence[bool]) -> tuple[Any, Any, Any]:
    """The sizes, strides and folded flags with neighbouring axes joined wherever every operand walks them in one stride."""
    kept: list[tuple[int, bool, list[int]]] = []
    for size, fold, *column in zip(sizes, folded, *strides, strict=True):
        before, outer_fold, outer = kept[-1] if kept else (0, None, [])
        if fold == outer_fold and all(far == near * size for far, near in zip(outer, column, strict=True)):
            kept[-1] = (before * size, fold, column)
        else:
            kept.append((size, fold, column))
    walked = tuple(tuple(column[k] for _, _, column in kept) for k in range(len(strides)))
    return tuple(size for size, _, _ in kept), walked, tuple(fold for _, fold, _ in kept)


def stride_class(stride: int) -> int:
    """The class of strides that a kernel is compiled for: 0, 1, or -1 for any other stride."""
    return stride if stride in (0, 1) else -1


def describe(nest: LoopNest, bindings: Bindings, names: Sequence[str]) -> Iterator[str]:
    """The nest with bindings as readable text, given names for its operands; a value only stored stands where it is stored."""
    text = _Text(nest, bindings, names)
    ends = [f"part i0 of {size}" if k == nest.shared else str(size) for k, size in enumerate(bindings.sizes)]
    axes = [(f"i{k} < {end}", fold) for k, (end, fold) in enumerate(zip(ends, nest.folded, strict=True))]
    kept, folds = ([axis for axis, fold in axes if fold == folded] for folded in (False, True))
    yield f"for {', '.join(kept) or 'once'}:"
    for stage in range(max([*text.level, 0]) + 1):
        for inside in (False, True):
            lines = list(text.stage(stage, inside))
            if lines and inside:
                yield f"    for {', '.join(folds)}:"
            yield from (("        " if inside else "    ") + line for line in lines)


class _Text:
    """The text of the nodes of a nest."""

    def __init__(self, nest: LoopNest, bindings: Bindings, names: Sequence[str]) -> None:
        self.nest, self.bindings, self.names = nest, bindings, names
        self.level, self.full = nest.levels(), nest.is_full()
        used = [one for k in range(len(nest.nodes)) for one in nest.arguments_of(k)]
        used += [one for add in nest.scatters for one in (add.node, *add.indices)] + [store.node for store in nest.stores]
        self.uses = {k: used.count(k) for k in range(len(nest.nodes))}

    def of(self, node: int) -> str:
        """A node where it is used: the element that is loaded, the number, or the name of what was computed."""
        match self.nest.nodes[node]:
            case Load(operand):
                return self.place(operand)
            case Literal() as number:
                return str(number.value)
        return f"v{node}"

    def stage(self, stage: int, inside: bool) -> Iterator[str]:
        """The lines of one stage, within the folded loops or outside of them."""
        nest = self.nest
        for k, node in enumerate(nest.nodes):
            if self.level[k] != stage:
                continue
            stores = [one for one in nest.stores if one.node == k]
            text = self._expression(node)
            alone = text is not None and len(stores) == self.uses[k] == 1 and nest.is_inner(stores[0]) == self.full[k]
            if text is not None and self.full[k] == inside and not alone:
                yield f"v{k} = {text}"
            for store in stores:
                if nest.is_inner(store) == inside:
                    yield f"{self.place(store.operand)} = {text if alone else self.of(k)}"
            for j, other in enumerate(nest.nodes):
                if isinstance(other, Fold) and other.argument == k and inside:
                    yield f"v{j} = {type(other.op.shown).__name__} of {self.of(k)}"
        for add in nest.scatters:
            if self.level[add.node] == stage and self.full[add.node] == inside:
                picked = ", ".join(self.of(one) for one in add.indices)
                yield f"{self.names[add.operand]}[{picked}] {'=' if add.replaces else '+='} {self.of(add.node)}"

    def _expression(self, node: Node) -> str | None:
        """The text of an op or a gather, None for other nodes."""
        match node:
            case Apply(op, arguments, _):
                return f"{type(op.shown).__name__}({', '.join(self.of(one) for one in arguments)})"
            case Gather(operand, indices, _):
                return f"{self.names[operand]}[{', '.join(self.of(one) for one in indices)}]"
        return None

    def place(self, operand: int) -> str:
        """An element of an operand."""
        terms = [
            f"i{axis}" if stride == 1 else f"{stride} * i{axis}"
            for axis, stride in enumerate(self.bindings.strides[operand])
            if stride and self.bindings.sizes[axis] > 1
        ]
        name = self.names[operand]
        return f"{name}[{' + '.join(terms) or '0'}]" if name.isidentifier() else name
