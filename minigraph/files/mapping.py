"""The layers of a file given to those of a model, in order, each to one of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from minigraph.core.errors import InvalidValueError, MinigraphError
from minigraph.core.record import Record
from minigraph.dialects.convert import convert
from minigraph.files.bounded import Array
from minigraph.files.parts import Kind, Part
from minigraph.layers.convolution import Convolutional
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import same_but_for_ones
from minigraph.layers.core.tree import paths_below
from minigraph.layers.linear import Linear
from minigraph.layers.normalization.population import PopulationNormalization
from minigraph.layers.recurrent.cells import LSTM

KINDS: dict[type[Layer], Kind] = {
    Linear: Kind.LINEAR,
    Convolutional: Kind.CONVOLUTION,
    PopulationNormalization: Kind.NORMALIZATION,
    LSTM: Kind.LSTM,
}
"""The kinds of layers that files of other systems have."""


class Assigned(Record):
    """The names of arrays in a file, and the hierarchical name of the layer that got them."""

    names: tuple[str, ...]
    layer: str


class Assignments(Record):
    """A table of the arrays that layers got, those of the file that went nowhere, and the layers that got none."""

    assigned: tuple[Assigned, ...]
    unused: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A table, with a line for each layer."""
        rows = [(", ".join(one.names), one.layer) for one in self.assigned]
        rows += [(name, "(unused)") for name in self.unused] + [("(nothing)", name) for name in self.untouched]
        width = max((len(first) for first, _ in rows), default=0)
        return "\n".join(f"{first:{width}}  {second}" for first, second in rows)


def assign_parts(
    parts: Sequence[Part], layers: Layer | Iterable[Layer], epsilon: float | None, unknown: Sequence[str], strict: bool
) -> tuple[dict[str, Array], Assignments]:
    """The values of state by hierarchical name that parts of a file give to layers, in their order, and what went where.

    epsilon: that of the normalizations in the file, None for their system's own. unknown: the names of arrays that belong to no
    part. strict: raise if one of these, a part or a layer is left.
    """
    open_parts = list(parts)
    values: dict[str, Array] = {}
    assigned: list[Assigned] = []
    untouched: list[str] = []
    reasons: list[str] = []
    for path, layer in paths_below(layers):
        kind = next((one for base, one in KINDS.items() if isinstance(layer, base)), None)
        if kind is None:
            untouched += [path] if layer.own_variables else []
            continue
        part = next((one for one in open_parts if one.kind is kind), None)
        if part is None:
            untouched.append(path)
            continue
        open_parts.remove(part)
        try:
            own = _given(part, layer, epsilon)
        except MinigraphError as error:
            reasons.append(f"{', '.join(part.names)} for {path}: {error.message}")
            continue
        shapes = {name: layer.own_variables[name].get_value(borrow=True).shape for name in own}
        reasons += [
            f"{path}.{name} has shape {array.shape}, expected {shapes[name]}"
            for name, array in own.items()
            if array.shape != shapes[name]
        ]
        values |= {f"{path}.{name}": array for name, array in own.items()}
        assigned.append(Assigned(part.names, path))
    unused = (*(name for part in open_parts for name in part.names), *unknown)
    if strict:
        reasons += [f"{name} has no layer" for name in unused] + [f"nothing for {path}" for path in untouched]
    if reasons:
        raise InvalidValueError("; ".join(reasons))
    return values, Assignments(tuple(assigned), unused, tuple(untouched))


def _given(part: Part, layer: Layer, epsilon: float | None) -> dict[str, Array]:
    """The values of a layer's own state that a part gives it."""
    if isinstance(layer, PopulationNormalization):
        return _normalization(part, layer, epsilon)
    arrays = dict(part.arrays)
    if isinstance(layer, Convolutional) and layer.flip_filters:
        arrays["W"] = np.flip(arrays["W"], tuple(range(2, arrays["W"].ndim)))
    own = layer.own_variables
    if not arrays.keys() <= own.keys() or {"W", "W_input"} & own.keys() - arrays.keys():
        raise InvalidValueError(f"the layer has {list(own)}, and the file {list(part.arrays)}")
    # biases, first states and peepholes that the other system does not have
    return {name: arrays[name] if name in arrays else np.zeros_like(one.get_value()) for name, one in own.items()}


def _normalization(part: Part, layer: PopulationNormalization, epsilon: float | None) -> dict[str, Array]:
    """The values of a normalization, in the convention of the layer; scale and shift are 1 and 0 where the file has none."""
    assert part.convention is not None
    target = layer.convention
    own = part.convention.epsilon if epsilon is None else epsilon
    values = convert(part.arrays, part.convention, target, epsilon=own, target_epsilon=float(layer.epsilon))
    found: dict[str, Array] = {}
    for name, variable in layer.own_variables.items():
        shape = variable.get_value(borrow=True).shape
        if name in values:
            fits = same_but_for_ones(values[name].shape, shape)
            found[name] = values[name].reshape(shape) if fits else values[name]
        elif name in (target.scale, target.shift):
            found[name] = np.full(shape, float(name == target.scale), variable.dtype)
    lost = [name for name in (target.scale, target.shift) if name in values and name not in layer.own_variables]
    if any((values[name] != (1.0 if name == target.scale else 0.0)).any() for name in lost):
        raise InvalidValueError(f"the layer has no {' and no '.join(lost)}, and the file has")
    return found
