"""Logarithms of what comes from exponentials, found without computing these, however the way from them is spelt.

The search goes from a value down to exponentials, softmaxes and sigmoids: through views, copies, neutral operands, sums,
products, quotients, powers, extremes, limits and choices. It builds the logarithm on the way back, from those of the parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from minigraph.core.graph import Constant, Variable
from minigraph.ops.array.arranging import Concatenate
from minigraph.ops.array.indexing import Index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, broadcast_like, dimshuffle, restore_axes, size
from minigraph.ops.array.sizes import Size
from minigraph.ops.control import GradScale
from minigraph.ops.elementwise.activation import Relu, Sigmoid, softplus
from minigraph.ops.elementwise.arithmetic import (
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
from minigraph.ops.elementwise.base import Cast, cast
from minigraph.ops.elementwise.comparison import Where, isinf, lt, neq, where
from minigraph.ops.elementwise.transcendental import Cosh, Exp, Exp2, Sqrt, exp, log, logaddexp
from minigraph.ops.linear.contraction import Einsum
from minigraph.ops.linear.products import MatMul
from minigraph.ops.reduce.reduction import Max, Min, Peak, Prod, Sum, sum
from minigraph.ops.reduce.softmax import LogSoftmax, Softmax
from minigraph.ops.reduce.statistics import LogSumExp, Mean
from minigraph.rewrite.stability.quotients import complement_argument, sigmoid_of_quotient, softmax_of_quotient
from minigraph.rewrite.stability.sight import DEEPEST, is_constant, is_open, seen


class Logarithm(NamedTuple):
    """The logarithm of a variable that is not negative, and whether that is known to be at most 1."""

    value: Variable
    at_most_one: bool


def logarithm(variable: Variable) -> Logarithm | None:
    """The logarithm of a variable by way of exponents; None if there are none to be found."""
    found = _Search().of(variable, DEEPEST)
    return found if found is not None and variable.type.admits(found.value.type) else None


class _Search:
    """A search, which looks at each variable once."""

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

    def _through(self, x: Variable, depth: int, change: Callable[[Variable], Variable]) -> Logarithm | None:
        """Of x, if it is found, with a change made to the logarithm."""
        inner = self.of(x, depth)
        return None if inner is None else inner._replace(value=change(inner.value))

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
        """Of elements in other places, chosen, or in another dtype."""
        match variable:
            case Variable(Index() | Dimshuffle() | Reshape() | BroadcastTo() as op, (x, *others)):
                return self._through(x, depth, lambda value: op(value, *others))
            case Variable(Cast(dtype), (x,)) if x.dtype.kind == "f":
                return self._through(x, depth, lambda value: cast(value, dtype))
            case Variable(Concatenate() as op, parts):
                return self._any_of(parts, depth, op)
            case Variable(Where() as op, (condition, *parts)):
                return self._any_of(parts, depth, lambda a, b: op(condition, a, b))
            case Variable(GradScale() as op, (x,)):
                return self._through(x, depth, op)
        return None

    def _any_of(self, parts: Sequence[Variable], depth: int, put: Callable[..., Variable]) -> Logarithm | None:
        """Of elements that come from several parts, if exponents are found below any of these."""
        found = [self.of(part, depth) for part in parts]
        if not any(found):
            return None
        return Logarithm(put(*(log(part) if one is None else one.value for one, part in zip(found, parts, strict=True))), False)

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
                return self._through(x, depth, op)
            case Variable(Prod(axes), (x,)):
                return self._through(x, depth, Sum(axes))
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
        if (softmax := softmax_of_quotient(variable)) is not None:
            inner = self.of(softmax, depth)
            return None if inner is None else inner._replace(at_most_one=True)
        if (sigmoid_form := sigmoid_of_quotient(variable)) is not None:
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
            case Variable(Reciprocal() | Square() | Sqrt() as op, (x,)):
                factor = {Reciprocal: -1.0, Square: 2.0, Sqrt: 0.5}[type(op)]
                inner = self.of(x, depth)
                return None if inner is None else Logarithm(inner.value * factor, inner.at_most_one and factor > 0)
            case Variable(Power(), (x, Variable(Constant(value)))) if value.all() and np.isfinite(value).all():
                inner = self.of(x, depth)
                return None if inner is None else Logarithm(inner.value * variable.inputs[1], False)
        return None

    def _other(self, variable: Variable, depth: int) -> Logarithm | None:
        """Of a sum of two, what is without a sign, or what is limited."""
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
            case Variable(Absolute() | Relu() | Negative() | Subtract()) if (positive := _without_sign(variable)) is not None:
                return self.of(positive, depth)
            case Variable(Maximum() | Minimum(), (a, b)):
                return self._limited(variable, a, b, depth) or self._limited(variable, b, a, depth)
        return None

    def _limited(self, variable: Variable, x: Variable, limit: Variable, depth: int) -> Logarithm | None:
        """Of what is limited by a constant."""
        if not isinstance(limit.op, Constant) or (inner := self.of(x, depth)) is None:
            return None
        upper, bound = isinstance(variable.op, Minimum), limit.op.value
        neutral = inner.at_most_one and (bound >= 1).all() if upper else (bound <= 0).all()
        if neutral and inner.value.type == variable.type:
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
    """The operand that a magnitude, a rectifier or two negations do not change if it is not negative; None for other ops."""
    *zeros, x = variable.inputs
    if isinstance(variable.op, Absolute | Relu):
        return x if variable.op in (Absolute(), Relu(0.0)) else None
    if isinstance(x.op, Negative) and is_open(x) and all(is_constant(zero, 0) for zero in zeros):
        return x.inputs[0]
    return None


def _log_of_weighted_sum(weights: Variable, exponents: Variable, axes: tuple[int, ...]) -> Variable:
    """log(sum(weights * exp(exponents))), relative to the greatest exponent that has a weight; NaN where 0 * inf is added."""
    absent = where(lt(exponents, math.inf), cast(-math.inf, exponents.dtype), cast(math.nan, exponents.dtype))
    level = Peak(axes)(where(neq(weights, 0), exponents, absent))
    level = where(isinf(level), 0, level)
    ndim = max(weights.ndim, exponents.ndim)
    scaled = exp(exponents - restore_axes(level, axes, ndim))
    return log(sum(multiply_or_zero(weights, scaled), axes)) + level
