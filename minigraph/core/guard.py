"""Guards of public functions: a bare error of Python's or NumPy's about an argument becomes one of ours at the user's line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import signature
from types import FunctionType, TracebackType
from typing import Any, NoReturn, TypeVar, cast

from minigraph.core.errors import InvalidIndexError, InvalidTypeError, InvalidValueError, MinigraphError
from minigraph.core.origin import GUARDS, call_text, here, is_internal
from minigraph.core.words import instead_of_argument

F = TypeVar("F", bound=Callable[..., Any])
K = TypeVar("K", bound=type)

_OURS: tuple[tuple[type[Exception], type[MinigraphError]], ...] = (
    (IndexError, InvalidIndexError),
    (TypeError, InvalidTypeError),
    (AttributeError, InvalidTypeError),
    (ValueError, InvalidValueError),
    (KeyError, InvalidValueError),
    (ArithmeticError, InvalidValueError),
)


BARE = tuple(theirs for theirs, _ in _OURS)
"""The classes of errors of Python's and NumPy's that may be about what was given."""


def guarded(function: F, in_class: bool = False) -> F:
    """A function of the public interface, or one `in_class`; errors of users' own functions within it pass unchanged."""
    is_method = function.__name__ in ("__init__", "__call__")
    name = function.__qualname__.split(".")[-2] if is_method else function.__name__

    @wraps(function)
    def guard(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BARE as error:
            answer(error, name, args[1:] if is_method else args, kwargs, _about_unknown_argument(error, function, in_class))

    guard_itself: Any = guard
    GUARDS.add(guard_itself.__code__)
    return cast(F, guard)


def is_bare(error: Exception) -> bool:
    """Whether an error is none of ours, and was not raised in a function of the user's that was called on the way."""
    return not isinstance(error, MinigraphError) and _is_about_arguments(error.__traceback__)


def answer(error: Exception, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], advice: str | None = None) -> NoReturn:
    """Raise the error of ours, at the user's line, for a bare `error` in a call of `name` with `args` and `kwargs`.

    The message is `advice`, or else that of the error. An error that is not bare is raised unchanged.
    """
    if not is_bare(error):
        raise error
    kind = next(ours for theirs, ours in _OURS if isinstance(error, theirs))
    place = f"  in {call_text(name, args, kwargs)}\n{here().trace()}"
    raise kind(f"{name} {advice or f'cannot take what it was given: {str(error) or type(error).__name__}'}", place) from error


def _about_unknown_argument(error: Exception, function: Callable[..., Any], in_class: bool) -> str | None:
    """The arguments that a function takes instead of one that it does not have, if that is what an error says."""
    found = re.fullmatch(r"(\S+)\(\) got an unexpected keyword argument '(\w+)'.*", str(error))
    if found is None or found[1] != function.__qualname__:
        return None
    known = [*signature(function).parameters][1 if in_class else 0 :]
    return f"has no argument {found[2]!r}; {instead_of_argument(function.__name__, found[2], known)}"


def guard_all(namespace: dict[str, Any], names: Iterable[str]) -> None:
    """Guard the functions among some names of a module."""
    for name in names:
        if isinstance(namespace[name], FunctionType):
            namespace[name] = guarded(namespace[name])


def with_guarded_methods(kind: K) -> K:
    """A class whose constructor and public methods, as far as it defines them, are guarded."""
    for name, member in list(vars(kind).items()):
        if isinstance(member, FunctionType) and (name in ("__init__", "__call__") or not name.startswith("_")):
            setattr(kind, name, guarded(member, in_class=True))
    return kind


def _is_about_arguments(trace: TracebackType | None) -> bool:
    """Whether an error was raised in minigraph or NumPy, not in a function of the user's that was called there."""
    while trace is not None:
        if not is_internal(trace.tb_frame):
            return False
        trace = trace.tb_next
    return True
