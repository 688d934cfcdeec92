"""Training mode and inference mode: blocks in which layers are in training, and how a layer asks for its mode."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.record import Record
from minigraph.layers.core.application import current_call
from minigraph.layers.core.tree import find_layers
from minigraph.ops.reduce.normalization import Replaceable

if TYPE_CHECKING:
    from minigraph.layers.core.base import Layer


class Modes(Record):
    """The layers that are in training, and those that were left out of it on purpose."""

    training: frozenset[Layer] = frozenset()
    left_out: frozenset[Layer] = frozenset()


_modes: ContextVar[tuple[Modes, ...]] = ContextVar("minigraph_modes", default=(Modes(),))
"""The modes in each of the blocks that were entered and not left; a block object itself has no state."""


def is_in_training(layer: Layer) -> bool:
    """Whether the graph being built is to train this layer; inference otherwise."""
    return layer in _modes.get()[-1].training


def is_left_out(layer: Layer) -> bool:
    """Whether the user left this layer out of training on purpose, by the predicate of a block."""
    return layer in _modes.get()[-1].left_out


class Untrained(Replaceable):
    """Marks its input as the result of an application in inference, which would differ in training."""


def untrained(x: Variable) -> Variable:
    """The result x of a layer with two modes in inference, marked so that `function` warns where parameters learn from it.

    It is not marked where the user left the layer out of training by a predicate.
    """
    call = current_call()
    if is_left_out(call.layer):
        return x
    return Variable(Untrained(), (x,), x.type, f"{call.layer.name}_untrained", (call,))


class training:
    """Build training-mode graph inside the block for these layers and all below them: batch statistics, dropout.

    Blocks nest, can be entered again, are left as they were entered, and hold for the current thread (or task) alone.
    `predicate` leaves out layers.
    """

    def __init__(self, *layers: Layer, predicate: Callable[[Layer], bool] = lambda layer: True) -> None:
        if not layers:
            raise InvalidValueError("name at least one layer whose training-mode graph is to be built")
        everything = frozenset(find_layers(layers))
        chosen = frozenset(find_layers(layers, predicate))
        self._modes = Modes(chosen, everything - chosen)

    def __enter__(self) -> None:
        enter(self._modes)

    def __exit__(self, *error: object) -> None:
        leave()


def enter(own: Modes) -> None:
    """Begin a block in which these modes hold, too."""
    blocks = _modes.get()
    outer = blocks[-1]
    joined = Modes(outer.training | own.training, (outer.left_out | own.left_out) - own.training)
    _modes.set((*blocks, joined))


def leave() -> None:
    """End the block that was entered last."""
    _modes.set(_modes.get()[:-1])
