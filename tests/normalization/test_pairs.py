"""Pairs that normalizations record, the layers that hold several, and what must not go wrong."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.walks import transform
from minigraph.layers import (
    BatchNormalization,
    BatchNormalizedMLP,
    Tanh,
    batch_normalization,
    find_layers,
    get_parameter_values,
    get_parameters,
    set_parameter_values,
)
from minigraph.ops.reduce.reduction import Sum
from minigraph.transforms import (
    apply_batch_normalization,
    apply_population_normalization,
    cumulative_average,
    get_batch_normalization_updates,
    moving_average,
)
from support.layers import is_training, stacked, trained

C = np.arange(12.0).reshape(3, 4).astype("float32")

# -- pairs -----------------------------------------------------------------------------------------------------------


def test_pairs_come_in_graph_order_with_the_types_of_the_population():
    network = stacked()
    x = mg.matrix("x")
    pairs = get_batch_normalization_updates(trained(network, x))
    layers = find_layers(network, lambda layer: isinstance(layer, BatchNormalization))
    expected = [one for layer in layers for one in layer.population_statistics]
    assert [population for population, _ in pairs] == expected
    assert all(population.type == estimate.type for population, estimate in pairs)


def test_raw_pairs_overwrite_the_population():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    y = trained(layer, x)
    output = mg.function([x], y, updates=get_batch_normalization_updates(y))(C)
    assert output[0, 0] == pytest.approx(-1.22473913, rel=1e-6)
    mean, stdev = (one.get_value() for one in layer.population_statistics)
    np.testing.assert_allclose(mean, [4, 5, 6, 7])
    np.testing.assert_allclose(stdev, 3.26600163, rtol=1e-7)
    assert layer.apply(x).eval({x: C})[0, 0] == pytest.approx(-1.22473913, rel=1e-6)


def test_a_moving_average_of_one_tenth():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    y = trained(layer, x)
    mg.function([x], [], updates=moving_average(get_batch_normalization_updates(y), new_weight=0.1))(C)
    mean, stdev = (one.get_value() for one in layer.population_statistics)
    assert mean[0] == pytest.approx(0.4) and stdev[0] == pytest.approx(1.22660016, rel=1e-7)
    assert layer.apply(x).eval({x: C})[0, 0] == pytest.approx(-0.32610464, rel=1e-6)


@pytest.mark.parametrize("batches", [1, 2, 10, 11, 100, 101])
def test_a_cumulative_average_is_the_mean_of_all_estimates(batches, rng):
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    updates = cumulative_average(get_batch_normalization_updates(trained(layer, x)))
    step = mg.function([x], [], updates=updates)
    data = rng.normal(2, 3, (batches, 8, 4)).astype("float32")
    for batch in data:
        step(batch)
    mean, stdev = (one.get_value() for one in layer.population_statistics)
    np.testing.assert_allclose(mean, data.mean(axis=1).mean(axis=0), rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(stdev, np.sqrt(data.var(axis=1) + 1e-4).mean(axis=0), rtol=2e-5)


def test_a_bad_batch_does_not_count_in_a_cumulative_average():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    step = mg.function([x], [], updates=cumulative_average(get_batch_normalization_updates(trained(layer, x))))
    for batch in (C, C * np.nan, C + 2):
        step(batch)
    np.testing.assert_allclose(layer.population_statistics[0].get_value(), [5, 6, 7, 8])


def test_pairs_are_a_function_of_the_graph_handed_in():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    h = x * 1.0
    graph = mg.ComputationGraph(trained(layer, h))
    scaled = graph.replace({h: h * 10})
    for one, factor in ((graph, 1), (scaled, 10)):
        mean = get_batch_normalization_updates(one)[0][1]
        np.testing.assert_allclose(mean.eval({x: C}), np.array([4, 5, 6, 7]) * factor)


def test_a_graph_without_training_mode_applications_has_no_pairs():
    layer = BatchNormalization(4)
    with pytest.raises(ValueError, match="no training mode BatchNormalization applications found in graph"):
        get_batch_normalization_updates(layer.apply(mg.matrix("x")))


def test_two_applications_of_one_layer_raise_unless_allowed():
    layer = BatchNormalization(4)
    x, z = mg.matrix("x"), mg.matrix("z")
    with batch_normalization(layer):
        both = [layer.apply(x), layer.apply(z)]
    with pytest.raises(ValueError, match="applied twice"):
        get_batch_normalization_updates(both)
    pairs = get_batch_normalization_updates(both, allow_duplicates=True)
    mean = layer.variables["population_mean"]
    assert [population for population, _ in pairs].count(mean) == 2
    assert [target for target, _ in moving_average(pairs)].count(mean) == 1


@pytest.mark.parametrize("weight", [0.0, -0.1, 1.5])
def test_a_moving_average_needs_a_weight_between_zero_and_one(weight):
    with pytest.raises(ValueError, match="weight"):
        moving_average([], new_weight=weight)


def test_the_weight_of_a_moving_average_may_be_a_variable():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    weight = mg.shared(0.25, "weight")
    mg.function([x], [], updates=moving_average(get_batch_normalization_updates(trained(layer, x)), weight))(C)
    assert layer.population_statistics[0].get_value()[0] == 1.0


# -- BatchNormalizedMLP and state ------------------------------------------------------------------------------------


def test_batch_normalized_mlp_is_linear_without_bias_normalization_activation_per_layer():
    network = BatchNormalizedMLP(
        [Tanh(), None], [4, 5, 3], mean_only=True, learn_shift=False, conserve_memory=False, epsilon=0.5
    )
    kinds = [type(stage).__name__ for stage in network.stages]
    assert kinds == ["Linear", "BatchNormalization", "Tanh", "Linear", "BatchNormalization"]
    assert not network.stages[0].use_bias
    for layer in (network.stages[1], network.stages[4]):
        assert (layer.mean_only, layer.learn_shift, layer.conserve_memory, layer.epsilon) == (True, False, False, 0.5)


def test_gradients_flow_through_the_batch_statistics(rng):
    network = stacked()
    values = rng.normal(size=(6, 4))
    x = mg.tensor("x", dtype="float64", shape=(6, 4))
    y = trained(network, x)
    parameters = mg.ComputationGraph(y).parameters
    assert all(one.dtype == "float64" for one in parameters)
    cost = (y**2 * np.arange(3)).sum() + y.sum()
    f = mg.function([x], cost)
    gradients = mg.function([x], mg.grad(cost, parameters))(values)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        start = parameter.get_value()

        def moved(value, parameter=parameter):
            parameter.set_value(value)
            return f(values)

        (expected,) = mg.testing.numeric_gradient(moved, [start])
        parameter.set_value(start)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_parameter_values_include_the_population_and_round_trip(rng):
    first, second = (BatchNormalizedMLP([Tanh(), None], [4, 5, 3], seed=seed) for seed in (1, 2))
    x = mg.matrix("x")
    mg.function([x], [], updates=get_batch_normalization_updates(trained(first, x)))(C)
    second.allocate()
    set_parameter_values(second, get_parameter_values(first))
    np.testing.assert_array_equal(first.apply(x).eval({x: C}), second.apply(x).eval({x: C}))
    assert "/batch_normalized_mlp/batch_normalization_0.population_mean" in get_parameters(second)


def test_stripping_every_tag_changes_no_value():
    network = stacked()
    x = mg.matrix("x")
    y = trained(network, x)
    (bare,) = transform([y], lambda one: mg.Variable(one.op, one.inputs, one.type) if one.inputs else one)
    assert not any(one.tags for one in mg.ComputationGraph(bare) if one.inputs)
    np.testing.assert_array_equal(bare.eval({x: C}), y.eval({x: C}))


# -- what must not go wrong ------------------------------------------------------------------------------------------


def test_a_block_counts_when_it_is_entered_and_can_be_entered_again():
    first, second = BatchNormalization(4, name="first"), BatchNormalization(4, name="second")
    x = mg.matrix("x")
    block = batch_normalization(first)
    with batch_normalization(second), block:
        assert is_training(first.apply(x)) and is_training(second.apply(x))
        with block:
            assert is_training(first.apply(x))
        assert is_training(first.apply(x))
    with block:
        assert is_training(first.apply(x)) and not is_training(second.apply(x))
    assert not is_training(first.apply(x))


def test_one_block_object_serves_several_threads():
    layer = BatchNormalization(4)
    layer.allocate()
    block, x = batch_normalization(layer), mg.matrix("x")
    entered, left = threading.Event(), threading.Event()
    found = []

    def other():
        with block:
            entered.set()
            left.wait(10)
            found.append(is_training(layer.apply(x)))

    thread = threading.Thread(target=other)
    with block:
        thread.start()
        entered.wait(10)
    found.append(is_training(layer.apply(x)))
    left.set()
    thread.join()
    assert found == [False, True]


@pytest.mark.parametrize(("shape", "more"), [((3,), 0), ((1, 3), 0), ((), 1), ((4, 1), 2), ((4, 3), 1)])
def test_gradients_share_the_sums_of_scale_and_shift(shape, more, rng):
    """A factor of whole columns is taken out of the sums over them, which are then those of scale and shift, but for one over
    all columns; of one that varies along the columns, they are others.
    """

    def build(x, scale, shift):
        return (mg.standardize(x, 0)[0] * scale + shift) ** 3

    points = [rng.normal(size=one) for one in ((4, 3), shape, (3,))]
    mg.testing.verify_grad(build, points, order=2, rtol=1e-4, atol=1e-5)
    x, scale, shift = (mg.tensor(dtype="float64", shape=one.shape) for one in points)
    dy = mg.tensor(dtype="float64", shape=(4, 3))
    cost = (dy * (mg.standardize(x, 0)[0] * scale + shift)).sum()
    graph = mg.function([x, scale, shift, dy], mg.grad(cost, [x]), on_unused_input="ignore", backend="numpy").graph
    both = mg.function([x, scale, shift, dy], mg.grad(cost, [x, scale, shift]), on_unused_input="ignore", backend="numpy").graph
    sums = [sum(isinstance(one.op, Sum) for one in each.variables) for each in (graph, both)]
    forward, backward = 3, 2  # the mean, what corrects it, and the variance
    assert sums == [forward + backward, forward + backward + more]


def test_a_graph_that_holds_gradients_through_an_application_is_not_switched():
    layer = BatchNormalization(4)
    x = mg.matrix("x")
    for cost, switch in (
        ((layer.apply(x) ** 2).sum(), apply_batch_normalization),
        ((trained(layer, x) ** 2).sum(), apply_population_normalization),
    ):
        with pytest.raises(ValueError, match="differentiate then"):
            switch([cost, mg.grad(cost, x)])
        (switched,) = switch(cost).outputs
        assert mg.grad(switched, x).eval({x: C}).shape == C.shape


def test_what_was_done_to_a_normalized_value_does_not_hide_the_input():
    layer = BatchNormalization(4)
    x = mg.matrix("x")
    train = mg.ComputationGraph(trained(layer, x))
    item = next(one for one in train.variables if type(one.op).__name__ == "Item" and one.op.index == 0)
    changed = train.replace({item: mg.tanh(item) * 2})
    assert str(apply_population_normalization(changed)) == mg.debugprint(layer.apply(x))


def test_a_cumulative_average_counts_for_each_feature():
    x = mg.matrix("x")
    layer = BatchNormalization(2, mean_only=True)
    step = mg.function([x], [], updates=cumulative_average(get_batch_normalization_updates(trained(layer, x))))
    for first, second in ((1.0, 1.0), (3.0, np.nan), (5.0, 5.0)):
        step(np.array([[first, second]], "float32"))
    np.testing.assert_array_equal(layer.population_statistics[0].get_value(), [3, 3])


@pytest.mark.parametrize(
    "rule", [lambda pairs: moving_average(pairs, 1), lambda pairs: moving_average(pairs, mg.shared(1.0)), cumulative_average]
)
def test_a_weight_of_one_overwrites_to_the_bit(rule):
    x = mg.matrix("x")
    layer = BatchNormalization(1, mean_only=True)
    updates = rule(get_batch_normalization_updates(trained(layer, x)))
    layer.population_statistics[0].set_value(np.float32([1e8]))
    mg.function([x], [], updates=updates)(np.float32([[1.1]]))
    assert layer.population_statistics[0].get_value() == np.float32(1.1)


def test_numbers_of_numpy_are_numbers():
    x = mg.dmatrix("x")
    layer = BatchNormalization(np.int64(4), epsilon=np.float32(1e-3))
    ((population, update), _) = moving_average(get_batch_normalization_updates(trained(layer, x)), np.float64(0.25))
    assert update.dtype == population.dtype
    np.testing.assert_array_equal(update.eval({x: C}), [1, 1.25, 1.5, 1.75])
