"""Running sums and products as kernels that a program can run.

An array is seen as outer x length x inner elements, along the second of whose axes it is run; where inner is 1, rows lie in one
piece. The order of operations does not depend on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from minigraph.compiler.cpu.jit import Code
from minigraph.compiler.cpu.product_calls import Seen
from minigraph.compiler.cpu.running_text import FEW_ROWS, LONG_ROW, TOGETHER, WIDE, functions_text
from minigraph.compiler.cpu.runtime import pool
from minigraph.compiler.cpu.scalar_printer import llvm_type
from minigraph.compiler.cpu.words import Words, expanded
from minigraph.core.graph import Variable
from minigraph.core.locks import once
from minigraph.core.record import Record
from minigraph.ops.reduce.base import wide_integer
from minigraph.ops.reduce.running import Running

BYTES_A_PART = 200_000
"""Bytes read and written that are worth a thread of their own."""


class RunningWords(Words):
    """The words of a running sum or product after the places of the operand and the result; `by_column`: columns are split
    among threads, not the outer axis.
    """

    outer: int
    length: int
    inner: int
    by_column: int


class RunningCall(Record):
    """The address of the kernel that computes a running sum or product, its words, and in how many parts."""

    kernel: int
    words: RunningWords
    parts: int


def running_call(variable: Variable, seen: Seen) -> RunningCall:
    """The call that computes a variable, which is a running sum or product."""
    assert variable.op.runs
    op, operand = cast(Running, variable.op), variable.inputs[0]
    shape = seen.shape(variable)
    outer, length, inner = math.prod(shape[: op.axis]), shape[op.axis], math.prod(shape[op.axis + 1 :])
    moved = outer * length * inner * (operand.dtype.itemsize + variable.dtype.itemsize)
    most = max(1, min(pool().threads, moved // BYTES_A_PART))
    by_column = outer < most and inner >= 2 * WIDE
    units = inner // WIDE if by_column else outer if inner != 1 else -(-outer // TOGETHER)
    parts = min(most, max(units, 1))
    kernel = _code(operand.dtype, op.along(0)).address("running")
    return RunningCall(kernel, RunningWords(outer, length, inner, int(by_column)), parts)


_DRIVER = """
define i32 @running(ptr %bases, ptr %words, i64 %part, i64 %parts) {
entry:
  places x y in %words
  %rest = getelementptr i64, ptr %words, i64 4
  read RunningWords from %rest
  %is.row = icmp eq i64 %inner, 1
  %split = icmp ne i64 %by_column, 0
  %wides = sdiv i64 %inner, WIDE
  %rows.more = add i64 %outer, ROUNDED_UP
  %rows.units = sdiv i64 %rows.more, TOGETHER
  %units = select i1 %is.row, i64 %rows.units, i64 %outer
  %unit = select i1 %is.row, i64 TOGETHER, i64 1
  %extent = select i1 %split, i64 %wides, i64 %units
  %next = add i64 %part, 1
  %from.scaled = mul i64 %extent, %part
  %from = sdiv i64 %from.scaled, %parts
  %to.scaled = mul i64 %extent, %next
  %to = sdiv i64 %to.scaled, %parts
  %is.last = icmp eq i64 %next, %parts
  %column.from.wide = mul i64 %from, WIDE
  %column.to.wide = mul i64 %to, WIDE
  %column.to.split = select i1 %is.last, i64 %inner, i64 %column.to.wide
  %column.from = select i1 %split, i64 %column.from.wide, i64 0
  %column.to = select i1 %split, i64 %column.to.split, i64 %inner
  %first.unit = mul i64 %from, %unit
  %last.unit = mul i64 %to, %unit
  %beyond = icmp sgt i64 %last.unit, %outer
  %last.inside = select i1 %beyond, i64 %outer, i64 %last.unit
  %first = select i1 %split, i64 0, i64 %first.unit
  %last = select i1 %split, i64 %outer, i64 %last.inside
  %columns = sub i64 %column.to, %column.from
  br i1 %is.row, label %by.row, label %by.column
by.row:
  %few = icmp slt i64 %outer, FEW_ROWS
  %long = icmp sge i64 %length, LONG_ROW
  %alone = and i1 %few, %long
  call void @rows(ptr %x, ptr %y, i64 %first, i64 %last, i64 %length, i1 %alone)
  ret i32 0
by.column:
  %size = mul i64 %length, %inner
  %any = icmp slt i64 %first, %last
  br i1 %any, label %matrix, label %done
matrix:
  %k = phi i64 [ %first, %by.column ], [ %k.next, %matrix ]
  %begin = mul i64 %k, %size
  %place = add i64 %begin, %column.from
  %x.matrix = getelementptr GIVEN, ptr %x, i64 %place
  %y.matrix = getelementptr MADE, ptr %y, i64 %place
  call void @columns(ptr %x.matrix, ptr %y.matrix, i64 %length, i64 %inner, i64 %columns)
  %k.next = add i64 %k, 1
  %again = icmp slt i64 %k.next, %last
  br i1 %again, label %matrix, label %done
done:
  ret i32 0
}
"""


@once
def _code(dtype: np.dtype[Any], op: Running) -> Code:
    """The kernel of an op, along the first axis so that one is kept for all, for operands of a dtype."""
    return Code(running_text(dtype, op), as_written=True)


def running_text(dtype: np.dtype[Any], op: Running) -> str:
    """The text of the kernel of an op for operands of a dtype, along any axis."""
    numbers = {"WIDE": WIDE, "TOGETHER": TOGETHER, "ROUNDED_UP": TOGETHER - 1, "FEW_ROWS": FEW_ROWS, "LONG_ROW": LONG_ROW}
    types = {"GIVEN": llvm_type(dtype), "MADE": llvm_type(wide_integer(dtype))}
    driver = expanded(_DRIVER, RunningWords)
    for name, meant in {**numbers, **types}.items():
        driver = driver.replace(name, str(meant))
    return functions_text(dtype, op) + "\n" + driver
