"""`minigraph.doctor()`: a page on what runs here, and why."""

from __future__ import annotations

import os
import platform

from minigraph.compiler import cache as disk
from minigraph.compiler.choose import choose, gpu_in_use
from minigraph.compiler.cpu.blas import blas, library_path
from minigraph.compiler.cpu.jit import is_available, llvm, register_bytes, target
from minigraph.compiler.cpu.products import FAST, FAST_TURNED, has_wide_registers
from minigraph.compiler.cpu.runtime import thread_count
from minigraph.core.errors import MinigraphError

__all__ = ["doctor"]


def doctor() -> str:
    """A page on what runs on this machine, and why: backends, code generation, matrix products, threads, GPU, versions.

    `python -m minigraph doctor` prints it.
    """
    sections = {
        "versions": _versions(),
        "backends": _backends(),
        "code generation": _code_generation(),
        "matrix products": _products(),
        "threads": [f"{thread_count()} (MINIGRAPH_NUM_THREADS sets another number)"],
    }
    width = max(map(len, sections))
    rows = [(title if not k else "", entry) for title, entries in sections.items() for k, entry in enumerate(entries)]
    return "\n".join(f"{title:{width}}  {entry}" for title, entry in rows)


def _versions() -> list[str]:
    """The versions of Python and of the libraries that are, or may be, used."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    found = [f"Python {platform.python_version()} on {platform.machine()} {platform.system()}"]
    for name in ("minigraph", "numpy", "networkx", "llvmlite", "scipy-openblas32", "cupy-cuda13x", "cupy-cuda12x"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} is not installed")
    return found


def _backends() -> list[str]:
    """Each backend, and whether it runs."""
    default = choose(None).name
    asked = os.environ.get("MINIGRAPH_BACKEND")
    reason = (
        f"MINIGRAPH_BACKEND is {asked}" if asked else "llvmlite is installed" if is_available() else "llvmlite is not installed"
    )
    lines = [f"{default} is used unless a function names another: {reason}"]
    for name in ("numpy", "native", "cupy"):
        try:
            choose(name)
        except MinigraphError as error:
            lines.append(f"{name}: no. {error.message}")
        else:
            lines.append(f"{name}: yes" + (f", on {gpu_in_use()}" if name == "cupy" else ""))
    return lines


def _code_generation() -> list[str]:
    """The processor that LLVM writes code for."""
    if not is_available():
        return ["none: install minigraph[jit]"]
    vectors = {64: "AVX-512", 32: "AVX2"}.get(register_bytes(), "short vectors")
    major, minor, patch = llvm().llvm_version_info
    return [
        f"LLVM {major}.{minor}.{patch} for {target()[1]} with {vectors}",
        f"code is not kept: {refusal} (MINIGRAPH_CACHE)"
        if (refusal := disk.refusal())
        else f"code is kept in {disk.place().path} (MINIGRAPH_CACHE)",
    ]


def _products() -> list[str]:
    """The library that multiplies matrices, and the processor that it computes for."""
    if not is_available() or library_path() is None:
        return ["NumPy's own: install minigraph[jit] for products inside of compiled regions"]
    library = blas()
    assert library is not None
    lines = [
        f"{library.config}",
        f"code for {library.core}{'' if not library.chosen else ', chosen since its own choice was ' + library.chosen}",
    ]
    if has_wide_registers():
        bounds = f"{FAST.start:,} to {FAST.stop:,} multiplications, from {FAST_TURNED.start:,} on for a transposed matrix"
        lines.append(f"of {bounds}, and of one row: code of our own, for AVX-512")
    return lines
