"""Convolutional layers and sequences, normalization among them, and what ops tell of sizes."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import (
    AveragePooling,
    Constant,
    Convolutional,
    ConvolutionalSequence,
    ConvolutionalTranspose,
    Flattener,
    GlobalAveragePooling,
    Linear,
    MaxPooling,
    Rectifier,
    SpatialBatchNormalization,
    batch_normalization,
    get_parameter_values,
)
from minigraph.layers.core.roles import BIAS, FILTER, WEIGHT
from minigraph.transforms import (
    apply_batch_normalization,
    fold_batch_normalization,
    get_batch_normalization_updates,
    moving_average,
)
from support import convolution_reference as by_hand
from support.backends import on_each


@on_each
def test_sizes_that_are_not_known_until_a_call(backend, rng):
    x, filters = mg.tensor4("x", dtype="float64"), rng.normal(size=(4, 3, 3, 2))
    y = mg.conv2d(x, filters, stride=(2, 1), padding=((1, 0), 2))
    pooled = [mg.max_pool(y, 2), mg.average_pool(y, (2, 3), 1), mg.conv_transpose2d(y, filters, 2)]
    f = mg.function([x], [y, *pooled, *mg.grad(mg.square(y).sum(), [x])], backend=backend)
    assert f.backend == backend
    for shape in ((2, 3, 6, 5), (1, 3, 4, 7)):
        given = rng.normal(size=shape)
        found = f(given)
        expected = by_hand.convolved(given, filters, (2, 1), ((1, 0), 2))
        np.testing.assert_allclose(found[0], expected)
        np.testing.assert_allclose(found[1], by_hand.pooled("max", expected, 2))
        np.testing.assert_allclose(found[2], by_hand.pooled("mean", expected, (2, 3), 1))
        np.testing.assert_allclose(found[3], by_hand.transposed(expected, filters, 2))
        assert found[4].shape == shape
    with pytest.raises(mg.errors.InvalidValueError, match=r"(?s)does not fit.*test_convolution.py"):
        f(np.zeros((1, 3, 1, 1)))


def test_a_tie_shares_the_gradient_of_a_maximum():
    x = mg.constant(np.ones((1, 1, 2, 2)))
    for pooled in (mg.max_pool(x, 2), mg.max_pool(x, 2, 1)):
        assert mg.grad(pooled.sum(), x).eval().tolist() == [[[[0.25, 0.25], [0.25, 0.25]]]]


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(2, None, 0), (3, 2, 0), (3, 2, 1), (2, 3, 0), ((3, 2), (1, 3), (2, 1))]
)
@on_each
def test_pooling_beyond_the_border_of_unknown_sizes(backend, size, stride, padding, rng):
    x, pools = mg.tensor4("x", dtype="float64"), {"max": mg.max_pool, "mean": mg.average_pool}
    pooled = [pool(x, size, stride, padding, ignore_border=False) for pool in pools.values()]
    f = mg.function([x], [*pooled, mg.grad(mg.square(pooled[1]).sum(), x)], backend=backend)
    for shape in ((2, 1, 5, 6), (1, 2, 7, 4), (1, 1, 1, 2), (1, 1, 3, 3)):
        given = rng.normal(size=shape)
        *found, dx = f(given)
        for one, reduce in zip(found, pools, strict=True):
            np.testing.assert_allclose(one, by_hand.pooled(reduce, given, size, stride, padding, ignore_border=False))
        known = mg.tensor("known", dtype="float64", shape=shape)
        by_known_sizes = mg.grad(mg.square(mg.average_pool(known, size, stride, padding, False)).sum(), known)
        np.testing.assert_allclose(dx, by_known_sizes.eval({known: given}), atol=1e-12)


@on_each
def test_windows_take_no_memory_and_their_patches_add_up(backend):
    x = mg.vector("x", dtype="float64")
    patches = mg.windows(x, 3, [0], 2)
    f = mg.function([x], [patches, mg.overlap(patches, [x.shape[0]], [0], 2)], backend=backend)
    found, back = f([1, 2, 3, 4, 5, 6])
    assert found.tolist() == [[1, 2, 3], [3, 4, 5]]
    assert back.tolist() == [1, 2, 6, 4, 5, 0]
    assert f([1, 2, 3])[1].tolist() == [1, 2, 3]


@on_each
def test_windows_slide_along_axes_in_any_order_counted_from_either_end(backend, rng):
    given = rng.normal(size=(4, 6, 5))
    x = mg.tensor3("x", dtype="float64")
    patches = mg.windows(x, (2, 3), (-1, 0), (1, 2), (3, 1))
    f = mg.function([x], [patches, mg.overlap(patches, (5, 4), (-1, 0), (1, 2), (3, 1))], backend=backend)
    found, back = f(given)
    assert found.shape == (1, 6, 2, 2, 3)
    counts = np.zeros_like(given)
    for place in np.ndindex(found.shape):
        i, j, k, last, first = place
        where = (2 * i + first, j, k + 3 * last)
        assert found[place] == given[where]
        counts[where] += 1
    np.testing.assert_allclose(back, given * counts)


@on_each
def test_a_window_that_does_not_fit_is_refused_in_a_call(backend):
    x = mg.tensor4("x", dtype="float64")
    for stride in (None, 2):
        f = mg.function([x], mg.max_pool(x, 4, stride), backend=backend)
        assert f(np.ones((1, 2, 5, 4))).shape == (1, 2, 1, 1)
        with pytest.raises(mg.errors.MinigraphError, match=r"(?s)does not fit.*test_convolution.py"):
            f(np.ones((1, 2, 5, 3)))


@pytest.mark.parametrize("dims", [1, 2, 3])
@on_each
def test_layers_convolve_and_come_back(backend, dims, rng):
    sizes = (5, 4, 3)[:dims]
    x = mg.tensor("x", dtype="float64", shape=(None, 3, *sizes))
    layer = Convolutional(2, 4, step=1, border_mode=[(1, 0)] * dims)
    back = ConvolutionalTranspose((2,) * dims, 3, step=2, output_padding=1)
    y = layer.apply(x)
    z = back.apply(y)
    for one in (layer, back):
        one.variables["b"].set_value(rng.normal(size=one.variables["b"].get_value().shape))
    given = rng.normal(size=(2, 3, *sizes))
    found, returned = mg.function([x], [y, z], backend=backend)(given)
    w, b = (layer.variables[name].get_value() for name in "Wb")
    expected = by_hand.convolved(given, w, 1, [(1, 0)] * dims) + b.reshape(-1, *(1,) * dims)
    np.testing.assert_allclose(found, expected)
    w, b = (back.variables[name].get_value() for name in "Wb")
    np.testing.assert_allclose(returned, by_hand.transposed(expected, w, 2, 0, 1) + b.reshape(-1, *(1,) * dims))
    assert z.type.shape == (None, 3, *(2 * size + 1 for size in sizes))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layers_flip_their_filters_if_asked(dims, rng):
    sizes, flipped = (6, 5, 4)[:dims], {"flip_filters": True, "dtype": "float64"}
    x = mg.tensor("x", dtype="float64", shape=(None, 4, *sizes))
    layer = Convolutional(3, 6, border_mode="same", groups=2, dilation=(1, 2, 1)[:dims], **flipped)
    back = ConvolutionalTranspose((2,) * dims, 4, step=2, groups=2, **flipped)
    y, z = layer.apply(x), back.apply(layer.apply(x))
    given = rng.normal(size=(2, 4, *sizes))
    found, returned = mg.function([x], [y, z])(given)
    w, v = layer.variables["W"].get_value(), back.variables["W"].get_value()
    expected = by_hand.convolved(given, w, 1, "same", (1, 2, 1)[:dims], 2, flip_filters=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(returned, by_hand.transposed(expected, v, 2, groups=2, flip_filters=True), atol=1e-12)
    upright = Convolutional(3, 6, border_mode="same", groups=2, dilation=(1, 2, 1)[:dims], dtype="float64")
    upright.allocate_for(x)
    upright.variables["W"].set_value(w[(slice(None), slice(None), *(slice(None, None, -1),) * dims)])
    np.testing.assert_allclose(upright.apply(x).eval({x: given}), expected, atol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_way_back_of_flipped_filters_is_the_gradient_of_the_way_there(dims, rng):
    forward = (mg.conv1d, mg.conv2d, mg.conv3d)[dims - 1]
    backward = (mg.conv_transpose1d, mg.conv_transpose2d, mg.conv_transpose3d)[dims - 1]
    x, filters = rng.normal(size=(2, 2, *(5,) * dims)), rng.normal(size=(3, 2, *(3,) * dims))
    variable = mg.tensor("x", dtype="float64", shape=x.shape)
    y = forward(variable, filters, 2, flip_filters=True)
    dy = rng.normal(size=y.type.shape)
    gradient = mg.grad((y * dy).sum(), variable).eval({variable: x})
    np.testing.assert_allclose(backward(dy, filters, 2, flip_filters=True).eval(), gradient, atol=1e-12)


@pytest.mark.parametrize("filtered_first", [True, False])
def test_normalizations_fold_into_flipped_filters(filtered_first, rng):
    first = Convolutional(3, 4, use_bias=False, flip_filters=True)
    stages = [first, SpatialBatchNormalization()] if filtered_first else [SpatialBatchNormalization(), first]
    sequence = ConvolutionalSequence(stages, num_channels=2, image_size=(6, 5))
    sequence.initialize(1)
    normalization = sequence.children[1 if filtered_first else 0]
    for variable in normalization.variables.values():
        variable.set_value(rng.uniform(0.5, 2, variable.type.shape).astype("float32"))
    x = mg.tensor4("x")
    y = sequence.apply(x)
    given = rng.normal(size=(3, 2, 6, 5)).astype("float32")
    folded = fold_batch_normalization(y).outputs[0]
    np.testing.assert_allclose(folded.eval({x: given}), y.eval({x: given}), rtol=1e-4, atol=1e-4)


def network(groups=2, **options):
    return ConvolutionalSequence(
        [
            Convolutional((3, 3), 4),
            SpatialBatchNormalization(),
            Rectifier(),
            MaxPooling(2),
            Convolutional(3, 6, use_bias=False, groups=groups, border_mode="valid"),
            SpatialBatchNormalization(),
            Rectifier(),
            AveragePooling((2, 1), 1),
            Flattener(),
            Linear(output_dim=5),
        ],
        border_mode="same",
        **options,
    )


def test_sizes_are_inferred_along_a_sequence():
    x = mg.tensor4("x", shape=(None, 2, 8, 6))
    layer = network()
    assert layer.apply(x).type.shape == (None, 5)
    shapes = {name.rsplit("/", 1)[1]: value.shape for name, value in get_parameter_values(layer).items()}
    assert shapes["convolutional_0.W"] == (4, 2, 3, 3)
    assert shapes["convolutional_1.W"] == (6, 2, 3, 3)
    assert shapes["spatial_batch_normalization_1.population_mean"] == (6, 1, 1)
    assert shapes["linear.W"] == (6, 5)
    early = network(num_channels=2, image_size=(8, 6))
    early.allocate()
    assert [one.shape for one in get_parameter_values(early).values()] == list(shapes.values())
    with pytest.raises(mg.errors.InvalidValueError, match=r"\(2, 8, 6\)"):
        early.apply(mg.tensor4("x", shape=(None, 3, 8, 6)))
    variables = mg.ComputationGraph(layer.apply(x)).variables
    assert len(mg.VariableFilter(roles=[FILTER])(variables)) == 2
    assert len(mg.VariableFilter(roles=[WEIGHT])(variables)) == 3
    assert GlobalAveragePooling().apply(x).type.shape == (None, 2)


@on_each
def test_a_normalized_network_learns_and_switches(backend, rng):
    x, labels = mg.tensor4("x", shape=(None, 2, 8, 6)), mg.lvector("labels")
    layer = network(seed=1)
    predictions = layer.apply(x)
    with batch_normalization(layer):
        cost = mg.softmax_crossentropy(layer.apply(x), labels).mean()
    switched = apply_batch_normalization(predictions).outputs[0]
    assert mg.debugprint(mg.softmax_crossentropy(switched, labels).mean()) == mg.debugprint(cost)
    pairs = get_batch_normalization_updates(cost)
    assert [population.type.shape for population, _ in pairs] == [(4, 1, 1)] * 2 + [(6, 1, 1)] * 2
    parameters = mg.ComputationGraph(cost).parameters
    updates = [(one, one - 0.3 * slope) for one, slope in zip(parameters, mg.grad(cost, parameters), strict=True)]
    step = mg.function([x, labels], cost, updates=updates + moving_average(pairs, 0.2), backend=backend)
    given, classes = rng.normal(size=(20, 2, 8, 6)).astype("float32"), rng.integers(0, 5, 20)
    losses = [float(step(given, classes)) for _ in range(100)]
    assert losses[-1] < 0.3 * losses[0]
    predict = mg.function([x], predictions, backend=backend)
    assert (predict(given).argmax(1) == classes).mean() > 0.8


@on_each
def test_normalizations_are_folded_into_convolutions(backend, rng):
    x = mg.tensor("x", dtype="float64", shape=(None, 2, 8, 6))
    layer = network(groups=1, dtype="float64")
    predictions = layer.apply(x)
    for one in layer.children:
        if isinstance(one, SpatialBatchNormalization):
            for variable in one.variables.values():
                variable.set_value(rng.uniform(0.5, 2, variable.get_value().shape))
    folded = fold_batch_normalization(predictions)
    names = [one.name for one in folded.shared_variables]
    assert not any("population" in str(name) for name in names)
    given = rng.normal(size=(3, 2, 8, 6))
    found, expected = mg.function([x], [folded.outputs[0], predictions], backend=backend)(given)
    np.testing.assert_allclose(found, expected, 1e-10)
    before = ConvolutionalSequence([SpatialBatchNormalization(), Convolutional(3, 4, border_mode="same")])
    with pytest.raises(ValueError, match="no product"):
        fold_batch_normalization(before.apply(mg.tensor4("x", shape=(None, 2, 8, 6))))


@pytest.mark.parametrize("size", [3, (8, 6)])
def test_a_normalization_of_one_channel_is_folded(size, rng):
    x = mg.tensor("x", dtype="float64", shape=(None, 2, 8, 6))
    normalization = SpatialBatchNormalization(scale_init=Constant(3.0), shift_init=Constant(2.0), dtype="float64")
    y = ConvolutionalSequence([Convolutional(size, 1), normalization], dtype="float64").apply(x)
    given = rng.normal(size=(3, 2, 8, 6))
    folded = fold_batch_normalization(y)
    assert len(folded.shared_variables) == 2
    np.testing.assert_allclose(folded.outputs[0].eval({x: given}), y.eval({x: given}), 1e-10)


def test_biases_of_their_own_for_every_place():
    x = mg.tensor4("x", shape=(None, 2, 5, 5))
    layer = Convolutional(3, 4, tied_biases=False)
    layer.apply(x)
    assert layer.variables["b"].type.shape == (4, 3, 3)
    assert mg.ComputationGraph(layer.apply(x)).parameters == [layer.variables["W"], layer.variables["b"]]
    assert mg.VariableFilter(roles=[BIAS])(mg.ComputationGraph(layer.apply(x)).variables) == [layer.variables["b"]]
    with pytest.raises(mg.errors.InvalidValueError, match="biases for places"):
        layer.apply(mg.tensor4("x", shape=(None, 2, 6, 6)))
    with pytest.raises(mg.errors.InvalidValueError, match="known"):
        Convolutional(3, 4, 2, tied_biases=False).apply(mg.tensor4("x"))


MISTAKES = {
    "not enough axes": (lambda: Convolutional(3, 4).apply(mg.matrix("x")), "batch, channels"),
    "channels": (lambda: Convolutional(3, 4, 2).apply(mg.tensor4("x", shape=(None, 3, 5, 5))), "2 channels"),
    "unknown channels": (lambda: Convolutional(3, 4).apply(mg.tensor4("x")), "num_channels"),
    "axes": (lambda: Convolutional((3, 3), 4).apply(mg.tensor3("x", shape=(None, 2, 5))), "2 spatial axes"),
    "too many axes": (lambda: Convolutional((3,) * 4, 4).apply(mg.tensor("x", shape=(1, 2, 5, 5, 5, 5))), "1 to 3 axes"),
    "groups": (lambda: Convolutional(3, 4, 3, groups=2).apply(mg.tensor4("x", shape=(1, 3, 5, 5))), "2 groups"),
    "groups back": (
        lambda: ConvolutionalTranspose(3, 3, 4, groups=2).apply(mg.tensor4("x", shape=(1, 4, 5, 5))), "2 groups",
    ),
    "filter size": (lambda: Convolutional(0, 4), "filter_size"),
    "filters": (lambda: Convolutional(3, 0), "num_filters"),
    "too large": (lambda: Convolutional(3, 4).apply(mg.tensor4("x", shape=(None, 2, 2, 5))), "does not fit"),
    "cut away": (lambda: mg.conv_transpose1d(np.ones((1, 1, 2)), np.ones((1, 1, 2)), padding=2), "none is left"),
    "an axis too many": (lambda: mg.overlap(np.ones((4, 3)), [6], [1]), "out of bounds"),
    "an axis twice": (lambda: mg.windows(np.ones((4, 3)), 2, [0, -2]), "twice"),
    "allocation": (lambda: network().allocate(), "image_size"),
    "pooling": (lambda: MaxPooling(3).apply(mg.tensor4("x", shape=(None, 2, 2, 5))), "does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_when_the_graph_is_built(case):
    build, message = MISTAKES[case]
    with pytest.raises(mg.errors.MinigraphError, match=message):
        build()
