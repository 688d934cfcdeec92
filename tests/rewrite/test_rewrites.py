"""Rules and passes: what each of them makes, what it must leave alone, and that no value changes."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Composite, Constant, Graph, Identity, Variable, items
from minigraph.ops.array.creation import Arange
from minigraph.ops.array.indexing import Increment
from minigraph.ops.array.shape import BroadcastTo, Dimshuffle, Reshape, restore_axes
from minigraph.ops.array.sizes import Size
from minigraph.ops.control import Assert, GradientOp
from minigraph.ops.elementwise.arithmetic import Add, Multiply, Negative, Power, Square, Subtract
from minigraph.ops.random import RandomBits
from minigraph.ops.reduce.reduction import Peak, Sum
from minigraph.ops.reduce.softmax import SoftmaxGradient
from minigraph.rewrite import algebra
from minigraph.rewrite.engine import rewrite
from minigraph.rewrite.fold import LARGEST, fold
from minigraph.rewrite.lower import lower, strip
from minigraph.rewrite.merge import merge
from minigraph.rewrite.stability import rules as stability
from minigraph.rewrite.symbolic_shapes import trace_sizes
from minigraph.testing import assert_rewrites, compute_plainly

x, y = mg.vector("x", dtype="float64"), mg.vector("y", dtype="float64")
m, d = mg.matrix("m", dtype="float64"), mg.matrix("d", dtype="float64")
row, col = mg.row("row", dtype="float64"), mg.col("col", dtype="float64")
scalar = mg.scalar("scalar", dtype="float64")
known = mg.tensor("known", dtype="float64", shape=(2, 3))
nothing = mg.zeros((2, 3), dtype="float64")
single = mg.vector("single")
small, short, whole = (mg.vector(name, dtype=name) for name in ("int8", "int32", "int64"))
natural, truth = mg.vector("uint8", dtype="uint8"), mg.vector("bool", dtype="bool")
rows = mg.vector("rows", dtype="int64")
length = mg.scalar("length", dtype="int64")

SPECIAL = {
    x: np.array([0.0, -0.0, 1.5, -2.0, np.nan, np.inf, -np.inf, 1e300, 5e-324]),
    y: np.array([-0.0, 0.0, -1.5, -2.0, 1.0, np.inf, np.nan, -1e300, 1.0]),
    m: np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 2.5]]),
    d: np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, -0.0]]),
    known: np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 2.5]]),
    row: np.array([[-0.0, np.inf, np.nan]]),
    col: np.array([[-0.0], [3.0]]),
    scalar: np.array(-0.0),
    single: np.array([1e-3, -0.0, np.nan], "float32"),
    small: np.array([-128, 127, 0], "int8"),
    short: np.array([-(2**31), 2**31 - 1, 2**24 + 1], "int32"),
    whole: np.array([-(2**63), 2**53 + 1, 0], "int64"),
    natural: np.array([0, 1, 255], "uint8"),
    truth: np.array([True, False]),
    rows: np.array([1, 0, 1]),
}
MODERATE = {
    **SPECIAL,
    x: np.array([0.5, -1.25, 2.0]),
    y: np.array([1.5, 0.25, -2.0]),
    m: np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]]),
    known: np.array([[0.5, -1.0, 2.0], [1.0, 0.0, -0.5]]),
    row: np.array([[0.5, -1.0, 2.0]]),
    col: np.array([[2.0], [-3.0]]),
    scalar: np.array(0.75),
}

probabilities = mg.softmax(m)
picked = probabilities[rows, mg.constant([0, 2, 1])]
probes = mg.vector("probes", dtype="float64")
MODERATE[probes] = np.array([1.0, -2.0, 0.5])
e, s = mg.exp(x), mg.sigmoid(x)
total, gate = 1 + e, mg.sigmoid(m)
powers = mg.exp(m)
square_powers = mg.exp(mg.tensor("square", dtype="float64", shape=(3, 3)))


def relative_softmax(x, axis):
    """A softmax whose exponents are relative to the greatest one, if that is finite."""
    axes = (axis,) if isinstance(axis, int) else axis
    level = restore_axes(Peak(axes)(x), axes, x.ndim)
    weights = mg.exp(x - mg.where(mg.isfinite(level), level, 0))
    return weights / weights.sum(axis, keepdims=True)


def over(numerator, denominator):
    """A quotient as gradients write it: 0 where the numerator is 0."""
    return mg.multiply_or_zero(numerator, mg.reciprocal(denominator))


def sloped(cotangent):
    """A cotangent times the derivative of the sigmoid s, as its gradient writes it."""
    return mg.multiply_or_zero(cotangent, s * (1 - s))


def added_at_picked(target, value):
    """`target` with `value` added to the elements that `picked` reads."""
    return Increment(picked.op.entries)(target, value, *picked.inputs[1:])


FIRES = {
    algebra.cancel_double_negation: [(mg.negative(-x), x), (mg.negative(-whole), whole), (mg.negative(mg.negative(-x)), -x)],
    algebra.absorb_negation: [
        (x + (-y), x - y),
        ((-x) + y, y - x),
        (x - (-y), x + y),
        (m + (-row), m - row),
        (scalar - (-m), scalar + m),
        (natural + (-natural), natural - natural),
    ],
    algebra.drop_neutral_operand: [
        (x * 1, x),
        (1 * x, x),
        (x / 1, x),
        (x - 0, x),
        (whole + 0, whole),
        (0 + whole, whole),
        (whole * 1, whole),
        (m * mg.constant(np.ones((1, 1))), m),
        (known * mg.constant(np.ones((2, 3))), known),
    ],
    algebra.negate_for_minus_one: [(x * -1, -x), (-1 * x, -x), (whole * -1, -whole)],
    algebra.simplify_power: [
        (x**1, x),
        (x**2, mg.square(x)),
        (x**-1, mg.reciprocal(x)),
        (whole**2, mg.square(whole)),
        (x**0.5, mg.sqrt(x)),
    ],
    algebra.multiply_by_constant: [
        (mg.multiply_or_zero(2.0, x), 2.0 * x),
        (mg.multiply_or_zero(0.0, x), mg.zeros_like(x)),
        (mg.multiply_or_zero(-0.0, x), mg.zeros_like(x)),
        (mg.multiply_or_zero(np.inf, x), mg.constant(np.inf, dtype="float64") * x),
    ],
    algebra.take_known_choice: [
        (mg.where(True, x, x * 2), x),
        (mg.where(False, x, y), y),
        (mg.where(mg.constant(True), m, 0.0), m),
    ],
    algebra.merge_casts: [
        (short.astype("float64").astype("float32"), short.astype("float32")),
        (single.astype("float64").astype("float32"), single),
        (truth.astype("int64").astype("float32"), truth.astype("float32")),
        (small.astype("float16").astype("int8"), small),
    ],
    algebra.merge_dimshuffles: [
        (m.T.T, m),
        (m.dimshuffle("x", 1, 0).dimshuffle(2, 1), m),
        (m.dimshuffle("x", 0, 1).dimshuffle(2, 0, 1), m.dimshuffle(1, "x", 0)),
        (Dimshuffle((0, 1))(m), m),
    ],
    algebra.merge_reshapes: [
        (known.reshape((3, 2)).reshape((6,)), known.reshape((6,))),
        (known.reshape((3, 2)).reshape((2, 3)), known),
        (Reshape((2, 3))(known), known),
    ],
    algebra.join_parts: [
        (
            mg.inc_subtensor(nothing[:, 1:], known[:, :2]) + mg.inc_subtensor(nothing[:, :1], known[:, 2:]),
            mg.concatenate([known[:, 2:] + 0, known[:, :2] + 0], axis=1),
        ),
        (
            mg.inc_subtensor(nothing[:1], known[1:]) + mg.inc_subtensor(nothing[1:], known[:1]),
            mg.concatenate([known[1:] + 0, known[:1] + 0]),
        ),
    ],
    algebra.drop_single_windows: [
        (mg.windows(known, 1, [1]), mg.expand_dims(known, 2)),
        (mg.windows(known, (1, 1), [0, 1]), mg.expand_dims(known, [2, 3])),
        (mg.overlap(mg.expand_dims(known, 2), 3, [1]), mg.squeeze(mg.expand_dims(known, 2), 2) + 0),
    ],
    algebra.multiply_outer: [(known[:, :1] @ known[:1], known[:, :1] * known[:1] + 0)],
    stability.stable_logarithm: [
        (mg.log(mg.softmax(m)), mg.log_softmax(m)),
        (mg.log(mg.softmax(m, 0)), mg.log_softmax(m, 0)),
        (mg.log(mg.softmax(m)[:, 1]), mg.log_softmax(m)[:, 1]),
        (mg.log(picked), mg.log_softmax(m)[rows, mg.constant([0, 2, 1])]),
        (mg.log(mg.exp(x).sum()), mg.logsumexp(x)),
        (mg.log(powers.sum(1)), mg.logsumexp(m, 1)),
        (mg.log(powers.sum(1, keepdims=True)), mg.logsumexp(m, 1, keepdims=True)),
        (mg.log(powers.prod(1)), m.sum(1)),
        (mg.log2(mg.softmax(m)), mg.log_softmax(m) * (1 / np.log(2))),
        (mg.log1p(mg.exp(x)), mg.softplus(x)),
        (mg.log(s), -mg.softplus(-x)),
        (mg.log1p(-s), -mg.softplus(x)),
    ],
    stability.softmax_of_quotient: [
        (powers / powers.sum(1, keepdims=True), relative_softmax(m, 1)),
        (powers * mg.reciprocal(powers.sum(0)), relative_softmax(m, 0)),
        (powers.T / powers.sum(1), relative_softmax(m.T, 0)),
        (powers / powers.sum(), relative_softmax(m, (0, 1))),
    ],
    stability.root_of_squares: [
        (mg.sqrt((x * x).sum()), mg.norm(x)),
        (mg.sqrt(mg.square(m).sum(1)), mg.norm(m, axis=1)),
        ((m**2).sum(0) ** 0.5, mg.norm(m, axis=0)),
        (mg.sqrt((m * m).sum(1, keepdims=True)), mg.norm(m, axis=1, keepdims=True)),
        (mg.sqrt(mg.square(x + y).sum() * 1.0), mg.norm(x + y)),
    ],
    stability.sigmoid_of_quotient: [
        (1 / (1 + mg.exp(-x)), s),
        (mg.reciprocal(mg.exp(-x) + 1), s),
        ((1 + mg.exp(-x)) ** -1, s),
        (e / (1 + e), mg.where(x < np.inf, s, mg.constant(np.nan, dtype="float64"))),
        (1 / (1 + e), mg.sigmoid(-x)),
    ],
    stability.increment_of_quotient: [
        (
            added_at_picked(mg.zeros_like(probabilities), over(probes, picked)),
            over(added_at_picked(mg.zeros_like(probabilities), probes), probabilities),
        ),
    ],
    stability.softmax_gradient_of_log: [
        (
            SoftmaxGradient(1)(over(d, probabilities), probabilities),
            d - mg.multiply_or_zero(d.sum(1, keepdims=True), probabilities),
        ),
    ],
    stability.log_of_one_plus: [
        (mg.log(1 + x), mg.log1p(x)),
        (mg.log(x + 1), mg.log1p(x)),
        (mg.log(1 - x), mg.log1p(-x)),
    ],
    stability.exp_minus_one: [(mg.exp(x) - 1, mg.expm1(x))],
    stability.softplus_gradient: [
        (over(y, total) * e, mg.multiply_or_zero(y, mg.sigmoid(x))),
        (mg.multiply_or_zero(over(y, e + 1), e), mg.multiply_or_zero(y, mg.sigmoid(x))),
    ],
    stability.sigmoid_gradient_of_log: [
        (sloped(over(y, s)), mg.multiply_or_zero(y, 1 - s)),
        (sloped(over(y, 1 - s)), mg.multiply_or_zero(y, s)),
        (sloped(-over(y, 1 - s)), -mg.multiply_or_zero(y, s)),
        (sloped(over(y, s) + over(x, 1 - s)), mg.multiply_or_zero(y, 1 - s) + mg.multiply_or_zero(x, s)),
    ],
}
"""For each rule graphs, and what it makes of them."""

level = mg.logsumexp(m, 1, keepdims=True)
stretched = mg.broadcast_to(over(col, powers.sum(1, keepdims=True)), m.shape)
FIRES[stability.gradient_of_log_of_sum] = [
    (
        factor(stretched, powers),
        mg.multiply_or_zero(
            stretched.op(col, *stretched.inputs[1:]),
            mg.exp(m - stretched.op(mg.where(mg.isfinite(level), level, 0), *stretched.inputs[1:])),
        ),
    )
    for factor in (mg.multiply, mg.multiply_or_zero)
]

LEAVES = {
    algebra.cancel_double_negation: [-x, -(x - y), -mg.abs(-x)],
    algebra.absorb_negation: [x + y, (-x) - y, -(x + y), x * (-y)],
    algebra.drop_neutral_operand: [
        x + 0,  # -0.0 + 0 is 0.0
        0.0 + x,
        x - mg.constant(-0.0, dtype="float64"),
        x - mg.constant(np.array([0.0, -0.0] * 4 + [0.0])),
        0 - x,
        1 / x,
        x * 2,
        scalar * mg.constant(np.ones(3)),
        row * mg.constant(np.ones((2, 1))),
        x * mg.constant(np.ones(9)),  # checks that x has nine elements
        mg.logical_and(truth, True),
    ],
    algebra.negate_for_minus_one: [x * 1, x * -2, scalar * mg.constant(-np.ones(2)), natural * mg.constant(255, dtype="uint8")],
    algebra.simplify_power: [
        x**3,
        x**0,
        x ** mg.constant(np.full(1, 0.5)),  # NumPy takes the root for a scalar exponent only
        2.0**x,
        0.5**x,
        scalar ** mg.constant(np.full(3, 2.0)),
        Power()(natural, mg.constant(3, dtype="uint8")),
    ],
    algebra.multiply_by_constant: [
        mg.multiply_or_zero(x, 2.0),
        mg.multiply_or_zero(np.nan, x),
        mg.multiply_or_zero(mg.constant(np.array([[0.0, 1.0, 2.0]])), m),
        mg.multiply_or_zero(mg.constant(np.zeros((2, 1))), row),
    ],
    algebra.take_known_choice: [
        mg.where(truth, x, x * 2),
        mg.where(True, scalar, m),  # the other one gives the shape
        mg.where(mg.constant(np.array([True, True, True])), m, 0.0),
    ],
    algebra.merge_casts: [
        whole.astype("float64").astype("int64"),  # 2**53 + 1 is no float64
        short.astype("float32").astype("float64"),
        whole.astype("int32").astype("int64"),
        x.astype("float32").astype("float64"),
        whole.astype("bool").astype("int64"),
        short.astype("float64"),
    ],
    algebra.merge_dimshuffles: [m.T, m.dimshuffle(0, "x", 1), mg.exp(m.T).T],
    algebra.merge_reshapes: [
        known.reshape((6,)),
        x.reshape((3, -1)),
        x.reshape((9,)).reshape((3, -1)),  # only the first says that there are nine
        known.reshape((length, 2)).reshape((6,)),  # only the first says that the length is three
        x.reshape((length, 3)).reshape((-1,)),
        mg.exp(known.reshape((6,))).reshape((3, 2)),
    ],
    algebra.join_parts: [
        mg.inc_subtensor(nothing[:, 1:], known[:, :2]) + mg.inc_subtensor(nothing[:, 1:], known[:, :2]),
        mg.inc_subtensor(nothing[:, 1:], known[:, :2]) + mg.inc_subtensor(nothing[:1], known[1:]),
        mg.inc_subtensor(nothing[:, 1:], known[:, :2]) + mg.inc_subtensor(known[:, :1], known[:, 2:]),
        mg.inc_subtensor(nothing[:, 1:], known[:, :2]) + known,
        mg.inc_subtensor(nothing[:, :1], known[:, 2:]) + mg.inc_subtensor(nothing[:, 2:], known[:, 2:]),
        mg.inc_subtensor(nothing[:, 0], known[:, 2]) + mg.inc_subtensor(nothing[:, 1:], known[:, :2]),
    ],
    algebra.drop_single_windows: [
        mg.windows(known, 2, [1]),
        mg.windows(known, 1, [1], 2),
        mg.windows(m, 1, [1]),  # of an axis that has no element there is no window
        mg.overlap(mg.windows(known, 2, [1]), 3, [1]),
    ],
    algebra.multiply_outer: [known.T @ known, x.reshape((9, 1)) @ x.reshape((-1, 9))],
    stability.stable_logarithm: [
        mg.log(probabilities + 0.5),
        mg.log1p(probabilities),
        mg.log(1 - probabilities),
        mg.log(m.sum(1)),
        mg.log(powers.sum(())),
        mg.log(e * y),  # y may be negative
        mg.log(powers - 1),
        mg.log(mg.sqrt(mg.square(x))),
        mg.log1p(x),
        mg.log1p(mg.expm1(x)),
        mg.log1p(s),
        mg.log(-s),
    ],
    stability.softmax_of_quotient: [
        powers / powers.sum(0, keepdims=True).sum(1, keepdims=True),
        powers / mg.exp(d).sum(1, keepdims=True),
        powers / powers.mean(1, keepdims=True),
        square_powers / square_powers.sum(1),  # the sum of another row
        mg.exp(m - m.max(1, keepdims=True)) / mg.exp(m - m.max(1, keepdims=True)).sum(1, keepdims=True),
        e / 2,
    ],
    stability.root_of_squares: [
        mg.sqrt((x * y).sum()),
        mg.sqrt(mg.square(x)),
        mg.sqrt((x**3).sum()),
        (x * x).sum() ** 2,
        mg.sqrt(1 + (x * x).sum()),
    ],
    stability.sigmoid_of_quotient: [1 / (2 + e), 2 / (1 + e), e / (1 + mg.exp(y)), 1 / (1 + x), 1 / (1 - e)],
    stability.increment_of_quotient: [
        added_at_picked(d, over(probes, picked)),
        added_at_picked(mg.zeros_like(d), over(probes, picked)),
        added_at_picked(mg.zeros_like(probabilities), over(mg.constant(2.0, dtype="float64"), picked)),
        mg.inc_subtensor(mg.zeros_like(probabilities)[rows, mg.constant([0, 1, 1])], over(probes, picked)),
        mg.inc_subtensor(mg.zeros_like(powers)[:, 1], over(d[:, 1], powers[:, 1])),
    ],
    stability.softmax_gradient_of_log: [
        SoftmaxGradient(1)(over(col, probabilities), probabilities),  # a sum of col would have too few terms
        SoftmaxGradient(1)(over(scalar, probabilities), probabilities),
        SoftmaxGradient(1)(over(d, mg.softmax(d)), probabilities),
        SoftmaxGradient(1)(d, probabilities),
    ],
    stability.gradient_of_log_of_sum: [
        mg.broadcast_to(over(col, mg.exp(d).sum(1, keepdims=True)), m.shape) * powers,
        mg.broadcast_to(over(scalar, powers.sum(1, keepdims=True)), m.shape) * powers,
        mg.broadcast_to(over(col, m.sum(1, keepdims=True)), m.shape) * powers,
        (col / powers.sum(1, keepdims=True)) * powers,
    ],
    stability.log_of_one_plus: [
        mg.log(2 + x),
        mg.log(x - 1),
        mg.log(scalar + mg.constant(np.ones(3))),
        mg.log(mg.constant(np.ones((2, 1))) - row),
    ],
    stability.exp_minus_one: [e - 2, e + 1, 1 - e, mg.exp(scalar) - mg.constant(np.ones(3)), mg.exp2(x) - 1],
    stability.softplus_gradient: [
        over(y, 2 + e) * e,
        over(y, e + e) * e,
        over(y, 1 + mg.exp(y)) * e,
        over(scalar, 1 + mg.exp(m[:, 0])) * mg.exp(m[:, 0]),  # its result would have no axis to check
    ],
    stability.sigmoid_gradient_of_log: [
        mg.multiply_or_zero(over(y, s), s * (1 - mg.sigmoid(y))),
        sloped(over(y, 2 - s)),
        mg.multiply_or_zero(over(y, e), e * (1 - e)),
        sloped(over(y, s) + x),
    ],
}
"""For each rule graphs that look alike, and which it must not touch."""

ALGEBRA = (*algebra.RULES, *algebra.OUTER_RULES)
RULES = (*ALGEBRA, *stability.RULES)


def test_every_rule_has_a_case_where_it_fires_and_one_where_it_must_not():
    assert set(FIRES) == set(LEAVES) == set(RULES)
    assert all(FIRES.values())
    assert all(LEAVES.values())


def bits(value):
    """A value as bytes, every NaN alike, so that -0.0 differs from 0.0."""
    array = np.asarray(value)
    return (array.dtype, array.shape, np.where(np.isnan(array), np.nan, array).tobytes())


@pytest.mark.parametrize("rule", ALGEBRA, ids=lambda rule: rule.__name__)
def test_an_algebra_rule_fires_and_keeps_every_bit(rule):
    for before, after in FIRES[rule]:
        assert_rewrites(rule, before, after, SPECIAL)
        old, new = compute_plainly([before, after], dict(SPECIAL))
        assert bits(old) == bits(new), mg.pprint(before)


@pytest.mark.parametrize("rule", stability.RULES, ids=lambda rule: rule.__name__)
def test_a_stability_rule_fires_and_agrees_where_the_plain_form_is_accurate(rule):
    for before, after in FIRES[rule]:
        assert_rewrites(rule, before, after, MODERATE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_leaves_alone_what_only_looks_alike(rule):
    for before in LEAVES[rule]:
        assert_rewrites(rule, before, None)


# -- how rules are judged --------------------------------------------------------------------------------------------


def forget_to_square(variable):
    match variable:
        case Variable(Multiply(), (a, b)) if a is b:
            return a
    return None


def test_assert_rewrites_fails_where_a_rule_does_something_else():
    with pytest.raises(AssertionError, match="forget_to_square made"):
        assert_rewrites(forget_to_square, x * x, None)
    with pytest.raises(AssertionError, match="cancel_double_negation made"):
        assert_rewrites(algebra.cancel_double_negation, -x, x)


def test_assert_rewrites_fails_where_a_value_changes():
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_rewrites(forget_to_square, x * x, x, {x: [2.0, 3.0]})


def test_assert_rewrites_compares_with_the_graph_as_it_was_written():
    def cancel(variable):
        return -variable.inputs[0].inputs[0] if algebra.cancel_double_negation(variable) is not None else None

    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_rewrites(cancel, mg.negative(-x), -x, {x: [2.0]})


# -- the engine ------------------------------------------------------------------------------------------------------


def applied(roots, *rules):
    """The roots with rules applied."""
    return rewrite(Graph((), tuple(roots)), rules).outputs


def test_a_rule_that_changes_the_type_is_refused_at_the_users_line():
    def narrow(variable):
        return variable.astype("float32") if isinstance(variable.op, Add) else None

    with pytest.raises(RuntimeError, match=r"rule narrow turned .*test_rewrites\.py:\d+.*must keep the type"):
        applied([x + y], narrow)


def test_a_rule_may_not_make_an_axis_broadcast():
    with pytest.raises(RuntimeError, match="must keep the type"):
        applied([x + y], lambda variable: mg.constant(np.zeros(1)) if isinstance(variable.op, Add) else None)


def test_rules_that_undo_each_other_end():
    def subtract(variable):
        match variable:
            case Variable(Add(), (a, b)):
                return a - (-b)
        return None

    def add(variable):
        match variable:
            case Variable(Subtract(), (a, Variable(Negative(), (b,)))):
                return a + b
        return None

    (result,) = applied([mg.exp(x + y)], subtract, add)
    given = {x: np.array([1.0]), y: np.array([2.0])}
    np.testing.assert_array_equal(compute_plainly([result], given)[0], np.exp([3.0]))


def test_rules_apply_until_none_does():
    chain = x
    for _ in range(200):
        chain = mg.negative(-chain) * 1
    (result,) = applied([chain], *algebra.RULES)
    assert result is x


def test_what_no_rule_touches_stays_the_same_object():
    untouched, touched = mg.exp(x), mg.exp(y) * 1
    ours = applied([untouched, touched], *algebra.RULES)
    assert ours[0] is untouched
    assert ours[1] is touched.inputs[0]


def test_a_rewritten_variable_keeps_its_line():
    before = mg.log(mg.softmax(m))
    (after,) = applied([before], *stability.RULES)
    assert after is not before
    assert after.origin == before.origin


# -- what no rewrite may lose ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (x - x, [0, np.nan, np.nan, np.nan]),
        (x * 0, [0, np.nan, np.nan, np.nan]),
        (x / x, [np.nan, np.nan, np.nan, np.nan]),
        (0 * x + y, [1, np.nan, np.nan, np.nan]),
        (x - 0 - x, [0, np.nan, np.nan, np.nan]),
        (mg.exp(x) - mg.exp(x), [0, np.nan, np.nan, 0]),
        (mg.log(mg.exp(x)), [0, np.inf, np.nan, -np.inf]),
        (mg.sqrt(mg.square(x)), [0, np.inf, np.nan, np.inf]),
        (mg.maximum(x, x), [0, np.inf, np.nan, -np.inf]),
        (mg.eq(x, x).astype("float64"), [1, 1, 0, 1]),
    ],
    ids=str,
)
def test_nan_and_infinity_survive_optimization(expression, expected):
    given = {
        one: value
        for one, value in ((x, [0, np.inf, np.nan, -np.inf]), (y, np.ones(4)))
        if one in expression_inputs(expression)
    }
    np.testing.assert_array_equal(expression.eval(given), expected)


def expression_inputs(expression):
    """The variables that an expression depends on."""
    return set(Graph((), (expression,)).variables)


def test_a_zero_keeps_its_sign_through_optimization():
    f = mg.function([x], [x + 0, x - 0, x * 1, x / 1, mg.negative(-x), x * -1])
    signs = [bool(np.signbit(result[0])) for result in f([-0.0])]
    assert signs == [False, True, True, True, True, False]


# -- stable forms ----------------------------------------------------------------------------------------------------

POINTS = np.array([-1000.0, -30, -1.5, -1e-10, 0, 1e-10, 1.5, 30, 1000])


def logistic(z):
    return np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("build", "value", "slope"),
    [
        (lambda z: mg.log(1 + mg.exp(z)), lambda z: np.logaddexp(0, z), logistic),
        (lambda z: mg.log(mg.exp(z) + 1), lambda z: np.logaddexp(0, z), logistic),
        (lambda z: mg.log1p(mg.exp(z)), lambda z: np.logaddexp(0, z), logistic),
        (lambda z: mg.log(mg.sigmoid(z)), lambda z: -np.logaddexp(0, -z), lambda z: logistic(-z)),
        (lambda z: mg.log(1 - mg.sigmoid(z)), lambda z: -np.logaddexp(0, z), lambda z: -logistic(z)),
        (lambda z: mg.log1p(-mg.sigmoid(z)), lambda z: -np.logaddexp(0, z), lambda z: -logistic(z)),
        (lambda z: mg.exp(z) - 1, np.expm1, np.exp),
        (
            lambda z: mg.binary_crossentropy(mg.sigmoid(z), 0.25),
            lambda z: 0.25 * np.logaddexp(0, -z) + 0.75 * np.logaddexp(0, z),
            lambda z: logistic(z) - 0.25,
        ),
    ],
    ids=["log(1 + exp)", "log(exp + 1)", "log1p(exp)", "log(sigmoid)", "log(1 - sigmoid)", "log1p(-sigmoid)", "exp - 1", "bce"],
)
def test_elementwise_stable_forms_are_exact_at_any_point(build, value, slope, dtype):
    z = mg.vector("z", dtype=dtype)
    cost = build(z)
    f = mg.function([z], [cost, mg.grad(cost.sum(), z)])
    ours, gradient = f(POINTS.astype(dtype))
    with np.errstate(over="ignore"):
        given = POINTS.astype(dtype).astype("float64")
        exact = value(given).astype(dtype), slope(given).astype(dtype)
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(ours, exact[0], rtol=tolerance)
    np.testing.assert_allclose(gradient, exact[1], rtol=tolerance, atol=tolerance)


LOGITS = np.array([[1000.0, 0, -1000], [0.5, -1.5, 2], [-1000, -1000, -1000]])


def exact_log_softmax(z):
    shifted = z - z.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def test_log_of_softmax_at_extreme_logits():
    z, weights = mg.matrix("z", dtype="float64"), np.array([[1.0, 2, 3], [-1, 0.5, 2], [1, 1, -4]])
    cost = mg.log(mg.softmax(z))
    ours, gradient = mg.function([z], [cost, mg.grad((cost * weights).sum(), z)])(LOGITS)
    np.testing.assert_allclose(ours, exact_log_softmax(LOGITS), rtol=1e-14)
    expected = weights - np.exp(exact_log_softmax(LOGITS)) * weights.sum(1, keepdims=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: -mg.log(mg.softmax(z)[1]),
        lambda z: -mg.log(mg.softmax(z))[1],
        lambda z: -mg.log(mg.softmax(z)[mg.constant([1])]).sum(),
        lambda z: mg.log(mg.exp(z).sum()) - z[1],
        lambda z: mg.categorical_crossentropy(mg.softmax(z[None]), mg.constant([1])).sum(),
        lambda z: mg.softmax_crossentropy(z[None], mg.constant([1])).sum(),
    ],
    ids=["picked", "then picked", "picked by array", "log-sum-exp", "categorical", "from logits"],
)
def test_the_loss_of_a_hopeless_guess_is_1000_with_the_right_gradient(loss):
    z = mg.vector("z")
    cost = loss(z)
    value, gradient = mg.function([z], [cost, mg.grad(cost, z)])([1000, 0, -1000])
    assert value == 1000
    np.testing.assert_array_equal(gradient, [1, -1, 0])


@pytest.mark.parametrize("axis", [0, 1, (0, 1), None])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(None, None), (3, 3)], ids=["unknown sizes", "known sizes"])
def test_log_of_sum_of_exp_at_extreme_logits(axis, keepdims, shape):
    z = mg.tensor("z", dtype="float64", shape=shape)
    cost = mg.log(mg.exp(z).sum(axis, keepdims=keepdims))
    ours, gradient = mg.function([z], [cost, mg.grad(cost.sum(), z)])(LOGITS)
    peak = LOGITS.max(axis, keepdims=True)
    kept = peak + np.log(np.exp(LOGITS - peak).sum(axis, keepdims=True))
    np.testing.assert_allclose(ours, kept if keepdims else kept.squeeze(axis), rtol=1e-14)
    np.testing.assert_allclose(gradient, np.exp(LOGITS - kept), rtol=1e-13)


def test_a_sum_of_exp_without_any_mass_is_as_before():
    z = mg.vector("z", dtype="float64")
    cost = mg.log(mg.exp(z).sum())
    assert cost.eval({z: [-np.inf, -np.inf]}) == -np.inf
    assert cost.eval({z: [np.inf, 0]}) == np.inf
    assert np.isnan(cost.eval({z: [np.nan, 0]}))


def test_a_broadcast_cotangent_of_softmax_keeps_its_gradient():
    z, weight = mg.matrix("z", dtype="float64"), mg.col("weight", dtype="float64")
    p = mg.softmax(z)
    pulled = mg.vjp(p, z, over(weight, p))
    given = {z: MODERATE[m], weight: MODERATE[col]}
    np.testing.assert_allclose(pulled.eval(given), compute_plainly([pulled], dict(given))[0], rtol=1e-12, atol=1e-12)


# -- sizes -----------------------------------------------------------------------------------------------------------


def only(graph):
    """The one output of a graph."""
    (output,) = graph.outputs
    return output


def test_a_size_is_read_where_it_is_known_first():
    inner = mg.exp(m).T * 2.0
    traced = only(trace_sizes(Graph((), (inner.shape[0],))))
    assert traced.op == Size(1)
    assert traced.inputs == (m,)


def test_a_size_that_two_arrays_must_agree_on_is_read_off_the_result():
    both = x + y
    size = both.shape[0]
    assert only(trace_sizes(Graph((), (size,)))) is size
    with pytest.raises(ValueError, match="do not match"):
        size.eval({x: [1.0, 2.0], y: [1.0, 2.0, 3.0]})


def test_a_size_of_an_operand_that_is_stretched_does_not_stand_for_the_result():
    stretched = row + col
    assert [one.eval({row: [[1.0, 2.0]], col: [[1.0], [2.0], [3.0]]}) for one in stretched.shape] == [3, 2]


def test_nothing_is_computed_for_its_shape_alone():
    f = mg.function([m], mg.zeros_like(mg.exp(mg.log(m) * 2.0)))
    names = {type(step[0]).__name__ if not isinstance(step[0], str) else step[0] for step in f.profile(np.ones((2, 3))).steps}
    assert not any(name.startswith(("Exp", "Log", "Multiply")) for name in names)


# -- folding ---------------------------------------------------------------------------------------------------------


def test_what_depends_on_constants_alone_becomes_a_constant():
    folded = only(fold(Graph((), (x * (mg.constant([1.0, 2.0]).sum() * 3),))))
    assert isinstance(folded.inputs[1].op, Constant) or isinstance(folded.inputs[1].inputs[0].op, Constant)
    assert not any(isinstance(one.op, Sum) for one in Graph((), (folded,)))


def test_folding_keeps_what_depends_on_inputs_or_state():
    state = mg.shared(np.ones(3))
    kept = state * 2 + x
    assert only(fold(Graph((), (kept,)))) is kept


def test_an_error_in_constants_is_left_to_the_call():
    outside = mg.constant([1.0, 2.0])[mg.constant([5])]
    f = mg.function([scalar], outside * scalar)
    with pytest.raises(IndexError, match="out of bounds"):
        f(1.0)


def test_an_error_in_a_branch_that_is_not_taken_never_shows():
    flag = mg.scalar("flag", dtype="bool")
    three = mg.constant([1.0, 2.0, 3.0])
    pairs = three.reshape((mg.constant(3) - 1, 2))
    wrong = [three[mg.constant([5])].sum(), (three[mg.constant([True, False, True])] + three).sum(), pairs.sum()]
    for branch in wrong:
        f = mg.function([flag], mg.ifelse(flag, branch, 7.0))
        assert f(False) == 7
        with pytest.raises((IndexError, ValueError)):
            f(True)


@pytest.mark.parametrize(
    "huge",
    [
        lambda: mg.zeros((10**6, 10**6)),
        lambda: mg.zeros((10**6, 10**6)) + 1,
        lambda: mg.arange(10**12),
        lambda: mg.arange(mg.constant(10**6) * 10**6) * 2,
        lambda: mg.repeat(mg.constant([1.0]), 10**12),
        lambda: mg.eye(10**6),
    ],
    ids=["zeros", "zeros + 1", "arange", "arange of a computed length", "repeat", "eye"],
)
def test_a_huge_constant_is_not_materialized(huge):
    folded = fold(Graph((), (huge(),)))
    assert all(one.op.value.nbytes <= LARGEST for one in folded if isinstance(one.op, Constant))
    assert not isinstance(only(folded).op, Constant)


def test_a_constant_of_unknown_length_is_computed_when_called():
    length = mg.constant(2) + mg.constant(1)
    counted = mg.arange(length)
    folded = only(fold(Graph((), (counted,))))
    assert isinstance(folded.op, Arange)
    assert folded.type == counted.type
    np.testing.assert_array_equal(counted.eval(), [0, 1, 2])


# -- merging ---------------------------------------------------------------------------------------------------------


def test_equal_computations_are_merged():
    first, second = merge(Graph((), (mg.exp(x) + mg.exp(x), mg.exp(x) * 2.0))).outputs
    assert first.inputs[0] is first.inputs[1] is second.inputs[0]


def test_equal_expressions_of_two_layers_are_two_until_they_are_compiled():
    first, second = mg.standardize(m, 0)[0], mg.standardize(m, 0)[0]
    assert first is not second
    lowered = lower(Graph((), (first, second)))
    assert lowered.outputs[0] is not lowered.outputs[1]
    merged = merge(lowered)
    assert merged.outputs[0] is merged.outputs[1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (x * 0.0, x * -0.0),
        (x.sum(), x.prod()),
        (mg.relu(x, 0.1), mg.relu(x, 0.2)),
        (x + 1, x + 2),
        (m.sum(0), m.sum(1)),
        (x - y, y - x),
        (mg.exp(x), mg.exp(y)),
        (mg.constant(1, dtype="int32"), mg.constant(1, dtype="int64")),
        (mg.constant([1.0]), mg.constant([[1.0]])),
        (mg.assert_(x, mg.gt(x, 0)), mg.assert_(x, mg.gt(x, 0))),
        (mg.constant(np.zeros(5000)), mg.constant(np.zeros(5000))),
        (mg.shared(1.0), mg.shared(1.0)),
        (mg.vector("v"), mg.vector("v")),
    ],
    ids=lambda one: str(one),
)
def test_what_may_differ_is_not_merged(first, second):
    one, other = merge(Graph((), (first, second))).outputs
    assert one is not other


def test_a_condition_is_checked_for_each_assert():
    first, second = mg.assert_(x, mg.gt(x, 0), "first"), mg.assert_(x, mg.gt(x, 1), "second")
    f = mg.function([x], [first, second])
    np.testing.assert_array_equal(f([2.0])[1], [2.0])
    with pytest.raises(AssertionError, match="first"):
        f([-1.0])
    with pytest.raises(AssertionError, match="second"):
        f([0.5])


def test_an_assert_on_constants_is_not_folded_away():
    f = mg.function([], mg.assert_(mg.constant(1.0), False, "never"))
    with pytest.raises(AssertionError, match="never"):
        f()


def test_an_assert_in_a_gradient_stays():
    checked = mg.assert_(x, mg.gt(x, 0), "positive")
    f = mg.function([x], mg.grad((checked**2).sum(), x))
    np.testing.assert_array_equal(f([3.0]), [6.0])
    with pytest.raises(AssertionError, match="positive"):
        f([-3.0])


def test_draws_are_neither_merged_nor_folded():
    stream = mg.random.RandomStream(seed=3)
    f = mg.function([], [stream.uniform((100,)), stream.uniform((100,))])
    draws = [draw for _ in range(2) for draw in f()]
    assert len({draw.tobytes() for draw in draws}) == 4


def test_one_draw_used_twice_is_one_draw():
    draw = mg.random.RandomStream(seed=3).normal((50,))
    np.testing.assert_array_equal(mg.function([], draw - draw)(), np.zeros(50))
    compiled = mg.function([], [draw, draw * 2.0], backend="numpy")
    assert sum(isinstance(one.op, RandomBits) for one in optimized(compiled)) == 1


def optimized(f):
    """The variables of the graph that a function runs."""
    traced = mg.function([], list(f.outputs), no_default_updates=True, backend=f.backend, trace=True)
    return traced.trace.stages[-1][1].variables


# -- stripping and expanding -----------------------------------------------------------------------------------------


def annotated(variable):
    """The same value under every op that is the identity of a value."""
    counter = mg.shared(np.zeros(()), "counter")
    tagged = variable.copy(name="tagged", tags=("tag",))
    recording = mg.with_default_update(tagged, {counter: counter + 1})
    return mg.grad_reverse(mg.grad_clip(mg.grad_scale(mg.disconnected_grad(mg.identity(recording)), 3), -1, 1))


def test_stripping_leaves_no_annotation_and_the_same_value():
    plain, marked = mg.exp(x) * y, mg.exp(annotated(x)) * annotated(annotated(y))
    stripped = strip(Graph((), (marked,)))
    assert not any(isinstance(one.op, Identity | GradientOp) for one in stripped)
    ours, theirs, before = compute_plainly([only(stripped), plain, marked], dict(SPECIAL))
    assert bits(ours) == bits(theirs) == bits(before)


def test_stripping_a_graph_of_annotations_alone_leaves_the_leaf():
    assert only(strip(Graph((), (annotated(x),)))) is x


def test_recorded_updates_happen_though_their_node_is_stripped():
    counter = mg.shared(np.zeros((), "int64"), "counter")
    f = mg.function([x], mg.with_default_update(x * 2, {counter: counter + 1}))
    f([1.0])
    f([1.0])
    assert counter.get_value() == 2


def test_asserts_are_not_stripped():
    kept = strip(Graph((), (mg.assert_(annotated(x), mg.gt(x, 0)),)))
    assert isinstance(only(kept).op, Assert)
    assert only(kept).inputs[0] is x


class SquareAndMean(Composite):
    """The square of its input and the mean of it, by way of another composite."""

    def expand(self, *inputs):
        return mg.square(inputs[0]), mg.mean(inputs[0], 0)


def test_lowering_leaves_no_composite_however_deep():
    graph = lower(Graph((), (mg.standardize(m, 0)[0], mg.log_softmax(mg.gelu(m)), *items(SquareAndMean()(m)))))
    assert not any(isinstance(one.op, Composite) for one in graph)


def test_a_composite_of_several_results_is_expanded_once():
    first, second = items(SquareAndMean()(mg.cast(m, "float32")))
    graph = lower(Graph((), (first + second, first * 3.0, second)))
    assert sum(isinstance(one.op, Square) for one in graph) == 1
    assert sum(isinstance(one.op, Sum) for one in graph) == 1


def test_what_a_composite_expands_to_has_its_line():
    normalized = mg.standardize(m, 0)[0]
    graph = lower(Graph((), (normalized,)))
    assert {one.origin for one in graph if one.inputs} == {normalized.inputs[0].origin}


def test_lowering_keeps_values():
    roots = [*mg.standardize(m, 0), mg.log_softmax(m), mg.logsumexp(m), mg.std(m, 1), mg.norm(m)]
    lowered = lower(Graph((), tuple(roots))).outputs
    for ours, plain in zip(compute_plainly(lowered, dict(MODERATE)), compute_plainly(roots, dict(MODERATE)), strict=True):
        assert bits(ours) == bits(plain)


def test_broadcast_zeros_stay_a_view():
    f = mg.function([x], mg.zeros((1000, 1000)).sum() + x, backend="numpy")
    g = mg.function([x], mg.zeros((1000, 1000)) * x[0], backend="numpy", trace=True)
    assert any(isinstance(one.op, BroadcastTo) for one in g.trace.stages[-1][1])
    np.testing.assert_array_equal(f([2.0]), [2.0])
