"""The numbers of rules and schedules: checked where they are known; symbolic ones pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.roles import Role


def amount(value: Any, name: str) -> Any:
    """A finite number of 0 or more, such as a rate or an epsilon, or a variable."""
    return _within(value, name, lambda number: number >= 0, "0 or more")


def fraction(value: Any, name: str) -> Any:
    """A number of 0 or more and below 1, such as the part of old state that is kept, or a variable."""
    return _within(value, name, lambda number: 0 <= number < 1, "at least 0 and below 1")


def above_zero(value: Any, name: str) -> Any:
    """A finite number above 0, or a variable."""
    return _within(value, name, lambda number: number > 0, "above 0")


def _within(value: Any, name: str, holds: Any, wanted: str) -> Any:
    """A variable, or a finite number of which something holds; TypeError or ValueError, by name, for anything else."""
    if isinstance(value, Variable):
        return value
    number = value.item() if isinstance(value, np.ndarray) and not value.ndim else value
    if isinstance(number, bool) or not isinstance(number, int | float | np.integer | np.floating):
        raise InvalidTypeError(f"{name} must be a finite number, {wanted}, or a scalar variable, not {value!r}")
    if not (math.isfinite(number) and holds(number)):
        raise InvalidValueError(f"{name} must be finite and {wanted}, not {value!r}")
    return number


def checked_roles(roles: Any) -> tuple[type[Role], ...]:
    """Classes of roles as a tuple; TypeError for anything else."""
    listed = tuple(roles) if isinstance(roles, Iterable) and not isinstance(roles, str) else (roles,)
    if isinstance(roles, type) or not all(isinstance(one, type) and issubclass(one, Role) for one in listed):
        raise InvalidTypeError(f"roles must be a list of roles, such as [WEIGHT], not {roles!r}")
    return listed
