"""Values that hold within a block, in the current thread or task alone."""

from __future__ import annotations

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
