"""A graph of known sizes as a program: kernels in order, with their parameters, over memory that is planned once."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from minigraph.graph import Constant, Graph, Input, Variable
from minigraph.kernels.arena import FreeSpace
from minigraph.kernels.builder import Builder, Place, along_space
from minigraph.kernels.effort import cost
from minigraph.kernels.fusion import AxisMap, Group, Grouping
from minigraph.kernels.jit import Code
from minigraph.kernels.layout import (
    Layout,
    Packed,
    PackedMatMul,
    ScatteredMatMul,
    contiguous,
    sizes,
    with_copies,
)
from minigraph.kernels.llvm import COLUMNS, kernel_text, module_text
from minigraph.kernels.loopnest import Apply, Bindings, Literal, Load, LoopNest, describe
from minigraph.kernels.loops import Argument, heading, loop_kernel, walking, walks
from minigraph.kernels.overwriting import overwrite
from minigraph.kernels.packing import pack_captured
from minigraph.kernels.parts import parts_in_place, parts_of
from minigraph.kernels.product_calls import call_of
from minigraph.kernels.products import PACK, product_kernel
from minigraph.kernels.recompute import recompute_rows
from minigraph.kernels.rows import split_rows
from minigraph.kernels.runtime import thread_count
from minigraph.kernels.scattered import multiply_windows
from minigraph.ops.arithmetic import Add
from minigraph.ops.arranging import Concatenate
from minigraph.ops.indexing import Assign, Indexing
from minigraph.ops.linear import MatMul
from minigraph.ops.loop import Scan
from minigraph.ops.reduction import Reduction
from minigraph.ops.windows import Overlap
from minigraph.record import Record
from minigraph.types import TensorType, as_dtype

ARENA, CONSTANTS, FIRST = 0, 1, 2
"""The slots of the memory that a program works in: its own, its constants', then inputs and outputs."""

ALIGNMENT = 64
WORK_A_PART = 200_000
"""Operations on elements that are worth a part of their own."""
BYTES_A_PART = 100_000
"""Bytes read and written that are worth a part of their own."""
MANY_PARTS = 8
"""How many parts large work has for each thread, so that none waits long for another."""


class Kernel:
    """Compiled machine code for one structure of loops."""

    def __init__(self, code: Code, name: str, text: str) -> None:
        self.code, self.name, self.text = code, name, text
        self.address = code.address(name)


_kernels: weakref.WeakValueDictionary[LoopNest, Kernel] = weakref.WeakValueDictionary()
_recent: deque[Kernel] = deque(maxlen=256)


def compile_nests(nests: Sequence[LoopNest]) -> dict[LoopNest, Kernel]:
    """Kernels for these structures: those that this process has, and the others compiled together."""
    found = {nest: kernel for nest in nests if (kernel := _kernels.get(nest)) is not None}
    missing = [nest for nest in dict.fromkeys(nests) if nest not in found]
    if missing:
        texts = [kernel_text(nest, f"kernel{k}") for k, nest in enumerate(missing)]
        code = Code(module_text(texts))
        for k, nest in enumerate(missing):
            found[nest] = _kernels[nest] = Kernel(code, f"kernel{k}", texts[k])
            _recent.append(found[nest])
    return found


class Step(Record):
    """One kernel of a program, with what it is called with and how it reads."""

    nest: LoopNest | None
    bindings: Bindings | None
    places: tuple[Place, ...]
    words: tuple[int, ...]
    parts: int
    variables: tuple[Variable, ...]
    product: tuple[str, str] = ("", "")
    """The dtype of a product, and who computes it."""
    body: Program | None = None
    heading: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The ops that the kernel computes."""
        return ", ".join(dict.fromkeys(type(one.op).__name__ for one in self.variables))


class Program:
    """Kernels in order, the memory they need, and how inputs and outputs are bound to them."""

    def __init__(self, graph: Graph, wanted: Sequence[tuple[int, int]] = ()) -> None:
        """wanted: positions of an input and of the output that shall be written over it, if that is safe."""
        self.graph, self.layouts = with_copies(pack_captured(split_rows(multiply_windows(recompute_rows(graph)))))
        self.grouping = Grouping(self.graph, self.layouts, [self.graph.outputs[output] for _, output in wanted])
        groups, self._replaced = overwrite(self.graph, self.grouping, wanted)
        self.overwritten = {output: given for given, output in wanted if self.graph.outputs[output] in self._replaced}
        self.steps: list[Step] = []
        self._tables: list[np.ndarray[Any, Any]] = []
        """What products of scattered matrices look up, at addresses that they are given."""
        self._placed = parts_in_place(self.graph, self.grouping)
        self._spare: dict[Variable, Variable] = {}
        """For each state of a loop that is not kept memory besides that of the result."""
        for group in groups:
            self.steps += self._steps(group)
        self.outputs = [(sizes(one), as_dtype(one.dtype)) for one in self.graph.outputs]
        new = [one for k, one in enumerate(self.outputs) if k not in self.overwritten]
        self.output_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in new)
        self._slots: dict[Variable, tuple[int, int]] = {}
        self._bind_constants()
        self._bind_arguments()
        self.arena_bytes = self._plan_arena()
        self._assemble()

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
            case MatMul() | Packed() | PackedMatMul() | ScatteredMatMul():
                yield self._product(variable)
            case Concatenate():
                for part, place in parts_of(variable, self.layouts):
                    if self._placed.get(self.layouts[part].storage) != place:
                        yield self._copy(part, place, variable)
            case Overlap():
                yield from self._overlapping(variable)
            case Indexing() if variable not in [one.storage for one in self._placed.values()]:
                x, value, *fillers = variable.inputs
                yield self._copy(x, self.layouts[variable], variable)
                yield self._write(variable, value, fillers)
            case Indexing():
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
        builder = Builder(group.space, group.folded or frozenset(), self.layouts)
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
            if cost(variable.op) > 1 and last.get(variable, 0) > level[variable] and full:
                like = [
                    one for one in written if (one.dtype, sizes(one), members[one]) == (variable.dtype, sizes(variable), axes)
                ]
                later = [one for one in like if level[one] >= last[variable] and one not in kept.values()]
                kept[variable] = variable if variable in self.grouping.stored or not later else later[0]
        return kept

    def _step(self, builder: Builder, variables: tuple[Variable, ...]) -> Step:
        """A loop nest as a step, with the number of parts that it is worth."""
        nest, bindings = builder.build()
        work = math.prod(bindings.sizes) * sum(cost(one.op) for one in variables)
        kept = [size for size, fold in zip(bindings.sizes, nest.folded, strict=True) if not fold]
        extent = kept[0] if kept else 1
        if nest.by_column and len(kept) == 1:
            extent = -(-extent // COLUMNS)
        walked = [math.prod(n for n, stride in zip(bindings.sizes, one, strict=True) if stride) for one in bindings.strides]
        moved = sum(count * place.dtype.itemsize for count, place in zip(walked, builder.places, strict=True))
        alone = any(one.indices for one in nest.scatters)  # elements may meet where they are put
        parts = 1 if alone else max(1, min(max(work // WORK_A_PART, moved // BYTES_A_PART), extent))
        few = nest.by_column or parts < MANY_PARTS * thread_count()
        if few:  # each thread takes one, where it has worked on the same memory before
            parts = min(parts, thread_count())
        else:
            parts = MANY_PARTS * thread_count()
        return Step(nest, bindings, tuple(builder.places), (), parts, variables)

    def _copy(self, source: Variable, target: Layout, result: Variable) -> Step:
        """A nest that writes a value into part of another's memory."""
        builder, axes = self._over(source)
        builder.store(builder.read(source, axes), target, result.dtype, axes)
        return self._step(builder, (result,))

    def _write(self, variable: Variable, value: Variable, fillers: Sequence[Variable]) -> Step:
        """A nest that puts a value where an index says, or adds it."""
        builder, axes = self._over(value)
        builder.scatter(builder.read(value, axes), variable.op, variable, fillers, axes)
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
            builder = Builder(tuple(size for size in patches[:ndim] if size != 1), frozenset(), self.layouts)
            along = along_space(patches[:ndim])
            loads = [builder.node(Load(builder.place(one, variable.dtype, along))) for one in (target, source)]
            builder.store(builder.node(Apply(Add(), tuple(loads), variable.dtype)), target, variable.dtype, along)
            yield self._step(builder, (variable,))

    def _over(self, value: Variable) -> tuple[Builder, list[int | None]]:
        """The beginning of a nest over the elements of a value, and the axes of its space that the value's run along."""
        shape = sizes(value)
        return Builder(tuple(size for size in shape if size != 1), frozenset(), self.layouts), along_space(shape)

    def _product(self, variable: Variable) -> Step:
        """A product of matrices, or the packing of one."""
        call = call_of(variable, self.layouts)
        self._tables += call.tables
        places = self._places_of(*variable.inputs, variable)
        return Step(None, None, places, call.words, call.parts, (variable,), (variable.dtype.name, call.kind))

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
        last = int(op.steps or 0)
        states = op.split(variable.inputs[1:])[1]
        for state, result, kept in zip(states, results, op.kept, strict=False):
            if kept or not last:
                strides = contiguous(sizes(result))
                start = strides[0] * last if op.backwards and kept else 0
                yield self._copy(state, Layout(result, strides[1:] if kept else strides, start), result)
        if not last:
            return
        program = Program(op.body)
        arguments = [*self._loop_inputs(variable, results), *self._loop_outputs(variable, results)]
        table = _scratch(8 * (FIRST + len(arguments)), variable)
        memory, done = _scratch(program.arena_bytes, variable), results[-1] if op.stops else _scratch(8, variable)
        pairs = [(table, 0), (memory, 0), (done, 0), *(place for one in arguments for place in one.places)]
        places = tuple(Place(storage, storage.dtype, (), offset) for storage, offset in pairs)
        stop = len(arguments) - 1 if op.stops else -1
        before = heading(program.address, len(program.steps), last, arguments, program.constants.ctypes.data, stop)
        yield Step(None, None, places, tuple(walks(arguments)), 1, (variable,), body=program, heading=tuple(before))

    def _loop_inputs(self, variable: Variable, results: Sequence[Variable]) -> Iterator[Argument]:
        """Where the body finds rows of sequences, states, and what it captures."""
        op = variable.op
        assert isinstance(op, Scan)
        sequences, states, shared = op.split(variable.inputs[1:])
        last = int(op.steps or 0)
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
        last = int(op.steps or 0)
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

    # -- memory ------------------------------------------------------------------------------------------------------

    def _bind_constants(self) -> None:
        """Lay out the constants that kernels read from memory, one after the other."""
        used = {place.storage for step in self.steps for place in step.places if place.in_memory}
        chunks, offset = [], 0
        for one in (one for one in used if isinstance(one.op, Constant)):
            self._slots[one] = (CONSTANTS, offset)
            data = np.ascontiguousarray(one.op.value).tobytes()  # type: ignore[attr-defined]
            padding = -len(data) % ALIGNMENT
            chunks.append(data + bytes(padding))
            offset += len(data) + padding
        self.constants = np.frombuffer(b"".join(chunks) or bytes(ALIGNMENT), np.uint8)

    def _bind_arguments(self) -> None:
        """Give inputs and outputs their slots."""
        for k, one in enumerate([*self.graph.inputs, *self.graph.outputs]):
            self._slots[one] = (FIRST + k, 0)

    def _plan_arena(self) -> int:
        """Give every other value a place in the arena for as long as it is needed; the size of the arena in bytes."""
        lives: dict[Variable, list[int]] = {}
        for position, step in enumerate(self.steps):
            for place in step.places:
                if place.in_memory and place.storage not in self._slots:
                    lives.setdefault(place.storage, [position, position])[1] = position
        begin: dict[int, list[Variable]] = {}
        for variable, (first, _) in lives.items():
            begin.setdefault(first, []).append(variable)
        free = FreeSpace()
        ends: dict[int, list[tuple[int, int]]] = {}
        for position in range(len(self.steps)):
            for variable in begin.get(position, ()):
                size = max(1, math.prod(sizes(variable)) * variable.dtype.itemsize)
                size += -size % ALIGNMENT
                offset = free.take(size)
                self._slots[variable] = (ARENA, offset)
                ends.setdefault(lives[variable][1], []).append((offset, size))
            for offset, size in ends.get(position, ()):
                free.give(offset, size)
        return free.total

    def _assemble(self) -> None:
        """Compile the kernels, and lay out the program."""
        self.kernels = compile_nests([step.nest for step in self.steps if step.nest is not None])
        self._parameters = []
        rows = []
        for step in self.steps:
            words = [*step.heading]
            for place in step.places:
                slot, offset = self._slots[place.storage] if place.in_memory else (0, place.offset)
                words += [slot, offset + place.offset * place.dtype.itemsize if place.in_memory else offset]
            words += step.bindings.words() if step.bindings is not None else step.words
            parameters = np.array(words, np.int64)
            self._parameters.append(parameters)
            if step.body is not None:
                address = loop_kernel().address("loop")
            elif step.nest is None:
                address = product_kernel(*step.product)
            else:
                address = self.kernels[step.nest].address
            rows.append((address, parameters.ctypes.data, step.parts))
        self._words = np.array(rows, np.int64).reshape(-1, 3)
        self.address: int = self._words.ctypes.data

    def name_of(self, storage: Variable) -> str:
        """How a memory is called in the source."""
        if storage not in self._slots:
            return "position"
        slot, offset = self._slots[storage]
        if slot == ARENA:
            return f"arena{offset}"
        if slot == CONSTANTS:
            return f"constant{offset}"
        count = len(self.graph.inputs)
        return storage.name or f"input{slot - FIRST}" if slot - FIRST < count else f"output{slot - FIRST - count}"

    def lines(self, llvm: bool) -> Iterator[str]:
        """The program as readable text, with `llvm` followed by the code of its kernels."""
        for k, step in enumerate(self.steps):
            origins = dict.fromkeys(str(one.origin) for one in step.variables)
            parts = f", in {step.parts} parts" if step.parts > 1 else ""
            yield f"# step {k}: {step.title}{parts}"
            yield from (f"#   {origin}" for origin in list(origins)[:4])
            names = [self.name_of(place.storage) for place in step.places]
            if step.body is not None:
                yield f"{step.heading[4]} times:"
                yield from (f"    {line}" for line in step.body.lines(llvm))
            elif step.product[1] == PACK:
                yield f"{names[1]} = {names[0]}, packed"
            elif step.nest is None or step.bindings is None:
                _, _, rows, columns, inner, *_ = step.words
                yield f"{names[2]}[{rows}, {columns}] = {names[0]}[{rows}, {inner}] @ {names[1]}[{inner}, {columns}]"
            else:
                yield from describe(step.nest, step.bindings, names)
        if llvm:
            yield from (line for kernel in self.kernels.values() for line in kernel.text.splitlines())


def _scratch(size: int, like: Variable) -> Variable:
    """So many bytes of memory that a loop works in."""
    return Variable(Input(), (), TensorType(np.dtype(np.uint8), (max(1, size),)), None, (), like.origin)
