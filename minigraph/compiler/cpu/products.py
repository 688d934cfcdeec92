"""Products of matrices as kernels that a program can run: by functions of our own where they are fast, else by OpenBLAS."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from minigraph.compiler.cpu.blas import blas
from minigraph.compiler.cpu.few_rows import few_rows_text
from minigraph.compiler.cpu.gemm import ROWS, gemm_text
from minigraph.compiler.cpu.jit import Code, define, register_bytes
from minigraph.compiler.cpu.scalar_printer import llvm_type
from minigraph.compiler.cpu.scattered import scattered_text, tile_rows
from minigraph.compiler.cpu.tiled_products import tiled_text
from minigraph.compiler.cpu.vectors import REGISTER_BYTES, Vectors
from minigraph.compiler.cpu.words import Pointer, Words, expanded
from minigraph.core.locks import once

FAST = range(1_000_000, 400_000_000)
"""Multiplications for which our own functions were measured to be as fast or faster: below, OpenBLAS packs nothing."""

FAST_TURNED = range(150_000, FAST.stop)
"""The same where the second matrix is given transposed, which OpenBLAS reads badly."""

NARROW = 32
"""Columns below which OpenBLAS is the faster one, whatever the work."""

BLOCK = 64
"""The results of a product with a row or a column that OpenBLAS computes together."""

PLAIN, TRANSPOSED = 111, 112
"""The ways in which a matrix is given, in BLAS' own numbers."""


class ProductWords(Words):
    """The words of a stack of products c = a @ b, after the places of a, b and c.

    Whether a and b are PLAIN or TRANSPOSED; the sizes; the leading dimensions; the height of the stack, and the strides along
    it; and what is split into parts: SPLIT_STACK, SPLIT_ROWS or SPLIT_COLUMNS.
    """

    a_way: int
    b_way: int
    rows: int
    columns: int
    inner: int
    a_leading: int
    b_leading: int
    c_leading: int
    height: int
    a_stride: int
    b_stride: int
    c_stride: int
    split: int


class PackedWords(ProductWords):
    """The same for a packed b, whose columns lie as those of a transposed matrix do: how wide it is packed."""

    width: int


class ScatteredWords(ProductWords):
    """The same for an a whose elements lie where two tables say, whose addresses these are."""

    row_table: Pointer
    column_table: Pointer


class PackWords(Words):
    """The words of the packing of a matrix, after its place and that of the result."""

    way: int
    columns: int
    depth: int
    leading: int
    width: int


SPLIT_STACK, SPLIT_ROWS, SPLIT_COLUMNS = 0, 1, 2
"""The axis of a product that is split into parts."""

_PRODUCT = """
define i32 @product(ptr %bases, ptr %words, i64 %part, i64 %parts) {
  places a0 b0 c0 in %words
  %rest = getelementptr i64, ptr %words, i64 6
  read KIND from %rest
  %next = add i64 %part, 1
  %split.rows = icmp eq i64 %split, SPLIT_ROWS
  %split.columns = icmp eq i64 %split, SPLIT_COLUMNS
  %split.stack = icmp eq i64 %split, SPLIT_STACK
  %extent.some = select i1 %split.rows, i64 %rows, i64 %columns
  %extent = select i1 %split.stack, i64 %height, i64 %extent.some
  %unit.matrix = select i1 %split.rows, i64 UNIT_ROWS, i64 UNIT_COLUMNS
  %unit = select i1 %split.stack, i64 1, i64 %unit.matrix
  %units.more = add i64 %extent, %unit
  %units.over = sub i64 %units.more, 1
  %units = sdiv i64 %units.over, %unit
  %from.scaled = mul i64 %units, %part
  %from.units = sdiv i64 %from.scaled, %parts
  %to.scaled = mul i64 %units, %next
  %to.units = sdiv i64 %to.scaled, %parts
  %from = mul i64 %from.units, %unit
  %to.wide = mul i64 %to.units, %unit
  %to.beyond = icmp sgt i64 %to.wide, %extent
  %to = select i1 %to.beyond, i64 %extent, i64 %to.wide
  %count = sub i64 %to, %from
  %m = select i1 %split.rows, i64 %count, i64 %rows
  %n = select i1 %split.columns, i64 %count, i64 %columns
  %a.transposed = icmp eq i64 %a_way, TRANSPOSED
  %b.transposed = icmp eq i64 %b_way, TRANSPOSED
  %b.plain = xor i1 %b.transposed, true
  %a.row = select i1 %a.transposed, i64 1, i64 %a_leading
  %b.column = select i1 %b.transposed, i64 %b_leading, i64 1
  %a.shift = mul i64 %from, %a.row
  %a.shift.rows = select i1 %split.rows, i64 %a.shift, i64 0
  %b.shift = mul i64 %from, %b.column
  %b.shift.columns = select i1 %split.columns, i64 %b.shift, i64 0
  %c.shift.row = mul i64 %from, %c_leading
  %c.shift.rows = select i1 %split.rows, i64 %c.shift.row, i64 0
  %c.shift = select i1 %split.columns, i64 %from, i64 %c.shift.rows
  %a1 = getelementptr FLOAT, ptr %a0, i64 %a.shift.rows
  %b1 = getelementptr FLOAT, ptr %b0, i64 %b.shift.columns
  %c1 = getelementptr FLOAT, ptr %c0, i64 %c.shift
  %stack.first = select i1 %split.stack, i64 %from, i64 0
  %stack.last = select i1 %split.stack, i64 %to, i64 %height
  %work.rows = icmp sgt i64 %m, 0
  %work.columns = icmp sgt i64 %n, 0
  %work.stack = icmp slt i64 %stack.first, %stack.last
  %work.some = and i1 %work.rows, %work.columns
  %work = and i1 %work.some, %work.stack
  br i1 %work, label %before, label %done
before:
  br label %body
body:
  %s = phi i64 [ %stack.first, %before ], [ %following, %body ]
  %a.step = mul i64 %s, %a_stride
  %b.step = mul i64 %s, %b_stride
  %c.step = mul i64 %s, %c_stride
  %a = getelementptr FLOAT, ptr %a1, i64 %a.step
  %b = getelementptr FLOAT, ptr %b1, i64 %b.step
  %c = getelementptr FLOAT, ptr %c1, i64 %c.step
CALL
  %following = add i64 %s, 1
  %again = icmp slt i64 %following, %stack.last
  br i1 %again, label %body, label %done
done:
  ret i32 0
}
"""


_OWN = """  call void @gemm(i1 %a.transposed, i1 %b.transposed, i64 %m, i64 %n, i64 %inner, ptr %a, i64 %a_leading,
    ptr %b, i64 %b_leading, ptr %c, i64 %c_leading)"""

_PACKED = """  call void @gemm_packed(i1 %a.transposed, i64 %m, i64 %n, i64 %inner, ptr %a, i64 %a_leading, ptr %b, i64 %width,
    ptr %c, i64 %c_leading)"""

_SCATTERED = """  %scattered.shift = select i1 %split.rows, i64 %from, i64 0
  %scattered.rows = getelementptr i64, ptr %row_table, i64 %scattered.shift
  call void @gemm_scattered(i1 %b.transposed, i64 %m, i64 %n, i64 %inner, ptr %a, ptr %scattered.rows, ptr %column_table,
    ptr %b, i64 %b_leading, ptr %c, i64 %c_leading)"""

_PACK = """
define i32 @pack(ptr %bases, ptr %words, i64 %part, i64 %parts) {
  places b all in %words
  %rest = getelementptr i64, ptr %words, i64 4
  read PackWords from %rest
  %turned = icmp eq i64 %way, TRANSPOSED
  call void @pack_all(i1 %turned, i64 %columns, i64 %depth, ptr %b, i64 %leading, ptr %all, i64 %width)
  ret i32 0
}
"""

_DECLARATION = "declare void @minigraph_FLOAT_gemm(i32, i32, i32, i32, i32, i32, FLOAT, ptr, i32, ptr, i32, FLOAT, ptr, i32)"

_BLAS = """  %ta = trunc i64 %a_way to i32
  %tb = trunc i64 %b_way to i32
  %m32 = trunc i64 %m to i32
  %n32 = trunc i64 %n to i32
  %k32 = trunc i64 %inner to i32
  %lda = trunc i64 %a_leading to i32
  %ldb = trunc i64 %b_leading to i32
  %ldc = trunc i64 %c_leading to i32
  call void @minigraph_FLOAT_gemm(i32 101, i32 %ta, i32 %tb, i32 %m32, i32 %n32, i32 %k32,
    FLOAT 1.0, ptr %a, i32 %lda, ptr %b, i32 %ldb, FLOAT 0.0, ptr %c, i32 %ldc)"""


_VECTOR = """  %is.column = icmp eq i64 %columns, 1
  %matrix.turned = select i1 %is.column, i1 %a.transposed, i1 %b.plain
  %matrix = select i1 %is.column, ptr %a, ptr %b
  %vector = select i1 %is.column, ptr %b, ptr %a
  %leading = select i1 %is.column, i64 %a_leading, i64 %b_leading
  %a.step.row = select i1 %a.transposed, i64 %a_leading, i64 1
  %b.step.column = select i1 %b.transposed, i64 1, i64 %b_leading
  %step = select i1 %is.column, i64 %b.step.column, i64 %a.step.row
  %results = select i1 %is.column, i64 %m, i64 %n
  call void @in_blocks(i1 %matrix.turned, i64 %results, i64 %inner, ptr %matrix, i64 %leading, ptr %vector, i64 %step,
    ptr %c)"""

_FEW = """  %is.column = icmp eq i64 %columns, 1
  %few.turned = select i1 %is.column, i1 %b.plain, i1 %a.transposed
  %few = select i1 %is.column, ptr %b, ptr %a
  %few.leading = select i1 %is.column, i64 %b_leading, i64 %a_leading
  %matrix = select i1 %is.column, ptr %a, ptr %b
  %leading = select i1 %is.column, i64 %a_leading, i64 %b_leading
  %few.rows = select i1 %is.column, i64 1, i64 %m
  %results = select i1 %is.column, i64 %m, i64 %n
  call void @few_rows(i1 %few.turned, i64 %few.rows, i64 %results, i64 %inner, ptr %few, i64 %few.leading,
    ptr %matrix, i64 %leading, ptr %c, i64 %c_leading)"""
"""A column of results is the row of the transposed matrices in the other order."""

_TILED = """  call void @tiled(i1 %a.transposed, i64 %m, i64 %n, i64 %inner, ptr %a, i64 %a_leading, ptr %b, i64 %b_leading,
    ptr %c, i64 %c_leading)"""

_IN_BLOCKS = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @minigraph_FLOAT_gemv(i32, i32, i32, i32, FLOAT, ptr, i32, ptr, i32, FLOAT, ptr, i32)

define internal void @in_blocks(i1 %turned, i64 %results, i64 %inner, ptr %matrix, i64 %leading, ptr %vector, i64 %step,
    ptr %c) {
entry:
  %along = select i1 %turned, i64 1, i64 %leading
  %way = select i1 %turned, i32 TRANSPOSED, i32 PLAIN
  %ld = trunc i64 %leading to i32
  %step32 = trunc i64 %step to i32
  br label %block
block:
  %at = phi i64 [ 0, %entry ], [ %next, %block ]
  %next = add i64 %at, BLOCK
  %left = sub i64 %results, %at
  %again = icmp sgt i64 %left, BLOCK
  %count = select i1 %again, i64 BLOCK, i64 %left
  %shift = mul i64 %at, %along
  %part = getelementptr FLOAT, ptr %matrix, i64 %shift
  %target = getelementptr FLOAT, ptr %c, i64 %at
  %high = select i1 %turned, i64 %inner, i64 %count
  %wide = select i1 %turned, i64 %count, i64 %inner
  %high32 = trunc i64 %high to i32
  %wide32 = trunc i64 %wide to i32
  %bytes = mul i64 %count, ITEM
  call void @llvm.memset.p0.i64(ptr %target, i8 0, i64 %bytes, i1 false)
  call void @minigraph_FLOAT_gemv(i32 101, i32 %way, i32 %high32, i32 %wide32, FLOAT 1.0, ptr %part, i32 %ld,
    ptr %vector, i32 %step32, FLOAT 1.0, ptr %target, i32 1)
  br i1 %again, label %block, label %done
done:
  ret void
}
"""
"""The product with a row or a column, in blocks of results that are the same for any number of threads, as the bits are then.

It is added to zeros, since OpenBLAS may multiply what it finds by 0.
"""


def has_wide_registers() -> bool:
    """Whether the processor has the registers that our own functions are made for."""
    return register_bytes() == REGISTER_BYTES


def reads_scattered() -> bool:
    """Whether the processor has registers for products that read a matrix where it lies."""
    return register_bytes() >= 32


def is_own(rows: int, columns: int, depth: int, turned: bool) -> bool:
    """Whether a product of `rows` x `depth` and `depth` x `columns`, the second `turned` if it is given transposed, is ours."""
    fast = rows == 1 or rows * columns * depth in (FAST_TURNED if turned else FAST)
    return fast and columns >= NARROW and has_wide_registers()


def is_worth_packing(rows: int, columns: int, depth: int, times: int) -> bool:
    """Whether a matrix of `depth` rows by which `times` products of `rows` x `columns` multiply is packed once for all."""
    if not has_wide_registers() or times <= 1 or columns < NARROW:
        return False
    return FAST_TURNED.start <= rows * columns * depth < FAST.stop and rows >= ROWS


OWN, BLAS, VECTOR, FEW, TILED, PACKED, PACK, SCATTERED = "own", "blas", "vector", "few", "tiled", "packed", "pack", "scattered"
"""Who computes a product: functions of our own; OpenBLAS, or its functions for one row or column; our own for a few rows by a
matrix that is not transposed, or by a transposed one for a column; the first from a packed matrix, and what packs that; or the
first from a matrix whose elements lie where two tables say.
"""


@cache
def product_kernel(dtype: np.dtype[Any], kind: str) -> int:
    """The address of a kernel for stacks of products of a dtype, of a kind, or of what packs a matrix for it.

    Its words are places, and then those that `Call` gives it.
    """
    if kind in (BLAS, VECTOR):
        library = blas()
        assert library is not None
        for function in ("gemm", "gemv"):
            address = library.address(f"{'s' if dtype.itemsize == 4 else 'd'}{function}")
            define(f"minigraph_{llvm_type(dtype)}_{function}", address)
        return _blas_code(dtype).address({BLAS: "product", VECTOR: "vector"}[kind])
    if kind == SCATTERED:
        return _scattered_code(dtype).address("product")
    if kind in (FEW, TILED):
        return _lying_code(dtype, kind).address("product")
    names = {OWN: "product", PACKED: "packed", PACK: "pack"}
    return _own_code(dtype).address(names[kind])


@once
def _blas_code(dtype: np.dtype[Any]) -> Code:
    """The kernels that have OpenBLAS compute products."""
    in_blocks = _PRODUCT.replace("UNIT_ROWS", "BLOCK").replace("UNIT_COLUMNS", "BLOCK")
    parts = [
        _DECLARATION,
        _text(_PRODUCT, ProductWords, _BLAS),
        _text(_IN_BLOCKS, ProductWords),
        _text(in_blocks, ProductWords, _VECTOR).replace("@product", "@vector"),
    ]
    text = "\n".join(parts).replace("FLOAT", llvm_type(dtype)).replace("ITEM", str(dtype.itemsize))
    return Code(text, as_written=True)


@once
def _lying_code(dtype: np.dtype[Any], kind: str) -> Code:
    """The kernel of a kind that computes products with a matrix that it reads where it lies."""
    functions, call = {FEW: (few_rows_text, _FEW), TILED: (tiled_text, _TILED)}[kind]
    declared = Vectors(dtype, register_bytes()).intrinsics()
    text = _text(_PRODUCT, ProductWords, call).replace("FLOAT", llvm_type(dtype))
    return Code("\n".join([*declared, functions(dtype.name), text]), as_written=True)


@once
def _own_code(dtype: np.dtype[Any]) -> Code:
    """The kernels that compute products by functions of our own."""
    parts = [
        gemm_text(dtype.name),
        _text(_PRODUCT, ProductWords, _OWN),
        _text(_PRODUCT, PackedWords, _PACKED).replace("@product", "@packed"),
        _text(_PACK, PackWords),
    ]
    return Code("\n".join(parts).replace("FLOAT", llvm_type(dtype)), as_written=True)


@once
def _scattered_code(dtype: np.dtype[Any]) -> Code:
    """The kernel that computes products of a matrix that is read where it lies."""
    product = _text(_PRODUCT.replace("UNIT_ROWS", str(tile_rows())), ScatteredWords, _SCATTERED)
    return Code("\n".join([scattered_text(dtype.name), product.replace("FLOAT", llvm_type(dtype))]), as_written=True)


def _text(kernel: str, kind: type[Words], call: str = "") -> str:
    """A kernel that reads words of a kind, with what it calls."""
    text = kernel.replace("KIND", kind.__name__).replace("CALL", call)
    text = expanded(text.replace("UNIT_ROWS", "ROWS").replace("UNIT_COLUMNS", "NARROW"), kind)
    for number in ("SPLIT_STACK", "SPLIT_ROWS", "SPLIT_COLUMNS", "TRANSPOSED", "PLAIN", "ROWS", "NARROW", "BLOCK"):
        text = text.replace(number, str(globals()[number]))
    return text
