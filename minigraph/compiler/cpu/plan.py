"""Programs for this machine with all sizes settled: one native call each, in memory that calls take turns with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from minigraph.compiler.cpu.program import NativeFrame, NativeProgram
from minigraph.compiler.cpu.results import LARGE, results
from minigraph.compiler.cpu.runtime import ANYHOW, REFUSED, pool
from minigraph.compiler.cpu.runtime_text import ArrayWords, CallWords
from minigraph.compiler.passes import ProfiledStep
from minigraph.compiler.plan.program import FIRST
from minigraph.compiler.plan.steps import LoopStep, profiled
from minigraph.compiler.shape_cache import Arrays, KernelFailure, Plan
from minigraph.compiler.shaped.layout import sizes as sizes_of
from minigraph.core.dimensions import Dimensions, Sizes, Template
from minigraph.core.graph import Array, Variable
from minigraph.core.state import SUCCESS
from minigraph.core.types import DTYPES, as_dtype

_IN_ORDER, _OWN = 1 | 256, 4 | 1024
"""Flags of NumPy's arrays: in C order and aligned; owning their memory, which may be written to."""

BRIEF = 2**18
"""The bytes of a plan, with the work of its loops, in whose calls other threads of Python need not run, so short are they."""

CallMemory = tuple[int, np.ndarray[Any, Any], int]
"""The aligned address of memory for one call, that memory, and how many bytes it has."""


def new_memory(count: int) -> CallMemory:
    """Memory of `count` bytes, some of which are lost to alignment."""
    array = np.empty(count, np.uint8)
    address = array.ctypes.data
    return address + -address % NativeProgram.alignment, array, count


def _maker(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Callable[..., Array]:
    """The function that makes an output of a shape and a dtype."""
    return results.new if math.prod(shape) * dtype.itemsize >= LARGE else np.empty


def picker(order: Sequence[int], count: int | None = None) -> Callable[[Arrays], Arrays]:
    """A function that takes these elements out of a tuple, of `count` elements if that is known, as a tuple."""
    if count is not None and [*order] == [*range(count)]:
        return lambda given: given
    if len(order) > 1:
        return itemgetter(*order)
    return lambda given: tuple([given[k] for k in order])


def in_order(array: Array) -> Array:
    """An array in C order, aligned, and of NumPy's own dtype object, as kernels expect it."""
    plain = array.flags.c_contiguous and array.flags.aligned and type(array) is np.ndarray
    if plain and array.dtype is DTYPES[DTYPES.index(array.dtype)]:
        return array
    result = np.empty(array.shape, as_dtype(array.dtype))
    result[...] = array
    return result


def _input_words(variable: Variable, written: bool) -> ArrayWords:
    """The words for an input, which is `written` over or not."""
    dtype, flags = as_dtype(variable.dtype), _IN_ORDER | (_OWN if written else 0)
    number = id(float) if dtype in (np.float32, np.float64) else 0
    return ArrayWords(id(dtype), variable.ndim, flags, written, id(dtype.type), number, dtype == np.float32)


class OpenProgram:
    """A program, the sizes that it leaves open, and what its plans have in common."""

    def __init__(self, open: Dimensions, program: NativeProgram) -> None:
        self.open, self.program = open, program
        graph, overwritten = program.graph, program.overwritten
        self.new = [k for k in range(len(graph.outputs)) if k not in overwritten]
        """The outputs that need memory, by their positions."""
        follow = iter(range(len(graph.inputs), len(graph.inputs) + len(self.new)))
        over = [overwritten.get(k) for k in range(len(graph.outputs))]
        self.as_outputs = picker([next(follow) if place is None else place for place in over])
        count = len(graph.inputs) + len(graph.outputs)
        before = 8 * (FIRST + count + len(graph.inputs))  # each input may be a number that is kept here
        self.before_arena = before + -before % NativeProgram.alignment
        call = CallWords(0, 0, len(program.steps), len(graph.inputs), count, self.before_arena, 0, id(np.ndarray))
        words = call.pack()
        for k, one in enumerate(graph.inputs):
            words += [*_input_words(one, k in overwritten.values()).pack(), *sizes_of(one)]
        self.words = Template(words)
        """The words that a call goes by; the addresses of steps and constants are filled in for each plan."""


class NativePlan(Plan):
    """A program for settled sizes, and memory to run it in, a piece for each call that runs at the same time."""

    program: NativeProgram
    frame: NativeFrame

    def __init__(self, common: OpenProgram, sizes: Sizes, memories: list[CallMemory]) -> None:
        """common: the program; sizes: those that it leaves open; memories: those of earlier calls, which all plans use."""
        self.program, self.frame = common.program, NativeFrame(common.program, sizes)
        self._new = [(_maker(*self.frame.outputs[k]), *self.frame.outputs[k]) for k in common.new]
        self._as_outputs, self._overwrites = common.as_outputs, bool(self.overwritten)
        held = [math.prod(sizes.all(sizes_of(one))) * one.dtype.itemsize for one in self.program.graph.inputs]
        loops = [sum(step.work(sizes)) for step in self.program.steps if isinstance(step, LoopStep)]
        self.brief = sum(held) + self.frame.arena_bytes + self.frame.output_bytes + sum(loops) <= BRIEF
        self._call = pool().brief_call if self.brief else pool().call
        self.answer: Callable[..., Any] | None = None
        """A function that answers calls of the function that is this plan alone; None before the first call."""
        self._memories = memories
        self._before_arena = common.before_arena
        self.bytes = self._before_arena + self.frame.arena_bytes + NativeProgram.alignment
        """Of the memory that a call needs."""
        self._words = common.words.filled(sizes)
        self._words[CallWords.position("pool")] = pool().address
        self._words[CallWords.position("program")] = self.frame.address
        self._words[CallWords.position("constants")] = self.frame.constants.ctypes.data
        self.address = self._words.ctypes.data
        self.held_bytes = self._words.nbytes + self.frame.held_bytes
        """Of words and constants, for memory to compute in is that of the region."""

    def __call__(self, arrays: Arrays) -> Arrays | None:
        if self._overwrites:
            arrays = self.kept(arrays)
        outputs = self.outputs(arrays)
        memory = self.lease()
        failed = self._call(self.address, arrays + outputs, memory[0], ANYHOW)
        self._memories.append(memory)
        if failed == SUCCESS:
            return outputs
        if failed == REFUSED:
            return None
        raise KernelFailure(f"step {failed}")

    def lines(self) -> Iterator[str]:
        return self.frame.lines()

    def attempt(self, arrays: Arrays, memory: CallMemory, references: int) -> Iterator[int]:
        """An iterator whose one item is computed in one C call: the outputs, which follow the inputs in `arrays`, are written.

        The item is the step that failed, SUCCESS, REFUSED, or SHARED if an input to be written over has more references.
        memory: what `lease` gave.
        """
        return map(self._call, (self.address,), (arrays,), (memory[0],), (references,))

    def outputs(self, inputs: Arrays) -> Arrays:
        """Memory for the outputs: that of inputs which are written over, or new."""
        new = tuple([make(shape, dtype) for make, shape, dtype in self._new])
        return self._as_outputs(inputs + new) if self._overwrites else new

    def profile(self, arrays: Arrays) -> tuple[Arrays, list[ProfiledStep]]:
        arrays = self.kept(arrays)
        outputs = self.outputs(arrays)
        memory = self.lease()
        addresses = [one.ctypes.data for one in (self.frame.constants, *arrays, *outputs)]
        bases = np.array([memory[0] + self._before_arena, *addresses], np.int64)
        measured = []
        for k, step in enumerate(self.program.steps):
            start = time.perf_counter()
            failed = pool().run(self.frame.address, k, k + 1, bases.ctypes.data)
            measured.append(profiled([step], time.perf_counter() - start, self.frame.sizes))
            if failed >= 0:
                raise KernelFailure(f"step {failed}")
        self.release(memory)
        return outputs, measured

    def lease(self) -> CallMemory:
        """Memory for one call: the addresses of its arrays, then the arena. What is too small for it is dropped."""
        try:
            memory = self._memories.pop()
        except IndexError:
            memory = None
        if memory is not None and memory[2] >= self.bytes:
            return memory
        return new_memory(self.bytes)

    def release(self, memory: CallMemory) -> None:
        """Keep memory for the next call."""
        self._memories.append(memory)
