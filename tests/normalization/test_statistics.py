"""Which elements statistics are taken of: masks, rows, ghost batches, shards, accumulated minibatches, whole data sets."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, lasagne, puzzlelib, torch
from minigraph.layers import BatchNormalization, batch_normalization
from minigraph.transforms import (
    Duplicates,
    apply_batch_normalization,
    apply_population_normalization,
    cumulative_average,
    get_batch_normalization_updates,
    moving_average,
)
from support.backends import on_each
from support.layers import normalized, populations, trained

# -- masks -----------------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("padding", [0.0, 1e6, np.nan, np.inf])
def test_masked_elements_count_for_nothing_whatever_they_are(backend, padding, rng):
    values = rng.normal(5, 3, (6, 4, 3)).astype("float32")
    mask = rng.random((6, 4)) < 0.7
    padded = np.where(mask[..., None], values, padding).astype("float32")
    x, m = mg.tensor3("x", shape=(None, None, 3)), mg.tensor("m", dtype="bool", shape=(None, None))
    layer = BatchNormalization(feature_axes=2)
    y = trained(layer, x, mask=m)
    dy = rng.normal(size=values.shape).astype("float32")
    step = mg.function([x, m], [y, mg.vjp(y, x, dy)], updates=get_batch_normalization_updates(y), backend=backend)
    output, gradient = step(padded, mask)
    expected, mean, stdev = normalized(values[mask], 0)
    np.testing.assert_allclose(output[mask], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(output[~mask], 0)
    np.testing.assert_array_equal(gradient[~mask], 0)
    seen = dy[mask].astype("float64")
    slope = (seen - seen.mean(0) - expected * (seen * expected).mean(0)) / stdev
    np.testing.assert_allclose(gradient[mask], slope, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(populations(layer), (mean, stdev), strict=True):
        np.testing.assert_allclose(ours.ravel(), theirs.ravel(), rtol=1e-5)


@pytest.mark.parametrize("results", [(0,), (1,), (2,), (0, 1, 2)])
def test_gradients_of_both_orders_through_masked_statistics(results, rng):
    mask = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 1]], "float64")[..., None]

    def build(x):
        parts = mg.standardize(x, (0, 1), epsilon=1e-3, mask=mask)
        return sum(((parts[k] * (k + 1)) ** 2 * (parts[k] + 1)).sum() for k in results)

    mg.testing.verify_grad(build, [rng.normal(size=(4, 3, 2))], order=2, rtol=1e-4, atol=1e-6)


def test_gradients_of_both_orders_through_masked_centering(rng):
    mask = np.array([1, 0, 1, 1, 1])[:, None]

    def build(x):
        centered, mean = mg.center(x, 0, mask=mask)
        return (centered**3).sum() + (mean**3).sum()

    mg.testing.verify_grad(build, [rng.normal(size=(5, 2))], order=2, rtol=1e-4, atol=1e-6)


def test_lengths_mask_the_rest_of_each_row(rng):
    values = rng.normal(2, 3, (3, 5, 2)).astype("float32")
    lengths = np.array([5, 2, 0])
    mask = np.arange(5) < lengths[:, None]
    x, n = mg.tensor3("x", shape=(None, None, 2)), mg.lvector("n")
    by_length, by_mask = BatchNormalization(feature_axes=-1), BatchNormalization(feature_axes=-1)
    y, z = trained(by_length, x, lengths=n), trained(by_mask, x, mask=mask)
    np.testing.assert_array_equal(y.eval({x: values, n: lengths}), z.eval({x: values}))
    inference = by_length.apply(x, lengths=n).eval({x: values, n: lengths})
    np.testing.assert_array_equal(inference, np.where(mask[..., None], values, 0))


def test_a_batch_that_is_masked_throughout_leaves_the_population_as_it_was():
    layer = BatchNormalization(3)
    x, m = mg.matrix("x"), mg.vector("m")
    y = trained(layer, x, mask=m)
    step = mg.function([x, m], [y, mg.grad((y**2).sum(), x)], updates=get_batch_normalization_updates(y))
    output, gradient = step(np.ones((4, 3), "float32"), np.zeros(4, "float32"))
    assert (output == 0).all() and (gradient == 0).all()
    assert [list(one) for one in populations(layer)] == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    "make", [lambda: keras.BatchNormalization(-1), lambda: torch.BatchNorm1d(3), lambda: gomlx.BatchNormalization(1)]
)
def test_dialects_honour_masks_too(make, rng):
    values, mask = rng.normal(5, 3, (8, 3)).astype("float32"), np.arange(8) < 5
    layer = make()
    x = mg.matrix("x", shape=(None, 3))
    y = trained(layer, x, mask=mask)
    mg.function([x], y, updates=get_batch_normalization_updates(y), no_default_updates=True)(values)
    assert populations(layer)[0] == pytest.approx(values[:5].mean(0), rel=1e-5)
    ddof = 1 if isinstance(layer, torch.BatchNorm1d) else 0
    assert populations(layer)[1] == pytest.approx(values[:5].var(0, ddof=ddof), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": np.ones((2, 3, 4, 5))}, ValueError, "more axes"),
        ({"mask": np.ones(2), "lengths": np.ones(2, "int64")}, ValueError, "not both"),
        ({"lengths": np.ones(2)}, TypeError, "integer for each row"),
        ({"index": 1.0}, TypeError, "integer scalar"),
        ({"freeze": 2}, TypeError, "Freeze"),
        ({"freeze": mg.vector("flag")}, TypeError, "integer scalar"),
    ],
)
def test_options_that_do_not_fit_are_errors(options, error, message):
    with pytest.raises(error, match=message):
        BatchNormalization(3).apply(mg.matrix("x", shape=(None, 3)), **options)


def test_options_may_come_before_the_input():
    layer = BatchNormalization()
    x, m = mg.tensor3("x", shape=(None, 7, 6)), mg.matrix("m", shape=(None, 7))
    layer.apply(mask=m, x=x)
    assert layer.input_dim == (7, 6)


def test_a_mask_may_come_from_another_normalization():
    first, second = BatchNormalization(3), BatchNormalization(3)
    x = mg.matrix("x")
    inference = second.apply(x * 2, mask=mg.gt(first.apply(x), 0))
    with batch_normalization(first, second):
        built = second.apply(x * 2, mask=mg.gt(first.apply(x), 0))
    assert str(apply_batch_normalization(inference)) == mg.debugprint(built)


def test_keeping_all_axes_leaves_nothing_to_average():
    with pytest.raises(ValueError, match="keeps all axes"):
        keras.BatchNormalization(axis=(0, 1)).apply(mg.matrix("x", shape=(5, 3)))


# -- rows: time steps and domains ------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("rule", [list, moving_average, cumulative_average])
def test_an_index_moves_its_row_alone(rule, backend, rng):
    layer = BatchNormalization(2, n_iter=3)
    x, i = mg.matrix("x"), mg.lscalar("i")
    y = trained(layer, x, i)
    step = mg.function([x, i], [], updates=rule(get_batch_normalization_updates(y)), backend=backend)
    other = BatchNormalization(2)
    alone = mg.function([x], [], updates=rule(get_batch_normalization_updates(trained(other, x))), backend=backend)
    for number, row in ((1, 1), (-2, 1), (1, 1)):
        values = rng.normal(4, 2, (5, 2)).astype("float32")
        step(values, number)
        alone(values)
        for rows, single in zip(populations(layer), populations(other), strict=True):
            np.testing.assert_allclose(rows[row], single, rtol=1e-6)
    step(values, 7)
    mean, stdev = populations(layer)
    assert (mean[0] == 0).all() and (stdev[0] == 1).all() and (mean[2] != 0).all()


@pytest.mark.parametrize(("index", "row"), [(0, 0), (2, 2), (-1, 2), (-3, 0), (3, 2), (99, 2)])
@pytest.mark.parametrize("symbolic", [False, True])
def test_inference_uses_the_row_of_its_index_or_the_last(index, row, symbolic):
    layer = BatchNormalization(1, n_iter=3)
    layer.allocate()
    layer.variables["population_mean"].set_value(np.float32([[10], [20], [30]]))
    x, i = mg.matrix("x"), mg.lscalar("i")
    y = layer.apply(x, i if symbolic else index)
    assert y.eval({x: [[0.0]], i: index} if symbolic else {x: [[0.0]]}) == -10 * (row + 1)


def test_applications_at_different_known_indices_are_no_duplicates(rng):
    layer = BatchNormalization(2, n_iter=3)
    x, z = mg.matrix("x"), mg.matrix("z")
    with batch_normalization(layer):
        both = [layer.apply(x, 0), layer.apply(z, -1)]
    pairs = get_batch_normalization_updates(both)
    assert [population for population, _ in pairs] == layer.population_statistics
    first, last = rng.normal(1, 2, (4, 2)).astype("float32"), rng.normal(8, 2, (9, 2)).astype("float32")
    mg.function([x, z], both, updates=pairs)(first, last)
    mean, stdev = populations(layer)
    np.testing.assert_allclose(mean, [first.mean(0), [0, 0], last.mean(0)], rtol=1e-5)
    np.testing.assert_allclose(stdev[1], 1)
    with batch_normalization(layer):
        again = [layer.apply(x, 2), layer.apply(z, 99)]
    with pytest.raises(ValueError, match="applied twice"):
        get_batch_normalization_updates(again)


def test_unknown_indices_follow_one_another():
    layer = BatchNormalization(1, n_iter=2)
    x, z, i, j = mg.matrix("x"), mg.matrix("z"), mg.lscalar("i"), mg.lscalar("j")
    with batch_normalization(layer):
        both = [layer.apply(x, i), layer.apply(z, j)]
    with pytest.raises(ValueError, match="applied twice"):
        get_batch_normalization_updates(both)
    with pytest.raises(ValueError, match="one index"):
        get_batch_normalization_updates(both, duplicates=Duplicates.POOLED)
    updates = moving_average(get_batch_normalization_updates(both, duplicates=Duplicates.SEQUENTIAL))
    step = mg.function([x, z, i, j], [], updates=updates)
    step([[4.0]], [[40.0]], 1, 1)
    np.testing.assert_allclose(populations(layer)[0], [[0], [4.36]], rtol=1e-6)


def test_the_transforms_keep_masks_indices_and_flags():
    layer = BatchNormalization(2, n_iter=3)
    x, m, i, flag = mg.matrix("x"), mg.vector("m"), mg.lscalar("i"), mg.shared(0, "flag")
    inference, train = layer.apply(x, i, mask=m, freeze=flag), trained(layer, x, i, mask=m, freeze=flag)
    assert str(apply_batch_normalization(inference)) == mg.debugprint(train)
    assert str(apply_population_normalization(train)) == mg.debugprint(inference)


def test_an_index_may_be_narrow_or_a_constant():
    layer = BatchNormalization(1, n_iter=200)
    x, i = mg.matrix("x"), mg.tensor("i", dtype="int8", shape=())
    layer.allocate()
    layer.variables["population_mean"].set_value(np.arange(200, dtype="float32")[:, None])
    assert layer.apply(x, i).eval({x: [[0.0]], i: np.int8(-1)}) == -199
    with batch_normalization(layer):
        both = [layer.apply(x, np.array(1)), layer.apply(x, mg.constant(2))]
    assert len(get_batch_normalization_updates(both)) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: torch.BatchNorm1d(3, **options),
        gomlx.BatchNormalization,
        lambda **options: puzzlelib.BatchNorm(3, **options),
    ],
)
def test_one_count_stands_for_one_population(make):
    with pytest.raises(ValueError, match="n_iter"):
        make(n_iter=2)


@pytest.mark.parametrize(
    ("index", "error"), [(None, ValueError), (-4, ValueError), (1.0, TypeError), (mg.vector("i"), TypeError)]
)
def test_an_index_is_an_integer_within_reach(index, error):
    with pytest.raises(error, match="index"):
        BatchNormalization(2, n_iter=3).apply(mg.matrix("x"), index)


def test_caffe_has_one_weight_and_so_no_rows():
    with pytest.raises(ValueError, match="n_iter"):
        caffe.BatchNorm(n_iter=3)


# -- axes by name ----------------------------------------------------------------------------------------------------


def test_axes_go_by_name_as_by_number(rng):
    values = rng.normal(size=(3, 2, 5, 4)).astype("float32")
    x = mg.tensor4("x", shape=(None, 2, None, 4))
    named = BatchNormalization(feature_axes=["channel", "width"], axis_names=("batch", "channel", "height", "width"))
    numbered = BatchNormalization(feature_axes=(1, -1))
    y, z = trained(named, x), trained(numbered, x)
    assert named.variables["scale"].type.shape == numbered.variables["scale"].type.shape == (2, 1, 4)
    np.testing.assert_array_equal(y.eval({x: values}), z.eval({x: values}))
    np.testing.assert_allclose(y.eval({x: values}), normalized(values, (0, 2))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature_axes": "channel"}, "no axis is named 'channel'"),
        ({"feature_axes": "time", "axis_names": ("batch", "channel")}, "no axis is named 'time'"),
        ({"feature_axes": 1, "axis_names": ("batch", "time", "channel")}, "3 axes, not 2"),
        ({"feature_axes": 0}, "always averaged over"),
        ({"feature_axes": 1, "broadcastable": (False,)}, "leave one out"),
        ({"feature_axes": 5}, "axis 5"),
    ],
)
def test_axes_that_do_not_fit_are_value_errors(options, message):
    with pytest.raises(ValueError, match=message):
        BatchNormalization(3, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNormalization("many"), "input_dim"),
        (lambda: BatchNormalization(1.5), "input_dim"),
        (lambda: BatchNormalization(3, broadcastable=True), "broadcastable"),
        (lambda: BatchNormalization(3, axis_names=3), "axis_names"),
        (lambda: BatchNormalization(3, feature_axes=1.5), "feature_axes"),
        (lambda: BatchNormalization(3, convention="Keras"), "Convention"),
        (lambda: BatchNormalization(3, all_reduce=[]), "all_reduce"),
        (lambda: keras.BatchNormalization(1.5), "not averaged over"),
        (lambda: keras.BatchNormalization(features="many"), "features"),
        (lambda: keras.BatchNormalization(momentum="0.9"), "momentum"),
        (lambda: mg.layers.LayerNormalization(2.5), "input_dim"),
        (lambda: mg.layers.BatchRenormalization(3, r_max="3"), "r_max"),
        (lambda: lasagne.BatchNormLayer((None, 4), axes=1.5), "axes"),
        (lambda: lasagne.BatchNormLayer("shape"), "incoming"),
    ],
)
def test_arguments_of_the_wrong_kind_are_type_errors_that_name_them(make, message):
    with pytest.raises(mg.errors.InvalidTypeError, match=message):
        make()


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_is_at_least_one(size):
    with pytest.raises(mg.errors.InvalidValueError, match="input_dim"):
        BatchNormalization(size)


# -- ghost batches ---------------------------------------------------------------------------------------------------


@on_each
@pytest.mark.parametrize("rows", [1, 4, 5, 8, 11])
def test_ghost_batches_are_normalized_each_for_itself(rows, backend, rng):
    """The last one may be smaller; the population gets the statistics of all rows together."""
    values = rng.normal(5, 3, (rows, 3)).astype("float32")
    layer = BatchNormalization(3, virtual_batch_size=4)
    x = mg.matrix("x")
    y = trained(layer, x)
    dy = rng.normal(size=values.shape).astype("float32")
    d, pairs = mg.matrix("d"), get_batch_normalization_updates(y)
    output, gradient = mg.function([x, d], [y, mg.grad((y * d).sum(), x)], updates=pairs, backend=backend)(values, dy)
    for start in range(0, rows, 4):
        part = slice(start, start + 4)
        expected, _, stdev = normalized(values[part], 0)
        np.testing.assert_allclose(output[part], expected, rtol=1e-4, atol=1e-5)
        seen = dy[part].astype("float64")
        slope = (seen - seen.mean(0) - expected * (seen * expected).mean(0)) / stdev
        np.testing.assert_allclose(gradient[part], slope, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(slope).max()))
    _, mean, stdev = normalized(values, 0)
    np.testing.assert_allclose(populations(layer)[0], mean.ravel(), rtol=1e-5)
    np.testing.assert_allclose(populations(layer)[1], stdev.ravel() if rows > 1 else 1, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda **options: BatchNormalization(3, **options), keras.BatchNormalization, caffe.BatchNorm]
)
def test_an_empty_batch_of_ghosts_leaves_the_population_as_it_was(make):
    layer = make(virtual_batch_size=4)
    x = mg.matrix("x", shape=(None, 3))
    y = trained(layer, x)
    before = layer.get_values()
    step = mg.function([x], y, updates=() if layer.convention.name != "Blocks" else get_batch_normalization_updates(y))
    step(np.zeros((0, 3), "float32"))
    assert all((before[name] == value).all() for name, value in layer.get_values().items())


def test_ghost_batches_with_masks_and_spatial_axes(rng):
    values = rng.normal(5, 3, (5, 2, 3)).astype("float32")
    mask = np.array([1, 1, 0, 1, 1])
    x = mg.tensor3("x", shape=(None, 2, 3))
    layer = mg.layers.SpatialBatchNormalization((2, 3), virtual_batch_size=3)
    output = trained(layer, x, mask=mask).eval({x: values})
    np.testing.assert_allclose(output[:2], normalized(values[:2], (0, 2))[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output[3:], normalized(values[3:], (0, 2))[0], rtol=1e-4, atol=1e-5)
    assert (output[2] == 0).all()


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_ghost_batch_has_a_whole_number_of_rows(size):
    with pytest.raises(ValueError, match="virtual_batch_size"):
        BatchNormalization(3, virtual_batch_size=size)
