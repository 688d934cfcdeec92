"""The functions that cases are written in, and the calls that a framework makes of a case."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from survey.case import Case

RATE, MOMENTUM = 1e-6, 0.9
"""The rate and the momentum of training steps, so slow that thousands of them leave the work the same."""


class UnsupportedError(Exception):
    """A framework cannot do a case, for the reason given."""


@dataclass(frozen=True)
class Made:
    """A case that a framework has prepared.

    call: what is timed, from native arguments to native results. native: the arguments of a call, from what was drawn.
    results: NumPy arrays from what `call` returned.
    """

    call: Callable[..., Any]
    native: Callable[[Sequence[Any]], list[Any]]
    results: Callable[[Any], list[np.ndarray]]


class Framework(ABC):
    """A framework, as the survey uses it."""

    @abstractmethod
    def make(self, case: Case, arguments: Sequence[Any]) -> Made:
        """Prepare a case for arguments like these."""


def inputs_of(case: Case, arguments: Sequence[Any]) -> list[Any]:
    """The arguments that are handed over at every call: all but the parameters."""
    return [one for k, one in enumerate(arguments) if k not in case.parameters]


class Namespace:
    """The functions that expressions are written in: those of a module that is like NumPy, and those here, made of them.

    A framework that has a function of its own for one of these puts it here.
    """

    def __init__(self, module: Any, channels_last: bool = False) -> None:
        """module: what offers NumPy's functions. channels_last: whether channels are the last axis of images."""
        self.module = module
        self.channels_last = channels_last

    def __getattr__(self, name: str) -> Any:
        """A function of the module."""
        return getattr(self.module, name)

    def astype(self, x: Any, dtype: str) -> Any:
        """x in another dtype."""
        return x.astype(dtype)

    def relu(self, x: Any) -> Any:
        """x where it is positive, else 0."""
        return self.maximum(x, 0.0)

    def sigmoid(self, x: Any) -> Any:
        """The logistic function."""
        return 1.0 / (1.0 + self.exp(-x))

    def softplus(self, x: Any) -> Any:
        """The logarithm of 1 + exp(x)."""
        return self.logaddexp(x, 0.0)

    def silu(self, x: Any) -> Any:
        """x times its logistic function."""
        return x * self.sigmoid(x)

    def gelu(self, x: Any) -> Any:
        """x times the normal distribution function of x."""
        return 0.5 * x * (1.0 + self.erf(x * 0.7071067811865476))

    def softmax(self, x: Any) -> Any:
        """Exponentials along the last axis, divided by their sum."""
        shifted = self.exp(x - self.max(x, axis=-1, keepdims=True))
        return shifted / self.sum(shifted, axis=-1, keepdims=True)

    def logsumexp(self, x: Any, axis: int = -1) -> Any:
        """The logarithm of the sum of exponentials along an axis, which stays with size 1."""
        top = self.max(x, axis=axis, keepdims=True)
        return self.log(self.sum(self.exp(x - top), axis=axis, keepdims=True)) + top

    def crossentropy(self, logits: Any, classes: Any) -> Any:
        """The mean of minus the logarithm of the softmax at the classes."""
        rows = np.arange(logits.shape[0])
        return self.mean(self.logsumexp(logits)[:, 0] - logits[rows, classes])

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        """x normalized along its last axis."""
        centered = x - self.mean(x, axis=-1, keepdims=True)
        variance = self.mean(self.square(centered), axis=-1, keepdims=True)
        return centered / self.sqrt(variance + 1e-5) * scale + shift

    def per_channel(self, x: Any) -> Any:
        """A vector with an element for each channel, so that it fits images."""
        return x if self.channels_last else x[:, None, None]

    def batch_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        """Images normalized by the statistics of their channels."""
        axes = (0, 1, 2) if self.channels_last else (0, 2, 3)
        centered = x - self.mean(x, axis=axes, keepdims=True)
        variance = self.mean(self.square(centered), axis=axes, keepdims=True)
        return centered / self.sqrt(variance + 1e-5) * self.per_channel(scale) + self.per_channel(shift)

    def global_pool(self, x: Any) -> Any:
        """The mean of every channel of images: (batch, channels)."""
        return self.mean(x, axis=(1, 2) if self.channels_last else (2, 3))

    def attention(self, q: Any, k: Any, v: Any, size: int, causal: Any = None) -> Any:
        """Attention of (batch, heads, time, size); scores get `causal` added: (time, time) with -1e9 after the present."""
        scores = (q @ self.swapaxes(k, -1, -2)) * float(size) ** -0.5
        return self.softmax(scores if causal is None else scores + causal) @ v

    def scan(self, step: Callable[..., tuple[Any, ...]], sequences: Sequence[Any], states: Sequence[Any]) -> list[Any]:
        """The states after each step, stacked: `step(*rows, *states)` returns the next ones."""
        kept = []
        for row in range(sequences[0].shape[0]):
            states = step(*(one[row] for one in sequences), *states)
            kept.append(states)
        return [self.stack(list(one)) for one in zip(*kept, strict=True)]

    def lstm(self, x: Any, w: Any, u: Any, b: Any, first: Any, size: int) -> Any:
        """The states of an LSTM of some size over x (time, batch, inputs), beginning with `first`."""

        def step(row: Any, h: Any, c: Any) -> tuple[Any, Any]:
            z = row + h @ u
            i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
            c = self.sigmoid(f) * c + self.sigmoid(i) * self.tanh(g)
            return self.sigmoid(o) * self.tanh(c), c

        return self.scan(step, [x @ w + b], [first, first])[0]

    def gru(self, x: Any, w: Any, u: Any, b: Any, first: Any, size: int) -> Any:
        """The states of a GRU of some size over x (time, batch, inputs), whose reset gate comes after the product."""

        def step(row: Any, h: Any) -> tuple[Any]:
            z = h @ u
            r = self.sigmoid(row[:, :size] + z[:, :size])
            keep = self.sigmoid(row[:, size : 2 * size] + z[:, size : 2 * size])
            new = self.tanh(row[:, 2 * size :] + r * z[:, 2 * size :])
            return (new + keep * (h - new),)

        return self.scan(step, [x @ w + b], [first])[0]

    def top_k(self, x: Any, k: int) -> Any:
        """The k greatest elements along the last axis, the greatest first."""
        return self.flip(self.sort(x, axis=-1), -1)[..., :k]

    def cholesky(self, x: Any) -> Any:
        """The lower factor of a positive definite matrix."""
        return self.linalg.cholesky(x)

    def solve(self, a: Any, b: Any) -> Any:
        """x with a @ x = b."""
        return self.linalg.solve(a, b)

    def solve_lower(self, a: Any, b: Any) -> Any:
        """x with a @ x = b, for a lower triangular a."""
        return self.linalg.solve(a, b)
