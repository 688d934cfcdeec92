"""What errors say: names of operands, the layer, the helper's line and its caller's; and what they do not: data, addresses."""

import inspect
import re
import traceback

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import MLP, Layer, Linear, Tanh, application
from support import mistakes
from support.backends import on_each

FORBIDDEN = re.compile(r"0x[0-9a-f]{6}|<function|<bound method|array\(|Application\(")


def line_of(function, mark):
    source, first = inspect.getsourcelines(function)
    (place,) = [k for k, line in enumerate(source) if line.rstrip().endswith(f"# {mark}")]
    return first + place


def helper(h, w):
    return mg.tanh(h @ w)  # product


def chain(weights):
    h = mg.matrix("x")
    x, first = h, helper(h, weights[0])
    second = helper(first, weights[1])  # wrong
    return x, helper(second, weights[2])


@on_each
@pytest.mark.parametrize("when", ["build", "call"])
def test_of_several_calls_of_a_helper_the_error_says_which(backend, when):
    sizes = [(4, 5), (6, 7), (7, 2)]
    if when == "build":
        weights = [mg.shared(np.ones(size, "float32"), f"W{k}") for k, size in enumerate(sizes)]
    else:
        weights = [mg.matrix(f"W{k}") for k in range(3)]
    with pytest.raises(ValueError) as caught:
        x, y = chain(weights)
        f = mg.function([x, *weights], y.sum(), backend=backend)
        f(np.ones((2, 4), "float32"), *[np.ones(size, "float32") for size in sizes])
    text = str(caught.value)
    assert "MatMul(Tanh, W1)" in text and "W0" not in text and "W2" not in text
    assert f"{__file__}:{line_of(helper, 'product')}\n" in text
    assert f"called from line {line_of(chain, 'wrong')}" in text
    assert "(6, 7)" in text


@on_each
def test_the_layer_is_named(backend):
    class Scaled(Layer):
        @application
        def apply(self, x):
            return x * mg.vector("factor", shape=(None,))

    x, layer = mg.matrix("x"), Scaled(name="scaled")
    y = layer.apply(x)
    (factor,) = [one for one in mg.ComputationGraph(y).inputs if one.name == "factor"]
    f = mg.function([x, factor], y, backend=backend)
    with pytest.raises(ValueError, match=r"in layer /scaled\n  called from line \d+") as caught:
        f(np.ones((2, 3), "float32"), [1, 2])
    assert "that is Multiply(" in str(caught.value)


def test_calls_of_layers_and_functions_are_named_as_users_know_them():
    net = MLP([Tanh(), None], [4, 3, 2], name="le_net")
    with pytest.raises(ValueError, match=r"in /le_net\.apply\(float32 \(2, 5\)\)"):
        net.apply(np.ones((2, 5), "float32"))
    x = mg.vector("x")
    f = mg.function([x], x.sum(), backend="native")
    with pytest.raises(
        TypeError, match=r"in <Function \(x\), 1 native call>\(\[float64 \(3,\), len, \{'a': float32 \(2, 2\)\}\]\)"
    ):
        f([np.ones(3), len, {"a": np.ones((2, 2), "float32")}])
    assert repr(mg.function([x], x.sum(), backend="numpy")) == "<Function (x), 1 NumPy call>"


def texts_of(error):
    """The texts of an error and of those of ours that led to it."""
    while error is not None:
        if isinstance(error, mg.MinigraphError):
            yield str(error)
        error = error.__cause__


@pytest.mark.parametrize("mistake", [entry.values[0] for entry in mistakes.TABLE], ids=lambda one: one.__name__)
def test_no_mistake_shows_data_or_addresses(mistake):
    with pytest.raises(mg.MinigraphError) as caught:
        mistake()
    assert not any(FORBIDDEN.search(text) for text in texts_of(caught.value))


def strange_values():
    m, v = mg.matrix("m"), mg.vector("v", shape=(3,))
    return [
        None, "text", 2.5, 3, -9, [], (), {}, m, v, mg.lvector("i"), mg.scalar("s"), object(), [[m, m]], np.ones((2, 2)),
        np.ones(2, complex), np.array([object()]), True, 1j, len, helper, [v, v], [[1], [1, 2]], float("nan"), {1},
        Linear(2, 3).apply,
    ]  # fmt: skip


PUBLIC = {name: value for name in mg.__all__ if inspect.isfunction(value := getattr(mg, name)) and name != "doctor"}
PUBLIC |= {f"linalg.{name}": vars(mg.linalg)[name] for name in mg.linalg.__all__}
for module in (mg.training, mg.transforms, mg.dialects, mg.files):
    functions = {name: vars(module)[name] for name in module.__all__ if inspect.isfunction(vars(module)[name])}
    PUBLIC |= {f"{module.__name__.rpartition('.')[2]}.{name}": function for name, function in functions.items()}
for owner in (mg.random.RandomStream(1), mg.ComputationGraph(mg.tanh(mg.matrix("m")))):
    methods = {name: method for name, method in inspect.getmembers(owner, inspect.ismethod) if not name.startswith("_")}
    PUBLIC |= {f"{type(owner).__name__}.{name}": method for name, method in methods.items()}
PUBLIC |= {name: kind for name, kind in vars(mg.layers).items() if inspect.isclass(kind) and issubclass(kind, Layer)}
METHODS = {
    f"Variable.{name}": method
    for name, method in inspect.getmembers(mg.Variable, inspect.isfunction)
    if name in ("__getitem__", "__add__", "__matmul__", "__pow__", "__lt__", "__round__")
    or not (name.startswith("_") or name == "with_inputs")
}


def calls_of(function, first):
    """Calls with a wrong argument at one place, `first` or a later one, and fitting ones at others."""
    places = [one for one in inspect.signature(function).parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    needed = sum(one.default is one.empty for one in places)
    for place in range(first, min(len(places), 4)):
        for value in strange_values():
            for fitting in (mg.matrix("m"), 3)[: 2 - first]:
                arguments = [fitting if one.default is one.empty else one.default for one in places[: max(needed, place + 1)]]
                arguments[place] = value
                yield arguments


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_wrong_arguments_are_errors_of_ours_at_the_users_line(name):
    function = PUBLIC.get(name) or METHODS[name]
    for arguments in calls_of(function, int(name in METHODS)):
        try:
            function(*arguments)
        except mg.MinigraphError as error:
            assert __file__ in str(error)
            assert not any(FORBIDDEN.search(text) for text in texts_of(error))
        except OSError as error:  # the system's own, of a file that it names
            assert error.filename in arguments
        except Exception as error:
            inner = traceback.extract_tb(error.__traceback__)[-1]
            assert inner.name == "helper", f"{type(error).__name__}: {error} for {arguments}"


def test_what_a_users_own_function_raises_passes():
    def wrong(x):
        return x.nothing

    with pytest.raises(AttributeError, match="no attribute 'nothing'") as caught:
        mg.scan(wrong, sequences=mg.vector("x"))
    assert not isinstance(caught.value, mg.MinigraphError)


def test_a_gradient_by_an_expression_written_anew_says_that_it_is_another_variable():
    x = mg.vector("x")
    with pytest.raises(ValueError, match="written twice, such as x\\[0\\], is two variables: name it once"):
        mg.grad(x[0] ** 2, [x[0]])
    with pytest.raises(ValueError, match="does not depend") as caught:
        mg.grad(x[0] ** 2, mg.scalar("y"))
    assert "twice" not in str(caught.value)
