"""Loops over tiles, where some operands lie along one axis element by element, and others along another.

A tile of each operand that does not lie along the innermost axis is transposed in registers, block by block, into memory on the
stack, where it does. Loops over rows would fetch each cache line of it anew for every element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from minigraph.compiler.cpu.places import PlaceWriter, memory_type
from minigraph.compiler.loops.nest import Gather, LoopNest
from minigraph.compiler.plan.steps import NestStep
from minigraph.core.dimensions import plain

TILE, NARROW = 64, 32
"""The length of both sides of a tile, and what tiles are too narrow to be worth it."""


def in_tiles(step: NestStep) -> LoopNest:
    """The nest of a step, run along in tiles if some operands lie along another axis than the innermost."""
    nest, lengths = step.nest, step.bindings.sizes
    crossing = _crossing_operands(nest)
    if any(nest.folded) or nest.scatters or not crossing:
        return nest
    axis = nest.operands[crossing[0]].strides.index(1)
    if plain(lengths[axis]) < NARROW or plain(lengths[-1]) < NARROW:
        return nest
    return LoopNest(nest.folded, nest.operands, nest.nodes, nest.stores, tiled=axis)


def _crossing_operands(nest: LoopNest) -> list[int]:
    """The operands that are read only, and lie element by element along another axis than the innermost."""
    other = {store.operand for store in nest.stores} | {one.operand for one in nest.nodes if isinstance(one, Gather)}
    return [
        k for k, one in enumerate(nest.operands)
        if one.in_memory and k not in other and one.strides and one.strides[-1] not in (0, 1) and 1 in one.strides
    ]  # fmt: skip


class TileWriter(PlaceWriter):
    """Writes loops over tiles."""

    def __init__(self, nest: LoopNest) -> None:
        super().__init__(nest)
        self.variables: list[str] = []
        """The variables on the stack."""

    def over_tiles(self, start: str, stop: str, body: Callable[[], None]) -> None:
        """Loops around a body, which run along the first axis from `start` to `stop`, and along two axes in tiles."""
        tiled, inner = self.nest.tiled, self.axes - 1
        assert tiled is not None
        ends = [(start, stop), *(("0", self.size(axis)) for axis in range(1, self.axes))]

        def around(axes: Sequence[int]) -> None:
            if axes:
                with self.along(axes[0], *ends[axes[0]]):
                    around(axes[1:])
                return
            rows, columns = self.pieces(*ends[tiled]), self.pieces(*ends[inner])
            with rows as (top, height), columns as (left, width), self.moved_along(tiled, top), self.moved_along(inner, left):
                self._tile(tiled, height, width, body)

        around([axis for axis in range(self.axes) if axis not in (tiled, inner)])

    @contextmanager
    def pieces(self, start: str, stop: str) -> Iterator[tuple[str, str]]:
        """A loop over the pieces of a range: the beginning and the length of each."""
        with self.writer.loop(start, stop, str(TILE)) as first:
            rest = self.writer.integer("sub nsw", stop, first)
            yield first, self.writer.least(rest, TILE)

    def _tile(self, tiled: int, height: str, width: str, body: Callable[[], None]) -> None:
        """The loops of a tile."""
        operands = [k for k in _crossing_operands(self.nest) if self.nest.operands[k].strides[tiled] == 1]
        self.writer.interleaved = 1  # many tiles are narrow
        tiles = {k: self._transposed(k, height, width) for k in operands}
        with self.writer.loop("0", height) as row, self.moved_along(tiled, row):
            first = self.writer.integer("mul nsw", row, TILE)
            with self.writer.loop("0", width) as column, self.moved_along(self.axes - 1, column):
                position = self.writer.integer("add nsw", first, column)
                for k, tile in tiles.items():
                    self.places[k] = self._at(tile, k, position)
                body()

    def _at(self, place: str, operand: int, count: str) -> str:
        """The place `count` elements of an operand after another."""
        return self.writer.let(f"getelementptr {memory_type(self.nest.operands[operand].dtype)}, ptr {place}, i64 {count}")

    def _transposed(self, operand: int, height: str, width: str) -> str:
        """A tile on the stack with the elements of an operand from its current place on, transposed."""
        writer, dtype = self.writer, self.nest.operands[operand].dtype
        side = 4 if dtype.itemsize == 8 else 8
        tile = "%" + writer.fresh("tile")
        self.variables.append(f"  {tile} = alloca [{TILE * TILE} x {memory_type(dtype)}], align 64")
        even, level = (writer.integer("and", size, -side) for size in (height, width))
        with writer.loop("0", level, str(side)) as column:
            with writer.loop("0", even, str(side)) as row:
                self._block(operand, tile, side, row, column)
            self._elements(operand, tile, (even, height), (column, writer.integer("add nsw", column, side)))
        self._elements(operand, tile, ("0", height), (level, width))
        return tile

    def _elements(self, operand: int, tile: str, rows: tuple[str, str], columns: tuple[str, str]) -> None:
        """Copy elements one by one."""
        dtype = memory_type(self.nest.operands[operand].dtype)
        with self.writer.loop(*columns) as column, self.writer.loop(*rows) as row:
            source, target = self._sides(operand, tile, row, column)
            self.writer.write(f"store {dtype} {self.writer.let(f'load {dtype}, ptr {source}')}, ptr {target}")

    def _sides(self, operand: int, tile: str, row: str, column: str) -> tuple[str, str]:
        """The places of an element of a tile, in an operand and on the stack."""
        writer = self.writer
        source = writer.integer("mul nsw", column, self.stride(operand, self.axes - 1))
        target = writer.integer("mul nsw", row, TILE)
        return (
            self._at(self.places[operand], operand, writer.integer("add nsw", source, row)),
            self._at(tile, operand, writer.integer("add nsw", target, column)),
        )

    def _block(self, operand: int, tile: str, side: int, row: str, column: str) -> None:
        """Copy a block of as many rows as columns, transposed in registers."""
        writer, dtype = self.writer, self.nest.operands[operand].dtype
        vector = f"<{side} x {memory_type(dtype)}>"
        sources = [self._sides(operand, tile, row, writer.integer("add nsw", column, k))[0] for k in range(side)]
        targets = [self._sides(operand, tile, writer.integer("add nsw", row, k), column)[1] for k in range(side)]
        rows = [writer.let(f"load {vector}, ptr {one}, align {dtype.itemsize}") for one in sources]
        for turned, place in zip(writer.transposed(memory_type(dtype), rows), targets, strict=True):
            writer.write(f"store {vector} {turned}, ptr {place}, align {dtype.itemsize}")
