"""Theano's functions take parameters with all axes of the input, or without those that are averaged over, and answer alike."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects.theano import batch_normalization_test, batch_normalization_train

SIZES = (5, 3, 3, 3)
"""Equal sizes, so that nothing but the axes says which one a parameter goes along."""
AXES = {"per-activation": (0,), "spatial": (0, 2, 3), (1,): (1,), (0, -1): (0, 3), 2: (2,)}


def drawn(rng, averaged, whole):
    """gamma, beta, mean and variance in one of the two layouts."""
    shape = [1 if k in averaged else size for k, size in enumerate(SIZES)]
    draws = [rng.uniform(0.5, 2, shape) for _ in range(4)]
    return draws if whole else [one.squeeze(averaged) for one in draws]


def wide(parameter, averaged):
    """A parameter as NumPy broadcasts it."""
    return parameter if parameter.ndim == len(SIZES) else np.expand_dims(parameter, averaged)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("axes", AXES)
def test_both_layouts_mean_the_same_axes(axes, whole, known, rng):
    averaged = AXES[axes]
    values, parameters = rng.normal(2, 3, SIZES), drawn(rng, averaged, whole)
    x = mg.tensor("x", dtype="float64", shape=SIZES if known else (None,) * 4)
    shapes = [one.shape if known else (None,) * one.ndim for one in parameters]
    given = [mg.tensor(name, dtype="float64", shape=shape) for name, shape in zip("gbmv", shapes, strict=True)]
    trained = batch_normalization_train(x, *given[:2], axes, 1e-4, 0.1, *given[2:])
    tested = batch_normalization_test(x, *given, axes)
    backend = "native" if axes == "spatial" else "numpy"
    found = mg.function([x, *given], [*trained, tested], backend=backend)(values, *parameters)
    gamma, beta, mean, variance = (wide(one, averaged) for one in parameters)
    own, spread = values.mean(averaged, keepdims=True), values.var(averaged, keepdims=True)
    count = np.prod([SIZES[axis] for axis in averaged])
    expected = [
        (values - own) / np.sqrt(spread + 1e-4) * gamma + beta,
        own,
        1 / np.sqrt(spread + 1e-4),
        0.9 * mean + 0.1 * own,
        0.9 * variance + 0.1 * spread * count / (count - 1),
        (values - mean) / np.sqrt(variance + 1e-4) * gamma + beta,
    ]
    for place, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        if place in (0, 5):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
        else:
            assert ours.shape == parameters[0].shape
            np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=1e-9)


@pytest.mark.parametrize("whole", [True, False])
def test_running_averages_are_updates_of_the_variables_that_were_given(whole, rng):
    parameters = [one.astype("float32") for one in drawn(rng, (0, 2, 3), whole)]
    mean, variance = mg.shared(parameters[2]), mg.shared(parameters[3])
    x = mg.tensor4("x")
    results = batch_normalization_train(x, *parameters[:2], "spatial", 1e-4, 0.25, mean, variance)
    values = rng.normal(size=SIZES).astype("float32")
    mg.function([x], results[0], updates=[(mean, results[3]), (variance, results[4])])(values)
    expected = 0.75 * parameters[2] + 0.25 * values.mean((0, 2, 3)).reshape(parameters[2].shape)
    np.testing.assert_allclose(mean.get_value(), expected, rtol=1e-5)


GOOD, FLAT = np.ones((1, 3, 1, 1)), np.ones(3)
MISTAKES = {
    "other rank": ((np.ones((3, 1)), np.ones((3, 1)), FLAT, FLAT), {}, "gamma has 2 axes"),
    "scalar": ((1.0, FLAT, FLAT, FLAT), {}, "gamma has 0 axes"),
    "two layouts": ((GOOD, FLAT, GOOD, GOOD), {}, "beta has 1 axes"),
    "size in the axes": ((GOOD, np.ones((1, 3, 2, 1)), GOOD, GOOD), {}, "beta has size 2 .* axis 2"),
    "size beside the axes": ((np.ones(4), FLAT, FLAT, FLAT), {}, "gamma has size 4 .* axis 1"),
    "layout of the mean": ((FLAT, FLAT, GOOD, FLAT), {}, "mean has 4 axes"),
    "epsilon": ((FLAT, FLAT, FLAT, FLAT), {"epsilon": 1e-6}, "at least 1e-5"),
    "no epsilon": ((FLAT, FLAT, FLAT, FLAT), {"epsilon": float("nan")}, "epsilon"),
    "axis": ((FLAT, FLAT, FLAT, FLAT), {"axes": (0, 7)}, "axis 7 is out of bounds"),
    "axis twice": ((FLAT, FLAT, FLAT, FLAT), {"axes": (0, 0)}, "twice"),
    "word": ((FLAT, FLAT, FLAT, FLAT), {"axes": "channel"}, "per-activation"),
    "no axis": ((FLAT, FLAT, FLAT, FLAT), {"axes": ()}, "at least one axis"),
}


@pytest.mark.parametrize("function", [batch_normalization_train, batch_normalization_test])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_parameters_that_do_not_fit_are_errors(mistake, function):
    (gamma, beta, mean, variance), options, message = MISTAKES[mistake]
    options = {"axes": "spatial"} | options
    averages = {"running_mean": mean, "running_var": variance}
    averages = {name: mg.shared(np.asarray(one)) for name, one in averages.items()}
    x = mg.tensor("x", dtype="float64", shape=(None, 3, None, None))
    with pytest.raises(ValueError, match=message):
        if function is batch_normalization_train:
            function(x, gamma, beta, **options, **averages)
        else:
            function(x, gamma, beta, mean, variance, **options)


def test_the_least_epsilon_may_be_rounded():
    x = mg.matrix("x", shape=(None, 3))
    batch_normalization_train(x, FLAT, FLAT, epsilon=np.float32(1e-5))
