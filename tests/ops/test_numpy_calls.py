"""NumPy's functions take NumPy's arguments when they meet variables, or say which one they do not."""

from inspect import Parameter, signature

import numpy as np
import pytest
import scipy.special

import minigraph as mg
from minigraph.counterparts import _COUNTERPARTS
from minigraph.numpy_calls import RENAMED

M = np.arange(6, dtype="float64").reshape(2, 3) / 7
SQUARE = M[:, :2] @ M[:, :2].T + np.eye(2)

CALLS = {
    "pad, positional mode": lambda m: np.pad(m, 1, "constant"),
    "pad": lambda m: np.pad(m, ((1, 0), (0, 2)), mode="constant", constant_values=2),
    "var": lambda m: np.var(m, 0, "float64"),
    "std": lambda m: np.std(m, 0, np.float64, None, 1, True),
    "var with a correction": lambda m: np.var(m, axis=1, correction=1),
    "svd": lambda m: np.abs(np.linalg.svd(m, full_matrices=False)[1]),
    "eigh": lambda m: np.linalg.eigh(m[:, :2] @ m[:, :2].T, "L")[0],
    "cumsum": lambda m: np.cumsum(m, 0, "float64"),
    "cumprod": lambda m: np.cumprod(m, dtype="float32"),
    "max": lambda m: np.max(m, 0, None, True),
    "sum": lambda m: np.sum(m, -1, "float32", None, keepdims=True),
    "mean": lambda m: np.mean(m, (0, 1), keepdims=True),
    "argmax": lambda m: np.argmax(m, axis=1, keepdims=True),
    "concatenate": lambda m: np.concatenate([m, m[0]], axis=None),
    "argsort": lambda m: np.argsort(-m, kind="stable"),
    "take": lambda m: np.take(m, [0, 2], axis=1, mode="raise"),
    "clip": lambda m: np.clip(m, min=0.2, max=0.5),
    "linspace": lambda m: np.linspace(m[0, 0], m[1, 1], 5, endpoint=False),
    "einsum of lists": lambda m: np.einsum(m, [0, 1], m, [2, 1], [0, 2]),
    "einsum of lists, implicit": lambda m: np.einsum(m, [1, 0]),
    "where": lambda m: np.where(m > 0.3, m, -m),
    "zeros_like": lambda m: np.zeros_like(m, dtype="int8"),
    "reshape": lambda m: np.reshape(m, (3, -1), order="C"),
    "erf": lambda m: scipy.special.erf(m),
    "expit": lambda m: scipy.special.expit(m),
    "gammaln": lambda m: scipy.special.gammaln(m + 1),
    "psi": lambda m: scipy.special.psi(m + 1),
    "an empty index": lambda m: m[:, ()],
    "an empty list": lambda m: m[:, []],
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_arguments_mean_what_they_mean_in_numpy(call):
    m = mg.dmatrix("m", shape=M.shape)
    expected, result = call(M), call(m).eval({m: M})
    assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(result, expected, rtol=1e-6 if result.dtype == "float32" else 1e-12, atol=1e-14)


VALUES = {
    "out": np.zeros(2), "where": np.array([True]), "initial": 1.0, "order": "F", "like": np.zeros(2), "mode": "wrap",
    "kind": "heapsort",
    "axis": 0, "dtype": "float64", "keepdims": True, "subok": "no", "copy": True, "endpoint": False, "retstep": True,
}  # fmt: skip
FUNCTIONS = [
    theirs
    for theirs in _COUNTERPARTS
    if not isinstance(theirs, np.ufunc)
    and theirs is not np.identity
    and theirs.__name__ not in ("full", "ones", "zeros", "eye", "tri", "arange")
]


@pytest.mark.parametrize("theirs", FUNCTIONS, ids=lambda one: one.__name__)
def test_every_argument_of_numpys_is_taken_or_named_in_an_error(theirs):
    own = signature(_COUNTERPARTS[theirs]).parameters
    options = [one for one in signature(theirs).parameters.values() if one.default is not Parameter.empty]
    m = mg.dmatrix("m", shape=(2, 2))
    required = [one for one in signature(theirs).parameters.values() if one.default is Parameter.empty]
    operands = {"shape": (2, 2), "reps": 2, "axis": 0, "axis1": 0, "axis2": 1, "source": 0, "destination": 1, "indices": [[0]],
                "indices_or_sections": 2, "pad_width": 1, "arrays": [m, m], "shift": 1, "repeats": 2}  # fmt: skip
    args = [operands.get(one.name, m) for one in required if one.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)]
    if theirs is np.einsum:
        args = ["ij->ji", m]
    for option in options:
        if RENAMED.get(option.name, option.name) not in own and option.kind is not Parameter.POSITIONAL_ONLY:
            value = VALUES.get(option.name, object())
            if option.default is value:
                continue
            with pytest.raises(
                TypeError, match=rf"numpy\.{theirs.__name__} on variables does not take {option.name}="
            ) as caught:
                theirs(*args, **{option.name: value})
            assert isinstance(caught.value, mg.MinigraphError)


def test_positions_among_several_axes():
    x = mg.dtensor3("x")
    value = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert mg.argmax(x, axis=[0]).eval({x: value}).tolist() == value.argmax(0).tolist()
    expected = value.transpose(1, 0, 2).reshape(3, 8).argmin(1)
    assert mg.argmin(x, axis=(0, 2)).eval({x: value}).tolist() == expected.tolist()
    assert mg.argmin(x, axis=(0, 2), keepdims=True).eval({x: value}).shape == (1, 3, 1)
    assert mg.argmax(x, axis=(0, 1, 2)).eval({x: value}) == value.argmax()


def test_lists_of_variables_index():
    m, i, j = mg.dmatrix("m"), mg.lscalar("i"), mg.lscalar("j")
    assert m[[i, j]].eval({m: M, i: 1, j: 0}).tolist() == M[[1, 0]].tolist()
    assert m[:, [i, 2]].eval({m: M, i: 1}).tolist() == M[:, [1, 2]].tolist()
    assert m[[[i], [j]], [0, 1]].eval({m: M, i: 1, j: 0}).tolist() == M[[[1], [0]], [0, 1]].tolist()


def test_what_numpy_makes_arrays_of_hints_at_stack():
    x, y = mg.dscalar("x"), mg.dscalar("y")
    with pytest.raises(TypeError, match=r"mg\.stack"):
        np.mean([x, y])
    with pytest.raises(TypeError, match=r"scipy\.special\.j0 has no counterpart"):
        scipy.special.j0(x)
