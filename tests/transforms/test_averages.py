"""Rules over pairs: how much each minibatch weighs, and what becomes of several estimates of one statistic."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe
from minigraph.layers import BatchNormalization, batch_normalization
from minigraph.transforms import (
    Duplicates,
    caffe_average,
    cumulative_average,
    debiased_moving_average,
    decayed_sums,
    get_batch_normalization_updates,
    gomlx_average,
    moving_average,
    overwrite,
    puzzlelib_average,
)

C = np.arange(12.0).reshape(3, 4).astype("float32")


def trained(layer, *inputs):
    """The layer's training-mode outputs."""
    with batch_normalization(layer):
        return [layer.apply(x) for x in inputs]


def after(rule, batches):
    """The populations that a rule makes of minibatches with these means, which start from 0, one after each."""
    estimate = mg.vector("estimate", shape=(2,))
    population = mg.shared(np.zeros(2, "float32"), "population")
    step = mg.function([estimate], [], updates=rule([(population, estimate)]))
    found = []
    for batch in batches:
        step(np.asarray(batch, "float32"))
        found.append(population.get_value())
    return found


WEIGHTS = {
    "raw": (overwrite, lambda n: 1.0),
    "moving": (moving_average, lambda n: 0.1),
    "moving, by new weight": (lambda pairs: moving_average(pairs, new_weight=0.25), lambda n: 0.25),
    "moving, by old weight": (lambda pairs: moving_average(pairs, old_weight=0.75), lambda n: 0.25),
    "cumulative": (cumulative_average, lambda n: 1 / n),
    "debiased": (debiased_moving_average, lambda n: 0.1 / (1 - 0.9**n)),
    "PuzzleLib": (puzzlelib_average, lambda n: max(1 / n, 0.1)),
    "PuzzleLib, own factors": (lambda pairs: puzzlelib_average(pairs, 0.5, 0.02), lambda n: max(0.5 / n, 0.02)),
    "GoMLX": (gomlx_average, lambda n: 1 - min(0.99, 1 - 1 / n)),
    "Caffe": (caffe_average, lambda n: 1 / sum(0.999**k for k in range(n))),
}


@pytest.mark.parametrize("batches", [1, 2, 10, 11, 100, 101])
@pytest.mark.parametrize("rule", WEIGHTS)
def test_the_nth_minibatch_weighs_what_the_rule_says(rule, batches, rng):
    make, weight = WEIGHTS[rule]
    data = rng.normal(2, 3, (batches, 2))
    expected = np.zeros(2)
    for n, batch in enumerate(data, start=1):
        expected += weight(n) * (batch - expected)
    np.testing.assert_allclose(after(make, data)[-1], expected, rtol=2e-5, atol=2e-6)


def test_the_weights_around_the_bend_of_the_rules_that_have_one():
    """PuzzleLib's weights fall to 0.1 at the tenth minibatch and stay; GoMLX' fall to 0.01 at the hundredth and stay."""

    def weight_of(rule, n):
        return after(rule, [[0, 0]] * (n - 1) + [[1, 1]])[-1][0]

    assert [weight_of(puzzlelib_average, n) for n in (1, 2, 10, 11)] == pytest.approx([1, 0.5, 0.1, 0.1])
    assert [weight_of(gomlx_average, n) for n in (1, 2, 100, 101)] == pytest.approx([1, 0.5, 0.01, 0.01], rel=1e-5)


FULL = {
    "raw": overwrite,
    "cumulative": cumulative_average,
    "debiased": debiased_moving_average,
    "PuzzleLib": puzzlelib_average,
    "GoMLX": gomlx_average,
    "Caffe": caffe_average,
}


@pytest.mark.parametrize("rule", FULL)
def test_a_first_minibatch_that_counts_fully_leaves_no_trace_of_the_start(rule):
    population = mg.shared(np.float32([1e8]), "population")
    estimate = mg.vector("estimate", shape=(1,))
    mg.function([estimate], [], updates=FULL[rule]([(population, estimate)]))(np.float32([1.1]))
    assert population.get_value() == np.float32(1.1)


def test_caffes_average_is_what_its_sums_come_to(rng):
    """Sums divided by their weight are the debiased average, batch for batch."""
    data = rng.normal(2, 3, (7, 2)).astype("float32")
    sums, weight = (mg.shared(np.zeros(size, "float32"), "sum") for size in (2, 1))
    estimate = mg.vector("estimate", shape=(2,))
    pairs = [(sums, estimate), (weight, mg.constant(np.ones(1, "float32")))]
    step = mg.function([estimate], [], updates=decayed_sums(pairs, 0.9))
    for batch, expected in zip(data, after(lambda pairs: caffe_average(pairs, 0.9), data), strict=True):
        step(batch)
        np.testing.assert_allclose(sums.get_value() / weight.get_value(), expected, rtol=1e-5)


def test_a_given_count_goes_on_where_it_stands():
    count = mg.shared(np.int64(3), "count")
    population = mg.shared(np.zeros(2, "float32"), "population")
    estimate = mg.vector("estimate", shape=(2,))
    step = mg.function([estimate], [], updates=cumulative_average([(population, estimate)], count))
    step(np.float32([4, 8]))
    np.testing.assert_allclose(population.get_value(), [1, 2])
    assert count.get_value() == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: moving_average([], 0.0), "above 0"),
        (lambda: moving_average([], old_weight=1.0), "above 0"),
        (lambda: moving_average([], old_weight=-0.5), "at most 1"),
        (lambda: moving_average([], 0.1, old_weight=0.9), "not both"),
        (lambda: debiased_moving_average([], 1.5), "at most 1"),
        (lambda: decayed_sums([], 0.0), "fraction"),
        (lambda: caffe_average([], 1.0), "above 0"),
    ],
)
def test_weights_outside_of_their_range_are_value_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("pairs", [[1], [(mg.shared(1.0),)], [(mg.shared(1.0), 2.0)]])
def test_what_is_no_pair_is_a_type_error(pairs):
    with pytest.raises(TypeError, match="pairs"):
        overwrite(pairs)


# -- several estimates of one statistic ------------------------------------------------------------------------------

X, Z = C, np.random.default_rng(3).normal(20, 5, (6, 4)).astype("float32")


def estimates(layer, duplicates, mask=None, **options):
    """The pairs of a layer that is applied to X and Z."""
    x, z = mg.matrix("x"), mg.matrix("z")
    pairs = get_batch_normalization_updates(trained(layer, x, z), duplicates=duplicates, **options)
    return [x, z], pairs


def populations(layer):
    """The mean and the deviation that a layer stores."""
    return [one.get_value() for one in layer.population_statistics]


def test_several_applications_are_an_error_by_default():
    with pytest.raises(ValueError, match=r"applied twice.*duplicates="):
        estimates(BatchNormalization(4), Duplicates.ERROR)


def test_the_mean_of_several_applications():
    layer = BatchNormalization(4)
    inputs, pairs = estimates(layer, Duplicates.MEAN)
    mg.function(inputs, [], updates=pairs)(X, Z)
    mean, stdev = populations(layer)
    np.testing.assert_allclose(mean, (X.mean(0) + Z.mean(0)) / 2, rtol=1e-5)
    np.testing.assert_allclose(stdev, (np.sqrt(X.var(0) + 1e-4) + np.sqrt(Z.var(0) + 1e-4)) / 2, rtol=1e-5)


def test_several_applications_pooled_are_one_large_batch():
    layer = BatchNormalization(4)
    inputs, pairs = estimates(layer, Duplicates.POOLED)
    mg.function(inputs, [], updates=pairs)(X, Z)
    both = np.concatenate([X, Z]).astype("float64")
    mean, stdev = populations(layer)
    np.testing.assert_allclose(mean, both.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stdev, np.sqrt(both.var(0) + 1e-4), rtol=1e-6)


@pytest.mark.parametrize("rule", [moving_average, cumulative_average, debiased_moving_average, overwrite])
def test_several_applications_one_after_another_are_several_steps(rule):
    """Each rule does in one call of two minibatches what it does in two calls; a moving average of 4 and 40 is 4.36."""
    layer, other = BatchNormalization(4), BatchNormalization(4)
    inputs, pairs = estimates(layer, Duplicates.SEQUENTIAL)
    mg.function(inputs, [], updates=rule(pairs))(X, Z)
    x = mg.matrix("x")
    step = mg.function([x], [], updates=rule(get_batch_normalization_updates(trained(other, x))))
    step(X)
    step(Z)
    for ours, theirs in zip(populations(layer), populations(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert after(moving_average, [[4, 4], [40, 40]])[-1][0] == pytest.approx(4.36)


@pytest.mark.parametrize("duplicates", [Duplicates.MEAN, Duplicates.POOLED, Duplicates.SEQUENTIAL])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_application_among_several_does_not_count(duplicates, bad):
    layer, alone = BatchNormalization(4), BatchNormalization(4)
    inputs, pairs = estimates(layer, duplicates)
    poisoned = Z.copy()
    poisoned[0, 1] = bad
    mg.function(inputs, [], updates=overwrite(pairs))(X, poisoned)
    x = mg.matrix("x")
    mg.function([x], [], updates=get_batch_normalization_updates(trained(alone, x)))(X)
    for ours, good in zip(populations(layer), populations(alone), strict=True):
        assert np.isfinite(ours).all()
        if duplicates is not Duplicates.POOLED:  # pooled, the feature has no finite statistics, and keeps what it had
            assert ours[1] == pytest.approx(good[1], rel=1e-6)


def test_statistics_that_are_not_finite_enter_when_asked():
    layer = BatchNormalization(4)
    x = mg.matrix("x")
    pairs = get_batch_normalization_updates(trained(layer, x), allow_nonfinite=True)
    poisoned = X.copy()
    poisoned[0, 1] = np.nan
    step = mg.function([x], [], updates=moving_average(pairs))
    step(poisoned)
    assert list(np.isnan(layer.population_statistics[0].get_value())) == [False, True, False, False]
    before = populations(layer)
    step(np.zeros((0, 4), "float32"))  # an empty batch says nothing, asked or not
    for old, new in zip(before, populations(layer), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_kind_of_duplicates_is_checked():
    with pytest.raises(TypeError, match="Duplicates"):
        get_batch_normalization_updates(trained(BatchNormalization(4), mg.matrix("x")), duplicates="mean")


@pytest.mark.parametrize("duplicates", [Duplicates.MEAN, Duplicates.POOLED])
@pytest.mark.parametrize("allow_nonfinite", [False, True])
def test_duplicates_within_rows_leave_other_rows_to_their_own(duplicates, allow_nonfinite):
    """Indices that mean the same row are duplicates, however they are written; each row gets what is estimated for it."""
    layer = BatchNormalization(4, n_iter=3)
    x, z = mg.matrix("x"), mg.matrix("z")
    with batch_normalization(layer):
        applied = [layer.apply(x, 0), layer.apply(x, 2), layer.apply(z, -1)]
    pairs = get_batch_normalization_updates(applied, duplicates=duplicates, allow_nonfinite=allow_nonfinite)
    mg.function([x, z], [], updates=pairs)(X, Z)
    mean, stdev = populations(layer)
    both = np.concatenate([X, Z]).astype("float64")
    last = both.mean(0) if duplicates is Duplicates.POOLED else (X.mean(0) + Z.mean(0)) / 2
    np.testing.assert_allclose(mean, [X.mean(0), np.zeros(4), last], rtol=1e-5)
    np.testing.assert_allclose(stdev[:2], [np.sqrt(X.var(0) + 1e-4), np.ones(4)], rtol=1e-5)


def test_sums_refuse_statistics_that_are_not_finite():
    layer = caffe.BatchNorm(automatic=False)
    with pytest.raises(ValueError, match="leave out allow_nonfinite"):
        get_batch_normalization_updates(trained(layer, mg.matrix("x", shape=(None, 4))), allow_nonfinite=True)


def test_unknown_indices_have_no_mean_of_what_is_not_finite():
    layer = BatchNormalization(4, n_iter=2)
    x, z, i, j = mg.matrix("x"), mg.matrix("z"), mg.lscalar("i"), mg.lscalar("j")
    with batch_normalization(layer):
        both = [layer.apply(x, i), layer.apply(z, j)]
    with pytest.raises(ValueError, match="have no mean"):
        get_batch_normalization_updates(both, duplicates=Duplicates.MEAN, allow_nonfinite=True)
    pairs = get_batch_normalization_updates(both, duplicates=Duplicates.MEAN)
    mg.function([x, z, i, j], [], updates=pairs)(X, Z, 0, 1)
    np.testing.assert_allclose(populations(layer)[0], [X.mean(0), Z.mean(0)], rtol=1e-5)
