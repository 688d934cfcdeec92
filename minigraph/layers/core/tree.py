"""Layers and their state, found at and below others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.application import ApplicationCall
from minigraph.layers.core.layer_type import is_layer
from minigraph.layers.core.roles import PARAMETER, Role, is_any

if TYPE_CHECKING:
    from minigraph.layers.core.base import Layer


def as_layers(given: Layer | Iterable[Layer]) -> list[Layer]:
    """A layer, or several, as a list; TypeError for anything else."""
    several = isinstance(given, Iterable) and not is_layer(given) and not isinstance(given, Variable | str)
    listed = list(given) if several else [given]  # type: ignore[arg-type]
    for one in listed:
        if not is_layer(one):
            raise InvalidTypeError(f"expected layers, one or several, not {one!r}")
    return listed  # type: ignore[return-value]


def find_layers(tops: Layer | Iterable[Layer], predicate: Callable[[Layer], bool] = lambda layer: True) -> list[Layer]:
    """The layers at and below `tops` for which `predicate` holds, from the top down, each once.

    TypeError if `tops` is neither a layer nor several.
    """
    found: dict[Layer, None] = {}
    stack = as_layers(tops)[::-1]
    while stack:
        layer = stack.pop()
        if layer not in found:
            found[layer] = None
            stack.extend(reversed(layer.children))
    return [layer for layer in found if predicate(layer)]


def paths_below(tops: Layer | Iterable[Layer]) -> Iterator[tuple[str, Layer]]:
    """All layers at and below `tops`, each once, with their hierarchical names."""
    seen: set[Layer] = set()
    stack = [("", layer) for layer in reversed(as_layers(tops))]
    while stack:
        path, layer = stack.pop()
        if layer not in seen:
            seen.add(layer)
            here = f"{path}/{layer.name}"
            yield here, layer
            stack.extend((here, child) for child in reversed(layer.children))


def get_layer(variable: Variable) -> Layer | None:
    """The layer that a variable belongs to, as parameter or as part of an application; None if there is none."""
    for tag in reversed(variable.tags):
        if is_layer(tag):
            return tag
        if isinstance(tag, ApplicationCall):
            return tag.layer
    return None


def get_parameters(tops: Layer | Iterable[Layer], role: type[Role] = Role) -> dict[str, Variable]:
    """The state of all layers at and below `tops` by hierarchical name, such as '/mlp/linear_0.W'.

    Population statistics, counts and random streams are included; role PARAMETER leaves only what is learned.
    """
    found: dict[str, Variable] = {}
    for path, layer in paths_below(tops):
        learned = layer.own_parameters
        for name, variable in layer.own_variables.items():
            if role is not Role and not is_any(layer.roles_of_own(name), role):
                continue
            if issubclass(role, PARAMETER) and variable not in learned:
                continue
            if f"{path}.{name}" in found:
                raise InvalidValueError(f"two layers are named {path!r}; give them names of their own")
            found[f"{path}.{name}"] = variable
    return found


def name_apart(children: Sequence[Layer]) -> None:
    """Number the layers that the user did not name and that share a name; ValueError if names still agree."""
    names = [child.name for child in children]
    taken = {child.name for child in children if child.name_is_final}
    for child in children:
        if not child.name_is_final and names.count(child.name) > 1:
            child.name = next(name for k in count() if (name := f"{child.name}_{k}") not in taken)
            child.name_is_final = True
            taken.add(child.name)
    for name, times in Counter(child.name for child in children).items():
        if times > 1:
            raise InvalidValueError(f"two layers are named {name!r}; give them names of their own")
