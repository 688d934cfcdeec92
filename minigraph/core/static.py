"""Numbers that are known once the sizes of a call are, and that follow from sizes that a plan leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np

from minigraph.core.dimensions import Dimension, Sizes
from minigraph.core.graph import Constant, Op, Variable
from minigraph.core.record import Record
from minigraph.core.types import Shape


class Computed(Record):
    """An op on numbers, some of which follow from sizes that are left open."""

    op: Op
    operands: tuple[Constant, ...]


class SizeConstant(Constant):
    """A number that follows from sizes, and so changes with them: its value, and its source in those that are left open."""

    source: Dimension | Computed | None = None


def source_of(number: Constant) -> Dimension | Computed | None:
    """The size, or the op on numbers, by which a number follows from sizes that are left open; None if it does not."""
    return number.source if isinstance(number, SizeConstant) else None


def value_for(number: Constant, sizes: Sizes) -> Any:
    """The value of a number for sizes that were left open."""
    source = source_of(number)
    if source is None:
        return number.value
    if isinstance(source, Dimension):
        return np.asarray(sizes(source), number.value.dtype)
    with np.errstate(all="ignore"):
        return np.asarray(source.op.forward(np, *[value_for(one, sizes) for one in source.operands]))


def integer_of(variable: Variable) -> Any:
    """The integer that a constant variable is, left open if it is a size; else the plan holds for it alone."""
    assert isinstance(variable.op, Constant)
    source = source_of(variable.op)
    return source if isinstance(source, Dimension) else int(fixed_value(variable.op))


def fixed_value(number: Constant) -> Any:
    """The value of a number, for which alone holds what is planned from here on."""
    pending = [number]
    while pending:
        source = source_of(pending.pop())
        if isinstance(source, Dimension):
            index(source)
        elif source is not None:
            pending += source.operands
    return number.value.item()


def filled(pattern: Shape, sizes: Sequence[Variable]) -> Shape:
    """A shape with its unknown sizes taken from constants, in order."""
    remaining = iter(sizes)
    return tuple([integer_of(next(remaining)) if known is None else known for known in pattern])
