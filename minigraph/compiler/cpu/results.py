"""Memory of large results that nobody holds any more, for the next ones of the same size.

New memory of many pages costs the system about as long as a simple kernel takes to fill it.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LARGE = 2**24
"""The bytes from which on results come from here; smaller memory is used again by the C library."""
MOST_BYTES = 2**28
"""The bytes that results may take which are kept for when nobody holds them."""


class Results:
    """The latest large results, oldest first, of all functions. Those that are held, or viewed, are never given out again."""

    def __init__(self) -> None:
        self._latest: deque[Array] = deque()

    def new(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array in the order of C that nobody else holds; its content is left from earlier."""
        found = self._free(shape, dtype)
        array = np.empty(shape, dtype) if found is None else found
        if array.nbytes <= MOST_BYTES:
            self._latest.append(array)
            while sum([one.nbytes for one in [*self._latest]]) > MOST_BYTES:
                self._latest.popleft()
        return array

    def _free(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        """An array among the latest that has this shape, if nobody holds it any more."""
        for _ in range(len(self._latest)):
            try:
                one = self._latest.popleft()  # no other thread finds it meanwhile
            except IndexError:
                return None
            if one.shape == shape and one.dtype == dtype and _references(one) == _ALONE and _is_as_made(one):
                return one
            self._latest.append(one)
        return None


def _references(array: Array) -> int:
    """The number of references to an array, some of which are those of this call."""
    return sys.getrefcount(array)


def _is_as_made(array: Array) -> bool:
    """Whether an array can be written to in the order of C, and nobody waits for its end."""
    return array.flags.carray and not weakref.getweakrefcount(array)


def _alone() -> int:
    """The number of references to an array that one variable holds, as `_references` counts them."""
    one = np.empty(0)
    return _references(one)


_ALONE = _alone()

results = Results()
"""The large results of this process."""
