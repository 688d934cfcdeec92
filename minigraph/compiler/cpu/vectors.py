"""Vectors that fill a register, as LLVM IR."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from minigraph.compiler.cpu.scalar_printer import LLVMWriter, llvm_type
from minigraph.compiler.scalar.scalar import DType

REGISTER_BYTES = 64


class Vectors(LLVMWriter):
    """The text of a function on vectors of one dtype that fill a register of `size` bytes."""

    def __init__(self, dtype: DType, size: int = REGISTER_BYTES) -> None:
        super().__init__()
        self.item = dtype.itemsize
        self.lanes = size // dtype.itemsize
        self.scalar = llvm_type(dtype)
        self.vector, self.mask = f"<{self.lanes} x {self.scalar}>", f"<{self.lanes} x i1>"
        self.whole = f"<{', '.join(['i1 true'] * self.lanes)}>"
        """The mask that is set everywhere."""
        self.is_float = dtype.kind == "f"
        self.suffix = f"v{self.lanes}{'f' if self.is_float else 'i'}{8 * dtype.itemsize}"

    def intrinsics(self) -> Iterator[str]:
        """The declarations of what the functions call."""
        if self.is_float:
            yield f"declare {self.vector} @llvm.fmuladd.{self.suffix}({self.vector}, {self.vector}, {self.vector})"
        yield f"declare {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr, i32, {self.mask}, {self.vector})"
        yield f"declare void @llvm.masked.store.{self.suffix}.p0({self.vector}, ptr, i32, {self.mask})"
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
        if mask == self.whole:
            return self.let(f"load {self.vector}, ptr {place}, align {self.item}")
        return self.let(
            f"call {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr {place}, i32 {self.item}, {self.mask} {mask}, "
            f"{self.vector} zeroinitializer)"
        )

    def store(self, value: str, place: str, mask: str) -> None:
        """Write the elements of `value` to a place where a mask is set."""
        if mask == self.whole:
            self.write(f"store {self.vector} {value}, ptr {place}, align {self.item}")
            return
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

    def first(self, count: str | int, offset: int = 0) -> str:
        """The mask of the lanes, which stand for elements from `offset` on, that come before the element `count`."""
        if isinstance(count, int) and offset + self.lanes <= count:
            return self.whole
        numbers = ", ".join(f"i64 {offset + k}" for k in range(self.lanes))
        return self.let(f"icmp slt <{self.lanes} x i64> <{numbers}>, {self.spread(str(count), 'i64')}")

    def only_if(self, condition: str, mask: str) -> str:
        """A mask, or one that is nowhere set."""
        return self.let(f"select i1 {condition}, {self.mask} {mask}, {self.mask} zeroinitializer")

    def entry(self, table: str, number: str) -> str:
        """The place of an entry of a table of integers."""
        return self.let(f"getelementptr i64, ptr {table}, i64 {number}")

    def element_at(self, start: str, entry: str) -> str:
        """The place that an entry of a table says, counted from another place."""
        return self.at(start, self.let(f"load i64, ptr {entry}, align 8"))

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
