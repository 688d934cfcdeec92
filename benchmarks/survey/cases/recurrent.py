"""Recurrent networks, and other loops."""

from __future__ import annotations

from typing import Any

from survey.case import Case, Draw, integers, normal, of_product, together, uniform, weights, without, zeros

FAMILY = "recurrent"
GATES = {"LSTM": 4, "GRU": 3}
SIZES = ((64, 64, 32, 128), (64, 8, 32, 128), (256, 1, 64, 64), (32, 256, 64, 64), (512, 16, 1, 32))
"""Time, batch, inputs and states."""


def _cell(xp: Any, kind: str, size: int, x: Any, w: Any, u: Any, b: Any, first: Any) -> Any:
    """The states of a network."""
    return xp.lstm(x, w, u, b, first, size) if kind == "LSTM" else xp.gru(x, w, u, b, first, size)


def _data(time: int, batch: int, inputs: int, size: int, gates: int) -> Draw:
    """Sequences, first states and classes, and the parameters of a network and of a linear layer."""
    width = gates * size
    return together(
        normal((time, batch, inputs)), zeros((batch, size)), integers((batch,), below=10), weights((inputs, width)),
        weights((size, width)), zeros((width,)), weights((size, 10)),
    )  # fmt: skip


def _cases(kind: str, time: int, batch: int, inputs: int, size: int) -> list[Case]:
    """Training and inference of one network."""

    def cost(xp: Any, x: Any, first: Any, classes: Any, w: Any, u: Any, b: Any, out: Any) -> Any:
        return xp.crossentropy(_cell(xp, kind, size, x, w, u, b, first)[-1] @ out, classes)

    def logits(xp: Any, x: Any, first: Any, w: Any, u: Any, b: Any, out: Any) -> Any:
        return _cell(xp, kind, size, x, w, u, b, first)[-1] @ out

    gates = GATES[kind]
    where = f"{kind} of {size}, {time} steps of {batch}x{inputs}"
    flops = time * of_product(batch, inputs + size, gates * size)
    forward = _data(time, batch, inputs, size, gates)
    return [
        Case(f"{where}, training", FAMILY, forward, cost, 3 * flops, parameters=(3, 4, 5, 6), trains=True),
        Case(f"{where}, inference", FAMILY, without(2, forward), logits, flops, parameters=(2, 3, 4, 5)),
    ]  # fmt: skip


def _both_ways(xp: Any, x: Any, first: Any, w1: Any, u1: Any, b1: Any, w2: Any, u2: Any, b2: Any) -> Any:
    """The cost of an LSTM that reads forwards and one that reads backwards."""
    forwards = xp.lstm(x, w1, u1, b1, first, 100)
    backwards = xp.lstm(xp.flip(x, 0), w2, u2, b2, first, 100)
    return xp.mean(xp.square(xp.concatenate([forwards, xp.flip(backwards, 0)], axis=2)))


def _normalized(xp: Any, x: Any, first: Any, w: Any, u: Any, b: Any, scale: Any) -> Any:
    """The cost of an LSTM whose recurrent products are normalized at every step."""

    def step(row: Any, h: Any, c: Any) -> tuple[Any, Any]:
        product = h @ u
        centered = product - xp.mean(product, axis=0, keepdims=True)
        deviation = xp.sqrt(xp.mean(xp.square(centered), axis=0, keepdims=True) + 1e-4)
        z = row + centered / deviation * scale
        i, f, g, o = (z[:, k * 64 : (k + 1) * 64] for k in range(4))
        c = xp.sigmoid(f) * c + xp.sigmoid(i) * xp.tanh(g)
        return xp.sigmoid(o) * xp.tanh(c), c

    return xp.mean(xp.square(xp.scan(step, [x @ w + b], [first, first])[0]))


def _autoregression(xp: Any, noise: Any, first: Any, second: Any) -> Any:
    """A second-order recursion over numbers."""
    return xp.scan(lambda e, y, before: (0.6 * y - 0.3 * before + e, y), [noise], [first, second])[0]


def _likelihood(xp: Any, y: Any, a: Any, first: Any) -> Any:
    """The squared errors of a recursion with an unknown coefficient."""

    def step(value: Any, error: Any) -> tuple[Any]:
        return (value - a * xp.tanh(error),)

    return xp.mean(xp.square(xp.scan(step, [y], [first])[0]))


def _plain(xp: Any, x: Any, first: Any, u: Any) -> Any:
    """A network of one product a step."""
    return xp.scan(lambda row, h: (xp.tanh(row + h @ u),), [x], [first])[0][-1]


def _tiny(batch: int, size: int) -> Case:
    """A thousand steps of a small network."""
    name = f"tiny steps: 1000 of tanh(x + h @ u), {batch}x{size}"
    draw = together(normal((1000, batch, size)), zeros((batch, size)), weights((size, size)))
    return Case(name, FAMILY, draw, _plain, 1000 * of_product(batch, size, size), parameters=(2,))


SCALAR = {"torch": "a loop in Python over thousands of numbers", "numpy": "a loop in Python over thousands of numbers"}

CASES = [
    *(case for kind in GATES for sizes in SIZES for case in _cases(kind, *sizes)),
    Case(
        "bidirectional LSTM of 100, 32 steps of 32x64, training", FAMILY,
        together(normal((32, 32, 64)), zeros((32, 100)), *[weights((64, 400)), weights((100, 400)), zeros((400,))] * 2),
        _both_ways, 6 * 32 * of_product(32, 164, 400), parameters=tuple(range(2, 8)), trains=True,
    ),
    Case(
        "normalized LSTM of 64, 64 steps of 32x64, training", FAMILY,
        together(normal((64, 32, 64)), zeros((32, 64)), weights((64, 256), (64, 256)), zeros((256,)), weights((256,))),
        _normalized, 3 * 64 * of_product(32, 128, 256), parameters=(2, 3, 4, 5), trains=True,
    ),
    Case(
        "autoregression, 10000 steps of a number", FAMILY, normal((10**4,), (), (), dtype="float64"), _autoregression, 4e4,
        spared=SCALAR, asks=("pytensor",),
    ),
    Case(
        "likelihood of a recursion, 10000 steps, gradient", FAMILY,
        together(normal((10**4,), dtype="float64"), uniform((), (), low=0.3, high=0.5, dtype="float64")),
        _likelihood, 1e5, gradients_of=(1,), spared=SCALAR,
    ),
    *(_tiny(batch, size) for batch, size in ((4, 8), (1, 16))),
    Case(
        "running maximum, 1000 steps of 64", FAMILY, normal((1000, 64), (64,)),
        lambda xp, x, first: xp.scan(lambda row, top: (xp.maximum(top * 0.99, row),), [x], [first])[0], 1.3e5,
    ),
]  # fmt: skip
