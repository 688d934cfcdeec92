"""Rules that keep intermediate results within the range of floats where the exact result is within it.

They run before composites are expanded. Where both forms are finite they agree up to rounding; where the plain form
overflows or divides 0 by 0 although the exact value is finite, these give that value.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence

from minigraph.core.context import holds
from minigraph.core.graph import Graph, Identity, Op, Structural, Variable, reachable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.ops.array.indexing import Increment, Index
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle
from minigraph.ops.array.sizes import Size
from minigraph.ops.elementwise.activation import Sigmoid, sigmoid, softplus
from minigraph.ops.elementwise.arithmetic import (
    Add,
    Divide,
    Log,
    Multiply,
    MultiplyOrZero,
    Negative,
    Power,
    Reciprocal,
    Square,
    Subtract,
    multiply_or_zero,
    reciprocal,
)
from minigraph.ops.elementwise.comparison import isfinite, where
from minigraph.ops.elementwise.transcendental import Exp, Log1p, Log2, Log10, Sqrt, exp, expm1, log1p
from minigraph.ops.reduce.reduction import Sum, sum
from minigraph.ops.reduce.softmax import Softmax, SoftmaxGradient
from minigraph.ops.reduce.statistics import EuclideanNorm, LogSumExp
from minigraph.rewrite.engine import Rule, rewrite
from minigraph.rewrite.stability.logarithms import logarithm
from minigraph.rewrite.stability.quotients import sigmoid_argument, sigmoid_of_quotient, softmax_of_quotient
from minigraph.rewrite.stability.sight import are_alike, held, is_constant, is_open, seen


def stable_logarithm(variable: Variable) -> Variable | None:
    """The logarithm, to any base, of what comes from exponentials, without them: log(softmax(x)) -> log_softmax(x),
    log(sum(exp(x))) -> logsumexp(x), log(sigmoid(x)) -> -softplus(-x), log1p(exp(x)) -> softplus(x), and so on.
    """
    match variable:
        case Variable(Log() | Log2() | Log10() as op, (x,)):
            found = logarithm(x)
            if found is not None:
                base = {Log2: 2.0, Log10: 10.0}.get(type(op))
                return found.value if base is None else found.value * (1 / math.log(base))
        case Variable(Log1p(), (x,)):
            return _log_of_one_and(seen(x))
    return None


def _log_of_one_and(x: Variable) -> Variable | None:
    """log(1 + x) for x = exp(y) and what comes from it, and for x = -sigmoid(y)."""
    if isinstance(x.op, Negative) and is_open(x):
        y = sigmoid_argument(x.inputs[0])
        return None if y is None else -softplus(y)
    found = logarithm(x)
    return None if found is None or found.at_most_one else softplus(found.value)


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
    """The variable that another shows with axes reordered or stretched, and the variables on the way, the innermost first."""
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
        case Variable(Log(), (Variable(Add(), (a, b)),)):
            one, x = (a, b) if is_constant(a, 1) and b.type == variable.type else (b, a)
            return log1p(x) if is_constant(one, 1) and x.type == variable.type else None
        case Variable(Log(), (Variable(Subtract(), (one, x)),)) if is_constant(one, 1) and x.type == variable.type:
            return log1p(-x)
    return None


def exp_minus_one(variable: Variable) -> Variable | None:
    """exp(x) - 1 -> expm1(x)."""
    match variable:
        case Variable(Subtract(), (Variable(Exp(), (x,)), one)) if is_constant(one, 1) and x.type == variable.type:
            return expm1(x)
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
        case Variable(Subtract(), (one, t)) | Variable(Add(), (Variable(Negative(), (t,)), one)):
            return t is s and isinstance(s.op, Sigmoid) and is_constant(one, 1)
    return False


def root_of_squares(variable: Variable) -> Variable | None:
    """sqrt(sum(x * x)) -> norm(x), which has room for the squares, and gradient 0 at 0."""
    match variable:
        case Variable(Sqrt() | Power(), (total, *halves)) if all(is_constant(half, 0.5) for half in halves):
            return _norm(seen(total))
    return None


def _norm(total: Variable) -> Variable | None:
    """The root of a sum of squares, the axes that were folded perhaps kept."""
    if not is_open(total):
        return None
    match total:
        case Variable(Dimshuffle() as op, (folded,)) if isinstance(folded.op, Sum):
            norm = _norm(folded)
            return None if norm is None else op(norm)
        case Variable(Sum(axes), (squares,)) if axes:
            x = _squared(seen(squares))
            return EuclideanNorm(axes)(x) if x is not None and x.dtype == total.dtype and x.dtype.kind == "f" else None
    return None


def _squared(variable: Variable) -> Variable | None:
    """The variable that another is the square of."""
    if not is_open(variable):
        return None
    match variable:
        case Variable(Square(), (x,)):
            return x
        case Variable(Multiply(), (x, other)) if are_alike(x, other):
            return x
        case Variable(Power(), (x, two)) if is_constant(two, 2):
            return x
    return None


RULES: tuple[Rule, ...] = (
    stable_logarithm,
    root_of_squares,
    softmax_of_quotient,
    sigmoid_of_quotient,
    increment_of_quotient,
    softmax_gradient_of_log,
    gradient_of_log_of_sum,
    log_of_one_plus,
    exp_minus_one,
    softplus_gradient,
    sigmoid_gradient_of_log,
)


def stabilize(graph: Graph) -> Graph:
    """The graph with the rules of this module applied."""
    return rewrite(graph, RULES)


TO_DIFFERENTIATE: dict[type[Op], tuple[Rule, ...]] = {
    Log: (stable_logarithm, log_of_one_plus),
    Log2: (stable_logarithm,),
    Log10: (stable_logarithm,),
    Log1p: (stable_logarithm,),
    Divide: (softmax_of_quotient, sigmoid_of_quotient),
    Multiply: (softmax_of_quotient,),
    Reciprocal: (sigmoid_of_quotient,),
    Power: (sigmoid_of_quotient, root_of_squares),
    Sqrt: (root_of_squares,),
}
"""The rules that change how gradients are computed, by the class of the op that they replace."""


def stable_forms(roots: Sequence[Variable], kept: Container[Variable]) -> list[Variable]:
    """The roots in forms whose gradients are stable as well; `kept`, and what they are computed from, are not changed.

    Nor is what updates, annotations and loops are computed from: their variables are not to be there twice.
    """
    order = toposort(roots, stop=kept)
    single = [one for one in order if not one.op.pure or isinstance(one.op, Structural) or _is_annotated(one)]
    fixed = reachable(single, lambda one: one.inputs)
    done: dict[Variable, Variable] = {}
    with holds(held, kept), carry_origin(here()):
        for variable in order:
            done[variable] = variable if variable in kept or variable in fixed else _differentiable(variable, done)
    return [done[root] for root in roots]


def _is_annotated(variable: Variable) -> bool:
    """Whether a variable is a copy that transforms look for."""
    return isinstance(variable.op, Identity) and type(variable.op) is not Identity


def _differentiable(variable: Variable, done: Mapping[Variable, Variable]) -> Variable:
    """A variable in a stable form, its inputs being in theirs."""
    inputs = tuple([done[one] for one in variable.inputs])
    variable = variable.with_inputs(inputs) if inputs != variable.inputs else variable
    carry_on(variable.origin)
    for rule in TO_DIFFERENTIATE.get(type(variable.op), ()):
        better = rule(variable)
        if better is not None and variable.type.admits(better.type):
            return _differentiable(better, {one: one for one in better.inputs})
    return variable
