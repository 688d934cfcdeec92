"""Cells of state, and the only way in which they change: several at once, or none."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, repeat, tee
from operator import attrgetter
from typing import Any

import numpy as np

from minigraph.core.errors import ExecutionError
from minigraph.core.locks import Lock, found_again, holding, in_order, is_lost, new_lock

SUCCESS = -1
"""The number that an attempt to compute new values yields if it succeeded."""
CHANGED = -4
"""The number that `exchange` returns if some state has changed, so that nothing was attempted."""


def on_host(array: Any) -> np.ndarray[Any, Any]:
    """An array itself, or a copy on the host of one that lies on a GPU."""
    if isinstance(array, np.ndarray):
        return array
    host: np.ndarray[Any, Any] = array.get()
    return host


class Cell:
    """A place for an array, on the host or on a GPU: replaced as a whole, or written over by an update that alone refers to it.

    `value` is missing while an update works, for other threads to see: it can be read with `snapshot`, which waits.
    """

    __slots__ = ("__weakref__", "lock", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.lock = new_lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Cell, tuple(map(on_host, snapshot([self])))


class Change:
    """The last change of any state in this process: `last` is another object after each, set just before it begins.

    A finalizer or a signal handler may change state in the middle of a call of its own thread, whatever locks that holds.
    """

    last: object = None


_value_of = attrgetter("value")
_consume = deque[Any](maxlen=0).extend


def locks_of(cells: Iterable[Cell]) -> tuple[Lock, ...]:
    """The locks of cells, as `holding` takes them."""
    return in_order(cell.lock for cell in cells)


def snapshot(cells: Sequence[Cell]) -> tuple[Any, ...]:
    """The values of all cells, read within one C call, so that they belong together; waits for updates of other threads.

    ExecutionError for a value that nobody is about to put back.
    """
    while True:
        try:
            return tuple(map(_value_of, cells))
        except AttributeError:  # an update is at work in another thread, which holds the lock
            for cell in cells:
                holding((cell.lock,), _check_presence, cell)


def _check_presence(cell: Cell) -> None:
    """ExecutionError if there is no value, even though no other thread is at work."""
    if hasattr(cell, "value"):
        return
    if is_lost(cell.lock):
        raise ExecutionError(
            "a shared variable has lost its value: this process was forked while another thread, which is gone here, was "
            "writing it; give it one with set_value, or fork while no function is called"
        )
    raise ExecutionError(
        "a shared variable cannot be read or set in the midst of its own update, by a finalizer that runs in there; let the "
        "finalizer note what is to be done, and do it after the call"
    )


def exchange(cells: Sequence[Cell], old: Sequence[Any], new: Sequence[Any], attempt: Iterator[int], seen: object) -> int:
    """Take the values out of the cells, attempt to compute new ones, and put these in if that yields SUCCESS, else the old.

    All this is one C call, which Ctrl-C cannot split; other threads find the cells empty meanwhile. Returns what the attempt
    yields, or CHANGED if `Change.last` is no longer what was `seen` when state was read.
    """
    attempt, told = tee(attempt)
    values = chain.from_iterable(map({SUCCESS: new}.get, attempt, repeat(old)))
    swap = chain(map(delattr, cells, repeat("value")), map(setattr, cells, repeat("value"), values))
    this = object()
    if Change.last is not seen:
        return CHANGED
    Change.last = this
    try:
        _consume(swap)
    except BaseException:
        for cell, value in zip(cells, old, strict=True):
            if not hasattr(cell, "value"):  # the attempt itself raised
                cell.value = value
        raise
    return next(told)


def assign(cells: Sequence[Cell], values: Sequence[Any]) -> None:
    """Give every cell its new value, or none; ExecutionError within an update of one of them."""
    holding(locks_of(cells), _put, cells, values)


def _put(cells: Sequence[Cell], values: Sequence[Any]) -> None:
    """Give every cell its new value, within one C call, which neither Ctrl-C nor another thread can split."""
    kept = []  # freed after the last assignment, not between two
    for cell in cells:
        if is_lost(cell.lock):
            found_again(cell.lock)
        else:
            _check_presence(cell)
            kept.append(cell.value)
    Change.last = object()
    _consume(map(setattr, cells, repeat("value"), values))


def replace_unchanged(cells: Sequence[Cell], values: Sequence[Any], read: Sequence[Cell], found: Sequence[Any]) -> bool:
    """Give `cells`, whose locks are held, new `values` if those `read` still hold what was `found`; returns whether they do."""
    kept = snapshot(cells)  # freed after the last assignment
    while True:
        seen, this = Change.last, object()
        if not all(getattr(cell, "value", None) is value for cell, value in zip(read, found, strict=True)):
            return False
        swap = map(setattr, cells, repeat("value"), values)
        if Change.last is seen:
            Change.last = this
            _consume(swap)
            del kept
            return True


def move(cell: Cell, array: Any, other: Any) -> None:
    """Put `other`, the same value that lies elsewhere, in the place of a cell's `array`, unless that has changed meanwhile."""
    holding((cell.lock,), _move, cell, array, other)


def _move(cell: Cell, array: Any, other: Any) -> None:
    """The same for a cell whose lock is held."""
    with suppress(AttributeError):  # it is being updated
        if cell.value is array:
            Change.last = cell.value = other
