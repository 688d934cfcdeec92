"""Linear algebra on the backend `native`: stacks of small matrices by code of our own, large matrices by OpenBLAS."""

import ctypes

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import small_systems
from minigraph.compiler.cpu.small_systems import FACTOR, LARGEST, LOWER, MANY, PIVOTS, SOLVE
from support.native import native

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")

SHAPES = [(MANY, 1, 1), (4, 5, 2, 2), (MANY + 3, 5, 5), (50, 8, 8), (MANY, LARGEST, LARGEST), (MANY, LARGEST + 1, LARGEST + 1)]
"""Shapes that are computed by our own code, and the first beyond."""
LARGE = [(100, 100), (2, 70, 70)]


def of(function, *arrays):
    """What a function on the backend `native` computes."""
    inputs = [mg.tensor(dtype=one.dtype, shape=(None,) * one.ndim) for one in arrays]
    return native(inputs, function(*inputs))(*arrays)


def assert_solved(a, x, b):
    """x is a solution of a @ x = b as far as the dtype of x allows."""
    a, exact = a.astype(float), x.astype(float)
    size = np.abs(a) @ np.abs(exact) + np.abs(b)
    scale = np.abs(a).max((-1, -2), keepdims=True) * np.abs(exact).max(-2, keepdims=True)
    assert (np.abs(a @ exact - b) <= 4 * a.shape[-1] * np.finfo(x.dtype).eps * (size + scale)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES + LARGE)
def test_solutions_inverses_and_determinants(shape, dtype):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=shape).astype(dtype), rng.normal(size=(*shape[:-1], 3)).astype(dtype)
    for given in (a, a.swapaxes(-1, -2).copy().swapaxes(-1, -2)):
        assert_solved(a, of(mg.linalg.solve, given, b), b)
        assert_solved(a, of(mg.linalg.inv, given), np.eye(shape[-1]))
    if len(shape) > 2:
        assert_solved(a[:1], of(lambda a, b: mg.linalg.solve(mg.addbroadcast(a, 0), b), a[:1], b), b)
    signs, logarithms = np.linalg.slogdet(a.astype(float))
    ours = of(lambda x: mg.stack(mg.linalg.slogdet(x)), a)
    np.testing.assert_array_equal(ours[0], signs)
    np.testing.assert_allclose(ours[1], logarithms, atol=1e3 * shape[-1] * np.finfo(dtype).eps)
    if shape[-1] <= LARGEST:
        np.testing.assert_allclose(of(mg.linalg.det, a), signs * np.exp(logarithms), rtol=2e4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES + LARGE)
def test_factors_and_triangular_solutions(shape, dtype):
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=shape), rng.normal(size=(*shape[:-1], 3)).astype(dtype)
    a = (a @ a.swapaxes(-1, -2) + shape[-1] * np.eye(shape[-1])).astype(dtype)
    factor = of(mg.linalg.cholesky, np.triu(np.full_like(a, np.nan), 1) + np.tril(a))
    assert not np.triu(factor, 1).any()
    np.testing.assert_allclose(factor.astype(float) @ factor.swapaxes(-1, -2), a, atol=8 * np.finfo(dtype).eps * a.max())
    for lower in (False, True):
        half = np.tril(a) if lower else np.triu(a)
        for transpose in (False, True):
            x = of(lambda a, b: mg.linalg.solve_triangular(a, b, lower, transpose), a, b)  # noqa: B023
            assert_solved(half.swapaxes(-1, -2) if transpose else half, x, b)


@pytest.mark.parametrize("kind", [SOLVE, LOWER, FACTOR, PIVOTS])
def test_any_number_of_parts_gives_the_same_bits(kind):
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(45, 6, 6)), rng.normal(size=(45, 6, 2))
    a = a @ a.mT + 6 * np.eye(6)
    results = []
    for parts in (1, 2, 3, 7):
        result = np.zeros((45, 1, 6) if kind == PIVOTS else a.shape if kind == FACTOR else b.shape)
        arrays = [a, b if kind in (SOLVE, LOWER) else a[..., :0], result]
        strides = [stride // 8 for one in arrays for stride in one.strides]
        words = small_systems.SystemWords(45, 6, arrays[1].shape[-1], result.shape[-1], *strides)
        numbers, bases = np.array([0, 0, 1, 0, 2, 0, *words.pack()]), np.array([one.ctypes.data for one in arrays])
        kernel = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        call = kernel(small_systems.system_kernel(a.dtype, kind))
        assert [call(bases.ctypes.data, numbers.ctypes.data, part, parts) for part in range(parts)] == [0] * parts
        results.append(result)
    for one in results[1:]:
        np.testing.assert_array_equal(one, results[0])


@pytest.mark.parametrize("shape", [(MANY, 3, 3), (70, 70)])
def test_one_matrix_that_is_singular_or_indefinite_is_an_error_at_its_line(shape):
    a, b = np.broadcast_to(np.eye(shape[-1]), shape).copy(), np.ones((*shape[:-1], 1))
    (a if a.ndim == 2 else a[5])[1, 1] = 0
    for function in (mg.linalg.inv, lambda x: mg.linalg.solve(x, mg.constant(b)), mg.linalg.cholesky):
        with pytest.raises(mg.errors.LinearAlgebraError, match=r"Singular matrix|not positive definite") as caught:
            of(function, a)
        assert "test_small_systems.py" in str(caught.value)
    signs, logarithms = (of(lambda x, k=k: mg.linalg.slogdet(x)[k], a) for k in (0, 1))
    expected = np.linalg.slogdet(a)
    np.testing.assert_array_equal(signs, expected[0])
    np.testing.assert_array_equal(logarithms, expected[1])
    np.testing.assert_array_equal(of(mg.linalg.det, a), np.linalg.det(a))


def test_numbers_that_are_none_stay_in_their_own_system():
    a = np.broadcast_to(np.eye(4), (MANY + 1, 4, 4)).copy()
    a[3, 2, 2] = np.nan
    for function in (mg.linalg.inv, mg.linalg.cholesky, mg.linalg.det):
        finite = np.isfinite(of(function, a).reshape(len(a), -1)).all(-1)
        assert finite[:3].all() and not finite[3] and finite[4:].all()
