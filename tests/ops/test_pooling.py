"""Pooling by windows that overlap: values, gradients, and gradients of these are those of folds over windows."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit
from minigraph.ops.linear.pooling import SlidingMax

BACKENDS = ("numpy", "native") if jit.is_available() else ("numpy",)
CASES = {
    "strides": ((2, 3, 7, 6), (3, 3), (2, 2), (1, 1)),
    "long windows": ((2, 2, 9, 8), (5, 4), (1, 2), (2, 3)),
    "one axis": ((2, 11), (3,), (1,), (0,)),
    "three axes": ((1, 2, 5, 6, 7), (3, 2, 2), (2, 1, 3), (1, 0, 1)),
    "places between windows": ((2, 2, 8, 8), (3, 2), (1, 3), (1, 0)),
}
TOLERANCES = {"float64": 1e-11, "float32": 1e-5, "float16": 4e-3}


def expected(x, sizes, strides, padding):
    """The greatest elements of all windows, as a fold of them."""
    outer = x.ndim - len(sizes)
    padded = mg.pad(x, [*((0, 0) for _ in range(outer)), *((one, one) for one in padding)], -np.inf)
    within = tuple(range(x.ndim, x.ndim + len(sizes)))
    return mg.max(mg.windows(padded, sizes, range(outer, x.ndim), strides), within)


def everything(y, x):
    """A value, its gradient, and the gradient of that."""
    first = mg.grad(mg.sin(y).sum(), x)
    return [y, first, mg.grad((first**2).sum(), x)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("known", [True, False])
def test_gradients_are_shared_by_equals_as_in_a_fold(name, dtype, known, rng):
    shape, *options = CASES[name]
    x = mg.tensor("x", dtype=dtype, shape=shape if known else (None,) * len(shape))
    y = mg.max_pool(x, *options)
    assert isinstance(y.op, SlidingMax)
    values = rng.integers(0, 3, size=shape).astype(dtype)
    values.flat[5] = np.nan
    for backend in BACKENDS:
        f, g = (mg.function([x], everything(one, x), backend=backend) for one in (y, expected(x, *options)))
        for data in (rng.normal(size=shape).astype(dtype), values):
            for ours, theirs in zip(f(data), g(data), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


def test_large_windows_and_windows_side_by_side_are_folds():
    x = mg.tensor4("x", shape=(1, 1, 30, 30))
    for options in ((9, 1), (3, 3, 1), (2,)):
        assert not isinstance(mg.max_pool(x, *options).op, SlidingMax)


@pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")
def test_no_kernel_of_the_gradient_stores_windows(rng):
    x = mg.tensor4("x", shape=(4, 8, 32, 32))
    f = mg.function([x], mg.grad((mg.max_pool(x, 5, 1, 2) ** 2).sum(), x), backend="native")
    f(rng.normal(size=x.type.shape).astype("float32"))
    assert f.memory().arena < 6 * 4 * 4 * 8 * 36 * 36  # of 25 windows each
