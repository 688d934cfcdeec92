"""Depthwise convolutions: gradients of gradients, open sizes, and what is kept of the windows."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit
from minigraph.ops.linear.convolution import MOST_OUTPUTS
from minigraph.ops.linear.depthwise import DepthwiseConvolution

CASES = {
    "padded": ((2, 3, 7, 6), (3, 1, 3, 3), {"padding": 1}),
    "strides": ((2, 3, 7, 6), (6, 1, 3, 2), {"padding": ((0, 2), 1), "stride": (2, 3), "dilation": (1, 2)}),
    "full": ((1, 2, 4, 5), (2, 1, 3, 3), {"padding": "full", "flip_filters": True}),
    "far apart": ((1, 2, 6, 6), (2, 1, 2, 2), {"stride": 4}),
}


def expected(x, w, options):
    """The convolution of each channel for itself, joined."""
    multiplier = w.type.shape[0] // x.type.shape[1]
    parts = [mg.conv2d(x[:, k : k + 1], w[k * multiplier : (k + 1) * multiplier], **options) for k in range(x.type.shape[1])]
    return mg.concatenate(parts, 1)


def everything(y, x, w):
    """A value, its gradients, and gradients of these."""
    first = mg.grad(mg.sin(y).sum(), [x, w])
    return [y, *first, *mg.grad(sum((one**2).sum() for one in first), [x, w])]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("known", [True, False])
def test_values_and_gradients_are_those_of_each_channel(name, known, rng):
    images, filters, options = CASES[name]
    x = mg.tensor("x", dtype="float64", shape=images if known else (None, images[1], None, None))
    w = mg.tensor("w", dtype="float64", shape=filters)
    y = mg.conv2d(x, w, groups=images[1], **options)
    assert isinstance(y.op, DepthwiseConvolution)
    given = [rng.normal(size=one) for one in (images, filters)]
    for backend in ("numpy", "native") if jit.is_available() else ("numpy",):
        found = mg.function([x, w], everything(y, x, w), backend=backend)(*given)
        reference = mg.function([x, w], everything(expected(x, w, options), x, w), backend="numpy")(*given)
        for ours, theirs in zip(found, reference, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def test_many_outputs_of_a_channel_are_products():
    x, w = mg.tensor4("x", shape=(2, 2, 5, 5)), mg.tensor4("w", shape=(2 * MOST_OUTPUTS + 2, 1, 3, 3))
    assert not isinstance(mg.conv2d(x, w, groups=2).op, DepthwiseConvolution)
    assert isinstance(mg.conv2d(x, w[:-2], groups=2).op, DepthwiseConvolution)


def test_halves_are_added_up_in_32_bits(rng):
    x, w = mg.tensor4("x", dtype="float16", shape=(1, 2, 8, 8)), mg.tensor4("w", dtype="float16", shape=(2, 1, 8, 8))
    given = [rng.normal(size=one.type.shape).astype("float16") for one in (x, w)]
    exact = [(one * other[:, 0]).sum((1, 2), keepdims=True) for one, other in [(given[0][0].astype(float), given[1])]]
    for backend in ("numpy", "native") if jit.is_available() else ("numpy",):
        (found,) = mg.function([x, w], mg.conv2d(x, w, groups=2), backend=backend)(*given)
        np.testing.assert_allclose(found, exact[0], rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")
def test_no_kernel_stores_windows(rng):
    x, w = mg.tensor4("x", shape=(4, 8, 32, 32)), mg.tensor4("w", shape=(8, 1, 5, 5))
    y = mg.conv2d(x, w, padding=2, groups=8)
    f = mg.function([x, w], [y, *mg.grad((y**2).sum(), [x, w])], backend="native")
    f(*(rng.normal(size=one.type.shape).astype("float32") for one in (x, w)))
    assert f.memory().arena < 4 * 4 * 4 * 8 * 36 * 36  # of 25 windows each


def test_numpy_goes_place_by_place_through_windows():
    x, w = mg.tensor4("x", shape=(1, 2, 5, 5)), mg.tensor4("w", shape=(2, 1, 3, 3))
    f = mg.function([x, w], mg.conv2d(x, w, groups=2), backend="numpy", trace=True)
    assert "NarrowSum" not in str(f.trace)
    assert "DepthwiseConvolution" in f.source()
