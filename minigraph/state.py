"""Where state lives, and the one way in which it changes: several cells at once, or none."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat, tee
from operator import attrgetter
from typing import Any

import numpy as np

SUCCESS = -1
"""What an attempt to compute new values yields if it succeeded."""


def on_host(array: Any) -> np.ndarray[Any, Any]:
    """An array itself, or a copy on the host of one that lies on a GPU."""
    if isinstance(array, np.ndarray):
        return array
    host: np.ndarray[Any, Any] = array.get()
    return host


class Cell:
    """One array, on the host or on a GPU: replaced as a whole, or written over by an update that alone refers to it.

    `value` is missing while an update works, for other threads to see: it can be read with `snapshot`, which waits.
    """

    __slots__ = ("__weakref__", "lock", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Cell, tuple(map(on_host, snapshot([self])))


_value_of = attrgetter("value")


def snapshot(cells: Sequence[Cell]) -> tuple[Any, ...]:
    """The values of all cells, read within one C call, so that they belong together."""
    while True:
        try:
            return tuple(map(_value_of, cells))
        except AttributeError:  # an update is at work in another thread, which holds the lock
            for cell in cells:
                with cell.lock:
                    pass


def exchange(cells: Sequence[Cell], old: Sequence[Any], new: Sequence[Any], attempt: Iterator[int]) -> int:
    """Take the values out of the cells, attempt to compute new ones, and put these in if that yields SUCCESS, else the old.

    All this is one C call, which Ctrl-C cannot split; other threads find the cells empty meanwhile.
    """
    attempt, told = tee(attempt)
    values = chain.from_iterable(map({SUCCESS: new}.get, attempt, repeat(old)))
    taken, given = map(delattr, cells, repeat("value")), map(setattr, cells, repeat("value"), values)
    deque(chain(taken, given), maxlen=0)
    return next(told)


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


def move(cell: Cell, array: Any, other: Any) -> None:
    """Put the same value that lies elsewhere in the place of a cell's array, unless that has changed meanwhile."""
    with cell.lock:
        if getattr(cell, "value", None) is array:
            cell.value = other
