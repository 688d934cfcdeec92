"""The sight of rules: a variable behind copies and neutral operands, unless it must stay what it is."""

from __future__ import annotations

from collections.abc import Container
from contextvars import ContextVar

import numpy as np

from minigraph.core.graph import Constant, Identity, Variable
from minigraph.ops.elementwise.arithmetic import Add, Divide, Multiply, Subtract

DEEPEST = 64
"""The most ops that a search goes down."""

MOST_NEUTRAL = 8
"""The most copies and neutral operands in a row that are seen through."""

held: ContextVar[Container[Variable]] = ContextVar("minigraph_held", default=frozenset())
"""The variables that must stay what they are, and are not looked into."""


def is_constant(variable: Variable, value: float) -> bool:
    """Whether a variable is a constant scalar (or array) of this value throughout."""
    if not isinstance(variable.op, Constant):
        return False
    known = variable.op.value
    if known.size == 1:  # most are, and graphs have many
        return bool(known.item() == value)
    return known.size > 0 and bool(np.all(known == value))


def seen(variable: Variable) -> Variable:
    """The variable that another shows through copies, and operands that are neutral but for the sign of 0."""
    for _ in range(MOST_NEUTRAL):
        if variable in held.get() or variable.op.foreign:
            break
        shown: Variable | None = None
        match variable:
            case Variable(Identity(), (x, *_)) if type(variable.op) is Identity:
                shown = x
            case Variable(Multiply() | Divide() | Add() | Subtract() as op, (a, b)):
                neutral, turns = int(isinstance(op, Multiply | Divide)), isinstance(op, Multiply | Add)
                shown = a if is_constant(b, neutral) else b if turns and is_constant(a, neutral) else None
        if shown is None or shown.type != variable.type:
            break
        variable = shown
    return variable


def is_open(variable: Variable) -> bool:
    """Whether a variable may be looked into."""
    return variable not in held.get() and not variable.op.foreign and not isinstance(variable.type, tuple)


def are_alike(one: Variable, other: Variable) -> bool:
    """Whether two variables are computed by equal ops from the same variables or constants, as far as a short look tells."""
    pending = [(one, other)]
    compared: set[tuple[Variable, Variable]] = set()
    while pending:
        pair = pending.pop()
        first, second = pair
        if first is second or pair in compared:
            continue
        compared.add(pair)
        if len(compared) > DEEPEST or not _have_equal_ops(first, second):
            return False
        pending += zip(first.inputs, second.inputs, strict=True)
    return True


def _have_equal_ops(one: Variable, other: Variable) -> bool:
    """Whether two variables are of equal ops, or of constants with equal values."""
    first, second = one.op, other.op
    if isinstance(first, Constant) and isinstance(second, Constant):
        return one.type == other.type and np.array_equal(first.value, second.value)
    inside = bool(one.inputs) and not first.foreign and first.pure
    return inside and one.type == other.type and first == second and len(one.inputs) == len(other.inputs)
