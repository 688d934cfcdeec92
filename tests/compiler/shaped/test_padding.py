"""Gradients of slices of one array: equal to the reference, for known and unknown sizes, chains of stencils among them."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from support.backends import compiled

RNG = np.random.default_rng(7)


def blurred(x):
    """The sums of windows of 3x2 elements."""
    return sum(x[i : i + 6, j : j + 6] for i in range(3) for j in range(2))


def heated(x):
    """Two steps of diffusion, with zeros around."""
    for _ in range(2):
        around = mg.pad(x, 1)
        x = x + 0.1 * (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4.0 * x)
    return x


STENCILS = [
    ("differences", lambda x: x[1:] - x[:-1], (20,)),
    ("neighbours", lambda x: x[2:] + x[:-2] * 2 + x[1:-1], (20,)),
    ("ends", lambda x: x[:3] + x[-3:], (40,)),
    ("blur", blurred, (8, 7)),
    ("heat", heated, (9, 7)),
    ("products", lambda x: x[1:-1, 1:-1] * x[2:, 1:-1] + x[:-2, 1:-1], (9, 7)),
    ("nothing", lambda x: x[0:0], (5,)),
    ("everything", lambda x: x[:] + x[0:], (5, 2)),
]


@compiled
@pytest.mark.parametrize("stencil, shape", [pytest.param(*rest, id=name) for name, *rest in STENCILS])
def test_gradients_of_slices(stencil, shape):
    for known in (shape, (None,) * len(shape)):
        x = mg.tensor("x", dtype="float64", shape=known)
        y = stencil(x)
        outputs = [mg.grad((y * y).sum(), x), y]
        ours, reference = (mg.function([x], outputs, backend=name) for name in ("native", "numpy"))
        for given in (shape, tuple(size + (known != shape and stencil is not blurred) for size in shape)):
            data = RNG.normal(size=given)
            for result, right in zip(ours(data), reference(data), strict=True):
                np.testing.assert_allclose(result, right, rtol=1e-12, atol=1e-12)
