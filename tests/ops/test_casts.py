"""Casts of floats to integers: what NumPy makes of arrays, also of what does not fit, however the cast is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Variable
from support import host_cuda
from support.backends import on_each

pytestmark = pytest.mark.shipped_code

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")

ENDS = [2.0**bits for bits in (7, 8, 15, 16, 31, 32, 63, 64)]
NUMBERS = [
    np.nan, np.inf, -np.inf, 0.0, -0.0, 0.9, -0.9, 1.5, -1.5, 300.0, 70000.0, 3e9, -3e9, 5e9, -5e9, 1e30, -1e30,
    *(sign * (end + step) for end in ENDS for sign in (1, -1) for step in (-1.0, -0.5, 0.0, 0.5, 1.0)),
    *(sign * np.nextafter(np.float32(end), np.float32(towards)) for end in ENDS for sign in (1, -1) for towards in (0, np.inf)),
]  # fmt: skip


def numbers(dtype: str) -> np.ndarray[Any, Any]:
    """Numbers within and beyond the range of every integer dtype."""
    with np.errstate(over="ignore"):
        return np.array(NUMBERS, "float64").astype(dtype)


def of_arrays(values: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """What NumPy makes of each value in the middle of a long array: at the ends of one it may make something else."""
    with np.errstate(invalid="ignore"):
        return np.repeat(values, 64).astype(dtype).reshape(-1, 64)[:, 32]


def check(backend: str, singles: slice) -> None:
    """Casts of arrays and constants, alone and fused, for all pairs of dtypes; the numbers in `singles` are scalars, too."""
    inputs: list[Variable] = []
    operands: list[Any] = []
    results: list[Variable] = []
    expected: list[np.ndarray[Any, Any]] = []
    for dtype in FLOATS:
        values = numbers(dtype)
        x, one, lone = mg.vector(dtype=dtype), mg.vector(dtype=dtype), [mg.scalar(dtype=dtype) for _ in values[singles]]
        inputs += [x, one, *lone]
        operands += [values, np.ones_like(values), *values[singles]]
        for integer in INTEGERS:
            wanted = of_arrays(values, integer)
            results += [x.astype(integer), (x * one).astype(integer), x[::2].astype(integer)]
            expected += [wanted, wanted, wanted[::2]]
            if lone:
                results += [mg.cast(mg.constant(values), integer), mg.stack([mg.cast(scalar, integer) for scalar in lone])]
                expected += [wanted, wanted[singles]]
    named = [mg.In(one, name=f"x{k}") for k, one in enumerate(inputs)]
    found = mg.function(named, results, backend=backend)(*operands)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours if isinstance(ours, np.ndarray) else ours.get(), theirs)


@on_each
def test_casts_to_integers_are_those_of_numpys_arrays(backend: str) -> None:
    """NaN, infinities and what is out of range become the same integer in arrays, scalars, constants and fused kernels."""
    check(backend, slice(0, 17, 3))


@pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")
def test_casts_to_integers_in_cuda_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed for GPUs casts in the same way."""
    host_cuda.install(monkeypatch)
    check("cupy", slice(0, 0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_casts_by_way_of_wider_floats_are_not_merged_wrongly(dtype: str) -> None:
    """A cast to a wider float and then to integers gives what NumPy gives for the wider one."""
    values = numbers(dtype)
    x = mg.vector(dtype=dtype)
    results = [x.astype("float64").astype(integer) for integer in INTEGERS]
    found = mg.function([x], results)(values)
    for integer, ours in zip(INTEGERS, found, strict=True):
        np.testing.assert_array_equal(ours, of_arrays(values.astype("float64"), integer))
