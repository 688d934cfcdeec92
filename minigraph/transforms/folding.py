"""Inference-mode normalizations folded into the matrix products and convolutions beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from minigraph.core.conversion import shared
from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Input, Variable
from minigraph.core.walks import rebuild
from minigraph.layers.core.application import get_application_call
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import ComputationGraph, Roots
from minigraph.layers.core.roles import BIAS, INPUT, OUTPUT, WEIGHT, Role, has_roles
from minigraph.layers.core.tree import find_layers
from minigraph.layers.normalization.apply_options import Freeze
from minigraph.layers.normalization.normalized import Normalization, find_normalizations
from minigraph.ops.array.shape import Dimshuffle, Reshape, expand_dims
from minigraph.ops.elementwise.arithmetic import Add
from minigraph.ops.reduce.normalization import NormalizeBy
from minigraph.transforms.affine import Affine, Uses, outer_axis
from minigraph.transforms.products import Product, padded, product_above, product_below, spread_out


def fold_batch_normalization(graph: Roots, layers: Layer | Iterable[Layer] | None = None) -> ComputationGraph:
    """The graph with its inference-mode normalizations folded into the products and convolutions before or after them.

    Scale, shift, biases and whatever else is added or multiplied on the way become part of a weight matrix and a bias: new
    shared variables, computed in float64 from the values that the layers have now; the filters of a convolution become one
    matrix, or one for each group. Transposed convolutions take in what comes after them, and convolutions what comes before
    them if they do not pad it. What is frozen in training (`Freeze.STATISTICS`) folds, too. layers: fold only those at or
    below these.

    ValueError, with the reason for each, if one cannot be folded exactly: a normalization in training mode, with a mask, by
    statistics that vary along another axis than the product's, without a product beside it that nothing else uses, or with
    which weights would not be finite in their dtype.

    >>> x = mg.matrix("x", shape=(None, 4))
    >>> network = mg.layers.BatchNormalizedMLP([mg.layers.Rectifier(), None], [4, 8, 2])
    >>> folded = mg.transforms.fold_batch_normalization(network.apply(x))
    >>> [variable.name for variable in folded.shared_variables]
    ['W_folded', 'b_folded', 'W_folded', 'b_folded']
    """
    chosen = None if layers is None else set(find_layers(layers))
    result = ComputationGraph(graph)
    folded = False
    while True:
        folder = _Folder(result)
        found = [one for one in find_normalizations(result.variables) if chosen is None or one.layer in chosen]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            outcomes = {part.variable: folder.fold(part) for one in found for part in one.parts}
        replacements: dict[Variable, Variable] = {}
        for outcome in outcomes.values():
            if not isinstance(outcome, str) and not outcome.keys() & replacements.keys():
                # all at once, so that a value and the variable that its sizes are read from stay the same
                values = rebuild(list(outcome.values()), replacements)
                replacements |= dict(zip(outcome, values, strict=True))
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


class _Folder:
    """The folding of normalizations in one graph."""

    def __init__(self, graph: ComputationGraph) -> None:
        self._uses = Uses(graph)

    def fold(self, one: Normalization) -> dict[Variable, Variable] | str:
        """The replacements that fold a normalization, or the reason why it cannot be folded."""
        acting, by_minibatch = one.layer.acting(one.request, one.is_training)
        if one.is_training and by_minibatch and not acting.freezes(Freeze.STATISTICS):
            return "it is in training mode; apply_population_normalization first, and what comes of it can be folded"
        if one.request.mask is not None:
            return "it has a mask"
        axis = _axis_of(one)
        below, above = self._uses.steps_below(one.variable, axis), self._uses.steps_above(one.variable, axis)
        steps = [*reversed(below), *above]
        if not any(isinstance(step.variable.op, NormalizeBy) for step in steps):
            return "its statistics depend on an input, or vary along another axis than that of a product alone"
        bottom, top, top_axis = steps[0].inner, steps[-1].variable, outer_axis(steps[-1].variable, steps[-1].axis)
        before = product_below(bottom, steps[0].axis)
        if before is not None and self._uses.only_user(bottom) is steps[0].variable and self._is_alone(before):
            return self._into_product_before(steps, before)
        after = None if top_axis is None else product_above(top, top_axis, self._uses.only_user)
        if after is not None and self._is_plain(after):
            return self._into_product_after(steps, after)
        return (
            "there is no product or convolution beside it that it can become part of: "
            f"before it is {self._obstacle_below(steps, one)}, and after it {self._obstacle_above(steps, one)}"
        )

    def _into_product_before(self, steps: Sequence[Affine], product: Product) -> dict[Variable, Variable] | str:
        """The replacements that make steps a part of the product that they start from, or the reason why there are none."""
        scale, shift = self._uses.values(steps)
        bottom, axis = steps[0].inner, steps[0].axis
        matrix = self._uses.value(product.matrix) * product.along_columns(scale)
        folded = _folded(product, matrix, np.broadcast_to(shift, bottom.type.shape[axis] or 0))
        if isinstance(folded, str):
            return folded
        weights, bias = folded
        (filtered,) = rebuild([bottom], {product.variable: product.over(product.variable.inputs[0], weights)})
        others = list(range(1, bottom.ndim - axis))
        result, sizes = self._without(steps, filtered + (expand_dims(bias, others) if others else bias))
        return {steps[-1].variable: result, **sizes}

    def _into_product_after(self, steps: Sequence[Affine], product: Product) -> dict[Variable, Variable] | str:
        """The replacements that make steps a part of the product that takes their result, or the reason why there are none."""
        scale, shift = self._uses.values(steps)
        matrix = self._uses.value(product.matrix)
        terms = product.summed(product.along_rows(shift) * matrix)
        folded = _folded(product, product.along_rows(scale) * matrix, terms)
        if isinstance(folded, str):
            return folded
        weights, bias = folded
        x, sizes = self._without(steps, steps[0].inner)
        known = {steps[-1].variable: x, **sizes}
        for variable in product.path[1:-1]:
            (instead,) = rebuild([variable], known)
            known |= {variable: instead}
            sizes |= {size: size.with_inputs((instead,)) for size in self._uses.sizes.get(variable, ())}
            known |= sizes
        (rows,) = rebuild([product.variable.inputs[0]], known)
        return {product.variable: product.added(product.over(rows, weights), bias), **sizes}

    def _without(self, steps: Sequence[Affine], result: Variable) -> tuple[Variable, dict[Variable, Variable]]:
        """The value in place of the one that steps start from, reshaped as they do; and new variables that read its sizes."""
        sizes: dict[Variable, Variable] = {}
        for variable, op in [(steps[0].inner, None), *((step.variable, step.variable.op) for step in steps)]:
            if isinstance(op, Reshape | Dimshuffle):
                result = variable.with_inputs((result, *rebuild(variable.inputs[1:], sizes)))
            sizes |= {size: size.with_inputs((result,)) for size in self._uses.sizes.get(variable, ())}
        return result, sizes

    def _is_plain(self, product: Product) -> bool:
        """Whether the weights of a product depend on no input, and no op in it is a user's own."""
        return product.matrix in self._uses.static and not any(one.op.foreign for one in product.path[1:])

    def _is_alone(self, product: Product) -> bool:
        """Whether a product below may be changed: its weights depend on no input, and nothing else uses its result."""
        private = all(self._uses.only_user(inner) is outer for outer, inner in pairwise(product.path))
        return private and self._is_plain(product) and not product.path[0].op.foreign

    def _obstacle_below(self, steps: Sequence[Affine], one: Normalization) -> str:
        """The reason why steps cannot become part of the value that they start from."""
        bottom, axis = steps[0].inner, steps[0].axis
        found = _layer_of([bottom, *(step.variable for step in steps)], OUTPUT, one)
        name = found or f"what {bottom.origin} computes"
        if isinstance(bottom.op, Input):
            return f"the input {bottom.name or repr(bottom)}"
        product = product_below(bottom, axis)
        if product is not None and product.matrix not in self._uses.static:
            return f"{name}, whose weights depend on an input"
        if product is not None or self._uses.only_user(bottom) is not steps[0].variable:
            return f"{name}, which something else uses, too"
        if isinstance(bottom.op, Add) and any(part in self._uses.static for part in bottom.inputs):
            return f"{name}, which ends with adding what varies along other axes than the statistics"
        if any(product_below(bottom, other) for other in range(bottom.ndim)):
            return f"{name}, a product along another axis than its statistics"
        return f"{name}, which is no product"

    def _obstacle_above(self, steps: Sequence[Affine], one: Normalization) -> str:
        """The reason why steps cannot become part of the op that takes their result."""
        top, axis = steps[-1].variable, outer_axis(steps[-1].variable, steps[-1].axis)
        users = self._uses.users.get(top, [])
        if len(users) != 1 or users[0] is None:
            return "several others that use it" if len(users) > 1 else "nothing, since it is an output"
        name = _layer_of([users[0], *(step.variable for step in reversed(steps))], INPUT, one)
        name = name or f"what {users[0].origin} computes"
        if spread_out(top, self._uses.only_user):
            return f"{name}, a transposed convolution, to whose edges fewer terms are added than elsewhere"
        if axis is not None and padded(top, axis, self._uses.only_user):
            return f"{name}, a convolution with padding, whose zeros are not normalized"
        product = next((it for k in range(top.ndim) if (it := product_above(top, k, self._uses.only_user))), None)
        if product is None:
            return f"{name}, which is no product"
        if not self._is_plain(product):
            return f"{name}, whose weights depend on an input"
        return f"{name}, a product along another axis than its statistics"


def _axis_of(one: Normalization) -> int:
    """The axis of a normalized value that its statistics vary along, the last one if they do not vary along any."""
    averaged = one.layer.averaged_axes(one.x)
    varying = [axis for axis in range(one.variable.ndim) if axis not in averaged]
    return varying[0] if len(varying) == 1 else one.variable.ndim - 1


def _folded(product: Product, matrix: np.ndarray[Any, Any], bias: Any) -> tuple[Variable, Variable] | str:
    """The new weights and bias of a product as shared variables, or the reason why they cannot be."""
    old = product.matrix
    new, columns = matrix.astype(old.dtype), np.array(bias, old.dtype)
    if not (np.isfinite(new).all() and np.isfinite(columns).all()):
        return f"its folded weights or biases are not finite, or beyond the reach of {old.dtype}, which the product computes in"
    weights = shared(new, f"{old.name or 'W'}_folded", borrow=True, tags=(WEIGHT,))
    return weights, shared(columns, "b_folded", borrow=True, tags=(BIAS,))


def _layer_of(variables: Iterable[Variable], role: type[Role], one: Normalization) -> str | None:
    """The layer that the first of some variables is an input or an output of, other than the normalization's own."""
    for variable in variables:
        call = get_application_call(variable)
        if call is not None and has_roles(variable, [role]):
            return None if call.layer is one.layer else repr(call.layer)
    return None
