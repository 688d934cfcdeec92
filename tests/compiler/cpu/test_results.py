"""The memory of large results: given out again when nobody holds it, and never before."""

import ctypes
import weakref

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import plan, results
from support.backends import compiled
from support.native import native
from support.threads import in_threads

pytestmark = compiled

ROWS = np.arange(300, dtype="float32")


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    """Results of a kilobyte count as large ones, and the memory of none is known."""
    monkeypatch.setattr(plan, "LARGE", 1024)
    monkeypatch.setattr(results.results, "_latest", type(results.results._latest)())
    monkeypatch.setattr(plan, "BRIEF", 0)


def doubled():
    """A function of a vector."""
    x = mg.vector("x")
    return native([x], x * 2)


def place(array):
    """Where an array's memory lies."""
    return array.__array_interface__["data"][0]


def test_memory_that_nobody_holds_is_used_again():
    f = doubled()
    places = {place(f(ROWS + k)) for k in range(20)}
    assert len(places) == 1
    y = None
    places = set()
    for k in range(20):
        y = f(ROWS + k)  # the last result is held while the next one is computed
        places.add(place(y))
        np.testing.assert_array_equal(y, (ROWS + k) * 2)
    assert len(places) <= 2


HOLDS = {
    "itself": lambda y: y,
    "a view": lambda y: y[3:9],
    "a view of a view": lambda y: y[::2].reshape(-1, 2).T,
    "its buffer": memoryview,
    "an array on its buffer": lambda y: np.frombuffer(y, "float32"),
    "a pointer": lambda y: y.ctypes.data_as(ctypes.c_void_p),
    "a number in a list": lambda y: [y],
}


@pytest.mark.parametrize("hold", HOLDS)
def test_memory_that_somebody_holds_stays_as_it_is(hold):
    f = doubled()
    y = f(ROWS)
    held, address, kept = HOLDS[hold](y), place(y), y.copy()
    del y
    others = [f(ROWS + 1 + k) for k in range(5)]
    assert address not in map(place, others)
    assert len(set(map(place, others))) == 5
    found = np.ctypeslib.as_array((ctypes.c_float * 300).from_address(address))
    np.testing.assert_array_equal(found, kept)
    del held


def test_what_somebody_waits_for_is_not_given_out():
    f = doubled()
    y = f(ROWS)
    end = weakref.ref(y)
    del y
    z = f(ROWS + 1)
    assert end() is not z


def test_results_that_were_altered_are_not_given_out():
    f = doubled()
    y = f(ROWS)
    y.flags.writeable = False
    del y
    assert f(ROWS).flags.writeable
    y = f(ROWS)
    y.shape = (30, 10)
    del y
    assert f(ROWS).shape == (300,)


def test_other_sizes_and_dtypes_have_memory_of_their_own():
    f, x = doubled(), mg.vector("x", dtype="float64")
    g = native([x], x * 3)
    for k in range(3):
        np.testing.assert_array_equal(f(ROWS[: 290 + k]), ROWS[: 290 + k] * 2)
        np.testing.assert_array_equal(g(ROWS.astype("float64")), ROWS.astype("float64") * 3)


def test_new_state_is_never_a_result_of_another_call():
    w, x = mg.shared(ROWS.copy(), "w"), mg.vector("x")
    f = native([x], w.sum(), updates=[(w, mg.sort(w * 1.5 + x))])
    g = doubled()
    expected = ROWS.copy()
    for k in range(6):
        f(ROWS + k)
        g(ROWS - k)
        expected = np.sort(expected * np.float32(1.5) + (ROWS + k))
        np.testing.assert_allclose(w.get_value(), expected, rtol=1e-6)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(results, "MOST_BYTES", 5 * ROWS.nbytes)
    f = doubled()
    held = [f(ROWS) for _ in range(9)]
    assert len(results.results._latest) == 5
    del held
    monkeypatch.setattr(results, "MOST_BYTES", ROWS.nbytes - 1)
    f(ROWS)
    assert len(results.results._latest) <= 5


def test_threads_never_share_a_result():
    f = doubled()
    f(ROWS)

    def calls(first):
        def work():
            for k in range(300):
                y = f(ROWS + first + k)
                assert (y == (ROWS + first + k) * 2).all()

        return work

    in_threads(calls(0), calls(1000), calls(2000))
