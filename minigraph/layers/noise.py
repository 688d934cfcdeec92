"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.application import application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.modes import is_in_training, untrained
from minigraph.layers.core.roles import DROPOUT, add_role
from minigraph.layers.core.settings import Setting
from minigraph.ops.elementwise.comparison import where
from minigraph.ops.random import RandomStream


def check_probability(drop_prob: Any) -> float:
    """`drop_prob` as a float; ValueError outside of [0, 1)."""
    if isinstance(drop_prob, bool) or not isinstance(drop_prob, int | float | np.number) or not 0 <= drop_prob < 1:
        raise InvalidValueError(f"drop_prob must be at least 0 and below 1, not {drop_prob!r}")
    return float(drop_prob)


def drop(x: Variable, drop_prob: float, stream: RandomStream) -> Variable:
    """x with elements set to 0, by `stream` with probability `drop_prob`, and the others scaled up to keep the mean."""
    kept = stream.bernoulli(1 - drop_prob, x.shape, dtype="bool")
    return add_role(where(kept, x * (1 / (1 - drop_prob)), 0), DROPOUT)


class Dropout(Layer):
    """Dropout in graph built under `training(...)` (Srivastava et al. 2014); the identity otherwise.

    drop_prob: the probability that an element becomes 0. stream: the stream that draws; one of the layer's own if left out. Its
    state is saved with the layer.

    >>> layer = mg.layers.Dropout(0.5, seed=1)
    >>> with mg.training_mode(layer):
    ...     y = layer.apply(mg.ones((1000,)))
    >>> sorted(set(y.eval().tolist()))
    [0.0, 2.0]
    """

    fixed_when_allocated = frozenset({"stream"})
    drop_prob = Setting(lambda given, what: check_probability(given))

    def __init__(self, drop_prob: float = 0.5, *, stream: RandomStream | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.drop_prob = drop_prob
        self.stream = stream

    def allocate_parameters(self) -> None:
        self.stream = self.add_stream("stream", self.stream)

    @application
    def apply(self, x: Variable) -> Variable:
        """x, or in training x with elements set to 0 at random and the others scaled up."""
        if not is_in_training(self):
            return untrained(x) if self.drop_prob else x
        assert self.stream is not None
        return drop(x, self.drop_prob, self.stream)
