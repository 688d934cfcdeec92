"""Batch normalization: the formulas, the modes, the pairs."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import (
    MLP,
    BatchNormalization,
    BatchNormalizedMLP,
    Linear,
    Sequence,
    SpatialBatchNormalization,
    Tanh,
    batch_normalization,
    get_parameter_values,
    training,
)
from minigraph.layers.core.roles import (
    BATCH_NORM_DIVISOR,
    BATCH_NORM_MINIBATCH_ESTIMATE,
    BATCH_NORM_OFFSET,
    BATCH_NORM_POPULATION_MEAN,
    BATCH_NORM_POPULATION_STDEV,
    BATCH_NORM_SCALE_PARAMETER,
    BATCH_NORM_SHIFT_PARAMETER,
    BIAS,
    PARAMETER,
    has_roles,
)
from minigraph.transforms import (
    apply_batch_normalization,
    apply_dropout,
    apply_population_normalization,
    cumulative_average,
    get_batch_normalization_updates,
    moving_average,
)
from support.layers import is_training, stacked, trained

C = np.arange(12.0).reshape(3, 4).astype("float32")


def normalized_in_double(x, dy, epsilon):
    """Output and gradient of standardization, in float64, by the textbook."""
    x, dy = x.astype("float64"), dy.astype("float64")
    mean = x.mean(axis=0)
    stdev = np.sqrt(((x - mean) ** 2).mean(axis=0) + epsilon)
    x_hat = (x - mean) / stdev
    return x_hat, (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0)) / stdev


# -- the formulas ----------------------------------------------------------------------------------------------------


def test_statistics_are_the_mean_and_the_root_of_the_biased_variance_plus_epsilon():
    x_hat, mean, stdev = mg.standardize(mg.constant(C), 0, epsilon=1e-4)
    np.testing.assert_allclose(mean.eval(), [[4, 5, 6, 7]], rtol=1e-6)
    np.testing.assert_allclose(stdev.eval(), np.full((1, 4), 3.26600163), rtol=1e-7)
    assert x_hat.eval()[0, 0] == pytest.approx(-1.22473913, rel=1e-6)


def test_gradient_of_the_canonical_column():
    x = mg.tensor("x", dtype="float64", shape=(3, 1))
    x_hat, _, _ = mg.standardize(x, 0, epsilon=1e-4)
    dx = mg.vjp(x_hat, x, np.array([[1.0], [0.0], [0.0]]))
    np.testing.assert_allclose(dx.eval({x: [[0.0], [4.0], [8.0]]}).ravel(), [0.05103223, -0.10206159, 0.05102936], atol=5e-9)


@pytest.mark.parametrize("results", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_gradients_of_both_orders_through_any_of_the_results(results, rng):
    def build(x):
        parts = mg.standardize(x, (0, 2), epsilon=1e-3)
        return sum(((parts[k] * (k + 1)) ** 2 * (parts[k] + 1)).sum() for k in results)

    mg.testing.verify_grad(build, [rng.normal(size=(3, 2, 2))], order=2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("results", [(0,), (1,), (0, 1)])
def test_gradients_of_both_orders_through_centering(results, rng):
    def build(x):
        parts = mg.center(x, 0)
        return sum((parts[k] ** 3).sum() for k in results)

    mg.testing.verify_grad(build, [rng.normal(size=(4, 3))], order=2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mean", [1e2, 1e3, 1e4, 1e5, 1e6, 1e7])
@pytest.mark.parametrize("batch", [3, 64, 1000])
def test_no_digits_are_lost_far_from_zero(mean, batch, rng):
    values = rng.normal(mean, 1.0, (batch, 16)).astype("float32")
    dy = rng.normal(size=(batch, 16)).astype("float32")
    x = mg.matrix("x")
    layer = BatchNormalization(16)
    y = trained(layer, x)
    ours, gradient = mg.function([x], [y, mg.vjp(y, x, dy)])(values)
    output, slope = normalized_in_double(values, dy, 1e-4)
    assert np.abs(ours - output).max() < 5e-6
    assert np.abs(gradient - slope).max() < 1e-5 * max(1.0, np.abs(slope).max())


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e3 + 1 / 7, 12345.678, 1e7 + 1])
@pytest.mark.parametrize("batch", [2, 3, 7, 64, 100, 1437])
def test_a_constant_column_gives_exactly_the_shift(value, batch):
    x = mg.matrix("x")
    layer = BatchNormalization(2, shift_init=0.7)
    y = trained(layer, x).eval({x: np.full((batch, 2), value, "float32")})
    assert (y == np.float32(0.7)).all()


def test_sixteen_bit_inputs_have_statistics_of_32_bits(rng):
    values = rng.normal(300, 1, (512, 4)).astype("float16")
    x = mg.matrix("x", dtype="float16")
    x_hat, mean, stdev = mg.standardize(x, 0)
    assert (x_hat.dtype, mean.dtype, stdev.dtype) == ("float16", "float32", "float32")
    output, _ = normalized_in_double(values, values, 1e-4)
    assert np.abs(x_hat.eval({x: values}) - output).max() < 4e-3
    layer = BatchNormalization(4)
    y = trained(layer, x)
    assert y.dtype == "float16" and layer.population_statistics[0].dtype == "float32"
    mg.function([x], y, updates=get_batch_normalization_updates(y))(values)
    assert layer.apply(x).eval({x: values}).dtype == "float16"
    np.testing.assert_allclose(layer.population_statistics[0].get_value(), values.astype("float64").mean(axis=0), rtol=1e-6)


def test_a_batch_of_one_is_exactly_zero_and_leaves_finite_statistics():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    y = trained(layer, x)
    pairs = get_batch_normalization_updates(y)
    for updates in (moving_average(pairs), cumulative_average(pairs), pairs):
        assert (mg.function([x], y, updates=updates)(C[:1]) == 0).all()
        assert all(np.isfinite(one.get_value()).all() for one in layer.population_statistics)


RULES = {"raw": list, "moving": moving_average, "cumulative": cumulative_average}


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_batch_leaves_the_population_as_it_was(rule):
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    pairs = get_batch_normalization_updates(trained(layer, x))
    step = mg.function([x], [], updates=RULES[rule](pairs))
    step(C)
    before = get_parameter_values(layer)
    step(np.zeros((0, 4), "float32"))
    after = get_parameter_values(layer)
    assert all((before[name] == after[name]).all() for name in before)
    step(C)
    later = {"raw": 1.0, "moving": 1.9, "cumulative": 1.0}[rule]  # of 0.1 and 0.9 * 0.1 + 0.1
    mean = layer.population_statistics[0].get_value()
    np.testing.assert_allclose(mean, before["/batch_normalization.population_mean"] * later, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", RULES)
def test_a_batch_with_nan_or_inf_does_not_poison_the_population(rule, bad):
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    step = mg.function([x], [], updates=RULES[rule](get_batch_normalization_updates(trained(layer, x))))
    poisoned = C.copy()
    poisoned[1, 2] = bad
    step(C)
    before = [one.get_value() for one in layer.population_statistics]
    step(poisoned)
    after = [one.get_value() for one in layer.population_statistics]
    for old, new in zip(before, after, strict=True):
        assert np.isfinite(new).all() and new[2] == old[2]


# -- the layer -------------------------------------------------------------------------------------------------------


def test_the_default_mode_is_inference_and_a_fresh_layer_is_the_identity(rng):
    values = rng.normal(5, 3, (6, 4)).astype("float32")
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    np.testing.assert_array_equal(layer.apply(x).eval({x: values}), values)
    assert (layer.population_statistics[0].get_value() == 0).all() and (layer.population_statistics[1].get_value() == 1).all()


def test_a_fresh_spatial_layer_is_the_identity_bit_for_bit(rng):
    values = rng.normal(5, 3, (2, 3, 5, 4)).astype("float32")
    x = mg.tensor4("x")
    assert SpatialBatchNormalization((3, 5, 4)).apply(x).eval({x: values}).tobytes() == values.tobytes()


def test_inference_adds_no_second_epsilon():
    x = mg.matrix("x")
    layer = BatchNormalization(4, epsilon=0.5)
    layer.allocate()
    layer.variables["population_mean"].set_value(np.float32([1, 2, 3, 4]))
    layer.variables["population_stdev"].set_value(np.float32([2, 2, 2, 2]))
    np.testing.assert_array_equal(layer.apply(x).eval({x: C}), (C - [1, 2, 3, 4]) / 2)


def test_parameters_and_population_have_their_roles():
    layer = BatchNormalization(4)
    layer.allocate()
    scale, shift, mean, stdev = layer.variables.values()
    assert has_roles(scale, [BATCH_NORM_SCALE_PARAMETER]) and has_roles(scale, [PARAMETER])
    assert has_roles(shift, [BATCH_NORM_SHIFT_PARAMETER]) and has_roles(shift, [BIAS])
    assert has_roles(mean, [BATCH_NORM_POPULATION_MEAN]) and not has_roles(mean, [PARAMETER])
    assert has_roles(stdev, [BATCH_NORM_POPULATION_STDEV]) and not has_roles(stdev, [PARAMETER])
    assert layer.parameters == [scale, shift]
    assert set(get_parameter_values(layer)) == {
        f"/batch_normalization.{name}" for name in ("scale", "shift", "population_mean", "population_stdev")
    }


def test_the_statistics_in_use_are_marked_in_the_graph():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    inference, train = mg.ComputationGraph(layer.apply(x)), mg.ComputationGraph(trained(layer, x))
    for role in (BATCH_NORM_OFFSET, BATCH_NORM_DIVISOR):
        (stored,) = mg.VariableFilter(roles=[role])(inference.variables)
        (estimate,) = mg.VariableFilter(roles=[role])(train.variables)
        assert not has_roles(stored, [BATCH_NORM_MINIBATCH_ESTIMATE]) and has_roles(estimate, [BATCH_NORM_MINIBATCH_ESTIMATE])
    (mean,) = mg.VariableFilter(roles=[BATCH_NORM_OFFSET])(train.variables)
    np.testing.assert_allclose(mean.eval({x: C}), [[4, 5, 6, 7]])


def test_scale_and_shift_apply_in_both_modes():
    x = mg.matrix("x")
    layer = BatchNormalization(4, scale_init=2.0, shift_init=np.float32([0, 1, 2, 3]))
    np.testing.assert_allclose(layer.apply(x).eval({x: C}), C * 2 + [0, 1, 2, 3])
    np.testing.assert_allclose(trained(layer, x).eval({x: C})[0], -1.22473913 * 2 + np.arange(4), rtol=1e-6)


def test_without_learned_scale_and_shift_they_are_one_and_zero():
    x = mg.matrix("x")
    layer = BatchNormalization(4, learn_scale=False, learn_shift=False)
    y = trained(layer, x)
    assert layer.parameters == [] and mg.ComputationGraph(y).parameters == []
    assert y.eval({x: C})[0, 0] == pytest.approx(-1.22473913, rel=1e-6)


def test_mean_only_divides_by_nothing_and_has_one_pair_and_no_scale():
    x = mg.matrix("x")
    layer = BatchNormalization(4, mean_only=True)
    y = trained(layer, x)
    np.testing.assert_allclose(y.eval({x: C}), C - C.mean(axis=0))
    assert list(layer.variables) == ["shift", "population_mean"]
    ((population, estimate),) = get_batch_normalization_updates(y)
    assert population is layer.variables["population_mean"]
    np.testing.assert_allclose(estimate.eval({x: C}), [4, 5, 6, 7])
    assert mg.VariableFilter(roles=[BATCH_NORM_DIVISOR])(mg.ComputationGraph(y).variables) == []
    assert str(apply_batch_normalization(layer.apply(x))) == str(mg.ComputationGraph(y))


def test_broadcastable_axes_are_averaged_and_have_parameters_of_size_one(rng):
    values = rng.normal(size=(5, 2, 3, 4)).astype("float32")
    x = mg.tensor4("x")
    layer = BatchNormalization((2, 3, 4), broadcastable=(False, True, False), epsilon=0.0)
    y = trained(layer, x)
    assert [one.type.shape for one in layer.variables.values()] == [(2, 1, 4)] * 4
    expected = (values - values.mean(axis=(0, 2), keepdims=True)) / values.std(axis=(0, 2), keepdims=True)
    np.testing.assert_allclose(y.eval({x: values}), expected, rtol=1e-4, atol=1e-5)
    for population, estimate in get_batch_normalization_updates(y):
        assert population.type == estimate.type


def test_spatial_normalization_averages_over_all_spatial_axes(rng):
    values = rng.normal(size=(5, 2, 3, 4)).astype("float32")
    x = mg.tensor4("x")
    layer = SpatialBatchNormalization((2, 3, 4))
    y = trained(layer, x).eval({x: values})
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 1, atol=1e-3)
    assert layer.variables["scale"].type.shape == (2, 1, 1)


def test_sizes_are_inferred_at_the_first_application(rng):
    x = mg.tensor("x", shape=(None, 7))
    layer = BatchNormalization()
    layer.apply(x)
    assert layer.variables["scale"].type.shape == (7,)
    images = mg.tensor("images", shape=(None, 3, None, None))
    spatial = SpatialBatchNormalization()
    y = trained(spatial, images)
    assert spatial.variables["scale"].type.shape == (3, 1, 1)
    assert y.eval({images: rng.normal(size=(2, 3, 4, 5)).astype("float32")}).shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNormalization((2, 3), broadcastable=(True,)), "broadcastable"),
        (lambda: SpatialBatchNormalization((3,)), "spatial"),
        (lambda: SpatialBatchNormalization(3), "spatial"),
        (lambda: BatchNormalization(4, epsilon=-1.0), "epsilon"),
        (lambda: BatchNormalization(4, n_iter=-1), "n_iter"),
        (lambda: BatchNormalization().apply(mg.matrix("x")), "not known"),
        (lambda: BatchNormalization().apply(mg.vector("x")), "batch axis"),
        (lambda: BatchNormalization(4).apply(mg.tensor("x", shape=(None, 5))), "batch of shape"),
        (lambda: BatchNormalization(4).apply(mg.tensor3("x")), "batch of shape"),
        (lambda: BatchNormalization().allocate(), "input_dim"),
    ],
)
def test_what_does_not_fit_is_a_value_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_cannot_be_normalized():
    with pytest.raises(TypeError, match="floats"):
        BatchNormalization(4).apply(mg.lmatrix("x"))


def test_conserve_memory_is_accepted_and_changes_nothing():
    x = mg.matrix("x")
    outputs = [trained(BatchNormalization(4, conserve_memory=keep), x).eval({x: C}) for keep in (True, False)]
    np.testing.assert_array_equal(*outputs)


# -- modes -----------------------------------------------------------------------------------------------------------


def test_the_context_manager_reaches_every_layer_below_and_no_other():
    inner, outer = BatchNormalization(4), BatchNormalization(4)
    sequence = Sequence([Linear(4, 4), Sequence([inner, Tanh()])])
    x = mg.matrix("x")
    with batch_normalization(sequence):
        assert is_training(sequence.apply(x)) and not is_training(outer.apply(x))
    assert not is_training(sequence.apply(x))


def test_the_context_manager_nests_reenters_and_restores_after_exceptions():
    first, second = BatchNormalization(4), BatchNormalization(4)
    x = mg.matrix("x")
    with batch_normalization(first):
        with batch_normalization(second), batch_normalization(first):
            assert is_training(first.apply(x)) and is_training(second.apply(x))
        assert is_training(first.apply(x)) and not is_training(second.apply(x))
        with pytest.raises(KeyError), batch_normalization(second):
            raise KeyError
        assert not is_training(second.apply(x))
    assert not is_training(first.apply(x))


def test_the_mode_does_not_leak_into_other_threads():
    layer = BatchNormalization(4)
    layer.allocate()
    found = []
    x = mg.matrix("x")
    with batch_normalization(layer):
        thread = threading.Thread(target=lambda: found.append(is_training(layer.apply(x))))
        thread.start()
        thread.join()
        found.append(is_training(layer.apply(x)))
    assert found == [False, True]


def test_the_mode_is_fixed_when_the_graph_is_built():
    layer = BatchNormalization(4)
    x = mg.matrix("x")
    y = trained(layer, x)
    assert y.eval({x: C})[0, 0] == pytest.approx(-1.22473913, rel=1e-6)
    inference = layer.apply(x)
    with batch_normalization(layer):
        assert inference.eval({x: C})[0, 0] == 0


class Doubled(BatchNormalization):
    """A subclass with an output of its own."""

    @mg.layers.application
    def apply(self, x):
        """Twice what the base class returns."""
        return BatchNormalization.apply.__get__(self, type(self))(x) * 2


NETWORKS = {
    "one layer": lambda: BatchNormalization(4),
    "stacked": stacked,
    "mean only": lambda: BatchNormalizedMLP([Tanh(), None], [4, 5, 3], mean_only=True),
    "nothing learned": lambda: BatchNormalizedMLP([Tanh(), None], [4, 5, 3], learn_scale=False, learn_shift=False),
    "subclass": lambda: Sequence([Doubled(4), Linear(4, 2), Doubled(2, name="last")]),
    "no normalization": lambda: MLP([Tanh(), None], [4, 5, 3]),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_transform_equals_the_context_manager_node_for_node(network):
    network = NETWORKS[network]()
    x = mg.matrix("x")
    built, transformed = trained(network, x), apply_batch_normalization(network.apply(x))
    assert str(transformed) == mg.debugprint(built)
    for ours, theirs in zip(transformed.variables, mg.ComputationGraph(built).variables, strict=True):
        assert (type(ours.op), ours.type, ours.name) == (type(theirs.op), theirs.type, theirs.name)
        assert [tag for tag in ours.tags if isinstance(tag, type)] == [tag for tag in theirs.tags if isinstance(tag, type)]
    np.testing.assert_array_equal(transformed.outputs[0].eval({x: C}), built.eval({x: C}))


@pytest.mark.parametrize("network", NETWORKS)
def test_there_and_back_is_the_identity_in_both_directions(network):
    network = NETWORKS[network]()
    x = mg.matrix("x")
    inference, train = mg.ComputationGraph(network.apply(x)), mg.ComputationGraph(trained(network, x))
    assert str(apply_population_normalization(apply_batch_normalization(inference))) == str(inference)
    assert str(apply_batch_normalization(apply_population_normalization(train))) == str(train)


def test_applications_in_training_stay_as_they_are():
    first, second = BatchNormalization(4), BatchNormalization(4, name="second")
    x = mg.matrix("x")
    mixed = second.apply(trained(first, x))
    transformed = apply_batch_normalization(mixed)
    with batch_normalization(first, second):
        assert str(transformed) == mg.debugprint(second.apply(first.apply(x)))
    estimates = mg.VariableFilter(roles=[BATCH_NORM_MINIBATCH_ESTIMATE], layers=[first])
    assert estimates(transformed.variables) == estimates(mg.ComputationGraph(mixed).variables)


def test_the_second_layer_sees_the_training_output_of_the_first(rng):
    """Its statistics must come from what the first layer normalized by the minibatch, not by the population."""
    values = rng.normal(3, 2, (32, 4)).astype("float32")
    first, second = BatchNormalization(4), BatchNormalization(4, name="second")
    x = mg.matrix("x")
    transformed = apply_batch_normalization(second.apply(mg.tanh(first.apply(x))))
    normalized, _ = normalized_in_double(values, values, 1e-4)
    estimate = dict(get_batch_normalization_updates(transformed))[second.variables["population_mean"]]
    np.testing.assert_allclose(estimate.eval({x: values}), np.tanh(normalized).mean(axis=0), rtol=1e-4, atol=1e-6)


def test_rewritten_graphs_are_switched_as_they_are_now(rng):
    values = rng.normal(3, 2, (16, 4)).astype("float32")
    network = stacked()
    x = mg.matrix("x")
    inference = mg.ComputationGraph(network.apply(x))
    hidden = mg.VariableFilter(applications=[network.children[0].apply], name_regex=".*output")(inference.variables)
    rewritten = inference.replace({hidden[0]: hidden[0] * 10 + 1})
    before = apply_batch_normalization(rewritten)
    after = apply_batch_normalization(inference).replace({hidden[0]: hidden[0] * 10 + 1})
    np.testing.assert_array_equal(before.outputs[0].eval({x: values}), after.outputs[0].eval({x: values}))
    weights = mg.VariableFilter(roles=[PARAMETER])(inference.variables)
    noisy = apply_batch_normalization(apply_dropout(inference, weights, 0.5))
    assert len(get_batch_normalization_updates(noisy)) == 4


def test_training_mode_includes_dropout_and_normalization():
    layer, drop = BatchNormalization(4), mg.layers.Dropout(0.5)
    x = mg.matrix("x")
    with training(layer, drop):
        y = drop.apply(layer.apply(x))
    assert is_training(y) and len(mg.ComputationGraph(y).updates) == 1
    with batch_normalization(layer, drop):
        assert mg.ComputationGraph(drop.apply(layer.apply(x))).updates == []
