"""Initializers of layers with gates: an initializer draws for each gate, a given value is for all gates together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.layers.core.initialization import Called, Constant, Given, Initializer, Shape


class GatesOf(Initializer):
    """Matrices side by side, or biases one after the other, each drawn apart."""

    parts: tuple[Initializer, ...]

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        size = (*shape[:-1], shape[-1] // len(self.parts))
        return np.concatenate([one.generate(rng, size) for one in self.parts], axis=-1)


class Shifted(Initializer):
    """The values of another initializer plus a number."""

    of: Initializer
    shift: float

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        return self.of.generate(rng, shape) + self.shift


class GatesFrom(Initializer):
    """Some of the gates, from `start` to before `stop`, of an initializer of all `count` together."""

    of: Initializer
    count: int
    start: int
    stop: int

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        size = shape[-1] // (self.stop - self.start)
        whole = self.of.generate(rng, (*shape[:-1], self.count * size))
        return whole[..., self.start * size : self.stop * size]


def is_whole(initializer: Initializer) -> bool:
    """Whether an initializer stands for a whole parameter: a variable, an array with axes, or the result of a function."""
    return isinstance(initializer, Given | Called) or (isinstance(initializer, Constant) and np.ndim(initializer.constant) > 0)


def for_gates(initializer: Initializer, count: int, shifts: Sequence[float] = ()) -> Initializer:
    """The initializer of a parameter of `count` gates: the given one if it stands for the whole parameter; else one that draws
    each gate apart, and adds the gate's number of `shifts`.
    """
    if is_whole(initializer):
        return initializer
    return GatesOf(tuple(Shifted(initializer, shift) if shift else initializer for shift in shifts or (0.0,) * count))
