"""Laws of the specification that no other test states: names, signatures, and corners of what users rely on."""

import copy
import inspect
import pickle

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import BatchNormalization, BatchNormalizedMLP, Tanh, batch_normalization
from minigraph.layers.core import roles
from minigraph.layers.normalization.conventions import BLOCKS
from minigraph.ops.control import widening_op
from minigraph.transforms import Duplicates, get_batch_normalization_updates
from support.op_table import RECORDS
from support.op_table.cases import empty, identify, inputs_like, variables_of
from support.sweep import IS_SWEEP


def parameters(function):
    """The parameters of a function that have a meaning of their own, with their defaults and kinds."""
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.default, one.kind is one.KEYWORD_ONLY) for one in found if one.kind is not one.VAR_KEYWORD]


EMPTY = inspect.Parameter.empty

# -- names -----------------------------------------------------------------------------------------------------------

NAMES = """
    exp log log1p expm1 exp2 log2 log10 sqrt square reciprocal abs sign neg floor ceil round trunc sin cos tan arcsin arccos
    arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh erf erfc gammaln digamma sigmoid softplus relu elu gelu silu
    leaky_relu maximum minimum clip switch where eq neq lt le gt ge and_ or_ xor invert logical_and logical_or logical_xor
    logical_not isnan isinf isfinite cast logaddexp hypot power bitwise_and bitwise_or bitwise_xor left_shift right_shift
    sum prod mean var std max min argmax argmin any all logsumexp norm cumsum cumprod ptp
    reshape flatten ravel dimshuffle transpose swapaxes moveaxis squeeze expand_dims shape_padleft shape_padright
    broadcast_to stack concatenate split tile repeat roll flip pad diag eye tri tril triu outer arange linspace zeros ones
    full zeros_like ones_like set_subtensor inc_subtensor take take_along_axis nonzero sort argsort topk unique
    dot matmul tensordot einsum batched_dot softmax log_softmax categorical_crossentropy softmax_crossentropy
    binary_crossentropy sigmoid_binary_crossentropy one_hot ifelse assert_
    function In Out grad vjp jvp jacobian hessian hessian_vector_product disconnected_grad grad_clip grad_scale grad_reverse
    constant shared tensor clone pprint debugprint
"""
FACTORIZATIONS = "solve solve_triangular cho_solve cholesky inv det slogdet svd eigh qr"
DRAWS = "uniform normal bernoulli integers permutation choice categorical"


def test_every_name_of_the_specification_is_there():
    """Operations and functions have the names that users of Theano and NumPy guess."""
    for home, names in ((mg, NAMES), (mg.linalg, FACTORIZATIONS), (mg.random.RandomStream, DRAWS)):
        assert [name for name in names.split() if not callable(getattr(home, name, None))] == []


SIGNATURES = {
    mg.tensor: [("name", None, False), ("dtype", None, True), ("shape", EMPTY, True)],
    mg.function: [
        *[("inputs", EMPTY, False), ("outputs", None, False), ("updates", (), False), ("givens", (), False)],
        *[("no_default_updates", False, True), ("on_unused_input", "raise", True), ("backend", None, True)],
        *[("name", None, True), ("trace", False, True), ("passes", (), True), ("dump", None, True)],
        ("allow_input_downcast", False, True),
    ],
    mg.grad: [
        *[("cost", EMPTY, False), ("wrt", EMPTY, False), ("consider_constant", (), True)],
        *[("disconnected_inputs", "raise", True), ("known_grads", None, True), ("return_disconnected", "zero", True)],
    ],
    mg.clone: [("outputs", EMPTY, False), ("replace", None, False), ("share_inputs", True, False)],
    BatchNormalization: [
        *[("input_dim", None, False), ("broadcastable", None, False), ("conserve_memory", True, False)],
        *[("epsilon", 1e-4, False), ("scale_init", None, False), ("shift_init", None, False)],
        *[("mean_only", False, False), ("learn_scale", True, False), ("learn_shift", True, False), ("n_iter", None, False)],
        *[("feature_axes", None, True), ("axis_names", None, True), ("convention", BLOCKS, True)],
    ],
    get_batch_normalization_updates: [
        *[("graph", EMPTY, False), ("allow_duplicates", False, False)],
        *[("duplicates", Duplicates.ERROR, True), ("allow_nonfinite", False, True)],
    ],
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda one: one.__name__)
def test_signatures(function):
    """Arguments have their names, order and defaults; options of the compiler and of grad go by keyword alone."""
    assert parameters(function) == SIGNATURES[function]


def test_shared_takes_name_and_borrow_by_position():
    """The third argument of a shared variable says whether the array itself is kept, which set_value takes second."""
    first, second = np.ones(2), np.zeros(2)
    s = mg.shared(first, "s", True)
    assert s.name == "s" and s.get_value(True) is first
    s.set_value(second, True)
    assert s.get_value(True) is second


# -- variables -------------------------------------------------------------------------------------------------------


def test_an_update_may_change_the_shape_of_state_where_its_type_says_none():
    """A function may grow a shared variable along an open axis, and along no other."""
    s, x = mg.shared(np.ones((1, 3), "float32"), shape=(None, 3)), mg.matrix("x")
    grow = mg.function([x], updates={s: mg.concatenate([s, x])})
    grow(np.zeros((4, 3), "float32"))
    assert s.get_value().shape == (5, 3) and s.sum().eval() == 3
    with pytest.raises(ValueError):
        grow(np.zeros((4, 2), "float32"))
    assert s.get_value().shape == (5, 3)


def test_numpy_functions_of_another_name_build_graph():
    """np.around and np.positive are what round and + are."""
    x, values = mg.dvector("x"), np.array([0.125, -2.5, 7.0])
    np.testing.assert_array_equal(np.around(x, 2).eval({x: values}), np.around(values, 2))
    np.testing.assert_array_equal(np.positive(x).eval({x: values}), values)


def test_graphs_and_functions_deepcopy_and_pickle_at_any_depth():
    """A deep computation graph and a function of it are duplicated with state of their own."""
    s, x = mg.shared(1.0, "s"), mg.scalar("x")
    v = x * s
    for _ in range(3000):
        v = v + 1
    graph, f = mg.ComputationGraph(v), mg.function([x], v, updates={s: s + 1})
    for duplicate in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        other, g = duplicate((graph, f))
        assert [v.name for v in other.inputs + other.shared_variables] == ["x", "s"]
        assert len(other.variables) == len(graph.variables)
        assert (g(2), g(2), other.shared_variables[0].get_value(), s.get_value()) == (3002, 3004, 3, 1)
        assert other.function()(2)[0] == 3006


# -- operations ------------------------------------------------------------------------------------------------------


def without_elements_or_axes():
    """The calls of differentiable ops in which an operand has no elements or no axes.

    Elementwise ops, which take the same way, meet unknown sizes in one of these calls; in a sweep in all of them.
    """
    cases = []
    for record in (one for one in RECORDS if one.order):
        calls = [k for k, call in enumerate(record.calls) if call.shapes and (empty(call) or () in call.shapes)]
        for place, k in enumerate(calls):
            cases.append((record, k, True))
            if not record.calls[k].known and (not record.elementwise or place == len(calls) - 1 or IS_SWEEP):
                cases.append((record, k, False))
    return cases


@pytest.mark.parametrize("case", without_elements_or_axes(), ids=identify)
def test_gradients_of_empty_and_scalar_operands(case):
    """Gradients of both orders exist where operands have no elements or no axes, and have the operands' shapes."""
    record, position, known = case
    call = record.calls[position]
    operands = record.draw(call, record.dtypes[0])
    inputs = inputs_like(operands, known)
    moving = [(one, value) for one, value in zip(inputs, operands, strict=True) if one.dtype.kind == "f"]
    results = [one for one in variables_of(record.build(call, inputs)) if one.dtype.kind == "f"]
    wrt = [one for one, _ in moving]
    slopes = mg.grad(sum_of_all(results), wrt, disconnected_inputs="ignore")
    second = mg.grad(sum_of_all([one**2 for one in slopes]), wrt, disconnected_inputs="ignore")
    f = mg.function(inputs, [*slopes, *second], on_unused_input="ignore", no_default_updates=True)
    for slope, (_, value) in zip(f(*operands), moving * 2, strict=True):
        assert slope.shape == value.shape
        assert not call.smooth or np.isfinite(slope).all()


def sum_of_all(variables):
    """The sum of the elements of all variables."""
    return sum((mg.cast(one, "float64").sum() for one in variables), mg.constant(np.float64(0)))


NOTHING = {  # what is made of, or by, arrays without elements, and of scalars
    "inv": (mg.linalg.inv, np.linalg.inv, [(0, 0)]),
    "inv of no matrices": (mg.linalg.inv, np.linalg.inv, [(0, 3, 3)]),
    "det": (mg.linalg.det, np.linalg.det, [(0, 0)]),
    "slogdet": (mg.linalg.slogdet, np.linalg.slogdet, [(2, 0, 0)]),
    "cholesky": (mg.linalg.cholesky, np.linalg.cholesky, [(0, 0)]),
    "eigh": (mg.linalg.eigh, np.linalg.eigh, [(0, 0)]),
    "svd": (mg.linalg.svd, lambda a: np.linalg.svd(a, full_matrices=False), [(3, 0)]),
    "qr": (mg.linalg.qr, np.linalg.qr, [(0, 3)]),
    "solve": (mg.linalg.solve, np.linalg.solve, [(0, 0), (0, 4)]),
    "solve for a vector": (mg.linalg.solve, np.linalg.solve, [(0, 0), (0,)]),
    "linalg.norm": (mg.linalg.norm, np.linalg.norm, [(0, 3)]),
    "linalg.norm of a scalar": (mg.linalg.norm, np.linalg.norm, [()]),
    "broadcast_to": (lambda x: mg.broadcast_to(x, (2, 0, 3)), lambda x: np.broadcast_to(x, (2, 0, 3)), [(0, 3)]),
    "broadcast_to nothing": (lambda x: mg.broadcast_to(x, (0, 3)), lambda x: np.broadcast_to(x, (0, 3)), [()]),
    "zeros": (lambda: mg.zeros((2, 0), "float64"), lambda: np.zeros((2, 0)), []),
    "ones": (lambda: mg.ones((), "float64"), lambda: np.ones(()), []),
    "full": (lambda x: mg.full((0, 2), x), lambda x: np.full((0, 2), x), [()]),
    "arange": (lambda: mg.arange(5, 1), lambda: np.arange(5, 1), []),
    "linspace": (lambda x: mg.linspace(x, 3, 0), lambda x: np.linspace(x, 3, 0), [()]),
    "linspace of one": (lambda x: mg.linspace(x, 3, 1), lambda x: np.linspace(x, 3, 1), [()]),
    "eye": (lambda: mg.eye(0, 3, dtype="float64"), lambda: np.eye(0, 3), []),
    "tri": (lambda: mg.tri(3, 0, dtype="float64"), lambda: np.tri(3, 0), []),
    "take": (lambda x: mg.take(x, [], 0), lambda x: np.take(x, np.zeros(0, "int64"), 0), [(3, 0)]),
    "take of a scalar": (lambda x: mg.take(x, 0), lambda x: np.take(x, 0), [()]),
    "sort of a raveled scalar": (lambda x: mg.sort(x, None), lambda x: np.sort(x, None), [()]),
    "unique of a scalar": (mg.unique, np.unique, [()]),
    "stack of scalars": (lambda x: mg.stack([x, x]), lambda x: np.stack([x, x]), [()]),
    "pad of a scalar": (lambda x: mg.pad(x, 1), lambda x: np.pad(x, 1), [()]),
    "diag": (lambda x: mg.diag(x, 2), lambda x: np.diag(x, 2), [(0,)]),
    "tensordot of scalars": (lambda x, y: mg.tensordot(x, y, 0), lambda x, y: np.tensordot(x, y, 0), [(), ()]),
    "einsum of scalars": (lambda x, y: mg.einsum(",ij", x, y), lambda x, y: np.einsum(",ij", x, y), [(), (0, 3)]),
    "outer of a scalar": (mg.outer, np.outer, [(), (0,)]),
    "tile by nothing": (lambda x: mg.tile(x, (2, 0)), lambda x: np.tile(x, (2, 0)), [()]),
}


@pytest.mark.parametrize("known", [True, False], ids=["known sizes", "unknown sizes"])
@pytest.mark.parametrize("name", NOTHING)
def test_arrays_without_elements_or_axes_give_numpys_result(name, known):
    """Ops whose records in the table have no such operands take them as NumPy does."""
    ours, theirs, shapes = NOTHING[name]
    operands = [np.full(shape, 2.0) for shape in shapes]
    inputs = inputs_like(operands, known)
    results = mg.function(inputs, variables_of(ours(*inputs)), on_unused_input="ignore")(*operands)
    expected = theirs(*operands)
    for one, other in zip(results, expected if isinstance(expected, tuple) else [expected], strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


# -- mg.function -----------------------------------------------------------------------------------------------------

S, N = mg.shared(1.0, "s"), mg.shared(np.int32(1), "n")


@pytest.mark.parametrize(
    ("target", "widen"),
    [
        (S, lambda: np.float64(2) * S),
        (S, lambda: mg.where(S > 0, np.float64(1), 2.0) + S),
        (N, lambda: N / 2),
        (N, lambda: N + np.int64(1)),
        (N, lambda: mg.where(N > 0, N * np.int64(2), 0)),
    ],
    ids=["constant first", "behind a condition", "quotient of integers", "wider integer", "integer behind a condition"],
)
def test_the_op_that_widened_an_update_is_named_wherever_it_stands(target, widen):
    """The error of an update names the first op that made the dtype wider, on any side and for integers too."""
    culprit = widen()
    new = culprit * 1 + culprit * 1
    with pytest.raises(TypeError) as caught:
        mg.function([], updates={target: new})
    assert f"({culprit.origin}) widened it" in str(caught.value)
    named = widening_op(new, target.type)
    assert named.dtype != target.dtype and named.dtype.kind != "b"
    assert any(one.dtype == target.dtype for one in named.inputs)


def test_an_update_through_an_op_of_several_results_is_refused_with_a_reason():
    """What an eigenvector widened is named as anything else is."""
    m = mg.shared(np.eye(2, dtype="float32"), "m")
    wide = m * np.float64(2)
    with pytest.raises(TypeError, match=r"<m.*widened it") as caught:
        mg.function([], updates={m: mg.linalg.eigh(wide)[1]})
    assert f"({wide.origin}) widened it" in str(caught.value)


# -- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [dict, list], ids=["mapping", "pairs"])
def test_a_computation_graph_composes_dependent_replacements(form):
    """With b = a * 2 and c = b * 3 in place of sums, d is 23, given as a mapping or as pairs; the graph itself stays."""
    a = mg.constant(3.0)
    b = a + 2
    c = b + 3
    graph = mg.ComputationGraph(c + 5)
    assert graph.replace(form([(c, b * 3), (b, a * 2)])).function()() == [23]
    assert graph.function()() == [13]


def test_a_computation_graph_replaces_its_own_output_by_what_mentions_it_and_keeps_tags():
    """A replacement may mention its own key, also of an output, and what is rebuilt keeps its tags."""
    x = mg.scalar("x")
    y = (x + 1).copy("y", tags=["tag"])
    graph = mg.ComputationGraph(y)
    assert graph.replace({y: y * 10}).function()(1) == [20]
    moved = graph.replace({x: x * 10})
    assert moved.function()(1) == [11] and moved.outputs[0].tags == ("tag",) and moved.outputs[0] is not y


def test_clone_takes_replacements_by_name():
    """mg.clone(outputs, replace=..., share_inputs=False) replaces, and then makes inputs of its own."""
    x, y = mg.scalar("x"), mg.scalar("y")
    (same,) = mg.clone([x * 2], replace={x: y + 1})
    assert same.eval({y: 3}) == 8
    (other,) = mg.clone([x * 2], replace={x: y + 1}, share_inputs=False)
    (entry,) = mg.ComputationGraph(other).inputs
    assert entry is not y and entry.name == "y" and other.eval({entry: 3}) == 8


def test_a_computation_graph_lists_what_lies_between_leaves_and_outputs():
    """Intermediary variables are all that is computed on the way, without inputs, state, constants and outputs."""
    x, s = mg.scalar("x"), mg.shared(1.0)
    product = x * s
    shifted = product + 2.0
    graph = mg.ComputationGraph([mg.tanh(shifted), shifted])
    assert graph.intermediary_variables == [product]


def test_pictures_of_graphs_with_ops_of_several_results():
    """networkx, Graphviz's language and both prints take a graph in which an op has several results."""
    values, vectors = mg.linalg.eigh(mg.dmatrix("x"))
    graph = mg.ComputationGraph([values, vectors])
    labels = [data["label"] for _, data in graph.to_networkx().nodes(data=True) if data["kind"] == "op"]
    assert sorted(labels) == ["Item(index=0)", "Item(index=1)", "SymmetricEigen"]
    assert graph.to_dot() == mg.to_dot([values, vectors]) and graph.to_dot().count("SymmetricEigen") == 1
    assert "SymmetricEigen: float64 (None,), float64 (None, None)" in str(graph)
    assert "SymmetricEigen(x)" in mg.pprint(values)


def test_jupyter_shows_a_graph_as_a_picture_where_there_is_graphviz(monkeypatch, tmp_path):
    """A graph displays itself as the SVG that Graphviz draws, and as text where it is not installed."""
    graph = mg.ComputationGraph(mg.scalar("x") + 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert graph._repr_svg_() is None
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\nread -r first\necho "<svg>$first</svg>"\nwhile read -r line; do :; done\n')
    program.chmod(0o755)
    assert graph._repr_svg_() == graph.to_svg() == "<svg>digraph {</svg>\n"


# -- roles and filters -----------------------------------------------------------------------------------------------

KINDS = {
    roles.WEIGHT: roles.PARAMETER,
    roles.BIAS: roles.PARAMETER,
    roles.FILTER: roles.WEIGHT,
    roles.INITIAL_STATE: roles.PARAMETER,
    roles.PARAMETER: roles.PERSISTENT,
    roles.BATCH_NORM_SCALE_PARAMETER: roles.PARAMETER,
    roles.BATCH_NORM_SHIFT_PARAMETER: roles.BIAS,
    roles.BATCH_NORM_POPULATION_MEAN: roles.PERSISTENT,
    roles.BATCH_NORM_POPULATION_STDEV: roles.PERSISTENT,
}
ALONE = [roles.INPUT, roles.OUTPUT, roles.COST, roles.AUXILIARY, roles.DROPOUT, roles.COLLECTED]
ALONE += [roles.BATCH_NORM_OFFSET, roles.BATCH_NORM_DIVISOR, roles.BATCH_NORM_MINIBATCH_ESTIMATE]


@pytest.mark.parametrize("role", KINDS, ids=lambda one: one.__name__)
def test_a_special_role_counts_as_the_general_one(role):
    """A variable with a role has the roles above it, and not the other way round."""
    assert roles.has_roles(roles.add_role(mg.scalar(), role), [KINDS[role]])
    assert not roles.has_roles(roles.add_role(mg.scalar(), KINDS[role]), [role])


@pytest.mark.parametrize("role", ALONE, ids=lambda one: one.__name__)
def test_roles_that_say_nothing_of_state(role):
    """Roles of inputs, outputs, costs and statistics in use make no parameter and nothing to be saved, nor one another."""
    variable = roles.add_role(mg.scalar(), role)
    assert not roles.has_roles(variable, [roles.PERSISTENT])
    assert [other for other in ALONE if roles.has_roles(variable, [other])] == [role]


def test_each_role_is_a_truth_value():
    """Roles given where only a truth value has a meaning are an error, not a filter that lets all through."""
    with pytest.raises(TypeError, match="each_role"):
        mg.VariableFilter(each_role=[roles.WEIGHT])


# -- batch normalization ---------------------------------------------------------------------------------------------


def trains(layer):
    """Whether applying a layer now makes training-mode graph."""
    x = mg.tensor("x", shape=(None, 4))
    variables = mg.ComputationGraph(layer.apply(x)).variables
    return bool(mg.VariableFilter(roles=[roles.BATCH_NORM_MINIBATCH_ESTIMATE])(variables))


def test_one_block_can_be_entered_again_and_inside_itself():
    """A context that was left can be entered anew, also inside itself, and is left as it was entered."""
    layer = BatchNormalization(4)
    block = batch_normalization(layer)
    for _ in range(2):
        assert not trains(layer)
        with block:
            with block:
                assert trains(layer)
            assert trains(layer)
    assert not trains(layer)


def test_a_block_made_early_adds_to_those_it_is_entered_in():
    """What is in training is settled when a block is entered, not when it was made."""
    first, second = BatchNormalization(4), BatchNormalization(4)
    block = batch_normalization(first)
    with batch_normalization(second):
        with block:
            assert trains(first) and trains(second)
        assert trains(second) and not trains(first)


def test_batch_normalized_mlp_passes_learn_scale_on():
    """Each of mean_only, learn_scale and learn_shift reaches every normalization, one without the others."""
    options = {"mean_only": False, "learn_scale": True, "learn_shift": True}
    for name, usual in options.items():
        network = BatchNormalizedMLP([Tanh(), None], [4, 5, 3], **{name: not usual})
        layers = [stage for stage in network.stages if isinstance(stage, BatchNormalization)]
        assert len(layers) == 2
        for layer in layers:
            assert {one: getattr(layer, one) for one in options} == {**options, name: not usual}


def test_without_learned_scale_or_shift_the_other_is_still_learned():
    """A scale that is not learned is no parameter, while the shift is, and the other way round."""
    for fixed, learned in (("scale", "shift"), ("shift", "scale")):
        layer = BatchNormalization(4, **{f"learn_{fixed}": False})
        layer.allocate()
        assert [one.name for one in layer.parameters] == [learned] and fixed not in layer.variables


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_a_batch_of_one_with_one_pixel_is_exactly_zero(scale):
    """Over a batch and spatial axes of one element each channel is its own mean; with more pixels it is not."""
    x = mg.tensor4("x")
    layer = mg.layers.SpatialBatchNormalization((2, None, None))
    with batch_normalization(layer):
        y = layer.apply(x)
    values = np.linspace(-1, 1, 8, dtype="float32").reshape(1, 2, 2, 2) * np.float32(scale)
    assert (y.eval({x: values[:, :, :1, :1]}) == 0).all()
    assert (y.eval({x: values}) != 0).all()


def test_the_variance_of_a_training_batch_is_the_biased_one():
    """Of 0, 4, 8 with epsilon 0 the deviation is the root of 32/3, and not of 16."""
    x = mg.matrix("x")
    layer = BatchNormalization(1, epsilon=0)
    with batch_normalization(layer):
        y = layer.apply(x)
    np.testing.assert_allclose(y.eval({x: [[0], [4], [8]]})[:, 0], np.array([-4, 0, 4]) / np.sqrt(32 / 3), rtol=1e-6)


@pytest.mark.parametrize("mean", [1e4, 1e6])
def test_far_from_zero_output_and_gradient_err_by_about_a_millionth(mean, rng):
    """Of a float32 batch of 64 with deviation 1 the output errs by less than 1.2e-6, and so does the gradient."""
    values, dy = rng.normal(mean, 1, (64, 16)).astype("float32"), rng.normal(size=(64, 16)).astype("float32")
    x, layer = mg.matrix("x"), BatchNormalization(16)
    with batch_normalization(layer):
        y = layer.apply(x)
    output, slope = mg.function([x], [y, mg.vjp(y, x, dy)])(values)
    exact = values.astype("float64")
    deviation = exact - exact.mean(axis=0)
    stdev = np.sqrt((deviation**2).mean(axis=0) + 1e-4)
    x_hat = deviation / stdev
    assert np.abs(output - x_hat).max() < 1.2e-6
    assert np.abs(slope - (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0)) / stdev).max() < 1.2e-6
