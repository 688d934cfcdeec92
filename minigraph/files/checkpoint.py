"""Checkpoints: all state of layers in a file."""

from __future__ import annotations

import os
from collections.abc import Iterable

from minigraph.core.errors import FileFormatError, InvalidValueError
from minigraph.core.state import on_host, snapshot
from minigraph.core.version import __version__
from minigraph.files import safetensors
from minigraph.files.reading import read
from minigraph.files.replacing import replacing
from minigraph.layers.core.base import Layer
from minigraph.layers.core.tree import as_layers, get_parameters
from minigraph.layers.core.values import set_parameter_values

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
    ...     mg.files.load(f"{folder}/model.safetensors", layer)
    """
    variables = get_parameters(layers)
    if not variables:
        raise InvalidValueError(f"{as_layers(layers)!r} have no state yet: allocate, initialize or apply them first")
    values = map(on_host, snapshot([one.cell for one in variables.values()]))
    with replacing(path) as file:
        safetensors.write(file, dict(zip(variables, values, strict=True)), {"written_by": f"minigraph {__version__}"})


def load(path: Path, layers: Layer | Iterable[Layer]) -> None:
    """Give layers the state that a file holds, all of it or, if anything is wrong, none.

    path: of a file that `save` wrote. layers: those that were saved, or others with the same names and sizes; those that have
    no state yet are allocated first, where all sizes are known.

    FileFormatError for a file that is damaged; InvalidValueError, with all differences, for layers that it does not fit;
    OSError for a file that is not there.
    """
    contents = read(path)
    try:
        set_parameter_values(layers, dict(contents))
    except InvalidValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise InvalidValueError(f"{contents.path}: {error.message}") from None
