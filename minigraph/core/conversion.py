"""Variables from arrays and Python numbers, and arrays that fit a variable's type."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from minigraph.core.context import quietly
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Constant, Input, Shared, Variable
from minigraph.core.origin import described
from minigraph.core.state import Cell
from minigraph.core.types import TensorType, as_dtype, as_dtype_or_float, default_float, tensor_type


def tensor(name: str | None = None, *, dtype: Any = None, shape: Iterable[int | None]) -> Variable:
    """An input variable with an optional `name`; `shape` gives each axis a size, or None if it is unknown before a call.

    A `dtype` of None is the float type, float32 unless `config.float_type` says otherwise.
    """
    return Variable(Input(), (), tensor_type(as_dtype_or_float(dtype), shape), name)


def constant(value: Any, name: str | None = None, dtype: Any = None) -> Variable:
    """A constant variable of this `value`, with an optional `name`.

    Python numbers, and lists of them, are weak unless `dtype` is given: floats are of the float type on their own, and exact in
    the dtype of what they meet.
    """
    wanted = _dtype_of(value) if dtype is None else as_dtype(dtype)
    try:
        array = np.array(value, dtype=wanted)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"{described(value)} cannot be made an array of {wanted}: {error}") from None
    exact = np.array(value) if dtype is None and is_weak(value) else None
    return _constant_of(array, exact, name)


def number(exact: Array, dtype: np.dtype[Any]) -> Variable:
    """A weak constant that is of `dtype` on its own."""
    with np.errstate(all="ignore"):
        return _constant_of(np.array(exact, dtype=dtype), np.asarray(exact))


def _constant_of(array: np.ndarray[Any, Any], exact: np.ndarray[Any, Any] | None, name: str | None = None) -> Variable:
    """A constant that nobody can write to."""
    array.setflags(write=False)
    if exact is not None:
        exact.setflags(write=False)
    return Variable(Constant(array, exact), (), tensor_type(array.dtype, array.shape), name)


def shared(
    value: Any, name: str | None = None, borrow: bool = False, *, shape: Iterable[int | None] | None = None, dtype: Any = None,
    tags: tuple[Any, ...] = (),
) -> Variable:  # fmt: skip
    """A variable with state, kept between calls: at first `value`, in `dtype` if given, copied unless `borrow`.

    `shape` may leave sizes open with None: then, and only then, may the value's shape change later. `name` and `tags` are
    those of the variable.
    """
    wanted = _dtype_of(value) if dtype is None else as_dtype(dtype)
    array = np.asarray(value, dtype=wanted) if borrow else np.array(value, dtype=wanted)
    type = tensor_type(array.dtype, array.shape if shape is None else shape)
    if not type.accepts(array.shape):
        raise InvalidValueError(f"the value of shared variable {name or ''} has shape {array.shape}, declared {type.shape}")
    return Variable(Shared(Cell(array)), (), type, name, tags)


def as_variable(value: Any) -> Variable:
    """`value` itself if it is a variable, else a constant of it."""
    return value if isinstance(value, Variable) else constant(value)


def is_weak(value: Any) -> bool:
    """Whether `value` is a Python number, a list of them, or made from such alone, and takes the dtype of what it meets."""
    if isinstance(value, list | tuple):
        return all(is_weak(one) and not isinstance(one, Variable) for one in value)
    return value.weak if isinstance(value, Variable) else type(value) in (bool, int, float)


def _dtype_of(value: Any) -> np.dtype[Any]:
    """The dtype of a constant or shared variable made from `value`; TypeError if no array can be made."""
    if isinstance(value, Variable):
        raise InvalidTypeError(f"{value!r} is a variable already; it cannot be made a constant or shared variable")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidTypeError(f"{described(value)} cannot be made an array: {error}") from None
    if is_weak(value):
        return default_float() if array.dtype.kind == "f" else array.dtype
    if array.dtype.kind in "OUS":
        raise InvalidTypeError(f"{described(value)} of type {type(value).__name__} is not an array of numbers")
    return as_dtype(array.dtype)


def fit(value: Any, expected: TensorType, what: object) -> np.ndarray[Any, Any]:
    """`value` as an array of type `expected`: checked, and cast where no value can change.

    TypeError for a dtype or number of axes that does not fit, ValueError for a size; messages call the value `what`.
    """
    plain = type(value) is np.ndarray and value.dtype.kind in "biuf"
    array = value if plain else _array_from(value, expected, what)
    if array.dtype != expected.dtype:
        array = _safely_cast(array, expected, what, weak=is_weak(value) or isinstance(value, float))
    check_shape(array, expected, what)
    return array


def plain_array(value: Any, expected: TensorType) -> np.ndarray[Any, Any] | None:
    """The array that `fit` makes of a value that needs no check but that of its shape, in the order of C; else None.

    Such are arrays and NumPy's numbers of the expected dtype, and Python numbers, where one is expected, that the dtype holds.
    """
    kind, dtype = type(value), expected.dtype
    if kind is np.ndarray:
        if value.dtype != dtype:
            return None
        return value if value.flags.c_contiguous else np.array(value, dtype, order="C")
    if kind is float or kind is int:
        bound = _bounds(dtype).get(kind)
        return None if bound is None or expected.shape or not -bound <= value <= bound else np.array(value, dtype)
    return np.asarray(value) if isinstance(value, np.generic) and value.dtype == dtype else None


@cache
def _bounds(dtype: np.dtype[Any]) -> dict[type, Any]:
    """For Python's kinds of numbers how great those may be that a dtype holds, floats rounded to its digits."""
    if dtype.kind == "f":
        finest = np.finfo(dtype)
        return {float: float(finest.max), int: 2 ** (finest.nmant + 1)}
    return {int: np.iinfo(dtype).max} if dtype.kind == "i" else {}


def rounded(value: Any, expected: TensorType) -> Any:
    """Floats in the expected dtype if only digits are lost; `value` itself if one is too large, or a fraction for integers."""
    if isinstance(value, Variable | np.ma.MaskedArray) or (hasattr(value, "dtype") and value.dtype == expected.dtype):
        return value
    array = value if hasattr(value, "astype") else np.asarray(value)
    if array.dtype.kind != "f":
        return value
    with np.errstate(all="ignore"):
        result = array.astype(expected.dtype)
        same = (result == array) if expected.dtype.kind in "iu" else (abs(result) == np.inf) == (abs(array) == np.inf)
    return result if bool(same.all()) and expected.dtype.kind in "iuf" else value


def check_shape(array: Array, expected: TensorType, what: object) -> None:
    """TypeError if `array` has another number of axes than `expected`, ValueError for another size; both name `what`."""
    if array.ndim != expected.ndim:
        raise InvalidTypeError(f"{what} has {array.ndim} axes (shape {array.shape}), expected {expected.ndim}: {expected}")
    if not expected.accepts(array.shape):
        raise InvalidValueError(f"{what} has shape {array.shape}, expected {expected.shape}")


def _array_from(value: Any, expected: TensorType, what: object) -> np.ndarray[Any, Any]:
    """An array from a Python object; TypeError where that is a graph, or cannot be one."""
    if isinstance(value, Variable):
        raise InvalidTypeError(f"{what} is the variable {value!r}; give an array of {expected}")
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidTypeError(f"{what} is a masked array; fill it, or give data and mask as two arrays")
    try:
        array = np.array(value)
    except ValueError as error:
        raise InvalidTypeError(f"{what} cannot be made an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise InvalidTypeError(f"{what} is {type(value).__name__} {described(value)}; expected an array of {expected}")
    return array


def _safely_cast(array: np.ndarray[Any, Any], expected: TensorType, what: object, weak: bool) -> np.ndarray[Any, Any]:
    """`array` in the expected dtype: widened, an integer of the same value, or a Python float rounded; else TypeError."""
    source, target = array.dtype.kind, expected.dtype.kind
    if source not in "biuf":
        raise InvalidTypeError(f"{what} has dtype {array.dtype}, expected {expected.dtype}")
    result = quietly(array.astype, expected.dtype)
    back = quietly(result.astype, array.dtype)
    if np.can_cast(array.dtype, expected.dtype, "safe"):
        return result
    if source in "iu" and target in "iuf" and np.array_equal(back, array) and np.array_equal(result < 0, array < 0):
        return result
    if weak and source == "f" == target and np.array_equal(np.isinf(result), np.isinf(array)):
        return result
    raise InvalidTypeError(
        f"{what} has dtype {array.dtype}, expected {expected.dtype}, and cannot be cast without loss; "
        f"convert it yourself, for instance with .astype({expected.dtype.name!r})"
    )
