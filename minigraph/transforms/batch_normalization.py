"""Switching graphs between training and inference, and the pairs that a training graph holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from operator import itemgetter

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.origin import carry_origin
from minigraph.core.walks import transform
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import ComputationGraph, Roots
from minigraph.layers.core.settings import flag
from minigraph.layers.normalization.conventions import Batch, pooled
from minigraph.layers.normalization.normalized import Normalization, find_normalizations, normalization_of
from minigraph.layers.normalization.population import INFERENCE_IS_MEANT
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.array.arranging import concatenate, stack
from minigraph.ops.array.shape import broadcast_like, shape
from minigraph.ops.elementwise.comparison import isfinite, where
from minigraph.ops.reduce.normalization import FiniteOr, FlowedThrough


def apply_batch_normalization(graph: Roots) -> ComputationGraph:
    """The graph with every inference-mode application of a normalizing layer turned into a training-mode one.

    The result equals, node for node, what building under `batch_normalization(...)` would have given; applications in
    training mode already do not change. Switch a cost before it is differentiated: ValueError for a graph that holds
    gradients through what is switched.
    """
    return switched(graph, training=True)


def apply_population_normalization(graph: Roots) -> ComputationGraph:
    """The graph with every training-mode application turned into an inference-mode one: the inverse of
    `apply_batch_normalization`, with the same limits.
    """
    return switched(graph, training=False)


def normalizations_of(graph: Roots) -> list[Normalization]:
    """The applications of normalizing layers in a graph, in graph order."""
    return find_normalizations(ComputationGraph(graph).variables)


def switched(graph: Roots, training: bool) -> ComputationGraph:
    """The graph with the applications that are in the other mode built anew, first ones first."""

    def build(one: Normalization) -> Variable | None:
        if one.is_training == training:
            return None
        built = one.layer.normalize(one.x, one.call, one.request, training)
        if training:
            return built
        tags = (*built.tags, INFERENCE_IS_MEANT)
        return Variable(built.op, built.inputs, built.type, built.name, tags, built.origin)

    return rebuilt(graph, build)


def rebuilt(
    graph: Roots,
    build: Callable[[Normalization], Variable | None],
    otherwise: Callable[[Variable], Variable] = lambda variable: variable,
) -> ComputationGraph:
    """The graph with each application of a normalizing layer replaced by the result of `build`, unless this is None, and any
    other variable by that of `otherwise`.

    ValueError if the graph holds a gradient through something that is replaced, which would be that of the former graph.
    """
    results: set[Variable] = set()

    def step(variable: Variable) -> Variable:
        one = normalization_of(variable)
        with carry_origin(variable.origin):
            built = otherwise(variable) if one is None else build(one)
        if built is not None and built is not variable:
            results.add(built)
        if isinstance(variable.op, FlowedThrough) and variable.inputs[1] in results:
            raise InvalidValueError(
                f"{variable!r} ({variable.origin}) is a gradient through {variable.inputs[1]!r}, which is to be replaced: "
                "switch the cost first, and differentiate then"
            )
        return variable if built is None else built

    return ComputationGraph(transform(ComputationGraph(graph).outputs, step))


# -- pairs -----------------------------------------------------------------------------------------------------------


class Duplicates(Enum):
    """The ways to treat the estimates of a layer that is applied several times in one graph."""

    ERROR = "error"
    """It is an error."""
    MEAN = "mean"
    """Their mean counts, of those that are finite."""
    POOLED = "pooled"
    """The statistics of all minibatches together, by the law of total variance."""
    SEQUENTIAL = "sequential"
    """Each has a pair of its own; rules apply them one after another, in graph order."""


def get_batch_normalization_updates(
    graph: Roots, allow_duplicates: bool = False, *, duplicates: Duplicates = Duplicates.ERROR, allow_nonfinite: bool = False
) -> Pairs:
    """The pairs (population statistic, minibatch estimate) of a training-mode graph, in graph order.

    They are a function of this very graph, whatever was replaced in it. Each estimate has the type of its population variable.
    Where an estimate is not finite, as for an empty batch or one with NaN, it is the population's own value, unless
    `allow_nonfinite`. Given to `function` as updates the pairs overwrite the population; rules such as `moving_average` make
    gentler updates of them. Frozen applications have no pairs; those of one layer at different known indices share one.

    ValueError if there is no training-mode application, or if one layer has two, unless `duplicates` says what to do with
    them; `allow_duplicates=True` is short for `Duplicates.SEQUENTIAL`.
    """
    if not isinstance(duplicates, Duplicates):
        raise InvalidTypeError(f"duplicates must be a member of Duplicates, not {duplicates!r}")
    if flag(allow_duplicates, "allow_duplicates") and duplicates is Duplicates.ERROR:
        duplicates = Duplicates.SEQUENTIAL
    nonfinite = flag(allow_nonfinite, "allow_nonfinite")
    found = [one for one in normalizations_of(graph) if one.is_training]
    if not found:
        raise InvalidValueError("no training mode BatchNormalization applications found in graph")
    by_layer: dict[Layer, list[Normalization]] = {}
    for one in found:
        if one.estimates:
            by_layer.setdefault(one.layer, []).append(one)
    pairs: Pairs = []
    for applications in by_layer.values():
        with carry_origin(applications[0].variable.origin):
            pairs += _pairs_of(applications, duplicates, nonfinite)
    return pairs


def _pairs_of(applications: Sequence[Normalization], duplicates: Duplicates, allow_nonfinite: bool) -> Pairs:
    """The pairs of one layer's applications."""
    layer = applications[0].layer
    looping = next((one for one in applications if one.loops and layer.n_iter is None), None)
    if looping and duplicates is Duplicates.ERROR:
        raise InvalidValueError(
            f"{layer!r} is applied at every step of a loop ({looping.variable.origin}): give the layer n_iter, for statistics "
            "of every step, or say what shall become of its estimates, for instance duplicates=Duplicates.POOLED"
        )
    if looping and duplicates is Duplicates.SEQUENTIAL:
        batches = [batch for one in applications for batch in _step_by_step(one)]
        return [pair for batch in batches for pair in layer.population.pairs_of(batch, allow_nonfinite)]
    if looping and duplicates is Duplicates.MEAN:
        return _mean_of_steps(applications, allow_nonfinite)
    same_row = _by_row(applications)
    repeated = next((group for group in same_row if len(group) > 1), None)
    if repeated and duplicates is Duplicates.ERROR:
        first, second, *_ = repeated
        raise InvalidValueError(
            f"{layer!r} is applied twice in training mode ({first.variable.origin} and {second.variable.origin}): say what "
            "shall become of its estimates, for instance duplicates=Duplicates.POOLED, or allow_duplicates=True, by which each "
            "has a pair of its own"
        )
    if repeated and duplicates is Duplicates.SEQUENTIAL:
        return [pair for one in applications for pair in layer.population.pairs_of(one.aligned, allow_nonfinite)]
    pairs: Pairs = []
    for group in same_row:
        pairs = _pairs_together(group, duplicates, allow_nonfinite, [estimate for _, estimate in pairs])
    return pairs


def _step_by_step(one: Normalization) -> list[Batch]:
    """The statistics of each step of the loop that an application stands in, which must be known in number; or its own."""
    if not one.loops:
        return [one.aligned]
    steps = one.steps
    known = shape(steps.mean)[0]
    if not isinstance(known, int):
        raise InvalidValueError(
            f"{one.layer!r} ({one.variable.origin}) is applied in a loop of unknown length, so that its estimates cannot "
            "follow one another: give its sequences a known number of rows, or use duplicates=Duplicates.POOLED or MEAN"
        )
    return [steps.each(itemgetter(k)) for k in range(known)]


def _mean_of_steps(applications: Sequence[Normalization], allow_nonfinite: bool) -> Pairs:
    """A pair for each statistic: the mean over all applications and steps, of finite estimates unless `allow_nonfinite`."""
    layer = applications[0].layer
    batches = [one.steps if one.loops else _as_one_step(one.aligned) for one in applications]
    stacks = [layer.convention.estimate(batch, layer.epsilon) for batch in batches]
    pairs: Pairs = []
    for population, *parts in zip(layer.population_statistics, *stacks, strict=True):
        raw = concatenate(parts)
        value = (raw.mean(0) if allow_nonfinite else _mean_of_finite(raw)).astype(population.dtype)
        pairs.append((population, value if allow_nonfinite else FiniteOr()(value, population)))
    return pairs


def _as_one_step(batch: Batch) -> Batch:
    """The statistics of a minibatch as those of a loop of one step."""
    variance = None if batch.variance is None else batch.variance[None]
    return Batch(batch.mean[None], variance, broadcast_like(batch.count, batch.mean)[None])


def _by_row(applications: Sequence[Normalization]) -> list[list[Normalization]]:
    """The applications grouped by the population that they estimate; all in one group unless each is known."""
    rows = [one.request.row(one.layer.n_iter) for one in applications] if len(applications) > 1 else []
    if not rows or not all(isinstance(row, int) for row in rows):
        return [list(applications)]
    return [[one for one, its in zip(applications, rows, strict=True) if its == row] for row in dict.fromkeys(rows)]


def _pairs_together(
    group: Sequence[Normalization], duplicates: Duplicates, allow_nonfinite: bool, before: Sequence[Variable]
) -> Pairs:
    """A pair for each statistic that a group of applications estimates; `before` stands where there is no estimate."""
    first, layer, population = group[0], group[0].layer, group[0].layer.population
    if len(group) == 1:
        return population.pairs_of(first.aligned, allow_nonfinite, before)
    if duplicates is Duplicates.POOLED:
        if len({(one.request.row(layer.n_iter), one.request.freeze) for one in group}) > 1:
            raise InvalidValueError(f"{layer!r}: only applications with one index and one way of freezing can be pooled")
        batch = _pooled([population.in_a_row(one.batch) for one in group])
        return population.pairs(batch, first.request, allow_nonfinite, before)
    if allow_nonfinite and not isinstance(first.request.row(layer.n_iter), int):
        raise InvalidValueError(f"{layer!r}: estimates for indices that are not known have no mean with allow_nonfinite")
    each = [population.pairs_of(one.aligned, allow_nonfinite, before) for one in group]
    return [
        (population, _mean_of([own[position][1] for own in each], allow_nonfinite))
        for position, (population, _) in enumerate(each[0])
    ]


def _mean_of(estimates: Sequence[Variable], allow_nonfinite: bool) -> Variable:
    """The mean of several estimates of one statistic: of all of them, or of those that are finite, if any."""
    if allow_nonfinite:
        return stack(estimates).mean(0)
    return FiniteOr()(_mean_of_finite(stack([one.inputs[0] for one in estimates])), estimates[0].inputs[1])


def _mean_of_finite(values: Variable) -> Variable:
    """The mean over the first axis of the values that are finite."""
    counted = isfinite(values)
    return where(counted, values, 0).sum(0) / counted.astype("int64").sum(0).astype(values.dtype)


def _pooled(batches: Sequence[Batch]) -> Batch:
    """The statistics of several minibatches together."""
    means = stack([one.mean for one in batches])
    variances = None if batches[0].variance is None else stack([one.variance for one in batches])
    counts = stack([broadcast_like(one.count, one.mean) for one in batches])
    return pooled(Batch(means, variances, counts))
