"""Batch normalization as GoMLX has it: a layer whose arguments are those of its builder, `update_averages`, `reset_weights`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.state import assign, snapshot
from minigraph.dialects.base import TrainableNormalization, as_weight
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import ComputationGraph, Roots
from minigraph.layers.core.initialization import Constant
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_WEIGHT
from minigraph.layers.core.settings import Setting, flag
from minigraph.layers.core.tree import find_layers
from minigraph.layers.normalization.apply_options import Freeze
from minigraph.layers.normalization.conventions import Convention, Variance
from minigraph.layers.normalization.normalized import Normalization
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.reduce.normalization import normalize_by
from minigraph.transforms.averages import gomlx_average
from minigraph.transforms.batch_normalization import normalizations_of, rebuilt, switched
from minigraph.transforms.recomputation import call_on, only_for_now, seeing

GOMLX = Convention("GoMLX", "scale", "offset", "mean", "variance", Variance(), 1e-3, "avg_weight", counts_features=True)


class BatchNormalization(TrainableNormalization):
    """GoMLX' layer: the n-th minibatch weighs 1 - min(momentum, 1 - 1 / n), where `avg_weight` counts for each feature.

    feature_axis: the axis that is *not* averaged over; negative counts from the end, several are allowed. center, scale:
    whether an offset and a scale are learned. frozen_averages: training uses the stored statistics and keeps them.
    trainable=False: nothing changes, and training is inference; it can also be set later, for graphs that are built from then
    on. epsilon: added to the variance.

    >>> layer = mg.dialects.gomlx.BatchNormalization()
    >>> layer.apply(mg.matrix("x", shape=(None, 3))).type.shape, layer.listed()
    ((None, 3), ['scale', 'offset', 'mean', 'variance', 'avg_weight'])
    """

    momentum = Setting(as_weight)

    def __init__(
        self,
        feature_axis: int | Sequence[int] = -1,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        frozen_averages: bool = False,
        trainable: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            GOMLX,
            epsilon,
            kept_axes=feature_axis,
            learn_scale=flag(scale, "scale"),
            learn_shift=flag(center, "center"),
            freeze=Freeze.STATISTICS if flag(frozen_averages, "frozen_averages") else Freeze.NOTHING,
            trainable=trainable,
            **options,
        )
        self.momentum = momentum

    def allocate_parameters(self) -> None:
        super().allocate_parameters()
        self.add_parameter("avg_weight", self.parameter_shape(), Constant(0.0), BATCH_NORM_POPULATION_WEIGHT)

    def rule(self, pairs: Pairs) -> Pairs:
        return gomlx_average(pairs, self.momentum, self.own_variables["avg_weight"])


def reset_weights(*tops: Layer) -> None:
    """Set the counts of minibatches of all layers at or below `tops` to 0, so that the next one overwrites the averages."""
    layers = find_layers(tops, lambda layer: isinstance(layer, BatchNormalization) and layer.allocated)
    cells = [layer.own_variables["avg_weight"].cell for layer in layers]
    assign(cells, [np.zeros_like(one) for one in snapshot(cells)])


def update_averages(
    graph: Roots,
    batches: Sequence[Any] | Callable[[], Iterable[Any]] | None,
    *,
    inputs: Sequence[Variable] | None = None,
    backend: str | None = None,
) -> bool:
    """Forget the averages of the layers in a graph, and take them anew over a data set, in two passes as GoMLX does.

    In the first pass every layer normalizes by the minibatch, in the second by its averages as they just became. Both passes
    go on with one average, so that with `momentum` below 1 late minibatches weigh more in a long data set; in those of
    `minigraph.transforms.recompute_population_statistics` all elements weigh equally. If anything fails, nothing has changed.

    inputs, backend: as for `minigraph.transforms.recompute_population_statistics`.

    Returns whether averages were updated: not where the graph has no such layer, or `batches` is None.
    """
    training = switched(graph, training=True)
    applications = [one for one in normalizations_of(training) if isinstance(one.layer, BatchNormalization) and one.estimates]
    layers = dict.fromkeys(one.layer for one in applications)
    if not layers or batches is None:
        return False
    if isinstance(batches, Iterator):
        raise InvalidTypeError("the data are gone through twice: give a list, or a function that returns an iterator")
    cells = [one.cell for layer in layers for one in (*layer.population_statistics, layer.own_variables["avg_weight"])]
    before = snapshot(cells)
    try:
        reset_weights(*layers)
        for by_averages in (False, True):
            updates = _averaging(training, by_averages)
            see = seeing(training, [], updates, inputs, backend)
            seen = False
            with only_for_now([target for target, _ in see.updates if target.cell not in cells]):
                for batch in batches() if callable(batches) else batches:
                    call_on(see, batch)
                    seen = True
            if not seen:
                raise InvalidValueError("there is no minibatch to take averages of; nothing was changed")
    except BaseException:
        assign(cells, before)
        raise
    return True


def _averaging(graph: ComputationGraph, by_averages: bool) -> Pairs:
    """The updates of all averages in a training-mode graph, in which layers may normalize by the averages after the update."""
    updates: Pairs = []

    def averaged(one: Normalization) -> Variable | None:
        layer = one.layer
        if not isinstance(layer, BatchNormalization) or not one.estimates:
            return None
        own = layer.rule(layer.population.pairs_of(one.aligned))
        updates.extend(own)
        becoming = [dict(own)[population] for population in layer.population_statistics]
        statistics = [layer.stretched(each, one.x) for each in GOMLX.read(becoming, layer.epsilon)]
        return normalize_by(one.x, *statistics) if by_averages else None

    rebuilt(graph, averaged)
    return updates
