"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file, open for writing and reading, that takes the place of the one at a path when the block ends.

    If the block raises, or what follows fails, the file at the path is as it was, and nothing else is left. Readers see the old
    file or the new one, whole, even after a loss of power. Symbolic links are followed, and the mode bits of a file that is
    replaced are kept. OSError where the system cannot write.
    """
    target = Path(os.path.realpath(path))
    descriptor, name = _opened(target.parent)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            if target.exists() and hasattr(os, "fchmod"):
                os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(descriptor)
            name = name or _named(descriptor, target.parent)
        name.replace(target)
    except BaseException:
        if name is not None:
            name.unlink(missing_ok=True)
        raise
    _sync(target.parent)


def _opened(folder: Path) -> tuple[int, Path | None]:
    """A new file in a folder, and its path; None where the system lets it have no name, so that it goes with the process."""
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").exists():
        with suppress(OSError):  # not all file systems know such files
            return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), None
    name = _new_name(folder)
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), name


def _named(descriptor: int, folder: Path) -> Path:
    """The path that a file without a name is given in a folder."""
    name = _new_name(folder)
    with _folder(folder) as place:  # without it, Python calls a function of the system that would link the link
        os.link(f"/proc/self/fd/{descriptor}", name.name, dst_dir_fd=place, follow_symlinks=True)
    return name


def _new_name(folder: Path) -> Path:
    """A path in a folder at which there is no file."""
    return folder / f".{token_hex(8)}.minigraph"


def _sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where systems can."""
    if hasattr(os, "O_DIRECTORY"):
        with _folder(folder) as place:
            os.fsync(place)


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """The descriptor of a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
