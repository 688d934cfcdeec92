"""Programs for this machine's processor: nests as machine code, products by OpenBLAS or our own code, large work in parts."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigraph.dimensions import Sizes, Template
from minigraph.graph import Constant, Graph
from minigraph.kernels.effort import cost
from minigraph.kernels.frame import Frame, Outline
from minigraph.kernels.jit import Code
from minigraph.kernels.layout import Packed
from minigraph.kernels.llvm import COLUMNS, kernel_text, module_text
from minigraph.kernels.loopnest import Bindings, LoopNest, describe
from minigraph.kernels.loops import heading, loop_kernel
from minigraph.kernels.packing import pack_captured
from minigraph.kernels.product_calls import call_of
from minigraph.kernels.products import product_kernel
from minigraph.kernels.program import LoopStep, NestStep, Program, Step
from minigraph.kernels.recompute import recompute_rows
from minigraph.kernels.rows import blocks_for_cores, split_products, split_rows
from minigraph.kernels.runtime import thread_count
from minigraph.kernels.scattered import multiply_windows

WORK_A_PART = 200_000
"""Operations on elements that are worth a part of their own."""
BYTES_A_PART = 100_000
"""Bytes read and written that are worth a part of their own."""
MANY_PARTS = 8
"""How many parts large work has for each thread, so that none waits long for another."""

PLAIN_NUMBERS = (0, 1, -1, 2, -2, 0.5, -0.5, math.inf, -math.inf)
"""The numbers that are written into kernels."""


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


def parts_of_nest(step: NestStep, numbers: Bindings) -> int:
    """In how many parts a nest is computed."""
    nest, lengths, strides = step.nest, numbers.sizes, numbers.strides
    kept = [size for size, fold in zip(lengths, nest.folded, strict=True) if not fold]
    extent = kept[0] if kept else 1
    if nest.by_column and len(kept) == 1:
        extent = -(-extent // COLUMNS)
    moved = sum(
        one.dtype.itemsize * math.prod([n for n, stride in zip(lengths, walked, strict=True) if stride])
        for one, walked in zip(nest.operands, strides, strict=True)
    )
    alone = any(one.indices for one in nest.scatters)  # elements may meet where they are put
    total = math.prod(lengths) * sum(cost(one.op) for one in step.variables)
    parts = 1 if alone else max(1, min(max(total // WORK_A_PART, moved // BYTES_A_PART), extent))
    few = nest.by_column or parts < MANY_PARTS * thread_count()
    if few:  # each thread takes one, where it has worked on the same memory before
        return min(parts, thread_count())
    return MANY_PARTS * thread_count()


class NativeProgram(Program):
    """A program that one native call runs."""

    alignment = 64

    def prepared(self, graph: Graph) -> Graph:
        return pack_captured(split_rows(split_products(multiply_windows(recompute_rows(graph))), blocks_for_cores))

    def body_program(self, graph: Graph) -> Program:
        return NativeProgram(graph)

    def is_literal(self, number: Constant) -> bool:
        """Only numbers with which code is faster or shorter: graphs that differ in others share their kernels."""
        return super().is_literal(number) and (number.value.dtype.kind == "b" or number.value.item() in PLAIN_NUMBERS)

    def assemble(self) -> None:
        """Compile the kernels, and write down what all frames have in common."""
        self.outline = Outline(self, range(len(self.steps)))
        nests = {k: step for k, step in enumerate(self.steps) if isinstance(step, NestStep)}
        compiled = compile_nests([step.nest for step in nests.values()])
        self.kernels = {k: compiled[step.nest] for k, step in nests.items()}
        self.parts = {k: parts_of_nest(step, step.bindings) for k, step in nests.items() if not step.bindings.is_open}
        """Of nests without open sizes, by their positions, in how many parts they are computed."""
        numbers = self.outline.values
        words: list[Any] = []
        moving: list[tuple[int, int]] = []
        self.begins: dict[int, int] = {}
        """Where among the words of all nests those of each begin, by its position."""
        for k, step in nests.items():
            self.begins[k] = len(words)
            for place in step.places:
                if place.storage in numbers and place.in_memory:
                    moving.append((len(words) + 1, numbers[place.storage]))
                words += self.outline.place_of(place)
            words += step.bindings.words()
        self.words = Template(words)
        self.moving = np.array(moving, np.int64).reshape(-1, 2).T
        """Which of these words count from where a value of the arena begins, and the numbers of those values."""


class NativeFrame(Frame):
    """The memory of a program, and its steps as the runtime reads them: where each kernel begins, its words, and its parts."""

    def __init__(self, program: NativeProgram, sizes: Sizes) -> None:
        self.native = program
        self.bodies = {body: NativeFrame(body, sizes) for body in program.rooms.values() if isinstance(body, NativeProgram)}
        rooms = {room: frame.arena_bytes for room, frame in zip(program.rooms, self.bodies.values(), strict=True)}
        super().__init__(program.outline, sizes, rooms)
        words = program.words.filled(sizes)
        words[program.moving[0]] += self.starts[program.moving[1]]
        self._kept: list[np.ndarray[Any, Any]] = [words]
        """What lies at the addresses that kernels are given."""
        first = words.ctypes.data
        rows = [
            (program.kernels[k].address, first + 8 * program.begins[k], self._parts_of(k, step))
            if isinstance(step, NestStep)
            else self._called(step)
            for k, step in enumerate(program.steps)
        ]
        self._parts = [parts for _, _, parts in rows]
        self._words = np.array(rows, np.int64).reshape(-1, 3)
        self.address: int = self._words.ctypes.data

    @property
    def held_bytes(self) -> int:
        """The bytes of constants, and of what kernels read."""
        own = self.constants.nbytes + self._words.nbytes + sum([one.nbytes for one in self._kept])
        return own + sum([body.held_bytes for body in self.bodies.values()])

    def _parts_of(self, position: int, step: NestStep) -> int:
        """In how many parts a nest is computed."""
        known = self.native.parts.get(position)
        return parts_of_nest(step, step.bindings.settled(self.sizes)) if known is None else known

    def _called(self, step: Step) -> tuple[int, int, int]:
        """The address of what computes a step that is no nest, that of its words, and in how many parts."""
        places = [word for place in step.places for word in self.slot_of(place)]
        if isinstance(step, LoopStep):
            return loop_kernel().address("loop"), self._keep([*self._heading(step), *places, *self._walks(step)]), 1
        (variable,) = step.variables
        call = call_of(variable, self)
        self._kept += call.tables
        return product_kernel(variable.dtype.name, call.kind), self._keep([*places, *call.words]), call.parts

    def _keep(self, words: Sequence[int]) -> int:
        """The address of words that are kept."""
        self._kept.append(np.array(words, np.int64))
        address: int = self._kept[-1].ctypes.data
        return address

    def _heading(self, step: LoopStep) -> list[int]:
        """The words of a loop before the places."""
        assert isinstance(step.body, NativeProgram)
        body = self.bodies[step.body]
        count, constants = len(step.arguments), body.constants.ctypes.data
        return heading(body.address, len(step.body.steps), self.sizes(step.times), count, constants, step.stop)

    def _walks(self, step: LoopStep) -> list[int]:
        """The words of a loop after the places: how its arguments advance."""
        return [word for one in step.arguments for word in (self.sizes(one.stride), int(one.takes_turns))]

    def lines(self, code: bool) -> Iterator[str]:
        """The program as readable text, with `code` followed by that of its kernels."""
        for k, step in enumerate(self.program.steps):
            origins = dict.fromkeys(str(one.origin) for one in step.variables)
            parts = f", in {self._parts[k]} parts" if self._parts[k] > 1 else ""
            yield f"# step {k}: {step.title}{parts}"
            yield from (f"#   {origin}" for origin in list(origins)[:4])
            yield from self._step_lines(step, code)
        if code:
            kernels = dict.fromkeys(self.native.kernels.values())
            yield from (line for kernel in kernels for line in kernel.text.splitlines())

    def _step_lines(self, step: Step, code: bool) -> Iterator[str]:
        """One step as readable text."""
        names = [self.name_of(place.storage) for place in step.places]
        match step:
            case NestStep():
                yield from describe(step.nest, step.bindings.settled(self.sizes), names)
            case LoopStep(_, _, NativeProgram() as program, times, _, _):
                yield f"{self.sizes(times)} times:"
                yield from (f"    {line}" for line in self.bodies[program].lines(code))
            case _ if isinstance(step.variables[0].op, Packed):
                yield f"{names[1]} = {names[0]}, packed"
            case _:
                _, _, rows, columns, inner, *_ = call_of(step.variables[0], self).words
                yield f"{names[2]}[{rows}, {columns}] = {names[0]}[{rows}, {inner}] @ {names[1]}[{inner}, {columns}]"
