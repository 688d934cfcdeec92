"""A backend from outside of the package, which prints C; docs/write_a_backend.md shows it as it is."""

import re
from pathlib import Path

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Input
from support import c_backend
from support.compare import assert_all_equal
from support.graph_generator import wild_graph
from support.loop_generator import random_loop
from support.op_table import RECORDS
from support.op_table.cases import inputs_like, variables_of

PAGE = Path(__file__).parents[2] / "docs" / "write_a_backend.md"
PRECISION = {"float64": 1e-11, "float32": 1e-5, "float16": 4e-3}
EACH = 25

pytestmark = pytest.mark.skipif(c_backend.COMPILER is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def registered():
    mg.register_backend("c", c_backend.C, c_backend.make)
    yield
    mg.unregister_backend("c")


@pytest.mark.parametrize("start", range(0, len(RECORDS), EACH))
def test_all_ops(start):
    given, inputs, outputs, expected, tolerance = [], [], [], [], 1
    for record in RECORDS[start : start + EACH]:
        call = record.calls[0]
        operands = record.draw(call, record.dtypes[0])
        own = inputs_like(operands)
        given, inputs, outputs = [*given, *operands], [*inputs, *own], [*outputs, *variables_of(record.build(call, own))]
        expected += record.expect(call, operands)
        tolerance = max(tolerance, record.tolerance)
    f = mg.function(inputs, outputs, backend="c", on_unused_input="ignore", no_default_updates=True)
    for _ in range(2):
        assert_all_equal(f(*given), expected, PRECISION, tolerance)


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs_and_their_updates(seed):
    graph = wild_graph(seed)
    inputs, outputs = graph.leaves(Input), graph.outputs()
    given = [graph.value(one) for one in inputs]
    f = mg.function(inputs, outputs, updates=graph.updates, on_unused_input="ignore", backend="c", passes="-stabilize")
    expected, new = ([graph.value(one) for one in each] for each in (outputs, graph.updates.values()))
    assert_all_equal(f(*given), expected, PRECISION, 10)
    assert_all_equal([one.get_value() for one in graph.updates], new, PRECISION, 10)


@pytest.mark.parametrize("seed", range(6))
def test_loops(seed):
    loop = random_loop(seed)
    inputs = [one for one in loop.leaves if isinstance(one.op, Input)]
    given, start = [loop.values[one] for one in inputs], [one.get_value() for one in loop.state]
    results = []
    for backend in ("c", "numpy"):
        f = mg.function(inputs, loop.looped, on_unused_input="ignore", backend=backend)
        for one, value in zip(loop.state, start, strict=True):
            one.set_value(value)
        results.append([*f(*given), *(one.get_value() for one in loop.state)])
    assert_all_equal(*results, PRECISION, 100)


def test_it_trains_as_numpy_does():
    costs = []
    for backend in ("c", "numpy"):
        x, t = mg.matrix("x"), mg.ivector("t")
        net = mg.layers.Sequence(
            [mg.layers.Linear(6, 8, seed=1), mg.layers.BatchNormalization(8), mg.layers.Tanh(), mg.layers.Linear(8, 3, seed=2)]
        )
        with mg.batch_normalization(net):
            cost = mg.softmax_crossentropy(net.apply(x), t).mean()
        updates = mg.training.adam(cost, mg.ComputationGraph(cost).parameters, 0.01)
        updates += mg.transforms.moving_average(mg.transforms.get_batch_normalization_updates(cost), 0.1)
        step = mg.function([x, t], cost, updates=updates, backend=backend)
        rng = np.random.default_rng(0)
        data = rng.normal(size=(16, 6)).astype("f"), rng.integers(0, 3, 16).astype("int32")
        costs.append([float(step(*data)) for _ in range(20)])
        assert step.backend == backend
    np.testing.assert_allclose(*costs, rtol=1e-4)
    assert costs[0][-1] < 0.8 * costs[0][0]


def test_errors_name_the_users_line():
    x, i = mg.vector("x"), mg.lvector("i")
    f = mg.function([x, i], mg.exp(x)[i], backend="c")
    with pytest.raises(IndexError, match=r"(?s)index 5 is out of bounds.*test_third_backend.py"):
        f([1, 2, 3], [5])


def test_it_tells_what_it_runs():
    x = mg.matrix("x")
    f = mg.function([x], mg.softmax(x), backend="c", trace=True)
    f(np.ones((2, 3), "f"))
    assert repr(f) == "<Function (x), 1 compiled call>"
    assert "for (long long i0 = 0; i0 < 2; ++i0) {" in f.source(code=True)
    assert "Exp" in str(f.profile(np.ones((2, 3), "f"))) and "== region 2x3: program" in str(f.trace)


def test_names_of_backends_are_checked():
    with pytest.raises(ValueError, match="there is a backend 'c' already"):
        mg.register_backend("c", c_backend.C, c_backend.make)
    with pytest.raises(ValueError, match="'numpy' is no backend that was registered"):
        mg.unregister_backend("numpy")
    mg.config.backend = "c"
    try:
        assert mg.function([], mg.constant(1.0)).backend == "c"
    finally:
        mg.config.backend = None
    with pytest.raises(ValueError, match="there is no backend 'd'"):
        mg.function([], mg.constant(1.0), backend="d")


def test_the_page_shows_it_as_it_is():
    source = Path(c_backend.__file__).read_text()
    blocks = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) >= 6
    assert [one for one in blocks if one not in source] == []
