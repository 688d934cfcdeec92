"""Switching graphs between training and inference, the pairs that a training graph holds, and rules over pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Item, Variable, shared, transform
from minigraph.layers.base import get_application_call
from minigraph.layers.computation_graph import ComputationGraph
from minigraph.layers.normalization import BatchNormalization
from minigraph.ops.comparison import eq, isfinite, where
from minigraph.ops.elementwise import cast
from minigraph.ops.normalization import FiniteOr, NormalizeBy, WithStatistics
from minigraph.ops.shape import reshape
from minigraph.origin import carry_origin

Pairs = list[tuple[Variable, Variable]]
"""(population statistic, estimate), or (shared variable, new value)."""

Roots = ComputationGraph | Variable | Sequence[Variable]


def apply_batch_normalization(graph: Roots) -> ComputationGraph:
    """The graph with every inference-mode application of a `BatchNormalization` turned into a training-mode one.

    The result equals, node for node, what building under `batch_normalization(...)` would have given; applications in
    training mode already stay as they are. Switch a cost before it is differentiated: ValueError for a graph that holds
    gradients through what is switched.
    """
    return _switched(graph, NormalizeBy, lambda layer, x, call: layer.normalize_by_minibatch(x, call))


def apply_population_normalization(graph: Roots) -> ComputationGraph:
    """The graph with every training-mode application turned into an inference-mode one: the inverse of
    `apply_batch_normalization`, with the same limits.
    """
    return _switched(graph, WithStatistics, lambda layer, x, call: layer.normalize_by_population(x, call))


def _outputs_of(graph: Roots) -> list[Variable]:
    """The outputs of a computation graph, or of what one can be made of."""
    return (graph if isinstance(graph, ComputationGraph) else ComputationGraph(graph)).outputs


def _switched(
    graph: Roots, kind: type[NormalizeBy] | type[WithStatistics], build: Callable[[BatchNormalization, Variable, Any], Variable]
) -> ComputationGraph:
    """The graph with the applications computed by ops of one kind built anew, first ones first."""
    replaced: list[Variable] = []

    def switched(variable: Variable) -> Variable:
        call = get_application_call(variable)
        if not isinstance(variable.op, kind) or call is None or not isinstance(call.layer, BatchNormalization):
            return variable
        replaced.append(variable)
        x = variable.inputs[1] if kind is WithStatistics else variable.inputs[0]
        with carry_origin(variable.origin):
            return build(call.layer, x, call)

    result = ComputationGraph(transform(_outputs_of(graph), switched))
    _refuse_gradients(result, replaced)
    return result


def _refuse_gradients(graph: ComputationGraph, replaced: Sequence[Variable]) -> None:
    """ValueError if something still computes with what the replaced applications normalized by, as gradients of them do."""
    stored = {one for variable in replaced if isinstance(variable.op, NormalizeBy) for one in variable.inputs[1:]}
    estimated = {variable.inputs[0].inputs[0] for variable in replaced if isinstance(variable.inputs[0].op, Item)}
    for variable in graph.variables:
        still_normalized = variable.op == Item(0) and variable.inputs[0] in estimated
        if still_normalized or any(one in stored for one in variable.inputs):
            raise InvalidValueError(
                f"{variable!r} ({variable.origin}) computes with the statistics of an application in its former mode, as a "
                "gradient does: switch the cost first, and differentiate then"
            )


def get_batch_normalization_updates(graph: Roots, allow_duplicates: bool = False) -> Pairs:
    """The pairs (population statistic, minibatch estimate) of a training-mode graph, in graph order.

    They are a function of this very graph, whatever was replaced in it. Each estimate has the type of its population variable.
    Where an estimate is not finite, as for an empty batch or one with NaN, it is the population's own value. Given to
    `function` as updates the pairs overwrite the population; rules such as `moving_average` make gentler updates of them.

    ValueError if there is no training-mode application, or if one layer has two, unless `allow_duplicates`.
    """
    pairs: Pairs = []
    seen: dict[BatchNormalization, Variable] = {}
    for variable in ComputationGraph(_outputs_of(graph)).variables:
        call = get_application_call(variable)
        if not isinstance(variable.op, WithStatistics) or call is None or not isinstance(call.layer, BatchNormalization):
            continue
        if call.layer in seen and not allow_duplicates:
            raise InvalidValueError(
                f"{call.layer!r} is applied twice in training mode ({seen[call.layer].origin} and {variable.origin}): pass "
                "allow_duplicates=True and combine the pairs"
            )
        seen[call.layer] = variable
        for population, estimate in zip(call.layer.population_statistics, variable.inputs[2:], strict=True):
            with carry_origin(variable.origin):
                aligned = reshape(cast(estimate, population.dtype), population.type.shape)
                pairs.append((population, FiniteOr()(aligned, population)))
    if not pairs:
        raise InvalidValueError("no training mode BatchNormalization applications found in graph")
    return pairs


# -- rules over pairs ------------------------------------------------------------------------------------------------


def moving_average(pairs: Iterable[tuple[Variable, Variable]], new_weight: Any = 0.1) -> Pairs:
    """Updates to population + new_weight * (estimate - population): an exponential moving average.

    `new_weight` is the weight of the new batch: a number in (0, 1], or a scalar variable. ValueError outside.
    """
    if not isinstance(new_weight, Variable) and not 0 < new_weight <= 1:
        raise InvalidValueError(f"the weight of the new batch must be above 0 and at most 1, not {new_weight!r}")
    return [_towards(population, estimate, new_weight) for population, estimate in _checked(pairs)]


def cumulative_average(pairs: Iterable[tuple[Variable, Variable]]) -> Pairs:
    """Updates to the mean of all estimates since the first call: the n-th batch has weight 1 / n.

    The counts are shared variables made here, one for each feature; they start at 0, and do not count a batch that left no
    finite estimate of the feature.
    """
    updates: Pairs = []
    for population, estimate in _checked(pairs):
        count = shared(np.zeros(population.get_value(borrow=True).shape, np.int64), name=f"{population.name}_count")
        updates.append(_towards(population, estimate, 1 / cast(count + 1, population.dtype)))
        counted = isfinite(estimate.inputs[0] if isinstance(estimate.op, FiniteOr) else estimate)
        updates.append((count, count + cast(counted, "int64")))
    return updates


def _checked(pairs: Iterable[tuple[Variable, Variable]]) -> Pairs:
    """The pairs as a list; ValueError if a population variable occurs twice."""
    listed = [tuple(pair) for pair in pairs]
    for pair in listed:
        if len(pair) != 2 or not all(isinstance(one, Variable) for one in pair):
            raise InvalidTypeError(f"expected pairs (population, estimate), not {pair!r}")
    populations = [population for population, _ in listed]
    if len(set(populations)) != len(populations):
        raise InvalidValueError("a population statistic has two estimates; combine them into one")
    return listed  # type: ignore[return-value]


def _towards(population: Variable, estimate: Variable, weight: Any) -> tuple[Variable, Variable]:
    """The update of a population statistic that moves it towards an estimate."""
    scale = cast(weight, population.dtype)
    # in this form a population that equals the estimate stays what it is, and a weight of 1 overwrites, to the bit
    return population, where(eq(scale, 1), estimate, population + (estimate - population) * scale)
