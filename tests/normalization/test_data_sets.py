"""Statistics over shards, accumulated minibatches and whole data sets."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, puzzlelib, torch
from minigraph.layers import BatchNormalization, BatchNormalizedMLP, Rectifier, Sequence, Tanh
from minigraph.transforms import (
    StatisticsAccumulator,
    get_batch_normalization_updates,
    moving_average,
    population_gap,
    recompute_population_statistics,
    reset_population_statistics,
)
from support.backends import on_each
from support.layers import normalized, populations, trained

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
