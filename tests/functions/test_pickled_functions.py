"""A pickled function is what it computes: no layers, no folders, none of the code that built it; one version loads it."""

import copy
import pickle
import pickletools
import subprocess
import sys

import numpy as np
import pytest

import minigraph as mg
from minigraph.core import version
from minigraph.layers import BatchNormalizedMLP, Linear, Sequence, Tanh, training
from minigraph.transforms import moving_average
from support.layer_table import CASES, assert_equal_steps, batches, stepping

DUPLICATIONS = [
    pytest.param(lambda one: pickle.loads(pickle.dumps(one)), id="pickle"),
    pytest.param(copy.deepcopy, id="deepcopy"),
]


def strings(data: bytes) -> set[str]:
    """Every text in a pickle: names of modules and classes among them."""
    return {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}


@pytest.mark.parametrize(("make", "shape"), CASES)
def test_functions_of_layers_are_pickled_without_them(make, shape):
    step = stepping(make(), shape)
    for batch in batches(shape, 2):
        step(batch)
    data = pickle.dumps(step)
    told = strings(data)
    assert not {
        text for text in told if "layers" in text or (text.startswith(("test_", "support")) and not text.endswith(".py"))
    }
    assert not {text for text in told if "/" in text and text.endswith(".py")}
    assert_equal_steps(step, pickle.loads(data), shape)


OWN_LAYER = """
import minigraph as mg
from minigraph.layers import Layer, application

class Doubling(Layer):
    @application
    def apply(self, x):
        rows = mg.scan(lambda row, s: s + self.twice(row), sequences=x, outputs_info=[mg.zeros(3)])
        return mg.assert_(rows, mg.gt(rows, -1e9), "too low")

    def twice(self, row):
        return 2 * row
"""

USE = """
import pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    f = pickle.load(file)
print(f(np.ones((2, 3), "float32")).tolist(), "doubling" in sys.modules)
"""


def test_a_function_is_loaded_without_the_code_of_its_layers(tmp_path, monkeypatch):
    (tmp_path / "doubling.py").write_text(OWN_LAYER)
    monkeypatch.syspath_prepend(tmp_path)
    from doubling import Doubling

    x = mg.matrix("x")
    path = tmp_path / "f.pickle"
    path.write_bytes(pickle.dumps(mg.function([x], Doubling().apply(x), backend="numpy")))
    assert str(tmp_path).encode() not in path.read_bytes()
    (tmp_path / "doubling.py").unlink()
    run = subprocess.run([sys.executable, "-c", USE, path], capture_output=True, text=True, check=True, cwd="/")
    assert run.stdout == "[[2.0, 2.0, 2.0], [4.0, 4.0, 4.0]] False\n"


def test_errors_still_say_the_line_and_the_layer():
    x = mg.matrix("x")
    y = Sequence([Linear(3, 2, name="first")], name="net").apply(x)
    f = pickle.loads(pickle.dumps(mg.function([x], mg.assert_(y, mg.gt(y, 1e9), "too low"), backend="numpy")))
    with pytest.raises(mg.FailedAssertionError, match=r"too low[\s\S]* test_pickled_functions.py:\d+"):
        f(np.ones((2, 3), "float32"))
    assert any(str(one.origin).endswith("in layer /net/first") for one in f.outputs[0].inputs[0].inputs)


@pytest.mark.parametrize("duplicate", DUPLICATIONS)
def test_functions_and_their_layers_share_state_and_can_be_swapped(duplicate):
    x = mg.matrix("x")
    network = BatchNormalizedMLP([Tanh(), None], [3, 4, 2])
    with training(network):
        y = network.apply(x)
    statistics = mg.transforms.get_batch_normalization_updates(y)
    step, again = duplicate((mg.function([x], y, updates=moving_average(statistics)), network))
    before = mg.layers.get_parameter_values(again)
    step(np.random.default_rng(0).normal(2, 3, (8, 3)).astype("float32"))
    after = mg.layers.get_parameter_values(again)
    assert before.keys() == after.keys() and any(not np.array_equal(before[name], after[name]) for name in before)
    (weights,) = [one for name, one in mg.layers.get_parameters(again).items() if name.endswith("linear_0.W")]
    zero = mg.shared(np.zeros((3, 4), "float32"))
    swapped = step.copy(swap={weights: zero}, delete_updates=True)
    batch = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")
    np.testing.assert_allclose(np.ptp(swapped(batch), axis=0), 0, atol=1e-6)
    assert np.ptp(step(batch), axis=0).min() > 0.1


def test_state_is_pickled_only_where_it_is_used():
    """What a graph merely remembers, such as population statistics that a minibatch's would update, is left out."""
    x = mg.matrix("x")
    unused = mg.shared(np.zeros(100_000), "unused")
    y = mg.with_default_update(x * 2, {unused: unused + 1})
    assert len(pickle.dumps(mg.function([x], y, no_default_updates=True))) < 5_000
    assert len(pickle.dumps(mg.function([x], y))) > 800_000


@pytest.mark.parametrize(("written", "loads"), [("0.0.9", False), ("7.1.0", False), (f"{version.__version__}.1", True)])
def test_other_versions_do_not_load_it(written, loads, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(version, "__version__", written)
        data = pickle.dumps(mg.function([], mg.constant(2.0) * 3))
    if loads:
        assert pickle.loads(data)() == 6
        return
    with pytest.raises(mg.InvalidValueError, match=f"pickled by minigraph {written}, and is loaded by {mg.__version__}"):
        pickle.loads(data)
