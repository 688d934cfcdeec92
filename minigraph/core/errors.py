"""The errors that minigraph raises; each is also the built-in error that users of Python expect."""

from __future__ import annotations

import numpy as np

from minigraph.core.origin import place as place_of_call
from minigraph.core.origin import without_contents

__all__ = [
    "ExecutionError", "FailedAssertionError", "FileFormatError", "ImmutableError", "InvalidAttributeError",
    "InvalidIndexError", "InvalidTypeError", "InvalidValueError", "LinearAlgebraError", "MinigraphError", "MissingExtraError",
    "OutOfMemoryError",
]  # fmt: skip


class MinigraphError(Exception):
    """The base of all errors of minigraph: what is wrong, and where: what was called, on what, on which line of the user's."""

    def __init__(self, message: str = "", place: str | None = None) -> None:
        super().__init__(without_contents(message), place_of_call() if place is None else place)

    @property
    def message(self) -> str:
        """The description of the error, without the place."""
        return str(self.args[0])

    def __str__(self) -> str:
        return "\n".join(part for part in self.args if part)


class InvalidTypeError(MinigraphError, TypeError):
    """A value of the wrong kind: a dtype, a number of dimensions, or a Python type that does not fit."""


class ImmutableError(InvalidTypeError, AttributeError):
    """An attempt to change a variable, which is made once and never edited."""


class InvalidAttributeError(InvalidTypeError, AttributeError):
    """An attribute that an object does not have."""


class InvalidValueError(MinigraphError, ValueError):
    """A value of the right kind that cannot be used: a shape, a size, an option, a missing or doubled entry."""


class FileFormatError(InvalidValueError):
    """A file that is damaged, that is not what it should be, or that asks for more than it holds; nothing was changed."""


class LinearAlgebraError(InvalidValueError, np.linalg.LinAlgError):
    """A matrix that cannot be inverted, factorized or solved by: it is singular, say, or not positive definite."""


class InvalidIndexError(MinigraphError, IndexError):
    """An index outside its axis, or more indices than there are axes."""


class FailedAssertionError(MinigraphError, AssertionError):
    """The condition of an `assert_` in a graph did not hold."""


class ExecutionError(MinigraphError, RuntimeError):
    """A graph that cannot be run as asked: a backend that is not available, a failure while running."""


class MissingExtraError(MinigraphError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""


class OutOfMemoryError(ExecutionError, MemoryError):
    """The memory of a GPU did not suffice; no state was changed."""
