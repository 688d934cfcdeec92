"""Masks and lengths, which choose the elements of an input that count, along the axes that a layer averages over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.ops.array.creation import arange
from minigraph.ops.array.shape import restore_axes, shape
from minigraph.ops.elementwise.comparison import ge, le, lt
from minigraph.ops.elementwise.requirement import require


def checked_mask(
    x: Variable, mask: Any, lengths: Any, averaged: Sequence[int], named: tuple[int, int] | None = None
) -> Variable | None:
    """The mask of an application to x, with as many axes as x, made of lengths if these were given; None for neither.

    averaged: the axes that statistics are taken over. A mask of fewer axes than x has the axis of the batch, the first one, and
    then the first axes behind it that are averaged over; the first axes of x if there are not enough such. Lengths are those of
    rows along the first averaged axis behind the batch, or of and along the two axes that are `named`.

    ValueError for both, for sizes or a number of axes that do not fit, and for a mask that varies along no averaged axis.
    """
    if mask is not None and lengths is not None:
        raise InvalidValueError("give a mask or lengths, not both")
    if lengths is not None:
        return _length_mask(x, lengths, averaged, named)
    return None if mask is None else _laid_out(x, as_variable(mask), averaged)


def _laid_out(x: Variable, mask: Variable, averaged: Sequence[int]) -> Variable:
    """A mask with axes of size 1 where x has some that the mask lacks."""
    if mask.ndim > x.ndim:
        raise InvalidValueError(f"the mask {mask!r} has more axes than {x!r}")
    counted = [0, *(axis for axis in averaged if axis != 0)]
    axes = counted[: mask.ndim] if mask.ndim <= len(counted) and mask.ndim < x.ndim else range(mask.ndim)
    sizes = dict(zip(axes, mask.type.shape, strict=True))
    for axis, size in sizes.items():
        if size != 1 and None not in (size, x.type.shape[axis]) and size != x.type.shape[axis]:
            raise InvalidValueError(f"the mask {mask!r} has size {size} along axis {axis} of {x!r}")
    varying = [axis for axis, size in sizes.items() if size != 1]
    if varying and not set(varying) & set(averaged):
        raise InvalidValueError(
            f"the mask {mask!r} varies along axes {varying} of {x!r} alone, and statistics are taken over axes "
            f"{list(averaged)}: give a mask with the axes of the batch and of the steps, or with all axes of the input"
        )
    return restore_axes(mask, [axis for axis in range(x.ndim) if axis not in sizes], x.ndim)


def _length_mask(x: Variable, lengths: Any, averaged: Sequence[int], named: tuple[int, int] | None) -> Variable:
    """For each row which of its steps are within its length, which is checked, with axes of size 1 beside these two."""
    given = as_variable(lengths)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InvalidTypeError(f"lengths must be one integer for each row, not {given!r}")
    behind = [axis for axis in averaged if axis != 0]
    if named is None and not behind:
        raise InvalidValueError(
            f"lengths are those of rows along an axis that is averaged over, and behind the batch no axis of {x!r} is: "
            "give a mask, or axes that are averaged over"
        )
    rows, steps = named or (0, behind[0])
    wanted = f"lengths must be 0 or more, and at most the {x.type.shape[steps] or 'number of'} steps"
    if given.dtype.kind == "i":
        given = require(given, ge(given, 0), wanted, InvalidValueError)
    given = require(given, le(given, shape(x)[steps]), wanted, InvalidValueError)
    beside = [axis for axis in range(x.ndim) if axis != rows]
    numbers = restore_axes(arange(x.shape[steps]), [axis for axis in range(x.ndim) if axis != steps], x.ndim)
    return lt(numbers, restore_axes(given, beside, x.ndim))
