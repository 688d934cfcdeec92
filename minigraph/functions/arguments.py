"""The arguments of a call: bound to the inputs of a function by position, name or default, checked and cast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minigraph.compiler.interpreted import Backend
from minigraph.core.conversion import rounded
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array
from minigraph.functions.build import In


class Arguments:
    """The inputs of a function, and the names by which callers give them."""

    def __init__(self, inputs: Sequence[In]) -> None:
        self._inputs = inputs
        self._positions: dict[str, list[int]] = {}
        for position, spec in enumerate(inputs):
            if spec.key:
                self._positions.setdefault(spec.key, []).append(position)

    def bound(self, owner: object, backend: Backend, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        """The value of each input, from `args` and `kwargs`, as an array of the backend; errors name the function, `owner`."""
        if len(args) > len(self._inputs):
            raise InvalidTypeError(f"{owner!r} takes {len(self._inputs)} inputs, {len(args)} were given")
        given: dict[int, Any] = dict(enumerate(args))
        for name, value in kwargs.items():
            position = self._position(owner, name)
            if position in given:
                raise InvalidTypeError(f"input {name!r} of {owner!r} is given by position and by name")
            given[position] = value
        return [self._fitted(owner, backend, position, given) for position in range(len(self._inputs))]

    def _position(self, owner: object, name: str) -> int:
        """The position of the one input of this name."""
        positions = self._positions.get(name)
        if positions is None:
            raise InvalidTypeError(f"{owner!r} has no input named {name!r}; it has {sorted(self._positions)}")
        if len(positions) > 1:
            raise InvalidTypeError(
                f"{len(positions)} inputs of {owner!r} are named {name!r}: give them by position, or tell them apart with "
                "In(variable, name=...)"
            )
        return positions[0]

    def _fitted(self, owner: object, backend: Backend, position: int, given: Mapping[int, Any]) -> Array:
        """The value of one input."""
        spec = self._inputs[position]
        variable = spec.variable
        what = f"input {position} ({variable!r}, made at {variable.origin})"
        value = given.get(position, spec.value)
        if value is None:
            raise InvalidTypeError(f"{what} of {owner!r} is missing")
        return backend.fit(rounded(value, variable.type) if spec.cast else value, variable.type, what)
