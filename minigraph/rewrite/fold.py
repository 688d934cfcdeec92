"""Values that depend on constants alone are computed while compiling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigraph.core.conversion import constant
from minigraph.core.graph import Constant, Graph, Variable
from minigraph.rewrite.engine import changed

LARGEST = 65536
"""The size in bytes above which a result is not folded, unless its operands are as large."""


def fold(graph: Graph) -> Graph:
    """The graph with pure ops of constants replaced by their values; what raises is left to raise at run time."""
    return changed(graph, _folded)


def _folded(variable: Variable) -> Variable | None:
    """A variable's value as a constant, if it has one now."""
    operands = [one.op.value for one in variable.inputs if isinstance(one.op, Constant)]
    if not operands or len(operands) < len(variable.inputs) or not variable.op.pure or isinstance(variable.type, tuple):
        return None
    given = sum(one.nbytes for one in operands)
    shape: tuple[Any, ...] = variable.type.shape
    if None in shape or variable.dtype.itemsize * math.prod(shape) > max(LARGEST, given):
        return None
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(variable.op.forward(np, *operands))
    except Exception:  # whatever it is, the user shall see it when the function is called
        return None
    fits = value.dtype == variable.dtype and variable.type.accepts(value.shape)
    return constant(value) if fits and value.nbytes <= LARGEST + given else None
