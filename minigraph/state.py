"""Where state lives, and the one way in which it changes: several cells at once, or none."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from operator import attrgetter
from typing import Any


class Cell:
    """One array, replaced as a whole and never written into."""

    __slots__ = ("__weakref__", "lock", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Cell, (self.value,)


_value_of = attrgetter("value")


def snapshot(cells: Sequence[Cell]) -> tuple[Any, ...]:
    """The values of all cells, read within one C call, so that they belong together."""
    return tuple(map(_value_of, cells))


def assign(cells: Sequence[Cell], values: Sequence[Any]) -> None:
    """Give every cell its new value, within one C call, which neither Ctrl-C nor another thread can split."""
    kept = snapshot(cells)  # freed after the last assignment, not between two
    deque(map(setattr, cells, repeat("value"), values), maxlen=0)
    del kept


@contextmanager
def locked(cells: Sequence[Cell]) -> Iterator[None]:
    """Hold the locks of all cells, taken in one order everywhere; whatever interrupts, those that were taken are released."""
    held: list[threading.RLock] = []
    try:
        for cell in sorted(cells, key=id):
            held.append(cell.lock)
            cell.lock.acquire()
        yield
    finally:
        for lock in held:
            try:
                lock.release()
            except RuntimeError:  # interrupted before it was acquired
                continue
