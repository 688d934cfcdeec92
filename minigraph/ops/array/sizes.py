"""Sizes, known when the graph is built or when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.dimensions import Dimension
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Constant, Shaped, Variable
from minigraph.core.types import Shape, TensorType, check_axis
from minigraph.ops.elementwise.base import cast

Sizes = Any
"""A size or a sequence of sizes, each an int or an integer scalar variable."""


class Size(Shaped):
    """The run-time size of one axis."""

    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        check_axis(self.axis, types[0].ndim)
        return TensorType(np.dtype("int64"), ())

    def compilable(self, *types: TensorType) -> bool:
        return True

    def forward(self, xp: Any, x: Array) -> Array:
        return np.asarray(x.shape[self.axis], "int64")


def split_sizes(sizes: Sizes) -> tuple[Shape, list[Variable]]:
    """A shape with None where a size is symbolic, and those sizes as int64 scalars."""
    sequence = sizes if isinstance(sizes, list | tuple) else (sizes,)
    pattern: list[int | None] = []
    symbolic: list[Variable] = []
    for one in sequence:
        known = known_size(one)
        pattern.append(known)
        if known is None:
            symbolic.append(cast(one, "int64"))
    return tuple(pattern), symbolic


def known_size(one: Any) -> int | None:
    """A size as an int, or None if it is symbolic; TypeError for anything else."""
    if isinstance(one, Variable):
        if one.dtype.kind not in "iu" or one.ndim:
            raise InvalidTypeError(f"a size must be an integer scalar, not {one!r}")
        return int(one.op.value) if isinstance(one.op, Constant) else None
    if isinstance(one, Dimension):
        return one  # type: ignore[return-value]
    if isinstance(one, bool) or not isinstance(one, int | np.integer):
        raise InvalidTypeError(f"a size must be an int or an integer scalar variable, not {one!r}")
    return int(one)


def fill_sizes(pattern: Shape, symbolic: Sequence[Array]) -> tuple[int, ...]:
    """`pattern` with each None replaced by the next run-time size."""
    remaining = iter(symbolic)
    return tuple(int(next(remaining)) if known is None else known for known in pattern)
