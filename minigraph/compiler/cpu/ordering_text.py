"""The LLVM IR of kernels that put the elements of rows in order.

Elements are compared by keys: signed integers of their width in the same order. All zeros have the same key, and all NaN the
greatest. Short rows are ordered without a branch: the rank of an element is the number of those that come before it. The
greatest few elements of a row are kept in order while it is gone through, vector by vector where none is as great as these.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.compiler.cpu.scalar_printer import LLVMWriter

LANES = 16
"""The elements that are looked at together for any that is among the greatest."""
COLUMNS = 64
"""The columns of a long row whose greatest elements tell which others need not be looked at; more than are kept."""

ROWS = "ptr %bases, ptr %words, i64 %part, i64 %parts"
"""The parameters of a kernel: places of arrays, then the number of rows, their length, and how many elements are kept."""


class _Keys(LLVMWriter):
    """The text of a function on elements of a dtype, all of which are read as integers, `type`."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        super().__init__()
        self.dtype, self.size, self.type = dtype, dtype.itemsize, f"i{8 * dtype.itemsize}"
        self.greatest = 2 ** (8 * self.size - 1) - 1

    def place(self, type: str, array: str, position: str) -> str:
        """The address of an element of an array."""
        return self.let(f"getelementptr {type}, ptr {array}, i64 {position}")

    def loaded(self, place: str, width: int = 0) -> str:
        """The elements, or the one, at a place."""
        return self.let(f"load {self.kind(width)}, ptr {place}, align {self.size}")

    def kind(self, width: int) -> str:
        """The type of vectors of a width, or of one element."""
        return f"<{width} x {self.type}>" if width else self.type

    def number(self, number: int, width: int) -> str:
        """A number, once for each element of a vector."""
        return f"<{', '.join([f'{self.type} {number}'] * width)}>" if width else str(number)

    def keys(self, elements: str, width: int = 0) -> str:
        """The keys of elements."""
        kind, least = self.kind(width), self.number(-self.greatest - 1, width)
        if self.dtype.kind == "i":
            return elements
        if self.dtype.kind != "f":
            return self.let(f"xor {kind} {elements}, {least}")
        greatest, nothing = self.number(self.greatest, width), self.number(0, width)
        infinite = int(np.array(np.inf, self.dtype).view(f"int{8 * self.size}"))
        size = self.let(f"and {kind} {elements}, {greatest}")
        sign = self.let(f"ashr {kind} {elements}, {self.number(8 * self.size - 1, width)}")
        turned = self.let(f"xor {kind} {elements}, {self.let(f'and {kind} {sign}, {greatest}')}")
        is_zero = self.let(f"icmp eq {kind} {size}, {nothing}")
        is_nan = self.let(f"icmp sgt {kind} {size}, {self.number(infinite, width)}")
        number = self.chosen(width, is_zero, nothing, turned)
        return self.chosen(width, is_nan, greatest, number)

    def chosen(self, width: int, condition: str, one: str, other: str) -> str:
        """Elements of one value where a condition holds, and of another elsewhere."""
        conditions = f"<{width} x i1>" if width else "i1"
        return self.let(f"select {conditions} {condition}, {self.kind(width)} {one}, {self.kind(width)} {other}")

    def bounds(self, arrays: int) -> tuple[str, str]:
        """Read the words, and name the arrays; the rows from which, and before which, this part works."""
        for k, name in enumerate(("rows", "length", "kept")):
            self.write(f"%{name}.at = getelementptr i64, ptr %words, i64 {k}")
            self.write(f"%{name} = load i64, ptr %{name}.at, align 8")
        for k in range(arrays):
            self.write(f"%array{k}.at = getelementptr ptr, ptr %bases, i64 {k}")
            self.write(f"%array{k} = load ptr, ptr %array{k}.at, align 8")
        after = self.integer("add", "%part", 1)
        first, last = (self.integer("sdiv", self.integer("mul", "%rows", one), "%parts") for one in ("%part", after))
        return first, last

    def function(self, header: str, result: str) -> str:
        """The whole function."""
        return "\n".join([*self.declarations, f"define {header} {{", "entry:", *self.lines, f"  ret {result}", "}"])


def ranked_text(dtype: np.dtype[Any], length: int, values: bool, places: bool, descending: bool) -> str:
    """The text of a kernel that writes the first elements of rows in a stable order.

    dtype, length: those of rows. values, places: whether elements, and their places, are written. descending: greatest first.
    """
    w = _Keys(dtype)
    w.write("%beyond = alloca i64, align 8")
    first, last = w.bounds(1 + values + places)
    with w.loop(first, last) as row:
        begin, result = w.integer("mul", row, length), w.integer("mul", row, "%kept")
        elements = w.loaded(w.place(w.type, "%array0", begin), length)
        ranks = _ranks(w, w.keys(elements, length), length, descending)
        for k in range(length):
            rank = w.let(f"extractelement {w.kind(length)} {ranks}, i64 {k}")
            rank = rank if w.type == "i64" else w.let(f"zext {w.type} {rank} to i64")
            is_kept = w.let(f"icmp slt i64 {rank}, %kept")
            element = w.let(f"extractelement {w.kind(length)} {elements}, i64 {k}")
            stored = [(w.type, element)] * values + [("i64", str(k))] * places
            for which, (type, value) in enumerate(stored, 1):
                place = w.place(type, f"%array{which}", w.integer("add", result, rank))
                kept = w.let(f"select i1 {is_kept}, ptr {place}, ptr %beyond")
                w.write(f"store {type} {value}, ptr {kept}, align {w.size if type == w.type else 8}")
    return w.function(f"i32 @ordered({ROWS})", "i32 0")


def _ranks(w: _Keys, keys: str, length: int, descending: bool) -> str:
    """For each of some keys the number of those that come before it."""
    kind, ranks = w.kind(length), w.number(0, length)
    orders = ("sgt", "sge") if descending else ("slt", "sle")
    for k in range(length):
        one = w.shuffled(w.type, keys, "poison", [k] * length)
        strictly, equally = (w.let(f"icmp {order} {kind} {one}, {keys}") for order in orders)
        later = ", ".join(f"i1 {'true' if lane > k else 'false'}" for lane in range(length))
        before = w.let(f"select <{length} x i1> <{later}>, <{length} x i1> {equally}, <{length} x i1> {strictly}")
        ranks = w.let(f"sub {kind} {ranks}, {w.let(f'sext <{length} x i1> {before} to {kind}')}")
    return ranks


def greatest_text(dtype: np.dtype[Any], most: int) -> str:
    """The text of a kernel that writes the greatest elements of rows, at most `most`, and their places, in descending order."""
    w = _Keys(dtype)
    w.write(f"%keys = alloca [{most} x {w.type}], align 64")
    w.write(f"%places = alloca [{most} x i64], align 64")
    w.write(f"%tops = alloca [{COLUMNS} x {w.type}], align 64")
    w.write(f"%found = alloca i{LANES}, align 8")
    w.write("%start = alloca i64, align 8")
    first, last = w.bounds(3)
    at_end = w.integer("sub", "%kept", 1)
    weakest = w.place(w.type, "%keys", at_end)
    with w.loop(first, last) as row:
        begin, kept = w.integer("mul", row, "%length"), w.integer("mul", row, "%kept")
        x = w.place(w.type, "%array0", begin)
        start = _begun(w, x, weakest, at_end)
        vectors = w.integer("sub", "%length", w.integer("srem", w.integer("sub", "%length", start), LANES))
        with w.loop(start, vectors, str(LANES)) as k:
            _look(w, x, k, weakest, at_end)
        with w.loop(vectors, "%length") as k:
            _compare(w, _key_at(w, x, k), k, weakest, at_end)
        with w.loop("0", "%kept") as k:
            place = w.let(f"load i64, ptr {w.place('i64', '%places', k)}, align 8")
            target = w.integer("add", kept, k)
            w.write(f"store i64 {place}, ptr {w.place('i64', '%array2', target)}, align 8")
            value = w.loaded(w.place(w.type, x, place))
            w.write(f"store {w.type} {value}, ptr {w.place(w.type, '%array1', target)}, align {w.size}")
    return "\n".join([_inserting_text(dtype), w.function(f"i32 @ordered({ROWS})", "i32 0")])


def _begun(w: _Keys, x: str, weakest: str, at_end: str) -> str:
    """Begin with what is kept of a row; the position from which on elements are to be compared.

    As many elements as are kept are at least as great as the last of the greatest ones of columns: of a long row only those are
    looked at, in whatever order they come. Otherwise the first elements are kept to begin with.
    """
    least = -w.greatest - 1
    w.write("br label %begin")
    w.label("begin")
    w.write(f"%is.long = icmp sge i64 %length, {2 * COLUMNS}")
    w.write("br i1 %is.long, label %long, label %short")
    w.label("long")
    _column_tops(w, x)
    for start, stop in (("0", "%kept"), ("%kept", str(COLUMNS))):
        with w.loop(start, stop) as k:
            top = w.loaded(w.place(w.type, "%tops", k))
            if start == "0":
                _insert(w, top, k, k)
            else:
                _compare(w, top, k, weakest, at_end)
    limit = w.loaded(weakest)
    w.write(f"%is.least = icmp eq {w.type} {limit}, {least}")
    w.write("br i1 %is.least, label %short, label %known")
    w.label("known")
    below = w.let(f"sub {w.type} {limit}, 1")
    with w.loop("0", "%kept") as k:
        w.write(f"store {w.type} {below}, ptr {w.place(w.type, '%keys', k)}, align {w.size}")
    w.write("store i64 0, ptr %start, align 8")
    w.write("br label %begun")
    w.label("short")
    with w.loop("0", "%kept") as k:
        _insert(w, _key_at(w, x, k), k, k)
    w.write("store i64 %kept, ptr %start, align 8")
    w.write("br label %begun")
    w.label("begun")
    return w.let("load i64, ptr %start, align 8")


def _column_tops(w: _Keys, x: str) -> None:
    """Find the greatest keys of the columns of a row, seen as a matrix; what does not fill a row of that is left out."""
    kind = w.kind(COLUMNS)
    w.declarations[f"declare {kind} @llvm.smax.v{COLUMNS}{w.type}({kind}, {kind})"] = None
    whole = w.integer("sub", "%length", w.integer("srem", "%length", COLUMNS))
    w.write(f"store {kind} {w.keys(w.loaded(x, COLUMNS), COLUMNS)}, ptr %tops, align 64")
    with w.loop(str(COLUMNS), whole, str(COLUMNS)) as k:
        keys = w.keys(w.loaded(w.place(w.type, x, k), COLUMNS), COLUMNS)
        before = w.let(f"load {kind}, ptr %tops, align 64")
        greater = w.let(f"call {kind} @llvm.smax.v{COLUMNS}{w.type}({kind} {before}, {kind} {keys})")
        w.write(f"store {kind} {greater}, ptr %tops, align 64")


def _key_at(w: _Keys, x: str, position: str) -> str:
    """The key of an element."""
    return w.keys(w.loaded(w.place(w.type, x, position)))


def _look(w: _Keys, x: str, position: str, weakest: str, at_end: str) -> None:
    """Compare those elements of a vector that are greater than the weakest of those kept."""
    bits = f"i{LANES}"
    for name, parameters in (("ctpop", bits), ("cttz", f"{bits}, i1")):
        w.declarations[f"declare {bits} @llvm.{name}.{bits}({parameters})"] = None
    keys = w.keys(w.loaded(w.place(w.type, x, position), LANES), LANES)
    limit = w.let(f"insertelement {w.kind(LANES)} poison, {w.type} {w.loaded(weakest)}, i64 0")
    greater = w.let(f"icmp sgt {w.kind(LANES)} {keys}, {w.shuffled(w.type, limit, 'poison', [0] * LANES)}")
    found = w.let(f"bitcast <{LANES} x i1> {greater} to {bits}")
    count = w.let(f"zext {bits} {w.let(f'call {bits} @llvm.ctpop.{bits}({bits} {found})')} to i64")
    w.write(f"store {bits} {found}, ptr %found, align 8")
    with w.loop("0", count):
        left = w.let(f"load {bits}, ptr %found, align 8")
        lane = w.let(f"call {bits} @llvm.cttz.{bits}({bits} {left}, i1 true)")
        others = w.let(f"and {bits} {left}, {w.let(f'sub {bits} {left}, 1')}")
        w.write(f"store {bits} {others}, ptr %found, align 8")
        place = w.integer("add", position, w.let(f"zext {bits} {lane} to i64"))
        _compare(w, _key_at(w, x, place), place, weakest, at_end)


def _compare(w: _Keys, key: str, position: str, weakest: str, at_end: str) -> None:
    """Put an element among those kept, if it is greater than the weakest of them."""
    greater = w.let(f"icmp sgt {w.type} {key}, {w.loaded(weakest)}")
    name = w.fresh("kept")
    w.write(f"br i1 {greater}, label %{name}, label %{name}.after")
    w.label(name)
    _insert(w, key, position, at_end)
    w.write(f"br label %{name}.after")
    w.label(f"{name}.after")


def _insert(w: _Keys, key: str, position: str, count: str) -> None:
    """Put an element among the first `count` of those kept."""
    w.write(f"call void @insert(ptr %keys, ptr %places, i64 {count}, {w.type} {key}, i64 {position})")


def _inserting_text(dtype: np.dtype[Any]) -> str:
    """The text of the function that puts an element after those that are as great; the others move by one."""
    w = _Keys(dtype)
    w.write("br label %look")
    w.label("look")
    w.write("%at = phi i64 [ %count, %entry ], [ %before, %move ]")
    w.write("%before = sub i64 %at, 1")
    key_at, place_at = w.place(w.type, "%keys", "%at"), w.place("i64", "%places", "%at")
    w.write("%first = icmp eq i64 %at, 0")
    w.write("br i1 %first, label %put, label %compare")
    w.label("compare")
    other = w.loaded(w.place(w.type, "%keys", "%before"))
    less = w.let(f"icmp slt {w.type} {other}, %key")
    w.write(f"br i1 {less}, label %move, label %put")
    w.label("move")
    w.write(f"store {w.type} {other}, ptr {key_at}, align {w.size}")
    place = w.let(f"load i64, ptr {w.place('i64', '%places', '%before')}, align 8")
    w.write(f"store i64 {place}, ptr {place_at}, align 8")
    w.write("br label %look")
    w.label("put")
    w.write(f"store {w.type} %key, ptr {key_at}, align {w.size}")
    w.write(f"store i64 %position, ptr {place_at}, align 8")
    header = f"internal void @insert(ptr %keys, ptr %places, i64 %count, {w.type} %key, i64 %position)"
    return w.function(header, "void")
