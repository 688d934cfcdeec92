"""Folds while they run: their accumulators, and what is done to them, written as code by the op that folds."""

from __future__ import annotations

from minigraph.compiler.scalar.namespace import SCALARS
from minigraph.compiler.scalar.scalar import DType, Value, Writer
from minigraph.ops.reduce.base import Reduction


class Accumulator:
    """A fold while it runs: its state in variables on the stack, one for each column that is folded at once."""

    def __init__(self, op: Reduction, dtype: DType) -> None:
        self.op, self.dtype = op, dtype
        self.slots: list[str] = []
        self.states = op.states(dtype)

    @property
    def state(self) -> list[DType]:
        """The dtypes of the state."""
        return [dtype for dtype, _ in self.states]

    def initial(self, writer: Writer) -> list[Value]:
        """The state before the first element."""
        return [writer.constant(number, dtype) for dtype, number in self.states]

    def add(self, state: list[Value], x: Value, position: Value) -> list[Value]:
        """The state after one more element, `x` at a position; sums may be taken in another order."""
        x.writer.freedom = " reassoc"
        return list(self.op.add(SCALARS, tuple(state), x, position))

    def merge(self, state: list[Value], other: list[Value]) -> list[Value]:
        """The state of all that two states stand for, whichever of them is the first."""
        state[0].writer.freedom = ""
        return list(self.op.merge(SCALARS, tuple(state), tuple(other)))

    def result(self, state: list[Value], dtype: DType) -> Value:
        """The value of the fold."""
        state[0].writer.freedom = ""
        value: Value = self.op.result(SCALARS, tuple(state), self.dtype)
        return value.astype(dtype)
