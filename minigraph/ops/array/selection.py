"""Ops that compute nothing: each element of their result is one of their first operand, or follows from its position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.core.graph import Array, Op, Shaped
from minigraph.core.types import TensorType


class Selection(Shaped):
    """An op whose result shows elements of its first operand, where `index_map` says they are.

    A subclass states `infer` and `index_map`: kernels read the elements in place, and `forward` takes them out of arrays. The
    map is asked for types of known sizes only. One without picks is a view, and costs nothing where strides can tell it.
    """

    in_order = False
    """Whether the elements are those of the operand in C order, whatever the two shapes."""

    def compilable(self, *types: TensorType) -> bool:
        return self.in_order or all(one.dtype.kind in "iu" for one in types[1:])

    def is_view(self, *types: TensorType) -> bool:
        """Whether the result is known to be in the operand's memory, not picked by what other operands hold."""
        return len(types) == 1

    def may_fail(self, *types: TensorType) -> bool:
        return not self.is_view(*types)

    def forward(self, xp: Any, *arrays: Array) -> Array:
        types = [TensorType(one.dtype, one.shape) for one in arrays]
        found, shown = self.infer(*types), self.index_map(*types)
        assert isinstance(found, TensorType) and shown is not None
        return shown.take(xp, found.shape, arrays)  # type: ignore[arg-type]


class Counting(Op):
    """An op each element of whose result follows from its position in C order and from a few scalars."""

    def compilable(self, *types: TensorType) -> bool:
        return True

    def parameters(self) -> Sequence[tuple[int, tuple[int, ...]]]:
        """The scalars that `element` takes: for each an operand, and the index of an element of it."""
        raise TypeError(f"{type(self).__name__} does not define parameters")

    def element(self, xp: Any, position: Any, *scalars: Any) -> Any:
        """The element at a `position`, an int64, computed from `scalars` with the namespace `xp`."""
        raise TypeError(f"{type(self).__name__} does not define element")
