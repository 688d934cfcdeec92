"""The compiled backend: the values of the interpreter, accuracy to the last digits, any threads, few kernels, clear errors."""

import re
import threading
import time

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit
from minigraph.compiler.cpu import program as native_program
from minigraph.core.graph import Constant, Graph, Input, Shared
from minigraph.rewrite.partition import Region
from support.compare import assert_same_values, computed_in
from support.graph_generator import chosen_outputs, fusion_graph
from support.native import in_a_process, native
from support.sweep import rounds

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")


def regions(f):
    """The compiled parts of a function."""
    return [one for one in f.graph.variables if isinstance(one.op, Region)]


@pytest.fixture
def kernels(monkeypatch):
    """The kernels that are compiled from now on."""
    made = []
    plain = native_program.Kernel

    def kernel(*arguments):
        made.append(plain(*arguments))
        return made[-1]

    monkeypatch.setattr(native_program, "Kernel", kernel)
    return made


# -- the values of the interpreter -----------------------------------------------------------------------------------

CHUNKS, EACH = 16, rounds(6, 20)


def check_against_interpreter(graph, seed):
    """Both backends give the same results and updates from the same inputs and state, and the compiled one does so again."""
    outputs, inputs = chosen_outputs(graph, seed), graph.leaves(Input)
    state = [one for one in Graph((), (*outputs, *graph.updates, *graph.updates.values())) if isinstance(one.op, Shared)]
    given, before = [graph.value(one) for one in inputs], [one.get_value() for one in state]
    kept = [value.copy() for value in given]

    def called(f):
        for one, value in zip(state, before, strict=True):
            one.set_value(value)
        return [*f(*given), *(one.get_value() for one in state)]

    options = {"updates": graph.updates, "on_unused_input": "ignore"}
    f = native(inputs, outputs, **options)
    ours, expected = called(f), called(mg.function(inputs, outputs, backend="numpy", **options))
    what = f"seed {seed}\n{mg.debugprint(outputs)}"
    for one, other, variable in zip(ours, expected, [*outputs, *(graph.updates.get(one, one) for one in state)], strict=True):
        float_type = computed_in(variable)
        # of two zeros of 16 bits NumPy takes the other one as the greater
        assert_same_values(one, other, float_type != "float16", what, float_type)
    for one, other in zip(called(f), ours, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=f"the second call differs: {what}")
    for one, other in zip(given, kept, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=f"an input was written to: {what}")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_compiled_graphs_give_what_the_interpreter_gives(chunk, monkeypatch):
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        if seed % 3 == 0:
            monkeypatch.setattr(native_program, "WORK_A_PART", 40)  # so that small loops are split over threads, too
        check_against_interpreter(fusion_graph(seed), seed)
        monkeypatch.undo()


def test_fusion_graphs_meet_what_is_hard():
    graphs = [fusion_graph(seed) for seed in range(120)]
    values = [graph.value(one) for graph in graphs for one in graph.pool]
    leaves = [graph.value(one) for graph in graphs for one in graph.leaves(Input)]
    ops = {type(one.op).__name__ for graph in graphs for one in Graph((), tuple(graph.pool))}
    assert {value.dtype.name for value in values} >= {
        "float16",
        "float32",
        "float64",
        "int8",
        "int32",
        "int64",
        "uint8",
        "bool",
    }
    assert ops >= {
        "Softmax", "LogSumExp", "Standardize", "Increment", "Assign", "Concatenate", "MatMul", "RandomBits", "Arange", "Cast",
        "Index", "Reshape", "Dimshuffle", "BroadcastTo", "ArgMax", "CumSum", "IfElse", "Where", "Tanh", "Sum", "Max",
    }  # fmt: skip
    assert sum(not value.flags.c_contiguous for value in leaves) > 30
    assert sum(not value.flags.aligned for value in leaves) > 5
    assert sum(0 in value.shape for value in values) > 30
    assert sum(value.size > 250 for value in values) > 30
    assert sum(value.dtype.kind == "f" and bool(np.isnan(value).any() and np.isinf(value).any()) for value in values) > 10
    assert sum(bool(graph.updates) for graph in graphs) > 30
    assert sum(isinstance(one.op, Constant) for graph in graphs for one in graph.pool) > 30


# -- kernels ---------------------------------------------------------------------------------------------------------


def test_new_shapes_are_planned_anew_on_the_same_kernels(kernels):
    x, w = mg.fmatrix("x"), mg.shared(np.ones((5, 3), "float32"))
    cost = mg.standardize(mg.tanh(x @ w), 0)[0].sum(1).mean() + mg.logsumexp(x)
    f = native([x], cost, updates={w: w - mg.grad(cost, w)})
    f(np.ones((4, 5), "float32"))
    count = len(kernels)
    assert count > 0
    for rows in (9, 8, 1000, 17):
        f(np.ones((rows, 5), "float32"))
    assert len(kernels) == count


def test_equal_layers_share_their_kernels(kernels):
    def network(depth):
        """The number of kernels that are new for a network of equal layers."""
        x = y = mg.fmatrix("x")
        for _ in range(depth):
            w = mg.shared(np.eye(17, dtype="float32"))
            y = mg.relu(mg.standardize(y @ w, 0)[0] * 0.5 + mg.tanh(y))
        before = len(kernels)
        native([x], [y.sum(), mg.grad(y.sum(), x)])(np.ones((6, 17), "float32"))
        return len(kernels) - before

    few = network(8)
    assert network(64) == 0
    assert few < 20


def test_a_function_is_compiled_once_for_all_its_copies(kernels):
    s, t, x = mg.shared(np.ones(3)), mg.shared(np.full(3, 5.0)), mg.dvector("x")
    f = native([x], mg.sinh(s * x) - 0.125, updates={s: s * 3 - x})
    f([1, 2, 3])
    count = len(kernels)
    f.copy(swap={s: t})([1, 2, 3])
    assert len(kernels) == count


# -- errors ----------------------------------------------------------------------------------------------------------


def line_of(variable):
    """Where a variable was made, as errors name it."""
    return re.escape(f"{variable.origin.filename}:{variable.origin.line}")


def test_a_size_that_is_1_by_chance_does_not_broadcast():
    x, y = mg.dvector("x"), mg.dvector("y")
    total = mg.exp(x) + y
    f = native([x, y], total * 2)
    with pytest.raises(ValueError, match=rf"(?s)\(3,\) and \(1,\) do not match.*known to be 1 when.*Add.*{line_of(total)}"):
        f([1, 2, 3], [1])
    np.testing.assert_allclose(f([0, 0], [1, 2]), [4, 6])
    np.testing.assert_allclose(f([0], [1]), [4])
    with pytest.raises(ValueError, match="do not match"):
        f([1, 2, 3], [1])


@pytest.mark.parametrize("index", [6, -7, 2**40])
def test_an_index_that_is_outside_is_named_with_op_and_line(index):
    x, rows = mg.dmatrix("x"), mg.lvector("rows")
    picked = mg.tanh(x)[rows]
    written = mg.inc_subtensor(mg.exp(x)[rows], 1.0)
    given = np.arange(12.0).reshape(6, 2)
    for result, name in ((picked, "Index"), (written, "In(dex|crement)")):
        f = native([x, rows], (result * 2).sum(0))
        expected = f(given, [1, 5, -6])
        for _ in range(2):
            with pytest.raises(IndexError, match=rf"(?s)index {index} is out of bounds.*size 6.*{name}.*{line_of(result)}"):
                f(given, [1, index, 0])
        with pytest.raises(IndexError) as caught:
            f(given, [1, index, 0])
        with pytest.raises(IndexError) as expected_error:
            mg.function([x, rows], (result * 2).sum(0), backend="numpy")(given, [1, index, 0])
        assert str(caught.value) == str(expected_error.value)
        np.testing.assert_array_equal(f(given, [1, 5, -6]), expected)


def test_an_index_into_nothing_is_outside():
    x, rows = mg.dvector("x"), mg.lvector("rows")
    nothing = np.zeros(0, "int64")
    for result in (x[rows], mg.inc_subtensor(x[rows], 1.0)):
        f = native([x, rows], result * 2)
        assert f(nothing, nothing).shape == (0,)
        with pytest.raises(IndexError, match="index 0 is out of bounds"):
            f(nothing, [0])


def test_sizes_that_do_not_fit_leave_the_function_usable():
    x, w = mg.dmatrix("x"), mg.dmatrix("w")
    product = mg.tanh(x) @ w
    s = mg.shared(0.0)
    f = native([x, w], product.sum(1) + mg.reshape(x, (x.shape[0], 2)).sum(1), updates={s: s + 1})
    for wrong in [(np.ones((3, 2)), np.ones((3, 2))), (np.ones((3, 4)), np.ones((4, 2)))]:
        with pytest.raises(ValueError, match=r"test_native\.py"):
            f(*wrong)
    np.testing.assert_allclose(f(np.ones((3, 2)), np.ones((2, 5))), np.full(3, 10 * np.tanh(1) + 2))
    assert s.get_value() == 1


def test_the_greatest_of_nothing_is_an_error():
    x = mg.dmatrix("x")
    f = native([x], x.max(1))
    with pytest.raises(ValueError, match="no elements"):
        f(np.ones((3, 0)))
    assert f(np.ones((0, 3))).shape == (0,)
    np.testing.assert_array_equal(f([[1, 3, 2]]), [3])


# -- regions ---------------------------------------------------------------------------------------------------------


def test_a_training_step_is_one_region():
    x, labels = mg.fmatrix("x"), mg.ivector("labels")
    sizes = [8, 16, 16, 3]
    rng = np.random.default_rng(0)
    weights = [mg.shared(rng.normal(size=pair, scale=0.3).astype("float32")) for pair in zip(sizes, sizes[1:], strict=False)]
    biases = [mg.shared(np.zeros(size, "float32")) for size in sizes[1:]]
    hidden = x
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        hidden = mg.relu(mg.standardize(hidden @ w, 0)[0] + b)
    cost = mg.softmax_crossentropy(hidden @ weights[-1] + biases[-1], labels).mean()
    parameters = [*weights, *biases]
    velocities = [mg.shared(one.get_value() * 0) for one in parameters]
    slopes = mg.grad(cost, parameters)
    new = [0.9 * velocity - 0.1 * slope for velocity, slope in zip(velocities, slopes, strict=True)]
    updates = [*zip(velocities, new, strict=True), *((one, one + step) for one, step in zip(parameters, new, strict=True))]
    f = native([x, labels], cost, updates=updates)
    assert len(regions(f)) == 1
    given = rng.normal(size=(30, 8)).astype("float32"), rng.integers(0, 3, 30).astype("int32")
    costs = [f(*given) for _ in range(50)]
    assert costs[-1] < 0.5 * costs[0]


def test_regions_are_split_only_where_python_is_needed():
    x = mg.dvector("x")
    before, after = mg.tanh(x) * 2 + 1, x - 3
    f = native([x], [mg.exp(mg.sort(before)) + after, before.sum(), after * mg.cos(x)])
    assert len(regions(f)) == 2
    a = np.random.default_rng(0).normal(size=9)
    expected = [np.exp(np.sort(np.tanh(a) * 2 + 1)) + a - 3, (np.tanh(a) * 2 + 1).sum(), (a - 3) * np.cos(a)]
    for ours, theirs in zip(f(a), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_ifelse_computes_only_the_branch_it_takes():
    c, table, rows = mg.scalar("c"), mg.dvector("table"), mg.lvector("rows")
    shared = mg.exp(table)
    f = native([c, table, rows], [mg.ifelse(c > 0, mg.tanh(shared[rows]) * 2, shared[:1] + 1), shared.sum()])
    given = np.array([0.0, 1.0])
    chosen, total = f(-1, given, [7])
    np.testing.assert_allclose(chosen, [2])
    np.testing.assert_allclose(total, 1 + np.e)
    with pytest.raises(IndexError, match="index 7 is out of bounds"):
        f(1, given, [7])
    np.testing.assert_allclose(f(1, given, [1, 1])[0], np.tanh([np.e, np.e]) * 2)


def test_branches_may_share_a_number_that_follows_from_sizes():
    c, x = mg.dscalar("c"), mg.dvector("x")
    half = x.shape[0] * mg.constant(0.5, dtype="float64")
    f = native([c, x], mg.ifelse(c > 0, mg.tanh(x) * half, mg.exp(x) * half))
    np.testing.assert_allclose(f(1, [0.0, 1.0, 2.0]), np.tanh([0, 1, 2]) * 1.5)
    np.testing.assert_allclose(f(-1, [0.0, 1.0]), np.exp([0, 1]))


# -- looking inside --------------------------------------------------------------------------------------------------


def test_source_shows_the_loops_of_the_shapes_that_were_met():
    x = mg.dmatrix("x")
    y = mg.exp(x - x.mean(1, keepdims=True)).sum(0)
    f = native([x], y)
    assert "Region" in f.source() and "for i0" not in f.source()
    f(np.ones((3, 5)))
    source = f.source()
    assert "native" in source.splitlines()[0]
    assert re.search(r"for i0 < 3.*\n(.*\n)*.*for i1 < 5", source)
    assert "Exp(" in source and re.search(r"v\d+ = Sum of ", source)
    assert re.search(line_of(y), source)
    assert "define" not in source and "define" in f.source(code=True)
    f(np.ones((4, 6)))
    assert "(3, 5)" in f.source() and "(4, 6)" in f.source()


def test_profile_lists_kernels_with_their_lines():
    x, s = mg.dmatrix("x"), mg.shared(0.0)
    product = mg.tanh(x) @ x
    total = mg.exp(product).sum()
    f = native([x], total, updates={s: s + 1})
    profile = f.profile(np.eye(3))
    np.testing.assert_array_equal(profile.outputs, f(np.eye(3)))
    assert s.get_value() == 2
    names = {name for kernel, *_ in profile.steps for name in kernel.split(", ")}
    assert names >= {"Tanh", "MatMul", "Exp", "Sum"}
    lines = {kernel: line for kernel, line, *_ in profile.steps}
    assert lines["MatMul"] == str(product.origin)
    assert any(re.search(line_of(total), line) for line in lines.values())
    assert all(step.seconds >= 0 for step in profile.steps)


def test_scalars_can_be_profiled():
    x, s = mg.dscalar("x"), mg.shared(np.float64(2))
    f = native([x], mg.exp(x) * s, updates={s: s + x})
    assert f.profile(0).outputs == 2 and f.profile(1.0).outputs == pytest.approx(2 * np.e)
    assert s.get_value() == 3


# -- which backend ---------------------------------------------------------------------------------------------------


def test_the_compiled_backend_is_the_default(monkeypatch):
    x = mg.dvector("x")
    monkeypatch.delenv("MINIGRAPH_BACKEND", raising=False)
    assert mg.function([x], x + 1).backend == "native"
    monkeypatch.setenv("MINIGRAPH_BACKEND", "numpy")
    assert mg.function([x], x + 1).backend == "numpy"
    assert mg.function([x], x + 1, backend="native").backend == "native"


def test_without_llvmlite_numpy_is_the_default():
    script = """
    import sys
    sys.modules["llvmlite"] = None
    import minigraph as mg

    x = mg.dvector("x")
    f = mg.function([x], mg.exp(x) * 2)
    assert f.backend == "numpy" and f([0.0])[0] == 2
    try:
        mg.function([x], x, backend="native")
    except mg.MissingExtraError as error:
        print(error)
    """
    assert "minigraph[jit]" in in_a_process(script, MINIGRAPH_BACKEND="")


def test_without_openblas_products_are_steps_of_their_own():
    script = """
    import sys
    sys.modules["scipy_openblas32"] = None
    import numpy as np
    import minigraph as mg

    x = mg.dmatrix("x")
    f = mg.function([x], mg.exp(mg.tanh(x) @ x).sum(1), backend="native")
    a = np.arange(9.0).reshape(3, 3) / 10
    np.testing.assert_allclose(f(a), np.exp(np.tanh(a) @ a).sum(1), rtol=1e-12)
    print(f.source().count("Region["), f.source().count("MatMul("))
    """
    assert in_a_process(script) == "2 1\n"


def test_works_are_done_at_the_same_time():
    meeting = threading.Barrier(2, timeout=30)

    def work(k):
        meeting.wait()
        return k

    assert jit.apart(lambda: jit._side_by_side([lambda: work(0), lambda: work(1)])) == [0, 1]


def test_llvm_works_while_another_thread_has_the_lock_of_llvmlite():
    found = []
    asks = threading.Thread(target=lambda: found.append(jit._unlocked().LLVMPY_GetVersionInfo()), daemon=True)
    with jit.llvm().ffi.lib._lock:
        asks.start()
        asks.join(30)
        assert found


def test_what_fails_beside_others_is_told_after_all_have_ended():
    ended = []

    def slow():
        time.sleep(0.1)
        ended.append(True)

    with pytest.raises(ZeroDivisionError):
        jit.apart(lambda: jit._side_by_side([lambda: 1 // 0, slow]))
    assert ended


def test_kernels_are_shared_out_among_modules_by_their_length():
    long = native_program.LONG_TEXT
    texts = ["x" * long, "y" * long * 3, "z" * long]
    assert native_program.in_modules(["x" * 100, "y" * 200], 2) == [[1, 0]]
    assert native_program.in_modules(texts, 2) == [[1], [0, 2]]
    assert native_program.in_modules(texts, 1) == [[1, 0, 2]]
