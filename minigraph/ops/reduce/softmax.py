"""Softmax, its logarithm and its gradient."""

from __future__ import annotations

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Composite, Variable
from minigraph.core.types import check_axis
from minigraph.ops.array.shape import restore_axes
from minigraph.ops.elementwise.arithmetic import multiply_or_zero, reciprocal
from minigraph.ops.elementwise.base import Cotangents, Operand, floating
from minigraph.ops.elementwise.transcendental import exp, log
from minigraph.ops.reduce.reduction import Peak, sum

__all__ = ["log_softmax", "softmax"]


def _floating_and_axis(x: Operand, axis: int) -> tuple[Variable, int]:
    """x in a float dtype, and the axis counted from the front; ValueError for a scalar."""
    variable = as_variable(x)
    if not variable.ndim:
        raise InvalidValueError(f"softmax needs at least one axis, not {variable!r}")
    return floating(x), check_axis(axis, variable.ndim)


def _peak(x: Variable, axis: int) -> Variable:
    """The greatest element along an axis, the axis kept."""
    return restore_axes(Peak((axis,))(x), (axis,), x.ndim)


class AlongAxis(Composite):
    """A composite that works along one axis."""

    of_numbers = True
    axis: int


class Softmax(AlongAxis):
    """exp(x) divided by its sum along an axis."""

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        weight = exp(x - _peak(x, self.axis))
        return weight * reciprocal(sum(weight, self.axis, keepdims=True))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (SoftmaxGradient(self.axis)(dy, y),)


class SoftmaxGradient(AlongAxis):
    """The cotangent of the logits, from that of a softmax and its value."""

    def expand(self, *inputs: Variable) -> Variable:
        dy, y = inputs
        return multiply_or_zero(dy - sum(multiply_or_zero(dy, y), self.axis, keepdims=True), y)


def softmax(x: Operand, axis: int = -1) -> Variable:
    """exp(x) divided by its sum along `axis`; ValueError for a scalar.

    >>> mg.softmax([0.0, 0.0]).eval()
    array([0.5, 0.5], dtype=float32)
    """
    variable, place = _floating_and_axis(x, axis)
    return Softmax(place)(variable)


class LogSoftmax(AlongAxis):
    """The logarithm of the softmax, computed without leaving the range of floats."""

    def expand(self, *inputs: Variable) -> Variable:
        x = inputs[0]
        shifted = x - _peak(x, self.axis)
        return shifted - log(sum(exp(shifted), self.axis, keepdims=True))

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (dy - multiply_or_zero(sum(dy, self.axis, keepdims=True), exp(y)),)


def log_softmax(x: Operand, axis: int = -1) -> Variable:
    """log(softmax(x)) along `axis`, finite for finite x.

    >>> mg.log_softmax([0.0, 0.0]).eval().round(2)
    array([-0.69, -0.69], dtype=float32)
    """
    variable, place = _floating_and_axis(x, axis)
    return LogSoftmax(place)(variable)
