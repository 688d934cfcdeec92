"""`config.float_type` decides the dtype of what has no other, everywhere."""

import subprocess
import sys

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Graph
from minigraph.core.walks import with_bodies
from minigraph.functions.function import reviews
from minigraph.layers import (
    BatchNormalizedLSTM,
    BatchNormalizedMLP,
    Convolutional,
    ConvolutionalSequence,
    Dropout,
    Flattener,
    LayerNormalization,
    Linear,
    MaxPooling,
    Rectifier,
    SpatialBatchNormalization,
    batch_normalization,
    training,
)
from minigraph.training import adam
from minigraph.transforms import fold_batch_normalization, get_batch_normalization_updates, moving_average


@pytest.fixture
def graphs():
    """All graphs that are compiled in float64."""
    seen: list[Graph] = []
    reviews.append(seen.append)
    mg.config.float_type = "float64"
    yield seen
    mg.config.float_type = None
    reviews.remove(seen.append)


def narrow(variables):
    """The variables of a graph that are float32, but for what the user gave as such."""
    kinds = [(one, kind) for one in variables for kind in (one.type if isinstance(one.type, tuple) else (one.type,))]
    return [one for one, kind in kinds if kind.dtype in ("float32", "float16")]


def test_nothing_is_float32_in_a_model_in_float64(graphs):
    rng = np.random.default_rng(0)
    x, labels = mg.matrix("x", shape=(None, 4)), mg.lvector("labels")
    mlp = BatchNormalizedMLP([Rectifier(), None], [4, 16, 3])
    net = [mlp, Dropout(0.2), LayerNormalization(3)]
    with training(*net):
        y = x
        for layer in net:
            y = layer.apply(y)
        noise = mg.random.RandomStream(seed=7).normal((3,), std=0.1) + mg.random.RandomStream(3).uniform((3,))
        cost = mg.softmax_crossentropy(y + noise, labels).mean() + 0.5 * mg.log(2) * mg.square(mg.eye(3)).sum() / 3
        cost = cost + (mg.one_hot(labels, 3) * mg.linspace(0, 1, 3) * mg.full((3,), 0.5) * mg.ones((3,))).mean()
        cost = cost + mg.tri(3).sum()
    updates = adam(cost, mg.ComputationGraph(cost).parameters, 0.01) + moving_average(get_batch_normalization_updates(cost))
    step = mg.function([x, labels], cost, updates=updates)
    batch = rng.normal(5, 2, (64, 4))
    losses = [step(batch, rng.integers(0, 3, 64)) for _ in range(3)]
    assert losses[0].dtype == "float64"

    folded = fold_batch_normalization(mlp.apply(x)).outputs[0]
    assert folded.eval({x: batch}).dtype == "float64"

    sequences = mg.tensor("sequences", shape=(None, None, 4))
    lstm = BatchNormalizedLSTM(dim=8, n_iter=20, input_dim=4)
    with batch_normalization(lstm):
        states, _ = lstm.apply(sequences)
    cost = mg.square(states[-1]).mean()
    w = lstm.variables["W"]
    pairs = moving_average(get_batch_normalization_updates(cost))
    mg.function([sequences], cost, updates=[(w, w - 0.1 * mg.grad(cost, w)), *pairs])

    stages = [
        Convolutional((3, 3), 8),
        SpatialBatchNormalization(),
        Rectifier(),
        MaxPooling(2),
        Flattener(),
        Linear(output_dim=10),
    ]
    images = mg.tensor4("images", shape=(None, 1, 28, 28))
    logits = ConvolutionalSequence(stages, border_mode="same").apply(images)
    mg.function([images], [logits, mg.grad(logits.sum(), stages[0].variables["W"])])

    assert mg.scan(lambda total: total + 1.5, outputs_info=0.0, n_steps=3).eval().dtype == "float64"
    assert mg.shared([1.0, 2.0]).dtype == mg.scalar("s").dtype == mg.zeros(3).dtype == mg.constant(0.5).dtype == "float64"
    assert len(graphs) >= 4
    assert [narrow(with_bodies(graph.variables)) for graph in graphs] == [[]] * len(graphs)


def test_explicit_dtypes_stay(graphs):
    assert mg.fmatrix("x").dtype == mg.zeros(2, "float32").dtype == mg.constant(0.5, dtype="float32").dtype == "float32"
    layer = Linear(2, 3, dtype="float32")
    layer.allocate()
    assert layer.variables["W"].dtype == "float32"
    assert (mg.fvector("x") * 0.1).dtype == "float32"


def test_graphs_keep_the_dtype_that_they_were_built_with():
    x = mg.vector("x")
    y = x * mg.log(5.0) + mg.sqrt(2)
    mg.config.float_type = "float64"
    try:
        assert y.eval({x: [1.0]}).dtype == "float32"
        assert (y + mg.sqrt(2)).dtype == "float32" and (mg.vector("z") + y).dtype == "float64"
    finally:
        mg.config.float_type = None
    assert mg.matrix("x").dtype == "float32"


def test_it_is_one_of_two_also_in_the_environment():
    for wrong in ("float16", "int32", 64):
        with pytest.raises(ValueError, match="float type"):
            mg.config.float_type = wrong
    command = "import minigraph as mg; print(mg.matrix().dtype, mg.dmatrix().dtype, mg.log(2).dtype)"
    run = subprocess.run(
        [sys.executable, "-c", command], env={"MINIGRAPH_FLOAT_TYPE": "float64"}, capture_output=True, text=True
    )
    assert run.stdout.split() == ["float64"] * 3


@pytest.mark.parametrize("wrong", [np.float64, np.dtype("float64"), "float16", 64, float])
def test_what_is_no_name_of_a_float_type_is_refused_by_those_that_are(wrong):
    with pytest.raises(ValueError, match=r"one of the names \('float32', 'float64'\), or None, not") as info:
        mg.config.float_type = wrong
    assert "attribute" not in str(info.value) and "object" not in str(info.value)
