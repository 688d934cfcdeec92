"""Noise added to finished graphs: dropout and Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Variable
from minigraph.layers.core.computation_graph import ComputationGraph, Roots
from minigraph.layers.core.settings import number
from minigraph.layers.noise import check_probability, drop
from minigraph.ops.loop.asked import asked_targets
from minigraph.ops.random import RandomStream


def apply_dropout(
    graph: Roots, variables: Variable | Sequence[Variable], drop_prob: float, *, stream: RandomStream | None = None
) -> ComputationGraph:
    """The graph with dropout on each of `variables`: elements set to 0 with probability `drop_prob`, the others scaled up.

    stream: the stream that draws, by default a new one.
    """
    probability = check_probability(drop_prob)
    return _disturbed(graph, variables, stream, lambda variable, source: drop(variable, probability, source))


def apply_noise(
    graph: Roots, variables: Variable | Sequence[Variable], std: float, *, stream: RandomStream | None = None
) -> ComputationGraph:
    """The graph with normal noise of standard deviation `std`, 0 or more, added to each of `variables`.

    stream: the stream that draws, by default a new one.
    """
    if not isinstance(std, Variable):
        number(std, "std", 0, math.inf)
    return _disturbed(graph, variables, stream, lambda one, source: one + source.normal(one.shape, std=std, dtype=one.dtype))


def _disturbed(
    graph: Roots, variables: Any, stream: RandomStream | None, disturb: Callable[[Variable, RandomStream], Variable]
) -> ComputationGraph:
    """The graph with noise on some variables, drawn by `stream`, or else by a new one, seeded by the number that it holds."""
    listed = list(variables) if isinstance(variables, Iterable) and not isinstance(variables, Variable) else [variables]
    for one in listed:
        if not isinstance(one, Variable):
            raise InvalidTypeError(f"noise is added to a variable, or several, of the graph, not to {one!r}")
    whole = ComputationGraph(graph)
    source = RandomStream(len(asked_targets(whole.outputs))) if stream is None else stream
    return whole.replace({one: disturb(one, source) for one in listed})
