"""Conditions within a block or a call: values of context variables, NumPy silent, the garbage collector paused.

Ctrl-C may come on the way into `__exit__`, which then never runs; what a call does in a context of its own ends with it all
the same.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

import numpy as np

from minigraph.core.locks import inside

T = TypeVar("T")


class holds(Generic[T]):
    """Give a context variable this value inside the block, and its former one afterwards, also after an exception."""

    def __init__(self, variable: ContextVar[T], value: T) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> None:
        self._token = self._variable.set(self._value)

    def __exit__(self, *error: object) -> None:
        self._variable.reset(self._token)


def alone(work: Callable[..., T], *args: Any) -> T:
    """The result of `work`, whose changes to context variables end with it, whatever interrupts."""
    result: T = copy_context().run(work, *args)
    return result


def quietly(work: Callable[..., T], *args: Any) -> T:
    """The result of `work`, with NumPy silent about overflow, division by zero and invalid values."""
    result: T = alone(_quiet, work, *args)
    return result


def _quiet(work: Callable[..., T], *args: Any) -> T:
    """The same, in a context of its own."""
    np.seterr(all="ignore")
    return work(*args)


def without_collector(work: Callable[..., T], *args: Any) -> T:
    """The result of `work`, without cyclic garbage collection, which would walk over all variables again and again.

    The collector runs again afterwards, whatever interrupts, and in a forked child.
    """
    return inside((), _with_collector_off, work, *args) if gc.isenabled() else work(*args)


def _with_collector_off(work: Callable[..., T], *args: Any) -> T:
    """The result of `work`, computed with the collector off."""
    try:
        gc.disable()
        return work(*args)
    finally:
        gc.enable()
