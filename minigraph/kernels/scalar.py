"""The scalar namespace: what NumPy is to arrays, for single values inside a loop, written down as LLVM IR.

An elementwise op's own `forward` runs on these values: with `xp` this namespace, its operators and functions write the
instructions that compute one element. Dtypes, promotion of Python numbers, and results at the edges (overflow, division by 0,
shifts that are too wide, NaN) are NumPy's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

DType = np.dtype[Any]

BOOL, INT64, UINT64 = np.dtype("bool"), np.dtype("int64"), np.dtype("uint64")
FLOAT16, FLOAT32, FLOAT64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")


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


class Writer:
    """The text of a function that is being written, with fresh names for its values, and what it calls."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.contracts = False
        """Whether a product and a sum may be rounded together: within one op they may, lest x * x - x * x be no 0."""
        self.declarations: dict[str, None] = {}
        self._count = 0

    def fresh(self, stem: str = "v") -> str:
        """A name that was not used before."""
        self._count += 1
        return f"{stem}{self._count}"

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
        """The result of an instruction on two integers of 64 bits."""
        return self.let(f"{instruction} i64 {a}, {b}")

    @contextmanager
    def loop(self, start: str, stop: str, step: str = "1") -> Iterator[str]:
        """A counted loop; yields its counter."""
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
        self.write(f"br i1 %{name}.again, label %{name}.body, label %{name}.after")
        self.label(f"{name}.after")

    def value(self, instruction: str, dtype: DType) -> Value:
        """Append one instruction whose result has a dtype."""
        return Value(self, self.let(instruction), dtype)

    def constant(self, value: Any, dtype: DType) -> Value:
        """A number."""
        return Value(self, literal(value, dtype), dtype)

    def call(self, function: str, result: DType, *arguments: Value) -> Value:
        """Call an intrinsic, or a function of the C library."""
        types = ", ".join(llvm_type(one.dtype) for one in arguments)
        self.declarations[f"declare {llvm_type(result)} @{function}({types})"] = None
        given = ", ".join(f"{llvm_type(one.dtype)} {one.text}" for one in arguments)
        return self.value(f"call {llvm_type(result)} @{function}({given})", result)


class Value:
    """One value of a dtype, with Python's operators; a Python number that it meets takes its dtype."""

    __slots__ = ("dtype", "text", "writer")

    def __init__(self, writer: Writer, text: str, dtype: DType) -> None:
        self.writer, self.text, self.dtype = writer, text, dtype

    @property
    def type(self) -> str:
        """Its LLVM type."""
        return llvm_type(self.dtype)

    def like(self, other: Any) -> Value:
        """A number as a value of this one's dtype."""
        return other if isinstance(other, Value) else self.writer.constant(other, self.dtype)

    def instruction(self, name: str, other: Any) -> Value:
        """The result of an instruction on this value and another, of the same dtype."""
        return self.writer.value(f"{name} {self.type} {self.text}, {self.like(other).text}", self.dtype)

    def by_kind(self, other: Any, boolean: str, integer: str, floating: str) -> Value:
        """The result of the instruction that the dtype asks for."""
        together = " contract" if self.writer.contracts else ""
        return self.instruction({"b": boolean, "f": floating + together}.get(self.dtype.kind, integer), other)

    def compare(self, predicate: str, other: Any) -> Value:
        """A comparison: eq, ne, lt, le, gt or ge; false for NaN, but for ne."""
        right = self.like(other)
        if self.dtype.kind == "f":
            condition = ("u" if predicate == "ne" else "o") + predicate
            return self.writer.value(f"fcmp {condition} {self.type} {self.text}, {right.text}", BOOL)
        if {self.dtype.kind, right.dtype.kind} == {"i", "u"}:
            return self._compare_signs(predicate, right)
        order = "" if predicate in ("eq", "ne") else "s" if self.dtype.kind == "i" else "u"
        return self.writer.value(f"icmp {order}{predicate} {self.type} {self.text}, {right.text}", BOOL)

    def _compare_signs(self, predicate: str, other: Value) -> Value:
        """The comparison of a signed with an unsigned integer: of 128 bits, which hold both."""
        wide = [
            one.writer.let(f"{'sext' if one.dtype.kind == 'i' else 'zext'} {one.type} {one.text} to i128")
            for one in (self, other)
        ]
        order = "" if predicate in ("eq", "ne") else "s"
        return self.writer.value(f"icmp {order}{predicate} i128 {wide[0]}, {wide[1]}", BOOL)

    def bitcast(self, dtype: DType) -> Value:
        """The same bits as another dtype of that size."""
        if llvm_type(dtype) == self.type:
            return Value(self.writer, self.text, dtype)
        return self.writer.value(f"bitcast {self.type} {self.text} to {llvm_type(dtype)}", dtype)

    def astype(self, dtype: Any) -> Value:
        """The value converted as NumPy does it: floats truncated to integers, numbers true unless 0."""
        target = np.dtype(dtype)
        if target == self.dtype:
            return self
        if target.kind == "b":
            return self.compare("ne", 0)
        source = self.dtype.kind
        if target == FLOAT16 and self.dtype != FLOAT32:
            return (self._rounded_to_odd() if source == "f" else self.astype(FLOAT32)).astype(FLOAT16)
        if self.dtype == FLOAT16 and target != FLOAT32:
            return self.astype(FLOAT32).astype(target)
        if source == "f" and target.kind == "f":
            name = "fpext" if target.itemsize > self.dtype.itemsize else "fptrunc"
        elif source == "f":
            return self._truncated(target)
        elif target.kind == "f":
            name = "sitofp" if source == "i" else "uitofp"
        elif target.itemsize == self.dtype.itemsize and source != "b":
            return Value(self.writer, self.text, target)
        elif target.itemsize < self.dtype.itemsize:
            name = "trunc"
        else:
            name = "sext" if source == "i" else "zext"
        return self.writer.value(f"{name} {self.type} {self.text} to {llvm_type(target)}", target)

    def _rounded_to_odd(self) -> Value:
        """A float64 as a float32 whose last bit tells that something was cut off, so that rounding it again rounds right."""
        near = self.writer.value(f"fptrunc double {self.text} to float", FLOAT32)
        back = near.astype(FLOAT64)
        inexact = self.writer.value(f"fcmp one double {back.text}, {self.text}", BOOL)
        above = intrinsic("fabs", back) > intrinsic("fabs", self)
        bits = near.bitcast(np.dtype("int32"))
        odd = (bits - above.astype(bits.dtype)) | 1
        return select(inexact, odd, bits).bitcast(FLOAT32)

    def _truncated(self, target: DType) -> Value:
        """A float as an integer; as on x86, what does not fit is not defined, but never traps."""
        if target.itemsize == 8 and target.kind == "u":
            return self._to_uint64()
        wide = np.dtype("int32") if target.itemsize < 4 else INT64
        frozen = self.writer.let(f"fptosi {self.type} {self.text} to {llvm_type(wide)}")
        return self.writer.value(f"freeze {llvm_type(wide)} {frozen}", wide).astype(target)

    def _to_uint64(self) -> Value:
        """A float as an unsigned integer of 64 bits; of a negative one, the bits of the signed integer."""
        signed = self.writer.let(f"fptosi {self.type} {self.text} to i64")
        unsigned = self.writer.let(f"fptoui {self.type} {self.text} to i64")
        negative = self.compare("lt", 0)
        return self.writer.value(
            f"select i1 {negative.text}, i64 {self.writer.let(f'freeze i64 {signed}')}, "
            f"i64 {self.writer.let(f'freeze i64 {unsigned}')}",
            UINT64,
        )

    def __add__(self, other: Any) -> Value:
        return self.by_kind(other, "or", "add", "fadd")

    def __sub__(self, other: Any) -> Value:
        return self.by_kind(other, "xor", "sub", "fsub")

    def __mul__(self, other: Any) -> Value:
        return self.by_kind(other, "and", "mul", "fmul")

    def __truediv__(self, other: Any) -> Value:
        return self.instruction("fdiv", other)

    def __radd__(self, other: Any) -> Value:
        return self.like(other) + self

    def __rsub__(self, other: Any) -> Value:
        return self.like(other) - self

    def __rmul__(self, other: Any) -> Value:
        return self.like(other) * self

    def __rtruediv__(self, other: Any) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        if self.dtype.kind == "f":
            return self.writer.value(f"fneg {self.type} {self.text}", self.dtype)
        return self.like(0) - self

    def __pow__(self, exponent: float) -> Value:
        """A whole power, by repeated squaring."""
        remaining = abs(int(exponent))
        if remaining != abs(exponent):
            raise TypeError(f"a value in a kernel can be raised to a whole power, not to {exponent}")
        result, square = self.like(1), self
        while remaining:
            result = result * square if remaining & 1 else result
            square, remaining = square * square, remaining >> 1
        return 1.0 / result if exponent < 0 else result

    def __and__(self, other: Any) -> Value:
        return self.instruction("and", other)

    def __or__(self, other: Any) -> Value:
        return self.instruction("or", other)

    def __xor__(self, other: Any) -> Value:
        return self.instruction("xor", other)

    def __lshift__(self, other: Any) -> Value:
        return self.instruction("shl", other)

    def __rshift__(self, other: Any) -> Value:
        return self.instruction("ashr" if self.dtype.kind == "i" else "lshr", other)

    def __lt__(self, other: Any) -> Value:
        return self.compare("lt", other)

    def __le__(self, other: Any) -> Value:
        return self.compare("le", other)

    def __gt__(self, other: Any) -> Value:
        return self.compare("gt", other)

    def __ge__(self, other: Any) -> Value:
        return self.compare("ge", other)


def intrinsic(name: str, x: Value, *others: Any) -> Value:
    """An LLVM intrinsic of the values' type."""
    suffix = f"f{8 * x.dtype.itemsize}" if x.dtype.kind == "f" else f"i{8 * x.dtype.itemsize}"
    return x.writer.call(f"llvm.{name}.{suffix}", x.dtype, x, *(x.like(one) for one in others))


def select(condition: Value, a: Any, b: Any) -> Value:
    """a where the condition is true, else b, of which one may be a number."""
    typed = next((one for one in (a, b) if isinstance(one, Value)), None)
    first, second = (
        (condition.writer.constant(a, FLOAT64), condition.writer.constant(b, FLOAT64))
        if typed is None
        else (typed.like(a), typed.like(b))
    )
    return condition.writer.value(
        f"select i1 {condition.text}, {first.type} {first.text}, {second.type} {second.text}", first.dtype
    )


def copysign(x: Value, sign: Value) -> Value:
    """x with the sign of another value."""
    return intrinsic("copysign", x, sign)


def fma(a: Value, b: Any, c: Any) -> Value:
    """a * b + c, rounded once where the machine can."""
    return intrinsic("fmuladd", a, b, c)


def polynomial(x: Value, coefficients: tuple[float, ...]) -> Value:
    """A polynomial by Horner's rule, coefficients from the highest power down."""
    result = x.like(coefficients[0])
    for coefficient in coefficients[1:]:
        result = fma(result, x, coefficient)
    return result


def in_float32(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function of floats, for 16-bit ones computed in 32 bits."""

    def computed(*operands: Value) -> Value:
        if operands[0].dtype != FLOAT16:
            return function(*operands)
        return function(*(one.astype(FLOAT32) for one in operands)).astype(FLOAT16)

    return computed


def from_libm(name: str) -> Callable[..., Value]:
    """A function of the C library's mathematics, which has one for each size of float."""

    def called(*operands: Value) -> Value:
        x = operands[0]
        return x.writer.call(name + ("f" if x.dtype == FLOAT32 else ""), x.dtype, *operands)

    return in_float32(called)
