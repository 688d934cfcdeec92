"""Linear equations: those of any square matrix, of a triangular one, and of one whose Cholesky factor is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Variable
from minigraph.core.types import TensorType, broadcast_shapes
from minigraph.ops.array.arranging import tril, triu
from minigraph.ops.array.shape import expand_dims, squeeze
from minigraph.ops.elementwise.base import Cotangents, Operand, promoted
from minigraph.ops.linear.matrices import MatrixOp, as_matrix, transposed
from minigraph.ops.linear.products import matmul, with_agreeing_stacks


class Solve(MatrixOp):
    def infer(self, *types: TensorType) -> TensorType:
        super().infer(types[0])
        a, b = types
        if a.dtype != b.dtype or a.ndim != b.ndim:
            raise InvalidTypeError("solve takes two stacks of matrices of one dtype")
        if None not in (a.shape[-1], b.shape[-2]) and a.shape[-1] != b.shape[-2]:
            raise InvalidValueError(f"solve: {a.shape[-1]} unknowns, but a right-hand side of {b.shape[-2]} rows")
        return TensorType(b.dtype, (*broadcast_shapes([a.shape[:-2], b.shape[:-2]]), *b.shape[-2:]))

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.linalg.solve(*stretched(xp, a, b))

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        db = Solve()(transposed(a), dy)
        return -matmul(db, transposed(y)), db


def stretched(xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
    """Stacks of matrices a and b, broadcast by `xp` to stacks of one shape, which CuPy does not do where it solves."""
    if a.shape[:-2] == b.shape[:-2]:
        return a, b
    stacks = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    first, second = (xp.broadcast_to(one, (*stacks, *one.shape[-2:])) for one in (a, b))
    return first, second


class SolveTriangular(Solve):
    """x with a @ x = b, or a.T @ x = b if `transpose`, where the lower or the upper half of a alone is read."""

    lower: bool
    transpose: bool

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        half = xp.tril(a) if self.lower else xp.triu(a)
        return super().forward(xp, xp.swapaxes(half, -1, -2) if self.transpose else half, b)

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        db = SolveTriangular(self.lower, not self.transpose)(a, dy)
        whole = matmul(y, transposed(db)) if self.transpose else matmul(db, transposed(y))
        return -(tril(whole) if self.lower else triu(whole)), db


def _solved(op: Solve, a: Operand, b: Operand) -> Variable:
    """The result of `op` for matrices a and matrices, or for one matrix a vector, b."""
    left, right = promoted((as_matrix(a), as_matrix(b)))
    if right.ndim == left.ndim - 1 == 1:
        return squeeze(op(left, expand_dims(right, 1)), 1)
    return op(*with_agreeing_stacks(left, right))


def solve(a: Operand, b: Operand) -> Variable:
    """x such that a @ x = b, for square matrices a and matrices (or, for one matrix, a vector) b.

    LinearAlgebraError, a ValueError, where a matrix is singular.
    """
    return _solved(Solve(), a, b)


def solve_triangular(a: Operand, b: Operand, lower: bool = False, transpose: bool = False) -> Variable:
    """x such that a @ x = b for triangular matrices a, or a.T @ x = b if `transpose`.

    a: square matrices on the last two axes, of which the upper half is read, the lower one if `lower`, and alone gets a
    gradient. b: matrices of as many rows, in stacks that broadcast with those of a, or for one matrix a vector. The result has
    the shape of b, in the float dtype of both, of 32 bits or more; integers are solved in float64.

    TypeError for less than matrices, ValueError for sizes that do not fit. LinearAlgebraError, a ValueError, where there is a 0
    on the diagonal.

    >>> mg.linalg.solve_triangular([[2.0, 0.0], [1.0, 4.0]], [2.0, 9.0], lower=True).eval().tolist()
    [1.0, 2.0]
    """
    return _solved(SolveTriangular(bool(lower), bool(transpose)), a, b)


def cho_solve(factor: Operand, b: Operand) -> Variable:
    """x such that a @ x = b, given the lower triangular `factor` of a, as `cholesky(a)` returns it: factor @ factor.T = a.

    factor, b: matrices and right-hand sides as `solve_triangular` takes them, with its dtypes and errors; the lower half of
    `factor` is read, and alone gets a gradient.

    >>> factor = mg.linalg.cholesky([[4.0, 2.0], [2.0, 5.0]])
    >>> mg.linalg.cho_solve(factor, [8.0, 12.0]).eval().tolist()
    [1.0, 2.0]
    """
    return solve_triangular(factor, solve_triangular(factor, b, lower=True), lower=True, transpose=True)
