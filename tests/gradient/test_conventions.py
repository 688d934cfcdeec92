"""Gradients at kinks, added up, of stretched operands, and their types."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Composite, Graph, items
from minigraph.testing import verify_grad
from support.gradients import slope

x, y = mg.vector("x", dtype="float64"), mg.vector("y", dtype="float64")
m = mg.matrix("m", dtype="float64")
s, t = mg.scalar("s", dtype="float64"), mg.scalar("t", dtype="float64")

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
    with pytest.raises(ValueError, match=rf"test_conventions\.py:{product.origin.line}"):
        gradient.eval({**{one: np.ones(2) for one in inputs_of(gradient)}, y: np.ones(3), x: np.ones(2)})


def inputs_of(variable):
    """The inputs a variable depends on."""
    return [one for one in Graph((), (variable,)) if type(one.op).__name__ == "Input"]
