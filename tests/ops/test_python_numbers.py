"""Functions of Python numbers alone are exact in the dtype of what they meet."""

import copy
import math
import pickle

import numpy as np
import pytest

import minigraph as mg
from minigraph.ops.array import arranging, shape
from minigraph.ops.elementwise import activation, arithmetic, comparison, special, transcendental
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.reduce import reduction
from support.backends import BACKENDS
from support.op_table import RECORDS
from support.op_table.records import as_list

HOMES = (activation, arithmetic, arranging, comparison, elementwise, reduction, shape, special, transcendental)
DTYPES_OF_THEIR_OWN = {
    "shape", "size", "unbroadcast", "patternbroadcast", "specify_shape", "addbroadcast", "roll",
    "pad", "diag", "tril", "triu", "split", "cast", "argmax", "argmin", "outer",
}  # fmt: skip
"""Functions that make arrays of a size that they are given, or whose dtype says what is asked for."""

FITTING = [
    (record, k)
    for record in RECORDS
    if record.module in HOMES and record.names[0] not in DTYPES_OF_THEIR_OWN
    for k, call in enumerate(record.calls[:2])
    if call.shapes and all(0 not in size for size in call.shapes) and not call.options.get("dtype")
]
KINDS = {"float64": "float32", "int64": "int64", "bool": "bool"}
"""What weak numbers are computed in, and what they are on their own."""


@pytest.mark.parametrize(("record", "k"), FITTING, ids=[f"{record.name}-{k}" for record, k in FITTING])
def test_what_meets_float64_is_what_float64_gives(record, k):
    call = record.calls[k]
    wide = next((kind for kind in KINDS if any(kind in np.atleast_1d(one) for one in record.dtypes)), None)
    if wide is None:
        pytest.skip("takes neither wide floats nor wide integers")
    drawn = record.draw(call, wide)
    of_numbers = as_list(record.convention(record.function, [one.tolist() for one in drawn], call))
    of_arrays = as_list(record.convention(record.function, [mg.constant(one) for one in drawn], call))
    x = mg.dscalar("x")
    for weak, strong in zip(of_numbers, of_arrays, strict=True):
        assert weak.weak and not strong.weak
        assert weak.dtype.name == KINDS.get(strong.dtype.name, strong.dtype.name)
        with np.errstate(over="ignore"):
            expected = strong.eval(), (x + strong).eval({x: 0}), strong.eval().astype(weak.dtype)
        actual = mg.function([x], [mg.cast(weak, strong.dtype), x + weak, weak], backend="numpy")(0)
        for ours, theirs in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def both(build):
    """What a graph over a float64 input computes on both backends."""
    x = mg.dscalar("x")
    return [mg.function([x], build(x), backend=backend, on_unused_input="ignore")(0.0) for backend in BACKENDS]


@pytest.mark.parametrize(
    ("build", "value"),
    [
        (lambda: mg.constant(0.1), 0.1),
        (lambda: mg.constant(0.1, "c"), 0.1),
        (lambda: mg.sqrt(2 * math.pi), math.sqrt(2 * math.pi)),
        (lambda: mg.sqrt(2), math.sqrt(2)),
        (lambda: mg.divide(1, 3), 1 / 3),
        (lambda: mg.maximum(2, 0.1) / 3, 2 / 3),
        (lambda: mg.exp(-mg.square(mg.log(3) / 7)), math.exp(-((math.log(3) / 7) ** 2))),
        (lambda: mg.where(mg.lt(0.1, 0.2), mg.log(3), 0), math.log(3)),
        (lambda: mg.sum([0.1, 0.2]), 0.1 + 0.2),
        (lambda: mg.mean([1, 2, 4]), 7 / 3),
        (lambda: mg.std([1, 2, 4]), np.std([1, 2, 4])),
        (lambda: mg.norm([1, 2, 4], 3), 73 ** (1 / 3)),
        (lambda: mg.dot([0.1, 0.2], [0.3, 0.4]), np.dot([0.1, 0.2], [0.3, 0.4])),
        (lambda: mg.einsum("i,i", [0.1, 0.2], [0.3, 0.4]), np.dot([0.1, 0.2], [0.3, 0.4])),
        (lambda: mg.broadcast_to(0.1, (3,))[0], 0.1),
        (lambda: mg.disconnected_grad(0.1), 0.1),
        (lambda: mg.stack([mg.log(3), 0.1])[0], math.log(3)),
        (lambda: mg.identity(mg.log(3), "name"), math.log(3)),
        (lambda: mg.scan(lambda h: h + mg.log(3), outputs_info=mg.zeros((), "float64"), n_steps=2)[-1], 2 * math.log(3)),
    ],
)
def test_expressions_of_python_numbers_meet_float64_exactly(build, value):
    for result in both(lambda x: x + build()):
        assert result.dtype == "float64"
        np.testing.assert_allclose(result, value, rtol=2e-16)


def test_integers_take_the_dtype_of_what_they_meet_if_they_fit():
    x = mg.vector("x", dtype="int8")
    for three in (mg.abs(-3), mg.sum([1, 2]), mg.constant(3), mg.maximum(1, 3)):
        assert three.dtype == "int64" and (x + three).dtype == "int8"
        assert (x + three).eval({x: [1]}).tolist() == [4]
    with pytest.raises(ValueError, match="the Python integer 300 does not fit into int8"):
        x + mg.abs(-300)
    assert (x < mg.abs(-300)).eval({x: [1]}).tolist() == [True]
    with pytest.raises(ValueError, match="negative integer power -1"):
        x ** mg.negative(1)


def test_what_has_a_dtype_keeps_it():
    x = mg.dscalar("x")
    for strong in (mg.constant(0.1, dtype="float32"), mg.constant(np.float32(0.1)), mg.cast(0.1, "float32"),
                   mg.log(5.0).astype("float32"), mg.full((), 0.1), mg.sum([0.1], dtype="float32")):  # fmt: skip
        assert not strong.weak
        for result, alone in zip(both(lambda x, strong=strong: x + strong), both(lambda x, strong=strong: strong), strict=True):
            assert alone.dtype == "float32" and result == np.float64(alone)
    assert (mg.scalar("y") + mg.constant(np.float64(0.1))).dtype == "float64"
    assert (mg.scalar("y") + mg.sqrt(2)).dtype == (mg.scalar("y") + mg.mean([1, 2])).dtype == "float32"
    assert (x * mg.lscalar("n")).weak is False


def test_gradients_replacements_copies_and_text_see_what_was_written():
    x, c = mg.dscalar("x"), mg.constant(2.0, "c")
    y = x * mg.log(c)
    assert mg.pprint(y) == "(x * Cast(dtype=float64)(Log(2.0)))"
    assert mg.grad(y, c).eval({x: 3.0}) == 1.5
    assert mg.grad(mg.log(c), c).eval() == 0.5
    (replaced,) = mg.replace([y], {c: mg.scalar("s")})
    assert [one.name for one in mg.ComputationGraph(replaced).inputs] == ["x", "s"]
    for twin in (pickle.loads(pickle.dumps(y)), copy.deepcopy(y)):
        (leaf,) = mg.ComputationGraph(twin).inputs
        assert twin.eval({leaf: 1.0}) == math.log(2)
