"""A fork at any moment, whatever other threads do: the child works or says why, and neither it nor the parent hangs."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit
from minigraph.core import locks
from minigraph.core.errors import ExecutionError
from support.backends import on_each
from support.places import ROOT
from support.sweep import rounds

SCRIPT = "import sys; sys.path += ['tests', 'tests/functions']; import test_forks; test_forks.run({!r}, {})"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork here"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_child(work):
    """Fork, and do something in the child: whether it succeeded; a child that hangs is killed after 30 seconds."""
    pid = os.fork()
    if not pid:
        signal.alarm(30)
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


class Busy:
    """Work that threads do again and again until the block ends."""

    def __init__(self, *works):
        self._done, self._failures = threading.Event(), []
        self._threads = [threading.Thread(target=self._repeat, args=(work,), daemon=True) for work in works]

    def _repeat(self, work):
        try:
            while not self._done.wait(random.uniform(0, 0.002)):
                work()
        except BaseException as error:
            self._failures.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        time.sleep(0.05)

    def __exit__(self, *error):
        self._done.set()
        for thread in self._threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in self._threads), "a thread of the parent hangs"
        if self._failures:
            raise self._failures[0]


def compiled_anew(backend):
    """Build, compile and call a function that was never there before."""
    x, value = mg.dvector("x"), np.array([0.5, 1.0])
    y, expected = x, value
    for kind in random.choices("+-*", k=12):  # numbers alone would not make it another kernel
        y, expected = (
            (y + x, expected + value) if kind == "+" else (y * x, expected * value) if kind == "*" else (-y, -expected)
        )
    return np.allclose(mg.function([x], y.sum(), backend=backend)(value), expected.sum())


def run(backend, forks):
    """Forks while other threads call, read, set, plan and compile; in this process: prints how it went."""
    random.seed(3)
    x = mg.dmatrix("x")
    w, n = mg.shared(np.ones((32, 32)), "w"), mg.shared(np.int64(0), "n")
    step = mg.function([x], mg.tanh(x @ w).sum(), updates=[(n, n + 1), (w, w * 1.0)], backend=backend)
    product = mg.function([x], (x @ x).sum(), backend=backend)
    a, large = np.ones((32, 32)), np.ones((300, 300))
    works = {
        "calls": [lambda: step(a), lambda: step(x=a)],
        "values": [lambda: w.set_value(w.get_value()), lambda: step(a)],
        "products": [lambda: product(large)],
        "plans": [lambda: product(np.ones((random.randrange(1, 200),) * 2))],
        "compiles": [lambda: compiled_anew(backend)],
    }

    def child():
        before = int(n.get_value())
        step(a)
        return int(n.get_value()) == before + 1 and np.isfinite(product(large)) and (w.get_value() == 1).all()

    for kind, busy in works.items():
        start = time.perf_counter()
        with Busy(*busy):
            for k in range(forks // len(works)):
                assert in_child((lambda: child() and compiled_anew(backend)) if k % 20 == 0 else child), f"{kind} {k}"
        assert child() and compiled_anew(backend)
        if "-v" in sys.argv:
            print(kind, time.perf_counter() - start, file=sys.stderr)
    print("fine", forks)


@on_each
def test_forks_at_any_moment(backend):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "MINIGRAPH_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(backend, rounds(50, 200))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=rounds(400, 900), env=environment, cwd=ROOT)
    assert done.stdout.startswith("fine"), done.stdout + done.stderr


@contextlib.contextmanager
def held_elsewhere(lock):
    """A lock that another thread holds."""
    taken, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert taken.wait(60)
    try:
        yield
    finally:
        done.set()
        thread.join(60)


def test_a_fork_waits_for_whoever_holds_a_lock():
    lock = locks.new_lock()
    with held_elsewhere(lock):
        start = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(locks, "PATIENCE", 0.4)
            assert in_child(lambda: locks.is_lost(lock) and lock.acquire(blocking=False))
        assert 0.4 <= time.monotonic() - start < 20
    assert in_child(lambda: not locks.is_lost(lock) and lock.acquire(blocking=False))


def test_what_cannot_be_waited_for_says_so_in_the_child(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    v = mg.shared(1.0, "v")
    value = v.cell.value

    def child():
        with pytest.raises(ExecutionError, match="has lost its value"):
            v.get_value()
        v.set_value(4.0)
        return v.get_value() == 4

    with held_elsewhere(v.cell.lock):
        del v.cell.value  # as in the midst of an update
        assert in_child(child)
        v.cell.value = value
    assert v.get_value() == 1


@pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")
def test_a_child_of_a_fork_within_a_compilation_says_that_it_cannot_compile(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.2)

    def child():
        with pytest.raises(ExecutionError, match="nothing can be compiled here"):
            compiled_anew("native")
        return compiled_anew("numpy")

    compiled_anew("native")
    with held_elsewhere(jit._lock):
        assert in_child(child)
    assert in_child(lambda: compiled_anew("native"))


@on_each
def test_a_fork_by_a_signal_handler_in_the_middle_of_calls(backend, monkeypatch):
    n = mg.shared(np.zeros(4), "n")
    f = mg.function([], n.sum(), updates=[(n, n + 1)], backend=backend)
    f()
    results = []

    def child():
        before = n.get_value()[0]
        f()
        return n.get_value()[0] == before + 1

    previous = signal.signal(signal.SIGALRM, lambda *_: results.append(in_child(child)))
    try:
        with Busy(f):
            while len(results) < 5:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 1e-3))
                before = len(results)
                while len(results) == before:
                    f()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert all(results)
    value = n.get_value()[0]
    f()
    assert n.get_value()[0] == value + 1


def doubled(number):
    """What a process of a pool computes."""
    x = mg.dscalar("x")
    return float(mg.function([x], x * 2 + COUNT.get_value() * 0)(number))


COUNT = mg.shared(np.int64(0), "count")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(method):
    increase = mg.function([], [], updates=[(COUNT, COUNT + 1)])
    increase()
    with Busy(increase), ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(doubled, [1.0, 2.0, 3.0], timeout=120)) == [2.0, 4.0, 6.0]
