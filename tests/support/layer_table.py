"""Ways to make each layer class, and training steps of them."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph import dialects, layers
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import LSTM, Convolutional, Linear, Rectifier, SimpleRecurrent, Tanh, training
from minigraph.training import sgd
from minigraph.transforms import moving_average
from minigraph.transforms.batch_normalization import normalizations_of

MATRIX, SEQUENCE, IMAGES, STEPS = (6, 4), (6, 4, 5), (6, 4, 3, 3), (3, 6, 4)
"""Shapes of inputs: the batch has 6 elements, and there are 4 features, or channels."""


RECORDS = {
    layers.AveragePooling: [(lambda: layers.AveragePooling(2), IMAGES)],
    layers.BatchNormalization: [
        (layers.BatchNormalization, MATRIX),
        (lambda: layers.BatchNormalization(mean_only=True, virtual_batch_size=4), MATRIX),
        (lambda: layers.BatchNormalization(convention=dialects.LASAGNE), MATRIX),
    ],
    layers.BatchNormalizedLSTM: [(lambda: layers.BatchNormalizedLSTM(2, n_iter=2, input_dim=4), STEPS)],
    layers.BatchNormalizedMLP: [(lambda: layers.BatchNormalizedMLP([Tanh(), None], [4, 3, 2]), MATRIX)],
    layers.BatchRenormalization: [
        (layers.BatchRenormalization, MATRIX),
        (lambda: layers.BatchRenormalization(r_max=lambda n: 1.0 + n, d_max=lambda n: 1.0 * n), MATRIX),
    ],
    layers.Bias: [(layers.Bias, MATRIX)],
    layers.Bidirectional: [(lambda: layers.Bidirectional(SimpleRecurrent(2, 4)), STEPS)],
    layers.Convolutional: [(lambda: layers.Convolutional(2, 2), IMAGES)],
    layers.ConvolutionalSequence: [
        (lambda: layers.ConvolutionalSequence([Convolutional(2, 2), layers.SpatialBatchNormalization(), Rectifier()]), IMAGES)
    ],
    layers.ConvolutionalTranspose: [(lambda: layers.ConvolutionalTranspose(2, 2, tied_biases=False), IMAGES)],
    layers.Dropout: [
        (layers.Dropout, MATRIX),
        (lambda: layers.Dropout(0.25, stream=mg.random.RandomStream(2**63 + 12345)), MATRIX),
    ],
    layers.Elu: [(layers.Elu, MATRIX)],
    layers.Flattener: [(layers.Flattener, IMAGES)],
    layers.GRU: [(lambda: layers.GRU(2, 4), STEPS)],
    layers.Gelu: [(layers.Gelu, MATRIX)],
    layers.GlobalAveragePooling: [(layers.GlobalAveragePooling, IMAGES)],
    layers.GroupNormalization: [(lambda: layers.GroupNormalization(2), IMAGES)],
    layers.Identity: [(layers.Identity, MATRIX)],
    layers.InstanceNormalization: [(layers.InstanceNormalization, IMAGES)],
    layers.LSTM: [(lambda: LSTM(2, 4, peepholes=True), STEPS)],
    layers.LayerNormalization: [(layers.LayerNormalization, MATRIX)],
    layers.LeakyRectifier: [(layers.LeakyRectifier, MATRIX)],
    layers.Linear: [(lambda: Linear(output_dim=3), MATRIX)],
    layers.Logistic: [(layers.Logistic, MATRIX)],
    layers.MLP: [(lambda: layers.MLP([Rectifier(), None], [4, 3, 2]), MATRIX)],
    layers.MaxPooling: [(lambda: layers.MaxPooling(2), IMAGES)],
    layers.RMSNormalization: [(layers.RMSNormalization, MATRIX)],
    layers.Rectifier: [(Rectifier, MATRIX)],
    layers.RecurrentStack: [(lambda: layers.RecurrentStack([SimpleRecurrent(2, 4), LSTM(3)], skip_connections=True), STEPS)],
    layers.Sequence: [
        (lambda: layers.Sequence([Linear(output_dim=3), torch.BatchNorm1d(), layers.Dropout(), puzzlelib.BatchNorm(3)]), MATRIX)
    ],
    layers.Silu: [(layers.Silu, MATRIX)],
    layers.SimpleRecurrent: [(lambda: SimpleRecurrent(2, 4), STEPS)],
    layers.Softmax: [(layers.Softmax, MATRIX)],
    layers.Softplus: [(layers.Softplus, MATRIX)],
    layers.SpatialBatchNormalization: [(layers.SpatialBatchNormalization, IMAGES)],
    layers.Tanh: [(Tanh, MATRIX)],
    layers.WeightNormalizedLinear: [(lambda: layers.WeightNormalizedLinear(output_dim=3), MATRIX)],
    caffe.BatchNorm: [(caffe.BatchNorm, MATRIX)],
    caffe.Scale: [(lambda: caffe.Scale(bias_term=True), MATRIX)],
    gomlx.BatchNormalization: [(gomlx.BatchNormalization, MATRIX)],
    keras.BatchNormalization: [
        (lambda: keras.BatchNormalization(moving_mean_initializer=2.0, moving_variance_initializer=3.0), MATRIX)
    ],
    lasagne.BatchNormLayer: [(lasagne.BatchNormLayer, MATRIX)],
    onnx.BatchNormalization: [(onnx.BatchNormalization, MATRIX)],
    puzzlelib.BatchNorm: [(lambda: puzzlelib.BatchNorm(4), MATRIX)],
    puzzlelib.BatchNorm1D: [(lambda: puzzlelib.BatchNorm1D(4), SEQUENCE)],
    puzzlelib.BatchNorm2D: [(lambda: puzzlelib.BatchNorm2D(4), IMAGES)],
    puzzlelib.BatchNorm3D: [(lambda: puzzlelib.BatchNorm3D(4), (6, 4, 2, 2, 2))],
    puzzlelib.BatchNormND: [(lambda: puzzlelib.BatchNormND(1, 4), SEQUENCE)],
    torch.BatchNorm1d: [
        (torch.BatchNorm1d, MATRIX),
        (lambda: torch.BatchNorm1d(momentum=None), SEQUENCE),
        (lambda: torch.BatchNorm1d(track_running_stats=False), MATRIX),
    ],
    torch.BatchNorm2d: [(torch.BatchNorm2d, IMAGES)],
    torch.BatchNorm3d: [(torch.BatchNorm3d, (6, 4, 2, 2, 2))],
    torch.BatchNormalization: [(torch.BatchNormalization, MATRIX)],
    torch.SpatialBatchNormalization: [(torch.SpatialBatchNormalization, IMAGES)],
    torch.VolumetricBatchNormalization: [(torch.VolumetricBatchNormalization, (6, 4, 2, 2, 2))],
}
"""For each layer class ways to make one, and the shape of an input."""


CASES = [
    pytest.param(*record, id=f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
    for kind in RECORDS
    for record in RECORDS[kind]
]


def stepping(layer, shape):
    """A function that makes a step of training and returns what the layer made of the batch."""
    x = mg.tensor("x", shape=[None if k == (shape is STEPS) else size for k, size in enumerate(shape)])
    with training(layer):
        outputs = layer.apply(x)
    y = outputs[0] if isinstance(outputs, list) else outputs
    cost = mg.square(y - 0.3).mean()
    parameters = mg.ComputationGraph(cost).parameters
    updates = sgd(cost, parameters, 0.1) if parameters else []
    followed = {target for target, _ in mg.ComputationGraph(cost).updates}
    waiting = [one for one in normalizations_of(cost) if one.estimates and not set(one.population) <= followed]
    if waiting:
        updates += moving_average(mg.transforms.get_batch_normalization_updates(cost))
    return mg.function([x], y, updates=updates, backend="numpy")


def batches(shape, count, seed=0):
    """Minibatches that differ."""
    rng = np.random.default_rng(seed)
    return [rng.normal(k, 1 + k, shape).astype("float32") for k in range(count)]


def assert_equal_steps(first, second, shape):
    """The next three steps of two functions are equal, bit for bit."""
    for batch in batches(shape, 3, seed=1):
        np.testing.assert_array_equal(first(batch), second(batch))
