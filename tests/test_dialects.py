"""Each system's conventions: what is stored, how averages follow, what is normalized by, what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import BatchNormalization, batch_normalization
from minigraph.layers.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.transforms import (
    get_batch_normalization_updates,
    moving_average,
)

C = np.arange(12.0).reshape(3, 4).astype("float32")
"""The canonical batch: column 0 is [0, 4, 8], of mean 4, biased variance 32 / 3 and unbiased variance 16."""


def trained(layer, x):
    """The layer's training-mode output."""
    with batch_normalization(layer):
        return layer.apply(x)


# -- the tables ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a dialect must give on C: what it stores of column 0 after one step and after two, and its outputs at x00."""

    make: Any
    first: tuple[float, ...]
    second: tuple[float, ...]
    inference: float
    training: float
    rule: Any = None

    def step(self, layer, x):
        """A function that makes one training step and returns the training output at x00."""
        y = trained(layer, x)
        updates = self.rule(get_batch_normalization_updates(y)) if self.rule else ()
        return mg.function([x], y[0, 0], updates=updates)


V = 32 / 3
BLOCKS_STDEV = 3.26600163
TABLE = {
    "Lasagne": Row(lasagne.BatchNormLayer, (0.4, 0.93061848), (0.76, 0.86817511), -0.37224739, -1.22473913),
    "Blocks, raw": Row(BatchNormalization, (4, BLOCKS_STDEV), (4, BLOCKS_STDEV), -1.22473913, -1.22473913, list),
    "Blocks, moving average": Row(
        BatchNormalization, (0.4, 1.22660016), (0.76, 1.43054031), -0.32610464, -1.22473913, moving_average
    ),
    "Torch7": Row(torch.BatchNormalization, (0.4, 2.5), (0.76, 3.85), -0.25298171, -1.22474430),
    "PyTorch": Row(torch.BatchNorm1d, (0.4, 2.5, 1), (0.76, 3.85, 2), -0.25298171, -1.22474430),
    "Caffe": Row(caffe.BatchNorm, (4, 16, 1), (7.996, 31.984, 1.999), -0.99999969, -1.22474430),
    "PuzzleLib": Row(lambda: puzzlelib.BatchNorm(4), (4, 16), (4, 16), -0.99999969, -1.22474430),
    "GoMLX": Row(gomlx.BatchNormalization, (4, V, 1), (4, V, 2), -1.22468747, -1.22468747),
    "Keras": Row(keras.BatchNormalization, (0.04, 1.09666667), (0.0796, 1.19236667), -0.03817902, -1.22468747),
    "ONNX": Row(onnx.BatchNormalization, (0.4, 1.96666667), (0.76, 2.83666667), -0.28522889, -1.22474430),
}


def stored(layer):
    """What a layer stores about column 0, in the order of its system, without scale and shift."""
    learned = (layer.convention.scale, layer.convention.shift)
    return [value.flat[0] for name, value in layer.get_values().items() if name not in learned]


@pytest.mark.parametrize("backend", ["numpy", "native"])
@pytest.mark.parametrize("dialect", TABLE)
def test_two_steps_on_the_canonical_batch(dialect, backend, monkeypatch):
    row = TABLE[dialect]
    layer = row.make()
    for scale in ("gamma", "weight", "scale"):
        if scale == layer.convention.scale and not isinstance(layer, caffe.BatchNorm):
            layer.scale_init = mg.layers.Constant(1.0)
    x = mg.matrix("x", shape=(None, 4))
    step = row.step(layer, x)
    infer = mg.function([x], layer.apply(x)[0, 0])
    assert step(C) == pytest.approx(row.training, rel=1e-6)
    assert stored(layer) == pytest.approx(row.first, rel=1e-6)
    assert infer(C) == pytest.approx(row.inference, rel=2e-6)
    assert step(C) == pytest.approx(row.training, rel=1e-6)
    assert stored(layer) == pytest.approx(row.second, rel=1e-6)
