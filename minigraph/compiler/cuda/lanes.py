"""The threads of a block that share a point, and how what they have folded is merged: in a fixed order, so that it is the same
for all of them, and in every run.
"""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.compiler.cuda.launch_geometry import THREADS, WARP, Arrangement
from minigraph.compiler.cuda.scalar_printer import CudaWriter, value_type
from minigraph.compiler.loops.reductions import Accumulator
from minigraph.compiler.scalar.scalar import Value

SCRATCH_STATES = 16
"""The number of states of folds that are merged at a time, each in shared memory of its own."""


class Lanes:
    """A block as points and lanes: within a warp lanes are merged by shuffles, among warps in shared memory."""

    def __init__(self, writer: CudaWriter, arrangement: Arrangement, by_column: bool) -> None:
        """writer: that of the function; arrangement: its spread; by_column: whether neighbouring threads have neighbouring
        points, and not neighbouring lanes of one.
        """
        self._writer, self._points, self._lanes = writer, arrangement.points, arrangement.lanes
        self._by_column = by_column or arrangement.lanes == 1
        self.thread = writer.let("int", "threadIdx.x")
        inner, outer = ("%", "/") if self._by_column else ("/", "%")
        divisor = self._points if self._by_column else self._lanes
        self.point = writer.let("int", f"{self.thread} {inner} {divisor}")
        self.lane = writer.let("int", f"{self.thread} {outer} {divisor}")

    def merge(self, folds: Sequence[Accumulator]) -> None:
        """Merge the states of folds, in their variables, over the lanes of each point."""
        if not folds:
            return
        near = min(self._lanes, max(1, WARP // self._points)) if self._by_column else min(self._lanes, WARP)
        step = self._points if self._by_column else 1
        for distance in (step << k for k in range(near.bit_length() - 1)):
            for one in folds:
                self._merge_with(one, [f"__shfl_xor_sync(0xffffffffu, {name}, {distance})" for name in one.slots])
        pending: list[Accumulator] = []
        for one in folds:
            if sum(len(each.slots) for each in (*pending, one)) > SCRATCH_STATES:
                self._merge_warps(pending, self._lanes // near)
                pending = []
            pending.append(one)
        self._merge_warps(pending, self._lanes // near)

    def _merge_with(self, fold: Accumulator, others: Sequence[str]) -> None:
        """Merge the state of a fold with another lane's."""
        mine = [Value(self._writer, name, dtype) for name, dtype in zip(fold.slots, fold.state, strict=True)]
        theirs = [self._writer.value(text, dtype) for text, dtype in zip(others, fold.state, strict=True)]
        for name, value in zip(fold.slots, fold.merge(mine, theirs), strict=True):
            self._writer.write(f"{name} = {value.text};")

    def _merge_warps(self, folds: Sequence[Accumulator], count: int) -> None:
        """Merge the states of `count` groups of lanes by way of shared memory, the same order for all."""
        if count == 1 or not folds:
            return
        names = [(name, dtype) for one in folds for name, dtype in zip(one.slots, one.state, strict=True)]
        slots = {
            name: f"(({value_type(dtype)}*)(scratch + {8 * THREADS * place}))" for place, (name, dtype) in enumerate(names)
        }
        if self._by_column:
            across = max(self._points, WARP)
            stride, own = self._points, f"({self.thread} / {across}) * {self._points} + {self.point}"
            first, speaks = self.point, f"{self.thread} % {across} < {self._points}"
        else:
            stride, own = 1, f"{self.thread} / {WARP}"
            first, speaks = f"{self.point} * {count}", f"{self.thread} % {WARP} == 0"
        self._writer.write("__syncthreads();")
        with self._writer.block(f"if ({speaks})"):
            for name, _ in names:
                self._writer.write(f"{slots[name]}[{own}] = {name};")
        self._writer.write("__syncthreads();")
        for name, _ in names:
            self._writer.write(f"{name} = {slots[name]}[{first}];")
        for other in range(1, count):
            for one in folds:
                self._merge_with(one, [f"{slots[name]}[{first} + {other * stride}]" for name in one.slots])
