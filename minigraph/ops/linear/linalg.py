"""`mg.linalg`: solving, factorizing, inverting; matrices stand on the last two axes.

Gradients after M. Giles, Collected matrix derivative results for forward and reverse mode algorithmic differentiation
(2008), and S. F. Walter and L. Lehmann, Algorithmic differentiation of linear algebra functions (2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Array, Item, Variable, items, toposort
from minigraph.core.types import TensorType
from minigraph.ops.array.arranging import tril
from minigraph.ops.array.creation import zeros_like
from minigraph.ops.array.shape import expand_dims, shape, squeeze
from minigraph.ops.elementwise.arithmetic import abs as absolute
from minigraph.ops.elementwise.arithmetic import multiply_or_zero
from minigraph.ops.elementwise.base import Cotangents, Operand
from minigraph.ops.elementwise.comparison import and_, eq, gt, le, or_, where
from minigraph.ops.linear.matrices import MatrixOp, as_matrix, diagonal_matrix, identity_like, transposed
from minigraph.ops.linear.products import matmul
from minigraph.ops.linear.solving import SolveTriangular, cho_solve, solve, solve_triangular
from minigraph.ops.reduce import reduction, statistics
from minigraph.ops.reduce.reduction import ProductOfOthers

__all__ = [
    "cho_solve", "cholesky", "det", "eigh", "inv", "norm", "qr", "slogdet", "solve", "solve_triangular", "svd",
]  # fmt: skip


def norm(x: Operand, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Variable:
    """The vector norm of x of order `ord` over `axis` (kept if `keepdims`), or Frobenius' for matrices; else ValueError."""
    variable = as_variable(x)
    axes = 0 if isinstance(axis, int) else variable.ndim if axis is None else len(axis)
    if axes == 2 and ord not in (None, "fro"):
        raise InvalidValueError(
            f"of the matrix norms only Frobenius' is defined, not {ord!r}; minigraph.norm takes vector norms"
        )
    return statistics.norm(variable, 2 if ord in (None, "fro") else ord, axis, keepdims)


def _by_lower_half(whole: Variable) -> Variable:
    """The cotangent of a lower half that stands for a symmetric matrix, from a cotangent of the whole matrix."""
    return tril(whole + transposed(whole)) - identity_like(whole) * whole


class Cholesky(MatrixOp):
    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.cholesky(a)

    def gradient(self, dy: Variable, y: Variable, a: Variable) -> Cotangents:
        product = matmul(transposed(y), tril(dy))
        inner = tril(product) - identity_like(product) * product * 0.5
        half = SolveTriangular(lower=True, transpose=True)
        outside = half(y, transposed(half(y, transposed(inner))))
        return (_by_lower_half((outside + transposed(outside)) * 0.5),)


def cholesky(a: Operand) -> Variable:
    """The lower triangular l with l @ l.T = a, for symmetric positive definite a.

    The lower half of a is read, and alone gets a gradient: that of an element off the diagonal counts for both places where it
    stands. LinearAlgebraError where a is not positive definite.
    """
    return Cholesky()(as_matrix(a))


class Inverse(MatrixOp):
    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.inv(a)

    def gradient(self, dy: Variable, y: Variable, a: Variable) -> Cotangents:
        return (-matmul(matmul(transposed(y), dy), transposed(y)),)


def inv(a: Operand) -> Variable:
    """The inverse of square matrices; LinearAlgebraError, a ValueError, where one is singular."""
    return Inverse()(as_matrix(a))


class Determinant(MatrixOp):
    def infer_matrix(self, a: TensorType) -> TensorType:
        return TensorType(a.dtype, a.shape[:-2])

    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.det(a)

    def gradient(self, dy: Variable, y: Variable, a: Variable) -> Cotangents:
        return (multiply_or_zero(expand_dims(dy, (-2, -1)), Cofactors()(a)),)


def det(a: Operand) -> Variable:
    """The determinant of square matrices; its gradient, the cofactors, is right for singular ones, too."""
    return Determinant()(as_matrix(a))


NO_POWER = -(1 << 24)
"""A stand-in for the exponent of 0."""


class Cofactors(MatrixOp):
    """The derivative of the determinant, which is det(a) * inv(a).T where there is an inverse.

    With a = u @ diag(s) @ vt, that is det(u) * det(vt) * u @ diag(the product of all other elements of s) @ vt.
    """

    def forward(self, xp: Any, a: Array) -> Array:
        if a.size == 0:
            return xp.zeros_like(a)
        u, s, vt = xp.linalg.svd(a)
        signs = xp.rint(xp.linalg.det(u) * xp.linalg.det(vt))[..., None, None]
        # The products may leave the range though most of the result does not: they are taken by their exponents.
        digits, exponents = xp.frexp(s)
        products = ProductOfOthers().forward(xp, digits)
        powers = xp.where(products == 0, NO_POWER, exponents.sum(-1, keepdims=True) - exponents).astype("int32")
        scale = powers.max(-1, keepdims=True)
        scaled = xp.ldexp(products, powers - scale)
        return signs * xp.ldexp(xp.matmul(u * scaled[..., None, :], vt), scale[..., None])

    def gradient(self, dy: Variable, y: Variable, a: Variable) -> Cotangents:
        # Of a diagonal matrix the derivative of cofactor (i, i) by element (j, j) is the product q of all others, and that of
        # (i, j) by (j, i) is -q; any matrix is diagonal between u and vt.
        u, s, vt = svd(a)
        itself = eq(identity_like(a), 1)
        q = where(itself, 0, ProductOfOthers()(where(itself, 1, expand_dims(s, -2))))
        turned = matmul(matmul(transposed(u), dy), transposed(vt))
        own = reduction.sum(where(itself, turned, 0), -1)
        inner = diagonal_matrix(reduction.sum(q * expand_dims(own, -2), -1)) - q * transposed(turned)
        return (expand_dims(det(u) * det(vt), (-2, -1)) * matmul(matmul(u, inner), vt),)


class SignLogDeterminant(MatrixOp):
    def infer_matrix(self, a: TensorType) -> tuple[TensorType, TensorType]:
        return TensorType(a.dtype, a.shape[:-2]), TensorType(a.dtype, a.shape[:-2])

    def forward(self, xp: Any, a: Array) -> Array:
        return tuple(xp.linalg.slogdet(a))

    def gradient(self, dy: Any, y: Variable, a: Variable) -> Cotangents:
        if dy[1] is None:
            return (zeros_like(a),)
        singular = expand_dims(eq(items(y)[0], 0), (-2, -1))
        inverse = where(singular, np.nan, inv(where(singular, identity_like(a), a)))
        return (multiply_or_zero(expand_dims(dy[1], (-2, -1)), transposed(inverse)),)


def slogdet(a: Operand) -> tuple[Variable, Variable]:
    """The sign and the logarithm of the magnitude of the determinant of square matrices.

    Those of a singular matrix are 0 and -inf; the gradient by it is NaN, unless its cotangent is 0.
    """
    sign, logarithm = items(SignLogDeterminant()(as_matrix(a)))
    return sign, logarithm


ROUNDING = 4
"""The greatest number of units in the last place that may be nothing but rounding."""


def _rounding(x: Variable, axes: int | tuple[int, ...]) -> Variable:
    """The amount that may be nothing but rounding in sums of elements of x over axes."""
    return reduction.sum(absolute(x) * (ROUNDING * np.finfo(x.dtype).eps), axes, keepdims=True)


def _pairs(values: Variable) -> tuple[Variable, Variable]:
    """Matrices with values[j], and with values[i], as their elements (i, j)."""
    return expand_dims(values, -2), expand_dims(values, -1)


def _reads_values(dvectors: Variable, factors: Variable, place: int) -> bool:
    """Whether a cotangent of vectors is computed from the values that belong to them: result number `place` of `factors`."""
    return any(one.op == Item(place) and one.inputs[0] is factors for one in toposort([dvectors]))


class Turning:
    """The turns of vectors into one another by their cotangents: `matrices`, in the vectors' basis.

    reads: whether these read the values that belong to the vectors. dvalues: the cotangent of the values, if there is one.
    Two vectors turn by a quotient of a difference of the cotangent and one of values. Of equal values that is 0 / 0 where a
    smooth function of the whole matrix is differentiated, and its limit is not known here: it becomes NaN. It is 0, and known
    to be, if the cotangent is 0, too: but for one that reads the values only if it is not these that make it 0.
    """

    def __init__(self, matrices: Sequence[Variable], reads: bool, dvalues: Variable | None) -> None:
        self.reads = reads
        total = sum((absolute(one) for one in matrices[1:]), absolute(matrices[0]))
        self.sizes = total + transposed(total)
        self._rounding = _rounding(total, (-2, -1))
        own = gt(reduction.sum(total * identity_like(total), -1), squeeze(self._rounding, -1))
        self.told = own if dvalues is None else or_(own, eq(dvalues, 0))
        """Whether a vector's cotangent tells how much depends on it, or nothing does, not even on its value."""

    def quotients(self, differences: Variable, gaps: Variable, equal: Variable) -> Variable:
        """differences / gaps, but 0 or NaN where values are equal, and so differences nothing but rounding."""
        known = le(absolute(differences), self._rounding)
        if self.reads:
            known = and_(le(self.sizes, self._rounding), and_(*_pairs(self.told)))
        return where(equal, where(known, 0, np.nan), differences / where(equal, 1, gaps))

    def rest(self, dvectors: Variable, vectors: Variable, turned: Variable, values: Variable) -> Variable:
        """The part of `dvectors` outside of `vectors`, with `turned` inside, divided by `values`; 0 if they span everything."""
        everything = eq(*shape(vectors)[-2:])
        rest = where(everything, 0, dvectors - matmul(vectors, turned))
        known = le(absolute(rest), _rounding(dvectors, (-2, -1)))
        if self.reads:
            known = and_(known, or_(expand_dims(self.told, -2), everything))
        vanishing = expand_dims(eq(values, 0), -2)
        return where(vanishing, where(known, 0, np.nan), rest / expand_dims(where(eq(values, 0), 1, values), -2))


class SymmetricEigen(MatrixOp):
    def infer_matrix(self, a: TensorType) -> tuple[TensorType, TensorType]:
        return TensorType(a.dtype, a.shape[:-1]), a

    def forward(self, xp: Any, a: Array) -> Array:
        return tuple(xp.linalg.eigh(a))

    def gradient(self, dy: Any, y: Variable, a: Variable) -> Cotangents:
        values, vectors = items(y)
        inner = zeros_like(a) if dy[0] is None else diagonal_matrix(dy[0])
        if dy[1] is not None:
            turned = matmul(transposed(vectors), dy[1])
            turning = Turning([turned], _reads_values(dy[1], y, 0), dy[0])
            first, second = _pairs(values)
            differences, gaps = turned - transposed(turned), first - second
            equal = le(absolute(gaps), expand_dims(_rounding(values, -1), -1))
            if turning.reads:
                eps = float(np.finfo(a.dtype).eps)
                cancelled = and_(gt(turning.sizes, 0), le(absolute(differences), turning.sizes * (ROUNDING * eps)))
                equal = or_(equal, and_(cancelled, le(absolute(gaps), eps**0.5)))
            inner = where(eq(identity_like(a), 1), inner, turning.quotients(differences, gaps, equal) * 0.5)
        return (_by_lower_half(matmul(matmul(vectors, inner), transposed(vectors))),)


def eigh(a: Operand) -> tuple[Variable, Variable]:
    """The eigenvalues (ascending) and eigenvectors (as columns) of symmetric matrices.

    The lower half of a is read, and alone gets a gradient: that of an element off the diagonal counts for both places where it
    stands. Where two values are equal, up to rounding, their vectors are not determined: a cost that depends on these has NaN
    for its gradient by that matrix, also one of which a limit would exist, such as an element of the matrix' exponential.
    """
    values, vectors = items(SymmetricEigen()(as_matrix(a)))
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
        v, ds = transposed(vt), dy[1]
        du, dv = dy[0], None if dy[2] is None else transposed(dy[2])
        inner = diagonal_matrix(zeros_like(s) if ds is None else ds)
        given = [(basis, one) for basis, one in ((u, du), (v, dv)) if one is not None]
        if not given:
            return (matmul(matmul(u, inner), vt),)
        turned = [matmul(transposed(basis), one) for basis, one in given]
        turning = Turning(turned, any(_reads_values(one, y, 1) for _, one in given), ds)
        left = zeros_like(inner) if du is None else turned[0] - transposed(turned[0])
        right = zeros_like(inner) if dv is None else turned[-1] - transposed(turned[-1])
        result = matmul(matmul(u, where(eq(identity_like(inner), 1), inner, _turned(turning, left, right, s))), vt)
        rows, columns = a.type.shape[-2:]
        if du is not None and (rows is None or columns is None or rows > columns):
            result = result + matmul(turning.rest(du, u, turned[0], s), vt)
        if dv is not None and (rows is None or columns is None or rows < columns):
            result = result + matmul(u, transposed(turning.rest(dv, v, turned[-1], s)))
        return (result,)


def _turned(turning: Turning, left: Variable, right: Variable, s: Variable) -> Variable:
    """(left * s_j + s_i * right) / (s_j^2 - s_i^2), in steps that stay within the range of floats."""
    first, second = _pairs(s)
    total, gaps = first + second, first - second
    equal = le(absolute(gaps), total * (ROUNDING * float(np.finfo(s.dtype).eps)))
    return (turning.quotients(left + right, gaps, equal) + turning.quotients(left - right, total, eq(total, 0))) * 0.5


def svd(a: Operand) -> tuple[Variable, Variable, Variable]:
    """u, s, vt with (u * s) @ vt = a, reduced: s holds the min(rows, columns) singular values, descending.

    Where two values are equal, up to rounding, or one of a matrix that is not square is 0, vectors are not determined: a cost
    that depends on these has NaN for its gradient by that matrix, also one of which a limit would exist.
    """
    u, s, vt = items(SingularValues()(as_matrix(a)))
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
        return (transposed(SolveTriangular(lower=False, transpose=False)(r, transposed(dq + matmul(q, symmetric)))),)


def qr(a: Operand) -> tuple[Variable, Variable]:
    """q with orthonormal columns and upper triangular r with q @ r = a, reduced."""
    q, r = items(OrthogonalTriangular()(as_matrix(a)))
    return q, r
