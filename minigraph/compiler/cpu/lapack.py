"""Linear algebra that Python has OpenBLAS compute between regions, where NumPy has no function for it, or a slower one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minigraph.compiler.cpu.blas import Blas, blas
from minigraph.core.graph import Array, Op
from minigraph.ops.linear.linalg import Cholesky
from minigraph.ops.linear.solving import SolveTriangular, stretched

ROW_MAJOR, LEFT, NOT_UNIT = 101, 141, 131
UPPER, LOWER = 121, 122
PLAIN, TRANSPOSED = 111, 112
"""The words of BLAS."""

SMALL = 64
"""The most rows of matrices that NumPy factorizes as fast, of which it may get many at once."""


def lapack_kernel(op: Op) -> Callable[..., Array] | None:
    """The function that computes an op by OpenBLAS; None if that has nothing better than NumPy, or is not installed."""
    match op:
        case SolveTriangular(lower, transpose) if (library := blas()) is not None:
            return partial(_solve_triangular, library, lower, transpose)
        case Cholesky() if (library := blas()) is not None:
            return partial(_cholesky, library)
    return None


def _place(array: Array) -> ctypes.c_void_p:
    """The address of an array's memory."""
    return ctypes.c_void_p(array.ctypes.data)


def _letter(dtype: np.dtype[Any]) -> str:
    """The letter with which names of functions on a dtype begin."""
    return "s" if dtype == np.float32 else "d"


def _solve_triangular(library: Blas, lower: bool, transpose: bool, a: Array, b: Array) -> Array:
    """x with a @ x = b, or a.T @ x = b, for triangular matrices."""
    if not np.diagonal(a, axis1=-2, axis2=-1).all():
        raise np.linalg.LinAlgError("Singular matrix")
    matrices, right = stretched(np, a, b)
    result = np.array(right, order="C")
    if not result.size:
        return result
    if a.strides[-2] == a.itemsize:  # the columns lie in one piece
        matrices, lower, transpose = matrices.swapaxes(-1, -2), not lower, not transpose
    solve = library.function(f"cblas_{_letter(a.dtype)}trsm")
    one = ctypes.c_float(1) if a.dtype == np.float32 else ctypes.c_double(1)
    words = ROW_MAJOR, LEFT, LOWER if lower else UPPER, TRANSPOSED if transpose else PLAIN, NOT_UNIT
    rows, columns = result.shape[-2:]
    for index in np.ndindex(result.shape[:-2]):
        matrix = np.ascontiguousarray(matrices[index])
        solve(*words, rows, columns, one, _place(matrix), rows, _place(result[index]), columns)
    return result


def _cholesky(library: Blas, a: Array) -> Array:
    """The lower triangular factors of symmetric positive definite matrices, whose lower half is read."""
    if a.shape[-1] <= SMALL:
        return np.linalg.cholesky(a)
    result = np.ascontiguousarray(np.tril(a))
    factorize = library.function(f"{_letter(a.dtype)}potrf_")
    size, info = ctypes.c_int(a.shape[-1]), ctypes.c_int(0)
    for index in np.ndindex(a.shape[:-2] if a.size else (0,)):
        factorize(b"U", ctypes.byref(size), _place(result[index]), ctypes.byref(size), ctypes.byref(info))  # of columns
        if info.value:
            raise np.linalg.LinAlgError("Matrix is not positive definite")
    return result
