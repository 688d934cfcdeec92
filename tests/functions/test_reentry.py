"""Finalizers, callbacks and signal handlers that use state in the middle of a call of their own thread."""

import gc
import itertools
import random
import signal
import threading
import time
import weakref

import numpy as np
import pytest

import minigraph as mg
from minigraph.core import state
from minigraph.core.errors import ExecutionError
from minigraph.core.graph import Op
from support.backends import on_each
from support.sweep import rounds

pytestmark = pytest.mark.usefixtures("each_way")

STEPS = rounds(600, 3000)


class Finalized:
    """Garbage in a cycle: what it is given runs when the collector finds it, wherever that is."""

    def __init__(self, work):
        self.me, self.work = self, work

    def __del__(self):
        self.work()


def counter(backend):
    """A function that counts its calls, and the variable."""
    n = mg.shared(np.zeros(3, "float32"), "n")
    f = mg.function([], n.sum(), updates=[(n, n + 1)], backend=backend)
    f()
    return f, n


def noted(work, notes):
    """`work`, done in a finalizer: whether it succeeded is noted; nothing but an ExecutionError may come of it."""

    def quiet():
        try:
            work()
            notes.append(True)
        except ExecutionError as error:
            assert "its own update" in str(error)
            notes.append(False)

    return quiet


def in_time(work):
    """Do something in another thread; fail if it does not end."""
    failures = []

    def guarded():
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive(), "it hangs"
    assert failures == []


@pytest.mark.parametrize("kind", ["get_value", "set_value", "call", "another function"])
@on_each
def test_finalizers_use_state_at_any_time(backend, kind):
    f, n = counter(backend)
    reads = mg.function([], n * 2, backend=backend)
    v = mg.shared(np.zeros(3, "float32"), "v")
    work = {
        "get_value": n.get_value,
        "set_value": lambda: v.set_value(v.get_value() + 1),
        "call": f,
        "another function": reads,
    }[kind]
    notes = []

    def steps():
        for _ in range(STEPS):
            Finalized(noted(work, notes))
            f()

    before = gc.get_threshold()
    gc.set_threshold(50, 5, 5)
    try:
        in_time(steps)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(notes) == STEPS
    counted = STEPS + 1 + (notes.count(True) if kind == "call" else 0)
    np.testing.assert_array_equal(n.get_value(), np.full(3, counted, "float32"))


def test_what_is_read_or_set_within_its_own_update_is_an_error():
    """What the collector does on some versions of Python: run a finalizer while the cells are empty."""
    n, other = mg.shared(1.0, "n"), mg.shared(5.0, "other")
    f = mg.function([], n, updates=[(n, n + 1)])
    errors = []

    def attempt():
        for work in (n.get_value, lambda: n.set_value(7.0), f):
            with pytest.raises(ExecutionError, match="its own update") as caught:
                work()
            errors.append(caught.value)
        assert other.get_value() == 5
        other.set_value(6.0)
        yield state.SUCCESS

    new = np.asarray(3.0, "float32")
    in_time(lambda: state.exchange([n.cell], list(state.snapshot([n.cell])), [new], attempt(), state.Change.last))
    assert len(errors) == 3
    assert (n.get_value(), other.get_value()) == (3, 6)


def test_an_attempt_that_raises_leaves_the_old_values():
    n = mg.shared(1.0, "n")

    def attempt():
        raise MemoryError
        yield

    with pytest.raises(MemoryError):
        state.exchange([n.cell], list(state.snapshot([n.cell])), [None], attempt(), state.Change.last)
    assert n.get_value() == 1


@on_each
def test_callbacks_of_weak_references_use_state(backend):
    f, n = counter(backend)
    seen = []
    watched = [weakref.ref(n.get_value(borrow=True), lambda _: seen.append(n.get_value().copy()))]
    n.set_value(np.full(3, 9, "float32"))
    f()
    f()
    del watched
    assert [one.tolist() for one in seen] == [[9.0] * 3]
    np.testing.assert_array_equal(n.get_value(), np.full(3, 11))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
@on_each
def test_a_call_in_a_signal_handler_is_counted(backend):
    f, n = counter(backend)
    calls = itertools.count(1)
    handled = itertools.count()

    def handler(signum, frame):
        next(handled)
        f()
        next(calls)
        signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 2e-4))

    previous = signal.signal(signal.SIGALRM, handler)
    try:
        end = time.perf_counter() + 0.7
        signal.setitimer(signal.ITIMER_REAL, 1e-4)
        while time.perf_counter() < end:
            f()
            next(calls)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert next(handled) > 20
    np.testing.assert_array_equal(n.get_value(), np.full(3, next(calls)))


def test_an_op_that_updates_what_its_own_function_reads_is_an_error():
    n, v = mg.shared(0.0, "n"), mg.shared(0.0, "v")
    inner = mg.function([], [], updates=[(n, n + 1)])

    class Meddling(Op):
        def infer(self, x):
            return x

        def forward(self, xp, x):
            inner()
            return x + 1

    f = mg.function([], [], updates=[(v, v + Meddling()(n))], backend="numpy")
    with pytest.raises(ExecutionError, match="change whenever it is computed"):
        f()
    assert v.get_value() == 0


def test_a_variable_that_others_set_without_end_does_not_keep_a_call_from_ending():
    v, w = mg.shared(np.zeros(1000), "v"), mg.shared(np.zeros(1000), "w")
    f = mg.function([], [], updates=[(w, w + mg.sin(mg.exp(mg.sort(v))))], backend="numpy")
    done = threading.Event()

    def setting():
        while not done.is_set():
            v.set_value(np.zeros(1000))

    thread = threading.Thread(target=setting, daemon=True)
    thread.start()
    try:
        in_time(lambda: [f() for _ in range(50)])
    finally:
        done.set()
        thread.join(timeout=60)
    np.testing.assert_allclose(w.get_value(), 50 * np.sin(1.0))
