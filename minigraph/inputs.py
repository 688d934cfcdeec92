"""Input variables by number of axes, and shorthands that fix the dtype: i(nt32), l(ong, int64), f(loat32), d(ouble)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from minigraph.core.conversion import tensor
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Variable

__all__ = [
    "scalar", "vector", "matrix", "row", "col", "tensor3", "tensor4", "tensor5", "iscalar", "ivector", "imatrix", "irow",
    "icol", "itensor3", "itensor4", "itensor5", "lscalar", "lvector", "lmatrix", "lrow", "lcol", "ltensor3", "ltensor4",
    "ltensor5", "fscalar", "fvector", "fmatrix", "frow", "fcol", "ftensor3", "ftensor4", "ftensor5", "dscalar", "dvector",
    "dmatrix", "drow", "dcol", "dtensor3", "dtensor4", "dtensor5",
]  # fmt: skip

Sizes = Iterable[int | None] | None


class InputMaker(Protocol):
    """A function that makes an input variable."""

    def __call__(self, name: str | None = None, *, dtype: Any = ..., shape: Sizes = None) -> Variable: ...


def _maker(kind: str, sizes: tuple[int | None, ...], dtype: Any = None) -> InputMaker:
    """A function that makes an input variable with this number of axes; its sizes can be fixed with `shape`."""
    fixed = dtype

    def make(name: str | None = None, *, dtype: Any = fixed, shape: Sizes = None) -> Variable:
        wanted = sizes if shape is None else tuple(shape)
        if len(wanted) != len(sizes):
            raise InvalidTypeError(f"a {kind} has {len(sizes)} axes, shape {wanted} has {len(wanted)}; use tensor(shape=...)")
        return tensor(name, dtype=dtype, shape=wanted)

    make.__name__ = make.__qualname__ = kind
    default = fixed or "the float type"
    make.__doc__ = f"An input variable, with a name or None, of shape {sizes} or `shape`, and of {default} or `dtype`."
    return make


_SIZES: dict[str, tuple[int | None, ...]] = {
    "scalar": (), "vector": (None,), "matrix": (None, None), "row": (1, None), "col": (None, 1),
    "tensor3": (None,) * 3, "tensor4": (None,) * 4, "tensor5": (None,) * 5,
}  # fmt: skip


def _makers(letter: str, dtype: Any = None) -> Iterator[InputMaker]:
    """The functions whose names begin with a letter, which stands for a dtype, in the order of _SIZES."""
    return (_maker(letter + kind, sizes, dtype) for kind, sizes in _SIZES.items())


scalar, vector, matrix, row, col, tensor3, tensor4, tensor5 = _makers("")
iscalar, ivector, imatrix, irow, icol, itensor3, itensor4, itensor5 = _makers("i", "int32")
lscalar, lvector, lmatrix, lrow, lcol, ltensor3, ltensor4, ltensor5 = _makers("l", "int64")
fscalar, fvector, fmatrix, frow, fcol, ftensor3, ftensor4, ftensor5 = _makers("f", "float32")
dscalar, dvector, dmatrix, drow, dcol, dtensor3, dtensor4, dtensor5 = _makers("d", "float64")
