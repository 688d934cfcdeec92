"""Attributes of layers: what can be set has an effect on what is built from then on, anything else is refused."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from inspect import Parameter, signature

import numpy as np
import pytest

import minigraph as mg
from minigraph import layers
from minigraph.dialects import LASAGNE, caffe, from_list, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import (
    BatchNormalization,
    BatchNormalizedMLP,
    Freeze,
    Layer,
    Linear,
    Sequence,
    SimpleRecurrent,
    Tanh,
    application,
    batch_normalization,
    training,
)
from minigraph.printing import debugprint
from minigraph.transforms import get_batch_normalization_updates, recompute_population_statistics
from support.backends import on_each
from support.layer_table import RECORDS

OPTIONS = {
    layers.AveragePooling: {"pooling_size": 3, "padding": 1},
    layers.BatchNormalizedLSTM: {"dim": 2, "input_dim": 4},
    layers.BatchNormalizedMLP: {"activations": [None], "dims": [4, 2]},
    layers.Bidirectional: {"prototype": SimpleRecurrent(2, 4)},
    layers.Convolutional: {"filter_size": 2, "num_filters": 2},
    layers.ConvolutionalSequence: {"stages": [layers.GlobalAveragePooling()]},
    layers.ConvolutionalTranspose: {"filter_size": 2, "num_filters": 2},
    layers.GRU: {"dim": 2, "input_dim": 4},
    layers.GroupNormalization: {"groups": 2},
    layers.LSTM: {"dim": 2, "input_dim": 4},
    layers.Linear: {"output_dim": 3},
    layers.MLP: {"activations": [None], "dims": [4, 2]},
    layers.MaxPooling: {"pooling_size": 2},
    layers.PopulationNormalization: {},
    layers.RecurrentStack: {"transitions": [SimpleRecurrent(2, 4)]},
    layers.Sequence: {"stages": [Tanh()]},
    layers.SimpleRecurrent: {"dim": 2, "input_dim": 4},
    layers.WeightNormalizedLinear: {"output_dim": 3},
    puzzlelib.BatchNorm: {"size": 4},
    puzzlelib.BatchNorm1D: {"maps": 4},
    puzzlelib.BatchNorm2D: {"maps": 4},
    puzzlelib.BatchNorm3D: {"maps": 4},
    puzzlelib.BatchNormND: {"nd": 1, "maps": 4},
}
"""What layers cannot do without."""

ANOTHER = {
    **dict.fromkeys(("epsilon", "eps", "leak", "alpha", "momentum", "moving_average_fraction", "drop_prob", "minFactor"), 0.25),
    **dict.fromkeys(("initFactor", "sscale", "forget_bias", "r_max", "d_max"), 1.5),
    **dict.fromkeys(("virtual_batch_size", "n_iter", "dilation", "groups", "output_padding", "padding"), 3),
    **dict.fromkeys(("input_dim", "output_dim", "dim", "features", "nOutput", "num_features", "maps", "size", "channels"), 7),
    **dict.fromkeys(("num_channels", "num_filters", "filter_size", "pooling_size", "image_size", "nd", "seed"), 7),
    **dict.fromkeys(("weights_init", "biases_init", "scale_init", "shift_init", "initial_state_init", "filler"), 0.5),
    **dict.fromkeys(("input_weights_init", "peepholes_init", "bias_filler", "beta", "gamma", "mean", "inv_std"), 0.5),
    **dict.fromkeys(("beta_initializer", "gamma_initializer"), 0.5),
    **dict.fromkeys(("moving_mean_initializer", "moving_variance_initializer"), 0.5),
    **dict.fromkeys(
        ("mean_only", "use_global_stats", "empty", "inplace", "frozen_averages", "bias_term", "peepholes", "flip_filters"), True
    ),
    **dict.fromkeys(("skip_connections",), True),
    **dict.fromkeys(("conserve_memory", "learn_scale", "learn_shift", "automatic", "use_bias", "center", "scale"), False),
    **dict.fromkeys(("tied_biases", "ignore_border", "include_padding", "affine", "bias", "trainable"), False),
    **dict.fromkeys(("track_running_stats",), False),
    **dict.fromkeys(("axis", "axes", "feature_axis", "kept_axes", "feature_axes"), (0,)),
    **dict.fromkeys(("ranks", "broadcastable", "dims", "incoming"), (3, 4)),
    **dict.fromkeys(("activation", "gate_activation"), layers.Rectifier()),
    "step": 4,
    "mode": "high_mem",
    "stages": [Tanh()],
    "transitions": [Tanh()],
    "activations": [Tanh()],
    "axis_names": ("batch", "feature"),
    "prototype": SimpleRecurrent(2, 4),
    "border_mode": "full",
    "convention": LASAGNE,
    "population_init": {},
    "freeze": Freeze.EVERYTHING,
    "all_reduce": abs,
    "stream": mg.random.RandomStream(7),
    "layout": "NHWC",
    "dtype": "float64",
    "name": "another",
    "children": [Tanh()],
}
"""For each argument of a constructor a value that layers do not have from the start."""

RESERVED = dict.fromkeys((keras.BatchNormalization, gomlx.BatchNormalization), ("freeze",))
"""What can be set, but is no argument, since another one stands for it."""

WITHOUT_EFFECT = {"name", "children", "conserve_memory", "num_channels", "image_size"}
"""What changes no graph: names, the layers below, what only `allocate` reads, and what is there for the sake of old models."""


def arguments(kind):
    """The names of all arguments of a layer's constructor, those of the classes above included."""
    found = {}
    for one in kind.__mro__:
        if "__init__" in vars(one) and one is not object:
            named = [each for each in signature(one.__init__).parameters.values() if each.kind is not Parameter.VAR_KEYWORD]
            found.update(dict.fromkeys(each.name for each in named[1:]))
    return list(found)


def made(kind, **options):
    """A layer of a class; layers that are among the options are copied."""
    return kind(**copy.deepcopy(OPTIONS.get(kind, {}) | options))


def built(layer, shape):
    """What a layer builds in inference and in training, as text."""
    x = mg.tensor("x", shape=shape)
    outputs = [layer.apply(x)]
    with training(layer):
        outputs.append(layer.apply(x))
    flat = [one for each in outputs for one in (each if isinstance(each, list) else [each])]
    return re.sub(r"draw=\d+", "", debugprint(flat))  # every application of one stream draws numbers of its own


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
def test_arguments_that_are_set_later_have_an_effect_or_are_refused(kind):
    shape = RECORDS[kind][0][1]
    layer = made(kind)
    before = built(layer, shape)
    for name in arguments(kind):
        value = ANOTHER[name]
        if isinstance(value, bool) and getattr(layer, name, None) is value:
            value = not value
        if getattr(layer, name, None) is value:
            continue
        try:
            setattr(layer, name, value)
        except (AttributeError, TypeError, ValueError):
            continue
        if name not in WITHOUT_EFFECT:
            own = "eps" if name == "epsilon" and "eps" in arguments(kind) else name
            accepted = own in signature(kind.__init__).parameters or own not in RESERVED.get(kind, ())
            assert_same_meaning(layer, made(kind, **{own: value}) if accepted else layer, before, name, shape)
        layer = made(kind)
        built(layer, shape)
    assert built(layer, shape) == before


NONSENSE = ("nonsense", -1.5, object(), [object()], {"a": 1}, np.array([1, 2]), (), [None])


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
def test_nonsense_is_refused_by_constructors_or_by_applications(kind):
    """Whatever an argument is given, Python errors of what happens to meet it are no answer."""
    for name in arguments(kind):
        for value in NONSENSE:
            try:
                built(made(kind, **{name: value}), RECORDS[kind][0][1])
            except mg.errors.MinigraphError as error:
                assert "object at 0x" not in str(error).replace(repr(value), ""), f"{name}={value!r}"
                assert "cannot take what it was given" not in str(error), f"{name}={value!r}"
            except Exception as error:
                raise AssertionError(f"{name}={value!r}: {type(error).__name__}: {error}") from error


def flags(kind):
    """The arguments of a layer's constructor that are True or False, and perhaps None."""
    owners = [one for one in kind.__mro__ if "__init__" in vars(one) and one is not object]
    given = [each for one in owners for each in signature(one.__init__).parameters.values()]
    return list(
        dict.fromkeys(each.name for each in given if isinstance(each.default, bool) or each.annotation == "bool | None")
    )


@pytest.mark.parametrize("kind", RECORDS, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
def test_flags_are_true_or_false(kind):
    for name in flags(kind):
        for value in ("no", 1, np.array([True, False]), mg.scalar("x", dtype="bool")):
            with pytest.raises(TypeError, match=rf"{name} must be True or False, not|{kind.__name__} has .*, not {name}"):
                made(kind, **{name: value})
        layer = made(kind)
        if isinstance(getattr(layer, name, None), bool):
            with pytest.raises((TypeError, ValueError), match=name):
                setattr(layer, name, "no")


def test_flags_of_applications_and_transforms_are_true_or_false():
    x, steps = mg.matrix("x", shape=(None, 4)), mg.tensor3("steps", shape=(None, None, 4))
    layer, lstm = lasagne.BatchNormLayer((None, 4)), layers.LSTM(2, 4)
    with batch_normalization(layer):
        y = layer.apply(x)
    calls = {
        "allow_nonfinite": lambda **flags: get_batch_normalization_updates(y, **flags),
        "layer_by_layer": lambda **flags: recompute_population_statistics(y, [np.zeros((2, 4), "float32")], **flags),
        "progress": lambda **flags: recompute_population_statistics(y, [np.zeros((2, 4), "float32")], **flags),
        "deterministic": lambda **flags: layer.get_output_for(x, **flags),
        "batch_norm_use_averages": lambda **flags: layer.get_output_for(x, **flags),
        "batch_norm_update_averages": lambda **flags: layer.get_output_for(x, **flags),
        "iterate": lambda **flags: lstm.apply(steps, **flags),
        "reverse": lambda **flags: lstm.apply(steps, **flags),
        "return_sequences": lambda **flags: lstm.apply(steps, **flags),
        "return_initial_states": lambda **flags: lstm.apply(steps, **flags),
        "scale": lambda **flags: from_list([np.ones(2)] * 4, LASAGNE, **flags),
        "shift": lambda **flags: from_list([np.ones(2)] * 4, LASAGNE, **flags),
    }
    for name, call in calls.items():
        for value in ("no", 1, np.array([True, False])):
            with pytest.raises(TypeError, match=f"{name} must be True or False, not"):
                call(**{name: value})
            if name in ("iterate", "reverse", "return_sequences"):
                with pytest.raises(TypeError, match=f"{name} must be True or False, not"):
                    layers.RecurrentStack([layers.LSTM(2, 4)]).apply(steps, **{name: value})
    with pytest.raises(TypeError, match=r"broadcastable, .* must be True or False, not 'no'"):
        BatchNormalization((3, 4), broadcastable=("no", True))


TAKEN = [
    (torch.BatchNorm1d, (3,), "epsilon", "BatchNorm1d has eps, not epsilon"),
    (torch.BatchNorm2d, (3,), "features", "BatchNorm2d has num_features, not features"),
    (torch.BatchNorm1d, (3,), "ranks", "BatchNorm1d has num_features, .*, not ranks"),
    (torch.BatchNorm1d, (3,), "convention", "not convention"),
    (torch.BatchNormalization, (3,), "scale_init", "BatchNormalization has .*, not scale_init"),
    (torch.BatchNormalization, (3,), "features", "not features"),
    (keras.BatchNormalization, (), "kept_axes", "BatchNormalization has axis, .*, not kept_axes"),
    (keras.BatchNormalization, (), "scale_init", "BatchNormalization has scale, not scale_init"),
    (gomlx.BatchNormalization, (), "freeze", "BatchNormalization has .*frozen_averages.*, not freeze"),
    (torch.BatchNorm1d, (3,), "learn_scale", "BatchNorm1d has num_features, eps, .*, bias, not learn_scale"),
    (lasagne.BatchNormLayer, (), "learn_scale", "BatchNormLayer has .*, not learn_scale"),
    (layers.MLP, ([None], [3, 2]), "stages", "MLP has .*, not stages"),
    (layers.MLP, ([None], [3, 2]), "children", "MLP has .*, not children"),
    (layers.LSTM, (3,), "children", "LSTM has .*, not children"),
]


@pytest.mark.parametrize(("kind", "needed", "name", "message"), TAKEN)
def test_arguments_that_a_class_gives_to_the_one_above_are_none_of_its_own(kind, needed, name, message):
    with pytest.raises(TypeError, match=message) as raised:
        kind(*needed, **{name: None})
    assert "__init__" not in str(raised.value)


def test_an_argument_that_is_given_twice_is_named():
    with pytest.raises(TypeError, match="multiple values for argument 'input_dim'"):
        Linear(3, input_dim=3)


SIZES = [
    (lambda: torch.BatchNorm1d(()), "features"),
    (lambda: keras.BatchNormalization(features=(3, 4)).apply(mg.matrix("x", shape=(None, 3))), "keeps 1 axes"),
    (lambda: layers.Convolutional(3, [4, 5]), "num_filters must be an int"),
    (lambda: layers.Convolutional((3, 3), ()), "num_filters must be an int"),
    (lambda: caffe.Scale(features=[]), "features must be an int"),
    (lambda: puzzlelib.BatchNorm1D([3, 4]), "maps must be an int"),
    (lambda: BatchNormalization([[3, 4], 5]), "input_dim must be an int"),
    (lambda: BatchNormalization(3, feature_axes=[()]), "feature_axes must be an int"),
]


@pytest.mark.parametrize(("make", "message"), SIZES)
def test_sizes_that_are_none_are_refused_by_name(make, message):
    with pytest.raises((TypeError, ValueError), match=message) as raised:
        make()
    assert "cannot take what it was given" not in str(raised.value)


def assert_same_meaning(layer, other, before, name, shape):
    """What a layer builds has changed, to what another one builds that was made like this; or neither can build."""
    try:
        after = built(layer, shape)
    except (TypeError, ValueError):
        with pytest.raises((TypeError, ValueError)):
            built(other, shape)
        return
    assert after != before, f"{name} was set in vain"
    assert after == built(other, shape), f"{name} has another meaning when it is set later"


UNKNOWN = [
    (BatchNormalization, "epsilom", "epsilon"),
    (BatchNormalization, "learnscale", "learn_scale"),
    (keras.BatchNormalization, "trainabel", "trainable"),
    (keras.BatchNormalization, "training", "trainable"),
    (lambda: BatchNormalizedMLP([None], [4, 2]), "conserve_memmory", "conserve_memory"),
    (lambda: Linear(2, 3), "use_biases", "use_bias"),
    (lambda: Sequence([Tanh()]), "stage", "stages"),
]


@pytest.mark.parametrize(("make", "name", "nearest"), UNKNOWN)
def test_unknown_attributes_are_refused_and_the_nearest_is_named(make, name, nearest):
    layer = make()
    for one in (layer, copy.deepcopy(layer)):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'; the nearest of its own is '{nearest}'"):
            setattr(one, name, False)
        assert not hasattr(one, name)
        one._note = 3
        assert one._note == 3


def test_layers_of_ones_own_have_attributes_of_their_own():
    class Scaled(Layer):
        """x times a number that may be chosen late."""

        factor = 2.0

        def __init__(self, power=1, **options):
            self.early = power  # before the layer is one
            super().__init__(**options)
            self.power = power

        def allocate_parameters(self):
            self.shift = self.add_parameter("shift", (), layers.Constant(1.0), layers.roles.PARAMETER)

        @application
        def apply(self, x):
            """A polynomial."""
            return self.factor * x**self.power + self.shift

    class Twice(Scaled):
        """The same with a constructor above."""

        def __init__(self, **options):
            super().__init__(**options)
            self.late = 1

    layer = Twice(power=2)
    x = mg.vector("x")
    assert layer.apply(x).eval({x: [3.0]}) == 19
    layer.factor, layer.power, layer.late = 1.0, 3, 2
    assert layer.apply(x).eval({x: [3.0]}) == 28
    with pytest.raises(AttributeError, match="'power'"):
        layer.powers = 3


def test_layers_may_be_abstract():
    class Abstract(Layer, ABC):
        """A layer without apply."""

        @abstractmethod
        def apply(self, x):
            """Nothing yet."""

    with pytest.raises(TypeError, match="abstract"):
        Abstract()


@on_each
@pytest.mark.parametrize("make", [keras.BatchNormalization, lambda **options: gomlx.BatchNormalization(**options)])
def test_trainable_is_what_the_constructor_means_by_it(make, backend):
    x = mg.matrix("x", shape=(None, 1))
    layer = make()
    assert layer.trainable
    layer.trainable = False
    with batch_normalization(layer):
        y = layer.apply(x)
    assert mg.function([x], y, backend=backend)([[0.0], [2.0]]) == pytest.approx(np.float32([[0], [2]]), rel=1e-3)
    assert layer.get_values()[layer.convention.mean] == 0 and mg.ComputationGraph(y).parameters == []
    assert layer.parameters == []
    layer.trainable = True
    with batch_normalization(layer):
        y = layer.apply(x)
    assert mg.function([x], y, backend=backend)([[0.0], [2.0]]) == pytest.approx(np.float32([[-1], [1]]), rel=1e-2)
    assert layer.get_values()[layer.convention.mean] != 0 and len(layer.parameters) == 2
    assert not make(trainable=False).trainable
    for wrong in (0, "no", None):
        with pytest.raises(TypeError, match="True or False"):
            layer.trainable = wrong


def test_trainable_brings_back_what_was_frozen_before():
    layer = gomlx.BatchNormalization(frozen_averages=True, trainable=False)
    assert layer.freeze is Freeze.EVERYTHING
    layer.trainable = True
    assert layer.freeze is Freeze.STATISTICS
    layer.trainable = layer.trainable
    layer.freeze = Freeze.AVERAGES
    layer.trainable = False
    layer.trainable = True
    assert layer.freeze is Freeze.AVERAGES


def test_conserve_memory_reaches_all_normalizations():
    mlp = BatchNormalizedMLP([Tanh(), None], [4, 3, 2])
    assert mlp.conserve_memory
    mlp.conserve_memory = False
    assert [one.conserve_memory for one in mlp.children if isinstance(one, BatchNormalization)] == [False, False]
    assert not mlp.conserve_memory
    assert not BatchNormalizedMLP([None], [4, 2], conserve_memory=False).conserve_memory


MOMENTA = {
    "torch7": (lambda value: torch.BatchNormalization(momentum=value), "momentum"),
    "pytorch": (lambda value: torch.BatchNorm1d(momentum=value), "momentum"),
    "keras": (lambda value: keras.BatchNormalization(momentum=value), "momentum"),
    "gomlx": (lambda value: gomlx.BatchNormalization(momentum=value), "momentum"),
    "onnx": (lambda value: onnx.BatchNormalization(momentum=value), "momentum"),
    "lasagne": (lambda value: lasagne.BatchNormLayer(alpha=value), "alpha"),
    "caffe": (lambda value: caffe.BatchNorm(moving_average_fraction=value), "moving_average_fraction"),
    "puzzlelib": (lambda value: puzzlelib.BatchNorm(2, minFactor=value), "minFactor"),
}


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, float("inf"), np.float32(-1), "0.1", True, 1j, np.ones(2)])
@pytest.mark.parametrize("name", MOMENTA)
def test_weights_of_averages_are_between_0_and_1(name, value):
    make, attribute = MOMENTA[name]
    with pytest.raises((ValueError, TypeError), match=attribute):
        make(value)
    layer = make(0.5)
    with pytest.raises((ValueError, TypeError), match=attribute):
        setattr(layer, attribute, value)
    assert getattr(layer, attribute) == 0.5


def test_weights_of_averages_may_be_scalar_variables():
    weight = mg.shared(np.float32(0.5), "weight")
    layer = torch.BatchNormalization(2, momentum=weight)
    x = mg.matrix("x", shape=(None, 2))
    with batch_normalization(layer):
        step = mg.function([x], layer.apply(x))
    step([[0, 1], [4, 3]])
    assert list(layer.get_values()["running_mean"]) == [1, 1]
    for wrong in (mg.vector("w"), mg.scalar("w", dtype="int64")):
        with pytest.raises(TypeError, match="momentum"):
            layer.momentum = wrong


@pytest.mark.parametrize("value", [float("nan"), -1.0, "1"])
def test_other_settings_are_checked_whenever_they_are_set(value):
    for layer, name in (
        (BatchNormalization(), "epsilon"),
        (layers.LayerNormalization(), "epsilon"),
        (layers.Dropout(), "drop_prob"),
    ):
        before = getattr(layer, name)
        with pytest.raises(ValueError, match=name):
            setattr(layer, name, value)
        assert getattr(layer, name) == before
    with pytest.raises(TypeError, match="Freeze"):
        BatchNormalization().freeze = value
