"""Theano's names: what stands for each is there and computes the same, and whoever writes one is told."""

import numpy as np
import pytest
from scipy.special import digamma

import minigraph as mg
from minigraph.core.words import ARGUMENTS, THEANO
from support.places import ROOT

PORTING = ROOT / "docs" / "porting.md"

A = np.array([[1.5, -0.5, 2.0], [0.25, 3.0, -1.0], [-2.0, 0.5, 1.0]])
B = np.array([[0.5, 2.0, 1.0], [-1.0, 1.5, 2.5], [1.0, 1.0, -0.5]])
INTEGERS = np.array([0, 3, 4])
STACK = np.stack([A, B])
POSITIVE = A @ A.T + np.eye(3)

COMPUTES = {
    "sqr": A**2,
    "sgn": np.sign(A),
    "inv": 1 / A,
    "abs_": np.abs(A),
    "mul": A * B,
    "sub": A - B,
    "true_div": A / B,
    "int_div": A // B,
    "floor_div": A // B,
    "mod": A % B,
    "pow": POSITIVE**B,
    "largest": np.maximum(A, B),
    "smallest": np.minimum(A, B),
    "bitwise_not": ~INTEGERS,
    "iround": np.round(A).astype("int64"),
    "round_half_to_even": np.round(A),
    "deg2rad": np.deg2rad(A),
    "rad2deg": np.rad2deg(A),
    "second": B,
    "fill": B,
    "alloc": np.full((2, 3), 4.0),
    "tensor_copy": A,
    "as_tensor_variable": np.float64(1.5),
    "join": np.concatenate([A, B], 1),
    "horizontal_stack": np.hstack([A, B]),
    "vertical_stack": np.vstack([A, B]),
    "stacklists": np.array([A, B]),
    "max_and_argmax": (A.max(1), A.argmax(1)),
    "diagonal": np.diagonal(A),
    "extract_diag": np.diagonal(A),
    "trace": np.trace(A),
    "identity_like": np.eye(3),
    "batched_tensordot": STACK @ STACK,
    "to_one_hot": np.eye(5)[INTEGERS],
    "diff": np.diff(A),
    "matrix_inverse": np.linalg.inv(A),
    "det": np.linalg.det(A),
    "eigh": tuple(np.linalg.eigh(POSITIVE)),
    "svd": tuple(np.linalg.svd(A, full_matrices=False)),
    "qr": tuple(np.linalg.qr(A)),
    "cholesky": np.linalg.cholesky(POSITIVE),
    "solve": np.linalg.solve(A, B),
    "solve_lower_triangular": np.linalg.solve(np.tril(A), B),
    "solve_upper_triangular": np.linalg.solve(np.triu(A), B),
    "logsoftmax": A - np.log(np.exp(A).sum(1, keepdims=True)),
    "hard_sigmoid": np.clip(0.2 * A + 0.5, 0, 1),
    "ultra_fast_sigmoid": 1 / (1 + np.exp(-A)),
    "softsign": A / (1 + np.abs(A)),
    "selu": 1.0507009873554805 * np.where(A > 0, A, 1.6732632423543772 * np.expm1(A)),
    "pool_2d": np.array([[[[5.0, 7.0], [13.0, 15.0]]]]),
    "Rop": 2 * A * B,
    "Lop": 2 * A * B,
    "psi": digamma(A),
    "consider_constant": A,
    "zero_grad": A,
    "Assert": A,
}
"""What the names of arrays compute."""
OF_POSITIVE = {"pow", "eigh", "cholesky"}
"""Those that are tried at a positive definite matrix."""


def called(theirs: str) -> str:
    return theirs.partition("(")[0].rpartition(".")[2]


@pytest.mark.parametrize("theirs", THEANO)
def test_what_stands_for_a_name_computes_the_same(theirs):
    name, ours = called(theirs), THEANO[theirs]
    x = mg.dmatrix("x")
    point = POSITIVE if name in OF_POSITIVE else A
    names = {
        "x": x, "y": mg.constant(np.float64(4) if name == "alloc" else B), "v": x, "u": mg.constant(B), "r": x**2,
        "i": mg.constant(INTEGERS), "a": mg.constant(STACK), "b": mg.constant(STACK), "c": mg.lt(x, 100),
        "images": mg.constant(np.arange(16.0).reshape(1, 1, 4, 4)), "f": x.sum(), "mg": mg, "np": np,
    }  # fmt: skip
    value = eval(ours, names)
    if name not in COMPUTES:
        assert value is not None
        return
    expected = COMPUTES[name]
    results = list(value) if isinstance(value, (tuple, list)) else [value]
    computed = mg.function([x], results, on_unused_input="ignore")(point)
    for one, other in zip(computed, expected if isinstance(expected, tuple) else [expected], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("theirs", ["gradient.consider_constant(x)", "gradient.zero_grad(x)"])
def test_gradients_that_theano_makes_zero_are_zero(theirs):
    """They are there, so that the cost may depend on x by no other way."""
    x = mg.dmatrix("x")
    slope = mg.grad(mg.square(eval(THEANO[theirs], {"mg": mg, "x": x})).sum(), x)
    np.testing.assert_array_equal(slope.eval({x: A}), np.zeros_like(A))


def test_names_that_compute_nothing_are_counted():
    untested = {called(theirs) for theirs in THEANO} - set(COMPUTES)
    assert untested == {
        "TensorType", "batch_normalization_train", "batch_normalization_test", "RandomStreams", "MRG_RandomStreams", "Param",
        "verify_grad", "pp", "pydotprint",
    }  # fmt: skip


@pytest.mark.parametrize("theirs", THEANO)
def test_whoever_writes_a_name_of_theanos_is_told_ours(theirs):
    name = called(theirs)
    with pytest.raises(AttributeError, match="Theano's") as caught:
        getattr(mg, name)
    assert any(THEANO[one] in str(caught.value) for one in THEANO if called(one) == name)


@pytest.mark.parametrize("space", ["nnet", "signal", "nlinalg", "slinalg", "extra_ops"])
def test_whoever_looks_for_a_module_of_theanos_is_told_where_its_names_are(space):
    with pytest.raises(AttributeError, match=f"keeps in {space}"):
        getattr(mg, space)


def test_other_names_are_not_there_either():
    with pytest.raises(AttributeError, match=r"^module .minigraph. has no attribute .nonsense.$"):
        mg.nonsense  # noqa: B018
    assert not hasattr(mg, "nonsense") and not hasattr(mg, "sqr")


@pytest.mark.parametrize(("function", "name"), [(one, name) for one in ARGUMENTS for name in ARGUMENTS[one]])
def test_arguments_of_theanos_functions_say_what_takes_their_place(function, name):
    given = {"function": ([], []), "scan": (lambda row: row, mg.vector("x")), "shared": (1.0,)}[function]
    with pytest.raises(mg.InvalidTypeError, match=f"has no argument '{name}'") as caught:
        getattr(mg, function)(*given, **{name: None})
    assert ARGUMENTS[function][name] in str(caught.value) and __file__ in str(caught.value)


def test_other_arguments_say_what_there_is():
    x = mg.vector("x")
    with pytest.raises(mg.InvalidTypeError, match="function has no argument 'output'; it has outputs\n"):
        mg.function([x], output=x)
    with pytest.raises(mg.InvalidTypeError, match="sum has no argument 'qqq'; it has x, axis, dtype, keepdims"):
        mg.sum(x, qqq=1)


def test_the_porting_guide_lists_the_names():
    rows = ["| Theano | minigraph |", "|---|---|", *(f"| `{theirs}` | `{ours}` |" for theirs, ours in THEANO.items())]
    assert "\n".join(rows) in PORTING.read_text()
