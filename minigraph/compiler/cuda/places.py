"""The places of the elements of a nest's operands, and loads and stores of them, as CUDA C++."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.compiler.cuda.launch_geometry import THREADS, VECTOR_BYTES, Arrangement, volume
from minigraph.compiler.cuda.scalar_printer import CUDA_SCALARS, CudaWriter, memory_type
from minigraph.compiler.loops.nest import Bindings, Gather, LoopNest, Scatter
from minigraph.compiler.loops.nest_writer import Known, NestWriter
from minigraph.compiler.scalar.scalar import INT64, DType, Value


class PlaceWriter(NestWriter):
    """Writes the places and elements of a nest."""

    scalars = CUDA_SCALARS

    def __init__(self, nest: LoopNest, bindings: Bindings, offsets: Sequence[int], arrangement: Arrangement) -> None:
        """bindings: the numbers of the nest; offsets: where operands in no memory begin to count; arrangement: its spread."""
        super().__init__(nest)
        self.bindings, self.offsets, self.arrangement = bindings, offsets, arrangement
        self.writer: CudaWriter = CudaWriter()
        self.points, self.extent = (volume(bindings, nest, folded) for folded in (False, True))
        self.coordinates: dict[int, str] = {}
        picking = [one for one in (*nest.nodes, *nest.scatters) if isinstance(one, Gather | Scatter)]
        starts = np.cumsum([0, *(len(one.indices) for one in picking)])
        self._picks = {
            one: bindings.picks[start : start + len(one.indices)] for one, start in zip(picking, starts, strict=False)
        }
        self.loaded: dict[int, str] = {}
        """The vectors that the elements of a thread read together, and the single elements that all of them share."""

    # -- places ------------------------------------------------------------------------------------------------------

    @property
    def index_type(self) -> str:
        """An integer type that holds every position."""
        reach = [math.prod(self.bindings.sizes), THREADS * self.arrangement.blocks * self.arrangement.width]
        for strides in self.bindings.strides:
            reach.append(sum(abs(stride) * size for stride, size in zip(strides, self.bindings.sizes, strict=True)))
        return "int" if max(reach) < 2**31 - THREADS * VECTOR_BYTES else "long long"

    def position(self, operand: int, lane: int = 0) -> str:
        """The position of the element of an operand at the current coordinates, and a lane further."""
        terms = []
        for axis, stride in enumerate(self.bindings.strides[operand]):
            if stride and self.bindings.sizes[axis] > 1:
                terms.append(self.coordinates[axis] if stride == 1 else f"{self.coordinates[axis]} * {stride}")
        if lane and self.bindings.strides[operand][-1]:
            terms.append(str(lane * self.bindings.strides[operand][-1]))
        return " + ".join(terms) or "0"

    def place(self, operand: int, lane: int) -> str:
        return f"p{operand}[{self.position(operand, lane)}]"

    def further(self, operand: int, place: str, count: Value, stride: Any) -> str:
        return f"{place[:-1]} + {count.text} * {stride}]"

    def picks_of(self, user: Gather | Scatter) -> Sequence[tuple[Any, Any]]:
        return self._picks[user]

    def split(self, flat: str, axes: Sequence[int]) -> None:
        """Name the coordinates along axes that a flat position, in C order, stands for."""
        for axis in reversed(axes):
            size = self.bindings.sizes[axis]
            last = axis == axes[0]
            self.coordinates[axis] = flat if last else self.writer.let(self.index_type, f"{flat} % {size}")
            flat = flat if last else self.writer.let(self.index_type, f"{flat} / {size}")

    def parameters(self) -> list[str]:
        """The declarations of the operands that are in memory."""
        stored = {*(one.operand for one in self.nest.stores), *(one.operand for one in self.nest.scatters)}
        return [
            f"{'' if k in stored else 'const '}{memory_type(one.dtype)}* __restrict__ p{k}"
            for k, one in enumerate(self.nest.operands)
            if one.in_memory
        ]

    # -- values ------------------------------------------------------------------------------------------------------

    def element(self, place: str, dtype: DType) -> Value:
        if dtype.kind == "b":
            place += " != 0"
        elif dtype.kind == "f" and dtype.itemsize == 2:
            place = f"half_value({place})"
        return self.writer.value(place, dtype)

    def in_memory(self, value: Value) -> str:
        """A value as the element that memory holds."""
        if value.dtype.kind == "f" and value.dtype.itemsize == 2:
            return f"half_bits({value.text})"
        return value.text

    def put(self, value: Value, place: str) -> None:
        self.writer.write(f"{place} = {self.in_memory(value)};")

    def note(self, failure: Value) -> None:
        self.writer.write(f"if ({failure.text}) *failed = 1;")

    def require(self, condition: Value) -> None:
        self.writer.write(f"if (!{condition.text}) *failed = 1;")

    def load(self, operand: int, lane: int) -> Value:
        access, width = self.nest.operands[operand], self.arrangement.width
        if not access.in_memory:
            return self.writer.value(f"(long long)({self.position(operand, lane)}) + {self.offsets[operand]}ll", INT64)
        place = self.place(operand, 0)
        if width == 1:
            return self.element(place, access.dtype)
        walks = self.bindings.strides[operand][-1] == 1
        if operand not in self.loaded:
            kind = f"Pack<{memory_type(access.dtype)}, {width}>" if walks else memory_type(access.dtype)
            self.loaded[operand] = self.writer.let(kind, f"*(const {kind}*)&{place}" if walks else place)
        return self.element(self.loaded[operand] + (f".at[{lane}]" if walks else ""), access.dtype)

    def apply(self, lane: int, node: int, arguments: list[Value]) -> Value:
        """The value of a node in a lane from those of its arguments; a gather from nothing fails."""
        what = self.nest.nodes[node]
        if isinstance(what, Gather) and self._is_empty(what):
            self.writer.write("*failed = 1;")
            return self.writer.constant(0, what.dtype)
        return super().apply(lane, node, arguments)

    def scatter(self, add: Scatter, known: Known) -> None:
        """Write, or add, an element where indices pick; one to nothing fails."""
        if self._is_empty(add):
            self.writer.write("*failed = 1;")
        else:
            super().scatter(add, known)

    def _is_empty(self, user: Gather | Scatter) -> bool:
        """Whether there is nothing that indices could pick, and no memory either."""
        return any(size == 0 for size, _ in self._picks[user])
