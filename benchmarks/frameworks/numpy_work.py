"""Plain NumPy, written by hand: op by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from frameworks import work


def _forward(h: np.ndarray, parameters: list[Any]) -> tuple[np.ndarray, list[Any]]:
    """The logits, and what the backward pass needs."""
    saved = []
    for matrix, scale, shift in parameters[:-1]:
        z = h @ matrix
        mean = z.mean(0)
        centered = z - mean
        stdev = np.sqrt((centered**2).mean(0) + work.EPSILON)
        normal = centered / stdev
        out = np.maximum(normal * scale + shift, 0)
        saved.append((h, normal, stdev, out, mean))
        h = out
    matrix, bias = parameters[-1]
    return h @ matrix + bias, [*saved, (h,)]


def mlp_step(sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
    """A training step of an MLP with batch normalization."""
    inputs, classes = work.batch(sizes, count)
    ws = work.weights(sizes)
    ones = [np.ones(b, "float32") for b in sizes[1:-1]]
    parameters: list[Any] = [(w, one, one * 0) for w, one in zip(ws[:-1], ones, strict=True)]
    parameters.append((ws[-1], np.zeros(sizes[-1], "float32")))
    flat = [one for group in parameters for one in group]
    first, second = [np.zeros_like(one) for one in flat], [np.zeros_like(one) for one in flat]
    averages = [[one * 0, one.copy()] for one in ones]
    rows, calls = np.arange(count), [0]

    def step() -> float:
        logits, saved = _forward(inputs, parameters)
        shifted = logits - logits.max(1, keepdims=True)
        exponential = np.exp(shifted)
        total = exponential.sum(1, keepdims=True)
        loss = (np.log(total[:, 0]) - shifted[rows, classes]).mean()
        dz = exponential / total
        dz[rows, classes] -= 1
        dz /= count
        (h,) = saved[-1]
        gradients = [h.T @ dz, dz.sum(0)]
        dh = dz @ parameters[-1][0].T
        for k in range(len(parameters) - 2, -1, -1):
            h, normal, stdev, out, mean = saved[k]
            matrix, scale, _ = parameters[k]
            dn = dh * (out > 0)
            gradients = [(dn * normal).sum(0), dn.sum(0), *gradients]
            dn = dn * scale
            dz = (dn - dn.mean(0) - normal * (dn * normal).mean(0)) / stdev
            gradients = [h.T @ dz, *gradients]
            dh = dz @ matrix.T if k else dh
            averages[k][0] *= 1 - work.AVERAGING
            averages[k][0] += work.AVERAGING * mean
            averages[k][1] *= 1 - work.AVERAGING
            averages[k][1] += work.AVERAGING * stdev
        calls[0] += 1
        for p, g, m, v in zip(flat, gradients, first, second, strict=True):
            if optimizer == "adam":
                m[...] = work.BETA1 * m + (1 - work.BETA1) * g
                v[...] = work.BETA2 * v + (1 - work.BETA2) * g * g
                corrected = np.float32(work.ADAM_RATE * np.sqrt(1 - work.BETA2 ** calls[0]) / (1 - work.BETA1 ** calls[0]))
                p -= corrected * m / (np.sqrt(v) + np.float32(work.ADAM_EPSILON))
            else:
                m[...] = np.float32(work.MOMENTUM) * m - np.float32(work.RATE) * g
                p += m
        return float(loss)

    return step


def mlp_inference(sizes: tuple[int, ...], count: int) -> Callable[[], Any]:
    """The logits of the same network, with population statistics."""
    inputs, _ = work.batch(sizes, count)
    ws = work.weights(sizes)
    ones = [np.ones(b, "float32") for b in sizes[1:-1]]
    bias = np.zeros(sizes[-1], "float32")

    def run() -> np.ndarray:
        h = inputs
        for w, one in zip(ws[:-1], ones, strict=True):
            h = np.maximum((h @ w - 0 * one) / one * one + 0 * one, 0)
        return h @ ws[-1] + bias

    return run


def micro(name: str, elements: int) -> Callable[[], Any]:
    """One kernel over so many elements."""
    if name == "adam":
        p, g, m, v = work.vectors(elements)

        def adam() -> None:
            m[...] = work.BETA1 * m + (1 - work.BETA1) * g
            v[...] = work.BETA2 * v + (1 - work.BETA2) * g * g
            p[...] = p - np.float32(work.ADAM_RATE) * m / (np.sqrt(v) + np.float32(work.ADAM_EPSILON))

        return adam
    x = work.rows(elements)

    def layer_norm() -> np.ndarray:
        centered = x - x.mean(1, keepdims=True)
        return centered / np.sqrt((centered**2).mean(1, keepdims=True) + np.float32(1e-5))

    def softmax() -> np.ndarray:
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    def gelu() -> np.ndarray:
        return 0.5 * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x * x * x)))

    return {"layer_norm": layer_norm, "softmax": softmax, "gelu": gelu}[name]
