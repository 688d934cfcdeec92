"""mg.function: forms of inputs and outputs, updates, givens, who owns which array, laziness, backends, memory."""

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


def value(s):
    return s.get_value().tolist()


# -- outputs ---------------------------------------------------------------------------------------------------------


def test_forms_of_outputs():
    x = mg.scalar("x")
    f = {
        "variable": mg.function([x], x + 1),
        "list": mg.function([x], [x + 1, x]),
        "tuple": mg.function([x], (x,)),
        "dict": mg.function([x], {"one": x + 1, "two": x}),
        "none": mg.function([x], on_unused_input="ignore"),
        "empty": mg.function([x], [], on_unused_input="ignore"),
    }
    results = {name: compiled(2) for name, compiled in f.items()}
    assert results == {"variable": 3, "list": [3, 2], "tuple": [2], "dict": {"one": 3, "two": 2}, "none": [], "empty": []}
    assert isinstance(results["variable"], np.ndarray)
    assert list(results["dict"]) == ["one", "two"]


def test_numbers_and_arrays_may_be_outputs():
    f = mg.function([], [2.0, np.array([1, 2])])
    first, second = f()
    assert first == 2
    np.testing.assert_array_equal(second, [1, 2])


def test_what_cannot_be_an_output():
    with pytest.raises(TypeError, match="an output must be a variable"):
        mg.function([], ["text"])


# -- inputs ----------------------------------------------------------------------------------------------------------


def test_inputs_by_position_and_by_name():
    x, y = mg.scalar("x"), mg.scalar("y")
    f = mg.function([x, y], x - y)
    assert f(5, 3) == f(5, y=3) == f(y=3, x=5) == 2


def test_defaults_and_names():
    x, y = mg.scalar("x"), mg.scalar()
    f = mg.function([x, mg.In(y, value=10, name="why")], x + y)
    assert (f(1), f(1, 2), f(1, why=3), f(why=3, x=2)) == (11, 3, 4, 5)
    assert [one.variable for one in f.inputs] == [x, y]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f(), "missing"),
        (lambda f: f(1, 2, 3), "takes 2 inputs, 3 were given"),
        (lambda f: f(1, x=1), "by position and by name"),
        (lambda f: f(1, 2, z=1), "no input named 'z'"),
        (lambda f: f(1, None), "missing"),
    ],
)
def test_wrong_calls(call, message):
    x, y = mg.scalar("x"), mg.scalar("y")
    with pytest.raises(TypeError, match=message):
        call(mg.function([x, y], x + y))


def test_a_missing_input_is_named():
    x, y = mg.scalar("x"), mg.scalar("weight")
    with pytest.raises(TypeError, match=r"weight.*missing"):
        mg.function([x, y], x + y)(1)


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float32", 1),
        ("float32", 1.1),
        ("float32", np.float64(1.1)),
        ("float32", np.int64(2**24)),
        ("float32", True),
        ("float32", np.float16(1.5)),
        ("float32", np.array(3, "int64")),
        ("float64", np.float32(1.1)),
        ("int32", np.int64(7)),
        ("int8", 127),
        ("uint8", np.int64(255)),
        ("float32", float("inf")),
    ],
)
def test_safe_casts(dtype, given):
    x = mg.scalar("x", dtype=dtype)
    result = mg.function([x], x)(given)
    assert result.dtype == dtype
    assert result == np.asarray(given).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float32", np.array(1.1)),
        ("float32", np.int64(2**24 + 1)),
        ("float32", np.array(1.0, "float64")),
        ("float32", 1e300),
        ("int64", 1.5),
        ("int64", 1.0),
        ("int64", np.float32(1)),
        ("int8", 128),
        ("uint8", -1),
        ("uint64", np.int64(-1)),
        ("int64", np.uint64(2**63)),
        ("bool", 1),
        ("float32", 1j),
        ("float32", "text"),
        ("float32", None.__class__),
    ],
)
def test_unsafe_casts_name_the_input_and_the_line(dtype, given):
    x = mg.scalar("weight", dtype=dtype)
    with pytest.raises(TypeError, match="weight") as caught:
        mg.function([x], x)(given)
    message = str(caught.value)
    assert f"{x.origin.filename}:{x.origin.line}" in message
    assert dtype in message
    if isinstance(given, np.generic | np.ndarray):
        assert f"dtype {given.dtype}" in message


def test_axes_and_sizes_are_checked():
    x = mg.tensor("x", shape=(None, 3))
    f = mg.function([x], x)
    with pytest.raises(TypeError, match=r"1 axes.*expected 2"):
        f([1, 2, 3])
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected \(None, 3\)"):
        f(np.zeros((2, 4), "float32"))
    with pytest.raises(TypeError, match="cannot be made an array"):
        f([[1, 2, 3], [1, 2]])
    with pytest.raises(TypeError, match="is the variable"):
        f(x)
    assert f(np.zeros((0, 3), "float32")).shape == (0, 3)


def test_a_computed_variable_may_be_an_input():
    x = mg.vector("x")
    y = x * 2
    f = mg.function([y], [y + 1, mg.exp(y)])
    np.testing.assert_allclose(f([1, 2])[0], [2, 3])


# -- updates ---------------------------------------------------------------------------------------------------------


def test_updates_are_computed_from_old_values_after_outputs():
    x, y, z = (mg.shared(np.int64(value), name) for name, value in zip("xyz", (4, 4, 2), strict=True))
    f = mg.function([], [x, y, z], updates={x: 5 * x, y: 5 * x + y, z: (5 * x + y) ** z})
    assert f() == [4, 4, 2]
    assert (value(x), value(y), value(z)) == (20, 24, 576)


def test_swap():
    a, b = mg.shared([1.0, 2.0]), mg.shared([3.0, 4.0])
    swap = mg.function([], updates={a: b, b: a})
    swap()
    assert (value(a), value(b)) == ([3, 4], [1, 2])
    swap()
    assert (value(a), value(b)) == ([1, 2], [3, 4])
    assert not np.shares_memory(a.get_value(borrow=True), b.get_value(borrow=True))


def test_updates_as_pairs_and_of_numbers():
    a, b = mg.shared(1.0), mg.shared([1.0, 2.0])
    mg.function([], updates=[(a, 5), (b, np.array([3, 4]))])()
    assert (value(a), value(b)) == (5, [3, 4])
    assert a.get_value().dtype == "float32"


S, T, V = mg.shared(1.0, "s"), mg.shared(np.zeros((2, 3)), "t"), mg.scalar("v")
W = mg.vector("w")


@pytest.mark.parametrize(
    ("build", "error", "parts"),
    [
        (lambda: mg.function([], updates=[(S, S + 1), (S, S + 2)]), ValueError, ["<s", "two updates"]),
        (lambda: mg.function([V], updates={V: V + 1}), TypeError, ["<v", "only shared"]),
        (lambda: mg.function([], updates={S + 1: S}), TypeError, ["only shared"]),
        (lambda: mg.function([], updates={"s": S}), TypeError, ["only shared", "'s'"]),
        (lambda: mg.function([], updates={S: S * np.float64(2)}), TypeError, ["<s", "float64", "widened"]),
        (lambda: mg.function([], updates={S: T}), TypeError, ["<s", "<t"]),
        (lambda: mg.function([], updates={S: mg.constant(1, dtype="int32")}), TypeError, ["<s", "int32"]),
        (lambda: mg.function([], updates={T: np.zeros((2, 4))}), TypeError, ["<t", "(2, 4)"]),
        (lambda: mg.function([], updates=[S]), TypeError, ["pairs"]),
        (lambda: mg.function([S], S + 1), TypeError, ["<s", "cannot be an input"]),
        (lambda: mg.function([mg.constant(1)], 2), TypeError, ["constant"]),
        (lambda: mg.function([3], 2), TypeError, ["an input must be a variable"]),
        (lambda: mg.function([V, V], V), ValueError, ["<v", "twice"]),
        (lambda: mg.function([V, mg.scalar("v")], V), ValueError, ["'v'"]),
        (lambda: mg.function([V, W], V), ValueError, ["<w", "not used"]),
        (lambda: mg.function([V], V + W), ValueError, ["<w", "not among the inputs"]),
        (lambda: mg.function([], updates={S: S + V}), ValueError, ["<v", "not among the inputs"]),
        (lambda: mg.function([V], V, on_unused_input="explode"), ValueError, ["'explode'"]),
        (lambda: mg.function([V], V, backend="abacus"), ValueError, ["'abacus'", "'numpy'"]),
        (lambda: mg.function([V], V, givens=[(V, S), (V, 2)]), ValueError, ["twice"]),
        (lambda: mg.function([V], V, givens={V: W}), TypeError, ["<v", "<w"]),
        (lambda: mg.function([V], V, givens={"v": S}), TypeError, ["'v'"]),
    ],
)
def test_errors_when_compiling(build, error, parts):
    with pytest.raises(error) as caught:
        build()
    assert isinstance(caught.value, mg.MinigraphError)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_the_op_that_widened_an_update_is_named_with_its_line():
    wide = S * np.float64(2)
    new = mg.exp(wide) + 1
    with pytest.raises(TypeError) as caught:
        mg.function([], updates={S: new})
    assert f"({wide.origin}) widened it" in str(caught.value)


def test_unused_inputs():
    x, y = mg.scalar("x"), mg.scalar("y")
    with pytest.warns(UserWarning, match="<y.*not used"):
        f = mg.function([x, y], x, on_unused_input="warn")
    assert f(1, 2) == mg.function([x, y], x, on_unused_input="ignore")(1, 2) == 1


def test_a_new_value_of_another_run_time_shape_changes_nothing():
    x, s, t = mg.vector("x"), mg.shared([1.0, 2.0], "state"), mg.shared(0.0)
    f = mg.function([x], updates={t: t + 1, s: x * 2})
    with pytest.raises(ValueError, match=r"state.*no state was changed"):
        f([1, 2, 3])
    assert (value(s), value(t)) == ([1, 2], 0)
    f([1, 2])
    assert (value(s), value(t)) == ([2, 4], 1)


# -- givens ----------------------------------------------------------------------------------------------------------


def test_givens_replace_before_anything_else():
    x, y, s = mg.scalar("x"), mg.scalar("y"), mg.shared(10.0)
    assert mg.function([y], x * 2, givens={x: y + 1})(3) == 8
    assert mg.function([], x * 2, givens={x: s})() == 20
    assert mg.function([], x * 2, givens=[(x, 4)])() == 8
    assert mg.function([x], s * x, givens={s: x})(3) == 9
    mg.function([x], updates={s: s * 2}, givens={s: x})(3)
    assert s.get_value() == 6


def test_givens_can_hold_data_of_which_an_index_picks_a_batch():
    data = mg.shared(np.arange(12.0).reshape(6, 2), shape=(None, 2))
    x, i = mg.dmatrix("x"), mg.lscalar("i")
    wide = mg.tensor("x", dtype="float64", shape=(None, 2))
    f = mg.function([i], wide.sum(axis=0), givens={wide: data[i * 2 : (i + 1) * 2]})
    np.testing.assert_array_equal(f(1), [4 + 6, 5 + 7])
    with pytest.raises(ValueError, match="not used"):
        mg.function([x, i], wide.sum(), givens={wide: data})


def test_unknown_givens_warn():
    x, y = mg.scalar("x"), mg.scalar("y")
    with pytest.warns(UserWarning, match="<y.*not in the graph"):
        mg.function([x], x, givens={y: x})


# -- default updates -------------------------------------------------------------------------------------------------


def test_default_updates_happen_when_the_variable_is_computed():
    s = mg.shared(0.0)
    counted = mg.with_default_update(mg.constant(1.0), {s: s + 1})
    mg.function([], counted * 2)()
    assert s.get_value() == 1
    mg.function([], counted.inputs[0] * 2)()
    assert s.get_value() == 1
    mg.function([], [], updates={mg.shared(0.0): counted})()
    assert s.get_value() == 2


def test_default_updates_are_transitive():
    s, t, u = mg.shared(0.0, "s"), mg.shared(0.0, "t"), mg.shared(0.0, "u")
    third = mg.with_default_update(mg.constant(3.0), {u: u + 5})
    second = mg.with_default_update(third + 1, {t: t + third})
    first = mg.with_default_update(mg.constant(1.0), {s: s + second})
    f = mg.function([], first)
    assert {target for target, _ in f.updates} == {s, t, u}
    f()
    f()
    assert (value(s), value(t), value(u)) == (8, 6, 10)


def test_explicit_updates_win_and_what_they_replace_is_not_computed():
    s, t = mg.shared(0.0), mg.shared(0.0)
    missing = mg.scalar("missing")
    inner = mg.with_default_update(missing * 2, {t: t + 1})
    x = mg.with_default_update(mg.constant(1.0), {s: s + inner})
    f = mg.function([], x, updates={s: s - 1})
    f()
    assert (value(s), value(t)) == (-1, 0)


def test_no_default_updates():
    s, t, missing = mg.shared(0.0), mg.shared(0.0), mg.scalar()
    x = mg.with_default_update(mg.constant(1.0), {s: s + 1, t: t + 1})
    mg.function([], x, no_default_updates=True)()
    assert (value(s), value(t)) == (0, 0)
    mg.function([], x, no_default_updates=[s])()
    assert (value(s), value(t)) == (0, 1)
    mg.function([], x, no_default_updates=[])()
    assert (value(s), value(t)) == (1, 2)
    needy = mg.with_default_update(mg.constant(1.0), {s: s + missing})
    assert mg.function([], needy, no_default_updates=True)() == needy.eval() == 1


def test_conflicting_default_updates():
    s = mg.shared(0.0, "s")
    one = mg.with_default_update(mg.constant(1.0), {s: s + 1})
    two = mg.with_default_update(mg.constant(1.0), {s: s + 2})
    with pytest.raises(ValueError, match="different updates of <s"):
        mg.function([], one + two)
    mg.function([], one + two, updates={s: s + 10})()
    assert s.get_value() == 10
    shared_update = s + 3
    agreeing = [mg.with_default_update(mg.constant(float(k)), {s: shared_update}) for k in range(2)]
    mg.function([], agreeing)()
    assert s.get_value() == 13


def test_a_replaced_target_is_not_updated():
    s, x = mg.shared(0.0), mg.scalar("x")
    y = mg.with_default_update(s * 2, {s: s + 1})
    assert mg.function([x], y, givens={s: x})(4) == 8
    assert s.get_value() == 0


# -- who owns which array --------------------------------------------------------------------------------------------


def test_results_alias_neither_inputs_nor_state_nor_constants_nor_each_other():
    x, s, c = mg.dmatrix("x"), mg.shared(np.ones((2, 3))), mg.constant(np.full((2, 3), 5.0))
    y = x + s
    views = [
        v for one in (x, s, c, y) for v in (one, one.T, one[1:], one[0], one.reshape((6,)), mg.broadcast_to(one, (2, 2, 3)))
    ]
    f = mg.function([x], [*views, y, y], updates={s: s.T.T})
    given = np.arange(6.0).reshape(2, 3)
    state = s.get_value(borrow=True)
    results = f(given)
    held = [given, state, s.get_value(borrow=True), *results]
    for k, one in enumerate(held):
        assert not any(np.shares_memory(one, other) for other in held[k + 1 :])
    for result in results:
        result[...] = -1
    np.testing.assert_array_equal(given, np.arange(6.0).reshape(2, 3))
    again = f(given)
    np.testing.assert_array_equal(again[6], np.ones((2, 3)))
    np.testing.assert_array_equal(again[12], np.full((2, 3), 5.0))


def test_updates_do_not_alias_inputs_or_outputs():
    x, s, t = mg.dvector("x"), mg.shared(np.zeros(3)), mg.shared(np.zeros(3))
    y = x * 2
    f = mg.function([x], [x, y], updates={s: x, t: y})
    given = np.ones(3)
    for result in f(given):
        result[:] = 9
    given[:] = 7
    assert (value(s), value(t)) == ([1, 1, 1], [2, 2, 2])


def test_inputs_are_never_modified():
    x, y = mg.dmatrix("x"), mg.dvector("y")
    z = mg.exp(-(x + 1) * 2) + y
    outputs = [z, mg.set_subtensor(x[0], y), mg.inc_subtensor(x[:, 0], 1.0), mg.sort(x), (x + x).sum(), mg.cumsum(x, 0)]
    f = mg.function([x, y], outputs)
    a, b = np.random.default_rng(0).normal(size=(3, 3)), np.ones(3)
    kept = a.copy(), b.copy()
    a.setflags(write=False)
    f(a, b)
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(b, kept[1])


def test_arrays_of_any_layout():
    x = mg.dmatrix("x")
    f = mg.function([x], [x * 2, x.T @ x])
    base = np.arange(48.0).reshape(6, 8)
    for a in (base[::2, ::-2], base.T[::3], np.asfortranarray(base), base[:0]):
        doubled, product = f(a)
        np.testing.assert_array_equal(doubled, a * 2)
        np.testing.assert_allclose(product, a.T @ a)


def test_borrowing_trades_safety_for_copies():
    x = mg.dvector("x")
    given = np.arange(4.0)
    assert np.shares_memory(mg.function([x], mg.Out(x[1:], borrow=True))(given), given)
    assert np.shares_memory(mg.function([mg.In(x, borrow=True)], x[1:])(given), given)
    assert not np.shares_memory(mg.function([x], x[1:])(given), given)
    s = mg.shared(np.ones(3))
    held = s.get_value(borrow=True)
    (borrowed,) = mg.function([], [mg.Out(s[:2], borrow=True)])()
    assert np.shares_memory(borrowed, held)
    mg.function([mg.In(x, borrow=True)], updates={s: x[:3]})(given)
    assert not np.shares_memory(s.get_value(borrow=True), given)


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
    for k in range(1500):
        y = mg.ifelse(c > k, y + 1, refused(c))
    assert mg.function([c], y)(2000) == 3500


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
    reused = [step for step in f._plan.steps if step.reused is not None]
    assert len(f._plan.steps) == 5
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
    assert [Path(one.filename).name for one in caught] == ["test_function.py"] * 2


def test_casts_of_python_numbers_are_exact():
    assert mg.cast(0.1, "float64").eval() == 0.1
