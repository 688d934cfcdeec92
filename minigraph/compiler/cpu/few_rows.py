"""Products of a few rows and a matrix as LLVM IR: the matrix is read once, where it lies, and takes most of the time.

Rows of the matrix are long pieces of memory, several of which are read side by side; those of the result are added to in strips
that stay in the first cache. Each element is summed in one order, wherever a strip begins, so that threads do not change a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np

from minigraph.compiler.cpu.jit import register_bytes
from minigraph.compiler.cpu.vectors import Vectors

STRIP_BYTES = 8192
"""The bytes of a row of the matrix that are gone through together, in short pieces of which memory is read more slowly."""
WAYS = (((1, 1), ((8, (1,)), (1, (1,)))), ((2, 1 << 62), ((4, (4, 2, 1)), (1, (1,)))))
"""For numbers of rows of the result, from the least to the most: the rows of the matrix that are read side by side, then of
what is left over; and with each, the rows of the result that are computed together, then of what is left over.
"""

STRIP = "ptr noalias %a, i64 %a.row, i64 %a.column, ptr noalias %b, i64 %ldb, ptr noalias %c, i64 %ldc, i64 %columns"
MEMSET = "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"
FEW = "i1 %a.turned, i64 %rows, i64 %columns, i64 %depth, ptr %a, i64 %lda, ptr %b, i64 %ldb, ptr %c, i64 %ldc"


def _strip(w: Vectors, rows: int, terms: int) -> str:
    """The function that adds, to as many rows of c, those of a times as many rows of b as there are `terms`."""
    factors = []
    for i in range(rows):
        line = w.at("%a", w.integer("mul", "%a.row", i))
        places = [w.at(line, w.integer("mul", "%a.column", k)) for k in range(terms)]
        factors.append([w.spread(w.let(f"load {w.scalar}, ptr {one}, align {w.item}"), w.scalar) for one in places])
    sources = [w.at("%b", w.integer("mul", "%ldb", k)) for k in range(terms)]
    targets = [w.at("%c", w.integer("mul", "%ldc", i)) for i in range(rows)]

    def add(column: str, load: Callable[[str], str], store: Callable[[str, str], None]) -> None:
        values = [load(w.at(one, column)) for one in sources]
        for own, target in zip(factors, targets, strict=True):
            place = w.at(target, column)
            sums = [load(place), *["zeroinitializer"] * (terms // 8)]  # two chains of sums where one would take too long
            for k, (factor, value) in enumerate(zip(own, values, strict=True)):
                chain, name = k % len(sums), "%" + w.fresh()
                w.write_sum_with_product(name, factor, value, sums[chain])
                sums[chain] = name
            store(sums[0] if len(sums) == 1 else w.sum(*sums), place)

    over = w.integer("srem", "%columns", w.lanes)
    whole = w.integer("sub", "%columns", over)
    with w.loop("0", whole, str(w.lanes)) as column:
        add(
            column,
            lambda place: w.let(f"load {w.vector}, ptr {place}, align {w.item}"),
            lambda value, place: w.write(f"store {w.vector} {value}, ptr {place}, align {w.item}"),
        )
    with w.when(w.let(f"icmp sgt i64 {over}, 0")):
        mask = w.first(over)
        add(whole, lambda place: w.load(place, mask), lambda value, place: w.store(value, place, mask))
    return w.function(f"strip{rows}x{terms}", STRIP)


def _product(w: Vectors) -> str:
    """The function few_rows: c = a @ b, for row-major matrices, of which a may be given transposed."""
    w.write("%a.row = select i1 %a.turned, i64 1, i64 %lda")
    w.write("%a.column = select i1 %a.turned, i64 %lda, i64 1")
    width = STRIP_BYTES // w.item
    with w.loop("0", "%columns", str(width)) as left:
        columns = w.least(w.integer("sub", "%columns", left), width)
        b, c = w.at("%b", left), w.at("%c", left)
        with w.loop("0", "%rows") as row:
            place, size = w.at(c, w.integer("mul", row, "%ldc")), w.integer("mul", columns, w.item)
            w.write(f"call void @llvm.memset.p0.i64(ptr {place}, i8 0, i64 {size}, i1 false)")
        for (least, most), steps in WAYS:
            fits = w.let(f"icmp sge i64 %rows, {least}"), w.let(f"icmp sle i64 %rows, {most}")
            with w.when(w.let("and i1 {}, {}".format(*fits))):
                _strips(w, steps, columns, b, c)
    return w.function("few_rows", FEW)


def _strips(w: Vectors, steps: tuple[tuple[int, tuple[int, ...]], ...], columns: str, b: str, c: str) -> None:
    """All terms of a strip, some at a time, of each of which some rows are computed at a time."""
    ranges = _in_steps(w, "%depth", [count for count, _ in steps])
    for (count, heights), (k_from, k_to) in zip(steps, ranges, strict=True):
        with w.loop(k_from, k_to, str(count)) as k:
            line, factors = w.at(b, w.integer("mul", k, "%ldb")), w.at("%a", w.integer("mul", k, "%a.column"))
            for height, (i_from, i_to) in zip(heights, _in_steps(w, "%rows", heights), strict=True):
                with w.loop(i_from, i_to, str(height)) as i:
                    a = w.at(factors, w.integer("mul", i, "%a.row"))
                    target = w.at(c, w.integer("mul", i, "%ldc"))
                    given = (a, "%a.row", "%a.column", line, "%ldb", target, "%ldc", columns)
                    w.run(f"strip{height}x{count}", STRIP, *given)


def _in_steps(w: Vectors, length: str, steps: Sequence[int]) -> Iterator[tuple[str, str]]:
    """The range of a length that is gone through in each of some steps, of which each divides the one before it."""
    begin = "0"
    for step in steps:
        end = w.integer("sub", length, w.integer("srem", length, step))
        yield begin, end
        begin = end


@cache
def few_rows_text(dtype: str) -> str:
    """The IR of few_rows(a is transposed, rows, columns, depth, a, lda, b, ldb, c, ldc) for a dtype, but for `intrinsics`."""

    def new() -> Vectors:
        return Vectors(np.dtype(dtype), register_bytes())

    kinds = dict.fromkeys((height, count) for _, steps in WAYS for count, heights in steps for height in heights)
    return "\n".join([MEMSET, *(_strip(new(), *kind) for kind in kinds), _product(new())])
