"""Memory of compiled functions: what is written over, shared, and given back."""

import re

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import program as native_program
from minigraph.compiler.cpu.printer import CHUNK, WIDTH
from support.native import in_a_process, native
from support.threads import in_threads

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")


def test_nothing_that_is_held_is_written_over():
    s, x = mg.shared(np.zeros(1000)), mg.dvector("x")
    f = native([x], [s * 1, s.sum() + x], updates={s: s + x[0]})
    given = np.array([1.0])
    states, views, outputs = [], [], []
    for k in range(12):
        if k % 3 == 0:
            states.append((k, s.get_value(borrow=True)))
        if k % 3 == 1:
            views.append((k, memoryview(s.get_value(borrow=True)[3:])))
        outputs.append(f(given))
        given = outputs[-1][1] * 0 + 1  # a result as the next argument
    assert [value[0] for k, value in states] == [k for k, _ in states]
    assert [view[0] for k, view in views] == [k for k, _ in views]
    for k, (first, second) in enumerate(outputs):
        np.testing.assert_array_equal(first, np.full(1000, float(k)))
        np.testing.assert_array_equal(second, [1000.0 * k + 1])


def addresses(*state):
    """Where the arrays of shared variables lie."""
    return [one.get_value(borrow=True).ctypes.data for one in state]


@pytest.mark.parametrize("order", [1, -1])
def test_state_that_nobody_else_holds_is_written_over(order):
    rng = np.random.default_rng(0)
    x, rows = mg.fmatrix("x"), mg.lvector("rows")
    weights = [mg.shared(rng.normal(size=(20, 20)).astype("float32")) for _ in range(3)]
    rate, count = mg.shared(np.float32(0.01)), mg.shared(np.int64(0))
    hidden = x
    for w in weights:
        hidden = mg.tanh(hidden @ w)
    cost = (hidden[rows] ** 2).mean()
    pairs = [(w, w - rate * slope) for w, slope in zip(weights, mg.grad(cost, weights), strict=True)]
    f = native([x, rows], cost, updates=[*pairs[::order], (count, count + 1)])
    twin = mg.function([x, rows], cost, updates=f.updates, backend="numpy")
    given = np.ones((5, 20), "float32"), np.array([0, 3])
    for _ in range(3):
        state = [one.get_value() for one in weights]
        ours, values = f(*given), [one.get_value() for one in weights]
        for one, value in zip(weights, state, strict=True):
            one.set_value(value, borrow=True)
        np.testing.assert_allclose(ours, twin(*given), rtol=1e-5)
        for one, value in zip(weights, values, strict=True):
            np.testing.assert_allclose(value, one.get_value(), rtol=1e-5, atol=1e-6)
    before = addresses(*weights, count)
    f(*given)
    assert addresses(*weights, count) == before
    held = weights[1].get_value(borrow=True)
    kept = held.copy()
    f(*given)
    assert addresses(weights[1]) != before[1:2]
    np.testing.assert_array_equal(held, kept)


def test_random_numbers_come_from_the_state_before_it_moves_on(monkeypatch):
    monkeypatch.setattr(native_program, "WORK_A_PART", 1)  # the state has as many words as numbers are drawn
    f = native([], mg.random.RandomStream(3).uniform((2,)))
    twin = mg.function([], mg.random.RandomStream(3).uniform((2,)), backend="numpy")
    for _ in range(200):
        np.testing.assert_array_equal(f(), twin())


def test_memory_that_is_not_the_variables_own_is_not_written_over():
    base = np.zeros(100)
    s = mg.shared(base[:50], borrow=True)
    t = mg.shared(np.ones(50))
    same = np.full(50, 2.0)
    u, v = mg.shared(same, borrow=True), mg.shared(same, borrow=True)
    del same
    f = native([], [], updates={s: s + 1, t: t + s, u: u + 1, v: v * 10})
    for _ in range(3):
        f()
    assert not base.any()
    assert [one.get_value()[0] for one in (s, t, u, v)] == [3, 4, 5, 2000]


def test_updates_that_need_each_others_old_values():
    sizes = [7, 40_000]
    for size in sizes:
        start = [np.full(size, value) for value in (1.0, 2.0, 3.0)]
        a, b, c = (mg.shared(value) for value in start)
        f = native([], [c.sum(), (a * b).sum()], updates={a: b, b: c + a, c: c.sum() * a})
        for _ in range(4):
            x, y, z = (one.get_value() for one in (a, b, c))
            np.testing.assert_allclose(f(), [z.sum(), (x * y).sum()])
            for one, value in zip((a, b, c), (y, z + x, z.sum() * x), strict=True):
                np.testing.assert_allclose(one.get_value(), value)


def test_state_that_is_being_updated_can_be_read():
    s, t = mg.shared(np.zeros(300_000)), mg.shared(np.zeros(300_000))
    f = native([], updates={s: s + 1, t: t + mg.exp(s * 0)})
    g = native([], [s.sum(), t.sum()])

    def update():
        for _ in range(60):
            f()

    def read():
        for _ in range(60):
            assert len({*s.get_value()}) == 1
            first, second = g()
            assert first == second

    in_threads(update, read, update, read)
    assert s.get_value()[0] == 120


def test_state_may_be_given_as_an_argument():
    s, x = mg.shared(np.arange(500.0)), mg.dvector("x")
    f = native([x], x.sum(), updates={s: s + x[::-1]})
    expected = np.arange(500.0)
    for _ in range(8):
        assert f(s.get_value(borrow=True)) == expected.sum()
        expected = expected + expected[::-1]
        np.testing.assert_array_equal(s.get_value(), expected)


class Subclass(np.ndarray):
    """An array that is not quite NumPy's."""


def test_any_memory_is_taken_in():
    x, y = mg.dmatrix("x"), mg.dscalar("y")
    f = native([x, y], [x.T * 2 + y, x.sum(0)])
    plain = np.arange(12.0).reshape(3, 4)
    unaligned = np.frombuffer(b"." + plain.tobytes() + np.float64(5).tobytes(), np.uint8)[1:].view("f8")
    read_only = plain.copy()
    read_only.flags.writeable = False
    layouts = [
        plain, np.asfortranarray(plain), plain[::-1, ::-1].copy()[::-1, ::-1], np.repeat(plain, 2, 1)[:, ::2], read_only,
        unaligned[:12].reshape(3, 4), plain.astype(">f8"), plain.tolist(), plain.view(Subclass), plain.astype("f4"),
    ]  # fmt: skip
    for given in layouts:
        for number in (5, 5.0, np.float32(5), np.array(5.0), unaligned[12:].reshape(())):
            first, second = f(given, number)
            np.testing.assert_array_equal(first, plain.T * 2 + 5)
            np.testing.assert_array_equal(second, plain.sum(0))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("length", [65, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_slow_values_that_are_stored_are_folded_piece_by_piece(length, dtype):
    """A softmax writes its exponentials where the results go, and sums what it has written."""
    x = mg.tensor("x", shape=(None, None, None), dtype=dtype)
    e = mg.exp(x)
    outputs = [mg.softmax(x), e, e.sum((1, 2)), e.sum(2), e.max(2)]
    given = np.random.default_rng(length).normal(size=(3, 2, length)).astype(dtype)
    given[0, 0, 0], given[1, 1, -1] = np.nan, np.inf
    f = native([x], outputs)
    expected = mg.function([x], outputs, backend="numpy")(given)
    tolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}[dtype]
    for ours, theirs in zip(f(given), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    in_pieces = re.search(rf"add nsw i64 %\S+, {CHUNK}\n", f.source(code=True))
    assert bool(in_pieces) == (dtype != "float64")  # float64 is summed in float64


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 300), (7, 15), (64, WIDTH), (65, 2 * WIDTH + 7)])
def test_slow_values_are_folded_by_column(shape, dtype):
    """Slow values that are stored or not, folded several times, and in a later stage."""
    x = mg.matrix("x", dtype=dtype)
    y = mg.tanh(x)
    centred = mg.exp(y - y.mean(0))
    outputs = [y, centred, centred.sum(0), mg.exp(x).sum(0), (y * x).max(0)]
    given = np.random.default_rng(shape[1]).normal(size=shape).astype(dtype)
    expected = mg.function([x], outputs, backend="numpy")(given)
    tolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-14}[dtype]
    for ours, theirs in zip(native([x], outputs)(given), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def test_parts_are_written_in_place_only_where_nothing_else_is_meant():
    """Into joined values through views, into constants, but not where they are added, or read otherwise, too."""
    x = mg.matrix("x")
    y, frame = mg.tanh(x), mg.ones((5, 8)) * 0.5
    outputs = [
        mg.stack([x.mean(0), mg.exp(x).mean(0)]).sum(0),
        mg.pad(y, [(1, 1), (2, 2)]) + 1,
        mg.set_subtensor(frame[1:4, ::2], mg.sin(x)) + 1,
        mg.inc_subtensor(frame[1:4, :4], mg.cos(x)) + 1,
        mg.pad(mg.sqrt(x), 1),
        mg.concatenate([mg.pad(y * x, 1), frame[:, :6]]),
        y.sum(),
    ]
    given = np.random.default_rng(0).uniform(0.1, 1, (3, 4)).astype("float32")
    for one in outputs:
        both = [one, mg.grad(mg.square(one).sum(), x)]
        found, expected = (mg.function([x], both, backend=backend)(given) for backend in ("native", "numpy"))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    together = [mg.function([x], outputs, backend=backend)(given) for backend in ("native", "numpy")]
    for ours, theirs in zip(*together, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def titles(f):
    """What a function's kernels compute, in order."""
    return re.findall(r"^# step \d+: (.*?)(?:, in \d+ parts)?   ", f.source(), re.MULTILINE)


def test_work_over_one_space_is_one_kernel_wherever_it_stands():
    """A normalization's gradient needs what does not vary along columns, and a product comes before what reads the same."""
    names = [mg.matrix("x"), mg.matrix("dy"), mg.vector("scale"), mg.vector("stdev"), mg.matrix("weights")]
    x, dy, scale, stdev, weights = names
    scaled = dy * scale
    dx = (scaled - scaled.mean(0) - x * (scaled * x).mean(0)) * mg.sqrt(stdev)
    outputs = [mg.dot(dx, weights), (dy * x).sum(0), dy.sum(0) + mg.exp(stdev)]
    rng = np.random.default_rng(0)
    given = [rng.uniform(1, 2, shape).astype("float32") for shape in ((20, 30), (20, 30), (30,), (30,), (30, 40))]
    f = native(names, outputs)
    for ours, theirs in zip(f(*given), mg.function(names, outputs, backend="numpy")(*given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)
    assert [title == "MatMul" for title in titles(f)] == [False, True]


def test_kernels_are_not_merged_around_what_lies_between():
    """What reads a product of another's result cannot be done with it."""
    x, weights = mg.matrix("x"), mg.matrix("weights")
    y = mg.tanh(x)
    f = native([x, weights], [mg.dot(y, weights) * x + y.sum(0), y])
    given = np.random.default_rng(1).normal(size=(2, 20, 20)).astype("float32")
    expected = np.tanh(given[0]) @ given[1] * given[0] + np.tanh(given[0]).sum(0)
    np.testing.assert_allclose(f(*given)[0], expected, rtol=1e-5, atol=1e-5)
    assert [title == "MatMul" for title in titles(f)] == [False, True, False]


@pytest.mark.parametrize("turned", [False, True])
def test_a_vector_times_what_is_computed_is_a_fold(turned):
    """One product of a vector goes with the computation of its matrix, one with a given matrix stays a product."""
    x, v, given = mg.matrix("x"), mg.vector("v"), mg.matrix("given")
    pairs = [(mg.exp(x), v), (mg.concatenate([x, 2 * x], 0), mg.concatenate([v, v])), (given, v)]
    outputs = [mg.dot(b, a[:, None]) if turned else mg.dot(a[None, :], b) for b, a in pairs]
    if turned:
        outputs[1] = mg.dot(mg.concatenate([x, 2 * x], 1), mg.concatenate([v, v])[:, None])
    values = [np.random.default_rng(2).normal(size=shape).astype("float32") for shape in ((30, 30), (30,), (30, 30))]
    f = native([x, v, given], outputs)
    for ours, theirs in zip(f(*values), mg.function([x, v, given], outputs, backend="numpy")(*values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert titles(f).count("MatMul") == 1


def test_dropped_functions_leave_no_memory_behind():
    script = """
    import gc
    import numpy as np
    import minigraph as mg

    def resident():
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    def made_and_dropped():
        for k in range(200):
            x, w = mg.dmatrix("x"), mg.shared(np.ones((30, 20)))
            cost = mg.logsumexp(mg.tanh(x @ w), k % 2).mean() * k
            f = mg.function([x], cost, updates={w: w - 0.1 * mg.grad(cost, w)}, backend="native")
            f(np.ones((20 + k % 7, 30)))

    made_and_dropped()
    before = resident()
    made_and_dropped()
    print((resident() - before) / 2**20)
    """
    assert float(in_a_process(script, MINIGRAPH_CACHE="off")) < 2


def test_memory_is_planned_and_told():
    x = mg.dmatrix("x")
    y = mg.tanh(x @ x)
    f = native([x], [(y @ y).sum(), y])
    assert f.memory() == mg.function([x], x + 1, backend="numpy").memory() == type(f.memory())(0, 0, 0)
    f(np.ones((32, 32)))
    small = f.memory()
    f(np.ones((64, 64)))
    large = f.memory()
    assert 0 < small.arena < large.arena
    assert small.results == 8 + 8 * 32 * 32 and large.results == 8 + 8 * 64 * 64
    assert large.peak == large.arena + large.results
    f(np.ones((32, 32)))
    assert f.memory() == large


def test_values_that_are_not_alive_together_share_memory():
    x = mg.dmatrix("x")
    y = x
    for _ in range(20):
        y = mg.tanh(y @ x)
    f = native([x], y)
    f(np.eye(64))
    assert f.memory().arena < 4 * 8 * 64 * 64
