"""Small calls, first calls, and calls with arrays of new sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from survey.case import Case, Way, normal, together, weights, zeros
from survey.cases import convolution, growth, recurrent, transformers

SMALL, FIRST, SHAPES = "small calls", "first calls", "new shapes"
PYTENSOR = ("pytensor",)


def _several(xp: Any, x: Any, y: Any) -> Any:
    """Five results of small vectors."""
    return x + y, x * y, xp.exp(x), xp.sum(y), xp.maximum(x, y)


def _descended(xp: Any, x: Any, y: Any, w: Any, rate: Any) -> Any:
    """A step of linear regression at a rate that is a number."""
    return w - rate * (x.T @ (x @ w - y))


def _turned(rng: np.random.Generator) -> list[Any]:
    """A matrix whose columns are contiguous."""
    return [np.asfortranarray(rng.normal(size=(8, 8)).astype("float32"))]


def _small(name: str, draw: Any, expression: Any, **options: Any) -> Case:
    """A call that takes as long as handing over its arguments."""
    return Case(name, SMALL, draw, expression, **options)


def _square(xp: Any, x: Any) -> Any:
    """A product and a sum."""
    return x * x + 1.0


def _scaled(xp: Any, x: Any, factor: Any) -> Any:
    """A product with a number."""
    return x * factor + 1.0


def _again(source: Case, **options: Any) -> Case:
    """The first call of a case of another family."""
    return Case(
        f"first call: {source.name}", FIRST, source.draw, source.expression, source.flops, parameters=source.parameters,
        trains=source.trains, images=source.images, way=Way.FIRST, **options,
    )  # fmt: skip


def _named(cases: list[Case], name: str) -> Case:
    """The case of some name."""
    return next(case for case in cases if case.name == name)


def _growing(name: str, base: int, expression: Any, fixed: Any, shape: tuple[int, ...], **options: Any) -> Case:
    """Calls whose batches are each larger than the last one."""

    def sizes(rng: np.random.Generator, call: int) -> list[Any]:
        rows = rng.normal(size=(base + call, *shape)).astype("float32")
        return [rows, *fixed(np.random.default_rng(0), base + call)]

    return Case(f"new sizes: {name}", SHAPES, lambda rng: sizes(rng, 0), expression, way=Way.SHAPES, sizes=sizes, **options)


NETWORK = growth.network(64, 3)


def _classes(rng: np.random.Generator, count: int) -> list[Any]:
    """Classes of a batch, and the parameters of a network."""
    return [rng.integers(0, 10, count).astype("int32"), *NETWORK(rng)]


CASES = [
    _small("x * x + 1 of a number in an array", normal(()), _square, asks=PYTENSOR),
    _small("10 numbers times a Python float", lambda rng: [*normal((10,))(rng), 1.5], _scaled, asks=PYTENSOR),
    _small("10 numbers times a NumPy number", lambda rng: [*normal((10,))(rng), np.float32(1.5)], _scaled),
    _small("x + y of 10", normal((10,), (10,)), lambda xp, x, y: x + y, asks=PYTENSOR),
    _small("sum of 100", normal((100,)), lambda xp, x: xp.sum(x)),
    _small("tanh of 1000", normal((1000,)), lambda xp, x: xp.tanh(x), asks=PYTENSOR),
    _small("product of 8x8", normal((8, 8), (8, 8)), lambda xp, x, y: x @ y, asks=PYTENSOR),
    _small("product of 32x32", normal((32, 32), (32, 32)), lambda xp, x, y: x @ y),
    _small("columns first 8x8, times 2", _turned, lambda xp, x: x * 2.0),
    _small("five results of 10", normal((10,), (10,)), _several),
    _small("gradient of 10", normal((10,)), lambda xp, x: xp.sum(xp.tanh(x)), gradients_of=(0,)),
    _small(
        "regression 32x8 at a rate that is a Python float",
        lambda rng: [*normal((32, 8), (32,), (8,))(rng), 0.01], _descended, asks=PYTENSOR,
    ),
    _small("softmax of 10", normal((1, 10)), lambda xp, x: xp.softmax(x)),
    growth.training(8, 16, 2, name="MLP, batch 8, width 16, depth 2, training", family=SMALL, asks=PYTENSOR),
    _small(
        "MLP of one row, 16-16-10", together(normal((1, 16)), weights((16, 16)), zeros((16,)), weights((16, 10)), zeros((10,))),
        growth.logits, parameters=(1, 2, 3, 4),
    ),
    _again(_named(growth.CASES, "MLP, batch 128, width 256, depth 3, training")),
    _again(_named(convolution.CASES, "residual network 16x3x32x32, training")),
    _again(_named(recurrent.CASES, "LSTM of 128, 64 steps of 64x32, training")),
    _again(_named(transformers.CASES, "block of width 256, 8x64, training")),
    _again(_named(growth.CASES, "MLP, batch 1, width 256, depth 3, inference")),
    _growing("tanh of rows of 100", 200, lambda xp, x: xp.tanh(x) * 2.0, lambda rng, count: [], (100,)),
    _growing("softmax of rows of 100", 200, lambda xp, x: xp.softmax(x), lambda rng, count: [], (100,)),
    _growing("MLP of width 64, training", 64, growth.cost, _classes, (64,), parameters=tuple(range(2, 10)), trains=True),
    _growing(
        "MLP of width 64, inference", 64, growth.logits, lambda rng, count: NETWORK(rng), (64,), parameters=tuple(range(1, 9))
    ),
    _growing(
        "convolution 3x3 of 16x16x16", 4, lambda xp, x, w: xp.conv2d(x, w, 1, 1),
        lambda rng, count: weights((16, 16, 3, 3))(rng), (16, 16, 16), parameters=(1,), images=True,
    ),
    _growing(
        "scan of 32 states", 20, lambda xp, x, u: xp.scan(lambda row, h: (xp.tanh(row + h @ u),), [x], [x[0]])[0],
        lambda rng, count: weights((32, 32))(rng), (4, 32), parameters=(1,),
    ),
]  # fmt: skip
