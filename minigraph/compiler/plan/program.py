"""A graph of known sizes as a program: kernels in order, and the values that they read and write.

Sizes that are left open are numbers like others here; where values lie once they are settled is the matter of a frame. What a
kernel is, how it is called, and how the graph is prepared for it is the matter of each kind of machine.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, ClassVar

import numpy as np

from minigraph.compiler.interpreted import Backend
from minigraph.compiler.loops.donation import overwrite
from minigraph.compiler.loops.fusion import AxisMap, Group, Grouping
from minigraph.compiler.loops.lower import Builder, Place, along_space
from minigraph.compiler.loops.nest import Apply, Bindings, Fold, Literal, Load, LoopNest
from minigraph.compiler.loops.subbuffers import parts_in_place, parts_of
from minigraph.compiler.shaped.layout import Layout, contiguous, layouts_of, sizes
from minigraph.core.dimensions import Sizes
from minigraph.core.graph import Constant, Graph, Input, Variable
from minigraph.core.record import Record
from minigraph.core.static import SizeConstant
from minigraph.core.types import TensorType
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.indexing import Assign
from minigraph.ops.array.windows import Overlap
from minigraph.ops.elementwise.arithmetic import Add
from minigraph.ops.loop.loop import Scan
from minigraph.ops.reduce.base import Reduction

ARENA, CONSTANTS, FIRST = 0, 1, 2
"""The slots of the memory that a program works in: its own, its constants', then inputs and outputs."""


class Step(Record):
    """One kernel of a program: where what it reads and writes lies, and which variables it computes."""

    places: tuple[Place, ...]
    variables: tuple[Variable, ...]

    @property
    def places_in_code(self) -> str:
        """Where the user wrote what the kernel computes: the first lines."""
        return ", ".join(list(dict.fromkeys(f"{one.origin}" for one in self.variables))[:2])

    @property
    def title(self) -> str:
        """The ops that the kernel computes."""
        return ", ".join(dict.fromkeys(type(one.op.shown).__name__ for one in self.variables))

    def work(self, settled: Sizes) -> tuple[int, int]:
        """The bytes that it moves, each operand once, and its operations, for sizes that are settled."""
        raise TypeError(f"{type(self).__name__} does not define work")


class NestStep(Step):
    """A loop nest, and its numbers."""

    nest: LoopNest
    bindings: Bindings

    @property
    def moved(self) -> int:
        """The bytes that it moves, each operand once; the number may be open."""
        in_memory = [k for k, one in enumerate(self.nest.operands) if one.in_memory]
        return sum(self.nest.operands[k].dtype.itemsize * math.prod(self.bindings.walked(k)) for k in in_memory)

    def work(self, settled: Sizes) -> tuple[int, int]:
        elements = math.prod(settled.all(self.bindings.sizes))
        return settled(self.moved), elements * sum(isinstance(node, Apply | Fold) for node in self.nest.nodes)


class ProductStep(Step):
    """A product of two matrices into a third, or the packing of one."""

    def work(self, settled: Sizes) -> tuple[int, int]:
        (result,) = self.variables
        counts = [math.prod(settled.all(sizes(one))) for one in (*result.inputs, result)]
        terms = 2 * counts[0] * settled(sizes(result)[-1]) if len(result.inputs) == 2 else 0
        return sum(counts) * result.dtype.itemsize, terms


Where = tuple[Variable, int]
"""A memory, and how many elements into it."""


class Argument(Record):
    """Where an argument of a loop's body lies: its places at the first step, at the second and every second one from there, and
    at the others; and how many bytes further it lies with each step.
    """

    places: tuple[Where, Where, Where]
    stride: int = 0

    @property
    def takes_turns(self) -> bool:
        """Whether its place depends on the step's parity."""
        return any(place != self.places[0] for place in self.places)


def walking(place: Where, stride: int = 0) -> Argument:
    """An argument that lies `stride` bytes further with each step."""
    return Argument((place, place, place), stride)


class LoopStep(Step):
    """So many steps of a body over arguments that advance; the argument `stop` tells to stop early, if it is not -1.

    Its places are those of a table of addresses, of the body's memory, of the number of steps done, and of the arguments.
    """

    body: Program
    times: int
    arguments: tuple[Argument, ...]
    stop: int

    def work(self, settled: Sizes) -> tuple[int, int]:
        each = [step.work(settled) for step in self.body.steps]
        times = settled(self.times)
        return times * sum(moved for moved, _ in each), times * sum(done for _, done in each)


class Program(ABC):
    """Kernels in order, the memory they need, and how inputs and outputs are bound to them."""

    alignment: ClassVar[int]
    """Of the values in its memory, in bytes."""

    def __init__(self, graph: Graph, wanted: Sequence[tuple[int, int]], backend: Backend) -> None:
        """graph: one of known sizes, after all passes. wanted: positions of an input and of the output to write over it."""
        self.graph, self.layouts, self.backend = graph, layouts_of(graph), backend
        self.grouping = Grouping(self.graph, self.layouts, [self.graph.outputs[output] for _, output in wanted])
        groups, self._replaced = overwrite(self.graph, self.grouping, wanted)
        self.overwritten = {output: given for given, output in wanted if self.graph.outputs[output] in self._replaced}
        self.steps: list[Step] = []
        self._placed = parts_in_place(self.graph, self.grouping)
        self.rooms: dict[Variable, Program] = {}
        """For the bodies of loops what stands for their memory."""
        self._spare: dict[Variable, Variable] = {}
        """For each state of a loop that is not kept memory besides that of the result."""
        for group in groups:
            self.steps += self._steps(group)
        self.assemble()

    @abstractmethod
    def body_program(self, graph: Graph) -> Program:
        """The program of a loop's body."""

    def is_literal(self, number: Constant) -> bool:
        """Whether a number is written into the code of kernels, so that another number is another kernel."""
        return not isinstance(number, SizeConstant)

    @abstractmethod
    def assemble(self) -> None:
        """Make what runs the steps."""

    # -- kernels -----------------------------------------------------------------------------------------------------

    def _steps(self, group: Group) -> Iterator[Step]:
        """The kernels that compute a group."""
        if not group.alone:
            live = self._live(group)
            for whole in dict.fromkeys(self._placed[one].storage for one in live if one in self._placed):
                if isinstance(whole.op, Assign):
                    yield self._copy(whole.inputs[0], self.layouts[whole], whole)
            if live:
                yield self._nest(group, live)
            return
        variable, *results = group.members
        match variable.op:
            case Scan():
                yield from self._loop(variable, results)
            case op if op.multiplies:
                yield self._product(variable)
            case Concatenate():
                for part, place in parts_of(variable, self.layouts):
                    if self._placed.get(self.layouts[part].storage) != place:
                        yield self._copy(part, place, variable)
            case Overlap():
                yield from self._overlapping(variable)
            case Assign(adds=adds) if variable not in [one.storage for one in self._placed.values()]:
                yield self._copy(variable.inputs[0], self.layouts[variable], variable)
                yield self._write(variable, replaces=not adds)
            case Assign():
                return
            case _:
                raise AssertionError(f"no kernel for {variable!r}")

    def _live(self, group: Group) -> dict[Variable, AxisMap]:
        """The members of a group that lead to something stored."""
        live: set[Variable] = set()
        for variable in reversed(group.members):
            if variable in live or (variable in self.grouping.stored and self.grouping.group_of[variable] is group):
                live.add(variable)
                live.update(self.layouts[one].storage for one in variable.inputs)
        return {variable: axes for variable, axes in group.members.items() if variable in live}

    def _nest(self, group: Group, members: dict[Variable, AxisMap]) -> Step:
        """The loop nest of a group."""
        builder = Builder(group.space, group.folded or frozenset(), self.layouts, self.is_literal)
        kept = self._kept_for_later(group, members)
        self.grouping.stored |= kept.keys()
        for variable, axes in members.items():
            builder.compute(variable, axes)
        for variable, axes in members.items():
            if variable in self.grouping.stored and self.grouping.group_of[variable] is group:
                memory = self._memory_of(kept.get(variable, variable))
                builder.store(builder.computed[variable], memory, variable.dtype, axes)
        return self._step(builder, tuple(members))

    def _memory_of(self, variable: Variable) -> Layout:
        """Where a member is written to: the memory of the input that it takes the place of, or of what it is part of, or its
        own.
        """
        if variable in self._placed:
            return self._placed[variable]
        old = self._replaced.get(variable)
        return self.layouts[variable] if old is None else Layout(old, contiguous(sizes(old)), 0)

    def _kept_for_later(self, group: Group, members: dict[Variable, AxisMap]) -> dict[Variable, Variable]:
        """The members that take long to compute and are needed in a later stage than their own, and in whose memory they are
        kept: that of a member which is written only then, or their own.
        """
        if not group.folded:
            return {}
        level: dict[Variable, int] = {}
        inside = {
            variable: [self.layouts[one].storage for one in variable.inputs if self.layouts[one].storage in members]
            for variable in members
        }
        for variable, operands in inside.items():
            level[variable] = max((level[one] for one in operands), default=0) + isinstance(variable.op, Reduction)
        last: dict[Variable, int] = {}
        for variable in reversed(members):
            if isinstance(variable.op, Reduction) or variable in self.grouping.stored:
                last[variable] = max(last.get(variable, 0), level[variable])
            for one in inside[variable]:
                needed = level[one] if isinstance(variable.op, Reduction) else last.get(variable, 0)
                last[one] = max(last.get(one, 0), needed)
        kept: dict[Variable, Variable] = {}
        written = [one for one in members if one in self.grouping.stored and self.grouping.group_of[one] is group]
        for variable, axes in members.items():
            full = any(axis in group.folded for axis in axes)
            if variable.op.cost > 1 and last.get(variable, 0) > level[variable] and full:
                like = [
                    one for one in written if (one.dtype, sizes(one), members[one]) == (variable.dtype, sizes(variable), axes)
                ]
                later = [one for one in like if level[one] >= last[variable] and one not in kept.values()]
                kept[variable] = variable if variable in self.grouping.stored or not later else later[0]
        return kept

    def _step(self, builder: Builder, variables: tuple[Variable, ...]) -> Step:
        """A loop nest as a step."""
        nest, bindings = builder.build()
        return NestStep(tuple(builder.places), variables, nest, bindings)

    def _copy(self, source: Variable, target: Layout, result: Variable) -> Step:
        """A nest that writes a value into part of another's memory."""
        builder, axes = self._over(source)
        builder.store(builder.read(source, axes), target, result.dtype, axes)
        return self._step(builder, (result,))

    def _write(self, variable: Variable, replaces: bool) -> Step:
        """A nest that puts a value where an index says, or adds it."""
        value = variable.inputs[1]
        builder, axes = self._over(value)
        builder.scatter(builder.read(value, axes), variable, axes, replaces)
        return self._step(builder, (variable,))

    def _overlapping(self, variable: Variable) -> Iterator[Step]:
        """Nests that fill an array with zeros, and then add what has one place in all windows, a place after the other."""
        op, (windows, *_) = variable.op, variable.inputs
        assert isinstance(op, Overlap)
        shape, own, given = sizes(variable), self.layouts[variable], self.layouts[windows]
        zero, axes = self._over(variable)
        zero.store(zero.node(Literal(variable.dtype, variable.dtype.type(0).tobytes())), own, variable.dtype, axes)
        yield self._step(zero, (variable,))
        ndim, patches = len(shape), sizes(windows)
        counts = [patches[axis] for axis in op.axes]
        for offsets in product(*map(range, op.sizes)):
            place = op.placed(offsets, counts, ndim)
            start = sum(one.start * stride for one, stride in zip(place, own.strides, strict=True) if one.start)
            steps = [stride * (one.step or 1) for one, stride in zip(place, own.strides, strict=True)]
            target = Layout(own.storage, tuple(steps), own.offset + start)
            inner = sum(offset * stride for offset, stride in zip(offsets, given.strides[ndim:], strict=True))
            source = Layout(given.storage, given.strides[:ndim], given.offset + inner)
            builder = Builder(tuple(size for size in patches[:ndim] if size != 1), frozenset(), self.layouts, self.is_literal)
            along = along_space(patches[:ndim])
            loads = [builder.node(Load(builder.place(one, variable.dtype, along))) for one in (target, source)]
            builder.store(builder.node(Apply(Add(), tuple(loads), variable.dtype)), target, variable.dtype, along)
            yield self._step(builder, (variable,))

    def _over(self, value: Variable) -> tuple[Builder, list[int | None]]:
        """The beginning of a nest over the elements of a value, and the axes of its space that the value's run along."""
        shape = sizes(value)
        return Builder(tuple(size for size in shape if size != 1), frozenset(), self.layouts, self.is_literal), along_space(
            shape
        )

    def _product(self, variable: Variable) -> Step:
        """A product of matrices, or the packing of one."""
        return ProductStep(self._places_of(*variable.inputs, variable), (variable,))

    def _places_of(self, *variables: Variable) -> tuple[Place, ...]:
        """Where values lie that a kernel other than a nest reads or writes."""
        layouts = [self.layouts[one] for one in variables]
        return tuple(Place(one.storage, kind.dtype, (), one.offset) for one, kind in zip(layouts, variables, strict=True))

    # -- loops -------------------------------------------------------------------------------------------------------

    def _loop(self, variable: Variable, picked: Sequence[Variable]) -> Iterator[Step]:
        """A loop over the program of its body, before which first states are put where histories begin."""
        op = variable.op
        assert isinstance(op, Scan)
        kinds: Any = variable.type
        results = [Variable(Input(), (), kind, None, (), variable.origin) for kind in kinds]
        for one in picked:
            results[one.op.index] = one  # type: ignore[attr-defined]
        assert len({one.op.index for one in picked}) == len(picked), "only one of equal results would get memory"  # type: ignore[attr-defined]
        last = op.steps or 0
        states = op.split(variable.inputs[1:])[1]
        for state, result, kept in zip(states, results, op.kept, strict=False):
            if kept or not last:
                strides = contiguous(sizes(result))
                start = strides[0] * last if op.backwards and kept else 0
                yield self._copy(state, Layout(result, strides[1:] if kept else strides, start), result)
        if not last:
            return
        passes, journal = self.backend.pipeline.shaped, self.backend.journal
        program = self.body_program(journal.run(passes, op.body, "loop body: "))
        arguments = [*self._loop_inputs(variable, results), *self._loop_outputs(variable, results)]
        table = _scratch(8 * (FIRST + len(arguments)), variable)
        memory, done = _scratch(1, variable), results[-1] if op.stops else _scratch(8, variable)
        self.rooms[memory] = program
        pairs = [(table, 0), (memory, 0), (done, 0), *(place for one in arguments for place in one.places)]
        places = tuple(Place(storage, storage.dtype, (), offset) for storage, offset in pairs)
        stop = len(arguments) - 1 if op.stops else -1
        yield LoopStep(places, (variable,), program, last, tuple(arguments), stop)

    def _loop_inputs(self, variable: Variable, results: Sequence[Variable]) -> Iterator[Argument]:
        """Where the body finds rows of sequences, states, and what it captures."""
        op = variable.op
        assert isinstance(op, Scan)
        sequences, states, shared = op.split(variable.inputs[1:])
        last = op.steps or 0
        for one in sequences:
            layout = self.layouts[one]
            begin = layout.offset + (layout.strides[0] * (last - 1) if op.backwards else 0)
            yield walking((layout.storage, begin), (-1 if op.backwards else 1) * layout.strides[0] * one.dtype.itemsize)
        for state, result, kept in zip(states, results, op.kept, strict=False):
            if kept:
                yield self._walk_rows(result, last if op.backwards else 0, op.backwards)
            else:
                layout = self.layouts[state]
                even, odd = self._turns(result, last)
                yield Argument(((layout.storage, layout.offset), even, odd))
        for one in shared:
            yield walking((self.layouts[one].storage, self.layouts[one].offset))

    def _loop_outputs(self, variable: Variable, results: Sequence[Variable]) -> Iterator[Argument]:
        """Where the body leaves new states, rows of outputs, and whether to stop."""
        op = variable.op
        assert isinstance(op, Scan)
        last = op.steps or 0
        for place, result in enumerate(results[: op.states + op.outputs]):
            if place >= op.states:
                yield self._walk_rows(result, last - 1 if op.backwards else 0, op.backwards)
            elif op.kept[place]:
                yield self._walk_rows(result, last - 1 if op.backwards else 1, op.backwards)
            else:
                even, odd = self._turns(result, last)
                yield Argument((even, odd, even))
        if op.stops:
            yield walking((_scratch(1, variable), 0))

    def _walk_rows(self, stack: Variable, first: int, backwards: bool) -> Argument:
        """The rows of a stack, one at each step, from `first` on or back."""
        row = math.prod(sizes(stack)[1:])
        return walking((stack, first * row), (-row if backwards else row) * stack.dtype.itemsize)

    def _turns(self, result: Variable, steps: int) -> tuple[tuple[Variable, int], tuple[Variable, int]]:
        """Where a state that is not kept lies after the first, third, ... step, and after the others; last, in the result."""
        other = self._spare.setdefault(result, _scratch(max(1, math.prod(sizes(result)) * result.dtype.itemsize), result))
        pair = ((result, 0), (other, 0))
        return pair if steps % 2 else (pair[1], pair[0])


def _scratch(size: int, like: Variable) -> Variable:
    """So many bytes of memory that a loop works in."""
    return Variable(Input(), (), TensorType(np.dtype(np.uint8), (max(1, size),)), None, (), like.origin)
