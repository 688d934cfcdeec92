"""What holds within a block: values of context variables, a pause of the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def holds(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Give a context variable this value inside the block, and its former one afterwards, also after an exception."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic garbage collection inside the block: it would walk over all variables again and again while more are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
