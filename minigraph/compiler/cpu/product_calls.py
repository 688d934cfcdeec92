"""The calls of matrix products: the function that computes each, its words, and the number of parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from minigraph.compiler.cpu.gemm import DEPTH, ROWS, packed_size
from minigraph.compiler.cpu.products import (
    BLAS,
    FEW,
    OWN,
    PACK,
    PACKED,
    PLAIN,
    SCATTERED,
    SPLIT_COLUMNS,
    SPLIT_ROWS,
    SPLIT_STACK,
    TILED,
    TRANSPOSED,
    VECTOR,
    PackedWords,
    PackWords,
    ProductWords,
    ScatteredWords,
    is_own,
)
from minigraph.compiler.cpu.runtime import pool
from minigraph.compiler.cpu.vectors import REGISTER_BYTES
from minigraph.compiler.shaped.layout import Layout
from minigraph.compiler.shaped.target_ops import Packed, PackedMatMul, ScatteredMatMul
from minigraph.core.graph import Variable
from minigraph.core.record import Record

SMALL_MATRIX = 2**20
"""Bytes of a matrix that a core's cache holds while it is multiplied by."""
CALL_WORDS = ScatteredWords.count()
"""The most words of a call after its places."""
FEW_ROWS, MANY_COLUMNS = 8, 64
"""The most rows, and the least number of columns, of products for which the matrix is read where it lies."""
MOST_TILED = 500_000
"""The most multiplications of products that are computed in tiles over matrices where they lie."""
LARGE_MATRIX = 100_000
"""Elements of a matrix that all threads read for a product with a row or a column."""
WORK_OF_PRODUCTS = 500_000
"""Multiplications that are worth all threads."""


class Seen(Protocol):
    """A view of a program that tells the shapes and layouts of variables."""

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """The shape of a variable."""

    def layout(self, variable: Variable) -> Layout:
        """The layout of a variable."""


class Call(Record):
    """Who computes a product, words that say how, and in how many parts; and tables, whose addresses are among the words."""

    kind: str
    words: ProductWords | PackWords
    parts: int = 1
    tables: tuple[np.ndarray[Any, Any], ...] = ()


def call_of(variable: Variable, seen: Seen) -> Call:
    """The call of a product, or of the packing of a matrix."""
    match variable.op:
        case Packed():
            return _packing(variable, seen)
        case PackedMatMul():
            return _packed(variable, seen)
        case ScatteredMatMul():
            return _scattered(variable, seen)
    assert variable.op.multiplies, f"{variable!r} is no product"
    return _plain(variable, seen)


def _plain(variable: Variable, seen: Seen) -> Call:
    """A product of matrices, or a stack of them."""
    shape = seen.shape(variable)
    a, b = [(seen.layout(one), seen.shape(one)) for one in variable.inputs]
    rows, columns, inner = shape[-2], shape[-1], a[1][-1]
    first, second = matrix_of(*a), matrix_of(*b)
    height = math.prod(shape[:-2])
    stack = (stack_stride(*a), stack_stride(*b)) if height != 1 else (0, 0)
    split = SPLIT_STACK if height > 1 else SPLIT_ROWS if rows >= columns else SPLIT_COLUMNS
    work = height * inner * columns * (rows + 8)  # of few rows, the columns are what must be read
    parts = 1 if work < WORK_OF_PRODUCTS else pool().threads
    words = ProductWords(
        a_way=first[0], b_way=second[0], rows=rows, columns=columns, inner=inner,
        a_leading=first[1], b_leading=second[1], c_leading=max(columns, 1),
        height=height, a_stride=stack[0], b_stride=stack[1], c_stride=rows * columns, split=split,
    )  # fmt: skip
    if variable.dtype.kind != "f":
        return Call(OWN, words, parts)
    is_vector = 1 in (rows, columns) and inner
    if is_vector:
        parts = 1 if height * inner * rows * columns < LARGE_MATRIX else pool().threads
    few, many, lies = (1, rows, first[0] == TRANSPOSED) if columns == 1 else (rows, columns, second[0] == PLAIN)
    is_slow = few == 1 or many * inner * variable.dtype.itemsize > SMALL_MATRIX  # to read, rather than to multiply by
    if few <= FEW_ROWS and many >= MANY_COLUMNS and lies and is_slow:
        return Call(FEW, words, parts)
    if is_vector:
        return Call(VECTOR, words, parts)
    if second[0] == PLAIN and rows * columns * inner <= MOST_TILED:
        return Call(TILED, words, parts)
    return Call(OWN if is_own(rows, columns, inner, second[0] == TRANSPOSED) else BLAS, words, parts)


def _packing(variable: Variable, seen: Seen) -> Call:
    """The packing of a matrix."""
    matrix = variable.inputs[0]
    way, leading = matrix_of(seen.layout(matrix), seen.shape(matrix))
    depth, columns = seen.shape(matrix)
    _, width = packed_size(columns, depth, REGISTER_BYTES // matrix.dtype.itemsize)
    return Call(PACK, PackWords(way, columns, depth, leading, width))


def _packed(variable: Variable, seen: Seen) -> Call:
    """A product with a packed matrix: a small one, which each core's cache holds, is read by all, of a large one a part."""
    a = variable.inputs[0]
    (rows, columns), inner = seen.shape(variable), seen.shape(a)[1]
    way, leading = matrix_of(seen.layout(a), seen.shape(a))
    lanes = REGISTER_BYTES // a.dtype.itemsize
    _, width = packed_size(columns, inner, lanes)
    parts = 1 if inner * columns * (rows + 8) < WORK_OF_PRODUCTS else pool().threads
    small = columns * inner * a.dtype.itemsize <= SMALL_MATRIX
    split = SPLIT_ROWS if rows >= 2 * ROWS and small else SPLIT_COLUMNS
    words = PackedWords(
        a_way=way, b_way=TRANSPOSED, rows=rows, columns=columns, inner=inner,
        a_leading=leading, b_leading=DEPTH + lanes, c_leading=max(columns, 1),
        height=1, a_stride=0, b_stride=0, c_stride=0, split=split, width=width,
    )  # fmt: skip
    return Call(PACKED, words, parts)


def _scattered(variable: Variable, seen: Seen) -> Call:
    """A product with a matrix that is read where it lies."""
    op, (shown, b) = variable.op, variable.inputs
    assert isinstance(op, ScatteredMatMul)
    shape, layout, columns = seen.shape(shown), seen.layout(shown), seen.shape(b)[-1]
    first = op.stack + op.rows
    across, along = [_offsets(shape[part], layout.strides[part]) for part in (slice(op.stack, first), slice(first, None))]
    rows, inner, height = len(across), len(along), math.prod(shape[: op.stack])
    way, leading = matrix_of(seen.layout(b), seen.shape(b))
    parts = 1 if height * rows * columns * inner < WORK_OF_PRODUCTS else pool().threads
    words = ScatteredWords(
        a_way=PLAIN, b_way=way, rows=rows, columns=columns, inner=inner,
        a_leading=0, b_leading=leading, c_leading=height * columns,
        height=height, a_stride=sum(layout.strides[: op.stack]), b_stride=stack_stride(seen.layout(b), seen.shape(b)),
        c_stride=columns, split=SPLIT_ROWS if rows >= columns else SPLIT_COLUMNS,
        row_table=across.ctypes.data, column_table=along.ctypes.data,
    )  # fmt: skip
    return Call(SCATTERED, words, parts, (across, along))


def matrix_of(layout: Layout, shape: Sequence[int]) -> tuple[int, int]:
    """The way in which BLAS takes a matrix, PLAIN or TRANSPOSED, and its leading dimension."""
    rows, columns = shape[-2:]
    far, near = layout.strides[-2:]
    if (near == 1 or columns == 1) and (far >= columns or rows == 1):
        return PLAIN, max(far, columns, 1) if rows != 1 else max(columns, 1)
    return TRANSPOSED, max(near, rows, 1) if columns != 1 else max(rows, 1)


def _offsets(shape: Sequence[int], strides: Sequence[int]) -> np.ndarray[Any, Any]:
    """The positions of the elements of an array, counted from the first, in C order."""
    result = np.zeros(1, np.int64)
    for size, stride in zip(shape, strides, strict=True):
        result = np.add.outer(result, stride * np.arange(size)).reshape(-1)
    return result


def stack_stride(layout: Layout, shape: Sequence[int]) -> int:
    """The one stride along a stack of matrices, 0 where one matrix stands for all."""
    own = [(size, stride) for size, stride in zip(shape[:-2], layout.strides[:-2], strict=True) if size != 1]
    return own[-1][1] if own else 0
