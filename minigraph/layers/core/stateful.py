"""The state that a layer has of its own: variables by name, made and initialized, or given by the user."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigraph.core.conversion import shared
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Shared, Variable, reachable, toposort
from minigraph.core.guard import with_guarded_methods
from minigraph.core.origin import current_layer
from minigraph.core.state import assign
from minigraph.core.types import as_dtype, default_float
from minigraph.layers.core.application import ApplicationCall
from minigraph.layers.core.initialization import Given, Initializer, Restart, agree
from minigraph.layers.core.layer_type import LayerType
from minigraph.layers.core.roles import PARAMETER, PERSISTENT, Role, differentiated_inputs, has_roles, is_any, roles_of
from minigraph.layers.core.settings import Setting, as_seed
from minigraph.layers.core.state_values import Array, drawn, fitted
from minigraph.layers.core.tree import get_layer
from minigraph.ops.random import RandomStream


@with_guarded_methods
class Stateful(metaclass=LayerType):
    """An object that has variables of its own, by name: parameters, statistics, and the states of random streams.

    dtype: that of its parameters, None for the one of the first input of floats. seed: what they are drawn from.
    """

    seed = Setting(as_seed)

    def __init__(self, dtype: Any, seed: int | None) -> None:
        self.dtype = None if dtype is None else as_dtype(dtype)
        self.seed = seed
        self.own_variables: Mapping[str, Variable] = {}
        """The layer's own state by name, which `add_parameter` adds to; that of layers below it is theirs."""
        self._initializers: Mapping[str, Initializer] = {}
        self._expressions: Mapping[str, Variable] = {}
        """Expressions that were given in place of parameters."""
        self._roles: Mapping[str, type[Role]] = {}
        """The roles here of variables that were given."""

    def add_parameter(
        self, name: str, shape: Iterable[int], initializer: Initializer, role: type[Role], dtype: Any = None
    ) -> Variable:
        """Make state of this layer, or take a given variable as such; called by `allocate_parameters`.

        name: by which the layer has it. shape: sizes that are known. initializer: see `layers/core/initialization.py`. role: a
        class of `layers.roles`. dtype: the layer's if left out. ValueError or TypeError, naming the layer and the parameter,
        for a value or a variable that does not fit.
        """
        rng, what = np.random.default_rng(self.own_seed(name)), f"{self!r}: {name}"
        settled, sizes = initializer.settled(tuple(shape)), tuple(shape)
        kind = as_dtype(dtype or self.dtype or default_float())
        if isinstance(settled, Given):
            return self._add_given(name, sizes, settled, role, kind)
        value = drawn(settled, rng, sizes, kind, what)
        self.check_value(what, role, value)
        variable = shared(value, name, borrow=True, tags=(role, self))
        self._keep(name, variable, initializer)
        return variable

    def _add_given(self, name: str, shape: tuple[int, ...], given: Given, role: type[Role], dtype: np.dtype[Any]) -> Variable:
        """Take a variable as state of this layer; errors for one that does not fit, or cannot follow where it has to."""
        variable, what = given.variable, f"{self!r}: {name}"
        if variable.dtype.kind != dtype.kind:
            raise InvalidTypeError(f"{what} has dtype {dtype}, and was given {variable!r}")
        if not agree(variable.type.shape, shape):
            raise InvalidValueError(f"{what} has shape {shape}, and was given {variable!r}")
        if isinstance(variable.op, Shared):
            self.check_value(what, role, variable.get_value(borrow=True))
            self._keep(name, variable, given)
            self._roles = {**self._roles, name: role}
        elif issubclass(role, PARAMETER):
            self._expressions = {**self._expressions, name: variable}
        else:
            raise InvalidTypeError(f"{what} follows minibatches, and so must be a shared variable, not {variable!r}")
        return variable

    def _keep(self, name: str, variable: Variable, initializer: Initializer) -> None:
        """Take a variable, with its initializer, as state of this layer."""
        self.own_variables = {**self.own_variables, name: variable}
        self._initializers = {**self._initializers, name: initializer}

    def parameter(self, name: str) -> Variable:
        """The layer's own variable of this name, or the expression that was given in its place; KeyError for neither."""
        return self._expressions[name] if name in self._expressions else self.own_variables[name]

    def has_parameter(self, name: str) -> bool:
        """Whether the layer has a variable of its own of this name, or was given an expression for it."""
        return name in self._expressions or name in self.own_variables

    def drop_parameter(self, name: str) -> None:
        """Do without a variable of the layer's own, or the expression that was given in its place, if it has either."""
        self.own_variables = {key: one for key, one in self.own_variables.items() if key != name}
        self._expressions = {key: one for key, one in self._expressions.items() if key != name}
        self._roles = {key: role for key, role in self._roles.items() if key != name}

    def roles_of_own(self, name: str) -> tuple[type[Role], ...]:
        """The roles of one of the layer's own variables, that which a variable was given for included."""
        own = roles_of(self.own_variables[name])
        return (*own, self._roles[name]) if name in self._roles and self._roles[name] not in own else own

    def add_stream(self, name: str = "stream", stream: RandomStream | None = None) -> RandomStream:
        """Make a random stream of this layer, or take one, whose state is saved and initialized with the layer's; called by
        `allocate_parameters`.
        """
        if stream is not None and not isinstance(stream, RandomStream):
            raise InvalidTypeError(f"{self!r} draws from a RandomStream, not {stream!r}")
        own = RandomStream(self.own_seed(name)) if stream is None else stream
        self._keep(name, own.state, Restart(tuple(int(one) for one in own.state.get_value())))
        return own

    def own_seed(self, name: str) -> int:
        """A seed for something of this layer, from the layer's seed and the path of its current application."""
        return (self.seed or 0) << 32 | binascii.crc32(f"{current_layer()}.{name}".encode())

    @property
    def own_parameters(self) -> list[Variable]:
        """The variables that this layer learns, without those of layers below it: its own, and the shared variables that
        expressions depend on which were given in their place.
        """
        own = [one for name, one in self.own_variables.items() if is_any(self.roles_of_own(name), PARAMETER)]
        return list(dict.fromkeys([*own, *(one for given in self._expressions.values() for one in _learned_behind(given))]))

    def start_of(self, name: str, rng: np.random.Generator | None = None) -> Array:
        """The value that one of the layer's own variables starts from, drawn anew if it is random."""
        variable = self.own_variables[name]
        owner = get_layer(variable)
        if owner is not None and owner is not self and owner.own_variables.get(variable.name or "") is variable:
            return owner.start_of(variable.name or "", rng)
        shape = variable.get_value(borrow=True).shape
        return drawn(self._initializers[name], np.random.default_rng(rng), shape, variable.dtype, f"{self!r}: {name}")

    def was_given(self, name: str) -> bool:
        """Whether one of the layer's own variables was given to it, and not made by it."""
        return name in self._roles

    def settle_initial_values(self) -> None:
        """Set the variables that start from the values which others of the layer's own were just given."""

    # -- values ------------------------------------------------------------------------------------------------------

    def check_value(self, what: str, role: type[Role], array: Array) -> None:
        """Raise, naming `what`, if state in this role cannot have the value of `array`."""

    def check_values(self, values: Mapping[str, Array]) -> None:
        """Raise if the layer's own variables cannot have these values, given by name, some of them or all."""
        for name, array in values.items():
            for role in self.roles_of_own(name):
                self.check_value(f"{self!r}: {name}", role, array)

    def listed(self) -> list[str]:
        """The names of the arrays that `get_values` lists, in their order."""
        return list(self.own_variables)

    def optional(self) -> set[str]:
        """The names that may be left out in `set_values`."""
        return set()

    def get_values(self) -> dict[str, Array]:
        """Copies of the layer's own arrays by name; of normalizations those that their system lists, in its order.

        These are exchanged with other systems; further state, such as a count of minibatches that a system does not save, is in
        `get_parameter_values` alone.
        """
        return {name: self.own_variables[name].get_value() for name in self.listed()}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set the layer's own arrays by name, all of them or none; axes of size 1 may be added or dropped, and floats rounded.

        Sizes that are not known yet follow from the arrays. A count of minibatches may be left out, and then stays. ValueError
        for a name that lacks or is unknown, for a shape that does not fit, and for values that the dtype does not reach or that
        cannot be, such as negative variances; TypeError for anything but real numbers. If it fails, nothing has changed.
        """
        with unchanged_on_failure([self]):
            self.allocate_from(values)
            own = self.listed()
            if not set(own) - self.optional() <= set(values) <= set(own):
                raise InvalidValueError(f"{self!r} takes the arrays {own}, not {list(values)}")
            given = {name: self.own_variables[name] for name in own if name in values}
            arrays = {
                name: fitted(values[name], one.get_value(borrow=True).shape, one.dtype, f"{self!r}: {name}")
                for name, one in given.items()
            }
            self.check_values(arrays)
            assign([one.cell for one in given.values()], list(arrays.values()))

    def allocate_from(self, values: Mapping[str, Any]) -> None:
        """Make the variables, with the sizes of arrays that they are about to be set to, unless they exist already."""


@contextmanager
def unchanged_on_failure(layers: Iterable[Stateful]) -> Iterator[None]:
    """Leave the layers as they were if the block raises; the values of variables that they had are not brought back."""
    before = [(layer, dict(vars(layer))) for layer in layers]
    try:
        yield
    except BaseException:
        for layer, attributes in before:
            vars(layer).clear()
            vars(layer).update(attributes)
        raise


def unlearned(layer: Stateful) -> list[Variable]:
    """The layer's own variables that it does not learn."""
    return [one for name, one in layer.own_variables.items() if not is_any(layer.roles_of_own(name), PARAMETER)]


def _learned_behind(expression: Variable) -> list[Variable]:
    """The shared variables of floats that an expression depends on in a differentiable way, without state that only follows."""
    reached = reachable([expression], differentiated_inputs)
    layers = {tag.layer for one in reached for tag in one.tags if isinstance(tag, ApplicationCall)}
    kept = {variable for layer in layers for variable in unlearned(layer)}
    found = [one for one in toposort([expression]) if isinstance(one.op, Shared) and one in reached and one not in kept]
    return [one for one in found if one.dtype.kind == "f" and (has_roles(one, [PARAMETER]) or not has_roles(one, [PERSISTENT]))]
