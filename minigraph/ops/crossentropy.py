"""The losses of classification, one value for each row, stable at any logits.

Classes stand on the last axis. Targets are class indices (integers, one axis less) or distributions (floats, same axes).
"""

from __future__ import annotations

from typing import Any

from minigraph.errors import InvalidTypeError
from minigraph.graph import Composite, Variable, as_variable
from minigraph.ops.activation import softmax, softplus
from minigraph.ops.arithmetic import multiply_or_zero
from minigraph.ops.comparison import eq
from minigraph.ops.creation import arange
from minigraph.ops.elementwise import Cotangents, Operand, cast, floating, promoted
from minigraph.ops.indexing import take_along_axis
from minigraph.ops.reduction import logsumexp, sum
from minigraph.ops.shape import expand_dims, shape, squeeze
from minigraph.ops.transcendental import log, log1p
from minigraph.types import as_dtype_or_float

__all__ = [
    "binary_crossentropy",
    "categorical_crossentropy",
    "one_hot",
    "sigmoid_binary_crossentropy",
    "softmax_crossentropy",
]


def one_hot(x: Operand, n: Any, dtype: Any = None) -> Variable:
    """For each integer of x a row of n zeros with a 1 at that place; all zeros for one outside of 0 ... n - 1."""
    variable = as_variable(x)
    if variable.dtype.kind not in "iu":
        raise InvalidTypeError(f"one_hot takes integers, not {variable!r}")
    return cast(eq(expand_dims(variable, variable.ndim), arange(n)), as_dtype_or_float(dtype))


def _picks_classes(predictions: Variable, targets: Variable) -> bool:
    """Whether targets are class indices rather than distributions; TypeError if they are neither."""
    if targets.dtype.kind in "iu" and targets.ndim == predictions.ndim - 1:
        return True
    if targets.ndim == predictions.ndim:
        return False
    raise InvalidTypeError(
        f"targets {targets!r} do not fit predictions {predictions!r}: give class indices (integers, one axis less) or "
        "distributions (the same axes)"
    )


def _at_class(x: Variable, targets: Variable) -> Variable:
    """The element of each row of x that the class index names."""
    return squeeze(take_along_axis(x, expand_dims(targets, targets.ndim), -1), -1)


def categorical_crossentropy(probabilities: Operand, targets: Operand) -> Variable:
    """-log of the probability given to the target, for each row; stable if the probabilities are a softmax."""
    predictions, wanted = floating(probabilities), as_variable(targets)
    if _picks_classes(predictions, wanted):
        return -_at_class(log(predictions), wanted)
    return -sum(multiply_or_zero(cast(wanted, predictions.dtype), log(predictions)), -1)


class SoftmaxCrossentropy(Composite):
    """log(sum(exp(logits))) minus the logit of the class that an index names."""

    def expand(self, *inputs: Variable) -> Variable:
        logits, targets = inputs
        return logsumexp(logits, -1) - _at_class(logits, targets)

    def gradient(self, dy: Variable, y: Variable, logits: Variable, targets: Variable) -> Cotangents:
        excess = softmax(logits) - one_hot(targets, shape(logits)[-1], logits.dtype)
        return multiply_or_zero(expand_dims(dy, dy.ndim), excess), None


def softmax_crossentropy(logits: Operand, targets: Operand) -> Variable:
    """-log of the softmax's probability of the target, for each row, computed from the logits."""
    scores, wanted = floating(logits), as_variable(targets)
    if _picks_classes(scores, wanted):
        return SoftmaxCrossentropy()(scores, wanted)
    gap = expand_dims(logsumexp(scores, -1), scores.ndim - 1) - scores
    return sum(multiply_or_zero(cast(wanted, scores.dtype), gap), -1)


def binary_crossentropy(probabilities: Operand, targets: Operand) -> Variable:
    """-(t log p + (1 - t) log(1 - p)), elementwise; stable if p is a sigmoid."""
    predictions, wanted = promoted((floating(probabilities), targets))
    return -(multiply_or_zero(wanted, log(predictions)) + multiply_or_zero(1 - wanted, log1p(-predictions)))


def sigmoid_binary_crossentropy(logits: Operand, targets: Operand) -> Variable:
    """The binary crossentropy of sigmoid(logits), elementwise, computed from the logits."""
    scores, wanted = promoted((floating(logits), targets))
    return multiply_or_zero(wanted, softplus(-scores)) + multiply_or_zero(1 - wanted, softplus(scores))
