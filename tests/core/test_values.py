"""Values of state are taken as they are, or refused before anything has changed: none is narrowed, reshaped, or impossible."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import LASAGNE, PYTORCH, caffe, convert, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import (
    BatchNormalization,
    Constant,
    Initializer,
    Linear,
    Sequence,
    batch_normalization,
    get_parameter_values,
    set_parameter_values,
)
from minigraph.layers.core.roles import (
    BATCH_NORM_POPULATION_INVERSE_STDEV,
    BATCH_NORM_POPULATION_STDEV,
    BATCH_NORM_POPULATION_VARIANCE,
    BATCH_NORM_POPULATION_WEIGHT,
    has_roles,
)
from minigraph.transforms import fold_batch_normalization, reset_population_statistics
from support.backends import on_each

NEVER_NEGATIVE = [
    BATCH_NORM_POPULATION_INVERSE_STDEV,
    BATCH_NORM_POPULATION_STDEV,
    BATCH_NORM_POPULATION_VARIANCE,
    BATCH_NORM_POPULATION_WEIGHT,
]

LAYERS = {
    "blocks": lambda: BatchNormalization(3),
    "blocks, several": lambda: BatchNormalization(3, n_iter=2),
    "blocks, as lasagne": lambda: BatchNormalization(3, convention=LASAGNE),
    "torch7": lambda: torch.BatchNormalization(3),
    "pytorch": lambda: torch.BatchNorm1d(3),
    "lasagne": lambda: lasagne.BatchNormLayer((None, 3)),
    "caffe": lambda: caffe.BatchNorm(features=3),
    "caffe, scale": lambda: caffe.Scale(bias_term=True, features=3),
    "puzzlelib": lambda: puzzlelib.BatchNorm(3),
    "gomlx": lambda: gomlx.BatchNormalization(features=3),
    "keras": lambda: keras.BatchNormalization(features=3),
    "onnx": lambda: onnx.BatchNormalization(features=3),
}


def bad_values(variable):
    """Values that state of this kind cannot have, with the error that says so."""
    good = np.ones(variable.get_value().shape)
    bad = [
        (good * np.nan, ValueError),
        (good * np.inf, ValueError),
        (good.astype("complex64"), TypeError),
        (good.astype(str), TypeError),
        (good.astype(object), TypeError),
        (np.ma.masked_array(good, good > 2), TypeError),
        (mg.shared(good), TypeError),
        (np.ones((2, 2)), ValueError),
    ]
    if has_roles(variable, NEVER_NEGATIVE):
        bad.append((-good, ValueError))
    if variable.dtype.kind == "f":
        bad.append((good * 1e300, ValueError))
    else:
        bad += [(good * 1.5, ValueError), (good * 2.0**70, ValueError)]
    return bad


@pytest.mark.parametrize("name", LAYERS)
def test_values_that_cannot_be_are_refused_and_change_nothing(name):
    layer = LAYERS[name]()
    layer.allocate()
    before = get_parameter_values(layer)
    good = {own: value + 1 for own, value in layer.get_values().items()}
    for own in good:
        for value, error in bad_values(layer.variables[own]):
            with pytest.raises(error, match=own):
                layer.set_values(good | {own: value})
            assert all(np.array_equal(value, before[each]) for each, value in get_parameter_values(layer).items())
    layer.set_values(good)
    assert all(np.array_equal(value, good[own]) for own, value in layer.get_values().items())


@pytest.mark.parametrize("name", LAYERS)
def test_all_state_is_checked_before_any_is_set(name):
    network = Sequence([Linear(3, 3), LAYERS[name]()], name="n")
    network.allocate()
    before = get_parameter_values(network)
    good = {own: value + 1 for own, value in before.items()}
    for own, variable in mg.layers.get_parameters(network.children[1]).items():
        for value, _ in bad_values(variable):
            with pytest.raises((ValueError, TypeError), match=own.rpartition(".")[2]):
                set_parameter_values(network, good | {f"/n{own}": value})
            assert all(np.array_equal(value, before[each]) for each, value in get_parameter_values(network).items())
    set_parameter_values(network, good)


def test_an_unallocated_layer_stays_unallocated():
    layer = torch.BatchNorm1d()
    values = {"weight": np.ones(3), "bias": np.ones(3), "running_mean": np.ones(3), "running_var": -np.ones(3)}
    with pytest.raises(ValueError, match="running_var"):
        layer.set_values(values)
    assert not layer.allocated and layer.features is None and not layer.variables
    layer.set_values(values | {"running_var": np.ones(3)})
    assert layer.features == (3,)


def test_only_axes_of_size_1_are_added_or_dropped():
    layer = BatchNormalization((2, 1, 3))
    layer.allocate()
    array = np.arange(1.0, 7)
    for shape in ((2, 1, 3), (2, 3), (1, 2, 1, 3, 1)):
        layer.set_values({own: array.reshape(shape) for own in layer.variables})
        assert all((value == array.reshape(2, 1, 3)).all() for value in layer.get_values().values())
    for shape in ((3, 2), (6,), (3, 1, 2), (2, 1, 1, 3, 2), (6, 1)):
        wrong = np.ones(shape)
        with pytest.raises(ValueError, match=r"scale has shape \(2, 1, 3\), not"):
            layer.set_values({own: array.reshape(2, 3) for own in layer.variables} | {"scale": wrong})
    several = keras.BatchNormalization(axis=(1, 2))
    several.set_values({own: array.reshape(1, 2, 3) for own in ("gamma", "beta", "moving_mean", "moving_variance")})
    assert several.features == (2, 3)


def test_floats_are_rounded_but_stay_finite():
    layer = BatchNormalization(1, dtype="float16")
    layer.allocate()
    values = {own: np.float64([1 / 3]) for own in layer.variables}
    layer.set_values(values)
    assert layer.get_values()["scale"] == np.float16(1 / 3) and layer.get_values()["population_stdev"].dtype == np.float32
    with pytest.raises(ValueError, match=r"scale holds .*100000\.0.*, which float16 cannot"):
        layer.set_values(values | {"scale": [1e5]})
    layer.set_values(values | {"population_stdev": [1e5]})


def test_a_deviation_of_0_is_possible_without_epsilon_alone():
    values = {"scale": [1.0], "shift": [0.0], "population_mean": [0.0], "population_stdev": [0.0]}
    BatchNormalization(1, epsilon=0.0).set_values(values)
    with pytest.raises(ValueError, match="not above 0"):
        BatchNormalization(1).set_values(values)


def test_weights_of_other_layers_may_be_nan():
    """As one loads a model in order to see where its NaN come from."""
    layer = Linear(1, 1)
    layer.allocate()
    set_parameter_values(layer, {"/linear.W": np.full((1, 1), np.nan, "float32"), "/linear.b": np.zeros(1, "float32")})


class Wrong(Initializer):
    """Makes an array of another shape."""

    def generate(self, rng, shape):
        return np.ones((*shape, 2))


INITIALIZERS = {
    "size": (np.ones(4), ValueError, r"\(4,\).*\(3,\)"),
    "rank": (np.ones((2, 3)), ValueError, r"\(2, 3\).*\(3,\)"),
    "too large": (np.full(3, 1e300), ValueError, "float32 cannot"),
    "complex": (np.ones(3, "complex64"), TypeError, "complex"),
    "complex constant": (Constant(1j), TypeError, "complex"),
    "text": (np.array(["a"] * 3), TypeError, "real numbers"),
    "nan": (np.full(3, np.nan), ValueError, "not finite"),
    "of ones own": (Wrong(), ValueError, r"\(3,\).*Wrong made one of \(3, 2\)"),
}
PLACES = {
    "blocks, shift": (lambda value: BatchNormalization(3, shift_init=value), "shift"),
    "blocks, stdev": (lambda value: BatchNormalization(3, population_init={"population_stdev": value}), "population_stdev"),
    "lasagne, beta": (lambda value: lasagne.BatchNormLayer((None, 3), beta=value), "beta"),
    "lasagne, mean": (lambda value: lasagne.BatchNormLayer((None, 3), mean=value), "mean"),
    "keras, gamma": (lambda value: keras.BatchNormalization(gamma_initializer=value, features=3), "gamma"),
    "keras, variance": (lambda value: keras.BatchNormalization(moving_variance_initializer=value, features=3), "moving_var"),
    "caffe, filler": (lambda value: caffe.Scale(filler=value, features=3), "scale"),
    "linear": (lambda value: Linear(2, 3, biases_init=value), "b"),
}


@pytest.mark.parametrize("mistake", INITIALIZERS)
@pytest.mark.parametrize("place", PLACES)
def test_initializers_that_do_not_fit_name_layer_parameter_and_shapes(place, mistake):
    (make, name), (value, error, message) = PLACES[place], INITIALIZERS[mistake]
    if place == "linear" and mistake == "nan":
        return
    with pytest.raises(error, match=message) as raised:
        make(value).allocate()
    if mistake not in ("complex", "text"):  # those are refused where the layer is made
        assert name in str(raised.value) and "<" in str(raised.value)


@pytest.mark.parametrize("value", [-1.0, np.array([1.0, -1.0, 1.0])])
def test_initial_variances_are_not_negative(value):
    for make in (
        PLACES["keras, variance"][0],
        PLACES["blocks, stdev"][0],
        lambda one: lasagne.BatchNormLayer((None, 3), inv_std=one),
    ):
        with pytest.raises(ValueError, match=r"holds -1\.0"):
            make(value).allocate()


def test_starts_are_given_for_what_is_stored():
    with pytest.raises(ValueError, match="population_init is for population_mean, population_stdev, not for stdev"):
        BatchNormalization(3, population_init={"stdev": 2.0})


def test_drawing_anew_is_checked_too():
    numbers = np.ones(3)
    layer = Sequence([Linear(2, 3), BatchNormalization(3, scale_init=numbers)])
    layer.allocate()
    before = get_parameter_values(layer)
    numbers[1] = np.nan
    with pytest.raises(ValueError, match="scale holds values that are not finite"):
        layer.initialize(1)
    assert all(np.array_equal(value, before[each]) for each, value in get_parameter_values(layer).items())
    reset_population_statistics(layer)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"running_var": np.float64([-1e-6, 1, 1])}, ValueError, "running_var holds -1e-06"),
        ({"weight": np.float64([np.nan, 1, 1])}, ValueError, "weight holds values that are not finite"),
        ({"bias": np.ones(3, "complex64")}, TypeError, "bias must be real numbers"),
        ({"weight": np.ones((3, 1, 2))}, ValueError, "different sizes"),
        ({"num_batches_tracked": np.int64(-1)}, ValueError, "num_batches_tracked holds -1"),
    ],
)
def test_converters_refuse_them_too(values, error, message):
    good = {"weight": np.ones(3), "bias": np.zeros(3), "running_mean": np.zeros(3), "running_var": np.ones(3)}
    with pytest.raises(error, match=message):
        convert(good | values, PYTORCH, LASAGNE, target_epsilon=1e-6)
    shapes = {"weight": np.ones((2, 3)), "running_mean": np.zeros((3, 2)), "running_var": np.ones((3, 2))}
    with pytest.raises(ValueError, match="different sizes"):
        convert(shapes, PYTORCH, LASAGNE, target_epsilon=1e-6)
    for epsilon in (np.nan, -1.0):
        with pytest.raises(ValueError, match="epsilon"):
            convert(good, PYTORCH, LASAGNE, epsilon=epsilon)


@pytest.mark.parametrize("order", ["after", "before"])
def test_folded_weights_stay_finite_or_it_is_refused(order):
    linear = Linear(3, 3, dtype="float16", weights_init=300.0, biases_init=0.0)
    layer = torch.BatchNorm1d(3, affine=False, dtype="float16")
    stages = [linear, layer] if order == "after" else [layer, linear]
    network = Sequence(stages)
    x = mg.matrix("x", dtype="float16", shape=(None, 3))
    y = network.apply(x)
    layer.set_values({"running_mean": [0.0] * 3, "running_var": [1e-6] * 3})
    with pytest.raises(ValueError, match="beyond the reach of float16"):
        fold_batch_normalization(y)
    layer.set_values({"running_mean": [0.0] * 3, "running_var": [1.0] * 3})
    fold_batch_normalization(y)


# -- the smaller layer ----------------------------------------------------------------------------------------------


def test_caffes_scale_has_blobs_and_a_checked_axis():
    x = mg.tensor3("x", shape=(None, 3, 2))
    layer = caffe.Scale(axis=-2, bias_term=True)
    layer.set_values({"scale": [1.0, 2.0, 3.0], "bias": np.zeros((1, 3))})
    assert list(layer.get_values()) == ["scale", "bias"]
    values = np.ones((1, 3, 2), "float32")
    np.testing.assert_array_equal(layer.apply(x).eval({x: values})[0, :, 0], [1, 2, 3])
    assert caffe.Scale(axis=np.int64(1)).apply(x).type.shape == (None, 3, 2)
    for axis in (2.0, "1", True, None):
        with pytest.raises(TypeError, match="axis must be an int"):
            caffe.Scale(axis=axis)
    for axis in (3, 5, -4):
        with pytest.raises(ValueError, match=f"scales axis {axis}, which .* lacks") as raised:
            caffe.Scale(axis=axis).apply(x)
        assert __file__ in str(raised.value)
    with pytest.raises(ValueError, match=r"takes the arrays \['scale'\]"):
        caffe.Scale(features=3).set_values({"scale": np.ones(3), "bias": np.ones(3)})


@on_each
def test_an_index_before_the_first_population_is_an_error_whenever_it_is_known(backend):
    layer = BatchNormalization(1, n_iter=3)
    x, i = mg.matrix("x", shape=(None, 1)), mg.lscalar("i")
    y = layer.apply(x, i)
    layer.set_values({"scale": [1], "shift": [0], "population_mean": [[1], [2], [3]], "population_stdev": np.ones((3, 1))})
    infer = mg.function([x, i], y, backend=backend)
    with batch_normalization(layer):
        z = layer.apply(x, i)
    step = mg.function([x, i], z, updates=mg.transforms.get_batch_normalization_updates(z), backend=backend)
    ones = np.ones((1, 1), "float32")
    assert [infer(ones, k).item() for k in (-3, -2, -1, 0, 1, 2, 7)] == [0, -1, -2, 0, -1, -2, -2]
    for k in (-4, -7):
        with pytest.raises(ValueError, match=f"index {k} is below -3"):
            layer.apply(x, k)
        before = layer.get_values()
        for function in (infer, step):
            with pytest.raises(IndexError):
                function(ones, k)
        assert all(np.array_equal(value, before[each]) for each, value in layer.get_values().items())
    step(np.float32([[5], [7]]), -2)
    assert list(layer.get_values()["population_mean"].ravel()) == [1, 6, 3]
