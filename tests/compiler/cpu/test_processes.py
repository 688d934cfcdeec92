"""The compiled backend gives the same bits in any number of threads, and in child processes."""

import os

import numpy as np
import pytest

import minigraph as mg
from support.native import in_a_process, native
from support.threads import in_threads

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")


LARGE = """
import hashlib, os
import numpy as np
import minigraph as mg

rng = np.random.default_rng(0)
x, w, v, low, wide = mg.fmatrix("x"), mg.fmatrix("w"), mg.dtensor3("v"), mg.dmatrix("low"), mg.dmatrix("wide")
hidden = mg.tanh(x @ w)
outputs = [
    hidden, hidden.sum(0), hidden.sum(1), hidden.sum(), mg.softmax(hidden, 1), mg.softmax(hidden, 0), hidden.T @ x,
    mg.standardize(hidden, 0)[0], hidden[:, ::-1].T + 1, mg.matmul(v, mg.swapaxes(v, 1, 2)), mg.exp(v).sum((0, 2)),
    mg.random.RandomStream(3).normal((700, 300)), low @ wide, wide.T @ low.T,
]
inputs = [x, w, v, low, wide]
f = mg.function(inputs, outputs, backend="native", no_default_updates=True)
sizes = [(901, 333), (333, 517), (37, 65, 41), (21, 1305), (1305, 81)]
given = [rng.normal(size=size).astype(one.dtype) for one, size in zip(inputs, sizes, strict=True)]

def digest():
    return hashlib.sha256(b"".join(one.tobytes() for one in f(*given))).hexdigest()
"""


def test_two_runs_give_the_same_bits():
    script = LARGE + "\nprint(digest(), digest(), digest())"
    for count in ("1", "2", "5"):
        first = in_a_process(script, MINIGRAPH_NUM_THREADS=count).split()
        again = in_a_process(script, MINIGRAPH_NUM_THREADS=count).split()
        assert len({*first, *again}) == 1


NESTS = """
y, flat = mg.tanh(x), x.reshape(-1)
outputs = [
    y, y.sum(0), y.sum(1), y.sum(), mg.softmax(x, 1), mg.softmax(x, 0), mg.standardize(x, 0)[0], y[:, ::-1].T + 1,
    flat.sum(), mg.argmax(flat),
    mg.exp(v).sum((0, 2)), mg.random.RandomStream(3).normal((700, 300)),
]
f = mg.function([x, v], outputs, backend="native", no_default_updates=True)
given = [given[0], given[2]]
print(digest())
"""


def test_loop_nests_do_not_depend_on_the_number_of_threads():
    assert len({in_a_process(LARGE + NESTS, MINIGRAPH_NUM_THREADS=count) for count in ("1", "2", "5")}) == 1


def test_a_child_process_can_call_what_its_parent_compiled():
    script = (
        LARGE
        + """
expected = digest()
children = [os.fork() for _ in range(2)]
if 0 in children:
    os._exit(0 if digest() == expected and digest() == expected else 1)
ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(ends, digest() == expected)
"""
    )
    assert in_a_process(script, MINIGRAPH_NUM_THREADS="3", PYTHONWARNINGS="ignore") == "[0, 0] True\n"


WORKERS = """
import os, time
import numpy as np
import minigraph as mg

x = mg.matrix("x")
f = mg.function([x], mg.exp(x), backend="native")
given = np.ones((1000, 1000), "float32")
before = set(os.listdir("/proc/self/task"))
f(given)
time.sleep(0.2)  # threads that compiled have ended
workers = sorted(map(int, set(os.listdir("/proc/self/task")) - before))
"""
ALL_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@pytest.mark.skipif(ALL_CORES != [0, 1], reason="written for a machine of two cores")
def test_a_thread_is_bound_to_the_core_that_its_caller_is_not_on():
    script = WORKERS + (
        "for core in (1, 0, 0, 1):\n"
        "    os.sched_setaffinity(0, {core})\n"
        "    f(given)\n"
        "    print(core, *os.sched_getaffinity(workers[0]))\n"
    )
    assert in_a_process(script, MINIGRAPH_NUM_THREADS="2") == "1 0\n0 1\n0 1\n1 0\n"


@pytest.mark.skipif(not ALL_CORES, reason="threads are bound to cores on Linux alone")
def test_threads_are_not_bound_where_there_are_more_than_cores():
    script = WORKERS + "print(*sorted(os.sched_getaffinity(workers[-1])))"
    assert in_a_process(script, MINIGRAPH_NUM_THREADS=str(len(ALL_CORES) + 1)).split() == [*map(str, ALL_CORES)]


def test_where_there_are_no_threads_nothing_is_asked_of_the_system():
    script = """
    import numpy as np
    import minigraph as mg
    from minigraph.compiler.cpu import pool_text, runtime

    pool_text.FUTEX = runtime.FUTEX = None
    x = mg.matrix("x")
    print(float(mg.function([x], mg.exp(x).sum(), backend="native")(np.zeros((1000, 1000), "float32"))), runtime.pool().threads)
    print({line for line in pool_text.threads_text().splitlines() if line.startswith("declare") and "llvm." not in line})
    """
    assert in_a_process(script, MINIGRAPH_CACHE="off") == "1000000.0 1\nset()\n"


def test_one_compiled_function_in_many_threads():
    x, w = mg.dmatrix("x"), mg.shared(np.random.default_rng(0).normal(size=(40, 60)))
    total = mg.shared(np.zeros(60))
    f = native([x], [mg.tanh(x @ w), mg.softmax(x, 1)], updates={total: total + x.sum()})
    g = native([x], mg.exp(mg.matmul(x, w)).sum(1))

    def work(k):
        for rows in (3, 500 + k, 3):
            a = np.full((rows, 40), k / 100)
            product = a @ w.get_value()
            for _ in range(10):
                first, second = f(a)
                np.testing.assert_allclose(first, np.tanh(product), rtol=1e-10, atol=1e-12)
                np.testing.assert_allclose(second, 1 / 40, rtol=1e-12)
                np.testing.assert_allclose(g(a), np.exp(product).sum(1), rtol=1e-10)

    in_threads(*(lambda k=k: work(k) for k in range(8)))
    sizes = [k / 100 * 40 * 10 * (506 + k) for k in range(8)]
    np.testing.assert_allclose(total.get_value(), sum(sizes))
