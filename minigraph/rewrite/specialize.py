"""A graph for inputs of known sizes: what follows from sizes alone becomes a constant, every shape is known."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from minigraph.core.dimensions import Dimension, plain
from minigraph.core.errors import InvalidValueError, MinigraphError
from minigraph.core.graph import Constant, Graph, Input, Variable, describe_type, located, toposort
from minigraph.core.static import Computed, SizeConstant, integer_of, source_of
from minigraph.core.types import TensorType
from minigraph.ops.array.entries import Indexing
from minigraph.ops.array.sizes import Size
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.loop.loop import Scan


def is_settled(variable: Variable, settled: set[Variable]) -> bool:
    """Whether a scalar follows from sizes and constants alone, given which of its inputs do."""
    if isinstance(variable.type, tuple) or variable.ndim:
        return False
    if isinstance(variable.op, Size | Constant):
        return True
    return isinstance(variable.op, Elementwise) and all(one in settled for one in variable.inputs)


def follows_from_sizes(variable: Variable) -> bool:
    """Whether a scalar follows from sizes and constants alone."""
    settled: set[Variable] = set()
    for one in toposort([variable]):
        if is_settled(one, settled):
            settled.add(one)
    return variable in settled


def has_settled_sizes(graph: Graph) -> bool:
    """Whether all sizes in a graph follow from those of its inputs."""
    settled: set[Variable] = set()
    for one in graph.variables:
        if is_settled(one, settled):
            settled.add(one)
        known = one.op.shape_inputs(one.inputs) if one.inputs else ()
        if (known is None and isinstance(one.type, TensorType)) or any(size not in settled for size in known or ()):
            return False
    return True


def specialize(graph: Graph, types: Sequence[TensorType], known: Sequence[Variable | None] = ()) -> Graph:
    """The graph over fresh inputs of the given types, all of whose sizes are known, or over numbers that are in `known`.

    ValueError, at the user's line, where sizes do not fit, or are equal to 1 only by chance.
    """
    pairs = zip(graph.inputs, types, strict=True)
    done = {old: Variable(Input(), (), kind, old.name, (), old.origin) for old, kind in pairs}
    for old, one in zip(graph.inputs, known, strict=False):
        if one is not None and isinstance(one.op, SizeConstant):
            done[old] = one
    for variable in graph.variables:
        if variable not in done:
            inputs = tuple([done[one] for one in variable.inputs])
            try:
                done[variable] = _specialized(variable, inputs) if inputs else variable
            except MinigraphError as error:
                values = ", ".join(describe_type(one) for one in inputs)
                described = type(error)(f"{error.message}\n  with values {values}")
                raise located(described, variable.op, variable.inputs, variable.origin) from None
    return Graph(tuple(done[one] for one in graph.inputs), tuple(done[root] for root in graph.outputs))


def _specialized(variable: Variable, inputs: tuple[Variable, ...]) -> Variable:
    """A variable over inputs of known sizes."""
    op = variable.op
    if isinstance(op, Size):
        size = inputs[0].type.shape[op.axis]
        return _constant(np.asarray(plain(size), "int64"), variable, size if isinstance(size, Dimension) else None)
    _refuse_chance_broadcast(variable, inputs)
    known = all(isinstance(one.op, SizeConstant | Constant) for one in inputs)
    if known and isinstance(op, Elementwise) and not variable.ndim:
        return _computed(op, tuple([one.op for one in inputs]), variable)  # type: ignore[misc]
    op, inputs = _settled_loop(op, inputs) if isinstance(op, Scan) else op.with_static_shape(inputs)
    return Variable(op, inputs, op.infer(*[one.type for one in inputs]), variable.name, (), variable.origin)


def _settled_loop(op: Scan, inputs: tuple[Variable, ...]) -> tuple[Scan, tuple[Variable, ...]]:
    """A loop of a known number of steps over a body of known sizes; what follows from sizes is constant there, too."""
    steps = integer_of(inputs[0])
    op.check_steps(steps)
    sequences, states, shared = op.split(inputs[1:])
    for one in sequences:
        if one.type.shape[0] != steps:
            raise InvalidValueError(f"a sequence of a loop has {one.type.shape[0]} rows for {steps} steps")
    rows = [TensorType(one.dtype, one.type.shape[1:]) for one in sequences]
    body = specialize(op.body, [*rows, *(one.type for one in (*states, *shared))], [*(None,) * len(rows + states), *shared])
    for state, new in zip(states, body.outputs, strict=False):
        if state.type.shape != new.type.shape:
            raise InvalidValueError(
                f"a state of a loop has shape {state.type.shape} at first, and {new.type.shape} after a step"
            )
    first = len(rows + states)
    kept = [k for k, one in enumerate(inputs[1:]) if k < first or not isinstance(one.op, SizeConstant)]
    body = Graph(tuple(body.inputs[k] for k in kept), body.outputs)
    return op.altered(body=body, steps=steps, roomy=op.stops), (inputs[0], *(inputs[1 + k] for k in kept))


def _constant(value: Any, like: Variable, source: Dimension | Computed | None = None) -> Variable:
    """A number as a constant in the place of a variable."""
    return Variable(SizeConstant(value, source=source), (), TensorType(like.dtype, ()), None, (), like.origin)


def _computed(op: Elementwise, operands: tuple[Constant, ...], like: Variable) -> Variable:
    """An op on numbers as a constant, which is a size itself where integers were computed from sizes."""
    sources = [source_of(one) for one in operands]
    with np.errstate(all="ignore"):
        value = np.asarray(op.forward(np, *[one.value for one in operands]))
        if all(source is None for source in sources):
            return _constant(value, like)
        source: Dimension | Computed = Computed(op, operands)
        if value.dtype.kind in "iu" and not any(isinstance(one, Computed) for one in sources):
            known = [int(one.value) if source is None else source for one, source in zip(operands, sources, strict=True)]
            with suppress(TypeError, AttributeError):  # an op that needs arrays
                found = op.forward(np, *known)
                source = found if isinstance(found, Dimension) and found.value == value else source
    return _constant(value, like, source)


def _refuse_chance_broadcast(variable: Variable, inputs: Sequence[Variable]) -> None:
    """ValueError where operands differ in a size that was not known to be 1 when the graph was built."""
    for axis, first, second in places_to_check(variable):
        one, other = inputs[first].type.shape[axis], inputs[second].type.shape[axis]
        if one != other:
            raise mismatch(one, other, [operand.type.shape for operand in inputs])


def mismatch(one: Any, other: Any, shapes: Sequence[Any]) -> InvalidValueError:
    """The error of operands of these shapes, of whose sizes two, `one` and `other`, differ."""
    hint = "; a size of 1 broadcasts only if it is known to be 1 when the graph is built" if 1 in (one, other) else ""
    return InvalidValueError(f"operands of shapes {' and '.join(map(str, shapes))} do not match: sizes {one} and {other}{hint}")


def places_to_check(variable: Variable) -> list[tuple[int, int, int]]:
    """(axis from the end, operand, other operand) wherever sizes are not known to agree before the call."""
    together = _broadcast_together(variable)
    shapes = [variable.inputs[k].type.shape for k in together]
    places = []
    for axis in range(-max(map(len, shapes), default=0), 0):
        wide = [k for k, shape in zip(together, shapes, strict=True) if len(shape) >= -axis and shape[axis] != 1]
        unknown = [k for k in wide if variable.inputs[k].type.shape[axis] is None]
        if unknown and len(wide) > 1:
            places += [(axis, wide[0], k) for k in wide[1:]]
    return places


def _broadcast_together(variable: Variable) -> Sequence[int]:
    """The positions of operands that are broadcast together: all of an elementwise op, the integer arrays in an index."""
    if isinstance(variable.op, Elementwise):
        return range(len(variable.inputs))
    if not isinstance(variable.op, Indexing):
        return ()
    fillers = range(variable.op.first_filler, len(variable.inputs))
    return [k for k in fillers if variable.inputs[k].ndim and variable.inputs[k].dtype.kind != "b"]
