"""PyTorch's convolutions, transposed convolutions and poolings against ours, values and gradients, in random configurations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

import minigraph as mg

OURS = {1: mg.conv1d, 2: mg.conv2d, 3: mg.conv3d}
BACK = {1: mg.conv_transpose1d, 2: mg.conv_transpose2d, 3: mg.conv_transpose3d}
THEIRS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
THEIR_BACK = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
MAXIMA = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
MEANS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def compare(ours, theirs, arrays, rng, seed):
    """Outputs, and gradients of a weighted sum of them, of one computation in both."""
    given = [torch.from_numpy(one).requires_grad_() for one in arrays]
    expected = theirs(*given)
    weights = rng.normal(size=tuple(expected.shape))
    slopes = torch.autograd.grad((expected * torch.from_numpy(weights)).sum(), given)
    known = seed % 3 > 0
    inputs = [
        mg.tensor(f"x{k}", dtype="float64", shape=one.shape if k or known else (None,) * one.ndim)
        for k, one in enumerate(arrays)
    ]
    y = ours(*inputs)
    backend = ("numpy", "native")[seed % 2]
    f = mg.function(inputs, [y, *mg.grad((y * weights).sum(), inputs)], backend=backend)
    for found, other in zip(f(*arrays), [expected, *slopes], strict=True):
        np.testing.assert_allclose(found, other.detach().numpy(), 1e-9, 1e-9, err_msg=f"seed {seed}")


def some(rng, dims, low, high):
    """An int for each spatial axis."""
    return tuple(int(one) for one in rng.integers(low, high, dims))


@pytest.mark.parametrize("seed", range(120))
def test_convolutions(seed):
    rng = np.random.default_rng(seed)
    dims, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2, 3]))
    stride, dilation, padding = some(rng, dims, 1, 4), some(rng, dims, 1, 3), some(rng, dims, 0, 3)
    kernel = some(rng, dims, 1, 4)
    sizes = [(k - 1) * d + 1 + int(extra) for k, d, extra in zip(kernel, dilation, rng.integers(0, 5, dims), strict=True)]
    channels, outputs = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    x = rng.normal(size=(int(rng.integers(1, 4)), channels, *sizes))
    w = rng.normal(size=(outputs, channels // groups, *kernel))
    compare(
        lambda x, w: OURS[dims](x, w, stride, padding, dilation, groups),
        lambda x, w: THEIRS[dims](x, w, None, stride, padding, dilation, groups),
        [x, w], rng, seed,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(80))
def test_transposed_convolutions(seed):
    rng = np.random.default_rng(1000 + seed)
    dims, groups = int(rng.integers(1, 4)), int(rng.choice([1, 1, 2]))
    stride, dilation, kernel = some(rng, dims, 1, 4), some(rng, dims, 1, 3), some(rng, dims, 1, 4)
    padding = tuple(int(rng.integers(0, (k - 1) * d + 1)) for k, d in zip(kernel, dilation, strict=True))
    extra = tuple(int(rng.integers(0, s)) for s in stride)
    sizes = some(rng, dims, 2, 5)
    channels = groups * int(rng.integers(1, 4))
    x = rng.normal(size=(int(rng.integers(1, 3)), channels, *sizes))
    w = rng.normal(size=(channels, int(rng.integers(1, 4)), *kernel))
    whole = [
        (n - 1) * s + (k - 1) * d + 1 + e - 2 * p
        for n, s, k, d, e, p in zip(sizes, stride, kernel, dilation, extra, padding, strict=True)
    ]
    if min(whole) < 1:
        padding = (0,) * dims
    compare(
        lambda x, w: BACK[dims](x, w, stride, padding, extra, dilation, groups),
        lambda x, w: THEIR_BACK[dims](x, w, None, stride, padding, extra, groups, dilation),
        [x, w], rng, seed,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(120))
def test_poolings(seed):
    rng = np.random.default_rng(2000 + seed)
    dims = int(rng.integers(1, 4))
    size, stride = some(rng, dims, 1, 4), some(rng, dims, 1, 4)
    padding = tuple(int(rng.integers(0, n // 2 + 1)) for n in size)
    whole, counts = bool(rng.random() < 0.6), bool(rng.random() < 0.5)
    if seed % 3 == 0:  # sizes are not known: what is beyond a border cannot be told
        whole, padding = True, (0,) * dims
    sizes = [n + int(extra) for n, extra in zip(size, rng.integers(0, 6, dims), strict=True)]
    x = rng.normal(size=(2, 3, *sizes))
    if rng.random() < 0.5:
        compare(
            lambda x: mg.max_pool(x, size, stride, padding, whole),
            lambda x: MAXIMA[dims](x, size, stride, padding, ceil_mode=not whole),
            [x], rng, seed,
        )  # fmt: skip
    else:
        compare(
            lambda x: mg.average_pool(x, size, stride, padding, whole, counts),
            lambda x: MEANS[dims](x, size, stride, padding, not whole, counts),
            [x], rng, seed,
        )  # fmt: skip
