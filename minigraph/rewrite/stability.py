"""Rules that keep intermediate results within the range of floats where the exact result is within it.

They run before composites are expanded. Where both forms are finite they agree up to rounding; where the plain form
overflows or divides 0 by 0 although the exact value is finite, these give that value.
"""

from __future__ import annotations

import numpy as np

from minigraph.graph import Constant, Graph, Variable
from minigraph.ops.activation import Sigmoid, Softmax, SoftmaxGradient, log_softmax, sigmoid, softplus
from minigraph.ops.arithmetic import (
    Add,
    Log,
    Multiply,
    MultiplyOrZero,
    Negative,
    Reciprocal,
    Subtract,
    multiply_or_zero,
    reciprocal,
)
from minigraph.ops.comparison import isfinite, where
from minigraph.ops.indexing import Increment, Index
from minigraph.ops.reduction import LogSumExp, Sum, sum
from minigraph.ops.shape import BroadcastTo, Dimshuffle, Size
from minigraph.ops.transcendental import Exp, Log1p, exp, expm1, log1p
from minigraph.rewrite.engine import Rule, rewrite


def is_constant(variable: Variable, value: float) -> bool:
    """Whether a variable is a constant scalar (or array) of this value throughout."""
    return isinstance(variable.op, Constant) and bool(np.all(variable.op.value == value)) and variable.op.value.size > 0


def log_of_softmax(variable: Variable) -> Variable | None:
    """log(softmax(x)) -> log_softmax(x), also where elements of the softmax are picked first."""
    match variable:
        case Variable(Log(), (Variable(Softmax(axis), (x,)),)):
            return log_softmax(x, axis)
        case Variable(Log(), (Variable(Index() as picking, (Variable(Softmax(axis), (x,)), *fillers)),)):
            return picking(log_softmax(x, axis), *fillers)
    return None


def softmax_gradient_of_log(variable: Variable) -> Variable | None:
    """The gradient of log(softmax), (d / y - sum(d / y * y)) * y -> d - sum(d) * y, which divides by nothing."""
    match variable:
        case Variable(SoftmaxGradient(axis), (Variable(MultiplyOrZero(), (d, Variable(Reciprocal(), (y,)))), z)) if (
            y is z and d.broadcastable == variable.broadcastable  # a broadcast d would be summed over too few elements
        ):
            return d - multiply_or_zero(sum(d, axis, keepdims=True), y)
    return None


def increment_of_quotient(variable: Variable) -> Variable | None:
    """Zeros plus d / y[...] at [...] -> (zeros plus d at [...]) / y, so that the rule above sees the quotient."""
    match variable:
        case Variable(Increment() as op, (zeros, Variable(MultiplyOrZero(), (d, Variable(Reciprocal(), (picked,)))), *fillers)):
            match picked:
                case Variable(Index(entries), (Variable(Softmax()) as y, *own)) if (entries, own, d.broadcastable) == (
                    op.entries,
                    fillers,
                    picked.broadcastable,
                ) and _is_zeros_like(zeros, y):
                    return multiply_or_zero(op(zeros, d, *fillers), reciprocal(y))
    return None


def _is_zeros_like(variable: Variable, like: Variable) -> bool:
    """Whether a variable is zeros of the shape of `like`, as far as the graph tells."""
    match variable:
        case Variable(BroadcastTo(), (zero, *sizes)):
            same = all(isinstance(one.op, Size) and one.inputs[0] is like for one in sizes)
            return same and variable.type == like.type and is_constant(zero, 0)
    return variable.type == like.type and None not in like.type.shape and is_constant(variable, 0)


def log_of_sum_of_exp(variable: Variable) -> Variable | None:
    """log(sum(exp(x))) -> logsumexp(x), also where the summed axes are restored first."""
    match variable:
        case Variable(Log(), (total,)):
            return _log_of_total(total)
    return None


def _log_of_total(total: Variable, summed: Variable | None = None) -> Variable | None:
    """The log of a sum of exp(x), or of just `summed`, its axes reordered or not, as logsumexp; None of anything else."""
    match total:
        case Variable(Sum(axes, None), (Variable(Exp(), (x,)) as e,)) if axes and summed in (None, e):
            return LogSumExp(axes)(x)
        case Variable(Dimshuffle() as reorder, (Variable(Sum()) as inner,)):
            result = _log_of_total(inner, summed)
            return None if result is None else reorder(result)
    return None


def gradient_of_log_of_sum(variable: Variable) -> Variable | None:
    """The gradient of log(sum(exp(x))), (d / sum(exp(x)) stretched to x) * exp(x) -> d * exp(x - logsumexp(x))."""
    match variable:
        case Variable(Multiply() | MultiplyOrZero(), (stretched, Variable(Exp(), (x,)) as e)):
            quotient, views = _behind_views(stretched)
            match quotient:
                case Variable(MultiplyOrZero(), (d, Variable(Reciprocal(), (total,)))) if d.ndim == quotient.ndim:
                    level = _log_of_total(total, e)
                    if level is not None and d.broadcastable == level.broadcastable:
                        finite = where(isfinite(level), level, 0)
                        return multiply_or_zero(_viewed(d, views), exp(x - _viewed(finite, views)))
    return None


def _behind_views(variable: Variable) -> tuple[Variable, list[Variable]]:
    """What a variable shows with its axes reordered or stretched, and the variables on the way, the innermost first."""
    views: list[Variable] = []
    while isinstance(variable.op, Dimshuffle | BroadcastTo):
        views.insert(0, variable)
        variable = variable.inputs[0]
    return variable, views


def _viewed(variable: Variable, views: list[Variable]) -> Variable:
    """A variable with its axes reordered and stretched as in `views`."""
    for view in views:
        variable = view.op(variable, *view.inputs[1:])
    return variable


def log_of_one_plus(variable: Variable) -> Variable | None:
    """log(1 + x) -> log1p(x), log(1 - x) -> log1p(-x)."""
    match variable:
        case Variable(Log(), (Variable(Add(), (one, x)),)) if is_constant(one, 1) and x.type == variable.type:
            return log1p(x)
        case Variable(Log(), (Variable(Add(), (x, one)),)) if is_constant(one, 1) and x.type == variable.type:
            return log1p(x)
        case Variable(Log(), (Variable(Subtract(), (one, x)),)) if is_constant(one, 1) and x.type == variable.type:
            return log1p(-x)
    return None


def exp_minus_one(variable: Variable) -> Variable | None:
    """exp(x) - 1 -> expm1(x)."""
    match variable:
        case Variable(Subtract(), (Variable(Exp(), (x,)), one)) if is_constant(one, 1) and x.type == variable.type:
            return expm1(x)
    return None


def log1p_of_exp(variable: Variable) -> Variable | None:
    """log1p(exp(x)) -> softplus(x)."""
    match variable:
        case Variable(Log1p(), (Variable(Exp(), (x,)),)):
            return softplus(x)
    return None


def log_of_sigmoid(variable: Variable) -> Variable | None:
    """log(sigmoid(x)) -> -softplus(-x), log1p(-sigmoid(x)) -> -softplus(x)."""
    match variable:
        case Variable(Log(), (Variable(Sigmoid(), (x,)),)):
            return -softplus(-x)
        case Variable(Log1p(), (Variable(Negative(), (Variable(Sigmoid(), (x,)),)),)):
            return -softplus(x)
    return None


def softplus_gradient(variable: Variable) -> Variable | None:
    """The gradient of log(1 + exp(x)), (d / (1 + exp(x))) * exp(x) -> d * sigmoid(x)."""
    match variable:
        case Variable(
            Multiply() | MultiplyOrZero(), (Variable(MultiplyOrZero(), (d, Variable(Reciprocal(), (total,)))), e)
        ) if isinstance(e.op, Exp) and isinstance(total.op, Add) and d.type == variable.type:
            one = [operand for operand in total.inputs if operand is not e]
            if len(one) == 1 and is_constant(one[0], 1):
                return multiply_or_zero(d, sigmoid(e.inputs[0]))
    return None


def sigmoid_gradient_of_log(variable: Variable) -> Variable | None:
    """With s a sigmoid: (d / s) * (s * (1 - s)) -> d * (1 - s), (d / (1 - s)) * (s * (1 - s)) -> d * s, sums of such too."""
    match variable:
        case Variable(MultiplyOrZero(), (quotients, Variable(Multiply(), (s, rest)))) if _is_complement(rest, s):
            result = _without_poles(quotients, s, rest, 8)
            return result if result is not None and result.type == variable.type else None
    return None


def _without_poles(quotients: Variable, s: Variable, rest: Variable, depth: int) -> Variable | None:
    """quotients * s * rest, with rest = 1 - s, if the quotients are sums of something divided by s or by 1 - s."""
    match quotients:
        case Variable(MultiplyOrZero(), (d, Variable(Reciprocal(), (below,)))) if below is s or _is_complement(below, s):
            return multiply_or_zero(d, rest if below is s else s)
        case Variable(Negative(), (inner,)) if depth:
            result = _without_poles(inner, s, rest, depth - 1)
            return None if result is None else -result
        case Variable(Add(), (first, second)) if depth:
            one, other = (_without_poles(term, s, rest, depth - 1) for term in (first, second))
            return None if one is None or other is None else one + other
    return None


def _is_complement(variable: Variable, s: Variable) -> bool:
    """Whether a variable is 1 - s, with s a sigmoid."""
    match variable:
        case Variable(Subtract(), (one, t)):
            return t is s and isinstance(s.op, Sigmoid) and is_constant(one, 1)
        case Variable(Add(), (Variable(Negative(), (t,)), one)):
            return t is s and isinstance(s.op, Sigmoid) and is_constant(one, 1)
    return False


RULES: tuple[Rule, ...] = (
    log_of_softmax,
    increment_of_quotient,
    softmax_gradient_of_log,
    log_of_sum_of_exp,
    gradient_of_log_of_sum,
    log_of_one_plus,
    exp_minus_one,
    log1p_of_exp,
    log_of_sigmoid,
    softplus_gradient,
    sigmoid_gradient_of_log,
)


def stabilize(graph: Graph) -> Graph:
    """The graph with the rules of this module applied."""
    return rewrite(graph, RULES)
