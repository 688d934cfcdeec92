"""Products whose first matrix is read where it lies, as LLVM IR: the windows of a convolution, which overlap in memory.

Two tables say where its elements are: that of row i and term k lies at a[across[i] + along[k]]. A tile of the result needs a
pointer for each of its rows, and one entry of a table for each term, so that nothing is copied but the second matrix. The rest
is as in `gemm`: sums in registers over packed panels of that matrix, and each in one order, whatever the number of threads.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minigraph.compiler.cpu.gemm import (
    DEPTH,
    PACK,
    blocks,
    make_room,
    pack_columns,
    pack_rows,
    run_either,
    walk,
    write_tile,
)
from minigraph.compiler.cpu.jit import register_bytes
from minigraph.compiler.cpu.vectors import Vectors

VECTORS = 2
"""The registers of columns of a tile."""
TALL, WIDE = 96, 512
"""A block: rows whose elements a core's cache holds while all columns are computed, and bytes of columns that are packed."""


def tile_rows() -> int:
    """The rows of a tile, whose sums take 12 of 16 registers, or 16 of 32 where these have 64 bytes."""
    return 8 if register_bytes() == 64 else 6


TILE = (
    "ptr noalias %a, ptr noalias %across, ptr noalias %along, ptr noalias %b, i64 %depth, ptr noalias %c, i64 %ldc, i64 %rows, "
    "i64 %columns, i1 %more"
)


def _tile(w: Vectors, rows: int, vectors: int) -> str:
    """The function that computes a tile of at least one term, with `more` added to c; rows beyond it are like the last one."""
    cells = [(i, j) for i in range(rows) for j in range(vectors)]
    last = w.integer("sub", "%rows", 1)
    starts = [w.element_at("%a", w.entry("%across", w.least(i, last))) for i in range(rows)]
    w.write("br label %sum")
    w.label("sum")
    w.write("%k = phi i64 [ 0, %entry ], [ %k.next, %sum ]")
    for i, j in cells:
        w.write(f"%old{i}.{j} = phi {w.vector} [ zeroinitializer, %entry ], [ %sum{i}.{j}, %sum ]")
    line = w.at("%b", w.integer("mul", "%k", VECTORS * w.lanes))
    values = [w.load(w.at(line, j * w.lanes), w.whole) for j in range(vectors)]
    offset = w.let(f"load i64, ptr {w.entry('%along', '%k')}, align 8")
    for i, start in enumerate(starts):
        factor = w.spread(w.let(f"load {w.scalar}, ptr {w.at(start, offset)}, align {w.item}"), w.scalar)
        for j in range(vectors):
            w.write_sum_with_product(f"%sum{i}.{j}", factor, values[j], f"%old{i}.{j}")
    w.write("%k.next = add i64 %k, 1")
    w.write("%again = icmp slt i64 %k.next, %depth")
    w.write("br i1 %again, label %sum, label %done")
    w.label("done")
    write_tile(w, rows, vectors)
    return w.function(f"tile{vectors}", TILE)


SCATTERED = (
    "i1 %b.turned, i64 %rows, i64 %columns, i64 %depth, ptr %a, ptr %across, ptr %along, ptr %b, i64 %ldb, ptr %c, i64 %ldc"
)


def _product(w: Vectors, tall: int) -> str:
    """The function gemm_scattered: c = a @ b, by tiles of `tall` rows, with at least one term."""
    wide, panel = WIDE // w.item, VECTORS * w.lanes
    make_room(w, b=wide)
    walk(w, "b")
    with blocks(w) as (block, begin, depth):
        more = w.let(f"icmp sgt i64 {block}, 0")
        b = w.at("%b", w.integer("mul", begin, "%b.row"))
        along = w.entry("%along", begin)
        with w.loop("0", "%columns", str(wide)) as left:
            columns = w.least(w.integer("sub", "%columns", left), wide)
            run_either(w, "pack_b", PACK, w.at(b, w.integer("mul", left, "%b.column")), "%ldb", depth, columns, "%packed.b")
            with w.loop("0", "%rows", str(TALL)) as top, w.loop("0", columns, str(panel)) as column:
                end = w.least("%rows", w.integer("add", top, TALL))
                remaining = w.least(w.integer("sub", columns, column), panel)
                narrow = w.let(f"icmp sle i64 {remaining}, {w.lanes}")
                packed = w.at("%packed.b", w.integer("mul", column, DEPTH + w.lanes))
                with w.loop(top, end, str(tall)) as i:
                    target = w.at(w.at("%c", w.integer("mul", i, "%ldc")), w.integer("add", left, column))
                    below = w.integer("sub", end, i)
                    for vectors, condition in ((VECTORS, w.let(f"xor i1 {narrow}, true")), (1, narrow)):
                        with w.when(condition):
                            tables = "%a", w.entry("%across", i), along
                            w.run(f"tile{vectors}", TILE, *tables, packed, depth, target, "%ldc", below, remaining, more)
    return w.function("gemm_scattered", SCATTERED)


@cache
def scattered_text(dtype: str) -> str:
    """The IR of gemm_scattered(b is transposed, rows, columns, depth, a, across, along, b, ldb, c, ldc) for a dtype."""

    def new() -> Vectors:
        return Vectors(np.dtype(dtype), register_bytes())

    panel, space = VECTORS * new().lanes, DEPTH + new().lanes
    functions = [
        *(_tile(new(), tile_rows(), vectors) for vectors in (VECTORS, 1)),
        pack_rows(new(), "pack_b_rows", panel, space),
        pack_columns(new(), "pack_b_columns", panel, space),
        _product(new(), tile_rows()),
    ]
    return "\n".join([*new().intrinsics(), *functions, 'attributes #0 = { noinline nounwind "prefer-vector-width"="512" }'])
