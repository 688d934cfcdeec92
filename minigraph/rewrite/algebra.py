"""Rules of algebra that hold for every float, NaN and infinities included, and for every integer."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.graph import Constant, Graph, Variable
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.creation import zeros_like
from minigraph.ops.array.entries import WHOLE, Range
from minigraph.ops.array.indexing import Increment
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, dimshuffle
from minigraph.ops.array.windows import Overlap, Windows
from minigraph.ops.elementwise.arithmetic import (
    Add,
    Divide,
    Multiply,
    MultiplyOrZero,
    Negative,
    Power,
    Subtract,
    reciprocal,
    square,
)
from minigraph.ops.elementwise.base import Cast, cast
from minigraph.ops.elementwise.comparison import Where
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.ops.linear.products import MatMul
from minigraph.rewrite.engine import Rule, rewrite
from minigraph.rewrite.stability.sight import is_constant


def cancel_double_negation(variable: Variable) -> Variable | None:
    """-(-x) -> x."""
    match variable:
        case Variable(Negative(), (Variable(Negative(), (x,)),)):
            return x
    return None


def absorb_negation(variable: Variable) -> Variable | None:
    """a + (-b) -> a - b, (-a) + b -> b - a, a - (-b) -> a + b."""
    match variable:
        case Variable(Add(), (a, Variable(Negative(), (b,)))) | Variable(Add(), (Variable(Negative(), (b,)), a)):
            return a - b
        case Variable(Subtract(), (a, Variable(Negative(), (b,)))):
            return a + b
    return None


def drop_neutral_operand(variable: Variable) -> Variable | None:
    """x * 1 -> x, 1 * x -> x, x / 1 -> x, x - 0 -> x, and for integers x + 0 -> x; -0.0 + 0 is 0.0, and stays."""
    kept: Variable | None = None
    match variable:
        case Variable(Multiply(), operands):
            kept = _other_than(1, operands)
        case Variable(Divide(), (x, one)) if is_constant(one, 1):
            kept = x
        case Variable(Subtract(), (x, Variable(Constant(number)) as zero)) if is_constant(zero, 0):
            kept = None if np.signbit(number).any() else x
        case Variable(Add(), operands) if variable.dtype.kind in "iu":
            kept = _other_than(0, operands)
    return kept if kept is not None and kept.type == variable.type else None


def _other_than(value: float, operands: tuple[Variable, ...]) -> Variable | None:
    """Of two operands the one beside a constant `value`, which may stand on either side; None if there is no such constant."""
    first, second = operands
    if is_constant(second, value):
        return first
    return second if is_constant(first, value) else None


def negate_for_minus_one(variable: Variable) -> Variable | None:
    """x * -1 -> -x."""
    x = _other_than(-1, variable.inputs) if isinstance(variable.op, Multiply) and variable.dtype.kind in "if" else None
    return -x if x is not None and x.type == variable.type else None


def simplify_power(variable: Variable) -> Variable | None:
    """x**1 -> x, x**2 -> square(x), and for floats x**-1 -> 1 / x, x**0.5 -> sqrt(x), as NumPy does for a scalar exponent."""
    match variable:
        case Variable(Power(), (x, exponent)) if x.type == variable.type:
            if is_constant(exponent, 1):
                return x
            if is_constant(exponent, 2):
                return square(x)
            if is_constant(exponent, -1) and x.dtype.kind == "f":
                return reciprocal(x)
            if is_constant(exponent, 0.5) and x.dtype.kind == "f" and not exponent.ndim:
                return sqrt(x)
    return None


def multiply_by_constant(variable: Variable) -> Variable | None:
    """multiply_or_zero(c, x) -> c * x for a constant without zeros, and zeros for a constant of zeros."""
    match variable:
        case Variable(MultiplyOrZero(), (factor, x)) if isinstance(factor.op, Constant):
            if is_constant(factor, 0) and x.type == variable.type:
                return zeros_like(x)
            if factor.op.value.all() and not np.isnan(factor.op.value).any():
                return factor * x
    return None


def take_known_choice(variable: Variable) -> Variable | None:
    """where(True, a, b) -> a, where(False, a, b) -> b, if that has the type of both together."""
    match variable:
        case Variable(Where(), (condition, chosen, other)) if isinstance(condition.op, Constant) and not condition.ndim:
            kept = chosen if condition.op.value else other
            return kept if kept.type == variable.type else None
    return None


def merge_casts(variable: Variable) -> Variable | None:
    """cast(cast(x, wide), narrow) -> cast(x, narrow) where the inner cast loses nothing.

    What does not fit into uint32 becomes something else in 16-bit floats than in wider ones.
    """
    match variable:
        case Variable(Cast(dtype), (Variable(Cast(wide), (x,)),)) if _holds_exactly(wide, x.dtype):
            return None if x.dtype == np.float16 and dtype == np.uint32 else cast(x, dtype)
    return None


def _holds_exactly(wide: np.dtype[Any], narrow: np.dtype[Any]) -> bool:
    """Whether every value of dtype `narrow` is one of dtype `wide`; NumPy calls int64 to float64 safe, which rounds."""
    if narrow.kind in "iu" and wide.kind == "f":
        return np.iinfo(narrow).bits <= np.finfo(wide).nmant + 1
    return np.can_cast(narrow, wide, "safe")


def merge_dimshuffles(variable: Variable) -> Variable | None:
    """Two dimshuffles in a row -> one, and none where it changes nothing."""
    match variable:
        case Variable(Dimshuffle(outer), (Variable(Dimshuffle(inner), (x,)),)):
            return dimshuffle(x, [None if axis is None else inner[axis] for axis in outer])
        case Variable(Dimshuffle(pattern), (x,)) if pattern == tuple(range(x.ndim)):
            return x
    return None


def merge_reshapes(variable: Variable) -> Variable | None:
    """Two reshapes in a row -> the last, and none where the shape stays; only of known sizes, since others may not fit."""
    match variable:
        case Variable(Reshape() as last, (Variable(Reshape(), (x, *_)) as inner, *sizes)):
            return last(x, *sizes) if None not in (*x.type.shape, *inner.type.shape) else None
        case Variable(Reshape(), (x, *_)) if x.type == variable.type and None not in x.type.shape:
            return x
    return None


def join_parts(variable: Variable) -> Variable | None:
    """A sum of arrays that are zero but for a slice of one axis each, all slices together the axis -> the slices joined.

    So the gradients of all slices of an array come together. To each the 0 is added that stood there.
    """
    if not isinstance(variable.op, Add):
        return None
    parts: dict[int, Variable] = {}
    axes: set[int] = set()
    pending = [variable]
    while pending:
        match pending.pop():
            case Variable(Add(), operands):
                pending += operands
            case Variable(Increment(entries), (zeros, part)) as term if is_zeros(zeros) and term.type == variable.type:
                sliced = [axis for axis, entry in enumerate(entries) if entry != WHOLE]
                cut = entries[sliced[0]] if len(sliced) == 1 else None
                if not isinstance(cut, Range) or cut.holes:
                    return None
                size = variable.type.shape[sliced[0]]
                start, _, step = slice(*vars(cut).values()).indices(size or 0)
                if size is None or step != 1 or start in parts:
                    return None
                axes.add(sliced[0])
                parts[start] = part + 0
            case _:
                return None
    axis = axes.pop()
    starts = sorted(parts)
    ends = [start + (parts[start].type.shape[axis] or 0) for start in starts]
    fits = not axes and [*starts, variable.type.shape[axis]] == [0, *ends]
    return Concatenate(axis)(*(parts[start] for start in starts)) if fits else None


def is_zeros(variable: Variable) -> bool:
    """Whether a variable is zero throughout, as far as the graph tells."""
    while isinstance(variable.op, BroadcastTo | Dimshuffle):
        variable = variable.inputs[0]
    return is_constant(variable, 0)


def multiply_outer(variable: Variable) -> Variable | None:
    """A product with a size of 1 in between -> a multiplication and the addition of 0, which a sum begins with."""
    match variable:
        case Variable(MatMul(), (column, row)) if column.type.shape[-1] == row.type.shape[-2] == 1 and row.dtype.kind == "f":
            return column * row + 0
    return None


def drop_single_windows(variable: Variable) -> Variable | None:
    """Windows of one element each, one after the other, are that element; so is what is added up of such."""
    match variable:
        case Variable(Windows(axes, sizes, strides, _), (x,)) if {*sizes} == {*strides} == {1}:
            known = all(x.type.shape[axis] for axis in axes)
            return dimshuffle(x, *range(x.ndim), *("x" for _ in sizes)) if known else None
        case Variable(Overlap(axes, sizes, strides, _, lengths), (x, *_)) if {*sizes} == {*strides} == {1}:
            known = all(x.type.shape[axis] == length for axis, length in zip(axes, lengths, strict=True))
            return dimshuffle(x, *range(x.ndim - len(sizes))) + 0 if known and None not in lengths else None
    return None


RULES: tuple[Rule, ...] = (
    cancel_double_negation,
    absorb_negation,
    drop_neutral_operand,
    negate_for_minus_one,
    simplify_power,
    multiply_by_constant,
    take_known_choice,
    merge_casts,
    merge_dimshuffles,
    merge_reshapes,
    join_parts,
    drop_single_windows,
)

OUTER_RULES: tuple[Rule, ...] = (multiply_outer,)
"""The rules that are applied last, since passes on products find them by their op."""


def simplify(graph: Graph) -> Graph:
    """The graph with the rules of this module applied, but for those of outer products."""
    return rewrite(graph, RULES)


def expand_outer_products(graph: Graph) -> Graph:
    """The graph with outer products computed element for element."""
    return rewrite(graph, OUTER_RULES)
