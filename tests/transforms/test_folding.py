"""Inference-mode normalizations folded into products, or refused."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import (
    MLP,
    BatchNormalization,
    BatchNormalizedMLP,
    Constant,
    Convolutional,
    ConvolutionalTranspose,
    Dropout,
    Freeze,
    Linear,
    MaxPooling,
    Rectifier,
    Sequence,
    SpatialBatchNormalization,
    Tanh,
    batch_normalization,
    training,
)
from minigraph.ops.elementwise.arithmetic import Multiply
from minigraph.ops.reduce.normalization import NormalizeBy
from minigraph.transforms import (
    apply_population_normalization,
    fold_batch_normalization,
    freeze_batch_normalization,
    recompute_population_statistics,
)


def counted(graph, kind):
    """How many variables of a graph are computed by a kind of op."""
    return sum(isinstance(one.op, kind) for one in mg.ComputationGraph(graph.outputs).variables)


def shaken(network, data, dtype="float32"):
    """The inference output of a network whose statistics, scales and shifts are not those it starts from."""
    x = mg.tensor("x", dtype=dtype, shape=[None, *data.shape[1:]])
    y = network.apply(x)
    recompute_population_statistics(y, [data])
    rng = np.random.default_rng(1)
    for name, variable in mg.layers.get_parameters(network).items():
        if name.rpartition(".")[2] in ("scale", "shift", "weight", "bias", "gamma", "beta", "b"):
            variable.set_value(rng.normal(1, 0.3, variable.get_value().shape).astype(variable.dtype))
    return x, y


@pytest.fixture
def data(rng):
    """Rows of four numbers."""
    return rng.normal(2, 3, (40, 4)).astype("float32")


NETWORKS = {
    "after a product": lambda: BatchNormalizedMLP([Rectifier(), Tanh(), None], [4, 6, 5, 3], seed=1),
    "after a product with a bias": lambda: Sequence([Linear(4, 6), BatchNormalization(6), Tanh()]),
    "before a product": lambda: Sequence([BatchNormalization(4), Linear(4, 6), Tanh()]),
    "before a product without bias": lambda: Sequence([Tanh(), BatchNormalization(4), Linear(4, 6, use_bias=False)]),
    "between two products": lambda: Sequence([Linear(4, 6), BatchNormalization(6), Linear(6, 3)]),
    "one after another": lambda: Sequence([Linear(4, 6), BatchNormalization(6), BatchNormalization(6), Tanh()]),
    "mean only": lambda: BatchNormalizedMLP([Tanh(), None], [4, 5, 3], mean_only=True),
    "nothing learned": lambda: BatchNormalizedMLP([Tanh(), None], [4, 5, 3], learn_scale=False, learn_shift=False),
    "dropout out of training": lambda: Sequence([Linear(4, 6), Dropout(0.5), BatchNormalization(6)]),
    "Lasagne": lambda: lasagne.batch_norm(MLP([Tanh()], [4, 3])),
    "PyTorch": lambda: Sequence([Linear(4, 6), torch.BatchNorm1d(6), Rectifier(), Linear(6, 2)]),
    "Caffe": lambda: Sequence([Linear(4, 6), caffe.BatchNorm(), caffe.Scale(bias_term=True)]),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_folded_network_computes_the_same_without_normalizing(network, dtype, data):
    x, y = shaken(NETWORKS[network](), data.astype(dtype), dtype)
    folded = fold_batch_normalization(y)
    assert counted(folded, NormalizeBy) == 0 < counted(mg.ComputationGraph(y), NormalizeBy)
    expected = y.eval({x: data})
    found = folded.outputs[0].eval({x: data})
    assert found.dtype == dtype
    margin = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(found, expected, rtol=margin, atol=margin * np.abs(expected).max())


def test_folded_weights_are_a_copy_that_later_training_does_not_change(data):
    network = NETWORKS["after a product"]()
    x, y = shaken(network, data)
    folded = fold_batch_normalization(y).outputs[0]
    before = folded.eval({x: data})
    for variable in mg.layers.get_parameters(network).values():
        variable.set_value(variable.get_value() * 2 + 1)
    np.testing.assert_array_equal(folded.eval({x: data}), before)
    weights = mg.VariableFilter(roles=[mg.layers.roles.WEIGHT])(mg.ComputationGraph(folded).variables)
    biases = mg.VariableFilter(roles=[mg.layers.roles.BIAS])(mg.ComputationGraph(folded).variables)
    assert [one.name for one in weights] == ["W_folded"] * 3 and len(biases) == 3


def test_sequences_of_steps_fold_too(rng):
    """A product over the last axis of three, whose statistics are taken over the first two."""
    values = rng.normal(2, 3, (5, 7, 4)).astype("float32")
    x, y = shaken(Sequence([Linear(4, 6), BatchNormalization(feature_axes=-1)]), values)
    folded = fold_batch_normalization(y)
    np.testing.assert_allclose(folded.outputs[0].eval({x: values}), y.eval({x: values}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(None, 3, 6, 5), (None, 3, None, None)])
def test_reading_the_size_of_a_value_does_not_keep_it(sizes, rng):
    """Products of arrays with more than two axes, and reshapes, read sizes that are known only in a call."""
    values = rng.normal(2, 3, (4, 3, 6, 5)).astype("float32")
    x = mg.tensor4("x", shape=sizes)
    normalized = SpatialBatchNormalization(shift_init=Constant(2.0)).apply(x)
    y = Linear(3, 4, seed=1).apply(mg.dimshuffle(normalized, 0, 2, 3, 1))
    folded = fold_batch_normalization(y)
    assert counted(folded, NormalizeBy) == 0
    np.testing.assert_allclose(folded.outputs[0].eval({x: values}), y.eval({x: values}), rtol=1e-4, atol=1e-5)


def x_of(*sizes):
    """An input of four features."""
    return mg.tensor("x", shape=(None, *sizes, 4))


def trained():
    """A network in training mode."""
    network = Sequence([Linear(4, 6), BatchNormalization(6)])
    with batch_normalization(network):
        return network.apply(x_of())


def used_twice():
    """A network whose product something else uses as well."""
    x = x_of()
    hidden = Linear(4, 6).apply(x)
    return BatchNormalization(6).apply(hidden) + mg.tanh(hidden)


def masked():
    """A network with a mask."""
    return BatchNormalization(6).apply(Linear(4, 6).apply(x_of()), mask=mg.vector("mask"))


def noisy():
    """A network with noise between product and normalization."""
    network, drop = Sequence([Linear(4, 6)]), Dropout(0.5)
    with training(drop):
        return BatchNormalization(6).apply(drop.apply(network.apply(x_of())))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (trained, "training mode"),
        (used_twice, "no product"),
        (masked, "mask"),
        (noisy, "no product"),
        (lambda: Sequence([Linear(4, 6), Tanh(), BatchNormalization(6), Tanh()]).apply(x_of()), "no product"),
        (lambda: Sequence([Linear(4, 6), BatchNormalization((5, 6))]).apply(x_of(5)), "another axis"),
        (lambda: BatchNormalization(6, n_iter=2).apply(Linear(4, 6).apply(x_of()), mg.lscalar("i")), "depend on an input"),
    ],
)
def test_what_cannot_be_folded_exactly_is_refused_with_the_reason(build, reason):
    with pytest.raises(ValueError, match=rf"(?s)folded exactly.*{reason}"):
        fold_batch_normalization(build())


def test_the_layers_to_fold_can_be_named(data):
    network = Sequence(
        [Linear(4, 6), BatchNormalization(6, name="first"), Tanh(), BatchNormalization(6, name="second"), Tanh()]
    )
    x, y = shaken(network, data)
    with pytest.raises(ValueError, match="folded exactly"):
        fold_batch_normalization(y)
    folded = fold_batch_normalization(y, layers=network.stages[1])
    assert counted(folded, NormalizeBy) == 1
    np.testing.assert_allclose(folded.outputs[0].eval({x: data}), y.eval({x: data}), rtol=1e-4, atol=1e-5)


def test_whatever_is_added_or_multiplied_on_the_way_becomes_part_of_the_product(data):
    network = Sequence([Linear(4, 6), BatchNormalization(6)])
    x, y = shaken(network, data)
    row = mg.shared(np.arange(1.0, 7.0, dtype="float32"))
    z = mg.tanh(-(row * (3 - (row + y) / 2) - 1))
    folded = fold_batch_normalization(z)
    assert len(folded.shared_variables) == 2 and counted(folded, Multiply) == 0
    np.testing.assert_allclose(folded.outputs[0].eval({x: data}), z.eval({x: data}), rtol=1e-3, atol=1e-4)


def test_what_varies_along_other_axes_beside_a_normalization_does_not_hinder(rng):
    """A position is added after the normalization, which folds without it."""
    values = rng.normal(2, 3, (5, 7, 4)).astype("float32")
    network = Sequence([Linear(4, 6), BatchNormalization(feature_axes=-1)])
    x, y = shaken(network, values)
    positions = mg.shared(rng.normal(size=(1, 7, 6)).astype("float32"))
    z = mg.tanh(y * 2 + positions)
    folded = fold_batch_normalization(z)
    assert counted(folded, NormalizeBy) == 0 and positions in folded.shared_variables
    np.testing.assert_allclose(folded.outputs[0].eval({x: values}), z.eval({x: values}), rtol=1e-4, atol=1e-5)


def test_a_graph_without_normalization_has_nothing_to_fold():
    with pytest.raises(ValueError, match="no normalization"):
        fold_batch_normalization(Linear(4, 6).apply(x_of()))


def test_a_known_row_folds(data):
    layer = BatchNormalization(6, n_iter=3)
    x = x_of()
    y = layer.apply(Linear(4, 6).apply(x), 1)
    layer.variables["population_mean"].set_value(np.arange(18, dtype="float32").reshape(3, 6))
    folded = fold_batch_normalization(y).outputs[0]
    np.testing.assert_allclose(folded.eval({x: data}), y.eval({x: data}), rtol=1e-4, atol=1e-4)


def test_an_update_that_hangs_on_a_product_is_no_step_on_the_way():
    count = mg.shared(np.float32(0), "count")
    x = x_of()
    counted_product = mg.with_default_update(Linear(4, 6).apply(x), {count: count + 1})
    with pytest.raises(ValueError, match="no product"):
        fold_batch_normalization(BatchNormalization(6).apply(counted_product))


def test_a_row_with_more_axes_is_left_where_it_is(data):
    x, y = shaken(Sequence([Linear(4, 6), BatchNormalization(6)]), data)
    z = y + mg.constant(np.ones((1, 1, 6), "float32"))
    folded = fold_batch_normalization(z).outputs[0]
    np.testing.assert_allclose(folded.eval({x: data}), z.eval({x: data}), rtol=1e-4, atol=1e-4)


def test_deep_networks_fold_in_one_go(data):
    """A hundred layers in seconds, not minutes: all are folded together."""
    network = BatchNormalizedMLP([Tanh() for _ in range(100)], [4] * 101, seed=1)
    x = mg.matrix("x")
    y = network.apply(x)
    folded = fold_batch_normalization(y)
    assert counted(folded, NormalizeBy) == 0
    np.testing.assert_allclose(folded.outputs[0].eval({x: data}), y.eval({x: data}), rtol=1e-3, atol=1e-4)


def assert_folds(network, data, sizes=None, backend="numpy"):
    """That a network without normalization comes out, which computes the same in float64; returns it."""
    x, y = shaken(network, data, "float64")
    if sizes is not None:
        x = mg.tensor("x", dtype="float64", shape=sizes)
        y = network.apply(x)
    folded = fold_batch_normalization(y)
    assert counted(folded, NormalizeBy) == 0
    expected, found = mg.function([x], [y, folded.outputs[0]], backend=backend)(data)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())
    return folded


def images(count, channels=4):
    """Two images of so many axes."""
    return np.random.default_rng(3).normal(2, 3, (2, channels, *(8, 7, 6)[:count]))


CONVOLUTIONS = {
    "one group": (Convolutional, {}),
    "groups": (Convolutional, {"groups": 2, "border_mode": "same"}),
    "depthwise": (Convolutional, {"groups": 4, "step": 2, "flip_filters": True}),
    "depthwise, 4 to 4": (Convolutional, {"num_filters": 4, "groups": 4, "step": 2, "dilation": 2, "border_mode": 1}),
    "depthwise and far": (Convolutional, {"groups": 4, "border_mode": 4, "use_bias": False}),
    "without bias": (Convolutional, {"groups": 2, "use_bias": False, "dilation": 2, "border_mode": 3}),
    "transposed": (ConvolutionalTranspose, {"step": 2, "border_mode": 1, "output_padding": 1}),
    "transposed with groups": (ConvolutionalTranspose, {"groups": 2, "dilation": 2, "flip_filters": True}),
    "transposed depthwise": (ConvolutionalTranspose, {"groups": 4, "step": 3, "use_bias": False}),
}
DEPTHWISE = [name for name in CONVOLUTIONS if name.startswith("depthwise")]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_normalization_becomes_part_of_the_convolution_before_it(name, count):
    kind, options = CONVOLUTIONS[name]
    convolution = kind(3, dtype="float64", **{"num_filters": 8} | options)
    network = Sequence([convolution, SpatialBatchNormalization(dtype="float64"), Tanh()])
    folded = assert_folds(network, images(count), [None, 4, *(None for _ in range(count))] if count == 2 else None)
    assert [one.name for one in folded.shared_variables] == ["W_folded", "b_folded"]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(
    "name", ["one group", *(name for name in CONVOLUTIONS if name.startswith("depthwise")), "without bias"]
)
def test_a_normalization_becomes_part_of_the_convolution_without_padding_after_it(name, count):
    options = CONVOLUTIONS[name][1] | {"border_mode": 0}
    convolution = Convolutional([3, 2, 3][:count], dtype="float64", **{"num_filters": 8} | options)
    network = Sequence([Tanh(), SpatialBatchNormalization(dtype="float64"), convolution])
    folded = assert_folds(network, images(count), [None, 4, *(None for _ in range(count))] if count == 2 else None)
    assert [one.name for one in folded.shared_variables] == ["W_folded", "b_folded", *["b"] * convolution.use_bias]


def test_normalizations_on_both_sides_of_a_convolution_fold():
    def layers(channels, **options):
        return [SpatialBatchNormalization(dtype="float64"), Convolutional(2, channels, dtype="float64", **options)]

    stages = [*layers(8, groups=2), *layers(4), *layers(4, groups=4), *layers(8, groups=4)]
    network = Sequence([*stages, SpatialBatchNormalization(dtype="float64")])
    assert_folds(network, images(2), backend="native")


@pytest.mark.parametrize("sizes", [(None, 4, 8, 7), (None, 4, None, None)])
def test_sizes_that_are_read_beside_a_product_do_not_make_two_of_it(sizes):
    """The transposed convolution reads the size of what becomes part of the convolution, after which that takes in another."""
    stages = [
        SpatialBatchNormalization(dtype="float64"),
        Convolutional(1, 3, dtype="float64"),
        SpatialBatchNormalization(dtype="float64"),
        ConvolutionalTranspose(1, 2, dtype="float64"),
        SpatialBatchNormalization(dtype="float64"),
    ]
    assert_folds(Sequence(stages), images(2), sizes)


SPATIAL = {
    "Lasagne": lambda: [lasagne.BatchNormLayer((None, 8, None, None), dtype="float64")],
    "Torch": lambda: [torch.SpatialBatchNormalization(8, dtype="float64")],
    "PyTorch": lambda: [torch.BatchNorm2d(8, dtype="float64")],
    "Caffe": lambda: [caffe.BatchNorm(dtype="float64"), caffe.Scale(bias_term=True, dtype="float64")],
    "PuzzleLib": lambda: [puzzlelib.BatchNorm2D(8, dtype="float64")],
    "GoMLX": lambda: [gomlx.BatchNormalization(feature_axis=1, dtype="float64")],
    "Keras": lambda: [keras.BatchNormalization(axis=1, dtype="float64")],
    "ONNX": lambda: [onnx.BatchNormalization(dtype="float64")],
}


@pytest.mark.parametrize("kind", [Convolutional, ConvolutionalTranspose])
@pytest.mark.parametrize("system", SPATIAL)
def test_the_layers_of_all_systems_fold_into_groups_of_filters(system, kind):
    assert_folds(Sequence([kind(3, 8, groups=2, dtype="float64"), *SPATIAL[system]()]), images(2))


@pytest.mark.parametrize("system", SPATIAL)
def test_the_layers_of_all_systems_fold_into_the_filters_after_them(system):
    assert_folds(Sequence([*SPATIAL[system](), Convolutional(3, 4, groups=2, dtype="float64")]), images(2, 8))


@pytest.mark.parametrize(("outputs", "groups"), [(6, 2), (8, 4)])
def test_a_result_that_is_cut_or_surrounded_by_zeros_keeps_the_shift_out_of_the_zeros(outputs, groups):
    """Zeros around what is normalized are normalized, too."""
    x = mg.tensor4("x", dtype="float64", shape=(None, 4, 8, 7))
    filters = mg.shared(np.random.default_rng(1).normal(size=(outputs, 4 // groups, 3, 3)), "filters")
    layer = SpatialBatchNormalization(shift_init=Constant(3.0), dtype="float64")
    for change in (lambda y: mg.pad(y, [(0, 0), (0, 0), (1, 2), (0, 1)]), lambda y: y[:, :, 1:-1, ::2], lambda y: y[:1]):
        y = layer.apply(change(mg.conv2d(x, filters, groups=groups)))
        folded = fold_batch_normalization(y)
        assert counted(folded, NormalizeBy) == 0
        np.testing.assert_allclose(folded.outputs[0].eval({x: images(2)}), y.eval({x: images(2)}), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("outputs", "groups"), [(6, 2), (8, 4)])
@pytest.mark.parametrize(
    "change", [lambda y: y[:, ::-1], lambda y: y[:, 1:], lambda y: mg.pad(y, [(0, 0), (0, 1), (0, 0), (0, 0)])]
)
def test_channels_that_are_moved_do_not_fold(change, outputs, groups):
    y = change(Convolutional(3, outputs, groups=groups).apply(mg.tensor4("x", shape=(None, 4, 8, 7))))
    with pytest.raises(ValueError, match="no product or convolution"):
        fold_batch_normalization(SpatialBatchNormalization().apply(y))


def spatial(*layers):
    """The output of layers over images of four channels."""
    return Sequence(list(layers)).apply(mg.tensor4("x", shape=(None, 4, 8, 7)))


def with_given_filters(groups=1):
    """A normalization after a convolution with filters that a caller gives."""
    filters = mg.tensor4("filters", shape=(8, 4 // groups, 3, 3))
    return SpatialBatchNormalization().apply(mg.conv2d(mg.tensor4("x", shape=(None, 4, 8, 7)), filters, groups=groups))


def before_given_filters():
    """A normalization before a convolution with filters of single channels that a caller gives."""
    normalized = SpatialBatchNormalization().apply(mg.tensor4("x", shape=(None, 4, 8, 7)))
    return mg.tanh(mg.conv2d(normalized, mg.tensor4("filters", shape=(4, 1, 3, 3)), groups=4))


def used_elsewhere(groups=2):
    """A normalization after a convolution with groups whose result something else uses, too."""
    hidden = Convolutional(3, 8, groups=groups).apply(mg.tensor4("x", shape=(None, 4, 8, 7)))
    return SpatialBatchNormalization().apply(hidden) + mg.tanh(hidden)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: spatial(SpatialBatchNormalization(), Convolutional(3, 8, border_mode=1)), "<Convolutional .*with padding"),
        (lambda: spatial(SpatialBatchNormalization(), Convolutional(3, 8, groups=2, border_mode="same")), "with padding"),
        (lambda: spatial(SpatialBatchNormalization(), Convolutional(3, 4, groups=4, border_mode=1)), "with padding"),
        (lambda: spatial(SpatialBatchNormalization(), Convolutional(3, 4, groups=4, border_mode=4)), "with padding"),
        (lambda: with_given_filters(4), "test_folding.py:.*whose weights depend on an input"),
        (before_given_filters, "test_folding.py:.*whose weights depend on an input"),
        (lambda: used_elsewhere(4), "<Convolutional convolutional>, which something else uses, too"),
        (lambda: spatial(SpatialBatchNormalization(), ConvolutionalTranspose(3, 8)), "<Conv.* a transposed convolution"),
        (lambda: spatial(SpatialBatchNormalization(), ConvolutionalTranspose(3, 8, groups=2)), "a transposed convolution"),
        (
            lambda: spatial(SpatialBatchNormalization(), MaxPooling(2)),
            "the input x, .*<MaxPooling max_pooling>, which is no product",
        ),
        (lambda: spatial(Convolutional(3, 8), Tanh(), SpatialBatchNormalization()), "before it is <Tanh tanh>.* is an output"),
        (with_given_filters, "test_folding.py:.*whose weights depend on an input"),
        (
            lambda: spatial(Convolutional(3, 8, tied_biases=False), SpatialBatchNormalization()),
            "<Conv.* varies along other axes",
        ),
        (used_elsewhere, "<Convolutional convolutional>, which something else uses, too"),
    ],
)
def test_a_refusal_names_layers_and_what_about_them_stands_in_the_way(build, reason):
    with pytest.raises(ValueError, match=rf"(?s)folded exactly.*{reason}") as caught:
        fold_batch_normalization(build())
    assert not any(op in str(caught.value) for op in ("Reshape", "Overlap", "Dimshuffle", "Windows", "MatMul", "DepthwiseConv"))


@pytest.mark.parametrize("degree", [Freeze.STATISTICS, Freeze.EVERYTHING])
def test_what_is_frozen_in_training_folds(degree):
    network = Sequence([Convolutional(3, 6, groups=2, dtype="float64"), SpatialBatchNormalization(dtype="float64")])
    x, _ = shaken(network, images(2), "float64")
    with batch_normalization(network):
        y = network.apply(x)
    frozen = freeze_batch_normalization(y, degree)
    folded = fold_batch_normalization(frozen)
    assert counted(folded, NormalizeBy) == 0
    np.testing.assert_allclose(folded.outputs[0].eval({x: images(2)}), frozen.outputs[0].eval({x: images(2)}), atol=1e-11)
    for graph in (y, freeze_batch_normalization(y, Freeze.AVERAGES), freeze_batch_normalization(y, mg.lscalar("degree"))):
        with pytest.raises(ValueError, match="training mode; apply_population_normalization first"):
            fold_batch_normalization(graph)
    assert counted(fold_batch_normalization(apply_population_normalization(y)), NormalizeBy) == 0


def test_a_standard_deviation_of_zero_is_refused():
    normalization = BatchNormalization(4)
    y = normalization.apply(Linear(4, 4).apply(x_of()))
    normalization.variables["population_stdev"].set_value(np.zeros(4, "float32"))
    with pytest.raises(ValueError, match="beyond the reach of float32"):
        fold_batch_normalization(y)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("statistic", ["scale", "shift"])
def test_weights_that_would_not_be_finite_are_refused(first, statistic):
    product, normalization = Linear(4, 4, weights_init=Constant(100.0)), BatchNormalization(4)
    x = x_of()
    y = Sequence([normalization, product] if first else [product, normalization, normalization]).apply(x)
    normalization.variables[statistic].set_value(np.full(4, 2e37, "float32"))
    normalization.variables["population_stdev"].set_value(np.full(4, 0.001, "float32"))
    with pytest.raises(ValueError, match="beyond the reach of float32"):
        fold_batch_normalization(y)
