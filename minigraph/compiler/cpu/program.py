"""Programs for this machine's processor: nests as machine code, products by OpenBLAS or our own code, large work in parts."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigraph.compiler.cpu.implicit_gemm import implicit_gemm
from minigraph.compiler.cpu.jit import Code, compiled
from minigraph.compiler.cpu.kernel import COLUMNS, kernel_text, module_text
from minigraph.compiler.cpu.prepack import prepack
from minigraph.compiler.cpu.product_calls import CALL_WORDS, call_of
from minigraph.compiler.cpu.products import ProductWords, product_kernel
from minigraph.compiler.cpu.running import RunningWords, running_call
from minigraph.compiler.cpu.runtime import pool
from minigraph.compiler.cpu.runtime_text import StepWords
from minigraph.compiler.cpu.scan_runtime import LoopWords, WalkWords, loop_kernel
from minigraph.compiler.cpu.sliding import sliding_call
from minigraph.compiler.cpu.sliding_windows import slide_windows
from minigraph.compiler.cpu.sliding_writer import SlidingWords
from minigraph.compiler.cpu.tiles import in_tiles
from minigraph.compiler.cpu.widen_products import widen_products
from minigraph.compiler.cpu.written_out import written_out
from minigraph.compiler.loops.nest import LoopNest, describe
from minigraph.compiler.passes import Pass
from minigraph.compiler.plan.frame import Frame, Outline
from minigraph.compiler.plan.program import Program
from minigraph.compiler.plan.steps import LoopStep, NestStep, RunningStep, SlidingStep, Step
from minigraph.compiler.shaped.block_folds import block_folds
from minigraph.compiler.shaped.copies import insert_copies
from minigraph.compiler.shaped.output_order import order_outputs
from minigraph.compiler.shaped.padding import share_padding
from minigraph.compiler.shaped.rematerialize import rematerialize
from minigraph.compiler.shaped.split_reductions import split_products
from minigraph.compiler.shaped.target_ops import Packed
from minigraph.core.dimensions import Sizes, Template
from minigraph.core.graph import Constant, Graph
from minigraph.core.record import Record

Numbers = np.ndarray[Any, Any]

WORK_A_PART = 200_000
"""Operations on elements that are worth a part of their own."""
BYTES_A_PART = 100_000
"""Bytes read and written that are worth a part of their own."""
MANY_PARTS = 8
"""The number of parts that large work has for each thread, so that none waits long for another."""

PLAIN_NUMBERS = (0, 1, -1, 2, -2, 0.5, -0.5, math.inf, -math.inf)
"""The numbers that are written into kernels."""


class Kernel:
    """Compiled machine code for one structure of loops: its `text`, and its `name` in the module."""

    def __init__(self, code: Code, name: str, text: str) -> None:
        self.code, self.name, self.text = code, name, text
        self.address = code.address(name)


LONG_TEXT = 10_000
"""The characters of kernels from which on a thread of its own compiles them earlier."""

_kernels: weakref.WeakValueDictionary[LoopNest, Kernel] = weakref.WeakValueDictionary()
_recent: deque[Kernel] = deque(maxlen=256)


def compile_nests(nests: Sequence[LoopNest]) -> dict[LoopNest, Kernel]:
    """Kernels for these structures: those that this process has, and the others compiled together."""
    found = {nest: kernel for nest in nests if (kernel := _kernels.get(nest)) is not None}
    missing = [nest for nest in dict.fromkeys(nests) if nest not in found]
    if missing:
        texts = [kernel_text(nest, f"kernel{k}") for k, nest in enumerate(missing)]
        modules = in_modules(texts, pool().threads)
        for which, code in zip(modules, compiled([module_text([texts[k] for k in one]) for one in modules]), strict=True):
            for k in which:
                found[missing[k]] = _kernels[missing[k]] = Kernel(code, f"kernel{k}", texts[k])
                _recent.append(found[missing[k]])
    return found


def in_modules(texts: Sequence[str], most: int) -> list[list[int]]:
    """The kernels, by their numbers, of modules that take about as long to compile: at most `most`, if there is enough."""
    count = min(most, len(texts), max(1, sum(map(len, texts)) // LONG_TEXT))
    modules: list[list[int]] = [[] for _ in range(count)]
    lengths = [0] * count
    for k in sorted(range(len(texts)), key=lambda k: -len(texts[k])):
        shortest = lengths.index(min(lengths))
        modules[shortest].append(k)
        lengths[shortest] += len(texts[k])
    return modules


class Work(Record):
    """The operations of a nest, the bytes it moves, and the number of elements it can be divided along; all may be open."""

    operations: int
    moved: int
    extent: int


def work_of(step: NestStep, nest: LoopNest) -> Work:
    """The work of a step whose loops are those of a nest; none where it must not be divided."""
    lengths = step.bindings.sizes
    if any(one.indices for one in nest.scatters):  # elements may meet where they are put
        return Work(0, 0, 1)
    extent = lengths[nest.parallel[0]] if nest.parallel else 1
    return Work(nest.points(lengths) * sum([one.op.cost for one in step.variables]), step.moved, extent)


def parts_of_nests(work: Numbers, by_column: Numbers, in_columns: Numbers) -> Numbers:
    """The number of parts of each nest.

    work: a row of `Work` for each; by_column, in_columns: whether it folds columns, and whether these alone are split.
    """
    operations, moved, extent = work.T
    extent = np.where(in_columns, -(-extent // COLUMNS), extent)
    threads = pool().threads
    parts = np.maximum(1, np.minimum(np.maximum(operations // WORK_A_PART, moved // BYTES_A_PART), extent))
    few = by_column | (parts < MANY_PARTS * threads)  # each thread takes one, where it has worked on the same memory before
    return np.where(few, np.minimum(parts, threads), MANY_PARTS * threads)


SHAPED = (
    Pass(widen_products, needed=True),
    Pass(share_padding),
    Pass(slide_windows),
    Pass(rematerialize),
    Pass(implicit_gemm),
    Pass(split_products),
    Pass(block_folds),
    Pass(prepack),
    Pass(order_outputs),
    Pass(insert_copies, needed=True),
)
"""The passes on known sizes."""


class NativeProgram(Program):
    """A program that one native call runs."""

    alignment = 64
    in_order = staged = True

    def body_program(self, graph: Graph) -> Program:
        return NativeProgram(graph, (), self.backend)

    def is_literal(self, number: Constant, divides: bool) -> bool:
        """Only numbers with which code is faster or shorter: graphs that differ in others share their kernels."""
        helps = number.value.dtype.kind == "b" or (divides and number.value.dtype.kind in "iu")
        return super().is_literal(number, divides) and (helps or number.value.item() in PLAIN_NUMBERS)

    def assemble(self) -> None:
        """Compile the kernels, and write down what all frames have in common."""
        self.outline = Outline(self, range(len(self.steps)))
        self.nests = {k: step for k, step in enumerate(self.steps) if isinstance(step, NestStep)}
        structures = [written_out(step) or in_tiles(step) for step in self.nests.values()]
        compiled = compile_nests(structures)
        self.kernels = {k: compiled[nest] for k, nest in zip(self.nests, structures, strict=True)}
        self.addresses = [compiled[nest].address for nest in structures]
        work = [work_of(step, nest) for step, nest in zip(self.nests.values(), structures, strict=True)]
        self.work = Template([number for one in work for number in (one.operations, one.moved, one.extent)])
        columns = [(nest.by_column, nest.by_column and nest.folded.count(False) == 1) for nest in structures]
        self.by_column, self.in_columns = np.array(columns, bool).reshape(-1, 2).T
        self._write_words()

    @property
    def texts(self) -> list[str]:
        own = [kernel.text for kernel in self.kernels.values()]
        inside = [text for body in self.rooms.values() if isinstance(body, NativeProgram) for text in body.texts]
        return list(dict.fromkeys([*own, *inside]))

    def _write_words(self) -> None:
        """Lay out the words of all steps, one after the other."""
        numbers = self.outline.values
        words: list[Any] = []
        moving: list[tuple[int, int]] = []
        self.begins: list[int] = []
        """The position among the words at which those of each step begin."""
        for step in self.steps:
            self.begins.append(len(words))
            if isinstance(step, LoopStep):
                words += [0] * LoopWords.count()
            for place in step.places:
                if place.storage in numbers and place.in_memory:
                    moving.append((len(words) + 1, numbers[place.storage]))
                words += self.outline.place_of(place)
            match step:
                case NestStep():
                    words += step.bindings.words()
                case LoopStep():
                    words += [word for one in step.arguments for word in WalkWords(one.stride, int(one.takes_turns)).pack()]
                case RunningStep():
                    words += [0] * RunningWords.count()
                case SlidingStep():
                    words += [0] * SlidingWords.count()
                case _:
                    words += [0] * CALL_WORDS
        self.words = Template(words)
        self.moving = np.array(moving, np.int64).reshape(-1, 2).T
        """The positions of words that count from the beginning of a value in the arena, and the numbers of those values."""


class NativeFrame(Frame):
    """The memory of a program, and its steps as the runtime reads them: where each kernel begins, its words, and its parts."""

    def __init__(self, program: NativeProgram, sizes: Sizes) -> None:
        self.native = program
        self.bodies = {body: NativeFrame(body, sizes) for body in program.rooms.values() if isinstance(body, NativeProgram)}
        rooms = {room: frame.arena_bytes for room, frame in zip(program.rooms, self.bodies.values(), strict=True)}
        super().__init__(program.outline, sizes, rooms)
        self._words = program.words.filled(sizes)
        self._words[program.moving[0]] += self.starts[program.moving[1]]
        self._tables: list[np.ndarray[Any, Any]] = []
        """The tables whose addresses calls of products are given."""
        self._steps = np.empty((len(program.steps), StepWords.count()), np.int64)
        kernels, parameters, self._parts = self._steps.T
        parameters[:] = self._words.ctypes.data + 8 * np.array(program.begins, np.int64)
        nests = [*program.nests]
        kernels[nests] = program.addresses
        self._parts[nests] = parts_of_nests(program.work.filled(sizes).reshape(-1, 3), program.by_column, program.in_columns)
        for k, step in enumerate(program.steps):
            if k not in program.nests:
                kernels[k], self._parts[k] = self._called(step, program.begins[k])
        self.address: int = self._steps.ctypes.data
        kept = (self.constants, self._words, self._steps, *self._tables)
        self.held_bytes: int = sum([one.nbytes for one in kept]) + sum([body.held_bytes for body in self.bodies.values()])
        """The bytes of constants, and of what kernels read."""

    def _called(self, step: Step, begin: int) -> tuple[int, int]:
        """The address of what computes a step that is no nest, and in how many parts; its own words are written."""
        if isinstance(step, LoopStep):
            self._words[begin : begin + LoopWords.count()] = self._heading(step).pack()
            return loop_kernel().address("loop"), 1
        (variable,) = step.variables
        begin += 2 * len(step.places)
        if isinstance(step, RunningStep):
            running = running_call(variable, self)
            self._words[begin : begin + RunningWords.count()] = running.words.pack()
            return running.kernel, running.parts
        if isinstance(step, SlidingStep):
            sliding = sliding_call(variable, self)
            self._tables += sliding.tables
            self._words[begin : begin + SlidingWords.count()] = sliding.words.pack()
            return sliding.kernel, sliding.parts
        call = call_of(variable, self)
        self._tables += call.tables
        self._words[begin : begin + call.words.count()] = call.words.pack()
        return product_kernel(variable.dtype, call.kind), call.parts

    def _heading(self, step: LoopStep) -> LoopWords:
        """The words of a loop before the places."""
        assert isinstance(step.body, NativeProgram)
        body = self.bodies[step.body]
        counts = len(step.body.steps), self.sizes(step.times), len(step.arguments)
        return LoopWords(*pool().running, body.address, *counts, body.constants.ctypes.data, step.stop)

    def lines(self) -> Iterator[str]:
        """The program as readable text."""
        for k, step in enumerate(self.program.steps):
            parts = f", in {self._parts[k]} parts" if self._parts[k] > 1 else ""
            yield f"# step {k}: {step.title}{parts}   {step.places_in_code}"
            yield from self._step_lines(step)

    def _step_lines(self, step: Step) -> Iterator[str]:
        """The readable text of one step."""
        names = [self.name_of(place.storage) for place in step.places]
        match step:
            case NestStep():
                yield from describe(step.nest, step.bindings.settled(self.sizes), names)
            case LoopStep(_, _, NativeProgram() as program, times, _, _):
                yield f"{self.sizes(times)} times:"
                yield from (f"    {line}" for line in self.bodies[program].lines())
            case RunningStep():
                seen = running_call(step.variables[0], self).words
                yield f"{names[1]} = {step.title} of {names[0]}{[seen.outer, seen.length, seen.inner]} along axis 1"
            case SlidingStep():
                folded = sliding_call(step.variables[0], self).words
                given = [folded.planes // folded.shared, folded.height, folded.width]
                operands = ", ".join([f"{names[0]}{given}", *names[1:-1]])
                yield f"{names[-1]}{[folded.planes, folded.rows, folded.columns]} = {step.title} of {operands}"
            case _ if isinstance(step.variables[0].op, Packed):
                yield f"{names[1]} = {names[0]}, packed"
            case _:
                words = call_of(step.variables[0], self).words
                assert isinstance(words, ProductWords)
                a, b, c = [words.rows, words.inner], [words.inner, words.columns], [words.rows, words.columns]
                yield f"{names[2]}{c} = {names[0]}{a} @ {names[1]}{b}"
