"""Freezing the normalizations of a graph."""

from __future__ import annotations

from collections.abc import Iterable

from minigraph.core.graph import Variable
from minigraph.layers.core.application import get_application_call
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import ComputationGraph, Roots
from minigraph.layers.core.tree import find_layers, get_layer
from minigraph.layers.normalization.apply_options import Freeze, Held, Request, as_freeze, held
from minigraph.layers.normalization.normalized import Normalization
from minigraph.transforms.batch_normalization import rebuilt


def freeze_batch_normalization(
    graph: Roots, degree: Freeze | Variable = Freeze.STATISTICS, layers: Layer | Iterable[Layer] | None = None
) -> ComputationGraph:
    """The graph with its normalizations frozen to this degree, those at or below `layers` alone if some are given.

    The result equals what layers made with `freeze=degree` would have given. A lesser degree thaws. With an integer
    scalar variable for a degree, its value decides at each call: 0 freezes nothing, 3 everything, see `Freeze`. What is frozen
    for good costs nothing; a variable costs the choice between two ways. Freeze a cost before it is differentiated.
    """
    wanted = as_freeze(degree)
    chosen = None if layers is None else set(find_layers(layers))

    def build(one: Normalization) -> Variable | None:
        if chosen is not None and one.layer not in chosen:
            return None
        request = Request(one.request.mask, one.request.index, wanted)
        return one.layer.normalize(one.x, one.call, request, one.is_training)

    def hold(variable: Variable) -> Variable:
        parameter, call = (variable.inputs[1] if isinstance(variable.op, Held) else None), get_application_call(variable)
        if parameter is None or call is None or not (chosen is None or get_layer(parameter) in chosen):
            return variable
        return held(parameter, Request(freeze=wanted), call)

    return rebuilt(graph, build, hold)
