"""NumPy's arrays in pickles, also in those of Python 2, and the lists and dicts that hold them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from minigraph.core.errors import FileFormatError
from minigraph.files.bounded import Array, Bounded
from minigraph.files.contents import Contents
from minigraph.files.pickles import Deferred, Filled, Names, Reader

DEEPEST, MOST_REPEATS = 64, 10_000
"""The most dicts and lists around an array, and times that one may be met again: a pickle can hold it in many places."""


class PickledDtype(Filled):
    """A dtype of numbers."""

    def __init__(self, text: Any, *_: Any) -> None:
        """text: the letter of its kind, and the bytes of an item."""
        if text not in {f"{kind}{size}" for kind in "biuf" for size in (1, 2, 4, 8)}:
            raise FileFormatError(f"its pickle has arrays of dtype {str(text)[:20]!r}, which is not one of numbers")
        self.dtype = np.dtype(text)

    def fill(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else ""
        if order not in ("<", ">", "|", "="):
            raise FileFormatError("its pickle has a dtype in no order of bytes")
        self.dtype = self.dtype.newbyteorder(order if order != "=" else "<")


class PickledArray(Filled, Deferred):
    """An array, once its state is set."""

    def __init__(self, *_: Any) -> None:
        self._array: Array | None = None

    def fill(self, state: Any) -> None:
        match state:
            case (_, tuple(shape), PickledDtype() as kind, bool() | 0 | 1 as turned, str() | bytes() as data):
                raw = data.encode("latin-1") if isinstance(data, str) else data
                self._array = in_memory(raw, shape, kind.dtype, bool(turned))
            case _:
                raise FileFormatError("its pickle has an array whose state is damaged, or of Python objects")

    def array(self) -> Array:
        if self._array is None:
            raise FileFormatError("its pickle has an array without a state")
        return self._array


def in_memory(raw: bytes, shape: tuple[Any, ...], dtype: np.dtype[Any], turned: bool = False) -> Array:
    """An array of a `shape` and a `dtype` from its `raw` bytes, which lie in C order, or in Fortran's if it is `turned`."""
    if len(shape) > 64 or not all(type(size) is int and 0 <= size < 2**62 for size in shape):
        raise FileFormatError("an array has a shape that none can have")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise FileFormatError(f"an array of shape {shape} takes {math.prod(shape) * dtype.itemsize} bytes, and has {len(raw)}")
    flat: Array = np.frombuffer(raw, dtype).astype(dtype.newbyteorder("="), copy=False)
    return flat.reshape(shape[::-1]).T if turned else flat.reshape(shape)


def _scalar(kind: Any, raw: Any) -> PickledArray:
    """A number of NumPy's."""
    return _from_buffer(raw, kind, (), "C")


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> PickledArray:
    """An array in protocol 5 of pickles."""
    found = PickledArray()
    found.fill((1, shape, kind, order == "F", bytes(raw) if isinstance(raw, bytearray) else raw))
    return found


def _encoded(text: Any, codec: Any) -> bytes:
    """Bytes that Python 3 wrote into a pickle of Python 2."""
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise FileFormatError("its pickle encodes text in an unknown way")
    return text.encode("latin-1")


def _no_bytes(*arguments: Any) -> bytes:
    """The bytes of nothing, which Python 3 writes so into a pickle of Python 2."""
    if arguments:
        raise FileFormatError("its pickle makes bytes in an unknown way")
    return b""


def _refused(*_: Any) -> Any:
    """The error for a class that can be named but not called."""
    raise FileFormatError("its pickle makes an array in an unknown way")


NAMES: Names = {
    **{f"numpy.{core}.multiarray._reconstruct": PickledArray for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    "numpy.ndarray": _refused,
    "numpy.dtype": PickledDtype,
    "_codecs.encode": _encoded,
    "__builtin__.bytes": _no_bytes,
    "collections.OrderedDict": dict,
}


def is_pickle(beginning: bytes) -> bool:
    """Whether a file begins as pickles of lists, tuples and dicts do, those of Python 2's first protocols included."""
    return beginning[:1] == b"\x80" or beginning[:2] in (b"(l", b"(d", b"]q", b"}q", b"(t", b"](", b"}(")


def read(source: Bounded) -> Contents:
    """The arrays of a pickle of lists and dicts: by their keys, and `arr_k` for entry k of a list."""
    try:
        return contents(source, "pickle", Reader(NAMES).value(source.mapped))
    except FileFormatError as error:
        source.refuse(error.message)


def contents(source: Bounded, format: str, value: Any) -> Contents:
    """The arrays of a file of some `format`, which lie in the nested lists and dicts of a `value`, by the keys on the way.

    source: the file, for errors. Strings and numbers are in `about`.
    """
    makers: dict[str, Callable[[], Array]] = {}
    about: dict[str, Any] = {}
    for name, one in _flat(value):
        if isinstance(one, Deferred):
            makers[name] = partial(_made, source, name, one)
        else:
            about[name] = one
    return Contents(source.path, format, makers, about)


def _made(source: Bounded, name: str, deferred: Deferred) -> Array:
    """An array of a file."""
    try:
        return deferred.array()
    except FileFormatError as error:
        source.refuse(f"array {name[:200]!r}: {error.message}")


def _flat(value: Any) -> Iterator[tuple[str, Any]]:
    """The entries of nested lists and dicts that are neither."""
    stack: list[tuple[str, int, Any]] = [("", 0, value)]
    met: set[int] = set()
    repeats = 0
    while stack:
        name, depth, one = stack.pop()
        if isinstance(one, dict):
            parts = [(f"{name}.{key}" if name else str(key), depth + 1, inner) for key, inner in one.items()]
        elif isinstance(one, list | tuple):
            parts = [(f"{name}.{k}" if name else f"arr_{k}", depth + 1, inner) for k, inner in enumerate(one)]
        else:
            yield name, one
            continue
        repeats += id(one) in met
        met.add(id(one))
        if depth > DEEPEST or repeats > MOST_REPEATS:
            raise FileFormatError("it is nested too deeply, or holds itself")
        stack += reversed(parts)
