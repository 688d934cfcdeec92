"""Sorting of many elements, which takes other ways than that of few."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.ops.array.sorting import MANY

DTYPES = ("float64", "float32", "float16", "int64", "int32", "uint32", "int16", "uint8", "bool")


def many(dtype: str, ties: bool) -> np.ndarray:
    """Two rows of numbers, among them zeros of both signs, infinities and NaN of both signs, for floats."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2, MANY)) * (3 if ties else 1000)).astype("float64")
    if np.dtype(dtype).kind != "f":
        return np.floor(x).astype("int64").astype(dtype)
    x = np.floor(x) if ties else x
    x[0, :40] = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, -0.0, 0.0] * 5
    return rng.permuted(x, axis=1).astype(dtype)


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_elements_are_ordered_as_few_are(dtype: str, ties: bool, backend: str) -> None:
    """Sorted values, their stable order, and the greatest elements are those of NumPy, along either axis."""
    x = many(dtype, ties)
    symbol = mg.tensor(dtype=dtype, shape=(None, None))
    for axis in (0, 1):
        k = 1 if axis == 0 else 100
        moved = np.moveaxis(x, axis, 1)
        backwards = np.argsort(moved[:, ::-1], axis=1, kind="stable")
        places = np.moveaxis(moved.shape[1] - 1 - backwards[:, ::-1][:, :k], 1, axis)
        f = mg.function([symbol], [mg.sort(symbol, axis), mg.argsort(symbol, axis), *mg.topk(symbol, k, axis)], backend=backend)
        in_order, order, values, positions = f(x)
        np.testing.assert_array_equal(in_order, np.sort(x, axis))
        np.testing.assert_array_equal(order, np.argsort(x, axis, kind="stable"))
        np.testing.assert_array_equal(positions, places)
        np.testing.assert_array_equal(values, np.take_along_axis(x, places, axis))


def test_an_axis_that_turns_out_too_short_for_topk_is_an_error() -> None:
    """The number of elements is checked when it is known, and the error names the line."""
    x = mg.vector("x")
    f = mg.function([x], mg.topk(x, 3)[0])
    with pytest.raises(mg.InvalidValueError, match=r"(?s)size 2 has no 3 elements.*test_sorting"):
        f(np.zeros(2, "float32"))


def test_a_cost_of_sorted_values_alone_computes_no_order() -> None:
    """The order is computed for gradients only."""
    x = mg.vector("x")
    assert "ArgSort" not in str(mg.pprint(mg.sort(x)))
    assert "ArgSort" in str(mg.pprint(mg.grad(mg.sort(x)[0], x)))
