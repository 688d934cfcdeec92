"""The distance between the statistics that a network uses in training and those that it will use in inference."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidValueError, MissingExtraError
from minigraph.core.graph import Input, Variable, toposort
from minigraph.core.record import Record
from minigraph.core.state import on_host
from minigraph.functions.function import function
from minigraph.layers.core.computation_graph import Roots
from minigraph.layers.normalization.normalized import Normalization
from minigraph.ops.elementwise.transcendental import log
from minigraph.transforms.batch_normalization import normalizations_of, switched
from minigraph.transforms.recomputation import call_on


class LayerGap(Record):
    """The gap of one application: for each feature that of the means, in deviations of the population, and the logarithm of the
    minibatch' deviation over the population's. For a layer that only subtracts the mean the former is the difference,
    and the latter is empty.
    """

    name: str
    means: np.ndarray[Any, Any]
    log_deviations: np.ndarray[Any, Any]


class PopulationGap(Record):
    """The gaps between minibatch and population, an application a row; printed it is a table."""

    layers: tuple[LayerGap, ...]

    def __str__(self) -> str:
        header = f"{'layer':<40}{'mean gap, rms':>14}{'largest':>10}{'stdev ratio, rms':>18}{'largest':>10}"
        rows = []
        for one in self.layers:
            row = f"{one.name:<40}{_rms(one.means):>14.4f}{_largest(one.means):>10.4f}"
            ratios = f"{np.exp(_rms(one.log_deviations)):>18.4f}{np.exp(_largest(one.log_deviations)):>10.4f}"
            rows.append(row + (ratios if one.log_deviations.size else f"{'-':>18}{'-':>10}"))
        return "\n".join([header, *rows])

    def plot(self, path: str | PathLike[str]) -> None:
        """Draw every feature's gaps, a column a layer, as a picture whose format the path's ending names.

        MissingExtraError without matplotlib, which the extra `train` brings.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise MissingExtraError("a plot needs matplotlib; install the extra 'train'") from None
        figure = Figure(figsize=(max(6.0, 1.2 * len(self.layers)), 6.0), layout="constrained")
        means, deviations = figure.subplots(2, 1, sharex=True)
        for column, one in enumerate(self.layers):
            for axes, gaps in ((means, one.means), (deviations, np.exp(one.log_deviations))):
                axes.plot(column + np.linspace(-0.2, 0.2, max(gaps.size, 1))[: gaps.size], gaps.ravel(), ".", color="tab:blue")
        means.axhline(0.0, color="tab:gray", linewidth=0.7)
        means.set(title="Minibatch against population, a dot a feature", ylabel="means apart (deviations)")
        deviations.axhline(1.0, color="tab:gray", linewidth=0.7)
        deviations.set(ylabel="ratio of deviations", yscale="log")
        deviations.set_xticks(range(len(self.layers)), [one.name for one in self.layers], rotation=30, ha="right")
        figure.savefig(path, dpi=110)


def _rms(values: np.ndarray[Any, Any]) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _largest(values: np.ndarray[Any, Any]) -> float:
    """The greatest magnitude."""
    return float(np.max(np.abs(values), initial=0.0))


def population_gap(graph: Roots, batch: Any, *, backend: str | None = None) -> PopulationGap:
    """The distance of a minibatch's statistics from the population, for each normalization of a graph in either mode.

    graph: outputs, or a `ComputationGraph`. backend: as for `minigraph.function`.
    batch: an array, a sequence of arrays in graph order, or a dict by name, for the inputs that the statistics depend on. Large
    gaps tell that inference will not see what training saw: too few batches in an average, or a small or odd batch.
    """
    applications = [one for one in normalizations_of(switched(graph, training=True)) if one.estimates and one.population]
    if not applications:
        raise InvalidValueError("the graph has no normalization with a population")
    gaps = [gap for one in applications for gap in one.outside(_gap)]
    inputs = [one for one in toposort(gaps) if isinstance(one.op, Input)]
    see = function(inputs, gaps, no_default_updates=True, on_unused_input="ignore", backend=backend)
    values = iter(call_on(see, batch))
    rows = []
    for one in applications:
        means = on_host(next(values))
        deviations = np.empty(0) if one.layer.mean_only else on_host(next(values))
        rows.append(LayerGap(one.variable.origin.layer or one.layer.name, means, deviations))
    return PopulationGap(tuple(rows))


def _gap(one: Normalization) -> list[Variable]:
    """The gaps of the means and, unless there are none, of the deviations, for each feature, where an application stands."""
    minibatch = [statistic.astype("float64") for statistic in one.statistics]
    population = [statistic.astype("float64") for statistic in one.layer.population_in(one.x, one.request)]
    means = minibatch[0] - population[0]
    return [means] if one.layer.mean_only else [means / population[1], log(minibatch[1] / population[1])]
