"""What all frameworks compute: the data, sizes and constants of the cases."""

from __future__ import annotations

import numpy as np

RATE, MOMENTUM, EPSILON = 1e-6, 0.9, 1e-4
ADAM_RATE, BETA1, BETA2, ADAM_EPSILON = 1e-8, 0.9, 0.999, 1e-8
# rates so small that no network fits its one batch in thousands of steps: vanishing gradients would be denormal numbers, on
# which processors are slow
AVERAGING = 0.1

NETS = {
    "784-512-512-10, 128": ((784, 512, 512, 10), 128),
    "784-512-512-10, 32": ((784, 512, 512, 10), 32),
    "64-100-100-10, 32": ((64, 100, 100, 10), 32),
    "784-2048-2048-10, 512": ((784, 2048, 2048, 10), 512),
}

STEPS, SEQUENCES, CLASSES = 64, 64, 10
"""A recurrent network reads so many sequences of so many steps of one number each."""
HIDDEN = (100, 512)

IMAGES = {"1x28x28": (1, 28), "3x32x32": (3, 32), "1x8x8": (1, 8)}
"""Channels and sizes of the images that a small convolutional network classifies, 64 at a time."""
IMAGE_COUNT, FILTERS = 64, (32, 64)

MICRO = ("layer_norm", "softmax", "gelu", "adam")
MICRO_SIZES = (10**6, 10**7)
ROW = 1000


def batch(sizes: tuple[int, ...], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and class indices."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, sizes[0])).astype("float32"), rng.integers(0, sizes[-1], count).astype("int32")


def weights(sizes: tuple[int, ...]) -> list[np.ndarray]:
    """A matrix for each layer, scaled as He et al. do."""
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(a, b)) * np.sqrt(2 / a)).astype("float32") for a, b in zip(sizes[:-1], sizes[1:], strict=True)]


def sequences() -> tuple[np.ndarray, np.ndarray]:
    """Inputs (time, batch, 1), and class indices."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(STEPS, SEQUENCES, 1)).astype("float32"), rng.integers(0, CLASSES, SEQUENCES).astype("int32")


def images(channels: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (batch, channels, size, size), and class indices."""
    rng = np.random.default_rng(5)
    shape = (IMAGE_COUNT, channels, size, size)
    return rng.normal(size=shape).astype("float32"), rng.integers(0, CLASSES, IMAGE_COUNT).astype("int32")


def rows(elements: int) -> np.ndarray:
    """A matrix of so many elements, in rows of 1000."""
    return np.random.default_rng(2).normal(size=(elements // ROW, ROW)).astype("float32")


def vectors(elements: int) -> list[np.ndarray]:
    """Parameters, gradients, and Adam's two moments."""
    rng = np.random.default_rng(3)
    return [np.abs(rng.normal(size=elements)).astype("float32") for _ in range(4)]
