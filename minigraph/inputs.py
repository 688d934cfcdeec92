"""Input variables by number of axes, and shorthands that fix the dtype: i(nt32), l(ong, int64), f(loat32), d(ouble)."""

from __future__ import annotations

from collections.abc import Iterable
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


scalar = _maker("scalar", ())
vector = _maker("vector", (None,))
matrix = _maker("matrix", (None, None))
row = _maker("row", (1, None))
col = _maker("col", (None, 1))
tensor3 = _maker("tensor3", (None,) * 3)
tensor4 = _maker("tensor4", (None,) * 4)
tensor5 = _maker("tensor5", (None,) * 5)

iscalar = _maker("iscalar", (), "int32")
ivector = _maker("ivector", (None,), "int32")
imatrix = _maker("imatrix", (None, None), "int32")
irow = _maker("irow", (1, None), "int32")
icol = _maker("icol", (None, 1), "int32")
itensor3 = _maker("itensor3", (None,) * 3, "int32")
itensor4 = _maker("itensor4", (None,) * 4, "int32")
itensor5 = _maker("itensor5", (None,) * 5, "int32")

lscalar = _maker("lscalar", (), "int64")
lvector = _maker("lvector", (None,), "int64")
lmatrix = _maker("lmatrix", (None, None), "int64")
lrow = _maker("lrow", (1, None), "int64")
lcol = _maker("lcol", (None, 1), "int64")
ltensor3 = _maker("ltensor3", (None,) * 3, "int64")
ltensor4 = _maker("ltensor4", (None,) * 4, "int64")
ltensor5 = _maker("ltensor5", (None,) * 5, "int64")

fscalar = _maker("fscalar", (), "float32")
fvector = _maker("fvector", (None,), "float32")
fmatrix = _maker("fmatrix", (None, None), "float32")
frow = _maker("frow", (1, None), "float32")
fcol = _maker("fcol", (None, 1), "float32")
ftensor3 = _maker("ftensor3", (None,) * 3, "float32")
ftensor4 = _maker("ftensor4", (None,) * 4, "float32")
ftensor5 = _maker("ftensor5", (None,) * 5, "float32")

dscalar = _maker("dscalar", (), "float64")
dvector = _maker("dvector", (None,), "float64")
dmatrix = _maker("dmatrix", (None, None), "float64")
drow = _maker("drow", (1, None), "float64")
dcol = _maker("dcol", (None, 1), "float64")
dtensor3 = _maker("dtensor3", (None,) * 3, "float64")
dtensor4 = _maker("dtensor4", (None,) * 4, "float64")
dtensor5 = _maker("dtensor5", (None,) * 5, "float64")
