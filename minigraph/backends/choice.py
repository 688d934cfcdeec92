"""Which backend runs a function."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from minigraph.backends.interpreted import Backend
from minigraph.backends.native import Native
from minigraph.errors import ExecutionError, InvalidValueError, MissingExtraError
from minigraph.kernels import jit

NUMPY = Backend("numpy", np)
NATIVE = Native("native", np)


def choose(name: str | None) -> Backend:
    """The backend of this name, an error that says why where it cannot run.

    For None what the environment variable MINIGRAPH_BACKEND says; else the native one if llvmlite is installed, else NumPy.
    """
    wanted = name or os.environ.get("MINIGRAPH_BACKEND") or ("native" if jit.is_available() else "numpy")
    if wanted == "numpy":
        return NUMPY
    if wanted == "native":
        jit.llvm()
        return NATIVE
    if wanted == "cupy":
        return Backend("cupy", _import_cupy())
    raise InvalidValueError(f"there is no backend {wanted!r}; use 'native', 'numpy' or 'cupy'")


def _import_cupy() -> Any:
    """CuPy, if it is installed and sees a GPU; otherwise an error that says what is missing."""
    try:
        import cupy
    except ImportError as error:
        raise MissingExtraError(
            "backend 'cupy' needs CuPy: install minigraph[cuda13] or minigraph[cuda12], whichever fits the CUDA driver"
        ) from error
    if not cupy.cuda.is_available():
        raise ExecutionError("backend 'cupy' needs a CUDA GPU with its driver, and CuPy finds none on this machine")
    return cupy
