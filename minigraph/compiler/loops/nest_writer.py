"""The writer of a scheduled nest as code: the values of its nodes, and the order of its stages.

Where elements lie, and how loops and the states of folds are written, is the matter of each machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

from minigraph.compiler.loops.nest import Apply, Fold, Gather, Literal, Load, LoopNest, Scatter
from minigraph.compiler.loops.reductions import Accumulator
from minigraph.compiler.loops.scheduled import Gap, ScheduledNest, Stage
from minigraph.compiler.scalar.namespace import Scalars, applied
from minigraph.compiler.scalar.scalar import INT64, DType, Value, Writer, select

Known = dict[int, Value]
"""The values of nodes that are there where code is being written."""


class NestWriter(ABC):
    """Writes one nest. A `lane` is one of the neighbouring elements that a thread computes, where it computes several."""

    writer: Writer
    scalars: Scalars
    """The namespace of elementwise functions."""

    def __init__(self, nest: LoopNest) -> None:
        self.nest, self.order = nest, ScheduledNest(nest)
        self.accumulators = {
            k: Accumulator(node.op, nest.dtype_of(node.argument)) for k, node in enumerate(nest.nodes) if isinstance(node, Fold)
        }
        self.stage = 0
        """The number of the stage that is being written."""

    # -- what each machine writes its own way ------------------------------------------------------------------------

    @abstractmethod
    def load(self, operand: int, lane: int) -> Value:
        """An element of an operand, or its position."""

    @abstractmethod
    def place(self, operand: int, lane: int) -> str:
        """The place of the current element of an operand."""

    @abstractmethod
    def picks_of(self, user: Gather | Scatter) -> Sequence[tuple[Any, Any]]:
        """For each index of what picks elements the size of the axis and its stride."""

    @abstractmethod
    def further(self, operand: int, place: str, count: Value, stride: Any) -> str:
        """The place of an operand `count` times `stride` after `place`."""

    @abstractmethod
    def element(self, place: str, dtype: DType) -> Value:
        """The element at a place."""

    @abstractmethod
    def put(self, value: Value, place: str) -> None:
        """Write an element to a place."""

    @abstractmethod
    def note(self, failure: Value) -> None:
        """Remember a failure, if this is one."""

    @abstractmethod
    def write_stage(self, stage: Stage) -> None:
        """A run along the serial axes."""

    @abstractmethod
    def write_gap(self, gap: Gap) -> None:
        """The code before, between or after runs along the serial axes."""

    # -- what they have in common ------------------------------------------------------------------------------------

    def write_stages(self) -> None:
        """The stages, and what stands between them."""
        self.write_gap(self.order.gaps[0])
        for number, stage in enumerate(self.order.stages):
            self.stage = number
            self.write_stage(stage)
            self.stage = number + 1
            self.write_gap(self.order.gaps[number + 1])

    def compute(self, node: int, known: Known, lane: int = 0) -> Value:
        """The value of a node in a lane, given those `known` where the code is being written; new ones are added to them."""
        value: Value = self.nest.evaluate(node, known, partial(self.ready, lane), partial(self.apply, lane))
        return value

    def ready(self, lane: int, node: int) -> Value | None:
        """A value that needs no computation here: a literal, or one that was stored in an earlier stage."""
        what = self.nest.nodes[node]
        if isinstance(what, Literal):
            return self.writer.constant(what.value, what.dtype)
        if node in self.order.stored and self.order.level[node] < self.stage:
            return self.load(self.order.stored[node], lane)
        return None

    def apply(self, lane: int, node: int, arguments: list[Value]) -> Value:
        """The value of a node in a lane, given those of its arguments."""
        match self.nest.nodes[node]:
            case Load(operand):
                return self.load(operand, lane)
            case Gather(operand, _, dtype) as gather:
                return self.element(self.picked(gather, operand, arguments, lane), dtype)
            case Apply(op, _, _) if op.requires is not None:
                self.require(arguments[op.requires])
                return arguments[0]
            case Apply(op, _, dtype):
                self.writer.freedom = "" if op.rounds_alone else " contract"
                return applied(op, self.scalars, arguments, dtype)
        raise AssertionError("a fold is no expression")

    def require(self, condition: Value) -> None:
        """Remember a failure unless a condition holds."""
        self.note(condition ^ True)

    def picked(self, user: Gather | Scatter, operand: int, indices: Sequence[Value], lane: int) -> str:
        """The place in an operand that indices pick, negative ones counted from the end; one outside is noted, and 0 taken.

        user: the node that picks. lane: as above.
        """
        place = self.place(operand, lane)
        for index, (size, stride) in zip(indices, self.picks_of(user), strict=True):
            wide = index.astype(INT64)
            wrapped = select(wide < 0, wide + size, wide)
            outside = (wrapped < 0) | (wrapped >= size)
            self.note(outside)
            place = self.further(operand, place, select(outside, 0, wrapped), stride)
        return place

    def scatter(self, add: Scatter, known: Known) -> None:
        """Write, or add, an element where indices pick."""
        value = self.compute(add.node, known)
        place = self.picked(add, add.operand, [self.compute(one, known) for one in add.indices], 0)
        if not add.replaces:
            value = self.element(place, value.dtype) + value
        self.put(value, place)
