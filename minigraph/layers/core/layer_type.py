"""The class of layer classes, which explains unknown arguments, and tells a finished layer from one that is being made."""

from __future__ import annotations

from abc import ABCMeta
from inspect import Signature, signature
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from minigraph.core.errors import InvalidTypeError
from minigraph.core.guard import BARE, answer, is_bare
from minigraph.layers.core.arguments import about_taken_argument

if TYPE_CHECKING:
    from minigraph.layers.core.base import Layer

L = TypeVar("L")


class LayerType(ABCMeta):
    """The class of layer classes: a layer is finished when its outermost `__init__` is through."""

    def __call__(cls: type[L], *args: Any, **options: Any) -> L:
        try:
            layer: L = type.__call__(cls, *args, **options)
        except BARE as error:
            message = about_taken_argument(cls, options, error) if is_bare(error) else None
            if message is not None:
                raise InvalidTypeError(message) from None
            answer(error, cls.__name__, args, options)
        vars(layer)["_is_made"] = True
        return layer

    @property
    def __signature__(cls) -> Signature:
        """The signature of a call of the class: the arguments of `__init__`."""
        own = signature(cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])


def is_layer(value: object) -> TypeGuard[Layer]:
    """Whether a value is a layer."""
    return isinstance(type(value), LayerType)
