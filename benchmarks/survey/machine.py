"""The limits of the machine: bytes a second for arrays of several sizes, operations a second of matrix products."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

SIZES = (2**18, 2**20, 2**22, 2**24, 2**26, 2**28)
"""The bytes of the arrays whose sum is measured, all together."""
SIDE = 1536


def measured(threads: int) -> dict[str, Any]:
    """The bandwidths by size, and the peaks by dtype, each the best of several tries."""
    with ThreadPoolExecutor(threads) as pool:
        bandwidths = [[size, max(_bandwidth(pool, threads, size) for _ in range(5))] for size in SIZES]
    return {"bandwidths": bandwidths, "peaks": {dtype: _peak(dtype) for dtype in ("float32", "float64")}}


def _bandwidth(pool: ThreadPoolExecutor, threads: int, size: int) -> float:
    """Bytes a second of additions in each thread, into memory that is there."""
    count = size // (3 * 4 * threads)
    arrays = [[np.ones(count, "float32") for _ in range(3)] for _ in range(threads)]
    repeats = max(1, 2**26 // size)

    def work(own: list[np.ndarray]) -> None:
        for _ in range(repeats):
            np.add(own[0], own[1], out=own[2])

    list(pool.map(work, arrays))
    start = time.perf_counter()
    list(pool.map(work, arrays))
    return repeats * size / (time.perf_counter() - start)


def _peak(dtype: str) -> float:
    """Operations a second of a product of two squares."""
    x, out = np.ones((SIDE, SIDE), dtype), np.empty((SIDE, SIDE), dtype)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        np.matmul(x, x, out=out)
        seconds.append(time.perf_counter() - start)
    return 2.0 * SIDE**3 / min(seconds)


def limit(machine: dict[str, Any], flops: float, moved: float, dtype: str) -> float:
    """The seconds that some operations and bytes take at least."""
    bandwidth = next((rate for size, rate in machine["bandwidths"] if moved <= size), machine["bandwidths"][-1][1])
    peak = machine["peaks"]["float64" if dtype == "float64" else "float32"]
    return float(max(moved / bandwidth, flops / peak))
