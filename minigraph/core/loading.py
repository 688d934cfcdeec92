"""Parts of the package that are imported when somebody first asks for them, so that `import minigraph` is quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def loaded(place: str) -> Any:
    """A module, or with `:name` behind it an object in it, by its place inside the package: `functions.function:function`."""
    module, _, name = place.partition(":")
    found = import_module(f"minigraph.{module}")
    return vars(found)[name] if name else found
