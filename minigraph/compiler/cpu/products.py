"""Products of matrices as kernels that a program can run: by functions of our own where they are fast, else by OpenBLAS."""

from __future__ import annotations

from functools import cache

from minigraph.compiler.cpu.blas import blas
from minigraph.compiler.cpu.gemm import REGISTER_BYTES, ROWS, gemm_text
from minigraph.compiler.cpu.jit import Code, define, register_bytes
from minigraph.core.locks import once

FAST = range(1_000_000, 400_000_000)
"""Multiplications for which our own functions were measured to be as fast or faster: below, OpenBLAS packs nothing."""

FAST_TURNED = range(150_000, FAST.stop)
"""The same where the second matrix is given transposed, which OpenBLAS reads badly."""

NARROW = 32
"""Columns below which OpenBLAS is the faster one, whatever the work."""

PLAIN, TRANSPOSED = 111, 112
"""How a matrix is given, in BLAS' own numbers."""

PRODUCT_WORDS = 19

_PRODUCT = """
define i32 @product(ptr %bases, ptr %words, i64 %part, i64 %parts) {
READ
  %a.base.at = getelementptr ptr, ptr %bases, i64 %w0
  %a.base = load ptr, ptr %a.base.at, align 8
  %a0 = getelementptr i8, ptr %a.base, i64 %w1
  %b.base.at = getelementptr ptr, ptr %bases, i64 %w2
  %b.base = load ptr, ptr %b.base.at, align 8
  %b0 = getelementptr i8, ptr %b.base, i64 %w3
  %c.base.at = getelementptr ptr, ptr %bases, i64 %w4
  %c.base = load ptr, ptr %c.base.at, align 8
  %c0 = getelementptr i8, ptr %c.base, i64 %w5
  %next = add i64 %part, 1
  %split.rows = icmp eq i64 %w18, 1
  %split.columns = icmp eq i64 %w18, 2
  %split.stack = icmp eq i64 %w18, 0
  %extent.some = select i1 %split.rows, i64 %w8, i64 %w9
  %extent = select i1 %split.stack, i64 %w14, i64 %extent.some
  %unit.matrix = select i1 %split.rows, i64 ROWS, i64 COLUMNS
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
  %m = select i1 %split.rows, i64 %count, i64 %w8
  %n = select i1 %split.columns, i64 %count, i64 %w9
  %a.transposed = icmp eq i64 %w6, TRANSPOSED
  %b.transposed = icmp eq i64 %w7, TRANSPOSED
  %a.row = select i1 %a.transposed, i64 1, i64 %w11
  %b.column = select i1 %b.transposed, i64 %w12, i64 1
  %a.shift = mul i64 %from, %a.row
  %a.shift.rows = select i1 %split.rows, i64 %a.shift, i64 0
  %b.shift = mul i64 %from, %b.column
  %b.shift.columns = select i1 %split.columns, i64 %b.shift, i64 0
  %c.shift.row = mul i64 %from, %w13
  %c.shift.rows = select i1 %split.rows, i64 %c.shift.row, i64 0
  %c.shift = select i1 %split.columns, i64 %from, i64 %c.shift.rows
  %a1 = getelementptr FLOAT, ptr %a0, i64 %a.shift.rows
  %b1 = getelementptr FLOAT, ptr %b0, i64 %b.shift.columns
  %c1 = getelementptr FLOAT, ptr %c0, i64 %c.shift
  %stack.first = select i1 %split.stack, i64 %from, i64 0
  %stack.last = select i1 %split.stack, i64 %to, i64 %w14
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
  %a.step = mul i64 %s, %w15
  %b.step = mul i64 %s, %w16
  %c.step = mul i64 %s, %w17
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


_OWN = """  call void @gemm(i1 %a.transposed, i1 %b.transposed, i64 %m, i64 %n, i64 %w10, ptr %a, i64 %w11, ptr %b, i64 %w12,
    ptr %c, i64 %w13)"""

_PACKED = """  call void @gemm_packed(i1 %a.transposed, i64 %m, i64 %n, i64 %w10, ptr %a, i64 %w11, ptr %b, i64 %w16,
    ptr %c, i64 %w13)"""
"""Columns of a packed matrix lie as those of a transposed one do; how wide it is stands where the stride of a stack would."""

_SCATTERED = """  %scattered.rows.all = inttoptr i64 %w19 to ptr
  %scattered.columns.all = inttoptr i64 %w20 to ptr
  %scattered.turned = icmp eq i64 %w21, TRANSPOSED
  %scattered.shift = select i1 %split.rows, i64 %from, i64 0
  %scattered.rows = getelementptr i64, ptr %scattered.rows.all, i64 %scattered.shift
  %scattered.step = mul i64 %s, %w10
  %scattered.columns = getelementptr i64, ptr %scattered.columns.all, i64 %scattered.step
  call void @gemm_scattered(i1 %scattered.turned, i1 %b.transposed, i64 %m, i64 %n, i64 %w10, ptr %a,
    ptr %scattered.rows, ptr %scattered.columns, ptr %b, i64 %w12, ptr %c, i64 %w13)"""
"""A stack of these is one matrix whose terms are split."""

SCATTERED_WORDS = PRODUCT_WORDS + 3

_PACK = """
define i32 @pack(ptr %bases, ptr %words, i64 %part, i64 %parts) {
READ
  %b.base.at = getelementptr ptr, ptr %bases, i64 %w0
  %b.base = load ptr, ptr %b.base.at, align 8
  %b = getelementptr i8, ptr %b.base, i64 %w1
  %all.base.at = getelementptr ptr, ptr %bases, i64 %w2
  %all.base = load ptr, ptr %all.base.at, align 8
  %all = getelementptr i8, ptr %all.base, i64 %w3
  %turned = icmp eq i64 %w4, TRANSPOSED
  call void @pack_all(i1 %turned, i64 %w5, i64 %w6, ptr %b, i64 %w7, ptr %all, i64 %w8)
  ret i32 0
}
"""
PACK_WORDS = 9

_DECLARATION = "declare void @minigraph_FLOAT_gemm(i32, i32, i32, i32, i32, i32, FLOAT, ptr, i32, ptr, i32, FLOAT, ptr, i32)"

_BLAS = """  %ta = trunc i64 %w6 to i32
  %tb = trunc i64 %w7 to i32
  %m32 = trunc i64 %m to i32
  %n32 = trunc i64 %n to i32
  %k32 = trunc i64 %w10 to i32
  %lda = trunc i64 %w11 to i32
  %ldb = trunc i64 %w12 to i32
  %ldc = trunc i64 %w13 to i32
  call void @minigraph_FLOAT_gemm(i32 101, i32 %ta, i32 %tb, i32 %m32, i32 %n32, i32 %k32,
    FLOAT 1.0, ptr %a, i32 %lda, ptr %b, i32 %ldb, FLOAT 0.0, ptr %c, i32 %ldc)"""


def has_wide_registers() -> bool:
    """Whether the processor has the registers that our own functions are made for."""
    return register_bytes() == REGISTER_BYTES


def is_own(rows: int, columns: int, depth: int, turned: bool) -> bool:
    """Whether a product of these sizes, the second matrix given transposed or not, is computed by functions of our own."""
    fast = rows == 1 or rows * columns * depth in (FAST_TURNED if turned else FAST)
    return fast and columns >= NARROW and has_wide_registers()


def is_worth_packing(rows: int, columns: int, depth: int, times: int) -> bool:
    """Whether a second matrix that so many products share is packed once for all of them."""
    work = rows * columns * depth
    return has_wide_registers() and times > 1 and rows >= ROWS and columns >= NARROW and FAST_TURNED.start <= work < FAST.stop


OWN, BLAS, PACKED, PACK, SCATTERED = "own", "blas", "packed", "pack", "scattered"
"""Who computes a product: functions of our own, OpenBLAS, the former from a packed matrix, and what packs that; or the former
from a matrix whose elements lie where two tables say.
"""


@cache
def product_kernel(dtype: str, kind: str) -> int:
    """The address of a kernel for stacks of products of a float dtype, of a kind, or of what packs a matrix for it.

    Its words: slot and offset of a, b and c; PLAIN or TRANSPOSED for a and for b; m, n, k; the leading dimensions; the
    height of the stack and the strides along it; what is split into parts (0 the stack, 1 rows, 2 columns). Of a scattered
    matrix, the addresses of two tables, where rows and columns begin; and TRANSPOSED if columns, not rows, are in one piece.
    """
    if kind == BLAS:
        library = blas()
        assert library is not None
        define(f"minigraph_{_scalar(dtype)}_gemm", library.address("sgemm" if dtype == "float32" else "dgemm"))
        return _blas_code(dtype).address("product")
    names = {OWN: "product", PACKED: "packed", PACK: "pack", SCATTERED: "scattered"}
    return _own_code(dtype).address(names[kind])


@once
def _blas_code(dtype: str) -> Code:
    """The kernel that has OpenBLAS compute products."""
    return Code((_DECLARATION + _text(_PRODUCT, PRODUCT_WORDS, _BLAS)).replace("FLOAT", _scalar(dtype)), as_written=True)


@once
def _own_code(dtype: str) -> Code:
    """The kernels that compute products by functions of our own."""
    parts = [
        gemm_text(dtype),
        _text(_PRODUCT, PRODUCT_WORDS, _OWN),
        _text(_PRODUCT, PRODUCT_WORDS, _PACKED).replace("@product", "@packed"),
        _text(_PRODUCT, SCATTERED_WORDS, _SCATTERED).replace("@product", "@scattered"),
        _text(_PACK, PACK_WORDS),
    ]
    return Code("\n".join(parts).replace("FLOAT", _scalar(dtype)), as_written=True)


def _scalar(dtype: str) -> str:
    """LLVM's name of a float dtype."""
    return "float" if dtype == "float32" else "double"


def _text(kernel: str, words: int, call: str = "") -> str:
    """A kernel that reads so many words, with what it calls."""
    read = "\n".join(
        f"  %w{k}.at = getelementptr i64, ptr %words, i64 {k}\n  %w{k} = load i64, ptr %w{k}.at, align 8" for k in range(words)
    )
    text = kernel.replace("READ", read).replace("CALL", call).replace("ROWS", str(ROWS)).replace("COLUMNS", str(NARROW))
    return text.replace("TRANSPOSED", str(TRANSPOSED))
