"""Scalar values written as CUDA C++."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigraph.compiler.scalar.namespace import Scalars
from minigraph.compiler.scalar.scalar import BOOL, FLOAT16, FLOAT32, FLOAT64, DType, Value, Writer, in_float32, intrinsic

PRELUDE = """\
__device__ __forceinline__ float half_value(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ __forceinline__ unsigned short half_bits(float value) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ float rounded_to_half(float value) { return half_value(half_bits(value)); }
template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack { T at[N]; };
"""
"""The functions that kernels are written in terms of. A 16-bit float is a float whose value has 16 bits."""

_INTEGERS = {1: "signed char", 2: "short", 4: "int", 8: "long long"}
_UNSIGNED = {1: "unsigned char", 2: "unsigned short", 4: "unsigned", 8: "unsigned long long"}

_OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^", "shl": "<<", "ashr": ">>", "lshr": ">>",
    "sdiv": "/", "udiv": "/", "srem": "%", "urem": "%", "fadd": "+", "fsub": "-", "fmul": "*", "fdiv": "/",
}  # fmt: skip
_WRAPPING = ("add", "sub", "mul", "shl")
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INTRINSICS = {"fmuladd": "fma"}
_BITS_OF = {4: "__float_as_int", 8: "__double_as_longlong"}
_FROM_BITS = {4: "__int_as_float", 8: "__longlong_as_double"}


def value_type(dtype: DType) -> str:
    """The C++ type of one value of a dtype."""
    match dtype.kind:
        case "f":
            return "double" if dtype == FLOAT64 else "float"
        case "b":
            return "bool"
        case "u":
            return _UNSIGNED[dtype.itemsize]
    return _INTEGERS[dtype.itemsize]


def memory_type(dtype: DType) -> str:
    """The C++ type of an element in memory, where a boolean takes a byte, and a 16-bit float is its bits."""
    if dtype == FLOAT16:
        return "unsigned short"
    return "unsigned char" if dtype.kind == "b" else value_type(dtype)


def literal(value: Any, dtype: DType) -> str:
    """A number as C++ writes it."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind in "iu":
        number = int(np.array(value).astype(dtype))
        suffix = {"u": "u", "i": ""}[dtype.kind] + ("ll" if dtype.itemsize == 8 else "")
        return f"{number}{suffix}" if number >= 0 else f"({number + 1}{suffix} - 1)"  # the least one cannot be written itself
    with np.errstate(all="ignore"):
        rounded = np.array(value).astype(dtype)
    if not np.isfinite(rounded):
        wide = rounded if dtype == FLOAT64 else rounded.astype(FLOAT32)
        bits = int(wide.view(f"int{8 * wide.dtype.itemsize}"))
        return f"{_FROM_BITS[wide.dtype.itemsize]}({literal(bits, np.dtype(f'int{8 * wide.dtype.itemsize}'))})"
    text = float(rounded).hex() + ("" if dtype == FLOAT64 else "f")
    return f"({text})" if text.startswith("-") else text


class CudaWriter(Writer):
    """The body of a CUDA function that is being written."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 1

    def write(self, line: str) -> None:
        """Append a statement."""
        self.lines.append("  " * self._depth + line)

    @contextmanager
    def block(self, heading: str) -> Iterator[None]:
        """Braces around what is written."""
        self.write(f"{heading} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.write("}")

    def let(self, kind: str, expression: str) -> str:
        """Name the value of an expression."""
        name = self.fresh()
        self.write(f"const {kind} {name} = {expression};")
        return name

    def value(self, expression: str, dtype: DType) -> Value:
        """Name the value of an expression that has a dtype."""
        return Value(self, self.let(value_type(dtype), expression), dtype)

    # -- values ------------------------------------------------------------------------------------------------------

    def constant(self, value: Any, dtype: DType) -> Value:
        return Value(self, literal(value, dtype), dtype)

    def binary(self, instruction: str, a: Value, b: Value) -> Value:
        name = instruction.split()[0]
        if name == "frem":
            return self.library("fmod", a, b)
        expression = f"{a.text} {_OPERATORS[name]} {b.text}"
        if a.dtype.kind == "f":
            return self._rounded(expression, a.dtype)
        if name in _WRAPPING and a.dtype.kind == "i":  # what overflows wraps
            wide = _UNSIGNED[max(4, a.dtype.itemsize)]
            expression = f"({wide}){a.text} {_OPERATORS[name]} ({wide}){b.text}"
        return self.value(f"({value_type(a.dtype)})({expression})", a.dtype)

    def _rounded(self, expression: str, dtype: DType) -> Value:
        """The value of an expression of floats, rounded to its dtype."""
        return self.value(f"rounded_to_half({expression})" if dtype == FLOAT16 else expression, dtype)

    def negative(self, x: Value) -> Value:
        return self.value(f"-{x.text}", x.dtype)

    def comparison(self, predicate: str, a: Value, b: Value) -> Value:
        operator = _COMPARISONS[predicate]
        match a.dtype.kind, b.dtype.kind:
            case "i", "u":
                below = literal(predicate in ("ne", "lt", "le"), BOOL)
                return self.value(f"{a.text} < 0 ? {below} : (unsigned long long){a.text} {operator} {b.text}", BOOL)
            case "u", "i":
                below = literal(predicate in ("ne", "gt", "ge"), BOOL)
                return self.value(f"{b.text} < 0 ? {below} : {a.text} {operator} (unsigned long long){b.text}", BOOL)
        return self.value(f"{a.text} {operator} {b.text}", BOOL)

    def bits(self, x: Value, dtype: DType) -> Value:
        if (x.dtype.kind == "f") == (dtype.kind == "f"):
            return self.value(f"({value_type(dtype)}){x.text}", dtype)
        if FLOAT16 in (x.dtype, dtype):
            function = "half_bits" if x.dtype == FLOAT16 else "half_value"
        else:
            function = (_BITS_OF if x.dtype.kind == "f" else _FROM_BITS)[x.dtype.itemsize]
        return self.value(f"({value_type(dtype)}){function}({x.text})", dtype)

    def conversion(self, x: Value, dtype: DType) -> Value:
        kind = value_type(dtype)
        if FLOAT16 in (x.dtype, dtype):
            return self._rounded(x.text, dtype)
        return self.value(f"({kind}){x.text}", dtype)

    def choice(self, condition: Value, a: Value, b: Value) -> Value:
        return self.value(f"{condition.text} ? {a.text} : {b.text}", a.dtype)

    def intrinsic(self, name: str, *operands: Value) -> Value:
        return self.library(_INTRINSICS.get(name, name), *operands)

    def beyond(self, limit: float, name: str, x: Value, result: Value) -> Value:
        return self.choice(intrinsic("fabs", x) > limit, self.library(name, x), result)

    def library(self, name: str, *operands: Value) -> Value:
        """A function of CUDA's library, for floats of 32 or 64 bits."""
        dtype = operands[0].dtype
        suffix = "" if dtype == FLOAT64 else "f"
        return self._rounded(f"{name}{suffix}({', '.join(one.text for one in operands)})", dtype)


def from_libm(name: str) -> Callable[..., Value]:
    """A function of the C library's mathematics, which has one for each size of float."""

    def computed(*operands: Value) -> Value:
        writer = operands[0].writer
        assert isinstance(writer, CudaWriter)
        return writer.library(name, *operands)

    return in_float32(computed)


class CudaScalars(Scalars):
    """NumPy's elementwise functions for values in a CUDA kernel: the functions of CUDA's own library are the best there."""

    exp = staticmethod(from_libm("exp"))
    exp2 = staticmethod(from_libm("exp2"))
    expm1 = staticmethod(from_libm("expm1"))
    log = staticmethod(from_libm("log"))
    log1p = staticmethod(from_libm("log1p"))
    log2 = staticmethod(from_libm("log2"))
    log10 = staticmethod(from_libm("log10"))
    sin = staticmethod(from_libm("sin"))
    cos = staticmethod(from_libm("cos"))
    tan = staticmethod(from_libm("tan"))
    arcsin = staticmethod(from_libm("asin"))
    arccos = staticmethod(from_libm("acos"))
    arctan = staticmethod(from_libm("atan"))
    arctan2 = staticmethod(from_libm("atan2"))
    sinh = staticmethod(from_libm("sinh"))
    cosh = staticmethod(from_libm("cosh"))
    tanh = staticmethod(from_libm("tanh"))
    arcsinh = staticmethod(from_libm("asinh"))
    arccosh = staticmethod(from_libm("acosh"))
    arctanh = staticmethod(from_libm("atanh"))
    power = staticmethod(from_libm("pow"))
    hypot = staticmethod(from_libm("hypot"))

    def logaddexp(self, a: Value, b: Value) -> Value:
        gap = self.abs(a - b)
        larger = self.maximum(a, b)
        result = larger + self.log1p(self.exp(-gap))
        return self.where(a.compare("eq", b), a + math.log(2), result)


CUDA_SCALARS = CudaScalars()
"""The namespace itself."""
