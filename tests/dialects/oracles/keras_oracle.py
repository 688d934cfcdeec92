"""Keras itself, on PyTorch, against `dialects.keras`, and Keras' layers on what `convert` makes of PyTorch's checkpoints.

Keras computes this layer in float32 whatever its dtype, and adds 1e-7 to the count of unmasked elements. To see more digits,
the tests with `in_float64` take out these two, and nothing else; the others leave them.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import Data, Terms, agree, along, backend_of, compiled, load, log_uniform, one_shape, tensor, trained, trained_module

import minigraph as mg
from minigraph import dialects
from minigraph.dialects import KERAS, PYTORCH, convert, from_list, to_list

os.environ["KERAS_BACKEND"] = "torch"

import keras
from keras.src.layers.normalization import batch_normalization as keras_module

pytestmark = pytest.mark.filterwarnings(  # Keras' variables, when they are made arrays
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture
def in_float64(monkeypatch):
    """Keras' layer computes in float64, and divides by the number of unmasked elements."""
    exact = SimpleNamespace(result_type=lambda *dtypes: "float64", epsilon=lambda: 0.0, backend=keras.backend.backend)
    monkeypatch.setattr(keras_module, "backend", exact)


def arrays(layer):
    """The arrays of a Keras layer by name, in its order."""
    return from_list(layer.get_weights(), KERAS, scale=layer.scale, shift=layer.center)


class Pair:
    """One random layer in both systems, with the same random arrays half of the time, else as both start."""

    def __init__(self, number, masked=False, furthest=10.0, epsilon=None, dtype=None):
        self.rng = rng = np.random.default_rng(number)
        rank = 3 if masked else int(rng.integers(2, 6))
        features = int(rng.integers(2 if masked else 1, 9))  # Keras fails on a mask beside one feature
        axis = int(rng.choice([1, 2, -2, -1])) if masked else int(rng.integers(-rank, rank))
        self.rank, self.axis, self.masked = rank, axis % rank, masked
        self.dtype = str(rng.choice(["float32", "float64"])) if dtype is None else dtype
        self.data = Data(rng, self.dtype, rank, features, axis, furthest)
        self.epsilon = log_uniform(rng, 1e-3, 1e-1) if epsilon is None else epsilon
        options = {
            "axis": axis,
            "momentum": float(rng.choice([0.99, 0.0, 1.0, rng.uniform(0, 1)], p=[0.2, 0.1, 0.1, 0.6])),
            "epsilon": self.epsilon,
            "center": bool(rng.random() < 0.7),
            "scale": bool(rng.random() < 0.7),
            "trainable": bool(rng.random() < 0.85),
        }
        self.trainable = options["trainable"]
        self.theirs = keras.layers.BatchNormalization(dtype="float64", **options)
        self.theirs.build(one_shape(rng, rank, features, axis))
        self.ours = dialects.keras.BatchNormalization(**options)
        x, self.mask = self.data.input(), mg.tensor("mask", dtype="bool", shape=(None, None))
        given = {"mask": self.mask} if masked else {}
        outputs = trained(self.ours, x, **given), self.ours.apply(x, **given)
        self._start()
        names = ("gamma", "beta") if self.trainable else ()
        self.learned = [name for name in names if name in self.ours.variables]
        wrt = [x, *(self.ours.variables[name] for name in self.learned)]
        self.train, self.infer = (compiled(x, y, wrt, backend_of(number), list(given.values())) for y in outputs)

    def _start(self):
        """Compare what both start from, and perhaps replace it."""
        own = self.ours.get_values()
        assert list(own) == list(arrays(self.theirs))
        for name, value in arrays(self.theirs).items():
            np.testing.assert_array_equal(own[name], value)
        if self.rng.random() < 0.5:
            drawn = self.data.start(own, ("gamma", "beta", "moving_mean"))
            self.ours.set_values(drawn)
            self.theirs.set_weights([one.astype(np.float64) for one in to_list(drawn, KERAS)])

    def mask_for(self, values):
        """A random mask of the first two axes, with something of every feature in it."""
        mask = self.rng.random(values.shape[:2]) < self.rng.uniform(0.2, 1)
        mask[self.rng.integers(len(mask))] = True
        return mask

    def call(self, training):
        """Both systems' results on one batch: our y, dx, ..., theirs, the batch, the weights, and the mask."""
        values, w = self.data.batch()
        mask = self.mask_for(values) if self.masked else np.ones(values.shape[:2], bool)
        if self.masked:
            w[~mask] = 0
            if self.rng.random() < 0.5:
                values[~mask] *= 100  # what is masked counts for nothing
        given = tensor(values).requires_grad_()
        y = self.theirs(given, training=training, mask=tensor(mask) if self.masked else None)
        wrt = [given, *(getattr(self.theirs, name).value for name in self.learned)]
        expected = [y, *torch.autograd.grad((y * tensor(w)).sum(), wrt)]
        own = (self.train if training else self.infer)(values, w, *([mask] if self.masked else []))
        return own, [one.detach().numpy() for one in expected], values, w, mask

    def lost(self, kind, furthest, variance):
        """The share of a variance plus epsilon that Keras, which takes E[x^2] - E[x]^2, loses to rounding."""
        return 8 * np.finfo(kind).eps * np.square(furthest) / (variance + self.epsilon)

    def check(self, training, kind):
        """Compare both systems on one batch; Keras computes in `kind`."""
        stored = arrays(self.theirs)
        (y, dx, *dlearned), expected, values, w, mask = self.call(training)
        axes = tuple(axis for axis in range(self.rank) if axis != self.axis)
        scale, shift = (along(stored.get(name, start), self.rank, self.axis) for name, start in (("gamma", 1), ("beta", 0)))
        there = np.broadcast_to(mask.reshape(*mask.shape, *[1] * (self.rank - 2)), values.shape)
        wide = values.astype(np.float64)
        if training and self.trainable:
            mean, variance = (f(axes, keepdims=True, where=there) for f in (wide.mean, wide.var))
            inexact, furthest = kind, np.where(there, np.abs(wide), 0).max(axes, keepdims=True)
            self.furthest = max(self.furthest, furthest.max())
        else:
            mean, variance = (along(stored[name], self.rank, self.axis) for name in ("moving_mean", "moving_variance"))
            inexact, furthest = ("float32" if "float32" in (kind, self.dtype) else "float64"), self.furthest
        lost = self.lost(kind, furthest, variance)
        terms = Terms(np.where(there, wide, mean), w, scale, axes, self.epsilon, mean, variance)
        largest = np.abs(expected[0][there]).max()
        rounding = terms.stored_output(inexact) + lost * largest
        agree(y[there], expected[0][there], self.dtype, size=largest, rounding=rounding[there])
        np.testing.assert_array_equal(y[~there], np.broadcast_to(shift, y.shape)[~there])
        agree(dx, expected[1], self.dtype, size=terms.dx, rounding=lost * terms.dx)
        lost = np.ravel(lost)
        limits = {
            "gamma": (terms.dscale(axes), terms.stored_dscale(axes, inexact) + lost * terms.dscale(axes)),
            "beta": (terms.dshift(axes), lost * terms.dshift(axes)),
        }
        for name, own, other in zip(self.learned, dlearned, expected[2:], strict=True):
            agree(own, other, self.dtype, size=limits[name][0], rounding=limits[name][1])

    def check_state(self, kind):
        """Compare what is stored."""
        own, other = self.ours.get_values(), arrays(self.theirs)
        assert list(own) == list(other)
        agree(own["moving_mean"], other["moving_mean"], self.dtype, size=self.furthest)
        spread = other["moving_variance"] + self.epsilon
        rounding = self.lost(kind, self.furthest, other["moving_variance"]) * spread
        agree(own["moving_variance"], other["moving_variance"], self.dtype, size=other["moving_variance"], rounding=rounding)

    def run(self, kind="float64"):
        """Some steps in training, then some in inference, which change nothing."""
        before = self.ours.get_values()
        self.furthest = np.abs(before["moving_mean"]).max()
        for _ in range(self.rng.integers(2, 5)):
            self.check(True, kind)
        self.check_state(kind)
        after = self.ours.get_values()
        if not self.trainable:
            np.testing.assert_equal(after, before)
        for _ in range(2):
            self.check(False, kind)
        np.testing.assert_equal(self.ours.get_values(), after)


@pytest.mark.parametrize("number", range(200))
def test_batch_normalization(number, in_float64):
    """Outputs and gradients of every step, and the moving statistics, on any axis, with and without scale and shift."""
    Pair(number).run()


@pytest.mark.parametrize("number", range(200))
def test_masked_batch_normalization(number, in_float64):
    """The same where a mask is True; elsewhere minigraph gives the shift."""
    Pair(number, masked=True).run()


@pytest.mark.parametrize("number", range(100))
def test_keras_as_it_is_shipped(number):
    """The same as Keras comes, in float32, on batches near 0, of which its variance does not lose too many digits."""
    Pair(number, furthest=1.0, epsilon=1e-3, dtype="float32").run("float32")


# -- where minigraph and Keras differ --------------------------------------------------------------------------------


def masked_step(mask, momentum):
    """The mean that minigraph and Keras store, which was 5, after a step on ones under a mask."""
    values = np.ones((2, 3, 2), "float32")
    theirs = keras.layers.BatchNormalization(momentum=momentum, moving_mean_initializer=keras.initializers.Constant(5.0))
    theirs(torch.tensor(values), training=True, mask=torch.tensor(mask))
    ours = dialects.keras.BatchNormalization(momentum=momentum, moving_mean_initializer=5.0)
    x, given = mg.tensor("x", shape=(None, None, 2)), mg.tensor("mask", dtype="bool", shape=(None, None))
    mg.function([x, given], trained(ours, x, mask=given))(values, mask)
    return [stored["moving_mean"][0] for stored in (ours.get_values(), arrays(theirs))]


def test_keras_adds_its_epsilon_to_the_count_of_unmasked_elements():
    """minigraph divides a masked sum by the count n, Keras by n + 1e-7, which for n = 1 makes 1 - 2^-23 of 1 in float32."""
    mask = np.zeros((2, 3), bool)
    mask[0, 0] = True
    assert masked_step(mask, momentum=0.0) == [1, 1 - 2**-23]


def test_keras_counts_a_batch_that_is_masked_altogether():
    """Keras moves its averages towards 0, minigraph leaves them as they are."""
    assert masked_step(np.zeros((2, 3), bool), momentum=0.5) == [5, 2.5]


def test_keras_fails_on_a_mask_beside_one_feature():
    """Which is why masked cases here have two features or more; minigraph takes one."""
    layer = keras.layers.BatchNormalization()
    with pytest.raises(IndexError):
        layer(torch.ones(2, 3, 1), training=True, mask=torch.ones(2, 3, dtype=torch.bool))
    x, mask = mg.tensor("x", shape=(None, None, 1)), mg.tensor("mask", dtype="bool", shape=(None, None))
    y = trained(dialects.keras.BatchNormalization(), x, mask=mask)
    assert (mg.function([x, mask], y)(np.ones((2, 3, 1), "float32"), np.ones((2, 3), bool)) == 0).all()


def test_keras_computes_in_float32_even_in_float64():
    """A float64 layer returns float64 numbers that are those of float32; minigraph's are not."""
    values = np.random.default_rng(0).normal(size=(5, 4))
    x_hat = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-3)
    theirs = keras.layers.BatchNormalization(dtype="float64")(torch.tensor(values), training=True).detach().numpy()
    x = mg.dmatrix("x", shape=(None, 4))
    own = trained(dialects.keras.BatchNormalization(), x).eval({x: values})
    assert own.dtype == theirs.dtype == np.float64
    assert np.abs(own - x_hat).max() < 1e-14 and np.abs(theirs - x_hat).max() > 1e-9
    assert (theirs == theirs.astype("float32")).all()


# -- conversions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(50))
def test_a_checkpoint_of_pytorch_in_keras(number, in_float64):
    """A trained module of PyTorch, its arrays converted and listed as Keras lists them, and back."""
    rng = np.random.default_rng(number)
    rank, features, epsilon = int(rng.integers(2, 6)), int(rng.integers(1, 9)), log_uniform(rng, 1e-6, 1e-1)
    data, affine = Data(rng, "float64", rank, features), bool(rng.random() < 0.7)
    module, checkpoint = trained_module(data, epsilon, affine)
    layer = keras.layers.BatchNormalization(1, epsilon=epsilon, center=affine, scale=affine, dtype="float64")
    layer.build(one_shape(rng, rank, features))
    layer.set_weights(to_list(convert(checkpoint, PYTORCH, KERAS, epsilon=epsilon), KERAS))
    values, _ = data.batch()
    expected = module(tensor(values)).detach().numpy()
    agree(layer(tensor(values), training=False).detach().numpy(), expected, "float64")
    load(module, convert(arrays(layer), KERAS, PYTORCH, epsilon=epsilon))
    agree(module(tensor(values)).detach().numpy(), expected, "float64")
