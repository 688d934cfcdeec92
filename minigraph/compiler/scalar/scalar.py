"""The scalar namespace: what NumPy is to arrays, for single values inside a loop, written down as code.

An elementwise op's own `forward` runs on these values: with `xp` this namespace, its operators and functions write the
instructions that compute one element, in the language of the writer that the values belong to. Dtypes, promotion of Python
numbers, and results at the edges (overflow, division by 0, shifts that are too wide, NaN) are NumPy's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from minigraph.core.errors import InvalidTypeError

DType = np.dtype[Any]

BOOL, INT32, INT64, UINT64 = np.dtype("bool"), np.dtype("int32"), np.dtype("int64"), np.dtype("uint64")
FLOAT16, FLOAT32, FLOAT64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")


NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


class Writer(ABC):
    """The text of a function that is being written in some language, with fresh names for its values."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.freedom = ""
        """The changes to operations on floats that are allowed: " contract" rounds a product and a sum together, for use within
        one op alone, lest x * x - x * x be no 0; " reassoc" takes sums in another order.
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
        """The result of an instruction, named as LLVM names it, on `a` and `b`, values of one dtype."""

    def quotient(self, a: Value, b: Value, given: Value) -> Value:
        """The truncated quotient of integers `a` and `b`, which fits; `b` is `given`, or 1 where the quotient is not used."""
        return self.binary("udiv" if a.dtype.kind == "u" else "sdiv", a, b)

    @abstractmethod
    def negative(self, x: Value) -> Value:
        """A float with its sign changed."""

    @abstractmethod
    def comparison(self, predicate: str, a: Value, b: Value) -> Value:
        """The comparison of `a` with `b` by a predicate: eq, ne, lt, le, gt or ge; integers may differ in sign and size."""

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
        """`a` where a condition is true, else `b`, which has the same dtype."""

    @abstractmethod
    def intrinsic(self, name: str, *operands: Value) -> Value:
        """A function that every machine has: fabs, floor, ceil, trunc, rint, sqrt, copysign, fmuladd or fma."""

    @abstractmethod
    def beyond(self, limit: float, name: str, x: Value, result: Value) -> Value:
        """`result`, but where |x| exceeds `limit`, which is rare, the C library's function `name` of `x`.

        x: a float of 32 or 64 bits. result: of the same dtype.
        """


Operator = Callable[["Value", Any], "Value"]


def _turned(operator: Operator) -> Operator:
    """The method for a number on the left of an operator."""
    return lambda value, other: operator(value.like(other), value)


def _instruction(name: str) -> Operator:
    """The method that writes an instruction on a value and another operand."""
    return lambda value, other: value.instruction(name, other)


def _comparison(predicate: str) -> Operator:
    """The method that compares a value with another operand."""
    return lambda value, other: value.compare(predicate, other)


def _unknown(what: str) -> Callable[..., Any]:
    """The method that raises TypeError, since a kernel is written once for all elements."""

    def raising(value: Value, *args: Any, **kwargs: Any) -> NoReturn:
        raise InvalidTypeError(f"a value in a kernel is not known while the kernel is written, and has no {what}")

    return raising


class Value:
    """A value of a dtype, with its text by a writer, and Python's operators; a Python number that it meets takes its dtype.

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
        """The result, with `other`, of the instruction for the dtype: `boolean`, `integer` or `floating`."""
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

    __radd__ = _turned(__add__)
    __rsub__ = _turned(__sub__)
    __rmul__ = _turned(__mul__)
    __rtruediv__ = _turned(__truediv__)

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

    __and__ = _instruction("and")
    __or__ = _instruction("or")
    __xor__ = _instruction("xor")
    __lshift__ = _instruction("shl")

    def __rshift__(self, other: Any) -> Value:
        return self.instruction("ashr" if self.dtype.kind == "i" else "lshr", other)

    __eq__ = _comparison("eq")  # type: ignore[assignment]
    __ne__ = _comparison("ne")  # type: ignore[assignment]
    __lt__ = _comparison("lt")
    __le__ = _comparison("le")
    __gt__ = _comparison("gt")
    __ge__ = _comparison("ge")
    __hash__ = object.__hash__

    __bool__ = _unknown("its truth; choose with xp.where, combine conditions with & and |")
    __int__ = __float__ = __index__ = _unknown("a Python number")
    __iter__ = __getitem__ = _unknown("its elements: it is a single one")
    __len__ = _unknown("its length: it is a single element")
    __array__ = _unknown("a NumPy array; use the functions of xp")


def intrinsic(name: str, x: Value, *others: Any) -> Value:
    """The function `name`, which every machine has, of `x` and `others`, values of one dtype."""
    return x.writer.intrinsic(name, x, *(x.like(one) for one in others))


def select(condition: Value, a: Any, b: Any) -> Value:
    """a where the condition is true, else b, of which one may be a number."""
    typed = next((one for one in (a, b) if isinstance(one, Value)), Value(condition.writer, "", FLOAT64))
    return condition.writer.choice(condition, typed.like(a), typed.like(b))


def copysign(x: Value, sign: Value) -> Value:
    """x with the sign of another value."""
    return intrinsic("copysign", x, sign)


def fma(a: Value, b: Any, c: Any) -> Value:
    """a * b + c, rounded once where the machine can."""
    return intrinsic("fmuladd", a, b, c)


def fused(a: Value, b: Any, c: Any) -> Value:
    """a * b + c, rounded once on every machine, for what would be wrong otherwise."""
    return intrinsic("fma", a, b, c)


def polynomial(x: Value, coefficients: tuple[float, ...]) -> Value:
    """A polynomial by Horner's rule, coefficients from the highest power down; a long one as two in x^2, side by side."""
    if len(coefficients) > 7:
        square = x * x
        return fma(polynomial(square, coefficients[-2::-2][::-1]), x, polynomial(square, coefficients[-1::-2][::-1]))
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
