"""Files of all systems, told apart by their contents."""

from __future__ import annotations

import os

from minigraph.files import archive as archives
from minigraph.files import npy, pickled_arrays, safetensors, torch
from minigraph.files.archive import Archive
from minigraph.files.bounded import Bounded
from minigraph.files.contents import Contents


def read(path: str | os.PathLike[str]) -> Contents:
    """The arrays of a file by name, each of which is read, and checked, when it is asked for.

    path: of a file of minigraph or of another system: safetensors, PyTorch's (`.pt`, `.pth`, also those from before version
    1.6), NumPy's `.npy` and `.npz`, and pickles of lists and dicts of arrays, of Python 2 or 3. They are told apart by their
    contents, whatever their names. No code in a file is run.

    FileFormatError for a file of no known format, for one that is damaged, and for anything in it that is not data.
    """
    source = Bounded(path)
    beginning = bytes(source.part(0, min(source.size, 16), "the beginning"))
    if beginning.startswith(archives.BEGINNING):
        return _read_archive(source)
    if beginning.startswith(npy.BEGINNING):
        return npy.read(source)
    if torch.is_old(source):
        return torch.read_old(source)
    if pickled_arrays.is_pickle(beginning):
        return pickled_arrays.read(source)
    return safetensors.read(source)


def _read_archive(source: Bounded) -> Contents:
    """The arrays of a zip archive."""
    archive = Archive(source)
    if torch.is_archive(archive):
        return torch.read_archive(source, archive)
    if npy.is_archive(archive):
        return npy.read_archive(source, archive)
    source.refuse(f"it is a zip archive of nothing known: {', '.join(list(archive)[:5])[:200]}")
