"""A fork at any moment, whatever other threads do: the child works or says why, and neither it nor the parent hangs."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sweep import rounds

import minigraph as mg
from minigraph.kernels import jit

BACKENDS = ["numpy", "native"] if jit.is_available() else ["numpy"]
FORKS = 200
SCRIPT = "import sys; sys.path.append('tests'); import test_forks; test_forks.run({!r}, {})"

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
            while not self._done.is_set():
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
    x = mg.dvector("x")
    factor = random.random()
    return np.allclose(mg.function([x], (mg.exp(x) * factor).sum(), backend=backend)([0.0, 1.0]), factor * (1 + np.e))


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
                assert in_child((lambda: child() and compiled_anew(backend)) if k % 10 == 0 else child), f"{kind} {k}"
        assert child() and compiled_anew(backend)
        if "-v" in sys.argv:
            print(kind, time.perf_counter() - start, file=sys.stderr)
    print("fine", forks)


@pytest.mark.parametrize("backend", BACKENDS)
def test_forks_at_any_moment(backend):
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "MINIGRAPH_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(backend, rounds(FORKS))]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=rounds(300), env=environment, cwd=Path(__file__).parent.parent
    )
    assert done.stdout.startswith("fine"), done.stdout + done.stderr
