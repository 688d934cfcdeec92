"""Values with zeros around them, such as the gradients of slices, written once, as slices of one array if they hold one value.

The gradient of a stencil is a sum of one value at several places among zeros. Where that is in memory once, with enough zeros
around it, each place of it is a slice, and the sum is a loop that reads neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from minigraph.compiler.shaped.layout import sizes
from minigraph.core.conversion import constant
from minigraph.core.graph import Graph, Variable
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.ops.array.entries import Range, taken
from minigraph.ops.array.indexing import Assign, Increment, Index
from minigraph.ops.array.shape import BroadcastTo
from minigraph.ops.elementwise.base import Elementwise
from minigraph.rewrite.algebra import is_zeros
from minigraph.rewrite.engine import users_of

MORE = 2
"""The most times that what is shared may be larger than what it is shared by."""


def share_padding(graph: Graph) -> Graph:
    """The graph, all of whose sizes are known, with increments of slices of zeros as slices of one array with zeros around."""
    users, ends = users_of(graph.variables), set(graph.outputs)
    alike: dict[tuple[Variable, ...], list[Variable]] = {}
    for variable in graph.variables:
        if _is_padded(variable):
            walked = variable not in ends and all(isinstance(user.op, Elementwise) for user in users[variable])
            alike.setdefault((variable.inputs[1],) if walked else (variable,), []).append(variable)
    if not alike:
        return graph
    first = {members[0]: members for members in alike.values()}
    done: dict[Variable, Variable] = {}
    with carry_origin(here()):
        for variable in graph.variables:
            if variable in first:
                carry_on(variable.origin)
                done |= _as_slices(first[variable], done[variable.inputs[1]])
            elif variable not in done:
                inputs = tuple([done[one] for one in variable.inputs])
                done[variable] = variable.with_inputs(inputs) if inputs != variable.inputs else variable
    return graph.with_roots([done[root] for root in graph.roots])


def _is_padded(variable: Variable) -> bool:
    """Whether a variable is a value added to a part of zeros, all elements of which lie side by side along each axis."""
    if not isinstance(variable.op, Increment) or len(variable.inputs) > 2 or not is_zeros(variable.inputs[0]):
        return False
    return all(isinstance(entry, Range) and entry.step in (None, 1) for entry in variable.op.entries)


def _starts(variable: Variable) -> list[int]:
    """The place of the first element of a padded value along each axis."""
    assert isinstance(variable.op, Increment)
    pairs = zip(variable.op.entries, sizes(variable), strict=True)
    return [taken(entry.start, entry.stop, entry.step, size)[0] for entry, size in pairs if isinstance(entry, Range)]


def _padded(value: Variable, starts: Sequence[int], shape: Sequence[int]) -> Variable:
    """A value from some places on among zeros, as many as a shape says; adding a zero makes one of -0.0, as increments do."""
    zero = constant(np.zeros((), value.dtype))
    places = tuple([Range(start, start + size, None) for start, size in zip(starts, sizes(value), strict=True)])
    return Assign(places)(BroadcastTo(tuple(shape), ())(zero), value + zero)


def _as_slices(members: Sequence[Variable], value: Variable) -> dict[Variable, Variable]:
    """Padded variables that hold one value as slices of one with as many zeros as any of them needs, if these are not many."""
    starts, shapes = [_starts(one) for one in members], [sizes(one) for one in members]
    first, last = ([choose(along) for along in zip(*starts, strict=True)] for choose in (min, max))
    shape = [max(along) for along in zip(*shapes, strict=True)]
    room = [size + high - low for size, low, high in zip(shape, first, last, strict=True)]
    if math.prod(room) > MORE * math.prod(shape):
        return {one: _padded(value, start, sizes(one)) for one, start in zip(members, starts, strict=True)}
    whole = _padded(value, last, room)
    if len(members) == 1:
        return {members[0]: whole}
    found = {}
    for one, start, own in zip(members, starts, shapes, strict=True):
        places = [Range(high - low, high - low + size, None) for high, low, size in zip(last, start, own, strict=True)]
        found[one] = Index(tuple(places))(whole)
    return found
