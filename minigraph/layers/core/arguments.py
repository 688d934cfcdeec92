"""Messages about arguments that a class of layers does not know."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from inspect import signature

from minigraph.core.words import nearest


def unknown_arguments(kind: type, unknown: Sequence[str]) -> str:
    """A message that names the arguments of a class of layers nearest to those that it does not know."""
    own, known = _own_arguments(kind), _arguments(kind)
    near = dict.fromkeys(one for name in unknown for one in nearest(name, own) or nearest(name, known))
    return f"{kind.__name__} has {', '.join(near or known)}, not {', '.join(unknown)}"


def about_taken_argument(kind: type, given: Iterable[str], error: Exception) -> str | None:
    """A message about an argument that a class `kind` sets on its own and was given, if an error says that; None for others."""
    found, own = re.search(r"got multiple values for (?:keyword )?argument '(\w+)'", str(error)), _own_arguments(kind)
    if found is None or found[1] not in given or found[1] in own:
        return None
    return f"{kind.__name__} has {', '.join(nearest(found[1], own) or own)}, not {found[1]}"


def _own_arguments(kind: type) -> list[str]:
    """The arguments that the constructor of a class names."""
    parameters = list(signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]
    return [one.name for one in parameters if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]


def _arguments(kind: type) -> list[str]:
    """The arguments that a class takes, those that it passes on included, but not those that it must give itself."""
    found: dict[str, None] = {}
    for owner in (one for one in kind.__mro__ if "__init__" in vars(one)):
        own = [one for one in signature(vars(owner)["__init__"]).parameters.values() if one.name != "self"]
        given = {"children"} | {one.name for one in own if one.default is one.empty} if found else set()
        named = [one.name for one in own if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
        found.update(dict.fromkeys(name for name in named if name not in given))
        if not any(one.kind is one.VAR_KEYWORD for one in own):
            break
    return list(found)
