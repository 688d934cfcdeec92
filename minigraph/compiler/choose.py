"""Which backend runs a function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from minigraph.compiler.cpu import jit
from minigraph.compiler.cpu.backend import NATIVE, Native
from minigraph.compiler.cuda.backend import CUDA, Gpu
from minigraph.compiler.cuda.plan import Device
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.passes import Journal, Pipeline, Wish
from minigraph.compiler.pipeline import PASSES, SECLUDE
from minigraph.core.config import BACKENDS, config
from minigraph.core.errors import ExecutionError, InvalidValueError, MissingExtraError

INTERPRETED = Pipeline((SECLUDE, *PASSES))


def choose(name: str | None, wishes: Iterable[Wish] = (), journal: Journal | None = None) -> Backend:
    """The backend of this name, an error that says why where it cannot run.

    wishes: passes to leave out and to add. journal: what is told of passes while functions are compiled.

    For None what `config.backend` or the environment variable MINIGRAPH_BACKEND says; else the native one if llvmlite is
    installed, else NumPy.
    """
    wanted = name or config.backend or ("native" if jit.is_available() else "numpy")
    journal = journal or Journal()
    if wanted == "numpy":
        return Backend("numpy", np, INTERPRETED.changed(wishes), journal)
    if wanted == "native":
        jit.llvm()
        return Native("native", np, NATIVE.changed(wishes), journal)
    if wanted == "cupy":
        cupy = usable_cupy()
        return Gpu("cupy", cupy, CUDA.changed(wishes), journal, config.device, Device(cupy))
    raise InvalidValueError(f"there is no backend {wanted!r}; use one of {BACKENDS}")


def usable_cupy() -> Any:
    """CuPy, if it is installed and can use the GPU that `config.device` names; otherwise an error that says what is missing."""
    try:
        import cupy
    except ImportError as error:
        raise MissingExtraError(
            "backend 'cupy' needs CuPy: install minigraph[cuda13] or minigraph[cuda12], whichever fits the CUDA driver"
        ) from error
    runtime = cupy.cuda.runtime
    driver, library = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if not driver:
        raise ExecutionError("backend 'cupy' needs a CUDA GPU with its driver, and no driver is installed on this machine")
    if driver // 1000 < library // 1000:
        raise ExecutionError(
            f"backend 'cupy': the driver is too old: it supports CUDA {_version(driver)}, and this CuPy needs CUDA "
            f"{library // 1000}; update the driver, or install minigraph[cuda{driver // 1000}]"
        )
    try:
        count = runtime.getDeviceCount()
    except RuntimeError:  # CuPy's error for no device
        count = 0
    if not count:
        raise ExecutionError("backend 'cupy' needs a CUDA GPU, and the driver finds none on this machine")
    if config.device >= count:
        raise ExecutionError(f"backend 'cupy': config.device is {config.device}, and there are GPUs 0 to {count - 1}")
    return cupy


def gpu_in_use() -> str:
    """The GPU that `config.device` names, and for which CUDA its driver is."""
    runtime = usable_cupy().cuda.runtime
    found = runtime.getDeviceProperties(config.device)
    name, size = found["name"].decode(), found["totalGlobalMem"] / 2**30
    return f"{name} ({size:.0f} GiB), device {config.device}, driver for CUDA {_version(runtime.driverGetVersion())}"


def _version(number: int) -> str:
    """A version of CUDA as one writes it."""
    return f"{number // 1000}.{number % 1000 // 10}"
