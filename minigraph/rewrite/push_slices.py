"""Slices of what is computed element for element are computed as slices, so that the whole need not lie in memory.

So is what shows it with axes split in several, as pooling does, which is then computed where windows are folded.
"""

from __future__ import annotations

import math

from minigraph.core.graph import Graph, Variable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.walks import from_inside, rebuild
from minigraph.ops.array.entries import WHOLE, Range
from minigraph.ops.array.indexing import Index
from minigraph.ops.array.shape import Reshape, reshape
from minigraph.ops.array.sizes import Size
from minigraph.ops.elementwise.base import Elementwise
from minigraph.rewrite.engine import users_of
from minigraph.rewrite.symbolic_shapes import pattern_sizes, split_axes

MOST_ROUNDS = 16


def push_slices(graph: Graph) -> Graph:
    """The graph with slices, and split axes, of the operands of elementwise ops of whose results nothing else is used."""
    with carry_origin(here()):
        return graph.with_roots(from_inside(graph.roots, _pushed))


def _pushed(roots: list[Variable]) -> list[Variable]:
    """The roots with slices and splits as far up as they go."""
    for _ in range(MOST_ROUNDS):
        users, ends = users_of(_computed(roots)), set(roots)
        found: dict[Variable, Variable] = {}
        for variable, shown in users.items():
            if isinstance(variable.op, Elementwise) and variable not in ends:
                taken = _sliced if _are_disjoint(variable, shown) else _split
                for one in shown if taken is _sliced or _is_split(variable, users) else ():
                    carry_on(one.origin)
                    found[one] = variable.op(*(taken(operand, one) for operand in variable.inputs))
        if not found:
            break
        roots = rebuild(roots, found)
    return roots


def _computed(roots: list[Variable]) -> list[Variable]:
    """The variables whose values are needed, inputs first; of some others only the sizes are."""
    order = toposort(roots)
    needed = set(roots)
    for one in reversed(order):
        if one in needed and not isinstance(one.op, Size):
            needed.update(one.inputs)
    return [one for one in order if one in needed and not isinstance(one.op, Size)]


def _is_static_slice(variable: Variable) -> bool:
    """Whether a variable is a slice with known bounds of axes of known size, or of whole axes."""
    op = variable.op
    if not isinstance(op, Index) or len(variable.inputs) > 1 or not all(isinstance(entry, Range) for entry in op.entries):
        return False
    known = variable.inputs[0].type.shape
    return all(entry == WHOLE or size is not None for entry, size in zip(op.entries, known, strict=True))


def _are_disjoint(variable: Variable, slices: list[Variable]) -> bool:
    """Whether a variable is used in slices of the same axes only, which together are not larger than it is."""
    if not all(_is_static_slice(one) for one in slices):
        return False
    cut = {axis for one in slices for axis, entry in enumerate(one.op.entries) if entry != WHOLE}  # type: ignore[attr-defined]
    total = sum(math.prod(one.type.shape[axis] or 0 for axis in cut) for one in slices)
    sizes = {axis - variable.ndim: variable.type.shape[axis] for axis in cut}  # by axes counted from the end
    fits = all(
        -axis > operand.ndim or operand.type.shape[axis] in (1, size)
        for operand in variable.inputs
        for axis, size in sizes.items()
    )
    return bool(cut) and 1 not in sizes.values() and fits and total <= math.prod(size or 0 for size in sizes.values())


def _sliced(operand: Variable, taken: Variable) -> Variable:
    """An operand of an elementwise op, cut as its result is; what broadcasts along an axis stays."""
    entries = taken.op.entries[len(taken.op.entries) - operand.ndim :]  # type: ignore[attr-defined]
    own = tuple(WHOLE if size == 1 else entry for entry, size in zip(entries, operand.type.shape, strict=True))
    return operand if all(entry == WHOLE for entry in own) else Index(own)(operand)


def _is_split(variable: Variable, users: dict[Variable, list[Variable]]) -> bool:
    """Whether a variable, and all that it is computed from element for element, is only used with axes split in several."""
    (shown, *others) = users[variable]
    if not isinstance(shown.op, Reshape) or shown.ndim <= variable.ndim:
        return False
    if others or split_axes(variable.type.shape, shown.type.shape) is None:
        return False
    pending = [variable]
    while pending:
        operands = [one for one in pending.pop().inputs if isinstance(one.op, Elementwise) and one.type == variable.type]
        if any(len(users[one]) > 1 for one in operands):
            return False
        pending += operands
    return True


def _split(operand: Variable, shown: Variable) -> Variable:
    """An operand of an elementwise op, its axes split as those of the result are; what broadcasts along an axis stays."""
    missing = shown.inputs[0].ndim - operand.ndim
    groups = split_axes(shown.inputs[0].type.shape, shown.type.shape)
    assert groups is not None and isinstance(shown.op, Reshape)
    lengths = pattern_sizes(shown)
    own = [
        [1] * len(group) if size == 1 else [lengths[axis] for axis in group]
        for group, size in zip(groups[missing:], operand.type.shape, strict=True)
    ]
    return reshape(operand, [size for group in own for size in group])
