"""A call is all or nothing: whatever fails, wherever, no shared variable changes by a bit, and the next call is right."""

import contextlib
import dataclasses
import signal
import threading
import time

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu.backend import CompiledRegion
from minigraph.compiler.cpu.plan import NativePlan
from minigraph.compiler.plan.steps import NestStep
from minigraph.functions.execution import Execution
from minigraph.rewrite.partition import Region
from support.backends import compiled, on_each
from support.sweep import rounds

SHAPE = (3, 3)
GRAPHS = rounds(16, 36)
APART = {"numpy": 3, "native": 1}
"""Every so many steps one fails in a graph; with the first one other from graph to graph."""


class Injected(Exception):
    """A failure that nothing in the package expects."""


FAULTS = (Injected, KeyboardInterrupt, MemoryError, ValueError)


def updating_function(seed, backend):
    """A function that updates several shared variables in ways that `seed` picks, the variables, and arguments for it."""
    rng = np.random.default_rng(seed)
    x = mg.tensor("x", dtype="float64", shape=SHAPE)
    states = [mg.shared(rng.normal(size=SHAPE), f"s{k}") for k in range(rng.integers(2, 5))]
    counter = mg.shared(np.int64(0), "counter")
    stream = mg.random.RandomStream(seed)
    values = [x, *states]

    def pick():
        return values[rng.integers(len(values))]

    makers = [
        lambda: mg.tanh(pick() @ pick()),
        lambda: pick() * pick(),
        lambda: pick() - mg.exp(-abs(pick())),
        lambda: pick() / (1 + pick() ** 2),
        lambda: pick() - pick().mean(axis=0, keepdims=True),
        lambda: mg.maximum(pick(), pick().sum(axis=1, keepdims=True)),
        lambda: pick() + stream.normal(SHAPE, dtype="float64"),
        lambda: pick() * stream.bernoulli(0.5, SHAPE, dtype="float64"),
        lambda: mg.with_default_update(pick(), {counter: counter + 1}) if counter not in asked else pick().T,
        lambda: mg.set_subtensor(pick()[0], pick()[1]),
        lambda: mg.ifelse(pick().sum() > 0, pick(), pick() * 2),
        lambda: mg.sort(pick(), axis=0),
    ]
    asked = set()
    for place in rng.permutation(len(makers)):
        values.append(makers[place]())
        if place == 8:
            asked.add(counter)
    cost = sum(((value * 0.1) ** 2).mean() for value in values[1:])
    slopes = mg.grad(cost, states, disconnected_inputs="ignore")
    updates = {}
    for state, slope in zip(states, slopes, strict=True):
        kind = rng.integers(4)
        updates[state] = [state - 0.1 * slope, 0.9 * state + 0.1 * pick(), states[rng.integers(len(states))], state.T][kind]
    f = mg.function([x], [cost, pick()], updates=updates, on_unused_input="ignore", backend=backend)
    return f, [*states, counter, stream.state], rng.normal(size=SHAPE)


def snapshot(shared):
    return [(s.get_value(borrow=True), s.get_value().tobytes()) for s in shared]


def restore(shared, before):
    for s, (held, _) in zip(shared, before, strict=True):
        s.set_value(held)


def unchanged(shared, before):
    """Whether every cell holds the array it held, with the bits it had."""
    return all(
        s.get_value(borrow=True) is held and held.tobytes() == bits for s, (held, bits) in zip(shared, before, strict=True)
    )


@contextlib.contextmanager
def failing_step(f, k, fault):
    """The k-th step of a function fails after its work is done, and so after it may have written over operands."""
    execution, plan, fast = f._execution, f._execution.plan, f._fast
    step = plan.steps[k]

    def kernel(*arrays):
        step.kernel(*arrays)
        raise fault("injected")

    broken = dataclasses.replace(step, kernel=kernel)
    execution.plan, f._fast = dataclasses.replace(plan, steps=(*plan.steps[:k], broken, *plan.steps[k + 1 :])), None
    try:
        yield
    finally:
        execution.plan, f._fast = plan, fast


@contextlib.contextmanager
def failing_programs(fault, method):
    """A method of all that is compiled fails after its work is done."""
    plain = getattr(NativePlan, method)

    def call(plan, *arguments):
        plain(plan, *arguments)
        raise fault("injected")

    setattr(NativePlan, method, call)
    try:
        yield
    finally:
        setattr(NativePlan, method, plain)


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("seed", range(GRAPHS))
@on_each
def test_a_failure_in_any_step_changes_nothing(backend, seed):
    f, shared, given = updating_function(seed, backend)
    kept = given.copy()
    if backend == "native":
        assert {isinstance(step.variable.op, Region) for step in f._execution.plan.steps} == {True, False}
    start = snapshot(shared)
    expected = f(given)
    after = [bits for _, bits in snapshot(shared)]
    assert after != [bits for _, bits in start]
    assert len(f.updates) >= 2
    apart = APART[backend]
    for k in range(seed % apart, len(f._execution.plan.steps), apart):
        restore(shared, start)
        before = snapshot(shared)
        fault = FAULTS[(k + seed) % len(FAULTS)]
        with failing_step(f, k, fault), pytest.raises(fault, match="injected"):
            f(given)
        assert unchanged(shared, before)
        assert given.tobytes() == kept.tobytes()
        if k % (5 * apart) < apart:
            assert same(f(given), expected)
            assert [bits for _, bits in snapshot(shared)] == after
    restore(shared, start)
    assert same(f(given), expected)
    assert [bits for _, bits in snapshot(shared)] == after


def test_the_graphs_differ_and_have_every_kind_of_step():
    names = set()
    counts = set()
    for seed in range(GRAPHS):
        f, *_ = updating_function(seed, "numpy")
        counts.add((len(f._execution.plan.steps), len(f.updates)))
        names |= {type(step.variable.op).__name__ for step in f._execution.plan.steps}
    assert len(counts) > GRAPHS // 2
    assert names >= {"MatMul", "Sum", "RandomBits", "IfElse", "Assign", "Tanh"}


@compiled
@pytest.mark.parametrize("method", ["outputs", "lease", "attempt"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_on_the_way_to_a_native_call_changes_nothing(fault, method):
    f, shared, given = training_step()
    start = snapshot(shared)
    expected = f(*given)
    after = [bits for _, bits in snapshot(shared)]
    for _ in range(3):  # the later ones on memory that earlier calls have left
        restore(shared, start)
        before = snapshot(shared)
        with failing_programs(fault, method), pytest.raises(fault, match="injected"):
            f(*given)
        assert unchanged(shared, before)
        assert same([f(*given)], [expected])
        assert [bits for _, bits in snapshot(shared)] == after
        f(*given)
        f(*given)


def training_step():
    """A training step of two layers over rows of a table, as one compiled region; the variables, and arguments for it."""
    rng = np.random.default_rng(0)
    x, rows = mg.tensor("x", dtype="float64", shape=(None, 4)), mg.lvector("rows")
    table, w = mg.shared(rng.normal(size=(6, 5)), "table"), mg.shared(rng.normal(size=(4, 5)), "w")
    count = mg.shared(np.int64(0), "count")
    hidden = mg.tanh(x @ w)
    cost = ((hidden * table[rows]).sum(1) ** 2).mean()
    slopes = mg.grad(cost, [table, w])
    updates = {table: table - 0.1 * slopes[0], w: w - 0.1 * slopes[1], count: count + 1}
    f = mg.function([x, rows], cost, updates=updates, backend="native")
    return f, [table, w, count], (rng.normal(size=(3, 4)), np.array([0, 5, 5]))


@compiled
def test_an_index_outside_that_a_late_kernel_meets_changes_nothing():
    f, shared, (x, rows) = training_step()
    twin, twins, _ = training_step()
    for _ in range(3):
        assert same([f(x, rows)], [twin(x, rows)])
        before = snapshot(shared)
        with pytest.raises(IndexError, match="index 6 is out of bounds"):
            f(x, np.array([0, 6, 5]))
        with pytest.raises(IndexError, match="index -7 is out of bounds"):
            f(x[:1], np.array([-7]))
        assert unchanged(shared, before)
    assert same(*[[one.get_value() for one in each] for each in (shared, twins)])
    (region,) = [step.kernel for step in f._execution.plan.steps if isinstance(step.kernel, CompiledRegion)]
    for plan in region.plans.values():
        steps = enumerate(plan.program.steps)
        assert min(k for k, step in steps if isinstance(step, NestStep) and step.nest.fails) > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_while_results_are_copied_changes_nothing(fault, monkeypatch):
    f, shared, given = updating_function(1, "numpy")
    before = snapshot(shared)
    remaining = 0

    def failing(plain):
        def release(self, *args, **options):
            nonlocal remaining
            remaining -= 1
            if remaining < 0:
                raise fault("injected")
            return plain(self, *args, **options)

        return release

    for name in ("_release", "_new_value"):
        monkeypatch.setattr(Execution, name, failing(getattr(Execution, name)))
    for successes in range(len(f._execution.plan.roots)):
        remaining = successes
        with pytest.raises(fault, match="injected"):
            f(given)
        assert unchanged(shared, before)
    remaining = len(f._execution.plan.roots)
    f(given)
    assert not unchanged(shared, before)


def test_a_failure_in_the_last_update_leaves_the_first_alone():
    x, s, t = mg.dvector("x"), mg.shared([1.0, 2.0], dtype="float64"), mg.shared([0.0, 0.0], dtype="float64")
    f = mg.function([x], updates={s: s * 2, t: x * 3})
    before = snapshot([s, t])
    with pytest.raises(ValueError, match="no state was changed"):
        f([1, 2, 3])
    assert unchanged([s, t], before)


def test_a_failure_keeps_the_type_of_errors_that_are_not_ours_and_says_where():
    x = mg.dvector("x")
    y = mg.exp(x)
    f = mg.function([x], y)
    with failing_step(f, 0, MemoryError), pytest.raises(MemoryError) as caught:
        f([1.0])
    assert any(f"{y.origin.filename}:{y.origin.line}" in note for note in caught.value.__notes__)


def test_random_streams_do_not_skip_numbers_when_a_call_fails():
    stream = mg.random.RandomStream(3)
    x = mg.scalar("x")
    f = mg.function([x], stream.uniform((4,)) * mg.assert_(x, x > 0, "positive"))
    twin = mg.function([], mg.random.RandomStream(3).uniform((4,)))
    for _ in range(3):
        with pytest.raises(AssertionError):
            f(-1)
        np.testing.assert_array_equal(f(1), twin())


# -- Ctrl-C ----------------------------------------------------------------------------------------------------------


def counting_function():
    """A function of two shared variables that must stay in step, the second twice the first."""
    one, two = mg.shared(np.zeros(50)), mg.shared(np.zeros(50))
    x = mg.dscalar("x")
    step = mg.tanh(one).sum() * 0 + x
    return mg.function([x], step, updates={one: one + step, two: two + 2 * step}), one, two


def test_ctrl_c_leaves_two_variables_in_step():
    f, one, two = counting_function()
    f(0)  # what is compiled at the first call is compiled
    done = threading.Event()
    main = threading.main_thread().ident
    armed = interrupted = completed = 0

    def handler(signum, frame):
        nonlocal armed
        if armed:  # once for each call, so that the loop below is never interrupted outside of its try
            armed = 0
            raise KeyboardInterrupt

    def interrupt():
        while not done.is_set():
            time.sleep(0.0003)
            signal.pthread_kill(main, signal.SIGINT)

    previous = signal.signal(signal.SIGINT, handler)
    timer = threading.Thread(target=interrupt)
    try:
        timer.start()
        end = time.perf_counter() + 1.5
        while time.perf_counter() < end:
            try:
                armed = 1
                f(1)
                armed = 0
                completed += 1
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        done.set()
        timer.join()
        signal.signal(signal.SIGINT, previous)
    assert interrupted > 10
    assert completed > 50
    first, second = one.get_value(), two.get_value()
    np.testing.assert_array_equal(second, 2 * first)
    assert completed <= first.min() == first.max() <= completed + interrupted
    f(1)
    np.testing.assert_array_equal(one.get_value(), first + 1)


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also in a process that was started in the background, where it is ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_ctrl_c_at_any_step_releases_the_locks(interruptible):
    def interrupt(message):
        signal.raise_signal(signal.SIGINT)
        time.sleep(10)  # until Python has seen it

    f, one, two = counting_function()
    for k in range(len(f._execution.plan.steps)):
        with failing_step(f, k, interrupt), pytest.raises(KeyboardInterrupt):
            f(1)
        assert not one.get_value().any()
        elsewhere = threading.Thread(target=f, args=(0,), daemon=True)
        elsewhere.start()
        elsewhere.join(timeout=10)
        assert not elsewhere.is_alive()
    assert not two.get_value().any()
