"""Attributes of layers: checked when they are set, and refused where they would have no effect or are not known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np

from minigraph.core.errors import InvalidAttributeError, InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.types import as_int, as_ints

Checked = TypeVar("Checked")


class Setting(Generic[Checked]):
    """An attribute of layers that is checked whenever it is set; `check` gets the value and the attribute's name."""

    def __init__(self, check: Callable[[Any, str], Checked]) -> None:
        self._check = check
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...

    @overload
    def __get__(self, layer: object, owner: type) -> Checked: ...

    def __get__(self, layer: object | None, owner: type) -> Self | Checked:
        if layer is None:
            return self
        if self._name not in vars(layer):
            raise AttributeError(f"{owner.__name__} has no {self._name} yet")
        found: Checked = vars(layer)[self._name]
        return found

    def __set__(self, layer: object, value: Any) -> None:
        vars(layer)[self._name] = self._check(value, self._name)


class State:
    """An attribute of layers that is one of their own variables, by the name that their system gives it."""

    def __init__(self, about: str) -> None:
        self.__doc__ = about
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...

    @overload
    def __get__(self, layer: Any, owner: type) -> Variable: ...

    def __get__(self, layer: Any, owner: type) -> Self | Variable:
        if layer is None:
            return self
        if not layer.has_parameter(self._name):
            what = "was made without" if layer.allocated else "is not applied or allocated yet, and so has no"
            raise InvalidAttributeError(f"{layer!r} {what} {self._name}")
        found: Variable = layer.parameter(self._name)
        return found

    def __set__(self, layer: Any, value: Any) -> None:
        raise InvalidAttributeError(f"{layer!r}: {self._name} is a variable of the layer; set its value, by set_value")


def check_attribute(layer: Any, name: str, value: Any, allocated: bool) -> None:
    """Raise, naming the layer, unless its attribute `name` can be set to this value, now that it is, or is not, `allocated`."""
    kind = type(layer)
    if name not in vars(layer) and not hasattr(kind, name):
        own = [one for one in vars(layer) if not one.startswith("_")]
        known = sorted({*own, *(one for one in dir(kind) if _is_setting(kind, one))} - _INNER)
        (nearest,) = get_close_matches(name, known, 1, 0.0)
        raise InvalidAttributeError(
            f"{layer!r} has no attribute {name!r}; the nearest of its own is {nearest!r}, of {', '.join(known)}. Attributes of "
            "layers are made in __init__; names that begin with _ are free"
        )
    if name in vars(layer) and _is_unchanged(vars(layer)[name], value):
        return
    if name in _listed(kind, "fixed_when_made"):
        raise InvalidValueError(f"{layer!r}: {name} cannot change once the layer is made; make another layer")
    if allocated and name in _listed(kind, "fixed_when_allocated"):
        raise InvalidValueError(
            f"{layer!r} has its parameters already, so that another {name} would have no effect: set it before the first "
            "application, or make another layer"
        )


_INNER = {"name_is_final", "allocated", "own_variables", "children"}
"""Attributes of layers that users do not set."""


def _is_setting(kind: type, name: str) -> bool:
    """Whether a public attribute of a class is meant to be set."""
    found = next((vars(one)[name] for one in kind.__mro__ if name in vars(one)), None)
    return not name.startswith("_") and (isinstance(found, Setting) or (isinstance(found, property) and found.fset is not None))


def _listed(kind: type, what: str) -> set[str]:
    """The names that a class and those above it list in an attribute."""
    return {name for one in kind.__mro__ for name in vars(one).get(what, ())}


def _is_unchanged(old: Any, new: Any) -> bool:
    """Whether a value is the one that was there, or equal to it where that is easily said."""
    plain = isinstance(old, bool | int | float | str | tuple | list) and type(old) is type(new)
    return old is new or (plain and bool(old == new))


# -- checks ----------------------------------------------------------------------------------------------------------


def number(value: Any, name: str, least: float, most: float) -> float:
    """A finite `value` from `least` to `most`; TypeError, with `name`, for other types, ValueError outside, NaN included."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise InvalidTypeError(f"{name} must be a number, not {value!r}")
    if not (math.isfinite(value) and least <= value <= most):
        bounds = [f"at least {least:g}"] * math.isfinite(least) + [f"at most {most:g}"] * math.isfinite(most)
        raise InvalidValueError(f"{name} must be {' and '.join(bounds) or 'finite'}, not {value!r}")
    return value  # type: ignore[return-value]


def finite(value: Any, name: str) -> float:
    """A finite number; TypeError or ValueError for anything else."""
    return number(value, name, -math.inf, math.inf)


def flag(value: Any, name: str) -> bool:
    """True or False; TypeError otherwise."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidTypeError(f"{name} must be True or False, not {value!r}")
    return bool(value)


def or_none(check: Callable[[Any, str], Checked]) -> Callable[[Any, str], Checked | None]:
    """The same check, which lets None pass, too."""
    return lambda value, name: None if value is None else check(value, name)


flag_or_none = or_none(flag)
"""A check for True, False, or None."""


def check_flags(**flags: Any) -> None:
    """TypeError for the first of several flags, by name, that is neither True nor False."""
    for name, value in flags.items():
        flag(value, name)


def as_seed(value: Any, name: str) -> int | None:
    """An int of 0 or more, or None; TypeError or ValueError for anything else."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
        raise InvalidTypeError(f"{name} must be an int of 0 or more, not {value!r}")
    if value is not None and value < 0:
        raise InvalidValueError(f"{name} must be 0 or more, not {value!r}")
    return value  # type: ignore[return-value]


def count(value: Any, name: str) -> int:
    """An int of 1 or more; TypeError or ValueError for anything else."""
    if not isinstance(value, int | np.integer):
        raise InvalidTypeError(f"{name} must be an int of 1 or more, not {value!r}")
    return as_int(value, name, 1)


size = or_none(count)
"""A check for an int of 1 or more, or None for one that is not known yet."""


def ints(least: int) -> Callable[[Any, str], Any]:
    """A check for an int, or a sequence of ints, of at least `least`; the value is kept as given."""

    def check(value: Any, name: str) -> Any:
        as_ints(value, name, least)
        return value

    return check


def listed(value: Any, name: str) -> Sequence[Any]:
    """A list or tuple, unchanged; TypeError for anything else."""
    if not isinstance(value, list | tuple):
        raise InvalidTypeError(f"{name} must be a list, not {value!r}")
    return value
