"""The loops of a nest written as LLVM IR, in the order of its schedule.

Where the innermost axis is parallel, blocks of columns are computed at once, and what is folded has a place on the stack for
each column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from minigraph.compiler.cpu.columns import WIDTH, ColumnWriter
from minigraph.compiler.cpu.places import memory_type
from minigraph.compiler.cpu.stage_shape import StageShape
from minigraph.compiler.loops.nest import Fold, Load, LoopNest
from minigraph.compiler.loops.nest_writer import Known
from minigraph.compiler.loops.scheduled import Gap, Stage
from minigraph.compiler.scalar.scalar import INT64, Value

AHEAD, CACHE_LINE = 2, 64
"""The distance, in rows of columns, at which memory is asked for, and the bytes that come at once."""

CHUNK = 1024
"""The number of slow values that are stored before they are folded: they stay in the first cache."""


class Printer(ColumnWriter):
    """Writes the loops of one nest."""

    def __init__(self, nest: LoopNest) -> None:
        super().__init__(nest)
        self.kept_values: Known = {}
        self.spilled: dict[int, str] = {}
        """The values computed in earlier gaps, or the places on the stack with one for each column."""

    # -- loops -------------------------------------------------------------------------------------------------------

    def write(self, start: str, stop: str) -> None:
        """The loops; those along the first parallel axis from `start` to `stop`."""
        if self.nest.tiled is not None:
            self.over_tiles(start, stop, self._point)
            return
        outer = self.order.parallel[:-1] if self.nest.by_column else self.order.parallel
        bounds = (start, stop) if not outer else ("0", self.size(self.axes - 1))
        body = partial(self._blocks, *bounds) if self.nest.by_column else self._point
        if outer:
            with self.along(outer[0], start, stop):
                self._nested(outer[1:], body)
        else:
            body()

    def _point(self) -> None:
        """Everything for one point, or one block of columns."""
        self.kept_values, self.spilled = {}, {}
        self.share()
        self.write_stages()

    def _nested(self, axes: Sequence[int], body: Callable[[], None]) -> None:
        """Loops along `axes` around a body."""
        if axes:
            self.at_each(axes[0], partial(self._nested, axes[1:], body))
        else:
            body()

    def _blocks(self, start: str, stop: str) -> None:
        """A loop over blocks of columns."""
        writer = self.writer
        with writer.loop(start, stop, str(WIDTH)) as block:
            writer.write(f"%first = add nsw i64 {block}, 0")
            remaining = writer.let(f"sub nsw i64 {stop}, {block}")
            full = writer.let(f"icmp slt i64 {remaining}, {WIDTH}")
            writer.write(f"%columns = select i1 {full}, i64 {remaining}, i64 {WIDTH}")
            with self.moved_along(self.axes - 1, "%first"):
                self._point()

    def ready(self, lane: int, node: int) -> Value | None:
        """A value that was computed in an earlier gap, besides what needs no computation anyhow."""
        if node in self.kept_values:
            return self.kept_values[node]
        if node in self.spilled:
            return self.on_stack(self.spilled[node], self.nest.dtype_of(node))
        return super().ready(lane, node)

    # -- stages ------------------------------------------------------------------------------------------------------

    def write_stage(self, stage: Stage) -> None:
        if self.nest.written_out:
            self._nested(self.order.serial, partial(self._together, stage))
            return
        shape, serial = StageShape(self.order, self.accumulators, self.stage), self.order.serial
        if shape.in_pieces:
            self._nested(serial[:-1], partial(self._in_pieces, stage))
            return
        body = partial(self._buffered if shape.buffered else self._together, stage)
        self._nested(serial[:-1], partial(self._row, shape, body) if serial else body)

    def _row(self, shape: StageShape, body: Callable[[], None]) -> None:
        """The innermost serial loop."""
        axis = self.order.serial[-1]
        first, last = self.bounds(axis)
        if shape.rows > 1:
            first = self._rows_together(shape.rows, first, last)
        with self.along(axis, first, last):
            if self.nest.by_column and shape.rows == 1:
                for operand, written in shape.fetched(axis):
                    self._fetch(operand, axis, written)
            body()

    def _rows_together(self, count: int, first: str, last: str) -> str:
        """The innermost serial loop by `count` rows of columns at a time; the first row that is left."""
        axis, writer, stage = self.order.serial[-1], self.writer, self.order.stages[self.stage]
        rest = writer.integer("srem", writer.integer("sub nsw", last, first), count)
        stop = writer.integer("sub nsw", last, rest)
        with writer.loop(first, stop, str(count)) as counter, self.moved_along(axis, counter):

            def body() -> None:
                for row in range(count):
                    with self.moved_along(axis, str(row)):
                        self.index[axis] = writer.integer("add nsw", counter, row)
                        self._add(stage, {})

            self.each_column(body)
        return stop

    def _fetch(self, operand: int, axis: int, written: bool) -> None:
        """Ask for a row of columns before it is needed: memory that lies in pieces is not foreseen in time by the processor."""
        dtype = self.nest.operands[operand].dtype
        distance = self.writer.let(f"mul nsw i64 {self.stride(operand, axis)}, {AHEAD}")
        row = self.writer.let(f"getelementptr {memory_type(dtype)}, ptr {self.places[operand]}, i64 {distance}")
        with self.writer.loop("0", "%columns", str(CACHE_LINE // dtype.itemsize)) as column:
            place = self.writer.let(f"getelementptr {memory_type(dtype)}, ptr {row}, i64 {column}")
            self.writer.write(f"call void @llvm.prefetch.p0(ptr {place}, i32 {int(written)}, i32 2, i32 1)")
            self.writer.declarations["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = None

    def _together(self, stage: Stage) -> None:
        """Adds one element, or one of each column, to the folds of a stage, and stores what the stage stores."""

        def body() -> None:
            known: Known = {}
            self._add(stage, known)
            self._store(stage, known)

        self.each_column(body)

    def _buffered(self, stage: Stage) -> None:
        """The same, what is folded being kept in buffers first."""
        folded = dict.fromkeys(one for k in stage.folds for one in self.nest.arguments_of(k))
        buffers = {one: self.variable(self.nest.dtype_of(one)) for one in folded}

        def fill() -> None:
            known: Known = {}
            for argument, name in buffers.items():
                self._keep(self.compute(argument, known), name)
            self._store(stage, known)

        self.each_column(fill)
        kinds = [(one, name, self.nest.dtype_of(one)) for one, name in buffers.items()]
        self.each_column(lambda: self._add(stage, {one: self.on_stack(name, dtype) for one, name, dtype in kinds}))

    def _keep(self, value: Value, name: str) -> None:
        """Put a value into a variable."""
        self.put(value, self.slot(name, value.dtype))

    def _in_pieces(self, stage: Stage) -> None:
        """The innermost loop of a stage: a chunk is stored, then read again from the cache, and folded."""
        axis = self.order.serial[-1]
        first, last = self.bounds(axis)
        with self.writer.loop(first, last, str(CHUNK)) as start:
            beyond = self.writer.let(f"add nsw i64 {start}, {CHUNK}")
            stop = self.writer.least(beyond, last)
            with self.along(axis, start, stop):
                self._store(stage, {})
            self.stage += 1  # what was stored can be read
            with self.along(axis, start, stop):
                self._add(stage, {})
            self.stage -= 1

    def _add(self, stage: Stage, known: Known) -> None:
        """Add an element to the folds of a stage."""
        for k in stage.folds:
            node, one = self.nest.nodes[k], self.accumulators[k]
            assert isinstance(node, Fold)
            x = self.compute(node.argument, known)
            slots = [self.slot(name, dtype) for name, dtype in zip(one.slots, one.state, strict=True)]
            state = [self.element(slot, dtype) for slot, dtype in zip(slots, one.state, strict=True)]
            position = Value(self.writer, self.index[self.order.serial[-1]] if self.order.serial else "0", INT64)
            for slot, value in zip(slots, one.add(state, x, position), strict=True):
                self.put(value, slot)

    def _store(self, stage: Stage | Gap, known: Known) -> None:
        """Store values, all of them computed first: a store may write over what another value is computed from."""
        values = [self.compute(store.node, known) for store in stage.stores]
        for store, value in zip(stage.stores, values, strict=True):
            self.put(value, self.places[store.operand])
        for add in stage.scatters:
            self.scatter(add, known)

    def write_gap(self, gap: Gap) -> None:
        kept = [k for k in gap.kept if not (self.in_columns and isinstance(self.nest.nodes[k], Load))]
        if not (gap.stores or gap.scatters or kept or gap.ended or gap.begun):
            return
        needed = dict.fromkeys([*gap.ended, *kept])
        spilled = {k: self.variable(self.nest.dtype_of(k)) for k in needed} if self.in_columns else {}
        for k in gap.begun:
            self.accumulators[k].slots = [self.variable(dtype) for dtype in self.accumulators[k].state]

        def body() -> None:
            known: Known = {}
            for k in gap.ended:
                one = self.accumulators[k]
                state = [self.on_stack(name, dtype) for name, dtype in zip(one.slots, one.state, strict=True)]
                known[k] = one.result(state, self.nest.dtype_of(k))
            self._store(gap, known)
            for k in needed:
                value = self.compute(k, known)
                if k in spilled:
                    self._keep(value, spilled[k])
                else:
                    self.kept_values[k] = value
            for k in gap.begun:
                for name, value in zip(self.accumulators[k].slots, self.accumulators[k].initial(self.writer), strict=True):
                    self._keep(value, name)

        self.each_column(body)
        self.spilled |= spilled
