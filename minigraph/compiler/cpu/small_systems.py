"""Linear equations and factors of stacks of small matrices as LLVM IR: each lane of a register works on a matrix of its own.

The matrices of some lanes, and the right-hand sides beside them, are copied to memory that stays in the first cache, in which
the elements of one place lie side by side. Rows change places where a pivot asks for it, in each lane as its own matrix does.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from minigraph.compiler.cpu.jit import Code
from minigraph.compiler.cpu.runtime import pool
from minigraph.compiler.cpu.vectors import REGISTER_BYTES, Vectors
from minigraph.compiler.cpu.words import Words, expanded
from minigraph.core.graph import Array
from minigraph.core.locks import once

LARGEST = 32
"""The most rows of a matrix, and the most columns of right-hand sides."""
MANY = 16
"""The least number of matrices that are worth it, as many as a register has lanes."""
WORK_A_PART = 20_000
"""Multiplications that are worth a thread of their own."""


class SystemWords(Words):
    """The words of a stack of systems after the places of the matrices, the right-hand sides, and the results: the height of
    the stacks, their rows, the columns of a right-hand side and of a result; and the strides along the stack, the rows, and the
    columns of all three.
    """

    height: int
    rows: int
    sides: int
    columns: int
    a_stack: int
    a_row: int
    a_column: int
    b_stack: int
    b_row: int
    b_column: int
    c_stack: int
    c_row: int
    c_column: int


SOLVE, LOWER, FACTOR, PIVOTS = "solve", "lower", "factor", "pivots"
"""The kernels: solutions; those of lower triangular systems; Cholesky's factors, lower triangular; and the pivots of a matrix,
the first with the sign of the exchanges. Each but the last one fails where a matrix is singular, or has no factor.
"""


class _Systems(Vectors):
    """The text of a function on as many systems as a register has lanes, whose elements lie at `%cells`, `%width` in a row."""

    def cell(self, row: str | int, column: str | int) -> str:
        """The place of an element of all systems."""
        number = self.integer("add", self.integer("mul", row, "%width"), column)
        return self.let(f"getelementptr {self.vector}, ptr %cells, i64 {number}")

    def get(self, place: str) -> str:
        """The elements at a place."""
        return self.let(f"load {self.vector}, ptr {place}, align {REGISTER_BYTES}")

    def put(self, value: str, place: str) -> None:
        """Write elements to a place."""
        self.write(f"store {self.vector} {value}, ptr {place}, align {REGISTER_BYTES}")

    def of(self, instruction: str, a: str, b: str) -> str:
        """The result of an instruction on two vectors."""
        return self.let(f"{instruction} {self.vector} {a}, {b}")

    def chosen(self, mask: str, a: str, b: str) -> str:
        """The elements of a where a mask is set, those of b elsewhere."""
        return self.let(f"select {self.mask} {mask}, {self.vector} {a}, {self.vector} {b}")

    def unary(self, name: str, a: str) -> str:
        """The result of an intrinsic on a vector."""
        return self.let(f"call {self.vector} @llvm.{name}.{self.suffix}({self.vector} {a})")

    def is_any(self, mask: str) -> str:
        """Whether a mask is set anywhere."""
        return self.let(f"icmp ne i{self.lanes} {self.let(f'bitcast {self.mask} {mask} to i{self.lanes}')}, 0")

    def fail_where(self, mask: str) -> None:
        """Note that systems fail where a mask is set."""
        wide = self.let(f"zext i1 {self.is_any(mask)} to i32")
        before = self.let("load i32, ptr %failed, align 4")
        self.write(f"store i32 {self.let(f'or i32 {before}, {wide}')}, ptr %failed, align 4")

    def subtract(self, factor: str, row: str, source: str, start: str, stop: str) -> None:
        """Subtract from a row, between two columns, as many times another one."""
        negative = self.let(f"fneg {self.vector} {factor}")
        with self.loop(start, stop) as column:
            target = self.cell(row, column)
            name = "%" + self.fresh()
            self.write_sum_with_product(name, negative, self.get(self.cell(source, column)), self.get(target))
            self.put(name, target)

    def function(self, name: str, parameters: str = "ptr noalias %cells, i64 %rows, i64 %width, ptr noalias %failed") -> str:
        return super().function(name, parameters)


def _exchange(w: _Systems, step: str) -> None:
    """Bring the largest element of a column, from a row on, to that row, in each lane."""
    below = w.integer("add", step, 1)
    first, numbers = w.get(w.cell(step, step)), f"<{w.lanes} x i64>"
    start = w.unary("fabs", first), w.spread(step, "i64")
    with w.carrying(below, "%rows", "1", (w.vector, start[0]), (numbers, start[1])) as best:
        size = w.unary("fabs", w.get(w.cell(best.counter, step)))
        larger = w.let(f"fcmp ogt {w.vector} {size}, {best.at[0]}")
        place = w.spread(best.counter, "i64")
        chosen = w.let(f"select {w.mask} {larger}, {numbers} {place}, {numbers} {best.at[1]}")
        best.next = [w.chosen(larger, size, best.at[0]), chosen]
    with w.loop(below, "%rows") as row:
        mask = w.let(f"icmp eq {numbers} {best.last[1]}, {w.spread(row, 'i64')}")
        with w.when(w.is_any(mask)):
            sign = w.get("%sign")
            w.put(w.chosen(mask, w.let(f"fneg {w.vector} {sign}"), sign), "%sign")
            with w.loop(step, "%width") as column:
                above, under = w.cell(step, column), w.cell(row, column)
                a, b = w.get(above), w.get(under)
                w.put(w.chosen(mask, b, a), above)
                w.put(w.chosen(mask, a, b), under)


def _eliminate(w: _Systems, fails: bool) -> None:
    """Make the matrices upper triangular, and the right-hand sides fit."""
    one = w.spread("1.0", w.scalar)
    w.write(f"%sign = alloca {w.vector}, align {REGISTER_BYTES}")
    w.put(one, "%sign")
    with w.loop("0", "%rows") as step:
        _exchange(w, step)
        pivot, below = w.get(w.cell(step, step)), w.integer("add", step, 1)
        nothing = w.let(f"fcmp oeq {w.vector} {pivot}, zeroinitializer")
        if fails:
            w.fail_where(nothing)
        with w.loop(below, "%rows") as row:
            quotient = w.of("fdiv", w.get(w.cell(row, step)), pivot)
            w.subtract(w.chosen(nothing, "zeroinitializer", quotient), row, step, below, "%width")


def _substitute(w: _Systems, backwards: bool) -> None:
    """Solve triangular systems in the place of the right-hand sides, from the last row up if `backwards`."""
    with w.loop("0", "%rows") as count:
        step = w.integer("sub", w.integer("sub", "%rows", 1), count) if backwards else count
        pivot = w.get(w.cell(step, step))
        with w.loop("%rows", "%width") as column:
            place = w.cell(step, column)
            w.put(w.of("fdiv", w.get(place), pivot), place)
        start, stop = ("0", step) if backwards else (w.integer("add", step, 1), "%rows")
        with w.loop(start, stop) as row:
            w.subtract(w.get(w.cell(row, step)), row, step, "%rows", "%width")


def _solve(w: _Systems) -> str:
    """The function that puts solutions in the place of the right-hand sides."""
    _eliminate(w, fails=True)
    _substitute(w, backwards=True)
    return w.function(SOLVE)


def _lower(w: _Systems) -> str:
    """The function that puts solutions of lower triangular systems in the place of the right-hand sides."""
    with w.loop("0", "%rows") as step:
        w.fail_where(w.let(f"fcmp oeq {w.vector} {w.get(w.cell(step, step))}, zeroinitializer"))
    _substitute(w, backwards=False)
    return w.function(LOWER)


def _pivots(w: _Systems) -> str:
    """The function that puts the pivots in the first row."""
    _eliminate(w, fails=False)
    with w.loop("0", "%rows") as step:
        w.put(w.get(w.cell(step, step)), w.cell("0", step))
    w.put(w.of("fmul", w.get("%cells"), w.get("%sign")), "%cells")
    return w.function(PIVOTS)


def _factor(w: _Systems) -> str:
    """The function that puts Cholesky's factors, with zeros above the diagonal, in the place of the matrices."""
    with w.loop("0", "%rows") as step:
        place, below = w.cell(step, step), w.integer("add", step, 1)
        pivot = w.get(place)
        w.fail_where(w.let(f"fcmp ole {w.vector} {pivot}, zeroinitializer"))
        root = w.unary("sqrt", pivot)
        w.put(root, place)
        with w.loop(below, "%rows") as row:
            w.put("zeroinitializer", w.cell(step, row))
            target = w.cell(row, step)
            value = w.of("fdiv", w.get(target), root)
            w.put(value, target)
            negative, after = w.let(f"fneg {w.vector} {value}"), w.integer("add", row, 1)
            with w.loop(below, after) as column:
                own, name = w.cell(row, column), "%" + w.fresh()
                w.write_sum_with_product(name, negative, w.get(w.cell(column, step)), w.get(own))
                w.put(name, own)
    return w.function(FACTOR)


COPY = "ptr %matrices, i64 %stack, i64 %down, i64 %across, i64 %rows, i64 %columns, ptr noalias %cells, i64 %width, i64 %lanes"


def _copy(w: _Systems, name: str) -> str:
    """The function that gathers some matrices for lanes, or puts them back; spare lanes get the last of them."""
    with w.loop("0", str(w.lanes) if name == "gather" else "%lanes") as lane:
        last = w.integer("sub", "%lanes", 1)
        matrix = w.at("%matrices", w.integer("mul", w.least(lane, last), "%stack"))
        own = w.at("%cells", lane)
        with w.loop("0", "%rows") as row:
            line = w.at(matrix, w.integer("mul", row, "%down"))
            start = w.integer("mul", row, "%width")
            with w.loop("0", "%columns") as column:
                given = w.at(line, w.integer("mul", column, "%across"))
                cell = w.at(own, w.integer("mul", w.integer("add", start, column), w.lanes))
                source, target = (given, cell) if name == "gather" else (cell, given)
                value = w.let(f"load {w.scalar}, ptr {source}, align {w.item}")
                w.write(f"store {w.scalar} {value}, ptr {target}, align {w.item}")
    return w.function(name, COPY)


_DRIVER = """
define i32 @NAME_systems(ptr %bases, ptr %words, i64 %part, i64 %parts) {
entry:
  places a b c in %words
  %rest = getelementptr i64, ptr %words, i64 6
  read SystemWords from %rest
  %memory = alloca [CELLS x VECTOR], align 64
  %failed = alloca i32, align 4
  store i32 0, ptr %failed, align 4
  %width = add i64 %rows, %sides
  %sides.cells = getelementptr VECTOR, ptr %memory, i64 %rows
  %result.cells = getelementptr VECTOR, ptr %memory, i64 RESULT
  %groups.more = add i64 %height, ROUNDED_UP
  %groups = sdiv i64 %groups.more, LANES
  %next = add i64 %part, 1
  %from.scaled = mul i64 %groups, %part
  %from = sdiv i64 %from.scaled, %parts
  %to.scaled = mul i64 %groups, %next
  %to = sdiv i64 %to.scaled, %parts
  %any = icmp slt i64 %from, %to
  br i1 %any, label %group, label %done
group:
  %k = phi i64 [ %from, %entry ], [ %k.next, %group ]
  %first = mul i64 %k, LANES
  %left = sub i64 %height, %first
  %lanes = call i64 @llvm.smin.i64(i64 %left, i64 LANES)
  %a.shift = mul i64 %first, %a_stack
  %b.shift = mul i64 %first, %b_stack
  %c.shift = mul i64 %first, %c_stack
  %a.at = getelementptr FLOAT, ptr %a, i64 %a.shift
  %b.at = getelementptr FLOAT, ptr %b, i64 %b.shift
  %c.at = getelementptr FLOAT, ptr %c, i64 %c.shift
  call void @gather(ptr %a.at, i64 %a_stack, i64 %a_row, i64 %a_column, i64 %rows, i64 %rows, ptr %memory, i64 %width,
    i64 %lanes)
  call void @gather(ptr %b.at, i64 %b_stack, i64 %b_row, i64 %b_column, i64 %rows, i64 %sides, ptr %sides.cells, i64 %width,
    i64 %lanes)
  call void @NAME(ptr %memory, i64 %rows, i64 %width, ptr %failed)
  call void @scatter(ptr %c.at, i64 %c_stack, i64 %c_row, i64 %c_column, i64 RESULT_ROWS, i64 %columns, ptr %result.cells,
    i64 %width, i64 %lanes)
  %k.next = add i64 %k, 1
  %again = icmp slt i64 %k.next, %to
  br i1 %again, label %group, label %done
done:
  %status = load i32, ptr %failed, align 4
  ret i32 %status
}
"""

_RESULTS = {SOLVE: ("%rows", "%rows"), LOWER: ("%rows", "%rows"), FACTOR: ("0", "%rows"), PIVOTS: ("0", "1")}
"""The first column of the results of each kernel, and the number of their rows."""


@once
def _code(dtype: np.dtype[Any]) -> Code:
    """All kernels for a dtype."""
    return Code(systems_text(dtype), as_written=True)


def system_kernel(dtype: np.dtype[Any], kind: str) -> int:
    """The address of a kernel for stacks of systems of a dtype; its words are those of three places, and `SystemWords`."""
    return _code(dtype).address(f"{kind}_systems")


def are_small(a: Array, sides: int = 0) -> bool:
    """Whether there are many matrices in a stack, of few rows and as few columns of right-hand sides."""
    return 0 < a.shape[-1] <= LARGEST and sides <= LARGEST and math.prod(a.shape[:-2]) >= MANY


def compute_systems(kind: str, a: Array, b: Array | None, result: Array) -> bool:
    """Write to `result` what a kernel makes of stacks of one shape; whether none of the systems failed.

    kind: that of the kernel. a: the matrices. b: the right-hand sides, None for a kernel that takes none.
    """
    arrays = [_in_stack(one) for one in (a, a[..., :0] if b is None else b, result)]
    strides = [stride // result.itemsize for one in arrays for stride in one.strides]
    height, rows, sides = arrays[1].shape
    words = SystemWords(height, rows, sides, result.shape[-1], *strides)
    places = [number for k in range(len(arrays)) for number in (k, 0)]
    parts = max(1, min(pool().threads, height * rows**2 * (rows + sides) // WORK_A_PART))
    return pool().run_kernel(system_kernel(result.dtype, kind), [*places, *words.pack()], arrays, parts)


def _in_stack(matrices: Array) -> Array:
    """Matrices in a stack along one axis, in whole elements."""
    flat = matrices.reshape(math.prod(matrices.shape[:-2]), *matrices.shape[-2:])
    whole = flat.flags.aligned and not any(stride % flat.itemsize for stride in flat.strides)
    return flat if whole else np.ascontiguousarray(flat)


@cache
def systems_text(dtype: np.dtype[Any]) -> str:
    """The text of all kernels for a dtype."""

    def new() -> _Systems:
        return _Systems(dtype)

    own = new()
    unary = [f"declare {own.vector} @llvm.{name}.{own.suffix}({own.vector})" for name in ("fabs", "sqrt")]
    functions = [_solve(new()), _lower(new()), _factor(new()), _pivots(new()), _copy(new(), "gather"), _copy(new(), "scatter")]
    drivers = []
    for kind, (result, height) in _RESULTS.items():
        text = expanded(_DRIVER.replace("NAME", kind), SystemWords).replace("VECTOR", own.vector).replace("FLOAT", own.scalar)
        numbers = {
            "CELLS": 2 * LARGEST**2,
            "LANES": own.lanes,
            "ROUNDED_UP": own.lanes - 1,
            "RESULT_ROWS": height,
            "RESULT": result,
        }
        for name, number in numbers.items():
            text = text.replace(name, str(number))
        drivers.append(text)
    attributes = 'attributes #0 = { noinline nounwind "prefer-vector-width"="512" }'
    return "\n".join([*own.intrinsics(), *unary, *functions, *drivers, attributes])
