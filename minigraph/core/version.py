"""The version of the package, and what is kept by one version alone."""

from __future__ import annotations

from typing import Any

from minigraph.core.errors import InvalidValueError

__version__ = "0.1.0"


class Stamp:
    """Stands first in a pickle: it cannot be loaded by a version that may compute something else.

    InvalidValueError by any but the version that wrote it, up to the last part, where nothing changes but faults.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return checked_stamp, (__version__,)


def checked_stamp(version: str) -> Stamp:
    """The stamp of a version that computes what this one does."""
    if version.split(".")[:2] != __version__.split(".")[:2]:
        raise InvalidValueError(
            f"this was pickled by minigraph {version}, and is loaded by {__version__}, where ops may be others: pickles last "
            f"as long as a version; make the function again, or load it with minigraph {version} and keep its arrays"
        )
    return Stamp()
