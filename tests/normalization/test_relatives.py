"""The relatives of batch normalization: by sample, by weight, and renormalized."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import (
    BatchNormalization,
    BatchRenormalization,
    GroupNormalization,
    InstanceNormalization,
    LayerNormalization,
    Linear,
    RMSNormalization,
    WeightNormalizedLinear,
    batch_normalization,
)
from minigraph.layers.core.roles import BIAS, WEIGHT, has_roles
from minigraph.transforms import apply_batch_normalization, get_batch_normalization_updates, moving_average
from support.backends import on_each
from support.layers import trained


def standardized(x, axes, epsilon=1e-5):
    """x normalized over some axes, in float64."""
    wide = x.astype("float64")
    return (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + epsilon)


def by_groups(x, groups):
    """x normalized over groups of its channels."""
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return standardized(grouped, tuple(range(2, grouped.ndim))).reshape(x.shape)


SAMPLES = {
    "layer": (lambda: LayerNormalization(), (5, 6), lambda x: standardized(x, -1), (6,)),
    "layer, two axes": (lambda: LayerNormalization(axes=(1, 2)), (5, 3, 4), lambda x: standardized(x, (1, 2)), (3, 4)),
    "layer, sizes given": (lambda: LayerNormalization(6), (5, 2, 6), lambda x: standardized(x, -1), (6,)),
    "instance": (lambda: InstanceNormalization(), (3, 2, 4, 5), lambda x: standardized(x, (2, 3)), (2,)),
    "group": (lambda: GroupNormalization(2), (3, 4, 5), lambda x: by_groups(x, 2), (4,)),
    "group, no positions": (lambda: GroupNormalization(3, 6), (4, 6), lambda x: by_groups(x, 3), (6,)),
    "rms": (
        lambda: RMSNormalization(),
        (5, 6),
        lambda x: x / np.sqrt((x.astype("f8") ** 2).mean(-1, keepdims=True) + 1e-5),
        (6,),
    ),
}
PRECISION = {"float16": 4e-3, "float32": 1e-5, "float64": 1e-12}


@on_each
@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("kind", SAMPLES)
def test_each_sample_is_normalized_for_itself(kind, dtype, backend, rng):
    make, shape, expected, parameters = SAMPLES[kind]
    layer = make()
    values = rng.normal(1, 3, shape).astype(dtype)
    x = mg.tensor("x", dtype=dtype, shape=[None, *shape[1:]])
    y = layer.apply(x)
    assert y.dtype == dtype and layer.variables["scale"].type.shape == parameters
    found = mg.function([x], y, backend=backend)(values)
    np.testing.assert_allclose(found, expected(values), rtol=PRECISION[dtype], atol=5 * PRECISION[dtype])
    single = mg.function([x], y, backend=backend)(values[:1])
    np.testing.assert_allclose(single, found[:1], rtol=PRECISION[dtype], atol=5 * PRECISION[dtype])


@pytest.mark.parametrize("kind", SAMPLES)
def test_gradients_of_both_orders_by_sample(kind, rng):
    make, shape, *_ = SAMPLES[kind]
    layer = make()
    small = (2, *shape[1:])
    layer.apply(mg.tensor("x", dtype="float64", shape=small))
    weights = rng.normal(size=small)

    def build(x):
        return (layer.apply(x) ** 2 * weights + layer.apply(x) ** 3).sum()

    mg.testing.verify_grad(build, [rng.normal(size=small)], order=2, rtol=1e-3, atol=1e-5)


def test_scale_and_shift_vary_along_their_axes(rng):
    values = rng.normal(size=(3, 4, 5)).astype("float32")
    layer = GroupNormalization(2, scale_init=np.arange(1.0, 5.0), shift_init=np.arange(4.0))
    x = mg.tensor3("x", shape=(None, 4, None))
    expected = by_groups(values, 2) * np.arange(1, 5)[:, None] + np.arange(4)[:, None]
    np.testing.assert_allclose(layer.apply(x).eval({x: values}), expected, rtol=1e-4, atol=1e-5)
    assert has_roles(layer.variables["shift"], [BIAS]) and not has_roles(layer.variables["scale"], [WEIGHT])
    bare = LayerNormalization(6, learn_scale=False, learn_shift=False)
    bare.allocate()
    assert bare.variables == {} and "shift" not in (RMSNormalization(6).allocate() or {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupNormalization(0), "groups"),
        (lambda: GroupNormalization(3, 4).allocate(), "equal groups"),
        (lambda: GroupNormalization(2).apply(mg.vector("x")), "channels"),
        (lambda: InstanceNormalization().apply(mg.matrix("x", shape=(None, 3))), "spatial"),
        (lambda: LayerNormalization().apply(mg.matrix("x")), "not known"),
        (lambda: LayerNormalization(3).apply(mg.matrix("x", shape=(None, 4))), "features of shape"),
        (lambda: LayerNormalization(3, epsilon=-1.0), "epsilon"),
    ],
)
def test_what_does_not_fit_is_a_value_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_integers_cannot_be_normalized():
    with pytest.raises(TypeError, match="floats"):
        LayerNormalization(3).apply(mg.lmatrix("x", shape=(None, 3)))


# -- weight normalization --------------------------------------------------------------------------------------------


def test_weights_by_direction_and_length_start_as_the_linear_map(rng):
    values = rng.normal(size=(5, 4)).astype("float32")
    plain, weighed = Linear(4, 3, seed=3, name="same"), WeightNormalizedLinear(4, 3, seed=3, name="same")
    x = mg.matrix("x")
    np.testing.assert_allclose(weighed.apply(x).eval({x: values}), plain.apply(x).eval({x: values}), rtol=1e-5, atol=1e-6)
    weighed.variables["W"].set_value(weighed.variables["W"].get_value() * 7)
    np.testing.assert_allclose(weighed.apply(x).eval({x: values}), plain.apply(x).eval({x: values}), rtol=1e-5, atol=1e-6)
    weighed.variables["g"].set_value(np.float32([1, 2, 3]))
    np.testing.assert_allclose(np.linalg.norm(weighed.weights.eval(), axis=0), [1, 2, 3], rtol=1e-6)
    assert list(weighed.variables) == ["W", "b", "g"]


def test_no_gradient_lengthens_a_direction(rng):
    """The gradient of a direction is orthogonal to it (Salimans and Kingma 2016, section 2.1)."""
    layer = WeightNormalizedLinear(4, 3, dtype="float64")
    x = mg.dmatrix("x")
    cost = (mg.tanh(layer.apply(x)) ** 2).sum()
    direction = layer.variables["W"]
    gradient = mg.grad(cost, direction).eval({x: rng.normal(size=(6, 4))})
    np.testing.assert_allclose((gradient * direction.get_value()).sum(axis=0), 0, atol=1e-12)


# -- batch renormalization -------------------------------------------------------------------------------------------


@on_each
def test_renormalized_minibatches_are_corrected_within_limits(backend, rng):
    values = rng.normal(3, 2, (8, 3)).astype("float32")
    layer = BatchRenormalization(3, r_max=1.5, d_max=0.5)
    x = mg.matrix("x")
    y = trained(layer, x)
    layer.variables["population_mean"].set_value(np.float32([3, 0, 2.5]))
    layer.variables["population_stdev"].set_value(np.float32([2, 9, 0.1]))
    mean, stdev = values.mean(0), np.sqrt(values.var(0) + 1e-4)
    r = np.clip(stdev / [2, 9, 0.1], 1 / 1.5, 1.5)
    d = np.clip((mean - [3, 0, 2.5]) / [2, 9, 0.1], -0.5, 0.5)
    dy = rng.normal(size=values.shape).astype("float32")
    output, gradient = mg.function([x], [y, mg.vjp(y, x, dy)], backend=backend)(values)
    x_hat = standardized(values, 0, 1e-4)
    np.testing.assert_allclose(output, x_hat * r + d, rtol=1e-4, atol=1e-5)
    slope = r * (dy - dy.mean(0) - x_hat * (dy * x_hat).mean(0)) / stdev  # r and d are held constant
    np.testing.assert_allclose(gradient, slope, rtol=1e-3, atol=1e-4)


def test_within_its_limits_training_equals_inference(rng):
    values = rng.normal(3, 2, (8, 3)).astype("float32")
    layer = BatchRenormalization(3, r_max=1e6, d_max=1e6)
    layer.allocate()
    layer.variables["population_mean"].set_value(np.float32([3, 1, 2.5]))
    layer.variables["population_stdev"].set_value(np.float32([2, 9, 0.1]))
    x = mg.matrix("x")
    np.testing.assert_allclose(trained(layer, x).eval({x: values}), layer.apply(x).eval({x: values}), rtol=1e-4, atol=1e-4)


def test_without_play_it_is_batch_normalization(rng):
    values = rng.normal(3, 2, (8, 3)).astype("float32")
    x = mg.matrix("x")
    renormalized, plain = trained(BatchRenormalization(3, r_max=1.0, d_max=0.0), x), trained(BatchNormalization(3), x)
    np.testing.assert_allclose(renormalized.eval({x: values}), plain.eval({x: values}), rtol=1e-6)


def test_schedules_count_the_steps_of_training(rng):
    layer = BatchRenormalization(2, r_max=lambda step: 1 + step * 0.5, d_max=lambda step: step * 0.0)
    x = mg.matrix("x", shape=(None, 2))
    y = trained(layer, x)
    layer.variables["population_stdev"].set_value(np.float32([0.01, 0.01]))
    step = mg.function([x], y)
    values = rng.normal(0, 2, (8, 2)).astype("float32")
    first, second, third = (step(values) for _ in range(3))
    np.testing.assert_allclose(second, first * 1.5, rtol=1e-5)
    np.testing.assert_allclose(third, first * 2, rtol=1e-5)
    assert layer.variables["steps"].get_value() == 3
    assert "/batch_renormalization.steps" in mg.layers.get_parameter_values(layer)
    with batch_normalization(layer):
        both = [layer.apply(x), layer.apply(x)]
    mg.function([x], both)(values)
    assert layer.variables["steps"].get_value() == 4


def test_renormalization_switches_and_pairs_like_batch_normalization(rng):
    layer = BatchRenormalization(2)
    x = mg.matrix("x", shape=(None, 2))
    assert str(apply_batch_normalization(layer.apply(x))) == mg.debugprint(trained(layer, x))
    y = trained(layer, x)
    values = rng.normal(4, 2, (8, 2)).astype("float32")
    mg.function([x], y, updates=moving_average(get_batch_normalization_updates(y), 1.0))(values)
    np.testing.assert_allclose(layer.population_statistics[0].get_value(), values.mean(0), rtol=1e-5)


@pytest.mark.parametrize("options", [{"r_max": 0.5}, {"d_max": -1.0}, {"mean_only": True}])
def test_limits_that_do_not_limit_are_value_errors(options):
    with pytest.raises(ValueError):
        BatchRenormalization(3, **options)


def test_masked_elements_are_not_corrected_either(rng):
    values = rng.normal(3, 2, (4, 3)).astype("float32")
    layer = BatchRenormalization(3)
    x, m = mg.matrix("x"), mg.vector("m")
    with batch_normalization(layer):
        y = mg.function([x, m], layer.apply(x, mask=m))
    assert (y(values, np.float32([1, 0, 1, 1]))[1] == 0).all() and (y(values, np.zeros(4, "float32")) == 0).all()
    with pytest.raises(ValueError, match="virtual_batch_size"):
        BatchRenormalization(3, virtual_batch_size=2)


def test_drawing_weights_anew_sets_their_lengths():
    layer = WeightNormalizedLinear(4, 3)
    layer.allocate()
    layer.initialize(5)
    np.testing.assert_allclose(
        layer.variables["g"].get_value(), np.linalg.norm(layer.variables["W"].get_value(), axis=0), rtol=1e-6
    )
