"""What stands for a graph, for layers and for variables of a graph: the same everywhere, and said where it is not given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph import layers, transforms

X = mg.matrix("x", shape=(None, 3))
NETWORK = layers.BatchNormalizedMLP([layers.Tanh()], [3, 2])
Y = NETWORK.apply(X)
DATA = np.float32([[1, 2, 3], [3, 2, 1], [0, 1, 0]])
TAKERS: dict[str, Callable[[Any], Any]] = {
    "ComputationGraph": mg.ComputationGraph,
    "apply_batch_normalization": transforms.apply_batch_normalization,
    "apply_population_normalization": transforms.apply_population_normalization,
    "fold_batch_normalization": transforms.fold_batch_normalization,
    "freeze_batch_normalization": transforms.freeze_batch_normalization,
    "get_batch_normalization_updates": transforms.get_batch_normalization_updates,
    "StatisticsAccumulator": transforms.StatisticsAccumulator,
    "recompute_population_statistics": lambda graph: transforms.recompute_population_statistics(graph, [DATA]),
    "population_gap": lambda graph: transforms.population_gap(graph, DATA),
    "apply_dropout": lambda graph: transforms.apply_dropout(graph, [X], 0.5),
    "apply_noise": lambda graph: transforms.apply_noise(graph, [X], 0.5),
}


@pytest.mark.parametrize("name", TAKERS)
def test_what_is_no_graph_is_refused_by_what_is_one(name: str) -> None:
    """A layer, None, a number, text or a dict is none; of a layer it is said what to give."""
    for wrong in (NETWORK, [NETWORK], None, [None], 3, "text", {X: Y}):
        with pytest.raises(
            TypeError, match=r"(?s)takes a variable, several, or a ComputationGraph, not.*test_roots\.py"
        ) as info:
            TAKERS[name](wrong)
        assert ("give it what the layer returned" in str(info.value)) == (wrong in (NETWORK, [NETWORK]))


@pytest.mark.parametrize("name", TAKERS)
def test_graphs_are_given_as_variables_or_as_graphs(name: str) -> None:
    """A variable, a list, a tuple, an iterator and a graph stand for the same."""
    y = transforms.apply_batch_normalization(Y).outputs[0] if "updates" in name or "Accumulator" in name else Y
    for given in (y, [y], (y,), iter([y]), mg.ComputationGraph(y)):
        result = TAKERS[name](given)
        if isinstance(result, mg.ComputationGraph):
            assert len(result.outputs) == 1


def test_noise_may_be_given_one_variable() -> None:
    """It is that of a list of it; anything else is refused, and so is a deviation below 0."""
    for change in (transforms.apply_dropout, transforms.apply_noise):
        one, several = (change(Y, which, 0.5).outputs[0].eval({X: DATA}) for which in (X, [X]))
        assert np.array_equal(one, several) and not np.array_equal(one, Y.eval({X: DATA}))
        for wrong in (None, 3, NETWORK, [NETWORK]):
            with pytest.raises(TypeError, match=r"(?s)noise is added to a variable.*test_roots\.py"):
                change(Y, wrong, 0.5)
    for wrong in (-1, np.nan, np.inf, None):
        with pytest.raises((TypeError, ValueError), match="std must be"):
            transforms.apply_noise(Y, X, wrong)


@pytest.mark.parametrize("change", [transforms.fold_batch_normalization, transforms.freeze_batch_normalization])
@pytest.mark.parametrize("wrong", [3, "text", Y, [Y]], ids=str)
def test_layers_are_given_as_layers(change: Callable[..., Any], wrong: Any) -> None:
    """Nothing else has normalizations at or below it."""
    with pytest.raises(TypeError, match=r"(?s)expected layers, one or several, not.*test_roots\.py"):
        change(Y, layers=wrong)
