"""The scalar namespace: what NumPy is to arrays, for single values inside a loop, written down as code.

An elementwise op's own `forward` runs on these values: with `xp` this namespace, its operators and functions write the
instructions that compute one element, in the language of the writer that the values belong to. Dtypes, promotion of Python
numbers, and results at the edges (overflow, division by 0, shifts that are too wide, NaN) are NumPy's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from minigraph.core.errors import InvalidTypeError

DType = np.dtype[Any]

BOOL, INT64, UINT64 = np.dtype("bool"), np.dtype("int64"), np.dtype("uint64")
FLOAT16, FLOAT32, FLOAT64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")


NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


class Writer(ABC):
    """The text of a function that is being written in some language, with fresh names for its values."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.freedom = ""
        """How operations on floats may be changed: " contract" rounds a product and a sum together, which is for use within one
        op alone, lest x * x - x * x be no 0; " reassoc" takes sums in another order.
        """
        self._count = 0

    def fresh(self, stem: str = "v") -> str:
        """A name that was not used before."""
        self._count += 1
        return f"{stem}{self._count}"

    @abstractmethod
    def constant(self, value: Any, dtype: DType) -> Value:
        """A number."""

    @abstractmethod
    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        """The result of an instruction, named as LLVM names it, on two values of one dtype."""

    @abstractmethod
    def negative(self, x: Value) -> Value:
        """A float with its sign changed."""

    @abstractmethod
    def comparison(self, predicate: str, a: Value, b: Value) -> Value:
        """Whether two values compare so: eq, ne, lt, le, gt or ge; integers may differ in sign and size."""

    @abstractmethod
    def bits(self, x: Value, dtype: DType) -> Value:
        """The same bits as another dtype of that size."""

    @abstractmethod
    def conversion(self, x: Value, dtype: DType) -> Value:
        """A value as another dtype than its own, not bool; between 16-bit floats and others by way of 32 bits only.

        A float that becomes an integer fits.
        """

    @abstractmethod
    def choice(self, condition: Value, a: Value, b: Value) -> Value:
        """One of two values of one dtype."""

    @abstractmethod
    def intrinsic(self, name: str, *operands: Value) -> Value:
        """A function that every machine has: fabs, floor, ceil, trunc, rint, sqrt, copysign or fmuladd."""

    @abstractmethod
    def library(self, name: str, *operands: Value) -> Value:
        """A function of the C library's mathematics, for floats of 32 or 64 bits."""


class Value:
    """One value of a dtype, with Python's operators; a Python number that it meets takes its dtype.

    It is known only when the kernel runs: whatever asks Python for it while the kernel is written raises.
    """

    __slots__ = ("dtype", "text", "writer")

    __array_ufunc__ = None
    """NumPy's functions and numbers leave it alone."""

    def __init__(self, writer: Writer, text: str, dtype: DType) -> None:
        self.writer, self.text, self.dtype = writer, text, dtype

    def like(self, other: Any) -> Value:
        """A number as a value of this one's dtype; TypeError for what is neither a number nor a value."""
        if isinstance(other, Value):
            return other
        if not isinstance(other, NUMBERS):
            raise InvalidTypeError(f"a value in a kernel meets {type(other).__name__}, which is no number")
        return self.writer.constant(other, self.dtype)

    def instruction(self, name: str, other: Any) -> Value:
        """The result of an instruction on this value and another, of the same dtype."""
        return self.writer.binary(name, self, self.like(other))

    def by_kind(self, other: Any, boolean: str, integer: str, floating: str) -> Value:
        """The result of the instruction that the dtype asks for."""
        one, two = self._matched(other)
        return one.instruction({"b": boolean, "f": floating + self.writer.freedom}.get(one.dtype.kind, integer), two)

    def _matched(self, other: Any) -> tuple[Value, Value]:
        """This value and another operand, a float and a value of another dtype in the dtype that they have in common."""
        two = self.like(other)
        if self.dtype == two.dtype or {self.dtype.kind, two.dtype.kind} <= {"i", "u"}:
            return self, two
        common = np.promote_types(self.dtype, two.dtype)
        return self.astype(common), two.astype(common)

    def compare(self, predicate: str, other: Any) -> Value:
        """A comparison: eq, ne, lt, le, gt or ge; false for NaN, but for ne."""
        return self.writer.comparison(predicate, *self._matched(other))

    def bitcast(self, dtype: DType) -> Value:
        """The same bits as another dtype of that size."""
        return self.writer.bits(self, dtype)

    def view(self, dtype: Any) -> Value:
        """The same bits as another dtype, as NumPy's arrays show them."""
        return self.bitcast(np.dtype(dtype))

    def astype(self, dtype: Any) -> Value:
        """The value converted as NumPy does it: floats truncated to integers, numbers true unless 0."""
        target = np.dtype(dtype)
        if target == self.dtype:
            return self
        if target.kind == "b":
            return self.compare("ne", 0)
        if target == FLOAT16 and self.dtype != FLOAT32:
            return (self._rounded_to_odd() if self.dtype.kind == "f" else self.astype(FLOAT32)).astype(FLOAT16)
        if self.dtype == FLOAT16 and target != FLOAT32:
            return self.astype(FLOAT32).astype(target)
        if self.dtype.kind == "f" and target.kind in "iu":
            return self._truncated(target)
        return self.writer.conversion(self, target)

    def _truncated(self, target: DType) -> Value:
        """A float of 32 or 64 bits as an integer: what does not fit becomes what it does on x86, as in NumPy's arrays."""
        if target == UINT64:
            high = self >= 2.0**63
            return select(high, self - 2.0**63, self)._truncated(INT64).bitcast(UINT64) ^ (high.astype(UINT64) << 63)
        wide = np.dtype("int32") if target.itemsize < 4 or target == np.dtype("int32") else INT64
        least = -(2.0 ** (8 * wide.itemsize - 1))
        inside = select(intrinsic("fabs", self) < -least, self, least)
        return self.writer.conversion(inside, wide).astype(target)

    def _rounded_to_odd(self) -> Value:
        """A float64 as a float32 whose last bit tells that something was cut off, so that rounding it again rounds right."""
        near = self.writer.conversion(self, FLOAT32)
        back = near.astype(FLOAT64)
        inexact = (back < self) | (back > self)
        above = intrinsic("fabs", back) > intrinsic("fabs", self)
        bits = near.bitcast(np.dtype("int32"))
        odd = (bits - above.astype(bits.dtype)) | 1
        return select(inexact, odd, bits).bitcast(FLOAT32)

    def __add__(self, other: Any) -> Value:
        return self.by_kind(other, "or", "add", "fadd")

    def __sub__(self, other: Any) -> Value:
        return self.by_kind(other, "xor", "sub", "fsub")

    def __mul__(self, other: Any) -> Value:
        return self.by_kind(other, "and", "mul", "fmul")

    def __truediv__(self, other: Any) -> Value:
        one, two = self._matched(other)
        if one.dtype.kind != "f":
            one, two = one.astype(FLOAT64), two.astype(FLOAT64)
        return one.instruction("fdiv", two)

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
            return self.writer.negative(self)
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

    def __eq__(self, other: Any) -> Value:
        return self.compare("eq", other)

    def __ne__(self, other: Any) -> Value:
        return self.compare("ne", other)

    __hash__ = object.__hash__

    def __lt__(self, other: Any) -> Value:
        return self.compare("lt", other)

    def __le__(self, other: Any) -> Value:
        return self.compare("le", other)

    def __gt__(self, other: Any) -> Value:
        return self.compare("gt", other)

    def __ge__(self, other: Any) -> Value:
        return self.compare("ge", other)

    def __bool__(self) -> bool:
        self._unknown("its truth; choose with xp.where, combine conditions with & and |")

    def __int__(self) -> int:
        self._unknown("a Python number")

    def __float__(self) -> float:
        self._unknown("a Python number")

    def __index__(self) -> int:
        self._unknown("a Python number")

    def __iter__(self) -> Iterator[Any]:
        self._unknown("its elements: it is a single one")

    def __len__(self) -> int:
        self._unknown("its length: it is a single element")

    def __getitem__(self, index: Any) -> Any:
        self._unknown("its elements: it is a single one")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        self._unknown("a NumPy array; use the functions of xp")

    def _unknown(self, what: str) -> NoReturn:
        """TypeError: a kernel is written once for all elements."""
        raise InvalidTypeError(f"a value in a kernel is not known while the kernel is written, and has no {what}")


def intrinsic(name: str, x: Value, *others: Any) -> Value:
    """A function that every machine has, of values of one dtype."""
    return x.writer.intrinsic(name, x, *(x.like(one) for one in others))


def select(condition: Value, a: Any, b: Any) -> Value:
    """a where the condition is true, else b, of which one may be a number."""
    typed = next((one for one in (a, b) if isinstance(one, Value)), None)
    first, second = (
        (condition.writer.constant(a, FLOAT64), condition.writer.constant(b, FLOAT64))
        if typed is None
        else (typed.like(a), typed.like(b))
    )
    return condition.writer.choice(condition, first, second)


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
        return operands[0].writer.library(name, *operands)

    return in_float32(called)
