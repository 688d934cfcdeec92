"""Calls of NumPy's functions, with the arguments that NumPy names, as calls of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from inspect import Parameter, Signature, signature
from typing import Any

from minigraph.core.errors import InvalidTypeError

RENAMED = {"M": "m", "N": "n", "correction": "ddof", "min": "a_min", "max": "a_max"}
"""Optional arguments that have another name here."""

IMPLIED: dict[str, tuple[Any, ...]] = {
    "kind": ("stable", "mergesort"),
    "full_matrices": (False,),
    "subok": (True, False),
    "UPLO": ("l",),
}
"""Values of arguments that say what is done here in any case."""


@cache
def _signature(function: Callable[..., Any]) -> Signature:
    """A function's signature."""
    return signature(function)


def called_as_numpy(
    theirs: Callable[..., Any], ours: Callable[..., Any], args: Sequence[Any], options: Mapping[str, Any]
) -> Any:
    """The result of `ours` for a call of NumPy's `theirs` with args and options; TypeError for those that it does not take."""
    given = _signature(theirs).bind(*args, **options)
    own = list(_signature(ours).parameters)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for place, (name, value) in enumerate(given.arguments.items()):
        parameter = _signature(theirs).parameters[name]
        if parameter.kind is Parameter.VAR_POSITIONAL:
            positional += value
        elif parameter.kind is Parameter.VAR_KEYWORD:
            named |= value
        elif _says_nothing(name, value, parameter.default):
            continue
        elif place == len(positional) and (parameter.default is Parameter.empty or parameter.kind is Parameter.POSITIONAL_ONLY):
            positional.append(value)
        else:
            named[RENAMED.get(name, name)] = value
    unknown = [name for name in named if name not in own]
    if unknown:
        raise InvalidTypeError(
            f"numpy.{theirs.__name__} on variables does not take {unknown[0]}={named[unknown[0]]!r}; it takes {', '.join(own)}"
        )
    return ours(*positional, **named)


def _says_nothing(name: str, value: Any, default: Any) -> bool:
    """Whether an optional argument has its default, or asks for what is done in any case."""
    if default is Parameter.empty:
        return False
    if value is default or (isinstance(value, str | bool | int | float) and type(value) is type(default) and value == default):
        return True
    return any(value is one or (isinstance(value, str) and value.lower() == one) for one in IMPLIED.get(name, ()))
