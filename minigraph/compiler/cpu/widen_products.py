"""Products of numbers for which there is no code are computed from wider ones."""

from __future__ import annotations

from minigraph.compiler.shaped.target_ops import IntegerMatMul
from minigraph.core.graph import Graph, Op, Variable
from minigraph.ops.elementwise.base import cast
from minigraph.ops.linear.products import MatMul
from minigraph.rewrite.engine import changed


def widen_products(graph: Graph) -> Graph:
    """The graph with products of 16-bit floats computed in 32 bits and rounded once, those of integers by code for these.

    Short integers are widened to 32 bits: their products wrap around, and the low bits of what wrapped around are the same.
    """

    def step(variable: Variable) -> Variable | None:
        if not isinstance(variable.op, MatMul):
            return None
        dtype = variable.dtype
        if dtype.kind == "f" and dtype.itemsize > 2:
            return None
        op: Op = MatMul() if dtype.kind == "f" else IntegerMatMul()
        wide = dtype if dtype.itemsize >= 4 else "float32" if dtype.kind == "f" else "int32"
        return cast(op(*(cast(one, wide) for one in variable.inputs)), dtype)

    return changed(graph, step)
