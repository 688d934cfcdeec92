"""Quotients of exponentials that are sigmoids and softmaxes, however the way to the exponentials is spelt."""

from __future__ import annotations

import math
from functools import reduce
from typing import NamedTuple

from minigraph.core.graph import Variable
from minigraph.core.types import TensorType
from minigraph.ops.array.entries import WHOLE
from minigraph.ops.array.indexing import Index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, restore_axes
from minigraph.ops.elementwise.activation import Sigmoid, sigmoid
from minigraph.ops.elementwise.arithmetic import Add, Divide, Multiply, Negative, Power, Reciprocal, Subtract
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.comparison import Where, isfinite, lt, where
from minigraph.ops.elementwise.transcendental import Exp, exp, logaddexp
from minigraph.ops.reduce.reduction import Max, Peak, Sum, sum
from minigraph.rewrite.stability.sight import DEEPEST, are_alike, is_constant, is_open, seen

# -- sigmoids ----------------------------------------------------------------------------------------------------------


def sigmoid_argument(variable: Variable, depth: int = DEEPEST) -> Variable | None:
    """x of what is sigmoid(x), seen through views."""
    variable = seen(variable)
    if not depth or not is_open(variable):
        return None
    match variable:
        case Variable(Sigmoid(), (x,)):
            return x
        case Variable(Index() | Dimshuffle() | Reshape() | BroadcastTo() as op, (inner, *others)):
            argument = sigmoid_argument(inner, depth - 1)
            return None if argument is None else op(argument, *others)
    written_out = _sigmoid_quotient(variable)
    return None if written_out is None or written_out[1] else written_out[0]


def complement_argument(variable: Variable) -> Variable | None:
    """x of what is 1 - sigmoid(x)."""
    x: Variable | None = None
    match variable:
        case Variable(Subtract(), (one, s)) if is_constant(one, 1):
            x = sigmoid_argument(s)
        case Variable(Add(), (a, b)):
            one, negated = (a, b) if isinstance(b.op, Negative) else (b, a)
            if is_constant(one, 1) and isinstance(negated.op, Negative) and is_open(negated):
                x = sigmoid_argument(negated.inputs[0])
    return x if x is not None and x.type == variable.type else None


def sigmoid_of_quotient(variable: Variable) -> Variable | None:
    """1 / (1 + exp(-x)) -> sigmoid(x), exp(x) / (1 + exp(x)) -> sigmoid(x), exp(x) / (exp(x) + exp(y)) -> sigmoid(x - y).

    Those with an exponential above are NaN for an infinite x.
    """
    found = _sigmoid_quotient(variable)
    if found is None:
        return _share_of_sum(variable)
    x, over_itself = found
    return where(lt(x, math.inf), sigmoid(x), cast(math.nan, x.dtype)) if over_itself else sigmoid(x)


def _sigmoid_quotient(variable: Variable) -> tuple[Variable, bool] | None:
    """x of a quotient that is sigmoid(x), and whether it is exp(x) / (1 + exp(x))."""
    top: Variable | None = None
    match variable:
        case Variable(Divide(), (numerator, bottom)):
            top = None if is_constant(numerator, 1) else seen(numerator)
        case Variable(Reciprocal() | Power(), (bottom, *exponents)) if all(is_constant(one, -1) for one in exponents):
            pass
        case _:
            return None
    y = _exponent_beside_one(seen(bottom))
    if y is None or y.type != variable.type:
        return None
    if top is None:
        negated = seen(y)
        return (negated.inputs[0] if isinstance(negated.op, Negative) and is_open(negated) else -y), False
    return (y, True) if isinstance(top.op, Exp) and is_open(top) and are_alike(top.inputs[0], y) else None


def _exponent_beside_one(total: Variable) -> Variable | None:
    """y of 1 + exp(y)."""
    if not isinstance(total.op, Add) or not is_open(total):
        return None
    a, b = total.inputs
    power = seen(b if is_constant(a, 1) else a)
    beside_one = is_constant(a, 1) or is_constant(b, 1)
    return power.inputs[0] if beside_one and isinstance(power.op, Exp) and is_open(power) else None


def _share_of_sum(variable: Variable) -> Variable | None:
    """exp(x) / (exp(x) + exp(y) + exp(z)) as sigmoid(-log(exp(y - x) + exp(z - x))), terms in any order."""
    if not isinstance(variable.op, Divide):
        return None
    top, terms = (_exponents_of_sum(one, variable.type) for one in variable.inputs)
    if top is None or terms is None or len(top) > 1 or len(terms) < 2:
        return None
    (x,) = top
    own = next((one for one in terms if are_alike(one, x)), None)
    if own is None:
        return None
    others = [one - x for one in terms if one is not own]
    return where(lt(x, math.inf), sigmoid(-reduce(logaddexp, others)), cast(math.nan, x.dtype))


def _exponents_of_sum(total: Variable, kind: TensorType) -> list[Variable] | None:
    """The exponents, all of one type, of what is a sum of exponentials, or one, seen through views."""
    pending: list[tuple[Variable, tuple[Variable, ...]]] = [(total, ())]
    found: list[Variable] = []
    for _ in range(DEEPEST):
        one, views = pending.pop()
        one = seen(one)
        if not is_open(one):
            return None
        match one:
            case Variable(Add(), (a, b)) if a.type == b.type:
                pending += [(b, views), (a, views)]
            case Variable(Index() | Dimshuffle() | Reshape() | BroadcastTo(), (inner, *_)):
                pending.append((inner, (*views, one)))
            case Variable(Exp(), (x,)):
                found.append(reduce(lambda inside, view: view.op(inside, *view.inputs[1:]), reversed(views), x))
            case _:
                return None
        if not pending:
            return found if all(one.type == kind for one in found) else None
    return None


# -- softmaxes -----------------------------------------------------------------------------------------------------------

Labels = tuple[int | None, ...]
"""For each axis of a variable the axis of an exponential that it shows, None for one of size 1 that was added."""


def softmax_of_quotient(variable: Variable) -> Variable | None:
    """exp(x) / sum(exp(x)) -> softmax(x), whatever views lie on the way, unless it is relative to the greatest x already."""
    match variable:
        case Variable(Divide(), (top, bottom)):
            return _relative_softmax(variable, top, bottom)
        case Variable(Multiply(), (a, b)):
            for top, inverse in ((a, b), (b, a)):
                total = _inverted(inverse)
                if total is not None:
                    return _relative_softmax(variable, top, total)
    return None


def _inverted(variable: Variable) -> Variable | None:
    """x of what is 1 / x."""
    match variable:
        case Variable(Reciprocal(), (x,)) if is_open(variable):
            return x
        case Variable(Divide(), (one, x)) if is_open(variable) and is_constant(one, 1):
            return x
    return None


def _relative_softmax(variable: Variable, top: Variable, bottom: Variable) -> Variable | None:
    """A quotient as a softmax, if it is one."""
    above = _labelled(top)
    if above is None or above.summed is not None or _is_shifted(above.exponent):
        return None
    below = _labelled(bottom)
    if below is None or below.summed is None or len(above.labels) != variable.ndim:
        return None
    if not are_alike(above.exponent, below.exponent):
        return None
    padded = (None,) * (variable.ndim - len(below.labels)) + below.labels
    sizes = variable.type.shape
    axes = [k for k, label in enumerate(above.labels) if label in below.summed]
    fits = all(
        two == one or (two is None and (k in axes or sizes[k] == 1))
        for k, (one, two) in enumerate(zip(above.labels, padded, strict=True))
    )
    if not fits or len(axes) != len(below.summed) or len(padded) != variable.ndim:
        return None
    x = _shown(top)
    level = restore_axes(Peak(tuple(axes))(x), axes, x.ndim)
    weights = exp(x - where(isfinite(level), level, 0))
    result = weights / sum(weights, axes, keepdims=True)
    return result if variable.type.admits(result.type) else None


class _Labelled(NamedTuple):
    """An exponential behind views and a sum: its exponent, the labels of the axes, and those that are summed."""

    exponent: Variable
    labels: Labels
    summed: frozenset[int] | None


def _labelled(variable: Variable) -> _Labelled | None:
    """A variable as views of an exponential, or of the sum of one over axes."""
    chain: list[Variable] = []
    for _ in range(DEEPEST):
        variable = seen(variable)
        if not is_open(variable):
            return None
        if isinstance(variable.op, Exp):
            break
        if not isinstance(variable.op, Sum | Dimshuffle | Index | Reshape | BroadcastTo):
            return None
        chain.append(variable)
        variable = variable.inputs[0]
    else:
        return None
    labels: Labels = tuple(range(variable.ndim))
    summed: frozenset[int] | None = None
    for view in reversed(chain):
        if isinstance(view.op, Sum):
            gone = [labels[axis] for axis in view.op.axes]
            if summed is not None or None in gone:
                return None
            summed = frozenset(label for label in gone if label is not None)
        elif summed is None and not isinstance(view.op, Dimshuffle):
            return None
        after = _labels_of_view(view, labels)
        if after is None:
            return None
        labels = after
    return _Labelled(variable.inputs[0], labels, summed)


def _labels_of_view(view: Variable, labels: Labels) -> Labels | None:
    """The labels of a sum or a view, given those of its operand; None if its axes are mixed."""
    before = view.inputs[0].type.shape
    match view.op:
        case Sum(axes):
            return tuple(label for axis, label in enumerate(labels) if axis not in axes)
        case Dimshuffle(pattern):
            return tuple(None if axis is None else labels[axis] for axis in pattern)
        case Index(entries) if all(entry is None or entry == WHOLE for entry in entries):
            remaining = iter(labels)
            return tuple(None if entry is None else next(remaining) for entry in entries)
        case BroadcastTo(pattern, _):
            return (None,) * (len(pattern) - len(labels)) + labels
        case Reshape():
            wide = [(label, size) for label, size in zip(labels, before, strict=True) if size != 1]
            after = [size for size in view.type.shape if size != 1]
            known = [size for _, size in wide] == after and None not in after
            if not known and not len(wide) == len(after) <= 1:
                return None
            places = iter(label for label, _ in wide)
            return tuple(None if size == 1 else next(places) for size in view.type.shape)
    return None


def _shown(variable: Variable) -> Variable:
    """The exponent of a variable that is axes of an exponential in some order, in that order."""
    variable = seen(variable)
    if isinstance(variable.op, Exp):
        return variable.inputs[0]
    return variable.op(_shown(variable.inputs[0]))


def _is_shifted(exponent: Variable) -> bool:
    """Whether an exponent is relative to the greatest one already."""
    match seen(exponent):
        case Variable(Subtract(), (_, level)):
            for _ in range(DEEPEST):
                level = seen(level)
                if not isinstance(level.op, Dimshuffle | Reshape | BroadcastTo | Index | Where):
                    break
                level = level.inputs[isinstance(level.op, Where)]
            return isinstance(level.op, Max | Peak)
    return False
