"""Elementwise comparison, logic, selection, and operations on bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, is_weak
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Variable, evaluated
from minigraph.core.types import TensorType, broadcast_shapes
from minigraph.ops.elementwise.base import Cotangents, Elementwise, Floating, Operand, cast, promoted, truth, weak_constant

__all__ = [
    "and_", "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "equal", "ge", "greater", "greater_equal", "gt", "invert",
    "isfinite", "isinf", "isnan", "le", "left_shift", "less", "less_equal", "logical_and", "logical_not", "logical_or",
    "logical_xor", "lt", "neq", "not_equal", "or_", "right_shift", "switch", "where", "xor",
]  # fmt: skip


class Comparison(Elementwise):
    """An elementwise op from numbers to truth."""

    kinds = "biuf"
    cost, cheap = 1, True

    def of(self, *operands: Operand) -> Variable:
        fitting = [_widened(one, operands) for one in operands]
        strong = [as_variable(one).dtype for one in fitting if not is_weak(one)]
        if len({dtype.kind for dtype in strong}) > 1:  # unlike arithmetic, a comparison must not lose integers
            exact = np.result_type(*strong)
            if exact.kind == "f" and all(dtype.kind in "iu" for dtype in strong):
                # no dtype holds both uint64 and int64, but NumPy compares them exactly
                return self(*[as_variable(one) for one in fitting])
            fitting = [one if is_weak(one) else cast(one, exact) for one in fitting]
        return super().of(*fitting)

    def infer(self, *types: TensorType) -> TensorType:
        if all(type.dtype.kind in "iu" for type in types):
            types = tuple(type.with_dtype(types[0].dtype) for type in types)
        return super().infer(*types)

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(bool)


class Logical(Comparison):
    """An elementwise op on truth values; numbers count as true unless 0."""

    kinds = "b"

    def of(self, *operands: Operand) -> Variable:
        return self(*[truth(one) for one in operands])


class Predicate(Floating):
    """An elementwise question about floats."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(bool)


class Bitwise(Elementwise):
    """An elementwise op on the bits of integers and booleans."""

    kinds = "biu"


def _widened(operand: Operand, others: Sequence[Operand]) -> Operand:
    """Weak integers that fit no integer array among `others`, as an int64 constant; else the operand itself."""
    kinds = [as_variable(one).dtype for one in others if not is_weak(one)]
    if is_weak(operand) and kinds and all(dtype.kind in "iu" for dtype in kinds):
        exact = operand if type(operand) is int else evaluated(as_variable(operand))
        bounds = np.iinfo(np.result_type(*kinds))
        if np.asarray(exact).dtype.kind in "iuO" and np.any((exact < bounds.min) | (exact > bounds.max)):
            return weak_constant(exact, np.dtype("int64"))
    return operand


# -- comparison, logic, selection ------------------------------------------------------------------------------------


class Equal(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.equal(a, b)


def equal(a: Operand, b: Operand) -> Variable:
    """a == b, elementwise."""
    return Equal().of(a, b)


class NotEqual(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.not_equal(a, b)


def not_equal(a: Operand, b: Operand) -> Variable:
    """a != b, elementwise."""
    return NotEqual().of(a, b)


class Less(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less(a, b)


def less(a: Operand, b: Operand) -> Variable:
    """a < b, elementwise."""
    return Less().of(a, b)


class LessEqual(Comparison):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.less_equal(a, b)


def less_equal(a: Operand, b: Operand) -> Variable:
    """a <= b, elementwise."""
    return LessEqual().of(a, b)


def greater(a: Operand, b: Operand) -> Variable:
    """a > b, elementwise."""
    return Less().of(b, a)


def greater_equal(a: Operand, b: Operand) -> Variable:
    """a >= b, elementwise."""
    return LessEqual().of(b, a)


eq, neq, lt, le, gt, ge = equal, not_equal, less, less_equal, greater, greater_equal


class LogicalAnd(Logical):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_and(a, b)


def logical_and(a: Operand, b: Operand) -> Variable:
    """Whether a and b are both true (or not 0), elementwise."""
    return LogicalAnd().of(a, b)


class LogicalOr(Logical):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_or(a, b)


def logical_or(a: Operand, b: Operand) -> Variable:
    """Whether a or b is true (or not 0), or both, elementwise."""
    return LogicalOr().of(a, b)


class LogicalXor(Logical):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.logical_xor(a, b)


def logical_xor(a: Operand, b: Operand) -> Variable:
    """Whether exactly one of a and b is true (or not 0), elementwise."""
    return LogicalXor().of(a, b)


class LogicalNot(Logical):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.logical_not(x)


def logical_not(x: Operand) -> Variable:
    """Whether x is false (or 0), elementwise."""
    return LogicalNot().of(x)


class IsNan(Predicate):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isnan(x)


def isnan(x: Operand) -> Variable:
    """Whether x is NaN, elementwise."""
    return IsNan().of(x)


class IsInf(Predicate):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isinf(x)


def isinf(x: Operand) -> Variable:
    """Whether x is infinite, elementwise."""
    return IsInf().of(x)


class IsFinite(Predicate):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.isfinite(x)


def isfinite(x: Operand) -> Variable:
    """Whether x is neither infinite nor NaN, elementwise."""
    return IsFinite().of(x)


class Where(Elementwise):
    """The second operand where the first, a boolean, is true, else the third."""

    kinds = "biuf"
    cost, cheap = 1, True

    def of(self, *operands: Operand) -> Variable:
        condition, *choices = operands
        return self(truth(condition), *promoted(choices))

    def infer(self, *types: TensorType) -> TensorType:
        condition, *choices = types
        if condition.dtype.kind != "b":
            raise InvalidTypeError(f"the condition must be boolean, not {condition.dtype}")
        result = super().infer(*choices)
        return TensorType(result.dtype, broadcast_shapes([type.shape for type in types]))

    def forward(self, xp: Any, condition: Array, a: Array, b: Array) -> Array:
        return xp.where(condition, a, b)

    def gradient(self, dy: Variable, y: Variable, condition: Variable, a: Variable, b: Variable) -> Cotangents:
        return None, where(condition, dy, 0), where(condition, 0, dy)


def where(condition: Operand, a: Operand, b: Operand) -> Variable:
    """a where the condition is true (or not 0), else b, elementwise."""
    return Where().of(condition, a, b)


switch = where


# -- bits ------------------------------------------------------------------------------------------------------------


class BitwiseAnd(Bitwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_and(a, b)


def bitwise_and(a: Operand, b: Operand) -> Variable:
    """The bits set in both integers (or booleans), elementwise."""
    return BitwiseAnd().of(a, b)


class BitwiseOr(Bitwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_or(a, b)


def bitwise_or(a: Operand, b: Operand) -> Variable:
    """The bits set in one or both integers (or booleans), elementwise."""
    return BitwiseOr().of(a, b)


class BitwiseXor(Bitwise):
    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.bitwise_xor(a, b)


def bitwise_xor(a: Operand, b: Operand) -> Variable:
    """The bits set in exactly one of two integers (or booleans), elementwise."""
    return BitwiseXor().of(a, b)


and_, or_, xor = bitwise_and, bitwise_or, bitwise_xor


class Invert(Bitwise):
    def forward(self, xp: Any, x: Array) -> Array:
        return xp.invert(x)


def invert(x: Operand) -> Variable:
    """All bits of an integer flipped, or the negation of a boolean, elementwise."""
    return Invert().of(x)


class LeftShift(Bitwise):
    kinds = "iu"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.left_shift(a, b)


def left_shift(a: Operand, b: Operand) -> Variable:
    """The bits of integer a moved up by b places, elementwise."""
    return LeftShift().of(a, b)


class RightShift(Bitwise):
    kinds = "iu"

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.right_shift(a, b)


def right_shift(a: Operand, b: Operand) -> Variable:
    """The bits of integer a moved down by b places, elementwise."""
    return RightShift().of(a, b)
