"""Matrices that every step of a loop multiplies by are packed once, before the loop."""

from __future__ import annotations

from minigraph.compiler.cpu.gemm import packed_size
from minigraph.compiler.cpu.products import is_worth_packing
from minigraph.compiler.cpu.vectors import REGISTER_BYTES
from minigraph.compiler.shaped.layout import sizes
from minigraph.compiler.shaped.target_ops import Packed, PackedMatMul
from minigraph.core.graph import Graph, Input, Variable, toposort
from minigraph.core.walks import rebuild, transform
from minigraph.ops.array.shape import Dimshuffle
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan


def prepack(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with what bodies of loops multiply by packed outside of them."""
    if not any(isinstance(variable.op, Scan) for variable in graph.variables):
        return graph
    return graph.with_roots(transform(graph.roots, lambda one: _with_packed(one) if isinstance(one.op, Scan) else one))


def _with_packed(variable: Variable) -> Variable:
    """A loop that takes packed what its body multiplies by."""
    op = variable.op
    assert isinstance(op, Scan)
    sequences, states, shared = op.split(list(zip(op.body.inputs, variable.inputs[1:], strict=True)))
    outer = dict(shared)
    packed: dict[tuple[Variable, bool], tuple[Variable, Variable]] = {}
    products: dict[Variable, Variable] = {}
    for one in op.body.variables:
        if not isinstance(one.op, MatMul) or one.ndim != 2:
            continue
        left, right = one.inputs
        turned = isinstance(right.op, Dimshuffle) and right.op.pattern == (1, 0)
        matrix = right.inputs[0] if turned else right
        (rows, columns), depth = sizes(one), sizes(left)[1]
        if matrix not in outer or not is_worth_packing(rows, columns, depth, op.steps or 0):
            continue
        if (matrix, turned) not in packed:
            size, _ = packed_size(columns, depth, REGISTER_BYTES // one.dtype.itemsize)
            shown = Dimshuffle((1, 0))(outer[matrix]) if turned else outer[matrix]
            whole = Packed(size)(shown)
            packed[matrix, turned] = (Variable(Input(), (), whole.type, None, (), one.origin), whole)
        products[one] = PackedMatMul(columns)(left, packed[matrix, turned][0])
    if not products:
        return variable
    roots = rebuild(op.body.outputs, products)
    needed = set(toposort(roots))
    pairs = [*sequences, *states, *(pair for pair in shared if pair[0] in needed), *packed.values()]
    body = Graph(tuple(inner for inner, _ in pairs), tuple(roots))
    inputs = (variable.inputs[0], *(one for _, one in pairs))
    return Variable(op.altered(body=body), inputs, variable.type, variable.name, variable.tags, variable.origin)
