"""Programs whose sizes are left open hold for other sizes, and are planned anew where they do not."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.dimensions import Dimension, Dimensions
from minigraph.core.graph import Input
from minigraph.layers import LSTM, BatchNormalizedMLP, Rectifier, batch_normalization
from minigraph.ops.array.entries import taken
from minigraph.training import adam
from minigraph.transforms import get_batch_normalization_updates, moving_average
from support.compare import assert_same_values, computed_in
from support.graph_generator import fusion_graph
from support.sweep import rounds

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")
CHUNKS, EACH = 6, rounds(4, 6)


def region_of(function):
    """What a function of one region runs."""
    return function._execution.plan.steps[0].kernel


def programs(function):
    """The programs of a function of one region."""
    return region_of(function).programs


def resized(value, variable, more):
    """A value of another size along the axes whose sizes are unknown, its elements repeated."""
    shape = [n if known is not None or n < 2 else n + more for n, known in zip(value.shape, variable.type.shape, strict=True)]
    return np.resize(value, shape).astype(value.dtype) if value.size else np.zeros(shape, value.dtype)


def outcome(function, given):
    """The results of a call, or that it is refused."""
    try:
        return function(*given)
    except (ValueError, IndexError, TypeError, AssertionError):
        return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_graphs_at_other_sizes(chunk):
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        graph = fusion_graph(seed)
        inputs = graph.leaves(Input)
        outputs = [one for one in graph.outputs() if one.dtype.kind != "f" or computed_in(one) != "float16"]
        options = {"on_unused_input": "ignore", "no_default_updates": True}
        functions = [mg.function(inputs, outputs, backend=one, **options) for one in ("native", "numpy")]
        for more in (0, 1, 3, 0, 30):
            given = [resized(graph.value(one), one, more) for one in inputs]
            compiled, interpreted = (outcome(function, given) for function in functions)
            assert (compiled is None) == (interpreted is None), f"seed {seed}, {more} more"
            for ours, theirs, one in zip(compiled or (), interpreted or (), outputs, strict=False):
                assert_same_values(ours, theirs, False, f"seed {seed}, {more} more", computed_in(one))


def test_arithmetic_keeps_the_polynomial():
    open = Dimensions([(6, 5)], {(0, 0): 0, (0, 1): 1})
    ((n, m),) = open.shapes
    assert (n + 1) * m - m == n * m and 2 * n == n + n and (n * m) // m == n and (4 * n) % 4 == 0 and n - n == 0
    assert n > 1 and n * m >= 4 and n + m > 3 and not open.conditions
    assert n > 4 and len(open.conditions) == 1
    assert n != 6 and len(open.conditions) == 1
    assert int(n) == 6 and open.settled([(6, 9)]) is not None and open.settled([(7, 9)]) is None


def test_a_condition_holds_or_not():
    open = Dimensions([(64, 3)], {(0, 0): 0})
    ((n, three),) = open.shapes
    assert isinstance(n, Dimension) and three == 3
    half = n // 2
    assert half > 16 and not n % 2 and half * 2 == n
    assert open.settled([(100, 3)])(half) == 50
    assert [open.settled([shape]) for shape in ((65, 3), (20, 3), (100, 4), (1, 3))] == [None] * 4


@pytest.mark.parametrize("bounds", [(None, None), (1, None), (None, -1), (-3, None), (2, 5), (5, 2), (-2, -5), (0, 100)])
@pytest.mark.parametrize("step", [None, 1, 2, -1, -3])
def test_slices_of_open_sizes(bounds, step):
    for size in (2, 3, 7, 8):
        open = Dimensions([(size,)], {(0, 0): 0})
        ((n,),) = open.shapes
        for other in (size, 2, 3, 4, 7, 50):
            start, count, by = taken(*bounds, step, n)
            settled = open.settled([(other,)])
            if settled is not None:
                elements = range(other)[slice(*bounds, step)]
                assert settled(count) == len(elements)
                assert not elements or [settled(start) + by * k for k in range(len(elements))] == list(elements)


def normalized_network():
    """A training step of a normalized network with all sizes of its inputs unknown, and values for a number of rows."""
    x, labels = mg.matrix("x"), mg.lvector("labels")
    network = BatchNormalizedMLP([Rectifier(), Rectifier(), None], [8, 16, 8, 4], seed=1)
    with batch_normalization(network):
        cost = mg.softmax_crossentropy(network.apply(x), labels).mean()
    rule = adam(cost, mg.ComputationGraph(cost).parameters, 0.01)
    updates = rule + moving_average(get_batch_normalization_updates(cost))
    rng = np.random.default_rng(0)
    return [x, labels], cost, updates, lambda n: (rng.normal(size=(n, 8)).astype("f"), rng.integers(0, 4, n))


def recurrent_network():
    """A training step of an LSTM, and values for a number of rows, with as many steps and a few more."""
    x = mg.tensor("x", shape=(None, None, 3))
    layer = LSTM(5, input_dim=3, seed=1)
    cost = mg.square(layer.apply(x)[0][-1]).mean()
    rng = np.random.default_rng(0)
    return [x], cost, adam(cost, layer.parameters, 0.01), lambda n: (rng.normal(size=(n + 3, n, 3)).astype("f"),)


def convolutional_network():
    """A convolution of images whose number and sizes are unknown, its gradient, and values for a number of images."""
    x, filters = mg.tensor("x", shape=(None, 2, None, None)), mg.shared(np.ones((3, 2, 3, 3), "f"), "filters")
    cost = mg.tanh(mg.conv2d(x, filters)).sum()
    rng = np.random.default_rng(0)
    return [x], cost, [(filters, mg.grad(cost, filters))], lambda n: (rng.normal(size=(n, 2, n + 5, 9)).astype("f"),)


@pytest.mark.parametrize("network", [normalized_network, recurrent_network, convolutional_network])
def test_one_program_serves_many_sizes(network):
    inputs, cost, updates, values = network()
    compiled, interpreted = (mg.function(inputs, cost, updates=updates, backend=one) for one in ("native", "numpy"))
    for n in (8, 9, 16, 31, 2, 8, 40):
        given = values(n)
        before = [target.get_value() for target, _ in updates]
        first = interpreted(*given)
        expected = [target.get_value() for target, _ in updates]
        for (target, _), value in zip(updates, before, strict=True):
            target.set_value(value)
        np.testing.assert_allclose(compiled(*given), first, rtol=1e-4, atol=1e-5)
        for (target, _), value in zip(updates, expected, strict=True):
            np.testing.assert_allclose(target.get_value(), value, rtol=1e-3, atol=1e-4, err_msg=f"{target} of {n} rows")
    assert len(programs(compiled)) <= 3


def test_memory_is_that_of_the_largest_call():
    x = mg.matrix("x")
    f = mg.function([x], mg.tanh(x @ x.T).sum())
    for n in (300, 100, 200, 50, 250):
        f(np.ones((n, 4), "f"))
    (memory,) = region_of(f)._memories
    assert 300 * 300 * 4 <= memory[1].size < 2 * 300 * 300 * 4


def test_plans_are_bounded_in_bytes(monkeypatch):
    x = mg.matrix("x")
    f = mg.function([x], mg.tanh(x).sum())
    region = region_of(f)
    monkeypatch.setattr(type(region), "most_bytes", 10_000)
    for n in range(2, 60):
        assert f(np.zeros((n, 3), "f")) == 0
    assert 1 < len(region.plans) < 58
    assert sum(plan.held_bytes for plan in region.plans.values()) <= 10_000
    assert len(region.programs) == 1


def test_graphs_that_differ_in_a_number_share_their_kernels():
    x = mg.vector("x")
    functions = [mg.function([x], mg.exp(x * number).sum()) for number in (0.3, 0.7)]
    for f, number in zip(functions, (0.3, 0.7), strict=True):
        assert f(np.ones(3, "f")) == pytest.approx(3 * np.exp(number))
    one, other = (programs(f)[0].program.kernels[0] for f in functions)
    assert one is other
