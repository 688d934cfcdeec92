"""All state of a layer is in its values, in `initialize` and in resets: training goes on as if it had never stopped."""

from __future__ import annotations

import copy
import gc
import pickle
from types import FunctionType, ModuleType

import numpy as np
import pytest

import minigraph as mg
from minigraph import dialects, layers
from minigraph.core.state import Cell
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.dialects.base import DialectNormalization, TrainableNormalization
from minigraph.layers import (
    LSTM,
    Convolutional,
    Layer,
    Linear,
    Rectifier,
    SimpleRecurrent,
    Tanh,
    get_parameter_values,
    set_parameter_values,
    training,
)
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_STATISTICS, PARAMETER, has_roles
from minigraph.training import sgd
from minigraph.transforms import moving_average, reset_population_statistics
from minigraph.transforms.batch_normalization import normalizations_of

pytestmark = pytest.mark.quick_code

ABSTRACT = {
    Layer,
    layers.PopulationNormalization,
    layers.Recurrent,
    DialectNormalization,
    TrainableNormalization,
    torch.PyTorchNormalization,
}

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


def exported():
    """All layer classes that users find in `layers` and in the modules of dialects."""
    modules = [layers, *(one for one in vars(dialects).values() if isinstance(one, ModuleType))]
    found = {one for module in modules for one in vars(module).values() if isinstance(one, type) and issubclass(one, Layer)}
    return found - ABSTRACT


def test_every_layer_class_has_a_record():
    assert exported() == set(RECORDS)


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


def values_equal(first, second):
    """Whether values by name are the same, bit for bit."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def cells_below(layer):
    """Every cell that can be reached from a layer through whatever objects."""
    seen, stack, cells = set(), [layer], set()
    while stack:
        one = stack.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType | str | np.ndarray):
            continue
        seen.add(id(one))
        if isinstance(one, Cell):
            cells.add(one)
        else:
            stack += gc.get_referents(one)
    return cells


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_all_state_is_saved_copied_drawn_and_reset(make, shape):
    layer = make()
    step = stepping(layer, shape)
    start = get_parameter_values(layer)
    for batch in batches(shape, 3):
        step(batch)
    saved = get_parameter_values(layer)
    assert cells_below(layer) == {variable.cell for variable in layers.get_parameters(layer).values()}

    copied = copy.deepcopy(layer)
    assert values_equal(get_parameter_values(copied), saved)
    assert not cells_below(copied) & cells_below(layer)
    if not any(isinstance(one, FunctionType) for one in vars(layer).values()):
        assert values_equal(get_parameter_values(pickle.loads(pickle.dumps(layer))), saved)

    other = make()
    onward = stepping(other, shape)
    set_parameter_values(other, saved)
    assert_equal_steps(step, onward, shape)

    before = get_parameter_values(layer)
    reset_population_statistics(layer)
    population = layers.get_parameters(layer, BATCH_NORM_POPULATION_STATISTICS)
    assert values_equal(get_parameter_values(layer), {name: (start if name in population else before)[name] for name in before})

    fresh = make()
    first = stepping(fresh, shape)
    layer.initialize(3)
    fresh.initialize(3)
    assert values_equal(get_parameter_values(layer), get_parameter_values(fresh))
    assert_equal_steps(step, first, shape)


def test_puzzlelib_counts_on_after_a_resume():
    """And the arrays of PuzzleLib itself, which does not save the count, start it anew."""
    layer, other, third = puzzlelib.BatchNorm(1), puzzlelib.BatchNorm(1), puzzlelib.BatchNorm(1)
    steps = [stepping(one, (2, 1)) for one in (layer, other, third)]
    for _ in range(100):
        steps[0]([[0.0], [2.0]])
    set_parameter_values(other, get_parameter_values(layer))
    third.set_values(layer.get_values())
    for step in steps:
        step([[20.0], [22.0]])
    means = [one.get_values()["mean"].item() for one in (layer, other, third)]
    assert means == pytest.approx([3, 3, 21], rel=1e-5)
    assert list(layer.get_values()) == ["scale", "bias", "mean", "var"]
    other.initialize(0)
    assert int(other.num_of_props.get_value()) == 0


def test_renormalization_forgets_its_steps():
    layer = layers.BatchRenormalization(1, r_max=lambda n: 1.0 + n, d_max=lambda n: 1.0 * n)
    step = stepping(layer, (2, 1))
    for _ in range(50):
        step([[9.0], [11.0]])
    reset_population_statistics(layer)
    scale = layer.variables["scale"].get_value()
    assert np.diff(step([[9.0], [11.0]]).ravel()) == pytest.approx(2 * scale, rel=1e-3)
    assert int(layer.variables["steps"].get_value()) == 1


def test_layers_of_ones_own_save_their_streams():
    class Jitter(Layer):
        """Noise in training."""

        def allocate_parameters(self):
            self.stream = self.add_stream()

        @layers.application
        def apply(self, x):
            """x with noise."""
            return x + self.stream.normal(mg.shape(x))

    layer, other = Jitter(seed=1), Jitter(seed=2)
    steps = [stepping(one, MATRIX) for one in (layer, other)]
    steps[0](batches(MATRIX, 1)[0])
    set_parameter_values(other, get_parameter_values(layer))
    assert_equal_steps(*steps, MATRIX)


def test_frozen_parameters_are_state_that_does_not_learn():
    for layer in (gomlx.BatchNormalization(trainable=False), keras.BatchNormalization(trainable=False)):
        layer.apply(mg.matrix("x", shape=(None, 2)))
        assert layer.parameters == [] == list(layers.get_parameters(layer, PARAMETER))
        assert any(has_roles(one, [PARAMETER]) for one in layers.get_parameters(layer).values())
