"""One element says nothing about a spread: it counts for means alone, or is refused where the original system refuses it."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, theano, torch
from minigraph.layers import BatchNormalization, SpatialBatchNormalization
from minigraph.transforms import (
    Duplicates,
    cumulative_average,
    get_batch_normalization_updates,
    moving_average,
    overwrite,
    recompute_population_statistics,
)
from support.backends import on_each
from support.layers import trained

LAYERS = {
    "torch7": lambda: torch.BatchNormalization(2),
    "puzzlelib": lambda: puzzlelib.BatchNorm(2),
    "gomlx": gomlx.BatchNormalization,
    "keras": keras.BatchNormalization,
    "lasagne": lasagne.BatchNormLayer,
    "onnx": onnx.BatchNormalization,
    "blocks": BatchNormalization,
    "blocks, ghosts": lambda: BatchNormalization(virtual_batch_size=2),
    "torch7, ghosts": lambda: torch.BatchNormalization(2, virtual_batch_size=1),
}
ROW, BATCH = np.float32([[3.0, -5.0]]), np.float32([[0, 1], [2, 5], [4, 0]])


def stepping(layer, backend="numpy", rule=overwrite, **options):
    """A function that makes a training step."""
    x = mg.matrix("x", shape=(None, 2))
    y = trained(layer, x, **options)
    own = rule(get_batch_normalization_updates(y)) if isinstance(layer, BatchNormalization) else ()
    return mg.function([x], y, updates=own, backend=backend)


def spread(layer):
    """What a layer stores of the spread."""
    return layer.variables[layer.convention.spread].get_value()


def mean(layer):
    """What a layer stores of the mean."""
    return layer.variables[layer.convention.mean].get_value()


@on_each
@pytest.mark.parametrize("name", LAYERS)
def test_a_row_alone_moves_the_mean_and_no_spread(name, backend):
    layer = LAYERS[name]()
    step = stepping(layer, backend)
    assert (step(ROW) == layer.variables[layer.convention.shift].get_value()).all()
    assert (spread(layer) == 1).all()
    assert (mean(layer).ravel() != 0).all()
    step(BATCH)
    after = spread(layer)
    assert (after != 1).all()
    step(ROW)
    np.testing.assert_array_equal(spread(layer), after)


@pytest.mark.parametrize("name", ["puzzlelib", "gomlx"])
def test_systems_that_count_minibatches_do_not_count_it(name):
    layer, other = LAYERS[name](), LAYERS[name]()
    step = stepping(layer)
    step(ROW)
    step(BATCH)
    stepping(other)(BATCH)
    for ours, theirs in zip(layer.population_statistics, other.population_statistics, strict=True):
        np.testing.assert_array_equal(ours.get_value(), theirs.get_value())


def test_caffes_sums_have_one_weight_and_leave_it_out():
    layer = caffe.BatchNorm()
    step = stepping(layer)
    step(ROW)
    assert all((one.get_value() == 0).all() for one in layer.population_statistics)
    step(BATCH)
    before = layer.get_values()
    step(ROW)
    assert all((value == before[name]).all() for name, value in layer.get_values().items())


@pytest.mark.parametrize("options", [{}, {"virtual_batch_size": 3}])
def test_pytorch_refuses_one_value_a_channel(options):
    layer = torch.BatchNorm1d(2, **options)
    step = stepping(layer)
    before = layer.get_values()
    for values in (ROW, np.zeros((0, 2), "float32"), *([np.ones((4, 2), "float32")] if options else [])):
        with pytest.raises(AssertionError, match="more than one value"):
            step(values)
        assert all((value == before[name]).all() for name, value in layer.get_values().items())
    step(BATCH)
    with pytest.raises(ValueError, match="more than one value"):
        trained(torch.BatchNorm1d(2, **options), mg.matrix("x", shape=(4 if options else 1, 2)))


def test_pytorch_counts_the_values_of_all_processes():
    layer = torch.BatchNorm1d(2, all_reduce=lambda array: array * 2)
    assert np.isfinite(stepping(layer)(ROW)).all()


@pytest.mark.parametrize("rule", [overwrite, moving_average, cumulative_average])
@pytest.mark.parametrize("nonfinite", [False, True])
def test_rules_over_pairs_leave_the_spread_alone(rule, nonfinite):
    layer = BatchNormalization(2)
    x = mg.matrix("x")
    y = trained(layer, x)
    pairs = get_batch_normalization_updates(y, allow_nonfinite=nonfinite)
    step = mg.function([x], y, updates=rule(pairs), backend="numpy")
    step(ROW)
    assert (spread(layer) == 1).all() and (mean(layer) != 0).all()
    step(BATCH)
    assert (spread(layer) != 1).all()


def test_one_place_of_one_sample_is_one_element_but_several_places_are_not():
    for size, moved in ((1, False), (2, True)):
        layer = SpatialBatchNormalization()
        x = mg.tensor3("x", shape=(None, 2, None))
        y = trained(layer, x)
        mg.function([x], y, updates=get_batch_normalization_updates(y))(
            np.arange(2.0 * size, dtype="float32").reshape(1, 2, size)
        )
        assert (spread(layer) != 1).all() == moved


def test_features_that_a_mask_leaves_one_element_of():
    layer = torch.BatchNormalization(2)
    step = stepping(layer, mask=np.array([[1, 1], [0, 1], [0, 1]]))
    step(BATCH)
    assert spread(layer)[0] == 1 and spread(layer)[1] != 1


def test_weights_of_several_elements_may_add_up_to_one():
    layer = BatchNormalization(2)
    step = stepping(layer, mask=np.full(3, 1 / 3, "float32"))
    step(BATCH)
    np.testing.assert_allclose(spread(layer), np.sqrt(BATCH.var(0) + 1e-4), rtol=1e-5)


def test_rows_one_by_one_still_make_up_a_data_set(rng):
    data = rng.normal(3, 2, (7, 2)).astype("float32")
    layer = BatchNormalization(2)
    recompute_population_statistics(layer.apply(mg.matrix("x", shape=(None, 2))), [data[k : k + 1] for k in range(7)])
    np.testing.assert_allclose(spread(layer), np.sqrt(data.var(0) + 1e-4), rtol=1e-5)
    np.testing.assert_allclose(mean(layer), data.mean(0), rtol=1e-5)


def test_the_last_ghost_batch_counts_for_the_whole(rng):
    data = rng.normal(3, 2, (7, 2)).astype("float32")
    layer = BatchNormalization(2, virtual_batch_size=3)
    stepping(layer)(data)
    np.testing.assert_allclose(spread(layer), np.sqrt(data.var(0) + 1e-4), rtol=1e-5)


@pytest.mark.parametrize("duplicates", [Duplicates.MEAN, Duplicates.SEQUENTIAL, Duplicates.POOLED])
def test_a_row_beside_a_minibatch(duplicates):
    layer = BatchNormalization(2)
    x, z = mg.matrix("x", shape=(None, 2)), mg.matrix("z", shape=(None, 2))
    both = [trained(layer, x), trained(layer, z)]
    updates = overwrite(get_batch_normalization_updates(both, duplicates=duplicates))
    mg.function([x, z], both, updates=updates, backend="numpy")(BATCH, ROW)
    together = np.concatenate([BATCH, ROW]) if duplicates is Duplicates.POOLED else BATCH
    np.testing.assert_allclose(spread(layer), np.sqrt(together.var(0) + 1e-4), rtol=1e-5)


def test_theanos_function_keeps_the_variance():
    x, old = mg.matrix("x", shape=(None, 2)), [mg.shared(np.zeros(2, "float32")), mg.shared(np.ones(2, "float32"))]
    parameters = np.ones(2, "float32"), np.zeros(2, "float32")
    *_, new_mean, new_var = theano.batch_normalization_train(x, *parameters, "per-activation", 1e-4, 0.1, *old)
    found = mg.function([x], [new_mean, new_var])(ROW)
    np.testing.assert_allclose(found[0], 0.1 * ROW[0], rtol=1e-6)
    np.testing.assert_array_equal(found[1], 1)


@pytest.mark.parametrize("momentum", [0.1, 0.0, None])
@pytest.mark.parametrize(("mask", "counted"), [([[1, 0], [0, 0]], 0), ([[0, 0], [0, 0]], 0), ([[1, 0], [1, 0]], 1)])
def test_pytorch_counts_no_masked_minibatch_without_a_spread(momentum, mask, counted):
    """One element, or none, is no minibatch for `num_batches_tracked`, whatever the average; the variance stays."""
    layer = torch.BatchNorm1d(2, momentum=momentum)
    x, m = mg.tensor3("x", shape=(None, 2, None)), mg.matrix("m")
    with mg.training_mode(layer):
        step = mg.function([x, m], layer.apply(x, mask=m))
    step(np.arange(8, dtype="float32").reshape(2, 2, 2) ** 2, np.float32(mask))
    state = layer.variables
    assert state["num_batches_tracked"].get_value() == counted
    assert (state["running_var"].get_value() != 1).all() == (counted == 1 and momentum != 0.0)
