"""Folds of windows by a kernel of its own: the values of NumPy's backend, whatever the sizes, strides, padding and threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit, sliding
from minigraph.compiler.cpu.sliding_windows import FEWEST_COLUMNS
from support.sweep import rounds

pytestmark = pytest.mark.skipif(not jit.is_available() or jit.register_bytes() < 32, reason="needs vectors of 32 bytes")
KINDS = {"greatest": mg.max_pool, "mean": mg.average_pool, "counted": lambda x, *sizes: mg.average_pool(x, *sizes, True, False)}


def is_slid(f):
    """Whether the last program of a function folds windows by the kernel."""
    return "SlidingFold" in f.source()


def compared(y, x, *data, slid=True):
    """Compare the backend with NumPy's; windows slide if they are enough in a row."""
    found, expected = (mg.function([x], y, backend=backend) for backend in ("native", "numpy"))
    for values in data:
        ours, theirs = found(values), expected(values)
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        tolerance = 1e-5 if theirs.dtype == "float32" else 1e-12
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert is_slid(found) == (slid and theirs.shape[-1] >= FEWEST_COLUMNS)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size, stride", [(2, 1), (3, 1), (3, 2), (5, 1), (5, 2), (5, 3)])
def test_pooling_of_windows_that_overlap(kind, size, stride, dtype, rng):
    for padding, shape in itertools.product((0, 1), ((2, 3, 11, 13), (1, 1, 20, 70), (3, 40, 33))):
        x = mg.tensor("x", dtype=dtype, shape=shape)
        data = rng.normal(size=shape).astype(dtype)
        odd = data.copy()
        odd.flat[3], odd.flat[17], odd.flat[18], odd.flat[40] = np.inf, -np.inf, -0.0, np.nan
        compared(KINDS[kind](x, (size, size), stride, padding), x, data, *([odd] if kind == "greatest" else []))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [2, 3, (1, 2)])
def test_depthwise_convolutions_with_strides(stride, dilation, multiplier, dtype, rng):
    for padding, shape in itertools.product((0, ((2, 1), (0, 1))), ((2, 4, 15, 17), (1, 3, 9, 71))):
        x = mg.tensor("x", dtype=dtype, shape=shape)
        filters = rng.normal(size=(shape[1] * multiplier, 1, 3, 2)).astype(dtype)
        y = mg.conv2d(x, filters, stride, padding, dilation, groups=shape[1])
        compared(y, x, rng.normal(size=shape).astype(dtype))


def test_what_the_kernel_is_not_for_is_left_to_loops(rng):
    x = mg.tensor4("x", shape=(2, 4, 12, 12))
    given = rng.normal(size=(2, 4, 12, 12)).astype("f")
    compared(mg.conv2d(x, np.ones((4, 1, 3, 3), "f"), groups=4), x, given, slid=False)
    compared(mg.max_pool(x, 2), x, given, slid=False)
    compared(mg.max_pool(x[:, :, :, :4], 3, 1), x, given, slid=False)
    half = mg.tensor4("half", dtype="float16", shape=(2, 4, 12, 12))
    assert not is_slid(compared_half(half, given.astype("float16")))


def compared_half(x, data):
    """Maxima in 16 bits, compared with NumPy's."""
    f, g = (mg.function([x], mg.max_pool(x, 3, 1), backend=backend) for backend in ("native", "numpy"))
    np.testing.assert_array_equal(f(data), g(data))
    return f


def test_planes_in_bands_have_the_bits_of_whole_ones_on_any_number_of_threads(rng, monkeypatch):
    data = rng.normal(size=(2, 8, 120, 130)).astype("f")
    results = []
    for band, work in ((2**14, 200_000), (2**11, 1_000), (2**20, 10**12)):
        monkeypatch.setattr(sliding, "BAND", band)
        monkeypatch.setattr(sliding, "WORK_A_PART", work)
        x = mg.tensor4("x", shape=data.shape)
        f = mg.function([x], [mg.max_pool(x, 3, 2, 1), mg.average_pool(x, 5, 1, 2), mg.average_pool(x, 3, 2)])
        results.append(f(data))
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("seed", range(rounds(10)))
def test_random_windows(seed):
    rng = np.random.default_rng(seed)
    sizes, strides = rng.integers(1, 6, 2), rng.integers(1, 5, 2)
    padding = [int(rng.integers(0, size)) for size in sizes]
    lengths = [int(size + rng.integers(0, 50)) for size in sizes]
    shape, dtype = (*rng.integers(1, 4, 2), *lengths), rng.choice(["float32", "float64"])
    x = mg.tensor("x", dtype=dtype, shape=(None,) * 4)
    data = rng.normal(size=shape).astype(dtype)
    window, steps = tuple(map(int, sizes)), tuple(map(int, strides))
    ys = [mg.max_pool(x, window, steps, padding), mg.average_pool(x, window, steps, padding)]
    f, g = (mg.function([x], ys, backend=backend) for backend in ("native", "numpy"))
    for ours, theirs in zip(f(data), g(data), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_loops(rng):
    x = mg.tensor4("x", dtype="float64", shape=(2, 3, 13, 18))
    data = rng.normal(size=(2, 3, 13, 18))
    filters = rng.normal(size=(3, 1, 3, 3))
    costs = [
        mg.sin(mg.max_pool(x, 3, 2, 1)),
        mg.sin(mg.average_pool(x, 3, 2, 1)),
        mg.sin(mg.conv2d(x, filters, 2, 1, groups=3)),
    ]
    gradients = [mg.grad(one.sum(), x) for one in costs]
    f, g = (mg.function([x], gradients, backend=backend) for backend in ("native", "numpy"))
    for ours, theirs in zip(f(data), g(data), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
