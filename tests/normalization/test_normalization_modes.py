"""Every kind of population normalization in both modes, however the mode was switched, in all dtypes and on both backends."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import BLOCKS, KERAS, LASAGNE, PYTORCH, caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import (
    BatchNormalization,
    BatchRenormalization,
    Freeze,
    Linear,
    Sequence,
    SpatialBatchNormalization,
    Tanh,
    batch_normalization,
)
from minigraph.layers.core.roles import BATCH_NORM_MINIBATCH_ESTIMATE
from minigraph.layers.normalization.conventions import Convention, Variance
from minigraph.transforms import (
    apply_batch_normalization,
    apply_dropout,
    apply_noise,
    apply_population_normalization,
    freeze_batch_normalization,
    get_batch_normalization_updates,
)
from support.backends import on_each

DTYPES = {"float16": 5e-3, "float32": 2e-5, "float64": 1e-11}
MASK = np.array([1, 1, 0, 1, 1, 1, 0, 1], "float32")
LAYERS = {
    "Blocks": (lambda: BatchNormalization(3), {}),
    "Blocks, mean only": (lambda: BatchNormalization(3, mean_only=True), {}),
    "Blocks, nothing learned": (lambda: BatchNormalization(3, learn_scale=False, learn_shift=False), {}),
    "Blocks, Keras' storage": (lambda: BatchNormalization(3, convention=KERAS), {}),
    "Blocks, Lasagne's storage": (lambda: BatchNormalization(3, convention=LASAGNE), {}),
    "Blocks, PyTorch's storage": (lambda: BatchNormalization(3, convention=PYTORCH), {}),
    "masked": (lambda: BatchNormalization(3), {"mask": MASK}),
    "ghost batches": (lambda: BatchNormalization(3, virtual_batch_size=3), {}),
    "one of several populations": (lambda: BatchNormalization(3, n_iter=2), {"index": 1}),
    "one process": (lambda: BatchNormalization(3, all_reduce=np.copy), {}),
    "renormalized": (lambda: BatchRenormalization(3), {}),
    "averages frozen": (lambda: BatchNormalization(3, freeze=Freeze.AVERAGES), {}),
    "statistics frozen": (lambda: BatchNormalization(3, freeze=Freeze.STATISTICS), {}),
    "frozen by a flag": (lambda: BatchNormalization(3, freeze=mg.shared(0, "flag")), {}),
    "Lasagne": (lasagne.BatchNormLayer, {}),
    "Torch7": (torch.BatchNormalization, {}),
    "PyTorch": (torch.BatchNorm1d, {}),
    "Caffe": (caffe.BatchNorm, {}),
    "PuzzleLib": (lambda: puzzlelib.BatchNorm(3), {}),
    "GoMLX": (gomlx.BatchNormalization, {}),
    "Keras": (keras.BatchNormalization, {}),
    "ONNX": (onnx.BatchNormalization, {}),
}


class Applied(Sequence):
    """A layer between two others, applied with options of its own."""

    def __init__(self, kind):
        make, self.options = LAYERS[kind]
        self.normalization = make()
        super().__init__([Linear(4, 3, seed=1), self.normalization, Tanh(), Linear(3, 2, seed=2)], name="network")

    @mg.layers.application
    def apply(self, x):
        """The last layer of the tanh of the normalized first layer."""
        first, _, activation, last = self.stages
        return last(activation(self.normalization.apply(first(x), **self.options)))


def expected(network, values, training):
    """What a network computes, in float64, by the textbook."""
    layer = network.normalization
    state = {name: value.astype("float64") for name, value in mg.layers.get_parameter_values(network).items()}
    h = values.astype("float64") @ state["/network/linear_0.W"] + state["/network/linear_0.b"]
    mask = network.options.get("mask", np.ones(len(values))) > 0
    rows = slice(None) if layer.n_iter is None else 1
    own = [one.get_value().astype("float64")[rows] for one in layer.population_statistics]
    mean, *stdev = (np.asarray(one).ravel() for one in layer.convention.read(own, layer.epsilon))
    x_hat = (h - mean) / (stdev[0] if stdev else 1)
    if training and layer.freeze is not Freeze.STATISTICS:
        size = layer.virtual_batch_size or len(h)
        for start in range(0, len(h), size):
            part = slice(start, start + size)
            seen = h[part][mask[part]]
            variance = 0 if layer.mean_only else seen.var(0)
            batch_stdev = 1 if layer.mean_only else np.sqrt(variance + layer.epsilon)
            x_hat[part] = (h[part] - seen.mean(0)) / batch_stdev
            if isinstance(layer, BatchRenormalization):
                r, d = np.clip(batch_stdev / stdev[0], 1 / 3, 3), np.clip((seen.mean(0) - mean) / stdev[0], -5, 5)
                x_hat[part] = x_hat[part] * r + d
    x_hat[~mask] = 0
    values_of = layer.get_values()
    scale, shift = (
        values_of.get(name, np.float64(start)) for name, start in ((layer.convention.scale, 1), (layer.convention.shift, 0))
    )
    activated = np.tanh(x_hat * scale.astype("float64").ravel() + shift.astype("float64").ravel())
    return activated @ state["/network/linear_1.W"] + state["/network/linear_1.b"]


def shaken(network, x, rng):
    """Give a network a population that it did not start from."""
    network.apply(x)
    for one in network.normalization.population_statistics:
        one.set_value((one.get_value() * 1.5 + rng.uniform(0.1, 0.6, one.get_value().shape)).astype(one.dtype))


@on_each
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LAYERS)
def test_both_modes_by_both_switches_equal_the_textbook(kind, dtype, backend, rng):
    network = Applied(kind)
    x = mg.tensor("x", dtype=dtype, shape=(None, 4))
    shaken(network, x, rng)
    values = rng.normal(1, 2, (8, 4)).astype(dtype)
    inference = network.apply(x)
    with batch_normalization(network):
        train = network.apply(x)
    for training, built, switched in (
        (True, train, apply_batch_normalization(inference)),
        (False, inference, apply_population_normalization(train)),
    ):
        assert str(switched) == mg.debugprint(built)
        assert built.dtype == dtype
        outputs = [built, *switched.outputs]
        found = mg.function([x], outputs, no_default_updates=True, backend=backend)(values)
        reference = expected(network, values, training)
        for one in found:
            np.testing.assert_allclose(one, reference, rtol=DTYPES[dtype], atol=3 * DTYPES[dtype] * np.abs(reference).max())
    assert str(apply_population_normalization(apply_batch_normalization(inference))) == mg.debugprint(inference)
    assert str(apply_batch_normalization(apply_population_normalization(train))) == mg.debugprint(train)


def estimates(graph):
    """The minibatch estimates in a graph."""
    return mg.VariableFilter(roles=[BATCH_NORM_MINIBATCH_ESTIMATE])(graph.variables)


@pytest.mark.parametrize("kind", LAYERS)
def test_replaced_and_noisy_graphs_are_switched_as_they_are_now(kind, rng):
    """Replacing, dropping out and switching may come in any order; pairs are those of the graph that is handed in."""
    network = Applied(kind)
    x = mg.matrix("x", shape=(None, 4))
    shaken(network, x, rng)
    values = rng.normal(1, 2, (8, 4)).astype("float32")
    inference = mg.ComputationGraph(network.apply(x))
    hidden = network.stages[0]
    (out,) = mg.VariableFilter(applications=[hidden.apply], name_regex=".*output")(inference.variables)
    changes = {
        "replace": lambda graph: graph.replace({out: out * 10 + 1}),
        "dropout": lambda graph: apply_dropout(graph, [out], 0.5, stream=mg.random.RandomStream(3)),
        "noise": lambda graph: apply_noise(graph, [out], 0.5, stream=mg.random.RandomStream(3)),
    }
    for change in changes.values():
        first = apply_batch_normalization(change(inference))
        second = change(apply_batch_normalization(inference))
        one, other = (mg.function([x], graph.outputs, no_default_updates=True)(values)[0] for graph in (first, second))
        np.testing.assert_array_equal(one, other)
        back = apply_population_normalization(first)
        assert estimates(back) == [] and str(back) == str(change(inference))
    if network.normalization.freeze is Freeze.NOTHING:
        train = apply_batch_normalization(changes["replace"](inference))
        (_, mean), *_ = get_batch_normalization_updates(train)
        (_, plain), *_ = get_batch_normalization_updates(apply_batch_normalization(inference))
        ours, theirs = (one.eval({x: values}).ravel() for one in (mean, plain))
        if not isinstance(network.normalization, caffe.BatchNorm | gomlx.BatchNormalization):
            width = slice(-3, None)  # of several populations the last one is estimated
            np.testing.assert_allclose(ours[width], theirs[width] * 10 + 1, rtol=1e-4, atol=1e-4)


@on_each
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "renormalized"])
def test_gradients_of_both_orders_through_every_kind(kind, training, backend, rng):
    """Renormalization is left to its own tests: it holds its corrections constant, which finite differences do not."""
    network = Applied(kind)
    values = rng.normal(1, 2, (8, 4))
    shaken(network, mg.dmatrix("x", shape=(None, 4)), rng)
    weights = rng.normal(size=(8, 2))

    def build(x):
        y = network.apply(x)
        y = apply_batch_normalization(y).outputs[0] if training else y
        return (y**2 * weights).sum() + (y * weights).sum()

    mg.testing.verify_grad(build, [values], order=2, rtol=1e-3, atol=1e-5, backend=backend)


@on_each
def test_a_spatial_layer_under_all_of_it_at_once(backend, rng):
    """Channels averaged over space, with a mask of rows, ghost batches, and a flag that freezes."""
    values = rng.normal(3, 2, (7, 2, 3, 4)).astype("float32")
    mask = np.array([1, 1, 1, 0, 1, 1, 1], "float32")
    flag = mg.shared(0, "flag")
    layer = SpatialBatchNormalization((2, 3, 4), virtual_batch_size=4, freeze=flag)
    x = mg.tensor4("x", shape=(None, 2, 3, 4))
    with batch_normalization(layer):
        y = layer.apply(x, mask=mask)
    step = mg.function([x], y, updates=get_batch_normalization_updates(y), backend=backend)
    output = step(values)
    for rows in ([0, 1, 2], [4, 5, 6]):
        part = values[rows].astype("float64")
        axes = (0, 2, 3)
        reference = (part - part.mean(axes, keepdims=True)) / np.sqrt(part.var(axes, keepdims=True) + 1e-4)
        np.testing.assert_allclose(output[rows], reference, rtol=1e-4, atol=1e-5)
    counted = values[mask > 0].astype("float64")
    np.testing.assert_allclose(layer.population_statistics[0].get_value().ravel(), counted.mean((0, 2, 3)), rtol=1e-5)
    flag.set_value(2)
    stored = [one.get_value() for one in layer.population_statistics]
    by_population = (values - stored[0]) / stored[1] * mask[:, None, None, None]
    np.testing.assert_allclose(step(values), by_population, rtol=1e-4, atol=1e-5)
    thawed = freeze_batch_normalization(y, Freeze.NOTHING).outputs[0]
    np.testing.assert_allclose(thawed.eval({x: values}), output, rtol=1e-5, atol=1e-6)


def test_a_convention_of_ones_own(rng):
    """What is stored is data: here the unbiased variance, under names of the user's."""
    convention = Convention("mine", "g", "b", "mu", "var", Variance(unbiased=True), 0.01)
    layer = BatchNormalization(3, convention=convention, epsilon=0.01)
    x = mg.matrix("x")
    values = rng.normal(3, 2, (5, 3)).astype("float32")
    with batch_normalization(layer):
        y = layer.apply(x)
    mg.function([x], y, updates=get_batch_normalization_updates(y))(values)
    assert list(layer.get_values()) == ["g", "b", "mu", "var"] and BLOCKS.order[0] == "scale"
    np.testing.assert_allclose(layer.get_values()["var"], values.var(0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(
        layer.apply(x).eval({x: values}),
        (values - values.mean(0)) / np.sqrt(values.var(0, ddof=1) + 0.01),
        rtol=1e-4,
        atol=1e-5,
    )
