"""A graph for inputs of known sizes: what follows from sizes alone becomes a constant, every shape is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from operator import index
from typing import Any

import numpy as np

from minigraph.core.dimensions import Dimension, Sizes, plain
from minigraph.core.errors import InvalidValueError, MinigraphError
from minigraph.core.graph import Constant, Graph, Input, Item, Op, Variable, describe_type, located, toposort
from minigraph.core.record import Record
from minigraph.core.types import Shape, TensorType
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.creation import Arange
from minigraph.ops.array.indexing import Assign, Entry, Hole, Indexing, Range
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, Size, misfit
from minigraph.ops.array.windows import Overlap
from minigraph.ops.control import Assert
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan
from minigraph.ops.random import RandomBits
from minigraph.ops.reduce.reduction import Reduction


class Computed(Record):
    """An op on numbers, some of which follow from sizes that are left open."""

    op: Op
    operands: tuple[Constant, ...]


class SizeConstant(Constant):
    """A number that follows from sizes, and so changes with them: its value, and its source in those that are left open."""

    source: Dimension | Computed | None = None


def value_for(number: Constant, sizes: Sizes) -> Any:
    """The value of a number for sizes that were left open."""
    source = _source_of(number)
    if source is None:
        return number.value
    if isinstance(source, Dimension):
        return np.asarray(sizes(source), number.value.dtype)
    with np.errstate(all="ignore"):
        return np.asarray(source.op.forward(np, *[value_for(one, sizes) for one in source.operands]))


def integer_of(number: Constant) -> Any:
    """The integer that a number is, left open as sizes are if it is one of them; else what is planned holds for it alone."""
    source = _source_of(number)
    return source if isinstance(source, Dimension) else int(_fixed(number))


def _source_of(number: Constant) -> Dimension | Computed | None:
    """How a number follows from sizes that are left open, if it does."""
    return number.source if isinstance(number, SizeConstant) else None


def _fixed(number: Constant) -> Any:
    """The value of a number, for which alone holds what is planned from here on."""
    pending = [number]
    while pending:
        source = _source_of(pending.pop())
        if isinstance(source, Dimension):
            index(source)
        elif source is not None:
            pending += source.operands
    return number.value.item()


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
    masks = any(isinstance(one.op, Indexing) and any(filler.dtype.kind == "b" for filler in one.inputs[1:]) for one in graph)
    open_types = any(isinstance(one.type, TensorType) and not isinstance(one.op, KNOWN) and one.inputs for one in graph)
    return not masks and not open_types and all(size in settled for one in graph for size in sizes_of(one))


KNOWN = (
    Elementwise,
    Reduction,
    Size,
    Dimshuffle,
    Reshape,
    BroadcastTo,
    Arange,
    RandomBits,
    Indexing,
    Concatenate,
    MatMul,
    Assert,
    Item,
)
"""Ops whose results' sizes follow from their inputs', and from sizes that are among their inputs."""


def sizes_of(variable: Variable) -> tuple[Variable, ...]:
    """The inputs that the shape of a variable's value depends on."""
    match variable.op:
        case Reshape() | BroadcastTo() | RandomBits() | Overlap():
            return variable.inputs[1:]
        case Arange():
            return variable.inputs
        case Scan():
            return variable.inputs[:1]
        case Indexing():
            fillers = iter(variable.inputs[_first_filler(variable.op) :])
            taken = [(entry, next(fillers)) for entry in variable.op.entries for _ in range(_holes(entry))]
            return tuple(filler for entry, filler in taken if isinstance(entry, Range))
    return ()


def _holes(entry: Entry) -> int:
    """How many inputs fill an entry of an index."""
    return entry.holes if isinstance(entry, Range) else int(isinstance(entry, Hole))


def _first_filler(op: Indexing) -> int:
    """The position of the first input that fills a hole: the last ones do, after what is indexed and what is written."""
    return 2 if isinstance(op, Assign) else 1


def specialize(graph: Graph, types: Sequence[TensorType], known: Sequence[Variable | None] = ()) -> Graph:
    """The graph over fresh inputs of the given types, all of whose sizes are known, or over numbers that are in `known`.

    ValueError, at the user's line, where sizes do not fit, or are equal to 1 only by chance.
    """
    done: dict[Variable, Variable] = {}
    fresh = [Variable(Input(), (), kind, old.name, (), old.origin) for old, kind in zip(graph.inputs, types, strict=True)]
    done.update(zip(graph.inputs, fresh, strict=True))
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
    match op:
        case Reshape(pattern) if None in pattern:
            op, inputs = Reshape(_filled(pattern, inputs[1:])), inputs[:1]
        case BroadcastTo(pattern, kept):
            op, inputs = _settled_broadcast(pattern, kept, inputs)
        case Scan():
            op, inputs = _settled_loop(op, inputs)
        case Overlap(axes, within, strides, dilations, lengths) if None in lengths:
            op, inputs = Overlap(axes, within, strides, dilations, _filled(lengths, inputs[1:])), inputs[:1]
        case RandomBits(draw, pattern, dtype) if None in pattern:
            op, inputs = RandomBits(draw, _filled(pattern, inputs[1:]), dtype), inputs[:1]
        case Arange(None, dtype):
            op = Arange(_arange_length([one.op for one in inputs]), dtype)  # type: ignore[misc]
        case Indexing(entries):
            op, inputs = _settled_index(op, entries, inputs)
    return Variable(op, inputs, op.infer(*[one.type for one in inputs]), variable.name, (), variable.origin)


def _settled_loop(op: Scan, inputs: tuple[Variable, ...]) -> tuple[Scan, tuple[Variable, ...]]:
    """A loop of a known number of steps over a body of known sizes; what follows from sizes is constant there, too."""
    steps = integer_of(inputs[0].op)  # type: ignore[arg-type]
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
    sources = [_source_of(one) for one in operands]
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


def _arange_length(numbers: Sequence[Constant]) -> Any:
    """How many elements an arange of these numbers has."""
    if all(one.value.dtype.kind in "iu" for one in numbers):
        start, stop, step = (integer_of(one) for one in numbers)
        return max(0, -((start - stop) // step))
    start, stop, step = (_fixed(one) for one in numbers)
    return max(0, math.ceil((stop - start) / step))


def _filled(pattern: Shape, sizes: Sequence[Variable]) -> Shape:
    """A shape with its unknown sizes taken from constants."""
    remaining = iter(sizes)
    return tuple([integer_of(next(remaining).op) if known is None else known for known in pattern])  # type: ignore[arg-type]


def _settled_broadcast(pattern: Shape, kept: tuple[int, ...], inputs: tuple[Variable, ...]) -> tuple[Any, Any]:
    """A broadcast to known sizes; those of axes that are not stretched must be x's own."""
    x, *sizes = inputs
    target = _filled(pattern, sizes)
    failure = misfit(x.type.shape, target, kept)
    if failure is not None:
        raise InvalidValueError(failure)
    return BroadcastTo(target, kept), (x,)


def _settled_index(op: Indexing, entries: tuple[Entry, ...], inputs: tuple[Variable, ...]) -> tuple[Any, Any]:
    """An index with what is known of its scalars filled in; the others, and arrays, stay where they are."""
    first = _first_filler(op)
    fillers = iter(inputs[first:])
    kept: list[Variable] = []
    filled = tuple(_settled_entry(entry, fillers, kept) for entry in entries)
    return type(op)(filled), (*inputs[:first], *kept)


def _settled_entry(entry: Entry, fillers: Iterator[Variable], kept: list[Variable]) -> Entry:
    """One entry of an index with a known scalar filled in; what else fills it goes to `kept`."""
    if isinstance(entry, Range):
        bounds = (entry.start, entry.stop, entry.step)
        return Range(*(_number(next(fillers)) if isinstance(one, Hole) else one for one in bounds))
    if isinstance(entry, Hole):
        filler = next(fillers)
        if isinstance(filler.op, Constant) and not filler.ndim:
            return _number(filler)
        kept.append(filler)
    return entry


def _number(constant: Variable) -> int:
    """The integer that a constant holds."""
    assert isinstance(constant.op, Constant)
    number: int = integer_of(constant.op)
    return number


def _refuse_chance_broadcast(variable: Variable, inputs: Sequence[Variable]) -> None:
    """ValueError where operands differ in a size that was not known to be 1 when the graph was built."""
    for axis, first, second in places_to_check(variable):
        one, other = inputs[first].type.shape[axis], inputs[second].type.shape[axis]
        if one != other:
            shapes = " and ".join(str(operand.type.shape) for operand in inputs)
            hint = "; a size of 1 broadcasts only if it is known to be 1 when the graph is built" if 1 in (one, other) else ""
            raise InvalidValueError(f"operands of shapes {shapes} do not match: sizes {one} and {other}{hint}")


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
    fillers = range(_first_filler(variable.op), len(variable.inputs))
    return [k for k in fillers if variable.inputs[k].ndim and variable.inputs[k].dtype.kind != "b"]
