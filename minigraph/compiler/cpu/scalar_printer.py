"""Scalar values written as LLVM IR."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigraph.compiler.cpu.beyond import variants
from minigraph.compiler.scalar.scalar import BOOL, FLOAT32, FLOAT64, INT32, DType, Value, Writer


def llvm_type(dtype: DType) -> str:
    """The LLVM type of one value of a dtype."""
    if dtype.kind == "f":
        return {2: "half", 4: "float", 8: "double"}[dtype.itemsize]
    return "i1" if dtype.kind == "b" else f"i{8 * dtype.itemsize}"


def literal(value: Any, dtype: DType) -> str:
    """A number as LLVM writes it."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind == "i" or dtype.kind == "u":
        return str(int(np.array(value).astype(dtype)))
    with np.errstate(all="ignore"):
        rounded = np.array(value).astype(dtype)
    if dtype.itemsize == 2:
        return f"0xH{int(rounded.view(np.uint16)):04X}"
    return "0x" + struct.pack(">d", float(rounded)).hex().upper()


class Carried:
    """The values that a loop with a `counter` carries: `at`, in its body, and once that has set `next`, `last` after it."""

    def __init__(self, counter: str, at: list[str], last: list[str]) -> None:
        self.counter, self.at, self.last = counter, at, last
        self.next = list(at)


class LLVMWriter(Writer):
    """LLVM IR that is being written, and what it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.declarations: dict[str, None] = {}
        self.interleaved = 0
        """The number of vectors that loops from here on work on at a time; 0 if LLVM is to choose it."""

    def write(self, line: str) -> None:
        """Append one instruction without a result."""
        self.lines.append("  " + line)

    def label(self, name: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{name}:")

    def let(self, instruction: str) -> str:
        """Append one instruction, and name its result."""
        name = "%" + self.fresh()
        self.lines.append(f"  {name} = {instruction}")
        return name

    def integer(self, instruction: str, a: str | int, b: str | int) -> str:
        """The result of an instruction on two integers `a` and `b` of 64 bits."""
        return self.let(f"{instruction} i64 {a}, {b}")

    def least(self, a: str | int, b: str | int) -> str:
        """The smaller of two integers of 64 bits."""
        self.declarations["declare i64 @llvm.smin.i64(i64, i64)"] = None
        return self.let(f"call i64 @llvm.smin.i64(i64 {a}, i64 {b})")

    def shuffled(self, type: str, a: str, b: str, lanes: Sequence[int]) -> str:
        """A vector of these `lanes` of `a` and `b`, vectors of as many elements of a type, counted on from one to the other."""
        mask = ", ".join(f"i32 {lane}" for lane in lanes)
        kind = f"<{len(lanes)} x {type}>"
        return self.let(f"shufflevector {kind} {a}, {kind} {b}, <{len(lanes)} x i32> <{mask}>")

    def transposed(self, type: str, rows: Sequence[str]) -> list[str]:
        """The columns of a square block, given as vectors: halves of its halves change places, down to single elements."""
        square, side = list(rows), len(rows)
        distance = side // 2
        while distance:
            low = [lane if not lane & distance else side + lane - distance for lane in range(side)]
            high = [lane + distance if not lane & distance else side + lane for lane in range(side)]
            for k in [k for k in range(side) if not k & distance]:
                a, b = square[k], square[k + distance]
                square[k], square[k + distance] = (self.shuffled(type, a, b, lanes) for lanes in (low, high))
            distance //= 2
        return square

    @contextmanager
    def loop(self, start: str, stop: str, step: str = "1") -> Iterator[str]:
        """A loop that counts from `start` to before `stop` by `step`; yields its counter."""
        name = self.fresh("loop")
        counter, following = f"%{name}.i", f"%{name}.next"
        self.write(f"br label %{name}.before")
        self.label(f"{name}.before")
        self.write(f"%{name}.enter = icmp slt i64 {start}, {stop}")
        self.write(f"br i1 %{name}.enter, label %{name}.body, label %{name}.after")
        self.label(f"{name}.body")
        self.write(f"{counter} = phi i64 [ {start}, %{name}.before ], [ {following}, %{name}.latch ]")
        yield counter
        self.write(f"br label %{name}.latch")
        self.label(f"{name}.latch")
        self.write(f"{following} = add nsw i64 {counter}, {step}")
        self.write(f"%{name}.again = icmp slt i64 {following}, {stop}")
        hint = f", !llvm.loop !interleave{self.interleaved}" if self.interleaved else ""
        self.write(f"br i1 %{name}.again, label %{name}.body, label %{name}.after{hint}")
        self.label(f"{name}.after")

    @contextmanager
    def carrying(self, start: str, stop: str, step: str, *carried: tuple[str, str]) -> Iterator[Carried]:
        """A loop from `start` to before `stop` by `step` that carries values.

        carried: for each the type, and the value that it begins with.
        """
        with self.loop(start, stop, step) as counter:
            name = counter[1:-2]
            values = Carried(counter, *([f"%{name}.{part}{k}" for k in range(len(carried))] for part in ("at", "last")))
            heads = len(self.lines)
            self.lines += [""] * len(carried)
            yield values
        for k, ((kind, initial), at, last) in enumerate(zip(carried, values.at, values.last, strict=True)):
            phi = f"phi {kind} [ {initial}, %{name}.before ], [ {values.next[k]}, %{name}.latch ]"
            self.lines[heads + k] = f"  {at} = {phi}"
            self.write(f"{last} = {phi}")

    # -- values ------------------------------------------------------------------------------------------------------

    def value(self, instruction: str, dtype: DType) -> Value:
        """Append one instruction whose result has a dtype."""
        return Value(self, self.let(instruction), dtype)

    def constant(self, value: Any, dtype: DType) -> Value:
        return Value(self, literal(value, dtype), dtype)

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        return self.value(f"{instruction} {llvm_type(a.dtype)} {a.text}, {b.text}", a.dtype)

    def quotient(self, a: Value, b: Value, given: Value) -> Value:
        """`a` / `b`: by multiplication if `given` is a number, otherwise as floats: vectors of integers are not divided."""
        if not given.text.startswith("%") or a.dtype.itemsize > INT32.itemsize:
            return super().quotient(a, b, given)
        wide = FLOAT64 if a.dtype.itemsize == INT32.itemsize else FLOAT32
        exact = self.binary("fdiv", self.conversion(a, wide), self.conversion(b, wide))
        whole = INT32 if wide == FLOAT32 else a.dtype
        name = "fptoui" if whole.kind == "u" else "fptosi"
        return self.conversion(self.value(f"{name} {llvm_type(wide)} {exact.text} to {llvm_type(whole)}", whole), a.dtype)

    def negative(self, x: Value) -> Value:
        return self.value(f"fneg {llvm_type(x.dtype)} {x.text}", x.dtype)

    def comparison(self, predicate: str, a: Value, b: Value) -> Value:
        kind = llvm_type(a.dtype)
        if a.dtype.kind == "f":
            condition = ("u" if predicate == "ne" else "o") + predicate
            return self.value(f"fcmp {condition} {kind} {a.text}, {b.text}", BOOL)
        if {a.dtype.kind, b.dtype.kind} == {"i", "u"}:
            return self._compare_signs(predicate, a, b)
        order = "" if predicate in ("eq", "ne") else "s" if a.dtype.kind == "i" else "u"
        return self.value(f"icmp {order}{predicate} {kind} {a.text}, {b.text}", BOOL)

    def _compare_signs(self, predicate: str, a: Value, b: Value) -> Value:
        """The comparison of a signed with an unsigned integer: of 128 bits, which hold both."""
        wide = [
            self.let(f"{'sext' if one.dtype.kind == 'i' else 'zext'} {llvm_type(one.dtype)} {one.text} to i128")
            for one in (a, b)
        ]
        order = "" if predicate in ("eq", "ne") else "s"
        return self.value(f"icmp {order}{predicate} i128 {wide[0]}, {wide[1]}", BOOL)

    def bits(self, x: Value, dtype: DType) -> Value:
        if llvm_type(dtype) == llvm_type(x.dtype):
            return Value(self, x.text, dtype)
        return self.value(f"bitcast {llvm_type(x.dtype)} {x.text} to {llvm_type(dtype)}", dtype)

    def conversion(self, x: Value, dtype: DType) -> Value:
        source = x.dtype.kind
        if source == "f" and dtype.kind == "f":
            name = "fpext" if dtype.itemsize > x.dtype.itemsize else "fptrunc"
        elif source == "f":
            name = "fptosi"
        elif dtype.kind == "f":
            name = "sitofp" if source == "i" else "uitofp"
        elif dtype.itemsize == x.dtype.itemsize and source != "b":
            return Value(self, x.text, dtype)
        elif dtype.itemsize < x.dtype.itemsize:
            name = "trunc"
        else:
            name = "sext" if source == "i" else "zext"
        return self.value(f"{name} {llvm_type(x.dtype)} {x.text} to {llvm_type(dtype)}", dtype)

    def choice(self, condition: Value, a: Value, b: Value) -> Value:
        first, second = (f"{llvm_type(one.dtype)} {one.text}" for one in (a, b))
        return self.value(f"select i1 {condition.text}, {first}, {second}", a.dtype)

    def intrinsic(self, name: str, *operands: Value) -> Value:
        dtype = operands[0].dtype
        return self._call(f"llvm.{name}.{'f' if dtype.kind == 'f' else 'i'}{8 * dtype.itemsize}", *operands)

    def beyond(self, limit: float, name: str, x: Value, result: Value) -> Value:
        size = f"f{8 * x.dtype.itemsize}"
        return self._call(
            f"beyond.{name}.{size}", x, result, self.constant(limit, x.dtype), attribute=" " + variants(name, size)
        )

    def _call(self, function: str, *operands: Value, attribute: str = "") -> Value:
        """Call a function of values of one dtype, which is its result's, too, with an attribute."""
        dtype = operands[0].dtype
        kind = llvm_type(dtype)
        self.declarations[f"declare {kind} @{function}({', '.join([kind] * len(operands))})"] = None
        given = ", ".join(f"{kind} {one.text}" for one in operands)
        return self.value(f"call {kind} @{function}({given}){attribute}", dtype)
