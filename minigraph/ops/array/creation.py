"""Arrays made from sizes and scalars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, is_weak
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Constant, Op, Variable
from minigraph.core.static import fixed_value, integer_of
from minigraph.core.types import TensorType, as_dtype, as_dtype_or_float, float_dtype
from minigraph.ops.array.selection import Counting
from minigraph.ops.array.shape import broadcast_to, dimshuffle, shape
from minigraph.ops.array.sizes import Sizes
from minigraph.ops.elementwise.base import Operand, cast, promoted
from minigraph.ops.elementwise.comparison import eq, ge, where

__all__ = ["arange", "eye", "full", "full_like", "linspace", "ones", "ones_like", "tri", "zeros", "zeros_like"]


def full(shape: Sizes, fill_value: Operand, dtype: Any = None) -> Variable:
    """An array of this `shape` whose elements are all `fill_value`, in `dtype`, by default that of the value."""
    wanted = as_variable(fill_value).dtype if dtype is None else dtype
    return broadcast_to(cast(fill_value, wanted), shape)


def zeros(shape: Sizes, dtype: Any = None) -> Variable:
    """An array of zeros of the given shape, in `dtype`, by default the float type."""
    return full(shape, 0, as_dtype_or_float(dtype))


def ones(shape: Sizes, dtype: Any = None) -> Variable:
    """An array of ones of the given shape, in `dtype`, by default the float type."""
    return full(shape, 1, as_dtype_or_float(dtype))


def full_like(x: Operand, fill_value: Operand, dtype: Any = None) -> Variable:
    """An array of x's shape, and its dtype unless `dtype` is set, whose elements are all `fill_value`."""
    variable = as_variable(x)
    return full(shape(variable), fill_value, variable.dtype if dtype is None else dtype)


def zeros_like(x: Operand, dtype: Any = None) -> Variable:
    """Zeros of x's shape, and its dtype unless `dtype` is set."""
    return full_like(x, 0, dtype)


def ones_like(x: Operand, dtype: Any = None) -> Variable:
    """Ones of x's shape, and its dtype unless `dtype` is set."""
    return full_like(x, 1, dtype)


class Arange(Counting):
    """start, start + step, ... up to but without stop; the length where it is known."""

    length: int | None
    dtype: np.dtype[Any]
    cheap = True

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable]:
        return inputs

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        return (self if self.length is not None else Arange(_static_length(inputs), self.dtype)), inputs

    def infer(self, *types: TensorType) -> TensorType:
        if any(type.ndim for type in types):
            raise InvalidTypeError("arange takes scalars")
        return TensorType(self.dtype, (self.length,))

    def forward(self, xp: Any, start: Array, stop: Array, step: Array) -> Array:
        return xp.arange(start.item(), stop.item(), step.item(), dtype=self.dtype)

    def parameters(self) -> Sequence[tuple[int, tuple[int, ...]]]:
        return (0, ()), (2, ())

    def element(self, xp: Any, position: Any, *scalars: Any) -> Any:
        start, step = scalars  # as in NumPy the step is what the first two elements differ by
        first = start.astype(self.dtype)
        return first + position.astype(self.dtype) * ((start + step).astype(self.dtype) - first)


def _static_length(bounds: Sequence[Variable]) -> Any:
    """The number of elements of an arange of these constants."""
    if all(one.dtype.kind in "iu" for one in bounds):
        start, stop, step = (integer_of(one) for one in bounds)
        return max(0, -((start - stop) // step))
    start, stop, step = (fixed_value(one.op) for one in bounds)  # type: ignore[arg-type]
    return max(0, math.ceil((stop - start) / step))


def arange(start: Operand, stop: Operand = None, step: Operand = 1, dtype: Any = None) -> Variable:
    """Evenly spaced numbers from start (0 if only one bound is given) up to but without stop.

    They are in `dtype`, by default that of the bounds, for integers int64 as in NumPy. ValueError for a known step of 0. Not
    differentiable.
    """
    bounds = (0, start, step) if stop is None else (start, stop, step)
    operands = promoted(bounds)
    length = None
    if all(isinstance(operand.op, Constant) and operand.ndim == 0 for operand in operands):
        first, last, stride = (operand.op.value.item() for operand in operands)  # type: ignore[attr-defined]
        if stride == 0:
            raise InvalidValueError("the step of arange must not be 0")
        length = max(0, math.ceil((last - first) / stride))
    common = operands[0].dtype
    if common.kind in "biu" and common.itemsize < 8:
        common = np.dtype(np.int64)
    return Arange(length, common if dtype is None else as_dtype(dtype))(*operands)


def linspace(start: Operand, stop: Operand, num: int = 50, dtype: Any = None, *, endpoint: bool = True) -> Variable:
    """`num` evenly spaced numbers from start to stop, the latter included unless `endpoint` is False, in `dtype` if given."""
    if isinstance(num, bool) or not isinstance(num, int) or num < 0:
        raise InvalidValueError(f"num must be an int of 0 or more, not {num!r}")
    wide = None if dtype is None else float_dtype(as_dtype(dtype))
    ends = (start, stop) if wide is None else [cast(end, wide) if is_weak(end) else end for end in (start, stop)]
    first, last = promoted(ends, float_dtype)
    position = cast(arange(num), first.dtype)
    if num < 2:
        result = position + first
    elif not endpoint:
        result = first + position * ((last - first) / num)
    else:
        result = where(eq(position, num - 1), last, first + position * ((last - first) / (num - 1)))
    return result if dtype is None else cast(result, dtype)


def eye(n: Any, m: Any = None, k: Operand = 0, dtype: Any = None) -> Variable:
    """An n x m matrix (n x n if m is None) of zeros, with ones on the diagonal k, in `dtype` or the float type."""
    rows, columns = _row_and_column(n, n if m is None else m)
    return cast(eq(rows + k, columns), as_dtype_or_float(dtype))


def tri(n: Any, m: Any = None, k: Operand = 0, dtype: Any = None) -> Variable:
    """An n x m matrix (n x n if m is None) of ones on and below the diagonal k, else zeros, in `dtype` or the float type."""
    rows, columns = _row_and_column(n, n if m is None else m)
    return cast(ge(rows + k, columns), as_dtype_or_float(dtype))


def _row_and_column(n: Any, m: Any) -> tuple[Variable, Variable]:
    """The row numbers as an n x 1 matrix, the column numbers as a 1 x m matrix."""
    return dimshuffle(arange(n, dtype=np.int64), 0, "x"), dimshuffle(arange(m, dtype=np.int64), "x", 0)
