"""cuBLAS, called through ctypes with handles of our own: CuPy refuses its own products while a stream is captured."""

from __future__ import annotations

import ctypes
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from minigraph.compiler.cuda.program import Gemm
from minigraph.core.errors import ExecutionError

WORKSPACE = 32 << 20
"""Bytes that cuBLAS may work in, as its manual advises for the newest GPUs."""

_TYPES = {"float32": (0, 68, ctypes.c_float), "float64": (1, 70, ctypes.c_double), "float16": (2, 68, ctypes.c_float)}
"""cuBLAS' numbers for a dtype of matrices and for the precision of sums, and the type of the factors."""
_TF32 = 77
"""Its number for sums in float32 of products in 19 bits."""
_DEFAULT_ALGORITHM = -1

_STATUS = {1: "not initialized", 3: "out of memory", 7: "invalid value", 8: "not supported by this GPU", 13: "execution failed"}


def loaded_library(version: int) -> str:
    """The file of the cuBLAS of this version of CUDA that CuPy has loaded into this process."""
    try:
        _ = import_module("cupy_backends.cuda.libs").cublas  # which finds and loads it
    except (ImportError, RuntimeError) as error:
        raise ExecutionError(f"CuPy finds no cuBLAS: install minigraph[cuda{version}], or CUDA ({error})") from error
    files = [line[line.index("/") :] for line in Path("/proc/self/maps").read_text().splitlines() if "/libcublas.so" in line]
    fitting = [file for file in files if re.search(rf"libcublas\.so\.{version}\b", file)]
    if not fitting:
        raise ExecutionError(f"CuPy has loaded no cuBLAS of CUDA {version}; loaded are {sorted(set(files))}")
    return fitting[0]


class Cublas:
    """A handle of the library on the current device."""

    def __init__(self, library: str) -> None:
        self._library = ctypes.CDLL(library)
        self._handle = ctypes.c_void_p()
        self._check(self._library.cublasCreate_v2(ctypes.byref(self._handle)), "cublasCreate")
        pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
        matrix: list[Any] = [pointer, integer, integer, long]
        self._gemm = self._library.cublasGemmStridedBatchedEx
        argtypes: list[Any] = [
            pointer, integer, integer, integer, integer, integer,
            pointer, *matrix, *matrix, pointer, *matrix, integer, integer, integer,
        ]  # fmt: skip
        self._gemm.argtypes = argtypes
        self._library.cublasSetStream_v2.argtypes = [pointer, pointer]
        self._library.cublasSetWorkspace_v2.argtypes = [pointer, pointer, ctypes.c_size_t]

    def work_in(self, stream: int, workspace: int) -> None:
        """Let the products that follow run on a stream, and work in this memory."""
        self._check(self._library.cublasSetStream_v2(self._handle, stream), "cublasSetStream")
        self._check(self._library.cublasSetWorkspace_v2(self._handle, workspace, WORKSPACE), "cublasSetWorkspace")

    def multiply(self, call: Gemm, a: int, b: int, c: int, tf32: bool) -> None:
        """Enqueue the `call` c = a @ b, factors rounded if `tf32`: to cuBLAS, which goes by columns, transposed b times a."""
        number, precision, factor = _TYPES[call.dtype]
        if tf32 and call.dtype == "float32":
            precision = _TF32
        one, zero = factor(1), factor(0)
        status = self._gemm(
            self._handle, int(call.transposed[1]), int(call.transposed[0]), call.columns, call.rows, call.inner,
            ctypes.byref(one), b, number, call.leading[1], call.strides[1], a, number, call.leading[0], call.strides[0],
            ctypes.byref(zero), c, number, call.columns, call.rows * call.columns, call.height, precision,
            _DEFAULT_ALGORITHM,
        )  # fmt: skip
        self._check(status, f"a product of {call.dtype} [{call.rows}, {call.inner}] @ [{call.inner}, {call.columns}]")

    def __del__(self) -> None:
        if self._handle:
            self._library.cublasDestroy_v2(self._handle)

    def _check(self, status: int, what: str) -> None:
        """Raise for a call that did not succeed."""
        if status:
            raise ExecutionError(f"cuBLAS: {what}: {_STATUS.get(status, f'status {status}')}")


def take_cublas(version: int) -> Cublas:
    """A handle of the library that CuPy uses, of this version of CUDA."""
    return Cublas(loaded_library(version))
