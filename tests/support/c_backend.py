"""A backend from outside of the package: regions are printed as C, compiled by the system's compiler, and run step by step.

It is the example of docs/write_a_backend.md, which explains it part by part.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from minigraph.compiler.cuda.launch_geometry import Arrangement
from minigraph.compiler.cuda.places import PlaceWriter
from minigraph.compiler.cuda.scalar_printer import value_type
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.loops.nest import Bindings, LoopNest, describe
from minigraph.compiler.loops.nest_writer import Known
from minigraph.compiler.loops.scheduled import Gap, Stage
from minigraph.compiler.passes import Journal, Pass, Pipeline, ProfiledStep
from minigraph.compiler.pipeline import PASSES, SECLUDE
from minigraph.compiler.plan.frame import PLAIN, Frame, Outline
from minigraph.compiler.plan.program import Program
from minigraph.compiler.plan.steps import LoopStep, NestStep, ProductStep, Step, profiled
from minigraph.compiler.scalar.scalar import INT64, Value
from minigraph.compiler.shape_cache import Arrays, CompilingBackend, KernelFailure, Plan, PlannedRegion, Shapes
from minigraph.compiler.shaped.copies import insert_copies
from minigraph.compiler.shaped.layout import sizes
from minigraph.core.graph import Array, Graph
from minigraph.rewrite.partition import Region, partition

COMPILER = shutil.which("cc")

PRELUDE = """\
#include <math.h>
#include <stdbool.h>
static inline int __float_as_int(float x) { union { float x; int bits; } both = {x}; return both.bits; }
static inline float __int_as_float(int bits) { union { int bits; float x; } both = {bits}; return both.x; }
static inline long long __double_as_longlong(double x) { union { double x; long long bits; } both = {x}; return both.bits; }
static inline double __longlong_as_double(long long bits) { union { long long bits; double x; } both = {bits}; return both.x; }
static inline float half_value(unsigned short bits) { union { unsigned short bits; _Float16 x; } both = {bits}; return both.x; }
static inline unsigned short half_bits(float x) { union { _Float16 x; unsigned short bits; } both = {x}; return both.bits; }
static inline float rounded_to_half(float x) { return half_value(half_bits(x)); }
"""


class CPrinter(PlaceWriter):
    """Writes a nest as a C function: loops along its axes, folds in variables."""

    def __init__(self, nest: LoopNest, bindings: Bindings, offsets: Sequence[int]) -> None:
        super().__init__(nest, bindings, offsets, Arrangement(points=1, lanes=1, width=1, blocks=1))
        self.known: Known = {}

    def text(self) -> str:
        """The function, under the name KERNEL."""
        self._nested(self.order.parallel, self.write_stages)
        pointers = [one.replace("__restrict__ ", "") for one in self.parameters()]
        return "\n".join([f"void KERNEL({', '.join([*pointers, 'int* const failed'])}) {{", *self.writer.lines, "}"])

    def _nested(self, axes: Sequence[int], body: Callable[[], None]) -> None:
        """Loops along axes around a body."""
        if not axes:
            body()
            return
        name = self.coordinates[axes[0]] = f"i{axes[0]}"
        with self.writer.block(f"for (long long {name} = 0; {name} < {self.bindings.sizes[axes[0]]}; ++{name})"):
            self._nested(axes[1:], body)

    def write_gap(self, gap: Gap) -> None:
        for k in gap.ended:
            self.known[k] = self.accumulators[k].result(self._state(k), self.nest.dtype_of(k))
        for k in gap.nodes if self.extent else ():
            self.compute(k, self.known)
        self._store(gap, self.known)
        for k in gap.begun:
            one = self.accumulators[k]
            one.slots = [self.writer.fresh("s") for _ in one.state]
            for name, value in zip(one.slots, one.initial(self.writer), strict=True):
                self.writer.write(f"{value_type(value.dtype)} {name} = {value.text};")

    def write_stage(self, stage: Stage) -> None:
        def body() -> None:
            known = dict(self.known)
            for k in stage.folds:
                one = self.accumulators[k]
                x = self.compute(self.nest.arguments_of(k)[0], known)
                position = Value(self.writer, f"i{self.order.serial[-1]}" if self.order.serial else "0", INT64)
                for name, value in zip(one.slots, one.add(self._state(k), x, position), strict=True):
                    self.writer.write(f"{name} = {value.text};")
            self._store(stage, known)

        self._nested(self.order.serial, body)

    def _state(self, fold: int) -> list[Value]:
        """The state of a fold."""
        one = self.accumulators[fold]
        return [Value(self.writer, name, dtype) for name, dtype in zip(one.slots, one.state, strict=True)]

    def _store(self, stage: Stage | Gap, known: Known) -> None:
        """Store values, all of them computed first."""
        values = [self.compute(store.node, known) for store in stage.stores]
        for store, value in zip(stage.stores, values, strict=True):
            self.put(value, self.place(store.operand, 0))
        for add in stage.scatters:
            self.scatter(add, known)


def product_text(program: Program, step: ProductStep) -> str:
    """A product of matrices, or of stacks of them, as loops over its axes and over the terms of a sum."""
    (result,) = step.variables
    shape, kind = sizes(result), value_type(result.dtype)
    axes = [f"i{k}" for k in range(len(shape))]
    a, b, c = (program.layouts[one].strides for one in (*result.inputs, result))

    def at(strides: Sequence[int], counters: Sequence[str]) -> str:
        return " + ".join(f"{stride} * {one}" for stride, one in zip(strides, counters, strict=True))

    lines = [f"void KERNEL(const {kind}* a, const {kind}* b, {kind}* c, int* const failed) {{"]
    lines += [f"for (long long {one} = 0; {one} < {size}; ++{one})" for one, size in zip(axes, shape, strict=True)]
    stack, (row, column), terms = axes[:-2], axes[-2:], sizes(result.inputs[0])[-1]
    term = f"a[{at(a, [*stack, row, 'k'])}] * b[{at(b, [*stack, 'k', column])}]"
    lines.append(f"{{ {kind} sum = 0; for (long long k = 0; k < {terms}; ++k) sum += {term}; c[{at(c, axes)}] = sum; }} }}")
    return "\n".join(lines)


@cache
def compiled(text: str) -> ctypes.CDLL:
    """The library of a C source."""
    assert COMPILER is not None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "kernels.c", Path(folder) / f"{hashlib.sha256(text.encode()).hexdigest()}.so"
        source.write_text(text)
        command = [COMPILER, "-O1", "-ffp-contract=off", "-fwrapv", "-w", "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run([*command, "-lm"], check=True)
        return ctypes.CDLL(str(library))


class CProgram(Program):
    """A program whose steps are C functions that Python calls one after the other."""

    alignment = 64

    def body_program(self, graph: Graph) -> Program:
        return CProgram(graph, (), self.backend)

    def assemble(self) -> None:
        bodies = {room: body.frame.arena_bytes for room, body in self.rooms.items() if isinstance(body, CProgram)}
        self.frame = Frame(Outline(self, range(len(self.steps))), rooms=bodies)
        self.functions = {k: text for k, step in enumerate(self.steps) if (text := self._text(step))}
        self.library = compiled("\n".join([PRELUDE, *(text.replace("KERNEL", f"f{k}") for k, text in self.functions.items())]))

    @property
    def texts(self) -> list[str]:
        return [*self.functions.values()]

    def _text(self, step: Step) -> str:
        """The function of a step, none for a loop."""
        if isinstance(step, NestStep):
            return CPrinter(step.nest, step.bindings, [self.frame.slot_of(place)[1] for place in step.places]).text()
        return product_text(self, step) if isinstance(step, ProductStep) else ""

    def run(self, k: int, bases: Sequence[int]) -> int:
        """Run a step over the addresses of the memory's slots; not 0 where it failed."""
        step, failed = self.steps[k], ctypes.c_int(0)
        where = [self.frame.slot_of(place) for place in step.places]
        addresses = [bases[slot] + offset for slot, offset in where]
        if isinstance(step, LoopStep):
            return self._run_loop(step, addresses)
        given = [address for address, place in zip(addresses, step.places, strict=True) if place.in_memory]
        self.library[f"f{k}"](*map(ctypes.c_void_p, given), ctypes.byref(failed))
        return failed.value

    def _run_loop(self, step: LoopStep, addresses: Sequence[int]) -> int:
        """Run the body of a loop once for each step, over arguments that advance."""
        body: CProgram = step.body
        places = [addresses[k : k + 3] for k in range(3, len(addresses), 3)]
        failed = 0
        for step_number in range(step.times):
            turn = 0 if step_number == 0 else 2 - step_number % 2
            moved = [place[turn] + step_number * one.stride for place, one in zip(places, step.arguments, strict=True)]
            bases = [addresses[1], body.frame.constants.ctypes.data, *moved]
            failed |= sum(body.run(k, bases) for k in range(len(body.steps)))
        return failed


class CPlan(Plan):
    """A program, run step by step in new memory."""

    program: CProgram
    frame: Frame

    def __init__(self, program: CProgram) -> None:
        self.program, self.frame = program, program.frame
        self.held_bytes = self.frame.constants.nbytes

    def __call__(self, arrays: Arrays) -> Arrays:
        return self._run(arrays)[0]

    def profile(self, arrays: Arrays) -> tuple[Arrays, list[ProfiledStep]]:
        outputs, seconds = self._run(arrays)
        return outputs, [profiled([step], taken, PLAIN) for step, taken in zip(self.program.steps, seconds, strict=True)]

    def _run(self, arrays: Arrays) -> tuple[Arrays, list[float]]:
        """The outputs, and the seconds that each step took."""
        arrays, over = self.kept(arrays), self.overwritten
        outputs = tuple([arrays[over[k]] if k in over else np.empty(*kind) for k, kind in enumerate(self.frame.outputs)])
        arena = np.empty(self.frame.arena_bytes, np.uint8)
        bases = [one.ctypes.data for one in (arena, self.frame.constants, *arrays, *outputs)]
        seconds = []
        for k in range(len(self.program.steps)):
            start = time.perf_counter()
            if self.program.run(k, bases):
                raise KernelFailure(f"step {k}")
            seconds.append(time.perf_counter() - start)
        return outputs, seconds

    def lines(self) -> Iterator[str]:
        for step in self.program.steps:
            yield f"# {step.title}   {step.places_in_code}"
            if isinstance(step, NestStep):
                yield from describe(step.nest, step.bindings, [self.frame.name_of(place.storage) for place in step.places])


class CRegion(PlannedRegion[CPlan]):
    """A region with a plan for each set of input shapes."""

    language = "c"

    def make(self, shapes: Shapes) -> CPlan:
        return CPlan(CProgram(self.shaped(shapes), self.donations, self.backend))


class CBackend(CompilingBackend):
    """C for regions, NumPy for all else."""

    stops = False

    def products(self) -> tuple[str, ...]:
        return "float32", "float64"

    def in_order(self, arrays: Sequence[Array]) -> Arrays:
        return tuple([np.require(one, requirements=("C", "A")) for one in arrays])

    def region(self, region: Region) -> CRegion:
        return CRegion(self, region)


def make(pipeline: Pipeline, journal: Journal) -> Backend:
    """The backend of one function."""
    return CBackend("c", np, pipeline, journal)


C = Pipeline((SECLUDE, *PASSES), (Pass(partition, needed=True),), (Pass(insert_copies, needed=True),))
