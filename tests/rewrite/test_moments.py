"""Statistics in one pass: as exact as in three, wherever the first element lies; what is not float32 or whole is left alone."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Graph
from minigraph.ops.reduce.normalization import Standardize
from minigraph.rewrite.lower import lower
from minigraph.rewrite.one_pass_variance import one_pass_variance

pytestmark = pytest.mark.shipped_code

EPSILON = 1e-4


def in_one_pass(x: np.ndarray, axes: tuple[int, ...] = (0,), epsilon: float = EPSILON) -> list[np.ndarray]:
    """x normalized, its mean and its deviation, by the statistics of one pass."""
    given = mg.tensor("x", dtype=x.dtype, shape=(None,) * x.ndim)
    graph = one_pass_variance(Graph((given,), tuple(mg.standardize(given, axes, epsilon))))
    assert not any(isinstance(one.op, Standardize) for one in graph)
    return mg.function([given], list(graph.outputs), backend="numpy")(x)


def in_float64(x: np.ndarray, axes: tuple[int, ...] = (0,), epsilon: float = EPSILON) -> list[np.ndarray]:
    """The same in float64, after all of the mean has been taken away twice."""
    wide = x.astype("float64")
    rough = wide.mean(axes, keepdims=True)
    average = rough + (wide - rough).mean(axes, keepdims=True)
    deviation = np.sqrt(((wide - average) ** 2).mean(axes, keepdims=True) + epsilon)
    return [(wide - average) / deviation, average, deviation]


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e2, 1e4, 1e6, -1e7])
@pytest.mark.parametrize("rows", [2, 64, 5000])
def test_any_mean_is_as_exact_as_float32_can_be(mean: float, rows: int) -> None:
    x = (np.random.default_rng(rows).normal(size=(rows, 7)) + mean).astype("float32")
    for ours, theirs in zip(in_one_pass(x), in_float64(x), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("first", [1e3, -1e6, 1e10])
def test_the_first_element_may_lie_far_out(first: float) -> None:
    x = np.random.default_rng(0).normal(size=(4000, 3)).astype("float32")
    x[0] = first
    for ours, theirs in zip(in_one_pass(x), in_float64(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_samples_may_spread_over_several_axes() -> None:
    x = (np.random.default_rng(1).normal(size=(4, 3, 5, 6)) * 3 + 50).astype("float32")
    for axes in ((0, 2, 3), (1,), (3,), (0, 1, 2, 3)):
        for ours, theirs in zip(in_one_pass(x, axes), in_float64(x, axes), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-6)


def test_what_does_not_vary_becomes_exactly_0() -> None:
    for value in (0.1, 1e7, -3.0):
        normalized, average, deviation = in_one_pass(np.full((30, 2), value, "float32"), epsilon=1e-12)
        np.testing.assert_array_equal(normalized, np.zeros((30, 2)))
        np.testing.assert_array_equal(average, np.full((1, 2), value, "float32"))
        np.testing.assert_allclose(deviation, 1e-6, rtol=1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 3])
def test_nan_and_infinity_spread_as_they_do_in_three_passes(odd: float, row: int) -> None:
    x = np.random.default_rng(2).normal(size=(6, 2)).astype("float32")
    x[row, 0] = odd
    given = mg.matrix("x")
    expected = mg.function([given], list(mg.standardize(given, (0,), EPSILON)), backend="numpy")(x)
    for ours, theirs in zip(in_one_pass(x), expected, strict=True):
        np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_no_elements_have_no_mean() -> None:
    normalized, average, _ = in_one_pass(np.zeros((0, 2), "float32"))
    assert normalized.shape == (0, 2)
    assert np.isnan(average).all()


def test_16_bits_have_statistics_of_32() -> None:
    x = np.random.default_rng(3).normal(size=(50, 4)).astype("float16")
    normalized, average, deviation = in_one_pass(x)
    assert (normalized.dtype, average.dtype, deviation.dtype) == (np.float16, np.float32, np.float32)
    np.testing.assert_allclose(deviation, in_float64(x)[2], rtol=1e-6)


def test_float64_and_masked_samples_are_left_alone() -> None:
    wide, x, mask = mg.dmatrix("wide"), mg.matrix("x"), mg.matrix("mask")
    for variable in (mg.standardize(wide, (0,), EPSILON)[0], mg.standardize(x, (0,), EPSILON, mask=mask)[0]):
        graph = Graph((), (variable,))
        assert any(isinstance(one.op, Standardize) for one in one_pass_variance(graph))
        assert not any(isinstance(one.op, Standardize) for one in lower(graph))
