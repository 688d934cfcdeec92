"""Computing in the order of axes in which memory lies: nothing changes but that."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Graph
from minigraph.layers import Convolutional, Rectifier, Sequence, SpatialBatchNormalization, batch_normalization
from minigraph.ops.array.shape import Dimshuffle
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.reduce.base import Reduction
from minigraph.rewrite.sink_transposes import sink_transposes
from minigraph.testing import compute_plainly
from support.backends import BACKENDS

ORDERS = [(0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 2, 3), (2, 0, 3, 1)]


def random_chain(rng, x, other):
    """A value computed from x, the axes of which were reordered, by ops of all kinds."""
    value = x.transpose(ORDERS[rng.integers(len(ORDERS))])
    for _ in range(rng.integers(3, 9)):
        match rng.integers(13):
            case 0:
                value = mg.tanh(value)
            case 1:
                value = value * value.mean(int(rng.integers(4)), keepdims=True)
            case 2:
                value = value + rng.normal(size=value.type.shape[1]).reshape(-1, 1, 1)
            case 3:
                value = value - mg.exp(value) * 0.1
            case 4:
                value = mg.where(mg.gt(value, 0), value, -0.5)
            case 5:
                value = value[:, 1:] if (value.type.shape[1] or 0) > 2 else value[:, ::-1]
            case 6:
                value = mg.pad(value, [(0, 0), (1, 0), (0, 1), (0, 0)])
            case 7:
                value = mg.windows(value, 2, (3,)).sum(-1) if (value.type.shape[3] or 0) > 2 else value
            case 8:
                size = value.type.shape
                value = mg.overlap(mg.stack([value, value * 0.5], -1), [(size[2] or 0) + 1], (2,))
            case 9:
                value = value.transpose(ORDERS[rng.integers(len(ORDERS))])
            case 10:
                value = value.sum((1, 2), keepdims=True) * 0.1 + value
            case 11:
                a, b, c, d = value.type.shape
                value = mg.reshape(value, (a, 1, b, c, d)).max(1) if rng.random() < 0.5 else mg.reshape(value, (a, b, c * d))
                value = value if value.ndim == 4 else mg.reshape(value, (a, b, c, d))
            case 12:
                value = value * mg.tanh(value.mean((0, 1) if rng.random() < 0.5 else 0))
    return value + other[0, 0, 0, 0] if rng.random() < 0.5 else value


@pytest.mark.parametrize("seed", range(40))
def test_values_and_gradients_stay(seed):
    rng = np.random.default_rng(seed)
    x = mg.tensor("x", dtype="float64", shape=(3, 4, 2, 5))
    value = random_chain(rng, x, x)
    wanted = [value, mg.grad(mg.square(value).sum(), x)]
    given = rng.normal(size=(3, 4, 2, 5))
    expected = compute_plainly(wanted, {x: given})
    for backend in BACKENDS:
        f = mg.function([x], wanted, backend=backend)
        assert f.backend == backend
        for found, other in zip(f(given), expected, strict=True):
            np.testing.assert_allclose(found, other, 1e-9, 1e-9)


def test_after_a_convolution_channels_stay_last():
    x = mg.tensor4("x", shape=(None, 3, 8, 8))
    layers = Sequence([Convolutional(3, 4, border_mode="same"), SpatialBatchNormalization(), Rectifier()])
    with batch_normalization(layers):
        y = layers.apply(x)
    pooled = mg.max_pool(y, 2)
    f = mg.function([x], mg.conv2d(pooled, np.ones((2, 4, 3, 3), "float32")), backend="numpy")
    heights = [one for one in f.graph.variables if isinstance(one.op, Elementwise | Reduction) and one.inputs[0].ndim >= 4]
    assert heights
    for one in heights:
        full = [operand for operand in one.inputs if operand.ndim >= 4 and operand.type.shape.count(1) <= 1]
        assert not any(isinstance(operand.op, Dimshuffle) for operand in full), mg.debugprint(one)


def test_operands_in_another_order_keep_theirs():
    x, y = (mg.tensor(name, shape=(3, 4, 5)) for name in "xy")
    total = x.transpose((2, 0, 1)) + y.transpose((2, 1, 0))[:, :3].sum() + y[0, 0, 0]
    z, mask = (mg.tensor(name, shape=(5, 3, 4)) for name in ("z", "mask"))
    mixed = mg.where(mg.gt(mask, 0), x.transpose((2, 0, 1)), z)
    graph = sink_transposes(Graph((), (total, mixed)))
    assert isinstance(graph.outputs[0].op, Dimshuffle)
    assert graph.outputs[1] is mixed
