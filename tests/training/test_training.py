"""Update rules, schedules, and what is done to gradients, against their formulas in NumPy float64."""

from __future__ import annotations

import cProfile
import pstats
import time

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import BatchNormalizedMLP, Tanh, batch_normalization
from minigraph.layers.core.roles import BIAS, WEIGHT
from minigraph.training import (
    adadelta,
    adagrad,
    adam,
    adamw,
    amsgrad,
    clip_gradient_norm,
    clip_gradients,
    cosine_decay,
    exponential_decay,
    linear_warmup,
    momentum,
    nesterov,
    rmsprop,
    sgd,
    step_decay,
    weight_decay,
)
from minigraph.transforms import get_batch_normalization_updates, moving_average

START = np.array([1.0, -2.0, 3.0])
TARGET = np.array([0.5, 0.25, -1.0])


def slope(p):
    """The gradient of sum((p - TARGET)^4) / 4, which changes from step to step."""
    return (p - TARGET) ** 3


def by_sgd(p, g, state, n, rate):
    return p - rate * g


def by_momentum(p, g, state, n, rate):
    state["v"] = 0.9 * state.get("v", 0) - rate * g
    return p + state["v"]


def by_nesterov(p, g, state, n, rate):
    state["v"] = 0.9 * state.get("v", 0) - rate * g
    return p + 0.9 * state["v"] - rate * g


def by_adagrad(p, g, state, n, rate):
    state["s"] = state.get("s", 0) + g**2
    return p - rate * g / np.sqrt(state["s"] + 1e-6)


def by_rmsprop(p, g, state, n, rate):
    state["s"] = 0.9 * state.get("s", 0) + 0.1 * g**2
    return p - rate * g / np.sqrt(state["s"] + 1e-6)


def by_adadelta(p, g, state, n, rate):
    state["s"] = 0.95 * state.get("s", 0) + 0.05 * g**2
    step = g * np.sqrt(state.get("t", 0) + 1e-6) / np.sqrt(state["s"] + 1e-6)
    state["t"] = 0.95 * state.get("t", 0) + 0.05 * step**2
    return p - rate * step


def by_adam(p, g, state, n, rate, decay=0.0, greatest=False):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    state["max"] = np.maximum(state.get("max", 0), state["v"])
    scale = state["max"] if greatest else state["v"]
    direction = (state["m"] / (1 - 0.9**n)) / (np.sqrt(scale / (1 - 0.999**n)) + 1e-8)
    return p * (1 - rate * decay) - rate * direction


RULES = {
    sgd: by_sgd,
    momentum: by_momentum,
    nesterov: by_nesterov,
    adagrad: by_adagrad,
    rmsprop: by_rmsprop,
    adadelta: by_adadelta,
    adam: by_adam,
    adamw: lambda *args: by_adam(*args, decay=0.01),
    amsgrad: lambda *args: by_adam(*args, greatest=True),
}


def run(rule, rate, steps, dtype="float64"):
    """The parameter after each of so many steps of a rule."""
    p = mg.shared(START.astype(dtype), "p", tags=(WEIGHT,))
    cost = ((p - TARGET.astype(dtype)) ** 4).sum() / 4
    step = mg.function([], [], updates=rule(cost, [p], rate))
    path = []
    for _ in range(steps):
        step()
        path.append(p.get_value())
    return path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_follow_their_formulas(rule):
    p, state = START.copy(), {}
    for n, ours in enumerate(run(rule, 0.01, 20), start=1):
        p = RULES[rule](p, slope(p), state, n, 0.01)
        np.testing.assert_allclose(ours, p, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_keep_the_dtype_of_the_parameter(rule):
    rate = mg.shared(np.float64(0.01), "rate")
    assert run(rule, rate, 3, "float32")[-1].dtype == "float32"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rules_decrease_the_cost(rule):
    first, *_, last = run(rule, 1.0 if rule is adadelta else 0.02, 300)
    assert ((last - TARGET) ** 4).sum() < ((first - TARGET) ** 4).sum()


def test_gradients_may_be_given_in_place_of_a_cost():
    p = mg.shared(START, "p")
    ((target, value),) = sgd([p * 2], [p], 0.5)
    assert target is p
    np.testing.assert_allclose(value.eval(), START - 0.5 * 2 * START)


def test_a_shared_rate_is_read_at_every_step():
    p, rate = mg.shared(START, "p"), mg.shared(np.float64(0.1), "rate")
    step = mg.function([], [], updates=sgd(p.sum(), [p], rate))
    step()
    rate.set_value(0.0)
    step()
    np.testing.assert_allclose(p.get_value(), START - 0.1)


SCHEDULES = [
    (exponential_decay(0.05, 0.9, 2), lambda n: 0.05 * 0.9 ** (n / 2)),
    (step_decay(0.05, 0.1, 3), lambda n: 0.05 * 0.1 ** (n // 3)),
    (cosine_decay(0.05, 6, 0.01), lambda n: 0.01 + 0.04 * 0.5 * (1 + np.cos(np.pi * min(n / 6, 1)))),
    (linear_warmup(0.05, 4), lambda n: 0.05 * min((n + 1) / 4, 1)),
    (linear_warmup(step_decay(0.05, 0.1, 6), 4), lambda n: min((n + 1) / 4, 1) * 0.05 * 0.1 ** (n // 6)),
]


@pytest.mark.parametrize(("schedule", "formula"), SCHEDULES)
@pytest.mark.parametrize("rule", [sgd, adam], ids=lambda rule: rule.__name__)
def test_schedules_give_the_rate_of_each_step(schedule, formula, rule):
    p, state = START.copy(), {}
    for n, ours in enumerate(run(rule, schedule, 9)):
        p = RULES[rule](p, slope(p), state, n + 1, formula(n))
        np.testing.assert_allclose(ours, p, rtol=1e-11)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_schedules_need_a_number_of_steps(steps):
    with pytest.raises(ValueError, match="number of steps"):
        cosine_decay(0.1, steps)


def test_clipping_by_value():
    (clipped,) = clip_gradients([mg.constant([-5.0, 0.5, 2.0])], 1.0)
    np.testing.assert_array_equal(clipped.eval(), [-1.0, 0.5, 1.0])


@pytest.mark.parametrize(("limit", "scale"), [(1.0, 1 / 13), (13.0, 1.0), (20.0, 1.0)])
def test_clipping_by_the_global_norm(limit, scale):
    gradients = [mg.constant([3.0, 4.0]), mg.constant(12.0)]
    first, second = clip_gradient_norm(gradients, limit)
    np.testing.assert_allclose(first.eval(), np.array([3.0, 4.0]) * scale, rtol=1e-6)
    np.testing.assert_allclose(second.eval(), 12.0 * scale, rtol=1e-6)


def test_clipping_a_zero_gradient_gives_zero():
    (clipped,) = clip_gradient_norm([mg.constant([0.0, 0.0])], 1.0)
    np.testing.assert_array_equal(clipped.eval(), [0.0, 0.0])


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_limits_of_gradients_are_positive(limit):
    for clip in (clip_gradients, clip_gradient_norm):
        with pytest.raises(ValueError, match="gradients must be"):
            clip([mg.constant(1.0)], limit)


def test_gradients_may_come_from_an_iterator():
    gradients = [mg.constant([3.0]), mg.constant([4.0])]
    clipped = clip_gradients(iter(gradients), 1.0), clip_gradient_norm({"a": gradients[0], "b": gradients[1]}.values(), 1.0)
    assert [[float(one.eval()[0]) for one in each] for each in clipped] == [[1.0, 1.0], pytest.approx([0.6, 0.8])]


def test_weight_decay_goes_by_role():
    w, b = mg.shared(np.float64([2.0]), "w", tags=(WEIGHT,)), mg.shared(np.float64([2.0]), "b", tags=(BIAS,))
    zero = mg.constant(np.float64([0.0]))
    dw, db = weight_decay([zero, zero], [w, b], 0.1)
    assert dw.eval() == pytest.approx(0.2) and db.eval() == 0
    pairs = dict(adamw([zero, zero], [w, b], 0.5, weight_decay=0.1))
    assert pairs[w].eval() == pytest.approx(1.9) and pairs[b].eval() == 2.0


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (lambda p: sgd(p.sum(), [p * 2], 0.1), TypeError, "shared variables"),
        (lambda p: sgd(p.sum(), [p, p], 0.1), ValueError, "listed twice"),
        (lambda p: sgd([p, p], [p], 0.1), ValueError, "as many gradients"),
        (lambda p: sgd(mg.shared(1.0), [p], 0.1), ValueError, "does not depend"),
    ],
)
def test_what_cannot_be_updated_raises(mistake, error, message):
    with pytest.raises(error, match=message):
        mistake(mg.shared(START, "p"))


def test_rules_compose_with_rules_over_pairs_by_concatenation(rng):
    """One function trains the weights and moves the population, and each does what it would do alone."""

    def setup():
        network = BatchNormalizedMLP([Tanh(), None], [4, 5, 3])
        x, labels = mg.matrix("x"), mg.lvector("labels")
        with batch_normalization(network):
            cost = mg.softmax_crossentropy(network.apply(x), labels).mean()
        graph = mg.ComputationGraph(cost)
        return graph.parameters, (x, labels), cost, get_batch_normalization_updates(graph)

    batch, labels = rng.normal(size=(16, 4)).astype("float32"), rng.integers(0, 3, 16)
    parameters, inputs, cost, pairs = setup()
    mg.function(inputs, cost, updates=adam(cost, parameters, 0.1) + moving_average(pairs))(batch, labels)
    alone, others, other_cost, other_pairs = setup()
    mg.function(others[:1], [], updates=moving_average(other_pairs))(batch)
    with pytest.warns(UserWarning, match="not the population statistics of /batch_normalized_mlp/batch_normalization_0"):
        step = mg.function(others, [], updates=adam(other_cost, alone, 0.1))
    step(batch, labels)
    for ours, theirs in zip(parameters, alone, strict=True):
        np.testing.assert_array_equal(ours.get_value(), theirs.get_value())
    for (ours, _), (theirs, _) in zip(pairs, other_pairs, strict=True):
        np.testing.assert_array_equal(ours.get_value(), theirs.get_value())


def build_deep(layers):
    """Build, differentiate and compile a network of so many normalized layers."""
    network = BatchNormalizedMLP([Tanh() for _ in range(layers)], [8] * (layers + 1))
    x = mg.matrix("x")
    with batch_normalization(network):
        cost = (network.apply(x) ** 2).sum()
    graph = mg.ComputationGraph(cost)
    updates = adam(cost, graph.parameters) + moving_average(get_batch_normalization_updates(graph))
    mg.function([x], cost, updates=updates)


def test_many_normalized_layers_compile_in_linear_time():
    """64 layers with gradients and Adam within 10 s, and twice the layers with less than 2.2 times the calls."""
    start = time.process_time()
    build_deep(64)
    assert time.process_time() - start < 10

    def calls(layers):
        with cProfile.Profile() as profile:
            build_deep(layers)
        return pstats.Stats(profile).total_calls

    made = {layers: calls(layers) for layers in (8, 16, 32)}
    for layers in (8, 16):
        assert made[2 * layers] < 2.2 * made[layers], made


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_parameters_of_16_bits_stay_finite(rule):
    """Squares of small gradients, and epsilon, are 0 in 16 bits: the rules compute in 32."""
    p = mg.shared(np.float16([1.0, 1.0, 1.0]), "p", tags=(WEIGHT,))
    step = mg.function([], [], updates=rule([mg.constant(np.float16([1.0, 0.0, 1e-5]))], [p], 0.1))
    for _ in range(3):
        step()
    assert p.dtype == "float16" and np.isfinite(p.get_value()).all()


@pytest.mark.parametrize(("dtype", "size"), [("float16", 300.0), ("float32", 1e30)])
def test_clipping_does_not_overflow(dtype, size):
    (clipped,) = clip_gradient_norm([mg.constant(np.full(4, size, dtype))], 1.0)
    np.testing.assert_allclose(clipped.eval(), 0.5, rtol=1e-3)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rates_may_be_numbers_of_numpy(rule):
    for ours, theirs in zip(run(rule, np.float64(0.01), 3, "float32"), run(rule, 0.01, 3, "float32"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_gradient_must_have_the_type_of_its_parameter():
    p = mg.shared(START, "p")
    for wrong in (mg.constant(np.float64(1.0)), mg.constant(np.ones((2, 3))), mg.constant(np.float32([1, 2, 3]))):
        with pytest.raises(TypeError, match="does not have the type"):
            sgd([wrong], [p], 0.1)
