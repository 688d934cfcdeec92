"""Vectors that folds over sliding windows work on, as LLVM IR, and the words that a call of such a fold has."""

from __future__ import annotations

import numpy as np

from minigraph.compiler.cpu.jit import register_bytes
from minigraph.compiler.cpu.scalar_printer import llvm_type
from minigraph.compiler.cpu.vectors import Vectors
from minigraph.compiler.cpu.words import Words
from minigraph.ops.reduce.base import wider

PRODUCTS, SUM, GREATEST = "products", "sum", "greatest"
"""The kinds of folds: of products with a filter, of elements, and the greatest."""


class SlidingWords(Words):
    """The words of a fold after its places: the planes, and how many share one plane of the operand, and how many filters there
    are; the rows and columns of the operand's planes and of the result's, and how many of them lie before a window's first.

    stride, step: the distances of windows along rows and columns. span: the rows of a window. pitch: the cells from one row to
    the next; segment: those from one remainder of columns to the next. band: the rows of results in one of `bands`. taps: a
    table of the offsets of the `first` elements that are folded; with `after` elements in the table `across`, these are folded
    within columns, and those within the rows that come of it. weights: the elements of a filter.
    """

    planes: int
    shared: int
    filters: int
    height: int
    width: int
    rows: int
    columns: int
    top: int
    left: int
    stride: int
    step: int
    span: int
    pitch: int
    segment: int
    band: int
    bands: int
    first: int
    after: int
    weights: int
    taps: int
    across: int


def cell_type(kind: str, dtype: np.dtype[np.floating]) -> np.dtype[np.generic]:
    """The dtype of the cells that elements of a dtype are copied into, in which they are folded."""
    if kind == GREATEST:
        return np.dtype(f"int{8 * dtype.itemsize}")
    return wider(dtype) if kind == SUM else dtype


class SlidingWriter(Vectors):
    """The text of a function that folds windows of a kind, of elements of a dtype `given`, into a result of a dtype `made`.

    divides: the dtype in which results are divided, None if they are not.
    """

    def __init__(self, kind: str, given: str, made: str, divides: str | None) -> None:
        own = np.dtype(given)
        cells = cell_type(kind, own)
        super().__init__(cells, register_bytes())
        self.kind, self.given, self.made = kind, own, np.dtype(made)
        self.cells = cells
        self.divides = None if divides is None else np.dtype(divides)

    def wide(self, dtype: np.dtype[np.generic], width: int | None = None) -> str:
        """The type of as many values of a dtype as a register has cells, or of one value."""
        return llvm_type(dtype) if width == 1 else f"<{self.lanes} x {llvm_type(dtype)}>"

    def of(self, dtype: np.dtype[np.generic]) -> str:
        """The suffix of intrinsics on vectors of a dtype."""
        return f"v{self.lanes}{'f' if dtype.kind == 'f' else 'i'}{8 * dtype.itemsize}"

    def place(self, dtype: np.dtype[np.generic], start: str, count: str | int) -> str:
        """The place `count` elements of a dtype after a `start`."""
        return self.let(f"getelementptr {llvm_type(dtype)}, ptr {start}, i64 {count}")

    def taken(self, dtype: np.dtype[np.generic], place: str, mask: str) -> str:
        """The elements of a dtype at a place where a mask is set."""
        type = self.wide(dtype)
        if mask == self.whole:
            return self.let(f"load {type}, ptr {place}, align {dtype.itemsize}")
        given = f"ptr {place}, i32 {dtype.itemsize}, {self.mask} {mask}, {type} zeroinitializer"
        return self.let(f"call {type} @llvm.masked.load.{self.of(dtype)}.p0({given})")

    def put(self, dtype: np.dtype[np.generic], value: str, place: str, mask: str) -> None:
        """Write a `value`, elements of a dtype, to a place where a mask is set."""
        type = self.wide(dtype)
        if mask == self.whole:
            self.write(f"store {type} {value}, ptr {place}, align {dtype.itemsize}")
            return
        given = f"{type} {value}, ptr {place}, i32 {dtype.itemsize}, {self.mask} {mask}"
        self.write(f"call void @llvm.masked.store.{self.of(dtype)}.p0({given})")

    def converted(self, value: str, source: np.dtype[np.generic], target: np.dtype[np.generic]) -> str:
        """A `value`, a vector of floats of the dtype `source`, in the dtype `target`."""
        if source == target:
            return value
        name = "fpext" if target.itemsize > source.itemsize else "fptrunc"
        return self.let(f"{name} {self.wide(source)} {value} to {self.wide(target)}")

    def as_cells(self, value: str, width: int | None = None) -> str:
        """Elements, a vector or one, in the form that is folded: for maxima integers in the order of the floats, NaN last."""
        given, cells = self.wide(self.given, width), self.wide(self.cells, width)
        if self.kind != GREATEST:
            return value if given == cells else self.let(f"fpext {given} {value} to {cells}")
        bits = 8 * self.cells.itemsize
        is_nan = self.let(f"fcmp uno {given} {value}, zeroinitializer" if width != 1 else f"fcmp uno {given} {value}, 0.0")
        condition = "i1" if width == 1 else self.mask
        greatest = self.spread_number(2 ** (bits - 1) - 1, width)
        own = self.ordered(self.let(f"bitcast {given} {value} to {cells}"), width)
        return self.let(f"select {condition} {is_nan}, {cells} {greatest}, {cells} {own}")

    def ordered(self, value: str, width: int | None = None) -> str:
        """The bits of floats as integers in the same order, or back."""
        cells, bits = self.wide(self.cells, width), 8 * self.cells.itemsize
        signs = self.let(f"ashr {cells} {value}, {self.spread_number(bits - 1, width)}")
        flipped = self.let(f"lshr {cells} {signs}, {self.spread_number(1, width)}")
        return self.let(f"xor {cells} {value}, {flipped}")

    def spread_number(self, number: int, width: int | None = None) -> str:
        """A constant of as many equal integers as a register has cells, or one."""
        return str(number) if width == 1 else f"<{', '.join([f'{self.scalar} {number}'] * self.lanes)}>"

    @property
    def filler(self) -> str:
        """The cells of places outside of a plane: 0, or of the least rank."""
        if self.kind != GREATEST:
            return "zeroinitializer"
        infinite = np.array(-np.inf, self.given).view(self.cells)
        return self.spread_number(int(infinite) ^ (2 ** (8 * self.cells.itemsize - 1) - 1))

    @property
    def start(self) -> str:
        """The vector that a fold begins with."""
        return self.filler if self.kind == GREATEST else "zeroinitializer"
