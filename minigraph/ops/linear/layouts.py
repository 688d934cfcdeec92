"""The order of the axes of images: channels before the spatial axes, as in "NCHW", or after them, as in "NHWC"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.ops.array.shape import dimshuffle
from minigraph.ops.elementwise.base import Operand

SPATIAL = {1: "W", 2: "HW", 3: "DHW"}
"""The letters of the spatial axes, by their number."""


def as_layout(value: Any, name: str) -> str | None:
    """A layout of one to three spatial axes, or None; an error for anything else."""
    names = [one for count in SPATIAL for one in _names(count)]
    if value is None or (isinstance(value, str) and value in names):
        return value
    raise InvalidValueError(f"{name} must be one of {', '.join(map(repr, names))}, not {value!r}")


def has_channels_last(layout: Any, count: int) -> bool:
    """Whether a layout, None being that with the channels first, has them after `count` spatial axes; an error for others."""
    first, last = _names(count)
    if layout is not None and not (isinstance(layout, str) and layout in (first, last)):
        raise InvalidValueError(f"with {count} spatial axes, layout must be {first!r} or {last!r}, not {layout!r}")
    return bool(layout == last)


def in_layout(work: Callable[[Operand], Variable], x: Operand, layout: Any, count: int) -> Variable:
    """The result of `work`, which takes and gives arrays with the channels first, for an x in a layout of `count` spatial axes.

    The result is in that layout, too.
    """
    if not has_channels_last(layout, count):
        return work(x)
    given = as_variable(x)
    if given.ndim != count + 2:
        raise InvalidTypeError(f"an array of layout {layout!r} has {count + 2} axes, and {given!r} has {given.ndim}")
    result = work(dimshuffle(given, 0, count + 1, *range(1, count + 1)))
    return dimshuffle(result, 0, *range(2, count + 2), 1)


def _names(count: int) -> tuple[str, str]:
    """The names of the layouts of `count` spatial axes: with the channels first, and last."""
    spatial = SPATIAL.get(count, f"<{count} axes>")
    return f"NC{spatial}", f"N{spatial}C"
