"""Slices of what is computed element for element are computed as slices, so that the whole need not lie in memory."""

from __future__ import annotations

import math

from minigraph.graph import Graph, Variable, from_inside, rebuild, toposort
from minigraph.ops.elementwise import Elementwise
from minigraph.ops.indexing import WHOLE, Index, Range
from minigraph.origin import carry_on, carry_origin, here

MOST_ROUNDS = 16


def push_slices(graph: Graph) -> Graph:
    """The graph with slices taken of the operands of elementwise ops of whose results nothing else is used."""
    with carry_origin(here()):
        return graph.with_roots(from_inside(graph.roots, _pushed))


def _pushed(roots: list[Variable]) -> list[Variable]:
    """The roots with slices as far up as they go."""
    for _ in range(MOST_ROUNDS):
        order = toposort(roots)
        users: dict[Variable, list[Variable]] = {}
        for one in order:
            if _is_static_slice(one):
                users.setdefault(one.inputs[0], [])
        for one in order:
            for operand in one.inputs:
                if operand in users:
                    users[operand].append(one)
        ends = set(roots)
        found: dict[Variable, Variable] = {}
        for variable, slices in users.items():
            if isinstance(variable.op, Elementwise) and variable not in ends and _are_disjoint(variable, slices):
                for one in slices:
                    carry_on(one.origin)
                    found[one] = variable.op(*(_sliced(operand, one) for operand in variable.inputs))
        if not found:
            break
        roots = rebuild(roots, found)
    return roots


def _is_static_slice(variable: Variable) -> bool:
    """Whether a variable is a slice with known bounds of axes of known size, or of whole axes."""
    op = variable.op
    if not isinstance(op, Index) or len(variable.inputs) > 1:
        return False
    if not all(isinstance(entry, Range) for entry in op.entries):
        return False
    known = variable.inputs[0].type.shape
    return all(entry == WHOLE or size is not None for entry, size in zip(op.entries, known, strict=True))


def _are_disjoint(variable: Variable, slices: list[Variable]) -> bool:
    """Whether a variable is used in slices of the same axes only, which together are not larger than it is."""
    shape = variable.type.shape
    if not all(_is_static_slice(one) for one in slices):
        return False
    cut = {axis for one in slices for axis, entry in enumerate(one.op.entries) if entry != WHOLE}  # type: ignore[attr-defined]
    total = sum(math.prod(one.type.shape[axis] or 0 for axis in cut) for one in slices)
    fits = all(
        operand.ndim - variable.ndim + axis < 0 or operand.type.shape[operand.ndim - variable.ndim + axis] in (1, shape[axis])
        for operand in variable.inputs
        for axis in cut
    )
    return (
        bool(cut) and 1 not in [shape[axis] for axis in cut] and fits and total <= math.prod(shape[axis] or 0 for axis in cut)
    )


def _sliced(operand: Variable, taken: Variable) -> Variable:
    """An operand of an elementwise op, cut as its result is; what broadcasts along an axis stays."""
    entries = taken.op.entries[len(taken.op.entries) - operand.ndim :]  # type: ignore[attr-defined]
    own = tuple(WHOLE if size == 1 else entry for entry, size in zip(entries, operand.type.shape, strict=True))
    return operand if all(entry == WHOLE for entry in own) else Index(own)(operand)
