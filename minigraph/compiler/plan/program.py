"""A graph of known sizes as a program: kernels in order, and the values that they read and write.

Sizes that are left open are numbers like others here; where values lie once they are settled is the matter of a frame. What a
kernel is, how it is called, and how the graph is prepared for it is the matter of each kind of machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import product
from typing import ClassVar

from minigraph.compiler.interpreted import Backend
from minigraph.compiler.loops.donation import overwrite
from minigraph.compiler.loops.fusion import AxisMap, Group, Grouping, spread, squeezed
from minigraph.compiler.loops.lower import Builder, Place, kept_for_later
from minigraph.compiler.loops.nest import Apply, Literal, Load
from minigraph.compiler.loops.subbuffers import parts_in_place, parts_of
from minigraph.compiler.plan.loop_arguments import loop_arguments, scratch
from minigraph.compiler.plan.steps import LoopStep, NestStep, ProductStep, RunningStep, SlidingStep, Step
from minigraph.compiler.shaped.layout import Layout, contiguous, layouts_of, sizes
from minigraph.core.graph import Constant, Graph, Input, Variable
from minigraph.core.static import SizeConstant
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.indexing import Assign
from minigraph.ops.array.windows import Overlap
from minigraph.ops.elementwise.arithmetic import Add
from minigraph.ops.loop.loop import Scan, results_of

ARENA, CONSTANTS, FIRST = 0, 1, 2
"""The slots of the memory that a program works in: its own, its constants', then inputs and outputs."""


class Program(ABC):
    """Kernels in order, the memory they need, and how inputs and outputs are bound to them."""

    alignment: ClassVar[int]
    """Of the values in its memory, in bytes."""
    in_order: ClassVar[bool] = False
    """Whether folded axes are run along in order, so that what was written is there when it is read again."""
    staged: ClassVar[bool] = False
    """Whether folds that can be done in stages, by simpler ones, are."""

    def __init__(self, graph: Graph, donations: Sequence[tuple[int, int]], backend: Backend) -> None:
        """graph: one of known sizes, after all passes. donations: positions of an input and of the output to write over it.
        backend: the one whose passes prepare the bodies of loops."""
        self.graph, self.layouts, self.backend = graph, layouts_of(graph), backend
        new = [self.graph.outputs[output] for _, output in donations]
        self.grouping = Grouping(self.graph, self.layouts, new, self.staged)
        groups, self._replaced = overwrite(self.graph, self.grouping, donations)
        self.overwritten = {output: given for given, output in donations if self.graph.outputs[output] in self._replaced}
        self.steps: list[Step] = []
        self._placed = parts_in_place(self.graph, self.grouping)
        self.rooms: dict[Variable, Program] = {}
        """For the bodies of loops what stands for their memory."""
        for group in groups:
            self.steps += self._steps(group)
        self.assemble()

    @abstractmethod
    def body_program(self, graph: Graph) -> Program:
        """The program of a loop's body."""

    @property
    @abstractmethod
    def texts(self) -> list[str]:
        """The text of each kernel, those of loops' bodies included."""

    def is_literal(self, number: Constant, divides: bool) -> bool:
        """Whether a number, which may be a divisor, is written into kernels, so that another is another kernel."""
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
            case op if op.multiplies or op.runs or op.slides:
                kind = ProductStep if op.multiplies else RunningStep if op.runs else SlidingStep
                yield kind(_operands(variable, self.layouts), (variable,))
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
            if variable in live or self.grouping.stores(variable, group):
                live.add(variable)
                live.update(self.layouts[one].storage for one in variable.inputs)
        return {variable: axes for variable, axes in group.members.items() if variable in live}

    def _nest(self, group: Group, members: dict[Variable, AxisMap]) -> Step:
        """The loop nest of a group."""
        builder = self._builder(group.space, group.folded or frozenset(), group.blocks)
        kept = kept_for_later(group, members, self.grouping)
        self.grouping.stored |= kept.keys()
        for variable, axes in members.items():
            builder.compute(variable, axes)
        for variable, axes in members.items():
            if self.grouping.stores(variable, group):
                memory = self._memory_of(kept.get(variable, variable))
                builder.store(builder.computed[variable], memory, variable.dtype, axes)
        return self._step(builder, tuple(members))

    def _memory_of(self, variable: Variable) -> Layout:
        """The layout of a member: in what it is part of, in the input whose place it takes, or in its own memory."""
        if variable in self._placed:
            return self._placed[variable]
        old = self._replaced.get(variable)
        return self.layouts[variable] if old is None else Layout(old, contiguous(sizes(old)), 0)

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
        """Nests that fill an array with zeros, and then add what is in windows."""
        op = variable.op
        assert isinstance(op, Overlap)
        (zero, axes), nothing = self._over(variable), Literal(variable.dtype, variable.dtype.type(0).tobytes())
        zero.store(zero.node(nothing), self.layouts[variable], variable.dtype, axes)
        yield self._step(zero, (variable,))
        if self.in_order:
            yield self._adding(variable, [0] * len(op.sizes), op.sizes)
        else:
            for offsets in product(*map(range, op.sizes)):
                yield self._adding(variable, offsets, [1] * len(op.sizes))

    def _adding(self, variable: Variable, offsets: Sequence[int], extents: Sequence[int]) -> Step:
        """A nest that adds to an array what has places in windows, those of these extents from `offsets` on.

        Of several places one after the other: along the axes where windows overlap, but for the innermost last.
        """
        op, (windows, *_), ndim = variable.op, variable.inputs, variable.ndim
        assert isinstance(op, Overlap)
        own, given, patches = self.layouts[variable], self.layouts[windows], sizes(windows)
        place = op.placed(offsets, [patches[axis] for axis in op.axes], ndim)
        start = sum(one.start * stride for one, stride in zip(place, own.strides, strict=True) if one.start)
        steps = [stride * (one.step or 1) for one, stride in zip(place, own.strides, strict=True)]
        inner = sum(offset * stride for offset, stride in zip(offsets, given.strides[ndim:], strict=True))
        within = [own.strides[axis] * dilation for axis, dilation in zip(op.axes, op.dilations, strict=True)]
        target = Layout(own.storage, (*steps, *within), own.offset + start)
        several = any(extent > 1 for extent in extents)
        whole = [*patches[:ndim], *extents]
        order = [*range(ndim - 1), *range(ndim, len(whole)), ndim - 1] if several else [*range(len(whole))]
        space = [axis for axis in order if whole[axis] != 1]
        overlapping = frozenset(k for k, axis in enumerate(space) if several and (axis in op.axes or axis >= ndim))
        builder = self._builder(tuple([whole[axis] for axis in space]), overlapping)
        along = [space.index(axis) if axis in space else None for axis in range(len(whole))]
        source = Layout(given.storage, given.strides, given.offset + inner)
        loads = [builder.node(Load(builder.place(one, variable.dtype, along))) for one in (target, source)]
        builder.store(builder.node(Apply(Add(), tuple(loads), variable.dtype)), target, variable.dtype, along)
        return self._step(builder, (variable,))

    def _over(self, value: Variable) -> tuple[Builder, AxisMap]:
        """The beginning of a nest over the elements of a value, and the axes of its space that the value's run along."""
        return self._builder(squeezed(sizes(value))), spread(sizes(value))

    def _builder(self, space: tuple[int, ...], folded: frozenset[int] = frozenset(), blocks: int = 0) -> Builder:
        """The beginning of a nest over a space."""
        return Builder(space, folded, self.layouts, self.is_literal, blocks, self.staged)

    # -- loops -------------------------------------------------------------------------------------------------------

    def _loop(self, variable: Variable, picked: Sequence[Variable]) -> Iterator[Step]:
        """A loop over the program of its body, before which first states are put where histories begin."""
        op = variable.op
        assert isinstance(op, Scan)
        results = [Variable(Input(), (), one.type, None, (), variable.origin) for one in results_of(variable)]
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
        arguments = loop_arguments(variable, results, self.layouts)
        table = scratch(8 * (FIRST + len(arguments)), variable)
        memory, done = scratch(1, variable), results[-1] if op.stops else scratch(8, variable)
        self.rooms[memory] = program
        pairs = [(table, 0), (memory, 0), (done, 0), *(place for one in arguments for place in one.places)]
        places = tuple(Place(storage, storage.dtype, (), offset) for storage, offset in pairs)
        stop = len(arguments) - 1 if op.stops else -1
        yield LoopStep(places, (variable,), program, last, arguments, stop)


def _operands(variable: Variable, layouts: dict[Variable, Layout]) -> tuple[Place, ...]:
    """The places of the inputs of a variable, and its own."""
    lying = [(one.dtype, layouts[one]) for one in (*variable.inputs, variable)]
    return tuple([Place(one.storage, dtype, (), one.offset) for dtype, one in lying])
