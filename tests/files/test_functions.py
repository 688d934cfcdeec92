"""Compiled functions as files: every op, the same bits, no code, no paths, and nothing that is not checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Op
from minigraph.files import safetensors
from minigraph.files.graph_json import _registered, known_ops
from minigraph.files.replacing import replacing
from minigraph.layers import LSTM, BatchNormalizedMLP, Rectifier, batch_normalization
from minigraph.printing import graph_lines
from minigraph.training import adam
from minigraph.transforms import get_batch_normalization_updates, moving_average
from support.backends import on_each
from support.golden import assert_golden
from support.op_table import RECORDS
from support.op_table.cases import SMOOTH, inputs_like, variables_of
from support.sweep import rounds

DATA = Path(__file__).parent / "data"
HERE = os.environ | {"PYTHONPATH": str(Path(mg.__file__).parents[1])}


def loaded_again(f, tmp_path, backend=None):
    """A function, saved and loaded."""
    f.save(tmp_path / "f")
    return mg.load_function(tmp_path / "f", backend)


def text(f):
    """The graph that a function was made of."""
    return list(graph_lines(f.specification().graph))


def assert_same_bits(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_every_op_comes_back(record, tmp_path):
    """So do gradients of those that have some."""
    smooth = {position for one, position, *_ in SMOOTH if one is record}
    for position, call in enumerate(record.calls):
        drawn = record.draw(call, record.dtypes[0])
        inputs = inputs_like(drawn)
        outputs = variables_of(record.build(call, inputs))
        floats = [one for one in inputs if one.dtype.kind == "f"]
        if position in smooth and floats and outputs[0].dtype.kind == "f":
            outputs += mg.grad(outputs[0].sum(), floats, disconnected_inputs="ignore")
        named = [mg.In(one, name=f"x{k}") for k, one in enumerate(inputs)]
        f = mg.function(named, outputs, on_unused_input="ignore", no_default_updates=True, backend="numpy")
        g = loaded_again(f, tmp_path)
        assert text(f) == text(g)
        assert_same_bits(f(*drawn), g(*drawn))


def test_names_of_ops_last():
    """Files name ops by these names for ever: a line may come to the golden text, and none may go."""
    assert_golden("op_names", sorted(known_ops()))


def training_step():
    """A training step of a normalized network, and what it is called with."""
    x, y = mg.matrix("x"), mg.lvector("y")
    network = BatchNormalizedMLP([Rectifier(), None], [4, 8, 2], seed=1)
    with batch_normalization(network):
        cost = mg.softmax_crossentropy(network.apply(x), y).mean()
    rule = adam(cost, mg.ComputationGraph(cost).parameters, 0.01)
    step = mg.function([x, y], cost, updates=rule + moving_average(get_batch_normalization_updates(cost)), name="step")
    rng = np.random.default_rng(3)
    return step, rng.normal(size=(8, 4)).astype("f"), rng.integers(0, 2, 8)


@on_each
def test_training_goes_on_with_the_same_bits(tmp_path, backend):
    step, x, y = training_step()
    step = mg.function(step.inputs, step.outputs, step.updates, backend=backend)
    step(x, y)
    other = loaded_again(step, tmp_path)
    assert other.backend == backend
    for _ in range(5):
        assert_same_bits(step(x, y), other(x, y))
    third = loaded_again(other, tmp_path, "numpy")
    assert third.backend == "numpy" and np.allclose(third(x, y)[0], other(x, y)[0], rtol=1e-5)


def test_loops_with_gradients_come_back(tmp_path, rng):
    x, layer = mg.tensor3("x"), LSTM(5, 3, seed=1)
    cost = mg.square(layer.apply(x)[0]).mean()
    f = mg.function([x], [cost, *mg.grad(cost, layer.parameters)])
    data = rng.normal(size=(7, 4, 3)).astype("f")
    assert_same_bits(f(data), loaded_again(f, tmp_path)(data))


def test_it_runs_where_the_code_that_made_it_is_not(tmp_path):
    step, x, y = training_step()
    step.save(tmp_path / "step")
    expected = [float(step(x, y)) for _ in range(3)]
    program = f"""
import sys
import numpy as np
import minigraph as mg
step = mg.load_function({str(tmp_path / "step")!r})
rng = np.random.default_rng(3)
x, y = rng.normal(size=(8, 4)).astype("f"), rng.integers(0, 2, 8)
print([float(step(x, y)) for _ in range(3)], step.name, step.inputs[0].variable.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=HERE)
    assert done.stdout.strip() == f"{expected} step x"


def test_neither_paths_nor_layers_nor_tags_are_in_it(tmp_path):
    step, *_ = training_step()
    step.save(tmp_path / "step")
    raw = (tmp_path / "step").read_bytes()
    assert str(Path(__file__).parent).encode() not in raw and b"test_functions.py" in raw
    assert not any(variable.tags for variable in mg.load_function(tmp_path / "step").graph.variables)


def test_defaults_names_and_forms_of_results(tmp_path):
    x, y = mg.matrix("x", shape=(None, 3)), mg.scalar("y")
    f = mg.function([x, mg.In(y, value=2.5, name="factor")], {"product": x * y, "sum": mg.Out(x.sum(0), host=True)})
    g = loaded_again(f, tmp_path)
    given = np.arange(6, dtype="f").reshape(2, 3)
    for call in ({}, {"factor": 3}):
        ours, theirs = f(given, **call), g(given, **call)
        assert list(ours) == list(theirs) == ["product", "sum"]
        assert_same_bits(ours.values(), theirs.values())
    assert g.inputs[0].variable.type.shape == (None, 3)
    single = mg.function([x], x + 1, passes="-merge")
    assert (
        isinstance(loaded_again(single, tmp_path)(given), np.ndarray) and "merge" not in loaded_again(single, tmp_path).passes
    )


def test_shared_variables_that_were_one_stay_one(tmp_path):
    state = mg.shared(np.zeros(2, "f"), "state")
    f = mg.function([], [state + 1, state * 2], updates=[(state, state + 1)])
    g = loaded_again(f, tmp_path)
    g()
    assert_same_bits(g(), [np.full(2, 2, "f"), np.full(2, 2, "f")])
    assert (state.get_value() == 0).all() and len({one.cell for one, _ in g.updates}) == 1


class Own(Op):
    """An op of a user's."""

    by: float

    def infer(self, *types):
        return types[0]

    def forward(self, xp, *arrays):
        return arrays[0] * self.by


def test_ops_of_a_users_own_must_be_registered(tmp_path):
    x = mg.vector("x")
    f = mg.function([x], Own(2.0)(x))
    with pytest.raises(mg.errors.InvalidTypeError, match=r"(?s)Own, used at .*test_functions.py.*register_op"):
        f.save(tmp_path / "f")
    assert not (tmp_path / "f").exists()
    try:
        assert mg.files.register_op(Own) is Own
        assert loaded_again(f, tmp_path)([1, 2]).tolist() == [2, 4]
        with pytest.raises(mg.errors.InvalidValueError, match="another op is named"):
            mg.files.register_op(type("Exp", (Own,), {}))
    finally:
        _registered.clear()
    with pytest.raises(mg.errors.FileFormatError, match=r"holds no function: .*no op 'Own'.*registered"):
        mg.load_function(tmp_path / "f")


def test_code_is_refused(tmp_path):
    x = mg.matrix("x")
    reduced = mg.function([x], mg.standardize(x, 0, all_reduce=lambda array: array)[0])
    own_pass = mg.function([x], x + 1, passes=[lambda graph: graph])
    keyed = mg.function([x], {3: x + 1})
    for f in (reduced, own_pass, keyed):
        with pytest.raises(mg.errors.InvalidTypeError):
            f.save(tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_long_chain_is_saved_and_loaded(tmp_path):
    x = mg.vector("x")
    y = x
    for _ in range(rounds(5_000, 10_000)):
        y = y * 1.0001
    f = mg.function([x], y, backend="numpy", passes=["-fold", "-simplify"])
    assert_same_bits([f([1, 2])], [loaded_again(f, tmp_path)([1, 2])])


def test_functions_of_every_version_are_read():
    """Each was written by the release that brought the version."""
    for path in sorted(DATA.glob("function_*.safetensors")):
        f = mg.load_function(path)
        assert f([[1.0, 2.0]], 3).tolist() == [[8.0, 11.0]] and f([[1.0, 2.0]], 3).tolist() == [[9.0, 12.0]]


def test_layers_are_not_functions_and_functions_not_layers(tmp_path):
    layer = mg.layers.Linear(2, 2)
    layer.allocate()
    mg.files.save(tmp_path / "layer", layer)
    with pytest.raises(mg.errors.FileFormatError, match=r"holds no function: it has arrays alone"):
        mg.load_function(tmp_path / "layer")


# -- files that say what cannot be -----------------------------------------------------------------------------------


def said(variables=None, **others):
    """What a file says of a function of one vector, with changes."""
    leaf = {"op": {"op": "Input"}, "inputs": [], "type": ["float32", [None]], "at": ["a.py", 1, ""]}
    exp = {"op": {"op": "Exp"}, "inputs": [0], "type": ["float32", [None]], "at": ["a.py", 2, ""]}
    graph = {"variables": [leaf, exp | (variables or {})], "inputs": [0], "outputs": [1], "updates": []}
    graph |= others.pop("graph", {})
    form = {"kind": "single", "keys": [], "borrow": [False], "host": [False]}
    given = [{"name": None, "borrow": False, "cast": False, "value": None}]
    whole = {"graph": graph, "inputs": given, "structure": form, "name": None, "backend": "numpy", "passes": []}
    return whole | others


def op(name, **fields):
    return {"op": {"op": name, **fields}}


HOSTILE = {
    "an unknown op": said(op("System")),
    "an op of the compiler's": said(op("Region")),
    "a leaf as an op": said(op("Shared", state="os.system")),
    "an input among fields": said(op("Whole", op={"op": "Input"})),
    "a class as an op": said({"op": "builtins.eval"}),
    "a list as an op": said({"op": ["Exp"]}),
    "a field too many": said(op("Exp", run="ls")),
    "a field too few": said(op("Cast")),
    "a dtype of objects": said(op("Cast", dtype={"dtype": "object"})),
    "a dtype that is a program": said(op("Cast", dtype={"dtype": "O,O"})),
    "an axis that is a string": said(op("Sum", axes=["x"])),
    "an axis that is too large": said(op("Sum", axes=[2**40]) | {"type": ["float32", []]}),
    "a sum of nothing": said(op("Sum", axes=None)),
    "an error that is no error of ours": said(op("Require", message="", error={"error": "SystemExit"})),
    "a float that is none": said(op("Elu", alpha={"float": "__import__"})),
    "a cycle": said({"inputs": [1]}),
    "an operand that comes later": said({"inputs": [2]}),
    "a negative number": said({"inputs": [-1]}),
    "a truth value as a number": said({"inputs": [True]}),
    "too many operands": said({"inputs": [0, 0]}),
    "no operands": said({"inputs": []}),
    "another type": said({"type": ["float64", [None]]}),
    "more axes": said({"type": ["float32", [None, 3]]}),
    "two results": said({"type": {"results": [["float32", [None]]] * 2}}),
    "no results": said({"type": {"results": []}}),
    "a type of nonsense": said({"type": "float32"}),
    "a negative size": said({"type": ["float32", [-1]]}),
    "a place of nonsense": said({"at": ["a.py"]}),
    "a name of nonsense": said({"name": ["a"]}),
    "an array that is not there": said(op("Constant", value="a") | {"inputs": []}),
    "an output that is not there": said(graph={"outputs": [7]}),
    "updates of nonsense": said(graph={"updates": [[0]]}),
    "an update of an input": said(graph={"updates": [[0, 1]]}),
    "a graph of nonsense": said(graph={"variables": 3}),
    "an input too many": said(inputs=[]),
    "inputs of nonsense": said(inputs=[3]),
    "a form of nonsense": said(structure={"kind": "single"}),
    "no graph": {"inputs": []},
    "a list": [],
    "a backend that is not there": said(backend="os"),
    "a pass that is not there": said(passes=["-os"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_is_refused(name, tmp_path):
    with replacing(tmp_path / "f") as file:
        safetensors.write(file, {}, {"function": json.dumps(HOSTILE[name])})
    with pytest.raises(mg.errors.MinigraphError) as caught:
        mg.load_function(tmp_path / "f")
    wanted = (
        mg.errors.FileFormatError if name not in ("a backend that is not there", "a pass that is not there") else ValueError
    )
    assert isinstance(caught.value, wanted), caught.value


def test_the_pattern_of_these_is_a_function(tmp_path):
    with replacing(tmp_path / "f") as file:
        safetensors.write(file, {}, {"function": json.dumps(said())})
    np.testing.assert_allclose(mg.load_function(tmp_path / "f")([0, 1]), [1, np.e], rtol=1e-6)
