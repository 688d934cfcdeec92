"""Deep and large graphs: nothing recurses, cost grows with the number of variables, and paths do not count."""

import copy
import gc
import pickle
import sys
import time

import pytest

import minigraph as mg
from minigraph.kernels import jit

DEPTH = 100_000
BUDGET = 60.0


def chain(depth):
    x = v = mg.dscalar("x")
    for _ in range(depth):
        v = v * 1.00001
    return x, v


def test_a_chain_of_a_hundred_thousand_variables():
    assert sys.getrecursionlimit() <= 1000
    start = time.process_time()  # other processes shall not count
    x, v = chain(DEPTH)
    slope = mg.grad(v, x)
    f = mg.function([x], [v, slope], backend="numpy")
    expected = 1.00001**DEPTH
    assert f(2.0) == pytest.approx([2 * expected, expected])
    assert len(mg.debugprint(v).splitlines()) == 2 * DEPTH + 1
    assert mg.pprint(v).count("*") == DEPTH
    assert len(mg.to_dot(v).splitlines()) > DEPTH
    assert len(f.source().splitlines()) > DEPTH
    assert len(repr(v)) < 100
    for twin in (pickle.loads(pickle.dumps([x, v])), copy.deepcopy([x, v])):
        assert len(mg.Graph((), (twin[1],)).variables) == 2 * DEPTH + 1
    (replaced,) = mg.replace([v], {x: x + 1})
    assert len(mg.Graph((), (replaced,)).variables) == 2 * DEPTH + 3
    del v, slope, f, twin, replaced
    gc.collect()
    assert time.process_time() - start < BUDGET


@pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")
def test_a_chain_of_a_hundred_thousand_variables_can_be_compiled():
    start = time.process_time()
    x, v = chain(DEPTH)
    f = mg.function([x], [v, mg.grad(v, x)], backend="native")
    expected = 1.00001**DEPTH
    assert f(2.0) == pytest.approx([2 * expected, expected])
    assert time.process_time() - start < BUDGET


def compile_time(depth):
    """The seconds it takes to build a chain of sums, differentiate and compile it: the best of some runs."""
    best = float("inf")
    for _ in range(2):
        gc.collect()
        start = time.process_time()
        x = v = mg.dscalar("x")
        for _ in range(depth):
            v = v + x
        mg.function([x], [v, mg.grad(v, x)])
        best = min(best, time.process_time() - start)
    return best


def test_cost_grows_linearly():
    sizes = [5_000, 10_000, 20_000, 40_000]
    times = [compile_time(size) for size in sizes]
    ratios = [later / earlier for earlier, later in zip(times, times[1:], strict=False)]
    assert max(ratios) < 2.4, f"{sizes} variables took {times}"


def test_wide_graphs():
    x = mg.dscalar("x")
    total = sum((x * k for k in range(1, 3000)), mg.constant(0.0, dtype="float64"))
    f = mg.function([x], [total, mg.grad(total, x)])
    assert f(1) == [3000 * 2999 / 2] * 2


def test_a_deep_diamond_costs_its_variables_not_its_paths():
    x = y = mg.dscalar("x")
    for _ in range(60):
        y = y + y
    slope = mg.grad(y, x)
    curvature = mg.grad(slope * x, x)
    f = mg.function([x], [y, slope, curvature])
    assert f(1) == [2.0**60] * 3
    assert len(mg.pprint(y).splitlines()) == 60
    assert len(mg.debugprint(y).splitlines()) == 121
    assert mg.to_networkx(y).number_of_nodes() == 121
    assert len(pickle.dumps(y)) < 20_000
    assert len(mg.Graph((), (copy.deepcopy(y),)).variables) == 61
    (replaced,) = mg.replace([y], {x: x * 2})
    assert replaced.eval({x: 1}) == 2.0**61
