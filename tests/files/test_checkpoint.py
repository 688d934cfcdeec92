"""Checkpoints: state comes back bit by bit, all of it or none, from between two steps of training."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import minigraph as mg
from minigraph.files import safetensors
from minigraph.files.replacing import replacing
from minigraph.layers import (
    LSTM,
    BatchNormalizedMLP,
    Convolutional,
    ConvolutionalSequence,
    Dropout,
    Linear,
    Rectifier,
    Sequence,
    SpatialBatchNormalization,
    Tanh,
    get_parameter_values,
)
from minigraph.transforms import get_batch_normalization_updates, moving_average

DATA = Path(__file__).parent / "data"
BITS = {
    "bool": [[True, False]], "int8": [-128, 127], "uint8": [0, 255], "int16": [-(2**15)], "uint16": [2**16 - 1],
    "int32": [-(2**31)], "uint32": [2**32 - 1], "int64": [-(2**63), 2**63 - 1], "uint64": [2**64 - 1],
    "float16": [-0.0, np.inf, 6e-8], "float32": [-0.0, np.nan, 1e-45], "float64": [[-0.0], [5e-324], [np.inf]],
}  # fmt: skip


def network(seed):
    """Layers with every kind of state: parameters, statistics, random streams, and an integer counter."""
    images = ConvolutionalSequence([Convolutional(3, 4), SpatialBatchNormalization(), Rectifier()], 3, (8, 8))
    dense = BatchNormalizedMLP([Tanh(), None], [4, 8, 2])
    layers = [images, dense, LSTM(5, 3), Sequence([Dropout(0.5), Linear(2, 3)])]
    for layer in layers:
        layer.seed = seed
        layer.allocate()
    return layers


def test_all_state_comes_back(tmp_path):
    saved, loaded = network(1), network(2)
    mg.files.save(tmp_path / "model", saved)
    mg.files.load(tmp_path / "model", loaded)
    before, after = get_parameter_values(saved), get_parameter_values(loaded)
    assert len(before) == 24 and {one.dtype.kind for one in before.values()} >= {"f", "u"}
    for name, value in before.items():
        assert value.dtype == after[name].dtype and value.tobytes() == after[name].tobytes(), name


def test_every_bit_of_every_dtype_comes_back(tmp_path):
    arrays = {name: np.array(values, name) for name, values in BITS.items()}
    payload = np.array([0x7FC12345, 0xFFFFFFFF, 0x7F800001], "uint32").view("float32")
    arrays |= {"payload": payload, "nothing": np.zeros((3, 0, 2)), "number": np.array(-0.0, "float16")}
    arrays |= {"across": np.arange(6.0).reshape(2, 3).T, "swapped": np.arange(3, dtype=">i4")}
    with replacing(tmp_path / "arrays") as file:
        safetensors.write(file, arrays, {"said": "of them"})
    found = mg.files.read(tmp_path / "arrays")
    assert set(found) == set(arrays) and found.about["said"] == "of them" and found.format == "minigraph"
    for name, array in arrays.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype.newbyteorder("="), name
        assert found[name].tobytes() == array.astype(found[name].dtype).tobytes(), name
        with pytest.raises(ValueError, match="read-only"):
            found[name][...] = 0


def test_layers_without_state_are_made_where_sizes_are_known(tmp_path):
    saved, path = Linear(3, 2, seed=1), tmp_path / "model"
    saved.allocate()
    mg.files.save(path, saved)
    fresh = Linear(3, 2)
    mg.files.load(path, fresh)
    assert (fresh.parameter("W").get_value() == saved.parameter("W").get_value()).all()
    with pytest.raises(mg.errors.InvalidValueError, match=r"(?s)have no state yet.*test_checkpoint.py"):
        mg.files.save(tmp_path / "none", Linear(3, 2))
    assert not (tmp_path / "none").exists()


def test_all_differences_are_told_and_nothing_is_changed(tmp_path):
    saved = Sequence([Linear(3, 2, name="a"), Linear(2, 2, name="b"), Linear(2, 2, name="c", dtype="float64")])
    saved.allocate()
    mg.files.save(tmp_path / "model", saved)
    other = Sequence([Linear(3, 4, name="a"), Linear(4, 2, name="B"), Linear(2, 2, name="c", dtype="float32")])
    other.allocate()
    before = get_parameter_values(other)
    with pytest.raises(mg.errors.InvalidValueError) as caught:
        mg.files.load(tmp_path / "model", other)
    assert not isinstance(caught.value, mg.errors.FileFormatError)
    said = str(caught.value)
    parts = "/a.W has shape (3, 2), expected (3, 4)", "/a.b has shape", "B.W", "b.W", "/c.W", "float64", "model", __file__
    for part in parts:
        assert part in said, said
    assert all((value == get_parameter_values(other)[name]).all() for name, value in before.items())


def test_what_is_saved_is_one_step_while_another_thread_trains(tmp_path):
    layer = Linear(50, 50, seed=0)
    layer.allocate()
    variables = list(layer.own_variables.values())
    step = mg.function([], [], updates=[(one, one + 1) for one in variables])
    for one in variables:
        one.set_value(np.zeros_like(one.get_value()))
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [step() for _ in iter(stop.is_set, True)])
    thread.start()
    try:
        for _ in range(50):
            mg.files.save(tmp_path / "model", layer)
            weights, biases = mg.files.read(tmp_path / "model").values()
            assert (weights == weights[0, 0]).all() and (biases == weights[0, 0]).all()
    finally:
        stop.set()
        thread.join()
    assert weights[0, 0] > 0


def test_files_of_every_version_are_read():
    """Each was written by the release that brought the version."""
    versions = sorted(DATA.glob("version_*.safetensors"))
    assert len(versions) == safetensors.CURRENT
    for path in versions:
        layer = Linear(3, 2)
        mg.files.load(path, layer)
        np.testing.assert_array_equal(layer.parameter("W").get_value(), np.arange(6, dtype="float32").reshape(3, 2) / 8)
        np.testing.assert_array_equal(layer.parameter("b").get_value(), np.array([-0.0, 1e-45], "float32"))


def test_a_newer_version_is_refused_with_both_numbers(tmp_path):
    raw = (DATA / "version_1.safetensors").read_bytes()
    (tmp_path / "newer").write_bytes(raw.replace(b'"minigraph":"1"', b'"minigraph":"7"'))
    with pytest.raises(mg.errors.FileFormatError, match=r"version 7 of the format, .* up to version 1; install a newer"):
        mg.files.read(tmp_path / "newer")


def foreign(path, header, data):
    """A file of safetensors as another program writes it."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_files_of_other_programs_are_read(tmp_path):
    halves = np.array([0x3F80, 0xC000, 0x7FC1], "<u2")
    header = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [6, 14]},
        "a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]},
        "c": {"dtype": "BOOL", "shape": [], "data_offsets": [14, 15]},
    }
    path = foreign(tmp_path / "model", header, halves.tobytes() + np.array([1, 2], "<f4").tobytes() + b"\x01")
    found = mg.files.read(path)
    assert found.format == "safetensors" and found.about == {"format": "pt"} and list(found) == ["b", "a", "c"]
    assert found["a"].dtype == "float32" and found["a"][:2].tolist() == [1.0, -2.0]
    assert found["a"].view("uint32")[2] == 0x7FC10000
    assert found["b"].tolist() == [1, 2] and found["c"].shape == () and found["c"] == np.True_


def test_training_goes_on_as_if_it_had_not_stopped(tmp_path, rng):
    x, y = rng.normal(size=(8, 4)).astype("f"), rng.integers(0, 2, 8)

    def trained(layer, steps):
        inputs = mg.matrix("x"), mg.lvector("y")
        with mg.layers.batch_normalization(layer):
            cost = mg.softmax_crossentropy(layer.apply(inputs[0]), inputs[1]).mean()
        rule = mg.training.sgd(cost, mg.ComputationGraph(cost).parameters, 0.1)
        step = mg.function(inputs, cost, updates=rule + moving_average(get_batch_normalization_updates(cost)))
        return [float(step(x, y)) for _ in range(steps)]

    first, second = (BatchNormalizedMLP([Tanh(), None], [4, 8, 2], seed=k) for k in (1, 2))
    trained(first, 3)
    mg.files.save(tmp_path / "model", first)
    mg.files.load(tmp_path / "model", second)
    assert trained(first, 3) == trained(second, 3)


def test_minigraph_is_imported_without_files():
    program = "import sys, minigraph; sys.exit(any(name.startswith('minigraph.files') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
