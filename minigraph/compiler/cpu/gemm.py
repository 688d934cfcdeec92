"""Products of matrices as LLVM IR: blocks of sums in registers, over packed panels of the second matrix.

The scheme is that of K. Goto and R. van de Geijn, Anatomy of high-performance matrix multiplication (2008): the innermost loop
holds a tile of the result in registers, and adds the product of a column of the first matrix and a row of the second. Panels of
both are packed, so that a tile reads them one after the other.
Each element is summed in one order, wherever a part of the work begins, so that threads do not change a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

from minigraph.compiler.cpu.vectors import REGISTER_BYTES, Vectors

ROWS, VECTORS = 12, 2
"""The tile: 24 of the 32 registers of AVX-512."""
FEW = 4
"""Rows of the tile for those that are left over."""
LINE = 16
"""Registers of a product of one row, which is as fast as the second matrix can be read."""
DEPTH, TALL, WIDE = 264, 24 * ROWS, 8
"""A block: terms of a sum, rows of the first matrix, registers of columns of the second; together they fit a core's cache."""

Pack = Callable[[str, str], None]
"""A function that writes code to pack rows of the first matrix, given the first row and the number of rows."""

TILE = (
    "ptr noalias %a, i64 %lda, ptr noalias %b, i64 %ldb, i64 %depth, ptr noalias %c, i64 %ldc, i64 %rows, i64 %columns, "
    "i1 %more"
)


def _tile(w: Vectors, rows: int, vectors: int, packed: bool = True) -> str:
    """The function that computes a tile, c = a @ b, with `more` added to c; if `packed`, a and b can be read beyond it."""
    cells = [(i, j) for i in range(rows) for j in range(vectors)]
    masks = [] if packed else [w.first("%columns", j * w.lanes) for j in range(vectors)]
    before = w.fresh("before")
    w.write(f"br label %{before}")
    w.label(before)
    w.write("%any = icmp sgt i64 %depth, 0")
    w.write("br i1 %any, label %sum, label %done")
    w.label("sum")
    w.write(f"%k = phi i64 [ 0, %{before} ], [ %k.next, %sum ]")
    w.write(f"%row = phi ptr [ %b, %{before} ], [ %row.next, %sum ]")
    w.write(f"%column = phi ptr [ %a, %{before} ], [ %column.next, %sum ]")
    for i, j in cells:
        w.write(f"%old{i}.{j} = phi {w.vector} [ zeroinitializer, %{before} ], [ %new{i}.{j}, %sum ]")
    places = [w.at("%row", j * w.lanes) for j in range(vectors)]
    if packed:
        values = [w.let(f"load {w.vector}, ptr {place}, align {REGISTER_BYTES}") for place in places]
    else:
        values = [w.load(place, mask) for place, mask in zip(places, masks, strict=True)]
    for i in range(rows):
        place = w.at("%column", i)
        factor = w.spread(w.let(f"load {w.scalar}, ptr {place}, align {w.item}"), w.scalar)
        for j in range(vectors):
            w.write_sum_with_product(f"%new{i}.{j}", factor, values[j], f"%old{i}.{j}")
    w.write("%k.next = add i64 %k, 1")
    w.write(f"%row.next = getelementptr {w.scalar}, ptr %row, i64 {VECTORS * w.lanes if packed else '%ldb'}")
    w.write(f"%column.next = getelementptr {w.scalar}, ptr %column, i64 {ROWS if packed else '%lda'}")
    w.write("%again = icmp slt i64 %k.next, %depth")
    w.write("br i1 %again, label %sum, label %done")
    w.label("done")
    for i, j in cells:
        w.write(f"%sum{i}.{j} = phi {w.vector} [ zeroinitializer, %{before} ], [ %new{i}.{j}, %sum ]")
    if packed:
        write_tile(w, rows, vectors)
    else:
        _write_part(w, rows, masks)
    return w.function(f"{'tile' if packed else 'line'}{rows}x{vectors}", TILE)


def write_tile(w: Vectors, rows: int, vectors: int) -> None:
    """Have `w` write the sums of a tile of `rows`, and `vectors` of columns, to c: in one piece, if all of it is inside."""
    tall, wide = w.let(f"icmp sle i64 {rows}, %rows"), w.let(f"icmp sle i64 {vectors * w.lanes}, %columns")
    whole = w.let(f"and i1 {tall}, {wide}")
    for condition, adds in [(w.let(f"icmp ugt i1 {whole}, %more"), False), (w.let(f"and i1 {whole}, %more"), True)]:
        with w.when(condition):
            line = "%c"
            for i in range(rows):
                for j in range(vectors):
                    place, value = w.at(line, j * w.lanes), f"%sum{i}.{j}"
                    if adds:
                        value = w.sum(w.let(f"load {w.vector}, ptr {place}, align {w.item}"), value)
                    w.write(f"store {w.vector} {value}, ptr {place}, align {w.item}")
                line = w.at(line, "%ldc")
    with w.when(w.let(f"xor i1 {whole}, true")):
        _write_part(w, rows, [w.first("%columns", j * w.lanes) for j in range(vectors)])


def _write_part(w: Vectors, rows: int, masks: list[str]) -> None:
    """Write to c what lies inside of it."""
    line = "%c"
    for i in range(rows):
        inside = w.let(f"icmp slt i64 {i}, %rows")
        for j, mask in enumerate(masks):
            place = w.at(line, j * w.lanes)
            written = w.only_if(inside, mask)
            old = w.load(place, w.only_if("%more", written))
            w.store(w.sum(old, f"%sum{i}.{j}"), place, written)
        line = w.at(line, "%ldc")


PACK = "ptr noalias %b, i64 %ldb, i64 %depth, i64 %columns, ptr noalias %packed"


def pack_rows(w: Vectors, name: str, width: int, space: int) -> str:
    """The function `name`, by `w`, that copies a matrix, rows `ldb` apart, into panels of `width` columns and `space` rows."""
    offsets = range(0, width, w.lanes)
    kept = [w.first(width, offset) for offset in offsets]
    with w.loop("0", "%depth") as k:
        row = w.at("%b", w.integer("mul", k, "%ldb"))
        line = w.at("%packed", w.integer("mul", k, width))
        with w.loop("0", "%columns", str(width)) as column:
            remaining = w.least(w.integer("sub", "%columns", column), width)
            source = w.at(row, column)
            target = w.at(line, w.integer("mul", column, space))
            for offset, keep in zip(offsets, kept, strict=True):
                w.store(w.load(w.at(source, offset), w.first(remaining, offset)), w.at(target, offset), keep)
    return w.function(name, PACK)


def pack_columns(w: Vectors, name: str, width: int, space: int) -> str:
    """The function `name`, by `w`, that packs a matrix whose columns lie apart: by transposing squares.

    width, space: those of `pack_rows`.
    """
    step = max(one for one in range(1, w.lanes + 1) if width % one == 0)
    with w.loop("0", "%columns", str(step)) as column:
        inside = w.integer("srem", column, width)
        place = w.integer("add", w.integer("mul", w.integer("sub", column, inside), space), inside)
        first = w.at("%packed", place)
        columns = _columns_apart(w, column, step)
        kept = w.first(step)
        with w.loop("0", "%depth", str(w.lanes)) as k:
            square = columns(k)
            target = w.at(first, w.integer("mul", k, width))
            for i, value in enumerate(_transposed(w, square + ["poison"] * (w.lanes - step))):
                w.store(value, w.at(target, i * width), kept)
    return w.function(name, PACK)


def _columns_apart(w: Vectors, column: str, count: int) -> Callable[[str], list[str]]:
    """A function that loads, from a given row on, `count` columns that lie `ldb` apart, the first of which is `column`."""
    start = w.at("%b", w.integer("mul", column, "%ldb"))
    remaining = w.integer("sub", "%columns", column)

    def loaded(k: str) -> list[str]:
        source = w.at(start, k)
        mask = w.first(w.integer("sub", "%depth", k))
        square = []
        for i in range(count):
            wanted = w.only_if(w.let(f"icmp slt i64 {i}, {remaining}"), mask)
            square.append(w.load(w.at(source, w.integer("mul", "%ldb", i)), wanted))
        return square

    return loaded


def _transposed(w: Vectors, square: list[str]) -> list[str]:
    """The transposed square: interleaving the first with the second half of the vectors, once for each doubling of a size."""
    half = w.lanes // 2
    low = [one for k in range(half) for one in (k, k + w.lanes)]
    masks = [", ".join(f"i32 {one + shift}" for one in low) for shift in (0, half)]
    for _ in range(w.lanes.bit_length() - 1):
        square = [
            w.let(f"shufflevector {w.vector} {a}, {w.vector} {b}, <{w.lanes} x i32> <{mask}>")
            for a, b in zip(square[:half], square[half:], strict=True)
            for mask in masks
        ]
    return square


GEMM = "i1 %a.turned, i1 %b.turned, i64 %rows, i64 %columns, i64 %depth, ptr %a, i64 %lda, ptr %b, i64 %ldb, ptr %c, i64 %ldc"


def make_room(w: Vectors, **lengths: int) -> None:
    """Reserve memory for packed panels of matrices, each of the number of rows or columns in `lengths`."""
    for name, length in lengths.items():
        w.write(f"%packed.{name} = alloca [{length * (DEPTH + w.lanes)} x {w.scalar}], align {REGISTER_BYTES}")


def walk(w: Vectors, name: str) -> None:
    """The strides of the rows and the columns of a matrix that may be given transposed, and whether it is not."""
    w.write(f"%{name}.plain = xor i1 %{name}.turned, true")
    w.write(f"%{name}.row = select i1 %{name}.turned, i64 1, i64 %ld{name}")
    w.write(f"%{name}.column = select i1 %{name}.turned, i64 %ld{name}, i64 1")


def run_either(w: Vectors, stem: str, parameters: str, *arguments: str) -> None:
    """Have `w` pack a matrix, named last in `stem`, by rows or by columns; a panel of the first one holds columns of it.

    parameters, arguments: those of both functions.
    """
    ways = ("rows", "columns") if stem.endswith("a") else ("columns", "rows")
    for given, way in zip(("turned", "plain"), ways, strict=True):
        with w.when(f"%{stem[-1]}.{given}"):
            w.run(f"{stem}_{way}", parameters, *arguments)


def _product(w: Vectors) -> str:
    """The function gemm: c = a @ b, for row-major matrices, of which a and b may be given transposed."""
    make_room(w, a=TALL, b=WIDE * w.lanes)
    walk(w, "a")
    walk(w, "b")
    w.write("%one = icmp eq i64 %rows, 1")
    w.write("%is.line = and i1 %one, %b.plain")
    w.write("%is.block = xor i1 %is.line, true")
    with blocks(w) as (block, begin, depth):
        more = w.let(f"icmp sgt i64 {block}, 0")
        a = w.at("%a", w.integer("mul", begin, "%a.column"))
        b = w.at("%b", w.integer("mul", begin, "%b.row"))
        with w.when("%is.line"):
            _line(w, a, b, depth, more)
        with w.when("%is.block"):
            _block(w, _packing(w, a, depth), b, depth, more)
    return w.function("gemm", GEMM)


@contextmanager
def blocks(w: Vectors) -> Iterator[tuple[str, str, str]]:
    """The number of each part of the sums, its first term, and how many terms it has; one part if there are no terms."""
    whole = w.integer("sdiv", w.integer("add", "%depth", DEPTH - 1), DEPTH)
    blocks = w.let(f"select i1 {w.let('icmp eq i64 %depth, 0')}, i64 1, i64 {whole}")
    with w.loop("0", blocks) as block:
        begin = w.integer("sdiv", w.integer("mul", "%depth", block), blocks)
        following = w.integer("mul", "%depth", w.integer("add", block, 1))
        yield block, begin, w.integer("sub", w.integer("sdiv", following, blocks), begin)


def packed_size(columns: int, depth: int, lanes: int) -> tuple[int, int]:
    """The size of a packed second matrix of `depth` rows, and its `columns` in whole panels; `lanes`: those of a register."""
    width = columns + -columns % (VECTORS * lanes)
    return max(1, -(-depth // DEPTH)) * width * (DEPTH + lanes), width


PACK_ALL = "i1 %b.turned, i64 %columns, i64 %depth, ptr %b, i64 %ldb, ptr %all, i64 %width"


def _pack_all(w: Vectors) -> str:
    """The function pack_all: the second matrix of a product packed as a whole, `width` columns with those that fill up."""
    walk(w, "b")
    with blocks(w) as (block, begin, depth):
        b = w.at("%b", w.integer("mul", begin, "%b.row"))
        target = w.at("%all", w.integer("mul", w.integer("mul", block, "%width"), DEPTH + w.lanes))
        run_either(w, "pack_b", PACK, b, "%ldb", depth, "%columns", target)
    return w.function("pack_all", PACK_ALL)


PACKED = "i1 %a.turned, i64 %rows, i64 %columns, i64 %depth, ptr %a, i64 %lda, ptr %all, i64 %width, ptr %c, i64 %ldc"


def _packed_product(w: Vectors) -> str:
    """The function gemm_packed: c = a @ b, of which b was packed as a whole, `width` columns with those that fill up."""
    make_room(w, a=TALL)
    walk(w, "a")
    with blocks(w) as (block, begin, depth):
        more = w.let(f"icmp sgt i64 {block}, 0")
        a = w.at("%a", w.integer("mul", begin, "%a.column"))
        panels = w.at("%all", w.integer("mul", w.integer("mul", block, "%width"), DEPTH + w.lanes))
        pack = _packing(w, a, depth)
        with w.loop("0", "%rows", str(TALL)) as top:
            rows = w.least(w.integer("sub", "%rows", top), TALL)
            pack(top, rows)
            _tiles(w, rows, "%columns", depth, w.at("%c", w.integer("mul", top, "%ldc")), more, panels)
    return w.function("gemm_packed", PACKED)


def _line(w: Vectors, a: str, b: str, depth: str, more: str) -> None:
    """The product of one row, over a part of the sums: the second matrix is read where it lies."""
    start = "0"
    for vectors in (LINE, 1):
        width = vectors * w.lanes
        whole = w.integer("mul", w.integer("sdiv", w.integer("sub", "%columns", start), width), width)
        stop = w.integer("add", start, whole) if vectors > 1 else "%columns"
        with w.loop(start, stop, str(width)) as j:
            remaining = w.integer("sub", "%columns", j)
            given = (a, "%a.column", w.at(b, j), "%ldb", depth, w.at("%c", j), "%ldc", "1", remaining, more)
            w.run(f"line1x{vectors}", TILE, *given)
        start = stop


def _packing(w: Vectors, a: str, depth: str) -> Pack:
    """The function that packs rows of the first matrix, from `top` on."""

    def pack(top: str, rows: str) -> None:
        run_either(w, "pack_a", PACK, w.at(a, w.integer("mul", top, "%a.row")), "%lda", depth, rows, "%packed.a")

    return pack


def _block(w: Vectors, pack: Pack, b: str, depth: str, more: str) -> None:
    """The product over a part of the sums, both matrices packed piece by piece."""
    width = WIDE * w.lanes
    with w.loop("0", "%rows", str(TALL)) as top:
        rows = w.least(w.integer("sub", "%rows", top), TALL)
        pack(top, rows)
        with w.loop("0", "%columns", str(width)) as left:
            columns = w.least(w.integer("sub", "%columns", left), width)
            run_either(w, "pack_b", PACK, w.at(b, w.integer("mul", left, "%b.column")), "%ldb", depth, columns, "%packed.b")
            _tiles(w, rows, columns, depth, w.at(w.at("%c", w.integer("mul", top, "%ldc")), left), more)


def _tiles(w: Vectors, rows: str, columns: str, depth: str, c: str, more: str, panels: str = "%packed.b") -> None:
    """All tiles of a block whose panels are packed."""
    panel = VECTORS * w.lanes
    with w.loop("0", columns, str(panel)) as left:
        remaining = w.least(w.integer("sub", columns, left), panel)
        narrow = w.let(f"icmp sle i64 {remaining}, {w.lanes}")
        wide = w.let(f"xor i1 {narrow}, true")
        b = w.at(panels, w.integer("mul", left, DEPTH + w.lanes))
        start = "0"
        for height in (ROWS, FEW):
            whole = w.integer("mul", w.integer("sdiv", w.integer("sub", rows, start), height), height)
            stop = w.integer("add", start, whole) if height == ROWS else rows
            with w.loop(start, stop, str(height)) as i:
                inside = w.integer("srem", i, ROWS)
                begin = w.integer("mul", w.integer("sub", i, inside), DEPTH + w.lanes)
                a = w.at("%packed.a", w.integer("add", begin, inside))
                target = w.at(w.at(c, w.integer("mul", i, "%ldc")), left)
                below = w.integer("sub", rows, i)
                for vectors, condition in ((VECTORS, wide), (1, narrow)):
                    with w.when(condition):
                        w.run(f"tile{height}x{vectors}", TILE, a, "0", b, "0", depth, target, "%ldc", below, remaining, more)
            start = stop


@cache
def gemm_text(dtype: str) -> str:
    """The IR of gemm(a is transposed, b is transposed, rows, columns, depth, a, lda, b, ldb, c, ldc) for a dtype."""

    def new() -> Vectors:
        return Vectors(np.dtype(dtype))

    panel, space = VECTORS * new().lanes, DEPTH + new().lanes
    functions = [
        *(_tile(new(), rows, vectors) for rows in (ROWS, FEW) for vectors in (VECTORS, 1)),
        *(_tile(new(), 1, vectors, packed=False) for vectors in (LINE, 1)),
        pack_rows(new(), "pack_a_rows", ROWS, space),
        pack_columns(new(), "pack_a_columns", ROWS, space),
        pack_rows(new(), "pack_b_rows", panel, space),
        pack_columns(new(), "pack_b_columns", panel, space),
        _product(new()),
        _pack_all(new()),
        _packed_product(new()),
    ]
    return "\n".join([*new().intrinsics(), *functions, 'attributes #0 = { noinline nounwind "prefer-vector-width"="512" }'])
