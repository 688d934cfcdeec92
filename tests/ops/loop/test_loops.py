"""Loops: Theano's semantics, gradients against steps written out, and what is told of them."""

from __future__ import annotations

import copy
import gc
import pickle
import re
import tracemalloc

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu.backend import CompiledRegion
from minigraph.compiler.shape_cache import CompiledLoop
from minigraph.compiler.shaped import rematerialize as recompute
from minigraph.core.walks import with_bodies
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan
from minigraph.testing import compute_plainly, verify_grad
from support.backends import BACKENDS, compiled, on_each
from support.loop_generator import random_loop
from support.sweep import rounds


@pytest.mark.parametrize("seed", range(rounds(14, 60)))
def test_random_loops_equal_their_steps_written_out(seed, monkeypatch):
    """In half of them rows are computed again wherever that can be, however large what they are computed from."""
    if seed % 4 > 1:
        monkeypatch.setattr(recompute, "MANY_BYTES", 0)
        monkeypatch.setattr(recompute, "TIMES_SMALLER", 0.1)
    one = random_loop(seed)
    wanted = [[*outputs] for outputs in (one.looped, one.unrolled)]
    for outputs in wanted:
        weights = [np.random.default_rng(seed + k).normal(size=3) for k, _ in enumerate(outputs)]
        terms = [mg.square(out - weight).sum() for out, weight in zip(outputs, weights, strict=True)]
        cost = sum(terms[1:], terms[0]) + outputs[0][-1].sum()
        slopes = mg.grad(cost, one.leaves, disconnected_inputs="ignore")
        outputs += slopes
        if seed % 2:
            curved = sum((mg.square(slope).sum() for slope in slopes[1:]), mg.square(slopes[0]).sum())
            outputs += mg.grad(curved, one.leaves, disconnected_inputs="ignore")
    start = [variable.get_value() for variable in one.state]
    after = dict(mg.ComputationGraph(wanted[1]).updates) | dict(one.after)
    state = [after.get(variable, variable) for variable in one.state]
    expected_values = compute_plainly([*wanted[1], *state], dict(one.values))
    for backend in BACKENDS:
        for variable, value in zip(one.state, start, strict=True):
            variable.set_value(value)
        f = mg.function(list(one.values), wanted[0], on_unused_input="ignore", backend=backend)
        assert f.backend == backend
        found_values = [*f(*one.values.values()), *(variable.get_value() for variable in one.state)]
        for k, (found, expected) in enumerate(zip(found_values, expected_values, strict=True)):
            np.testing.assert_allclose(found, expected, 1e-9, 1e-9, err_msg=f"{one.title}, {backend}, output {k}")


@compiled
@pytest.mark.parametrize("many", [0, 1 << 40])
def test_rows_that_are_quickly_computed_are_not_kept(many, monkeypatch):
    """What a scale's gradient needs at all steps is read in slices and as a whole, and computed from much less."""
    monkeypatch.setattr(recompute, "MANY_BYTES", many)
    width, leaves = (
        64,
        [mg.tensor("x", shape=(None, None, 1)), mg.vector("weights", shape=(64,)), mg.vector("scale", shape=(64,))],
    )
    x, weights, scale = leaves

    def step(row, state):
        centred = row * weights - (row * weights).mean(0)
        scaled = centred * scale
        return mg.tanh(scaled[:, : width // 2] + state) * mg.tanh(scaled[:, width // 2 :])

    states = mg.scan(step, x, mg.zeros((x.shape[1], width // 2)))
    outputs = [states[-1], *mg.grad(mg.square(states[-1]).sum(), leaves)]
    f = mg.function(leaves, outputs, backend="native")
    rng = np.random.default_rng(0)
    given = [rng.normal(size=shape).astype("float32") for shape in ((5, 32, 1), (width,), (width,))]
    for found, expected in zip(f(*given), mg.function(leaves, outputs, backend="numpy")(*given), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    kept = re.findall(rf"output\d+\[{width} \* i0 \+ i1\] =", f.source())
    assert len(kept) == bool(many)


@on_each
def test_a_step_may_pick_rows_by_numbers_that_it_computes(backend):
    table, count = mg.matrix("table", dtype="float64"), mg.lscalar("count")
    rows = mg.scan(lambda k, rows: mg.tanh(rows[k]) + rows[-k - 1, 0], mg.arange(count), non_sequences=table)
    f = mg.function([table, count], [rows, mg.grad(rows.sum(), table)], backend=backend)
    given = np.arange(12.0).reshape(4, 3)
    found, slope = f(given, 4)
    np.testing.assert_allclose(found, np.tanh(given) + given[::-1, :1])
    np.testing.assert_allclose(slope, 1 - np.tanh(given) ** 2 + 3 * (np.arange(3) == 0))
    with pytest.raises(IndexError, match=r"(?s)index 4 is out of bounds.*test_loops.py"):
        f(given, 5)
    assert backend != "native" or "times:" in f.source()


def recurrence(x, w, first):
    return mg.scan(lambda row, state: mg.tanh(row + state @ w), x, first)


def taps(x, w, first):
    return mg.scan(
        lambda now, ahead, older, last: mg.tanh(now * ahead + older @ w - last),
        {"input": x, "taps": [0, 2]},
        {"initial": mg.stack([first, first * 2]), "taps": [-2, -1]},
    )


def loop_in_a_loop(x, w, first):
    def step(row, state):
        return mg.scan(lambda factor, inner: mg.tanh(inner * factor + row), w, state)[-1]

    return mg.scan(step, x, first)


def ended(x, w, first):
    return mg.scan(lambda row, state: (mg.tanh(row + state @ w), mg.until(mg.gt(row[0], 0.6))), x, first)


def in_parts(x, w, first):
    return mg.scan_checkpoints(lambda row, state: mg.tanh(row + state @ w), x, first)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("build", [recurrence, taps, loop_in_a_loop, ended, in_parts])
@on_each
def test_gradients_are_those_of_finite_differences(backend, build, order, rng):
    def slopes(*given):
        own = mg.grad(mg.square(build(*given)).sum(), list(given))
        return sum((mg.square(one).sum() for one in own[1:]), mg.square(own[0]).sum())

    points = [rng.normal(size=(5, 3)), rng.normal(size=(3, 3)) * 0.5, rng.normal(size=3)]
    verify_grad(build if order == 1 else slopes, points, backend=backend)


# -- Theano's semantics ------------------------------------------------------------------------------------------------


@on_each
def test_rows_states_and_outputs_come_in_their_order(backend):
    x, y = mg.vector("x"), mg.vector("y")
    both = mg.scan(lambda a, b, total, k: (total + a, a * b * k), [x, y], [10.0, None], mg.constant(2.0))
    totals, products = mg.function([x, y], both, backend=backend)([1, 2, 3, 4], [1, 1, 2])  # the shorter one decides
    assert totals.tolist() == [11, 13, 16]
    assert products.tolist() == [2, 4, 12]


@on_each
def test_taps_reach_back_and_ahead(backend):
    x = mg.vector("x", dtype="float64")
    windows = mg.scan(lambda before, now, after: before * 100 + now * 10 + after, {"input": x, "taps": [-1, 0, 1]})
    assert mg.function([x], windows, backend=backend)([1, 2, 3, 4]).tolist() == [123, 234]
    fibonacci = mg.scan(lambda a, b: a + b, None, {"initial": x, "taps": [-2, -1]}, n_steps=6)
    assert mg.function([x], fibonacci, backend=backend)([1, 1]).tolist() == [2, 3, 5, 8, 13, 21]


@on_each
def test_backwards_takes_the_last_rows_first(backend):
    x = mg.vector("x")
    f = mg.function([x], mg.scan(lambda row, total: total * 10 + row, x, 0.0, go_backwards=True), backend=backend)
    assert f([1, 2, 3]).tolist() == [3, 32, 321]


@on_each
def test_zero_steps_give_zero_rows(backend):
    x, n = mg.matrix("x"), mg.lscalar("n")
    rows, outputs = mg.scan(lambda row, state: (state + row, (row * 2)[:1]), x, [mg.zeros(3), None])
    f = mg.function([x], [rows, outputs], backend=backend)
    assert [one.shape for one in f(np.zeros((0, 3), "float32"))] == [(0, 3), (0, 1)]
    counted = mg.scan(lambda state: state + 1, None, mg.zeros(2), n_steps=n)
    g = mg.function([n], [counted, counted.sum()], backend=backend)
    assert [g(k)[0].shape for k in (0, 3)] == [(0, 2), (3, 2)]
    with pytest.raises(mg.errors.InvalidIndexError):
        mg.function([x], rows[-1], backend=backend)(np.zeros((0, 3), "float32"))
    with pytest.raises(mg.errors.InvalidValueError, match="-1 steps"):
        g(-1)


@on_each
def test_until_ends_after_the_step_in_which_it_holds(backend):
    n = mg.lscalar("n")
    powers = mg.scan(lambda p: (p * 2, mg.until(mg.ge(p * 2, 40))), None, mg.constant(1.0), n_steps=n)
    f = mg.function([n], powers, backend=backend)
    assert f(100).tolist() == [2, 4, 8, 16, 32, 64]
    assert f(3).tolist() == [2, 4, 8]
    assert f(0).tolist() == []


@on_each
def test_a_known_number_of_steps_cuts_sequences(backend):
    x, n = mg.vector("x"), mg.lscalar("n")
    f = mg.function([x, n], mg.scan(lambda row: row + 1, x, n_steps=n), backend=backend)
    assert f([1, 2, 3], 2).tolist() == [2, 3]
    with pytest.raises(mg.errors.InvalidValueError, match="3 rows for 4 steps"):
        f([1, 2, 3], 4)


@on_each
def test_map_reduce_and_the_folds(backend):
    x = mg.vector("x", dtype="float64")
    wanted = [
        mg.map(lambda row: row * row, x),
        mg.reduce(lambda row, total: total * 10 + row, x, 0.0),
        mg.foldl(lambda row, total: total - row, x, 100.0),
        mg.foldr(lambda row, total: total * 10 + row, x, 0.0),
    ]
    f = mg.function([x], wanted, backend=backend)
    assert [one.tolist() for one in f([1, 2, 3])] == [[1, 4, 9], 123, 94, 321]
    assert [one.tolist() for one in f([])] == [[], 0, 100, 0]


def test_python_numbers_take_the_dtype_of_what_they_become():
    x = mg.vector("x", dtype="float64")
    assert mg.scan(lambda row, total: total + row, x, 0).dtype == np.dtype("float64")
    assert mg.scan(lambda row, total: total + row, mg.lvector(), 0).dtype == np.dtype("int64")


def test_sizes_that_a_step_leaves_open_are_open():
    x = mg.tensor("x", shape=(None, None))
    states = mg.scan(lambda row, state: mg.concatenate([state[1:], row[:1]]), x, mg.zeros(3))
    assert states.type.shape == (None, None)
    assert states.eval({x: np.arange(4, dtype="float32").reshape(4, 1)}).tolist()[-1] == [1, 2, 3]


@on_each
def test_a_state_must_keep_its_shape(backend):
    x = mg.matrix("x")
    states = mg.scan(lambda row, state: mg.concatenate([state, row]), x, mg.zeros(0) + mg.vector("v"))
    (v,) = [one for one in mg.ComputationGraph(states).inputs if one.name == "v"]
    f = mg.function([x, v], states, backend=backend)
    with pytest.raises(mg.errors.InvalidValueError, match="after a step"):
        f(np.ones((2, 1), "float32"), [])


# -- state and chance --------------------------------------------------------------------------------------------------


@on_each
def test_updates_made_inside_happen_step_after_step(backend):
    counter, x = mg.shared(np.int64(5), "counter"), mg.vector("x")
    plain = mg.scan(lambda row: (row * counter, {counter: counter + 2}), x)
    attached = mg.scan(lambda row: mg.with_default_update(row * counter, {counter: counter + 2}), x)
    for outputs in (plain, attached):
        counter.set_value(5)
        assert mg.ComputationGraph(outputs).updates[0][0] is counter
        f = mg.function([x], outputs, backend=backend)
        assert f([1, 1, 1]).tolist() == [5, 7, 9]
        assert counter.get_value() == 11
        assert mg.function([x], outputs, no_default_updates=True, backend=backend)([1]).tolist() == [11]
        assert counter.get_value() == 11


@on_each
def test_a_loop_draws_as_so_many_calls_do(backend):
    stream, other = mg.random.RandomStream(3), mg.random.RandomStream(3)
    looped = mg.function([], mg.scan(lambda: stream.uniform((2,)), n_steps=3), backend=backend)
    single = mg.function([], other.uniform((2,)), backend=backend)
    for _ in range(2):
        np.testing.assert_array_equal(looped(), [single() for _ in range(3)])
    np.testing.assert_array_equal(stream.state.get_value(), other.state.get_value())


@on_each
def test_updates_of_loops_in_loops_reach_the_function(backend):
    counter = mg.shared(np.int64(0), "counter")
    outputs = mg.scan(
        lambda: mg.scan(lambda: mg.with_default_update(counter * 1, {counter: counter + 1}), n_steps=3).sum(), n_steps=2
    )
    assert mg.function([], outputs, backend=backend)().tolist() == [3, 12]
    assert counter.get_value() == 6


@on_each
def test_gradients_flow_through_what_was_drawn(backend):
    stream, x = mg.random.RandomStream(1), mg.vector("x", dtype="float64")
    noisy = mg.scan(lambda row, state: state * stream.uniform((), dtype="float64") + row, x, 0.0)
    slope = mg.grad(noisy[-1], x)
    state, drawn = stream.state.get_value(), mg.random.RandomStream(1)
    factors = mg.function([], drawn.uniform((), dtype="float64"))
    f = mg.function([x], [noisy[-1], slope], backend=backend)
    factor = [factors() for _ in range(3)]
    np.testing.assert_allclose(f([1, 1, 1])[1], [factor[1] * factor[2], factor[2], 1])
    assert stream.state.get_value()[1] == state[1] + 3


@on_each
def test_what_is_put_into_a_body_later_draws_at_every_step(backend):
    x = mg.tensor("x", shape=(None, 4))
    states = mg.scan(
        lambda row, state: (
            mg.tanh(
                row,
            )
            + state
        ),
        x,
        mg.zeros(4),
    )
    graph = mg.ComputationGraph(states)
    (inner,) = [one for one in with_bodies(graph.variables) if type(one.op).__name__ == "Tanh"]
    noisy = mg.transforms.apply_dropout(graph, [inner], 0.5)
    ((target, _),) = noisy.updates
    f = mg.function([x], noisy.outputs[0], backend=backend)
    kept = np.diff(f(np.ones((50, 4), "float32")), axis=0) != 0
    assert len({tuple(row) for row in kept.tolist()}) > 4
    assert target.get_value()[1] == 50


def test_strict_refuses_what_was_not_handed_over():
    x, w = mg.vector("x"), mg.shared(2.0, "w")
    assert mg.scan(lambda row, own: row * own, x, None, w, strict=True).eval({x: [1, 2]}).tolist() == [2, 4]
    with pytest.raises(mg.errors.InvalidValueError, match="w: float32"):
        mg.scan(lambda row: row * w, x, strict=True)


# -- mistakes ----------------------------------------------------------------------------------------------------------

scalar, vector, matrix = mg.scalar("s"), mg.vector("v"), mg.matrix("m")
MISTAKES = {
    "without end": (lambda: mg.scan(lambda s: s, None, mg.zeros(2)), "n_steps"),
    "scalar sequence": (lambda: mg.scan(lambda s: s, scalar), "first axis"),
    "no function": (lambda: mg.scan(3, vector), "function of one step"),
    "no outputs": (lambda: mg.scan(lambda row: {}, vector), "at least one output"),
    "too few infos": (lambda: mg.scan(lambda row, s: (s, row), vector, [0.0]), "returned 2 outputs"),
    "another dtype": (lambda: mg.scan(lambda row, s: mg.cast(s, "float64"), vector, mg.zeros(())), "begins as float32"),
    "another ndim": (lambda: mg.scan(lambda row, s: s + mg.zeros(2), vector, mg.zeros(())), "begins as"),
    "another size": (lambda: mg.scan(lambda row, s: s[:2], vector, mg.zeros(3)), "begins as"),
    "size of 1": (lambda: mg.scan(lambda row, s: s + row, matrix, mg.zeros(1)), "sizes of 1"),
    "steps": (lambda: mg.scan(lambda s: s, None, mg.zeros(2), n_steps=-1), "0 or more"),
    "float steps": (lambda: mg.scan(lambda s: s, None, mg.zeros(2), n_steps=scalar), "integer scalar"),
    "too many steps": (lambda: mg.scan(lambda r: r, mg.zeros((3,)), n_steps=4), "has 3 rows"),
    "tap ahead": (lambda: mg.scan(lambda s: s, None, {"initial": vector, "taps": [1]}, n_steps=3), "negative"),
    "rows for taps": (lambda: mg.scan(lambda s: s, None, {"initial": mg.zeros((1, 2)), "taps": [-2]}, n_steps=3), "rows"),
    "no initial": (lambda: mg.scan(lambda s: s, None, {"taps": [-1]}, n_steps=3), "initial"),
    "unknown key": (lambda: mg.scan(lambda s: s, {"inputs": vector}), "input"),
    "tap twice": (lambda: mg.scan(lambda a, b: a, {"input": vector, "taps": [0, 0]}), "twice"),
    "condition": (lambda: mg.scan(lambda row: (row, mg.until(mg.gt(row, 0))), matrix), "scalar"),
    "truncation": (lambda: mg.scan(lambda row: row, vector, truncate_gradient=-2), "truncate_gradient"),
    "checkpoints": (lambda: mg.scan_checkpoints(lambda row: row, vector, save_every_N=0), "save_every_N"),
    "early end in parts": (lambda: mg.scan_checkpoints(lambda r: (r, mg.until(mg.gt(r, 0))), vector), "needs scan"),
    "reduce": (lambda: mg.reduce(lambda row: row, vector, [None]), "first value"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_when_the_loop_is_built(case):
    build, message = MISTAKES[case]
    with pytest.raises(mg.errors.MinigraphError, match=message):
        build()


@on_each
def test_an_error_in_a_step_names_the_users_line(backend):
    x, k = mg.matrix("x", dtype="float64"), mg.lscalar("k")
    f = mg.function([x, k], mg.scan(lambda row: row[k], x), backend=backend)
    assert f(np.eye(3), 1).tolist() == [0, 1, 0]
    with pytest.raises(mg.errors.InvalidIndexError, match=r"(?s)out of bounds.*test_loops.py"):
        f(np.eye(3), 7)


@on_each
def test_an_error_leaves_state_as_it_was(backend):
    state, x = mg.shared(np.zeros(2), "state"), mg.lvector("x")
    rows = mg.scan(lambda k, s: s + state[k], x, mg.constant(np.float64(0)))
    f = mg.function([x], rows, updates={state: state + rows[-1]}, backend=backend)
    with pytest.raises(mg.errors.InvalidIndexError):
        f([0, 1, 2])
    assert state.get_value().tolist() == [0, 0]


# -- the graph ---------------------------------------------------------------------------------------------------------


def test_replacing_descends_into_bodies_and_captures_anew():
    x, w, v = mg.vector("x"), mg.shared(np.float32(2), "w"), mg.shared(np.float32(5), "v")
    outputs = mg.scan(lambda row: (row * w).copy("product") + 1, x)
    (inner,) = [one for one in with_bodies(mg.ComputationGraph(outputs).variables) if one.name == "product"]
    assert mg.replace([outputs], {w: v})[0].eval({x: [1, 2]}).tolist() == [6, 11]
    changed = mg.replace([outputs], {inner: inner * v})[0]
    assert changed.eval({x: [1, 2]}).tolist() == [11, 21]
    assert set(mg.ComputationGraph(changed).shared_variables) == {w, v}
    assert mg.ComputationGraph(outputs).scans == [
        one for one in mg.ComputationGraph(outputs).variables if isinstance(one.op, Scan)
    ]


def test_graphs_with_loops_print_copy_and_pickle():
    x, w = mg.vector("x"), mg.shared(np.float32(2), "w")
    outputs = mg.scan(lambda row, s: mg.tanh(row * w + s), x, 0.0, name="running")
    text = mg.debugprint(outputs)
    assert "Scan(running: ? steps, 1 sequences, 1 states)" in text
    assert "body: Tanh" in text
    picture = mg.to_networkx([outputs])
    labels = [label for _, label in picture.nodes(data="label")]
    assert "Tanh" in labels
    assert any(attributes.get("body") for _, _, attributes in picture.edges(data=True))
    assert "style=dashed" in mg.to_dot([outputs])
    for other in (pickle.loads(pickle.dumps(outputs)), copy.deepcopy(outputs)):
        (own,) = mg.ComputationGraph(other).inputs
        np.testing.assert_array_equal(other.eval({own: [1, 2, 3]}), outputs.eval({x: [1, 2, 3]}))
    f = mg.function([x], outputs)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(f))([1, 2]), f([1, 2]))


def loops_of(f):
    return [one for one in with_bodies(f.graph.variables) if isinstance(one.op, Scan)]


def test_a_gradient_shares_the_loop_and_products_leave_it():
    x = mg.tensor("x", shape=(None, None, 4))
    w, u = (mg.shared(np.ones(shape, "float32"), name) for shape, name in (((4, 5), "w"), ((5, 5), "u")))
    states = mg.scan(lambda row, state: mg.tanh(row @ w + state @ u), x, mg.zeros((x.shape[1], 5)))
    cost = mg.square(states[-1]).sum()
    f = mg.function([x], [cost, *mg.grad(cost, [x, w, u])], backend="numpy")
    forwards, backwards = loops_of(f)
    inside = [sum(isinstance(one.op, MatMul) for one in loop.op.body.variables) for loop in (forwards, backwards)]
    assert inside == [1, 1]  # state @ u, and its cotangent; what rows and weights need is done for all steps at once
    assert [loop.op.states for loop in (forwards, backwards)] == [1, 1]


def test_what_is_not_used_of_a_loop_is_not_computed():
    x = mg.matrix("x")
    states, outputs, other = mg.scan(lambda row, a, b: (a + row, row * 2, b * row), x, [mg.zeros(3), None, mg.zeros(3)])
    (loop,) = loops_of(mg.function([x], outputs, backend="numpy"))
    assert (loop.op.states, loop.op.outputs) == (0, 1)
    (loop,) = loops_of(mg.function([x], states[-1], backend="numpy"))
    assert (loop.op.states, loop.op.outputs, loop.op.kept) == (1, 0, (False,))
    assert other.ndim == 2


def test_checkpoints_keep_the_states_between_parts_alone():
    x = mg.tensor("x", shape=(100, 1000), dtype="float64")

    def memory(scanning):
        states = scanning(lambda row, s: mg.tanh(mg.sin(mg.tanh(row + s)) * s), x, mg.zeros(1000, dtype="float64"))
        f = mg.function([x], mg.grad(states[-1].sum(), x), backend="numpy")
        given = np.ones((100, 1000))
        f(given)
        tracemalloc.start()
        f(given)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak - 2 * given.nbytes  # the row, and the gradient itself

    assert memory(mg.scan_checkpoints) < 0.5 * memory(mg.scan)


@on_each
def test_long_loops_take_flat_memory_in_python(backend):
    n = mg.lscalar("n")
    f = mg.function([n], mg.scan(lambda s: mg.tanh(s + 1), None, mg.zeros(3), n_steps=n)[-1], backend=backend)
    f(10), f(10_000)
    gc.collect()
    tracemalloc.start()
    f(10_000)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 20_000
    assert peak < 600_000  # the history of three floats is 120,000 bytes


@compiled
def test_loops_run_in_the_plan_without_python(monkeypatch):
    x, n = mg.matrix("x"), mg.lscalar("n")
    w = mg.shared(np.eye(3, dtype="float32"), "w")
    states = mg.scan(lambda row, s: mg.tanh(row + s @ w), x, mg.zeros(3))
    cost = states[-1].sum()
    training = mg.function([x], cost, updates={w: w - mg.grad(cost, w)})
    kinds = [
        type(step.kernel) for step in training._execution.plan.steps if isinstance(step.kernel, CompiledRegion | CompiledLoop)
    ]
    assert kinds == [CompiledRegion]
    counted = mg.function([n], mg.scan(lambda s: s * 2, None, mg.ones(3), n_steps=n))
    assert any(isinstance(step.kernel, CompiledLoop) for step in counted._execution.plan.steps)
    monkeypatch.setattr(Scan, "run", None)  # what a loop in Python would use
    monkeypatch.setattr(Scan, "forward", None)
    training(np.ones((4, 3), "float32"))
    assert counted(3)[-1].tolist() == [8, 8, 8]


@on_each
def test_what_cannot_be_compiled_runs_in_a_loop_all_the_same(backend):
    x = mg.matrix("x")
    f = mg.function([x], mg.scan(lambda row, s: mg.sort(row) + s, x, mg.zeros(3)), backend=backend)
    np.testing.assert_allclose(f([[3, 1, 2], [6, 5, 4]]), [[1, 2, 3], [5, 7, 9]])


@on_each
def test_branches_inside_are_taken_step_by_step(backend):
    x = mg.vector("x")
    f = mg.function([x], mg.scan(lambda row: mg.ifelse(mg.gt(row, 0), row, -row * 10), x), backend=backend)
    assert f([1, -2, 3]).tolist() == [1, 20, 3]
