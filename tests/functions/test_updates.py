"""Updates and default updates of functions, and who owns which array."""

import numpy as np
import pytest

import minigraph as mg
from support.functions import value

pytestmark = pytest.mark.usefixtures("each_way")

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
