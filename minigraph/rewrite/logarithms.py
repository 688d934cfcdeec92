"""Logarithms of what comes from exponentials, found without computing these, however the way from them is spelt.

The search goes from a value down to exponentials, softmaxes and sigmoids: through views, copies, neutral operands, sums,
products, quotients, powers, extremes, limits and choices. It builds the logarithm on the way back, from those of the parts.
"""

from __future__ import annotations

import math
from collections.abc import Container
from contextvars import ContextVar
from functools import reduce
from typing import NamedTuple

import numpy as np

from minigraph.graph import Constant, Identity, Variable
from minigraph.ops.activation import LogSoftmax, Relu, Sigmoid, Softmax, sigmoid, softplus
from minigraph.ops.arithmetic import (
    Absolute,
    Add,
    Divide,
    Maximum,
    Minimum,
    Multiply,
    Negative,
    Power,
    Reciprocal,
    Square,
    Subtract,
    maximum,
    minimum,
    multiply_or_zero,
)
from minigraph.ops.arranging import Concatenate
from minigraph.ops.comparison import Where, isfinite, isinf, lt, neq, where
from minigraph.ops.control import GradScale
from minigraph.ops.elementwise import Cast, cast
from minigraph.ops.indexing import WHOLE, Index
from minigraph.ops.linear import Einsum, MatMul
from minigraph.ops.reduction import LogSumExp, Max, Mean, Min, Peak, Prod, Sum, sum
from minigraph.ops.shape import BroadcastTo, Dimshuffle, Reshape, Size, broadcast_like, dimshuffle, restore_axes, size
from minigraph.ops.transcendental import Cosh, Exp, Exp2, Sqrt, exp, log, logaddexp
from minigraph.types import TensorType

DEEPEST = 64
"""How many ops a search goes down."""

MOST_NEUTRAL = 8
"""How many copies and neutral operands in a row are seen through."""

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
    """What a variable shows through copies, and operands that are neutral but for the sign of 0."""
    for _ in range(MOST_NEUTRAL):
        if variable in held.get() or variable.op.foreign:
            break
        shown: Variable | None = None
        match variable:
            case Variable(Identity(), (x, *_)) if type(variable.op) is Identity:
                shown = x
            case Variable(Multiply() | Add(), (a, b)):
                neutral = 1 if isinstance(variable.op, Multiply) else 0
                shown = a if is_constant(b, neutral) else b if is_constant(a, neutral) else None
            case Variable(Divide(), (a, b)) if is_constant(b, 1):
                shown = a
            case Variable(Subtract(), (a, b)) if is_constant(b, 0):
                shown = a
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


class Logarithm(NamedTuple):
    """The logarithm of a variable that is not negative, and whether that is known to be at most 1."""

    value: Variable
    at_most_one: bool


def logarithm(variable: Variable) -> Logarithm | None:
    """The logarithm of a variable by way of exponents; None if there are none to be found."""
    found = _Search().of(variable, DEEPEST)
    return found if found is not None and variable.type.admits(found.value.type) else None


class _Search:
    """One search, which looks at each variable once."""

    def __init__(self) -> None:
        self._known: dict[Variable, Logarithm | None] = {}

    def of(self, variable: Variable, depth: int) -> Logarithm | None:
        """The logarithm of a variable, if exponentials are found below it."""
        variable = seen(variable)
        if not depth or not is_open(variable) or variable.dtype.kind != "f":
            return None
        if variable not in self._known:
            for way in (self._source, self._view, self._fold, self._product, self._other):
                found = way(variable, depth - 1)
                if found is not None:
                    break
            self._known[variable] = found
        return self._known[variable]

    def _source(self, variable: Variable, depth: int) -> Logarithm | None:
        """Of what has an exponent of its own."""
        match variable:
            case Variable(Exp(), (x,)):
                return Logarithm(x, False)
            case Variable(Exp2(), (x,)):
                return Logarithm(x * math.log(2), False)
            case Variable(Power(), (Variable(Constant(base)), x)) if (base > 0).all() and np.isfinite(base).all():
                return Logarithm(x * log(variable.inputs[0]), False)
            case Variable(Cosh(), (x,)):
                return Logarithm(softplus(-2 * Absolute()(x)) + (Absolute()(x) - math.log(2)), False)
            case Variable(Softmax(axis), (x,)):
                return Logarithm(LogSoftmax(axis)(x), True)
            case Variable(Sigmoid(), (x,)):
                return Logarithm(-softplus(-x), True)
        opposite = complement_argument(variable)
        return None if opposite is None else Logarithm(-softplus(opposite), True)

    def _view(self, variable: Variable, depth: int) -> Logarithm | None:
        """Of elements in other places, or in another dtype."""
        match variable:
            case Variable(Index() | Dimshuffle() | Reshape() | BroadcastTo() as op, (x, *others)):
                inner = self.of(x, depth)
                return None if inner is None else inner._replace(value=op(inner.value, *others))
            case Variable(Cast(dtype), (x,)) if x.dtype.kind == "f":
                inner = self.of(x, depth)
                return None if inner is None else inner._replace(value=cast(inner.value, dtype))
            case Variable(Concatenate() as op, parts):
                inner_ones = [self.of(part, depth) for part in parts]
                if any(one is not None for one in inner_ones):
                    logs = [log(part) if one is None else one.value for one, part in zip(inner_ones, parts, strict=True)]
                    return Logarithm(op(*logs), False)
        return None

    def _fold(self, variable: Variable, depth: int) -> Logarithm | None:
        """Of a sum, a mean, a product or an extreme over axes."""
        match variable:
            case Variable(Sum(axes), (x,)) if axes:
                return self._sum(x, axes, depth)
            case Variable(Mean(axes), (x,)) if axes:
                total = self._sum(x, axes, depth)
                count = log(cast(size(x, axes), variable.dtype))
                return None if total is None else total._replace(value=total.value - count)
            case Variable(Max() | Min() as op, (x,)):
                inner = self.of(x, depth)
                return None if inner is None else inner._replace(value=op(inner.value))
            case Variable(Prod(axes), (x,)):
                inner = self.of(x, depth)
                return None if inner is None else inner._replace(value=Sum(axes)(inner.value))
            case Variable(Einsum(operands, result), (_, _)):
                return self._contracted(list(zip(operands, variable.inputs, strict=True)), result, depth)
            case Variable(MatMul(), (a, b)) if a.ndim == b.ndim == 2 and b.type.shape[1] == 1:
                column = self._contracted([("ij", a), ("j", dimshuffle(b, 0))], "i", depth)
                return None if column is None else column._replace(value=dimshuffle(column.value, 0, "x"))
            case Variable(MatMul(), (a, b)) if a.ndim == b.ndim == 2 and a.type.shape[0] == 1:
                row = self._contracted([("j", dimshuffle(a, 1)), ("jk", b)], "k", depth)
                return None if row is None else row._replace(value=dimshuffle(row.value, "x", 0))
        return None

    def _contracted(self, operands: list[tuple[str, Variable]], result: str, depth: int) -> Logarithm | None:
        """Of a sum of products over labelled axes, all of which one of the two operands has."""
        labels, whole = max(operands, key=lambda one: len(one[0]))
        axes = tuple([k for k, label in enumerate(labels) if label not in result])
        if not axes or not all(set(others) <= set(labels) for others, _ in operands):
            return None

        def laid_out(own: str, value: Variable) -> Variable:
            return broadcast_like(dimshuffle(value, [own.index(one) if one in own else "x" for one in labels]), whole)

        for (own, weighted), (others, weights) in (operands, operands[::-1]):
            exponents = self.of(weighted, depth)
            if exponents is not None:
                total = _log_of_weighted_sum(laid_out(others, weights), laid_out(own, exponents.value), axes)
                kept = [label for label in labels if label in result]
                return Logarithm(dimshuffle(total, [kept.index(label) for label in result]), False)
        return None

    def _sum(self, x: Variable, axes: tuple[int, ...], depth: int) -> Logarithm | None:
        """Of a sum over axes, in which weights may be of any sign."""
        inner = self.of(x, depth)
        if inner is not None:
            return Logarithm(LogSumExp(axes)(inner.value), False)
        match seen(x):
            case Variable(Multiply(), (a, b)) as product if is_open(product):
                for weights, weighted in ((a, b), (b, a)):
                    exponents = self.of(weighted, depth)
                    if exponents is not None:
                        return Logarithm(_log_of_weighted_sum(weights, exponents.value, axes), False)
        return None

    def _product(self, variable: Variable, depth: int) -> Logarithm | None:
        """Of a product, a quotient or a power."""
        softmax = quotient_as_softmax(variable)
        if softmax is not None:
            inner = self.of(softmax, depth)
            return None if inner is None else inner._replace(at_most_one=True)
        sigmoid_form = quotient_as_sigmoid(variable)
        if sigmoid_form is not None:
            return self.of(sigmoid_form, depth)
        match variable:
            case Variable(Multiply() | Divide() as op, (a, b)):
                sign, (one, other) = -1 if isinstance(op, Divide) else 1, (self.of(a, depth), self.of(b, depth))
                if one is None and other is None:
                    return None
                first = one.value if one is not None else _log_of_weight(a)
                second = other.value if other is not None else _log_of_weight(b, positive=sign < 0)
                if first is None or second is None:
                    return None
                small = sign > 0 and one is not None and other is not None and one.at_most_one and other.at_most_one
                return Logarithm(first + second if sign > 0 else first - second, small)
            case Variable(Reciprocal(), (x,)):
                return self._multiple(x, -1.0, depth)
            case Variable(Square(), (x,)):
                return self._multiple(x, 2.0, depth)
            case Variable(Sqrt(), (x,)):
                return self._multiple(x, 0.5, depth)
            case Variable(Power(), (x, Variable(Constant(value)))) if value.all() and np.isfinite(value).all():
                inner = self.of(x, depth)
                return None if inner is None else Logarithm(inner.value * variable.inputs[1], False)
        return None

    def _multiple(self, x: Variable, factor: float, depth: int) -> Logarithm | None:
        """Of a power of x."""
        inner = self.of(x, depth)
        return None if inner is None else Logarithm(inner.value * factor, inner.at_most_one and factor > 0)

    def _other(self, variable: Variable, depth: int) -> Logarithm | None:
        """Of a sum of two, a choice, or what is limited."""
        match variable:
            case Variable(Add(), (a, b)):
                one, other = self.of(a, depth), self.of(b, depth)
                if one is not None and other is not None:
                    return Logarithm(logaddexp(one.value, other.value), False)
                found, rest = (one, b) if one is not None else (other, a)
                if found is None or found.at_most_one or not _is_positive(rest):
                    return None
                plus_one = is_constant(rest, 1) and found.value.type == variable.type
                return Logarithm(softplus(found.value) if plus_one else logaddexp(found.value, log(rest)), False)
            case Variable(Where() as op, (condition, a, b)):
                one, other = self.of(a, depth), self.of(b, depth)
                if one is None and other is None:
                    return None
                logs = [log(x) if x_log is None else x_log.value for x, x_log in ((a, one), (b, other))]
                return Logarithm(op(condition, *logs), False)
            case Variable(Absolute() | Relu() | Negative() | Subtract()) if (positive := _without_sign(variable)) is not None:
                return self.of(positive, depth)
            case Variable(GradScale() as op, (x,)):
                inner = self.of(x, depth)
                return None if inner is None else inner._replace(value=op(inner.value))
            case Variable(Maximum() | Minimum(), (a, b)):
                return self._limited(variable, a, b, depth) or self._limited(variable, b, a, depth)
        return None

    def _limited(self, variable: Variable, x: Variable, limit: Variable, depth: int) -> Logarithm | None:
        """Of what is limited by a constant."""
        inner = self.of(x, depth) if isinstance(limit.op, Constant) else None
        if inner is None or not isinstance(limit.op, Constant):
            return None
        upper, bound = isinstance(variable.op, Minimum), limit.op.value
        if inner.value.type == variable.type and (
            (upper and inner.at_most_one and bool((bound >= 1).all())) or (not upper and bool((bound <= 0).all()))
        ):
            return inner
        if not (bound > 0).all():
            return None
        result = minimum(inner.value, log(limit)) if upper else maximum(inner.value, log(limit))
        return Logarithm(result, inner.at_most_one and (upper or bool((bound <= 1).all())))


def _is_positive(variable: Variable) -> bool:
    """Whether a variable is above 0: a constant, or a number of elements, of which there may be none."""
    variable = seen(variable)
    for _ in range(DEEPEST):
        match variable:
            case Variable(Constant(value)):
                return bool((value > 0).all()) and bool(np.isfinite(value).all())
            case Variable(Size(), _):
                return True
            case Variable(Cast(), (x,)):
                variable = x
            case Variable(Multiply(), (a, b)) if isinstance(a.op, Size | Constant):
                if not _is_positive(a):
                    return False
                variable = b
            case _:
                return False
    return False


def _log_of_weight(weight: Variable, positive: bool = False) -> Variable | None:
    """The logarithm of a factor that is never negative, as far as the graph tells, or with `positive` never 0 either."""
    if _is_positive(weight):
        return log(weight)
    match seen(weight):
        case Variable(Constant(value)) if not positive and (value >= 0).all():
            return log(weight)
        case Variable(Cast(dtype), (flag,)) if not positive and flag.dtype.kind == "b" and dtype.kind == "f":
            return where(flag, 0.0, cast(-math.inf, dtype))
    return None


def _without_sign(variable: Variable) -> Variable | None:
    """What is not negative below an op that then changes nothing: a magnitude, a rectifier, a negation of a negation."""
    *zeros, x = variable.inputs
    if isinstance(variable.op, Absolute | Relu):
        return x if variable.op in (Absolute(), Relu(0.0)) else None
    if isinstance(x.op, Negative) and is_open(x) and all(is_constant(zero, 0) for zero in zeros):
        return x.inputs[0]
    return None


def _log_of_weighted_sum(weights: Variable, exponents: Variable, axes: tuple[int, ...]) -> Variable:
    """log(sum(weights * exp(exponents))), relative to the greatest exponent that has a weight.

    What is infinite or NaN without a weight makes the result NaN, as 0 * inf does.
    """
    absent = where(lt(exponents, math.inf), cast(-math.inf, exponents.dtype), cast(math.nan, exponents.dtype))
    level = Peak(axes)(where(neq(weights, 0), exponents, absent))
    level = where(isinf(level), 0, level)
    ndim = max(weights.ndim, exponents.ndim)
    scaled = exp(exponents - restore_axes(level, axes, ndim))
    return log(sum(multiply_or_zero(weights, scaled), axes)) + level


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
    match variable:
        case Variable(Subtract(), (one, s)) if is_constant(one, 1):
            x = sigmoid_argument(s)
        case Variable(Add(), (one, Variable(Negative(), (s,)) as negated)) if is_constant(one, 1) and is_open(negated):
            x = sigmoid_argument(s)
        case Variable(Add(), (Variable(Negative(), (s,)) as negated, one)) if is_constant(one, 1) and is_open(negated):
            x = sigmoid_argument(s)
        case _:
            return None
    return x if x is not None and x.type == variable.type else None


def quotient_as_sigmoid(variable: Variable) -> Variable | None:
    """1 / (1 + exp(-x)) as sigmoid(x), and exp(x) / (1 + exp(x)), which is NaN for an infinite x, as are shares of sums."""
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
            top = numerator
        case Variable(Reciprocal(), (bottom,)):
            pass
        case Variable(Power(), (bottom, exponent)) if is_constant(exponent, -1):
            pass
        case _:
            return None
    y = _exponent_beside_one(seen(bottom))
    if y is None or y.type != variable.type:
        return None
    if top is None or is_constant(top, 1):
        negated = seen(y)
        return (negated.inputs[0] if isinstance(negated.op, Negative) and is_open(negated) else -y), False
    top = seen(top)
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


def quotient_as_softmax(variable: Variable) -> Variable | None:
    """exp(x) / sum(exp(x)) relative to the greatest x, whatever views lie on the way; None where it is relative already."""
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
    """What views and a sum make of an exponential."""

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
