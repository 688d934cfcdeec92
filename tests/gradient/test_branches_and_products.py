"""Gradients that are changed, of branches, and the products built on them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Op
from minigraph.ops.elementwise.base import Floating
from minigraph.testing import numeric_gradient, verify_grad
from support.gradients import slope

x, y = mg.vector("x", dtype="float64"), mg.vector("y", dtype="float64")
s, t = mg.scalar("s", dtype="float64"), mg.scalar("t", dtype="float64")

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
