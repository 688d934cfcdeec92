"""Calls that go from arguments to results in machine code: what they give, what they refuse, and what they leave as it was."""

import gc
import sys
import threading

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import plan
from minigraph.core.errors import InvalidTypeError
from support.backends import compiled
from support.native import native
from support.threads import in_threads

pytestmark = compiled

ROWS = np.arange(12, dtype="float32").reshape(3, 4)
COUNTED = 200
"""Calls in which a reference that is lost, or kept, each time is seen."""


def answered(f, *args):
    """What the answer of a function gives, once it was called; the same as the call gave."""
    expected = f(*args)
    found = f._fast.answer(*args)
    assert found is not None
    listed = found if isinstance(found, list) else [found]
    for one, other in zip(listed, expected if isinstance(expected, list) else [expected], strict=True):
        assert type(one) is np.ndarray
        assert one.flags.owndata and one.flags.writeable and one.flags.c_contiguous
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    return found


def test_one_result_comes_alone_and_several_in_a_list():
    x, y = mg.matrix("x"), mg.matrix("y")
    answered(native([x, y], x - y), ROWS, ROWS[::-1].copy())
    assert len(answered(native([x, y], [y, x - y, (x * y).sum(), y.sum(0)][1:]), ROWS, ROWS)) == 3
    f = native([x, y], {"difference": y - x, "sum": x + y})
    for _ in range(3):
        assert f(ROWS, ROWS)["sum"].tolist() == (2 * ROWS).tolist()
        assert not f(ROWS, ROWS)["difference"].any()
    g = native([x], [x + 1])
    assert [len(g(ROWS)) for _ in range(3)] == [1, 1, 1]


def test_results_may_be_views_of_what_was_computed():
    x = mg.matrix("x")
    f, g = native([x], (x * 2).T), native([x], [(x * 2).T, x.sum()])
    for _ in range(3):
        assert f(ROWS).tolist() == (ROWS * 2).T.tolist()
        assert g(ROWS)[0].tolist() == (ROWS * 2).T.tolist()
    assert f._fast.answer(ROWS).flags.f_contiguous
    assert g._fast.answer(ROWS)[0].flags.f_contiguous
    assert f._fast.answer(ROWS[:2]) is None


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint16", "float16", "float32", "float64"])
def test_numbers_of_numpy_are_taken_as_they_are(dtype):
    x, k = mg.vector("x", dtype=dtype), mg.scalar("k", dtype=dtype)
    f = native([x, k], mg.maximum(x, k))
    rows, number = np.ones(5, dtype), np.ones(5, dtype)[0]
    answered(f, rows, np.asarray(number))
    np.testing.assert_array_equal(f._fast.answer(rows, number), f(rows, np.asarray(number)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [1.5, 0.1, -0.0, 1e-45, 1e-320, 3.4028234e38, -3.4028234e38])
def test_floats_of_python_are_rounded_as_numpy_rounds_them(dtype, value):
    k = mg.scalar("k", dtype=dtype)
    f = native([k], -k)
    f(np.zeros((), dtype))
    found = f._fast.answer(value)
    assert found.tobytes() == np.asarray(-value, dtype).tobytes()


@pytest.mark.parametrize("value", [1e39, -1e39, float("inf"), float("nan"), 2, True, "one", None, [1.0], 1j])
def test_other_objects_are_left_to_the_long_way(value):
    k = mg.scalar("k")
    f = native([k], k * 2)
    f(0.5)
    assert f._fast.answer(0.5) == 1
    assert f._fast.answer(value) is None
    x = mg.vector("x")
    g = native([x], x * 2)
    g(ROWS[0])
    assert g._fast.answer(value) is None


def test_numbers_of_python_are_no_integers():
    x, k = mg.vector("x", dtype="int32"), mg.scalar("k", dtype="int32")
    f = native([x, k], x * k)
    rows = np.arange(3, dtype="int32")
    f(rows, 3)
    assert f._fast.answer(rows, 3.0) is None
    with pytest.raises(InvalidTypeError, match="cannot be cast"):
        f(rows, 3.5)


def test_arrays_of_other_kinds_are_left_to_the_long_way():
    x = mg.matrix("x")
    f = native([x], x + 1)
    f(ROWS)

    class Own(np.ndarray):
        pass

    for other in (
        ROWS.astype("float64"),
        ROWS.T,
        ROWS.astype("float64").T.copy().T,
        ROWS[:, ::2],
        ROWS[:2],
        ROWS[0],
        ROWS.view(Own),
        ROWS.astype(">f4"),
    ):
        assert f._fast.answer(other) is None
    assert f._fast.answer() is None
    assert f._fast.answer(ROWS, ROWS) is None
    answered(f, ROWS)


def test_arrays_in_another_order_are_copied():
    x, y = mg.matrix("x"), mg.tensor3("y")
    f = native([x, y], y * 2 + x)
    cube = np.arange(24, dtype="float32").reshape(2, 3, 4)
    f(ROWS, cube)
    for rows in (np.asfortranarray(ROWS), np.repeat(ROWS, 2, axis=1)[:, ::2], np.broadcast_to(ROWS[0], (3, 4)), ROWS[::-1]):
        for block in (np.asfortranarray(cube), cube[::-1, :, ::-1], cube):
            np.testing.assert_array_equal(answered(f, rows, block), block * 2 + rows)


def test_calls_with_shapes_that_take_turns_are_answered():
    x = mg.matrix("x")
    f = native([x], x.sum())
    for _ in range(3):
        for rows in (ROWS, ROWS[:2], ROWS[:1]):
            assert f(rows.copy()) == rows.sum()
    found = {id(each.answer) for each in f._regions[0].plans.values()}
    f(ROWS)
    f(ROWS[:2].copy())
    assert found == {id(each.answer) for each in f._regions[0].plans.values()}


def test_long_plans_have_no_answer():
    x = mg.matrix("x")
    f = native([x], x + 1)
    large = np.ones((plan.BRIEF // 4, 1), "float32")
    f(large)
    assert f._fast.answer(large) is None
    for steps, brief in ((10, True), (20_000, False)):
        g = native([x], mg.scan(mg.tanh, outputs_info=x[0], n_steps=steps)[-1])
        g(ROWS)
        assert (g._fast.answer(ROWS) is not None) == brief


# -- state -----------------------------------------------------------------------------------------------------------------


def descent():
    """A function that updates two variables from each other and returns their old sum, and the variables."""
    v, w = mg.shared(np.zeros(4, "float32"), "v"), mg.shared(np.ones(4, "float32"), "w")
    x = mg.vector("x")
    return native([x], (v + w).sum(), updates=[(v, v + w * x), (w, w * 2 - v)]), v, w


def test_state_is_updated_from_its_old_values_and_where_it_lies():
    f, v, w = descent()
    step = np.full(4, 0.5, "float32")
    expected_v, expected_w = np.zeros(4, "float32"), np.ones(4, "float32")
    for _ in range(6):
        assert f(step) == (expected_v + expected_w).sum()
        expected_v, expected_w = expected_v + expected_w * step, expected_w * 2 - expected_v
    np.testing.assert_array_equal(v.get_value(), expected_v)
    np.testing.assert_array_equal(w.get_value(), expected_w)


def test_state_in_another_order_is_replaced_by_state_in_the_order_of_c():
    first = np.asfortranarray(ROWS)
    w, x = mg.shared(first, "w"), mg.matrix("x")
    f = native([x], w.sum(), updates=[(w, w + x)])
    f(ROWS)
    w.set_value(np.asfortranarray(ROWS * 3))
    assert f._fast.answer(ROWS) == (ROWS * 3).sum()
    np.testing.assert_array_equal(w.get_value(borrow=True), ROWS * 4)
    assert w.get_value(borrow=True).flags.c_contiguous
    np.testing.assert_array_equal(first, ROWS)


def test_state_that_others_hold_is_not_written_over():
    v, x = mg.shared(np.zeros(4, "float32"), "v"), mg.vector("x")
    f = native([x], [], updates=[(v, v + x)])
    step = np.ones(4, "float32")
    f(step)
    before = id(v.get_value(borrow=True))
    assert f._fast.answer(step) == []
    assert id(v.get_value(borrow=True)) == before
    held = v.get_value(borrow=True)
    kept = held.copy()
    assert f._fast.answer(step) is None
    f(step)
    np.testing.assert_array_equal(held, kept)
    assert v.get_value(borrow=True) is not held


def test_state_that_another_thread_has_locked_is_waited_for():
    f, v, _ = descent()
    step = np.ones(4, "float32")
    f(step)
    before = v.get_value()
    locked, go = threading.Event(), threading.Event()

    def hold():
        with v.cell.lock:
            locked.set()
            assert go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(20)
    assert f._fast.answer(step) is None
    np.testing.assert_array_equal(v.get_value(), before)
    go.set()
    thread.join()
    assert f._fast.answer(step) is not None


def test_a_call_that_fails_changes_nothing():
    table, total = mg.shared(np.arange(5, dtype="float32"), "table"), mg.shared(np.zeros(3, "float32"), "total")
    places = mg.vector("places", dtype="int64")
    f = native([places], total.sum(), updates=[(total, total + table[places])])
    f(np.array([0, 1, 2]))
    before = total.get_value()
    assert f._fast.answer(np.array([0, 1, 5])) is None
    with pytest.raises(IndexError):
        f(np.array([0, 1, 5]))
    np.testing.assert_array_equal(total.get_value(), before)
    assert f(np.array([4, 4, 4])) == before.sum()


def test_steps_of_many_threads_are_all_counted():
    n = mg.shared(np.zeros(3), "n")
    f = native([], [], updates=[(n, n + 1)])
    g = native([], n.sum(), updates=[(n, n + 2)])
    f()
    g()

    def steps(one):
        return lambda: [one() for _ in range(2000)]

    in_threads(steps(f), steps(g), steps(f))
    assert n.get_value().tolist() == [3 + 4000 + 4000] * 3


def test_references_are_given_back():
    f, v, w = descent()
    x, k = mg.vector("x"), mg.scalar("k")
    g = native([x, k], [x * k, x + k])
    step, wide, number = np.ones(4, "float32"), np.ones(8, "float32"), 0.25
    watched = [step, wide, number, step.dtype, f._fast.answer, g._fast.answer, v.cell, w.cell, v.cell.lock, w.cell.lock]
    f(step)
    g(step, number)
    gc.collect()
    before = [sys.getrefcount(one) for one in watched]
    for _ in range(COUNTED):
        assert f._fast.answer(step) is not None
        assert g._fast.answer(step, number) is not None
        assert g._fast.answer(step[:2], number) is None
        assert g._fast.answer(wide[::2], number) is not None
        assert f._fast.answer(step.astype("float64")) is None
    gc.collect()
    after = [sys.getrefcount(one) for one in watched]
    assert all(abs(one - other) < COUNTED // 10 for one, other in zip(before, after, strict=True))
    assert sys.getrefcount(f(step)) == 2
