"""A loop nest written as CUDA C++, its sizes and strides as numbers in the text.

A nest is a `__device__` function that one block of threads runs: each thread has a point of the kept axes, and a lane of the
folded ones, of which it takes every so many elements. What the lanes of a point have folded is merged in a fixed order: within
a warp by shuffles, among warps in shared memory. All lanes get the result, and go on to the next stage. Without folds a thread
computes as many neighbouring elements as one access to memory can move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from minigraph.compiler.cuda.launch_geometry import THREADS, VECTOR_BYTES, WARP, Arrangement, folds, volume
from minigraph.compiler.cuda.scalar_printer import CUDA_SCALARS, CudaWriter, memory_type, value_type
from minigraph.compiler.loops.nest import Apply, Bindings, Fold, Gather, Literal, Load, LoopNest, Scatter, Store
from minigraph.compiler.loops.reductions import Accumulator
from minigraph.compiler.scalar.namespace import applied
from minigraph.compiler.scalar.scalar import INT64, DType, Value, select

SCRATCH_STATES = 16
"""How many states of folds are merged at a time, each in shared memory of its own."""


class NestPrinter:
    """Writes one nest as a `__device__` function."""

    def __init__(self, nest: LoopNest, bindings: Bindings, offsets: Sequence[int], arrangement: Arrangement) -> None:
        """offsets: where operands that are in no memory begin to count."""
        self.nest, self.bindings, self.offsets, self.arrangement = nest, bindings, offsets, arrangement
        self.writer = CudaWriter()
        self.level, self.full = nest.levels(), nest.is_full()
        self.kept = [axis for axis, fold in enumerate(nest.folded) if not fold]
        self.folds = [axis for axis, fold in enumerate(nest.folded) if fold]
        self.coordinates: dict[int, str] = {}
        self.known: dict[int, Value] = {}
        """The values that do not vary along the folded axes."""
        self.written = {store.node: store.operand for store in nest.stores if self.full[store.node]}
        self.inner = {store for store in nest.stores if nest.is_inner(store)}
        self.stage = 0
        self.accumulators = {
            k: Accumulator(node.op, self.nest.dtype_of(node.argument))
            for k, node in enumerate(nest.nodes)
            if isinstance(node, Fold)
        }
        picking = [one for one in (*nest.nodes, *nest.scatters) if isinstance(one, Gather | Scatter)]
        starts = np.cumsum([0, *(len(one.indices) for one in picking)])
        self.picks = {
            one: bindings.picks[start : start + len(one.indices)] for one, start in zip(picking, starts, strict=False)
        }
        self.loaded: dict[int, str] = {}
        """What the elements of a thread read together: vectors, and single elements that all of them share."""

    # -- types and places --------------------------------------------------------------------------------------------

    @property
    def index_type(self) -> str:
        """An integer type that holds every position."""
        reach = [math.prod(self.bindings.sizes), THREADS * self.arrangement.blocks * self.arrangement.width]
        for strides in self.bindings.strides:
            reach.append(sum(abs(stride) * size for stride, size in zip(strides, self.bindings.sizes, strict=True)))
        return "int" if max(reach) < 2**31 - THREADS * VECTOR_BYTES else "long long"

    def position(self, operand: int, lane: int = 0) -> str:
        """Which element of an operand belongs to the current coordinates, and a lane further."""
        terms = []
        for axis, stride in enumerate(self.bindings.strides[operand]):
            if stride and self.bindings.sizes[axis] > 1:
                terms.append(self.coordinates[axis] if stride == 1 else f"{self.coordinates[axis]} * {stride}")
        if lane and self.bindings.strides[operand][-1]:
            terms.append(str(lane * self.bindings.strides[operand][-1]))
        return " + ".join(terms) or "0"

    def split(self, flat: str, axes: Sequence[int]) -> None:
        """Name the coordinates along axes that a flat position, in C order, stands for."""
        for axis in reversed(axes):
            size = self.bindings.sizes[axis]
            last = axis == axes[0]
            self.coordinates[axis] = flat if last else self.writer.let(self.index_type, f"{flat} % {size}")
            flat = flat if last else self.writer.let(self.index_type, f"{flat} / {size}")

    # -- values ------------------------------------------------------------------------------------------------------

    def element(self, text: str, dtype: DType) -> Value:
        """The value of an element in memory, given its text."""
        if dtype.kind == "b":
            text += " != 0"
        elif dtype.kind == "f" and dtype.itemsize == 2:
            text = f"half_value({text})"
        return self.writer.value(text, dtype)

    def in_memory(self, value: Value) -> str:
        """A value as the element that memory holds."""
        if value.dtype.kind == "f" and value.dtype.itemsize == 2:
            return f"half_bits({value.text})"
        return value.text

    def load(self, operand: int, lane: int) -> Value:
        """An element of an operand, or its position."""
        access, width = self.nest.operands[operand], self.arrangement.width
        if not access.in_memory:
            return self.writer.value(f"(long long)({self.position(operand, lane)}) + {self.offsets[operand]}ll", INT64)
        if width == 1:
            return self.element(f"p{operand}[{self.position(operand)}]", access.dtype)
        walks = self.bindings.strides[operand][-1] == 1
        if operand not in self.loaded:
            place = f"p{operand}[{self.position(operand)}]"
            if walks:
                kind = f"Pack<{memory_type(access.dtype)}, {width}>"
                self.loaded[operand] = self.writer.let(kind, f"*(const {kind}*)&{place}")
            else:
                self.loaded[operand] = self.writer.let(memory_type(access.dtype), place)
        return self.element(self.loaded[operand] + (f".at[{lane}]" if walks else ""), access.dtype)

    def compute(self, node: int, known: dict[int, Value], lane: int) -> Value:
        """The value of a node, given those that are known where the code is being written; new ones are added to them."""
        value: Value = self.nest.evaluate(node, known, partial(self._ready, lane), partial(self._apply, lane))
        return value

    def _ready(self, lane: int, node: int) -> Value | None:
        """A value that needs no computation here: a literal, or one that was stored in an earlier stage."""
        what = self.nest.nodes[node]
        if isinstance(what, Literal):
            return self.writer.constant(what.value, what.dtype)
        if node in self.written and self.level[node] < self.stage:
            return self.load(self.written[node], lane)
        return None

    def _apply(self, lane: int, node: int, arguments: list[Value]) -> Value:
        """What a node makes of its arguments."""
        match self.nest.nodes[node]:
            case Load(operand):
                return self.load(operand, lane)
            case Gather(_, _, dtype) as gather if self._is_empty(gather):
                self.writer.write("*failed = 1;")
                return self.writer.constant(0, dtype)
            case Gather(operand, _, dtype) as gather:
                return self.element(f"p{operand}[{self.picked(gather, operand, arguments, lane)}]", dtype)
            case Apply(op, _, _) if op.requires is not None:
                self.writer.write(f"if (!{arguments[op.requires].text}) *failed = 1;")
                return arguments[0]
            case Apply(op, _, dtype):
                return applied(op, CUDA_SCALARS, arguments, dtype)
        raise AssertionError("a fold is no expression")

    def _is_empty(self, user: Gather | Scatter) -> bool:
        """Whether there is nothing that indices could pick, and no memory either."""
        return any(size == 0 for size, _ in self.picks[user])

    def picked(self, user: Gather | Scatter, operand: int, indices: list[Value], lane: int) -> str:
        """The position that indices pick, negative ones counted from the end; one outside is noted, and 0 taken."""
        terms = [self.position(operand, lane)]
        for index, (size, stride) in zip(indices, self.picks[user], strict=True):
            wide = index.astype(INT64)
            wrapped = select(wide < 0, wide + size, wide)
            outside = (wrapped < 0) | (wrapped >= size)
            self.writer.write(f"if ({outside.text}) *failed = 1;")
            terms.append(f"{select(outside, 0, wrapped).text} * {stride}")
        return " + ".join(terms)

    # -- the function ------------------------------------------------------------------------------------------------

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

    def parameters(self) -> list[str]:
        """The declarations of the operands that are in memory."""
        stored = {*(one.operand for one in self.nest.stores), *(one.operand for one in self.nest.scatters)}
        return [
            f"{'' if k in stored else 'const '}{memory_type(one.dtype)}* __restrict__ p{k}"
            for k, one in enumerate(self.nest.operands)
            if one.in_memory
        ]

    def _pointwise(self) -> None:
        """Every element by itself, some neighbours by one thread."""
        total, width = math.prod(self.bindings.sizes), self.arrangement.width
        each = f" * {width}" if width > 1 else ""
        first = self.writer.let(self.index_type, f"(({self.index_type})block * {THREADS} + (int)threadIdx.x){each}")
        if total % (THREADS * width):
            self.writer.write(f"if ({first} >= {total}) return;")
        self.split(first, self.kept)
        lanes: list[dict[int, Value]] = [{} for _ in range(width)]
        self._store_all(self.nest.stores, lanes)
        for add in self.nest.scatters:
            self._scatter(add, lanes[0])

    def _store_all(self, stores: Sequence[Store], lanes: list[dict[int, Value]]) -> None:
        """Store values, all of them computed first: a store may write over what another value is computed from."""
        values = [[self.compute(store.node, known, lane) for lane, known in enumerate(lanes)] for store in stores]
        for store, several in zip(stores, values, strict=True):
            dtype = self.nest.operands[store.operand].dtype
            place = f"p{store.operand}[{self.position(store.operand)}]"
            if len(several) == 1:
                self.writer.write(f"{place} = {self.in_memory(several[0])};")
            elif self.bindings.strides[store.operand][-1] == 1:
                kind = f"Pack<{memory_type(dtype)}, {len(several)}>"
                elements = ", ".join(f"({memory_type(dtype)}){self.in_memory(one)}" for one in several)
                self.writer.write(f"*({kind}*)&{place} = {kind}{{{{{elements}}}}};")
            else:
                self.writer.write(f"{place} = {self.in_memory(several[-1])};")

    def _scatter(self, add: Scatter, known: dict[int, Value]) -> None:
        """Write, or add, an element where indices pick."""
        if self._is_empty(add):
            self.writer.write("*failed = 1;")
            return
        value = self.compute(add.node, known, 0)
        indices = [self.compute(one, known, 0) for one in add.indices]
        place = f"p{add.operand}[{self.picked(add, add.operand, indices, 0)}]"
        if not add.replaces:
            value = self.element(place, value.dtype) + value
        self.writer.write(f"{place} = {self.in_memory(value)};")

    # -- folds -------------------------------------------------------------------------------------------------------

    def _folding(self) -> None:
        """The stages over the folded axes, and what stands between them."""
        points, lanes = self.arrangement.points, self.arrangement.lanes
        kept = volume(self.bindings, self.nest, False)
        by_column = self.nest.by_column or lanes == 1
        thread = self.writer.let("int", "threadIdx.x")
        inner, outer = ("%", "/") if by_column else ("/", "%")
        divisor = points if by_column else lanes
        mine = self.writer.let("int", f"{thread} {inner} {divisor}")
        self.lane = self.writer.let("int", f"{thread} {outer} {divisor}")
        self.thread, self.mine, self.columns = thread, mine, by_column
        point = self.writer.let(self.index_type, f"({self.index_type})block * {points} + {mine}")
        self.active = "true"
        if kept % points:
            self.active = self.writer.let("bool", f"{point} < {kept}")
            point = self.writer.let(self.index_type, f"{self.active} ? {point} : {kept - 1}")
        self.split(point, self.kept)
        folds = [k for k, node in enumerate(self.nest.nodes) if isinstance(node, Fold)]
        last = max([*(self.level[k] - 1 for k in folds), *(self.level[one.node] for one in self.inner)], default=-1)
        last = max([last, *(0 for _ in self.nest.scatters)])
        self._between(0)
        for stage in range(last + 1):
            self.stage = stage
            ending = [k for k in folds if self.level[k] - 1 == stage]
            self._run(ending)
            self._merge(ending)
            self.stage = stage + 1
            self._between(stage + 1)

    def _between(self, level: int) -> None:
        """What does not vary along the folded axes, and is there only now."""
        for k, node in enumerate(self.nest.nodes if volume(self.bindings, self.nest, True) else ()):  # else it may lie nowhere
            if not self.full[k] and self.level[k] == level and not isinstance(node, Fold):
                self.compute(k, self.known, 0)
        stores = [one for one in self.nest.stores if one not in self.inner and self.level[one.node] == level]
        if stores:
            with self.writer.block(f"if ({self.active} && {self.lane} == 0)"):
                self._store_all(stores, [dict(self.known)])

    def _run(self, ending: Sequence[int]) -> None:
        """The loop of a stage: what each lane adds to the folds, and what it stores."""
        stores = [one for one in self.inner if self.level[one.node] == self.stage]
        stores.sort(key=self.nest.stores.index)
        scatters = self.nest.scatters  # which fold nothing, so that there is one stage
        states: dict[int, list[str]] = {}
        for k in ending:
            states[k] = [self._variable(value) for value in self.accumulators[k].initial(self.writer)]
        self.states = states
        extent = volume(self.bindings, self.nest, True)
        if not extent or not (ending or stores or scatters):
            return
        width, lanes = self.arrangement.width, self.arrangement.lanes
        flat = self.writer.fresh("f")
        start = f"{self.lane} * {width}" if width > 1 else self.lane
        self.writer.write("#pragma unroll 4")
        with self.writer.block(f"for ({self.index_type} {flat} = {start}; {flat} < {extent}; {flat} += {lanes * width})"):
            self.loaded = {}
            self.split(flat, self.folds)
            values = [dict(self.known) for _ in range(width)]
            for k in ending:
                for lane, known in enumerate(values):
                    self._add(k, states[k], known, lane)
            if stores or scatters:
                self._write(stores, scatters, values)
            self.loaded = {}

    def _write(self, stores: Sequence[Store], scatters: Sequence[Scatter], values: list[dict[int, Value]]) -> None:
        """Store what one run through the loop computes, if the thread has a point of its own."""
        if self.active == "true":
            self._store_all(stores, values)
            for add in scatters:
                self._scatter(add, values[0])
            return
        for store in stores:  # loads are better done by all
            for lane, known in enumerate(values):
                self.compute(store.node, known, lane)
        with self.writer.block(f"if ({self.active})"):
            self._store_all(stores, values)
            for add in scatters:
                self._scatter(add, values[0])

    def _add(self, fold: int, state: Sequence[str], known: dict[int, Value], lane: int) -> None:
        """Add an element to a fold."""
        one = self.accumulators[fold]
        x = self.compute(self.nest.arguments_of(fold)[0], known, lane)
        before = [Value(self.writer, name, dtype) for name, dtype in zip(state, one.state, strict=True)]
        along = self.coordinates[self.folds[-1]] if self.folds else "0"
        position = Value(self.writer, f"((long long){along} + {lane})", INT64)
        for name, value in zip(state, one.add(before, x, position), strict=True):
            self.writer.write(f"{name} = {value.text};")

    def _variable(self, value: Value) -> str:
        """A variable that starts with a value."""
        name = self.writer.fresh("s")
        self.writer.write(f"{value_type(value.dtype)} {name} = {value.text};")
        return name

    # -- merging what the lanes have folded --------------------------------------------------------------------------

    def _merge(self, ending: Sequence[int]) -> None:
        """Merge the states of a point's lanes; the results are known to all of them."""
        if not ending:
            return
        points, lanes = self.arrangement.points, self.arrangement.lanes
        near = min(lanes, max(1, WARP // points)) if self.columns else min(lanes, WARP)
        step = points if self.columns else 1
        for distance in (step << k for k in range(near.bit_length() - 1)):
            for k in ending:
                self._merge_with(k, [f"__shfl_xor_sync(0xffffffffu, {name}, {distance})" for name in self.states[k]])
        pending: list[int] = []
        for k in ending:
            if len([name for one in (*pending, k) for name in self.states[one]]) > SCRATCH_STATES:
                self._merge_warps(pending, lanes // near)
                pending = []
            pending.append(k)
        self._merge_warps(pending, lanes // near)
        for k in ending:
            one = self.accumulators[k]
            state = [Value(self.writer, name, dtype) for name, dtype in zip(self.states[k], one.state, strict=True)]
            self.known[k] = one.result(state, self.nest.dtype_of(k))

    def _merge_with(self, fold: int, others: Sequence[str]) -> None:
        """Merge the state of a fold with another lane's."""
        one = self.accumulators[fold]
        mine = [Value(self.writer, name, dtype) for name, dtype in zip(self.states[fold], one.state, strict=True)]
        theirs = [self.writer.value(text, dtype) for text, dtype in zip(others, one.state, strict=True)]
        for name, value in zip(self.states[fold], one.merge(mine, theirs), strict=True):
            self.writer.write(f"{name} = {value.text};")

    def _merge_warps(self, ending: Sequence[int], count: int) -> None:
        """Merge the states of so many groups of lanes by way of shared memory, the same order for all."""
        if count == 1 or not ending:
            return
        points = self.arrangement.points
        names = [(name, dtype) for k in ending for name, dtype in zip(self.states[k], self.accumulators[k].state, strict=True)]
        slots = {
            name: f"(({value_type(dtype)}*)(scratch + {8 * THREADS * place}))" for place, (name, dtype) in enumerate(names)
        }
        if self.columns:
            stride, group = points, f"{self.thread} / {max(points, WARP)}"
            own = f"({group}) * {points} + {self.mine}"
            first, speaks = self.mine, f"{self.thread} % {max(points, WARP)} < {points}"
        else:
            stride, own = 1, f"{self.thread} / {WARP}"
            first, speaks = f"{self.mine} * {count}", f"{self.thread} % {WARP} == 0"
        self.writer.write("__syncthreads();")
        with self.writer.block(f"if ({speaks})"):
            for name, _ in names:
                self.writer.write(f"{slots[name]}[{own}] = {name};")
        self.writer.write("__syncthreads();")
        for name, _ in names:
            self.writer.write(f"{name} = {slots[name]}[{first}];")
        for other in range(1, count):
            for k in ending:
                self._merge_with(k, [f"{slots[name]}[{first} + {other * stride}]" for name in self.states[k]])

    @property
    def scratch_bytes(self) -> int:
        """How much shared memory the function works in."""
        return 8 * THREADS * min(sum(len(one.state) for one in self.accumulators.values()), SCRATCH_STATES)


def launch_text(name: str, calls: Sequence[tuple[str, int, Sequence[str]]], scratch: int) -> str:
    """A kernel that runs several nests side by side: of each its function, its blocks, and its parameters."""
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
