"""Filters, which find variables of a graph by roles, layers, names and applications."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Structural, Variable
from minigraph.core.guard import with_guarded_methods
from minigraph.core.walks import with_bodies
from minigraph.layers.core.application import Application, get_application_call
from minigraph.layers.core.base import Layer
from minigraph.layers.core.roles import Role, has_roles
from minigraph.layers.core.tree import get_layer

__all__ = ["VariableFilter"]


@with_guarded_methods
class VariableFilter:
    """A filter of variables; all criteria that are given must hold.

    roles: one of these roles, or with `each_role` all of them. layers: the variable belongs to one of these layers (or layer
    classes), as parameter or in an application. name: exactly; name_regex: matches from the start. applications: one of these
    applications, bound (`layer.apply`) or of a class (`Linear.apply`). call_id: that of the application.

    >>> from minigraph.layers.core.roles import WEIGHT
    >>> y = mg.layers.Linear(3, 2).apply(mg.matrix("x"))
    >>> mg.VariableFilter(roles=[WEIGHT])(mg.ComputationGraph(y).variables)
    [<W: float32 (3, 2)>]
    """

    def __init__(
        self,
        roles: Sequence[type[Role]] | None = None,
        layers: Sequence[Layer | type[Layer]] | None = None,
        name: str | None = None,
        name_regex: str | None = None,
        each_role: bool = False,
        applications: Sequence[Application[..., Any]] | None = None,
        call_id: str | None = None,
    ) -> None:
        self._roles = _listed(roles, "roles", lambda one: isinstance(one, type) and issubclass(one, Role))
        self._layers = _listed(
            layers, "layers", lambda one: isinstance(one, Layer) or (isinstance(one, type) and issubclass(one, Layer))
        )
        self._applications = _listed(applications, "applications", lambda one: isinstance(one, Application))
        for what, text in (("name", name), ("name_regex", name_regex), ("call_id", call_id)):
            if text is not None and not isinstance(text, str):
                raise InvalidTypeError(f"{what} must be a string, not {text!r}")
        if not isinstance(each_role, bool):
            raise InvalidTypeError(f"each_role must be True or False, not {each_role!r}")
        self._name = name
        self._pattern = None if name_regex is None else re.compile(name_regex)
        self._each_role = each_role
        self._call_id = call_id

    def __call__(self, variables: Iterable[Variable]) -> list[Variable]:
        """The variables for which all criteria hold, in their order; those in the bodies of loops before the loop."""
        return [variable for variable in _with_those_inside(variables) if self._accepts(variable)]

    def _accepts(self, variable: Variable) -> bool:
        """Whether all criteria hold for one variable."""
        call = get_application_call(variable)
        return (
            (self._roles is None or has_roles(variable, self._roles, self._each_role))
            and (self._name is None or variable.name == self._name)
            and (self._pattern is None or (variable.name is not None and self._pattern.match(variable.name) is not None))
            and (self._call_id is None or (call is not None and call.call_id == self._call_id))
            and (self._layers is None or self._has_layer(variable))
            and (self._applications is None or any(_is_of(variable, one) for one in self._applications))
        )

    def _has_layer(self, variable: Variable) -> bool:
        """Whether the variable belongs to one of the layers or layer classes."""
        layer = get_layer(variable)
        return any(isinstance(layer, wanted) if isinstance(wanted, type) else layer is wanted for wanted in self._layers or [])


def _with_those_inside(variables: Iterable[Variable]) -> list[Variable]:
    """The variables, and those that are computed in the bodies of loops among them."""
    given = list(variables)
    for one in given:
        if not isinstance(one, Variable):
            raise InvalidTypeError(f"only variables can be filtered, not {one!r}")
    everything = with_bodies(given)
    stand_ins = {inner for one in everything if isinstance(one.op, Structural) for inner in one.op.body.inputs}
    return [one for one in everything if one not in stand_ins or one in given]


def _listed(given: Any, what: str, allowed: Any) -> list[Any] | None:
    """A criterion as a list; TypeError if it is no list, or has members of the wrong kind."""
    if given is None:
        return None
    if not isinstance(given, list | tuple | set | frozenset):
        raise InvalidTypeError(f"{what} must be a list, not {given!r}")
    for one in given:
        if not allowed(one):
            raise InvalidTypeError(f"{one!r} cannot stand among {what}")
    return list(given)


def _is_of(variable: Variable, wanted: Application[..., Any]) -> bool:
    """Whether a variable belongs to an application."""
    call = get_application_call(variable)
    if call is None or call.application != wanted.name:
        return False
    if wanted.layer is not None:
        return call.layer is wanted.layer
    return any(vars(kind).get(wanted.name) == wanted for kind in type(call.layer).__mro__)
