"""Affine steps of a graph: ops that scale and shift values along one axis, by values that depend on no input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import constant
from minigraph.core.graph import Identity, Input, Variable, is_annotation, toposort
from minigraph.core.record import Record
from minigraph.core.walks import rebuild, with_bodies
from minigraph.functions.function import function
from minigraph.layers.core.computation_graph import ComputationGraph
from minigraph.ops.array.shape import Dimshuffle, Reshape
from minigraph.ops.array.sizes import Size
from minigraph.ops.elementwise.arithmetic import Add, Divide, Multiply, Negative, Subtract
from minigraph.ops.loop.loop import Scan
from minigraph.ops.reduce.normalization import NormalizeBy


class Affine(Record):
    """A variable as another one times a scale plus a shift, which vary along one axis and depend on no input; None: 1, or 0."""

    variable: Variable
    inner: Variable
    scale: Variable | None = None
    shift: Variable | None = None
    axis: int = -1
    """The axis of the inner variable that they vary along."""


class Uses:
    """The uses of each variable of a graph, the variables that depend on no input, and the affine steps among them."""

    def __init__(self, graph: ComputationGraph) -> None:
        self.users: dict[Variable, list[Variable | None]] = {output: [None] for output in graph.outputs}
        self.sizes: dict[Variable, list[Variable]] = {}
        """The variables that read nothing but the shape of a variable, and so could read any other of that shape."""
        self.static: set[Variable] = set()
        self._outside: dict[Variable, Variable] = {}
        """For the inputs of the bodies of loops the variables outside to which they are equal at every step."""
        everything = with_bodies(graph.variables)
        for variable in everything:
            if isinstance(variable.op, Scan):
                _, _, captured = variable.op.split(list(zip(variable.op.body.inputs, variable.inputs[1:], strict=True)))
                self._outside |= dict(captured)
                for root in variable.op.body.outputs:
                    self.users.setdefault(root, []).append(None)
        for variable in everything:
            computed = variable.inputs[:1] if is_annotation(variable.op) else variable.inputs
            readers = self.sizes if isinstance(variable.op, Size) and not variable.op.foreign else self.users
            for one in computed:
                readers.setdefault(one, []).append(variable)
            known = self._outside.get(variable) in self.static
            fixed = not isinstance(variable.op, Input) and variable.op.pure and all(one in self.static for one in computed)
            if known or fixed:
                self.static.add(variable)

    def value(self, variable: Variable) -> np.ndarray[Any, Any]:
        """The value of a variable that depends on no input, in float64."""
        while inside := [one for one in toposort([variable]) if one in self._outside]:
            (variable,) = rebuild([variable], {one: self._outside[one] for one in inside})
        return np.asarray(function([], variable, no_default_updates=True, backend="numpy")(), np.float64)

    def values(self, steps: Sequence[Affine]) -> tuple[Any, Any]:
        """The scale and the shift of steps one after another, as numbers or vectors."""
        scale: Any = 1.0
        shift: Any = 0.0
        for step in steps:
            factor, term = (None if one is None else self.value(one).squeeze() for one in (step.scale, step.shift))
            scale, shift = (scale, shift) if factor is None else (scale * factor, shift * factor)
            shift = shift if term is None else shift + term
        return scale, shift

    def only_user(self, variable: Variable) -> Variable | None:
        """The one variable that uses the elements of another; None if there are several, or if it is an output."""
        users = self.users.get(variable, [])
        return users[0] if len(users) == 1 else None

    def steps_below(self, variable: Variable, axis: int) -> list[Affine]:
        """The affine steps that lead to a variable, last one first, as far as nothing else uses their operands."""
        steps: list[Affine] = []
        while (step := self._as_step(variable, axis)) is not None:
            steps.append(step)
            variable, axis = step.inner, step.axis
            if self.only_user(variable) is not step.variable:
                break
        return steps

    def steps_above(self, variable: Variable, axis: int) -> list[Affine]:
        """The affine steps that follow a variable, as far as nothing else uses it."""
        steps: list[Affine] = []
        while (user := self.only_user(variable)) is not None:
            outer = outer_axis(user, axis)
            step = None if outer is None else self._as_step(user, outer)
            if step is None or outer is None or step.inner is not variable or step.axis != axis:
                break
            steps.append(step)
            variable, axis = user, outer
        return steps

    def _as_step(self, variable: Variable, axis: int) -> Affine | None:
        """A variable as an affine function of one of its inputs, if it is that, of the same kind and along one axis."""
        step = self._affine(variable, axis) if variable.op.pure and not variable.op.foreign else None
        if step is None or variable.dtype != step.inner.dtype:
            return None
        inner = inner_axis(variable, axis)
        return None if inner is None else Affine(variable, step.inner, step.scale, step.shift, inner)

    def _affine(self, variable: Variable, axis: int) -> Affine | None:
        """A variable as an affine function of one of its inputs, if its op is one and the others vary along an axis of it."""
        from_end = axis - variable.ndim
        match variable:
            case Variable(Identity() | Reshape() | Dimshuffle(), (x, *_)):
                return Affine(variable, x)
            case Variable(NormalizeBy(), (x, mean)) if self._is_row(mean, from_end):
                return Affine(variable, x, None, -mean)
            case Variable(NormalizeBy(), (x, mean, stdev)) if self._is_row(mean, from_end) and self._is_row(stdev, from_end):
                return Affine(variable, x, 1 / stdev, -mean / stdev)
            case Variable(Add(), (x, row)) if self._is_row(row, from_end):
                return Affine(variable, x, None, row)
            case Variable(Add(), (row, x)) if self._is_row(row, from_end):
                return Affine(variable, x, None, row)
            case Variable(Subtract(), (x, row)) if self._is_row(row, from_end):
                return Affine(variable, x, None, -row)
            case Variable(Subtract(), (row, x)) if self._is_row(row, from_end):
                return Affine(variable, x, constant(-1.0), row)
            case Variable(Negative(), (x,)):
                return Affine(variable, x, constant(-1.0))
            case Variable(Multiply(), (x, row)) if self._is_row(row, from_end):
                return Affine(variable, x, row)
            case Variable(Multiply(), (row, x)) if self._is_row(row, from_end):
                return Affine(variable, x, row)
            case Variable(Divide(), (x, row)) if self._is_row(row, from_end):
                return Affine(variable, x, 1 / row)
        return None

    def _is_row(self, variable: Variable, from_end: int) -> bool:
        """Whether a variable depends on no input, and varies along one axis alone, counted from the end."""
        others = [size for k, size in enumerate(variable.type.shape, -variable.ndim) if k != from_end]
        return variable in self.static and all(size == 1 for size in others)


def inner_axis(variable: Variable, axis: int) -> int | None:
    """The axis of a step's operand that becomes this axis of its result; None if no single axis does."""
    x = variable.inputs[0]
    if isinstance(variable.op, Dimshuffle):
        return variable.op.pattern[axis]
    if isinstance(variable.op, Reshape):
        kept = x.ndim and axis == variable.ndim - 1 and variable.type.shape[-1] == x.type.shape[-1] is not None
        return x.ndim - 1 if kept else None
    wide = [one for one in variable.inputs if one.ndim == variable.ndim]
    return axis if wide else None


def outer_axis(variable: Variable, axis: int) -> int | None:
    """The axis of a step's result that an axis of its operand becomes; None if no single axis does."""
    x = variable.inputs[0]
    if isinstance(variable.op, Dimshuffle):
        return variable.op.pattern.index(axis) if axis in variable.op.pattern else None
    if isinstance(variable.op, Reshape):
        return variable.ndim - 1 if axis == x.ndim - 1 and inner_axis(variable, variable.ndim - 1) is not None else None
    return axis
