"""Linear algebra between regions, by OpenBLAS, or for stacks of small matrices by code of our own.

NumPy's own OpenBLAS would start threads of its own, which wait for the cores that ours are on.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigraph.compiler.cpu.blas import Blas, blas
from minigraph.compiler.cpu.small_systems import FACTOR, LOWER, PIVOTS, SOLVE, are_small, compute_systems
from minigraph.core.graph import Array, Op
from minigraph.core.locks import once
from minigraph.ops.linear.solving import SolveTriangular, stretched

ROW_MAJOR, LEFT, NOT_UNIT = 101, 141, 131
UPPER, LOWER_HALF = 121, 122
PLAIN, TRANSPOSED = 111, 112
"""The words of BLAS."""

SMALL, LARGE = 64, 400
"""The most rows of matrices that NumPy factorizes as fast, of which it may get many at once; and the least that are worth the
threads of its library.
"""
WORKSPACE = 64
"""The columns of memory that the inverse of a matrix is computed in."""

SINGULAR, INDEFINITE = "Singular matrix", "Matrix is not positive definite"
"""NumPy's words."""


def lapack_kernel(op: Op) -> Callable[..., Array] | None:
    """The function that computes an op for which NumPy has none; None if it has one, or OpenBLAS is not installed."""
    match op:
        case SolveTriangular(lower, transpose) if (library := blas()) is not None:
            return partial(_solve_triangular, library, lower, transpose)
    return None


@once
def own_namespace() -> Any:
    """NumPy with functions of ours in its `linalg`, as far as OpenBLAS is installed."""
    library = blas()
    if library is None:
        return np
    own: dict[str, Callable[..., Any]] = {
        "cholesky": _cholesky, "det": _determinant, "inv": _inverse, "slogdet": _sign_and_logarithm, "solve": _solve,
    }  # fmt: skip
    linalg = SimpleNamespace(**{**vars(np.linalg), **{name: partial(one, library) for name, one in own.items()}})
    return SimpleNamespace(**{**vars(np), "linalg": linalg})


def _place(array: Array) -> ctypes.c_void_p:
    """The address of an array's memory."""
    return ctypes.c_void_p(array.ctypes.data)


def _number(value: int) -> Any:
    """A number that the library is given by its address."""
    return ctypes.byref(ctypes.c_int(value))


def _letter(dtype: np.dtype[Any]) -> str:
    """The letter with which names of functions on a dtype begin."""
    return "s" if dtype == np.float32 else "d"


def _are_middling(a: Array) -> bool:
    """Whether matrices have as many rows as one thread of our library factorizes faster than NumPy."""
    rows: int = a.shape[-1]
    return SMALL < rows < LARGE


def _checked(good: bool, message: str = SINGULAR) -> None:
    """Raise NumPy's error unless all is good."""
    if not good:
        raise np.linalg.LinAlgError(message)


def _solve_triangular(library: Blas, lower: bool, transpose: bool, a: Array, b: Array) -> Array:
    """x with a @ x = b, or a.T @ x = b, for triangular matrices."""
    _checked(bool(np.diagonal(a, axis1=-2, axis2=-1).all()))
    matrices, right = stretched(np, a, b)
    if are_small(matrices, right.shape[-1]):
        return _solve_small_triangular(matrices.mT if transpose else matrices, right, lower != transpose)
    result = np.array(right, order="C")
    if not result.size:
        return result
    if a.strides[-2] == a.itemsize:  # the columns lie in one piece
        matrices, lower, transpose = matrices.swapaxes(-1, -2), not lower, not transpose
    solve = library.function(f"cblas_{_letter(a.dtype)}trsm")
    one = ctypes.c_float(1) if a.dtype == np.float32 else ctypes.c_double(1)
    words = ROW_MAJOR, LEFT, LOWER_HALF if lower else UPPER, TRANSPOSED if transpose else PLAIN, NOT_UNIT
    rows, columns = result.shape[-2:]
    for index in np.ndindex(result.shape[:-2]):
        matrix = np.ascontiguousarray(matrices[index])
        solve(*words, rows, columns, one, _place(matrix), rows, _place(result[index]), columns)
    return result


def _solve_small_triangular(a: Array, b: Array, lower: bool) -> Array:
    """The same for many small matrices; those of the upper half are of the lower one from the last element back."""
    result = np.empty(b.shape, b.dtype)
    order = slice(None, None, 1 if lower else -1)
    _checked(compute_systems(LOWER, a[..., order, order], b[..., order, :], result[..., order, :]))
    return result


def _cholesky(library: Blas, a: Array) -> Array:
    """The lower triangular factors of symmetric positive definite matrices, whose lower half is read."""
    if are_small(a):
        result = np.empty(a.shape, a.dtype)
        _checked(compute_systems(FACTOR, a, None, result), INDEFINITE)
        return result
    if a.shape[-1] <= SMALL:
        return np.linalg.cholesky(a)
    result, letter, size = np.zeros(a.shape, a.dtype), _letter(a.dtype), _number(a.shape[-1])
    copy, factorize, info = library.function(f"{letter}lacpy_"), library.function(f"{letter}potrf_"), ctypes.c_int(0)
    for index in np.ndindex(a.shape[:-2]):
        matrix, half = np.ascontiguousarray(a[index]), b"U"  # the lower half of rows is the upper one of columns
        copy(half, size, size, _place(matrix), size, _place(result[index]), size)
        factorize(half, size, _place(result[index]), size, ctypes.byref(info))
        _checked(not info.value, INDEFINITE)
    return result


def _solve(library: Blas, a: Array, b: Array) -> Array:
    """x with a @ x = b, for stacks of one shape."""
    if are_small(a, b.shape[-1]):
        result = np.empty(b.shape, b.dtype)
        _checked(compute_systems(SOLVE, a, b, result))
        return result
    if not _are_middling(a) or not b.size:
        return np.linalg.solve(a, b)
    solutions = np.array(b.mT, order="C")
    rows, columns = b.shape[-2:]
    solve, size = library.function(f"{_letter(a.dtype)}getrs_"), _number(rows)
    info = ctypes.byref(ctypes.c_int(0))
    for index in np.ndindex(b.shape[:-2]):
        factors, pivots, singular = _factorized(library, a[index])
        _checked(not singular)
        given = _place(factors), size, _place(pivots), _place(solutions[index]), size, info
        solve(b"T", size, _number(columns), *given)  # for the library, factors are those of the transposed matrix
    return np.ascontiguousarray(solutions.mT)


def _inverse(library: Blas, a: Array) -> Array:
    """The inverses of matrices."""
    if are_small(a, a.shape[-1]):
        result = np.empty(a.shape, a.dtype)
        _checked(compute_systems(SOLVE, a, np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape), result))
        return result
    if not _are_middling(a):
        return np.linalg.inv(a)
    rows = a.shape[-1]
    result, memory = np.empty(a.shape, a.dtype), np.empty(WORKSPACE * rows, a.dtype)
    invert, size, info = library.function(f"{_letter(a.dtype)}getri_"), _number(rows), ctypes.byref(ctypes.c_int(0))
    for index in np.ndindex(a.shape[:-2]):
        result[index], pivots, singular = _factorized(library, a[index])
        _checked(not singular)
        invert(size, _place(result[index]), size, _place(pivots), _place(memory), _number(memory.size), info)
    return result


def _factorized(library: Blas, matrix: Array) -> tuple[Array, np.ndarray[Any, Any], bool]:
    """The triangular factors of a matrix, transposed, the row that each row changed places with, and whether it is singular."""
    factors, rows = np.array(matrix, order="C"), len(matrix)
    pivots, size, info = np.empty(rows, np.int32), _number(rows), ctypes.c_int(0)
    factorize = library.function(f"{_letter(matrix.dtype)}getrf_")
    factorize(size, size, _place(factors), size, _place(pivots), ctypes.byref(info))
    return factors, pivots, info.value > 0


def _pivots(library: Blas, a: Array) -> Array:
    """The pivots of matrices, whose product is the determinant: a column of them for each matrix."""
    rows, height = a.shape[-1], math.prod(a.shape[:-2])
    pivots, matrices = np.empty((rows, height), a.dtype), a.reshape(height, rows, rows)
    if are_small(a):
        compute_systems(PIVOTS, matrices, None, np.expand_dims(pivots.T, 1))
        return pivots
    for k, matrix in enumerate(matrices):
        factors, exchanged, _ = _factorized(library, matrix)
        pivots[:, k] = np.diagonal(factors)
        pivots[0, k] *= 1 - 2 * (np.count_nonzero(exchanged != np.arange(1, rows + 1)) % 2)
    return pivots


def _sign_and_logarithm(library: Blas, a: Array) -> tuple[Array, Array]:
    """The signs of determinants, and the logarithms of their magnitudes."""
    if not (_are_middling(a) or are_small(a)):
        return tuple(np.linalg.slogdet(a))
    pivots, stack = _pivots(library, a), a.shape[:-2]
    signs = np.prod(np.where(pivots < 0, -1, pivots != 0), 0, a.dtype)
    with np.errstate(divide="ignore"):
        return signs.reshape(stack), np.log(np.abs(pivots)).sum(0).reshape(stack)


def _determinant(library: Blas, a: Array) -> Array:
    """The determinants of matrices."""
    if not (_are_middling(a) or are_small(a)):
        return np.linalg.det(a)
    signs, logarithms = _sign_and_logarithm(library, a)
    return signs * np.exp(logarithms)
