"""ONNX Runtime, and ONNX' own reference, against `dialects.onnx`.

ONNX Runtime's CPU provider computes training_mode=1, too, in float32 and in float64. A model keeps its attributes in float32,
so that cases have an epsilon and a momentum that float32 holds exactly.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from cases import Data, Terms, agree, along, backend_of, load, log_uniform, tensor, trained, trained_module
from onnx.reference import ReferenceEvaluator

import minigraph as mg
from minigraph import dialects
from minigraph.dialects import ONNX, PYTORCH, convert

STATISTICS = ("input_mean", "input_var")


def make_model(rank, features, opset, training, epsilon, momentum):
    """A model of the one operator, in float64."""
    double = onnx.TensorProto.DOUBLE
    names = ["y", "running_mean", "running_var"] if training else ["y"]
    shapes = {name: [None, features, *[None] * (rank - 2)] for name in "xy"}
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, double, shapes.get(name, [features])) for name in listed]
        for listed in (["x", *ONNX.order], names)
    )
    mode = {"training_mode": int(training)} if opset >= 14 else {}
    node = onnx.helper.make_node("BatchNormalization", ["x", *ONNX.order], names, epsilon=epsilon, momentum=momentum, **mode)
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def session(model):
    """A function that runs a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feeds: made.run(None, feeds)


def reference(model):
    """A function that runs a model in ONNX' reference."""
    made = ReferenceEvaluator(model)
    return lambda feeds: made.run(None, feeds)


def wide(values):
    """Arrays by name in float64."""
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


@pytest.mark.parametrize("number", range(200))
def test_batch_normalization(number):
    """Every step's outputs and statistics in training, then the outputs in inference, by both implementations."""
    rng = np.random.default_rng(number)
    rank, features = int(rng.integers(2, 6)), int(rng.integers(1, 9))
    dtype, backend = str(rng.choice(["float32", "float64"])), backend_of(number)
    epsilon = float(np.float32(log_uniform(rng, 1e-6, 1e-1)))
    momentum = float(rng.choice([0.0, 0.5, 1.0, rng.integers(1, 256) / 256], p=[0.1, 0.1, 0.1, 0.7]))
    data = Data(rng, dtype, rank, features)
    layer = dialects.onnx.BatchNormalization(epsilon, momentum)
    x = data.input()
    outputs = trained(layer, x), layer.apply(x)
    train, infer = (mg.function([x], y, backend=backend) for y in outputs)
    assert tuple(layer.get_values()) == ONNX.order
    if rng.random() < 0.7:
        layer.set_values(data.start(ONNX.order, ("scale", "B", "input_mean")))
    axes = (0, *range(2, rank))

    opset = int(rng.choice([14, 15]))
    model = make_model(rank, features, opset, True, epsilon, momentum)
    for run in (session(model), reference(model)):
        start = layer.get_values()
        theirs = wide(start)
        furthest = np.abs(start["input_mean"]).max()
        for values, w in data.batches():
            y, *statistics = run({"x": values.astype(np.float64), **theirs})
            theirs |= dict(zip(STATISTICS, statistics, strict=True))
            rounding = Terms(values, w, along(start["scale"], rank), axes, epsilon).stored_output("float64")
            agree(train(values), y, dtype, rounding=rounding)
            furthest = max(furthest, np.abs(values).max())
        own = layer.get_values()
        agree(own["input_mean"], theirs["input_mean"], dtype, size=furthest)
        agree(own["input_var"], theirs["input_var"], dtype, size=theirs["input_var"])
        np.testing.assert_array_equal([own["scale"], own["B"]], [start["scale"], start["B"]])

    statistics = [along(theirs[name], rank) for name in STATISTICS]
    values, w = data.batch()
    y = infer(values)
    rounding = Terms(values, w, along(theirs["scale"], rank), axes, epsilon, *statistics).stored_output(dtype)
    for opset in (9, 14, 15):
        model = make_model(rank, features, opset, False, epsilon, momentum)
        for run in (session(model), reference(model)) if opset > 9 else (session(model),):
            agree(y, run({"x": values.astype(np.float64), **theirs})[0], dtype, rounding=rounding)
    np.testing.assert_equal(layer.get_values(), own)


@pytest.mark.parametrize("number", range(50))
def test_a_checkpoint_of_pytorch_in_onnx_runtime(number):
    """A trained module of PyTorch, its arrays converted, and back."""
    rng = np.random.default_rng(number)
    rank, features = int(rng.integers(2, 6)), int(rng.integers(1, 9))
    epsilon = float(np.float32(log_uniform(rng, 1e-6, 1e-1)))
    data = Data(rng, "float64", rank, features)
    module, checkpoint = trained_module(data, epsilon, True)
    converted = convert(checkpoint, PYTORCH, ONNX, epsilon=epsilon)
    values, _ = data.batch()
    expected = module(tensor(values)).detach().numpy()
    run = session(make_model(rank, features, 15, False, epsilon, 0.9))
    agree(run({"x": values, **converted})[0], expected, "float64")
    load(module, convert(converted, ONNX, PYTORCH, epsilon=epsilon))
    agree(module(tensor(values)).detach().numpy(), expected, "float64")
