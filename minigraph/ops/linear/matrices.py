"""The base of ops on stacks of matrices, which stand on the last two axes, and what these have in common."""

from __future__ import annotations

from typing import Any

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Op, Variable
from minigraph.core.types import TensorType
from minigraph.ops.array.creation import eye
from minigraph.ops.array.shape import expand_dims, shape, swapaxes
from minigraph.ops.elementwise.base import Operand, cast


def as_matrix(a: Operand) -> Variable:
    """a as floats of 32 bits or more, float64 for integers."""
    variable = as_variable(a)
    if variable.dtype.kind != "f":
        return cast(variable, "float64")
    return cast(variable, "float32") if variable.dtype.itemsize == 2 else variable


def identity_like(a: Variable) -> Variable:
    """The identity matrix of the size of a's last axis."""
    return eye(shape(a)[-1], dtype=a.dtype)


def transposed(a: Variable) -> Variable:
    """a with its last two axes exchanged."""
    return swapaxes(a, -1, -2)


def diagonal_matrix(a: Variable) -> Variable:
    """Matrices with the last axis of a on their diagonals."""
    return expand_dims(a, -1) * identity_like(a)


class MatrixOp(Op):
    """An op on one stack of matrices, square unless the subclass says otherwise."""

    square = solves = True

    def infer(self, *types: TensorType) -> Any:
        a = types[0]
        if a.ndim < 2:
            raise InvalidTypeError(f"{type(self).__name__} takes matrices, not {a}")
        rows, columns = a.shape[-2:]
        if self.square and None not in (rows, columns) and rows != columns:
            raise InvalidValueError(f"{type(self).__name__} takes square matrices, not {a}")
        return self.infer_matrix(a)

    def infer_matrix(self, a: TensorType) -> Any:
        """The type of the result for matrices that fit."""
        return a
