"""The values of all state of layers, by hierarchical name, to be kept and to be loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from minigraph.core.conversion import fit
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.state import Cell, assign
from minigraph.layers.core.base import Layer
from minigraph.layers.core.stateful import unchanged_on_failure
from minigraph.layers.core.tree import as_layers, find_layers, get_parameters, paths_below

Array = np.ndarray[Any, Any]


def get_parameter_values(tops: Layer | Iterable[Layer]) -> dict[str, Array]:
    """Copies of the values of all state, population statistics included, by hierarchical name."""
    return {name: variable.get_value() for name, variable in get_parameters(tops).items()}


def set_parameter_values(tops: Layer | Iterable[Layer], values: Mapping[str, Any]) -> None:
    """Set all state by hierarchical name. Layers that have none yet are allocated first, where all sizes are known.

    Names that lack or are too many, and values that do not fit or that cannot be, raise, and then no layer is changed: a
    ValueError tells of all that do not fit.
    """
    listed = as_layers(tops)
    with unchanged_on_failure(find_layers(listed)):
        variables = get_parameters(listed)
        unallocated = "" if set(variables) == set(values) else _allocated_as_far_as_possible(listed)
        variables = get_parameters(listed)
        missing, unknown = sorted(set(variables) - set(values)), sorted(set(values) - set(variables))
        arrays, misfits = _fitted(variables, values)
        if missing or unknown or misfits:
            reasons = "".join(f"; {one}" for one in misfits)
            raise InvalidValueError(
                f"parameter values do not fit the layers: missing {missing}, unknown {unknown}{reasons}{unallocated}"
            )
        for path, layer in paths_below(listed):
            layer.check_values({name: arrays[f"{path}.{name}"] for name in layer.own_variables})
        settled: dict[Cell, str] = {}
        for name, one in variables.items():
            other = settled.setdefault(one.cell, name)
            if not np.array_equal(arrays[name], arrays[other], equal_nan=arrays[name].dtype.kind == "f"):
                raise InvalidValueError(f"{name} and {other} are one variable, and cannot have two values")
        assign(list(settled), [arrays[name] for name in settled.values()])


def _fitted(variables: Mapping[str, Variable], values: Mapping[str, Any]) -> tuple[dict[str, Array], list[str]]:
    """Copies of the values that fit the variables of their names, and the reasons why others do not."""
    arrays: dict[str, Array] = {}
    misfits = []
    for name, variable in variables.items():
        if name in values:
            try:
                arrays[name] = fit(values[name], variable.type, f"the value of {name}").copy()
            except (InvalidTypeError, InvalidValueError) as error:
                misfits.append(error.message)
    return arrays, misfits


def _allocated_as_far_as_possible(tops: Iterable[Layer]) -> str:
    """Allocate the layers whose sizes are known; return advice about the others, for a message."""
    hints = []
    for top in tops:
        try:
            top.allocate()
        except InvalidValueError as error:
            hints.append(f"; apply or allocate the layer first: {error.message}")
    return "".join(hints)
