"""Checkpoints: all state of layers in a file."""

from __future__ import annotations

import os
from collections.abc import Iterable

from minigraph.core.errors import InvalidValueError
from minigraph.core.state import on_host, snapshot
from minigraph.core.version import __version__
from minigraph.files import safetensors
from minigraph.files.bounded import Array
from minigraph.files.mapping import Assigned, Assignments, assign_parts
from minigraph.files.parts import Part, pytorch_parts
from minigraph.files.reading import read
from minigraph.files.replacing import replacing
from minigraph.layers.core.base import Layer
from minigraph.layers.core.state_values import in_dtype
from minigraph.layers.core.stateful import unchanged_on_failure
from minigraph.layers.core.tree import as_layers, find_layers, get_parameters
from minigraph.layers.core.values import get_parameter_values, set_parameter_values

Path = str | os.PathLike[str]


def save(path: Path, layers: Layer | Iterable[Layer]) -> None:
    """Write all state of layers to a file: parameters, population statistics, counters and random streams.

    path: of the file, which replaces one that is there, or leaves it untouched if anything fails. layers: one, or several;
    all below them is written, by hierarchical name. State that another thread trains meanwhile is that between two of its
    steps. The file is one of safetensors, with digests by which `load` sees any damage.

    InvalidValueError for layers without state; OSError where the system cannot write.

    >>> import tempfile
    >>> layer = mg.layers.BatchNormalizedMLP([mg.layers.Tanh(), None], [4, 8, 2], seed=1)
    >>> layer.initialize()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mg.files.save(f"{folder}/model.safetensors", layer)
    ...     table = mg.files.load(f"{folder}/model.safetensors", layer)
    """
    variables = get_parameters(layers)
    if not variables:
        raise InvalidValueError(f"{as_layers(layers)!r} have no state yet: allocate, initialize or apply them first")
    values = map(on_host, snapshot([one.cell for one in variables.values()]))
    with replacing(path) as file:
        safetensors.write(file, dict(zip(variables, values, strict=True)), {"written_by": f"minigraph {__version__}"})


def load(path: Path, layers: Layer | Iterable[Layer], *, strict: bool = True, epsilon: float | None = None) -> Assignments:
    """Give layers the state that a file holds, or, if anything is wrong, change nothing; returns what went where, as a table.

    path: of a file that `save` wrote, or of one of another system, see `read`. layers: those that were saved, or others with
    the same names; for a file of PyTorch's a model of the same kinds of layers in the same order. Where the systems differ,
    weights are transposed and statistics converted. Layers that have no state yet are allocated first. strict: raise if
    anything in the file, or any layer, is left over; otherwise the result tells of it. epsilon: that of the normalizations in
    a file of another system, by default the system's own.

    FileFormatError for a file that is damaged; InvalidValueError, with all differences, for layers that it does not fit;
    OSError for a file that is not there.
    """
    contents, tops = read(path), as_layers(layers)
    arrays = dict(contents)  # damage is told of before anything else
    try:
        with unchanged_on_failure(find_layers(tops)):
            ours = any(name.startswith("/") for name in arrays)  # as hierarchical names do
            parts, unknown = ([], []) if ours else pytorch_parts(arrays)
            return _in_order(parts, unknown, tops, strict, epsilon) if parts else _by_name(arrays, tops, strict)
    except InvalidValueError as error:
        raise InvalidValueError(f"{contents.path}: {error.message}") from None


def _by_name(arrays: dict[str, Array], layers: list[Layer], strict: bool) -> Assignments:
    """Give layers the arrays of their hierarchical names; those that fit, if it is not `strict`."""
    if strict:
        set_parameter_values(layers, arrays)
        return Assignments(tuple([Assigned((name,), name) for name in arrays]))
    old = _allocated(layers)
    fitting = {name: one for name, one in arrays.items() if name in old and one.shape == old[name].shape}
    set_parameter_values(layers, old | fitting)
    unused, untouched = (tuple([name for name in names if name not in fitting]) for names in (arrays, old))
    return Assignments(tuple([Assigned((name,), name) for name in fitting]), unused, untouched)


def _in_order(parts: list[Part], unknown: list[str], layers: list[Layer], strict: bool, epsilon: float | None) -> Assignments:
    """Give layers the parts of a file of another system, each to one of its kind, in their order."""
    old = _allocated(layers)
    values, assigned = assign_parts(parts, layers, epsilon, unknown, strict)
    set_parameter_values(layers, old | {name: in_dtype(one, old[name].dtype, name) for name, one in values.items()})
    return assigned


def _allocated(layers: list[Layer]) -> dict[str, Array]:
    """The values of the state of layers, which is made where there is none."""
    for layer in layers:
        layer.allocate()
    return get_parameter_values(layers)
