"""Whether what should learn does: what rules are given, and the mode in which the graph was built."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph import dialects
from minigraph.layers import (
    MLP,
    BatchNormalization,
    BatchNormalizedLSTM,
    BatchNormalizedMLP,
    BatchRenormalization,
    Bias,
    Constant,
    Dropout,
    Freeze,
    Layer,
    LayerNormalization,
    Linear,
    Rectifier,
    Sequence,
    Tanh,
    WeightNormalizedLinear,
    application,
    batch_normalization,
    find_layers,
    get_parameters,
    is_in_training,
    training,
    untrained,
)
from minigraph.layers.core.roles import PARAMETER, WEIGHT
from minigraph.training import adadelta, adagrad, adam, adamw, amsgrad, momentum, nesterov, rmsprop, sgd, weight_decay
from minigraph.transforms import (
    Duplicates,
    apply_batch_normalization,
    apply_population_normalization,
    freeze_batch_normalization,
    get_batch_normalization_updates,
    moving_average,
)

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


def test_of_a_layer_what_has_a_gradient_is_updated(x):
    network = MLP([Tanh(), None], [4, 3, 1])
    slope = mg.grad(network.apply(x).sum(), x)
    penalty = mg.square(slope).mean()
    first, second = network.children[0], network.children[2]
    for given in (network, mg.ComputationGraph(penalty), [first, second]):
        assert set(learned_by(adamw(penalty, given))) == {*first.parameters, second.variables["W"]}
    with pytest.raises(ValueError, match=r"does not depend on .*<b: float32 \(1,\)>.*leave it out"):
        adamw(penalty, second.parameters)


def test_one_variable_is_a_way_too():
    w = mg.shared(np.ones(3))
    assert [target for target, _ in sgd(mg.square(w).sum(), w, 0.1)] == [w]


def test_what_a_layer_holds_still_is_not_updated(x):
    network = BatchNormalizedMLP([Rectifier(), None], [4, 3, 2])
    network.stages[1].freeze = Freeze.EVERYTHING
    with mg.layers.batch_normalization(network):
        cost = mg.square(network.apply(x)).mean()
    assert network.stages[1].parameters == []
    learned = set(network.parameters)
    assert set(learned_by(adam(cost, network))) == learned == set(mg.ComputationGraph(cost).parameters)
    with pytest.raises(ValueError, match=r"does not depend on .*scale.*leave it out"):
        adam(cost, [*network.parameters, network.stages[1].variables["scale"]])


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


@pytest.mark.parametrize("cost", [None, 1.0, Tanh()])
def test_what_is_no_cost_is_refused(cost):
    with pytest.raises(TypeError, match="a rule takes the cost, or a list of gradients"):
        sgd(cost, mg.shared(1.0), 0.1)


def test_a_graph_is_no_cost(x):
    network = MLP([Tanh()], [4, 3])
    graph = mg.ComputationGraph(network.apply(x).mean())
    with pytest.raises(TypeError, match=r"graph\.outputs\[0\]"):
        sgd(graph, graph.parameters, 0.1)


# -- the mode in which it learns -------------------------------------------------------------------------------------

INFERENCE = "updated through an inference-mode application"


def learning(cost, parameters=None, **options):
    """A function that learns from a cost."""
    graph = mg.ComputationGraph(cost)
    return mg.function(graph.inputs, cost, updates=sgd(cost, graph if parameters is None else parameters, 0.1), **options)


def mean_square(network, x):
    """A cost to learn from."""
    y = network.apply(x)
    return mg.square(y[0] if isinstance(y, list) else y).mean()


TWO_MODES = {
    "batch normalization": lambda: BatchNormalization(),
    "without scale and shift": lambda: BatchNormalization(learn_scale=False, learn_shift=False),
    "mean alone": lambda: BatchNormalization(mean_only=True),
    "batch renormalization": lambda: BatchRenormalization(),
    "ghost batches": lambda: BatchNormalization(virtual_batch_size=2),
    "dropout": lambda: Dropout(0.5),
    "lasagne": lambda: dialects.lasagne.BatchNormLayer(),
    "torch": lambda: dialects.torch.BatchNorm1d(),
    "torch7": lambda: dialects.torch.BatchNormalization(),
    "keras": lambda: dialects.keras.BatchNormalization(),
    "gomlx": lambda: dialects.gomlx.BatchNormalization(),
    "caffe": lambda: dialects.caffe.BatchNorm(),
    "onnx": lambda: dialects.onnx.BatchNormalization(),
    "puzzlelib": lambda: dialects.puzzlelib.BatchNorm(4),
}
ALWAYS_ONE_MODE = {
    "layer normalization": lambda: LayerNormalization(),
    "weight normalization": lambda: WeightNormalizedLinear(None, 4),
    "untracked": lambda: dialects.torch.BatchNorm1d(track_running_stats=False),
    "caffe by its minibatch": lambda: dialects.caffe.BatchNorm(use_global_stats=False),
    "caffe by its averages": lambda: dialects.caffe.BatchNorm(use_global_stats=True),
    "frozen": lambda: BatchNormalization(freeze=Freeze.STATISTICS),
    "frozen throughout": lambda: BatchNormalization(freeze=Freeze.EVERYTHING),
    "dropout of nothing": lambda: Dropout(0.0),
}


@pytest.mark.parametrize("place", ["first", "between", "last", "inside"])
@pytest.mark.parametrize("kind", TWO_MODES)
def test_learning_in_inference_mode_warns_wherever_the_layer_stands(kind, place, x):
    layer = TWO_MODES[kind]()
    before = [] if place == "first" else [Linear(4, 4, name="below"), Tanh()]
    own = Sequence([layer], name="inner") if place == "inside" else layer
    network = Sequence([*before, own, *([] if place == "last" else [Linear(4, 4, name="above")])], name="net")
    path = f"/net/inner/{layer.name}" if place == "inside" else f"/net/{layer.name}"
    with pytest.warns(UserWarning, match=INFERENCE) as caught:
        learning(mean_square(network, x))
    assert len(caught) == 1 and f"{path} are updated" in str(caught[0].message) and caught[0].filename == __file__
    with training(network):
        cost = mean_square(network, x)
    learning(cost, no_default_updates=False) if kind in QUIET else followed(cost)


QUIET = {name for name in TWO_MODES if name not in ("batch normalization", "without scale and shift", "mean alone")} - {
    "batch renormalization",
    "ghost batches",
}
"""Those that follow their minibatches by themselves, and need no pairs."""


def followed(cost):
    """A function that learns from a cost, and whose populations follow."""
    graph = mg.ComputationGraph(cost)
    pairs = moving_average(get_batch_normalization_updates(cost))
    return mg.function(graph.inputs, cost, updates=sgd(cost, graph, 0.1) + pairs)


@pytest.mark.parametrize("place", ["first", "between", "last"])
@pytest.mark.parametrize("kind", ALWAYS_ONE_MODE)
def test_layers_that_do_the_same_in_both_modes_do_not_warn(kind, place, x):
    layer = ALWAYS_ONE_MODE[kind]()
    before = [] if place == "first" else [Linear(4, 4, name="below")]
    network = Sequence([*before, layer, *([] if place == "last" else [Linear(4, 4, name="above")])])
    cost = mean_square(network, x)
    if mg.ComputationGraph(cost).parameters:
        learning(cost)


def test_a_network_names_all_that_it_learns_through(x):
    network = BatchNormalizedMLP([Rectifier(), None], [4, 3, 2])
    with pytest.warns(UserWarning, match=INFERENCE) as caught:
        learning(mean_square(network, x), network)
    names = [f"/batch_normalized_mlp/batch_normalization_{k}" for k in (0, 1)]
    assert all(name in str(caught[0].message) for name in names)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("steps", [None, 4])
def test_normalizations_inside_of_loops_warn(scaled, steps):
    layer = BatchNormalizedLSTM(3, n_iter=steps, input_dim=4)
    for one in find_layers(layer, lambda one: isinstance(one, BatchNormalization)):
        one.learn_scale = one.learn_shift = scaled
    rows = mg.tensor("rows", shape=(5, None, 4))
    with pytest.warns(UserWarning, match=r"normalize_input.*normalize_states.*normalize_cells.*inference-mode"):
        learning(mean_square(layer, rows), layer)
    with training(layer):
        cost = mean_square(layer, rows)
    pairs = get_batch_normalization_updates(cost, duplicates=Duplicates.POOLED)
    mg.function([rows], cost, updates=[*sgd(cost, layer, 0.1), *moving_average(pairs)])
    learning(freeze_batch_normalization(mean_square(layer, rows)).outputs[0], mg.ComputationGraph(cost).parameters[:1])


def test_dropout_in_a_loop_warns(x):
    drop, project = Dropout(0.5), Linear(4, 4)
    step = Sequence([project, drop], name="step")
    state = mg.scan(lambda s: step.apply(s), outputs_info=x, n_steps=3)
    with pytest.warns(UserWarning, match=r"/step/dropout are " + INFERENCE):
        learning(mg.square(state).mean(), step)


SILENCED = {
    "apply_population_normalization": lambda network, cost: apply_population_normalization(
        apply_batch_normalization(cost)
    ).outputs[0],
    "freeze_batch_normalization": lambda network, cost: freeze_batch_normalization(cost).outputs[0],
    "a flag": lambda network, cost: freeze_batch_normalization(apply_batch_normalization(cost), mg.shared(2)).outputs[0],
}


@pytest.mark.parametrize("way", SILENCED)
def test_fine_tuning_by_the_population_can_be_asked_for(way, x):
    network = BatchNormalizedMLP([Rectifier(), None], [4, 3, 2])
    cost = SILENCED[way](network, mean_square(network, x))
    graph = mg.ComputationGraph(cost)
    pairs = get_batch_normalization_updates(cost) if way == "a flag" else []
    mg.function([x], cost, updates=sgd(cost, graph, 0.1) + pairs)


def test_what_was_left_out_of_training_does_not_warn(x):
    network = Sequence([Linear(4, 4), Dropout(), BatchNormalization(), Linear(4, 2)])
    with training(network, predicate=lambda layer: not isinstance(layer, Dropout | BatchNormalization)):
        learning(mean_square(network, x))
    with training(network, predicate=lambda layer: isinstance(layer, Dropout)):
        learning(mean_square(network, x))
    with training(network, predicate=lambda layer: not isinstance(layer, Dropout)), training(network):
        assert mg.ComputationGraph(network.apply(x)).updates
    with batch_normalization(BatchNormalization(4), network):
        cost = mean_square(network, x)
    with pytest.warns(UserWarning, match="/dropout are"):
        followed(cost)


def test_what_learns_beside_a_network_in_inference_mode_does_not_warn(x):
    """A trained network as a source of features, as a teacher, as a target, and tests of the one that learns."""
    trained = Sequence([Linear(4, 4), BatchNormalization(), Dropout(), Rectifier()], name="trained")
    head = Sequence([Linear(4, 4), BatchNormalization(learn_shift=False), Dropout(), Linear(4, 2)], name="head")
    with training(head):
        on_features = mean_square(head, trained.apply(x))
        as_student = mg.square(head.apply(x) - trained.apply(x)[:, :2]).mean()
        after_target = mg.square(head.apply(x) - mg.disconnected_grad(head.apply(x))).mean()
    test = mean_square(head, x)
    for cost in (on_features, as_student, after_target):
        pairs = get_batch_normalization_updates(cost, duplicates=Duplicates.POOLED)
        updates = sgd(cost, head, 0.1) + moving_average(pairs)
        mg.function([x], [cost, test], updates=updates)


def test_dropout_before_what_learns_warns_also_behind_a_network_that_does_not_learn(x):
    trained, head = Sequence([Linear(4, 4), Dropout()], name="trained"), Sequence([Dropout(), Linear(4, 2)], name="head")
    whole = Sequence([trained, head], name="whole")
    for cost, path in ((mean_square(head, trained.apply(x)), "/head"), (mean_square(whole, x), "/whole/head")):
        with pytest.warns(UserWarning, match=INFERENCE) as caught:
            learning(cost, head)
        assert f"beside {path}/dropout are" in str(caught[0].message)


@pytest.mark.parametrize("by_new_values", [False, True])
def test_a_network_that_follows_by_averaging_its_weights_does_not_warn(by_new_values, x):
    student, teacher = (Sequence([Linear(4, 4), BatchNormalization(), Linear(4, 2)], name=name) for name in ("s", "t"))
    with training(student):
        taught = mg.square(student.apply(x) - mg.disconnected_grad(teacher.apply(x))).mean()
        beside = mg.square(student.apply(x) - teacher.apply(x)).mean()
    for cost in (taught,) if by_new_values else (taught, beside):
        updates = sgd(cost, student, 0.1)
        new = dict(updates) if by_new_values else {one: one for one in student.parameters}
        follows = [(own, own * 0.9 + new[one] * 0.1) for own, one in zip(teacher.parameters, student.parameters, strict=True)]
        mg.function([x], cost, updates=updates + follows + moving_average(get_batch_normalization_updates(cost)))


def test_a_loss_through_a_network_in_inference_mode_warns(x):
    judge = Sequence([Linear(4, 4), BatchNormalization()], name="judge")
    maker = Linear(4, 4, name="maker")
    with pytest.warns(UserWarning, match="/judge/batch_normalization are"):
        learning(mean_square(judge, maker.apply(x)), maker)


def test_inputs_and_state_without_roles_learn_in_inference_mode_without_a_warning(x):
    network = Sequence([Linear(4, 4), BatchNormalization()])
    picture = mg.shared(np.ones((2, 4), "float32"), "picture")
    cost = mean_square(network, picture)
    mg.function([], cost, updates=[(picture, picture - mg.grad(cost, picture))])


def test_lasagnes_switches_say_what_is_meant(x):
    layer = dialects.lasagne.BatchNormLayer((None, 4))
    below = Linear(4, 4)
    for quiet in (
        {"batch_norm_use_averages": True},
        {"batch_norm_use_averages": True, "batch_norm_update_averages": False},
        {},
    ):
        learning(mg.square(layer.get_output_for(below.apply(x), **quiet)).mean())
    with pytest.warns(UserWarning, match=INFERENCE):
        learning(mg.square(layer.get_output_for(below.apply(x), deterministic=True)).mean())


def test_a_layer_of_ones_own_can_say_that_it_has_two_modes(x):
    class Jitter(Layer):
        """Noise in training."""

        @application
        def apply(self, x):
            """x with noise, or as it is."""
            return x * 2 if is_in_training(self) else untrained(x)

    network = Sequence([Linear(4, 4), Jitter()], name="net")
    with pytest.warns(UserWarning, match="/net/jitter are"):
        learning(mean_square(network, x))
    with training(network):
        learning(mean_square(network, x))
