"""NumPy's files: arrays, and archives of arrays."""

from __future__ import annotations

import math
import re
from functools import partial
from typing import Any

import numpy as np

from minigraph.core.errors import FileFormatError
from minigraph.files.archive import Archive
from minigraph.files.bounded import Array, Bounded
from minigraph.files.contents import Contents

BEGINNING, ENDING = b"\x93NUMPY", ".npy"
_HEADER = re.compile(
    r"\{'descr': '([<>|=]?[?bBhHiIlLqQefdiuf][0-9]*)', 'fortran_order': (True|False), 'shape': \(([0-9, ]*)\), ?\}\s*"
)
"""The header that `numpy.save` writes: the dtype of an array, its order, its shape."""


def read(source: Bounded) -> Contents:
    """The array of a file that holds one, under the name "array"."""
    array = parsed(source.part(0, source.size, "the file"), str(source.path))
    return Contents(source.path, "npy", {"array": lambda: array}, {})


def is_archive(archive: Archive) -> bool:
    """Whether all members of an archive are NumPy's files."""
    return bool(archive) and all(name.endswith(ENDING) for name in archive)


def read_archive(source: Bounded, archive: Archive) -> Contents:
    """The arrays of an archive, which `numpy.savez` writes, by the names of its members."""
    makers = {name.removesuffix(ENDING): partial(_member, source, archive, name) for name in archive}
    return Contents(source.path, "npz", makers, {})


def _member(source: Bounded, archive: Archive, name: str) -> Array:
    """An array of an archive."""
    try:
        return parsed(archive[name], name)
    except FileFormatError as error:
        source.refuse(error.message)


def parsed(data: memoryview, what: str) -> Array:
    """The array of bytes that `numpy.save` wrote; FileFormatError, naming them as `what`, for others and for Python objects."""
    version, start = (data[6], 10 if data[6] == 1 else 12) if len(data) > 12 and data[:6] == BEGINNING else (0, 0)
    length = int.from_bytes(data[8:start], "little") if version in (1, 2, 3) else len(data)
    if start + length > len(data) or not version:
        raise FileFormatError(f"{what} is no array of NumPy's, or is damaged")
    header = _HEADER.fullmatch(str(data[start : start + length], "latin-1"))
    dtype = None if header is None else _dtype(header[1])
    if header is None or dtype is None:
        raise FileFormatError(f"{what} holds no plain array of numbers: its header says {bytes(data[start : start + 80])!r}")
    shape = tuple([int(size) for size in header[3].split(",") if size.strip()])
    size, given = math.prod(shape) * dtype.itemsize, len(data) - start - length
    if len(shape) > 64 or size != given:
        raise FileFormatError(f"{what} has shape {shape} of {dtype}, which takes {size} bytes, and {given}")
    flat = np.frombuffer(data[start + length :], dtype).astype(dtype.newbyteorder("="), copy=False)
    found: Array = flat.reshape(shape[::-1]).T if header[2] == "True" else flat.reshape(shape)
    return found


def _dtype(text: str) -> np.dtype[Any] | None:
    """The dtype that a header says, None if it is not one of numbers."""
    try:
        found = np.dtype(text)
    except TypeError:
        return None
    return found if found.kind in "biuf" and found.itemsize <= 8 else None
