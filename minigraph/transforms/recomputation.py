"""The statistics of a whole data set in place of averages, and the way back to where a population starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigraph.core.conversion import shared
from minigraph.core.errors import InvalidTypeError, InvalidValueError, MissingExtraError
from minigraph.core.graph import Array, Input, Variable, toposort
from minigraph.core.state import assign, snapshot
from minigraph.core.walks import rebuild
from minigraph.functions.function import Function, function
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import ComputationGraph, Roots
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_STATISTICS, is_any
from minigraph.layers.core.settings import flag
from minigraph.layers.core.stateful import unlearned
from minigraph.layers.core.tree import find_layers
from minigraph.layers.normalization.conventions import Batch
from minigraph.layers.normalization.normalized import Normalization
from minigraph.layers.normalization.population import PopulationNormalization
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.elementwise.comparison import eq, isfinite, or_
from minigraph.transforms.accumulation import StatisticsAccumulator
from minigraph.transforms.averages import raw_estimate
from minigraph.transforms.batch_normalization import normalizations_of, rebuilt, switched

Batches = Iterable[Any] | Callable[[], Iterable[Any]]
"""An iterable of minibatches, or a function that returns one; each is an array, a sequence of arrays, or a dict by name."""


def recompute_population_statistics(
    graph: Roots,
    batches: Batches,
    *,
    inputs: Sequence[Variable] | None = None,
    layer_by_layer: bool = False,
    progress: bool = False,
    backend: str | None = None,
) -> dict[Variable, Array]:
    """Set the population of every layer in a graph to the statistics of a data set; return the new values.

    All elements weigh equally, in however many minibatches of whatever sizes they come, and the variance contains that between
    minibatches. They are merged in float64. Frozen applications do not change.

    graph: a cost or output, in either mode; without gradients. batches: see `Batches`. inputs: the variables that a minibatch
    has arrays for, by default those that the statistics depend on. layer_by_layer: take the statistics of a layer only when
    those before it normalize by their new population, as Ioffe and Szegedy (2015, algorithm 2) do; the data are then gone
    through once for each layer on the longest path, so that `batches` must be a list, or a function that returns an iterator.
    Otherwise all layers see what they see in training. progress: show a progress bar (needs the extra `train`). backend: as for
    `minigraph.function`.

    ValueError for a minibatch that is not finite in some layer, or if there is nothing to recompute. Whatever fails, nothing
    has changed.
    """
    in_turn, shows_progress = flag(layer_by_layer, "layer_by_layer"), flag(progress, "progress")
    training = switched(graph, training=True)
    applications = [one for one in normalizations_of(training) if one.estimates and one.population]
    if not applications:
        raise InvalidValueError("the graph has no normalization whose population could be recomputed")
    layers = list(dict.fromkeys(one.layer for one in applications))
    passes = _levels(training, applications) if in_turn else [layers]
    if len(passes) > 1 and isinstance(batches, Iterator):
        raise InvalidTypeError(
            f"the data are gone through {len(passes)} times: give a list, or a function that returns an iterator"
        )
    found: dict[Variable, Array] = {}
    for number, level in enumerate(passes):
        title = f"statistics, pass {number + 1} of {len(passes)}" if shows_progress else None
        found |= _statistics(_with_population(training, found), level, batches, inputs, title, backend)
    assign([population.cell for population in found], list(found.values()))
    return {population: value.copy() for population, value in found.items()}


def _levels(graph: ComputationGraph, applications: Sequence[Normalization]) -> list[list[PopulationNormalization]]:
    """The layers in groups, each of which needs the statistics of none but groups before it."""
    own = {one.variable: one.layer for one in applications}
    depth: dict[Variable, int] = {}
    level: dict[PopulationNormalization, int] = {}
    for variable in graph.variables:
        above = max((depth[one] for one in variable.inputs), default=0)
        if variable in own:
            level[own[variable]] = max(level.get(own[variable], 0), above)
            above += 1
        depth[variable] = above
    return [[layer for layer in level if level[layer] == one] for one in sorted(set(level.values()))]


def _with_population(graph: ComputationGraph, values: Mapping[Variable, Array]) -> ComputationGraph:
    """The graph in which the layers whose population is known normalize by it, though their own variables are untouched."""

    def known(one: Normalization) -> Variable | None:
        if not set(one.layer.population_statistics) & set(values):
            return None
        return one.layer.normalize(one.x, one.call, one.request, in_training=False)

    outputs = rebuilt(graph, known).outputs
    return ComputationGraph(rebuild(outputs, {old: shared(value, old.name) for old, value in values.items()}))


def _statistics(
    graph: ComputationGraph,
    layers: Sequence[PopulationNormalization],
    batches: Batches,
    inputs: Sequence[Variable] | None,
    title: str | None,
    backend: str | None,
) -> dict[Variable, Array]:
    """The new population of some layers, whose applications in the graph are in training mode."""
    accumulator = StatisticsAccumulator(graph, layers)
    finite = [_is_finite(one.batch) for one in accumulator.applications]
    see = seeing(graph, finite, accumulator.updates, inputs, backend)
    count = 0
    with only_for_now([target for target, _ in see.updates]):
        for count, batch in enumerate(_shown(batches, title), start=1):
            for one, fine in zip(accumulator.applications, call_on(see, batch), strict=True):
                if not fine:
                    raise InvalidValueError(
                        f"minibatch {count} leaves statistics of {one.layer!r} that are not finite; nothing was changed"
                    )
        if not count:
            raise InvalidValueError("there is no minibatch to recompute the statistics from; nothing was changed")
        raw = function([], [raw_estimate(estimate) for _, estimate in accumulator.pairs], backend="numpy")()
    estimates = dict(zip([population for population, _ in accumulator.pairs], raw, strict=True))
    found: dict[Variable, Array] = {}
    for layer in layers:
        own = layer.population_statistics
        settled = layer.convention.settled([estimates[one] for one in own], count)
        for population, value in zip(own, settled, strict=True):
            known = np.where(np.isfinite(value), value, population.get_value(borrow=True))  # the old one where none was seen
            found[population] = np.asarray(known, population.dtype)
        if layer.count is not None:
            found[layer.count] = np.full_like(layer.count.get_value(borrow=True), count)
    return found


def seeing(
    graph: ComputationGraph, outputs: list[Variable], updates: Pairs, inputs: Sequence[Variable] | None, backend: str | None
) -> Function:
    """A function from minibatches for `inputs` to `outputs`, on a backend, in which the normalizations of a graph have no other
    updates than `updates`.
    """
    needed = [one for one in toposort([value for _, value in updates]) if isinstance(one.op, Input)]
    kept = [one for layer in dict.fromkeys(one.layer for one in normalizations_of(graph)) for one in unlearned(layer)]
    wanted = needed if inputs is None else list(inputs)
    return function(wanted, outputs, updates, no_default_updates=kept, on_unused_input="ignore", backend=backend)


@contextmanager
def only_for_now(variables: Sequence[Variable]) -> Iterator[None]:
    """Give shared variables, such as those of random streams, back their values after the block."""
    cells = [variable.cell for variable in variables]
    before = snapshot(cells)
    try:
        yield
    finally:
        assign(cells, before)


def _is_finite(batch: Batch) -> Variable:
    """Whether all statistics of a minibatch are finite, except those of no elements at all."""
    known = isfinite(batch.mean if batch.variance is None else batch.mean + batch.variance)
    return or_(known, eq(batch.count, 0)).all()


def call_on(see: Function, batch: Any) -> Any:
    """The results of a function for a minibatch."""
    if isinstance(batch, Mapping):
        return see(**batch)
    return see(*batch) if isinstance(batch, list | tuple) else see(batch)


def _shown(batches: Batches, title: str | None) -> Iterable[Any]:
    """The minibatches, with a progress bar if there is a title."""
    given = batches() if callable(batches) else batches
    if title is None:
        return given
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise MissingExtraError("a progress bar needs tqdm; install the extra 'train'") from None
    shown: Iterable[Any] = tqdm(given, desc=title, disable=None, leave=False)
    return shown


def reset_population_statistics(tops: Layer | Iterable[Layer]) -> None:
    """Set the population of every layer at or below `tops` to its start, and counts of minibatches and of steps to 0."""
    cells, values = [], []
    for layer in find_layers(tops, lambda layer: isinstance(layer, PopulationNormalization) and layer.allocated):
        for name, variable in layer.own_variables.items():
            if is_any(layer.roles_of_own(name), BATCH_NORM_POPULATION_STATISTICS):
                cells.append(variable.cell)
                values.append(layer.start_of(name))
    assign(cells, values)
