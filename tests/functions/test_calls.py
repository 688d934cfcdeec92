"""Functions as objects, lazy branches and assertions, backends, memory."""

import pickle
import re
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.passes import Journal, Pipeline
from minigraph.compiler.schedule import run, schedule
from support.backends import on_each
from support.functions import value

# -- a function as an object -----------------------------------------------------------------------------------------


@on_each
def test_what_a_function_knows(backend):
    x, s = mg.vector("x"), mg.shared(1.0, "s")
    y = x * s
    new = s + 1
    f = mg.function([x], [y], updates={s: new}, name="scaled", backend=backend)
    assert [one.variable for one in f.inputs] == [x]
    assert (f.outputs, f.updates, f.backend, f.name) == ((y,), ((s, new),), backend, "scaled")
    assert "scaled" in repr(f)
    assert "x" in repr(f)


def test_copy_with_swapped_state():
    s, t, x = mg.shared(1.0, "s"), mg.shared(100.0, "t"), mg.scalar("x")
    f = mg.function([x], s * x, updates={s: s + x}, name="f")
    g = f.copy(swap={s: t}, name="g")
    assert (g(2), value(s), value(t), g.name) == (200, 1, 102, "g")
    assert (f(2), value(s), value(t), f.name) == (2, 3, 102, "f")


def test_copy_without_updates():
    s = mg.shared(1.0)
    f = mg.function([], mg.with_default_update(s * 2, {s: s + 1}))
    g = f.copy(delete_updates=True)
    assert (g(), g(), g.updates) == (2, 2, ())
    assert (f(), f()) == (2, 4)


def test_copy_refuses_a_swap_that_does_not_fit():
    s, t, u, x = mg.shared(1.0), mg.shared([1.0]), mg.shared(2.0), mg.scalar()
    f = mg.function([], [s + u], updates={s: s + 1, u: u + 1})
    with pytest.raises(TypeError, match="cannot be replaced"):
        f.copy(swap={s: t})
    with pytest.raises(TypeError, match="only shared"):
        f.copy(swap={s: x})
    with pytest.raises(ValueError, match="two updates"):
        f.copy(swap={s: u})


def test_pickling_a_function():
    x, s = mg.vector("x"), mg.shared(1.0, "s")
    f = mg.function([x, mg.In(mg.scalar("y"), value=3)], {"out": x * s}, updates={s: s + 1}, on_unused_input="ignore", name="f")
    g = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(f([1, 2])["out"], [1, 2])
    np.testing.assert_array_equal(g([1, 2])["out"], [1, 2])
    np.testing.assert_array_equal(g([1, 2])["out"], [2, 4])
    np.testing.assert_array_equal(f(x=[1, 2])["out"], [2, 4])
    assert g.name == "f"


def test_functions_pickled_together_share_state():
    s = mg.shared(0.0)
    step, read = mg.function([], updates={s: s + 1}), mg.function([], s)
    step2, read2, s2 = pickle.loads(pickle.dumps((step, read, s)))
    step2()
    assert (read(), read2(), s2.get_value()) == (0, 1, 1)


@on_each
def test_profile_measures_one_call(backend):
    x, s = mg.vector("x"), mg.shared(0.0)
    y = mg.exp(x) + mg.tanh(x)
    f = mg.function([x], y, updates={s: s + 1}, backend=backend)
    profile = f.profile([1, 2])
    np.testing.assert_allclose(profile.outputs, f([1, 2]))
    assert s.get_value() == 2
    assert {name for op, *_ in profile.steps for name in op.split(", ")} >= {"Exp", "Tanh", "Add"}
    assert all(step.seconds > 0 for step in profile.steps)
    table = str(profile).splitlines()
    assert len(table) == 1 + len(profile.steps)
    assert f"{y.origin.filename}:{y.origin.line}" in str(profile)


def test_source_lists_the_steps():
    x = mg.vector("x")
    source = mg.function([x], mg.exp(x) * 2, backend="numpy").source()
    assert "numpy" in source.splitlines()[0]
    assert "Exp(x)" in source
    assert "Multiply(" in source


def test_trace_shows_what_each_pass_changed():
    x = mg.vector("x")
    f = mg.function([x], -mg.negative(x) * 1, trace=True)
    names = [name for name, _ in f.trace.stages]
    assert names[0] == "given"
    assert "simplify" in names
    assert re.search(r"== simplify: .*\n- %\d = Negative\(x\) : float32\[\?\]", str(f.trace))
    assert len(f.trace.stages[-1][1].variables) == 1
    assert mg.function([x], x).trace is None


# -- laziness and assertions -----------------------------------------------------------------------------------------


def refused(x, message="the branch not taken was computed"):
    return mg.assert_(x, mg.constant(False), message)


def test_ifelse_computes_only_the_branch_it_takes():
    c, x, i = mg.scalar("c"), mg.vector("x"), mg.lscalar("i")
    y = mg.ifelse(c > 0, refused(mg.exp(x)).sum(), x[i])
    f = mg.function([c, x, i], y)
    assert f(-1, [1, 2], 1) == 2
    with pytest.raises(AssertionError, match="the branch not taken"):
        f(1, [1, 2], 1)
    with pytest.raises(IndexError):
        f(-1, [1, 2], 5)
    z = mg.function([c, x, i], mg.ifelse(c > 0, x.sum(), x[i]))
    assert z(1, [1, 2], 5) == 3


def test_ifelse_may_be_nested():
    c, x = mg.scalar("c"), mg.vector("x")
    low = mg.ifelse(c < -1, x.min(), refused(x.sum()))
    high = mg.ifelse(c > 1, x.max(), mg.ifelse(c > 0.5, x.mean(), refused(x.prod())))
    f = mg.function([c, x], mg.ifelse(c < 0, low, high))
    assert [float(f(given, [1, 2, 6])) for given in (-2, 2, 0.75)] == [1, 6, 3]
    for given in (-0.5, 0.25):
        with pytest.raises(AssertionError):
            f(given, [1, 2, 6])


def test_a_condition_inside_a_branch_is_lazy_too():
    c, x = mg.scalar("c"), mg.vector("x")
    inner = mg.ifelse(refused(x).sum() > 0, x.sum(), x.min())
    assert mg.function([c, x], mg.ifelse(c > 0, inner, x.max()))(-1, [1, 2]) == 2


def test_a_thousand_nested_ifelses_do_not_recurse():
    c = mg.scalar("c")
    y = c
    for k in range(1100):
        y = mg.ifelse(c > k, y + 1, refused(c))
    assert mg.function([c], y)(2000) == 3100


def test_sub_expressions_shared_by_branches_are_computed_once(monkeypatch):
    c, x = mg.scalar("c"), mg.dvector("x")
    costly = mg.tanh(x)
    y = mg.ifelse(c > 0, costly + 1, costly * 3)
    calls = []
    plain = type(costly.op).forward

    def counting(self, xp, *arrays):
        calls.append(self)
        return plain(self, xp, *arrays)

    monkeypatch.setattr(type(costly.op), "forward", counting)
    f = mg.function([c, x], [y, mg.ifelse(c > 1, costly * 2, y)], backend="numpy")
    calls.clear()
    for given in (-1, 0.5, 2):
        first, _ = f(given, [0.5, 1])
        np.testing.assert_allclose(first, np.tanh([0.5, 1]) + 1 if given > 0 else np.tanh([0.5, 1]) * 3)
    assert len(calls) == 3


def test_ifelse_leaves_what_it_read_in_place():
    c, x = mg.scalar("c"), mg.dvector("x")
    a, b = mg.exp(x), mg.tanh(x)
    f = mg.function([c, x], [mg.ifelse(c > 0, a, b), a + 1, b + 1])
    for given in (1, -1):
        chosen, one, two = f(given, [1, 2])
        np.testing.assert_allclose(chosen, np.exp([1, 2]) if given > 0 else np.tanh([1, 2]))
        np.testing.assert_allclose([one, two], [np.exp([1, 2]) + 1, np.tanh([1, 2]) + 1])


def test_gradients_of_ifelse():
    c, x = mg.scalar("c"), mg.dvector("x")
    y = mg.ifelse(c > 0, (x**2).sum(), (3 * x).sum()) + x[0]
    f = mg.function([c, x], mg.grad(y, x))
    np.testing.assert_allclose(f(1, [1, 2]), [3, 4])
    np.testing.assert_allclose(f(-1, [1, 2]), [4, 3])


@pytest.mark.parametrize(
    "branch", [lambda x: refused(x) * 2, lambda x: refused(mg.log(x)), lambda x: mg.exp(refused(x)), lambda x: mg.exp(x[[7]])]
)
def test_gradients_do_not_compute_the_branch_not_taken(branch):
    c, x = mg.scalar("c"), mg.vector("x")
    y = mg.ifelse(c > 0, branch(x).sum(), (3 * x).sum())
    np.testing.assert_allclose(mg.function([c, x], mg.grad(y, x))(-1, [1, 2]), [3, 3])


def test_branches_of_different_sizes():
    c, x = mg.scalar("c"), mg.vector("x")
    f = mg.function([c, x], mg.ifelse(c > 0, x[1:], x) * 2)
    np.testing.assert_array_equal(f(1, [1, 2, 3]), [4, 6])
    np.testing.assert_array_equal(f(0, [1, 2, 3]), [2, 4, 6])


def test_ifelse_refuses_what_has_no_one_type():
    x, c = mg.vector("x"), mg.scalar("c")
    with pytest.raises(TypeError, match="scalar"):
        mg.ifelse(x > 0, x, x)
    with pytest.raises(TypeError, match="one type"):
        mg.ifelse(c > 0, x, c)


@pytest.mark.parametrize(
    "use", [lambda y: y * 0, lambda y: y - y, lambda y: y.shape[0] * 2, lambda y: mg.zeros_like(y), lambda y: y[:0]]
)
def test_assertions_are_never_optimized_away(use):
    x = mg.vector("x")
    f = mg.function([x], use(mg.assert_(mg.exp(x), x > 0, "x must be positive")))
    f([1, 2])
    with pytest.raises(AssertionError, match="x must be positive"):
        f([1, -2])


def test_an_assertion_of_constants_fails_when_called_not_when_compiled():
    f = mg.function([], refused(mg.constant(1.0), "never"))
    with pytest.raises(AssertionError, match="never"):
        f()


def test_an_assertion_stays_in_the_gradients_value():
    x = mg.vector("x")
    y = mg.exp(mg.assert_(x, x > 0, "positive")).sum()
    f = mg.function([x], [y, mg.grad(y, x)])
    np.testing.assert_allclose(f([1.0])[1], np.exp([1.0]), rtol=1e-6)
    with pytest.raises(AssertionError, match="positive"):
        f([-1.0])


# -- backends --------------------------------------------------------------------------------------------------------


class Elsewhere:
    """NumPy under another name, which counts what goes in and out and which of its functions are called."""

    def __init__(self):
        self.called = []

    def __getattr__(self, name):
        self.called.append(name)
        return getattr(np, name)


def test_any_array_namespace_can_run_a_plan():
    x, w = mg.dmatrix("x"), mg.shared(np.full((3, 2), 0.5))
    y = mg.tanh(x @ w + 1).sum(axis=0)
    compiled = mg.function([x], [y, mg.grad(y.sum(), w)])
    xp = Elsewhere()
    backend = Backend("elsewhere", xp, Pipeline(()), Journal())
    plan = schedule(compiled.graph, backend)
    given = np.random.default_rng(0).normal(size=(4, 3))
    memory = [None] * plan.slots
    for slot, constant in plan.constants:
        memory[slot] = constant
    (memory[plan.inputs[0]],) = (backend.load(given),)
    for slot, variable in plan.shared:
        memory[slot] = backend.load(variable.get_value())
    run(plan, memory)
    for ours, theirs in zip((memory[slot] for slot in plan.roots), compiled(given), strict=True):
        np.testing.assert_array_equal(backend.store(ours), theirs)
    assert {"tanh", "matmul"} <= set(xp.called)


# -- memory ----------------------------------------------------------------------------------------------------------


def test_steps_write_over_what_is_not_read_again():
    x = mg.dvector("x")
    y = mg.exp(mg.tanh(mg.exp(-x)) + 1)
    f = mg.function([x], y, backend="numpy")
    reused = [step for step in f._execution.plan.steps if step.reused is not None]
    assert len(f._execution.plan.steps) == 5
    assert len(reused) == 4
    assert "# 5 steps on numpy, 4 of them in place" in f.source()
    a = np.linspace(-1, 1, 7)
    np.testing.assert_allclose(f(a), np.exp(np.tanh(np.exp(-a)) + 1), rtol=1e-12)


def test_nothing_is_written_over_that_is_read_again():
    x = mg.dvector("x")
    a = mg.exp(x)
    b = mg.tanh(a)
    view = b[::-1]
    c = b * 2
    d = c + a
    f = mg.function([x], [d, view, mg.sqrt(a) + c, d * d])
    given = np.linspace(0, 1, 5)
    ea, eb = np.exp(given), np.tanh(np.exp(given))
    for ours, theirs in zip(f(given), [eb * 2 + ea, eb[::-1], np.sqrt(ea) + eb * 2, (eb * 2 + ea) ** 2], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_a_long_chain_needs_memory_for_a_few_arrays_only():
    x = mg.dvector("x")
    v = x
    for k in range(50):
        v = mg.tanh(v) if k % 3 else v.reshape((-1,)) * 1.5
    f = mg.function([x], v)
    given = np.linspace(-1, 1, 1_000_000)
    f(given)
    tracemalloc.start()
    try:
        f(given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * given.nbytes


def test_no_warning_of_numpy_escapes_a_call():
    x = mg.dvector("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = mg.function([x], [1 / x, mg.log(x), mg.sqrt(x)])([-1.0, 0.0])
    assert np.isinf(results[0][1])
    assert np.isnan(results[2][0])


def test_an_op_with_several_results_is_no_output():
    x = mg.matrix("x")
    whole = mg.standardize(x, 0)[0].inputs[0]
    with pytest.raises(TypeError, match="several results"):
        mg.function([x], whole)
    graph = mg.ComputationGraph(mg.standardize(x, 0)[0] * 2)
    assert whole not in graph.intermediary_variables
    assert len(mg.function([x], graph.intermediary_variables)(np.eye(2, dtype="float32"))) == len(graph.intermediary_variables)


def test_only_shared_variables_are_swapped():
    x, z = mg.scalar("x"), mg.scalar("z")
    with pytest.raises(TypeError, match="only shared variables can be swapped"):
        mg.function([x], x + 1).copy(swap={x: z})


def test_givens_do_not_reach_behind_a_computed_input():
    x, w = mg.scalar("x"), mg.scalar("w")
    y = x + 1
    assert mg.function([y, w], y * 2 + x, givens={x: w})(5, 1) == 11


def test_a_given_may_use_a_computed_input():
    x, s = mg.scalar("x"), mg.scalar("s")
    y = x + 1
    assert mg.function([y], s * 3, givens={s: y * 2})(5) == 30


def test_subclasses_of_arrays_are_arrays_and_masks_are_refused():
    x = mg.matrix("x")
    f = mg.function([x], x.sum(axis=0))
    result = f(np.ones((2, 2), "float32").view(type("Labelled", (np.ndarray,), {})))
    assert type(result) is np.ndarray and result.shape == (2,)
    with pytest.raises(TypeError, match="masked"):
        f(np.ma.masked_array(np.ones((2, 2), "float32"), mask=np.eye(2)))


def test_inputs_may_be_named_self():
    f = mg.function([mg.scalar("self")], mg.constant(1.0), on_unused_input="ignore")
    assert f(self=2.0) == 1


def test_warnings_point_at_the_users_line():
    x, y = mg.scalar("x"), mg.scalar("y")
    with pytest.warns(UserWarning) as caught:
        mg.function([x], x, givens={y: x})
        mg.function([x, y], x, on_unused_input="warn")
    assert [Path(one.filename).name for one in caught] == [Path(__file__).name] * 2


def test_casts_of_python_numbers_are_exact():
    assert mg.cast(0.1, "float64").eval() == 0.1


@on_each
def test_a_step_that_turns_out_to_be_0_is_an_error_at_the_users_line(backend):
    step = mg.lscalar("step")
    f = mg.function([step], mg.arange(0, 6, step), backend=backend)
    np.testing.assert_array_equal(f(2), [0, 2, 4])
    with pytest.raises(ValueError, match=r"(?s)zero.*Arange.*test_calls.py"):
        f(0)
