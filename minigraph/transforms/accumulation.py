"""Statistics of several minibatches together, merged in float64 as the minibatches come."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from minigraph.core.conversion import shared
from minigraph.core.guard import with_guarded_methods
from minigraph.core.origin import carry_origin
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import Roots
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_STATISTICS
from minigraph.layers.core.tree import find_layers
from minigraph.layers.normalization.conventions import Batch, merged
from minigraph.layers.normalization.normalized import Normalization
from minigraph.layers.normalization.population import PopulationNormalization
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.array.creation import zeros_like
from minigraph.ops.array.shape import broadcast_to
from minigraph.ops.elementwise.comparison import gt, where
from minigraph.transforms.batch_normalization import normalizations_of


class Accumulated:
    """The statistics of one layer: how many elements there were, their mean, and unless it is `mean_only` their variance."""

    def __init__(self, layer: PopulationNormalization) -> None:
        self.layer = layer
        sizes = [size or 0 for size in layer.own_variables[layer.convention.mean].type.shape]
        names = ("count", "mean") if layer.mean_only else ("count", "mean", "variance")
        tags = (BATCH_NORM_POPULATION_STATISTICS, layer)
        self.variables = [shared(np.zeros(sizes), f"{layer.name}_{name}", borrow=True, tags=tags) for name in names]
        count, mean, *variance = self.variables
        self.batch = Batch(mean, variance[0] if variance else None, count)

    @property
    def known(self) -> Batch:
        """The statistics of the minibatches so far, not finite where there is no element yet."""
        known = self.batch.each(lambda one: where(gt(self.batch.count, 0), one, np.nan))
        return Batch(known.mean, known.variance, self.batch.count)

    def after(self, applications: list[Normalization]) -> Pairs:
        """The updates that add the minibatches of those among some applications that are the layer's."""
        batch = self.batch
        for one in [other for other in applications if other.layer is self.layer]:
            with carry_origin(one.variable.origin):
                wide = one.aligned.each(lambda statistic: statistic.astype("float64"))
                batch = merged(batch, Batch(wide.mean, wide.variance, broadcast_to(wide.count, batch.count.type.shape)))
        values = [batch.count, batch.mean, batch.variance]
        return list(zip(self.variables, values, strict=False))


@with_guarded_methods
class StatisticsAccumulator:
    """The statistics of several minibatches together, for instance of those whose gradients are accumulated.

    Give `updates` to the function that sees each minibatch. After the last one a function with `pairs`, or what a rule makes of
    them, and `reset` among its updates gives the population the statistics of all elements, weighed equally, and starts anew.
    A layer that is applied several times counts all its applications. Minibatches that leave no finite statistic do not count.

    >>> x, layer = mg.matrix("x"), mg.layers.BatchNormalization(1)
    >>> with mg.layers.batch_normalization(layer):
    ...     y = layer.apply(x)
    >>> accumulator = mg.transforms.StatisticsAccumulator(y)
    >>> see = mg.function([x], y, updates=accumulator.updates)
    >>> finish = mg.function([], [], updates=accumulator.pairs + accumulator.reset)
    >>> _ = see([[1.0], [3.0]]), see([[8.0]]), finish()
    >>> layer.population_statistics[0].get_value()
    array([4.], dtype=float32)
    """

    def __init__(self, graph: Roots, layers: Layer | Iterable[Layer] | None = None) -> None:
        """layers: statistics are accumulated of these and of all below them; of all layers if left out."""
        chosen = None if layers is None else set(find_layers(layers))
        found = [one for one in normalizations_of(graph) if one.estimates and one.population]
        self.applications = [one for one in found if chosen is None or one.layer in chosen]
        self._accumulated = [Accumulated(layer) for layer in dict.fromkeys(one.layer for one in self.applications)]
        self.updates = [pair for one in self._accumulated for pair in one.after(self.applications)]
        self.pairs = [pair for one in self._accumulated for pair in one.layer.population.pairs_of(one.known)]

    @property
    def reset(self) -> Pairs:
        """The updates that set the accumulated statistics back to none."""
        return [(variable, zeros_like(variable)) for one in self._accumulated for variable in one.variables]
