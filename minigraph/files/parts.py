"""The layers of which files hold the arrays, in one form whatever system wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from minigraph.core.record import Record
from minigraph.dialects.torch import PYTORCH
from minigraph.files.bounded import Array
from minigraph.layers.normalization.conventions import Convention


class Kind(Enum):
    """The kinds of layers, by the work that they do."""

    LINEAR = "linear"
    CONVOLUTION = "convolution"
    NORMALIZATION = "normalization"
    LSTM = "LSTM"


class Part(Record):
    """A layer of a file: the names of its arrays there, its kind, and its arrays as minigraph has them.

    Weights are (inputs, outputs), filters (outputs, channels, *spatial) of a correlation; gates stand in the order input,
    forget, candidate, output; the arrays of a normalization have the names of its `convention`.
    """

    names: tuple[str, ...]
    kind: Kind
    arrays: dict[str, Array]
    convention: Convention | None = None


_RECURRENT = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)(_l\d+(?:_reverse)?)")
"""The names of PyTorch's recurrent layers, of which several lie in one module."""


def pytorch_parts(arrays: Mapping[str, Array]) -> tuple[list[Part], list[str]]:
    """The layers of a state dict, in its order, and the names of arrays that belong to none that is known."""
    groups: dict[str, dict[str, str]] = {}
    for name in arrays:
        path, _, own = name.rpartition(".")
        recurrent = _RECURRENT.fullmatch(own)
        group, own = (path, own) if recurrent is None else (f"{path}.{recurrent[2]}", recurrent[1])
        groups.setdefault(group, {})[own] = name
    parts: list[Part] = []
    unknown: list[str] = []
    for group, names in groups.items():
        there = {key: arrays[name] for key, name in names.items()}
        found = _normalization(there) or _product(there) or (None if "reverse" in group else _lstm(there))
        if found is None:
            unknown += names.values()
        else:
            kind, values = found
            parts.append(Part(tuple(names.values()), kind, values, PYTORCH if kind is Kind.NORMALIZATION else None))
    return parts, unknown


Found = tuple[Kind, dict[str, Array]] | None


def _normalization(own: Mapping[str, Array]) -> Found:
    """The arrays of a normalization that keeps a population."""
    there = {"running_mean", "running_var"} <= own.keys() <= set(PYTORCH.order)
    return (Kind.NORMALIZATION, dict(own)) if there else None


def _product(own: Mapping[str, Array]) -> Found:
    """The arrays of a linear or convolutional layer."""
    if not {"weight"} <= own.keys() <= {"weight", "bias"} or own["weight"].ndim < 2:
        return None
    bias = {"b": own["bias"]} if "bias" in own else {}
    if own["weight"].ndim == 2:
        return Kind.LINEAR, {"W": own["weight"].T, **bias}
    return Kind.CONVOLUTION, {"W": own["weight"], **bias}


def _lstm(own: Mapping[str, Array]) -> Found:
    """The arrays of a layer of an LSTM, read in one direction."""
    if not {"weight_ih", "weight_hh"} <= own.keys() <= {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}:
        return None
    inputs, states = own["weight_ih"], own["weight_hh"]
    if states.ndim != 2 or states.shape[0] != 4 * states.shape[1]:
        return None
    bias = {"b": own["bias_ih"] + own["bias_hh"]} if {"bias_ih", "bias_hh"} <= own.keys() else {}
    return Kind.LSTM, {"W_input": inputs.T, "W": states.T, **bias}
