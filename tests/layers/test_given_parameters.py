"""Parameters that are given: variables that layers share, expressions, functions of a shape."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import caffe, keras, lasagne
from minigraph.layers import (
    GRU,
    LSTM,
    MLP,
    BatchNormalization,
    BatchNormalizedLSTM,
    Convolutional,
    Freeze,
    LayerNormalization,
    Linear,
    PopulationNormalization,
    Sequence,
    SimpleRecurrent,
    Tanh,
    WeightNormalizedLinear,
    batch_normalization,
    get_parameter_values,
    set_parameter_values,
)
from minigraph.training import sgd
from minigraph.transforms import freeze_batch_normalization, reset_population_statistics

C = np.arange(12, dtype="float32").reshape(3, 4)

LAYERS = {
    "linear": (lambda one: Linear(4, 3, biases_init=one), "b", (3,), (5, 4)),
    "convolution": (lambda one: Convolutional((2, 2), 3, 1, biases_init=one), "b", (3,), (2, 1, 4, 4)),
    "blocks": (lambda one: BatchNormalization(4, scale_init=one), "scale", (4,), (5, 4)),
    "lasagne": (lambda one: lasagne.BatchNormLayer((None, 4), beta=one), "beta", (4,), (5, 4)),
    "keras": (lambda one: keras.BatchNormalization(gamma_initializer=one), "gamma", (4,), (5, 4)),
    "caffe": (lambda one: caffe.Scale(filler=one), "scale", (4,), (5, 4)),
    "layer normalization": (lambda one: LayerNormalization(4, scale_init=one), "scale", (4,), (5, 4)),
    "recurrent": (lambda one: SimpleRecurrent(2, 4, biases_init=one), "b", (2,), (3, 5, 4)),
    "weight normalization": (lambda one: WeightNormalizedLinear(4, 3, biases_init=one), "b", (3,), (5, 4)),
    "gates": (lambda one: LSTM(2, 4, weights_init=one), "W", (2, 8), (3, 5, 4)),
    "biases of gates": (lambda one: LSTM(2, 4, biases_init=one), "b", (8,), (3, 5, 4)),
    "normalized gates": (lambda one: BatchNormalizedLSTM(2, 3, 4, weights_init=one), "W", (2, 8), (3, 5, 4)),
    "initial state": (lambda one: SimpleRecurrent(2, 4, initial_state_init=one), "initial_state", (2,), (3, 5, 4)),
}


def loss(layer, x):
    """A cost of a layer in training."""
    with batch_normalization(layer):
        results = layer.apply(x)
    y = results[0] if isinstance(results, list) else results
    return mg.square(y - 1.5).sum()


@pytest.fixture(params=LAYERS, ids=str)
def case(request, rng):
    make, name, shape, sizes = LAYERS[request.param]
    return make, name, rng.normal(size=shape).astype("float32"), rng.normal(size=sizes).astype("float32")


def test_a_shared_variable_is_the_parameter_of_all_layers_it_is_given_to(case):
    make, name, start, value = case
    own = mg.shared(start, "own")
    x = mg.tensor("x", dtype="float32", shape=(None, *value.shape[1:]))
    first, second = make(own), make(own)
    cost = loss(first, x) + loss(second, x) * 0.5
    assert first.variables[name] is second.variables[name] is own
    parameters = mg.ComputationGraph(cost).parameters
    assert parameters.count(own) == 1 and first.parameters.count(own) == 1
    gradient = mg.function([x], mg.grad(cost, own), no_default_updates=True)(value)
    alone = [make(start), make(start)]
    costs = [loss(layer, x) for layer in alone]
    for layer, first_layer in zip(alone, (first, second), strict=True):
        copied = {key: one.get_value() for key, one in first_layer.variables.items()}
        for key, one in layer.variables.items():
            one.set_value(copied[key])
    wanted = [mg.grad(one, layer.variables[name]) for one, layer in zip(costs, alone, strict=True)]
    parts = mg.function([x], wanted, no_default_updates=True)(value)
    np.testing.assert_allclose(gradient, parts[0] + 0.5 * parts[1], rtol=2e-4, atol=2e-4)
    still = freeze_batch_normalization(cost, Freeze.AVERAGES).outputs[0]
    mg.function([x], still, updates=sgd(still, mg.ComputationGraph(still), 0.01))(value)
    assert not np.array_equal(own.get_value(), start)
    now = own.get_value()
    first.initialize(0)
    np.testing.assert_array_equal(own.get_value(), now)


def test_an_expression_and_a_function_stand_for_the_parameter(case):
    make, name, start, value = case
    base = mg.shared(start / 2, "base")
    x = mg.tensor("x", dtype="float32", shape=(None, *value.shape[1:]))
    shapes = []

    def given(shape):
        shapes.append(shape)
        return start

    costs = {}
    for key, one in {"array": start, "expression": base * 2, "function": given, "both": lambda shape: base * 2}.items():
        layer = make(one)
        layer.seed = 1
        costs[key] = loss(layer, x)
        assert (name in layer.variables) == (key in ("array", "function"))
    values = [mg.function([x], cost, no_default_updates=True)(value) for cost in costs.values()]
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    assert shapes == [start.shape]
    for key in ("expression", "both"):
        layer = make(base * 2 if key == "expression" else lambda shape: base * 2)
        cost = loss(layer, x)
        assert layer.parameters.count(base) == mg.ComputationGraph(cost).parameters.count(base) == 1
        still = freeze_batch_normalization(cost, Freeze.AVERAGES).outputs[0]
        for learned in (layer, mg.ComputationGraph(still)):
            assert base in dict(sgd(still, learned, 0.01))
        if isinstance(layer, PopulationNormalization):
            layer.freeze = Freeze.EVERYTHING
            assert base not in layer.parameters and base not in mg.ComputationGraph(loss(layer, x)).parameters
    slope = mg.function([x], mg.grad(costs["expression"], base), no_default_updates=True)(value)
    assert slope.shape == start.shape and (slope != 0).any()


def test_what_an_expression_depends_on_learns_but_no_state_that_only_follows():
    x, z = mg.matrix("x", shape=(None, 3)), mg.matrix("z", shape=(3, 4))
    mean, weight = mg.shared(np.zeros(2, "float32"), "mean"), mg.shared(np.ones(2, "float32"), "weight")
    count = mg.shared(np.int64(2), "count")
    weights, normalization = Linear(4, 2), lasagne.BatchNormLayer((None, 2), mean=mean)
    made = mg.cast(normalization.apply(weights.apply(z)) * count, "float32") + mg.disconnected_grad(weight)
    layer = MLP([None], [3, 2], weights_init=made)
    graph = mg.ComputationGraph(mg.square(layer.apply(x)).sum())
    learned = {*weights.parameters, normalization.beta, normalization.gamma, layer.variables["linear_0.b"]}
    assert set(layer.parameters) == set(graph.parameters) == learned
    assert list(layer.variables) == ["linear_0.b"]


GATED = {
    "LSTM": (lambda **options: LSTM(2, 4, **options), (2, 8), (8,)),
    "GRU": (lambda **options: GRU(2, 4, **options), (2, 6), (6,)),
    "normalized": (lambda **options: BatchNormalizedLSTM(2, 3, 4, **options), (2, 8), (8,)),
}


@pytest.mark.parametrize("name", GATED)
def test_what_is_given_to_gates_is_the_whole_parameter(name, rng):
    make, weights, biases = GATED[name]
    x = mg.tensor3("x", shape=(None, None, 4))
    value = rng.normal(size=(3, 5, 4)).astype("float32")
    for option, shape in (("weights_init", weights), ("biases_init", biases)):
        array = rng.normal(size=shape).astype("float32")
        own, base = mg.shared(array, "own"), mg.shared(array / 2, "base")
        results = []
        for given in (array, own, base * 2, lambda shape, array=array: array, lambda shape, own=own: own):
            layer = make(seed=1, **{option: given})
            states = layer.apply(x)
            cost = mg.square(states[0] if isinstance(states, list) else states).sum()
            results.append(cost.eval({x: value}))
            if isinstance(given, mg.Variable):
                source = own if given is own else base
                assert source in mg.ComputationGraph(cost).shared_variables
                assert mg.grad(cost, source).eval({x: value}).shape == shape
            if given is own:
                assert own in layer.variables.values() and own in layer.parameters
        np.testing.assert_allclose(results, results[0], rtol=1e-5)
        for given in (np.ones((*shape[:-1], 2)), mg.shared(np.ones((*shape[:-1], 2), "float32"))):
            with pytest.raises(ValueError, match=str(shape).replace("(", "\\(").replace(")", "\\)")):
                make(**{option: given}).allocate()
    np.testing.assert_array_equal(np.unique([one.get_value() for one in _weights(make(weights_init=0.5))]), [0.5])


def _weights(layer):
    """The matrices of the states of a layer that is allocated for it."""
    layer.allocate()
    return [one for name, one in layer.own_variables.items() if name in ("W", "W_gates")]


def test_states_before_the_first_step_keep_their_order_whatever_is_given_for_them():
    own = mg.shared(np.full(2, 5.0, "float32"), "own")
    given = iter([own * 2, own])
    layer = LSTM(2, 4, initial_state_init=lambda shape: next(given))
    layer.allocate()
    assert [one.eval({})[0, 0] for one in layer.initial_states(1)] == [10, 5]


def test_an_initializer_and_a_number_are_for_each_gate():
    layer = LSTM(3, 2, biases_init=0.5, forget_bias=2.0)
    layer.allocate()
    np.testing.assert_array_equal(layer.variables["b"].get_value(), np.repeat([0.5, 2.5, 0.5, 0.5], 3))
    for gate in np.split(layer.variables["W"].get_value().astype("float64"), 4, axis=1):
        np.testing.assert_allclose(gate @ gate.T, np.eye(3), atol=1e-6)
    given = LSTM(3, 2, biases_init=np.full(12, 0.5), forget_bias=2.0)
    given.allocate()
    assert (given.variables["b"].get_value() == 0.5).all()


@pytest.mark.parametrize("name", GATED)
def test_errors_of_recurrent_layers_name_the_layer_and_the_method(name):
    layer = GATED[name][0](name="recurrence", input_weights_init=mg.shared(np.zeros((4, 2), "float32")))
    with pytest.raises(ValueError, match="W_input") as raised:
        layer.apply(mg.tensor3("x", shape=(None, None, 4)))
    assert "in /recurrence.apply(<x: float32 (None, None, 4)>)\n" in str(raised.value) and "RecurrentApplication" not in str(
        raised.value
    )
    assert repr(type(layer).apply) == f"{type(layer).__name__}.apply"


def test_layers_share_averages_and_parameters_of_one_another():
    x = mg.matrix("x", shape=(None, 4))
    first = lasagne.BatchNormLayer((None, 4), name="first")
    first.allocate()
    second = lasagne.BatchNormLayer(
        (None, 4), name="second", beta=first.beta, gamma=first.gamma, mean=first.mean, inv_std=first.inv_std
    )
    with batch_normalization(first):
        step = mg.function([x], first.apply(x))
    step(C)
    inference = second.apply(x)
    np.testing.assert_array_equal(inference.eval({x: C}), first.apply(x).eval({x: C}))
    assert second.mean.get_value()[0] == pytest.approx(0.4)
    both = Sequence([first, second])
    assert both.parameters == [first.beta, first.gamma]
    values = get_parameter_values(both)
    set_parameter_values(both, values)
    values["/sequence/second.mean"] = np.ones(4, "float32")
    with pytest.raises(ValueError, match="one variable, and cannot have two values"):
        set_parameter_values(both, values)
    reset_population_statistics(both)
    assert (first.mean.get_value() == 0).all() and (second.inv_std.get_value() == 1).all()


def test_a_model_with_shared_parameters_is_copied_as_one():
    own = mg.shared(np.zeros(4, "float32"), "own")
    network = MLP([Tanh(), None], [4, 4, 4], biases_init=own)
    network.allocate()
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        first, second = (other.variables[f"linear_{k}.b"] for k in (0, 1))
        assert first is second and first is not own and len(other.parameters) == 3


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (mg.shared(np.zeros(3, "float32")), ValueError, "has shape"),
        (mg.shared(np.zeros((1, 4), "float32")), ValueError, "has shape"),
        (mg.shared(np.zeros(4, "int64")), TypeError, "has dtype"),
        (lambda shape: np.zeros(3), ValueError, "broadcast"),
        (lambda shape: "zeros", TypeError, "real numbers"),
        (dict, TypeError, "a function of a shape"),
    ],
)
def test_what_does_not_fit_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        lasagne.BatchNormLayer((None, 4), beta=given).allocate()


@pytest.mark.parametrize("given", [lambda own: own, lambda own: own * 2], ids=["shared", "expression"])
def test_a_bias_that_was_given_is_dropped_like_any_other(given):
    x = mg.matrix("x", shape=(None, 4))
    own = mg.shared(np.ones(3, "float32"), "own")
    linear = Linear(4, 3, biases_init=given(own))
    linear.apply(x)
    assert linear.has_parameter("b")
    network = lasagne.batch_norm(linear)
    assert not linear.has_parameter("b") and own not in mg.ComputationGraph(network.apply(x)).shared_variables


@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1), (1, 4, 1), (1,), (1, 1), ()])
def test_axes_of_size_1_of_arrays_are_added_and_dropped(shape):
    start = np.full(shape, 0.5)
    for layer, name in ((LayerNormalization(4, scale_init=start), "scale"), (BatchNormalization(4, scale_init=start), "scale")):
        layer.allocate()
        np.testing.assert_array_equal(layer.variables[name].get_value(), np.full(4, 0.5, "float32"))
    with pytest.raises(ValueError, match="does not broadcast"):
        LayerNormalization((4, 3), scale_init=np.ones((3, 4))).allocate()


def test_what_follows_minibatches_must_be_shared():
    with pytest.raises(TypeError, match="must be a shared variable"):
        lasagne.BatchNormLayer((None, 4), mean=mg.vector("mean", shape=(4,))).allocate()
    negative = mg.shared(-np.ones(4, "float32"))
    with pytest.raises(ValueError, match="not above 0"):
        lasagne.BatchNormLayer((None, 4), inv_std=negative).allocate()
    with pytest.raises(ValueError, match="expression has none"):
        WeightNormalizedLinear(4, 3, weights_init=mg.shared(np.ones((4, 3), "float32")) * 2).allocate()
