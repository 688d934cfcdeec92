"""Compiled functions as files: the graph, its constants and its state, without layers, tags, paths or code."""

from __future__ import annotations

import json
import os
from typing import Any

from minigraph.core.errors import FileFormatError, InvalidTypeError
from minigraph.core.version import __version__
from minigraph.files import safetensors
from minigraph.files.bounded import Bounded
from minigraph.files.contents import Contents
from minigraph.files.graph_json import GraphReader, GraphWriter
from minigraph.files.replacing import replacing
from minigraph.files.strict_json import strictly_parsed
from minigraph.functions.build import In, Specification, Structure, check_inputs, check_leaves, checked_updates
from minigraph.functions.function import Function

FUNCTION = "function"
"""The name of what is said of a function, beside the arrays of a file."""


def save_function(path: str | os.PathLike[str], function: Function) -> None:
    """Write a function to a file; see `Function.save`."""
    specification = function.specification()
    writer = GraphWriter()
    about = {
        "graph": writer.graph(specification.graph),
        "inputs": [_input(one, writer) for one in specification.inputs],
        "structure": _structure(specification.structure),
        "name": specification.name,
        "backend": specification.backend,
        "passes": [_pass(one) for one in specification.passes],
    }
    said = {"written_by": f"minigraph {__version__}", FUNCTION: json.dumps(about, separators=(",", ":"))}
    with replacing(path) as file:
        safetensors.write(file, writer.arrays | writer.state(), said)


def _input(spec: In, writer: GraphWriter) -> dict[str, Any]:
    """An input's options."""
    value = None if spec.value is None else writer.default(spec.value)
    return {"name": spec.name, "borrow": spec.borrow, "cast": spec.cast, "value": value}


def _structure(structure: Structure) -> dict[str, Any]:
    """The form of results; InvalidTypeError for keys that JSON does not have."""
    if not all(isinstance(key, str) for key in structure.keys):
        raise InvalidTypeError(f"results of a function that is saved must be named by strings, not {list(structure.keys)}")
    return {"kind": structure.kind, "keys": structure.keys, "borrow": structure.borrow, "host": structure.host}


def _pass(wish: Any) -> str:
    """The name of a pass that is left out; InvalidTypeError for one that is added, which is code."""
    if not isinstance(wish, str):
        raise InvalidTypeError(f"a function with a pass of your own cannot be saved: {wish!r} is code")
    return wish


def load_function(path: str | os.PathLike[str], backend: str | None = None) -> Function:
    """The function that `Function.save` wrote to a file, compiled again, with the state that it had then.

    path: of the file. backend: as in `minigraph.function`; that which the function had been made with if left out, or else the
    best there is. The results are the same to the last bit on the same backend. No code is taken from the file: ops are looked
    up by name, and ops of your own must be registered before, by `minigraph.files.register_op`.

    FileFormatError for a file that is damaged, is no function, or names an op that is not known.
    """
    contents = safetensors.read(Bounded(path))
    try:
        return Function(specification_of(contents, backend))
    except FileFormatError as error:
        raise FileFormatError(f"{contents.path} holds no function: {error.message}") from None


def specification_of(contents: Contents, backend: str | None = None) -> Specification:
    """The arguments of the function that is in a file, made for a `backend`; FileFormatError if none is."""
    if FUNCTION not in contents.about:
        raise FileFormatError("it has arrays alone; minigraph.files.load gives them to layers")
    reader = GraphReader(dict(contents))
    try:
        about = strictly_parsed(contents.about[FUNCTION].encode())
        graph = reader.graph(about["graph"])
        inputs = tuple(
            In(leaf, reader.default(one["value"]), one["name"], one["borrow"], one["cast"])
            for leaf, one in zip(graph.inputs, about["inputs"], strict=True)
        )
        structure = about["structure"]
        form = Structure(structure["kind"], *(tuple(structure[name]) for name in ("keys", "borrow", "host")))
        check_inputs(inputs, "ignore")
        check_leaves(graph, "ignore")
        checked_updates(graph.updates)
        chosen = backend or about["backend"]
        return Specification(inputs, graph, form, chosen, about["name"], passes=tuple(about["passes"]))
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"what it says of itself is damaged: {error}") from None
