"""Quotients and remainders of integers by numbers in the code, by others, and by arrays, as NumPy computes them."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.types import DTYPES
from support.backends import compiled

pytestmark = compiled

INTEGERS = [dtype for dtype in DTYPES if dtype.kind in "iu"]
RNG = np.random.default_rng(2)


def extremes(dtype: np.dtype) -> np.ndarray:
    """Numbers of a dtype, those at its ends and around 0 among them."""
    info = np.iinfo(dtype)
    ends = [*range(info.min, info.min + 9), *range(info.max - 9, info.max + 1), *range(max(info.min, -9), 10)]
    drawn = RNG.integers(info.min, info.max, 300, dtype=dtype, endpoint=True)
    return np.concatenate([np.array(ends, dtype), drawn, drawn >> np.dtype(dtype).type(3 * dtype.itemsize)])


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_division(dtype):
    x, y = (mg.tensor(name, dtype=dtype.name, shape=(None, None)) for name in "xy")
    scalar = mg.tensor("s", dtype=dtype.name, shape=())
    given = extremes(dtype)
    a, b = given[:, None], given[None, :]
    of_arrays = mg.function([x, y], [x // y, x % y], backend="native")
    of_scalar = mg.function([x, scalar], [x // scalar, x % scalar], backend="native")
    numbers = [one for one in (0, 1, 2, 7, 10, 127, -1, -3, -128) if one >= np.iinfo(dtype).min]
    with np.errstate(all="ignore"):
        pairs = [(of_arrays(a.repeat(len(given), 1), b.repeat(len(given), 0)), a, b)]
        for number in numbers:
            divisor = np.array(number, dtype)
            pairs.append((mg.function([x], [x // divisor, x % divisor], backend="native")(a), a, divisor))
            pairs.append((of_scalar(a, divisor), a, divisor))
        for (quotient, rest), dividend, divisor in pairs:
            np.testing.assert_array_equal(quotient, dividend // divisor)
            np.testing.assert_array_equal(rest, dividend % divisor)
