"""Compiled code on disk, so that the next process need not compile it again.

Whoever may write there decides what this process runs. So the directory is used only if it, and each file that is read,
belongs to the user, or to root, and nobody else may write to it; otherwise nothing is kept, and `doctor` says why. A file is
named after all that its code was made from, and begins with a digest of what follows, so that one that was cut off counts as
missing. A directory that cannot be used costs nothing but time: whoever compiles never fails for it.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

OFF = "off"
DIGEST_BYTES = 32
MOST_FILES, MOST_BYTES = 2000, 512 * 2**20
"""The most files and bytes that the directory holds before those that were not used for longest are removed."""
SAVES_BETWEEN_COUNTS = 200
STALE_SECONDS = 3600.0
"""The age from which on a file that is not finished counts as abandoned by the process that began it."""
LARGEST_FILE = 256 * 2**20

_UNFINISHED = ".part"
_KINDS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86", b"\x64\xaa")
"""The first bytes of object files: of Linux, of macOS, and of Windows on two kinds of processors."""


class Untrusted(OSError):
    """A directory or a file that others could have written; the message says why."""


class Place(NamedTuple):
    """The directory of compiled code, or an empty path, and the reason why there is none."""

    path: str
    reason: str = ""


def place() -> Place:
    """The directory: MINIGRAPH_CACHE, else one in the user's own cache."""
    asked = os.environ.get("MINIGRAPH_CACHE")
    if asked == OFF:
        return Place("", "MINIGRAPH_CACHE is off")
    try:
        if asked:
            path = os.path.expanduser(asked)
            return Place(os.path.abspath(path)) if not path.startswith("~") else Place("", f"there is no user for {asked}")
        users, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")
        if os.path.isabs(users):
            return Place(os.path.join(users, "minigraph"))
        if os.environ.get("HOME") != "" and os.path.isabs(home) and os.path.isdir(home):
            return Place(os.path.join(home, ".cache", "minigraph"))
    except OSError as error:  # the current directory is gone
        return Place("", str(error))
    return Place("", "this user has no home directory")


def refusal() -> str:
    """Why nothing is kept, empty if something is."""
    where = place()
    if not where.path:
        return where.reason
    try:
        with _opened(where.path):
            return ""
    except FileNotFoundError:
        return ""
    except OSError as error:
        return str(error)


def key(*parts: str) -> str:
    """The name of what is made from these texts."""
    return _digest("\0".join(parts).encode()).hex()


def _digest(data: bytes) -> bytes:
    """A digest, by which pieces of data are compared."""
    from hashlib import sha256  # slow to import

    return sha256(data).digest()


def load(name: str) -> bytes | None:
    """The data that is kept under a name, None if it is missing, incomplete, or not to be trusted."""
    where = place()
    if where.path:
        with suppress(OSError), _opened(where.path) as folder:
            return _read(folder, name)
    return None


def save(name: str, data: bytes) -> None:
    """Keep something under a name: whole, or not at all."""
    where = place()
    if not where.path:
        return
    with suppress(OSError):
        _make(where.path)
        with _opened(where.path) as folder:
            if os.fstat(folder).st_uid == os.geteuid():
                _make_room(folder, where.path, DIGEST_BYTES + len(data))
                _write(folder, name, _digest(data) + data)


# -- trust -----------------------------------------------------------------------------------------------------------


def _make(path: str) -> None:
    """Make a directory, and those above it, for this user alone."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(one, 0o700)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor of the directory; Untrusted, or another OSError, if it cannot be used."""
    if not hasattr(os, "geteuid"):
        raise Untrusted("this system does not tell whom files belong to")
    real = os.path.realpath(path)
    folder = os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _check(os.fstat(folder), path)
        above = os.path.dirname(real)
        while above != os.path.dirname(above):
            mode = os.stat(above).st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise Untrusted(f"everybody may replace what lies in {above}, where {path} is")
            above = os.path.dirname(above)
        yield folder
    finally:
        os.close(folder)


def _check(found: os.stat_result, what: str) -> None:
    """Untrusted if somebody else than this user, and root, who may do anything anyway, owns something or may write to it."""
    if found.st_uid not in (os.geteuid(), 0):
        raise Untrusted(f"{what} belongs to user {found.st_uid}, not to {os.geteuid()}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Untrusted(f"others may write to {what}: its mode is {stat.S_IMODE(found.st_mode):o}, expected 700")


def _read(folder: int, name: str) -> bytes | None:
    """The content of a regular file that only this user could have written, without what is not an object file."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(file, "rb") as opened:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_FILE:
            return None
        _check(found, name)
        kept = opened.read()
        with suppress(OSError):  # a cache that can only be read
            os.utime(file)  # it was used
    digest, data = kept[:DIGEST_BYTES], kept[DIGEST_BYTES:]
    return data if data.startswith(_KINDS) and _digest(data) == digest else None


# -- writing ---------------------------------------------------------------------------------------------------------


def _write(folder: int, name: str, data: bytes) -> None:
    """Write a file under a name that nobody can foresee, and give it its own when it is whole."""
    unfinished = f"{name}.{os.urandom(8).hex()}{_UNFINISHED}"
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(data)
        os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=folder)
        raise


class _Usage:
    """The files and bytes in a directory: as they were counted last, and what this process has put there since."""

    def __init__(self) -> None:
        self.files = self.bytes = 0
        self.saves = SAVES_BETWEEN_COUNTS  # it has never been counted


_usages: dict[str, _Usage] = {}


def _make_room(folder: int, path: str, size: int) -> None:
    """Note that `size` bytes come; if that is too much, remove what was not used for longest, until half is left."""
    usage = _usages.setdefault(path, _Usage())
    usage.files, usage.bytes, usage.saves = usage.files + 1, usage.bytes + size, usage.saves + 1
    if usage.files <= MOST_FILES and usage.bytes <= MOST_BYTES and usage.saves <= SAVES_BETWEEN_COUNTS:
        return
    kept = sorted(_files(folder))
    files, total = len(kept) + 1, sum(each for _, each, _ in kept) + size
    if files > MOST_FILES or total > MOST_BYTES:
        for _, each, name in kept:
            if files <= MOST_FILES // 2 and total <= MOST_BYTES // 2:
                break
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
            files, total = files - 1, total - each
    usage.files, usage.bytes, usage.saves = files, total, 1


def _files(folder: int) -> Iterator[tuple[float, int, str]]:
    """When each of our files was used, its size and its name; those that were never ended are removed."""
    for name in os.listdir(folder):
        with suppress(OSError):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            stem, _, rest = name.partition(".")
            ours = len(stem) == 2 * DIGEST_BYTES and set(stem) <= set("0123456789abcdef")
            if not ours or not stat.S_ISREG(found.st_mode):
                continue
            if rest and time.time() - found.st_mtime > STALE_SECONDS:
                os.unlink(name, dir_fd=folder)
            else:
                yield found.st_mtime, found.st_size, name
