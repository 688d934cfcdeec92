"""Vectors that fill a register, as LLVM IR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from minigraph.compiler.cpu.scalar_printer import LLVMWriter, llvm_type
from minigraph.compiler.scalar.scalar import DType

REGISTER_BYTES = 64


class Vectors(LLVMWriter):
    """The text of a function on vectors of one dtype that fill a register of some bytes."""

    def __init__(self, dtype: DType, register: int = REGISTER_BYTES) -> None:
        super().__init__()
        self.item = dtype.itemsize
        self.lanes = register // dtype.itemsize
        self.scalar = llvm_type(dtype)
        self.vector, self.mask = f"<{self.lanes} x {self.scalar}>", f"<{self.lanes} x i1>"
        self.is_float = dtype.kind == "f"
        self.suffix = f"v{self.lanes}{'f' if self.is_float else 'i'}{8 * dtype.itemsize}"

    def intrinsics(self) -> Iterator[str]:
        """The declarations of what the functions call."""
        if self.is_float:
            yield f"declare {self.vector} @llvm.fmuladd.{self.suffix}({self.vector}, {self.vector}, {self.vector})"
        yield f"declare {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr, i32, {self.mask}, {self.vector})"
        yield f"declare void @llvm.masked.store.{self.suffix}.p0({self.vector}, ptr, i32, {self.mask})"
        pointers = f"<{self.lanes} x ptr>"
        gather = f"@llvm.masked.gather.{self.suffix}.v{self.lanes}p0"
        yield f"declare {self.vector} {gather}({pointers}, i32, {self.mask}, {self.vector})"
        yield "declare i64 @llvm.smin.i64(i64, i64)"

    def sum(self, a: str, b: str) -> str:
        """The sum of two vectors."""
        return self.let(f"{'fadd' if self.is_float else 'add'} {self.vector} {a}, {b}")

    def write_sum_with_product(self, name: str, a: str, b: str, c: str) -> None:
        """Give a name to a * b + c, rounded once if the processor has an instruction for it; integers wrap around."""
        if self.is_float:
            terms = f"{self.vector} {a}, {self.vector} {b}, {self.vector} {c}"
            self.write(f"{name} = call {self.vector} @llvm.fmuladd.{self.suffix}({terms})")
        else:
            self.write(f"{name} = add {self.vector} {self.let(f'mul {self.vector} {a}, {b}')}, {c}")

    def load(self, place: str, mask: str) -> str:
        """The elements at a place where a mask is set, 0 elsewhere."""
        return self.let(
            f"call {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr {place}, i32 {self.item}, {self.mask} {mask}, "
            f"{self.vector} zeroinitializer)"
        )

    def store(self, value: str, place: str, mask: str) -> None:
        """Write the elements of `value` to a place where a mask is set."""
        self.write(
            f"call void @llvm.masked.store.{self.suffix}.p0({self.vector} {value}, ptr {place}, i32 {self.item}, "
            f"{self.mask} {mask})"
        )

    def at(self, place: str, count: str | int) -> str:
        """The place `count` elements further."""
        return self.let(f"getelementptr {self.scalar}, ptr {place}, i64 {count}")

    def spread(self, value: str, type: str) -> str:
        """A vector of one value, of a scalar type."""
        vector = f"<{self.lanes} x {type}>"
        one = self.let(f"insertelement {vector} poison, {type} {value}, i64 0")
        return self.let(f"shufflevector {vector} {one}, {vector} poison, <{self.lanes} x i32> zeroinitializer")

    def first(self, count: str, offset: int = 0) -> str:
        """The mask of the lanes, which stand for elements from `offset` on, that come before the element `count`."""
        numbers = ", ".join(f"i64 {offset + k}" for k in range(self.lanes))
        return self.let(f"icmp slt <{self.lanes} x i64> <{numbers}>, {self.spread(count, 'i64')}")

    def only_if(self, condition: str, mask: str) -> str:
        """A mask, or one that is nowhere set."""
        return self.let(f"select i1 {condition}, {self.mask} {mask}, {self.mask} zeroinitializer")

    def entry(self, table: str, number: str) -> str:
        """The place of an entry of a table of integers."""
        return self.let(f"getelementptr i64, ptr {table}, i64 {number}")

    def word(self, place: str) -> str:
        """The integer at a place."""
        return self.let(f"load i64, ptr {place}, align 8")

    def element_at(self, start: str, entry: str) -> str:
        """The place that an entry of a table says, counted from another place."""
        return self.at(start, self.integer("ashr", entry, 1))

    def gather(self, starts: Sequence[str], table: str, mask: str) -> list[str]:
        """For each of `starts` the elements that lie, where a mask is set, as a table says, counted from the start."""
        name = self.fresh("gather")
        first = self.word(table)
        self.write(f"br i1 {self.let(f'trunc i64 {first} to i1')}, label %{name}.even, label %{name}.odd")
        self.label(f"{name}.even")
        together = [self.load(self.element_at(start, first), mask) for start in starts]
        self.write(f"br label %{name}.after")
        self.label(f"{name}.odd")
        vector = f"<{self.lanes} x i64>"
        offsets = self.let(f"ashr {vector} {self.let(f'load {vector}, ptr {table}, align 8')}, {self.spread('1', 'i64')}")
        apart = []
        for start in starts:
            places = self.let(f"getelementptr {self.scalar}, ptr {start}, {vector} {offsets}")
            given = f"<{self.lanes} x ptr> {places}, i32 {self.item}, {self.mask} {mask}, {self.vector} zeroinitializer"
            apart.append(self.let(f"call {self.vector} @llvm.masked.gather.{self.suffix}.v{self.lanes}p0({given})"))
        self.write(f"br label %{name}.after")
        self.label(f"{name}.after")
        return [
            self.let(f"phi {self.vector} [ {one}, %{name}.even ], [ {other}, %{name}.odd ]")
            for one, other in zip(together, apart, strict=True)
        ]

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """A block of code that runs only if a condition holds."""
        name = self.fresh("when")
        self.write(f"br i1 {condition}, label %{name}.yes, label %{name}.after")
        self.label(f"{name}.yes")
        yield
        self.write(f"br label %{name}.after")
        self.label(f"{name}.after")

    def run(self, function: str, parameters: str, *arguments: str) -> None:
        """Call a function of this module, with `arguments` for its `parameters`."""
        types = [one.split()[0] for one in parameters.split(", ")]
        given = ", ".join(f"{type} {one}" for type, one in zip(types, arguments, strict=True))
        self.write(f"call void @{function}({given})")

    def function(self, name: str, parameters: str) -> str:
        """The whole function."""
        return "\n".join([f"define internal void @{name}({parameters}) #0 {{", "entry:", *self.lines, "  ret void", "}"])
