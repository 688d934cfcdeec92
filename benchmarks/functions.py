"""Elementwise functions of a million numbers in minigraph, NumPy, and PyTorch where it is installed, in one interleaved run.

python benchmarks/functions.py [--elements N] [--seconds S] [--only PART]

A figure is the nanoseconds an element of the fastest call, and the ratio of minigraph's to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigraph as mg

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

RANGES = {
    "exp": (-8, 8), "log": (0.01, 50), "log2": (0.01, 50), "log10": (0.01, 50), "log1p": (0.01, 50), "expm1": (-8, 8),
    "sin": (-8, 8), "cos": (-8, 8), "tan": (-8, 8), "arcsin": (-1, 1), "arccos": (-1, 1), "arctan": (-8, 8), "sinh": (-8, 8),
    "cosh": (-8, 8), "tanh": (-8, 8), "arcsinh": (-8, 8), "arccosh": (1, 50), "arctanh": (-1, 1), "erf": (-3, 3),
    "erfc": (-3, 3), "gammaln": (0.01, 50), "digamma": (0.01, 50), "power": (0.1, 8), "arctan2": (-8, 8), "hypot": (-8, 8),
}  # fmt: skip
"""The range of operands of each function."""

BINARY = ("power", "arctan2", "hypot")
PYTORCH = {"power": "pow", "gammaln": "lgamma"}
"""PyTorch's names that are others."""


def calls(name: str, dtype: str, elements: int) -> dict[str, Callable[[], Any]]:
    """A call of a function in each library that has it, on the same numbers."""
    rng = np.random.default_rng(0)
    given = [rng.uniform(*RANGES[name], elements).astype(dtype)]
    if name in BINARY:
        given.append(rng.uniform(-4, 4, elements).astype(dtype))
    inputs = [mg.vector(dtype=dtype) for _ in given]
    f = mg.function(inputs, getattr(mg, name)(*inputs))
    found: dict[str, Callable[[], Any]] = {"minigraph": lambda: f(*given)}
    if hasattr(np, name):
        found["numpy"] = lambda: getattr(np, name)(*given)
    if torch is not None:
        tensors = [torch.from_numpy(one) for one in given]
        found["torch"] = lambda: getattr(torch, PYTORCH.get(name, name))(*tensors)
    return found


def fastest(able: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """The seconds of the fastest call of each, which take turns."""
    best = [float("inf")] * len(able)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for k, call in enumerate(able):
            for _ in range(3):
                start = time.perf_counter()
                call()
                best[k] = min(best[k], time.perf_counter() - start)
    return best


def main() -> None:
    """Measure, and print a line for each function and dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each line")
    parser.add_argument("--only", default="", help="a part of the names of the functions to measure")
    options = parser.parse_args()
    for name in RANGES:
        for dtype in ("float32", "float64"):
            if options.only in name:
                able = calls(name, dtype, options.elements)
                found = fastest(list(able.values()), options.seconds)
                figures = [f"{one} {best / options.elements * 1e9:7.2f} ns" for one, best in zip(able, found, strict=True)]
                ratios = [f"{found[0] / best:5.2f} of {one}" for one, best in list(zip(able, found, strict=True))[1:]]
                print(f"{name:9} {dtype}   {'   '.join(figures)}   {'   '.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()
