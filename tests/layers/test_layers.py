"""Layers, roles, filters, computation graphs, initializers."""

from __future__ import annotations

import copy
import inspect
import pickle

import networkx
import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import (
    GRU,
    MLP,
    BatchNormalization,
    Bias,
    Constant,
    Convolutional,
    Dropout,
    Elu,
    Gelu,
    Glorot,
    He,
    Identity,
    IdentityInitializer,
    Initializer,
    IsotropicGaussian,
    Layer,
    LeakyRectifier,
    Linear,
    Logistic,
    Orthogonal,
    Rectifier,
    Sequence,
    Silu,
    Softmax,
    Softplus,
    Sparse,
    Tanh,
    Uniform,
    application,
    find_layers,
    get_application_call,
    get_layer,
    get_parameter_values,
    get_parameters,
    set_parameter_values,
    training,
)
from minigraph.layers.core.roles import (
    AUXILIARY,
    BIAS,
    COST,
    DROPOUT,
    FILTER,
    INPUT,
    OUTPUT,
    PARAMETER,
    WEIGHT,
    add_role,
    has_roles,
    with_auxiliary,
)
from minigraph.transforms import apply_dropout, apply_noise


@pytest.fixture
def mlp():
    """Two layers, applied to nothing yet."""
    return MLP([Tanh(), None], [4, 3, 2])


@pytest.fixture
def x():
    """A batch of four features."""
    return mg.matrix("x")


# -- layers ----------------------------------------------------------------------------------------------------------


def test_linear_is_a_product_plus_a_bias(x, rng):
    layer = Linear(4, 3, biases_init=0.5)
    values = rng.normal(size=(5, 4)).astype("float32")
    expected = values @ layer_value(layer, x, "W") + 0.5
    np.testing.assert_allclose(layer.apply(x).eval({x: values}), expected, rtol=1e-5, atol=1e-6)
    assert mg.ComputationGraph(Linear(4, 3, use_bias=False).apply(x)).parameters[0].name == "W"


def layer_value(layer, x, name):
    """The value of a parameter, allocated by an application."""
    layer.apply(x)
    return layer.variables[name].get_value()


def test_linear_takes_any_number_of_leading_axes(rng):
    sequences = mg.tensor3("sequences")
    layer = Linear(4, 3)
    values = rng.normal(size=(2, 5, 4)).astype("float32")
    y = layer.apply(sequences).eval({sequences: values})
    np.testing.assert_allclose(y, values @ layer.variables["W"].get_value(), rtol=1e-5, atol=1e-6)


def test_bias_and_identity(x):
    ones = np.ones((2, 4), "float32")
    assert (Bias(4, biases_init=1.0).apply(x).eval({x: ones}) == 2).all()
    assert (Identity().apply(x).eval({x: ones}) == 1).all()


ACTIVATIONS = {
    Tanh(): np.tanh,
    Logistic(): lambda v: 1 / (1 + np.exp(-v)),
    Softplus(): lambda v: np.log1p(np.exp(v)),
    Rectifier(): lambda v: np.maximum(v, 0),
    LeakyRectifier(0.2): lambda v: np.where(v > 0, v, 0.2 * v),
    Elu(1.5): lambda v: np.where(v > 0, v, 1.5 * np.expm1(v)),
    Silu(): lambda v: v / (1 + np.exp(-v)),
    Softmax(): lambda v: np.exp(v) / np.exp(v).sum(axis=-1, keepdims=True),
}


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
def test_activations(layer, x, rng):
    values = rng.normal(size=(3, 4)).astype("float32")
    np.testing.assert_allclose(layer.apply(x).eval({x: values}), ACTIVATIONS[layer](values), rtol=1e-5, atol=1e-6)


def test_gelu_is_the_expected_value_of_a_gate(x):
    assert Gelu().apply(x).eval({x: [[1.0]]})[0, 0] == pytest.approx(0.8413447)


def test_softmax_layer_has_a_stable_crossentropy(x):
    targets = mg.lvector("targets")
    cost = Softmax().categorical_cross_entropy(targets, x)
    assert cost.eval({x: [[1000.0, 0.0]], targets: [1]}) == 1000
    assert Softmax().log_probabilities(x).eval({x: [[1000.0, 0.0]]})[0, 1] == -1000


def test_a_sequence_applies_layers_and_applications_in_turn(x, rng):
    softmax = Softmax()
    network = Sequence([Linear(4, 3), Tanh(), softmax.log_probabilities])
    values = rng.normal(size=(2, 4)).astype("float32")
    y = network.apply(x).eval({x: values})
    np.testing.assert_allclose(np.exp(y).sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(TypeError, match="made of layers"):
        Sequence([np.tanh])


def test_an_mlp_infers_its_first_size():
    network = MLP([Tanh(), Softmax()], [None, 5, 2])
    network.apply(mg.tensor("x", shape=(None, 7)))
    assert network.children[0].variables["W"].type.shape == (7, 5)
    with pytest.raises(ValueError, match="3 dims"):
        MLP([Tanh(), Tanh()], [1, 2])


def test_calling_a_layer_applies_it(mlp, x):
    assert mg.debugprint(mlp(x)) == mg.debugprint(mlp.apply(x))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: Linear(output_dim=3).apply(mg.matrix("x")), "input_dim is not known"),
        (lambda: Linear(4).apply(mg.matrix("x")), "output_dim is not known"),
        (lambda: Linear(4, 3).apply(mg.tensor("x", shape=(None, 5))), "4 features"),
        (lambda: Linear(4, 3).apply(mg.scalar("x")), "4 features"),
        (lambda: Linear(output_dim=3).initialize(), "input_dim is not known"),
        (lambda: Dropout(1.0), "drop_prob"),
        (lambda: Sequence([Tanh(name="a"), Tanh(name="a")]), "two layers are named"),
        (lambda: Uniform(), "width or std"),
        (lambda: training().__enter__(), "at least one layer"),
    ],
)
def test_what_does_not_fit_is_a_value_error(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()


def test_errors_inside_a_layer_name_its_path():
    network = Sequence([Sequence([Linear(4, 3)], name="inner")], name="outer")
    with pytest.raises(ValueError, match=r"4 features"):
        network.apply(mg.tensor("x", shape=(None, 5)))
    x = mg.matrix("x")
    with pytest.raises(ValueError, match=r"test_layers\.py:\d+, in layer /outer/inner/linear"):
        network.apply(x).eval({x: np.zeros((2, 5), "float32")})


# -- parameters ------------------------------------------------------------------------------------------------------


def test_parameters_have_hierarchical_names(mlp, x):
    mlp.apply(x)
    names = ["/mlp/linear_0.W", "/mlp/linear_0.b", "/mlp/linear_1.W", "/mlp/linear_1.b"]
    assert list(get_parameters(mlp)) == names
    assert list(get_parameters(mlp, role=WEIGHT)) == names[::2]


def test_parameter_values_are_copies_and_are_set_all_or_none(mlp, x):
    mlp.apply(x)
    values = get_parameter_values(mlp)
    values["/mlp/linear_0.b"] += 1
    assert (get_parameter_values(mlp)["/mlp/linear_0.b"] == 0).all()
    set_parameter_values(mlp, values)
    assert (get_parameter_values(mlp)["/mlp/linear_0.b"] == 1).all()
    before = get_parameter_values(mlp)
    wrong = {**values, "/mlp/linear_0.W": values["/mlp/linear_0.W"] * 0, "/mlp/linear_1.b": np.zeros(7, "float32")}
    with pytest.raises(ValueError, match="shape"):
        set_parameter_values(mlp, wrong)
    with pytest.raises(ValueError, match="missing"):
        set_parameter_values(mlp, {"/mlp/linear_9.W": 0})
    after = get_parameter_values(mlp)
    assert all((before[name] == after[name]).all() for name in before)


def test_initial_values_depend_on_the_seed_and_the_path_alone():
    def weights(seed, name="mlp"):
        network = MLP([Tanh(), None], [4, 3, 2], seed=seed, name=name)
        network.apply(mg.matrix("x"))
        return network.children[0].variables["W"].get_value(), network.children[2].variables["W"].get_value()

    np.testing.assert_array_equal(weights(1)[0], weights(1)[0])
    assert not np.array_equal(weights(1)[0], weights(2)[0])
    assert not np.array_equal(weights(1)[0], weights(1, "other")[0])


def test_initialize_draws_anew(mlp, x):
    mlp.apply(x)
    first = get_parameter_values(mlp)
    mlp.initialize(5)
    second = get_parameter_values(mlp)
    mlp.initialize(5)
    third = get_parameter_values(mlp)
    assert not np.array_equal(first["/mlp/linear_0.W"], second["/mlp/linear_0.W"])
    assert all((second[name] == third[name]).all() for name in second)


def test_allocate_works_where_sizes_are_known(mlp):
    mlp.allocate()
    assert len(get_parameters(mlp)) == 4
    with pytest.raises(ValueError, match="input_dim"):
        MLP([None], [None, 3]).allocate()


def test_parameters_take_the_dtype_of_the_input():
    layer = Linear(4, 3)
    layer.apply(mg.dmatrix("x"))
    assert layer.variables["W"].dtype == "float64"
    assert Linear(4, 3, dtype="float32").apply(mg.dmatrix("x")).dtype == "float64"


def test_a_model_pickles_and_copies_with_its_graph(mlp, x, rng):
    values = rng.normal(size=(2, 4)).astype("float32")
    y = mlp.apply(x)
    expected = y.eval({x: values})
    for duplicate in (pickle.loads(pickle.dumps((mlp, x, y))), copy.deepcopy((mlp, x, y))):
        model, entry, output = duplicate
        np.testing.assert_array_equal(output.eval({entry: values}), expected)
        np.testing.assert_array_equal(model.apply(entry).eval({entry: values}), expected)
        (weight, _) = mg.VariableFilter(roles=[WEIGHT])(mg.ComputationGraph(output).variables)
        assert weight is model.children[0].variables["W"] and get_layer(weight) is model.children[0]


# -- arguments -------------------------------------------------------------------------------------------------------

LAYERS = [one for one in vars(mg.layers).values() if isinstance(one, type) and issubclass(one, Layer)] + [
    one
    for module in vars(mg.dialects).values()
    if isinstance(module, type(mg))
    for name, one in vars(module).items()
    if isinstance(one, type) and issubclass(one, Layer) and one.__module__ == module.__name__ and name[0] != "_"
]
NEEDED = {
    "Sequence": ([],),
    "ConvolutionalSequence": ([],),
    "MLP": ([], [1]),
    "BatchNormalizedMLP": ([], [1]),
    "Convolutional": (3, 4),
    "ConvolutionalTranspose": (3, 4),
    "Bidirectional": (GRU(2),),
    "RecurrentStack": ([GRU(2)],),
    "BatchNormND": (2, 3),
    **dict.fromkeys(("BatchNorm1D", "BatchNorm2D", "BatchNorm3D"), (3,)),
}
"""What classes must be given; others that must be given something take a number."""


@pytest.mark.parametrize(
    "kind", LAYERS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}".removeprefix("minigraph.layers.")
)
def test_a_layer_that_is_given_an_unknown_argument_says_who_it_is_and_what_it_takes(kind):
    required = [one for one in list(inspect.signature(kind).parameters.values()) if one.default is one.empty]
    given = NEEDED.get(kind.__name__, (3,) * sum(one.kind is one.POSITIONAL_OR_KEYWORD for one in required))
    with pytest.raises(TypeError, match=rf"^{kind.__name__} has .*(name|dtype|seed).*, not blah") as caught:
        kind(*given, blah=1)
    assert __file__ in str(caught.value)
    with pytest.raises(TypeError, match=rf"^{kind.__name__} has seed, not seeds"):
        kind(*given, seeds=1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(4, 3, bias=False), "Linear has use_bias, not bias"),
        (lambda: MLP([Tanh()], [4, 3], bias=False), "MLP has use_bias, not bias"),
        (lambda: BatchNormalization(4, eps=0.1), "BatchNormalization has epsilon, not eps"),
        (lambda: GRU(4, input_size=3), "GRU has input_dim, not input_size"),
        (lambda: Dropout(p=0.1), "Dropout has drop_prob"),
        (lambda: Convolutional(3, 4, strides=2, flip=True), "Convolutional has .*flip_filters, not strides, flip"),
    ],
)
def test_the_nearest_argument_is_named(build, message):
    with pytest.raises(TypeError, match=message):
        build()


# -- initializers ----------------------------------------------------------------------------------------------------

LARGE = (400, 300)


@pytest.mark.parametrize(
    ("initializer", "mean", "std"),
    [
        (Constant(3.0), 3.0, 0.0),
        (IsotropicGaussian(0.5, 1.0), 1.0, 0.5),
        (Uniform(1.0, width=2.0), 1.0, 2 / np.sqrt(12)),
        (Uniform(std=0.3), 0.0, 0.3),
        (Glorot(), 0.0, np.sqrt(2 / 700)),
        (He(), 0.0, np.sqrt(2 / 400)),
        (Orthogonal(), 0.0, 1 / 20),
        (Sparse(4), 0.0, np.sqrt(4 / 400)),
    ],
)
def test_initializers_have_the_moments_they_promise(initializer, mean, std, rng):
    values = initializer.generate(rng, LARGE)
    assert values.shape == LARGE
    assert values.mean() == pytest.approx(mean, abs=3e-3) and values.std() == pytest.approx(std, rel=0.04, abs=1e-12)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3)])
def test_orthogonal_rows_or_columns(shape, rng):
    matrix = Orthogonal(2.0).generate(rng, shape).reshape(shape[0], -1)
    small = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_sparse_has_so_many_connections_per_output(rng):
    assert ((Sparse(3).generate(rng, (10, 6)) != 0).sum(axis=0) == 3).all()


def test_identity_initializer(rng):
    np.testing.assert_array_equal(IdentityInitializer(2.0).generate(rng, (3, 3)), 2 * np.eye(3))


def test_filters_count_their_window(rng):
    assert He().generate(rng, (50, 20, 5, 5)).std() == pytest.approx(np.sqrt(2 / 500), rel=0.05)


@pytest.mark.parametrize(
    ("initializer", "shape"), [(Glorot(), (3,)), (Orthogonal(), (3,)), (IdentityInitializer(), (2, 3)), (Sparse(), (3,))]
)
def test_initializers_refuse_shapes_without_meaning(initializer, shape, rng):
    with pytest.raises(ValueError, match="shape"):
        initializer.generate(rng, shape)


def test_an_initializer_may_be_a_number_but_no_text():
    assert isinstance(Linear(2, 2, weights_init=1.0).weights_init, Initializer)
    with pytest.raises(TypeError, match="biases_init"):
        Linear(2, 2, biases_init="zeros")


# -- dropout and noise -----------------------------------------------------------------------------------------------


def test_dropout_is_the_identity_unless_built_for_training(x):
    layer = Dropout(0.25)
    ones = np.ones((200, 100), "float32")
    assert (layer.apply(x).eval({x: ones}) == 1).all()
    with training(layer):
        f = mg.function([x], layer.apply(x))
    first, second = f(ones), f(ones)
    assert set(np.unique(first)) == {0, np.float32(1 / 0.75)}
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.01) and not np.array_equal(first, second)


def test_apply_dropout_and_noise_change_a_finished_graph(mlp, x, rng):
    graph = mg.ComputationGraph(mlp.apply(x))
    weights = mg.VariableFilter(roles=[WEIGHT])(graph.variables)
    dropped = apply_dropout(graph, weights, 0.5)
    assert len(mg.VariableFilter(roles=[DROPOUT])(dropped.variables)) == 2 and len(dropped.updates) == 1
    noisy = apply_noise(graph, [x], 0.1).function()
    values = rng.normal(size=(3, 4)).astype("float32")
    assert not np.array_equal(noisy(values)[0], noisy(values)[0])
    np.testing.assert_allclose(noisy(values)[0], graph.function()(values)[0], atol=0.7)


# -- roles, annotations, filters -------------------------------------------------------------------------------------


def test_roles_are_classes_and_special_cases_count():
    weight = mg.shared(np.zeros(3), tags=(FILTER,))
    assert has_roles(weight, [WEIGHT]) and has_roles(weight, [PARAMETER]) and not has_roles(weight, [BIAS])
    assert has_roles(weight, [BIAS, WEIGHT]) and not has_roles(weight, [BIAS, WEIGHT], match_all=True)
    cost = add_role(mg.scalar("cost"), COST)
    assert has_roles(cost, [COST]) and cost.name == "cost"


def test_applications_leave_their_traces(mlp, x):
    y = mlp.apply(x)
    call = get_application_call(y)
    assert call.layer is mlp and call.application == "apply" and get_layer(y) is mlp and has_roles(y, [OUTPUT])
    (entry,) = [one for one in mg.ComputationGraph(y) if has_roles(one, [INPUT]) and get_layer(one) is mlp]
    assert get_application_call(entry) is call and entry.name == "mlp_apply_x"
    assert get_layer(x) is None and get_application_call(x) is None


def test_variable_filter_criteria_must_all_hold_and_order_is_kept(mlp, x):
    y = mlp.apply(x, call_id="first")
    variables = mg.ComputationGraph(y).variables
    first, _, second = mlp.children
    weights, biases = mg.VariableFilter(roles=[WEIGHT])(variables), mg.VariableFilter(roles=[BIAS])(variables)
    assert weights == [first.variables["W"], second.variables["W"]]
    assert set(mg.VariableFilter(roles=[PARAMETER])(variables)) == {*weights, *biases}
    assert mg.VariableFilter(roles=[PARAMETER, BIAS], each_role=True)(variables) == biases
    assert mg.VariableFilter(name="W")(variables) == weights
    assert mg.VariableFilter(name_regex="linear_._apply_out")(variables) == [
        one for one in variables if one.name in ("linear_0_apply_output", "linear_1_apply_output")
    ]
    assert mg.VariableFilter(layers=[second], roles=[WEIGHT])(variables) == weights[1:]
    assert mg.VariableFilter(layers=[Linear], roles=[WEIGHT])(variables) == weights
    assert mg.VariableFilter(applications=[mlp.apply], roles=[OUTPUT])(variables) == [y]
    assert len(mg.VariableFilter(applications=[Linear.apply], roles=[OUTPUT])(variables)) == 2
    assert mg.VariableFilter(call_id="first", roles=[OUTPUT])(variables) == [y]
    assert mg.VariableFilter(roles=[WEIGHT])(reversed(variables)) == weights[::-1]


@pytest.mark.parametrize(
    "criteria",
    [
        {"roles": WEIGHT},
        {"roles": ["WEIGHT"]},
        {"roles": [int]},
        {"layers": Tanh()},
        {"layers": ["tanh"]},
        {"applications": [Tanh()]},
        {"name": 3},
        {"name_regex": b"x"},
        {"call_id": 3},
    ],
    ids=str,
)
def test_criteria_of_the_wrong_kind_raise(criteria):
    with pytest.raises(TypeError):
        mg.VariableFilter(**criteria)


def test_filters_take_variables_only():
    with pytest.raises(TypeError, match="only variables"):
        mg.VariableFilter(name="x")(["x"])


def test_find_layers_goes_down_and_finds_each_once():
    shared_layer = Tanh()
    tops = [Sequence([Linear(2, 2), shared_layer]), Sequence([shared_layer], name="second")]
    assert [layer.name for layer in find_layers(tops)] == ["sequence", "linear", "tanh", "second"]
    assert find_layers(tops, lambda layer: isinstance(layer, Tanh)) == [shared_layer]
    with pytest.raises(TypeError, match="expected layers"):
        find_layers([mg.scalar()])


def test_a_layer_of_ones_own(rng):
    class Gate(Layer):
        """x times a learned gate."""

        def allocate_parameters(self):
            self.add_parameter("gate", (), Constant(0.5), WEIGHT)

        @application
        def apply(self, x):
            """x times the gate."""
            return x * self.variables["gate"]

        @application
        def both(self, x):
            """x and its gated form."""
            return x, x * self.variables["gate"]

    layer, x = Gate(), mg.vector("x")
    assert (layer(x).eval({x: [2.0, 4.0]}) == [1, 2]).all()
    plain, gated = layer.both(x)
    assert has_roles(plain, [OUTPUT]) and gated.name == "gate_both_output_1"
    assert "gate" in Gate.apply.__doc__


# -- computation graphs ----------------------------------------------------------------------------------------------


def test_computation_graph_sorts_its_variables(mlp, x):
    y = mlp.apply(x)
    graph = mg.ComputationGraph(y)
    assert graph.inputs == [x] and graph.outputs == [y] and list(graph) == graph.variables
    assert len(set(graph.variables)) == len(graph.variables)
    place = {one: k for k, one in enumerate(graph.variables)}
    assert all(place[used] < place[one] for one in graph.variables for used in one.inputs)
    assert graph.parameters == graph.shared_variables == list(get_parameters(mlp).values())
    assert y not in graph.intermediary_variables and x not in graph.intermediary_variables
    assert graph.has_inputs(y) and not graph.has_inputs(graph.parameters[0])
    with pytest.raises(TypeError, match="made of variables"):
        mg.ComputationGraph([1])


def test_auxiliary_variables_are_reachable_but_not_computed_for_their_own_sake(x):
    y = with_auxiliary(x * 2, mg.assert_(x, mg.constant(False)).mean())
    (mean,) = mg.ComputationGraph(y).auxiliary_variables
    assert has_roles(mean, [AUXILIARY])
    assert (y.eval({x: [[1.0]]}) == 2).all()


def test_replace_returns_another_graph(mlp, x):
    graph = mg.ComputationGraph(mlp.apply(x))
    doubled = graph.replace([(x, x * 2)])
    values = np.ones((1, 4), "float32")
    np.testing.assert_allclose(doubled.function()(values), graph.function()(values * 2), rtol=1e-6)
    assert has_roles(doubled.outputs[0], [OUTPUT]) and get_layer(doubled.outputs[0]) is mlp
    with pytest.warns(UserWarning, match="not in the graph"):
        graph.replace({mg.matrix("other"): mg.matrix("another")})


def test_updates_are_those_that_computed_variables_ask_for(x):
    stream = mg.random.RandomStream(0)
    graph = mg.ComputationGraph(x + stream.normal((2, 2)))
    assert [target for target, _ in graph.updates] == [stream.state]


def test_to_networkx_is_a_dag_of_variables_and_ops(mlp, x):
    picture = mg.ComputationGraph(mlp.apply(x)).to_networkx()
    assert isinstance(picture, networkx.MultiDiGraph) and networkx.is_directed_acyclic_graph(picture)
    kinds = [data["kind"] for _, data in picture.nodes(data=True)]
    assert kinds.count("op") == sum(bool(one.inputs) for one in mg.ComputationGraph(mlp.apply(x)))
    assert sum(data["label"] == "MatMul" for _, data in picture.nodes(data=True) if data["kind"] == "op") == 2


def test_clone_can_make_inputs_of_its_own(x):
    (copied,) = mg.clone([x * 2], share_inputs=False)
    (entry,) = mg.ComputationGraph(copied).inputs
    assert entry is not x and entry.name == "x"
    y = x * 2
    for replaced in (*mg.clone([y], {x: x + 1}), mg.clone(y, [(x, x + 1)])):
        assert mg.ComputationGraph(replaced).inputs == [x] and replaced.eval({x: [[1.0]]}) == 4


# -- what must not go wrong ------------------------------------------------------------------------------------------


def test_every_dropout_has_masks_of_its_own(x):
    network = Sequence([Dropout(), Identity(), Dropout()], seed=3)
    ones = np.ones((50, 40), "float32")
    with training(network):
        y = network.apply(x)
    first, both = mg.function([x], [network.children[0].apply(x), y])(ones)
    assert 0.2 < (both != 0).mean() < 0.3 and (first == 1).all()
    graph = mg.ComputationGraph(x * 1)
    twice = apply_dropout(apply_dropout(graph, [x], 0.5), [x], 0.5)
    assert 0.2 < (twice.function()(ones)[0] != 0).mean() < 0.3


def test_layers_of_one_kind_start_differently(x):
    class Pair(Layer):
        """Two linear maps."""

        @application
        def apply(self, x):
            """One minus the other."""
            return self.children[0].apply(x) - self.children[1].apply(x)

    pair = Pair(children=[Linear(4, 4), Linear(4, 4)])
    pair.apply(x)
    assert [child.name for child in pair.children] == ["linear_0", "linear_1"]
    first, second = (child.variables["W"].get_value() for child in pair.children)
    assert not np.array_equal(first, second)


def test_automatic_names_keep_clear_of_given_ones():
    network = Sequence([Linear(3, 2, name="linear_0"), Linear(2, 2), Linear(2, 2)])
    assert [child.name for child in network.children] == ["linear_0", "linear_1", "linear_2"]


def test_dtype_and_seed_go_down_to_layers_that_have_none():
    network = MLP([Tanh(), None], [4, 3, 2], dtype="float64", seed=5)
    network.apply(mg.matrix("x"))
    assert {one.dtype.name for one in get_parameters(network).values()} == {"float64"}
    assert {layer.seed for layer in find_layers(network)} == {5}


def test_a_first_application_that_fails_leaves_the_layer_as_it_was():
    layer = Linear(output_dim=2, weights_init=np.ones((4, 2)))
    with pytest.raises(ValueError):
        layer.apply(mg.tensor("x", shape=(None, 3)))
    assert layer.input_dim is None and not layer.allocated and layer.variables == {}
    assert layer.apply(mg.tensor("x", shape=(None, 4))).type.shape == (None, 2)


def test_models_of_applications_pickle(x):
    softmax = Softmax()
    network = Sequence([Linear(4, 3), softmax.log_probabilities])
    y = network.apply(x)
    values = np.ones((1, 4), "float32")
    again, entry, output = pickle.loads(pickle.dumps((network, x, y)))
    np.testing.assert_array_equal(output.eval({entry: values}), y.eval({x: values}))
    assert again.stages[1] == again.children[1].log_probabilities
    assert pickle.loads(pickle.dumps(Linear.apply)) == Linear.apply


@pytest.mark.parametrize("result", [None, 3.0, {"a": 1}])
def test_an_application_must_return_variables(x, result):
    class Forgetful(Layer):
        """A layer that returns something else."""

        @application
        def apply(self, x):
            """Not a variable."""
            return result

    with pytest.raises(TypeError, match="must return a variable"):
        Forgetful().apply(x)


def test_initialize_draws_all_or_nothing(x):
    applied, fresh = Linear(4, 4), Linear(output_dim=4, name="fresh")
    applied.apply(x)
    network = Sequence([applied, fresh])
    before = applied.variables["W"].get_value()
    with pytest.raises(ValueError, match="fresh"):
        network.initialize(1)
    np.testing.assert_array_equal(applied.variables["W"].get_value(), before)


def test_inputs_given_by_name_are_inputs_like_others():
    x = mg.tensor("x", shape=(None, 4))
    by_name, by_place = Linear(output_dim=2, name="linear"), Linear(output_dim=2, name="linear")
    y = by_name.apply(x=x)
    assert mg.debugprint(y) == mg.debugprint(by_place.apply(x))
    (entry,) = mg.VariableFilter(roles=[INPUT])(mg.ComputationGraph(y).variables)
    assert get_layer(entry) is by_name


def test_the_loss_of_a_softmax_layer_is_the_mean_over_labels_that_count(rng):
    x, targets = mg.matrix("x"), mg.lvector("targets")
    scores, labels = rng.normal(size=(4, 3)).astype("float32"), np.array([0, -1, 2, -1])
    cost = Softmax().categorical_cross_entropy(targets, x, ignore_index=-1)
    kept = Softmax().categorical_cross_entropy(targets, x)
    found = mg.function([x, targets], [cost, mg.grad(cost, x)])(scores, labels)
    expected = mg.function([x, targets], [kept, mg.grad(kept, x)])(scores[::2], labels[::2])
    np.testing.assert_allclose(found[0], expected[0], 1e-6)
    np.testing.assert_allclose(found[1][::2], expected[1], 1e-6)
    assert (found[1][1::2] == 0).all()
