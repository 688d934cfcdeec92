"""Locks that no interrupt leaves held, and that are free in a forked child.

Ctrl-C comes between two bytecodes, after any call: also between taking a lock and the `try` that gives it back, on the way
into `__exit__`, and between two calls of a `finally`. So locks are taken by one C call, inside of `try`, and given back by
another one whose arguments exist beforehand.

A fork copies locks, held or free, but not the threads that hold them. So it waits until no other thread is inside: each thread
holds a lock of its own, its gate, while it builds functions or calls them, except on the short way, where those of the state
do. All locks are re-entrant, for finalizers and signal handlers run in the middle of whatever their thread does.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, update_wrapper
from itertools import takewhile
from operator import methodcaller
from typing import Any, TypeVar

T = TypeVar("T")
Lock = threading.RLock
Registry = set["weakref.ref[Lock]"]

PATIENCE, PATIENCE_INSIDE = 60.0, 2.0
"""Seconds that a fork waits at most for other threads; the second where its own is inside, for which they may be waiting."""
FIRST_WAIT = 0.05
"""Seconds that a fork waits for one lock while it holds others, before it begins anew and waits longer."""

_acquire, _release = type(Lock()).acquire, type(Lock()).release
_consume: Callable[[Iterable[Any]], Any] = deque[Any](maxlen=0).extend


def holding(locks: Sequence[Lock], work: Callable[..., T], *args: Any) -> T:
    """The result of `work` for `args`, with `locks` held, taken in the given order; `in_order` gives the one that all use."""
    held: list[Lock] = []
    releases = map(_release, held)
    try:
        held.extend(filter(_acquire, locks))
        return work(*args)
    finally:
        _consume(releases)


def inside(locks: Sequence[Lock], work: Callable[..., T], *args: Any) -> T:
    """The result of `work` for `args`, with `locks` held, and before them the gate of this thread."""
    return holding((_own.gate, *locks), work, *args)


def in_order(locks: Iterable[Lock]) -> tuple[Lock, ...]:
    """Each of the locks once, in the order in which all threads take them."""
    return tuple(sorted({*locks}, key=id))


def once(make: Callable[..., T]) -> Callable[..., T]:
    """A function whose results are kept, each made once: also where several threads ask for it at the same time."""
    kept: dict[tuple[Any, ...], T] = {}
    lock = new_lock()

    def found(*args: Any) -> T:
        return kept[args] if args in kept else holding((lock,), made, args)

    def made(args: tuple[Any, ...]) -> T:
        if args not in kept:
            kept[args] = make(*args)
        return kept[args]

    return update_wrapper(found, make)


def new_lock() -> Lock:
    """A lock that a fork waits for."""
    return _registered(_locks)


def _registered(registry: Registry) -> Lock:
    """A new lock that is in a registry as long as it exists."""
    lock = Lock()
    registry.add(weakref.ref(lock, registry.discard))
    return lock


_locks: Registry = set()
_gates: Registry = set()
_entrances: Registry = set()
_entrance = _registered(_entrances)
"""Held while a thread makes its gate."""


class _Own(threading.local):
    """The state of each thread: its gate, made when the thread first comes."""

    def __init__(self) -> None:
        self.gate = holding((_entrance,), _registered, _gates)


_own = _Own()

# -- forks -----------------------------------------------------------------------------------------------------------

_releases: list[Iterator[None]] = []
"""An iterator that gives back the locks that a fork holds, when it is consumed."""

_lost: weakref.WeakSet[Lock] = weakref.WeakSet()


def is_lost(lock: Lock) -> bool:
    """Whether this process was forked while a thread, which is gone, held the lock: nobody ends what it had begun."""
    return lock in _lost


def found_again(lock: Lock) -> None:
    """Note that the state which the lock guards is whole again."""
    _lost.discard(lock)


def _alive(registry: Registry) -> list[Lock]:
    """The locks of a registry, in order."""
    return list(in_order(lock for reference in list(registry) if (lock := reference()) is not None))


def _every() -> list[Lock]:
    """All locks that there are."""
    return [*_alive(_entrances), *_alive(_gates), *_alive(_locks)]


def _take_all(held: list[Lock], seconds: float) -> Lock | None:
    """Take all locks; the first that is not free within `seconds` is returned, and those before it are held."""
    for registry in (_entrances, _gates, _locks):  # those of the state are listed when nobody can make new functions
        wanted, before = _alive(registry), len(held)
        held.extend(takewhile(methodcaller("acquire", True, seconds), wanted))
        if len(held) - before < len(wanted):
            return wanted[len(held) - before]
    return None


def _before_fork() -> None:
    """Take all locks, so that no other thread is at work while this process is copied.

    A thread that this one waits for may itself be waiting for a lock that is held here already: then all are given back, and it
    begins anew, with longer waits. What cannot be had in the end stays with its thread, and is lost in the child.
    """
    mine = any(map(methodcaller("_is_owned"), _every()))
    end = time.monotonic() + (PATIENCE_INSIDE if mine else PATIENCE)
    wait = FIRST_WAIT
    while True:
        held: list[Lock] = []
        releases = map(_release, held)
        _releases[:] = [releases]
        left = end - time.monotonic()
        if left < 0:
            held.extend(filter(methodcaller("acquire", False), _every()))
            return
        missed = _take_all(held, min(wait, left))
        if missed is None:
            return
        _consume(releases)
        wait *= 2
        _consume(map(_release, filter(methodcaller("acquire", True, min(wait, left)), [missed])))


def _lose() -> None:
    """In the child: free what threads hold that are gone."""
    for lock in _every():
        if lock.acquire(blocking=False):
            lock.release()
        else:
            lock._at_fork_reinit()  # type: ignore[attr-defined]
            _lost.add(lock)


if hasattr(os, "register_at_fork"):
    # Ctrl-C during the fork comes on the way into the next function in Python: sorting a list of one is all C.
    _give_back = partial(_releases.sort, key=_consume)
    os.register_at_fork(before=_before_fork, after_in_parent=_give_back, after_in_child=_give_back)
    os.register_at_fork(after_in_child=_lose)
