"""Factors, solutions and determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

from survey.case import Case, Draw

FAMILY = "linear algebra"
SIDE = 300


def definite(side: int, *others: tuple[int, ...], stack: tuple[int, ...] = ()) -> Draw:
    """A positive definite matrix or a stack of them, and normal numbers, all in float64."""

    def draw(rng: np.random.Generator) -> list[Any]:
        x = rng.normal(size=(*stack, side, side))
        return [x @ np.swapaxes(x, -1, -2) / side + np.eye(side), *(rng.normal(size=shape) for shape in others)]

    return draw


def _factor(xp: Any, a: Any) -> Any:
    """The lower factor, with a gradient that is symmetric whatever halves of a matrix a framework reads."""
    return xp.cholesky(0.5 * (a + a.T))


def _log_determinant(xp: Any, a: Any) -> Any:
    """The logarithm of the determinant, by the factor."""
    return 2.0 * xp.sum(xp.log(xp.diag(_factor(xp, a))))


def _quadratic(xp: Any, a: Any, b: Any) -> Any:
    """b by the inverse of a by b."""
    return xp.sum(xp.square(xp.solve_lower(_factor(xp, a), b)))


CUBED = float(SIDE**3)

CASES = [
    Case("cholesky of 300", FAMILY, definite(SIDE), lambda xp, a: xp.cholesky(a), CUBED / 3),
    Case("logarithm of a determinant of 300, gradient", FAMILY, definite(SIDE), _log_determinant, CUBED, gradients_of=(0,)),
    Case(
        "quadratic form of 300 by cholesky, gradients", FAMILY, definite(SIDE, (SIDE, 10)), _quadratic, CUBED,
        gradients_of=(0, 1),
    ),
    Case("solution of 300x10", FAMILY, definite(SIDE, (SIDE, 10)), lambda xp, a, b: xp.solve(a, b), 2 / 3 * CUBED),
    Case(
        "triangular solution of 300x300", FAMILY, definite(SIDE, (SIDE, SIDE)),
        lambda xp, a, b: xp.solve_lower(xp.tril(a), b), CUBED,
    ),
    Case("inverse of 300", FAMILY, definite(SIDE), lambda xp, a: xp.linalg.inv(a), 2 * CUBED),
    Case("determinant of 300", FAMILY, definite(SIDE), lambda xp, a: xp.linalg.slogdet(a)[1], 2 / 3 * CUBED),
    Case("eigenvalues of a symmetric 100", FAMILY, definite(100), lambda xp, a: xp.linalg.eigh(a)[0], 4 / 3 * 1e6),
    Case(
        "1000 solutions of 6x6", FAMILY, definite(6, (1000, 6, 1), stack=(1000,)), lambda xp, a, b: xp.solve(a, b), 1.44e5
    ),
    Case("1000 cholesky factors of 8x8", FAMILY, definite(8, stack=(1000,)), lambda xp, a: xp.cholesky(a), 1000 * 171.0),
]  # fmt: skip
