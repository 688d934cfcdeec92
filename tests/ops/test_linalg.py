"""Linear algebra where matrices are singular, values equal, or scales extreme; gradients agree with what is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph import testing
from support.backends import on_each

verify_grad = partial(testing.verify_grad, backend="numpy")
RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(3, 3))
WEIGHTS = RNG.normal(size=(3, 3))
ROTATION = np.linalg.qr(RNG.normal(size=(3, 3)))[0]


def gradient(cost: Callable[[mg.Variable], mg.Variable], value: Any, dtype: str = "float64", known: bool = False) -> Any:
    """The gradient of a cost of one array at a value."""
    array = np.asarray(value, dtype)
    x = mg.tensor("x", dtype=dtype, shape=array.shape if known else (None,) * array.ndim)
    return mg.function([x], mg.grad(cost(x), x), backend="numpy")(array)


def of_values(function: Callable[[Any], Any]) -> Callable[[mg.Variable], mg.Variable]:
    """What a function makes of the eigenvalues of a symmetric matrix, between its eigenvectors."""

    def applied(a: mg.Variable) -> mg.Variable:
        values, vectors = mg.linalg.eigh(a)
        return (vectors * mg.expand_dims(function(values), -2)) @ mg.swapaxes(vectors, -1, -2)

    return applied


def product(a: mg.Variable) -> mg.Variable:
    """A matrix, put together again from its singular values and vectors."""
    u, s, vt = mg.linalg.svd(a)
    return (u * mg.expand_dims(s, -2)) @ vt


@pytest.mark.parametrize("stack", [(), (2,)])
def test_what_reads_one_half_of_a_matrix_has_the_gradient_of_that_half(stack: tuple[int, ...]) -> None:
    a = np.random.default_rng(1).normal(size=(*stack, 3, 3))
    symmetric = a + np.swapaxes(a, -1, -2)
    verify_grad(lambda x: mg.linalg.eigh(x)[0], [symmetric])
    verify_grad(lambda x: mg.square(mg.linalg.eigh(x)[1]), [symmetric], order=1 if stack else 2)
    verify_grad(mg.linalg.cholesky, [a @ np.swapaxes(a, -1, -2) + np.eye(3)], order=1 if stack else 2)


@pytest.mark.parametrize("rotation", [np.eye(3), ROTATION], ids=["diagonal", "rotated"])
@pytest.mark.parametrize("function", [mg.exp, mg.sqrt, mg.square], ids=["exp", "sqrt", "square"])
def test_smooth_functions_of_matrices_are_right_or_not_a_number(function: Any, rotation: Any) -> None:
    cost = lambda a: (of_values(function)(a) * WEIGHTS).sum()  # noqa: E731
    for values, distinct in (([1.0, 2, 3], True), ([1.0, 1 + 1e-6, 2], True), ([1.0, 1, 2], False), ([2.0, 2, 2], False)):
        a = (rotation * np.asarray(values)) @ rotation.T
        a = (a + a.T) / 2
        slope = gradient(cost, a)
        if not distinct:
            assert np.isnan(slope).any()
            continue
        turn = lambda b: (of_values(function)(mg.constant(b)) * WEIGHTS).sum().eval()  # noqa: E731
        direction = np.asarray([[0.3, -1, 0.5], [-1, 0.2, 2], [0.5, 2, -0.7]])
        slant = (turn(a + 1e-5 * direction) - turn(a - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose((np.tril(slope) * direction).sum(), slant, rtol=1e-4)


@pytest.mark.parametrize("values", [(0.0, 0, 0), (0.0, 0, 1)])
def test_equal_values_of_0_do_not_hide_what_cannot_be_known(values: Any) -> None:
    cost = lambda a: (of_values(lambda w: w)(a) * WEIGHTS).sum()  # noqa: E731
    assert np.isnan(gradient(cost, np.diag(values))).any()


@pytest.mark.parametrize("values", [(0.0, 0, 2), (1.0, 1, 2), (-1.0, -1, -1)])
def test_equal_values_are_no_trouble_for_costs_that_do_not_look_at_their_vectors(values: Any) -> None:
    a = np.diag(values)
    np.testing.assert_array_equal(gradient(lambda x: mg.linalg.eigh(x)[0].sum(), a), np.eye(3))
    np.testing.assert_array_equal(gradient(lambda x: (mg.linalg.eigh(x)[1] * 0).sum(), a), np.zeros((3, 3)))
    if values[2] != values[1]:
        slope = gradient(lambda x: mg.linalg.eigh(x)[1][:, 2].sum() + mg.linalg.eigh(x)[0].sum(), a)
        np.testing.assert_allclose(slope, np.eye(3) + np.outer([0, 0, 1], [1, 1, 0]) / (values[2] - values[0]))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (4, 3), (3, 4)])
def test_the_gradient_of_a_matrix_put_together_again_is_that_of_the_matrix(shape: tuple[int, int], known: bool) -> None:
    rng = np.random.default_rng(2)
    weights, a = rng.normal(size=shape), rng.normal(size=shape)
    cost = lambda x: (product(x) * weights).sum()  # noqa: E731
    np.testing.assert_allclose(gradient(cost, a, known=known), weights, rtol=1e-10)
    singular = a.copy()
    singular[:, -1] = singular[:, 0]
    singular[-1] = singular[0]
    singular[:, -1] = singular[:, 0]
    np.testing.assert_allclose(gradient(cost, singular, known=known), weights, rtol=1e-6)
    for diagonal in ([1.0, 2, 0], [2.0, 2, 1], [0.0, 0, 1]):
        a = np.zeros(shape)
        a[range(3), range(3)] = diagonal
        norm = gradient(lambda x: mg.norm(product(x)), a, known=known)
        np.testing.assert_allclose(norm, a / np.linalg.norm(a), atol=1e-15)
        slope = gradient(cost, a, known=known)
        assert np.isnan(slope).any() or np.allclose(slope, weights)
        if shape == (3, 3) and diagonal[0] == 1:
            np.testing.assert_allclose(slope, weights, rtol=1e-12)


@pytest.mark.parametrize("dtype, scale", [("float32", 1e-25), ("float32", 1e25), ("float64", 1e-200), ("float64", 1e200)])
def test_factors_have_the_same_gradient_at_any_scale(dtype: str, scale: float) -> None:
    costs = [
        (lambda x: (mg.linalg.svd(x)[0] * WEIGHTS.astype(dtype)).sum(), SQUARE),
        (lambda x: (mg.linalg.svd(x)[2] * WEIGHTS.astype(dtype)).sum(), SQUARE),
        (lambda x: (mg.linalg.eigh(x)[1] * WEIGHTS.astype(dtype)).sum(), SQUARE + SQUARE.T),
    ]
    for cost, a in costs:
        expected = gradient(cost, a, dtype)
        np.testing.assert_allclose(gradient(cost, a * scale, dtype).astype("float64") * scale, expected, rtol=2e-4, atol=1e-5)


SINGULAR = {
    "rank 1": np.outer([1.0, 2, 3], [1, -1, 2]),
    "rank 2": SQUARE @ np.diag([1.0, 1, 0]) @ SQUARE,
    "zeros": np.zeros((3, 3)),
    "ones": np.ones((3, 3)),
    "of 1": np.zeros((1, 1)),
    "of 2": np.asarray([[1.0, 2], [2, 4]]),
    "identity": np.eye(3),
    "stack": np.stack([np.zeros((3, 3)), SQUARE, np.diag([1.0, 0, 2])]),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_the_gradient_of_a_determinant_is_that_of_a_polynomial(name: str) -> None:
    a = SINGULAR[name]
    verify_grad(mg.linalg.det, [a], order=2)
    cofactors = np.empty_like(a)
    for place in np.ndindex(a.shape):
        *stack, row, column = place
        minor = np.delete(np.delete(a[tuple(stack)], row, 0), column, 1)
        cofactors[place] = (-1) ** (row + column) * np.linalg.det(minor)
    np.testing.assert_allclose(gradient(lambda x: mg.linalg.det(x).sum(), a), cofactors, atol=1e-13)


def test_a_singular_matrix_does_not_spoil_the_stack_that_it_is_in() -> None:
    stack = np.stack([np.ones((3, 3)), SQUARE, np.zeros((3, 3))])
    slope = gradient(lambda x: mg.linalg.slogdet(x)[1].sum(), stack)
    np.testing.assert_allclose(slope[1], np.linalg.inv(SQUARE).T)
    assert np.isnan(slope[0]).all() and np.isnan(slope[2]).all()
    masked = gradient(lambda x: (lambda sign, log: mg.where(mg.eq(sign, 0), 0.0, log).sum())(*mg.linalg.slogdet(x)), stack)
    np.testing.assert_allclose(masked, [np.zeros((3, 3)), np.linalg.inv(SQUARE).T, np.zeros((3, 3))])
    for factor in (lambda x: mg.linalg.eigh(x)[1][..., :, 2].sum(), lambda x: product(x).sum()):
        values = np.stack([np.zeros((3, 3)), np.diag([1.0, 2, 4])])
        slope = gradient(factor, values)
        assert np.isfinite(slope[1]).all()


@on_each
@pytest.mark.parametrize("kind", [np.linalg.LinAlgError, ValueError, mg.errors.LinearAlgebraError])
def test_what_numpy_raises_is_caught_as_numpys_and_as_ours(kind: type[Exception], backend: str) -> None:
    x = mg.dmatrix("x")
    calls = [mg.linalg.inv, mg.linalg.cholesky, lambda a: mg.linalg.solve(a, a), lambda a: mg.linalg.solve_triangular(a, a)]
    bad = [np.zeros((2, 2)), -np.eye(2), np.ones((2, 2)), np.diag([1.0, 0.0])]
    for call, value in zip(calls, bad, strict=True):
        f = mg.function([x], call(x), backend=backend)  # here
        with pytest.raises(kind, match="test_linalg"):
            f(value)


@pytest.mark.parametrize("values", [(1e200, 1e200, 1e-10), (1e200, 1e200, 0), (1e-200, 1e-200, 1e190), (1e150, 1e150, 1e150)])
def test_a_derivative_of_a_determinant_that_leaves_the_range_takes_no_other_along(values):
    """What is too large is infinite, what is too small 0, and all else as it is between them."""
    a = np.diag(values)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.diag([values[1] * values[2], values[0] * values[2], values[0] * values[1]])
    x = mg.dmatrix("x")
    f = mg.function([x], mg.grad(mg.linalg.det(x), x), backend="numpy")
    np.testing.assert_allclose(f(a), expected, rtol=1e-14)
    exchanged = [1, 0, 2]
    np.testing.assert_allclose(f(a[:, exchanged]), -expected[:, exchanged], rtol=1e-14)


@on_each
@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(
    "sizes", [((5, 5), (5, 3)), ((4, 5, 5), (1, 5, 2)), ((1, 5, 5), (3, 5, 2)), ((0, 0), (0, 3)), ((3, 3), (3, 0))]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_triangular_equations_read_one_half_in_any_layout(dtype, sizes, transpose, lower, backend):
    rng = np.random.default_rng(4)
    a, b = (rng.normal(size=size).astype(dtype) for size in sizes)
    a += 4 * np.eye(a.shape[-1], dtype=dtype)
    half = np.tril(a) if lower else np.triu(a)
    expected = np.linalg.solve(half.mT if transpose else half, b)
    a = np.where(half == 0, np.asarray(np.nan, dtype), a)
    x, y = (mg.tensor(dtype=dtype, shape=[1 if size == 1 else None for size in one.shape]) for one in (a, b))
    f = mg.function([x, y], mg.linalg.solve_triangular(x, y, lower, transpose), backend=backend)
    turned = mg.function([x, y], mg.linalg.solve_triangular(mg.swapaxes(x, -1, -2), y, lower, transpose), backend=backend)
    for given in (a, a.mT.copy().mT):
        np.testing.assert_allclose(f(given, b), expected, rtol=1e-4 if dtype == "float32" else 1e-11)
    np.testing.assert_allclose(turned(a.mT, b.copy()), expected, rtol=1e-4 if dtype == "float32" else 1e-11)


@on_each
def test_the_factor_of_a_matrix_is_numpys_on_each_backend(backend):
    a = np.random.default_rng(5).normal(size=(3, 40, 40)).astype("float32")
    a = np.asarray(a @ a.mT + np.eye(40, dtype="float32"), order="F")
    x = mg.tensor(dtype="float32", shape=(None, None, None))
    given = np.where(np.tri(40, dtype=bool), a, np.nan).astype("float32")
    np.testing.assert_allclose(
        mg.function([x], mg.linalg.cholesky(x), backend=backend)(given), np.linalg.cholesky(a), atol=1e-4
    )


def test_the_likelihood_of_a_gaussian_process_has_its_gradient():
    x, y = RNG.normal(size=(6, 2)), RNG.normal(size=6)
    distances = ((x[:, None] - x) ** 2).sum(-1)

    def likelihood(scale: mg.Variable) -> mg.Variable:
        factor = mg.linalg.cholesky(mg.exp(-distances * scale) + 0.1 * np.eye(6))
        return (y * mg.linalg.cho_solve(factor, y)).sum() / 2 + mg.log(mg.diag(factor)).sum()

    testing.verify_grad(likelihood, [np.array(0.7)], order=2)
