"""Variables: how they are made, what they know, what Python and NumPy may do with them, and what they refuse."""

import copy
import operator
import pickle

import numpy as np
import pytest

import minigraph as mg

RANKS = {
    "scalar": (),
    "vector": (None,),
    "matrix": (None, None),
    "row": (1, None),
    "col": (None, 1),
    "tensor3": (None,) * 3,
    "tensor4": (None,) * 4,
    "tensor5": (None,) * 5,
}
PREFIXES = {"": "float32", "i": "int32", "l": "int64", "f": "float32", "d": "float64"}


# -- making ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("kind", RANKS)
def test_constructors(kind, prefix):
    x = getattr(mg, prefix + kind)("x")
    assert (x.name, x.dtype, x.type.shape, x.ndim) == ("x", PREFIXES[prefix], RANKS[kind], len(RANKS[kind]))
    assert x.broadcastable == tuple(size == 1 for size in RANKS[kind])


@pytest.mark.parametrize("kind", RANKS)
def test_dtype_is_a_keyword_of_every_constructor(kind):
    assert getattr(mg, kind)(dtype="float64").dtype == "float64"
    with pytest.raises(TypeError):
        getattr(mg, kind)("x", "float64")


def test_tensor():
    x = mg.tensor("x", shape=(2, None, 1))
    assert (x.dtype, x.type.shape, x.broadcastable) == ("float32", (2, None, 1), (False, False, True))
    assert mg.tensor(dtype="int8", shape=()).dtype == "int8"
    assert mg.matrix(shape=(3, 4)).type.shape == (3, 4)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: mg.tensor("x", shape=(-1,)), ValueError),
        (lambda: mg.tensor("x", shape=(2.5,)), TypeError),
        (lambda: mg.tensor("x", shape=(True,)), TypeError),
        (lambda: mg.tensor("x", dtype="complex64", shape=()), TypeError),
        (lambda: mg.tensor("x", dtype="no dtype", shape=()), TypeError),
        (lambda: mg.matrix(shape=(3,)), TypeError),
        (lambda: mg.constant("text"), TypeError),
        (lambda: mg.constant(object()), TypeError),
        (lambda: mg.constant(mg.scalar()), TypeError),
        (lambda: mg.shared(None), TypeError),
        (lambda: mg.shared(mg.scalar()), TypeError),
        (lambda: mg.shared(np.zeros((2, 3)), shape=(2, 4)), ValueError),
    ],
)
def test_what_cannot_be_made(make, error):
    with pytest.raises(error) as caught:
        make()
    assert isinstance(caught.value, mg.MinigraphError)


def test_constants_have_numpys_dtype_and_python_floats_are_float32():
    assert mg.constant(2.0).dtype == "float32"
    assert mg.constant([1, 2.5]).dtype == "float32"
    assert mg.constant(2).dtype == "int64"
    assert mg.constant(True).dtype == "bool"
    assert mg.constant(np.float64(2)).dtype == "float64"
    assert mg.constant(np.zeros((2, 3))).dtype == "float64"
    assert mg.constant(2, dtype="int8").dtype == "int8"
    assert mg.constant([1, 2], "c").name == "c"


def test_constants_do_not_change_with_the_array_they_were_made_from():
    array = np.array([1.0, 2.0])
    c = mg.constant(array)
    array[:] = 0
    np.testing.assert_array_equal(c.eval(), [1, 2])
    c.eval()[:] = 7
    np.testing.assert_array_equal(c.eval(), [1, 2])


# -- state -----------------------------------------------------------------------------------------------------------


def test_shared_copies_in_and_out():
    array = np.array([1.0, 2.0])
    s = mg.shared(array, "s")
    array[0] = 9
    s.get_value()[1] = 9
    given = np.array([3.0, 4.0])
    np.testing.assert_array_equal(s.get_value(), [1, 2])
    s.set_value(given)
    given[0] = 9
    np.testing.assert_array_equal(s.get_value(), [3, 4])


def test_shared_borrows_when_told_to():
    array, given = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    s = mg.shared(array, borrow=True)
    assert s.get_value(borrow=True) is array
    s.set_value(given, borrow=True)
    assert s.get_value(borrow=True) is given
    assert s.get_value() is not given


def test_set_value_does_not_share_a_buffer_that_only_looks_like_an_array():
    buffer = bytearray(np.array([1, 2], "uint8").tobytes())
    s = mg.shared(np.zeros(2, "uint8"))
    s.set_value(memoryview(buffer))
    buffer[0] = 9
    np.testing.assert_array_equal(s.get_value(), [1, 2])


def test_set_value_checks_and_casts_safely():
    s = mg.shared(np.zeros((2, 3), "float32"), "weights")
    s.set_value(np.ones((2, 3), "int64"))
    assert s.get_value().dtype == "float32"
    s.set_value([[1.5, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(s.get_value(), [[1.5, 2, 3], [4, 5, 6]])
    for wrong, error in [
        (np.zeros((2, 3), "float64"), TypeError),
        (np.zeros(3, "float32"), TypeError),
        (np.zeros((2, 4), "float32"), ValueError),
        (mg.scalar(), TypeError),
    ]:
        with pytest.raises(error, match="weights"):
            s.set_value(wrong)
    np.testing.assert_array_equal(s.get_value(), [[1.5, 2, 3], [4, 5, 6]])


def test_the_shape_of_shared_state_may_change_only_where_its_type_says_none():
    s = mg.shared(np.zeros((2, 3)), shape=(None, 3))
    s.set_value(np.ones((5, 3)))
    assert s.sum().eval() == 15
    with pytest.raises(ValueError, match="shape"):
        s.set_value(np.ones((5, 4)))
    with pytest.raises(ValueError, match="shape"):
        mg.shared(np.zeros((2, 3))).set_value(np.zeros((5, 3)))


def test_only_shared_variables_have_state():
    for variable in (mg.scalar("x"), mg.scalar("x") + 1, mg.constant(1)):
        with pytest.raises(TypeError, match="not a shared variable"):
            variable.get_value()
        with pytest.raises(TypeError, match="not a shared variable"):
            variable.set_value(1)


# -- dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "dtype"),
    [
        (lambda: mg.fmatrix() * 2.0, "float32"),
        (lambda: 2 * mg.fmatrix(), "float32"),
        (lambda: mg.imatrix() * mg.fmatrix(), "float32"),
        (lambda: mg.lmatrix() + mg.fmatrix(), "float32"),
        (lambda: mg.fmatrix() + mg.dmatrix(), "float64"),
        (lambda: mg.imatrix() + 1, "int32"),
        (lambda: mg.imatrix() + True, "int32"),
        (lambda: mg.imatrix() + mg.lmatrix(), "int64"),
        (lambda: mg.imatrix() * 2.0, "float64"),
        (lambda: mg.vector(dtype="float16") * 2.0, "float16"),
        (lambda: mg.vector(dtype="uint8") + mg.vector(dtype="int8"), "int16"),
        (lambda: mg.fmatrix() * np.float64(2), "float64"),
        (lambda: mg.fvector() * [1.0, 2.0], "float32"),
        (lambda: mg.ivector() / 2, "float64"),
        (lambda: mg.vector() > 1, "bool"),
    ],
)
def test_promotion(build, dtype):
    assert build().dtype == dtype


# -- attributes ------------------------------------------------------------------------------------------------------


def test_shape_is_a_tuple_of_ints_and_symbolic_sizes():
    x = mg.tensor("x", shape=(2, None, 3))
    assert isinstance(x.shape, tuple)
    assert x.shape[0] == 2
    assert x.shape[2] == 3
    size = x.shape[1]
    assert (size.dtype, size.ndim) == ("int64", 0)
    assert size.eval({x: np.zeros((2, 7, 3), "float32")}) == 7
    assert (x.shape[0] * size + 1).eval({x: np.zeros((2, 7, 3), "float32")}) == 15


def test_size_and_transpose():
    assert mg.tensor(shape=(2, 3)).size == 6
    assert mg.tensor(shape=()).size == 1
    x = mg.matrix("x")
    assert x.size.eval({x: np.zeros((2, 5), "float32")}) == 10
    assert mg.tensor(shape=(2, None, 3)).T.type.shape == (3, None, 2)


def test_eval():
    x, y = mg.scalar("x"), mg.vector("y")
    np.testing.assert_array_equal((x * y).eval({x: 2, y: [1, 2]}), [2, 4])
    assert mg.constant(3).eval() == 3
    s = mg.shared(4.0)
    assert (s + 1).eval() == 5
    with pytest.raises(ValueError, match="is needed"):
        (x * y).eval({x: 2})


def test_eval_leaves_state_alone():
    s = mg.shared(1.0)
    y = mg.with_default_update(s * 2, {s: s + 1})
    assert [float(y.eval()), float(y.eval())] == [2, 2]


def test_text():
    x = mg.matrix("x")
    assert repr(x) == "<x: float32 (None, None)>"
    assert repr(mg.dscalar()) == "<Input: float64 scalar>"
    assert "Exp" in repr(mg.exp(x))


# -- Python's operators ----------------------------------------------------------------------------------------------

A, B = np.array([7.0, -7.5, 2.0]), np.array([2.0, 2.0, -3.0])
M, N = np.array([12, 7, 255], "int64"), np.array([1, 3, 2], "int64")


@pytest.mark.parametrize(
    "operate",
    [
        *(operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow),
        *(operator.lt, operator.le, operator.gt, operator.ge),
    ],
    ids=lambda one: one.__name__,
)
def test_binary_operators_on_either_side(operate):
    a, b = np.abs(A), B
    x, y = mg.dvector("x"), mg.dvector("y")
    for ours in (operate(x, y), operate(x, b), operate(a, y)):
        given = {v: value for v, value in ((x, a), (y, b)) if v in mg.Graph((), (ours,)).variables}
        np.testing.assert_allclose(ours.eval(given), operate(a, b), strict=True)
    np.testing.assert_allclose(operate(x, 2.0).eval({x: a}), operate(a, 2.0), strict=True)
    np.testing.assert_allclose(operate(2.0, y).eval({y: b}), operate(2.0, b), strict=True)


@pytest.mark.parametrize(
    "operate",
    [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift],
    ids=lambda one: one.__name__,
)
def test_bit_operators_on_either_side(operate):
    x, y = mg.lvector("x"), mg.lvector("y")
    np.testing.assert_array_equal(operate(x, y).eval({x: M, y: N}), operate(M, N), strict=True)
    np.testing.assert_array_equal(operate(x, 2).eval({x: M}), operate(M, 2), strict=True)
    np.testing.assert_array_equal(operate(2, y).eval({y: N}), operate(2, N), strict=True)


@pytest.mark.parametrize("operate", [operator.neg, operator.pos, abs, round], ids=lambda one: one.__name__)
def test_unary_operators(operate):
    x = mg.dvector("x")
    expected = np.round(A) if operate is round else operate(A)
    np.testing.assert_array_equal(operate(x).eval({x: A}), expected)


def test_invert():
    x, p = mg.lvector("x"), mg.vector(dtype="bool")
    np.testing.assert_array_equal((~x).eval({x: M}), ~M)
    np.testing.assert_array_equal((~p).eval({p: [True, False]}), [False, True])


def test_divmod():
    x = mg.dvector("x")
    for ours, theirs in ((divmod(x, 2), divmod(A, 2)), (divmod(20, x), divmod(20, A))):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.eval({x: A}), other)


def test_matrix_product_on_either_side():
    x, a, b = mg.dmatrix("x"), np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    np.testing.assert_allclose((x @ b).eval({x: a}), a @ b)
    np.testing.assert_allclose((a @ x).eval({x: b}), a @ b)


def test_indexing():
    x, a = mg.dmatrix("x"), np.arange(12.0).reshape(3, 4)
    for key in (1, -1, slice(1, None), (slice(None), 2), (..., 0), (None, 1), ([0, 2], [1, 3])):
        np.testing.assert_array_equal(x[key].eval({x: a}), a[key], strict=True)


def test_python_scalars_do_not_widen():
    assert (mg.vector() + 1e300).dtype == "float32"
    with pytest.raises(ValueError, match="does not fit"):
        mg.vector(dtype="int8") + 300


# -- NumPy's protocols -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: np.exp(x) * np.tanh(y),
        lambda x, y: np.add(x, y) - np.maximum(x, 0.5),
        lambda x, y: np.concatenate([x, y]),
        lambda x, y: np.stack([x, y], axis=1),
        lambda x, y: np.where(x > y, x, y),
        lambda x, y: np.sum(x, axis=0) + np.mean(y),
        lambda x, y: np.dot(x, y.T) if x.ndim == 2 else np.dot(x, y),
        lambda x, y: np.transpose(x) + np.swapaxes(y, 0, 1),
        lambda x, y: np.clip(x, 0.2, 0.8),
        lambda x, y: np.einsum("ij,ij->i", x, y),
        lambda x, y: np.reshape(x, (-1,)),
    ],
)
def test_numpy_functions_build_graph(call):
    a, b = np.random.default_rng(0).uniform(size=(2, 3, 3))
    x, y = mg.dmatrix("x"), mg.dmatrix("y")
    built = call(x, y)
    assert isinstance(built, mg.Variable)
    np.testing.assert_allclose(mg.function([x, y], built, on_unused_input="ignore")(a, b), call(a, b))


def test_an_array_on_the_left_does_not_take_a_variable_apart():
    x = mg.vector("x")
    assert isinstance(np.ones(3) * x, mg.Variable)
    assert isinstance(np.float64(2) * x, mg.Variable)


def test_numpy_functions_without_a_counterpart_say_so():
    x = mg.vector("x")
    with pytest.raises(TypeError, match="corrcoef has no counterpart"):
        np.corrcoef(x)
    with pytest.raises(TypeError, match="plain calls only"):
        np.add.reduce(x)


# -- what a symbolic value refuses -----------------------------------------------------------------------------------

X = mg.vector("x")


@pytest.mark.parametrize(
    ("attempt", "advice"),
    [
        (lambda: 1 if X > 0 else 2, "mg.where or mg.ifelse"),
        (lambda: X and X, "mg.where or mg.ifelse"),
        (lambda: not X, "& | ~"),
        (lambda: 0 < X < 1, "& | ~"),
        (lambda: [v + 1 for v in X], "index it"),
        (lambda: len(X), r"x\.shape\[0\]"),
        (lambda: len(mg.scalar("s")), "scalar"),
        (lambda: float(X), "eval"),
        (lambda: int(X), "eval"),
        (lambda: [1, 2, 3][mg.iscalar()], "eval"),
        (lambda: 1.0 in X, "mg.any"),
        (lambda: np.asarray(X), "eval"),
        (lambda: np.array([X, X]), "eval"),
        (lambda: operator.setitem(X, 0, 1), "set_subtensor"),
        (lambda: setattr(X, "name", "y"), r"copy\(name"),
        (lambda: setattr(X, "anything", 1), "immutable"),
        (lambda: delattr(X, "name"), "immutable"),
    ],
)
def test_what_needs_a_value_raises_a_type_error_with_advice(attempt, advice):
    with pytest.raises(TypeError, match=advice) as caught:
        attempt()
    assert isinstance(caught.value, mg.MinigraphError)


def test_a_loop_over_a_known_length_is_refused_too():
    with pytest.raises(TypeError, match="index it"):
        iter(mg.tensor(shape=(3,)))
    assert len(mg.tensor(shape=(3, None))) == 3


# -- identity --------------------------------------------------------------------------------------------------------


def test_equality_is_identity():
    x, y = mg.vector("x"), mg.vector("x")
    assert x == x
    assert x != y
    assert x + 1 != x + 1
    assert x in [y, x]
    assert x not in [y]
    assert len({x, y, x}) == 2
    assert {x: 1}.get(y) is None
    assert (x == 0) is False


def test_eq_compares():
    x = mg.vector("x")
    np.testing.assert_array_equal(mg.eq(x, 1).eval({x: [0, 1]}), [False, True])


def test_copy_with_another_name_and_tags_is_another_variable():
    x = mg.vector("x")
    y = x.copy("y", tags=["tag"])
    assert (y.name, y.tags, x.name, x.tags) == ("y", ("tag",), "x", ())
    np.testing.assert_array_equal(y.eval({x: [1, 2]}), [1, 2])


# -- copy, deepcopy, pickle ------------------------------------------------------------------------------------------


def pickled(thing):
    return pickle.loads(pickle.dumps(thing))


both_ways = pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled], ids=["deepcopy", "pickle"])


def test_copy_of_an_immutable_is_itself():
    x = mg.vector("x") + 1
    assert copy.copy(x) is x


@both_ways
def test_a_duplicate_has_the_same_parts_and_is_another_variable(duplicate):
    x = mg.tensor("x", shape=(2, None))
    y = (mg.exp(x) * 2).copy("y", tags=["tag"])
    twin = duplicate(y)
    assert twin is not y
    assert (twin.name, twin.type, twin.tags, twin.op, twin.origin) == (y.name, y.type, y.tags, y.op, y.origin)
    (leaf,) = [v for v in mg.Graph((), (twin,)) if v.name == "x"]
    assert leaf is not x
    np.testing.assert_allclose(twin.eval({leaf: [[1, 2], [3, 4]]}), y.eval({x: [[1, 2], [3, 4]]}))


@both_ways
def test_a_duplicate_has_state_of_its_own(duplicate):
    s = mg.shared([1.0, 2.0], "s")
    twin = duplicate(s)
    s.set_value([9, 9])
    np.testing.assert_array_equal(twin.get_value(), [1, 2])


@both_ways
def test_variables_duplicated_together_share_what_they_shared(duplicate):
    s, x = mg.shared(1.0, "s"), mg.scalar("x")
    hidden = x * s
    first, second, third = hidden + 1, hidden * 2, hidden
    copies = duplicate({"list": [first, second, x], "inner": (third, s), "again": first})
    one, two, leaf = copies["list"]
    middle, state = copies["inner"]
    assert copies["again"] is one
    assert one.inputs[0] is middle
    assert two.inputs[0] is middle
    assert middle.inputs == (leaf, state)
    step = mg.function([leaf], [one, two], updates={state: state + 1})
    assert [float(value) for value in step(3)] == [4, 6]
    assert (state.get_value(), s.get_value()) == (2, 1)


@both_ways
def test_one_cell_in_two_variables_stays_one(duplicate):
    s = mg.shared(1.0)
    alias = mg.Variable(s.op, (), s.type, "alias")
    one, two = duplicate([s, alias])
    one.set_value(5)
    assert two.get_value() == 5


class Tagging:
    """A tag that leads back to the variables it is on, as a layer does."""

    def __init__(self):
        self.variables = []


@both_ways
def test_tags_may_be_cyclic_through_an_object_that_holds_the_variables(duplicate):
    tag = Tagging()
    x = mg.scalar("x")
    y = (x * 2).copy("y", tags=[tag])
    z = (y + 1).copy("z", tags=[tag])
    tag.variables += [x, z, y]
    for root, place in ((z, 1), (y, 2)):
        twin = duplicate(root)
        (own,) = twin.tags
        assert own is not tag
        assert own.variables[place] is twin
        assert own.variables[1].tags == own.variables[2].tags == (own,)
        assert own.variables[1].eval({own.variables[0]: 3}) == 7
    holder = duplicate(tag)
    assert holder.variables[1].tags == (holder,)


@both_ways
def test_duplicates_of_a_deep_graph(duplicate):
    x = v = mg.scalar("x")
    middle = []
    for _ in range(5000):
        v = v + 1
        middle.append(v)
    twin = duplicate([v, middle, x])
    assert twin[0].eval({twin[2]: 0}) == 5000
    assert twin[1][-1] is twin[0]
    assert twin[1][1].inputs[0] is twin[1][0]


@both_ways
def test_graphs(duplicate):
    x, s = mg.scalar("x"), mg.shared(1.0)
    graph = mg.Graph((x,), (x * s,), ((s, s + x),))
    twin = duplicate(graph)
    assert twin.outputs[0].inputs == (twin.inputs[0], twin.updates[0][0])
    assert len(twin.variables) == len(graph.variables)


@pytest.mark.parametrize("decimals", [-1, 0, 2])
def test_round_takes_a_number_of_decimals(decimals):
    values = np.array([0.125, 15.0, -2.5, 1234.567, np.nan])
    x = mg.dvector("x")
    for rounded in (round(x, decimals), x.round(decimals), np.round(x, decimals)):
        np.testing.assert_array_equal(rounded.eval({x: values}), np.round(values, decimals))
    assert round(mg.lvector("n"), -1).dtype == "int64"
