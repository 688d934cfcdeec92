"""Folds while they run: their state, how an element is added, how two states become one, and the result, written as code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigraph.compiler.scalar.scalar import INT64, DType, Value, Writer, select
from minigraph.ops.reduce.reduction import All, Any_, ArgMax, ArgMin, Max, Min, Peak, Prod, Sum, wide_integer


def _ordered(x: Value) -> Value:
    """The bits of a float as an integer that is ordered as floats are, or back; NaN may rank first or last.

    LLVM folds extremes of integers several at a time, those of floats only if it may forget about NaN.
    """
    bits = x.bitcast(np.dtype(f"int{8 * x.dtype.itemsize}"))
    return bits ^ ((bits >> (8 * bits.dtype.itemsize - 1)) & int(np.iinfo(bits.dtype).max))


FOLDS = frozenset({All, Any_, ArgMax, ArgMin, Max, Min, Peak, Prod, Sum})
"""The folds that are written here, each known by its class alone."""


class Accumulator:
    """One fold while it runs: its state in variables on the stack, one for each column that is folded at once."""

    def __init__(self, op: Any, dtype: DType) -> None:
        if type(op) not in FOLDS:
            raise TypeError(f"{type(op).__name__} is no fold that kernels know")
        self.op, self.dtype = op, dtype
        self.slots: list[str] = []

    @property
    def state(self) -> list[DType]:
        """The dtypes of the state."""
        match self.op:
            case Sum() | Prod():
                return [wide_integer(self.op.accumulator_dtype(self.dtype))]
            case Max() | Min() | Peak() if self.dtype.kind == "f":
                return [np.dtype(f"int{8 * self.dtype.itemsize}")]
            case ArgMax() | ArgMin():
                return [self.dtype, INT64]
        return [self.dtype]

    def initial(self, writer: Writer) -> list[Value]:
        """The state before the first element."""
        kind = self.dtype.kind
        match self.op:
            case Prod() | All():
                return [writer.constant(1, self.state[0])]
            case Max() | Min() | Peak() if kind == "f":
                worst = writer.constant(math.inf if isinstance(self.op, Min) else -math.inf, self.dtype)
                return [_ordered(worst)]
            case Max() | Peak() | ArgMax():
                lowest = -math.inf if kind == "f" else np.iinfo(self.dtype).min if kind in "iu" else 0
                return [writer.constant(lowest, self.dtype), *(writer.constant(0, one) for one in self.state[1:])]
            case Min() | ArgMin():
                highest = math.inf if kind == "f" else np.iinfo(self.dtype).max if kind in "iu" else 1
                return [writer.constant(highest, self.dtype), *(writer.constant(0, one) for one in self.state[1:])]
        return [writer.constant(0, one) for one in self.state]

    def add(self, state: list[Value], x: Value, position: Value) -> list[Value]:
        """The state after one more element."""
        old = state[0]
        match self.op:
            case Sum() | Prod():
                new = x.astype(self.op.accumulator_dtype(self.dtype)).astype(old.dtype)
                name = ("fadd" if isinstance(self.op, Sum) else "fmul") + " reassoc"
                if new.dtype.kind != "f":
                    name = "add" if isinstance(self.op, Sum) else "mul"
                return [old.instruction(name, new)]
            case All():
                return [old & x]
            case Any_():
                return [old | x]
            case ArgMax() | ArgMin():
                better = x > old if isinstance(self.op, ArgMax) else x < old
                if x.dtype.kind == "b":
                    better = x & (old ^ True) if isinstance(self.op, ArgMax) else old & (x ^ True)
                if x.dtype.kind == "f":
                    better = better | (x.compare("ne", x) & old.compare("eq", old))
                return [select(better, x, old), select(better, position, state[1])]
            case Min() if x.dtype.kind == "f":
                rank = select(x.compare("ne", x), np.iinfo(old.dtype).min, _ordered(x))
                return [select(rank < old, rank, old)]
            case _ if x.dtype.kind == "f":
                rank = select(x.compare("ne", x), np.iinfo(old.dtype).max, _ordered(x))
                return [select(rank > old, rank, old)]
            case _ if x.dtype.kind == "b":
                return [old & x if isinstance(self.op, Min) else old | x]
        return [select(x < old if isinstance(self.op, Min) else x > old, x, old)]

    def merge(self, state: list[Value], other: list[Value]) -> list[Value]:
        """The state of all that two states stand for, whichever of them is the first."""
        old, new = state[0], other[0]
        match self.op:
            case Sum() | Prod():
                name = "add" if isinstance(self.op, Sum) else "mul"
                return [old.instruction(("f" if old.dtype.kind == "f" else "") + name, new)]
            case All():
                return [old & new]
            case Any_():
                return [old | new]
            case ArgMax() | ArgMin():
                return self._merge_positions(state, other)
            case _ if old.dtype.kind == "b":
                return [old & new if isinstance(self.op, Min) else old | new]
        return [select(new < old if isinstance(self.op, Min) else new > old, new, old)]

    def _merge_positions(self, state: list[Value], other: list[Value]) -> list[Value]:
        """The more extreme of two elements and its position, the first of equal ones; NaN is more extreme than numbers."""
        (old, place), (new, position) = state, other
        if old.dtype.kind == "b":
            old, new = (one.astype(np.dtype("int8")) for one in (old, new))
        better = new > old if isinstance(self.op, ArgMax) else new < old
        equal = new.compare("eq", old)
        if old.dtype.kind == "f":
            lost, found = old.compare("ne", old), new.compare("ne", new)
            better, equal = better | (found & (lost ^ True)), equal | (lost & found)
        chosen = better | (equal & (position < place))
        return [select(chosen, other[0], state[0]), select(chosen, position, place)]

    def result(self, state: list[Value], dtype: DType) -> Value:
        """The value of the fold."""
        match self.op:
            case Max() | Min() | Peak() if self.dtype.kind == "f":
                return _ordered(state[0]).bitcast(self.dtype)
            case ArgMax() | ArgMin():
                return state[1]
        return state[0].astype(dtype)
