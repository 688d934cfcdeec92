"""Products of matrices that a core's cache holds, as LLVM IR: tiles of the result in registers, over matrices where they lie.

Nothing is packed, which takes most of the time of small products. Each element is summed in one order, in whatever tile it is,
so that threads do not change a bit.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from minigraph.compiler.cpu.jit import register_bytes
from minigraph.compiler.cpu.vectors import Vectors

VECTORS = 2
"""The most registers of a tile's row."""

TILE = "ptr noalias %a, i64 %a.row, i64 %a.column, i64 %depth, ptr noalias %b, i64 %ldb, ptr noalias %c, i64 %ldc, i64 %columns"
TILED = "i1 %a.turned, i64 %rows, i64 %columns, i64 %depth, ptr %a, i64 %lda, ptr %b, i64 %ldb, ptr %c, i64 %ldc"


def tallest() -> int:
    """The most rows of a tile, whose sums fill three quarters of the registers."""
    return 12 if register_bytes() == 64 else 6


def _tile(w: Vectors, rows: int, vectors: int, whole: bool) -> str:
    """The function that computes a tile, c = a @ b, of which the last columns may be missing if it is not `whole`."""
    masks = [w.first("%columns", j * w.lanes) for j in range(vectors)]
    lines = [w.at("%a", w.integer("mul", "%a.row", i)) for i in range(rows)]
    nothing = (w.vector, "zeroinitializer")
    with w.carrying("0", "%depth", "1", *[nothing] * (rows * vectors)) as sums:
        line = w.at("%b", w.integer("mul", sums.counter, "%ldb"))
        places = [w.at(line, j * w.lanes) for j in range(vectors)]
        if whole:
            values = [w.let(f"load {w.vector}, ptr {place}, align {w.item}") for place in places]
        else:
            values = [w.load(place, mask) for place, mask in zip(places, masks, strict=True)]
        offset = w.integer("mul", sums.counter, "%a.column")
        for i, start in enumerate(lines):
            factor = w.spread(w.let(f"load {w.scalar}, ptr {w.at(start, offset)}, align {w.item}"), w.scalar)
            for j, value in enumerate(values):
                name, cell = "%" + w.fresh(), i * vectors + j
                w.write_sum_with_product(name, factor, value, sums.at[cell])
                sums.next[cell] = name
    for cell, value in enumerate(sums.last):
        i, j = divmod(cell, vectors)
        place = w.at(w.at("%c", w.integer("mul", "%ldc", i)), j * w.lanes)
        if whole:
            w.write(f"store {w.vector} {value}, ptr {place}, align {w.item}")
        else:
            w.store(value, place, masks[j])
    return w.function(_name(rows, vectors, whole), TILE)


def _name(rows: int, vectors: int, whole: bool) -> str:
    """The name of the function that computes a tile."""
    return f"tile{rows}x{vectors}{'' if whole else '.part'}"


KINDS = ((1, False), (1, True), (VECTORS, False), (VECTORS, True))
"""The registers of a tile's row, and whether these are full; tiles of each kind stand together, by their rows."""


def _product(w: Vectors) -> str:
    """The function tiled: c = a @ b, for row-major matrices, of which a may be given transposed."""
    panel, tall = VECTORS * w.lanes, tallest()
    w.write("%a.row = select i1 %a.turned, i64 1, i64 %lda")
    w.write("%a.column = select i1 %a.turned, i64 %lda, i64 1")
    blocks = w.integer("sdiv", w.integer("add", "%rows", tall - 1), tall)
    with w.loop("0", "%columns", str(panel)) as left:
        columns = w.least(w.integer("sub", "%columns", left), panel)
        wide = w.let(f"zext i1 {w.let(f'icmp sgt i64 {columns}, {w.lanes}')} to i64")
        over = w.integer("srem", columns, w.lanes)
        full = w.let(f"zext i1 {w.let(f'icmp eq i64 {over}, 0')} to i64")
        kind = w.integer("add", w.integer("mul", wide, 2), full)
        b, above = w.at("%b", left), w.at("%c", left)
        with w.loop("0", blocks) as block:
            top = w.integer("sdiv", w.integer("mul", "%rows", block), blocks)
            end = w.integer("sdiv", w.integer("mul", "%rows", w.integer("add", block, 1)), blocks)
            number = w.integer("add", w.integer("mul", kind, tall), w.integer("sub", w.integer("sub", end, top), 1))
            tile = w.let(f"load ptr, ptr {w.let(f'getelementptr ptr, ptr @tile.table, i64 {number}')}, align 8")
            a, c = w.at("%a", w.integer("mul", top, "%a.row")), w.at(above, w.integer("mul", top, "%ldc"))
            given = f"ptr {a}, i64 %a.row, i64 %a.column, i64 %depth, ptr {b}, i64 %ldb, ptr {c}, i64 %ldc, i64 {columns}"
            w.write(f"call void {tile}({given})")
    return w.function("tiled", TILED)


@cache
def tiled_text(dtype: str) -> str:
    """The IR of tiled(a is transposed, rows, columns, depth, a, lda, b, ldb, c, ldc) for a dtype, but for what it declares."""

    def new() -> Vectors:
        return Vectors(np.dtype(dtype), register_bytes())

    tiles = [(rows, *kind) for kind in KINDS for rows in range(1, tallest() + 1)]
    names = ", ".join(f"ptr @{_name(*one)}" for one in tiles)
    table = f"@tile.table = internal constant [{len(tiles)} x ptr] [{names}], align 8"
    return "\n".join([table, *(_tile(new(), *one) for one in tiles), _product(new())])
