"""Inference-mode normalizations folded into the matrix products beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minigraph.errors import InvalidValueError
from minigraph.function import function
from minigraph.graph import Identity, Input, Variable, constant, is_annotation, rebuild, shared, toposort, with_bodies
from minigraph.layers.base import Layer, find_layers
from minigraph.layers.computation_graph import ComputationGraph
from minigraph.layers.population import Normalization, find_normalizations
from minigraph.layers.roles import BIAS, WEIGHT
from minigraph.layers.state_values import in_dtype
from minigraph.ops.arithmetic import Add, Divide, Multiply, Negative, Subtract
from minigraph.ops.linear import MatMul
from minigraph.ops.loop import Scan
from minigraph.ops.normalization import NormalizeBy
from minigraph.ops.shape import Dimshuffle, Reshape, Size
from minigraph.record import Record
from minigraph.transforms.batch_normalization import Roots, outputs_of


def fold_batch_normalization(graph: Roots, layers: Layer | Iterable[Layer] | None = None) -> ComputationGraph:
    """The graph with its inference-mode normalizations folded into the products before or after them.

    Scale, shift, biases and whatever else is added or multiplied on the way become part of a weight matrix and a bias: new
    shared variables, computed in float64 from the values that the layers have now. layers: fold only those at or below these.

    ValueError, with the reason for each, if one cannot be folded exactly: a normalization in training mode, with a mask, by
    statistics that vary along another axis than the product's, without a product beside it that nothing else uses, or with
    results that the dtype of the product's weights does not reach.

    >>> x = mg.matrix("x", shape=(None, 4))
    >>> network = mg.layers.BatchNormalizedMLP([mg.layers.Rectifier(), None], [4, 8, 2])
    >>> folded = mg.transforms.fold_batch_normalization(network.apply(x))
    >>> [variable.name for variable in folded.shared_variables]
    ['W_folded', 'b_folded', 'W_folded', 'b_folded']
    """
    chosen = None if layers is None else set(find_layers(layers))
    result = ComputationGraph(outputs_of(graph))
    folded = False
    while True:
        folder = _Folder(result)
        outcomes = {one.variable: folder.fold(one) for one in _selected(result, chosen)}
        replacements: dict[Variable, Variable] = {}
        for outcome in outcomes.values():
            if not isinstance(outcome, str) and not outcome.keys() & replacements.keys():
                replacements |= outcome
        if not replacements:
            break
        result, folded = result.replace(replacements), True
    refused = {variable: outcome for variable, outcome in outcomes.items() if isinstance(outcome, str)}
    if refused:
        reasons = "\n".join(f"  {one.origin}: {reason}" for one, reason in refused.items())
        raise InvalidValueError(
            f"not every normalization can be folded exactly; name the layers to fold, or see why:\n{reasons}"
        )
    if not folded:
        raise InvalidValueError("the graph has no normalization to fold")
    return result


def _selected(graph: ComputationGraph, chosen: set[Layer] | None) -> list[Normalization]:
    """The normalizations of a graph that are to be folded, inputs first."""
    found = find_normalizations(graph.variables)
    return [part for one in found if chosen is None or one.layer in chosen for part in one.parts]


class Affine(Record):
    """A variable as another one times a scale plus a shift, which vary along one axis and depend on no input; None: 1, or 0."""

    variable: Variable
    inner: Variable
    scale: Variable | None = None
    shift: Variable | None = None
    axis: int = -1
    """The axis of the inner variable that they vary along."""


class _Folder:
    """What folding needs to know about one graph: what uses a variable, and what depends on no input."""

    def __init__(self, graph: ComputationGraph) -> None:
        self._users: dict[Variable, list[Variable | None]] = {output: [None] for output in graph.outputs}
        self._sizes: dict[Variable, list[Variable]] = {}
        """What reads nothing but the shape of a variable, and so would be content with any other of that shape."""
        self._static: set[Variable] = set()
        self._outside: dict[Variable, Variable] = {}
        """For the inputs of the bodies of loops what they are the same as at every step."""
        everything = with_bodies(graph.variables)
        for variable in everything:
            if isinstance(variable.op, Scan):
                _, _, captured = variable.op.split(list(zip(variable.op.body.inputs, variable.inputs[1:], strict=True)))
                self._outside |= dict(captured)
                for root in variable.op.body.outputs:
                    self._users.setdefault(root, []).append(None)
        for variable in everything:
            computed = variable.inputs[:1] if is_annotation(variable.op) else variable.inputs
            readers = self._sizes if isinstance(variable.op, Size) and not variable.op.foreign else self._users
            for one in computed:
                readers.setdefault(one, []).append(variable)
            known = self._outside.get(variable) in self._static
            fixed = not isinstance(variable.op, Input) and variable.op.pure and all(one in self._static for one in computed)
            if known or fixed:
                self._static.add(variable)

    def _value(self, variable: Variable) -> np.ndarray[Any, Any]:
        """The value of a variable that depends on no input, in float64."""
        while True:
            inside = [one for one in toposort([variable]) if one in self._outside]
            if not inside:
                break
            (variable,) = rebuild([variable], {one: self._outside[one] for one in inside})
        return np.asarray(function([], variable, no_default_updates=True, backend="numpy")(), np.float64)

    def _vector(self, row: Variable) -> np.ndarray[Any, Any]:
        """The value of what varies along one axis as a vector, or a number."""
        value = self._value(row)
        return value.reshape(-1) if value.ndim else value

    def _values(self, steps: Sequence[Affine]) -> tuple[Any, Any]:
        """The scale and the shift of steps one after another, as numbers or vectors."""
        scale: Any = 1.0
        shift: Any = 0.0
        for step in steps:
            factor, term = (None if one is None else self._vector(one) for one in (step.scale, step.shift))
            scale, shift = (scale, shift) if factor is None else (scale * factor, shift * factor)
            shift = shift if term is None else shift + term
        return scale, shift

    def fold(self, one: Normalization) -> dict[Variable, Variable] | str:
        """What to replace by what in order to fold a normalization, or why it cannot be folded."""
        if one.is_training:
            return "it is in training mode"
        if one.request.mask is not None:
            return "it has a mask"
        axis = _axis_of(one)
        steps = [*reversed(self._steps_below(one.variable, axis)), *self._steps_above(one.variable, axis)]
        if not any(isinstance(step.variable.op, NormalizeBy) for step in steps):
            return "its statistics depend on an input, or vary along another axis than that of a product alone"
        bottom, top = steps[0].inner, steps[-1].variable
        last = steps[0].axis == bottom.ndim - 1
        scale, shift = self._values(steps)
        if last and self._is_product(bottom) and self._only_user(bottom) is steps[0].variable:
            x, weights = bottom.inputs
            product = _product(x, self._value(weights) * scale, shift, weights)
            if product is None:
                return _beyond(weights)
            result, sizes = self._without(steps, product)
            return {top: result, **sizes}
        user = self._only_user(top)
        if user is not None and self._is_product(user) and user.inputs[0] is top and self._top_axis(steps) == top.ndim - 1:
            weights = user.inputs[1]
            matrix = self._value(weights)
            rows = np.broadcast_to(scale, matrix.shape[:1])[:, None]
            x, sizes = self._without(steps, bottom)
            product = _product(x, matrix * rows, np.broadcast_to(shift, matrix.shape[:1]) @ matrix, weights)
            return _beyond(weights) if product is None else {user: product, **sizes}
        beside = [bottom] + ([] if user is None else [user])
        if any(self._is_product(neighbour) for neighbour in beside):
            return "its statistics vary along another axis than the product beside it"
        return f"there is no product that it alone uses before it, at {bottom!r}, or that alone uses it after it, at {top!r}"

    def _without(self, steps: Sequence[Affine], result: Variable) -> tuple[Variable, dict[Variable, Variable]]:
        """What took the place of the value that steps start from, reshaped as they do it; what to read sizes off instead."""
        sizes: dict[Variable, Variable] = {}
        for variable, op in [(steps[0].inner, None), *((step.variable, step.variable.op) for step in steps)]:
            if isinstance(op, Reshape | Dimshuffle):
                result = variable.with_inputs((result, *rebuild(variable.inputs[1:], sizes)))
            sizes |= {size: size.with_inputs((result,)) for size in self._sizes.get(variable, ())}
        return result, sizes

    def _only_user(self, variable: Variable) -> Variable | None:
        """The one variable that uses the elements of another; None if there are several, or if it is an output."""
        users = self._users.get(variable, [])
        return users[0] if len(users) == 1 else None

    def _is_product(self, variable: Variable) -> bool:
        """Whether a variable is something times a matrix that depends on no input."""
        plain = isinstance(variable.op, MatMul) and not variable.op.foreign
        return plain and variable.inputs[1] in self._static and variable.inputs[1].ndim == 2

    def _top_axis(self, steps: Sequence[Affine]) -> int | None:
        """The axis of the last step's result that its scale and shift vary along."""
        return _outer_axis(steps[-1].variable, steps[-1].axis)

    def _steps_below(self, variable: Variable, axis: int) -> list[Affine]:
        """The affine steps that lead to a variable, last one first, as far as nothing else uses what they start from."""
        steps: list[Affine] = []
        while (step := self._as_step(variable, axis)) is not None:
            steps.append(step)
            variable, axis = step.inner, step.axis
            if self._only_user(variable) is not step.variable:
                break
        return steps

    def _steps_above(self, variable: Variable, axis: int) -> list[Affine]:
        """The affine steps that follow a variable, as far as nothing else uses it."""
        steps: list[Affine] = []
        while (user := self._only_user(variable)) is not None:
            outer = _outer_axis(user, axis)
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
        inner = _inner_axis(variable, axis)
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
        return variable in self._static and all(size == 1 for size in others)


def _axis_of(one: Normalization) -> int:
    """The axis of a normalized value that its statistics vary along, the last one if they do not vary along any."""
    averaged = one.layer.averaged_axes(one.x)
    varying = [axis for axis in range(one.variable.ndim) if axis not in averaged]
    return varying[0] if len(varying) == 1 else one.variable.ndim - 1


def _inner_axis(variable: Variable, axis: int) -> int | None:
    """The axis of what a step starts from that becomes this axis of its result; None if it does not stay one."""
    x = variable.inputs[0]
    if isinstance(variable.op, Dimshuffle):
        return variable.op.pattern[axis]
    if isinstance(variable.op, Reshape):
        kept = x.ndim and axis == variable.ndim - 1 and variable.type.shape[-1] == x.type.shape[-1] is not None
        return x.ndim - 1 if kept else None
    wide = [one for one in variable.inputs if one.ndim == variable.ndim]
    return axis if wide else None


def _outer_axis(variable: Variable, axis: int) -> int | None:
    """The axis of a step's result that an axis of what it starts from becomes."""
    x = variable.inputs[0]
    if isinstance(variable.op, Dimshuffle):
        return variable.op.pattern.index(axis) if axis in variable.op.pattern else None
    if isinstance(variable.op, Reshape):
        return variable.ndim - 1 if axis == x.ndim - 1 and _inner_axis(variable, variable.ndim - 1) is not None else None
    return axis


def _product(x: Variable, matrix: np.ndarray[Any, Any], bias: Any, weights: Variable) -> Variable | None:
    """x times a folded matrix plus a folded bias; None where the dtype of the weights does not reach them."""
    try:
        own, columns = (
            in_dtype(value, weights.dtype, "a folded value") for value in (matrix, np.broadcast_to(bias, matrix.shape[1:]))
        )
    except InvalidValueError:
        return None
    folded = shared(own, f"{weights.name or 'W'}_folded", borrow=True, tags=(WEIGHT,))
    return MatMul()(x, folded) + shared(columns, "b_folded", borrow=True, tags=(BIAS,))


def _beyond(weights: Variable) -> str:
    """The reason why folded weights cannot be stored."""
    return f"its folded weights or biases are beyond the reach of {weights.dtype}, which the product computes in"
