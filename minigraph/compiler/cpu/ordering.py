"""Elements put in order by kernels of our own, where NumPy is slower: short rows, and the greatest few of long ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minigraph.compiler.cpu.jit import Code
from minigraph.compiler.cpu.ordering_text import greatest_text, ranked_text
from minigraph.compiler.cpu.runtime import pool
from minigraph.core.graph import Array, Op
from minigraph.core.locks import once
from minigraph.ops.array.sorting import Ordering

SHORT, SHORTER = 32, 16
"""The length up to which rows are ordered by the ranks of their elements; if these alone are wanted, not their places."""
FEW = 32
"""The most elements of a row that are kept in order while it is gone through."""
MANY = 4096
"""The least number of elements that is worth a kernel."""
BYTES_A_PART = 100_000
"""Bytes read that are worth a thread of their own."""


def ordering_kernel(op: Op) -> Callable[..., Any] | None:
    """The function that computes an op which puts elements in order; None for others."""
    return partial(_ordered, op) if isinstance(op, Ordering) else None


def _ordered(op: Ordering, x: Array) -> Any:
    """The results of an op."""
    if op.axis != x.ndim - 1 or x.size < MANY or not x.flags.aligned:
        return op.forward(np, x)
    return _by_kernel(op, np.ascontiguousarray(x))


def _by_kernel(op: Ordering, x: Array) -> Any:
    """The results for rows that lie one after the other; by NumPy where that is faster."""
    length = x.shape[-1]
    kept = length if op.kept is None else op.kept
    if length <= (SHORT if op.places else SHORTER) and 0 < kept <= length:
        code = _ranked(x.dtype, length, op.values, op.places, op.kept is not None)
    elif op.kept is not None and 0 < kept <= min(FEW, length):
        code = _greatest(x.dtype)
    else:
        return op.forward(np, x)
    dtypes = [x.dtype] * op.values + [np.dtype("int64")] * op.places
    results = tuple([np.empty((*x.shape[:-1], kept), dtype) for dtype in dtypes])
    _run(code, x, results, kept)
    return results if len(results) > 1 else results[0]


def _run(code: Code, x: Array, results: tuple[Array, ...], kept: int) -> None:
    """Run a kernel over the rows of an array, in parts that threads share."""
    rows, length = math.prod(x.shape[:-1]), x.shape[-1]
    parts = max(1, min(rows, pool().threads, x.nbytes // BYTES_A_PART))
    done = pool().run_kernel(code.address("ordered"), (rows, length, kept), (x, *results), parts)
    assert done, "nothing can fail"


@once
def _ranked(dtype: np.dtype[Any], length: int, values: bool, places: bool, descending: bool) -> Code:
    """The kernel that puts the elements of rows of a length in order, their places, or both."""
    return Code(ranked_text(dtype, length, values, places, descending))


@once
def _greatest(dtype: np.dtype[Any]) -> Code:
    """The kernel that finds the greatest few elements of rows."""
    return Code(greatest_text(dtype, FEW))
