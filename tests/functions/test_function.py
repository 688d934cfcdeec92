"""mg.function: forms of inputs and outputs, updates, givens, who owns which array, laziness, backends, memory."""

import numpy as np
import pytest

import minigraph as mg

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
