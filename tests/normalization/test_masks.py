"""Masks and lengths mean the axes of each layer's own layout: batch and steps, wherever these stand."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import (
    BatchNormalization,
    BatchRenormalization,
    GroupNormalization,
    InstanceNormalization,
    SpatialBatchNormalization,
    batch_normalization,
)
from minigraph.layers.normalization.masks import checked_mask
from support.backends import BACKENDS

CHANNELS, STEPS = 4, 4
"""As many of the one as of the other, so that nothing but the layout tells them apart."""

LAYERS = {
    "torch 1d": (lambda: torch.BatchNorm1d(CHANNELS), 1),
    "torch 1d, untracked": (lambda: torch.BatchNorm1d(CHANNELS, track_running_stats=False), 1),
    "torch 2d": (lambda: torch.BatchNorm2d(CHANNELS), 1),
    "torch 3d": (lambda: torch.BatchNorm3d(CHANNELS), 1),
    "torch7 spatial": (lambda: torch.SpatialBatchNormalization(CHANNELS), 1),
    "torch7 volumetric": (lambda: torch.VolumetricBatchNormalization(CHANNELS), 1),
    "puzzlelib 1d": (lambda: puzzlelib.BatchNorm1D(CHANNELS), 1),
    "puzzlelib 2d": (lambda: puzzlelib.BatchNorm2D(CHANNELS), 1),
    "puzzlelib 3d": (lambda: puzzlelib.BatchNorm3D(CHANNELS), 1),
    "lasagne": (lasagne.BatchNormLayer, 1),
    "lasagne, axes": (lambda: lasagne.BatchNormLayer(axes=(0, 1)), 2),
    "caffe": (caffe.BatchNorm, 1),
    "onnx": (onnx.BatchNormalization, 1),
    "keras": (keras.BatchNormalization, -1),
    "keras, channels first": (lambda: keras.BatchNormalization(axis=1), 1),
    "gomlx": (gomlx.BatchNormalization, -1),
    "gomlx, channels first": (lambda: gomlx.BatchNormalization(1), 1),
    "blocks": (lambda: BatchNormalization(feature_axes=-1), -1),
    "blocks, spatial": (SpatialBatchNormalization, 1),
    "blocks, ghosts": (lambda: SpatialBatchNormalization(virtual_batch_size=3), 1),
    "blocks, several": (lambda: SpatialBatchNormalization(n_iter=2), 1),
    "renormalization": (lambda: BatchRenormalization(feature_axes=1, r_max=1.0, d_max=0.0), 1),
}


def axes_of(layer):
    """How many axes a layer's input has here."""
    ranks = getattr(layer, "ranks", ()) or (3,)
    return max(ranks)


def in_layout(values, ndim, channel):
    """(batch, steps, channels) values with further spatial axes of size 1 behind the steps, and the channels at an axis."""
    batch, steps, channels = values.shape
    wide = values.reshape(batch, steps, *(1,) * (ndim - 3), channels)
    return np.moveaxis(wide, -1, channel)


def given(how, layer, lengths):
    """The options of an application that mean these lengths."""
    mask = np.arange(STEPS) < lengths[:, None]
    ndim, channel = axes_of(layer[0]), layer[1]
    if how == "lengths":
        return {"lengths": lengths}
    if how == "mask":
        return {"mask": mask}
    whole = in_layout(np.broadcast_to(mask[..., None], (*mask.shape, CHANNELS)), ndim, channel)
    return {"mask": whole} if how == "whole" else {"mask": whole.astype("float32").take([0], channel)}


def stored(layer, row=0):
    """The mean and the variance that a layer's population stands for."""
    values = [one.get_value(borrow=True) for one in layer.population_statistics]
    values = values if layer.n_iter is None else [one[row] for one in values]
    mean, stdev = layer.convention.read(values, layer.epsilon)
    return np.ravel(mean), np.ravel(stdev) ** 2 - layer.epsilon


WAYS = ["lengths", "mask", "whole", "mask along steps alone"]


@pytest.mark.parametrize("name", LAYERS)
def test_all_ways_to_say_it_mean_the_same_elements(name):
    make, channel = LAYERS[name]
    layer = make()
    lengths = np.array([4, 2, 1, 3])
    expected = in_layout(
        np.broadcast_to(np.arange(STEPS)[:, None] < lengths[:, None, None], (4, STEPS, CHANNELS)), axes_of(layer), channel
    )
    x = mg.tensor("x", shape=expected.shape)
    layer.allocate_for(x)
    for how in WAYS:
        options = {"mask": None, "lengths": None} | given(how, (layer, channel), lengths)
        mask = checked_mask(x, options["mask"], options["lengths"], layer.averaged_axes(x))
        found = mg.function([], mask, backend="numpy")()
        assert found.ndim == x.ndim
        np.testing.assert_array_equal(np.broadcast_to(found > 0, x.type.shape), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_padding_counts_for_nothing_in_any_layout(name, rng):
    make, channel = LAYERS[name]
    lengths = np.array([4, 2, 1, 3])
    sequences = rng.normal(3, 2, (4, STEPS, CHANNELS)).astype("float32")
    mask = np.arange(STEPS) < lengths[:, None]
    layer = make()
    ndim = axes_of(layer)
    values = in_layout(np.where(mask[..., None], sequences, np.nan).astype("float32"), ndim, channel)
    shape = [None] * ndim
    shape[channel] = CHANNELS
    x = mg.tensor("x", shape=[size if values.shape[k] != 1 else 1 for k, size in enumerate(shape)])
    options = {"lengths": lengths} | ({"index": 1} if getattr(layer, "n_iter", None) else {})
    inference = layer.apply(x, **options)
    with batch_normalization(layer):
        y = layer.apply(x, **options)
    updates = mg.transforms.get_batch_normalization_updates(y) if layer.population_statistics else []
    for backend in BACKENDS:
        results = mg.function([x], [y, inference], updates=updates, no_default_updates=True, backend=backend)(values)
    for found in results:
        as_sequences = np.moveaxis(found, channel, -1).reshape(4, STEPS, CHANNELS)
        assert np.isfinite(as_sequences).all()
        shift = layer.variables.get(layer.convention.shift)
        np.testing.assert_array_equal(as_sequences[~mask], 0 if shift is None else shift.get_value().ravel()[0])
    seen = sequences[mask].astype("float64")
    if layer.virtual_batch_size is None:
        scale = layer.variables.get(layer.convention.scale)
        wanted = (seen - seen.mean(0)) / np.sqrt(seen.var(0) + layer.epsilon)
        wanted = wanted if scale is None else wanted * scale.get_value().ravel()
        np.testing.assert_allclose(
            np.moveaxis(results[0], channel, -1).reshape(4, STEPS, -1)[mask], wanted, rtol=1e-4, atol=1e-5
        )
    if layer.population_statistics:
        mean, variance = stored(layer, 1)
        np.testing.assert_allclose(mean, seen.mean(0), rtol=1e-5)
        unbiased = layer.convention.storage.unbiased
        np.testing.assert_allclose(variance, seen.var(0, ddof=int(unbiased)), rtol=1e-4)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("groups", [None, 1, 2, CHANNELS])
def test_samples_are_normalized_without_their_padding(groups, how, rng):
    layer = InstanceNormalization(CHANNELS) if groups is None else GroupNormalization(groups, CHANNELS)
    lengths = np.array([4, 2, 3])
    mask = np.arange(STEPS) < lengths[:, None]
    values = rng.normal(3, 2, (3, CHANNELS, STEPS)).astype("float32")
    whole = np.broadcast_to(mask[:, None], values.shape)
    options = {
        "lengths": {"lengths": lengths},
        "mask": {"mask": mask},
        "whole": {"mask": whole},
        "mask along steps alone": {"mask": mask[:, None]},
    }[how]
    x = mg.tensor3("x", shape=(None, CHANNELS, None))
    found = layer.apply(x, **options).eval({x: np.where(whole, values, np.inf).astype("float32")})
    assert (found[~whole] == 0).all()
    for sample, length in enumerate(lengths):
        parts = values[sample, :, :length].astype("float64").reshape(groups or CHANNELS, -1)
        wanted = (parts - parts.mean(1, keepdims=True)) / np.sqrt(parts.var(1, keepdims=True) + layer.epsilon)
        np.testing.assert_allclose(found[sample, :, :length], wanted.reshape(CHANNELS, length), rtol=1e-4, atol=1e-5)


def test_lengths_go_by_the_names_of_axes(rng):
    """Sequences of recurrent layers have time in front."""
    values, lengths = rng.normal(size=(5, 3, 2)).astype("float32"), np.array([5, 1, 3])
    mask = np.arange(5)[:, None] < lengths
    for options in ({"lengths": lengths}, {"mask": mask}):
        x = mg.tensor3("x", shape=(None, None, 2))
        layer = BatchNormalization(feature_axes="feature", axis_names=("time", "batch", "feature"))
        with batch_normalization(layer):
            y = layer.apply(x, **options)
        mg.function([x], y, updates=mg.transforms.get_batch_normalization_updates(y))(values)
        np.testing.assert_allclose(stored(layer)[0], values[mask].mean(0), rtol=1e-5, atol=1e-6)


def test_statistics_of_every_step_may_have_lengths(rng):
    """Steps that are not averaged over have names, or a mask with them."""
    values, lengths = rng.normal(size=(3, 2, 2)).astype("float32"), np.array([1, 2, 2])
    mask = np.arange(2) < lengths[:, None]
    for names, options in ((("batch", "time", "feature"), {"lengths": lengths}), (None, {"mask": mask})):
        x = mg.tensor3("x", shape=(None, 2, 2))
        layer = BatchNormalization((2, 2), axis_names=names)
        with batch_normalization(layer):
            y = layer.apply(x, **options)
        mg.function([x], y, updates=mg.transforms.get_batch_normalization_updates(y))(values)
        np.testing.assert_allclose(stored(layer)[0].reshape(2, 2)[1], values[1:, 1].mean(0), rtol=1e-5, atol=1e-6)


REFUSED = [
    (lambda: torch.BatchNorm1d(3), (None, 3, 5), {"mask": np.ones((1, 3, 1))}, r"varies along axes \[1\]"),
    (lambda: torch.BatchNorm1d(3), (None, 3), {"mask": np.ones((1, 3))}, r"varies along axes \[1\]"),
    (lambda: BatchNormalization(feature_axes=2), (None, 5, 3), {"mask": np.ones((1, 1, 3))}, r"varies along axes \[2\]"),
    (lambda: lasagne.BatchNormLayer(axes=1), (3, 5), {"mask": np.ones(3)}, r"varies along axes \[0\]"),
    (lambda: torch.BatchNorm1d(3), (None, 3, 5), {"mask": np.ones((2, 3))}, "size 3 along axis 2"),
    (lambda: torch.BatchNorm1d(3), (None, 3, 5), {"mask": np.ones((2, 4, 5))}, "size 4 along axis 1"),
    (lambda: torch.BatchNorm1d(3), (None, 3), {"lengths": np.ones(2, "int64")}, "behind the batch no axis"),
    (lambda: BatchNormalization((3, 4)), (None, 3, 4), {"lengths": np.ones(2, "int64")}, "behind the batch no axis"),
    (lambda: InstanceNormalization(3), (None, 3, 5), {"mask": np.ones((1, 3, 1))}, r"varies along axes \[1\]"),
    (lambda: GroupNormalization(3), (None, 3), {"lengths": np.ones(2, "int64")}, "behind the batch no axis"),
]


@pytest.mark.parametrize(("make", "shape", "options", "message"), REFUSED)
def test_masks_that_cannot_be_meant_are_errors(make, shape, options, message):
    with pytest.raises(ValueError, match=message):
        make().apply(mg.tensor("x", shape=shape), **options)
