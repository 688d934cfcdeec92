"""Convolutions and pooling of images with the channels last: what they are with the channels first, axes aside."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import (
    AveragePooling,
    Convolutional,
    ConvolutionalSequence,
    ConvolutionalTranspose,
    Flattener,
    GlobalAveragePooling,
    MaxPooling,
    Rectifier,
    SpatialBatchNormalization,
    batch_normalization,
    get_parameter_values,
)
from minigraph.transforms import fold_batch_normalization
from support.backends import on_each

LAST = {1: "NWC", 2: "NHWC", 3: "NDHWC"}
FILTERS = {1: (8, 2, 3), 2: (8, 2, 3, 2), 3: (8, 2, 2, 3, 2)}
CONVOLUTIONS = {1: mg.conv1d, 2: mg.conv2d, 3: mg.conv3d}
TRANSPOSED = {1: mg.conv_transpose1d, 2: mg.conv_transpose2d, 3: mg.conv_transpose3d}


def image_ops(count):
    """The ops on images of 4 channels with `count` spatial axes, which take a layout, by name."""
    filters = mg.constant(np.random.default_rng(7).normal(size=FILTERS[count]))
    own = filters[:4, :1]
    yield "convolution", lambda x, **layout: CONVOLUTIONS[count](x, filters, 2, "same", groups=2, **layout)
    yield "depthwise", lambda x, **layout: CONVOLUTIONS[count](x, own, 1, 1, groups=4, **layout)
    yield "depthwise with a stride", lambda x, **layout: CONVOLUTIONS[count](x, own, 2, groups=4, **layout)
    yield "two outputs a channel", lambda x, **layout: CONVOLUTIONS[count](x, filters[:, :1], groups=4, **layout)
    yield "transposed", lambda x, **layout: TRANSPOSED[count](x, filters[:4], 2, 1, **layout)
    yield "maxima", lambda x, **layout: mg.max_pool(x, 3, 2, 1, **layout)
    yield "tiles", lambda x, **layout: mg.max_pool(x, (2,) * count, **layout)
    yield "means", lambda x, **layout: mg.average_pool(x, 3, 1, 1, ignore_border=False, count_padding=False, **layout)
    yield "all places", lambda x, **layout: mg.global_average_pool(x, keepdims=True, **layout)


@on_each
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", LAST)
def test_results_and_gradients_are_those_with_the_channels_first(count, known, backend, rng):
    shape = (2, 4, *(6, 7, 5)[:count])
    first, last = (mg.tensor(shape=sizes, dtype="float64") for sizes in (shape, (2, *shape[2:], 4)))
    if not known:
        first, last = (mg.tensor(shape=(None,) * len(shape), dtype="float64") for _ in range(2))
    data = rng.normal(size=shape)
    for name, op in image_ops(count):
        if not known and name == "convolution":  # "same" with a stride needs sizes
            continue
        ys = op(first), op(last, layout=LAST[count])
        f, g = (
            mg.function([x], [y, *mg.grad(mg.sin(y).sum(), [x])], backend=backend)
            for x, y in zip((first, last), ys, strict=True)
        )
        for ours, theirs in zip(g(np.moveaxis(data, 1, -1)), f(data), strict=True):
            np.testing.assert_allclose(np.moveaxis(ours, -1, 1), theirs, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("layout", ["NWC", "NDHWC", "NHWc", "HWCN", 2, np.ones(2)])
def test_layouts_of_other_numbers_of_axes_are_refused(layout):
    x, filters = mg.tensor4("x", shape=(2, 5, 5, 3)), np.ones((4, 3, 2, 2), "float32")
    for op in (lambda: mg.conv2d(x, filters, layout=layout), lambda: mg.max_pool(x, 2, layout=layout)):
        with pytest.raises(mg.errors.InvalidValueError, match=r"(?s)'NCHW' or 'NHWC', not .*test_layouts.py"):
            op()
    with pytest.raises(mg.errors.InvalidTypeError, match=r"has 4 axes, and .* has 3"):
        mg.conv2d(mg.tensor3("x"), filters, layout="NHWC")
    with pytest.raises(mg.errors.InvalidValueError, match=r"take 3 channels, and .* has 5"):
        mg.conv2d(x, filters)


def network(layout):
    """Layers of every kind that works on images, in a layout."""
    stages = [
        Convolutional(3, 8), SpatialBatchNormalization(), Rectifier(), MaxPooling(3, 2, padding=1),
        Convolutional(3, 8, groups=8, tied_biases=False), AveragePooling(2, 1), ConvolutionalTranspose(2, 4, step=2),
        GlobalAveragePooling(), Flattener(),
    ]  # fmt: skip
    return ConvolutionalSequence(stages, 3, (12, 10), border_mode="same", layout=layout, seed=3)


@on_each
def test_layers_have_the_same_parameters_in_both_layouts(backend, rng):
    data = rng.normal(size=(4, 3, 12, 10)).astype("float32")
    results, sizes = [], []
    for layout, given in ((None, data), ("NHWC", np.moveaxis(data, 1, -1))):
        layers = network(layout)
        layers.allocate()
        x = mg.tensor4("x", shape=given.shape)
        with batch_normalization(layers):
            trained = layers.apply(x)
        plain = layers.apply(x)
        outputs = [trained, plain, *fold_batch_normalization(plain).outputs]
        results.append(mg.function([x], outputs, backend=backend)(given))
        sizes.append({name: value.size for name, value in get_parameter_values(layers).items()})
    assert sizes[0] == sizes[1] and len(sizes[0]) == 10
    for first, last in zip(*results, strict=True):
        np.testing.assert_allclose(first, last, rtol=1e-4, atol=1e-5)


def test_layers_refuse_images_in_the_other_layout():
    layer = Convolutional(3, 8, num_channels=3, layout="NHWC")
    with pytest.raises(mg.errors.InvalidValueError, match=r"takes \(batch, 2 spatial axes, 3 channels\)"):
        layer.apply(mg.tensor4("x", shape=(None, 3, 8, 8)))
    with pytest.raises(mg.errors.InvalidValueError, match=r"takes \(batch, \*spatial, channels\) of sizes \(12, 10, 3\)"):
        network("NHWC").apply(mg.tensor4("x", shape=(None, 3, 12, 10)))
    with pytest.raises(mg.errors.InvalidValueError, match=r"layout must be one of 'NCW', .* not 'CHWN'"):
        MaxPooling(2, layout="CHWN")
