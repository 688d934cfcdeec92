"""The LLVM IR of folds over windows that slide over planes: sums of products with filters, sums, and greatest elements.

A band of a plane is copied into a small memory with what is around it, its columns apart by their remainder modulo the distance
of windows. Then the same element of neighbouring windows is a vector at an offset that a table says, wherever windows are.
"""

from __future__ import annotations

from minigraph.compiler.cpu.scalar_printer import llvm_type
from minigraph.compiler.cpu.sliding_writer import GREATEST, PRODUCTS, SUM, SlidingWords, SlidingWriter
from minigraph.compiler.cpu.words import expanded

VECTORS, TALLEST = 2, 4
"""The most registers of a row of results, and the most rows, that are computed at a time."""
CELLS = 2**17
"""The bytes of the memory that a band is copied into, and of that for its columns folded."""
SLACK = 4 * 64
"""The bytes after these that are read, though their values do not matter."""

TILE = "ptr noalias %x, i64 %row, ptr %taps, i64 %count, ptr %factors, ptr noalias %y, i64 %y.row, i64 %columns, ptr %divisor"
SLIDE = TILE.replace("i64 %columns", "i64 %rows, i64 %columns")
COPY = (
    "ptr noalias %x, i64 %height, i64 %width, i64 %first, i64 %rows, i64 %left, i64 %step, ptr noalias %cells, i64 %pitch, "
    "i64 %segment"
)


def _copy(w: SlidingWriter) -> str:
    """The function that copies rows of a plane from `first` on, some of which may lie outside, into cells."""
    zero = w.let("icmp eq i64 %step, 1")
    end = w.integer("add", "%left", "%width")
    begun = w.let(f"select i1 {zero}, i64 %left, i64 %pitch")  # all is filled if columns are apart
    rest = w.let(f"select i1 {zero}, i64 {w.integer('and', end, -w.lanes)}, i64 %pitch")
    even = w.integer("and", "%width", -w.lanes)
    w.write("%half.left = sdiv i64 %left, 2")
    w.write("%left.more = add i64 %left, 1")
    w.write("%half.more = sdiv i64 %left.more, 2")
    evens = w.integer("add", w.integer("mul", w.integer("and", "%left", 1), "%segment"), "%half.left")
    odds = w.integer("add", w.integer("mul", w.integer("and", "%left.more", 1), "%segment"), "%half.more")
    with w.loop("0", "%rows") as row:
        number = w.integer("add", "%first", row)
        target = w.at("%cells", w.integer("mul", row, "%pitch"))
        inside = w.let(f"icmp ult i64 {number}, %height")
        filled = w.let(f"select i1 {inside}, i64 {begun}, i64 %pitch")
        again = w.let(f"select i1 {inside}, i64 {rest}, i64 %pitch")
        for start, stop in (("0", filled), (again, "%pitch")):
            with w.loop(start, stop, str(w.lanes)) as cell:
                w.write(f"store {w.vector} {w.filler}, ptr {w.at(target, cell)}, align {w.item}")
        with w.when(inside):
            line = w.place(w.given, "%x", w.integer("mul", number, "%width"))
            with w.when(zero):
                _copy_line(w, line, w.at(target, "%left"), even)
            with w.when(w.let("icmp eq i64 %step, 2")):
                _copy_apart(w, line, w.at(target, evens), w.at(target, odds))
            with w.when(w.let("icmp sgt i64 %step, 2")), w.loop("0", "%width") as column:
                _copy_one(w, line, target, column)
    return w.function("copy", COPY)


def _copy_line(w: SlidingWriter, line: str, target: str, even: str) -> None:
    """Copy a row as it lies."""
    with w.loop("0", even, str(w.lanes)) as column:
        value = w.taken(w.given, w.place(w.given, line, column), w.whole)
        w.store(w.as_cells(value), w.at(target, column), w.whole)
    with w.when(w.let(f"icmp slt i64 {even}, %width")):
        mask = w.first(w.integer("sub", "%width", even))
        w.store(w.as_cells(w.taken(w.given, w.place(w.given, line, even), mask)), w.at(target, even), mask)


def _copy_apart(w: SlidingWriter, line: str, evens: str, odds: str) -> None:
    """Copy the elements of a row at even and at odd columns to two places."""
    with w.loop("0", "%width", str(2 * w.lanes)) as column:
        left = w.integer("sub", "%width", column)
        full = w.let(f"icmp sge i64 {left}, {2 * w.lanes}")
        half = w.integer("ashr", column, 1)
        places = [w.at(evens, half), w.at(odds, half)]

        def copied(masks: list[str], counts: list[str], column: str = column, places: list[str] = places) -> None:
            ends = [w.place(w.given, line, w.integer("add", column, k * w.lanes)) for k in range(2)]
            first, second = (w.taken(w.given, end, mask) for end, mask in zip(ends, masks, strict=True))
            for k, (place, count) in enumerate(zip(places, counts, strict=True)):
                value = w.shuffled(llvm_type(w.given), first, second, [2 * lane + k for lane in range(w.lanes)])
                w.store(w.as_cells(value), place, count)

        with w.when(full):
            copied([w.whole] * 2, [w.whole] * 2)
        with w.when(w.let(f"xor i1 {full}, true")):
            more = w.integer("add", left, 1)
            counts = [w.first(w.integer("ashr", count, 1)) for count in (more, left)]
            copied([w.first(left), w.first(left, w.lanes)], counts)


def _copy_one(w: SlidingWriter, line: str, target: str, column: str) -> None:
    """Copy one element of a row to where its remainder lies."""
    padded = w.integer("add", column, "%left")
    apart = w.integer("mul", w.integer("srem", padded, "%step"), "%segment")
    place = w.at(target, w.integer("add", apart, w.integer("sdiv", padded, "%step")))
    value = w.let(f"load {llvm_type(w.given)}, ptr {w.place(w.given, line, column)}, align {w.given.itemsize}")
    w.write(f"store {w.scalar} {w.as_cells(value, 1)}, ptr {place}, align {w.item}")


def _tile(w: SlidingWriter, last: bool, rows: int, vectors: int, whole: bool) -> str:
    """The function that folds some windows, of which the last columns may be missing if it is not `whole`."""
    lines = [w.at("%x", w.integer("mul", "%row", i)) for i in range(rows)]
    with w.carrying("0", "%count", "1", *[(w.vector, w.start)] * (rows * vectors)) as folded:
        offset = w.let(f"load i64, ptr {w.entry('%taps', folded.counter)}, align 8")
        factor = ""
        if w.kind == PRODUCTS:
            place = w.place(w.given, "%factors", folded.counter)
            factor = w.spread(w.let(f"load {w.scalar}, ptr {place}, align {w.item}"), w.scalar)
        for i, line in enumerate(lines):
            start = w.at(line, offset)
            for j in range(vectors):
                cell, value = i * vectors + j, w.taken(w.cells, w.at(start, j * w.lanes), w.whole)
                folded.next[cell] = _both(w, folded.at[cell], value, factor)
    for cell, value in enumerate(folded.last):
        i, j = divmod(cell, vectors)
        mask = w.whole if whole else w.first("%columns", j * w.lanes)
        offset = w.integer("add", w.integer("mul", "%y.row", i), j * w.lanes)
        if last:
            w.put(w.made, _finished(w, value, offset, mask), w.place(w.made, "%y", offset), mask)
        else:
            w.put(w.cells, value, w.at("%y", offset), mask)
    return w.function(_name(last, rows, vectors, whole), TILE)


def _both(w: SlidingWriter, before: str, value: str, factor: str) -> str:
    """A fold with one more value."""
    if w.kind == PRODUCTS:
        name = "%" + w.fresh()
        w.write_sum_with_product(name, factor, value, before)
        return name
    if w.kind == SUM:
        return w.sum(before, value)
    return w.let(f"call {w.vector} @llvm.smax.{w.suffix}({w.vector} {before}, {w.vector} {value})")


def _finished(w: SlidingWriter, value: str, offset: str, mask: str) -> str:
    """A fold in the form of the result: divided by a number at an `offset` of the divisors, and rounded."""
    if w.kind == GREATEST:
        return w.let(f"bitcast {w.vector} {w.ordered(value)} to {w.wide(w.made)}")
    dtype = w.cells
    if w.divides is not None:
        value, dtype = w.converted(value, dtype, w.divides), w.divides
        by = w.taken(dtype, w.place(dtype, "%divisor", offset), mask)
        value = w.let(f"fdiv {w.wide(dtype)} {value}, {by}")
    return w.converted(value, dtype, w.made)


def _name(last: bool, rows: int, vectors: int, whole: bool) -> str:
    """The name of the function that folds some windows."""
    return f"{'last' if last else 'inner'}{rows}x{vectors}{'' if whole else '.part'}"


TILES = ((1, False), (1, True), (VECTORS, False), (VECTORS, True))
"""The registers of a row, and whether these are full; tiles of each kind stand together, by their rows."""


def _slide(w: SlidingWriter, last: bool) -> str:
    """The function that folds all windows of a band, given the place of the first, in tiles."""
    made = w.made if last else w.cells
    divides = w.divides or w.cells
    panel = VECTORS * w.lanes
    blocks = w.integer("sdiv", w.integer("add", "%rows", TALLEST - 1), TALLEST)
    with w.loop("0", "%columns", str(panel)) as left:
        columns = w.least(w.integer("sub", "%columns", left), panel)
        wide = w.let(f"zext i1 {w.let(f'icmp sgt i64 {columns}, {w.lanes}')} to i64")
        over = w.integer("srem", columns, w.lanes)
        full = w.let(f"zext i1 {w.let(f'icmp eq i64 {over}, 0')} to i64")
        kind = w.integer("mul", w.integer("add", w.integer("mul", wide, 2), full), TALLEST)
        with w.loop("0", blocks) as block:
            top = w.integer("sdiv", w.integer("mul", "%rows", block), blocks)
            end = w.integer("sdiv", w.integer("mul", "%rows", w.integer("add", block, 1)), blocks)
            number = w.integer("add", kind, w.integer("sub", w.integer("sub", end, top), 1))
            table = f"@{'last' if last else 'inner'}.table"
            tile = w.let(f"load ptr, ptr {w.let(f'getelementptr ptr, ptr {table}, i64 {number}')}, align 8")
            x = w.at(w.at("%x", left), w.integer("mul", top, "%row"))
            offset = w.integer("add", left, w.integer("mul", top, "%y.row"))
            y, divisor = w.place(made, "%y", offset), w.place(divides, "%divisor", offset)
            given = f"ptr {x}, i64 %row, ptr %taps, i64 %count, ptr %factors, ptr {y}, i64 %y.row, i64 {columns}, ptr {divisor}"
            w.write(f"call void {tile}({given})")
    return w.function("last" if last else "inner", SLIDE)


_DRIVER = """
define i32 @sliding(ptr %bases, ptr %words, i64 %part, i64 %parts) {
entry:
  places PLACES in %words
  %rest = getelementptr i64, ptr %words, i64 REST
  read SlidingWords from %rest
  %taps.table = inttoptr i64 %taps to ptr
  %across.table = inttoptr i64 %across to ptr
  %cells = alloca [MEMORY x i8], align 64
  %folded = alloca [MEMORY x i8], align 64
  %twice = icmp sgt i64 %after, 0
  %x.size = mul i64 %height, %width
  %y.size = mul i64 %rows, %columns
  %row = mul i64 %stride, %pitch
  %units = mul i64 %planes, %bands
  %next = add i64 %part, 1
  %from.scaled = mul i64 %units, %part
  %from = sdiv i64 %from.scaled, %parts
  %to.scaled = mul i64 %units, %next
  %to = sdiv i64 %to.scaled, %parts
  %any = icmp slt i64 %from, %to
  br i1 %any, label %unit, label %done
unit:
  %u = phi i64 [ %from, %entry ], [ %u.next, %finished ]
  %plane = sdiv i64 %u, %bands
  %number = srem i64 %u, %bands
  %begin = mul i64 %number, %band
  %left.rows = sub i64 %rows, %begin
  %own = call i64 @llvm.smin.i64(i64 %left.rows, i64 %band)
  %x.plane = sdiv i64 %plane, %shared
  %x.start = mul i64 %x.plane, %x.size
  %x.at.plane = getelementptr GIVEN, ptr %x, i64 %x.start
  %begin.padded = mul i64 %begin, %stride
  %begin.row = sub i64 %begin.padded, %top
  %own.less = sub i64 %own, 1
  %own.rows = mul i64 %own.less, %stride
  %band.rows = add i64 %own.rows, %span
  call void @copy(ptr %x.at.plane, i64 %height, i64 %width, i64 %begin.row, i64 %band.rows, i64 %left, i64 %step, ptr %cells,
    i64 %pitch, i64 %segment)
  %filter = srem i64 %plane, %filters
  %filter.start = mul i64 %filter, %weights
  %filter.at = getelementptr GIVEN, ptr %FACTORS, i64 %filter.start
  %y.start = mul i64 %plane, %y.size
  %y.begin = mul i64 %begin, %columns
  %y.place = add i64 %y.start, %y.begin
  %y.at.band = getelementptr MADE, ptr %y, i64 %y.place
  %divisor.at = getelementptr DIVIDED, ptr %DIVISORS, i64 %y.begin
  br i1 %twice, label %columns.first, label %at.once
columns.first:
  call void @inner(ptr %cells, i64 %row, ptr %taps.table, i64 %first, ptr %filter.at, ptr %folded, i64 %pitch, i64 %own,
    i64 %pitch, ptr %divisor.at)
  call void @last(ptr %folded, i64 %pitch, ptr %across.table, i64 %after, ptr %filter.at, ptr %y.at.band, i64 %columns,
    i64 %own, i64 %columns, ptr %divisor.at)
  br label %finished
at.once:
  call void @last(ptr %cells, i64 %row, ptr %taps.table, i64 %first, ptr %filter.at, ptr %y.at.band, i64 %columns, i64 %own,
    i64 %columns, ptr %divisor.at)
  br label %finished
finished:
  %u.next = add i64 %u, 1
  %again = icmp slt i64 %u.next, %to
  br i1 %again, label %unit, label %done
done:
  ret i32 0
}
"""


def sliding_text(kind: str, given: str, made: str, divides: str | None) -> str:
    """The text of the kernel of a `kind` of fold, of elements of a dtype `given`, whose results have a dtype `made`.

    divides: the dtype in which sums are divided, None if they are not.
    """

    def new() -> SlidingWriter:
        return SlidingWriter(kind, given, made, divides)

    w = new()
    dtypes = dict.fromkeys([w.cells, w.given, w.made, *([] if w.divides is None else [w.divides])])
    declared = ["declare i64 @llvm.smin.i64(i64, i64)"]
    for one in dtypes:
        type, suffix = w.wide(one), w.of(one)
        declared.append(f"declare {type} @llvm.masked.load.{suffix}.p0(ptr, i32, {w.mask}, {type})")
        declared.append(f"declare void @llvm.masked.store.{suffix}.p0({type}, ptr, i32, {w.mask})")
    if w.is_float:
        declared.append(f"declare {w.vector} @llvm.fmuladd.{w.suffix}({w.vector}, {w.vector}, {w.vector})")
    else:
        declared.append(f"declare {w.vector} @llvm.smax.{w.suffix}({w.vector}, {w.vector})")
    tiles = [(last, rows, *one) for last in (False, True) for one in TILES for rows in range(1, TALLEST + 1)]
    tables = []
    for name, last in (("inner", False), ("last", True)):
        names = ", ".join(f"ptr @{_name(*one)}" for one in tiles if one[0] is last)
        tables.append(f"@{name}.table = internal constant [{len(tiles) // 2} x ptr] [{names}], align 8")
    functions = [_copy(new()), *(_tile(new(), *one) for one in tiles), _slide(new(), False), _slide(new(), True)]
    attributes = 'attributes #0 = { noinline nounwind "prefer-vector-width"="512" }'
    return "\n".join([*declared, *tables, *functions, _driver(w), attributes])


def _driver(w: SlidingWriter) -> str:
    """The function that a program calls."""
    extra = [name for name, there in (("factors", w.kind == PRODUCTS), ("divisors", w.divides is not None)) if there]
    places = ["x", *extra, "y"]
    meant = {
        "PLACES": " ".join(places), "REST": 2 * len(places), "MEMORY": CELLS + SLACK,
        "GIVEN": llvm_type(w.given), "MADE": llvm_type(w.made), "DIVIDED": llvm_type(w.divides or w.cells),
        "FACTORS": "factors" if "factors" in extra else "x", "DIVISORS": "divisors" if "divisors" in extra else "x",
    }  # fmt: skip
    text = _DRIVER
    for name, value in meant.items():
        text = text.replace(name, str(value))
    return expanded(text, SlidingWords)
