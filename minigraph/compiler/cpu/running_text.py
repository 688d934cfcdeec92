"""The LLVM IR of running sums and products, as functions on rows in one piece and on columns.

Sums of floats along a long row are done 8 elements at a time, of which each is added up over 1, 2 and 4 neighbours. All other
sums and products are done one element after the other, of several columns or rows at once: an infinite or a NaN element has an
effect on those after it alone, and so has a sum or a product that overflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.compiler.cpu.scalar_printer import LLVMWriter, literal, llvm_type
from minigraph.ops.reduce.base import wide_integer, wider
from minigraph.ops.reduce.running import Running

LANES = 8
"""The elements of a row that are added up together."""
BLOCK = 256
"""The elements of a row after which overflows are looked for."""
LONG_ROW = 16
"""The length from which on a row is not done one element after the other."""
TOGETHER = 4
"""The rows that are done side by side, since each waits for its last result."""
FEW_ROWS = 16
"""The least number of long rows that are done side by side, not in lanes, which takes less time."""
STRIP = 512
"""The columns whose running values are kept in memory, which stays in the first cache, while rows are gone through."""
WIDTHS = (32, 8, 4, 2, 1)
"""The columns whose running values are kept in registers; the first as long as at least WIDE are not left."""
WIDE = 64
"""The number of columns from which on they are done in strips, and the least that a thread is given."""


def functions_text(dtype: np.dtype[Any], op: Running) -> str:
    """The text of the functions `rows` and `columns`, which run an op along elements of a dtype, and of what they call."""
    functions = [_one_row(_Runner(dtype, op)), _rows(_Runner(dtype, op)), _columns(_Runner(dtype, op))]
    functions += [_strip(_Runner(dtype, op)), *(_narrow(_Runner(dtype, op), width) for width in WIDTHS)]
    if op.adds and dtype.kind == "f":
        functions.append(_long_row(_Runner(dtype, op)))
    return "\n".join(["declare i64 @llvm.smin.i64(i64, i64)", *functions])


class _Runner(LLVMWriter):
    """The text of a function that runs an op along elements `given`, of which it makes others from wider ones."""

    def __init__(self, dtype: np.dtype[Any], op: Running) -> None:
        super().__init__()
        result = wide_integer(dtype)
        self.dtype, self.wide, self.backwards = dtype, wider(result), op.backwards
        self.adds = op.adds
        self.given, self.made, self.type = llvm_type(dtype), llvm_type(result), llvm_type(self.wide)
        self.sizes = dtype.itemsize, result.itemsize
        self.is_float = dtype.kind == "f"
        self.in_lanes = self.adds and self.is_float
        self.can_overflow = self.in_lanes and self.wide == dtype
        """Whether sums of numbers that a row holds may become infinite on the way: those of shorter floats are wider."""
        self.start = literal((-0.0 if self.is_float else 0) if self.adds else 1, self.wide)
        """The value that leaves any other unchanged, -0.0 as well."""

    def kind(self, type: str, width: int) -> str:
        """The type of vectors of a width, or of one value."""
        return type if width == 1 else f"<{width} x {type}>"

    def spread(self, value: str, width: int = LANES) -> str:
        """A vector of equal values."""
        if width == 1:
            return value
        one = self.let(f"insertelement {self.kind(self.type, width)} poison, {self.type} {value}, i64 0")
        return self.shuffled(self.type, one, "poison", [0] * width)

    def places(self, x: str, y: str, offset: str) -> tuple[str, str]:
        """The places that lie as many elements further in the operand as in the result."""
        return (
            self.let(f"getelementptr {self.given}, ptr {x}, i64 {offset}"),
            self.let(f"getelementptr {self.made}, ptr {y}, i64 {offset}"),
        )

    def load(self, place: str, width: int = 1) -> str:
        """The elements of the operand at a place, widened."""
        return self.widened(self.loaded(place, width), width)

    def loaded(self, place: str, width: int) -> str:
        """The elements of the operand at a place."""
        return self.let(f"load {self.kind(self.given, width)}, ptr {place}, align {self.sizes[0]}")

    def widened(self, value: str, width: int) -> str:
        """Elements of the operand in the dtype that they are added up in."""
        if self.given == self.type:
            return value
        way = "fpext" if self.is_float else "sext" if self.dtype.kind == "i" else "zext"
        return self.let(f"{way} {self.kind(self.given, width)} {value} to {self.kind(self.type, width)}")

    def rounded(self, value: str, width: int) -> str:
        """Values in the dtype of the result."""
        if self.made == self.type:
            return value
        return self.let(f"fptrunc {self.kind(self.type, width)} {value} to {self.kind(self.made, width)}")

    def store(self, value: str, place: str, width: int = 1) -> None:
        """Write a value, rounded, to a place in the result."""
        self.write(f"store {self.kind(self.made, width)} {self.rounded(value, width)}, ptr {place}, align {self.sizes[1]}")

    def both(self, a: str, b: str, width: int = 1) -> str:
        """The sum, or the product, of two values."""
        name = ("f" if self.is_float else "") + ("add" if self.adds else "mul")
        return self.let(f"{name} {self.kind(self.type, width)} {a}, {b}")

    def position(self, step: str, width: int = 1) -> str:
        """The first of the positions along %length of the elements that the running begins with from a step on."""
        return self.integer("sub", self.integer("sub", "%length", width), step) if self.backwards else step

    def function(self, name: str, parameters: str, result: str = "void", value: str = "") -> str:
        """The whole function."""
        header = f"define internal {result} @{name}({parameters}) {{"
        return "\n".join([header, "entry:", *self.lines, f"  ret {result} {value}", "}"])


ONE_ROW = "ptr noalias %x, ptr noalias %y, i64 %length, i64 %from, i64 %to, {type} %before"
LONG = "ptr noalias %x, ptr noalias %y, i64 %length"
ROWS = "ptr noalias %x, ptr noalias %y, i64 %first, i64 %last, i64 %length, i1 %alone"
NARROW = "ptr noalias %x, ptr noalias %y, i64 %length, i64 %inner"
COLUMNS = "ptr noalias %x, ptr noalias %y, i64 %length, i64 %inner, i64 %columns"


def _one_row(w: _Runner) -> str:
    """The function that runs from one step to before another, one element after the other, from the value `before`."""
    with w.carrying("%from", "%to", "1", (w.type, "%before")) as value:
        x, y = w.places("%x", "%y", w.position(value.counter))
        value.next = [w.both(value.at[0], w.load(x))]
        w.store(value.next[0], y)
    return w.function("one_row", ONE_ROW.format(type=w.type), w.type, value.last[0])


def _long_row(w: _Runner) -> str:
    """The function that runs along a row of floats in lanes, and what is left of it one element after the other."""
    w.write(f"%even = and i64 %length, {-LANES}")
    with w.carrying("0", "%even", str(BLOCK), (w.type, w.start)) as block:
        stop = w.least(w.integer("add", block.counter, BLOCK), "%even")
        block.next = [_block(w, block.counter, stop, block.at[0])]
    w.let(f"call {w.type} @one_row(ptr %x, ptr %y, i64 %length, i64 %even, i64 %length, {w.type} {block.last[0]})")
    return w.function("long_row", LONG)


def _block(w: _Runner, start: str, stop: str, before: str) -> str:
    """The last value of a block of a row, which begins with the value `before`."""
    kind = w.kind(w.type, LANES)
    last = 0 if w.backwards else LANES - 1
    with w.carrying(start, stop, str(LANES), (kind, w.spread(before)), (kind, "zeroinitializer")) as value:
        x, y = w.places("%x", "%y", w.position(value.counter, LANES))
        own = _added_up(w, w.load(x, LANES))
        result = w.both(own, value.at[0], LANES)
        w.store(result, y, LANES)
        value.next[0] = w.both(value.at[0], w.shuffled(w.type, own, "poison", [last] * LANES), LANES)
        if w.can_overflow:
            value.next[1] = w.both(value.at[1], w.let(f"fmul {kind} {result}, zeroinitializer"), LANES)
    carried = w.let(f"extractelement {kind} {value.last[0]}, i64 0")
    if not w.can_overflow:
        return carried
    odd = w.let(f"fcmp uno {kind} {value.last[1]}, zeroinitializer")
    any_odd = w.let(f"icmp ne i{LANES} {w.let(f'bitcast <{LANES} x i1> {odd} to i{LANES}')}, 0")
    w.write("br label %looked")
    w.label("looked")
    w.write(f"br i1 {any_odd}, label %again, label %settled")
    w.label("again")  # neighbours that are added first may overflow where sums in order do not
    in_order = w.let(f"call {w.type} @one_row(ptr %x, ptr %y, i64 %length, i64 {start}, i64 {stop}, {w.type} {before})")
    w.write("br label %settled")
    w.label("settled")
    return w.let(f"phi {w.type} [ {carried}, %looked ], [ {in_order}, %again ]")


def _added_up(w: _Runner, value: str) -> str:
    """The sums of each lane and all before it: those of pairs, then of fours, then of eights."""
    nothing = w.spread(w.start)
    size = 1
    while size < LANES:
        # the last sum of the first half is added to all lanes of the second
        lanes = [lane - lane % (2 * size) + size - 1 if lane & size else LANES + lane for lane in range(LANES)]
        if w.backwards:
            lanes = [LANES - 1 - lane if lane < LANES else 3 * LANES - 1 - lane for lane in reversed(lanes)]
        value = w.both(value, w.shuffled(w.type, value, nothing, lanes), LANES)
        size *= 2
    return value


def _rows(w: _Runner) -> str:
    """The function that runs along the rows from the first to before the last: several side by side, or each in lanes."""
    w.write(f"%lanes = and i1 %alone, {'true' if w.in_lanes else 'false'}")
    w.write("%count = sub i64 %last, %first")
    w.write(f"%over = srem i64 %count, {TOGETHER}")
    w.write("%even = sub i64 %last, %over")
    w.write("%stop = select i1 %lanes, i64 %first, i64 %even")
    with w.loop("%first", "%stop", str(TOGETHER)) as row:
        begins = [w.integer("mul", w.integer("add", row, k), "%length") for k in range(TOGETHER)]
        _side_by_side(w, [w.places("%x", "%y", one) for one in begins])
    with w.loop("%stop", "%last") as row:
        x, y = w.places("%x", "%y", w.integer("mul", row, "%length"))
        if w.in_lanes:
            w.write("br i1 %lanes, label %in.lanes, label %in.order")
            w.label("in.lanes")
            w.write(f"call void @long_row(ptr {x}, ptr {y}, i64 %length)")
            w.write("br label %done.row")
        else:
            w.write("br label %in.order")
        w.label("in.order")
        w.let(f"call {w.type} @one_row(ptr {x}, ptr {y}, i64 %length, i64 0, i64 %length, {w.type} {w.start})")
        w.write("br label %done.row")
        w.label("done.row")
    return w.function("rows", ROWS)


def _side_by_side(w: _Runner, rows: list[tuple[str, str]]) -> None:
    """Run along several rows, which begin at these places: in squares, whose columns are vectors, then step by step."""
    count = len(rows)
    kind = w.kind(w.type, count)
    even = w.integer("and", "%length", -count)
    with w.carrying("0", even, str(count), (kind, w.spread(w.start, count))) as square:
        at = w.position(square.counter, count)
        places = [w.places(x, y, at) for x, y in rows]
        columns = w.transposed(w.given, [w.loaded(x, count) for x, _ in places])
        value, results = square.at[0], [""] * count
        for k in reversed(range(count)) if w.backwards else range(count):
            value = w.both(value, w.widened(columns[k], count), count)
            results[k] = w.rounded(value, count)
        square.next = [value]
        for row, (_, y) in zip(w.transposed(w.made, results), places, strict=True):
            w.write(f"store {w.kind(w.made, count)} {row}, ptr {y}, align {w.sizes[1]}")
    with w.carrying(even, "%length", "1", (kind, square.last[0])) as step:
        at = w.position(step.counter)
        places = [w.places(x, y, at) for x, y in rows]
        column = "poison"
        for k, (x, _) in enumerate(places):
            column = w.let(f"insertelement {kind} {column}, {w.type} {w.load(x)}, i64 {k}")
        step.next = [w.both(step.at[0], column, count)]
        for k, (_, y) in enumerate(places):
            w.store(w.let(f"extractelement {kind} {step.next[0]}, i64 {k}"), y)


def _columns(w: _Runner) -> str:
    """The function that runs along columns of a matrix, whose rows lie `inner` apart."""
    w.write(f"%wide = icmp sge i64 %columns, {WIDE}")
    at = w.let("select i1 %wide, i64 %columns, i64 0")
    with w.loop("0", at, str(STRIP)) as column:
        x, y = w.places("%x", "%y", column)
        count = w.least(w.integer("sub", "%columns", column), STRIP)
        w.write(f"call void @strip(ptr {x}, ptr {y}, i64 %length, i64 %inner, i64 {count})")
    for width in WIDTHS:
        stop = w.integer("add", at, w.integer("and", w.integer("sub", "%columns", at), -width))
        with w.loop(at, stop, str(width)) as column:
            x, y = w.places("%x", "%y", column)
            w.write(f"call void @narrow{width}(ptr {x}, ptr {y}, i64 %length, i64 %inner)")
        at = stop
    return w.function("columns", COLUMNS)


def _narrow(w: _Runner, width: int) -> str:
    """The function that runs along `width` columns, whose running values stay in registers."""
    kind = w.kind(w.type, width)
    with w.carrying("0", "%length", "1", (kind, w.spread(w.start, width))) as value:
        x, y = w.places("%x", "%y", w.integer("mul", w.position(value.counter), "%inner"))
        value.next = [w.both(value.at[0], w.load(x, width), width)]
        w.store(value.next[0], y, width)
    return w.function(f"narrow{width}", NARROW)


def _strip(w: _Runner) -> str:
    """The function that goes through the rows of at most STRIP columns, whose running values lie in memory."""
    item = w.wide.itemsize
    w.write(f"%values = alloca [{STRIP} x {w.type}], align 64")
    w.write(f"%even = and i64 %columns, {-LANES}")

    def value_at(column: str) -> str:
        return w.let(f"getelementptr {w.type}, ptr %values, i64 {column}")

    with w.loop("0", str(STRIP), str(LANES)) as column:
        w.write(f"store {w.kind(w.type, LANES)} {w.spread(w.start)}, ptr {value_at(column)}, align {item}")
    with w.loop("0", "%length") as step:
        row = w.integer("mul", w.position(step), "%inner")
        for start, stop, width in (("0", "%even", LANES), ("%even", "%columns", 1)):
            kind = w.kind(w.type, width)
            with w.loop(start, stop, str(width)) as column:
                x, y = w.places("%x", "%y", w.integer("add", row, column))
                kept = value_at(column)
                value = w.both(w.let(f"load {kind}, ptr {kept}, align {item}"), w.load(x, width), width)
                w.write(f"store {kind} {value}, ptr {kept}, align {item}")
                w.store(value, y, width)
    return w.function("strip", COLUMNS)
