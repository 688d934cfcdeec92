"""The types of variables: a dtype and a partly known shape, with the rules of promotion and broadcasting.

A size of `None` is unknown, and never 1: only a static 1 broadcasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np

from minigraph.core.config import config
from minigraph.core.dimensions import Dimension
from minigraph.core.errors import InvalidTypeError, InvalidValueError

Shape = tuple[int | None, ...]
_NAMES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"
DTYPES = tuple(np.dtype(name) for name in _NAMES.split())


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """`dtype` as one of the supported NumPy dtypes; TypeError otherwise."""
    try:
        result = np.dtype(dtype)
    except TypeError as error:
        raise InvalidTypeError(f"{dtype!r} is not a dtype; use one of {_dtype_names()}") from error
    if result not in DTYPES:
        raise InvalidTypeError(f"dtype {result} is not supported; use one of {_dtype_names()}")
    return DTYPES[DTYPES.index(result)]


def default_float() -> np.dtype[Any]:
    """The dtype of floats where nothing else says one."""
    return np.dtype(config.float_type)


def as_dtype_or_float(dtype: Any) -> np.dtype[Any]:
    """`dtype` as for `as_dtype`; the float type if it is None."""
    return default_float() if dtype is None else as_dtype(dtype)


def _dtype_names() -> str:
    """The supported dtypes, for messages."""
    return ", ".join(dtype.name for dtype in DTYPES)


class TensorType:
    """A dtype and a shape; a size of None is unknown until run time, and is then never broadcast."""

    __slots__ = __match_args__ = ("dtype", "shape")  # as a frozen dataclass has it, which takes long to import
    dtype: np.dtype[Any]
    shape: Shape

    def __init__(self, dtype: np.dtype[Any], shape: Shape) -> None:
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "shape", shape)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"types are immutable: {name!r} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(other) is TensorType and (self.dtype, self.shape) == (other.dtype, other.shape)

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape))

    def __repr__(self) -> str:
        return f"TensorType(dtype={self.dtype!r}, shape={self.shape!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorType, (self.dtype, self.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def broadcastable(self) -> tuple[bool, ...]:
        """For each axis, whether its size is statically 1, so that it broadcasts."""
        return tuple(size == 1 for size in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name} {self.shape}" if self.shape else f"{self.dtype.name} scalar"

    def with_dtype(self, dtype: Any) -> TensorType:
        """The same shape with another dtype."""
        return TensorType(as_dtype(dtype), self.shape)

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether a run-time shape agrees with the static one."""
        return len(shape) == len(self.shape) and all(
            mine is None or mine == given for mine, given in zip(self.shape, shape, strict=True)
        )

    def admits(self, other: TensorType) -> bool:
        """Whether a variable of type `other` may stand where one of this type stood: same dtype, sizes and broadcasting."""
        return (
            self.dtype == other.dtype
            and self.ndim == other.ndim
            and all(
                mine == theirs or (None in (mine, theirs) and 1 not in (mine, theirs))
                for mine, theirs in zip(self.shape, other.shape, strict=True)
            )
        )


def tensor_type(dtype: Any, shape: Iterable[Any]) -> TensorType:
    """A `TensorType` from anything that names a dtype and a sequence of sizes; TypeError or ValueError if it cannot be."""
    sizes = tuple(shape)
    for size in sizes:
        if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer | Dimension)):
            raise InvalidTypeError(f"a size must be an int or None (unknown), not {size!r} in shape {sizes}")
        if size is not None and size < 0:
            raise InvalidValueError(f"a size cannot be negative: {size} in shape {sizes}")
    known: list[Any] = [size if isinstance(size, Dimension | None) else int(size) for size in sizes]
    return TensorType(as_dtype(dtype), tuple(known))


def as_ints(given: Any, what: str, least: int | None = None) -> tuple[int, ...]:
    """The int or ints `given` as a tuple; TypeError or ValueError, naming `what`, for others or for less than `least`."""
    listed = list(given) if isinstance(given, list | tuple | np.ndarray) else [given]
    for one in listed:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise InvalidTypeError(f"{what} must be an int or a sequence of ints, not {given!r}")
        if least is not None and one < least:
            raise InvalidValueError(f"{what} must be {least} or more, not {given!r}")
    return tuple(int(one) for one in listed)


def as_int(given: Any, what: str, least: int | None = None) -> int:
    """The int that is `given`; TypeError or ValueError, naming `what`, for others or for less than `least`."""
    if isinstance(given, list | tuple | np.ndarray):
        raise InvalidTypeError(f"{what} must be an int, not {given!r}")
    return as_ints(given, what, least)[0]


def as_sizes(given: Any, what: str) -> Shape:
    """A size or a sequence of sizes, each an int of 1 or more or None for an unknown one; errors as for `as_ints`."""
    listed = list(given) if isinstance(given, list | tuple | np.ndarray) else [given]
    return tuple(None if one is None else as_int(one, what, 1) for one in listed)


def promote(strong: Sequence[np.dtype[Any]], weak: Sequence[bool | int | float] = ()) -> np.dtype[Any]:
    """The common dtype of arrays (`strong`) and Python scalars (`weak`).

    NumPy 2's promotion, except that integers never widen a float: int64 with float32 is float32. With no array among
    the operands a Python float is of the float type.
    """
    floats = [dtype for dtype in strong if dtype.kind == "f"]
    if strong:
        return np.result_type(*(floats or strong), *weak)
    dtype = np.result_type(*weak)
    return default_float() if dtype.kind == "f" else dtype


def float_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which NumPy computes `exp` and similar functions for an argument of `dtype`."""
    if dtype.kind == "f":
        return dtype
    return np.dtype({1: "float16", 2: "float32"}.get(dtype.itemsize, "float64"))


def broadcast_shapes(shapes: Sequence[Shape]) -> Shape:
    """The static shape of an elementwise result; ValueError where two known sizes disagree."""
    ndim = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (ndim - len(shape)) + shape for shape in shapes]
    return tuple(_common_size(sizes, shapes) for sizes in zip(*padded, strict=True))


def _common_size(sizes: Sequence[int | None], shapes: Sequence[Shape]) -> int | None:
    """The size that one axis of a broadcast result has."""
    wide = [size for size in sizes if size != 1]
    known = {size for size in wide if size is not None}
    if len(known) > 1:
        listed = " and ".join(str(shape) for shape in shapes)
        raise InvalidValueError(f"shapes {listed} cannot be broadcast together: sizes {sorted(known)} differ")
    if known:
        return known.pop()
    return None if wide else 1


def check_axis(axis: int, ndim: int) -> int:
    """`axis` counted from the front; ValueError outside of [-ndim, ndim)."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise InvalidTypeError(f"an axis must be an int, not {axis!r}")
    if not -ndim <= axis < ndim:
        raise InvalidValueError(f"axis {axis} is out of bounds for an array with {ndim} axes")
    return int(axis) % ndim


def check_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """The sorted, non-negative axes that `axis` (None: all) stands for; ValueError if out of bounds or named twice."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, int | np.integer | list | tuple | np.ndarray):
        raise InvalidTypeError(f"axis must be None, an int or a sequence of ints, not {axis!r}")
    axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    result = tuple(sorted(check_axis(one, ndim) for one in axes))
    if len(set(result)) != len(result):
        raise InvalidValueError(f"an axis is named twice in {axes}")
    return result


def drop_axes(shape: Shape, axes: Sequence[int]) -> Shape:
    """`shape` without `axes`."""
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)
