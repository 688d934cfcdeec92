"""A page on a file: what it is, what it holds, and whether it is whole."""

from __future__ import annotations

import os

from minigraph.core.errors import FileFormatError
from minigraph.files.contents import Contents
from minigraph.files.functions import FUNCTION, specification_of
from minigraph.files.reading import read


def describe(path: str | os.PathLike[str]) -> str:
    """A page on the file at a path: its kind, its arrays with their dtypes and shapes, a function's inputs and results, and all
    damage. FileFormatError for a file of no known format.
    """
    contents = read(path)
    damage: list[str] = []
    lines = [_array(contents, name, damage) for name in contents]
    heading = [f"{contents.path}: {contents.format}, {len(contents)} arrays"]
    heading += [f"{name}: {value}" for name, value in contents.about.items() if name != FUNCTION]
    if FUNCTION in contents.about:
        heading.append(_function(contents, damage))
    whole = "whole" if contents.format == "minigraph" else "whole, as far as can be told without digests"
    return "\n".join([*heading, *lines, "damaged:" if damage else whole, *damage])


def _array(contents: Contents, name: str, damage: list[str]) -> str:
    """A line on an array, which is added to the `damage` if it is damaged."""
    try:
        array = contents[name]
    except FileFormatError as error:
        damage.append(error.message)
        return f"  {name}  damaged"
    return f"  {name}  {array.dtype} {array.shape}"


def _function(contents: Contents, damage: list[str]) -> str:
    """A line on the function that a file holds."""
    try:
        found = specification_of(contents)
    except FileFormatError as error:
        damage.append(error.message)
        return "a function that cannot be loaded"
    inputs = ", ".join(f"{spec.key or '?'}: {spec.variable.type}" for spec in found.inputs)
    outputs = ", ".join(str(one.type) for one in found.graph.outputs)
    return f"function {found.name or ''}({inputs}) -> {outputs or 'nothing'}, {len(found.graph.updates)} updates"
