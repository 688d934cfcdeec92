"""Differentiation: what `grad` promises, its conventions with their numbers, and the products built on it."""

import warnings

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Graph
from minigraph.testing import verify_grad
from support.gradients import slope

x, y = mg.vector("x", dtype="float64"), mg.vector("y", dtype="float64")
m = mg.matrix("m", dtype="float64")
s, t = mg.scalar("s", dtype="float64"), mg.scalar("t", dtype="float64")

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
