"""What functions are given: inputs of one name, and floats that are rounded where the user allows it."""

import pickle

import numpy as np
import pytest

import minigraph as mg
from support.backends import on_each


def test_two_inputs_of_one_name_are_given_by_position_or_by_variable():
    a, b = mg.scalar("x"), mg.scalar("x")
    assert (a - b).eval({a: 3.0, b: 1.0}) == 2
    f = mg.function([a, b, mg.In(mg.scalar("y"), 0.0)], a - b, on_unused_input="ignore")
    assert f(3.0, 1.0) == pickle.loads(pickle.dumps(f))(3.0, 1.0, y=2.0) == 2
    with pytest.raises(TypeError, match=r"2 inputs of .* are named 'x': give them by position, or tell them apart with In"):
        f(3.0, x=1.0)
    named = mg.function([a, mg.In(b, name="other")], a - b)
    assert named(x=3.0, other=1.0) == 2


@on_each
@pytest.mark.parametrize("by", ["In", "function"])
def test_floats_are_rounded_where_that_is_allowed(backend, by):
    x, n = mg.vector("x"), mg.lvector("n")
    specs, options = (
        ([mg.In(x, cast=True), mg.In(n, cast=True)], {}) if by == "In" else ([x, n], {"allow_input_downcast": True})
    )
    f = mg.function(specs, [x * 1, n * 1], backend=backend, **options)
    value = np.array([0.1, 1 / 3, np.inf, -np.inf, np.nan])
    for given in (value, value.tolist(), value.astype("float32")):
        rounded, whole = f(given, np.array([2.0, -3.0]))
        assert rounded.dtype == "float32" and whole.dtype == "int64" and whole.tolist() == [2, -3]
        np.testing.assert_array_equal(rounded, value.astype("float32"))
    for wrong in (np.array([1e300]), np.array(["a"]), np.array([1j]), mg.vector("y")):
        with pytest.raises(TypeError):
            f(wrong, [1])
    for wrong in (np.array([0.5]), np.array([np.nan]), np.array([1e30])):
        with pytest.raises(TypeError, match="without loss"):
            f([1.0], wrong)
    with pytest.raises(TypeError, match="without loss"):
        mg.function([x], x * 1, backend=backend)(value)


def test_state_and_defaults_keep_their_own_rules():
    x = mg.vector("x")
    f = mg.function([mg.In(x, value=np.array([0.1]), cast=True)], x * 1)
    assert f().dtype == "float32"
    s = mg.shared(np.zeros(2, "float32"))
    with pytest.raises(TypeError, match="without loss"):
        s.set_value(np.array([0.1, 0.2]))
