"""What the comparisons with other systems share: random cases, compiled layers, and a measure of agreement.

The other system computes in float64 on the values that minigraph has, whichever dtype minigraph computes in.
"""

from __future__ import annotations

import numpy as np
import torch

import minigraph as mg
from minigraph.layers import batch_normalization

TOLERANCE = {"float64": 1e-11, "float32": 5e-6}
"""Relative to the largest magnitude."""


# -- random cases ----------------------------------------------------------------------------------------------------


def backend_of(number):
    """The backends by turns."""
    return "numpy" if number % 2 else "native"


def log_uniform(rng, least, most):
    """A number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(least), np.log(most))))


def one_shape(rng, rank, features, axis=1):
    """2 to 16 rows, 1 to 5 of all else, and the features along their axis."""
    sizes = [int(rng.integers(2, 17)), *(int(size) for size in rng.integers(1, 6, rank - 1))]
    sizes[axis] = features
    return tuple(sizes)


class Data:
    """Batches of one distribution: each feature has a mean of up to 10 and a deviation of its own."""

    def __init__(self, rng, dtype, rank, features, axis=1, furthest=10.0):
        self.rng, self.dtype, self.rank, self.features, self.axis = rng, dtype, rank, features, axis
        spread = log_uniform(rng, 0.3, 5)
        sizes = [1] * rank
        sizes[axis] = features
        self._means = rng.uniform(-furthest, furthest, sizes)
        self._deviations = spread * rng.uniform(0.5, 1.5, sizes)

    def batch(self, shape=None):
        """A batch, and weights to sum it with."""
        shape = one_shape(self.rng, self.rank, self.features, self.axis) if shape is None else shape
        values = self._means + self._deviations * self.rng.normal(size=shape)
        return values.astype(self.dtype), self.rng.normal(size=shape).astype(self.dtype)

    def batches(self):
        """2 to 4 batches of different sizes."""
        return [self.batch() for _ in range(self.rng.integers(2, 5))]

    def input(self):
        """A variable for such batches, of which only the number of features is known."""
        sizes = [None] * self.rank
        sizes[self.axis] = self.features
        return mg.tensor("x", dtype=self.dtype, shape=sizes)

    def start(self, names, signed):
        """Random arrays with a number for each feature, by name; only those in `signed` may be below 0."""
        drawn = {name: self.rng.normal(size=self.features) for name in names}
        return {name: (one if name in signed else 0.2 + np.abs(one)).astype(self.dtype) for name, one in drawn.items()}


# -- PyTorch's side --------------------------------------------------------------------------------------------------

KINDS = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}
"""The module for a number of axes."""


def tensor(values):
    """A tensor of these values, in float64 if they are floats."""
    array = np.asarray(values)
    return torch.tensor(array.astype(np.float64) if array.dtype.kind == "f" else array)


def state(module):
    """The arrays of a module by name, in its order."""
    return {name: value.numpy() for name, value in module.state_dict().items()}


def load(module, values):
    """Give a module all its arrays by name."""
    module.load_state_dict({name: tensor(value) for name, value in values.items()}, strict=True)


def trained_module(data, epsilon, affine):
    """A float64 module that was trained on some batches, in evaluation, and its arrays, of which those of floats are of the
    dtype of the data.
    """
    rng = data.rng
    momentum = None if rng.random() < 0.3 else float(rng.uniform(0.01, 1))
    module = getattr(torch.nn, KINDS[data.rank])(data.features, epsilon, momentum, affine, dtype=torch.float64)
    for parameter in module.parameters():
        parameter.data = tensor(rng.normal(size=data.features))
    for values, _ in data.batches():
        module(tensor(values))
    checkpoint = {name: one.astype(data.dtype) if one.dtype.kind == "f" else one for name, one in state(module).items()}
    load(module, checkpoint)
    return module.eval(), checkpoint


# -- minigraph's side ------------------------------------------------------------------------------------------------


def trained(layer, x, **options):
    """The layer's training-mode output."""
    with batch_normalization(layer):
        return layer.apply(x, **options)


def compiled(x, y, wrt, backend, others=()):
    """A function from x, weights and others to y, and the gradients of the weighted sum of y."""
    w = mg.tensor("w", dtype=x.dtype, shape=y.type.shape)
    return mg.function([x, w, *others], [y, *mg.grad((y * w).sum(), wrt)], backend=backend)


# -- agreement -------------------------------------------------------------------------------------------------------


def agree(actual, expected, dtype, size=None, rounding=0.0):
    """Assert that an array of this dtype is what was expected, relative to its largest magnitude.

    size: the magnitude to compare with where the result is a difference of larger terms. rounding: an error that rounding of
    what is stored, or the other system's own rounding, makes unavoidable.
    """
    actual, expected = np.asarray(actual), np.asarray(expected, np.float64)
    assert (actual.shape, actual.dtype) == (expected.shape, np.dtype(dtype))
    size = np.max(np.abs(expected), initial=0.0) if size is None else size
    error, limit = np.abs(actual - expected), TOLERANCE[dtype] * np.asarray(size) + rounding
    assert (error <= limit).all(), f"off by {error.max():.3g}, at most {np.max(error - limit):.3g} beyond the limit"


class Terms:
    """How large the terms are of which a normalization and its gradients are made, found in float64.

    x normalized over `axes` by its own statistics or by those given, times scale; the cotangent of that is w.
    """

    def __init__(self, x, w, scale, axes, epsilon, mean=None, variance=None):
        x, w, scale = (np.asarray(one, np.float64) for one in (x, w, scale))
        self._mean = x.mean(axes, keepdims=True) if mean is None else mean
        self._variance = np.square(x - self._mean).mean(axes, keepdims=True) if variance is None else variance
        self._stdev = np.sqrt(self._variance + epsilon)
        self._x, self._w, self._scale = x, w, scale
        self._normalized = (x - self._mean) / self._stdev
        furthest = np.maximum(1, np.abs(self._normalized).max(axes, keepdims=True))
        self.dx = np.broadcast_to(np.abs(scale * w).max(axes, keepdims=True) * furthest / self._stdev, x.shape)

    def dscale(self, axes):
        """The terms of the gradient of scale, summed over the axes along which it does not vary."""
        return np.abs(self._w * self._normalized).sum(axes)

    def dshift(self, axes):
        """The same of shift."""
        return np.abs(self._w).sum(axes)

    def stored(self, dtype):
        """The error of x normalized by a mean that was rounded when it was stored, or as x / stdev - mean / stdev."""
        return 8 * np.finfo(dtype).eps * (np.abs(self._x) + np.abs(self._mean)) / self._stdev

    def stored_output(self, dtype):
        """The same, of x normalized and scaled."""
        return np.abs(self._scale) * self.stored(dtype)

    def stored_dscale(self, axes, dtype):
        """The same, of the gradient of scale."""
        return (np.abs(self._w) * self.stored(dtype)).sum(axes)


def along(array, rank, axis=1):
    """An array with one number for each feature, with the axes of the input."""
    sizes = [1] * rank
    sizes[axis] = -1
    return np.asarray(array, np.float64).reshape(sizes)
