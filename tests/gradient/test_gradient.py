"""Differentiation: what `grad` promises, its conventions with their numbers, and the products built on it."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Composite, Graph, Op, items
from minigraph.ops.elementwise.base import Floating
from minigraph.testing import numeric_gradient, verify_grad

x, y = mg.vector("x", dtype="float64"), mg.vector("y", dtype="float64")
m = mg.matrix("m", dtype="float64")
s, t = mg.scalar("s", dtype="float64"), mg.scalar("t", dtype="float64")


def slope(cost, wrt, at, **options):
    """The gradient of a cost at a point."""
    return mg.grad(cost, wrt, **options).eval({wrt: at})


# -- the cost --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (x * 2, r"must be a float scalar.*float64 \(None,\).*reduce it with mean or sum"),
        (x[None][:, :0].sum(1), "must be a float scalar"),
        (mg.lscalar("i") * 2, "must be a float scalar.*int64"),
        (3.0, "the cost must be a variable, not 3.0"),
    ],
    ids=["vector", "axis of size 1", "integer", "number"],
)
def test_a_cost_that_is_no_float_scalar_is_a_type_error(cost, message):
    with pytest.raises(TypeError, match=message):
        mg.grad(cost, x)


def test_the_gradient_of_a_cost_by_itself_is_one():
    assert slope(s, s, 5.0) == 1


# -- wrt -------------------------------------------------------------------------------------------------------------


def test_the_result_is_like_wrt():
    cost = (x * y).sum()
    assert mg.grad(cost, x).type == x.type
    for wrt in ([x, y], (x, y)):
        slopes = mg.grad(cost, wrt)
        assert isinstance(slopes, list)
        assert [one.eval({x: [2.0], y: [3.0]}) for one in slopes] == [3, 2]
    assert mg.grad(cost, []) == []


def test_a_variable_may_be_asked_for_twice():
    first, second = mg.grad((x**2).sum(), [x, x])
    np.testing.assert_array_equal(first.eval({x: [3.0]}), second.eval({x: [3.0]}))


def test_a_gradient_by_an_intermediate_variable():
    middle = x * 3
    cost = (middle**2 + x).sum()
    gradient = mg.grad(cost, middle)
    np.testing.assert_array_equal(gradient.eval({x: [2.0]}), [12.0])
    np.testing.assert_array_equal(slope(cost, x, [2.0]), [37.0])


def test_a_gradient_by_shared_variables_and_constants():
    weight, fixed = mg.shared(np.array([1.0, 2.0])), mg.constant(np.array([3.0, 4.0]))
    by_weight, by_fixed = mg.grad((weight * fixed).sum(), [weight, fixed])
    np.testing.assert_array_equal(by_weight.eval(), [3, 4])
    np.testing.assert_array_equal(by_fixed.eval(), [1, 2])


def test_an_integer_wrt_is_refused_with_the_reason_and_the_line():
    count = mg.lvector("count")
    with pytest.raises(TypeError, match=r"count.*test_gradient\.py:\d+.*int64.*defined for floats only.*cast it"):
        mg.grad((count * x).sum(), count)
    with pytest.raises(TypeError, match="wrt must be a variable"):
        mg.grad(s, 2.0)


def test_nothing_flows_through_an_integer():
    with pytest.raises(ValueError, match="does not depend on <x"):
        mg.grad(x.astype("int64").astype("float64").sum(), x)


# -- disconnected ----------------------------------------------------------------------------------------------------


def test_a_disconnected_wrt_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"does not depend on <y.*\(.*test_gradient\.py:\d+\).*disconnected_inputs='ignore'"):
        mg.grad((x * 2).sum(), [x, y])


def test_a_disconnected_wrt_can_be_zero_or_none():
    cost = (x * 2).sum()
    zero = mg.grad(cost, m, disconnected_inputs="ignore")
    np.testing.assert_array_equal(zero.eval({m: np.ones((2, 3))}), np.zeros((2, 3)))
    assert zero.type == m.type
    by_x, by_m = mg.grad(cost, [x, m], disconnected_inputs="ignore", return_disconnected="none")
    assert by_m is None
    np.testing.assert_array_equal(by_x.eval({x: [1.0]}), [2.0])


def test_a_disconnected_wrt_can_warn():
    with pytest.warns(UserWarning, match="does not depend on <y") as caught:
        zero = mg.grad(x.sum(), y, disconnected_inputs="warn")
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(zero.eval({y: [1.0, 2.0]}), [0, 0])


def test_ignoring_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.grad(x.sum(), y, disconnected_inputs="ignore")


@pytest.mark.parametrize("option", ["disconnected_inputs", "return_disconnected"])
def test_an_unknown_option_is_refused(option):
    with pytest.raises(ValueError, match=f"{option} must be one of"):
        mg.grad(x.sum(), x, **{option: "maybe"})


def test_a_dependence_with_gradient_zero_is_not_disconnected():
    np.testing.assert_array_equal(slope(mg.floor(x).sum() + mg.sign(x).sum(), x, [1.5]), [0.0])


# -- known gradients and constants -----------------------------------------------------------------------------------


def test_known_grads_without_a_cost_are_products_with_the_jacobian():
    out = x**2
    pulled = mg.grad(None, x, known_grads={out: np.array([1.0, 10.0])})
    np.testing.assert_array_equal(pulled.eval({x: [3.0, 4.0]}), [6.0, 80.0])


def test_known_grads_add_to_what_flows_from_the_cost():
    out = x**2
    pulled = mg.grad(out.sum(), x, known_grads={out: np.array([1.0, 10.0])})
    np.testing.assert_array_equal(pulled.eval({x: [3.0, 4.0]}), [12.0, 88.0])


def test_a_known_gradient_of_the_cost_itself_adds_to_one():
    cost = s**2
    assert mg.grad(cost, s, known_grads={cost: 4.0}).eval({s: 3.0}) == 30


def test_a_known_gradient_of_wrt_adds_to_its_gradient():
    assert mg.grad(s**2, s, known_grads={s: 4.0}).eval({s: 3.0}) == 10


def test_known_grads_of_several_variables_along_one_path():
    middle = x * 2
    out = middle**2
    pulled = mg.grad(None, x, known_grads={out: mg.ones_like(out), middle: mg.ones_like(middle)})
    np.testing.assert_array_equal(pulled.eval({x: [3.0]}), [26.0])


def test_known_grads_must_fit():
    with pytest.raises(TypeError, match="does not have the shape"):
        mg.grad(None, x, known_grads={x * 2: 1.0})
    with pytest.raises(ValueError, match="cost, known_grads, or both"):
        mg.grad(None, x)


def test_consider_constant_is_not_differentiated_through():
    factor = x**2
    cost = (factor * x).sum()
    np.testing.assert_array_equal(slope(cost, x, [3.0], consider_constant=[factor]), [9.0])
    np.testing.assert_array_equal(slope(cost, x, [3.0]), [27.0])


def test_what_depends_on_a_constant_alone_is_disconnected():
    factor = x**2
    with pytest.raises(ValueError, match="does not depend on <x"):
        mg.grad(factor.sum(), x, consider_constant=[factor])


# -- any order -------------------------------------------------------------------------------------------------------


def test_the_derivatives_of_a_polynomial_until_nothing_is_left():
    value = 2 * s**3 - 5 * s**2 + s
    orders = [value]
    for _ in range(4):
        orders.append(mg.grad(orders[-1], s, disconnected_inputs="ignore"))
    results = [float(one.eval({s: 3.0})) for one in orders]
    assert results == [12.0, 25.0, 26.0, 12.0, 0.0]


def test_the_gradient_of_a_gradient_mixes_variables():
    cost = s**2 * t**3
    mixed = mg.grad(mg.grad(cost, s), t)
    other = mg.grad(mg.grad(cost, t), s)
    assert mixed.eval({s: 2.0, t: 3.0}) == other.eval({s: 2.0, t: 3.0}) == 2 * 2 * 3 * 9


@pytest.mark.parametrize(
    "build",
    [mg.exp, mg.sigmoid, mg.tanh, mg.softmax, mg.log_softmax, mg.logsumexp, mg.std, mg.norm, mg.prod, mg.gelu, mg.cumprod],
    ids=lambda one: one.__name__,
)
def test_second_derivatives_equal_finite_differences(build):
    verify_grad(build, [[0.5, -1.5, 2.0]], order=2, step=1e-5, rtol=1e-4, atol=1e-5)


def test_third_derivatives_equal_finite_differences():
    verify_grad(lambda z: mg.log_softmax(z) * mg.tanh(z), [[0.5, -1.5, 2.0]], order=3, step=1e-4, rtol=1e-3, atol=1e-4)


def test_a_chain_far_deeper_than_the_recursion_limit():
    value = s
    for _ in range(10_000):
        value = value * 1.0
    gradient = mg.grad(value, s)
    assert len(Graph((), (gradient,)).variables) > 10_000


# -- conventions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "at", "expected"),
    [
        (lambda z: mg.maximum(z, 1.0), [0.0, 1.0, 2.0], [0, 0.5, 1]),
        (lambda z: mg.minimum(z, 1.0), [0.0, 1.0, 2.0], [1, 0.5, 0]),
        (lambda z: mg.maximum(z, z), [0.0, -1.0], [1, 1]),
        (mg.max, [3.0, 1, 3, 2], [0.5, 0, 0.5, 0]),
        (mg.min, [3.0, 1, 1, 1], [0, 1 / 3, 1 / 3, 1 / 3]),
        (mg.relu, [-1.0, 0, 1], [0, 0, 1]),
        (mg.relu, [-0.0], [0]),
        (lambda z: mg.relu(z, 0.25), [-1.0, 0, 1], [0.25, 0.25, 1]),
        (mg.abs, [-2.0, 0, 2], [-1, 0, 1]),
        (mg.prod, [0.0, 2, 3], [6, 0, 0]),
        (mg.prod, [0.0, 2, 0], [0, 0, 0]),
        (mg.prod, [4.0, 2, 3], [6, 12, 8]),
        (lambda z: mg.where(z > 0, mg.sqrt(z), 0), [0.0, 4.0], [0, 0.25]),
        (lambda z: mg.where(z > 0, mg.log(z), z), [0.0, -1.0, 4.0], [1, 1, 0.25]),
        (lambda z: mg.where(mg.neq(z, 0), 1 / z, 0), [0.0, 2.0], [0, -0.25]),
        (lambda z: z**0, [0.0, 2.0], [0, 0]),
        (lambda z: z**1, [0.0, 2.0], [1, 1]),
        (lambda z: z**2, [0.0, -2.0], [0, -4]),
        (lambda z: z**0.0 + z**1.0 + z**2.0 + z**3.0, [0.0], [1]),
        (lambda z: 2.0**z, [0.0], [np.log(2)]),
        (lambda z: mg.power(0.0, z), [1.0, 2.0], [0, 0]),
        (mg.norm, [0.0, 0, 0], [0, 0, 0]),
        (mg.norm, [3.0, 4.0], [0.6, 0.8]),
        (lambda z: mg.norm(z, 3), [0.0, 0.0], [0, 0]),
        (mg.std, [5.0, 5, 5], [0, 0, 0]),
        (mg.std, [1.0, 3], [-0.5, 0.5]),
        (mg.ptp, [1.0, 3, 2], [-1, 1, 0]),
        (lambda z: mg.clip(z, -1, 1), [-2.0, -1, 0, 1, 2], [0, 0.5, 1, 0.5, 0]),
    ],
)  # fmt: skip
def test_conventions(build, at, expected):
    np.testing.assert_allclose(slope(build(x).sum(), x, at), expected, rtol=1e-15)


@pytest.mark.parametrize("reduce", [mg.max, mg.min])
@pytest.mark.parametrize("axis", [0, 1, (0, 1)])
def test_ties_share_a_gradient_of_one(reduce, axis):
    at = np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]])
    gradient = slope(reduce(m, axis).sum(), m, at)
    np.testing.assert_allclose(gradient.sum(axis), np.ones_like(at.max(axis)))
    assert len(np.unique(gradient[gradient > 0])) <= 2


def test_both_operands_of_a_power_have_finite_gradients_at_zero():
    for base, exponent, expected in [(0.0, 0.0, (0, 0)), (0.0, 1.0, (1, 0)), (0.0, 2.0, (0, 0)), (2.0, 0.0, (0, np.log(2)))]:
        slopes = mg.grad(s**t, [s, t])
        np.testing.assert_allclose([one.eval({s: base, t: exponent}) for one in slopes], expected)


def test_a_root_has_an_infinite_slope_at_zero():
    assert slope(mg.sqrt(s), s, 0.0) == np.inf
    assert slope(s**0.5, s, 0.0) == np.inf


# -- accumulation ----------------------------------------------------------------------------------------------------


def test_an_input_used_many_times_gathers_every_gradient():
    cost = sum((mg.sin(x) * k for k in range(1, 50)), x).sum() + (x * x * x).sum()
    np.testing.assert_allclose(slope(cost, x, [0.0]), [1 + 49 * 50 / 2])


def test_a_diamond_of_two_to_the_sixty_paths_is_sixty_steps():
    value = s
    for _ in range(60):
        value = (value + value) * 0.5
    gradient = mg.grad(value, s)
    assert len(Graph((), (gradient,)).variables) < 1000
    assert gradient.eval({s: 3.0}) == 1


class Pair(Composite):
    """a * b and a + b, without a gradient of its own."""

    def expand(self, *inputs):
        a, b = inputs
        return a * b, a + b


class Twice(Composite):
    """The same variable as both of its results."""

    def expand(self, *inputs):
        squared = inputs[0] ** 2
        return squared, squared


class Product(Composite):
    """a * b."""

    def expand(self, *inputs):
        return inputs[0] * inputs[1]


def test_a_composite_whose_inputs_depend_on_each_other_is_not_counted_twice():
    inner = s**2
    assert slope(Product()(s, inner), s, 3.0) == 27
    both = mg.grad(Product()(s, inner), [s, inner])
    assert [float(one.eval({s: 3.0})) for one in both] == [27, 3]
    product, total = items(Pair()(s, inner))
    assert slope(product + total, s, 3.0) == 27 + 1 + 6


def test_a_composite_of_one_input_twice():
    assert slope(Product()(s, s), s, 3.0) == 6


def test_a_composite_may_return_its_input():
    class Through(Composite):
        def expand(self, *inputs):
            return inputs[0], inputs[0] * inputs[1]

    first, second = items(Through()(s, t))
    slopes = mg.grad(first * 2 + second, [s, t])
    assert [float(one.eval({s: 3.0, t: 5.0})) for one in slopes] == [7, 3]


def test_results_that_are_one_variable_gather_both_gradients():
    first, second = items(Twice()(s))
    assert slope(first + 10 * second, s, 3.0) == 66


@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_only_some_results_of_a_multiple_op_are_used(used):
    def build(z):
        results = mg.standardize(z, 0)
        return sum((results[k] * (k + 1) for k in used[1:]), results[used[0]] * mg.sin(z))

    verify_grad(build, [[[0.5, -1.0], [2.0, 0.25], [1.0, 3.0]]])


def test_several_results_of_a_decomposition():
    def build(z):
        values, vectors = mg.linalg.eigh(z + z.T)
        return values.sum() + (vectors**2 * mg.constant(np.arange(9.0).reshape(3, 3))).sum()

    verify_grad(build, [np.array([[2.0, 0.3, 0.1], [0.2, 5.0, 0.4], [0.6, 0.5, 9.0]])])


# -- broadcasting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [(), (1,), (4,), (3, 1), (1, 4), (1, 1), (2, 1, 1), (1, 3, 1), (1, 1, 4), (2, 1, 4), (1, 3, 4), (1, 1, 1), (2, 3, 1)],
    ids=str,
)
@pytest.mark.parametrize("operate", [mg.add, mg.multiply, mg.divide, mg.maximum, mg.hypot], ids=lambda one: one.__name__)
def test_a_gradient_is_summed_over_what_was_stretched(shape, operate):
    rng = np.random.default_rng(0)
    wide, narrow = rng.uniform(1, 2, (2, 3, 4)), rng.uniform(2.5, 3, shape)
    verify_grad(operate, [wide, narrow])
    verify_grad(operate, [narrow, wide])
    a, b = mg.tensor3("a"), mg.tensor("b", shape=shape)
    gradient = mg.grad(operate(a, b).sum(), b)
    assert gradient.type == b.type
    assert gradient.eval({a: wide.astype("float32"), b: narrow.astype("float32")}).shape == shape


def test_two_operands_that_stretch_each_other():
    verify_grad(lambda a, b: mg.exp(a * b), [[[1.0], [0.5], [0.25]], [[1.0, 0.5]]])


@pytest.mark.parametrize("shape", [(), (1, 3), (2, 1)])
def test_a_gradient_through_a_chosen_shape(shape):
    verify_grad(lambda z: mg.broadcast_to(z, (2, 3)) * np.arange(6.0).reshape(2, 3), [np.ones(shape)])


def test_a_gradient_over_an_empty_axis_is_zero_or_empty():
    col = mg.col("col", dtype="float64")
    f = mg.function([m, col], mg.grad((m * col).sum(), [m, col]))
    by_m, by_col = f(np.ones((2, 0)), np.ones((2, 1)))
    assert by_m.shape == (2, 0)
    np.testing.assert_array_equal(by_col, [[0], [0]])


# -- types and origins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    "build",
    [
        lambda z: mg.exp(z).sum(),
        lambda z: mg.mean(z**2),
        lambda z: mg.std(z),
        lambda z: mg.var(z, 0).sum(),
        lambda z: (z.astype("float64") * 2).sum(),
        lambda z: (z * mg.constant(np.ones(3))).sum(),
        lambda z: mg.standardize(z, 0)[0].sum(),
        lambda z: mg.log_softmax(z)[0],
        lambda z: mg.max(z) * mg.prod(z),
        lambda z: mg.cumsum(z)[-1] ** 2.0,
        lambda z: mg.ifelse(z[0] > 0, z, -z).sum(),
        lambda z: mg.norm(z) + mg.logsumexp(z),
        lambda z: mg.concatenate([z, mg.constant(np.ones(2))]).sum(),
    ],
)
def test_a_gradient_has_the_dtype_of_its_variable(build, dtype):
    z = mg.tensor("z", dtype=dtype, shape=(3,))
    gradient = mg.grad(build(z), z)
    assert gradient.dtype == z.dtype
    assert gradient.eval({z: np.array([1, 2, 4], dtype)}).dtype == dtype
    if dtype != "float16":
        twice = mg.grad((gradient**2).sum(), z, disconnected_inputs="ignore")
        assert twice.dtype == z.dtype


def test_a_gradient_has_the_line_of_the_forward_variable():
    first = mg.exp(x)
    second = mg.sin(first)
    cost = second.sum()
    gradient = mg.grad(cost, x)
    lines = {one.origin.line for one in Graph((), (gradient,)) if one is not x}
    start = cost.origin.line + 1
    assert gradient.origin == first.origin
    assert lines == {first.origin.line, second.origin.line, cost.origin.line, start}


def test_an_error_in_a_gradient_names_the_forward_line():
    product = x * y
    gradient = mg.grad((product * mg.vector("z", dtype="float64")).sum(), x)
    with pytest.raises(ValueError, match=rf"test_gradient\.py:{product.origin.line}"):
        gradient.eval({**{one: np.ones(2) for one in inputs_of(gradient)}, y: np.ones(3), x: np.ones(2)})


def inputs_of(variable):
    """The inputs a variable depends on."""
    return [one for one in Graph((), (variable,)) if type(one.op).__name__ == "Input"]


# -- changed gradients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda z: mg.grad_clip(z, -5, 5), [5, -5, 4]),
        (lambda z: mg.grad_scale(z, 0.5), [50, -50, 2]),
        (mg.grad_reverse, [-100, 100, -4]),
        (lambda z: mg.grad_reverse(z, 0.25), [-25, 25, -1]),
    ],
    ids=["clip", "scale", "reverse", "reverse with a factor"],
)
def test_changed_gradients(change, expected):
    at, weights = np.array([1.0, 2.0, 3.0]), np.array([100.0, -100.0, 4.0])
    changed = change(x)
    np.testing.assert_array_equal(changed.eval({x: at}), at)
    np.testing.assert_array_equal(slope((changed * weights).sum(), x, at), expected)


def test_no_gradient_flows_through_what_is_disconnected():
    np.testing.assert_array_equal(slope((mg.disconnected_grad(x) * x).sum(), x, [3.0]), [3.0])
    with pytest.raises(ValueError, match="does not depend on <x"):
        mg.grad(mg.disconnected_grad(x).sum(), x)


def test_a_copy_and_an_update_pass_the_gradient_on():
    counter = mg.shared(0.0)
    cost = mg.with_default_update(x.copy("named"), {counter: counter + 1}) ** 2
    np.testing.assert_array_equal(slope(cost.sum(), x, [3.0]), [6.0])


# -- branches --------------------------------------------------------------------------------------------------------


def test_the_branch_that_is_taken_has_the_gradient():
    flag = mg.scalar("flag", dtype="bool")
    cost = mg.ifelse(flag, s**2, t**3)
    f = mg.function([flag, s, t], mg.grad(cost, [s, t]))
    assert [float(one) for one in f(True, 3.0, 2.0)] == [6, 0]
    assert [float(one) for one in f(False, 3.0, 2.0)] == [0, 12]


def test_branches_within_branches():
    flag, other = mg.scalar("flag", dtype="bool"), mg.scalar("other", dtype="bool")
    inner = mg.ifelse(other, s**2, s**3)
    f = mg.function([flag, other, s], mg.grad(mg.ifelse(flag, inner * 2, s), s))
    assert [float(f(*flags, 3.0)) for flags in ((True, True), (True, False), (False, True), (False, False))] == [12, 54, 1, 1]


# -- products with Jacobians -----------------------------------------------------------------------------------------


def several(a, b):
    """Two results of two variables, through composites."""
    return [mg.softmax(a) * b.sum(), mg.standardize(b, 0)[0] + mg.logsumexp(a), mg.std(a * 2)]


POINTS = [np.array([0.5, -1.0, 2.0]), np.array([[1.0, 2.0], [0.0, -1.5], [0.5, 0.25]])]
TANGENTS = [np.array([1.0, -0.5, 0.25]), np.array([[0.5, 1.0], [-1.0, 0.0], [0.25, 2.0]])]


def test_jvp_equals_a_directional_finite_difference():
    inputs = [mg.tensor("a", dtype="float64", shape=(3,)), mg.tensor("b", dtype="float64", shape=(3, 2))]
    outputs = several(*inputs)
    pushed = mg.function(inputs, mg.jvp(outputs, inputs, TANGENTS))(*POINTS)
    f, step = mg.function(inputs, outputs), 1e-6
    ahead, behind = (f(*[p + k * step * v for p, v in zip(POINTS, TANGENTS, strict=True)]) for k in (1, -1))
    for ours, high, low in zip(pushed, ahead, behind, strict=True):
        np.testing.assert_allclose(ours, (high - low) / (2 * step), rtol=1e-6, atol=1e-8)


def test_vjp_is_the_transpose_of_jvp():
    inputs = [mg.tensor("a", dtype="float64", shape=(3,)), mg.tensor("b", dtype="float64", shape=(3, 2))]
    outputs = several(*inputs)
    rng = np.random.default_rng(0)
    cotangents = [rng.normal(size=one.type.shape) for one in outputs]
    pulled, pushed = mg.vjp(outputs, inputs, cotangents), mg.jvp(outputs, inputs, TANGENTS)
    left, right = mg.function(inputs, [dot(pulled, TANGENTS), dot(pushed, cotangents)])(*POINTS)
    np.testing.assert_allclose(left, right, rtol=1e-12)


def dot(ours, theirs):
    """The sum of the products of two lists of arrays."""
    return sum(((one * other).sum() for one, other in zip(ours, theirs, strict=True)), mg.constant(np.zeros(())))


def test_products_are_like_what_they_stand_for():
    out = x * y
    assert mg.vjp(out, x, x).type == x.type
    assert [one.type for one in mg.vjp([out, x], [x, y], [x, y])] == [x.type, y.type]
    assert mg.jvp(out, x, x).type == out.type
    assert isinstance(mg.jvp([out], [x], [x]), list)
    with pytest.raises(ValueError, match="2 outputs need as many cotangents, not 1"):
        mg.vjp([out, x], x, [x])
    with pytest.raises(ValueError, match="2 variables need as many tangents, not 1"):
        mg.jvp(out, [x, y], [x])


def test_what_does_not_depend_on_wrt_has_a_tangent_of_zero():
    np.testing.assert_array_equal(mg.jvp(y * 2, x, x).eval({x: [1.0], y: [5.0, 6.0]}), [0, 0])
    np.testing.assert_array_equal(mg.vjp(y * 2, x, y).eval({x: [1.0], y: [5.0]}), [0])


def test_one_output_named_twice_counts_twice():
    np.testing.assert_array_equal(mg.vjp([x, x], x, [x, x]).eval({x: [3.0]}), [6.0])


def test_a_jacobian_has_the_axes_of_both():
    z = mg.tensor("z", dtype="float64", shape=(2, 3))
    table = mg.jacobian(mg.exp(z).sum(1) * z[0, 0], z)
    at = np.arange(6.0).reshape(2, 3) / 5 + 0.5
    ours = table.eval({z: at})
    assert ours.shape == (2, 2, 3)
    f = mg.function([z], mg.exp(z).sum(1) * z[0, 0])
    for k in range(2):
        np.testing.assert_allclose(ours[k], numeric_gradient(lambda p, k=k: f(p)[k], [at])[0], rtol=1e-6)


def test_a_jacobian_of_a_scalar_is_its_gradient():
    np.testing.assert_array_equal(mg.jacobian((x**2).sum(), x).eval({x: [1.0, 2.0]}), [2, 4])


def test_jacobians_by_several_variables_of_nothing_or_of_unknown_sizes():
    z = mg.tensor("z", dtype="float64", shape=(2,))
    by_x, by_z = mg.jacobian(z * 3, [x, z])
    np.testing.assert_array_equal(by_z.eval({z: [1.0, 2.0]}), [[3, 0], [0, 3]])
    assert by_x.eval({x: [1.0, 2.0, 3.0]}).tolist() == np.zeros((2, 3)).tolist()
    assert mg.jacobian(z[:0], z).eval({z: [1.0, 2.0]}).shape == (0, 2)
    with pytest.raises(ValueError, match="must have known sizes"):
        mg.jacobian(x * 2, x)


def test_a_hessian_and_its_product_with_a_vector():
    z = mg.tensor("z", dtype="float64", shape=(3,))
    cost = (mg.exp(z) * mg.roll(z, 1) ** 2).sum() + mg.prod(z)
    at, vector = np.array([0.5, 1.5, -1.0]), np.array([1.0, -2.0, 0.5])
    full = mg.hessian(cost, z).eval({z: at})
    np.testing.assert_allclose(full, full.T, rtol=1e-12)
    gradient = mg.function([z], mg.grad(cost, z))
    for k in range(3):
        np.testing.assert_allclose(full[k], numeric_gradient(lambda p, k=k: gradient(p)[k], [at])[0], rtol=1e-6, atol=1e-7)
    product = mg.hessian_vector_product(cost, z, vector).eval({z: at})
    np.testing.assert_allclose(product, full @ vector, rtol=1e-12)


def test_hessians_by_several_variables():
    a, b = mg.tensor("a", dtype="float64", shape=(2,)), mg.tensor("b", dtype="float64", shape=())
    cost = (a**2).sum() * b**3
    given = {a: [1.0, 2.0], b: 2.0}
    by_a, by_b = mg.hessian(cost, [a, b])
    np.testing.assert_allclose(by_a.eval(given), 16 * np.eye(2))
    assert by_b.eval(given) == 60
    first, second = mg.hessian_vector_product(cost, [a, b], [np.array([1.0, 0.0]), np.array(1.0)])
    np.testing.assert_allclose(first.eval(given), [16 + 24, 48])
    assert second.eval(given) == 24 + 60


def test_the_hessian_of_what_is_linear_is_zero():
    z = mg.tensor("z", dtype="float64", shape=(2,))
    np.testing.assert_array_equal(mg.hessian((z * 3).sum(), z).eval(), np.zeros((2, 2)))


# -- the checker itself ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong(Floating):
    """The sine, with a gradient that is off by a factor."""

    factor: float

    def forward(self, xp: Any, z: Any) -> Any:
        return xp.sin(z)

    def gradient(self, dy, y, z):
        return (dy * mg.cos(z) * self.factor,)


@dataclass(frozen=True)
class WrongTwice(Floating):
    """The sine, with a first derivative of the right value that cannot be differentiated on."""

    def forward(self, xp: Any, z: Any) -> Any:
        return xp.sin(z)

    def gradient(self, dy, y, z):
        return (dy * mg.cos(mg.disconnected_grad(z)),)


def test_a_wrong_gradient_is_found():
    verify_grad(Wrong(1.0), [[0.5, 1.0]])
    with pytest.raises(AssertionError, match="gradient of order 1 by input 0 differs"):
        verify_grad(Wrong(1.001), [[0.5, 1.0]])
    with pytest.raises(AssertionError, match="by input 1 differs"):
        verify_grad(lambda a, b: a * Wrong(2.0)(b), [[0.5, 1.0], [0.5, 1.0]])


def test_a_wrong_second_derivative_is_found_at_order_two():
    verify_grad(WrongTwice(), [[0.5, 1.0]])
    with pytest.raises(AssertionError, match="gradient of order 2"):
        verify_grad(WrongTwice(), [[0.5, 1.0]], order=2)


def test_a_missing_gradient_is_found():
    class Opaque(Floating):
        def forward(self, xp, z):
            return xp.sin(z)

        gradient = Op.gradient

    with pytest.raises(AssertionError, match="differs"):
        verify_grad(Opaque(), [[0.5]])


def test_a_gradient_of_nan_is_found():
    with pytest.raises(AssertionError, match="differs"):
        verify_grad(lambda z: mg.where(z > 0, z, 0) + mg.sqrt(mg.abs(z) * 0) * 0 + 0 * mg.log(z * 0), [[1.0]])


def test_a_gradient_of_the_wrong_dtype_is_refused():
    class Widening(Floating):
        def forward(self, xp, z):
            return xp.sin(z)

        def gradient(self, dy, y, z):
            return (dy.astype("float64"),)

    z = mg.vector("z")
    with pytest.raises(TypeError, match=r"gradient of .*Widening.* has dtype float64 for an input of float32"):
        mg.grad(Widening()(z).sum(), z)


def test_a_wrong_gradient_of_only_one_axis_is_found():
    class Unsummed(Floating):
        def forward(self, xp, z):
            return xp.add(z, z)

        def gradient(self, dy, y, z):
            return (dy * mg.constant(np.array([2.0, 2.0, 1.0])),)

    with pytest.raises(AssertionError, match="differs"):
        verify_grad(Unsummed(), [[1.0, 2.0, 3.0]])


def test_of_elements_written_twice_the_last_alone_has_a_gradient():
    v = mg.tensor("v", dtype="float64", shape=(3,))
    twice = mg.set_subtensor(v[mg.constant([0, 0])], v[:2])
    np.testing.assert_array_equal(mg.grad(twice.sum(), v).eval({v: [1.0, 2.0, 3.0]}), [0, 2, 1])
    picks = mg.lvector("picks")
    values = mg.tensor("values", dtype="float64", shape=(4,))
    slope = mg.grad((mg.set_subtensor(v[picks], values) * [1.0, 2.0, 3.0]).sum(), values)
    f = mg.function([v, picks, values], slope, on_unused_input="ignore")
    np.testing.assert_array_equal(f(np.zeros(3), [2, 0, 2, 0], np.ones(4)), [0, 0, 3, 1])


def test_the_gradient_of_a_branch_that_is_not_taken_is_zero_and_is_not_computed():
    flag, s = mg.scalar("flag", dtype="bool"), mg.dscalar("s")
    overflowing = mg.grad(mg.ifelse(flag, s, mg.exp(s)), s)
    assert mg.function([flag, s], overflowing)(True, 1000.0) == 1
    asserting = mg.grad(mg.ifelse(flag, s * mg.assert_(s, s > 0) ** 2, mg.exp(mg.assert_(s, s < 0))), s)
    f = mg.function([flag, s], asserting)
    assert f(True, 3.0) == 27 and f(False, -1.0) == np.exp(-1.0)
    with pytest.raises(AssertionError):
        f(True, -3.0)


def test_gradients_through_many_branches_upon_branches():
    flag, s = mg.scalar("flag", dtype="bool"), mg.dscalar("s")
    y = s
    for _ in range(200):
        y = mg.ifelse(flag, y * 1.01, mg.ifelse(s > 0, mg.sin(y), y))
    value, slope = mg.function([flag, s], [y, mg.grad(y, s)])(True, 1.0)
    assert value == pytest.approx(1.01**200) and slope == pytest.approx(1.01**200)


def test_second_order_gradients_of_branches():
    flag, s = mg.scalar("flag", dtype="bool"), mg.dscalar("s")
    curvature = mg.grad(mg.grad(mg.ifelse(flag, s**3, mg.exp(s)), s), s)
    f = mg.function([flag, s], curvature)
    assert f(True, 2.0) == 12 and f(False, 0.0) == 1


def test_consider_constant_takes_one_variable_too():
    x = mg.dscalar("x")
    y = x * 2
    assert mg.grad(x * y, x, consider_constant=y).eval({x: 3.0}) == 6


def test_what_is_considered_constant_is_differentiated_by_and_not_through():
    x, w = mg.vector("x", dtype="float64"), mg.shared(np.array([3.0, 4.0]), "w")
    y = x * w
    cost = mg.square(y).sum() + (y * x).sum()
    given = [1.0, 2.0]
    np.testing.assert_allclose(mg.grad(cost, x, consider_constant=[y]).eval({x: given}), [3, 8])
    slope, through = mg.grad(cost, [y, x], consider_constant=[y])
    np.testing.assert_allclose(slope.eval({x: given}), [7, 18])
    np.testing.assert_allclose(through.eval({x: given}), [3, 8])
    np.testing.assert_allclose(mg.grad(cost, x, consider_constant=[x]).eval({x: given}), [24, 80])
    with pytest.raises(ValueError, match="does not depend on"):
        mg.grad(mg.square(y).sum(), w, consider_constant=[y])
