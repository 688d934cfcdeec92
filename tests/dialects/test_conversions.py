"""Arrays of one system as those of another: equal outputs in inference, or a refusal with a reason."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import (
    BLOCKS,
    CAFFE,
    CONVENTIONS,
    GOMLX,
    KERAS,
    LASAGNE,
    ONNX,
    PUZZLELIB,
    PYTORCH,
    THEANO,
    TORCH7,
    TORCH7_VERSION_1,
    caffe,
    convert,
    convert_model,
    from_list,
    gomlx,
    keras,
    lasagne,
    onnx,
    puzzlelib,
    to_list,
    torch,
)
from minigraph.dialects.torch import UNTRACKED
from minigraph.layers import BatchNormalization, SpatialBatchNormalization

PRECISION = {"float32": 1e-6, "float64": 1e-12}
PAIRS = [(source, target) for source in CONVENTIONS for target in CONVENTIONS]


def names(pair):
    """A pair of conventions, for the names of tests."""
    return "-".join(one.name.replace(" ", "") for one in pair)


def arrays(convention, dtype, rng, features=6):
    """Arrays of a trained layer, as a system stores them, with variances from tiny to large."""
    mean = rng.normal(0, 3, features)
    variance = 10.0 ** rng.uniform(-2, 4, features)
    stored = convention.write(mean, np.sqrt(variance + convention.epsilon), convention.epsilon)
    values = dict(zip(convention.population, stored, strict=True))
    values |= {convention.scale: rng.normal(1, 0.3, features), convention.shift: rng.normal(0, 1, features)}
    values = {name: np.asarray(values[name], dtype) for name in convention.order if name in values}
    if convention.count is not None:
        values[convention.count] = np.full(features, 7, dtype) if convention.counts_features else np.int64(7)
    return values


def evaluated(values, convention, x, epsilon):
    """What a layer with these arrays computes in inference, in float64."""
    wide = {name: np.asarray(value, np.float64) for name, value in values.items()}
    mean, stdev = convention.read([wide[name] for name in convention.population], epsilon)
    return (x - mean) / stdev * wide[convention.scale] + wide[convention.shift]


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("pair", PAIRS, ids=names)
def test_every_conversion_keeps_the_outputs_there_and_back(pair, dtype, rng):
    source, target = pair
    values = arrays(source, dtype, rng)
    x = rng.normal(0, 3, (50, 6))
    there = convert(values, source, target)
    back = convert(there, target, source)
    expected = evaluated(values, source, x, source.epsilon)
    for found in (evaluated(there, target, x, target.epsilon), evaluated(back, source, x, source.epsilon)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=PRECISION[dtype] * np.abs(expected).max())
    assert list(there) == [name for name in target.order if name in there]
    for name, value in there.items():
        assert name == target.count or value.dtype == dtype
    for name in source.population:
        if source.name != "Caffe":
            np.testing.assert_allclose(back[name], values[name], rtol=5 * PRECISION[dtype], atol=1e-3 * PRECISION[dtype])


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("pair", PAIRS, ids=names)
def test_one_epsilon_for_both_keeps_any_variance(pair, dtype, rng):
    """Where the target is made with the epsilon of the source, even a variance of 0 goes there and back."""
    source, target = pair
    variance = np.array([0, 1e-12, 1e-8, 1e-3, 1.0, 1e6])
    mean = rng.normal(size=6)
    stored = source.write(mean, np.sqrt(variance + 1e-5), 1e-5)
    values = {name: np.asarray(one, dtype) for name, one in zip(source.population, stored, strict=True)}
    there = convert(values, source, target, epsilon=1e-5)
    read = [source.read([np.float64(values[name]) for name in source.population], 1e-5)]
    read += [target.read([np.float64(there[name]) for name in target.population], 1e-5)]
    for ours, theirs in zip(*read, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=PRECISION[dtype])


LAYERS = {
    BLOCKS: lambda dtype: BatchNormalization(6, dtype=dtype),
    LASAGNE: lambda dtype: lasagne.BatchNormLayer((None, 6), dtype=dtype),
    TORCH7: lambda dtype: torch.BatchNormalization(6, dtype=dtype),
    PYTORCH: lambda dtype: torch.BatchNorm1d(6, dtype=dtype),
    PUZZLELIB: lambda dtype: puzzlelib.BatchNorm(6, dtype=dtype),
    GOMLX: lambda dtype: gomlx.BatchNormalization(features=6, dtype=dtype),
    KERAS: lambda dtype: keras.BatchNormalization(features=6, dtype=dtype),
    ONNX: lambda dtype: onnx.BatchNormalization(features=6, dtype=dtype),
}


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("target", LAYERS, ids=lambda one: one.name)
@pytest.mark.parametrize("source", [PYTORCH, LASAGNE, BLOCKS], ids=lambda one: one.name)
def test_layers_take_converted_arrays(source, target, dtype, rng):
    values = arrays(source, dtype, rng)
    layer = LAYERS[target](dtype)
    layer.set_values(convert(values, source, target))
    data = rng.normal(0, 3, (20, 6)).astype(dtype)
    x = mg.tensor("x", dtype=dtype, shape=(None, 6))
    expected = evaluated(values, source, data, source.epsilon)
    found = layer.apply(x).eval({x: data})
    np.testing.assert_allclose(found, expected, rtol=0, atol=3 * PRECISION[dtype] * np.abs(expected).max())


def test_caffes_two_layers_take_converted_arrays(rng):
    values = arrays(PYTORCH, "float64", rng)
    converted = convert(values, PYTORCH, CAFFE)
    normalization, scale = (
        caffe.BatchNorm(features=6, dtype="float64"),
        caffe.Scale(bias_term=True, features=6, dtype="float64"),
    )
    normalization.set_values({name: converted[name] for name in CAFFE.population})
    scale.allocate()
    scale.variables["scale"].set_value(converted["scale"])
    scale.variables["bias"].set_value(converted["bias"])
    x = mg.dmatrix("x", shape=(None, 6))
    data = rng.normal(size=(5, 6))
    found = scale.apply(normalization.apply(x)).eval({x: data})
    np.testing.assert_allclose(found, evaluated(values, PYTORCH, data, 1e-5), rtol=1e-10)
    assert converted["weight_sum"] == pytest.approx(1000)


# -- what is refused, and what is left out ---------------------------------------------------------------------------


def test_a_deviation_below_the_root_of_epsilon_is_refused_with_a_way_out():
    values = {"running_mean": np.zeros(2), "running_var": np.array([1.0, 1e-6])}
    with pytest.raises(ValueError, match=r"less than Keras can have.*target_epsilon"):
        convert(values, PYTORCH, KERAS)
    found = convert(values, PYTORCH, KERAS, target_epsilon=1e-5)
    np.testing.assert_allclose(found["moving_variance"], values["running_var"], rtol=1e-9)
    with pytest.raises(ValueError, match="less than PyTorch"):
        convert({"population_mean": np.zeros(1), "population_stdev": np.array([1e-3])}, BLOCKS, PYTORCH)
    stdev = convert({"population_mean": np.zeros(1), "population_stdev": np.array([1e-3])}, BLOCKS, LASAGNE)["inv_std"]
    assert stdev == pytest.approx(1e3)


@pytest.mark.parametrize(
    ("values", "source", "target", "message"),
    [
        ({"running_mean": [0.0]}, PYTORCH, BLOCKS, r"missing \['running_var'\]"),
        ({"running_mean": [0.0], "running_var": [1.0], "gamma": [1.0]}, PYTORCH, BLOCKS, r"unknown \['gamma'\]"),
        ({"running_mean": [0.0], "running_var": [np.nan]}, PYTORCH, BLOCKS, "not finite"),
        ({"running_mean": [np.inf], "running_var": [1.0]}, PYTORCH, BLOCKS, "not finite"),
        ({"running_mean": [0.0], "running_var": [-1.0]}, PYTORCH, BLOCKS, "not finite"),
        ({"population_mean": [0.0], "population_stdev": [0.0]}, BLOCKS, PYTORCH, "not above 0"),
        ({"population_mean": [0.0], "population_stdev": [-2.0]}, BLOCKS, PYTORCH, "not above 0"),
        ({"mean": [0.0], "inv_std": [0.0]}, LASAGNE, PYTORCH, "not finite"),
        ({"population_mean": [0.0], "population_stdev": [1.0]}, BLOCKS, UNTRACKED, "no population"),
        ({"weight": [0.0]}, UNTRACKED, BLOCKS, "missing"),
    ],
)
def test_what_no_population_can_hold_is_a_value_error(values, source, target, message):
    with pytest.raises(ValueError, match=message):
        convert({name: np.array(value) for name, value in values.items()}, source, target)


def test_counts_are_kept_or_stand_for_a_long_training(rng):
    values = arrays(PYTORCH, "float32", rng)
    assert (convert(values, PYTORCH, GOMLX)["avg_weight"] == np.full(6, 7)).all()
    assert convert(arrays(GOMLX, "float32", rng), GOMLX, PYTORCH)["num_batches_tracked"] == 7
    assert (convert(arrays(KERAS, "float32", rng), KERAS, GOMLX)["avg_weight"] == 100).all()
    assert (convert(arrays(KERAS, "float32", rng), KERAS, GOMLX, count=3)["avg_weight"] == 3).all()


def test_scale_and_shift_may_be_left_out():
    found = convert({"running_mean": np.zeros(2), "running_var": np.ones(2)}, THEANO, LASAGNE)
    assert list(found) == ["mean", "inv_std"]


def test_lists_are_in_the_order_of_each_system(rng):
    for convention in CONVENTIONS:
        values = arrays(convention, "float64", rng)
        listed = to_list(values, convention)
        assert len(listed) == len(convention.order)
        named = from_list(listed, convention)
        assert list(named) == list(convention.order)
        assert all((named[name] == values[name]).all() for name in values)
    assert list(from_list([1.0, 2.0], LASAGNE, scale=False, shift=False)) == ["mean", "inv_std"]
    with pytest.raises(ValueError, match="lists 4 arrays"):
        from_list([1.0], LASAGNE)
    with pytest.raises(ValueError, match="gamma"):
        to_list({"gamma": 1.0}, PYTORCH)


def test_torch7_version_1_stores_the_inverse_under_another_name():
    found = convert({"running_mean": np.zeros(1), "running_std": np.array([0.5])}, TORCH7_VERSION_1, TORCH7)
    assert found["running_var"] == pytest.approx(4 - 1e-5)


def test_a_whole_model_is_converted_layer_by_layer_but_for_what_is_left_alone(rng):
    """Layers without a population keep their arrays; those that a predicate names keep theirs, too."""
    model = {"0.weight": np.ones((2, 6)), "0.bias": np.zeros(6)}
    for path in ("1", "block.norm", "block.cudnn"):
        model |= {f"{path}.{name}": array for name, array in arrays(PYTORCH, "float32", rng).items()}
    model["temperature"] = np.ones(())
    found = convert_model(model, PYTORCH, LASAGNE, leave=lambda path: path.endswith("cudnn"))
    expected = ["0.weight", "0.bias", *(f"{path}.{name}" for path in ("1", "block.norm") for name in LASAGNE.order)]
    assert list(found) == [*expected, *(f"block.cudnn.{name}" for name in PYTORCH.order), "temperature"]
    assert found["block.cudnn.running_var"] is model["block.cudnn.running_var"]
    np.testing.assert_allclose(found["1.inv_std"], 1 / np.sqrt(model["1.running_var"] + 1e-5), rtol=1e-6)
    slashed = convert_model({"/net/bn.mean": np.zeros(1), "/net/bn.inv_std": np.ones(1)}, LASAGNE, BLOCKS, epsilon=1e-3)
    assert list(slashed) == ["/net/bn.population_mean", "/net/bn.population_stdev"]


# -- arrays of a layer -----------------------------------------------------------------------------------------------


def test_arrays_with_as_many_elements_are_reshaped():
    layer = SpatialBatchNormalization((3, 2, 2))
    layer.set_values({"scale": [1, 2, 3], "shift": [0, 0, 0], "population_mean": [4, 5, 6], "population_stdev": [1, 1, 1]})
    assert layer.get_values()["population_mean"].shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": [1.0]}, "takes the arrays"),
        ({"scale": [1], "shift": [0], "population_mean": [0, 1], "population_stdev": [1]}, "population_mean"),
    ],
)
def test_arrays_that_do_not_fit_change_nothing(values, message):
    layer = BatchNormalization(1)
    with pytest.raises(ValueError, match=message):
        layer.set_values(values)
    assert layer.get_values() == {} and not layer.allocated
    layer.allocate()
    with pytest.raises(ValueError, match=message):
        layer.set_values(values)
    assert [value.item() for value in layer.get_values().values()] == [1, 0, 0, 1]


def test_sizes_come_from_the_arrays_for_rows_and_several_axes():
    rows = keras.BatchNormalization(n_iter=2)
    rows.set_values({"gamma": [1] * 3, "beta": [0] * 3, "moving_mean": np.zeros((2, 3)), "moving_variance": np.ones((2, 3))})
    assert rows.features == (3,)
    axes = keras.BatchNormalization(axis=(1, 2))
    axes.set_values({name: np.ones((2, 3)) for name in KERAS.order})
    assert axes.features == (2, 3)
    waiting = puzzlelib.BatchNorm(4, empty=True)
    with pytest.raises(ValueError, match="takes the arrays"):
        waiting.set_values({"mean": [0] * 4})
    assert waiting.empty


@pytest.mark.parametrize("target", [BLOCKS, KERAS, CAFFE])
def test_integers_are_converted_as_floats(target):
    found = convert({"running_mean": [0, 1], "running_var": [2, 3]}, PYTORCH, target)
    mean, stdev = target.read([found[name] for name in target.population], target.epsilon)
    np.testing.assert_allclose(mean, [0, 1], atol=1e-12)
    np.testing.assert_allclose(stdev, np.sqrt([2 + 1e-5, 3 + 1e-5]), rtol=1e-6)


def test_arrays_of_different_sizes_or_beyond_their_dtype_are_value_errors():
    with pytest.raises(ValueError, match="different sizes"):
        convert({"running_mean": np.zeros(4), "running_var": np.ones(3)}, PYTORCH, BLOCKS)
    with pytest.raises(ValueError, match="beyond the reach of float16"):
        convert({"running_mean": np.float16([1000]), "running_var": np.float16([1])}, PYTORCH, CAFFE)


def test_a_model_keeps_its_names_and_what_is_no_array_of_a_normalization():
    model = {"/W": np.ones(1), "/bn/running_mean": np.zeros(1), "/bn/running_var": np.ones(1), "/bn/steps": np.int64(3)}
    found = convert_model(model, PYTORCH, KERAS, separator="/")
    assert list(found) == ["/W", "/bn/moving_mean", "/bn/moving_variance", "/bn/steps"]


# -- nothing is passed over ------------------------------------------------------------------------------------------


def test_names_of_keras_variables_end_in_the_number_of_an_output():
    names = {
        "bn/gamma:0": np.ones(3),
        "bn/beta:0": np.zeros(3),
        "bn/moving_mean:0": np.zeros(3),
        "bn/moving_variance:0": np.ones(3),
    }
    model = {"dense/kernel:0": np.ones((2, 3)), **names}
    found = convert_model(model, KERAS, PYTORCH, separator="/")
    assert list(found) == [
        "dense/kernel:0",
        "bn/weight",
        "bn/bias",
        "bn/running_mean",
        "bn/running_var",
        "bn/num_batches_tracked",
    ]
    alone = convert({name.rpartition("/")[2]: array for name, array in names.items()}, KERAS, TORCH7)
    assert list(alone) == ["weight", "bias", "running_mean", "running_var"]
    with pytest.raises(ValueError, match="two arrays are named 'gamma'"):
        convert({"gamma": np.ones(3)} | {name.rpartition("/")[2]: array for name, array in names.items()}, KERAS, TORCH7)


GOOD = {"running_mean": np.zeros(3), "running_var": np.ones(3)}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"0.weight": np.ones((2, 3))}, {}, "no PyTorch normalization"),
        ({}, {}, "no PyTorch normalization"),
        ({f"bn/{name}": array for name, array in GOOD.items()}, {}, r"is '\.' what separates"),
        ({"1.running_mean": np.zeros(3)}, {}, r"1: .*missing \['running_var'\]"),
        ({"1.running_var": np.zeros(3)}, {}, r"1: .*missing \['running_mean'\]"),
        ({"1.running_mean": np.zeros(3), **{f"2.{name}": one for name, one in GOOD.items()}}, {}, "1: .*missing"),
        ({"1.running_mean": np.zeros(3), "1.running_var": -np.ones(3)}, {}, "1: .*never negative"),
        ({f"1.{name}": one for name, one in GOOD.items()} | {"1.gamma": np.ones(3), "1.weight": np.ones(3)}, {}, "already"),
    ],
)
def test_models_in_which_nothing_or_half_is_found_are_errors(model, options, message):
    with pytest.raises(ValueError, match=message):
        convert_model(model, PYTORCH, KERAS, target_epsilon=1e-5, **options)


def test_what_is_left_alone_may_be_anything():
    model = {"stem.running_mean": np.zeros(3), "1.running_mean": np.zeros(3), "1.running_var": np.ones(3)}
    found = convert_model(model, PYTORCH, KERAS, leave=lambda path: path == "stem", target_epsilon=1e-5)
    assert list(found) == ["stem.running_mean", "1.moving_mean", "1.moving_variance"]
    assert convert_model(model, PYTORCH, KERAS, leave=lambda path: True) == model


def test_caffes_sums_without_weight_are_no_statistics():
    """As forks of Caffe write them that keep averages in place of sums."""
    sums = {"mean_sum": np.ones(1), "variance_sum": np.full(1, 4.0), "weight_sum": np.zeros(1)}
    with pytest.raises(ValueError, match="weight_sum is 0 beside sums that are not"):
        convert(sums, CAFFE, TORCH7)
    with pytest.raises(ValueError, match="weight_sum is 0"):
        caffe.BatchNorm(features=1).set_values(sums)
    assert convert(sums | {"weight_sum": np.ones(1)}, CAFFE, TORCH7)["running_mean"] == 1
    nothing = {"mean_sum": np.zeros(1), "variance_sum": np.zeros(1), "weight_sum": np.zeros(1)}
    assert convert(nothing, CAFFE, TORCH7)["running_var"] == 0


def test_counts_that_differ_are_one_count_only_if_that_is_said():
    values = {"mean": np.zeros(2), "variance": np.ones(2), "avg_weight": np.float32([10, 20])}
    assert list(convert(values, GOMLX, GOMLX)["avg_weight"]) == [10, 20]
    with pytest.raises(ValueError, match=r"10\.0 to 20\.0"):
        convert(values, GOMLX, PYTORCH)
    found = convert({"mean": np.zeros(2), "variance": np.ones(2)}, GOMLX, PYTORCH, count=7)["num_batches_tracked"]
    assert found == 7 and found.dtype == np.int64 and found.shape == ()
    for count in (-1, 1.5, np.nan):
        with pytest.raises(ValueError, match="count"):
            convert({"mean": np.zeros(2), "variance": np.ones(2)}, GOMLX, PYTORCH, count=count)
