"""`mg.linalg`: solving, factorizing, inverting; matrices stand on the last two axes.

Gradients after M. Giles, Collected matrix derivative results for forward and reverse mode algorithmic differentiation
(2008), and S. F. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions (2012).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Array, Op, Variable, as_variable, items
from minigraph.ops import reduction
from minigraph.ops.arithmetic import reciprocal
from minigraph.ops.arranging import tril
from minigraph.ops.comparison import eq, where
from minigraph.ops.creation import zeros_like
from minigraph.ops.elementwise import Cotangents, Operand, cast, promoted
from minigraph.ops.linear import (
    diagonal_matrix,
    identity_like,
    lower_triangle_halved,
    matmul,
    transposed,
    with_agreeing_stacks,
)
from minigraph.ops.shape import expand_dims, squeeze
from minigraph.types import TensorType, broadcast_shapes

__all__ = ["cholesky", "det", "eigh", "inv", "norm", "qr", "slogdet", "solve", "svd"]


def _matrix(a: Operand) -> Variable:
    """a as floats of 32 bits or more, float64 for integers."""
    variable = as_variable(a)
    if variable.dtype.kind != "f":
        return cast(variable, "float64")
    return cast(variable, "float32") if variable.dtype.itemsize == 2 else variable


def norm(x: Operand, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Variable:
    """The vector norm over `axis` (2 by default), or the Frobenius norm of a matrix; no other matrix norms: ValueError."""
    variable = as_variable(x)
    axes = 0 if isinstance(axis, int) else variable.ndim if axis is None else len(axis)
    if axes == 2 and ord not in (None, "fro"):
        raise InvalidValueError(
            f"of the matrix norms only Frobenius' is defined, not {ord!r}; minigraph.norm takes vector norms"
        )
    return reduction.norm(variable, 2 if ord in (None, "fro") else ord, axis, keepdims)


class MatrixOp(Op):
    """An op on one stack of matrices, square unless the subclass says otherwise."""

    square = True

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
        stacks = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])  # CuPy does not stretch them
        return xp.linalg.solve(*(xp.broadcast_to(one, (*stacks, *one.shape[-2:])) for one in (a, b)))

    def gradient(self, dy: Variable, y: Variable, a: Variable, b: Variable) -> Cotangents:
        db = Solve()(transposed(a), dy)
        return -matmul(db, transposed(y)), db


def solve(a: Operand, b: Operand) -> Variable:
    """x such that a @ x = b, for square matrices a and matrices (or, for one matrix, a vector) b."""
    left, right = promoted((_matrix(a), _matrix(b)))
    if right.ndim == left.ndim - 1 == 1:
        return squeeze(Solve()(left, expand_dims(right, 1)), 1)
    return Solve()(*with_agreeing_stacks(left, right))


class Cholesky(MatrixOp):
    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.cholesky(a)

    def gradient(self, dy: Variable, y: Variable, a: Variable) -> Cotangents:
        inner = lower_triangle_halved(matmul(transposed(y), tril(dy)))
        outside = Solve()(transposed(y), transposed(Solve()(transposed(y), transposed(inner))))
        return ((outside + transposed(outside)) * 0.5,)


def cholesky(a: Operand) -> Variable:
    """The lower triangular l with l @ l.T = a, for symmetric positive definite a (of which the lower half is read)."""
    return Cholesky()(_matrix(a))


class Inverse(MatrixOp):
    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.inv(a)

    def gradient(self, dy: Variable, y: Variable, a: Variable) -> Cotangents:
        return (-matmul(matmul(transposed(y), dy), transposed(y)),)


def inv(a: Operand) -> Variable:
    """The inverse of square matrices."""
    return Inverse()(_matrix(a))


class Determinant(MatrixOp):
    def infer_matrix(self, a: TensorType) -> TensorType:
        return TensorType(a.dtype, a.shape[:-2])

    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.det(a)

    def gradient(self, dy: Variable, y: Variable, a: Variable) -> Cotangents:
        return (expand_dims(dy * y, (-2, -1)) * transposed(inv(a)),)


def det(a: Operand) -> Variable:
    """The determinant of square matrices; its gradient needs them to be invertible."""
    return Determinant()(_matrix(a))


class SignLogDeterminant(MatrixOp):
    def infer_matrix(self, a: TensorType) -> tuple[TensorType, TensorType]:
        return TensorType(a.dtype, a.shape[:-2]), TensorType(a.dtype, a.shape[:-2])

    def forward(self, xp: Any, a: Array) -> Array:
        return tuple(xp.linalg.slogdet(a))

    def gradient(self, dy: Any, y: Variable, a: Variable) -> Cotangents:
        if dy[1] is None:
            return (zeros_like(a),)
        return (expand_dims(dy[1], (-2, -1)) * transposed(inv(a)),)


def slogdet(a: Operand) -> tuple[Variable, Variable]:
    """The sign and the logarithm of the magnitude of the determinant of square matrices."""
    sign, logarithm = items(SignLogDeterminant()(_matrix(a)))
    return sign, logarithm


def _inverse_gaps(values: Variable) -> Variable:
    """1 / (values[j] - values[i]) off the diagonal, 0 on it and where two values agree."""
    gaps = expand_dims(values, -2) - expand_dims(values, -1)
    return where(eq(gaps, 0), 0, reciprocal(where(eq(gaps, 0), 1, gaps)))


class SymmetricEigen(MatrixOp):
    def infer_matrix(self, a: TensorType) -> tuple[TensorType, TensorType]:
        return TensorType(a.dtype, a.shape[:-1]), a

    def forward(self, xp: Any, a: Array) -> Array:
        return tuple(xp.linalg.eigh(a))

    def gradient(self, dy: Any, y: Variable, a: Variable) -> Cotangents:
        values, vectors = items(y)
        inner = zeros_like(a)
        if dy[0] is not None:
            inner = inner + diagonal_matrix(dy[0])
        if dy[1] is not None:
            inner = inner + _inverse_gaps(values) * matmul(transposed(vectors), dy[1])
        full = matmul(matmul(vectors, inner), transposed(vectors))
        return ((full + transposed(full)) * 0.5,)


def eigh(a: Operand) -> tuple[Variable, Variable]:
    """The eigenvalues (ascending) and eigenvectors (as columns) of symmetric matrices, whose lower half is read."""
    values, vectors = items(SymmetricEigen()(_matrix(a)))
    return values, vectors


def _smaller_side(a: TensorType) -> int | None:
    """The number of columns of a reduced factorization."""
    rows, columns = a.shape[-2:]
    return None if rows is None or columns is None else min(rows, columns)


class SingularValues(MatrixOp):
    square = False

    def infer_matrix(self, a: TensorType) -> tuple[TensorType, ...]:
        batch, (rows, columns), k = a.shape[:-2], a.shape[-2:], _smaller_side(a)
        shapes = (*batch, rows, k), (*batch, k), (*batch, k, columns)
        return tuple(TensorType(a.dtype, shape) for shape in shapes)

    def forward(self, xp: Any, a: Array) -> Array:
        return tuple(xp.linalg.svd(a, full_matrices=False))

    def gradient(self, dy: Any, y: Variable, a: Variable) -> Cotangents:
        u, s, vt = items(y)
        v, scale, gaps = transposed(vt), diagonal_matrix(s), _inverse_gaps(s * s)
        inner = zeros_like(scale) if dy[1] is None else diagonal_matrix(dy[1])
        outside = zeros_like(a)
        if dy[0] is not None:
            turn = matmul(transposed(u), dy[0])
            inner = inner + matmul(gaps * (turn - transposed(turn)), scale)
            rest = dy[0] - matmul(u, turn)
            outside = outside + matmul(rest / expand_dims(s, -2), vt)
        if dy[2] is not None:
            dv = transposed(dy[2])
            turn = matmul(vt, dv)
            inner = inner + matmul(scale, gaps * (turn - transposed(turn)))
            rest = dv - matmul(v, turn)
            outside = outside + matmul(u / expand_dims(s, -2), transposed(rest))
        return (matmul(matmul(u, inner), vt) + outside,)


def svd(a: Operand) -> tuple[Variable, Variable, Variable]:
    """u, s, vt with (u * s) @ vt = a, reduced: s holds the min(rows, columns) singular values, descending."""
    u, s, vt = items(SingularValues()(_matrix(a)))
    return u, s, vt


class OrthogonalTriangular(MatrixOp):
    square = False

    def infer_matrix(self, a: TensorType) -> tuple[TensorType, ...]:
        batch, (rows, columns), k = a.shape[:-2], a.shape[-2:], _smaller_side(a)
        return TensorType(a.dtype, (*batch, rows, k)), TensorType(a.dtype, (*batch, k, columns))

    def forward(self, xp: Any, a: Array) -> Array:
        return tuple(xp.linalg.qr(a))

    def gradient(self, dy: Any, y: Variable, a: Variable) -> Cotangents:
        rows, columns = a.type.shape[-2:]
        if rows is None or columns is None or rows < columns:
            raise InvalidValueError(f"the gradient of qr needs known sizes with rows >= columns, not {a.type}")
        q, r = items(y)
        dq = zeros_like(q) if dy[0] is None else dy[0]
        dr = zeros_like(r) if dy[1] is None else dy[1]
        m = matmul(r, transposed(dr)) - matmul(transposed(dq), q)
        symmetric = tril(m) + transposed(tril(m)) - identity_like(m) * m
        return (transposed(Solve()(r, transposed(dq + matmul(q, symmetric)))),)


def qr(a: Operand) -> tuple[Variable, Variable]:
    """q with orthonormal columns and upper triangular r with q @ r = a, reduced."""
    q, r = items(OrthogonalTriangular()(_matrix(a)))
    return q, r
