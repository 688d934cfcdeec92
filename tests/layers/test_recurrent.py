"""Recurrent layers against NumPy, and batch normalization inside of loops: statistics of every step, found by themselves."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.walks import with_bodies
from minigraph.layers import (
    GRU,
    LSTM,
    BatchNormalization,
    BatchNormalizedLSTM,
    Bidirectional,
    Constant,
    Freeze,
    Linear,
    RecurrentStack,
    SimpleRecurrent,
    batch_normalization,
    get_parameter_values,
    set_parameter_values,
)
from minigraph.layers.core.roles import INITIAL_STATE, INPUT, OUTPUT, WEIGHT
from minigraph.printing import debugprint
from minigraph.testing import verify_grad
from minigraph.transforms import (
    Duplicates,
    StatisticsAccumulator,
    apply_batch_normalization,
    apply_population_normalization,
    freeze_batch_normalization,
    get_batch_normalization_updates,
    moving_average,
    overwrite,
    population_gap,
    recompute_population_statistics,
)
from support.backends import on_each


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def own(layer):
    """The layer's own state as NumPy arrays."""
    return {name: variable.get_value() for name, variable in layer.variables.items()}


def drawn(layer, rng):
    """The layer with every one of its parameters drawn at random, biases and first states, too."""
    values = get_parameter_values(layer)
    set_parameter_values(
        layer, {name: value if "population" in name else rng.normal(size=value.shape) * 0.5 for name, value in values.items()}
    )
    return layer


def simple_step(p, x, states):
    h = np.tanh(x @ p["W_input"] + p["b"] + states[0] @ p["W"])
    return (h,)


def lstm_step(p, x, states):
    h, c = states
    i, f, g, o = np.split(x @ p["W_input"] + p["b"] + h @ p["W"], 4, axis=1)
    if "W_cell_to_input" in p:
        i, f = i + c * p["W_cell_to_input"], f + c * p["W_cell_to_forget"]
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    o = o + c * p["W_cell_to_output"] if "W_cell_to_output" in p else o
    return sigmoid(o) * np.tanh(c), c


def gru_step(p, x, states):
    (h,) = states
    u, r, g = np.split(x @ p["W_input"] + p["b"], 3, axis=1)
    gates = h @ p["W_gates"]
    u, r = sigmoid(u + gates[:, : h.shape[1]]), sigmoid(r + gates[:, h.shape[1] :])
    return (u * np.tanh(g + (r * h) @ p["W_candidate"]) + (1 - u) * h,)


LAYERS = {
    "simple": (lambda: SimpleRecurrent(3, 2, dtype="float64"), simple_step, 1),
    "lstm": (lambda: LSTM(3, 2, dtype="float64"), lstm_step, 2),
    "peepholes": (lambda: LSTM(3, 2, peepholes=True, dtype="float64"), lstm_step, 2),
    "gru": (lambda: GRU(3, 2, dtype="float64"), gru_step, 1),
}


def by_hand(step, p, x, states, mask=None):
    """All states at all steps, in NumPy."""
    rows = []
    for t, row in enumerate(x):
        new = step(p, row, states)
        if mask is not None:
            new = tuple(np.where(mask[t][:, None] > 0, one, old) for one, old in zip(new, states, strict=True))
        states = new
        rows.append(new)
    return [np.stack(one) for one in zip(*rows, strict=True)]


def first_states(layer, batch):
    return tuple(np.tile(value, (batch, 1)) for name, value in own(layer).items() if name.startswith("initial_"))


@pytest.mark.parametrize("kind", LAYERS)
@on_each
def test_layers_compute_what_they_say(backend, kind, rng):
    make, step, count = LAYERS[kind]
    layer = make()
    x, mask = mg.tensor("x", dtype="float64", shape=(None, None, 2)), mg.matrix("mask")
    outputs = layer.apply(x, mask=mask)
    plain, turned = layer.apply(x), layer.apply(x, mask=mask, reverse=True)
    last = layer.apply(x, mask=mask, return_sequences=False)
    longer = layer.apply(x, mask=mask, return_initial_states=True)
    wanted = [as_list(one) for one in (outputs, plain, turned, last, longer)]
    drawn(layer, rng)
    given, there = rng.normal(size=(5, 4, 2)), (np.arange(5)[:, None] < [5, 3, 1, 4]).astype("float32")
    f = mg.function([x, mask], [one for some in wanted for one in some], backend=backend)
    found = np.array_split(np.array(f(given, there), dtype=object), 5)
    p, first = own(layer), first_states(layer, 4)
    masked = by_hand(step, p, given, first, there)
    expected = [
        masked,
        by_hand(step, p, given, first),
        by_hand(step, p, given[::-1], first, there[::-1]),
        [one[-1] for one in masked],
        [np.concatenate([one[None], rows]) for one, rows in zip(first, masked, strict=True)],
    ]
    for some, others in zip(found, expected, strict=True):
        assert len(others) == count
        for one, other in zip(some, others, strict=True):
            np.testing.assert_allclose(one.astype("float64"), other, 1e-10, 1e-12)


def as_list(outputs):
    return outputs if isinstance(outputs, list) else [outputs]


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_reach_inputs_and_first_states(kind, rng):
    layer = LAYERS[kind][0]()
    points = [rng.normal(size=(4, 2, 2)), rng.normal(size=(2, 3))]
    drawn(allocated(layer, 2), rng)
    verify_grad(lambda x, states: as_list(layer.apply(x, states=states))[0], points)


def allocated(layer, features):
    layer.apply(mg.tensor("x", dtype="float64", shape=(None, None, features)))
    return layer


def test_one_step_is_a_row_of_the_loop(rng):
    layer = drawn(allocated(LSTM(3, 2, dtype="float64"), 2), rng)
    x, h, c = (mg.tensor(name, dtype="float64", shape=(None, size)) for name, size in (("x", 2), ("h", 3), ("c", 3)))
    one_step = mg.function([x, h, c], layer.apply(x, h, c, iterate=False))
    rows = mg.tensor("rows", dtype="float64", shape=(None, None, 2))
    whole = mg.function([rows, h, c], layer.apply(rows, states=h, cells=c))
    given, states = rng.normal(size=(3, 4, 2)), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))
    expected = whole(given, *states)
    for t in range(3):
        states = one_step(given[t], *states)
        np.testing.assert_allclose(states, [one[t] for one in expected], 1e-12)


def test_states_carried_from_call_to_call_are_one_long_sequence(rng):
    layer = drawn(allocated(LSTM(3, 2, dtype="float64"), 2), rng)
    x = mg.tensor("x", dtype="float64", shape=(None, None, 2))
    carried = [mg.shared(np.zeros((4, 3)), name) for name in ("h", "c")]
    h, c = layer.apply(x, states=carried[0], cells=carried[1], truncate_gradient=3)
    f = mg.function([x], h, updates={carried[0]: h[-1], carried[1]: c[-1]})
    zeros = [mg.zeros((4, 3), dtype="float64")] * 2
    whole = mg.function([x], layer.apply(x, states=zeros[0], cells=zeros[1])[0])
    given = rng.normal(size=(8, 4, 2))
    np.testing.assert_allclose(np.concatenate([f(given[:5]), f(given[5:])]), whole(given), 1e-12)


def test_both_directions_and_stacks(rng):
    x = mg.tensor("x", dtype="float64", shape=(None, None, 2))
    both = Bidirectional(SimpleRecurrent(3, 2), dtype="float64")
    y = both.apply(x)
    drawn(both, rng)
    given = rng.normal(size=(5, 4, 2))
    there, back = (
        by_hand(simple_step, own(layer), one, first_states(layer, 4))[0]
        for layer, one in ((both.forward, given), (both.backward, given[::-1]))
    )
    np.testing.assert_allclose(y.eval({x: given}), np.concatenate([there, back[::-1]], axis=-1), 1e-12)
    stack = RecurrentStack([SimpleRecurrent(3, 2), LSTM(4), GRU(2, 4)], dtype="float64")
    states, upper, cells, top = stack.apply(x)
    drawn(stack, rng)
    f = mg.function([x], [states, upper, cells, top])
    found = f(given)
    first, second, third = stack.transitions
    h = by_hand(simple_step, own(first), given, first_states(first, 4))[0]
    fork = own(stack.forks[1])
    projected = h @ fork["W"] + fork["b"]
    p = {**own(second), "W_input": np.eye(16), "b": 0}
    h2, c2 = by_hand(lstm_step, p, projected, first_states(second, 4))
    expected = [h, h2, c2, *by_hand(gru_step, own(third), h2, first_states(third, 4))]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, 1e-10)
    row = mg.tensor("row", dtype="float64", shape=(None, 2))
    given_states = {name: mg.constant(one[1]) for name, one in zip(chain(*stack.names), expected, strict=True)}
    one_step = stack.apply(row, iterate=False, **given_states)
    np.testing.assert_allclose(mg.function([row], one_step)(given[2])[3], expected[3][2], 1e-10)
    np.testing.assert_allclose(stack.apply(x, return_sequences=False)[3].eval({x: given}), expected[3][-1], 1e-10)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_stack_of_layers_that_go_both_ways(reverse, rng):
    lower, middle, upper = Bidirectional(LSTM(3, 2)), GRU(4), Bidirectional(SimpleRecurrent(3), name="upper")
    stack = RecurrentStack([lower, middle, upper], dtype="float64", skip_connections=True)
    x, mask = mg.tensor3("x", dtype="float64"), mg.matrix("mask", dtype="float64")
    states, cells, second, top = stack.apply(x, mask=mask, reverse=reverse)
    assert [one.type.shape[-1] for one in (states, cells, second, top)] == [6, 6, 4, 6]
    assert stack.names == [[], ["states_1"], []]
    drawn(stack, rng)
    way = slice(None, None, -1) if reverse else slice(None)
    there = lower.apply(x[way], mask=mask[way])[0]
    over = middle.apply(stack.forks[1](there) + stack.skips[1](x[way]), mask=mask[way])
    expected = upper.apply(stack.forks[2](over) + stack.skips[2](x[way]), mask=mask[way])
    given = rng.normal(size=(5, 4, 2)), (rng.uniform(size=(5, 4)) > 0.3).astype("float64")
    found = mg.function([x, mask], [states, second, top, there, over, expected])(*given)
    for one, other in zip(found[:3], found[3:], strict=True):
        np.testing.assert_allclose(one, other, 1e-10, 1e-12)
    last = stack.apply(x, mask=mask, reverse=reverse, return_sequences=False)[-1]
    np.testing.assert_allclose(last.eval({x: given[0], mask: given[1]}), found[2][-1], 1e-10)
    assert mg.grad(mg.square(top).sum(), stack.parameters)
    with pytest.raises(ValueError, match="single step"):
        stack.apply(x[0], iterate=False)


def test_peepholes_start_as_they_are_told():
    lstm = LSTM(3, 2, peepholes=True, peepholes_init=Constant(2.0))
    lstm.allocate()
    assert all((lstm.variables[f"W_cell_to_{gate}"].get_value() == 2).all() for gate in ("input", "forget", "output"))


def test_inputs_that_were_projected_already(rng):
    layer = LSTM(3, dtype="float64")
    x = mg.tensor("x", dtype="float64", shape=(None, None, 12))
    h, _ = layer.apply(x)
    given = rng.normal(size=(5, 4, 12))
    p = {**own(layer), "W_input": np.eye(12), "b": 0}
    np.testing.assert_allclose(h.eval({x: given}), by_hand(lstm_step, p, given, first_states(layer, 4))[0], 1e-12)
    with pytest.raises(mg.errors.InvalidValueError, match=r"12 features.*or give input_dim"):
        LSTM(3).apply(mg.tensor("x", shape=(None, None, 2)))


def test_loops_are_part_of_the_annotated_graph():
    layer = LSTM(3, 2)
    x = mg.tensor("x", shape=(None, None, 2))
    h, _ = layer.apply(x)
    variables = mg.ComputationGraph(h).variables
    names = [one.name for one in mg.VariableFilter(roles=[OUTPUT], layers=[layer])(variables)]
    assert names == ["lstm_apply_output_0", "lstm_apply_output_1", "lstm_apply_output_0"]  # those of a step, then the whole
    assert {one.name for one in mg.VariableFilter(roles=[INPUT], applications=[layer.apply])(variables)} >= {
        "lstm_apply_inputs", "lstm_apply_states", "lstm_apply_cells",
    }  # fmt: skip
    assert [one.name for one in mg.VariableFilter(roles=[INITIAL_STATE])(variables)] == ["initial_state", "initial_cells"]
    assert set(mg.VariableFilter(roles=[WEIGHT])(variables)) == {layer.variables["W"], layer.variables["W_input"]}
    assert len(mg.ComputationGraph(h).parameters) == 5


def test_mistakes_of_recurrent_layers():
    layer, x = LSTM(3, 2), mg.tensor("x", shape=(6, None, 2))
    cases = {
        "2 features on the last axis": lambda: layer.apply(mg.matrix("x")),
        "needs the sequence 'inputs'": lambda: layer.apply(mask=mg.matrix("mask")),
        "has 5 rows, and 6 are needed": lambda: layer.apply(x, mask=mg.tensor("mask", shape=(5, None))),
        "input_dim": lambda: LSTM(3, 0),
        "dim must be": lambda: GRU(0),
        "recurrent layer": lambda: RecurrentStack([Linear(3, 2)]),
        "at least one": lambda: RecurrentStack([]),
        "takes 4 features": lambda: RecurrentStack([LSTM(3, 2), LSTM(3, 4)]),
        "no states named": lambda: RecurrentStack([LSTM(3, 2)]).apply(x, cells_4=x[0]),
        "prototype": lambda: Bidirectional(layer),
    }
    layer.apply(x)
    for message, build in cases.items():
        with pytest.raises(mg.errors.MinigraphError, match=message):
            build()


# -- normalization in loops ------------------------------------------------------------------------------------------


class Normalizer:
    """Batch normalization in NumPy that notes the statistics of every step."""

    def __init__(self, layer):
        self.p, self.epsilon, self.seen = own(layer), layer.epsilon, []

    def __call__(self, x, weights):
        weights = np.broadcast_to(weights[:, None], x.shape)
        count = weights.sum(0)
        mean = (x * weights).sum(0) / count
        stdev = np.sqrt((np.square(x - mean) * weights).sum(0) / count + self.epsilon)
        self.seen.append((mean, stdev))
        return np.where(weights > 0, (x - mean) / stdev, 0) * self.p["scale"] + self.p.get("shift", 0)

    def stacked(self):
        return [np.stack(one) for one in zip(*self.seen, strict=True)]


def normalized_by_hand(layer, x, mask):
    """States of a normalized LSTM in training mode, and the mean and deviation of each normalization at each step."""
    p = own(layer)
    norms = [Normalizer(one) for one in (layer.normalize_input, layer.normalize_states, layer.normalize_cells)]

    def step(p, row, states):
        h, c = states
        weights = next(masks)
        z = norms[0](row @ p["W_input"], weights) + norms[1](h @ p["W"], weights)
        i, f, g, o = np.split(z, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(norms[2](c, weights)), c

    masks = iter(mask)
    h, c = by_hand(step, p, x, first_states(layer, x.shape[1]), mask)
    return h, c, [one.stacked() for one in norms]


def normalized_lstm(rng, n_iter=5, **options):
    layer = BatchNormalizedLSTM(3, n_iter, 2, dtype="float64", **options)
    x = mg.tensor("x", dtype="float64", shape=(None, None, 2))
    inference = layer.apply(x)[0]
    drawn(layer, rng)
    return layer, x, inference


@pytest.mark.parametrize("steps", [5, 3, 8, 1])
@pytest.mark.parametrize("masked", [False, True])
@on_each
def test_pairs_of_every_step_equal_statistics_by_hand(backend, masked, steps, rng):
    layer, x, _ = normalized_lstm(rng)
    mask = mg.matrix("mask")
    with batch_normalization(layer):
        h, c = layer.apply(x, mask=mask) if masked else layer.apply(x)
    pairs = get_batch_normalization_updates(h)
    given, there = rng.normal(size=(steps, 6, 2)), np.ones((steps, 6), "float32")
    if masked:
        there = (np.arange(steps)[:, None] < [steps, 3, 1, 4, 2, steps]).astype("float32")
    f = mg.function([x, mask], [h, c, *(one for _, one in pairs)], on_unused_input="ignore", backend=backend)
    found_h, found_c, *found = f(given, there)
    expected_h, expected_c, statistics = normalized_by_hand(layer, given, there)
    np.testing.assert_allclose(found_h, expected_h, 1e-9, 1e-12)
    np.testing.assert_allclose(found_c, expected_c, 1e-9, 1e-12)
    assert [p.name for p, _ in pairs] == ["population_mean", "population_stdev"] * 3
    before = [population.get_value() for population, _ in pairs]
    for estimate, rows, old in zip(found, [one for two in statistics for one in two], before, strict=True):
        assert estimate.shape == (5, rows.shape[1])
        own_rows = min(steps, 5 if steps == 5 else 4)
        np.testing.assert_allclose(estimate[:own_rows], rows[:own_rows], 1e-9, 1e-12)
        np.testing.assert_array_equal(estimate[steps:], old[steps:])  # no step says anything about later rows


def test_steps_beyond_the_last_row_count_together(rng):
    layer, x, _ = normalized_lstm(rng)
    with batch_normalization(layer):
        h, _ = layer.apply(x)
    given = rng.normal(size=(8, 6, 2))
    (_, mean), (_, stdev), *_ = get_batch_normalization_updates(h)
    z = given[4:].reshape(-1, 2) @ layer.variables["W_input"].get_value()
    found_mean, found_stdev = mg.function([x], [mean, stdev])(given)
    np.testing.assert_allclose(found_mean[4], z.mean(0), 1e-10)
    np.testing.assert_allclose(found_stdev[4], np.sqrt(z.var(0) + 1e-4), 1e-10)


@on_each
def test_a_moving_average_changes_the_rows_that_were_seen(backend, rng):
    layer, x, inference = normalized_lstm(rng)
    with batch_normalization(layer):
        h, _ = layer.apply(x)
    pairs = get_batch_normalization_updates(h)
    learn = mg.function([x], h, updates=moving_average(pairs, 0.25), backend=backend)
    estimate = mg.function([x], [one for _, one in pairs], backend=backend)
    given = rng.normal(size=(3, 6, 2))
    before, estimates = [one.get_value() for one, _ in pairs], estimate(given)
    learn(given)
    for (population, _), old, new in zip(pairs, before, estimates, strict=True):
        np.testing.assert_allclose(population.get_value()[:3], 0.75 * old[:3] + 0.25 * new[:3], 1e-12)
        np.testing.assert_array_equal(population.get_value()[3:], old[3:])
    # in inference a step beyond the last row uses the last row
    see = mg.function([x], inference, backend=backend)
    layer.normalize_input.variables["population_mean"].set_value(np.arange(60.0).reshape(5, 12))
    long = rng.normal(size=(9, 6, 2))
    rows = see(long)
    assert see(long[:2]).shape == (2, 6, 3)
    np.testing.assert_allclose(see(long[:7]), rows[:7])
    p = own(layer.normalize_input)
    assert np.abs(rows[5:]).max() > 0
    at_seven = layer.normalize_input.apply(mg.tensor("z", dtype="float64", shape=(None, 12)), 7)
    (z,) = mg.ComputationGraph(at_seven).inputs
    value = rng.normal(size=(2, 12))
    normalized = (value - p["population_mean"][4]) / p["population_stdev"][4]
    np.testing.assert_allclose(at_seven.eval({z: value}), normalized * p["scale"] + p["shift"])


@pytest.mark.parametrize("n_iter", [5, None])
def test_transform_and_context_manager_agree_node_for_node(n_iter, rng):
    layer, x, inference = normalized_lstm(rng, n_iter)
    with batch_normalization(layer):
        training = layer.apply(x)[0]
    changed = apply_batch_normalization(inference).outputs[0]
    assert debugprint(changed) == debugprint(training)
    back = apply_population_normalization(changed).outputs[0]
    assert debugprint(back) == debugprint(inference)


def test_unrolled_calls_at_different_steps_are_no_duplicates(rng):
    layer, _, _ = normalized_lstm(rng, 3)
    rows = mg.tensor("rows", dtype="float64", shape=(3, None, 2))
    with batch_normalization(layer):
        states = layer.initial_states(rows.shape[1])
        for step in range(3):
            states = layer.apply(rows[step], *states, step=step, iterate=False)
        looped = layer.apply(rows)
    unrolled_pairs, looped_pairs = (get_batch_normalization_updates(one) for one in (states[0], looped[0]))
    assert [one for one, _ in unrolled_pairs] == [one for one, _ in looped_pairs]
    both = [[estimate for _, estimate in pairs] for pairs in (unrolled_pairs, looped_pairs)]
    given = rng.normal(size=(3, 6, 2))
    for mine, theirs in zip(*(mg.function([rows], estimates)(given) for estimates in both), strict=True):
        np.testing.assert_allclose(mine, theirs, 1e-10)


@on_each
def test_without_rows_of_their_own_steps_are_pooled_averaged_or_follow_each_other(backend, rng):
    layer = BatchNormalization(2, dtype="float64")
    x = mg.tensor("x", dtype="float64", shape=(4, None, 2))
    with batch_normalization(layer):
        y = mg.scan(lambda row: layer.apply(row), x)
    with pytest.raises(ValueError, match="every step of a loop"):
        get_batch_normalization_updates(y)
    given = rng.normal(size=(4, 6, 2)) + np.arange(4)[:, None, None]
    means, stdevs = given.mean(1), np.sqrt(given.var(1) + 1e-4)
    flat = given.reshape(-1, 2)
    expected = {
        Duplicates.POOLED: (flat.mean(0), np.sqrt(flat.var(0) + 1e-4)),
        Duplicates.MEAN: (means.mean(0), stdevs.mean(0)),
    }
    for duplicates, both in expected.items():
        pairs = get_batch_normalization_updates(y, duplicates=duplicates)
        assert [estimate.type for _, estimate in pairs] == [population.type for population, _ in pairs]
        found = mg.function([x], [one for _, one in pairs], backend=backend)(given)
        np.testing.assert_allclose(found, both, 1e-10)
    pairs = get_batch_normalization_updates(y, duplicates=Duplicates.SEQUENTIAL)
    assert len(pairs) == 8
    mg.function([x], [], updates=moving_average(pairs, 0.5), backend=backend)(given)
    mean = np.zeros(2)
    for row in means:
        mean = 0.5 * mean + 0.5 * row
    np.testing.assert_allclose(layer.variables["population_mean"].get_value(), mean, 1e-12)
    unknown = mg.tensor("x", dtype="float64", shape=(None, None, 2))
    with batch_normalization(layer):
        z = mg.scan(lambda row: layer.apply(row), unknown)
    with pytest.raises(ValueError, match="unknown length"):
        get_batch_normalization_updates(z, duplicates=Duplicates.SEQUENTIAL)


@on_each
def test_steps_in_any_order_of_rows(backend, rng):
    layer = BatchNormalization(2, n_iter=4, dtype="float64")
    x, rows = mg.tensor("x", dtype="float64", shape=(None, None, 2)), mg.lvector("rows")
    with batch_normalization(layer):
        y = mg.scan(lambda row, number: layer.apply(row, number), [x, rows])
        z = mg.scan(lambda row: layer.apply(row, 1), x)
    given, numbers = rng.normal(size=(5, 6, 2)), [2, 0, -4, 9, 2]  # rows 2, 0, 0, 3, 2; nothing about row 1
    (_, mean), (_, stdev) = get_batch_normalization_updates(y)
    found = mg.function([x, rows], [mean, stdev], backend=backend)(given, numbers)
    for row, steps in ((0, [1, 2]), (2, [0, 4]), (3, [3])):
        flat = given[steps].reshape(-1, 2)
        np.testing.assert_allclose(found[0][row], flat.mean(0), 1e-10)
        np.testing.assert_allclose(found[1][row], np.sqrt(flat.var(0) + 1e-4), 1e-10)
    assert found[0][1].tolist() == [0, 0]
    (_, mean), _ = get_batch_normalization_updates(z)
    np.testing.assert_allclose(mean.eval({x: given}), [[0, 0], given.reshape(-1, 2).mean(0), [0, 0], [0, 0]], 1e-10)


def test_a_normalization_in_a_loop_in_a_loop(rng):
    layer = BatchNormalization(2, dtype="float64")
    x = mg.tensor("x", dtype="float64", shape=(None, None, None, 2))
    with batch_normalization(layer):
        y = mg.scan(lambda outer: mg.scan(lambda row: layer.apply(row), outer), x)
    given = rng.normal(size=(3, 4, 6, 2))
    (_, mean), (_, stdev) = get_batch_normalization_updates(y, duplicates=Duplicates.POOLED)
    flat = given.reshape(-1, 2)
    np.testing.assert_allclose(mean.eval({x: given}), flat.mean(0), 1e-10)
    np.testing.assert_allclose(stdev.eval({x: given}), np.sqrt(flat.var(0) + 1e-4), 1e-10)
    assert debugprint(apply_batch_normalization(apply_population_normalization(y)).outputs) == debugprint([y])


def test_statistics_of_many_batches_through_loops(rng):
    layer, x, inference = normalized_lstm(rng)
    batches = [rng.normal(size=(steps, size, 2)) for steps, size in ((5, 3), (4, 7), (6, 2), (2, 5))]
    graph = apply_batch_normalization(inference)
    found = recompute_population_statistics(graph, batches)
    mean = layer.normalize_input.variables["population_mean"]
    w = layer.variables["W_input"].get_value()
    for row in range(4):
        z = np.concatenate([batch[row] @ w for batch in batches if len(batch) > row])
        np.testing.assert_allclose(found[mean][row], z.mean(0), 1e-6)
    accumulator = StatisticsAccumulator(graph)
    see = mg.function([x], [], updates=accumulator.updates)
    for batch in batches:
        see(batch)
    mg.function([], [], updates=overwrite(accumulator.pairs))()
    np.testing.assert_allclose(mean.get_value(), found[mean], 1e-6)
    gap = population_gap(graph, batches[0])
    assert [one.means.shape[0] for one in gap.layers] == [5, 5, 5]


def test_freezing_in_loops(rng):
    layer, x, inference = normalized_lstm(rng)
    with batch_normalization(layer):
        training = layer.apply(x)[0]
    given = rng.normal(size=(5, 6, 2))
    still = freeze_batch_normalization(training, Freeze.STATISTICS).outputs[0]
    np.testing.assert_allclose(still.eval({x: given}), inference.eval({x: given}), 1e-12)
    assert get_batch_normalization_updates(freeze_batch_normalization(training, Freeze.AVERAGES)) == []
    held = freeze_batch_normalization(training, Freeze.EVERYTHING)
    scales = [layer.normalize_cells.variables["scale"], layer.normalize_input.variables["shift"]]
    assert not set(scales) & set(held.parameters)
    assert set(scales) <= set(mg.ComputationGraph(training).parameters)


@on_each
def test_a_population_that_follows_by_itself_does_so_at_every_step(backend, rng):
    layer = mg.dialects.torch.BatchNorm1d(2, dtype="float64")
    x = mg.tensor("x", dtype="float64", shape=(None, None, 2))
    with batch_normalization(layer):
        y = mg.scan(lambda row: layer.apply(row), x)
    given = rng.normal(size=(4, 6, 2))
    mg.function([x], y, backend=backend)(given)
    mean = np.zeros(2)
    for row in given:
        mean = 0.9 * mean + 0.1 * row.mean(0)
    np.testing.assert_allclose(layer.variables["running_mean"].get_value(), mean, 1e-10)


@on_each
def test_gradients_flow_through_the_statistics_of_every_step(backend, rng):
    layer, _, _ = normalized_lstm(rng, 3)

    def build(x):
        with batch_normalization(layer):
            return layer.apply(x)[0]

    verify_grad(build, [rng.normal(size=(4, 5, 2))], backend=backend)


def test_a_forgotten_population_in_a_loop_warns(rng):
    layer, x, _ = normalized_lstm(rng)
    with batch_normalization(layer):
        cost = mg.square(layer.apply(x)[0]).mean()
    w = layer.variables["W"]
    with pytest.warns(UserWarning, match="normalize_cells"):
        mg.function([x], cost, updates={w: w - 0.1 * mg.grad(cost, w)})
    assert any(one.name == "normalize_cells_offset" for one in with_bodies(mg.ComputationGraph(cost).variables))
