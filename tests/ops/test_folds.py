"""Folds keep their digits and their range: whatever they fold, along which axes, on which backend, inside of what.

Sums and products of floats are accumulated one size wider than the result is, and so are running ones.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from support.backends import BACKENDS, on_each

pytestmark = pytest.mark.shipped_code

AXES = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]


def called(backend: str, build: Callable[[mg.Variable], Any], value: Any) -> Any:
    """What a backend makes of an array, given what to build."""
    x = mg.tensor("x", dtype=value.dtype, shape=(None,) * value.ndim)
    return mg.function([x], build(x), backend=backend)(value)


def rounded(exact: Fraction, dtype: str) -> float:
    """A rational number as a float, rounded by way of float64."""
    try:
        return float(np.asarray(float(exact)).astype(dtype))
    except OverflowError:
        return math.copysign(math.inf, exact)


def exactly(fold: Callable[..., Fraction], value: Any, axes: tuple[int, ...]) -> Any:
    """A fold in rational arithmetic, rounded at last."""
    moved = np.moveaxis(value, axes, range(len(axes)))
    flat = moved.reshape(-1, *moved.shape[len(axes) :])
    with np.errstate(over="ignore"):
        return np.asarray(
            [rounded(fold(map(Fraction, column.tolist())), value.dtype.name) for column in flat.reshape(len(flat), -1).T],
            value.dtype,
        ).reshape(flat.shape[1:])


def wide(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Numbers whose partial sums and products leave the range of their dtype, though all of them together do not."""
    rng = np.random.default_rng(seed)
    reach = {"float16": 6.0, "float32": 60.0, "float64": 8.0}[dtype]
    half = rng.uniform(-reach, reach, size=shape)
    exponents = np.concatenate([half, -half[::-1, ::-1, ::-1]], axis=int(np.argmin(shape)))
    return (np.exp2(exponents) * rng.choice([-1, 1], exponents.shape)).astype(dtype)


@on_each
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_sums_and_products_stay_in_range_on_the_way(dtype: str, backend: str) -> None:
    tolerance = 4 * np.finfo(dtype).eps
    for shape in ((1, 3, 4), (4, 1, 3), (3, 4, 1), (2, 2, 2)):
        value = wide(shape, dtype)
        results = called(backend, lambda x: [fold(x, axes) for axes in AXES for fold in (mg.sum, mg.prod)], value)
        expected = [exactly(fold, value, axes) for axes in AXES for fold in (sum, math.prod)]
        for k, (ours, exact) in enumerate(zip(results, expected, strict=True)):
            assert ours.dtype == value.dtype
            scale = 0 if k % 2 else np.abs(value.astype("float64")).sum()  # terms of a sum may cancel
            np.testing.assert_allclose(ours, exact, rtol=tolerance, atol=tolerance * scale)


def test_a_fold_that_is_left_in_range_is_right_where_its_parts_are_not() -> None:
    for dtype, large in (("float16", 6e4), ("float32", 3e38)):
        for column in ([large, large, -large], [large] * 3 + [-large] * 3, [1 / large, large, large]):
            value = np.asarray(column, dtype)
            for backend in BACKENDS:
                for shape in ((-1,), (-1, 1), (1, -1)):
                    total, product = called(backend, lambda x: [mg.sum(x), mg.prod(x)], value.reshape(shape))
                    np.testing.assert_allclose(total, exactly(sum, value, (0,)), rtol=1e-3)
                    np.testing.assert_allclose(product, exactly(math.prod, value, (0,)), rtol=1e-3)


@pytest.mark.parametrize("fold", [mg.sum, mg.prod, mg.mean], ids=["sum", "prod", "mean"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_long_columns_stay_in_range_between_blocks(dtype: str, fold: Any) -> None:
    large = float(np.finfo(dtype).max)
    half = np.full((8192, 3), large if fold is not mg.prod else 2.0, dtype)
    value = np.concatenate([half, -half if fold is not mg.prod else 1 / half])
    expected = np.ones(3) if fold is mg.prod else np.zeros(3)
    reference = called("numpy", lambda x: fold(x, 0), value)
    compiled = called("native", lambda x: fold(x, 0), value)
    if fold is not mg.prod or dtype == "float32":  # 2.0**8192 is beyond the wider float, too
        expected = expected if fold is not mg.prod else compiled
        np.testing.assert_array_equal(compiled, expected)
        np.testing.assert_array_equal(reference, compiled)


def test_positions_in_long_columns_of_integers_are_no_elements() -> None:
    value = np.random.default_rng(0).integers(-(10**9), 10**9, (20000, 5))
    for fold in (mg.argmax, mg.argmin):
        for backend in BACKENDS:
            np.testing.assert_array_equal(called(backend, lambda x: fold(x, 0), value), vars(np)[fold.__name__](value, 0))  # noqa: B023


@on_each
@pytest.mark.parametrize("dtype, count", [("float16", 5000), ("float32", 10**6)])
def test_running_sums_do_not_stall(dtype: str, count: int, backend: str) -> None:
    step = np.full((2, count), 0.1, dtype)
    exact = np.cumsum(step.astype("float64"), 1)
    for axis, value in ((1, step), (0, step.T.copy())):
        ours = called(backend, lambda x: mg.cumsum(x, axis), value)  # noqa: B023
        assert ours.dtype == value.dtype
        np.testing.assert_allclose(ours if axis else ours.T, exact, rtol=np.finfo(dtype).eps)
    slope = called(backend, lambda x: mg.grad(mg.cumsum(x, 1).sum(dtype="float64"), x), np.ones((2, count), dtype))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(slope, np.tile(np.arange(count, 0, -1).astype(dtype), (2, 1)))


@on_each
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_running_products_come_back_into_range(dtype: str, backend: str) -> None:
    large = float(np.finfo(dtype).max) / 2
    value = np.asarray([large, large, 1 / large, 1 / large, -1], dtype)
    ours = called(backend, mg.cumprod, value)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(ours, np.cumprod(value.astype("float64")).astype(dtype))
    slope = called(backend, lambda x: mg.grad(mg.prod(x), x), value)
    np.testing.assert_allclose(slope * value, np.full(5, -1), rtol=4 * np.finfo(dtype).eps)


@on_each
def test_folds_within_loops_and_among_other_work_are_accumulated_alike(backend: str) -> None:
    value = np.asarray([[256, 256, 1 / 256, 1 / 256], [1 / 8192, 1 / 8192, 8192, 8192]], "float16")

    def build(x: mg.Variable) -> list[mg.Variable]:
        rows = mg.map(lambda row: mg.prod(row) + mg.cumsum(row)[-1] * 0, x)
        total = mg.map(lambda row: mg.sum(row * 256), x)
        return [rows, total, mg.prod(x * 1.5 / 1.5, 1), mg.prod(x.T, 0), mg.softmax(x).sum(1) * 0 + mg.prod(x, 1)]

    rows, total, fused, turned, among = called(backend, build, value)
    for one in (rows, fused, turned):
        np.testing.assert_array_equal(one, [1, 1])
    np.testing.assert_array_equal(among, [1, 1])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(total, (value.astype("float64") * 256).sum(1).astype("float16"))


DTYPES = ("bool", "int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64")


@pytest.mark.parametrize("given", DTYPES)
def test_the_dtype_of_a_fold_is_that_of_its_elements_and_of_its_result(given: str) -> None:
    value = np.asarray([[1, 3, 0], [2, 5, 7]]).astype(given)
    asked = [dtype for dtype in DTYPES if dtype != "bool" or given != "bool"]
    for fold, reference in ((mg.sum, np.sum), (mg.prod, np.prod)):
        for axis in (0, 1, None):
            build = lambda x: [fold(x, axis, dtype) for dtype in asked]  # noqa: E731, B023
            for backend in BACKENDS:
                for dtype, ours in zip(asked, called(backend, build, value), strict=True):
                    exact = reference(value, axis, dtype=dtype)
                    assert ours.dtype == exact.dtype == np.dtype(dtype)
                    np.testing.assert_array_equal(ours, exact)


def test_a_wide_sum_of_narrow_numbers_makes_no_wide_copy() -> None:
    value = np.ones(4_000_000, "int8")
    x = mg.tensor("x", dtype="int8", shape=(None,))
    folds = [mg.sum(x, dtype="int64"), mg.prod(x, dtype="float64"), mg.mean(x), mg.mean(x, dtype="float64")]
    for one in folds:
        f = mg.function([x], one, backend="numpy")
        f(value[:10])
        tracemalloc.start()
        result = f(value)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result in (1, 4_000_000) and most < 2_000_000


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_sum_in_another_dtype_passes_its_gradient_on(dtype: str) -> None:
    value = np.asarray([[1.0, 2], [3, 4]], "float32")
    weights = np.asarray([2.0, 3], dtype)
    x = mg.matrix("x")
    for fold, expected in ((mg.sum, [[2, 3], [2, 3]]), (mg.prod, [[6, 12], [2, 6]])):
        slope = mg.grad((fold(x, 0, dtype=dtype) * weights).sum(), x)
        assert slope.dtype == "float32"
        np.testing.assert_array_equal(slope.eval({x: value}), expected)
    logarithm = mg.log(mg.sum(mg.exp(x), dtype=dtype))
    np.testing.assert_allclose(logarithm.eval({x: value}), np.log(np.exp(value).sum()), rtol=1e-3)
    for fold in (mg.sum, mg.mean, mg.prod):
        assert fold([1.1], dtype="float64").eval() == 1.1


MANY = {
    "a scalar that a map captures": lambda x: mg.map(lambda row: row * x[0, 0], mg.ones((5000,), "float16")).sum(),
    "a bias within a loop that branches": lambda x: mg.scan(
        lambda row, state: mg.ifelse(mg.gt(row, 0), row * x[0, 0] + state * 0, state),
        mg.ones((5000,), "float16"),
        mg.constant(np.float16(0)),
    ).sum(),
    "a row of a table": lambda x: x[mg.constant(np.zeros(5000, int))].sum(),
    "elements along an axis": lambda x: mg.take_along_axis(x, np.zeros((2, 5000), int), 1)[0].sum(),
    "the place that all windows share": lambda x: mg.windows(mg.pad(x, 99), (100, 100), (0, 1)).sum(),
}


@on_each
@pytest.mark.parametrize("case", MANY)
def test_gradients_that_come_from_many_places_do_not_stall(case: str, backend: str) -> None:
    """In float16, 2048 + 1 is 2048: cotangents of loops, of picks and of windows are added up in 32 bits."""
    x = mg.tensor("x", dtype="float16", shape=(2, 2))
    slope = mg.function([x], mg.grad(MANY[case](x), x), backend=backend, on_unused_input="ignore")(np.ones((2, 2), "float16"))
    assert slope.dtype == "float16"
    assert slope[0, 0] in (5000, 10_000)


@on_each
def test_increments_of_one_place_do_not_stall(backend: str) -> None:
    v = mg.vector("v", dtype="float16")
    total = mg.inc_subtensor(mg.zeros((1,), "float16")[np.zeros(5000, int)], v)
    assert mg.function([v], total, backend=backend)(np.ones(5000, "float16")).tolist() == [5000]


@pytest.mark.parametrize("dtype", ["int32", "int8", "bool"])
@pytest.mark.parametrize("values", [np.array([1, 2, 4], "int8"), np.array([-1.5, 0.5], "float32"), np.array([3.9, 0.5])])
def test_a_mean_in_integers_is_numpys(values: Any, dtype: str) -> None:
    found, expected = mg.mean(mg.constant(values), dtype=dtype), np.mean(values, dtype=dtype)
    assert found.dtype == expected.dtype
    assert found.eval() == expected
