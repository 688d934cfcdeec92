"""Batch normalization as the ONNX operator has it."""

from __future__ import annotations

from typing import Any

from minigraph.dialects.base import DialectNormalization, as_weight
from minigraph.layers.core.settings import Setting
from minigraph.layers.normalization.conventions import Convention, Variance
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.transforms.averages import averaged

ONNX = Convention("ONNX", "scale", "B", "input_mean", "input_var", Variance(), 1e-5)


class BatchNormalization(DialectNormalization):
    """ONNX' operator over axis 1: `momentum` is the weight of the *old* average; the stored variance is biased.

    >>> layer = mg.dialects.onnx.BatchNormalization()
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5), ['scale', 'B', 'input_mean', 'input_var'])
    """

    momentum = Setting(as_weight)

    def __init__(self, epsilon: float = 1e-5, momentum: float = 0.9, **options: Any) -> None:
        super().__init__(ONNX, epsilon, **options)
        self.momentum = momentum

    def rule(self, pairs: Pairs) -> Pairs:
        return averaged(pairs, 1 - self.momentum)
