"""Sums, means, greatest elements and their places, over every axis of several shapes; and normalizations along axes."""

from __future__ import annotations

from collections.abc import Iterator

from survey.case import Case, normal, shown

FAMILY = "folds"
SHAPES = (
    (10**6,), (10**7,), (1000, 1000), (10**6, 3), (3, 10**6), (100, 100, 100), (64, 3, 112, 112), (32, 10**4), (10**4, 32),
    (4096, 256),
)  # fmt: skip


def _axes(shape: tuple[int, ...]) -> list[int | None]:
    """All axes, one after the other; None for the one axis of a vector."""
    return [None] if len(shape) == 1 else list(range(len(shape)))


def _folds() -> Iterator[Case]:
    """Four folds over every axis of every shape."""
    for shape in SHAPES:
        for axis in _axes(shape):
            where = shown(shape) + ("" if axis is None else f" over axis {axis}")
            draw = normal(shape)
            yield Case(f"sum of {where}", FAMILY, draw, lambda xp, x, axis=axis: xp.sum(x, axis=axis))
            yield Case(f"mean of {where}", FAMILY, draw, lambda xp, x, axis=axis: xp.mean(x, axis=axis))
            yield Case(f"max of {where}", FAMILY, draw, lambda xp, x, axis=axis: xp.max(x, axis=axis))
            yield Case(f"argmax of {where}", FAMILY, draw, lambda xp, x, axis=axis: xp.argmax(x, axis=axis))


CASES = [
    *_folds(),
    Case(
        "sum of 64x3x112x112 over all but channels", FAMILY, normal((64, 3, 112, 112)), lambda xp, x: xp.sum(x, axis=(0, 2, 3))
    ),
    Case("var of 1000x1000 over axis 0", FAMILY, normal((1000, 1000)), lambda xp, x: xp.var(x, axis=0)),
    Case("var of 1000x1000 over axis 1", FAMILY, normal((1000, 1000)), lambda xp, x: xp.var(x, axis=1)),
    Case("var of 1000000x3 over axis 1", FAMILY, normal((10**6, 3)), lambda xp, x: xp.var(x, axis=1)),
    Case("softmax of 1000x1000", FAMILY, normal((1000, 1000)), lambda xp, x: xp.softmax(x), asks=("torch compiled",)),
    Case("softmax of 1000000x3", FAMILY, normal((10**6, 3)), lambda xp, x: xp.softmax(x)),
    Case("logsumexp of 1000x1000", FAMILY, normal((1000, 1000)), lambda xp, x: xp.logsumexp(x)[:, 0]),
    Case("dot of two vectors of 1e6", FAMILY, normal((10**6,), (10**6,)), lambda xp, x, y: xp.sum(x * y), flops=2e6),
    Case("norm of 1e6", FAMILY, normal((10**6,)), lambda xp, x: xp.sqrt(xp.sum(xp.square(x))), flops=2e6),
]
