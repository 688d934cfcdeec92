"""What users call, guarded: a bare error of Python's or NumPy's about what was given becomes one of ours at the user's line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from types import FunctionType, TracebackType
from typing import Any, TypeVar, cast

from minigraph.errors import InvalidIndexError, InvalidTypeError, InvalidValueError, MinigraphError
from minigraph.origin import GUARDS, call_text, here, is_internal

F = TypeVar("F", bound=Callable[..., Any])

_OURS: tuple[tuple[type[Exception], type[MinigraphError]], ...] = (
    (IndexError, InvalidIndexError),
    (TypeError, InvalidTypeError),
    (AttributeError, InvalidTypeError),
    (ValueError, InvalidValueError),
    (KeyError, InvalidValueError),
    (ArithmeticError, InvalidValueError),
)


def guarded(function: F) -> F:
    """A function of the public interface; what users' own functions raise within it passes as it is."""

    @wraps(function)
    def guard(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except MinigraphError:
            raise
        except (IndexError, TypeError, AttributeError, ValueError, KeyError, ArithmeticError) as error:
            if not _is_about_arguments(error.__traceback__):
                raise
            raised = next(ours for theirs, ours in _OURS if isinstance(error, theirs))
            what = str(error) or type(error).__name__
            place = f"  in {call_text(function.__name__, args, kwargs)}\n{here().trace()}"
            raise raised(f"{function.__name__} cannot take what it was given: {what}", place) from error

    guard_itself: Any = guard
    GUARDS.add(guard_itself.__code__)
    return cast(F, guard)


def guard_all(namespace: dict[str, Any], names: Iterable[str]) -> None:
    """Guard the functions among some names of a module."""
    for name in names:
        if isinstance(namespace[name], FunctionType):
            namespace[name] = guarded(namespace[name])


def _is_about_arguments(trace: TracebackType | None) -> bool:
    """Whether an error was raised in minigraph or NumPy, not in a function of the user's that was called there."""
    while trace is not None:
        if not is_internal(trace.tb_frame):
            return False
        trace = trace.tb_next
    return True
