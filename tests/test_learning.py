"""Whether what should learn does: what rules are given, and the mode in which the graph was built."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import (
    MLP,
    BatchNormalizedMLP,
    Bias,
    Constant,
    Freeze,
    Layer,
    Linear,
    Rectifier,
    Sequence,
    Tanh,
    application,
    find_layers,
    get_parameters,
)
from minigraph.layers.roles import PARAMETER, WEIGHT
from minigraph.training import adadelta, adagrad, adam, adamw, amsgrad, momentum, nesterov, rmsprop, sgd, weight_decay

RULES = [sgd, momentum, nesterov, adagrad, rmsprop, adadelta, adam, adamw, amsgrad]


@pytest.fixture
def x():
    """A batch of four features."""
    return mg.matrix("x", shape=(None, 4))


def learned_by(updates):
    """The targets of updates that are learned parameters, in their order."""
    return [target for target, _ in updates if mg.layers.has_roles(target, [PARAMETER])]


# -- what a layer has ------------------------------------------------------------------------------------------------


class Scaled(Layer):
    """A network times a learned number."""

    def __init__(self, inner, **options):
        super().__init__(children=[inner], **options)

    def allocate_parameters(self):
        self.add_parameter("factor", (), Constant(2.0), WEIGHT)

    @application
    def apply(self, x):
        """The network at x, times the number."""
        return self.variables["factor"] * self.children[0].apply(x)


def test_parameters_and_variables_of_a_layer_include_those_below_it(x):
    network = Scaled(BatchNormalizedMLP([Rectifier(), None], [4, 3, 2]), name="top")
    assert network.parameters == [] and network.variables == {}
    graph = mg.ComputationGraph(network.apply(x))
    assert set(network.parameters) == set(graph.parameters)
    assert {f"/top/{name}".replace("/top/factor", "/top.factor"): one for name, one in network.variables.items()} == (
        get_parameters(network)
    )
    assert list(network.variables)[:2] == ["factor", "batch_normalized_mlp/linear_0.W"]
    assert list(network.own_variables) == ["factor"] and network.own_parameters == [network.variables["factor"]]
    inner = network.children[0]
    assert inner.variables["batch_normalization_1.population_mean"] is inner.stages[4].variables["population_mean"]
    assert inner.own_variables == {} and inner.own_parameters == []
    with pytest.raises(TypeError):
        network.variables["factor"] = mg.shared(1.0)


def test_a_layer_that_stands_in_two_places_is_listed_once(x):
    shared_layer = Linear(4, 4)
    network = Sequence([Sequence([shared_layer], name="lower"), Sequence([shared_layer], name="upper")])
    network.apply(x)
    assert network.parameters == shared_layer.parameters == list(shared_layer.variables.values())


# -- what a rule is given --------------------------------------------------------------------------------------------

WAYS = {
    "a layer": lambda network, graph: network,
    "layers": lambda network, graph: network.children,
    "a tuple of layers": lambda network, graph: tuple(network.children),
    "a graph": lambda network, graph: graph,
    "variables of a layer": lambda network, graph: network.parameters,
    "variables of a graph": lambda network, graph: graph.parameters,
    "a generator": lambda network, graph: (one for one in network.parameters),
    "a dict": lambda network, graph: get_parameters(network, PARAMETER),
    "both": lambda network, graph: [network.children[0], *network.children[2].parameters],
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_parameters_may_be_given_in_any_way(rule, way, x):
    network = MLP([Tanh(), None], [4, 3, 2])
    cost = mg.square(network.apply(x)).mean()
    updates = rule(cost, WAYS[way](network, mg.ComputationGraph(cost)), 0.1)
    assert set(learned_by(updates)) == set(network.parameters) and len(learned_by(updates)) == 4
    if way == "a generator":
        return
    given = WAYS[way](network, mg.ComputationGraph(cost))
    by_gradients = rule(mg.grad(cost, learned_by(updates)), given, 0.1)
    assert learned_by(by_gradients) == learned_by(updates)


def test_one_variable_is_a_way_too():
    w = mg.shared(np.ones(3))
    assert [target for target, _ in sgd(mg.square(w).sum(), w, 0.1)] == [w]


def test_what_a_layer_holds_still_is_not_updated(x):
    network = BatchNormalizedMLP([Rectifier(), None], [4, 3, 2])
    network.stages[1].freeze = Freeze.EVERYTHING
    with mg.layers.batch_normalization(network):
        cost = mg.square(network.apply(x)).mean()
    learned = set(network.parameters) - set(network.stages[1].parameters)
    assert set(learned_by(adam(cost, network))) == learned == set(mg.ComputationGraph(cost).parameters)
    with pytest.raises(ValueError, match=r"does not depend on .*scale.*leave it out"):
        adam(cost, network.parameters)


NOTHING = {
    "a list": list,
    "a generator": lambda: iter(()),
    "a dict": dict,
    "a layer": Tanh,
    "activations": lambda: [Tanh(), Rectifier()],
    "a fresh layer": lambda: MLP([Tanh()], [4, 3]),
    "parameters of a fresh layer": lambda: MLP([Tanh()], [4, 3]).parameters,
    "a graph": lambda: mg.ComputationGraph(mg.scalar("x") * 2),
    "another network": lambda: allocated(MLP([Tanh()], [4, 3])),
    "another network among others": lambda: [allocated(MLP([Tanh()], [4, 3])), *find_layers(allocated(Bias(4)))],
    "None": lambda: None,
    "a class": lambda: MLP,
    "a name": lambda: "W",
    "names": lambda: ["W", "b"],
    "a computed variable": lambda: mg.scalar("x") * 2,
}


def allocated(layer):
    """The layer, with parameters."""
    layer.allocate()
    return layer


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("nothing", NOTHING)
def test_rules_without_anything_to_learn_raise(rule, nothing):
    cost = mg.square(Linear(4, 2).apply(mg.matrix("x"))).mean()
    given = NOTHING[nothing]()
    with pytest.raises((TypeError, ValueError), match=r"no parameters|does not depend|must be|only shared"):
        rule(cost, given, 0.1)


@pytest.mark.parametrize("nothing", [name for name in NOTHING if not name.startswith("another")])
def test_weight_decay_without_parameters_raises(nothing):
    given = NOTHING[nothing]()
    with pytest.raises((TypeError, ValueError), match=r"no parameters|must be|only shared"):
        weight_decay([], given, 0.1)


def test_weight_decay_takes_layers(x):
    network = MLP([Tanh(), None], [4, 3, 2])
    gradients = mg.grad(mg.square(network.apply(x)).mean(), network.parameters)
    decayed = weight_decay(gradients, network, 0.1)
    assert [one is other for one, other in zip(decayed, gradients, strict=True)] == [False, True] * 2
    with pytest.raises(ValueError, match="as many gradients"):
        weight_decay(gradients[1:], network, 0.1)


def test_a_graph_is_no_cost(x):
    network = MLP([Tanh()], [4, 3])
    graph = mg.ComputationGraph(network.apply(x).mean())
    with pytest.raises(TypeError, match=r"graph\.outputs\[0\]"):
        sgd(graph, graph.parameters, 0.1)
