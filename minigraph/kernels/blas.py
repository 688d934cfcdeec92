"""Matrix products by OpenBLAS, the one that scipy-openblas32 carries, as kernels that a program can run.

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

import numpy as np

from minigraph.kernels.jit import Code, llvm

AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
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
    """Where the library lies, None if scipy-openblas32 is not installed."""
    import importlib.util  # these are slow to import
    from pathlib import Path

    found = importlib.util.find_spec("scipy_openblas32")
    if found is None or not found.submodule_search_locations:
        return None
    endings = {"win32": ".dll", "darwin": ".dylib"}
    libraries = (Path(found.submodule_search_locations[0]) / "lib").glob("*openblas*" + endings.get(sys.platform, ".so"))
    return next((str(path) for path in sorted(libraries)), None)


class Blas:
    """The loaded library: its functions, the core type that it computes for, and the one that it would have chosen itself."""

    def __init__(self, library: Any, path: str, chosen: str = "") -> None:
        self._library, self.path, self.chosen = library, path, chosen
        library.scipy_openblas_get_corename.restype = ctypes.c_char_p
        library.scipy_openblas_get_config.restype = ctypes.c_char_p
        self.core: str = library.scipy_openblas_get_corename().decode()
        self.config: str = library.scipy_openblas_get_config().decode()

    def address(self, function: str) -> int:
        """Where a function of the library begins."""
        found = ctypes.cast(getattr(self._library, f"scipy_cblas_{function}"), ctypes.c_void_p).value
        assert found is not None
        return found


def load(path: str, features: dict[str, bool]) -> Blas:
    """The library at a path, with AVX-512 code where the processor has it and the library would not use it."""
    alone = {"OPENBLAS_NUM_THREADS": "1"}
    with _environment(alone):
        library = ctypes.CDLL(path)
    loaded = Blas(library, path)
    capable = all(features.get(name) for name in AVX512)
    if capable and loaded.core in AVX2_CORES and "OPENBLAS_CORETYPE" not in os.environ and hasattr(os, "RTLD_LOCAL"):
        import _ctypes

        _ctypes.dlclose(library._handle)
        with _environment({**alone, "OPENBLAS_CORETYPE": AVX512_CORE}):
            loaded = Blas(ctypes.CDLL(path), path, chosen=loaded.core)
    return loaded


@cache
def blas() -> Blas | None:
    """The library, loaded when it is first needed; None if scipy-openblas32 is not installed."""
    path = library_path()
    return None if path is None else load(path, dict(llvm().get_host_cpu_features()))


PRODUCT_WORDS = 19

_PRODUCT = """
define i32 @product(ptr %bases, ptr %words, i64 %part, i64 %parts) {
READ
  %a.base.at = getelementptr ptr, ptr %bases, i64 %w0
  %a.base = load ptr, ptr %a.base.at, align 8
  %a0 = getelementptr i8, ptr %a.base, i64 %w1
  %b.base.at = getelementptr ptr, ptr %bases, i64 %w2
  %b.base = load ptr, ptr %b.base.at, align 8
  %b0 = getelementptr i8, ptr %b.base, i64 %w3
  %c.base.at = getelementptr ptr, ptr %bases, i64 %w4
  %c.base = load ptr, ptr %c.base.at, align 8
  %c0 = getelementptr i8, ptr %c.base, i64 %w5
  %next = add i64 %part, 1
  %split.rows = icmp eq i64 %w18, 1
  %split.columns = icmp eq i64 %w18, 2
  %split.stack = icmp eq i64 %w18, 0
  %extent.some = select i1 %split.rows, i64 %w8, i64 %w9
  %extent = select i1 %split.stack, i64 %w14, i64 %extent.some
  %unit = select i1 %split.stack, i64 1, i64 16
  %units.more = add i64 %extent, %unit
  %units.over = sub i64 %units.more, 1
  %units = sdiv i64 %units.over, %unit
  %from.scaled = mul i64 %units, %part
  %from.units = sdiv i64 %from.scaled, %parts
  %to.scaled = mul i64 %units, %next
  %to.units = sdiv i64 %to.scaled, %parts
  %from = mul i64 %from.units, %unit
  %to.wide = mul i64 %to.units, %unit
  %to.beyond = icmp sgt i64 %to.wide, %extent
  %to = select i1 %to.beyond, i64 %extent, i64 %to.wide
  %count = sub i64 %to, %from
  %m = select i1 %split.rows, i64 %count, i64 %w8
  %n = select i1 %split.columns, i64 %count, i64 %w9
  %a.transposed = icmp eq i64 %w6, 112
  %b.transposed = icmp eq i64 %w7, 112
  %a.row = select i1 %a.transposed, i64 1, i64 %w11
  %b.column = select i1 %b.transposed, i64 %w12, i64 1
  %a.shift = mul i64 %from, %a.row
  %a.shift.rows = select i1 %split.rows, i64 %a.shift, i64 0
  %b.shift = mul i64 %from, %b.column
  %b.shift.columns = select i1 %split.columns, i64 %b.shift, i64 0
  %c.shift.row = mul i64 %from, %w13
  %c.shift.rows = select i1 %split.rows, i64 %c.shift.row, i64 0
  %c.shift = select i1 %split.columns, i64 %from, i64 %c.shift.rows
  %a1 = getelementptr FLOAT, ptr %a0, i64 %a.shift.rows
  %b1 = getelementptr FLOAT, ptr %b0, i64 %b.shift.columns
  %c1 = getelementptr FLOAT, ptr %c0, i64 %c.shift
  %stack.first = select i1 %split.stack, i64 %from, i64 0
  %stack.last = select i1 %split.stack, i64 %to, i64 %w14
  %ta = trunc i64 %w6 to i32
  %tb = trunc i64 %w7 to i32
  %m32 = trunc i64 %m to i32
  %n32 = trunc i64 %n to i32
  %k32 = trunc i64 %w10 to i32
  %lda = trunc i64 %w11 to i32
  %ldb = trunc i64 %w12 to i32
  %ldc = trunc i64 %w13 to i32
  %work.rows = icmp sgt i64 %m, 0
  %work.columns = icmp sgt i64 %n, 0
  %work.stack = icmp slt i64 %stack.first, %stack.last
  %work.some = and i1 %work.rows, %work.columns
  %work = and i1 %work.some, %work.stack
  br i1 %work, label %before, label %done
before:
  br label %body
body:
  %s = phi i64 [ %stack.first, %before ], [ %following, %body ]
  %a.step = mul i64 %s, %w15
  %b.step = mul i64 %s, %w16
  %c.step = mul i64 %s, %w17
  %a = getelementptr FLOAT, ptr %a1, i64 %a.step
  %b = getelementptr FLOAT, ptr %b1, i64 %b.step
  %c = getelementptr FLOAT, ptr %c1, i64 %c.step
  call void inttoptr (i64 ADDRESS to ptr)(i32 101, i32 %ta, i32 %tb, i32 %m32, i32 %n32, i32 %k32,
    FLOAT 1.0, ptr %a, i32 %lda, ptr %b, i32 %ldb, FLOAT 0.0, ptr %c, i32 %ldc)
  %following = add i64 %s, 1
  %again = icmp slt i64 %following, %stack.last
  br i1 %again, label %body, label %done
done:
  ret i32 0
}
"""


@cache
def product_kernel(dtype: str) -> Code:
    """A kernel for stacks of products of a float dtype.

    Its words: slot and offset of a, b and c; 111 or (transposed) 112 for a and for b; m, n, k; the leading dimensions; the
    height of the stack and the strides along it; what is split into parts (0 the stack, 1 rows, 2 columns).
    """
    library = blas()
    assert library is not None
    read = "\n".join(
        f"  %w{k}.at = getelementptr i64, ptr %words, i64 {k}\n  %w{k} = load i64, ptr %w{k}.at, align 8"
        for k in range(PRODUCT_WORDS)
    )
    single = np.dtype(dtype) == np.float32
    address = library.address("sgemm" if single else "dgemm")
    text = _PRODUCT.replace("READ", read).replace("FLOAT", "float" if single else "double").replace("ADDRESS", str(address))
    return Code(text)
