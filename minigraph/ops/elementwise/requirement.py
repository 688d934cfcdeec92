"""Conditions on values: checked when the graph is built if these are known, else whenever they are computed."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, MinigraphError
from minigraph.core.graph import Array, Constant, Leaf, Variable, evaluated, toposort
from minigraph.core.types import TensorType, broadcast_shapes
from minigraph.ops.elementwise.base import Cotangents, Elementwise


class Require(Elementwise):
    """Its first operand, if the second, a condition on each element, is true throughout; an error otherwise.

    A kernel notes that the condition failed, and goes on; the error is what the op makes of arrays afterwards.
    """

    message: str
    error: type[MinigraphError]
    kinds = "biuf"
    view_of = 0
    cost, cheap = 1, True
    requires = 1

    def may_fail(self, *types: TensorType) -> bool:
        return True

    def infer(self, *types: TensorType) -> TensorType:
        x, condition = types
        if condition.dtype.kind != "b" or len(broadcast_shapes([x.shape, condition.shape])) != len(x.shape):
            raise InvalidTypeError(f"a condition on {x} must be boolean and of its shape, not {condition}")
        return x

    def forward(self, xp: Any, x: Array, condition: Array) -> Array:
        if not bool(condition.all()):
            raise self.error(f"{self.message}, not {offending(x, condition)}")
        return x

    def gradient(self, dy: Variable, y: Variable, x: Variable, condition: Variable) -> Cotangents:
        return dy, None


def offending(x: Array, condition: Array) -> Any:
    """The first element that does not fulfil the condition on it."""
    return np.ravel(x)[int(np.ravel(condition).argmin())].item()


def require(x: Variable, condition: Variable, message: str, error: type[MinigraphError]) -> Variable:
    """x, if `condition` holds for each element: else `error` with `message`, now if both are known, or when x is computed."""
    if not is_known(x, condition):
        return Require(message, error)(x, condition)
    if not (fulfilled := evaluated(condition)).all():
        raise error(f"{message}, not {offending(evaluated(x), fulfilled)}")
    return x


def is_known(*variables: Variable) -> bool:
    """Whether variables follow from constants alone."""
    return all(isinstance(one.op, Constant) or not isinstance(one.op, Leaf) for one in toposort(variables))
