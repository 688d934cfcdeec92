"""Fragile quantities are computed in a stable form however they are spelt, their gradients as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Variable
from minigraph.testing import compute_plainly
from support.backends import on_each

Array = np.ndarray[Any, Any]
Way = Callable[[Variable], Variable]

LOGITS = np.array([[1000.0, 0, -1000], [0.5, -1.5, 2], [-1000, -1010, -1000], [-800, 90, 800]])
TARGETS = np.array([1, 2, 1, 0])
ONE_HOT = np.eye(3)[TARGETS]
ROWS = np.arange(4)
POINTS = np.array([-1000.0, -90, -1.5, -1e-3, 0, 1e-3, 1.5, 90, 1000])
EPSILON = 1e-6


def log_softmax(z: Array) -> Array:
    shifted = z - z.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def logistic(z: Array) -> Array:
    return np.exp(-np.logaddexp(0, -z))


def share(z: Variable, k: int, order: Sequence[int]) -> Variable:
    """exp(z[k]) of the sum of all three, in an order."""
    terms = [mg.exp(z)[:, one] for one in order]
    return mg.exp(z[:, k]) / (terms[0] + terms[1] + terms[2])


def picked(x: Variable) -> Variable:
    """One element of each row."""
    return x[ROWS, mg.constant(TARGETS)]


def given_one_hot() -> Variable:
    """Targets that are not known before the call; here they are kept in a shared variable."""
    return mg.shared(ONE_HOT.copy())


def power_of(z: Variable) -> tuple[Variable, Variable]:
    """exp(z), and its sums over rows."""
    return mg.exp(z), mg.exp(z).sum(1)


CROSSENTROPIES: list[Way] = [
    lambda z: mg.log(picked(mg.softmax(z))),
    lambda z: picked(mg.log(mg.softmax(z))),
    lambda z: picked(mg.log2(mg.softmax(z))) * np.log(2),
    lambda z: picked(mg.log10(mg.softmax(z)) * np.log(10)),
    lambda z: mg.log(mg.take(mg.softmax(z).ravel(), 3 * ROWS + TARGETS)),
    lambda z: mg.log(mg.take_along_axis(mg.softmax(z), TARGETS[:, None], 1))[:, 0],
    lambda z: mg.log(mg.softmax(z).reshape((2, 6)).reshape((-1, 3)))[ROWS, TARGETS],
    lambda z: mg.log(mg.softmax(z).flatten())[3 * ROWS + TARGETS],
    lambda z: mg.log(mg.softmax(z).T)[TARGETS, ROWS],
    lambda z: mg.log(mg.squeeze(mg.expand_dims(mg.softmax(z), 1), 1)[ROWS, TARGETS]),
    lambda z: mg.log(picked(mg.concatenate([mg.softmax(z), mg.softmax(z)], 1))),
    lambda z: picked(mg.log(mg.stack([mg.softmax(z), mg.exp(z)]))[0]),
    lambda z: mg.log(picked(1.0 * mg.softmax(z) / 1.0 + 0.0)),
    lambda z: mg.log(picked(mg.softmax(z).copy("probabilities"))),
    lambda z: mg.log(picked(mg.softmax(z).astype(z.dtype).astype("float64"))).astype(z.dtype),
    lambda z: mg.log(picked(mg.clip(mg.softmax(z), 0, 1))),
    lambda z: mg.log((ONE_HOT * mg.softmax(z)).sum(1)),
    lambda z: mg.log((given_one_hot().astype(z.dtype) * mg.softmax(z)).sum(1)),
    lambda z: mg.log((mg.eq(mg.arange(3), TARGETS[:, None]) * mg.softmax(z)).sum(1)),
    lambda z: (ONE_HOT * mg.log(mg.softmax(z))).sum(1),
    lambda z: mg.log(mg.einsum("ij,ij->i", mg.softmax(z), ONE_HOT.astype(z.dtype))),
    lambda z: mg.log(mg.einsum("ji,ij->i", ONE_HOT.T.astype(z.dtype), mg.softmax(z))),
    lambda z: mg.log(mg.stack([mg.softmax(z[k]) @ ONE_HOT[k].astype(z.dtype) for k in range(4)])),
    lambda z: mg.log(mg.stack([mg.dot(ONE_HOT[k].astype(z.dtype), mg.softmax(z)[k]) for k in range(4)])),
    lambda z: mg.log(mg.stack([mg.tensordot(mg.softmax(z)[k], ONE_HOT[k].astype(z.dtype), 1) for k in range(4)])),
    lambda z: mg.log(picked(mg.abs(mg.softmax(z)))),
    lambda z: mg.log(picked(-mg.negative(mg.softmax(z)))),
    lambda z: mg.log(picked(0 - (-mg.softmax(z)))),
    lambda z: mg.log(mg.relu(picked(mg.softmax(z)))),
    lambda z: mg.log(picked(mg.grad_scale(mg.softmax(z), 1.0))),
    lambda z: mg.log(mg.where(ONE_HOT == 1, mg.softmax(z), 0).sum(1)),
    lambda z: mg.log(mg.where(ONE_HOT == 1, mg.softmax(z), 1).prod(1)),
    lambda z: mg.log(mg.square(picked(mg.softmax(z)))) / 2,
    lambda z: mg.log(mg.sqrt(picked(mg.softmax(z)))) * 2,
    lambda z: mg.log(3 * picked(mg.softmax(z))) - np.log(3),
    lambda z: picked(mg.log(power_of(z)[0] / power_of(z)[1].dimshuffle(0, "x"))),
    lambda z: mg.log(picked(power_of(z)[0]) / power_of(z)[1]),
    lambda z: picked(z) - mg.log(power_of(z)[1]),
    lambda z: picked(mg.log(mg.exp(z - z.max(1, keepdims=True)) / mg.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True))),
    lambda z: -mg.log(mg.exp(z - mg.expand_dims(picked(z), 1)).sum(1)),
]
SUMS: list[Way] = [
    lambda z: mg.log(mg.exp(z).sum(1)),
    lambda z: mg.log(mg.exp(z).sum(1, keepdims=True))[:, 0],
    lambda z: mg.log(mg.exp(z).T.sum(0)),
    lambda z: mg.log(mg.exp(z).mean(1)) + np.log(3),
    lambda z: mg.log(mg.exp(z).sum(1) / 3) + np.log(3),
    lambda z: mg.log(mg.exp(z).sum(1) / z.shape[0]) + np.log(4),
    lambda z: mg.log2(mg.exp(z).sum(1)) * np.log(2),
    lambda z: mg.log(mg.exp(z)[:, 0] + mg.exp(z)[:, 1] + mg.exp(z)[:, 2]),
    lambda z: mg.log(mg.exp(z)[:, :2].sum(1) + mg.exp(z[:, 2])),
    lambda z: mg.log((mg.exp(z) * np.array([2.0, 2, 2])).sum(1)) - np.log(2),
    lambda z: -mg.log(1 / mg.exp(z).sum(1)),
    lambda z: mg.log(mg.reshape(mg.exp(z), (-1, 3)).sum(-1) * 1.0),
    lambda z: mg.log(mg.exp(z) @ np.ones(3, z.dtype)),
    lambda z: mg.log(np.ones(3, z.dtype) @ mg.exp(z).T),
    lambda z: mg.log(mg.dot(mg.exp(z), np.full((3, 1), 2, z.dtype)))[:, 0] - np.log(2),
    lambda z: mg.log(mg.einsum("ij,j->i", mg.exp(z), np.ones(3, z.dtype))),
    lambda z: mg.log(mg.exp2(z / np.log(2)).sum(1)),
    lambda z: mg.log((2.0 ** (z / np.log(2))).sum(1)),
    lambda z: mg.log(mg.sqrt(mg.exp(2 * z)).sum(1)),
]
SOFTMAXES: list[Way] = [
    mg.softmax,
    lambda z: mg.exp(z) / mg.exp(z).sum(1, keepdims=True),
    lambda z: mg.exp(z) / mg.exp(z).sum(1).dimshuffle(0, "x"),
    lambda z: mg.exp(z) / mg.exp(z).sum(1)[:, None],
    lambda z: mg.exp(z) / mg.exp(z).sum(1).reshape((-1, 1)),
    lambda z: mg.exp(z) / mg.exp(z).sum(1).reshape((z.shape[0], 1)),
    lambda z: (mg.exp(z).T / mg.exp(z).sum(1)).T,
    lambda z: (mg.exp(z.T) / mg.exp(z.T).sum(0)).T,
    lambda z: mg.exp(z) * mg.reciprocal(mg.exp(z).sum(1, keepdims=True)),
    lambda z: mg.exp(z) * (1 / mg.exp(z).sum(1, keepdims=True)),
    lambda z: mg.exp(2 * z / 2) / mg.exp(2 * z / 2).sum(1, keepdims=True),
    lambda z: mg.stack([share(z, 0, (0, 1, 2)), share(z, 1, (0, 1, 2)), share(z, 2, (0, 1, 2))], 1),
    lambda z: mg.stack([share(z, 0, (2, 1, 0)), share(z, 1, (0, 2, 1)), share(z, 2, (1, 2, 0))], 1),
    lambda z: mg.exp(z) / mg.broadcast_to(mg.exp(z).sum(1, keepdims=True), z.shape),
    lambda z: mg.exp(z - z.max(1, keepdims=True)) / mg.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True),
]
SOFTPLUSES: list[Way] = [
    lambda z: mg.log(1 + mg.exp(z)),
    lambda z: mg.log(mg.exp(z) + 1.0),
    lambda z: mg.log1p(mg.exp(z)),
    lambda z: mg.log1p(mg.exp(z)[:, None])[:, 0],
    lambda z: mg.log(2 * mg.cosh(z / 2)) + z / 2,
    lambda z: mg.log2(1 + mg.exp(z)) * np.log(2),
    lambda z: -mg.log(1 - mg.sigmoid(z)),
    lambda z: -mg.log(1 - mg.sigmoid(z)[None])[0],
    lambda z: -mg.log(mg.sigmoid(-z)),
    lambda z: -mg.log(1 / (1 + mg.exp(z))),
    lambda z: -mg.log1p(-mg.sigmoid(z)),
    lambda z: mg.log(mg.exp(z) + mg.exp(0 * z)),
    lambda z: mg.log(2 + 2 * mg.exp(z)) - np.log(2),
    lambda z: z - mg.log(mg.exp(z) / (1 + mg.exp(z))),
]
SIGMOIDS: list[Way] = [
    lambda z: mg.log(mg.sigmoid(z)),
    lambda z: mg.log(mg.sigmoid(z) * 1.0),
    lambda z: mg.log(mg.sigmoid(z).reshape((3, 3)))[mg.arange(9) // 3, mg.arange(9) % 3],
    lambda z: mg.log(1 / (1 + mg.exp(-z))),
    lambda z: mg.log((1 + mg.exp(-z)) ** -1),
    lambda z: mg.log(mg.reciprocal(1 + mg.exp(-z))),
    lambda z: mg.log(mg.exp(z) / (1 + mg.exp(z))),
    lambda z: mg.log(1 - mg.sigmoid(-z)),
    lambda z: -mg.log(1 + mg.exp(-z)),
    lambda z: mg.log(mg.clip(mg.sigmoid(z), 0, 1)),
]
LOGISTICS: list[Way] = [
    mg.sigmoid,
    lambda z: 1 / (1 + mg.exp(-z)),
    lambda z: 1.0 / (mg.exp(-z) + 1.0),
    lambda z: (1 + mg.exp(-z)) ** -1,
    lambda z: (1 + mg.exp(-z)) ** -1.0,
    lambda z: mg.reciprocal(1 + mg.exp(-z)),
    lambda z: mg.exp(z) / (1 + mg.exp(z)),
    lambda z: mg.exp(z / 2) / (mg.exp(z / 2) + mg.exp(-z / 2)),
    lambda z: mg.exp(z / 2) / (mg.exp(-z / 2) + mg.exp(z / 2)),
    lambda z: mg.exp(z)[None][0] / (mg.exp(z)[None] + mg.exp(0 * z)[None])[0],
    lambda z: (1 / (1 + mg.exp(-z[None])))[0],
    lambda z: 1 / (1 + mg.exp(-1.0 * (z * 1.0))),
]
LIMITED: list[Way] = [
    lambda z: mg.log(mg.clip(mg.softmax(z), EPSILON, 1)),
    lambda z: mg.log(mg.clip(mg.softmax(z), EPSILON, 1.0)[:, None])[:, 0],
    lambda z: mg.log(mg.maximum(mg.softmax(z), EPSILON)),
    lambda z: mg.log(mg.maximum(EPSILON, mg.softmax(z)).T).T,
    lambda z: mg.log(mg.maximum(mg.minimum(mg.softmax(z), 1), EPSILON)),
    lambda z: mg.log(mg.where(mg.softmax(z) < EPSILON, EPSILON, mg.softmax(z))),
    lambda z: mg.log2(mg.clip(mg.softmax(z), EPSILON, 1)) * np.log(2),
    lambda z: mg.log(mg.clip(mg.exp(z) / mg.exp(z).sum(1, keepdims=True), EPSILON, 1)),
]

S = log_softmax(LOGITS)
W = np.array([[1.0, -2, 3], [0.5, 2, 1], [1, 1, -4], [2, 1, 3]])
"""Weights of the elements of what is no vector, in the cost that is differentiated."""
P, FREE = np.exp(S), np.log(EPSILON) < S
KINDS: dict[str, tuple[list[Way], Array, Array, Array]] = {
    "log of a picked softmax": (CROSSENTROPIES, LOGITS, S[ROWS, TARGETS], ONE_HOT - P),
    "log of a sum of exp": (SUMS, LOGITS, LOGITS.max(1) - S.max(1), P),
    "softmax": (SOFTMAXES, LOGITS, P, P * (W - (P * W).sum(1, keepdims=True))),
    "log(1 + exp)": (SOFTPLUSES, POINTS, np.logaddexp(0, POINTS), logistic(POINTS)),
    "log of a sigmoid": (SIGMOIDS, POINTS, -np.logaddexp(0, -POINTS), logistic(-POINTS)),
    "sigmoid": (LOGISTICS, POINTS, logistic(POINTS), logistic(POINTS) * logistic(-POINTS)),
    "log of a limited softmax": (
        LIMITED,
        LOGITS,
        np.maximum(S, np.log(EPSILON)),
        W * FREE - P * (W * FREE).sum(1, keepdims=True),
    ),
}
"""Ways to write a quantity, where it is taken, its value there, and the gradient of the sum of it (times W)."""


def costs(ways: Sequence[Way], z: Variable, weights: Array) -> list[tuple[Variable, Variable]]:
    """Each way with its gradient."""
    values = [way(z) for way in ways]
    return [(value, mg.grad((value * weights).sum() if value.ndim == 2 else value.sum(), z)) for value in values]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@on_each
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_is_exact_and_so_is_its_gradient(kind: str, backend: str, dtype: str) -> None:
    ways, points, value, slope = KINDS[kind]
    z = mg.tensor("z", dtype=dtype, shape=(None,) * points.ndim)
    if kind == "log of a limited softmax":  # where a limit is met, no gradient flows, and it is met in either dtype
        z = mg.tensor("z", dtype=dtype, shape=points.shape)
    pairs = costs(ways, z, W.astype(dtype))
    results = iter(mg.function([z], [one for pair in pairs for one in pair], backend=backend)(points.astype(dtype)))
    margin = 3e-6 if dtype == "float32" else 1e-13
    for number, (ours, gradient) in enumerate(zip(results, results, strict=True)):
        np.testing.assert_allclose(ours, value, rtol=margin, atol=margin, err_msg=f"way {number}")
        np.testing.assert_allclose(gradient, slope, rtol=margin, atol=margin, err_msg=f"gradient of way {number}")


HARD = np.array([[np.inf, 0, 1], [-np.inf, 0, 1], [-np.inf, -np.inf, -np.inf], [np.nan, 0, 1]])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_infinite_or_nan_stays_so(kind: str) -> None:
    """At infinite points and NaN each way gives what its ops give one by one, NaN where these give NaN."""
    ways, points, _, _ = KINDS[kind]
    hard = HARD if points.ndim == 2 else np.array([np.inf, -np.inf, np.nan, 0, 1, 2, 3, 4, 5])
    z = mg.tensor("z", dtype="float64", shape=(None,) * points.ndim)
    values = [way(z) for way in ways]
    plain = compute_plainly(values, {z: hard})
    for number, (ours, theirs) in enumerate(zip(mg.function([z], values)(hard), plain, strict=True)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12, err_msg=f"way {number}")


def test_what_a_gradient_is_taken_by_stays_what_it_is() -> None:
    z = mg.vector("z", dtype="float64")
    p = mg.softmax(z)
    cost = -mg.log(p[1])
    by_p, by_z = mg.grad(cost, p), mg.grad(cost, z, consider_constant=[])
    f = mg.function([z], [by_p, by_z])
    given = np.array([0.5, 1, -1])
    exact = np.exp(given) / np.exp(given).sum()
    np.testing.assert_allclose(f(given)[0], [0, -1 / exact[1], 0], rtol=1e-12)
    np.testing.assert_allclose(f(given)[1], exact - [0, 1, 0], rtol=1e-12)
    assert not mg.grad(cost, z, consider_constant=[p], disconnected_inputs="ignore").eval({z: given}).any()


def test_gradients_of_any_order_are_stable() -> None:
    z = mg.tensor("z", dtype="float64", shape=(3,))
    exact = np.array([[0.25, -0.25, 0], [-0.25, 0.25, 0], [0, 0, 0]])
    for cost in (mg.log(mg.exp(z).sum()), mg.log(mg.exp(z).mean()), -mg.log(mg.take(mg.exp(z) / mg.exp(z).sum(), 2))):
        np.testing.assert_allclose(mg.hessian(cost, z).eval({z: [1000.0, 1000, -1000]}), exact)


def test_weights_of_any_sign_are_differentiated_too() -> None:
    z, w = mg.tensor("z", dtype="float64", shape=(3,)), mg.tensor("w", dtype="float64", shape=(3,))
    mg.testing.verify_grad(lambda z, w: mg.log((mg.softmax(z) * w).sum()), [[0.5, 1, -1], [2.0, 3, -0.5]], order=2)
    cost = mg.log((mg.softmax(z) * w).sum())
    f = mg.function([z, w], [cost, *mg.grad(cost, [z, w])])
    value, by_z, by_w = f([0, 2, 1], [0, 0.5, 0])
    p = np.exp([0, 2, 1]) / np.exp([0, 2, 1]).sum()
    np.testing.assert_allclose(value, np.log(p[1] / 2))
    np.testing.assert_allclose(by_z, [0, 1, 0] - p, atol=1e-12)
    np.testing.assert_allclose(by_w, p / (p[1] / 2))
    assert np.isnan(f([0, 2, 1], [0, -0.5, 0])[0])
    assert f([0, 2, 1], [0, 0, 0])[0] == -np.inf


def test_updates_that_are_asked_for_are_asked_for_once() -> None:
    """What an update is computed from is not computed in a second form for the sake of a gradient."""
    z, seen = mg.vector("z", dtype="float64"), mg.shared(np.zeros(()))
    p = mg.exp(z) / mg.exp(z).sum()
    followed = mg.with_default_update(p, {seen: seen + p[0]})
    f = mg.function([z], [followed, mg.grad(-mg.log(followed[1]), z)])
    np.testing.assert_allclose(f([0.0, 0])[1], [0.5, -0.5])
    assert seen.get_value() == 0.5


def test_long_sums_and_diamonds_take_no_time() -> None:
    x = mg.vector("x", dtype="float64")
    y = mg.exp(x)
    for _ in range(40):
        y = y + y
    np.testing.assert_allclose(mg.log(y).eval({x: [1000.0]}), [1000 + 40 * np.log(2)])
    total = mg.exp(x)
    for _ in range(300):
        total = total + x
    assert np.isfinite(mg.log(total).eval({x: [1.0]})).all()
