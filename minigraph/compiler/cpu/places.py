"""The addresses of the elements of a nest's operands, and loads and stores of them, as LLVM IR.

Operands are pointers, which follow along the axes; sizes, strides and picks are words that the kernel is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minigraph.compiler.cpu.scalar_printer import LLVMWriter, llvm_type
from minigraph.compiler.loops.nest import Gather, LoopNest, Scatter
from minigraph.compiler.loops.nest_writer import NestWriter
from minigraph.compiler.scalar.namespace import SCALARS
from minigraph.compiler.scalar.scalar import INT64, DType, Value


def memory_type(dtype: DType) -> str:
    """The LLVM type of an element in memory, where a boolean takes a byte."""
    return "i8" if dtype.kind == "b" else llvm_type(dtype)


class PlaceWriter(NestWriter):
    """Writes the places and elements of a nest."""

    scalars = SCALARS

    def __init__(self, nest: LoopNest) -> None:
        super().__init__(nest)
        self.writer: LLVMWriter = LLVMWriter()
        self.axes = len(nest.folded)
        self.places: list[str] = [f"%p{k}" for k in range(len(nest.operands))]
        self.index: dict[int, str] = {}
        """The counters of the loops that are being written, by their axes."""
        self.words = 2 * len(nest.operands) + self.axes * (1 + len(nest.operands))
        """The number of words that the kernel is given."""
        self._part = ("", "")
        """The bounds of the part of the shared axis that the current point of the first axis goes along."""
        self._pick_of: dict[Gather | Scatter, int] = {}
        for user in (*nest.nodes, *nest.scatters):
            if isinstance(user, Gather | Scatter):
                self._pick_of[user] = self.words
                self.words += 2 * len(user.indices)

    def share(self) -> None:
        """Settle the part of the shared axis, if there is one."""
        if self.nest.shared is not None:
            count, size, position = self.size(0), self.size(self.nest.shared), self.index[0]
            following = self.writer.integer("add nsw", position, 1)
            start, stop = (self.writer.integer("mul nsw", size, one) for one in (position, following))
            self._part = self.writer.integer("sdiv", start, count), self.writer.integer("sdiv", stop, count)

    def bounds(self, axis: int) -> tuple[str, str]:
        """The bounds of the loop along an axis."""
        return self._part if axis == self.nest.shared else ("0", self.size(axis))

    @contextmanager
    def along(self, axis: int, start: str, stop: str) -> Iterator[None]:
        """A loop along one axis, from `start` to `stop`, within which the places of the operands follow."""
        with self.writer.loop(start, stop) as counter, self.moved_along(axis, counter):
            self.index[axis] = counter
            yield

    def at_each(self, axis: int, body: Callable[[], None]) -> None:
        """The code of a body for each point of an axis: in a loop, or one after the other."""
        if not self.nest.written_out or not self.nest.written_out[axis]:
            with self.along(axis, *self.bounds(axis)):
                body()
            return
        for count in map(str, range(self.nest.written_out[axis])):
            with self.moved_along(axis, count):
                self.index[axis] = count
                body()

    @contextmanager
    def moved_along(self, axis: int, count: str) -> Iterator[None]:
        """The places of all operands `count` steps along an axis."""
        before = self.places
        self.places = [self._moved(k, axis, count) for k in range(len(before))]
        yield
        self.places = before

    def _moved(self, operand: int, axis: int, count: str) -> str:
        """The place of an operand `count` steps along an axis."""
        access, place = self.nest.operands[operand], self.places[operand]
        stride = access.strides[axis]
        if stride == 0 or count == "0":
            return place
        distance = count if stride == 1 else self.writer.let(f"mul nsw i64 {count}, {self.stride(operand, axis)}")
        if not access.in_memory:
            return self.writer.let(f"add nsw i64 {place}, {distance}")
        return self.writer.let(f"getelementptr inbounds {memory_type(access.dtype)}, ptr {place}, i64 {distance}")

    def size(self, axis: int) -> str:
        """The size of an axis."""
        return f"%size{axis}"

    def stride(self, operand: int, axis: int) -> str:
        """The stride of an operand along an axis, in elements."""
        known = self.nest.operands[operand].strides[axis]
        return f"%word{2 * len(self.nest.operands) + self.axes * (1 + operand) + axis}" if known < 0 else str(known)

    def load(self, operand: int, lane: int) -> Value:
        access, place = self.nest.operands[operand], self.places[operand]
        return self.element(place, access.dtype) if access.in_memory else Value(self.writer, place, INT64)

    def element(self, place: str, dtype: DType) -> Value:
        text = self.writer.let(f"load {memory_type(dtype)}, ptr {place}, align {dtype.itemsize}")
        return Value(self.writer, self.writer.let(f"icmp ne i8 {text}, 0") if dtype.kind == "b" else text, dtype)

    def put(self, value: Value, place: str) -> None:
        text = self.writer.let(f"zext i1 {value.text} to i8") if value.dtype.kind == "b" else value.text
        self.writer.write(f"store {memory_type(value.dtype)} {text}, ptr {place}, align {value.dtype.itemsize}")

    def place(self, operand: int, lane: int) -> str:
        return self.places[operand]

    def picks_of(self, user: Gather | Scatter) -> Sequence[tuple[Any, Any]]:
        first = self._pick_of[user]
        positions = range(first, first + 2 * len(user.indices), 2)
        return [(Value(self.writer, f"%word{k}", INT64), f"%word{k + 1}") for k in positions]

    def further(self, operand: int, place: str, count: Value, stride: Any) -> str:
        distance = self.writer.let(f"mul nsw i64 {count.text}, {stride}")
        return self.writer.let(f"getelementptr {memory_type(self.nest.operands[operand].dtype)}, ptr {place}, i64 {distance}")

    def note(self, failure: Value) -> None:
        noted = self.writer.let("load i32, ptr %failed, align 4")
        flag = self.writer.let(f"zext i1 {failure.text} to i32")
        self.writer.write(f"store i32 {self.writer.let(f'or i32 {noted}, {flag}')}, ptr %failed, align 4")
