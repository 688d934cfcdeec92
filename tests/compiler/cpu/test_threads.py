"""Functions called from many threads at once: right results, exact totals, no deadlock."""

import dataclasses
import threading
import time

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit, products
from minigraph.compiler.cpu import scan_runtime as loops
from minigraph.compiler.cpu.blas import blas
from minigraph.core.locks import once
from support.threads import in_threads

pytestmark = pytest.mark.shipped_code

THREADS, CALLS = 8, 500


def test_one_function_in_many_threads():
    x, w = mg.dmatrix("x"), mg.shared(np.random.default_rng(0).normal(size=(5, 5)))
    f = mg.function([x], [mg.tanh(x @ w), mg.exp(-(x + 1) * 2).sum(axis=0)])

    def work(k):
        a = np.full((4, 5), float(k))
        expected = np.tanh(a @ w.get_value()), np.exp(-(a + 1) * 2).sum(axis=0)
        for _ in range(CALLS):
            for ours, theirs in zip(f(a), expected, strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-12)

    in_threads(*(lambda k=k: work(k) for k in range(THREADS)))


def test_a_counter_is_exact():
    count = mg.shared(np.int64(0))
    seen = [[] for _ in range(THREADS)]
    f = mg.function([], count, updates={count: count + 1})

    def work(mine):
        mine.extend(int(f()) for _ in range(CALLS))

    in_threads(*(lambda mine=mine: work(mine) for mine in seen))
    assert count.get_value() == THREADS * CALLS
    assert sorted(number for mine in seen for number in mine) == list(range(THREADS * CALLS))


def test_two_functions_update_one_variable():
    s, x = mg.shared(np.zeros(3)), mg.dscalar("x")
    up, down = mg.function([x], updates={s: s + x}), mg.function([x], s, updates={s: s - x})
    works = [lambda: [up(3) for _ in range(CALLS)], lambda: [down(1) for _ in range(CALLS)]] * (THREADS // 2)
    in_threads(*works)
    np.testing.assert_array_equal(s.get_value(), np.full(3, 2.0 * CALLS * THREADS / 2))


def test_crossed_orders_do_not_deadlock():
    a, b, c = (mg.shared(np.int64(0), name) for name in "abc")
    orders = [(a, b, c), (c, b, a), (b, a, c), (c, a, b)]
    functions = [mg.function([], updates=[(s, s + 1) for s in order]) for order in orders]
    works = [lambda f=f: [f() for _ in range(CALLS)] for f in functions * 2]
    in_threads(*works)
    assert [s.get_value() for s in (a, b, c)] == [8 * CALLS] * 3


def test_readers_see_states_that_belong_together():
    one, two = mg.shared(np.zeros(100)), mg.shared(np.zeros(100))
    write = mg.function([], updates={one: one + 1, two: two - 1})
    read = mg.function([], [one.sum() + two.sum(), one.max() - one.min()])
    done = threading.Event()

    def writer():
        for _ in range(CALLS):
            write()
        done.set()

    def reader():
        while not done.is_set():
            assert read() == [0, 0]

    in_threads(writer, *[reader] * 3)
    assert one.get_value()[0] == CALLS


def test_set_value_does_not_come_between():
    s = mg.shared(np.zeros(10))
    f = mg.function([], s, updates={s: s + 1})

    def setter():
        for k in range(CALLS):
            s.set_value(np.full(10, 1000.0 * k))

    def stepper():
        for _ in range(CALLS):
            value = f()
            assert value.min() == value.max()

    in_threads(setter, *[stepper] * 3)


def test_random_streams_never_repeat():
    f = mg.function([], mg.random.RandomStream(5).uniform((4,)))
    drawn = [[] for _ in range(THREADS)]

    def work(mine):
        mine.extend(f().tobytes() for _ in range(100))

    in_threads(*(lambda mine=mine: work(mine) for mine in drawn))
    twin = mg.function([], mg.random.RandomStream(5).uniform((4,)))
    assert {one for mine in drawn for one in mine} == {twin().tobytes() for _ in range(100 * THREADS)}


def test_graphs_can_be_built_and_compiled_in_threads():
    def work(k):
        for n in range(20):
            x = mg.dvector("x")
            y = mg.exp(x * k).sum() + n
            f = mg.function([x], [y, mg.grad(y, x)])
            value, slope = f([0.0, 1.0])
            np.testing.assert_allclose(value, 1 + np.exp(k) + n)
            np.testing.assert_allclose(slope, [k, k * np.exp(k)])

    in_threads(*(lambda k=k: work(k) for k in range(THREADS)))


def test_an_update_is_never_computed_from_a_variable_that_changed_meanwhile():
    """b changes while f computes a from it: f must see the new b, as if it had been called after the change."""
    a, b = mg.shared(0, "a"), mg.shared(1, "b")
    f = mg.function([], b + 0, updates=[(a, a + b)])
    (first, *rest) = f._execution.plan.steps
    changed = threading.Event()

    def interrupted(*operands):
        if not changed.is_set():
            changed.set()
            in_threads(lambda: b.set_value(10))
        return first.kernel(*operands)

    f._execution.plan = dataclasses.replace(f._execution.plan, steps=(dataclasses.replace(first, kernel=interrupted), *rest))
    assert f() == 10 and a.get_value() == 10


def test_updates_that_read_each_other_are_done_one_after_the_other():
    """Whatever the order, a and b grow as Fibonacci numbers do; computed from one old state they would not."""
    a, b = mg.shared(np.int64(1), "a"), mg.shared(np.int64(1), "b")
    f, g = mg.function([], [], updates=[(a, a + b)]), mg.function([], [], updates=[(b, b + a)])
    for _ in range(20):
        a.set_value(1)
        b.set_value(1)
        in_threads(f, g)
        assert {a.get_value().item(), b.get_value().item()} == {2, 3}


def test_what_is_made_once_is_made_once():
    made = []

    @once
    def slow(key):
        time.sleep(0.05)
        made.append(key)
        return object()

    found = [[] for _ in range(THREADS)]
    in_threads(*(lambda mine=mine: mine.extend([slow("a"), slow("b")]) for mine in found))
    assert sorted(made) == ["a", "b"]
    assert len({id(one) for mine in found for one in mine}) == 2
    with pytest.raises(ZeroDivisionError):
        once(lambda x: 1 / x)(0)


@pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")
def test_compiled_code_that_all_functions_share_is_there_once():
    """Otherwise the code that the first thread has been told of is gone when the second has made its own."""
    for shared in (
        loops.loop_kernel,
        lambda: products._own_code(np.dtype("float64")),
        lambda: products._blas_code(np.dtype("float64")),
        blas,
    ):
        found = [[] for _ in range(THREADS)]
        in_threads(*(lambda mine=mine, shared=shared: mine.append(shared()) for mine in found))
        assert len({id(one) for mine in found for one in mine}) == 1
