"""OpenBLAS, the one that scipy-openblas32 carries.

The library is loaded with one thread: products are split over minigraph's own, so that there is one pool of threads, and the
same bits whoever computes a part. Its choice of code for the processor is left alone, except where it takes AVX2 code on a
processor with AVX-512: some releases do not know newer processors.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from minigraph.compiler.cpu.jit import apart, register_bytes
from minigraph.core.locks import once

AVX512_CORE = "SkylakeX"
AVX2_CORES = ("Haswell", "Zen", "Excavator", "Sandybridge")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """The environment with these values, for as long as the library looks at it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def library_path() -> str | None:
    """The path of the library, None if scipy-openblas32 is not installed."""
    import importlib.util  # these are slow to import
    from pathlib import Path

    found = importlib.util.find_spec("scipy_openblas32")
    if found is None or not found.submodule_search_locations:
        return None
    endings = {"win32": ".dll", "darwin": ".dylib"}
    libraries = (Path(found.submodule_search_locations[0]) / "lib").glob("*openblas*" + endings.get(sys.platform, ".so"))
    return next((str(path) for path in sorted(libraries)), None)


class Blas:
    """The library loaded from a path: its functions, its core type, and the one that it had chosen, empty if that is in use."""

    def __init__(self, library: Any, path: str, chosen: str = "") -> None:
        self._library, self.path, self.chosen = library, path, chosen
        library.scipy_openblas_get_corename.restype = ctypes.c_char_p
        library.scipy_openblas_get_config.restype = ctypes.c_char_p
        self.core: str = library.scipy_openblas_get_corename().decode()
        self.config: str = library.scipy_openblas_get_config().decode()

    def address(self, function: str) -> int:
        """The address of a function of BLAS."""
        found = ctypes.cast(getattr(self._library, f"scipy_cblas_{function}"), ctypes.c_void_p).value
        assert found is not None
        return found

    def function(self, name: str) -> Any:
        """A function of the library that Python calls, by its name without the library's prefix."""
        return getattr(self._library, f"scipy_{name}")


def load(path: str, wide: bool) -> Blas:
    """The library at a path, with AVX-512 code where the processor is `wide` enough for it and the library would not use it."""
    alone = {"OPENBLAS_NUM_THREADS": "1"}
    with _environment(alone):
        library = ctypes.CDLL(path)
    loaded = Blas(library, path)
    if wide and loaded.core in AVX2_CORES and "OPENBLAS_CORETYPE" not in os.environ and hasattr(os, "RTLD_LOCAL"):
        import _ctypes

        _ctypes.dlclose(library._handle)
        with _environment({**alone, "OPENBLAS_CORETYPE": AVX512_CORE}):
            loaded = Blas(ctypes.CDLL(path), path, chosen=loaded.core)
    return loaded


@once
def blas() -> Blas | None:
    """The library, loaded when it is first needed; None if scipy-openblas32 is not installed."""
    path = library_path()
    return None if path is None else apart(lambda: load(path, register_bytes() == 64))
