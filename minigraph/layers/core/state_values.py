"""Values for the state of layers: what would be narrowed, reshaped or impossible raises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.context import quietly
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.initialization import Initializer, same_but_for_ones
from minigraph.layers.core.roles import (
    BATCH_NORM_POPULATION_INVERSE_STDEV,
    BATCH_NORM_POPULATION_STDEV,
    BATCH_NORM_POPULATION_VARIANCE,
    BATCH_NORM_POPULATION_WEIGHT,
    Role,
)

Array = np.ndarray[Any, Any]


def real(value: Any, what: str) -> Array:
    """An array of real numbers; TypeError, naming `what`, for anything else."""
    if isinstance(value, Variable | np.ma.MaskedArray):
        raise InvalidTypeError(f"{what} must be an array of real numbers, not the {type(value).__name__} {value!r}")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidTypeError(f"{what} cannot be made an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise InvalidTypeError(f"{what} must be real numbers, not {array.dtype}")
    return array


def in_dtype(array: Array, dtype: np.dtype[Any], what: str) -> Array:
    """A copy of `array` in another dtype, in which floats may be rounded; ValueError, naming `what`, for numbers beyond it."""
    result = quietly(array.astype, dtype)
    back = quietly(result.astype, array.dtype)
    if dtype.kind == "f":
        lost = np.isfinite(array) & ~np.isfinite(result)
    else:
        lost = (back != array) | ((result < 0) != (array < 0))
    if lost.any():
        raise InvalidValueError(f"{what} holds {array[lost].item(0)}, which {dtype.name} cannot")
    return result


def fitted(value: Any, shape: Sequence[int], dtype: np.dtype[Any], what: str) -> Array:
    """A copy of `value` with this shape and dtype, for which axes of size 1 may be added or dropped; errors name `what`."""
    array = real(value, what)
    if same_but_for_ones(array.shape, shape):
        return in_dtype(array.reshape(shape), dtype, what)
    raise InvalidValueError(f"{what} has shape {tuple(shape)}, not {array.shape}; only axes of size 1 can be added or dropped")


def drawn(initializer: Initializer, rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any], what: str) -> Array:
    """The array of a shape and dtype that an initializer draws from `rng`; ValueError, naming `what`, where it does not fit."""
    try:
        array = real(initializer.generate(rng, tuple(shape)), "what it draws")
    except (InvalidTypeError, InvalidValueError) as error:
        raise type(error)(f"{what}: {error.message}") from None
    if array.shape != tuple(shape):
        raise InvalidValueError(f"{what} has shape {tuple(shape)}, and {type(initializer).__name__} made one of {array.shape}")
    return in_dtype(array, dtype, what)


def impossible(array: Array, role: type[Role], epsilon: float = 1.0) -> str | None:
    """Why no normalization with this epsilon can have an array in this role, None if it can."""
    if not np.isfinite(array).all():
        return "holds values that are not finite"
    least = float(array.min()) if array.size else np.inf
    if issubclass(role, BATCH_NORM_POPULATION_WEIGHT) and least < 0:
        return f"holds {least}, and is never negative"
    if issubclass(role, BATCH_NORM_POPULATION_VARIANCE) and least < 0:
        return f"holds {least}, whose root is not finite: a variance is never negative"
    if issubclass(role, BATCH_NORM_POPULATION_STDEV) and (least < 0 or (least == 0 and epsilon > 0)):
        return f"holds {least}, which is not above 0"
    if issubclass(role, BATCH_NORM_POPULATION_INVERSE_STDEV) and least <= 0:
        return f"holds {least}, which is not above 0, so that the deviation is not finite"
    return None
