"""Promotion, symbolic sizes, stable gradients, and special functions of ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.special

import minigraph as mg
from minigraph.core.graph import Variable
from minigraph.testing import compute_plainly, verify_grad
from support.op_table.cases import (
    check,
    inputs_like,
)
from support.op_table.records import INF, Array

# -- promotion -------------------------------------------------------------------------------------------------------

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("first", DTYPES)
def test_promotion_is_numpys_except_that_integers_never_widen_a_float(first: str) -> None:
    """The dtype of x + y for every pair of dtypes, and with Python numbers, which are weak."""
    x = mg.tensor("x", dtype=first, shape=(2,))
    for second in DTYPES:
        y = mg.tensor("y", dtype=second, shape=(2,))
        floats = [one for one in (first, second) if one.startswith("float")]
        expected = np.result_type(*floats) if floats else np.result_type(first, second)
        assert (x + y).dtype == expected, second
    zero = np.zeros(2, first)
    for number in (True, 1, 1.0):
        assert (x + number).dtype == (zero + number).dtype, number
        assert (number + x).dtype == (zero + number).dtype, number


def test_python_numbers_that_do_not_fit_are_refused_in_arithmetic_but_compared() -> None:
    """300 cannot be added to uint8; but every uint8 is less than 300 and more than -1."""
    x = mg.tensor("x", dtype="uint8", shape=(2,))
    with pytest.raises(ValueError, match="does not fit"):
        x + 300
    f = mg.function([x], [x < 300, x > -1, mg.eq(x, 256)])
    for result, expected in zip(f(np.array([0, 255], "uint8")), (True, True, False), strict=True):
        assert result.tolist() == [expected, expected]


# -- symbolic sizes --------------------------------------------------------------------------------------------------

SYMBOLIC: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Array, int], Array]]] = {
    "reshape": (lambda x, n: mg.reshape(x, (n, -1)), lambda x, n: x.reshape(n, -1)),
    "reshape exactly": (lambda x, n: mg.reshape(x, (n, mg.size(x) // n)), lambda x, n: x.reshape(n, -1)),
    "broadcast_to": (lambda x, n: mg.broadcast_to(x[0, 0], (n, 2)), lambda x, n: np.broadcast_to(x[0, 0], (n, 2))),
    "zeros": (lambda x, n: mg.zeros((n, x.shape[0])), lambda x, n: np.zeros((n, len(x)), "float32")),
    "ones": (lambda x, n: mg.ones(n), lambda x, n: np.ones(n, "float32")),
    "full": (lambda x, n: mg.full((n,), x[0, 0]), lambda x, n: np.full(n, x[0, 0])),
    "arange": (lambda x, n: mg.arange(n), lambda x, n: np.arange(n)),
    "arange by steps": (lambda x, n: mg.arange(n, -n, -2), lambda x, n: np.arange(n, -n, -2)),
    "eye": (lambda x, n: mg.eye(n, x.shape[1]), lambda x, n: np.eye(n, x.shape[1], dtype="float32")),
    "tri": (lambda x, n: mg.tri(n, k=-1), lambda x, n: np.tri(n, k=-1, dtype="float32")),
    "tile": (lambda x, n: mg.tile(x, (n, 2)), lambda x, n: np.tile(x, (n, 2))),
    "repeat": (lambda x, n: mg.repeat(x, n, axis=1), lambda x, n: np.repeat(x, n, axis=1)),
    "roll": (lambda x, n: mg.roll(x, n, axis=1), lambda x, n: np.roll(x, n, axis=1)),
    "split": (lambda x, n: mg.split(x, [n], axis=1)[1], lambda x, n: np.split(x, [n], axis=1)[1]),
    "slice": (lambda x, n: x[:, :n:2], lambda x, n: x[:, :n:2]),
    "slice backwards": (lambda x, n: x[:, n::-1], lambda x, n: x[:, n::-1]),
    "index": (lambda x, n: x[:, n], lambda x, n: x[:, n]),
    "take": (lambda x, n: mg.take(x, n, axis=1), lambda x, n: np.take(x, n, axis=1)),
    "one_hot": (
        lambda x, n: mg.one_hot(mg.arange(3) % n, n),
        lambda x, n: (np.arange(3)[:, None] % n == np.arange(n)).astype("float32"),
    ),
    "set_subtensor": (lambda x, n: mg.set_subtensor(x[:, n:], 0.0), lambda x, n: np.where(np.arange(x.shape[1]) < n, x, 0)),
    "inc_subtensor": (lambda x, n: mg.inc_subtensor(x[:, n:], 1.0), lambda x, n: x + (np.arange(x.shape[1]) >= n)),
    "diag": (lambda x, n: mg.diag(x[:n]), lambda x, n: np.diag(x[:n])),
    "linspace": (lambda x, n: mg.linspace(x[0, 0], n, 4), lambda x, n: np.linspace(x[0, 0], n, 4)),
}


@pytest.mark.parametrize("name", SYMBOLIC)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_sizes_and_bounds_may_be_symbolic(name: str, n: int) -> None:
    """A size, a bound or a count that is known only when the function is called gives NumPy's result."""
    build, reference = SYMBOLIC[name]
    x, size = mg.tensor("x", dtype="float64", shape=(None, None)), mg.scalar("n", dtype="int64")
    values = np.arange(24.0).reshape(4, 6)
    result = build(x, size)
    check([mg.function([x, size], result, on_unused_input="ignore")(values, n)], [np.asarray(reference(values, n))])
    (plain,) = compute_plainly([result], {x: values, size: np.asarray(n)})
    check([plain], [np.asarray(reference(values, n))])


MISMATCHES: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...], tuple[int, ...]]] = {
    "add": (lambda a, b: a + b, (2, 3), (2, 4)),
    "where": (lambda a, b: mg.where(a > 0, a, b), (2, 3), (1, 3)),
    "matmul": (mg.matmul, (2, 3), (2, 3)),
    "matmul of stacks": (mg.matmul, (1, 2, 3), (4, 3, 2)),
    "batched_dot": (mg.batched_dot, (4, 2, 3), (1, 3, 2)),
    "tensordot": (mg.tensordot, (2, 3), (3, 2)),
    "einsum": (lambda a, b: mg.einsum("ij,jk->ik", a, b), (2, 3), (1, 2)),
    "concatenate": (lambda a, b: mg.concatenate([a, b]), (2, 3), (2, 1)),
    "stack": (lambda a, b: mg.stack([a, b]), (2, 3), (1, 3)),
    "set_subtensor": (lambda a, b: mg.set_subtensor(a[1:], b), (3, 2), (1, 2)),
    "inc_subtensor": (lambda a, b: mg.inc_subtensor(a[:], b) if a.ndim == 3 else mg.inc_subtensor(a[1:], b), (3, 2), (1, 2)),
    "solve": (mg.linalg.solve, (4, 2, 2), (1, 2, 2)),
    "softmax_crossentropy": (mg.softmax_crossentropy, (4, 3), (1, 3)),
    "sigmoid_binary_crossentropy": (mg.sigmoid_binary_crossentropy, (4, 3), (4, 1)),
    "outer sum": (lambda a, b: a.sum(0) + b.sum(0), (4, 3), (4, 1)),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_sizes_that_disagree_only_at_run_time_are_an_error(name: str) -> None:
    """Sizes that are unknown when the graph is built, and do not fit when it is called, raise a ValueError."""
    build, left, right = MISMATCHES[name]
    a = mg.tensor("a", dtype="float64", shape=[None] * len(left))
    b = mg.tensor("b", dtype="float64", shape=[None] * len(right))
    f = mg.function([a, b], build(a, b))
    with pytest.raises(ValueError):
        f(np.ones(left) + np.eye(*left[-2:]), np.ones(right))


# -- stability -------------------------------------------------------------------------------------------------------


def slopes_at(build: Callable[..., Variable], *points: Any) -> list[list[float]]:
    """The gradients of a scalar by each of its operands, optimized."""
    arrays = [np.asarray(point, "float64") for point in points]
    inputs = inputs_like(arrays)
    slopes = mg.grad(build(*inputs), inputs)
    return [slope.tolist() for slope in mg.function(inputs, slopes, on_unused_input="ignore")(*arrays)]


def value_at(build: Callable[..., Variable], *points: Any) -> Any:
    """The value at a point, optimized."""
    arrays = [np.asarray(point, "float64") for point in points]
    inputs = inputs_like(arrays)
    return mg.function(inputs, build(*inputs))(*arrays).tolist()


LOGITS = [1000.0, 0.0, -1000.0]
LOSSES: dict[str, Callable[[Variable], Variable]] = {
    "log of softmax": lambda x: -mg.log(mg.softmax(x))[1],
    "log of picked softmax": lambda x: -mg.log(mg.softmax(x)[1]),
    "log_softmax": lambda x: -mg.log_softmax(x)[1],
    "softmax_crossentropy, index": lambda x: mg.softmax_crossentropy(x, 1),
    "softmax_crossentropy, one-hot": lambda x: mg.softmax_crossentropy(x, np.array([0.0, 1.0, 0.0])),
    "softmax_crossentropy, symbolic one-hot": lambda x: mg.softmax_crossentropy(x, mg.one_hot(mg.constant(1), 3)),
    "categorical_crossentropy, index": lambda x: mg.categorical_crossentropy(mg.softmax(x), 1),
    "categorical_crossentropy, one-hot": lambda x: mg.categorical_crossentropy(mg.softmax(x), np.array([0.0, 1.0, 0.0])),
    "logsumexp": lambda x: mg.logsumexp(x) - x[1],
    "log of sum of exp": lambda x: mg.log(mg.sum(mg.exp(x))) - x[1],
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_extreme_logits_is_exact(name: str) -> None:
    """-log softmax([1000, 0, -1000])[1] is 1000, and its gradient [1, -1, 0], however it is written."""
    assert value_at(LOSSES[name], LOGITS) == 1000
    assert slopes_at(LOSSES[name], LOGITS) == [[1, -1, 0]]


SOFT_LOSSES: dict[str, Callable[[Variable, Variable], Variable]] = {
    "softmax_crossentropy": lambda x, t: mg.softmax_crossentropy(x, t).sum(),
    "categorical_crossentropy": lambda x, t: mg.categorical_crossentropy(mg.softmax(x), t).sum(),
}


@pytest.mark.parametrize("name", SOFT_LOSSES)
def test_soft_targets_are_weights_of_the_losses_of_classes(name: str) -> None:
    """With targets (0.5, 0.25, 0.25) the loss is their weighted mean, and its gradient softmax(x) - targets."""
    logits, targets = [[1000.0, 0.0, -1000.0]], [[0.5, 0.25, 0.25]]
    assert value_at(SOFT_LOSSES[name], logits, targets) == 750
    np.testing.assert_allclose(slopes_at(SOFT_LOSSES[name], logits, targets)[0], [[0.5, -0.25, -0.25]], atol=1e-12)


BINARY_LOSSES: dict[str, Callable[[Variable, Any], Variable]] = {
    "sigmoid_binary_crossentropy": mg.sigmoid_binary_crossentropy,
    "binary_crossentropy of sigmoid": lambda x, t: mg.binary_crossentropy(mg.sigmoid(x), t),
}


@pytest.mark.parametrize("name", BINARY_LOSSES)
@pytest.mark.parametrize(("target", "losses", "slopes"), [(1.0, [0, 1000], [0, -1]), (0.0, [1000, 0], [1, 0])])
def test_binary_losses_of_extreme_logits_are_exact(name: str, target: float, losses: list[float], slopes: list[float]) -> None:
    """At logits of +-1000 the binary crossentropies are 0 or 1000, with gradients 0 or +-1."""
    loss = BINARY_LOSSES[name]
    assert value_at(lambda x: loss(x, np.full(2, target)), [1000.0, -1000.0]) == losses
    assert slopes_at(lambda x: loss(x, np.full(2, target)).sum(), [1000.0, -1000.0]) == [slopes]


CONVENTIONS: dict[str, tuple[Callable[..., Variable], tuple[Any, ...], list[Any]]] = {
    "max of ties": (lambda x: mg.max(x), ([1.0, 3.0, 3.0],), [[0, 0.5, 0.5]]),
    "min of ties": (lambda x: mg.min(x), ([1.0, 1.0, 1.0, 1.0],), [[0.25] * 4]),
    "max along an axis": (lambda x: mg.max(x, 0).sum(), ([[1.0, 2.0], [1.0, 0.0]],), [[[0.5, 1], [0.5, 0]]]),
    "maximum of equals": (lambda x, y: mg.maximum(x, y).sum(), ([1.0, 2.0], [1.0, 1.0]), [[0.5, 1], [0.5, 0]]),
    "minimum of equals": (lambda x, y: mg.minimum(x, y).sum(), ([1.0, 2.0], [1.0, 1.0]), [[0.5, 0], [0.5, 1]]),
    "ptp of a constant": (lambda x: mg.ptp(x), ([2.0, 2.0],), [[0, 0]]),
    "relu at 0": (lambda x: mg.relu(x).sum(), ([-1.0, 0.0, 1.0],), [[0, 0, 1]]),
    "leaky relu at 0": (lambda x: mg.relu(x, 0.5).sum(), ([-1.0, 0.0, 1.0],), [[0.5, 0.5, 1]]),
    "abs at 0": (lambda x: abs(x).sum(), ([-1.0, 0.0, 1.0],), [[-1, 0, 1]]),
    "prod with a zero": (lambda x: mg.prod(x), ([0.0, 2.0, 3.0],), [[6, 0, 0]]),
    "prod with two zeros": (lambda x: mg.prod(x), ([0.0, 2.0, 0.0],), [[0, 0, 0]]),
    "cumprod with a zero": (lambda x: mg.cumprod(x).sum(), ([2.0, 0.0, 3.0],), [[1, 8, 0]]),
    "guarded sqrt": (lambda x: mg.where(x > 0, mg.sqrt(x), 0).sum(), ([0.0, 4.0],), [[0, 0.25]]),
    "guarded log": (lambda x: mg.where(x > 0, mg.log(x), 0).sum(), ([0.0, 4.0],), [[0, 0.25]]),
    "guarded quotient": (lambda x: mg.where(x > 0, 1 / x, 0).sum(), ([0.0, 2.0],), [[0, -0.25]]),
    "x**0 at 0": (lambda x: (x**0).sum(), ([0.0, 2.0],), [[0, 0]]),
    "x**1 at 0": (lambda x: (x**1).sum(), ([0.0, 2.0],), [[1, 1]]),
    "x**2 at 0": (lambda x: (x**2).sum(), ([0.0, 2.0],), [[0, 4]]),
    "x**y at x = 0": (lambda x, y: (x**y).sum(), ([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]), [[0, 1, 0], [0, 0, 0]]),
    "norm at 0": (lambda x: mg.norm(x), ([0.0, 0.0],), [[0, 0]]),
    "norm of order 1 at 0": (lambda x: mg.norm(x, 1), ([0.0, 2.0],), [[0, 1]]),
    "norm of order 3 at 0": (lambda x: mg.norm(x, 3), ([0.0, 0.0],), [[0, 0]]),
    "std of a constant": (lambda x: mg.std(x), ([2.0, 2.0, 2.0],), [[0, 0, 0]]),
    "hypot at 0": (lambda x, y: mg.hypot(x, y).sum(), ([0.0, 3.0], [0.0, 4.0]), [[0, 0.6], [0, 0.8]]),
    "logsumexp of -inf": (lambda x: mg.logsumexp(x), ([-INF, 0.0],), [[0, 1]]),
    "softplus far out": (lambda x: mg.softplus(x).sum(), ([-1000.0, 1000.0],), [[0, 1]]),
    "sigmoid far out": (lambda x: mg.sigmoid(x).sum(), ([-1000.0, 1000.0],), [[0, 0]]),
    "logaddexp of equals": (lambda x, y: mg.logaddexp(x, y).sum(), ([1000.0, 0.0], [1000.0, 1000.0]), [[0.5, 0], [0.5, 1]]),
    "clip at its bounds": (lambda x: mg.clip(x, 0, 1).sum(), ([-1.0, 0.5, 2.0],), [[0, 1, 0]]),
    "elements picked twice": (lambda x: x[[0, 0, 1]].sum(), ([1.0, 2.0],), [[2, 1]]),
    "grad_clip": (lambda x: (5 * mg.grad_clip(x, -1, 1)).sum(), ([1.0],), [[1]]),
    "grad_scale": (lambda x: (5 * mg.grad_scale(x, 2)).sum(), ([1.0],), [[10]]),
    "grad_reverse": (lambda x: (5 * mg.grad_reverse(x)).sum(), ([1.0],), [[-5]]),
    "disconnected_grad": (lambda x: (mg.disconnected_grad(x) * x).sum(), ([3.0],), [[3]]),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_gradients_at_kinks_and_poles_follow_the_conventions(name: str) -> None:
    """Ties share equally, relu'(0) = |x|'(0) = 0, and what the maths keeps finite is finite."""
    build, points, expected = CONVENTIONS[name]
    slopes = slopes_at(build, *points)
    for ours, theirs in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


CURVED: dict[str, tuple[Callable[..., Variable], tuple[Any, ...]]] = {
    "prod with a zero": (lambda x: mg.prod(x), ([0.0, 2.0, 3.0],)),
    "prod with two zeros": (lambda x: mg.prod(x), ([0.0, 2.0, 0.0],)),
    "prod along axes": (lambda x: mg.prod(x, (0, 2)), ([[[0.0, 2.0], [1.0, 3.0]], [[1.0, 0.0], [2.0, 0.5]]],)),
    "cumprod with zeros": (lambda x: mg.cumprod(x), ([2.0, 0.0, 3.0, 0.0],)),
    "x**3 at 0": (lambda x: x**3, ([0.0, 2.0],)),
    "x**2 at 0": (lambda x: x**2, ([0.0, -2.0],)),
    "negative base": (lambda x: x**3.0, ([-1.5, -2.0],)),
    "inc_subtensor picked twice": (lambda x, v: mg.inc_subtensor(x[[0, 0, 1]], v) ** 2, ([1.0, 2.0, 3.0], [0.5, 1.0, 2.0])),
    "set_subtensor": (lambda x, v: mg.set_subtensor(x[1:], v) ** 2, ([1.0, 2.0, 3.0], [0.5, 1.0])),
    "logsumexp": (lambda x: mg.logsumexp(x), ([1000.0, 1000.5, 999.0],)),
    "log_softmax": (lambda x: mg.log_softmax(x), ([1000.0, 1000.5, 999.0],)),
    "sigmoid": (lambda x: mg.sigmoid(x), ([-30.0, 0.0, 3.0],)),
    "std": (lambda x: mg.std(x), ([1.0, 2.0, 4.0],)),
    "norm": (lambda x: mg.norm(x), ([1.0, 2.0, -4.0],)),
}


@pytest.mark.parametrize("name", CURVED)
def test_second_derivatives_hold_at_zeros_and_far_out(name: str) -> None:
    """Derivatives of both orders agree with finite differences where formulas that divide would fail."""
    build, points = CURVED[name]
    verify_grad(build, points, order=2, step=1e-5, rtol=1e-4, atol=1e-6)


def test_dimshuffle_drops_only_static_ones() -> None:
    """An axis of unknown size cannot be dropped, even if it is 1 at run time."""
    with pytest.raises(ValueError, match="static size 1"):
        mg.tensor("x", shape=(None, 3)).dimshuffle(1)
    x = mg.tensor("x", shape=(1, 3))
    assert mg.function([x], x.dimshuffle(1))(np.ones((1, 3), "float32")).shape == (3,)


def test_assert_raises_with_its_message_and_ifelse_computes_one_branch() -> None:
    """A condition that fails is an AssertionError; the branch not taken is not computed."""
    x = mg.vector("x", dtype="float64")
    f = mg.function([x], mg.assert_(x, x > 0, "positive numbers only"))
    assert f(np.ones(2)).tolist() == [1, 1]
    with pytest.raises(AssertionError, match="positive numbers only"):
        f(np.array([1.0, -1.0]))
    flag = mg.scalar("flag", dtype="bool")
    lazy = mg.function([flag, x], mg.ifelse(flag, x, mg.assert_(x, x > 0, "not taken")))
    assert lazy(True, np.array([-1.0])).tolist() == [-1]
    with pytest.raises(AssertionError, match="not taken"):
        lazy(False, np.array([-1.0]))


# -- accuracy of special functions -----------------------------------------------------------------------------------


def computed(function: Callable[..., Variable], x: Array, *args: Any) -> Array:
    """A function on one array, compiled."""
    variable = mg.tensor("x", dtype=x.dtype, shape=(None,))
    return mg.function([variable], function(variable, *args))(x)


@pytest.mark.parametrize("name", ["erf", "erfc"])
def test_error_functions_are_exact_to_the_last_digits(name: str) -> None:
    """erf and erfc agree with scipy to 1e-12 in float64, to 4 units in the last place in float32."""
    function, reference = getattr(mg, name), getattr(scipy.special, name)
    wide = np.concatenate([np.linspace(-6, 26, 4001), np.logspace(-300, 0, 601), -np.logspace(-300, 0, 601)])
    np.testing.assert_allclose(computed(function, wide), reference(wide), rtol=1e-12, atol=1e-300)
    narrow = np.linspace(-4, 9, 4001).astype("float32")
    exact = reference(narrow.astype("float64")).astype("float32")
    np.testing.assert_array_max_ulp(computed(function, narrow), exact, maxulp=4)


ROOTS = np.array([1.0, 2.0, 1.4616321449683623])


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (mg.gammaln, scipy.special.gammaln),
        (mg.digamma, scipy.special.digamma),
        (lambda x: mg.polygamma(1, x), lambda x: scipy.special.polygamma(1, x)),
        (lambda x: mg.polygamma(3, x), lambda x: scipy.special.polygamma(3, x)),
    ],
    ids=["gammaln", "digamma", "polygamma 1", "polygamma 3"],
)
def test_gamma_functions_agree_with_scipy(
    function: Callable[[Variable], Variable], reference: Callable[[Array], Array]
) -> None:
    """gammaln and its derivatives agree with scipy to 1e-12, away from their roots."""
    x = np.concatenate([np.linspace(0.01, 30, 2001), np.logspace(-5, 8, 401)])
    x = x[np.abs(x[:, None] - ROOTS).min(1) > 0.05]
    np.testing.assert_allclose(computed(function, x), reference(x), rtol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_polygamma_satisfies_its_recurrence_for_negative_arguments(n: int) -> None:
    """polygamma(n, x + 1) - polygamma(n, x) is (-1)^n n! / x^(n + 1), between the poles as well."""
    x = np.concatenate([np.linspace(-3.8, -3.2, 13), np.linspace(-0.8, -0.2, 13)])
    gap = computed(lambda v: mg.polygamma(n, v + 1) - mg.polygamma(n, v), x)
    np.testing.assert_allclose(gap, (-1.0) ** n * scipy.special.factorial(n) / x ** (n + 1), rtol=1e-9)
