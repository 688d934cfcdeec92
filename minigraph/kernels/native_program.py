"""Programs for this machine's processor: nests as machine code, products by OpenBLAS or our own code, large work in parts."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigraph.graph import Constant, Graph
from minigraph.kernels.effort import cost
from minigraph.kernels.jit import Code
from minigraph.kernels.layout import Packed
from minigraph.kernels.llvm import COLUMNS, kernel_text, module_text
from minigraph.kernels.loopnest import LoopNest, describe
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


def parts_of_nest(step: NestStep) -> int:
    """In how many parts a nest is computed."""
    nest, bindings = step.nest, step.bindings
    work = math.prod(bindings.sizes) * sum(cost(one.op) for one in step.variables)
    kept = [size for size, fold in zip(bindings.sizes, nest.folded, strict=True) if not fold]
    extent = kept[0] if kept else 1
    if nest.by_column and len(kept) == 1:
        extent = -(-extent // COLUMNS)
    walked = [math.prod(n for n, stride in zip(bindings.sizes, one, strict=True) if stride) for one in bindings.strides]
    moved = sum(count * place.dtype.itemsize for count, place in zip(walked, step.places, strict=True))
    alone = any(one.indices for one in nest.scatters)  # elements may meet where they are put
    parts = 1 if alone else max(1, min(max(work // WORK_A_PART, moved // BYTES_A_PART), extent))
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

    def moments(self) -> Sequence[int]:
        return range(len(self.steps))

    def assemble(self) -> None:
        """Compile the kernels, and lay out the program."""
        self.kernels = compile_nests([step.nest for step in self.steps if isinstance(step, NestStep)])
        self._tables: list[np.ndarray[Any, Any]] = []
        """What products of scattered matrices look up, at addresses that they are given."""
        calls = [self._called(step) for step in self.steps]
        self._parameters = [np.array(words, np.int64) for _, words, _ in calls]
        self._parts = [parts for _, _, parts in calls]
        rows = [(address, words.ctypes.data, parts) for (address, _, parts), words in zip(calls, self._parameters, strict=True)]
        self._words = np.array(rows, np.int64).reshape(-1, 3)
        self.address: int = self._words.ctypes.data

    def _called(self, step: Step) -> tuple[int, list[int], int]:
        """The address of what computes a step, its parameters, and in how many parts."""
        places = [word for place in step.places for word in self.slot_of(place)]
        match step:
            case NestStep():
                return self.kernels[step.nest].address, [*places, *step.bindings.words()], parts_of_nest(step)
            case LoopStep(_, _, NativeProgram() as body, times, arguments, stop):
                before = heading(body.address, len(body.steps), times, len(arguments), body.constants.ctypes.data, stop)
                walks = [word for one in arguments for word in (one.stride, int(one.takes_turns))]
                return loop_kernel().address("loop"), [*before, *places, *walks], 1
        (variable,) = step.variables
        call = call_of(variable, self.layouts)
        self._tables += call.tables
        return product_kernel(variable.dtype.name, call.kind), [*places, *call.words], call.parts

    def lines(self, code: bool) -> Iterator[str]:
        """The program as readable text, with `code` followed by that of its kernels."""
        for k, step in enumerate(self.steps):
            origins = dict.fromkeys(str(one.origin) for one in step.variables)
            parts = f", in {self._parts[k]} parts" if self._parts[k] > 1 else ""
            yield f"# step {k}: {step.title}{parts}"
            yield from (f"#   {origin}" for origin in list(origins)[:4])
            yield from self._step_lines(step, code)
        if code:
            yield from (line for kernel in self.kernels.values() for line in kernel.text.splitlines())

    def _step_lines(self, step: Step, code: bool) -> Iterator[str]:
        """One step as readable text."""
        names = [self.name_of(place.storage) for place in step.places]
        match step:
            case NestStep():
                yield from describe(step.nest, step.bindings, names)
            case LoopStep(_, _, NativeProgram() as body, times, _, _):
                yield f"{times} times:"
                yield from (f"    {line}" for line in body.lines(code))
            case _ if isinstance(step.variables[0].op, Packed):
                yield f"{names[1]} = {names[0]}, packed"
            case _:
                _, _, rows, columns, inner, *_ = call_of(step.variables[0], self.layouts).words
                yield f"{names[2]}[{rows}, {columns}] = {names[0]}[{rows}, {inner}] @ {names[1]}[{inner}, {columns}]"
