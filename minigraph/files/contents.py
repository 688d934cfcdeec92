"""The contents of a file: arrays by name, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Contents(Mapping[str, Array]):
    """The arrays of a file by name, in its order. Each is read, and checked, when it is first asked for, and cannot be written.

    path: of the file. format: the name of its kind, such as "safetensors". makers: for each name a function that reads the
    array. about: all else that the file says of itself.
    """

    def __init__(self, path: Path, format: str, makers: Mapping[str, Callable[[], Array]], about: Mapping[str, Any]) -> None:
        self.path, self.format, self.about = path, format, dict(about)
        self._makers = dict(makers)
        self._arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            array = self._makers[name]()
            array.flags.writeable = False
            self._arrays[name] = array
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __repr__(self) -> str:
        return f"<{self.format} file {str(self.path)!r} of {len(self)} arrays>"
