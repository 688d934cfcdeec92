"""Recurrent layers of recurrent layers: both directions, and one over the other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.application import application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.settings import check_flags, flag, listed
from minigraph.layers.linear import Linear, with_last_size
from minigraph.layers.recurrent.driver import Recurrent
from minigraph.ops.array.arranging import concatenate

__all__ = ["Bidirectional", "RecurrentStack"]


class Bidirectional(Layer):
    """A recurrent layer and a copy of it that begins with the last row; their results are joined along the last axis.

    prototype: a recurrent layer without parameters yet; it becomes `forward`, and its copy `backward`.

    >>> layer = mg.layers.Bidirectional(mg.layers.SimpleRecurrent(3, input_dim=2))
    >>> layer.apply(mg.tensor("x", shape=(None, None, 2))).type.shape
    (None, None, 6)
    """

    fixed_when_made = frozenset({"forward", "backward"})

    def __init__(self, prototype: Recurrent, **options: Any) -> None:
        if not isinstance(prototype, Recurrent):
            raise InvalidTypeError(f"Bidirectional takes a recurrent layer, not {prototype!r}")
        if prototype.allocated:
            raise InvalidValueError(f"{prototype!r} has parameters already, and cannot be the prototype of two layers")
        self.forward, self.backward = prototype, copy.deepcopy(prototype)
        self.backward.name = f"{prototype.name}_backward"
        self.forward.name_is_final = self.backward.name_is_final = True
        super().__init__(children=[self.forward, self.backward], **options)

    @property
    def dim(self) -> int:
        """The size of the last axis of its results, which joins both directions."""
        return 2 * self.forward.dim

    @property
    def input_dim(self) -> int | None:
        """The size of the inputs that both directions multiply by a matrix of their own, None if they do not."""
        return self.forward.input_dim

    @property
    def features(self) -> int:
        """The size of the inputs of a step."""
        return self.forward.features

    def input_shape(self, x: Variable) -> list[int | None]:
        return with_last_size(x, self.features)

    @application
    def apply(self, inputs: Variable, mask: Variable | None = None, *, truncate_gradient: int = -1) -> Any:
        """The states (and cells, if there are any) of both directions at every row, (time, batch, 2 * dim).

        inputs: (time, batch, features). mask: (time, batch); rows where it is 0 leave the states unchanged. truncate_gradient:
        the number of last steps that gradients flow through, -1 for all.
        """
        options: dict[str, Any] = {"mask": mask, "truncate_gradient": truncate_gradient}
        both = [layer.apply(inputs, reverse=layer is self.backward, **options) for layer in (self.forward, self.backward)]  # type: ignore[attr-defined]
        pairs = zip(*both, strict=True) if isinstance(both[0], list) else [both]
        joined = [concatenate([there, back[::-1]], axis=-1) for there, back in pairs]
        return joined if len(joined) > 1 else joined[0]


class RecurrentStack(Layer):
    """Recurrent layers one upon the other: each takes the states of the one below, through a `Linear` unless it has an
    `input_dim`.

    transitions: the layers, from the lowest on; one may be `Bidirectional`, and the stack then goes over whole sequences alone.
    skip_connections: every layer takes the inputs, too, through a `Linear`.

    >>> stack = mg.layers.RecurrentStack([mg.layers.GRU(3, input_dim=2), mg.layers.GRU(4)])
    >>> [states.type.shape for states in stack.apply(mg.tensor("x", shape=(None, None, 2)))]
    [(None, None, 3), (None, None, 4)]
    """

    fixed_when_made = frozenset({"transitions", "forks", "skips"})

    def __init__(
        self, transitions: Sequence[Recurrent | Bidirectional], *, skip_connections: bool = False, **options: Any
    ) -> None:
        for one in listed(transitions, "transitions"):
            if not isinstance(one, Recurrent | Bidirectional):
                raise InvalidTypeError(f"a stack is made of recurrent layers, not {one!r}")
        if not transitions:
            raise InvalidValueError("a stack needs at least one recurrent layer")
        self.transitions, skips = list(transitions), flag(skip_connections, "skip_connections")
        self.forks: dict[int, Linear] = {}
        self.skips: dict[int, Linear] = {}
        for k, (below, one) in enumerate(zip(transitions, transitions[1:], strict=False), start=1):
            if one.input_dim is None:
                self.forks[k] = Linear(below.dim, one.features, name=f"fork_{k}")
            elif one.input_dim != below.dim:
                raise InvalidValueError(f"{one!r} takes {one.input_dim} features, and {below!r} below it has {below.dim}")
            if skips:
                self.skips[k] = Linear(transitions[0].features, one.features, use_bias=False, name=f"skip_{k}")
        super().__init__(children=[*self.transitions, *self.forks.values(), *self.skips.values()], **options)

    def input_shape(self, x: Variable) -> list[int | None]:
        return with_last_size(x, self.transitions[0].features)

    @property
    def names(self) -> list[list[str]]:
        """For each layer the names of its states in this stack, which can be given: `states`, `cells`, then `states_1`, ...;
        none of a layer that goes both ways.
        """
        own = [() if isinstance(one, Bidirectional) else one.apply.states for one in self.transitions]  # type: ignore[attr-defined]
        return [[name if not k else f"{name}_{k}" for name in states] for k, states in enumerate(own)]

    @application
    def apply(
        self,
        /,
        inputs: Variable,
        mask: Variable | None = None,
        *,
        iterate: bool = True,
        reverse: bool = False,
        return_sequences: bool = True,
        truncate_gradient: int = -1,
        **states: Any,
    ) -> Any:
        """All states of all layers, from the lowest on.

        inputs, mask, iterate, reverse, return_sequences, truncate_gradient: as a recurrent layer takes them. states: those
        before the first step, by the names in `names`; with iterate=False all of them must be given.
        """
        check_flags(iterate=iterate, reverse=reverse, return_sequences=return_sequences)
        unknown = set(states) - {name for own in self.names for name in own}
        if unknown:
            raise InvalidValueError(f"{self!r} has no states named {sorted(unknown)}; they are {self.names}")
        results: list[Variable] = []
        x = inputs
        for k, (layer, names) in enumerate(zip(self.transitions, self.names, strict=True)):
            if k in self.forks:
                x = self.forks[k](x)
            if k in self.skips:
                x = x + self.skips[k](inputs)
            if isinstance(layer, Bidirectional):
                outputs = _both_ways(layer, x, mask, iterate, reverse, truncate_gradient)
            else:
                own = layer.apply.states  # type: ignore[attr-defined]
                given = {mine: states[name] for mine, name in zip(own, names, strict=True) if name in states}
                options = {"reverse": reverse, "truncate_gradient": truncate_gradient} if iterate else {}
                outputs = layer.apply(x, mask=mask, iterate=iterate, **options, **given)  # type: ignore[attr-defined]
            listed = outputs if isinstance(outputs, list) else [outputs]
            results += listed
            x = listed[0][::-1] if reverse and k + 1 < len(self.transitions) else listed[0]
        if iterate and not return_sequences:
            results = [one[-1] for one in results]
        return results if len(results) > 1 else results[0]


def _both_ways(
    layer: Bidirectional, x: Variable, mask: Variable | None, iterate: bool, reverse: bool, truncate_gradient: int
) -> Any:
    """The results of a layer of a stack that goes both ways, in the order of the steps."""
    if not iterate:
        raise InvalidValueError(f"{layer!r} needs all rows at once, and cannot do a single step: leave out iterate=False")
    rows, present = (x[::-1], None if mask is None else mask[::-1]) if reverse else (x, mask)
    return layer.apply(rows, mask=present, truncate_gradient=truncate_gradient)
