"""Regions compiled for this machine: planned once for each set of input shapes, then one native call."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np

from minigraph.compiler.cpu.blas import library_path
from minigraph.compiler.cpu.program import SHAPED, NativeFrame, NativeProgram
from minigraph.compiler.cpu.runtime import ANYHOW, REFUSED, pool
from minigraph.compiler.interpreted import Backend, Kernel
from minigraph.compiler.passes import Pass, Pipeline, ProfiledStep
from minigraph.compiler.pipeline import PASSES, SECLUDE
from minigraph.compiler.plan.program import FIRST
from minigraph.compiler.shape_cache import CompiledLoop, KernelFailure, PlannedRegion, Shapes, explanation
from minigraph.compiler.shaped.layout import sizes as sizes_of
from minigraph.core.dimensions import SMALLEST, Dimensions, Sizes, Template
from minigraph.core.graph import Array, Graph, Variable
from minigraph.core.state import SUCCESS
from minigraph.core.types import DTYPES, as_dtype
from minigraph.ops.loop.loop import Scan
from minigraph.rewrite.partition import PRODUCTS, Region, is_compilable_loop
from minigraph.rewrite.partition import partition as regions_of
from minigraph.rewrite.specialize import follows_from_sizes

_IN_ORDER, _OWN = 1 | 256, 4 | 1024
"""Flags of NumPy's arrays: in C order and aligned; owning their memory, which may be written to."""

Piece = tuple[int, np.ndarray[Any, Any], int]
"""The aligned address of memory for one call, that memory, and how many bytes it has."""


def picker(order: Sequence[int]) -> Callable[[tuple[Array, ...]], tuple[Array, ...]]:
    """What takes these elements out of a tuple, as a tuple."""
    if len(order) > 1:
        return itemgetter(*order)
    return lambda given: tuple([given[k] for k in order])


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
        self.before_arena = 8 * (FIRST + count) + -8 * (FIRST + count) % NativeProgram.alignment
        words: list[Any] = [0, len(program.steps), len(graph.inputs), count, self.before_arena, 0, id(np.ndarray)]
        for k, one in enumerate(graph.inputs):
            written = k in overwritten.values()
            words += [id(as_dtype(one.dtype)), one.ndim, _IN_ORDER | (_OWN if written else 0), written, *sizes_of(one)]
        self.words = Template(words)
        """What a call goes by: the addresses of steps and constants, which come last, counts, and what each input must be."""


class Plan:
    """A program for settled sizes, and memory to run it in, one piece for each call that runs at the same time."""

    def __init__(self, common: OpenProgram, sizes: Sizes, pieces: list[Piece]) -> None:
        """pieces: memory of earlier calls, which plans for other sizes use as well."""
        self.program, self.frame = common.program, NativeFrame(common.program, sizes)
        self.overwritten = self.program.overwritten
        """The input over which an output is written, by their positions."""
        self._new = [self.frame.outputs[k] for k in common.new]
        self._as_outputs = common.as_outputs
        self._call, self._pool = pool().call, pool().address
        self._pieces = pieces
        self._before_arena = common.before_arena
        self._bytes = self._before_arena + self.frame.arena_bytes + NativeProgram.alignment
        self._words = common.words.filled(sizes)
        self._words[0], self._words[5] = self.frame.address, self.frame.constants.ctypes.data
        self._address = self._words.ctypes.data
        self.held_bytes = self._words.nbytes + self.frame.held_bytes
        """How many bytes it holds: words and constants, for memory to compute in is that of the region."""

    def __call__(self, arrays: tuple[Array, ...]) -> tuple[Array, ...] | None:
        """The outputs, in new memory, from inputs in C order; None if this is a plan for others."""
        arrays = self.kept(arrays)
        outputs = self.memory(arrays)
        piece = self.take()
        failed = next(self.attempt(arrays + outputs, piece, ANYHOW))
        self.give(piece)
        if failed == SUCCESS:
            return outputs
        if failed == REFUSED:
            return None
        raise KernelFailure(f"step {failed}")

    def lines(self) -> Iterator[str]:
        """The program as readable text."""
        return self.frame.lines()

    def code(self) -> Iterable[str]:
        """The text of each kernel, those of loops' bodies included."""
        return self.frame.native.texts

    def attempt(self, arrays: tuple[Array, ...], piece: Piece, references: int) -> Iterator[int]:
        """An iterator whose one item is computed in one C call: the outputs, which follow the inputs in `arrays`, are written.

        The item is the step that failed, SUCCESS, REFUSED, or SHARED if an input to be written over has more references.
        """
        return map(self._call, (self._pool,), (self._address,), (arrays,), (piece[0],), (references,))

    def kept(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """The inputs, those copied that would be written over."""
        if not self.overwritten:
            return arrays
        written = {*self.overwritten.values()}
        return tuple([one.copy() if k in written else one for k, one in enumerate(arrays)])

    def memory(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Memory for the outputs: that of inputs which are written over, or new."""
        return self._as_outputs(arrays + tuple([np.empty(*one) for one in self._new]))

    def timed(self, arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], list[float]]:
        """The outputs, and the seconds that each step took."""
        arrays = self.kept(arrays)
        outputs = self.memory(arrays)
        piece = self.take()
        bases = np.array(
            [
                piece[0] + self._before_arena,
                self.frame.constants.ctypes.data,
                *(one.ctypes.data for one in (*arrays, *outputs)),
            ],
            np.int64,
        )
        seconds = []
        for step in range(len(self.program.steps)):
            start = time.perf_counter()
            failed = pool().run(self.frame.address, step, step + 1, bases.ctypes.data)
            seconds.append(time.perf_counter() - start)
            if failed >= 0:
                raise KernelFailure(f"step {failed}")
        self.give(piece)
        return outputs, seconds

    def take(self) -> Piece:
        """Memory for one call: the addresses of its arrays, then the arena. What is too small for it is dropped."""
        try:
            piece = self._pieces.pop()
        except IndexError:
            piece = None
        if piece is not None and piece[2] >= self._bytes:
            return piece
        memory = np.empty(self._bytes, np.uint8)
        address = memory.ctypes.data
        return address + -address % NativeProgram.alignment, memory, self._bytes

    def give(self, piece: Piece) -> None:
        """Keep memory for the next call."""
        self._pieces.append(piece)


MOST_PROGRAMS = 64
"""How many programs a region keeps; each holds for all sizes that answer the questions of its planning alike."""


class CompiledRegion(PlannedRegion[Plan]):
    """What computes a region: programs with sizes left open, and plans of them for each set of input shapes that it meets."""

    most_plans, most_bytes = 512, 2**26

    def __init__(self, backend: Backend, region: Region) -> None:
        super().__init__(backend, region)
        self.programs: deque[OpenProgram] = deque(maxlen=MOST_PROGRAMS)
        self._pieces: list[Piece] = []

    def make(self, shapes: Shapes) -> Plan:
        for one in self.programs:
            sizes = one.open.settled(shapes)
            if sizes is not None:
                return Plan(one, sizes, self._pieces)
        found, sizes = self._planned(shapes)
        if len(self.programs) == MOST_PROGRAMS:
            oldest = self.programs[-1].program
            for key in [key for key, plan in self.plans.items() if plan.program is oldest]:
                del self.plans[key]
        self.programs.appendleft(found)
        return Plan(found, sizes, self._pieces)

    def _planned(self, shapes: Shapes) -> tuple[OpenProgram, Sizes]:
        """A program for these shapes and, as far as it holds for them, others; and the sizes that it leaves open."""
        known = [one.type.shape for one in self.graph.inputs]
        places = [
            (k, axis)
            for k, shape in enumerate(shapes)
            for axis, size in enumerate(shape)
            if known[k][axis] is None and size >= SMALLEST
        ]
        groups: dict[tuple[int, int], int] | None = {place: group for group, place in enumerate(places)}
        while groups:
            open = Dimensions(shapes, groups)
            try:
                found = OpenProgram(open, self._program(open.shapes))
                sizes = open.settled(shapes)
                assert sizes is not None, "a plan holds for what it was made for"
                return found, sizes
            except Exception:  # what cannot be planned with sizes left open is planned, or refused, with fewer
                groups = open.refined()
        closed = Dimensions(shapes, {})
        return OpenProgram(closed, self._program(shapes)), Sizes(())

    def _program(self, shapes: Sequence[Sequence[Any]]) -> NativeProgram:
        """A program for inputs of these shapes, of which sizes may be left open."""
        return NativeProgram(self.shaped(shapes), self.wanted, self.backend)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        ready = tuple([in_order(one) for one in arrays])
        try:
            outputs = self.plan(ready)(ready)
            assert outputs is not None
            return outputs
        except KernelFailure as failure:
            raise explanation(self.graph, ready) or failure from None

    def profile(self, *arrays: Array) -> tuple[tuple[Array, ...], list[ProfiledStep]]:
        ready = tuple([in_order(one) for one in arrays])
        plan = self.plan(ready)
        outputs, seconds = plan.timed(ready)
        return outputs, [
            ProfiledStep(step.title, str(step.variables[-1].origin), time, *step.work(plan.frame.sizes))
            for step, time in zip(plan.program.steps, seconds, strict=True)
        ]


def in_order(array: Array) -> Array:
    """An array in C order, aligned, and of NumPy's own dtype object, as kernels expect it."""
    plain = array.flags.c_contiguous and array.flags.aligned and type(array) is np.ndarray
    if plain and array.dtype is DTYPES[DTYPES.index(array.dtype)]:
        return array
    result = np.empty(array.shape, as_dtype(array.dtype))
    result[...] = array
    return result


def _products() -> tuple[str, ...]:
    """The dtypes of matrix products that can be compiled."""
    return PRODUCTS if library_path() is not None else ()


def partition(graph: Graph) -> Graph:
    """The graph with everything that can be compiled gathered in regions, as few as the steps that cannot be allow."""
    return regions_of(graph, _products())


NATIVE = Pipeline((SECLUDE, *PASSES), (Pass(partition, needed=True),), SHAPED)


class Native(Backend):
    """NumPy for the steps that need Python, machine code for everything between them."""

    compiles = True

    def loops(self, variable: Variable) -> bool:
        """Whether a loop can be compiled as a whole."""
        settled = [one for one in variable.inputs if follows_from_sizes(one)]
        return is_compilable_loop(variable, settled, _products())

    def kernel(self, variable: Variable, reusable: int | None) -> Kernel:
        """What computes `variable`: compiled, if it is a region or a loop."""
        if isinstance(variable.op, Region):
            return CompiledRegion(self, variable.op)
        if isinstance(variable.op, Scan):
            return CompiledLoop(variable, partial(CompiledRegion, self))
        return super().kernel(variable, reusable)
