"""Wishes of users about the passes of compilation: to leave some out, and to add their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigraph.core.errors import InvalidTypeError
from minigraph.core.record import Record


class After(Record):
    """A pass of the user's, `run`, and the `name` of the pass that it follows each time."""

    name: str
    run: Callable[..., Any]


Wish = str | After | Callable[..., Any]
"""The name of a pass to leave out, after a minus sign; or a pass to add, after all others on whole graphs by default."""


def as_wishes(wishes: Any) -> tuple[Wish, ...]:
    """A wish, or a list of wishes, as a tuple; TypeError for anything else."""
    listed = tuple(wishes) if isinstance(wishes, list | tuple) else (wishes,)
    for one in listed:
        fits = one.startswith("-") if isinstance(one, str) else isinstance(one, After) or callable(one)
        if not fits:
            raise InvalidTypeError(
                f"passes are names after a minus sign, such as '-merge', functions, or mg.After, not {one!r}"
            )
    return listed
