"""Statistics and normalizations are right wherever the exact result is in range, however large or small what they are of.

The reference is the plain formula in floats of 50 digits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import mpmath
import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import gomlx, keras, lasagne, puzzlelib, torch
from minigraph.layers import (
    BatchNormalization,
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    RMSNormalization,
    WeightNormalizedLinear,
    batch_normalization,
)
from minigraph.layers.normalization.conventions import InverseStdev
from minigraph.layers.normalization.renormalization import BatchRenormalization
from minigraph.training import clip_gradient_norm
from minigraph.transforms import Duplicates, get_batch_normalization_updates
from support.backends import on_each

pytestmark = pytest.mark.shipped_code

FLOATS = ("float16", "float32", "float64")
SIZES = {"float16": (3e2, 1e-4, 6e4), "float32": (1e20, 1e-23, 3e38, 1e-38), "float64": (1e200, 1e-200, 1.5e308, 1e-300)}
SHAPES: dict[str, Sequence[float]] = {
    "alternating": (1, -1, 1, -1),
    "equal": (1, 1, 1, 1),
    "near": (1, 0.75, 0.875, 1),
    "mixed": (1, 1e-3, -0.5, 0.25),
    "one": (1, 0, 0, 0),
}
mpmath.mp.dps = 50
Exact = Callable[[list[Any]], Any]


def mean(x: list[Any]) -> Any:
    """The mean."""
    return reduce(operator.add, x) / len(x)


def var(x: list[Any]) -> Any:
    """The mean squared deviation."""
    return mean([(one - mean(x)) ** 2 for one in x])


def norm(x: list[Any], order: Any = 2) -> Any:
    """The root of the sum of powers."""
    return mpmath.mpf(sum(abs(one) ** order for one in x)) ** (mpmath.mpf(1) / order)


def logsumexp(x: list[Any]) -> Any:
    """The logarithm of a sum of exponentials, relative to the greatest."""
    return max(x) + mpmath.log(relative(x))


def relative(x: list[Any]) -> Any:
    """The sum of exponentials, relative to the greatest."""
    return sum(mpmath.exp(one - max(x)) for one in x)


STATISTICS: dict[str, tuple[Callable[..., mg.Variable], Exact, Callable[[list[Any]], list[Any]]]] = {
    "mean": (mg.mean, mean, lambda x: [mpmath.mpf(1) / len(x)] * len(x)),
    "var": (mg.var, var, lambda x: [2 * (one - mean(x)) / len(x) for one in x]),
    "std": (
        mg.std,
        lambda x: mpmath.sqrt(var(x)),
        lambda x: [(one - mean(x)) / (len(x) * mpmath.sqrt(var(x))) if var(x) else mpmath.mpf(0) for one in x],
    ),
    "norm": (mg.norm, norm, lambda x: [one / norm(x) for one in x]),
    "norm 1.5": (
        lambda x, axis: mg.norm(x, 1.5, axis),
        lambda x: norm(x, mpmath.mpf(1.5)),
        lambda x: [mpmath.sign(one) * mpmath.sqrt(abs(one) / norm(x, mpmath.mpf(1.5))) for one in x],
    ),
    "norm 3": (
        lambda x, axis: mg.norm(x, 3, axis),
        lambda x: norm(x, 3),
        lambda x: [mpmath.sign(one) * (one / norm(x, 3)) ** 2 for one in x],
    ),
    "logsumexp": (mg.logsumexp, logsumexp, lambda x: [mpmath.exp(one - max(x)) / relative(x) for one in x]),
}


def rows_of(dtype: str) -> Any:
    """Rows of every kind in every size."""
    with np.errstate(over="ignore"):
        return np.asarray([[size * one for one in shape] for size in SIZES[dtype] for shape in SHAPES.values()], dtype)


def rounded(exact: Any, dtype: str) -> Any:
    """Exact numbers, in nested lists, as floats."""
    with np.errstate(over="ignore"):
        return np.asarray([[float(one) for one in row] for row in exact]).astype(dtype)


def close(ours: Any, exact: Any, dtype: str, ulps: float = 8) -> None:
    """Equal up to rounding, infinities and numbers below the smallest normal one included."""
    info = np.finfo(dtype)
    assert ours.dtype == dtype
    wide = ours.astype("float64") if dtype != "float64" else ours
    np.testing.assert_allclose(wide, rounded(exact, dtype), rtol=ulps * info.eps, atol=4 * float(info.smallest_subnormal))


@on_each
@pytest.mark.parametrize("dtype", FLOATS)
def test_statistics_of_numbers_of_any_size_are_right_and_their_gradients(dtype: str, backend: str) -> None:
    rows = rows_of(dtype)
    exact = [[mpmath.mpf(float(one)) for one in row] for row in rows]
    x = mg.tensor("x", dtype=dtype, shape=(None, 4))
    built = [(f(x, axis=1), f(x.T, axis=0)) for f, _, _ in STATISTICS.values()]
    slopes = [mg.grad(one.sum(dtype="float64"), x) for one, _ in built]
    found = mg.function([x], [*[one for pair in built for one in pair], *slopes], backend=backend)(rows)
    for k, (_, value, slope) in enumerate(STATISTICS.values()):
        expected = [value(row) for row in exact]
        kept = [float(one) <= float(np.finfo(dtype).max) for one in expected]
        for ours in found[2 * k : 2 * k + 2]:
            close(ours[None], [expected], dtype)
        ours = found[2 * len(STATISTICS) + k]
        zeros = [not any(row) for row in exact]
        close(
            ours[kept],
            [slope(row) if not zero else [0] * 4 for row, zero, keep in zip(exact, zeros, kept, strict=True) if keep],
            dtype,
            64,
        )


def normalized(row: list[Any], epsilon: float, centers: bool = True) -> tuple[list[Any], Any, Any]:
    """A row normalized, its mean, and what it was divided by."""
    middle = mean(row) if centers else mpmath.mpf(0)
    root = mpmath.sqrt(mean([(one - middle) ** 2 for one in row]) + mpmath.mpf(epsilon))
    return [(one - middle) / root if root else mpmath.mpf(0) for one in row], middle, root


def slope_of(row: list[Any], dy: list[Any], epsilon: float, centers: bool = True) -> list[Any]:
    """The cotangent of a row, from that of the row normalized."""
    hat, _, root = normalized(row, epsilon, centers)
    if not root:
        return [mpmath.mpf(0)] * len(row)
    shared = mean([a * b for a, b in zip(dy, hat, strict=True)])
    average = mean(dy) if centers else 0
    return [(d - average - h * shared) / root for d, h in zip(dy, hat, strict=True)]


LAYERS: dict[str, tuple[Callable[[float], Any], Callable[[mg.Variable], mg.Variable], Callable[[mg.Variable], mg.Variable]]] = {
    "batch": (lambda epsilon: BatchNormalization(None, epsilon=epsilon), lambda x: x.T, lambda y: y.T),
    "batch, renormalized": (
        lambda epsilon: BatchRenormalization(None, epsilon=epsilon, r_max=1, d_max=0),
        lambda x: x.T,
        lambda y: y.T,
    ),
    "layer": (lambda epsilon: LayerNormalization(epsilon=epsilon), lambda x: x, lambda y: y),
    "instance": (
        lambda epsilon: InstanceNormalization(1, epsilon=epsilon),
        lambda x: mg.expand_dims(x, 1),
        lambda y: mg.squeeze(y, 1),
    ),
    "group": (
        lambda epsilon: GroupNormalization(1, 2, epsilon=epsilon),
        lambda x: x.reshape((-1, 2, 2)),
        lambda y: y.reshape((-1, 4)),
    ),
    "rms": (lambda epsilon: RMSNormalization(epsilon=epsilon), lambda x: x, lambda y: y),
}


@on_each
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("epsilon", [1e-5, 0.0])
def test_normalizations_of_numbers_of_any_size_are_right_and_their_gradients(dtype: str, epsilon: float, backend: str) -> None:
    rows = rows_of(dtype)
    exact = [[mpmath.mpf(float(one)) for one in row] for row in rows]
    weights = [1.0, -0.5, 0.25, 2.0]
    x = mg.tensor("x", dtype=dtype, shape=rows.shape)
    found = []
    for make, into, back in LAYERS.values():
        layer = make(epsilon)
        with (
            batch_normalization(layer) if isinstance(layer, BatchNormalization) else batch_normalization(BatchNormalization(1))
        ):
            y = back(layer.apply(into(x)))
        found += [y, mg.grad((y * np.asarray(weights, dtype)).sum(dtype="float64"), x)]
    results = mg.function([x], found, backend=backend, no_default_updates=True)(rows)
    ulps = 16 if dtype != "float16" else 4
    for k, name in enumerate(LAYERS):
        centers = name != "rms"
        close(results[2 * k], [normalized(row, epsilon, centers)[0] for row in exact], dtype, ulps)
        slopes = [slope_of(row, list(map(mpmath.mpf, weights)), epsilon, centers) for row in exact]
        ours, theirs = results[2 * k + 1].astype("float64"), rounded(slopes, "float64")
        largest = np.abs(theirs).max(1, keepdims=True)
        fits = (largest <= float(np.finfo(dtype).max)) & (largest > 16 * float(np.finfo(dtype).smallest_normal))
        error = np.where(fits, np.abs(ours - theirs) / np.where(fits, largest, 1), 0)
        assert error.max() < 64 * np.finfo(dtype).eps, (name, error.max(1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_population_follows_deviations_whose_squares_are_out_of_range(dtype: str) -> None:
    size = {"float32": 1e20, "float64": 1e150}[dtype]
    layer = BatchNormalization(1, epsilon=1e-5)
    x = mg.tensor("x", dtype=dtype, shape=(None, 1))
    with batch_normalization(layer):
        y = layer.apply(x)
    train = mg.function([x], y, updates=get_batch_normalization_updates(y))
    train(np.asarray([[size], [-size]], dtype))
    values = layer.get_values()
    np.testing.assert_allclose(values["population_stdev"], [size], rtol=1e-6)
    np.testing.assert_allclose(layer.apply(x).eval({x: np.asarray([[size], [-size]], dtype)}), [[1], [-1]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ghosts", [None, 2])
def test_a_population_follows_parts_of_a_batch_that_are_far_apart(dtype: str, ghosts: int | None) -> None:
    """What parts have between them, ghost batches or applications that are pooled, is squared with room as well."""
    size = {"float32": 1e25, "float64": 1e150}[dtype]
    layer = BatchNormalization(1, epsilon=1e-5, virtual_batch_size=ghosts)
    x = mg.tensor("x", dtype=dtype, shape=(None, 1))
    with batch_normalization(layer):
        parts = [layer.apply(x)] if ghosts else [layer.apply(x[:2]), layer.apply(x[2:])]
    updates = get_batch_normalization_updates(parts, duplicates=Duplicates.POOLED)
    mg.function([x], parts, updates=updates)(np.asarray([[size], [size], [-size], [-size]], dtype))
    np.testing.assert_allclose(layer.get_values()["population_stdev"], [size], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_weights_of_any_size_have_a_direction_and_zeros_have_none(scale: float, dtype: str) -> None:
    initial = np.asarray([[1.0, 0.0], [1.0, 0.0], [0.5, 0.0]]) * scale
    layer = WeightNormalizedLinear(3, 2, weights_init=initial)
    x = mg.tensor("x", dtype="float32", shape=(None, 3))
    y = layer.apply(x)
    ones = np.ones((1, 3), "float32")
    np.testing.assert_allclose(y.eval({x: ones}), [[2.5 * scale, 0]], rtol=1e-6)
    slopes = mg.grad(y.sum(), [layer.variables[name] for name in ("W", "g")])
    by_w, by_g = mg.function([x], slopes)(ones)
    np.testing.assert_allclose(by_g, [2.5 / 1.5, 0], rtol=1e-6)
    unit = np.asarray([1, 1, 0.5]) / 1.5
    np.testing.assert_allclose(by_w, np.stack([1 - unit * unit.sum(), np.zeros(3)], 1), atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_of_any_size_are_scaled_to_one_norm(dtype: str) -> None:
    for size in SIZES[dtype][:2]:
        gradients = [mg.constant(np.asarray(one, dtype) * np.asarray(size, dtype)) for one in ([1, 0], [[-1]], [0.5])]
        limit = 1.5 * float(np.asarray(size, dtype)) * 0.5
        for ours, one in zip(clip_gradient_norm(gradients, limit), ([1, 0], [[-1]], [0.5]), strict=True):
            np.testing.assert_allclose(ours.eval() / np.asarray(size, dtype), np.asarray(one) / 2, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_hypotenuse_of_any_size_has_its_gradient(dtype: str) -> None:
    a, b = (mg.tensor(dtype=dtype, shape=(None,)) for _ in "ab")
    sizes = np.asarray([*SIZES[dtype][:2], float(np.finfo(dtype).smallest_subnormal) * 64], dtype)
    slopes = mg.function([a, b], mg.grad(mg.hypot(a, b).sum(dtype="float64"), [a, b]))(3 * sizes, 4 * sizes)
    np.testing.assert_allclose(slopes[0], [0.6] * 3, rtol=1e-6)
    np.testing.assert_allclose(slopes[1], [0.8] * 3, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [np.inf, np.nan, -1e-5, "small"])
def test_an_epsilon_that_cannot_be_is_refused_when_a_layer_is_made(epsilon: Any) -> None:
    makers = [lambda epsilon: BatchNormalization(3, epsilon=epsilon), *(make for make, _, _ in LAYERS.values())]
    for make in makers:
        with pytest.raises(ValueError, match="epsilon"):
            make(epsilon)


@on_each
@pytest.mark.parametrize("make", [
    lambda: BatchNormalization(2, epsilon=0.0),
    lambda: torch.BatchNorm1d(2, eps=0.0), lambda: torch.BatchNormalization(2, 0.0),
    lambda: keras.BatchNormalization(epsilon=0.0),
    lambda: lasagne.BatchNormLayer((None, 2), epsilon=0.0), lambda: puzzlelib.BatchNorm(2, epsilon=0.0),
    lambda: gomlx.BatchNormalization(epsilon=0.0),
])  # fmt: skip
def test_without_epsilon_a_constant_column_gives_exactly_the_shift(make: Callable[[], Any], backend: str) -> None:
    layer = make()
    x = mg.matrix("x", shape=(None, 2))
    with batch_normalization(layer):
        y = layer.apply(x)
    value = np.asarray([[1, 1e-23], [1, -1e-23], [1, 1e-23], [1, -1e-23]], "float32")
    updates = [] if mg.ComputationGraph(y).updates else get_batch_normalization_updates(y)
    outputs = [y, mg.grad((y * np.asarray([[1], [0], [0], [2]], "float32")).sum(), x)]
    normalized, slope = mg.function([x], outputs, updates=updates, backend=backend)(value)
    np.testing.assert_allclose(normalized[:, 1] / normalized[0, 1], [1, -1, 1, -1], rtol=1e-6)
    assert 0 < normalized[0, 1] < 2  # some layers draw their scale
    assert (normalized[:, 0] == 0).all() and (slope[:, 0] == 0).all() and np.isfinite(slope).all()
    layer.set_values(
        {name: np.zeros_like(one) if name in layer.convention.population else one for name, one in layer.get_values().items()}
        if layer.convention.storage != InverseStdev()
        else layer.get_values()
    )
    assert np.isfinite(layer.apply(x).eval({x: np.zeros((1, 2), "float32")})).all()


NORMS: list[Callable[[mg.Variable], mg.Variable]] = [
    lambda x: mg.norm(x, axis=1),
    lambda x: mg.sqrt(mg.square(x).sum(1)),
    lambda x: mg.sqrt((x * x).sum(1)),
    lambda x: mg.sqrt((x**2).sum(axis=1)),
    lambda x: (x**2).sum(1) ** 0.5,
    lambda x: mg.sqrt(mg.square(x).sum(1, keepdims=True))[:, 0],
    lambda x: mg.norm(x / mg.sqrt(mg.square(x).sum(1, keepdims=True)), axis=1) * mg.norm(x, axis=1),
]


@on_each
@pytest.mark.parametrize(("dtype", "size"), [("float16", 300.0), ("float32", 1e25), ("float64", 1e200), ("float64", 1e-200)])
@pytest.mark.parametrize("way", NORMS)
def test_norms_have_room_for_squares_however_they_are_spelt(way: Any, dtype: str, size: float, backend: str) -> None:
    x = mg.matrix("x", dtype=dtype)
    length = way(x)
    given = np.array([[1, 2, 2], [0, 0, 4], [0, 0, 0]]) * size
    found, slope = mg.function([x], [length, mg.grad(length[:2].sum(), x)], backend=backend)(given.astype(dtype))
    tolerance = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found[:2], np.array([3, 4]) * size, tolerance)
    np.testing.assert_allclose(slope, [[1 / 3, 2 / 3, 2 / 3], [0, 0, 1], [0, 0, 0]], 4 * tolerance, 4 * tolerance)


ENDS = np.array([-np.inf, -1e30, -300, -50, 50, 300, 1e30, np.inf])


@on_each
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("function", [mg.gelu, lambda x: mg.gelu(x, approximate=True), mg.silu, mg.softplus, mg.elu])
def test_activations_are_lines_at_both_ends_to_the_second_order(function: Any, dtype: str, backend: str) -> None:
    x = mg.vector("x", dtype=dtype)
    y = function(x)
    slope = mg.grad(y.sum(), x)
    with np.errstate(over="ignore"):
        points = ENDS.astype(dtype)
    values, slopes, curvatures = mg.function([x], [y, slope, mg.grad(slope.sum(), x)], backend=backend)(points)
    flat = np.where(points > 0, points, -1.0 if function is mg.elu else 0)
    np.testing.assert_allclose(values, flat, atol=1e-15 if dtype == "float64" else 1e-7)
    np.testing.assert_allclose(slopes, points > 0, atol=1e-15 if dtype == "float64" else 1e-7)
    np.testing.assert_allclose(curvatures, 0, atol=1e-15 if dtype == "float64" else 1e-7)


@on_each
@pytest.mark.parametrize(
    ("values", "value", "slopes"),
    [
        ([np.inf, 0], np.inf, [1, 0]),
        ([np.inf, np.inf, 1], np.inf, [0.5, 0.5, 0]),
        ([-np.inf, 0, np.inf], np.inf, [0, 0, 1]),
        ([-np.inf, -np.inf], -np.inf, [0, 0]),
        ([-np.inf, 3], 3, [0, 1]),
    ],
)
def test_logsumexp_of_infinities_is_what_logaddexp_is(values: Any, value: float, slopes: Any, backend: str) -> None:
    x = mg.vector("x")
    total = mg.logsumexp(x)
    found = mg.function([x], [total, mg.grad(total, x)], backend=backend)(values)
    assert found[0] == value
    assert found[1].tolist() == slopes
