"""Which elements statistics are taken of: masks, rows, ghost batches, shards, accumulated minibatches, whole data sets."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, lasagne, puzzlelib, torch
from minigraph.layers import BatchNormalization, BatchNormalizedMLP, Rectifier, Sequence, Tanh, batch_normalization
from minigraph.transforms import (
    Duplicates,
    StatisticsAccumulator,
    apply_batch_normalization,
    apply_population_normalization,
    cumulative_average,
    get_batch_normalization_updates,
    moving_average,
    population_gap,
    recompute_population_statistics,
    reset_population_statistics,
)
from support.backends import on_each
from support.layers import trained


def populations(layer):
    """What a layer stores of its population, in order."""
    return [one.get_value() for one in layer.population_statistics]


def normalized(values, axes, epsilon=1e-4):
    """Values normalized over some axes, their mean and deviation, in float64."""
    wide = values.astype("float64")
    mean, stdev = wide.mean(axes, keepdims=True), np.sqrt(wide.var(axes, keepdims=True) + epsilon)
    return (wide - mean) / stdev, mean, stdev


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


# -- shards ----------------------------------------------------------------------------------------------------------


class Replicas:
    """Threads that each hold a part of a batch, and an all_reduce that adds up what they bring."""

    def __init__(self, count):
        self._barrier = threading.Barrier(count)
        self._lock = threading.Lock()
        self._brought = []

    def all_reduce(self, array):
        """The sum of the arrays that all threads call this with."""
        with self._lock:
            self._brought.append(array.astype("float64"))
        self._barrier.wait(20)
        total = sum(self._brought).astype(array.dtype)
        if self._barrier.wait(20) == 0:
            self._brought.clear()
        self._barrier.wait(20)
        return total

    def run(self, work):
        """The results of work(0), work(1), ... at the same time."""
        results = [None] * self._barrier.parties
        errors = []

        def guarded(number):
            try:
                results[number] = work(number)
            except BaseException as error:
                errors.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(len(results))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
        return results


@on_each
@pytest.mark.parametrize("sizes", [(5, 11), (1, 8, 3)])
def test_shards_equal_the_whole_batch(sizes, backend, rng):
    """Outputs, gradients with respect to inputs and parameters, and populations, weighed by the sizes of the shards."""
    values = rng.normal(5, 3, (sum(sizes), 4)).astype("float32")
    dy = rng.normal(size=values.shape).astype("float32")
    cuts = np.cumsum(sizes)[:-1]
    shards, dys = np.split(values, cuts), np.split(dy, cuts)
    replicas = Replicas(len(sizes))

    def function_with(all_reduce):
        layer = BatchNormalization(4, scale_init=1.5, all_reduce=all_reduce)
        x, d = mg.matrix("x", shape=(None, 4)), mg.matrix("d", shape=(None, 4))
        y = trained(layer, x)
        cost = (mg.tanh(y) * d).sum()
        gradients = mg.grad(cost, [x, layer.variables["scale"]])
        step = mg.function([x, d], [y, *gradients], updates=get_batch_normalization_updates(y), backend=backend)
        return step, layer

    whole, alone = function_with(None)
    y, dx, dscale = whole(values, dy)
    made = [function_with(replicas.all_reduce) for _ in sizes]
    results = replicas.run(lambda number: made[number][0](shards[number], dys[number]))
    np.testing.assert_allclose(np.concatenate([one[0] for one in results]), y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([one[1] for one in results]), dx, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sum(one[2] for one in results), dscale, rtol=1e-5, atol=1e-5)
    for _, layer in made:
        for ours, theirs in zip(populations(layer), populations(alone), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_shards_of_a_masked_batch_count_what_they_hold(rng):
    values, mask = rng.normal(5, 3, (9, 2)).astype("float32"), np.array([1, 0, 1, 1, 1, 0, 0, 1, 1], "float32")
    replicas = Replicas(2)

    def function_with(all_reduce):
        x, m = mg.matrix("x", shape=(None, 2)), mg.vector("m")
        y = trained(BatchNormalization(2, all_reduce=all_reduce), x, mask=m)
        return mg.function([x, m], y)

    expected = function_with(None)(values, mask)
    made = [function_with(replicas.all_reduce) for _ in range(2)]
    parts = [slice(0, 3), slice(3, 9)]
    found = replicas.run(lambda number: made[number](values[parts[number]], mask[parts[number]]))
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5, atol=1e-6)


def test_a_reduction_of_one_process_changes_nothing(rng):
    def build(x, all_reduce):
        parts = mg.standardize(x, 0, epsilon=1e-3, all_reduce=all_reduce)
        return sum((part**3).sum() for part in parts)

    values = rng.normal(size=(5, 2))
    mg.testing.verify_grad(lambda x: build(x, np.copy), [values], order=2, rtol=1e-4, atol=1e-6)
    x = mg.dmatrix("x", shape=(5, 2))
    outputs = [mg.function([x], [build(x, one), mg.grad(build(x, one), x)])(values) for one in (None, np.copy)]
    for alone, reduced in zip(*outputs, strict=True):
        np.testing.assert_allclose(alone, reduced, rtol=1e-12)


def test_a_reduction_must_keep_the_shape():
    x = mg.matrix("x")
    y = mg.standardize(x, 0, all_reduce=lambda array: array.sum())[0]
    with pytest.raises(ValueError, match="all_reduce"):
        y.eval({x: np.ones((3, 2), "float32")})
    with pytest.raises(ValueError, match="one process"):
        BatchNormalization(3, virtual_batch_size=2, all_reduce=np.copy)


# -- accumulated minibatches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean_only", [False, True])
@on_each
def test_accumulated_minibatches_are_one_large_batch(backend, mean_only, rng):
    values = rng.normal(5, 3, (40, 3)).astype("float32")
    layer = BatchNormalization(3, mean_only=mean_only)
    x = mg.matrix("x")
    y = trained(layer, x)
    accumulator = StatisticsAccumulator(y)
    see = mg.function([x], y, updates=accumulator.updates, backend=backend)
    finish = mg.function([], [], updates=moving_average(accumulator.pairs, 1.0) + accumulator.reset, backend=backend)
    for _ in range(2):
        for batch in np.split(values, [1, 5, 30]):
            see(batch)
            see(batch[:0])
        finish()
        _, mean, stdev = normalized(values, 0)
        for ours, theirs in zip(populations(layer), (mean, stdev), strict=False):
            np.testing.assert_allclose(ours, theirs.ravel(), rtol=1e-6)
        values = values + 1


def test_fractional_weights_are_merged_by_what_they_sum_to(rng):
    values, weights = rng.normal(5, 3, (6, 3)).astype("float32"), np.float32([0.3, 0.3, 0.2, 0.1, 0.05, 0.01])
    layer = BatchNormalization(3)
    x, m = mg.matrix("x"), mg.vector("m")
    batches = [(values[:1], weights[:1]), (values[1:4], weights[1:4]), (values[4:], weights[4:])]
    recompute_population_statistics(layer.apply(x, mask=m), batches, inputs=[x, m])
    mean = np.average(values, axis=0, weights=weights)
    np.testing.assert_allclose(populations(layer)[0], mean, rtol=1e-5)
    stdev = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights) + 1e-4)
    np.testing.assert_allclose(populations(layer)[1], stdev, rtol=1e-5)


def test_nothing_accumulated_changes_nothing():
    layer = BatchNormalization(3)
    accumulator = StatisticsAccumulator(trained(layer, mg.matrix("x")))
    mg.function([], [], updates=accumulator.pairs)()
    assert [list(one) for one in populations(layer)] == [[0, 0, 0], [1, 1, 1]]


# -- a whole data set ------------------------------------------------------------------------------------------------


def double_network(values, network, data):
    """The mean and deviation of every normalization of an MLP over a data set, in float64."""
    path = f"/{network.name}"
    h, statistics = data.astype("float64"), []
    for k in range(len(network.dims) - 1):
        h, mean, stdev = normalized(h @ values[f"{path}/linear_{k}.W"].astype("float64"), 0)
        statistics.append((mean.ravel(), stdev.ravel()))
        h = np.maximum(h, 0)
    return statistics


CUTS = [1, 2, 10, 50, 51, 1000, 3999]


@on_each
@pytest.mark.parametrize("layer_by_layer", [False, True])
def test_recomputed_statistics_are_those_of_one_huge_batch(layer_by_layer, backend, rng):
    """For batches from 1 row to 2,999: always in the first layer, and layer by layer in the deeper ones."""
    data = rng.normal(3, 2, (4000, 16)).astype("float32")
    network = BatchNormalizedMLP([Rectifier(), Rectifier(), None], [16, 12, 8, 4], seed=1)
    x = mg.matrix("x", shape=(None, 16))
    cost = network.apply(x).sum()
    found = recompute_population_statistics(cost, np.split(data, CUTS), layer_by_layer=layer_by_layer, backend=backend)
    expected = double_network(mg.layers.get_parameter_values(network), network, data)
    layers = [stage for stage in network.stages if isinstance(stage, BatchNormalization)]
    for layer, (mean, stdev) in list(zip(layers, expected, strict=True))[: 3 if layer_by_layer else 1]:
        ours = populations(layer)
        np.testing.assert_allclose(ours[0], mean, rtol=0, atol=1e-6 * stdev.min() * max(1.0, np.abs(mean / stdev).max()))
        np.testing.assert_allclose(ours[1], stdev, rtol=1e-6)
    assert all((found[one] == one.get_value()).all() for layer in layers for one in layer.population_statistics)


def test_recomputation_takes_training_graphs_and_any_form_of_batch(rng):
    data, labels = rng.normal(3, 2, (20, 3)).astype("float32"), np.zeros(20, "int64")
    network = BatchNormalizedMLP([None], [3, 2], seed=2)
    x, y = mg.matrix("x", shape=(None, 3)), mg.lvector("y")
    cost = mg.softmax_crossentropy(trained(network, x), y).mean()
    results = []
    for batches, inputs in (
        ([data], None),
        ([(data,)], None),
        ([{"x": data}], None),
        ([(data, labels)], [x, y]),
        (lambda: iter([data[:7], data[7:]]), None),
        (iter([data[:7], data[7:]]), None),
    ):
        reset_population_statistics(network)
        recompute_population_statistics(cost, batches, inputs=inputs)
        results.append(populations(network.stages[1]))
    for one in results:
        for ours, theirs in zip(one, results[0], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.BatchNorm1d(3),
        lambda: puzzlelib.BatchNorm(3),
        lambda: gomlx.BatchNormalization(),
        lambda: keras.BatchNormalization(),
        lambda: caffe.BatchNorm(),
    ],
)
def test_dialects_are_recomputed_in_their_own_storage(make, rng):
    """The next minibatch then weighs as after as many as there were; the averages of the system stay out of it."""
    data = rng.normal(3, 2, (30, 3)).astype("float32")
    layer = make()
    x = mg.matrix("x", shape=(None, 3))
    y = layer.apply(x)
    recompute_population_statistics(y, np.split(data, [10, 14]))
    mean, stdev = (one.eval() for one in layer.population_in(x, mg.layers.normalization.apply_options.Request()))
    ddof = int(layer.convention.storage.unbiased)
    np.testing.assert_allclose(mean.ravel(), data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stdev.ravel(), np.sqrt(data.var(0, ddof=ddof) + layer.epsilon), rtol=1e-5)
    if layer.count is not None:
        assert (layer.count.get_value() == 3).all()
    if isinstance(layer, caffe.BatchNorm):
        assert layer.get_values()["weight_sum"] == pytest.approx(1 + 0.999 + 0.999**2)


def test_noise_goes_on_while_statistics_are_recomputed_and_back_afterwards():
    stream = mg.random.RandomStream(3)
    layer = BatchNormalization(4)
    x = mg.matrix("x", shape=(None, 4))
    noisy = x + stream.normal(mg.shape(x))
    draw = mg.function([x], noisy)
    ones = np.ones((50, 4), "float32")
    recompute_population_statistics(layer.apply(noisy), [ones] * 100)
    np.testing.assert_allclose(populations(layer)[0], 1, atol=0.06)
    np.testing.assert_allclose(populations(layer)[1], 1, atol=0.06)
    first = draw(ones)
    fresh = mg.random.RandomStream(3)
    z = mg.matrix("z", shape=(None, 4))
    np.testing.assert_array_equal(first, mg.function([z], z + fresh.normal(mg.shape(z)))(ones))


def test_a_feature_that_was_never_seen_keeps_its_population(rng):
    data, mask = rng.normal(9, 2, (20, 3)).astype("float32"), np.ones((20, 3), "float32")
    mask[:, 0] = 0
    x, m = mg.matrix("x", shape=(None, 3)), mg.matrix("m", shape=(None, 3))
    for layer in (BatchNormalization(3), keras.BatchNormalization()):
        recompute_population_statistics(layer.apply(x, mask=m), [(data, mask)], inputs=[x, m])
        mean, spread = (one.ravel() for one in populations(layer))
        assert (mean[0], spread[0]) == (0, 1)
        np.testing.assert_allclose(mean[1:], data.mean(0)[1:], rtol=1e-5)
    sums = caffe.BatchNorm()
    mg.function([x], trained(sums, x))(data)
    before = sums.get_values()
    recompute_population_statistics(sums.apply(x, mask=m), [(data + 50, mask)] * 5, inputs=[x, m])
    assert all((before[name] == value).all() for name, value in sums.get_values().items())


def test_caffe_settles_at_the_weight_of_its_own_fraction():
    layer = caffe.BatchNorm(moving_average_fraction=0.5)
    x = mg.matrix("x", shape=(None, 3))
    recompute_population_statistics(layer.apply(x), [np.float32([[1, 2, 3], [3, 4, 5]])] * 30)
    assert layer.get_values()["weight_sum"] == pytest.approx(2)
    np.testing.assert_allclose(layer.get_values()["mean_sum"], [4, 6, 8], rtol=1e-5)


def test_rows_are_recomputed_each_for_itself(rng):
    data, domains = rng.normal(3, 2, (4, 10, 2)).astype("float32"), [0, 2, 0, 2]
    layer = BatchNormalization(2, n_iter=3)
    x, i = mg.matrix("x", shape=(None, 2)), mg.lscalar("i")
    recompute_population_statistics(layer.apply(x, i), list(zip(data, domains, strict=True)), inputs=[x, i])
    mean = populations(layer)[0]
    np.testing.assert_allclose(mean, [data[::2].mean((0, 1)), [0, 0], data[1::2].mean((0, 1))], rtol=1e-5)


@pytest.mark.parametrize("layer_by_layer", [False, True])
@pytest.mark.parametrize("bad", [np.nan, "shape", "interrupt"])
def test_a_failing_batch_leaves_the_state_as_it_was(bad, layer_by_layer, rng):
    data = rng.normal(3, 2, (20, 3)).astype("float32")
    network = BatchNormalizedMLP([Rectifier(), None], [3, 4, 2])
    x = mg.matrix("x")
    y = network.apply(x)
    before = mg.layers.get_parameter_values(network)

    def batches():
        yield data
        if bad == "interrupt":
            raise KeyboardInterrupt
        yield data[:, :2] if bad == "shape" else np.where(data > 3, bad, data)

    with pytest.raises((ValueError, KeyboardInterrupt)):
        recompute_population_statistics(y, batches, layer_by_layer=layer_by_layer)
    after = mg.layers.get_parameter_values(network)
    assert all((before[name] == after[name]).all() for name in before)


def test_a_batch_that_is_not_finite_is_named():
    x = mg.matrix("x", shape=(None, 2))
    y = Sequence([BatchNormalization(2, name="first")]).apply(x)
    good = np.ones((3, 2), "float32")
    with pytest.raises(ValueError, match="minibatch 2 leaves statistics of <BatchNormalization first>"):
        recompute_population_statistics(y, [good, good * np.inf, good])


def test_what_cannot_be_recomputed_is_an_error():
    x = mg.matrix("x", shape=(None, 2))
    with pytest.raises(ValueError, match="no normalization"):
        recompute_population_statistics(x * 2, [np.ones((3, 2))])
    y = Sequence([BatchNormalization(2), Tanh(), BatchNormalization(2)]).apply(x)
    with pytest.raises(ValueError, match="no minibatch"):
        recompute_population_statistics(y, [])
    with pytest.raises(TypeError, match="gone through 2 times"):
        recompute_population_statistics(y, iter([np.ones((3, 2))]), layer_by_layer=True)


def test_a_progress_bar_is_quiet_off_a_terminal(capsys):
    x = mg.matrix("x", shape=(None, 2))
    recompute_population_statistics(BatchNormalization(2).apply(x), [np.ones((3, 2), "float32")], progress=True)
    assert capsys.readouterr().err == ""


def test_a_reset_forgets_all_and_keeps_what_is_learned(rng):
    network = Sequence([torch.BatchNorm1d(2), puzzlelib.BatchNorm(2), BatchNormalization(2, scale_init=3.0)])
    x = mg.matrix("x", shape=(None, 2))
    y = trained(network, x)
    start = mg.layers.get_parameter_values(network)
    step = mg.function([x], y, updates=get_batch_normalization_updates(y))
    step(rng.normal(2, 3, (5, 2)).astype("float32"))
    assert network.stages[1].num_of_props.get_value() == 1
    reset_population_statistics(network)
    after = mg.layers.get_parameter_values(network)
    assert all((start[name] == after[name]).all() for name in start)
    assert network.stages[1].num_of_props.get_value() == 0


# -- the gap ---------------------------------------------------------------------------------------------------------


def test_the_gap_tells_how_far_minibatch_and_population_are_apart(tmp_path, rng):
    values = rng.normal(5, 2, (50, 3)).astype("float32")
    network = Sequence([BatchNormalization(3, name="first"), BatchNormalization(3, mean_only=True, name="second")], name="net")
    x = mg.matrix("x", shape=(None, 3))
    y = network.apply(x)
    first, second = population_gap(y, values).layers
    assert (first.name, second.name) == ("/net/first", "/net/second")
    np.testing.assert_allclose(first.means.ravel(), values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(first.log_deviations.ravel(), np.log(np.sqrt(values.var(0) + 1e-4)), rtol=1e-5)
    assert second.log_deviations.size == 0
    recompute_population_statistics(y, [values])
    gap = population_gap(trained(network, x), {"x": values})
    assert np.abs(gap.layers[0].means).max() < 1e-6 and np.abs(gap.layers[0].log_deviations).max() < 1e-6
    lines = str(gap).splitlines()
    assert len(lines) == 3 and lines[1].startswith("/net/first") and lines[2].endswith("-")
    picture = tmp_path / "gap.png"
    gap.plot(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no normalization"):
        population_gap(x * 2, values)
