"""What depends on constants alone is computed while compiling."""

from __future__ import annotations

import numpy as np

from minigraph.core.conversion import constant
from minigraph.core.graph import Constant, Graph, Variable
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import transform

LARGEST = 65536
"""The size in bytes above which a result is not folded, unless its operands are as large."""


def fold(graph: Graph) -> Graph:
    """The graph with pure ops of constants replaced by their values; what raises is left to raise at run time."""
    with carry_origin(here()):
        return graph.with_roots(transform(graph.roots, _folded))


def _folded(variable: Variable) -> Variable:
    """A variable's value as a constant, if it has one now; the variable otherwise."""
    operands = [one.op.value for one in variable.inputs if isinstance(one.op, Constant)]
    if not operands or len(operands) < len(variable.inputs) or not variable.op.pure or isinstance(variable.type, tuple):
        return variable
    carry_on(variable.origin)
    known = variable.type.shape
    if None in known or _bytes(variable) > max(LARGEST, sum(one.nbytes for one in operands)):
        return variable
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(variable.op.forward(np, *operands))
    except Exception:  # whatever it is, the user shall see it when the function is called
        return variable
    fits = value.dtype == variable.dtype and variable.type.accepts(value.shape)
    broadcasts_alike = fits and all((known == 1) == (size == 1) for known, size in zip(known, value.shape, strict=True))
    return constant(value) if broadcasts_alike and value.nbytes <= LARGEST + sum(one.nbytes for one in operands) else variable


def _bytes(variable: Variable) -> int:
    """The size of a value of known shape."""
    return variable.dtype.itemsize * int(np.prod([size or 0 for size in variable.type.shape], dtype=np.int64))
