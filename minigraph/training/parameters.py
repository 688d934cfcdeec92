"""What a rule is to update, however it is given: shared variables, layers, or a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Shared, Variable
from minigraph.layers.base import Layer
from minigraph.layers.computation_graph import ComputationGraph

Parameters = Any
"""A shared variable, a layer, a `ComputationGraph`, a dict with any of these as values, or an iterable of them."""

_WANTED = "shared variables, a layer or several, or a ComputationGraph"


def learned(parameters: Parameters, cost: Variable | None = None) -> list[Variable]:
    """The shared variables that `parameters` stands for, in order; of layers those alone that the cost depends on, if it is
    given.

    TypeError for anything that holds no state; ValueError for no parameters, one that is listed twice, a layer that is not
    allocated, or one that the cost does not depend on.
    """
    entries = _entries(parameters)
    reached = set(ComputationGraph(cost).parameters) if cost is not None and _has_layers(entries) else None
    found: dict[Variable, None] = {}
    for entry in entries:
        if isinstance(entry, Layer):
            found.update(dict.fromkeys(_of_layer(entry, reached)))
        elif isinstance(entry, ComputationGraph):
            found.update(dict.fromkeys(entry.parameters))
        elif not isinstance(entry, Variable) or not isinstance(entry.op, Shared):
            raise InvalidTypeError(f"only shared variables can be updated, not {entry!r}; give {_WANTED}")
        elif entry in found:
            raise InvalidValueError(f"a parameter is listed twice: {entry!r} ({entry.origin})")
        else:
            found[entry] = None
    if not found:
        raise InvalidValueError(f"there are no parameters to update in {parameters!r}; give {_WANTED}")
    return list(found)


def _entries(parameters: Any) -> list[Any]:
    """The single things of which parameters are given; TypeError where nothing can be listed."""
    if isinstance(parameters, Variable | Layer | ComputationGraph):
        return [parameters]
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Iterable):
        raise InvalidTypeError(f"what is to be updated must be {_WANTED}, not {parameters!r}")
    return list(parameters.values() if isinstance(parameters, Mapping) else parameters)


def _has_layers(entries: list[Any]) -> bool:
    """Whether a layer is among what is given."""
    return any(isinstance(entry, Layer) for entry in entries)


def _of_layer(layer: Layer, reached: set[Variable] | None) -> list[Variable]:
    """The parameters of a layer, those alone that are reached, if it is known which; none of one that has none at all."""
    own = layer.parameters
    if not own and not layer.allocated:
        raise InvalidValueError(f"{layer!r} has no parameters before it is applied or allocated")
    chosen = [one for one in own if reached is None or one in reached]
    if own and not chosen:
        raise InvalidValueError(f"the cost does not depend on any parameter of {layer!r} in a differentiable way")
    return chosen
