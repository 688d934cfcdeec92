"""The arguments of a call: bound to the inputs of a function by position, name or default, checked and cast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minigraph.compiler.interpreted import Backend
from minigraph.core.conversion import plain_array, rounded
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Variable
from minigraph.functions.build import In


class Arguments:
    """The inputs of a function, and the names by which callers give them."""

    def __init__(self, inputs: Sequence[In]) -> None:
        self._inputs = inputs
        self._names = [_InputName(position, spec.variable) for position, spec in enumerate(inputs)]
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

    def plain(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Array, ...] | None:
        """The value of each input as an array that needs no check but that of its shape; None where that is not the case."""
        missing = len(self._inputs) - len(args)
        if missing < 0 or (kwargs and not self._positions.keys() >= kwargs.keys()):
            return None
        values = [*args, *[None] * missing]
        for name, value in kwargs.items():
            position, *others = self._positions[name]
            if others or values[position] is not None:
                return None
            values[position] = value
        arrays = []
        for value, spec in zip(values, self._inputs, strict=True):
            array = plain_array(spec.value if value is None else value, spec.variable.type)
            if array is None:
                return None
            arrays.append(array)
        return tuple(arrays)

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
        kind, name = spec.variable.type, self._names[position]
        value = given.get(position, spec.value)
        if value is None:
            raise InvalidTypeError(f"{name} of {owner!r} is missing")
        plain = plain_array(value, kind)
        if plain is None:
            plain = rounded(value, kind) if spec.cast else value
        return backend.fit(plain, kind, name)


class _InputName:
    """The name of an input in messages, written when one needs it."""

    def __init__(self, position: int, variable: Variable) -> None:
        self._position, self._variable = position, variable

    def __str__(self) -> str:
        return f"input {self._position} ({self._variable!r}, made at {self._variable.origin})"
