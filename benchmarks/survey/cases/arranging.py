"""Transposed, moved, chosen and sorted elements."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from survey.case import Case, Draw, integers, normal, shown, together

FAMILY = "arranging"
ORDERS = {
    (2000, 2000): (1, 0), (64, 64, 16, 16): (0, 2, 3, 1), (64, 16, 16, 64): (0, 3, 1, 2), (32, 128, 8, 64): (0, 2, 1, 3),
    (8, 16, 16, 16, 16): (4, 2, 0, 3, 1), (100, 100, 100): (2, 1, 0), (10**5, 8): (1, 0), (8, 10**5): (1, 0),
}  # fmt: skip
SORTED = ((10**5,), (1000, 1000), (10**5, 8))


def _transposes() -> list[Case]:
    """Copies of arrays with their axes in another order."""
    return [
        Case(
            f"transpose of {shown(shape)} to {shown(order)}, times 2", FAMILY, normal(shape),
            lambda xp, x, order=order: xp.transpose(x, order) * 2.0,
        )
        for shape, order in ORDERS.items()
    ]  # fmt: skip


def _distinct(shape: tuple[int, ...]) -> Draw:
    """Numbers of which no two are equal, so that there is one order."""
    return lambda rng: [rng.permutation(prod(shape)).reshape(shape).astype("float32")]


def _sorts() -> list[Case]:
    """Sorts, places in order and running sums along the last axis."""
    kinds = {
        "sort": lambda xp, x: xp.sort(x, axis=-1), "argsort": lambda xp, x: xp.argsort(x, axis=-1),
        "cumsum": lambda xp, x: xp.cumsum(x, axis=x.ndim - 1),
    }  # fmt: skip
    return [
        Case(f"{name} of {shown(shape)}", FAMILY, _distinct(shape), expression)
        for name, expression in kinds.items()
        for shape in SORTED
    ]


def _rows(rng: np.random.Generator) -> list[Any]:
    """A matrix, and which of its rows."""
    return [rng.normal(size=(10**5, 64)).astype("float32"), rng.integers(0, 10**5, 10**5).astype("int32")]


CASES = [
    *_transposes(),
    *_sorts(),
    Case("cumsum of 1000x1000 over axis 0", FAMILY, normal((1000, 1000)), lambda xp, x: xp.cumsum(x, axis=0)),
    Case(
        "cumsum of 1000x1000, gradient", FAMILY, normal((1000, 1000)),
        lambda xp, x: xp.mean(xp.square(xp.cumsum(x, axis=1))), gradients_of=(0,),
    ),
    Case("top 10 of 1000x1000", FAMILY, normal((1000, 1000)), lambda xp, x: xp.top_k(x, 10)),
    Case("matrix plus its transpose 2000x2000", FAMILY, normal((2000, 2000)), lambda xp, x: x + x.T),
    Case(
        "concatenation of 3 of 1000x500", FAMILY, normal((1000, 500), (1000, 500), (1000, 500)),
        lambda xp, *parts: xp.concatenate(parts, axis=1),
    ),
    Case("rows in random order 100000x64", FAMILY, _rows, lambda xp, x, places: xp.take(x, places, axis=0)),
    Case(
        "elements by place: 1e5 of 1e6, gradient", FAMILY, together(normal((10**5,)), integers((10**6,), below=10**5)),
        lambda xp, x, places: xp.mean(xp.square(xp.take(x, places, axis=0))), gradients_of=(0,),
    ),
    Case("roll of 2000x2000", FAMILY, normal((2000, 2000)), lambda xp, x: xp.roll(x, 7, 1)),
    Case("flip of 2000x2000", FAMILY, normal((2000, 2000)), lambda xp, x: xp.flip(x, 1) * 2.0),
    Case("every second column of 2000x2000", FAMILY, normal((2000, 2000)), lambda xp, x: x[:, ::2] * 2.0),
    Case("zeros around 2000x2000", FAMILY, normal((2000, 2000)), lambda xp, x: xp.pad(x, 1)),
    Case("outer product 2000", FAMILY, normal((2000,), (2000,)), lambda xp, x, y: x[:, None] * y[None, :]),
]  # fmt: skip
