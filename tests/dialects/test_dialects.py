"""Each system's conventions: what is stored, how averages follow, what is normalized by, what is refused."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import CONVENTIONS, TORCH7_VERSION_1, caffe, gomlx, keras, lasagne, onnx, puzzlelib, theano, torch
from minigraph.layers import (
    MLP,
    BatchNormalization,
    Convolutional,
    ConvolutionalTranspose,
    Linear,
    Rectifier,
    Sequence,
    batch_normalization,
)
from minigraph.layers.core.roles import BIAS, PARAMETER, has_roles
from minigraph.layers.normalization.apply_options import Request
from minigraph.layers.normalization.conventions import Variance
from minigraph.transforms import (
    Duplicates,
    apply_batch_normalization,
    apply_population_normalization,
    get_batch_normalization_updates,
    moving_average,
)
from support.backends import on_each
from support.layers import trained
from support.places import ROOT

C = np.arange(12.0).reshape(3, 4).astype("float32")
"""The canonical batch: column 0 is [0, 4, 8], of mean 4, biased variance 32 / 3 and unbiased variance 16."""


# -- the tables ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a dialect must give on C: what it stores of column 0 after one step and after two, and its outputs at x00."""

    make: Any
    first: tuple[float, ...]
    second: tuple[float, ...]
    inference: float
    training: float
    rule: Any = None

    def step(self, layer, x, backend):
        """A function that makes one training step and returns the training output at x00."""
        y = trained(layer, x)
        updates = self.rule(get_batch_normalization_updates(y)) if self.rule else ()
        return mg.function([x], y[0, 0], updates=updates, backend=backend)


V = 32 / 3
BLOCKS_STDEV = 3.26600163
TABLE = {
    "Lasagne": Row(lasagne.BatchNormLayer, (0.4, 0.93061848), (0.76, 0.86817511), -0.37224739, -1.22473913),
    "Blocks, raw": Row(BatchNormalization, (4, BLOCKS_STDEV), (4, BLOCKS_STDEV), -1.22473913, -1.22473913, list),
    "Blocks, moving average": Row(
        BatchNormalization, (0.4, 1.22660016), (0.76, 1.43054031), -0.32610464, -1.22473913, moving_average
    ),
    "Torch7": Row(torch.BatchNormalization, (0.4, 2.5), (0.76, 3.85), -0.25298171, -1.22474430),
    "PyTorch": Row(torch.BatchNorm1d, (0.4, 2.5, 1), (0.76, 3.85, 2), -0.25298171, -1.22474430),
    "Caffe": Row(caffe.BatchNorm, (4, 16, 1), (7.996, 31.984, 1.999), -0.99999969, -1.22474430),
    "PuzzleLib": Row(lambda: puzzlelib.BatchNorm(4), (4, 16), (4, 16), -0.99999969, -1.22474430),
    "GoMLX": Row(gomlx.BatchNormalization, (4, V, 1), (4, V, 2), -1.22468747, -1.22468747),
    "Keras": Row(keras.BatchNormalization, (0.04, 1.09666667), (0.0796, 1.19236667), -0.03817902, -1.22468747),
    "ONNX": Row(onnx.BatchNormalization, (0.4, 1.96666667), (0.76, 2.83666667), -0.28522889, -1.22474430),
}


def stored(layer):
    """What a layer stores about column 0, in the order of its system, without scale and shift."""
    learned = (layer.convention.scale, layer.convention.shift)
    return [value.flat[0] for name, value in layer.get_values().items() if name not in learned]


@on_each
@pytest.mark.parametrize("dialect", TABLE)
def test_two_steps_on_the_canonical_batch(dialect, backend):
    row = TABLE[dialect]
    layer = row.make()
    for scale in ("gamma", "weight", "scale"):
        if scale == layer.convention.scale and not isinstance(layer, caffe.BatchNorm):
            layer.scale_init = mg.layers.Constant(1.0)
    x = mg.matrix("x", shape=(None, 4))
    step = row.step(layer, x, backend)
    infer = mg.function([x], layer.apply(x)[0, 0], backend=backend)
    assert step.backend == infer.backend == backend
    assert step(C) == pytest.approx(row.training, rel=1e-6)
    assert stored(layer) == pytest.approx(row.first, rel=1e-6)
    assert infer(C) == pytest.approx(row.inference, rel=2e-6)
    assert step(C) == pytest.approx(row.training, rel=1e-6)
    assert stored(layer) == pytest.approx(row.second, rel=1e-6)


@on_each
def test_theano_gives_new_averages_to_the_caller(backend):
    x = mg.matrix("x", shape=(None, 4))
    mean, var = (mg.shared(np.full((1, 4), start, "float32"), name) for start, name in ((0, "mean"), (1, "var")))
    outputs = theano.batch_normalization_train(
        x, np.ones((1, 4), "float32"), np.zeros((1, 4), "float32"), "per-activation", 1e-4, 0.1, mean, var
    )
    y, batch_mean, inv_std, new_mean, new_var = outputs
    inference = theano.batch_normalization_test(x, np.ones((1, 4), "float32"), np.zeros((1, 4), "float32"), mean, var)
    step = mg.function(
        [x], [y[0, 0], batch_mean[0, 0], inv_std[0, 0]], updates=[(mean, new_mean), (var, new_var)], backend=backend
    )
    infer = mg.function([x], inference[0, 0], backend=backend)
    assert step(C) == pytest.approx([-1.22473913, 4, 1 / np.sqrt(V + 1e-4)], rel=1e-6)
    assert (mean.get_value()[0, 0], var.get_value()[0, 0]) == pytest.approx((0.4, 2.5))
    assert infer(C) == pytest.approx(-0.25297715, rel=1e-6)
    step(C)
    assert (mean.get_value()[0, 0], var.get_value()[0, 0]) == pytest.approx((0.76, 3.85))


def test_theano_axes_are_checked_and_averages_go_together():
    x = mg.tensor4("x")
    ones = np.ones((1, 3, 1, 1), "float32")
    _y, mean, _ = theano.batch_normalization_train(x, ones, ones, axes="spatial")
    assert mean.type.broadcastable == (True, False, True, True)
    with pytest.raises(ValueError, match="per-activation"):
        theano.batch_normalization_train(x, ones, ones, axes="channels")
    with pytest.raises(ValueError, match="both running_mean and running_var"):
        theano.batch_normalization_train(x, ones, ones, axes="spatial", running_mean=mg.shared(ones))


def test_theano_normalizes_floats_over_some_axis():
    ones = np.ones((1, 4), "float32")
    with pytest.raises(TypeError, match="floats"):
        theano.batch_normalization_train(mg.lmatrix("x"), ones, ones)
    with pytest.raises(ValueError, match="at least one axis"):
        theano.batch_normalization_train(mg.matrix("x"), ones, ones, axes=())
    assert theano.batch_normalization_train(mg.matrix("x", shape=(None, 4)), ones, ones, axes=0)[1].type.shape == (1, 4)


def test_caffes_worked_example():
    """The statistics and the output to 8 digits from the blobs of a trained model."""
    blobs = {"mean_sum": -5122.504395, "variance_sum": 385844.0625, "weight_sum": 999.982361}
    layer = caffe.BatchNorm(features=1, dtype="float64")
    layer.set_values(blobs)
    x = mg.dmatrix("x", shape=(None, 1))
    mean, stdev = (one.eval().item() for one in layer.population_in(x, Request()))
    assert (mean, stdev) == pytest.approx((-5.12259475, 19.6430873), rel=1e-8)
    assert stdev**2 - 1e-5 == pytest.approx(385.850869, rel=1e-8)
    assert layer.apply(x).eval({x: [[0.001932]]}).item() == pytest.approx(0.26088194, rel=1e-8)


# -- averages that follow by themselves ------------------------------------------------------------------------------

SELF_AVERAGING = {
    "Lasagne": lasagne.BatchNormLayer,
    "Torch7": torch.BatchNormalization,
    "PyTorch": torch.BatchNorm1d,
    "Caffe": caffe.BatchNorm,
    "PuzzleLib": lambda **options: puzzlelib.BatchNorm(4, **options),
    "GoMLX": gomlx.BatchNormalization,
    "Keras": keras.BatchNormalization,
    "ONNX": onnx.BatchNormalization,
}


@pytest.fixture(params=SELF_AVERAGING)
def make(request):
    """A class of layers whose population follows by itself."""
    return SELF_AVERAGING[request.param]


def test_any_function_that_computes_the_training_output_moves_the_averages(make):
    layer = make()
    x = mg.matrix("x", shape=(None, 4))
    y = trained(layer, x)
    start = stored(layer)
    mg.function([x], layer.apply(x))(C)
    mg.function([x], y, no_default_updates=True)(C)
    y.eval({x: C})
    assert stored(layer) == start
    mg.function([x], mg.exp(y).sum())(C)
    assert stored(layer) != start


def test_told_not_to_they_stay_until_pairs_are_used(make):
    layer, automatic = make(automatic=False), make()
    x = mg.matrix("x", shape=(None, 4))
    y = trained(layer, x)
    start = stored(layer)
    mg.function([x], y)(C)
    assert stored(layer) == start
    mg.function([x], y, updates=layer.rule(get_batch_normalization_updates(y)))(C)
    mg.function([x], trained(automatic, x))(C)
    assert stored(layer) == stored(automatic)


def test_explicit_updates_take_the_place_of_the_systems_own(make):
    layer = make()
    x = mg.matrix("x", shape=(None, 4))
    y = trained(layer, x)
    mg.function([x], y, updates=get_batch_normalization_updates(y))(C)
    assert stored(layer)[:1] == [4]


def test_two_applications_in_one_function_are_an_error_that_pairs_settle(make):
    """Nothing is lost in silence: without a rule the two averages conflict, and with one both minibatches count."""
    layer = make()
    x, z = mg.matrix("x", shape=(None, 4)), mg.matrix("z", shape=(None, 4))
    with batch_normalization(layer):
        both = [layer.apply(x), layer.apply(z)]
    with pytest.raises(ValueError, match="two computed variables ask for different updates"):
        mg.function([x, z], both)
    pairs = get_batch_normalization_updates(both, duplicates=Duplicates.SEQUENTIAL)
    mg.function([x, z], both, updates=layer.rule(pairs))(C, C + 36)
    other = make()
    step = mg.function([x], trained(other, x))
    step(C)
    step(C + 36)
    assert stored(layer) == pytest.approx(stored(other), rel=1e-6)


def test_lasagne_applied_twice_gives_the_sequential_average():
    layer = lasagne.BatchNormLayer()
    x, z = mg.matrix("x", shape=(None, 4)), mg.matrix("z", shape=(None, 4))
    with batch_normalization(layer):
        both = [layer.apply(x), layer.apply(z)]
    pairs = get_batch_normalization_updates(both, duplicates=Duplicates.SEQUENTIAL)
    mg.function([x, z], both, updates=moving_average(pairs))(C, C + 36)
    assert layer.variables["mean"].get_value()[0] == pytest.approx(4.36)


def test_the_transforms_switch_dialects_like_the_context_manager(make):
    layer = make()
    x = mg.matrix("x", shape=(None, 4))
    inference, train = layer.apply(x), trained(layer, x)
    assert str(apply_batch_normalization(inference)) == mg.debugprint(train)
    assert str(apply_population_normalization(train)) == mg.debugprint(inference)
    assert apply_population_normalization(train).updates == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_minibatch_does_not_move_the_averages_of_its_feature(make, bad):
    layer = make()
    x = mg.matrix("x", shape=(None, 4))
    step = mg.function([x], trained(layer, x))
    step(C)
    before = layer.get_values()
    poisoned = C.copy()
    poisoned[1, 2] = bad
    step(poisoned)
    for name, value in layer.get_values().items():
        assert np.isfinite(value).all()
        if name in layer.convention.population and value.size > 1:
            assert value.flat[2] == before[name].flat[2]


def test_an_empty_minibatch_leaves_all_as_it_was(make):
    layer = make()
    x = mg.matrix("x", shape=(None, 4))
    y = trained(layer, x)
    step = mg.function([x], [], updates=layer.rule(get_batch_normalization_updates(y)), no_default_updates=True)
    step(C)
    before = layer.get_values()
    step(np.zeros((0, 4), "float32"))
    for name, value in layer.get_values().items():
        if name != "num_batches_tracked":
            np.testing.assert_array_equal(value, before[name])


def test_a_minibatch_of_one_row_leaves_finite_statistics(make):
    """PyTorch refuses such, and so keeps what it had."""
    layer = make()
    x = mg.matrix("x", shape=(None, 4))
    step = mg.function([x], trained(layer, x))
    with pytest.raises(AssertionError) if make is torch.BatchNorm1d else nullcontext():
        step(C[:1])
    assert all(np.isfinite(value).all() for value in layer.get_values().values())


# -- particulars -----------------------------------------------------------------------------------------------------


def test_lasagne_switches_override_one_another_call_by_call():
    """deterministic decides both; using and updating averages at once normalizes by the old ones."""
    x = mg.matrix("x", shape=(None, 4))
    batch, old = -1.22473913, 0.0
    cases = {
        (False, None, None): (batch, 0.4),
        (True, None, None): (old, 0.0),
        (False, True, None): (old, 0.4),
        (False, None, False): (batch, 0.0),
        (True, False, None): (batch, 0.0),
        (True, None, True): (old, 0.4),
        (True, False, True): (batch, 0.4),
        (False, True, False): (old, 0.0),
    }
    for (deterministic, use, update), (expected, mean) in cases.items():
        layer = lasagne.BatchNormLayer()
        y = layer.get_output_for(x, deterministic, batch_norm_use_averages=use, batch_norm_update_averages=update)
        assert mg.function([x], y[0, 0])(C) == pytest.approx(expected, rel=1e-6)
        assert layer.variables["mean"].get_value()[0] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("axes", "shape"), [("auto", (3,)), (1, (2, 4)), ((0, 2), (3,)), ((1, 2), (2,)), ((0,), (3, 4)), (-1, (2, 3))]
)
def test_lasagne_averages_over_any_axes(axes, shape, rng):
    values = rng.normal(size=(2, 3, 4)).astype("float32")
    averaged = {"auto": (0, 2)}.get(axes, axes) if isinstance(axes, str) else axes
    x = mg.tensor("x", shape=(2, 3, 4))
    layer = lasagne.BatchNormLayer(axes=axes)
    y = trained(layer, x)
    assert layer.variables["gamma"].type.shape == shape
    mean, stdev = values.mean(averaged, keepdims=True), np.sqrt(values.var(averaged, keepdims=True) + 1e-4)
    np.testing.assert_allclose(y.eval({x: values}), (values - mean) / stdev, rtol=1e-4, atol=1e-5)


def test_lasagne_regularizes_gamma_and_not_beta():
    layer = lasagne.BatchNormLayer((None, 4))
    layer.allocate()
    gamma, beta = layer.variables["gamma"], layer.variables["beta"]
    assert has_roles(gamma, [PARAMETER]) and not has_roles(gamma, [BIAS])
    assert has_roles(beta, [BIAS])


def test_lasagne_starts_from_what_it_is_given():
    layer = lasagne.BatchNormLayer((None, 4), beta=None, gamma=None, mean=np.float32([1, 2, 3, 4]), inv_std=0.5)
    layer.allocate()
    assert list(layer.get_values()) == ["mean", "inv_std"]
    x = mg.matrix("x")
    np.testing.assert_array_equal(layer.apply(x).eval({x: C}), (C - [1, 2, 3, 4]) * 0.5)


def test_lasagne_slips_between_convolutions_and_their_nonlinearities(rng):
    value = rng.normal(size=(4, 2, 5, 5)).astype("float32")
    x = mg.tensor4("x", shape=(None, 2, 5, 5))
    for make in (Convolutional, ConvolutionalTranspose):
        network = lasagne.batch_norm(Sequence([make((3, 3), 3), Rectifier()], name="conv"))
        y = trained(network, x).eval({x: value})
        kinds = [type(stage).__name__ for stage in network.stages]
        assert kinds == [make.__name__, "BatchNormLayer", "Rectifier"] and y.min() == 0
        assert [stage.name for stage in network.stages[1:]] == ["conv_bn", "conv_bn_nonlin"]
        linear, normalization, _ = network.stages
        assert list(linear.variables) == ["W"] and normalization.mean.type.shape == (3,)
        linear.drop_bias()
        z = trained(lasagne.BatchNormLayer(), linear.apply(x)).eval({x: value})
        np.testing.assert_allclose(y, np.maximum(z, 0), atol=1e-6)
    applied = Convolutional((3, 3), 3)
    applied.apply(x)
    assert list(lasagne.batch_norm(applied, name="own").stages[0].variables) == ["W"]


def test_lasagne_takes_the_arguments_of_upstream():
    layer = lasagne.BatchNormLayer((None, 4), "auto", 1e-3, 0.2, "low_mem", 3.0, 2.0)
    layer.allocate()
    assert (layer.alpha, layer.beta.get_value()[0], layer.gamma.get_value()[0]) == (0.2, 3.0, 2.0)
    with pytest.raises(ValueError, match="mode must be"):
        lasagne.BatchNormLayer((None, 4), mode="fast")
    x = mg.matrix("x", shape=(None, 4))
    before = Linear(4, 3)
    after = lasagne.BatchNormLayer(before)
    assert after.apply(before.apply(x)).type.shape == (None, 3) and after.mean.type.shape == (3,)
    y = layer.get_output_for(x, deterministic=True, only_for_others=1, dropout_rate=x)
    np.testing.assert_array_equal(y.eval({x: C}), C * 2 + 3)


def test_puzzlelibs_arguments_are_known_by_name_and_checked():
    for kind, axes in ((puzzlelib.BatchNorm1D, 1), (puzzlelib.BatchNorm2D, 2), (puzzlelib.BatchNorm3D, 3)):
        names = list(inspect.signature(kind).parameters)
        assert names[:9] == ["maps", "epsilon", "initFactor", "minFactor", "sscale", "affine", "name", "empty", "inplace"]
        layer = kind(3, 1e-3, 0.5, 0.2, 0.0, True, "bn", False, False)
        assert (layer.initFactor, layer.minFactor, layer.name, layer.epsilon) == (0.5, 0.2, "bn", 1e-3)
        assert kind(size=3).maps == kind(maps=3).maps == puzzlelib.BatchNormND(axes, size=3).maps == 3
        for wrong in ({}, {"maps": 3, "size": 3}):
            with pytest.raises(TypeError, match=f"{kind.__name__} takes the number of features as maps or as size"):
                kind(**wrong)
    wrong = {"affine": "no", "initFactor": "a", "minFactor": "b", "sscale": "c", "inplace": "x", "empty": 1, "name": 3}
    for name, value in wrong.items():
        for kind in (puzzlelib.BatchNorm, puzzlelib.BatchNorm2D):
            with pytest.raises(TypeError, match=name):
                kind(3, **{name: value})
    with pytest.raises(ValueError, match="sscale"):
        puzzlelib.BatchNorm(3, sscale=-1.0)


def test_variables_are_attributes_by_the_names_of_the_system():
    systems = {
        lasagne.BatchNormLayer: ("beta", "gamma", "mean", "inv_std"),
        puzzlelib.BatchNorm: ("scale", "bias", "mean", "var"),
    }
    for make, names in systems.items():
        layer = make((None, 4)) if make is lasagne.BatchNormLayer else make(4)
        assert not any(hasattr(layer, name) for name in names)
        layer.allocate()
        for name in names:
            assert getattr(layer, name) is layer.variables[name]
            with pytest.raises(AttributeError, match="set_value"):
                setattr(layer, name, 1.0)


def test_lasagne_batch_norm_slips_in_and_drops_the_bias():
    x = mg.matrix("x", shape=(None, 4))
    for wrapped in (Linear(4, 3), MLP([Rectifier()], [4, 3])):
        network = lasagne.batch_norm(wrapped, alpha=0.5)
        kinds = [type(stage).__name__ for stage in network.stages]
        assert kinds == ["Linear", "BatchNormLayer", "Rectifier"][: len(kinds)] and network.stages[1].alpha == 0.5
        names = [name.rpartition(".")[2] for name in mg.layers.get_parameters(network.children[0])]
        assert network.apply(x).type.shape == (None, 3) and names in ([], ["W"])
        assert "b" not in network.stages[0].variables
    applied = Linear(4, 3)
    applied.apply(x)
    assert list(lasagne.batch_norm(applied).stages[0].variables) == ["W"]
    with pytest.raises(TypeError, match="starts with"):
        lasagne.batch_norm(Rectifier())
    untouched = Linear(4, 3)
    with pytest.raises(TypeError, match=r"BatchNormLayer has .*, not slope"):
        lasagne.batch_norm(untouched, slope=1)
    assert untouched.use_bias


@pytest.mark.parametrize(
    ("kind", "shape", "parameters"),
    [
        (puzzlelib.BatchNorm, (5, 3), (1, 3, 1, 1)),
        (puzzlelib.BatchNorm1D, (5, 3, 2), (1, 3, 1)),
        (puzzlelib.BatchNorm2D, (5, 3, 2, 2), (1, 3, 1, 1)),
        (puzzlelib.BatchNorm3D, (5, 3, 2, 2, 2), (1, 3, 1, 1, 1)),
    ],
)
def test_puzzlelib_has_a_module_for_each_number_of_axes(kind, shape, parameters, rng):
    layer = kind(3, seed=2)
    values = rng.normal(3, 2, shape).astype("float32")
    x = mg.tensor("x", shape=[None] * len(shape))
    y = mg.function([x], trained(layer, x))(values)
    assert all(value.shape == parameters for value in layer.get_values().values())
    axes = (0, *range(2, len(shape)))
    np.testing.assert_allclose(layer.get_values()["mean"].ravel(), values.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(layer.get_values()["var"].ravel(), values.var(axes, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(y.std(axes) / layer.get_values()["scale"].ravel(), 1, rtol=1e-3)
    with pytest.raises(ValueError, match="axes"):
        layer.apply(mg.tensor("wrong", shape=[None] * (len(shape) + 1)))
    with pytest.raises(ValueError, match=r"3,"):
        layer.apply(mg.tensor("wrong", shape=[None, 4, *shape[2:]]))


def test_puzzlelib_scales_start_near_one():
    layer = puzzlelib.BatchNorm2D(10_000, sscale=0.02, seed=5)
    layer.allocate()
    scale = layer.get_values()["scale"]
    assert scale.mean() == pytest.approx(1, abs=1e-3) and scale.std() == pytest.approx(0.02, rel=0.05)
    fixed = puzzlelib.BatchNorm2D(3, affine=False)
    fixed.allocate()
    assert list(fixed.get_values()) == ["mean", "var"]


def test_puzzlelib_empty_modules_wait_for_their_arrays():
    layer = puzzlelib.BatchNorm(4, empty=True)
    x = mg.matrix("x", shape=(None, 4))
    with pytest.raises(ValueError, match="empty"):
        layer.apply(x)
    assert layer.variables == {}
    layer.set_values({"scale": [1] * 4, "bias": [0] * 4, "mean": [4, 5, 6, 7], "var": [1] * 4})
    assert layer.apply(x).eval({x: C})[1, 0] == 0


def test_puzzlelib_may_overwrite_in_inference_alone():
    layer = puzzlelib.BatchNorm(4, inplace=True)
    x = mg.matrix("x", shape=(None, 4))
    assert layer.apply(x).eval({x: C}).shape == C.shape
    with pytest.raises(ValueError, match="inplace"):
        trained(layer, x)


def test_gomlx_names_the_axis_that_is_not_averaged_over(rng):
    values = rng.normal(3, 2, (5, 2, 4)).astype("float32")
    for axis, averaged in ((-1, (0, 1)), (1, (0, 2)), ((1, 2), (0,))):
        x = mg.tensor("x", shape=(None, 2, 4))
        layer = gomlx.BatchNormalization(axis)
        mg.function([x], trained(layer, x))(values)
        np.testing.assert_allclose(layer.get_values()["mean"], values.mean(averaged), rtol=1e-5)
        assert layer.get_values()["avg_weight"].shape == layer.get_values()["mean"].shape


def test_gomlx_frozen_averages_and_untrainable_layers():
    """Frozen averages normalize in training, and scale and offset learn; an untrainable layer learns nothing."""
    x = mg.matrix("x", shape=(None, 4))
    for options, learned in (({"frozen_averages": True}, 2), ({"trainable": False}, 0), ({}, 2)):
        layer = gomlx.BatchNormalization(**options)
        y = trained(layer, x)
        graph = mg.ComputationGraph(y)
        assert len(graph.parameters) == learned
        assert (len(graph.updates) > 0) == (not options)
        assert (y.eval({x: C})[0, 0] == pytest.approx(0, abs=1e-3)) == bool(options)


def test_gomlx_centers_and_scales_as_asked():
    for center, scale in ((True, False), (False, True), (False, False)):
        layer = gomlx.BatchNormalization(center=center, scale=scale, features=4)
        layer.allocate()
        assert ("offset" in layer.get_values(), "scale" in layer.get_values()) == (center, scale)


def test_gomlx_forgets_and_averages_anew(rng):
    """Two passes: the first layer averages all minibatches, the second what the first makes of them by its own averages."""
    data = rng.normal(3, 2, (60, 4)).astype("float32")
    batches = [data[:10], data[10:30], data[30:]]
    network = Sequence([gomlx.BatchNormalization(name="first"), mg.layers.Tanh(), gomlx.BatchNormalization(name="second")])
    x = mg.matrix("x", shape=(None, 4))
    y = trained(network, x)
    step = mg.function([x], y)
    for batch in batches:
        step(batch * 100)
    gomlx.update_averages(y, batches)
    first, _, second = network.stages
    mean = np.mean([batch.mean(0) for batch in batches], axis=0)
    np.testing.assert_allclose(first.get_values()["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(first.get_values()["avg_weight"], 6)
    seen = np.tanh((data - mean) / np.sqrt(first.get_values()["variance"] + 1e-3))
    assert np.abs(second.get_values()["mean"] - seen.mean(0)).max() < 0.1
    before = mg.layers.get_parameter_values(network)
    with pytest.raises(ValueError, match="shape"):
        gomlx.update_averages(y, [data[:10], data[:, :3]])
    after = mg.layers.get_parameter_values(network)
    assert all((before[name] == after[name]).all() for name in before)
    gomlx.reset_weights(network)
    assert (first.get_values()["avg_weight"] == 0).all()
    step(data)
    np.testing.assert_allclose(first.get_values()["mean"], data.mean(0), rtol=1e-5)


def test_gomlx_goes_through_the_data_twice_and_needs_some():
    x = mg.matrix("x", shape=(None, 4))
    y = gomlx.BatchNormalization().apply(x)
    with pytest.raises(TypeError, match="gone through twice"):
        gomlx.update_averages(y, iter([C]))
    with pytest.raises(ValueError, match="no minibatch"):
        gomlx.update_averages(y, [])
    assert gomlx.update_averages(y, [C]) is True


def test_gomlx_has_nothing_to_do_without_layers_or_data():
    x = mg.matrix("x", shape=(None, 4))
    layer = gomlx.BatchNormalization()
    y = layer.apply(x)
    assert gomlx.update_averages(x * 2, [C]) is False
    assert gomlx.update_averages(Linear(4, 3).apply(x), None) is False
    assert gomlx.update_averages(y, None) is False
    assert gomlx.update_averages(gomlx.BatchNormalization(trainable=False).apply(x), [C]) is False
    assert (layer.get_values()["mean"] == 0).all() and (layer.get_values()["avg_weight"] == 0).all()


def test_caffe_uses_global_statistics_as_told():
    x = mg.matrix("x", shape=(None, 4))
    cases = {None: (-1.22474430, 0.0), True: (0.0, 0.0), False: (-1.22474430, -1.22474430)}
    for use, (training, inference) in cases.items():
        layer = caffe.BatchNorm(use)
        y, z = trained(layer, x), layer.apply(x)
        assert mg.function([x], z[0, 0])(C) == pytest.approx(inference, rel=1e-6)
        assert mg.function([x], y[0, 0])(C) == pytest.approx(training, rel=1e-6)
        assert layer.get_values()["weight_sum"] == (0 if use else 1)


def test_caffe_scales_in_a_layer_of_its_own():
    x = mg.tensor4("x", shape=(None, 3, None, None))
    values = np.ones((2, 3, 2, 2), "float32")
    scale = caffe.Scale(filler=np.float32([1, 2, 3]))
    biased = caffe.Scale(bias_term=True, bias_filler=1.0)
    assert list(scale.apply(x).eval({x: values})[0, :, 0, 0]) == [1, 2, 3]
    assert list(biased.apply(x).eval({x: values})[0, :, 0, 0]) == [2, 2, 2]
    assert list(scale.variables) == ["scale"] and list(biased.variables) == ["scale", "bias"]
    with pytest.raises(ValueError, match="3 features on axis 1"):
        scale.apply(mg.tensor4("x", shape=(None, 5, None, None)))


def test_torch7_weights_start_between_zero_and_one():
    layer = torch.BatchNormalization(10_000, seed=1)
    layer.allocate()
    weight = layer.get_values()["weight"]
    assert 0 <= weight.min() < 0.01 and 0.99 < weight.max() <= 1 and weight.mean() == pytest.approx(0.5, abs=0.02)
    assert (layer.get_values()["bias"] == 0).all()


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        (torch.BatchNormalization, (2,)),
        (torch.SpatialBatchNormalization, (4,)),
        (torch.VolumetricBatchNormalization, (5,)),
        (torch.BatchNorm1d, (2, 3)),
        (torch.BatchNorm2d, (4,)),
        (torch.BatchNorm3d, (5,)),
    ],
)
def test_torch_modules_take_their_number_of_axes_alone(kind, ranks):
    for rank in range(2, 7):
        x = mg.tensor("x", shape=[None, 3] + [None] * (rank - 2))
        if rank in ranks:
            assert kind(3).apply(x).ndim == rank
        else:
            with pytest.raises(ValueError, match="axes"):
                kind(3).apply(x)
    with pytest.raises(ValueError, match="3"):
        kind(3).apply(mg.tensor("x", shape=[None, 4] + [None] * (ranks[0] - 2)))


def test_pytorch_refuses_one_value_a_channel():
    layer = torch.BatchNorm1d(4)
    with pytest.raises(ValueError, match="more than one value a channel"):
        trained(layer, mg.matrix("x", shape=(1, 4)))
    x = mg.matrix("x", shape=(None, 4))
    step = mg.function([x], trained(layer, x))
    before = layer.get_values()
    with pytest.raises(AssertionError, match="more than one value a channel"):
        step(C[:1])
    assert all((before[name] == value).all() for name, value in layer.get_values().items())
    layer.apply(x).eval({x: C[:1]})


@pytest.mark.parametrize("momentum", [0.1, None])
def test_pytorch_counts_the_minibatches_that_are_finite_throughout(momentum):
    """With momentum None the next one then weighs as if the other had not come, in all features."""
    layer = torch.BatchNorm1d(4, momentum=momentum)
    x = mg.matrix("x", shape=(None, 4))
    step = mg.function([x], trained(layer, x))
    poisoned = C.copy()
    poisoned[0, 1] = np.nan
    for batch in (C, poisoned, C):
        step(batch)
    assert layer.get_values()["num_batches_tracked"] == 2
    assert np.isfinite(layer.get_values()["running_mean"]).all()


def test_pytorch_untracked_modules_always_use_the_minibatch():
    layer = torch.BatchNorm1d(4, track_running_stats=False)
    x = mg.matrix("x", shape=(None, 4))
    for y in (layer.apply(x), trained(layer, x)):
        assert y.eval({x: C})[0, 0] == pytest.approx(-1.22474430, rel=1e-6)
    assert list(layer.get_values()) == ["weight", "bias"]
    assert get_batch_normalization_updates(trained(layer, x)) == []


def test_keras_layers_that_do_not_train_are_in_inference():
    layer = keras.BatchNormalization(trainable=False)
    x = mg.matrix("x", shape=(None, 4))
    graph = mg.ComputationGraph(trained(layer, x))
    assert graph.parameters == [] and graph.updates == []
    assert graph.outputs[0].eval({x: C})[0, 0] == 0


@pytest.mark.parametrize("kind", [lasagne.BatchNormLayer, keras.BatchNormalization, gomlx.BatchNormalization, caffe.BatchNorm])
def test_unknown_sizes_are_value_errors(kind):
    with pytest.raises(ValueError, match="how many features"):
        kind().apply(mg.matrix("x"))


def test_lasagne_needs_the_sizes_of_its_parameters():
    with pytest.raises(ValueError, match="sizes"):
        lasagne.BatchNormLayer((None, None))
    with pytest.raises(ValueError, match="auto"):
        lasagne.BatchNormLayer((None, 4), axes="features")


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.BatchNormalization(momentum=0.0),
        lambda: torch.BatchNorm1d(momentum=0.0),
        lambda: lasagne.BatchNormLayer(alpha=0),
        lambda: keras.BatchNormalization(momentum=1.0),
        lambda: onnx.BatchNormalization(momentum=1.0),
    ],
)
def test_averages_may_be_told_to_stay(make):
    layer = make()
    x = mg.matrix("x", shape=(None, 4))
    assert mg.function([x], trained(layer, x)[1, 1])(C) == pytest.approx(0, abs=1e-5)
    assert stored(layer) == ([0, 1, 1] if isinstance(layer, torch.BatchNorm1d) else [0, 1])


def test_pytorch_modules_may_have_weights_without_biases():
    layer = torch.BatchNorm1d(4, bias=False)
    layer.allocate()
    assert list(layer.get_values()) == ["weight", "running_mean", "running_var", "num_batches_tracked"]


# -- the page of the documentation -----------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "dialects.md").read_text()


def table(title):
    """The rows of the page's table whose second column has this title, by the first column."""
    lines = PAGE.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(f"| system | {title} |"))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    raise AssertionError("a table without end")


def numbers(text):
    """The numbers that a cell lists."""
    return [float(one) for one in text.split(",")]


def test_the_page_shows_the_numbers_of_the_table():
    rows = table("stored after one step")
    theano_row = rows.pop("Theano")
    assert numbers(theano_row[0]) == [0.4, 2.5] and numbers(theano_row[1]) == [-0.25297715]
    assert set(rows) == set(TABLE)
    for name, (first, inference, training) in rows.items():
        assert numbers(first) == pytest.approx(TABLE[name].first, rel=1e-8)
        assert [float(inference), float(training)] == pytest.approx([TABLE[name].inference, TABLE[name].training], rel=1e-8)


def test_the_page_says_what_conventions_and_layers_say():
    rows = table("layer")
    by_name = {one.name: one for one in CONVENTIONS if one is not TORCH7_VERSION_1}
    assert set(rows) == set(by_name)
    for name, (_, stored_arrays, epsilon, _, variance) in rows.items():
        convention = by_name[name]
        value, _, place = epsilon.partition(", ")
        assert float(value) == convention.epsilon
        assert (place == "added") == isinstance(convention.storage, Variance)
        assert (variance == "unbiased") == convention.storage.unbiased
        if name not in ("Blocks", "Theano", "Caffe"):
            assert all(array in stored_arrays for array in (convention.mean, convention.spread, convention.count or ""))
        if name in TABLE:
            assert TABLE[name].make().epsilon == convention.epsilon
