"""Freezing normalizations in three degrees, and the warning when a population is forgotten."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, lasagne, torch
from minigraph.layers import BatchNormalization, BatchNormalizedMLP, Freeze, Tanh
from minigraph.training import sgd
from minigraph.transforms import (
    StatisticsAccumulator,
    apply_batch_normalization,
    apply_population_normalization,
    freeze_batch_normalization,
    get_batch_normalization_updates,
    moving_average,
)
from support.backends import on_each
from support.layers import trained

C = np.arange(12.0).reshape(3, 4).astype("float32")
BATCH, STORED = -1.22473913, 0.0
DEGREES = {
    Freeze.NOTHING: (BATCH, 2, 2),
    Freeze.AVERAGES: (BATCH, 0, 2),
    Freeze.STATISTICS: (STORED, 0, 2),
    Freeze.EVERYTHING: (STORED, 0, 0),
}
"""For each degree the training output at x00, the number of pairs, and the number of parameters that learn."""


def check(y, x, degree):
    """A training graph does what a degree of freezing says."""
    output, pairs, parameters = DEGREES[degree]
    assert y.eval({x: C})[0, 0] == pytest.approx(output, rel=1e-6)
    assert len(get_batch_normalization_updates(y)) == pairs
    assert len(mg.ComputationGraph(y).parameters) == parameters


@pytest.mark.parametrize("degree", DEGREES)
def test_a_layer_a_call_and_a_graph_are_frozen_alike(degree):
    x = mg.matrix("x")
    by_layer, by_call, by_graph = BatchNormalization(4, freeze=degree), BatchNormalization(4), BatchNormalization(4)
    graphs = [
        trained(by_layer, x),
        trained(by_call, x, freeze=degree),
        freeze_batch_normalization(trained(by_graph, x), degree).outputs[0],
    ]
    for y in graphs:
        check(y, x, degree)
    assert len({mg.debugprint(y) for y in graphs}) == 1


@pytest.mark.parametrize("first", DEGREES)
@pytest.mark.parametrize("second", DEGREES)
def test_a_graph_can_be_frozen_anew_and_thawed(first, second):
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    twice = freeze_batch_normalization(freeze_batch_normalization(trained(layer, x), first), second)
    assert str(twice) == mg.debugprint(trained(layer, x, freeze=second))


@pytest.mark.parametrize("degree", DEGREES)
def test_the_mode_switches_keep_what_is_frozen(degree):
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    inference, train = layer.apply(x, freeze=degree), trained(layer, x, freeze=degree)
    assert str(apply_batch_normalization(inference)) == mg.debugprint(train)
    assert str(apply_population_normalization(train)) == mg.debugprint(inference)
    assert str(freeze_batch_normalization(layer.apply(x), degree)) == mg.debugprint(inference)


def test_only_the_layers_that_are_named_are_frozen():
    network = BatchNormalizedMLP([Tanh(), None], [4, 3, 2])
    x = mg.matrix("x")
    first = network.stages[1]
    graph = freeze_batch_normalization(trained(network, x), Freeze.EVERYTHING, layers=first)
    assert [population for population, _ in get_batch_normalization_updates(graph)] == network.stages[4].population_statistics
    assert set(network.stages[4].parameters) <= set(graph.parameters) and not set(first.parameters) & set(graph.parameters)


@on_each
def test_a_shared_flag_switches_without_building_anew(backend):
    x = mg.matrix("x")
    flag = mg.shared(0, "flag")
    layer = BatchNormalization(4, freeze=flag)
    y = trained(layer, x)
    scale, shift = layer.parameters
    cost = (y * np.arange(4, dtype="float32")).sum() + (y**2).sum()
    updates = moving_average(get_batch_normalization_updates(y))
    step = mg.function([x], [y, *mg.grad(cost, [x, scale, shift])], updates=updates, backend=backend)
    for degree in (Freeze.NOTHING, Freeze.AVERAGES, Freeze.STATISTICS, Freeze.EVERYTHING, Freeze.NOTHING):
        flag.set_value(int(degree))
        before = [one.get_value() for one in layer.population_statistics]
        fixed = trained(layer, x, freeze=Freeze.STATISTICS if degree >= Freeze.STATISTICS else Freeze.NOTHING)
        fixed_cost = (fixed * np.arange(4, dtype="float32")).sum() + (fixed**2).sum()
        expected = [one.eval({x: C}) for one in (fixed, *mg.grad(fixed_cost, [x, scale, shift]))]
        if degree is Freeze.EVERYTHING:
            expected[2:] = [np.zeros(4), np.zeros(4)]
        for ours, theirs in zip(step(C), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        moved = any((old != new.get_value()).any() for old, new in zip(before, layer.population_statistics, strict=True))
        assert moved == (degree is Freeze.NOTHING)


def test_a_flag_can_be_given_to_a_finished_graph():
    x, flag = mg.matrix("x"), mg.shared(0, "flag")
    layer = BatchNormalization(4)
    switchable = freeze_batch_normalization(trained(layer, x), flag)
    layer.freeze = flag
    assert str(switchable) == mg.debugprint(trained(layer, x))
    assert str(freeze_batch_normalization(switchable, Freeze.NOTHING)) == mg.debugprint(
        trained(layer, x, freeze=Freeze.NOTHING)
    )


def test_frozen_dialects_do_not_move_by_themselves():
    x = mg.matrix("x", shape=(None, 4))
    layer = lasagne.BatchNormLayer()
    y = trained(layer, x)
    for degree in (Freeze.AVERAGES, Freeze.STATISTICS, Freeze.EVERYTHING):
        mg.function([x], freeze_batch_normalization(y, degree).outputs)(C)
        assert layer.variables["mean"].get_value()[0] == 0
    mg.function([x], freeze_batch_normalization(y, Freeze.NOTHING).outputs)(C)
    assert layer.variables["mean"].get_value()[0] == pytest.approx(0.4)


def test_a_graph_with_gradients_is_frozen_before_they_are_taken():
    x = mg.matrix("x")
    layer = BatchNormalization(4)
    cost = (trained(layer, x) ** 2).sum()
    with pytest.raises(ValueError, match="differentiate then"):
        freeze_batch_normalization([cost, mg.grad(cost, x)], Freeze.STATISTICS)
    frozen = freeze_batch_normalization(cost, Freeze.STATISTICS).outputs[0]
    np.testing.assert_allclose(mg.grad(frozen, x).eval({x: C}), 2 * C, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"mean_only": True}])
def test_no_stale_gradient_survives_a_switch(options, rng):
    """Neither a switch of the mode nor one of the degree leaves a gradient of the former graph."""
    layer = BatchNormalization(4, **options)
    w, x = mg.shared(rng.normal(size=(4, 4)).astype("float32")), mg.matrix("x")
    h = mg.dot(x, w) + 1
    frozen = mg.tanh(trained(layer, h, freeze=Freeze.STATISTICS)).sum()
    for cost, switch in (
        (mg.tanh(layer.apply(h)).sum(), apply_batch_normalization),
        (mg.tanh(trained(layer, h)).sum(), apply_population_normalization),
        (frozen, lambda graph: freeze_batch_normalization(graph, Freeze.NOTHING)),
        (frozen, lambda graph: freeze_batch_normalization(graph, Freeze.EVERYTHING)),
    ):
        with pytest.raises(ValueError, match="differentiate then"):
            switch([cost, mg.grad(cost, w)])
        above = mg.grad(cost, layer.variables["shift"])
        if switch in (apply_batch_normalization, apply_population_normalization):
            (switched, found) = switch([cost, above]).outputs  # the gradient of what comes after is that of the new graph
            values = rng.normal(size=(5, 4)).astype("float32")
            expected = mg.grad(switched, layer.variables["shift"]).eval({x: values})
            np.testing.assert_allclose(found.eval({x: values}), expected, rtol=1e-5, atol=1e-6)


def test_counters_stand_still_with_their_averages():
    flag = mg.shared(2, "flag")
    layer = torch.BatchNorm1d(freeze=flag)
    x = mg.matrix("x", shape=(None, 4))
    step = mg.function([x], trained(layer, x))
    step(C)
    assert layer.get_values()["num_batches_tracked"] == 0
    flag.set_value(0)
    step(C)
    assert layer.get_values()["num_batches_tracked"] == 1


def test_lasagnes_switches_respect_freezing():
    x = mg.matrix("x", shape=(None, 4))
    layer = lasagne.BatchNormLayer()
    y = layer.get_output_for(x, batch_norm_use_averages=True, batch_norm_update_averages=True)
    mg.function([x], freeze_batch_normalization(y, Freeze.AVERAGES).outputs)(C)
    assert layer.variables["mean"].get_value()[0] == 0
    switched = apply_batch_normalization(y).outputs[0]
    assert mg.function([x], switched[0, 0])(C) == pytest.approx(BATCH, rel=1e-6)
    assert layer.variables["mean"].get_value()[0] == pytest.approx(0.4)
    still = lasagne.BatchNormLayer(freeze=Freeze.EVERYTHING)
    mg.function([x], still.get_output_for(x))(C)
    assert still.variables["mean"].get_value()[0] == 0
    with pytest.raises(ValueError, match="index"):
        lasagne.BatchNormLayer((None, 4), n_iter=3).get_output_for(x)


@pytest.mark.parametrize("use", [None, True, False])
def test_caffes_own_mind_is_no_part_of_the_mode(use):
    x = mg.matrix("x", shape=(None, 4))
    layer = caffe.BatchNorm(use)
    inference, train = layer.apply(x), trained(layer, x)
    assert str(apply_batch_normalization(inference)) == mg.debugprint(train)
    assert str(apply_population_normalization(train)) == mg.debugprint(inference)
    assert len(get_batch_normalization_updates(apply_batch_normalization(inference))) == (0 if use else 3)


@pytest.mark.parametrize("degree", [2, True, "statistics", None])
def test_a_degree_is_a_member_of_freeze(degree):
    with pytest.raises(TypeError, match="Freeze"):
        freeze_batch_normalization(trained(BatchNormalization(4), mg.matrix("x")), degree)


# -- the forgotten population ----------------------------------------------------------------------------------------


def cost_of(network):
    """A training cost, and its inputs."""
    x, y = mg.matrix("x"), mg.lvector("y")
    return mg.softmax_crossentropy(trained(network, x), y).mean(), [x, y]


def test_training_without_the_populations_updates_warns_once_with_the_line_to_add():
    network = BatchNormalizedMLP([Tanh(), None], [4, 3, 2], name="net")
    cost, inputs = cost_of(network)
    parameters = mg.ComputationGraph(cost).parameters
    with pytest.warns(UserWarning) as caught:
        mg.function(inputs, cost, updates=sgd(cost, parameters, 0.1))
    (message,) = (str(one.message) for one in caught)
    assert "/net/batch_normalization_0, /net/batch_normalization_1" in message
    assert "moving_average(get_batch_normalization_updates(cost))" in message and "Freeze.AVERAGES" in message
    assert caught[0].filename == __file__


def test_a_forgotten_layer_alone_is_named():
    network = BatchNormalizedMLP([Tanh(), None], [4, 3, 2], name="net")
    cost, inputs = cost_of(network)
    pairs = get_batch_normalization_updates(cost)
    with pytest.warns(UserWarning, match=r"statistics of /net/batch_normalization_1,"):
        mg.function(inputs, cost, updates=sgd(cost, mg.ComputationGraph(cost).parameters, 0.1) + pairs[:2])


def test_there_is_no_warning_where_it_is_meant_or_nothing_learns():
    network = BatchNormalizedMLP([Tanh(), None], [4, 3, 2])
    cost, inputs = cost_of(network)
    parameters = mg.ComputationGraph(cost).parameters
    steps = mg.shared(0, "steps")
    x = inputs[0]
    lasagne_layer = lasagne.BatchNormLayer((None, 4))
    own = (trained(lasagne_layer, x) ** 3).sum()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.function(inputs, cost, updates=[(steps, steps + 1)])
        mg.function(inputs, cost, updates=get_batch_normalization_updates(cost))
        mg.function(inputs, cost, updates=sgd(cost, parameters, 0.1) + moving_average(get_batch_normalization_updates(cost)))
        for degree in (Freeze.AVERAGES, Freeze.STATISTICS):
            meant = freeze_batch_normalization(cost, degree).outputs[0]
            mg.function(inputs, meant, updates=sgd(meant, parameters, 0.1))
        inference = apply_population_normalization(cost).outputs[0]
        mg.function(inputs, inference, updates=sgd(inference, parameters, 0.1))
        accumulator = StatisticsAccumulator(cost)
        mg.function(inputs, cost, updates=sgd(cost, parameters, 0.1) + accumulator.updates)
        mg.function([x], own, updates=sgd(own, lasagne_layer.parameters, 0.1))
        mg.function([x], own, updates=sgd(own, lasagne_layer.parameters, 0.1), no_default_updates=True)
