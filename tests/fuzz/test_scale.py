"""Deep and large graphs: nothing recurses, cost grows with the number of variables, and paths do not count."""

import copy
import cProfile
import gc
import pickle
import pstats
import sys

import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit
from support.sweep import rounds

DEPTH = rounds(8_000, 20_000)
CALLS_A_VARIABLE = 1_500
"""How many calls it takes at most to build, differentiate and compile one variable: their number is the same on any machine."""


def chain(depth):
    x = v = mg.dscalar("x")
    for _ in range(depth):
        v = v * 1.00001
    return x, v


def test_a_chain_far_deeper_than_the_recursion_limit():
    assert sys.getrecursionlimit() <= 1000
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


@pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")
def test_a_chain_far_deeper_than_the_recursion_limit_can_be_compiled():
    x, v = chain(DEPTH)
    f = mg.function([x], [v, mg.grad(v, x)], backend="native")
    expected = 1.00001**DEPTH
    assert f(2.0) == pytest.approx([2 * expected, expected])


def calls(depth):
    """The calls that it takes to build a chain, differentiate and compile it."""
    with cProfile.Profile() as profile:
        x, v = chain(depth)
        mg.function([x], [v, mg.grad(v, x)])
    return pstats.Stats(profile).total_calls


def test_cost_grows_linearly():
    sizes = [500, 1_000, 2_000]
    made = [calls(size) for size in sizes]
    assert made[-1] < CALLS_A_VARIABLE * sizes[-1]
    ratios = [later / earlier for earlier, later in zip(made, made[1:], strict=False)]
    assert max(ratios) < 2.1, f"{sizes} variables took {made} calls"


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
