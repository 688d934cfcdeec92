"""Sizes that are declared: specified for a variable, or by a layer, which then is allocated before it meets an input."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph import dialects
from minigraph.layers import (
    GRU,
    LSTM,
    MLP,
    BatchNormalization,
    BatchNormalizedLSTM,
    BatchNormalizedMLP,
    Bias,
    Bidirectional,
    Convolutional,
    ConvolutionalSequence,
    ConvolutionalTranspose,
    Flattener,
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    Linear,
    MaxPooling,
    Rectifier,
    RecurrentStack,
    RMSNormalization,
    Sequence,
    SimpleRecurrent,
    Softmax,
    SpatialBatchNormalization,
    Tanh,
    WeightNormalizedLinear,
    application,
    find_layers,
    get_parameter_values,
    set_parameter_values,
)
from support.backends import on_each

# -- of a variable ---------------------------------------------------------------------------------------------------


@on_each
def test_a_specified_shape_is_known_and_checked_at_the_users_line(backend, rng):
    x = mg.tensor3("x", dtype="float64")
    y = mg.specify_shape(x, (None, 3, x.shape[0]))
    assert y.type.shape == (None, 3, None) and mg.specify_shape(y, (None, 3, None)) is y
    dx = mg.grad(mg.square(y).sum(), x)
    assert x.type.admits(dx.type)
    f = mg.function([x], [y, dx], backend=backend)
    given = rng.normal(size=(2, 3, 2))
    np.testing.assert_array_equal(f(given), [given, 2 * given])
    for wrong in ((2, 4, 2), (2, 3, 3), (2, 1, 2)):
        with pytest.raises(ValueError, match=r"(?s)has size \d at run time, and \d is expected.*test_declared_sizes.py"):
            f(np.ones(wrong))


@on_each
def test_a_failing_check_leaves_state_as_it_was(backend):
    w = mg.shared(np.ones((2, 3)), "w", shape=(None, None))
    count = mg.shared(0, "count")
    f = mg.function([], mg.specify_shape(w, (2, None)).sum(), updates=[(count, count + 1), (w, w * 2)], backend=backend)
    assert f() == 6
    w.set_value(np.ones((3, 3)))
    with pytest.raises(ValueError, match="2 is expected"):
        f()
    assert count.get_value() == 1 and (w.get_value() == 1).all()


@on_each
def test_axes_broadcast_as_theano_says(backend):
    x, row = mg.matrix("x"), mg.tensor("row", shape=(1, None))
    added = mg.addbroadcast(x, 0)
    assert added.type.broadcastable == (True, False) and (added + mg.zeros((4, 3))).type.shape == (4, 3)
    forgotten = mg.unbroadcast(row, 0)
    assert forgotten.type.broadcastable == (False, False) and mg.unbroadcast(x, 0, 1) is x
    both = mg.patternbroadcast(row, (False, True))
    assert both.type.broadcastable == (False, True)
    total = (added * 2 + mg.zeros((4, 3))).sum() + mg.square(forgotten).sum() + both.sum()
    gradients = mg.grad(total, [x, row])
    assert [one.type for one in gradients] == [x.type, row.type]
    f = mg.function([x, row], [total, *gradients], backend=backend)
    assert [one.tolist() for one in f(np.ones((1, 3), "float32"), np.ones((1, 1), "float32"))] == [26, [[8.0] * 3], [[3.0]]]
    with pytest.raises(ValueError, match="1 is expected"):
        f(np.ones((2, 3), "float32"), np.ones((1, 1), "float32"))


# -- of a layer ------------------------------------------------------------------------------------------------------

IMAGES, ROWS, SERIES = (2, 3, 6, 5), (2, 3), (4, 2, 3)
DECLARED = {
    "linear": (lambda: Linear(3, 4), ROWS),
    "linear over series": (lambda: Linear(3, 4), SERIES),
    "weight-normalized": (lambda: WeightNormalizedLinear(3, 4), ROWS),
    "bias": (lambda: Bias(3), ROWS),
    "an MLP": (lambda: MLP([Tanh(), None], [3, 4, 2]), ROWS),
    "a normalized MLP": (lambda: BatchNormalizedMLP([Tanh(), None], [3, 4, 2]), ROWS),
    "batch normalization": (lambda: BatchNormalization(3), ROWS),
    "batch normalization of images": (lambda: SpatialBatchNormalization((3, 6, 5)), IMAGES),
    "layer normalization": (lambda: LayerNormalization(3), SERIES),
    "RMS normalization": (lambda: RMSNormalization(3), ROWS),
    "group normalization": (lambda: GroupNormalization(3, 3), IMAGES),
    "instance normalization": (lambda: InstanceNormalization(3), IMAGES),
    "convolutional": (lambda: Convolutional(2, 4, 3), (2, 3, 6)),
    "convolutional over images": (lambda: Convolutional((3, 2), 4, 3), IMAGES),
    "transposed": (lambda: ConvolutionalTranspose((3, 2), 4, 3), IMAGES),
    "recurrent": (lambda: SimpleRecurrent(4, 3), SERIES),
    "LSTM": (lambda: LSTM(4, 3), SERIES),
    "GRU without input_dim": (lambda: GRU(1), SERIES),
    "normalized LSTM": (lambda: BatchNormalizedLSTM(4, input_dim=3), SERIES),
    "both ways": (lambda: Bidirectional(GRU(4, 3)), SERIES),
    "a stack": (lambda: RecurrentStack([GRU(4, 3), LSTM(2)], skip_connections=True), SERIES),
    "lasagne": (lambda: dialects.lasagne.BatchNormLayer((None, 3, None, None)), IMAGES),
    "torch": (lambda: dialects.torch.BatchNorm2d(3), IMAGES),
    "keras": (lambda: dialects.keras.BatchNormalization(features=3), SERIES),
    "puzzlelib": (lambda: dialects.puzzlelib.BatchNorm2D(3), IMAGES),
    "caffe": (lambda: dialects.caffe.Scale(features=3), IMAGES),
}


def results(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("kind", DECLARED)
def test_what_a_layer_declares_is_known_of_its_input_and_results_and_checked(kind, rng):
    build, shape = DECLARED[kind]
    x, known = mg.tensor("x", shape=[None] * len(shape)), mg.tensor("known", shape=shape)
    layer = build()
    outputs = results(layer.apply(x))
    features = 1 if len(shape) == 4 or kind == "convolutional" else -1
    for one, other in zip(outputs, results(layer.apply(known)), strict=True):
        assert one.type.shape[features] == other.type.shape[features] is not None
    given = rng.normal(size=shape).astype("float32")
    f = mg.function([x], outputs, no_default_updates=True)
    for one, other in zip(f(given), results(mg.function([known], layer.apply(known))(given)), strict=True):
        np.testing.assert_allclose(one, np.ravel(other).reshape(one.shape), rtol=1e-5, atol=1e-6)
    axis = features % len(shape)
    for size in (1, 5):
        wrong = np.ones([size if k == axis else one for k, one in enumerate(shape)], "float32")
        with pytest.raises(
            ValueError, match=rf"(?s)axis {axis} has size {size} at run time, and 3 is expected.*{__file__}.*in layer /"
        ):
            f(wrong)


def stages():
    return [
        Convolutional((5, 5), 6),
        Rectifier(),
        MaxPooling(2),
        Convolutional((5, 5), 16),
        Rectifier(),
        MaxPooling(2),
        Flattener(),
    ]


@on_each
def test_a_network_of_images_whose_sizes_are_declared_and_nothing_else(backend, rng):
    """As every script for Blocks writes it: the sizes of the images, an input of none, and an MLP that follows."""
    x = mg.tensor4("x")
    features = ConvolutionalSequence(stages(), num_channels=1, image_size=(28, 28))
    top = MLP([Rectifier(), Softmax()], [None, 20, 10])
    y = top.apply(features.apply(x))
    assert y.type.shape == (None, 10) and top.children[0].input_dim == 16 * 4 * 4
    f = mg.function([x], y, backend=backend)
    assert f(rng.normal(size=(2, 1, 28, 28)).astype("float32")).shape == (2, 10)
    for wrong in ((2, 3, 28, 28), (2, 1, 27, 28)):
        with pytest.raises(ValueError, match="is expected"):
            f(np.ones(wrong, "float32"))
    with pytest.raises(ValueError, match=r"of sizes \(1, 28, 28\)"):
        features.apply(mg.tensor("x", shape=(None, 1, 27, 28)))
    with pytest.raises(ValueError, match=r"of sizes \(1, 28, 28\)"):
        features.apply(mg.tensor("x", shape=[None] * 5))


def test_what_a_layer_inferred_at_first_is_declared_from_then_on():
    layer = Linear(output_dim=3)
    layer.apply(mg.tensor("x", shape=(None, 4)))
    x = mg.matrix("x")
    f = mg.function([x], layer.apply(x))
    with pytest.raises(ValueError, match="4 is expected"):
        f(np.ones((2, 5), "float32"))


def test_gradients_pass_through_what_was_declared(rng):
    x = mg.matrix("x", dtype="float64")
    layer = Linear(1, 2, dtype="float64")
    dx = mg.grad(mg.square(layer.apply(x)).sum(), x)
    assert dx.type == x.type and dx.eval({x: rng.normal(size=(3, 1))}).shape == (3, 1)


def test_a_layer_of_ones_own_declares_its_input():
    class Pairs(mg.layers.Layer):
        """The sum of two columns."""

        def input_shape(self, x):
            return (None, 2)

        @application
        def apply(self, x):
            """The sum."""
            assert x.type.shape == (None, 2)
            return x.sum(axis=1)

    x = mg.matrix("x")
    with pytest.raises(ValueError, match="2 is expected"):
        Pairs().apply(x=x).eval({x: np.ones((3, 3), "float32")})


# -- before an application -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DECLARED)
def test_layers_of_known_sizes_are_initialized_and_loaded_before_they_are_applied(kind):
    build, shape = DECLARED[kind]
    fresh, drawn, applied = build(), build(), build()
    drawn.initialize(3)
    applied.apply(mg.tensor("x", shape=shape))
    applied.initialize(3)
    values = get_parameter_values(applied)
    assert (
        values.keys()
        == get_parameter_values(drawn).keys()
        == {
            f"/{drawn.name}{'' if '.' not in name and '/' not in name and name in drawn.own_variables else '/'}{name}".replace(
                f"/{drawn.name}{name}", f"/{drawn.name}.{name}"
            )
            for name in drawn.variables
        }
    )
    for name, value in get_parameter_values(drawn).items():
        np.testing.assert_array_equal(value, values[name])
    set_parameter_values(fresh, values)
    assert all(layer.allocated for layer in find_layers(fresh))
    for name, value in get_parameter_values(fresh).items():
        np.testing.assert_array_equal(value, values[name])


def test_a_sequence_of_images_is_initialized_without_an_application():
    features = ConvolutionalSequence(stages(), num_channels=1, image_size=(28, 28))
    features.initialize(1)
    assert features.stages[3].variables["W"].type.shape == (16, 6, 5, 5)


UNKNOWN = {
    "linear": lambda: Linear(output_dim=3),
    "an MLP": lambda: MLP([Tanh()], [None, 3]),
    "inside": lambda: Sequence([Linear(4, 3), Sequence([Linear(output_dim=2)])]),
    "batch normalization": lambda: BatchNormalization(),
    "layer normalization": lambda: LayerNormalization(),
    "convolutional": lambda: Convolutional(3, 4),
    "images": lambda: ConvolutionalSequence(stages(), num_channels=1),
    "torch": lambda: dialects.torch.BatchNorm1d(),
    "caffe": lambda: dialects.caffe.Scale(),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_layers_of_unknown_sizes_say_which_and_stay_as_they_were(kind):
    layer = UNKNOWN[kind]()
    unknown = r"input_dim|num_channels|features|image_size"
    for attempt, message in (
        (layer.initialize, unknown),
        (layer.allocate, unknown),
        (lambda: set_parameter_values(layer, {"/net.W": np.ones(3)}), rf"apply or allocate the layer first: .*({unknown})"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            attempt()
        assert not any(one.allocated or one.own_variables for one in find_layers(layer))


def test_a_set_of_values_that_does_not_fit_allocates_nothing():
    network = MLP([Tanh()], [4, 3])
    with pytest.raises(ValueError, match=r"unknown \['/mlp/linear_0.V'\]"):
        set_parameter_values(network, {"/mlp/linear_0.V": np.ones(3)})
    with pytest.raises((TypeError, ValueError), match="shape"):
        set_parameter_values(network, {f"/mlp/linear_0.{name}": np.ones(2, "float32") for name in "Wb"})
    assert network.parameters == [] and not any(one.allocated for one in find_layers(network))


# -- modes, by their names -------------------------------------------------------------------------------------------


def test_the_mode_is_at_hand():
    layer, x = BatchNormalization(3), mg.matrix("x")
    with mg.training_mode(layer):
        by_mode = layer.apply(x)
    with mg.batch_normalization(layer):
        assert mg.debugprint(layer.apply(x)) == mg.debugprint(by_mode) != mg.debugprint(BatchNormalization(3).apply(x))
    with pytest.raises(TypeError, match=r"(?s)mg\.training_mode.*" + __file__):
        mg.training(layer)
    assert mg.training.sgd


@pytest.mark.parametrize("layers", [(), (Tanh(),), (Linear(3, 2), MLP([Tanh()], [3, 2]))])
def test_nothing_that_keeps_a_population_is_nothing_to_switch(layers):
    layer, x = BatchNormalization(3), mg.matrix("x")
    plain = mg.debugprint(layer.apply(x))
    with mg.batch_normalization(*layers):
        assert mg.debugprint(layer.apply(x)) == plain
        with mg.batch_normalization(layer), mg.batch_normalization(*layers):
            assert mg.debugprint(layer.apply(x)) != plain


@on_each
def test_an_axis_of_unknown_size_is_split_into_equal_parts(backend):
    x = mg.tensor("x", dtype="float64", shape=(None, None, 2))
    for axis, parts in ((0, 2), (1, 3), (-2, 1)):
        f = mg.function(
            [x], [*mg.split(x, parts, axis), mg.grad(mg.square(mg.split(x, parts, axis)[0]).sum(), x)], backend=backend
        )
        for size in ((4, 3, 2), (2, 6, 2), (0, 3, 2)):
            given = np.random.default_rng(0).normal(size=size)
            *found, slope = f(given)
            for one, other in zip(found, np.split(given, parts, axis), strict=True):
                np.testing.assert_array_equal(one, other)
            first = np.zeros_like(given)
            first[(slice(None),) * (axis % 3) + (slice(given.shape[axis] // parts),)] = 2
            np.testing.assert_allclose(slope, first * given)
    with pytest.raises(ValueError, match="shape"):
        mg.function([x], mg.split(x, 2), backend=backend)(np.ones((3, 2, 2)))
