"""PyTensor, by its default compiler (numba)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from frameworks import work

pytensor.config.floatX = "float32"


def _shared(value: Any) -> Any:
    return pytensor.shared(np.asarray(value, "float32"))


def _parameters(sizes: tuple[int, ...]) -> list[Any]:
    ws = work.weights(sizes)
    hidden = [(_shared(w), _shared(np.ones(w.shape[1])), _shared(np.zeros(w.shape[1]))) for w in ws[:-1]]
    return [*hidden, (_shared(ws[-1]), _shared(np.zeros(sizes[-1])))]


def mlp_step(sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
    """A training step of an MLP with batch normalization."""
    inputs, classes = work.batch(sizes, count)
    x, t = pt.fmatrix("x"), pt.ivector("t")
    parameters = _parameters(sizes)
    h, updates = x, []
    for matrix, scale, shift in parameters[:-1]:
        z = h @ matrix
        mean = z.mean(0)
        stdev = pt.sqrt(pt.sqr(z - mean).mean(0) + np.float32(work.EPSILON))
        for new, start in ((mean, 0), (stdev, 1)):
            average = _shared(np.full(matrix.get_value().shape[1], start))
            updates.append((average, np.float32(1 - work.AVERAGING) * average + np.float32(work.AVERAGING) * new))
        h = pt.maximum((z - mean) / stdev * scale + shift, np.float32(0))
    matrix, bias = parameters[-1]
    logs = pt.special.log_softmax(h @ matrix + bias, axis=-1)
    cost = -logs[pt.arange(t.shape[0]), t].mean()
    flat = [one for group in parameters for one in group]
    calls = _shared(1)
    for p, g in zip(flat, pytensor.grad(cost, flat), strict=True):
        m = _shared(np.zeros_like(p.get_value()))
        if optimizer == "adam":
            v = _shared(np.zeros_like(p.get_value()))
            new_m = np.float32(work.BETA1) * m + np.float32(1 - work.BETA1) * g
            new_v = np.float32(work.BETA2) * v + np.float32(1 - work.BETA2) * g * g
            rate = (
                np.float32(work.ADAM_RATE)
                * pt.sqrt(1 - np.float32(work.BETA2) ** calls)
                / (1 - np.float32(work.BETA1) ** calls)
            )
            updates += [(m, new_m), (v, new_v), (p, p - rate * new_m / (pt.sqrt(new_v) + np.float32(work.ADAM_EPSILON)))]
        else:
            new_m = np.float32(work.MOMENTUM) * m - np.float32(work.RATE) * g
            updates += [(m, new_m), (p, p + new_m)]
    if optimizer == "adam":
        updates.append((calls, calls + 1))
    updates = [(target, pt.cast(new, "float32")) for target, new in updates]
    f = pytensor.function([x, t], cost, updates=updates)
    return lambda: float(f(inputs, classes))


def mlp_inference(sizes: tuple[int, ...], count: int) -> Callable[[], Any]:
    """The logits of the same network, with population statistics."""
    inputs, _ = work.batch(sizes, count)
    x = pt.fmatrix("x")
    h = x
    parameters = _parameters(sizes)
    for matrix, scale, shift in parameters[:-1]:
        width = matrix.get_value().shape[1]
        mean, stdev = _shared(np.zeros(width)), _shared(np.ones(width))
        h = pt.maximum((h @ matrix - mean) / stdev * scale + shift, np.float32(0))
    f = pytensor.function([x], h @ parameters[-1][0] + parameters[-1][1])
    return lambda: f(inputs)


def micro(name: str, elements: int) -> Callable[[], Any]:
    """One kernel over so many elements."""
    if name == "adam":
        p, g, m, v = (_shared(one) for one in work.vectors(elements))
        new_m = np.float32(work.BETA1) * m + np.float32(1 - work.BETA1) * g
        new_v = np.float32(work.BETA2) * v + np.float32(1 - work.BETA2) * g * g
        new_p = p - np.float32(work.ADAM_RATE) * new_m / (pt.sqrt(new_v) + np.float32(work.ADAM_EPSILON))
        return pytensor.function([], [], updates=[(p, new_p), (m, new_m), (v, new_v)])
    x = pt.fmatrix("x")
    centered = x - x.mean(-1, keepdims=True)
    results = {
        "layer_norm": centered / pt.sqrt(pt.sqr(centered).mean(-1, keepdims=True) + np.float32(1e-5)),
        "softmax": pt.special.softmax(x, axis=-1),
        "gelu": x * np.float32(0.5) * (1 + pt.erf(x / np.float32(np.sqrt(2)))),
    }
    f = pytensor.function([x], results[name])
    data = work.rows(elements)
    return lambda: f(data)
