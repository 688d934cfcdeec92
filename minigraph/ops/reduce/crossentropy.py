"""The losses of classification, one value for each row, stable at any logits.

Classes stand on the last axis. Targets are class indices (integers, one axis less) or distributions (floats, same axes). An
index that names no class raises IndexError, when the graph is built if it is known; one that equals `ignore_index` names none,
and its row costs 0. The mean over the other rows is the sum of all divided by how many they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidIndexError, InvalidTypeError, InvalidValueError
from minigraph.core.graph import Composite, Constant, Variable
from minigraph.core.types import as_dtype_or_float, as_ints
from minigraph.ops.array.creation import arange
from minigraph.ops.array.indexing import take_along_axis
from minigraph.ops.array.shape import expand_dims, shape, squeeze
from minigraph.ops.elementwise.activation import softplus
from minigraph.ops.elementwise.arithmetic import multiply_or_zero
from minigraph.ops.elementwise.base import Cotangents, Operand, cast, floating, promoted
from minigraph.ops.elementwise.comparison import eq, ge, gt, logical_and, logical_not, logical_or, lt, neq, where
from minigraph.ops.elementwise.requirement import is_known, require
from minigraph.ops.elementwise.transcendental import log, log1p
from minigraph.ops.reduce.reduction import sum
from minigraph.ops.reduce.softmax import softmax
from minigraph.ops.reduce.statistics import logsumexp

__all__ = ["binary_crossentropy", "categorical_crossentropy", "one_hot", "sigmoid_binary_crossentropy", "softmax_crossentropy"]


def one_hot(x: Operand, n: Any, dtype: Any = None, *, ignore_index: int | None = None) -> Variable:
    """For each integer of x a row of n zeros with a 1 at that place; all zeros for an integer that equals `ignore_index`.

    n: an int of 0 or more, or an integer scalar variable; TypeError or ValueError for anything else. dtype: the float type by
    default. IndexError for any other integer of x outside of 0 ... n - 1, when the graph is built if both are known.

    >>> mg.one_hot([0, 2], 3).eval().tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    variable, width = as_variable(x), _as_width(n)
    if variable.dtype.kind not in "iu":
        raise InvalidTypeError(f"one_hot takes integers, not {variable!r}")
    labels, kept = _checked(variable, width, ignore_index)
    rows = eq(expand_dims(labels, labels.ndim), arange(width))
    return cast(rows if kept is None else logical_and(rows, expand_dims(kept, kept.ndim)), as_dtype_or_float(dtype))


def _as_width(n: Any) -> Any:
    """The number of classes as an int, or the variable that it is; TypeError or ValueError for what is no such number."""
    known = n.op.value.item() if isinstance(n, Variable) and isinstance(n.op, Constant) and not n.ndim else n
    if isinstance(known, Variable) and not known.ndim and known.dtype.kind in "iu":
        return known
    if isinstance(known, bool) or not isinstance(known, int | np.integer):
        raise InvalidTypeError(f"n must be an int of 0 or more, or an integer scalar variable, not {n!r}")
    return as_ints(known, "n", 0)[0]


def _checked(labels: Variable, count: Any, ignore_index: int | None) -> tuple[Variable, Variable | None]:
    """Class indices that are known to name a class, and which of them count, if some may not: those are 0 instead."""
    kept = None
    if ignore_index is not None:
        if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer):
            raise InvalidTypeError(f"ignore_index must be an integer, not {ignore_index!r}")
        kept = neq(labels, int(ignore_index))
        labels = where(kept, labels, 0)
    below = f"the {count} classes" if isinstance(count, int) else "the number of classes"
    least = f"from 0 to {count - 1}" if isinstance(count, int) and count else f"0 or more, and below {below}"
    message = f"a class index must be {least}"
    if labels.dtype.kind == "i":
        labels = require(labels, ge(labels, 0), message, InvalidIndexError)
    inside = lt(labels, count) if kept is None else logical_or(lt(labels, count), logical_not(kept))
    return require(labels, inside, message, InvalidIndexError), kept


def _of_kept(cost: Variable, kept: Variable | None) -> Variable:
    """A cost for each row, 0 where it does not count."""
    return cost if kept is None else where(kept, cost, 0)


def _picks_classes(predictions: Variable, targets: Variable, ignore_index: int | None) -> bool:
    """Whether targets are class indices rather than distributions; TypeError if they are neither."""
    if targets.dtype.kind in "iu" and targets.ndim == predictions.ndim - 1:
        return True
    if targets.ndim == predictions.ndim:
        _check_columns(predictions, targets)
        if ignore_index is not None:
            raise InvalidTypeError(f"ignore_index is for class indices; {targets!r} are distributions")
        return False
    raise InvalidTypeError(
        f"targets {targets!r} do not fit predictions {predictions!r}: give class indices (integers, one axis less) or "
        "distributions (the same axes)"
    )


def _check_columns(predictions: Variable, targets: Variable) -> None:
    """ValueError where a single column would be stretched over the classes, or over the probabilities of targets."""
    if not targets.ndim:
        return
    columns, classes = targets.type.shape[-1], predictions.type.shape[-1]
    if columns == 1 and classes != 1:
        known = "an unknown number of" if classes is None else classes
        first = ", ".join([":"] * (targets.ndim - 1) + ["0"])
        raise InvalidValueError(
            f"targets {targets!r} have one column for {known} classes: class indices have one axis less than predictions, so "
            f"drop the last one, by labels[{first}]; distributions have a column for each class"
        )
    if classes == 1 and columns != 1:
        raise InvalidValueError(
            f"predictions {predictions!r} have one column, for targets {targets!r}: both must have one for each class; of a "
            "single probability sigmoid_binary_crossentropy and binary_crossentropy are the losses"
        )


def _at_class(x: Variable, targets: Variable) -> Variable:
    """The element of each row of x that the class index names."""
    return squeeze(take_along_axis(x, expand_dims(targets, targets.ndim), -1), -1)


def categorical_crossentropy(probabilities: Operand, targets: Operand, *, ignore_index: int | None = None) -> Variable:
    """-log of the probability given to the target, for each row; stable if the `probabilities` are a softmax.

    `targets` are class indices or distributions. IndexError for an index that names no class; a row whose index equals
    `ignore_index` costs 0, and has gradient 0.

    >>> mg.categorical_crossentropy([[0.5, 0.5], [0.75, 0.25]], [0, 1]).eval().round(2)
    array([0.69, 1.39], dtype=float32)
    """
    predictions, wanted = floating(probabilities), as_variable(targets)
    if _picks_classes(predictions, wanted, ignore_index):
        labels, kept = _checked(wanted, shape(predictions)[-1], ignore_index)
        return _of_kept(-_at_class(log(predictions), labels), kept)
    return -sum(multiply_or_zero(cast(wanted, predictions.dtype), log(predictions)), -1)


class SoftmaxCrossentropy(Composite):
    """log(sum(exp(logits))) minus the logit of the class that an index names."""

    def expand(self, *inputs: Variable) -> Variable:
        logits, targets = inputs
        return logsumexp(logits, -1) - _at_class(logits, targets)

    def gradient(self, dy: Variable, y: Variable, logits: Variable, targets: Variable) -> Cotangents:
        excess = softmax(logits) - cast(eq(expand_dims(targets, targets.ndim), arange(shape(logits)[-1])), logits.dtype)
        return multiply_or_zero(expand_dims(dy, dy.ndim), excess), None


def softmax_crossentropy(logits: Operand, targets: Operand, *, ignore_index: int | None = None) -> Variable:
    """-log of the softmax's probability of the target, for each row, computed from the `logits`.

    `targets` are class indices or distributions. IndexError for an index that names no class; a row whose index equals
    `ignore_index` costs 0, and has gradient 0.

    >>> logits, labels = mg.matrix("logits"), mg.lvector("labels")
    >>> cost = mg.softmax_crossentropy(logits, labels, ignore_index=-1)
    >>> mean = cost.sum() / mg.neq(labels, -1).sum()
    >>> cost.eval({logits: [[0.0, 0.0], [0.0, 9.0]], labels: [1, -1]}).round(3).tolist()
    [0.6930000185966492, 0.0]
    """
    scores, wanted = floating(logits), as_variable(targets)
    if _picks_classes(scores, wanted, ignore_index):
        labels, kept = _checked(wanted, shape(scores)[-1], ignore_index)
        return _of_kept(SoftmaxCrossentropy()(scores, labels), kept)
    gap = expand_dims(logsumexp(scores, -1), scores.ndim - 1) - scores
    return sum(multiply_or_zero(cast(wanted, scores.dtype), gap), -1)


def _with_targets(predictions: Operand, targets: Operand) -> tuple[Variable, Variable]:
    """Predictions and targets in their common dtype; ValueError for targets outside of [0, 1], where they are known, and where
    both would be stretched, as a column of logits and a vector of targets.
    """
    scores, wanted = promoted((floating(predictions), targets))
    if scores.ndim != wanted.ndim and _is_stretched(scores, wanted) and _is_stretched(wanted, scores):
        raise InvalidValueError(
            f"predictions {scores!r} and targets {wanted!r} have different axes, and would be paired each with each: give both "
            "the same axes, by logits[:, 0] or targets[:, None] for instance"
        )
    if is_known(wanted):
        inside = logical_not(logical_or(lt(wanted, 0), gt(wanted, 1)))
        require(wanted, inside, "targets of a binary crossentropy must be within [0, 1]", InvalidValueError)
    return scores, wanted


def _is_stretched(x: Variable, other: Variable) -> bool:
    """Whether x has fewer elements than it has beside the other, with which it is broadcast."""
    return any(
        wide != 1 and (axis >= x.ndim or x.type.shape[-1 - axis] == 1) for axis, wide in enumerate(reversed(other.type.shape))
    )


def binary_crossentropy(probabilities: Operand, targets: Operand) -> Variable:
    """-(t log p + (1 - t) log(1 - p)), elementwise; stable if p is a sigmoid.

    ValueError for targets t outside of [0, 1], where the cost has no bound, if they are known when the graph is built.

    >>> mg.binary_crossentropy([0.25, 0.5], [0.0, 1.0]).eval().round(2)
    array([0.29, 0.69], dtype=float32)
    """
    predictions, wanted = _with_targets(probabilities, targets)
    return -(multiply_or_zero(wanted, log(predictions)) + multiply_or_zero(1 - wanted, log1p(-predictions)))


def sigmoid_binary_crossentropy(logits: Operand, targets: Operand) -> Variable:
    """`binary_crossentropy` of sigmoid(logits), elementwise, computed from the logits, with the same errors.

    >>> mg.sigmoid_binary_crossentropy([0.0, -50.0], [1.0, 1.0]).eval().round(2)
    array([ 0.69, 50.  ], dtype=float32)
    """
    scores, wanted = _with_targets(logits, targets)
    return multiply_or_zero(wanted, softplus(-scores)) + multiply_or_zero(1 - wanted, softplus(scores))
