"""Kernels that put elements in order, against NumPy: all dtypes, equal elements, NaN, infinities, and zeros of both signs."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import ordering
from minigraph.core.types import DTYPES
from support.backends import compiled

pytestmark = compiled

RNG = np.random.default_rng(3)
SHAPES = [(5,), (20, 1), (50, 2), (20, 8), (5, 13), (9, 17), (3, 2, 31), (4, 32), (3, 100), (2, 300), (1, 1000)]


def draws(dtype: np.dtype, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Arrays with few and with many equal elements, and with the extremes of a dtype."""
    if dtype.kind == "b":
        return [RNG.random(shape) < 0.5]
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        spread = RNG.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        return [spread, RNG.integers(0, 3, shape).astype(dtype), np.full(shape, info.min, dtype), np.sort(spread)]
    normal = RNG.normal(size=shape).astype(dtype)
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0], dtype)
    return [
        normal,
        RNG.choice(special, shape),
        np.sort(normal),
        np.sort(normal)[..., ::-1].copy(),
        np.full(shape, np.nan, dtype),
    ]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_order(dtype, monkeypatch):
    monkeypatch.setattr(ordering, "MANY", 1)
    for shape in SHAPES:
        x = mg.tensor("x", dtype=dtype.name, shape=(None,) * len(shape))
        both = mg.function([x], [mg.sort(x), mg.argsort(x)], backend="native")
        kept = [k for k in (1, 10, 32, shape[-1]) if k <= shape[-1]]
        greatest = [(mg.function([x], [*mg.topk(x, k)], backend=name) for name in ("native", "numpy")) for k in kept]
        pairs = [tuple(pair) for pair in greatest]
        for given in draws(np.dtype(dtype), shape):
            ascending, order = both(given)
            np.testing.assert_array_equal(ascending, np.sort(given))
            np.testing.assert_array_equal(order, np.argsort(given, kind="stable"))
            for ours, reference in pairs:
                for result, right in zip(ours(given), reference(given), strict=True):
                    assert result.dtype == right.dtype
                    np.testing.assert_array_equal(result, right)


def test_other_axes_and_many_rows():
    given = RNG.normal(size=(3000, 8, 2)).astype("float32")
    x = mg.tensor3("x")
    for axis in range(3):
        f = mg.function([x], [mg.argsort(x, axis), mg.sort(x, axis), *mg.topk(x, 2, axis)], backend="native")
        order, ascending, greatest, places = f(given)
        np.testing.assert_array_equal(order, np.argsort(given, axis, kind="stable"))
        np.testing.assert_array_equal(ascending, np.sort(given, axis))
        last = [np.take(order, [-1, -2], axis), np.take(ascending, [-1, -2], axis)]
        np.testing.assert_array_equal(places, last[0])
        np.testing.assert_array_equal(greatest, last[1])


def test_greatest_of_more_than_there_are():
    x = mg.matrix("x")
    f = mg.function([x], mg.topk(x, 9)[0], backend="native")
    with pytest.raises(ValueError, match="an axis of size 8 has no 9 elements"):
        f(np.zeros((1000, 8), "float32"))
