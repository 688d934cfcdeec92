"""Noise added to finished graphs: dropout and Gaussian noise."""

from __future__ import annotations

from collections.abc import Sequence

from minigraph.graph import Variable
from minigraph.layers.computation_graph import ComputationGraph
from minigraph.layers.noise import check_probability, drop
from minigraph.ops.asked import asked_targets
from minigraph.ops.random import RandomStream
from minigraph.ops.shape import shape


def _stream_for(graph: ComputationGraph) -> RandomStream:
    """A stream of its own for a transform: seeded by the number of those that the graph holds already."""
    return RandomStream(len(asked_targets(graph.outputs)))


def apply_dropout(
    graph: ComputationGraph, variables: Sequence[Variable], drop_prob: float, *, stream: RandomStream | None = None
) -> ComputationGraph:
    """The graph with dropout on each of `variables`: elements set to 0 with probability `drop_prob`, the others scaled up."""
    probability = check_probability(drop_prob)
    source = _stream_for(graph) if stream is None else stream
    return graph.replace({variable: drop(variable, probability, source) for variable in variables})


def apply_noise(
    graph: ComputationGraph, variables: Sequence[Variable], std: float, *, stream: RandomStream | None = None
) -> ComputationGraph:
    """The graph with normal noise of standard deviation `std` added to each of `variables`."""
    source = _stream_for(graph) if stream is None else stream
    return graph.replace(
        {variable: variable + source.normal(shape(variable), std=std, dtype=variable.dtype) for variable in variables}
    )
