"""Models of other systems in layers of ours: the same outputs, or an error with all that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import minigraph as mg
from minigraph import dialects
from minigraph.layers import (
    LSTM,
    BatchNormalization,
    Convolutional,
    ConvolutionalSequence,
    Flattener,
    Linear,
    Rectifier,
    Sequence,
    SpatialBatchNormalization,
    get_parameter_values,
)

DATA = Path(__file__).parent / "data"


def images(normalization, **options):
    """The network of `torch.pt`."""
    stages = [Convolutional(3, 3, **options), normalization, Rectifier(), Flattener(), Linear(12, 2)]
    return ConvolutionalSequence(stages, 2, (4, 4))


NORMALIZATIONS = {
    "Blocks": SpatialBatchNormalization,
    "PyTorch": lambda: dialects.torch.BatchNorm2d(3),
    "Lasagne": lambda: dialects.lasagne.BatchNormLayer((None, 3, 2, 2)),
    "Keras": lambda: dialects.keras.BatchNormalization(axis=1),
    "no epsilon": lambda: SpatialBatchNormalization(epsilon=0.0),
}


@pytest.mark.parametrize("name", ["torch.pt", "torch_old.pt"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_network_of_pytorchs_gives_its_outputs(name, normalization, flip):
    layers = images(NORMALIZATIONS[normalization](), flip_filters=flip)
    table = mg.files.load(DATA / name, layers)
    known = np.load(DATA / "torch.npz")
    x = mg.tensor4("x")
    np.testing.assert_allclose(layers.apply(x).eval({x: known["x"]}), known["y"], atol=1e-5)
    first, second, third = str(table).splitlines()
    assert first.split() == ["0.weight,", "0.bias", "/convolutional_sequence/convolutional"]
    assert second.startswith("1.weight, 1.bias, 1.running_mean, 1.running_var") and third.endswith("/linear")
    assert table.unused == table.untouched == ()


def recurrent(dim=4):
    """The network of `torch_lstm.pt`, without biases that it does not have."""
    return LSTM(dim, 3), BatchNormalization(dim, learn_scale=False, learn_shift=False), Linear(dim, 2, use_bias=False)


def test_an_lstm_of_pytorchs_and_a_normalization_that_is_not_affine():
    lstm, normalization, linear = layers = recurrent()
    lstm.allocate()
    lstm.parameter("initial_state").set_value(np.ones(4, "f"))  # PyTorch's begins with zeros
    mg.files.load(DATA / "torch_lstm.pt", layers)
    known = np.load(DATA / "torch_lstm.npz")
    x = mg.tensor3("x")
    y = linear.apply(normalization.apply(lstm.apply(x)[0][-1]))
    np.testing.assert_allclose(y.eval({x: known["x"]}), known["y"], atol=1e-5)
    learned = BatchNormalization(4)
    mg.files.load(DATA / "torch_lstm.pt", [lstm, learned, linear])
    np.testing.assert_allclose(linear.apply(learned.apply(lstm.apply(x)[0][-1])).eval({x: known["x"]}), known["y"], atol=1e-5)


def test_everything_that_does_not_fit_is_told_and_nothing_changes():
    layers = recurrent(5)
    for layer in layers:
        layer.allocate()
    before = get_parameter_values(layers)
    with pytest.raises(mg.errors.InvalidValueError) as caught:
        mg.files.load(DATA / "torch_lstm.pt", layers)
    for part in ("torch_lstm.pt", "/lstm.W_input has shape (3, 16), expected (3, 20)", "/linear.W has", "population_mean has"):
        assert part in str(caught.value), caught.value
    assert all((value == get_parameter_values(layers)[name]).all() for name, value in before.items())


def test_what_is_left_over_is_an_error_or_told():
    network = images(SpatialBatchNormalization())
    extra = Linear(2, 2)
    with pytest.raises(mg.errors.InvalidValueError, match="nothing for /linear"):
        mg.files.load(DATA / "torch.pt", [network, extra])
    assert not extra.allocated
    assert mg.files.load(DATA / "torch.pt", [network, extra], strict=False).untouched == ("/linear",)
    first = Sequence([Linear(12, 2)])
    with pytest.raises(mg.errors.InvalidValueError, match=r"0.weight has no layer.*1.running_mean has no layer"):
        mg.files.load(DATA / "torch.pt", first)
    table = mg.files.load(DATA / "torch.pt", first, strict=False)
    assert len(table.unused) == 7 and "0.weight" in table.unused and "(unused)" in str(table)


def test_names_of_pytorchs_within_ours_are_names(tmp_path):
    first, second = (images(dialects.torch.BatchNorm2d(3)) for _ in range(2))
    for layers in (first, second):
        layers.allocate()
    statistics = first.children[1]
    statistics.own_variables["running_mean"].set_value(np.arange(3, dtype="f"))
    mg.files.save(tmp_path / "model", first)
    mg.files.load(tmp_path / "model", second)
    assert second.children[1].own_variables["running_mean"].get_value().tolist() == [0, 1, 2]


def test_values_by_our_names_come_from_any_file(tmp_path):
    layer = Linear(3, 2, seed=4)
    layer.allocate()
    np.savez(tmp_path / "model.npz", **get_parameter_values(layer))
    other = Linear(3, 2)
    mg.files.load(tmp_path / "model.npz", other)
    assert (other.parameter("W").get_value() == layer.parameter("W").get_value()).all()
    np.savez(tmp_path / "more.npz", **get_parameter_values(layer), more=np.zeros(2))
    with pytest.raises(mg.errors.InvalidValueError, match=r"unknown \['more'\]"):
        mg.files.load(tmp_path / "more.npz", other)
    assert mg.files.load(tmp_path / "more.npz", other, strict=False).unused == ("more",)
