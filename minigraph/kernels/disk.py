"""Compiled code on disk, so that the next process need not compile it again.

A file is named after everything that its code was made from, and begins with a digest of what follows, so that one that was cut
off counts as missing. A directory that cannot be used costs nothing but time: whoever compiles never fails for it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OFF = "off"
DIGEST_BYTES = 32
MOST_FILES = 2000
"""How many files the directory holds before those that were not used for longest are removed."""


def directory() -> Path | None:
    """Where compiled code is kept: MINIGRAPH_CACHE, else a place in the user's own cache; None for `off`, or without a home."""
    from pathlib import Path  # slow to import

    asked = os.environ.get("MINIGRAPH_CACHE")
    if asked:
        return None if asked == OFF else Path(asked)
    users = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(users) if users else Path.home() / ".cache") / "minigraph"
    except RuntimeError:  # this user has no home
        return None


def key(*parts: str) -> str:
    """The name of what is made from these texts."""
    return _digest("\0".join(parts).encode()).hex()


def _digest(data: bytes) -> bytes:
    """What tells whether two pieces of data are equal."""
    from hashlib import sha256  # slow to import

    return sha256(data).digest()


def load(name: str) -> bytes | None:
    """What is kept under a name, None if there is nothing whole."""
    place = directory()
    if place is None:
        return None
    try:
        kept = (place / name).read_bytes()
        os.utime(place / name)  # it was used
    except OSError:
        return None
    digest, data = kept[:DIGEST_BYTES], kept[DIGEST_BYTES:]
    return data if _digest(data) == digest else None


def save(name: str, data: bytes) -> None:
    """Keep something under a name: whole, or not at all."""
    place = directory()
    if place is None:
        return
    with suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_oldest(place)
        unfinished = place / f"{name}.{os.getpid()}"
        try:
            unfinished.write_bytes(_digest(data) + data)
            unfinished.replace(place / name)
        finally:
            unfinished.unlink(missing_ok=True)


@cache
def _remove_oldest(place: Path) -> None:
    """Once in a process, if the directory is full, remove the half of its files that were not used for longest."""
    files = sorted((one.stat().st_mtime, one) for one in place.iterdir() if one.is_file())
    for _, one in files[: len(files) // 2] if len(files) > MOST_FILES else ():
        one.unlink(missing_ok=True)
