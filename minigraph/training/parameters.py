"""The parameters that a rule updates, given as shared variables, layers, or a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Shared, Variable
from minigraph.core.record import Record
from minigraph.gradient import grad
from minigraph.layers.core.base import Layer
from minigraph.layers.core.computation_graph import ComputationGraph

Parameters = Any
"""A shared variable, a layer, a `ComputationGraph`, a dict with any of these as values, or an iterable of them."""

_WANTED = "shared variables, a layer or several, or a ComputationGraph"


class Learned(Record):
    """The shared variables that are to be updated, in order, and where they come from."""

    variables: tuple[Variable, ...]
    layers: tuple[Layer, ...] = ()
    """The layers that were given; their variables on which a cost does not depend are left out."""
    named: frozenset[Variable] = frozenset()
    """The variables that were given themselves, on each of which a cost must depend."""

    def differentiated(self, cost: Variable) -> dict[Variable, Variable]:
        """The gradients of a cost; ValueError if it does not depend on a variable that was given, or on a layer."""
        found = grad(cost, list(self.variables), disconnected_inputs="ignore", return_disconnected="none")
        gradients = {one: gradient for one, gradient in zip(self.variables, found, strict=True) if gradient is not None}
        for variable in self.variables:
            if variable in self.named and variable not in gradients:
                raise InvalidValueError(
                    f"the cost {cost} does not depend on {variable!r} ({variable.origin}) in a differentiable way: leave it "
                    "out, or give the layer, or ComputationGraph(cost), of which only what the cost depends on is updated"
                )
        for layer in self.layers:
            own = layer.parameters
            if own and not any(one in gradients for one in own):
                raise InvalidValueError(f"the cost does not depend on any parameter of {layer!r} in a differentiable way")
        if not gradients:
            raise InvalidValueError(f"the cost {cost} does not depend on any parameter in a differentiable way")
        return gradients


def learned(parameters: Parameters) -> Learned:
    """The shared variables that `parameters` stands for.

    TypeError for anything that holds no state; ValueError for no parameters, one that is listed twice, or a layer that is not
    allocated.
    """
    entries = _entries(parameters)
    found: dict[Variable, None] = {}
    named: set[Variable] = set()
    for entry in entries:
        if isinstance(entry, Layer):
            own = entry.parameters
            if not own and not entry.allocated:
                raise InvalidValueError(f"{entry!r} has no parameters before it is applied or allocated")
            found.update(dict.fromkeys(own))
        elif isinstance(entry, ComputationGraph):
            found.update(dict.fromkeys(entry.parameters))
        elif not isinstance(entry, Variable) or not isinstance(entry.op, Shared):
            raise InvalidTypeError(f"only shared variables can be updated, not {entry!r}; give {_WANTED}")
        elif entry in found:
            raise InvalidValueError(f"a parameter is listed twice: {entry!r} ({entry.origin})")
        else:
            found[entry] = None
            named.add(entry)
    if not found:
        raise InvalidValueError(f"there are no parameters to update in {parameters!r}; give {_WANTED}")
    return Learned(tuple(found), tuple(one for one in entries if isinstance(one, Layer)), frozenset(named))


def _entries(parameters: Any) -> list[Any]:
    """The entries of `parameters` as a list; TypeError for anything that cannot be listed."""
    if isinstance(parameters, Variable | Layer | ComputationGraph):
        return [parameters]
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Iterable):
        raise InvalidTypeError(f"what is to be updated must be {_WANTED}, not {parameters!r}")
    return list(parameters.values() if isinstance(parameters, Mapping) else parameters)
