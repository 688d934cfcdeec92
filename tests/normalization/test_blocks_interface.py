"""What models written for Blocks expect of normalizations: arguments, context managers, indices, attributes."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import keras
from minigraph.layers import (
    BatchNormalization,
    BatchNormalizedMLP,
    Constant,
    Dropout,
    IsotropicGaussian,
    Linear,
    Sequence,
    Tanh,
    batch_normalization,
    is_in_training,
)
from minigraph.transforms import apply_population_normalization, get_batch_normalization_updates

C = np.arange(12, dtype="float32").reshape(3, 4)


def test_a_normalized_mlp_takes_the_arguments_of_an_mlp():
    plain = BatchNormalizedMLP([Tanh(), None], [4, 5, 3], weights_init=IsotropicGaussian(0.1), biases_init=Constant(0))
    plain.initialize()
    assert not any(name.endswith(".b") for name in plain.variables)
    biased = BatchNormalizedMLP([Tanh(), None], [4, 5, 3], use_bias=True, biases_init=2.0, name="net", seed=3, dtype="float64")
    biased.initialize()
    np.testing.assert_array_equal(biased.variables["linear_0.b"].get_value(), np.full(5, 2.0))


@pytest.mark.parametrize("top", [lambda inner: inner, lambda inner: Sequence([Linear(4, 4), inner])])
def test_a_layer_is_the_block_for_its_own_training_mode(top):
    layer = BatchNormalization(4)
    whole, other = top(layer), BatchNormalization(4)
    with whole as entered:
        assert entered is whole and is_in_training(layer) and not is_in_training(other)
        with pytest.raises(KeyError), other, whole:
            raise KeyError
        assert is_in_training(layer) and not is_in_training(other)
    assert not is_in_training(layer)


def test_the_block_of_a_layer_leaves_noise_alone():
    noise = Dropout(0.5)
    with Sequence([noise, BatchNormalization(4)]), Linear(4, 3):
        assert not is_in_training(noise)


def test_a_block_without_layers_changes_nothing():
    layer = BatchNormalization(4)
    with batch_normalization(layer), batch_normalization():
        assert is_in_training(layer)
    with batch_normalization():
        assert not is_in_training(layer)


def test_the_index_has_two_names_and_is_not_needed_where_there_is_one_population():
    x = mg.matrix("x", shape=(None, 4))
    layer = BatchNormalization(4, n_iter=2)
    layer.allocate()
    layer.population_mean.set_value(np.stack([np.zeros(4), np.ones(4)]).astype("float32"))
    for y in (layer.apply(x, i=1), layer.apply(x, index=1), layer.apply(x, 1)):
        np.testing.assert_array_equal(y.eval({x: C}), C - 1)
    with pytest.raises(ValueError, match="two names"):
        layer.apply(x, 1, i=1)
    for single in (BatchNormalization(4), BatchNormalization(4, n_iter=0)):
        assert single.n_iter is None
        np.testing.assert_array_equal(single.apply(x, i=5).eval({x: C}), C)
    with pytest.raises(TypeError, match="integer scalar"):
        BatchNormalization(4).apply(x, mg.matrix("mask"))


def test_training_needs_no_index_and_pairs_do():
    x = mg.matrix("x", shape=(None, 4))
    layer = BatchNormalization(4, n_iter=2)
    with layer:
        y, known = layer.apply(x), layer.apply(x, 1)
    np.testing.assert_array_equal(y.eval({x: C}), known.eval({x: C}))
    for use in (get_batch_normalization_updates, apply_population_normalization):
        assert use(known)
        with pytest.raises(ValueError, match="without an index"):
            use(y)
    with pytest.raises(ValueError, match="needs an index"):
        layer.apply(x)
    follows = keras.BatchNormalization(n_iter=2)
    with follows, pytest.raises(ValueError, match="needs an index"):
        follows.apply(x)


def test_without_an_index_the_steps_of_a_loop_are_counted(rng):
    x = mg.tensor3("x", shape=(None, None, 4))
    values = rng.normal(size=(5, 6, 4)).astype("float32")
    found = []
    for row in (lambda i: None, lambda i: i):
        layer = BatchNormalization(4, n_iter=3)

        def step(piece, i, state, row=row, layer=layer):
            return layer.apply(piece, row(i)) + state

        with layer:
            y = mg.scan(step, [x, mg.arange(x.shape[0])], mg.zeros_like(x[0]))
        found.append(mg.function([x], [new for _, new in get_batch_normalization_updates(y)])(values))
    for left_out, given in zip(*found, strict=True):
        np.testing.assert_array_equal(left_out, given)


def test_variables_are_attributes_of_the_layer():
    layer = BatchNormalization(4)
    with pytest.raises(AttributeError, match="not applied or allocated"):
        _ = layer.scale
    layer.allocate()
    for name in ("scale", "shift", "population_mean", "population_stdev"):
        assert getattr(layer, name) is layer.variables[name]
        with pytest.raises(AttributeError, match="set_value"):
            setattr(layer, name, 1.0)
    centered = BatchNormalization(4, mean_only=True)
    centered.allocate()
    with pytest.raises(AttributeError, match="without population_stdev"):
        _ = centered.population_stdev


def test_flags_are_checked():
    x = mg.matrix("x", shape=(None, 4))
    layer = BatchNormalization(4)
    with layer:
        both = [layer.apply(x), layer.apply(x + 1)]
    with pytest.raises(ValueError, match="allow_duplicates=True"):
        get_batch_normalization_updates(both)
    with pytest.raises(TypeError, match="allow_duplicates must be True or False"):
        get_batch_normalization_updates(both, allow_duplicates="no")
    with pytest.raises(TypeError, match="mean_only must be True or False"):
        BatchNormalization(4, None, True, 1e-4, None, None, 5)
