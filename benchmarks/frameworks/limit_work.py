"""The limit: loops written by hand for this one network and compiled by numba, matrix products into memory that is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from frameworks import work

compiled = numba.njit(fastmath={"reassoc", "contract", "nsz", "arcp"}, boundscheck=False)


@compiled
def normalize(z: Any, scale: Any, shift: Any, out: Any, normal: Any, inverse: Any, mean: Any, stdev: Any) -> None:
    """Statistics, normalization, ReLU and moving averages of one layer."""
    rows, columns = z.shape
    total, square = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
    for i in range(rows):
        for j in range(columns):
            total[j] += z[i, j]
    for j in range(columns):
        total[j] /= rows
    for i in range(rows):
        for j in range(columns):
            d = z[i, j] - total[j]
            square[j] += d * d
    for j in range(columns):
        s = np.sqrt(square[j] / rows + np.float32(1e-4))
        inverse[j] = 1 / s
        mean[j] += np.float32(0.1) * (total[j] - mean[j])
        stdev[j] += np.float32(0.1) * (s - stdev[j])
    for i in range(rows):
        for j in range(columns):
            normal[i, j] = (z[i, j] - total[j]) * inverse[j]
            out[i, j] = max(normal[i, j] * scale[j] + shift[j], np.float32(0))


@compiled
def normalize_backward(dh: Any, out: Any, normal: Any, inverse: Any, scale: Any, dscale: Any, dshift: Any, dz: Any) -> None:
    """The gradient of `normalize`."""
    rows, columns = dh.shape
    for j in range(columns):
        dscale[j] = 0
        dshift[j] = 0
    for i in range(rows):
        for j in range(columns):
            d = dh[i, j] if out[i, j] > 0 else np.float32(0)
            dshift[j] += d
            dscale[j] += d * normal[i, j]
    for i in range(rows):
        for j in range(columns):
            d = dh[i, j] if out[i, j] > 0 else np.float32(0)
            dz[i, j] = scale[j] * inverse[j] * (d - (dshift[j] + normal[i, j] * dscale[j]) / rows)


@compiled
def crossentropy(logits: Any, bias: Any, classes: Any, dz: Any, dbias: Any) -> float:
    """The mean loss, and the gradients of the logits and the bias."""
    rows, columns = logits.shape
    loss = 0.0
    for j in range(columns):
        dbias[j] = 0
    for i in range(rows):
        top = np.float32(-1e30)
        for j in range(columns):
            dz[i, j] = logits[i, j] + bias[j]
            top = max(top, dz[i, j])
        own = dz[i, classes[i]]
        total = np.float32(0)
        for j in range(columns):
            dz[i, j] = np.exp(dz[i, j] - top)
            total += dz[i, j]
        loss += np.log(total) + top - own
        for j in range(columns):
            dz[i, j] = (dz[i, j] / total - (1 if j == classes[i] else 0)) / rows
            dbias[j] += dz[i, j]
    return loss / rows


@compiled
def momentum(p: Any, v: Any, g: Any) -> None:
    """One step of SGD with momentum."""
    for i in range(p.size):
        v[i] = np.float32(0.9) * v[i] - np.float32(1e-6) * g[i]
        p[i] += v[i]


@compiled
def adam(p: Any, m: Any, v: Any, g: Any, rate: Any) -> None:
    """One step of Adam."""
    for i in range(p.size):
        m[i] = np.float32(0.9) * m[i] + np.float32(0.1) * g[i]
        v[i] = np.float32(0.999) * v[i] + np.float32(0.001) * g[i] * g[i]
        p[i] -= rate * m[i] / (np.sqrt(v[i]) + np.float32(1e-8))


def mlp_step(sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
    """A training step of an MLP with batch normalization."""
    x, classes = work.batch(sizes, count)
    ws = work.weights(sizes)
    hidden = sizes[1:-1]
    scales, shifts = [np.ones(b, "float32") for b in hidden], [np.zeros(b, "float32") for b in hidden]
    bias = np.zeros(sizes[-1], "float32")
    means, stdevs = [np.zeros(b, "float32") for b in hidden], [np.ones(b, "float32") for b in hidden]
    inverses = [np.ones(b, "float32") for b in hidden]
    z, out, normal, dz, dh = ([np.zeros((count, b), "float32") for b in sizes[1:]] for _ in range(5))
    flat = [*ws, *scales, *shifts, bias]
    gradients, first, second = ([np.zeros_like(one) for one in flat] for _ in range(3))
    dws, rest = gradients[: len(ws)], gradients[len(ws) :]
    dscales, dshifts, dbias = rest[: len(hidden)], rest[len(hidden) : -1], rest[-1]
    calls = [0]

    def step() -> float:
        h = x
        for k in range(len(hidden)):
            np.matmul(h, ws[k], out=z[k])
            normalize(z[k], scales[k], shifts[k], out[k], normal[k], inverses[k], means[k], stdevs[k])
            h = out[k]
        np.matmul(h, ws[-1], out=z[-1])
        loss = crossentropy(z[-1], bias, classes, dz[-1], dbias)
        for k in range(len(ws) - 1, -1, -1):
            np.matmul((out[k - 1] if k else x).T, dz[k], out=dws[k])
            if k:
                np.matmul(dz[k], ws[k].T, out=dh[k - 1])
                normalize_backward(
                    dh[k - 1],
                    out[k - 1],
                    normal[k - 1],
                    inverses[k - 1],
                    scales[k - 1],
                    dscales[k - 1],
                    dshifts[k - 1],
                    dz[k - 1],
                )
        calls[0] += 1
        rate = np.float32(work.ADAM_RATE * np.sqrt(1 - work.BETA2 ** calls[0]) / (1 - work.BETA1 ** calls[0]))
        for p, g, m, v in zip(flat, gradients, first, second, strict=True):
            if optimizer == "adam":
                adam(p.ravel(), m.ravel(), v.ravel(), g.ravel(), rate)
            else:
                momentum(p.ravel(), m.ravel(), g.ravel())
        return loss

    return step
