"""The bytes of a file, none of which is read or allocated for before it is known to be there."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from minigraph.core.errors import FileFormatError

Array = np.ndarray[Any, Any]


class Bounded:
    """A file that is read by parts, whose places and sizes are checked first.

    Its memory is mapped, so that what is not looked at is not read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """The file at a path; OSError if there is none, or it cannot be read, and FileFormatError if it is empty."""
        self.path = Path(path)
        with self.path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            if not self.size:
                self.refuse("it is empty")
            self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            """Its bytes, which can be read like a file, too."""
        self._memory = memoryview(self.mapped)

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that says what is wrong with the file."""
        raise FileFormatError(f"{self.path} cannot be read: {reason}")

    def part(self, start: int, length: int, what: str) -> memoryview:
        """The `length` bytes of the file from `start` on; an error, naming them as `what`, if they reach beyond its end."""
        if start < 0 or length < 0 or start + length > self.size:
            self.refuse(f"{what} takes {length} bytes from byte {start} on, and the file has {self.size}")
        return self._memory[start : start + length]

    def array(self, start: int, shape: Sequence[int], dtype: np.dtype[Any], what: str) -> Array:
        """The array of a `shape` in the memory of the file from `start` on, which cannot be written.

        dtype: that of the elements, which are little-endian and in C order. what: the name of the array in errors.
        """
        taken = self.part(start, math.prod(shape) * dtype.itemsize, what)
        found: Array = np.frombuffer(taken, dtype.newbyteorder("<"), math.prod(shape)).reshape(shape)
        return found.astype(dtype, copy=False)
