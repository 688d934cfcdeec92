"""A loop nest written as CUDA C++, its sizes and strides numbers in the text.

A nest is a `__device__` function that one block of threads runs: each thread has a point of the parallel axes, and a lane of
the serial ones, of which it takes one element in each round. What the lanes of a point have folded is merged, so that all of
them get the result, and go on to the next stage. Without folds a thread computes as many neighbouring elements as one access to
memory can move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from minigraph.compiler.cuda.lanes import SCRATCH_STATES, Lanes
from minigraph.compiler.cuda.launch_geometry import THREADS, folds
from minigraph.compiler.cuda.places import PlaceWriter
from minigraph.compiler.cuda.scalar_printer import memory_type, value_type
from minigraph.compiler.loops.nest import Store
from minigraph.compiler.loops.nest_writer import Known
from minigraph.compiler.loops.scheduled import Gap, Stage
from minigraph.compiler.scalar.scalar import INT64, Value


class NestPrinter(PlaceWriter):
    """Writes one nest as a `__device__` function."""

    def text(self, name: str, guarded: bool = False) -> str:
        """The function under a name; one that is guarded does nothing once a kernel has failed."""
        if guarded:
            self.writer.write("if (*failed) return;")
        if folds(self.nest):
            self._folding()
        else:
            self._pointwise()
        arguments = [*self.parameters(), "const unsigned block", "int* const failed", "unsigned char* const scratch"]
        return "\n".join([f"__device__ void {name}({', '.join(arguments)}) {{", *self.writer.lines, "}"])

    def _pointwise(self) -> None:
        """Each element alone, some neighbours by one thread."""
        total, width = math.prod(self.bindings.sizes), self.arrangement.width
        each = f" * {width}" if width > 1 else ""
        first = self.writer.let(self.index_type, f"(({self.index_type})block * {THREADS} + (int)threadIdx.x){each}")
        if total % (THREADS * width):
            self.writer.write(f"if ({first} >= {total}) return;")
        self.split(first, self.order.parallel)
        (only,) = self.order.gaps
        self._write(only, [{} for _ in range(width)])

    def _folding(self) -> None:
        """The stages along the serial axes, and what stands between them."""
        points = self.arrangement.points
        self.known: Known = {}
        """The values that do not vary along the serial axes."""
        self.lanes = Lanes(self.writer, self.arrangement, self.nest.by_column)
        point = self.writer.let(self.index_type, f"({self.index_type})block * {points} + {self.lanes.point}")
        self.active = "true"
        if self.points % points:
            self.active = self.writer.let("bool", f"{point} < {self.points}")
            point = self.writer.let(self.index_type, f"{self.active} ? {point} : {self.points - 1}")
        self.split(point, self.order.parallel)
        self.write_stages()

    def write_gap(self, gap: Gap) -> None:
        for k in gap.ended:
            one = self.accumulators[k]
            state = [Value(self.writer, name, dtype) for name, dtype in zip(one.slots, one.state, strict=True)]
            self.known[k] = one.result(state, self.nest.dtype_of(k))
        for k in gap.nodes if self.extent else ():  # else it may lie nowhere
            self.compute(k, self.known)
        if gap.stores:
            with self.writer.block(f"if ({self.active} && {self.lanes.lane} == 0)"):
                self._write(gap, [dict(self.known)])

    def write_stage(self, stage: Stage) -> None:
        for k in stage.folds:
            self.accumulators[k].slots = [self._variable(one) for one in self.accumulators[k].initial(self.writer)]
        if self.extent and (stage.folds or stage.stores or stage.scatters):
            self._run(stage)
        self.lanes.merge([self.accumulators[k] for k in stage.folds])

    def _run(self, stage: Stage) -> None:
        """The loop of a stage: what each lane adds to the folds, and what it stores."""
        width, lanes = self.arrangement.width, self.arrangement.lanes
        flat = self.writer.fresh("f")
        start = f"{self.lanes.lane} * {width}" if width > 1 else self.lanes.lane
        self.writer.write("#pragma unroll 4")
        with self.writer.block(f"for ({self.index_type} {flat} = {start}; {flat} < {self.extent}; {flat} += {lanes * width})"):
            self.loaded = {}
            self.split(flat, self.order.serial)
            values = [dict(self.known) for _ in range(width)]
            for k in stage.folds:
                for lane, known in enumerate(values):
                    self._add(k, known, lane)
            if self.active == "true" or not (stage.stores or stage.scatters):
                self._write(stage, values)
            else:
                for store in stage.stores:  # loads are better done by all
                    for lane, known in enumerate(values):
                        self.compute(store.node, known, lane)
                with self.writer.block(f"if ({self.active})"):
                    self._write(stage, values)
            self.loaded = {}

    def _add(self, fold: int, known: Known, lane: int) -> None:
        """Add an element to a fold."""
        one = self.accumulators[fold]
        x = self.compute(self.nest.arguments_of(fold)[0], known, lane)
        before = [Value(self.writer, name, dtype) for name, dtype in zip(one.slots, one.state, strict=True)]
        along = self.coordinates[self.order.serial[-1]] if self.order.serial else "0"
        position = Value(self.writer, f"((long long){along} + {lane})", INT64)
        for name, value in zip(one.slots, one.add(before, x, position), strict=True):
            self.writer.write(f"{name} = {value.text};")

    def _variable(self, value: Value) -> str:
        """A variable that starts with a value."""
        name = self.writer.fresh("s")
        self.writer.write(f"{value_type(value.dtype)} {name} = {value.text};")
        return name

    def _write(self, stage: Stage | Gap, lanes: Sequence[Known]) -> None:
        """Store values, all of them computed first: a store may write over what another value is computed from."""
        values = [[self.compute(store.node, known, lane) for lane, known in enumerate(lanes)] for store in stage.stores]
        for store, several in zip(stage.stores, values, strict=True):
            self._store(store, several)
        for add in stage.scatters:
            self.scatter(add, lanes[0])

    def _store(self, store: Store, values: Sequence[Value]) -> None:
        """Store neighbouring elements, or the one that all of them are."""
        place = self.place(store.operand, 0)
        if len(values) > 1 and self.bindings.strides[store.operand][-1] == 1:
            dtype = memory_type(self.nest.operands[store.operand].dtype)
            kind, elements = f"Pack<{dtype}, {len(values)}>", ", ".join(f"({dtype}){self.in_memory(one)}" for one in values)
            self.writer.write(f"*({kind}*)&{place} = {kind}{{{{{elements}}}}};")
        else:
            self.put(values[-1], place)

    @property
    def scratch_bytes(self) -> int:
        """The bytes of shared memory that the function works in."""
        return 8 * THREADS * min(sum(len(one.state) for one in self.accumulators.values()), SCRATCH_STATES)


def launch_text(name: str, calls: Sequence[tuple[str, int, Sequence[str]]], scratch: int) -> str:
    """A kernel under a name that runs several nests side by side.

    calls: of each nest its function, its blocks, and its parameters; scratch: the bytes of shared memory.
    """
    parameters: list[str] = []
    lines: list[str] = []
    begin = 0
    for position, (function, blocks, declared) in enumerate(calls):
        names = [f"n{position}_{one.rpartition(' ')[2]}" for one in declared]
        parameters += [f"{one.rpartition(' ')[0]} {name}" for one, name in zip(declared, names, strict=True)]
        block = f"blockIdx.x - {begin}u" if begin else "blockIdx.x"
        call = f"{function}({', '.join([*names, block, 'failed', 'scratch'])});"
        begin += blocks
        lines.append(f"  {call}" if position == len(calls) - 1 else f"  if (blockIdx.x < {begin}u) {{ {call} return; }}")
    shared = f"  __shared__ __align__(16) unsigned char scratch[{max(scratch, 16)}];"
    heading = f'extern "C" __global__ void __launch_bounds__({THREADS}) {name}({", ".join([*parameters, "int* failed"])}) {{'
    return "\n".join([heading, shared, *lines, "}"])
