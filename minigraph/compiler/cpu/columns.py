"""Columns of a nest that are folded side by side, and the variables on the stack that there are for each of them.

They are those of the innermost axis, in blocks, or, if there are but few, written out within the loops along which they are
folded. Where rows are folded there is one of each variable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from minigraph.compiler.cpu.places import memory_type
from minigraph.compiler.cpu.tiles import TileWriter
from minigraph.compiler.loops.nest import LoopNest
from minigraph.compiler.scalar.scalar import DType, Value

WIDTH = 1024
"""The number of columns that are folded at once, where the innermost axis is parallel: a page of memory in each row, whose
states stay in the first cache.
"""


class ColumnWriter(TileWriter):
    """Writes loops over columns, and what is kept for each."""

    def __init__(self, nest: LoopNest) -> None:
        super().__init__(nest)
        self.in_columns = nest.by_column or bool(self.order.columns)
        self._width = WIDTH if nest.by_column else math.prod([nest.written_out[axis] for axis in self.order.columns])
        self._column = ""

    def each_column(self, body: Callable[[], None]) -> None:
        """The code of a body for each column: in a loop, or one after the other; once where rows are folded."""
        if self.nest.by_column:
            with self.writer.loop("0", "%columns") as counter, self.moved_along(self.axes - 1, counter):
                self._column = counter
                body()
            return
        numbers = iter(range(self._width))

        def columns(axes: Sequence[int]) -> None:
            if axes:
                self.at_each(axes[0], lambda: columns(axes[1:]))
            else:
                self._column = str(next(numbers))
                body()

        columns(self.order.columns)

    def variable(self, dtype: DType) -> str:
        """A variable on the stack, one for each column."""
        name = "%" + self.writer.fresh("stack")
        self.variables.append(f"  {name} = alloca [{self._width} x {memory_type(dtype)}], align 64")
        return name

    def slot(self, name: str, dtype: DType) -> str:
        """The place of a variable of the current column."""
        if not self.in_columns:
            return name
        return self.writer.let(f"getelementptr inbounds {memory_type(dtype)}, ptr {name}, i64 {self._column}")

    def on_stack(self, name: str, dtype: DType) -> Value:
        """The value of a variable."""
        return self.element(self.slot(name, dtype), dtype)
