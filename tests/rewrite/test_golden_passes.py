"""Each pass over graphs of any sizes: the text of a graph before and after it, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.choose import INTERPRETED
from minigraph.compiler.scalar.seclude import seclude
from minigraph.core.graph import Graph
from minigraph.ops.control import with_default_update
from minigraph.ops.elementwise.arithmetic import Multiply
from minigraph.ops.linear.products import MatMul
from minigraph.ops.random import RandomBits
from minigraph.rewrite.algebra import expand_outer_products, simplify
from minigraph.rewrite.flatten_stacks import flatten_stacks
from minigraph.rewrite.fold import fold
from minigraph.rewrite.lift_loops import lift_loops
from minigraph.rewrite.lower import lower, strip
from minigraph.rewrite.merge import merge
from minigraph.rewrite.one_pass_variance import one_pass_variance
from minigraph.rewrite.partition import partition
from minigraph.rewrite.push_slices import push_slices
from minigraph.rewrite.sink_transposes import sink_transposes
from minigraph.rewrite.stability.rules import stabilize
from minigraph.rewrite.stack_products import stack_products
from minigraph.rewrite.symbolic_shapes import trace_sizes
from minigraph.rewrite.tidy_loops import tidy_loops, unite_loops
from minigraph.rewrite.view_transposed import view_transposed
from support.golden import assert_golden, change, graph, nothing, tensor


class Twice(Multiply):
    """An op from outside of the package that derives from one of its own."""

    def forward(self, xp, a, b):
        return 2 * a * b


def test_seclude():
    x = tensor("x", None)
    assert_golden("seclude", change(seclude, graph([x], Twice().of(x, 1.0) + x * 1.0)))
    assert nothing(seclude, graph([x], mg.exp(x)))


def test_strip():
    x, s = tensor("x", None), mg.shared(np.float32(0), "s")
    assert_golden("strip", change(strip, graph([x], with_default_update(x.copy(name="copy"), {s: s + 1}) * 2)))


def test_stabilize():
    x = tensor("x", None, 4)
    assert_golden("stabilize", change(stabilize, graph([x], mg.log(mg.softmax(x)), mg.log(1 + mg.exp(x)))))
    assert nothing(stabilize, graph([x], mg.log(x), mg.log(2 + mg.sin(x)), mg.exp(x) - 2))


def test_lower():
    x = tensor("x", None, 4)
    assert_golden("lower", change(lower, graph([x], mg.softmax(x), x.var(0))))


def test_trace_sizes():
    x, y = tensor("x", None, 3), tensor("y", None, 3)
    assert_golden("trace_sizes", change(trace_sizes, graph([x, y], mg.exp(x.T).shape[1] + (x * y).shape[0])))


def test_merge():
    x = tensor("x", None)
    assert_golden("merge", change(merge, graph([x], mg.exp(x) + mg.exp(x) * mg.sin(x) + mg.sin(x))))
    stream = mg.random.RandomStream(0)
    draws = merge(graph([], stream.uniform(3) + stream.uniform(3)))
    assert sum(isinstance(one.op, RandomBits) for one in draws.variables) == 2


def test_simplify():
    x = tensor("x", None, 3)
    assert_golden("simplify", change(simplify, graph([x], mg.negative(-x) * 1.0, x.T.T + 0.0, x[:][1:])))
    assert nothing(simplify, graph([x], x - x, x * 0.0, x / x))


def looped():
    """A loop whose steps multiply what they read, and sum up what they do not keep."""
    x, w = tensor("x", None, 2, 3), tensor("w", 3, 3)
    rows, other = mg.scan(
        lambda row, state: [mg.tanh(row @ w + state), row * 2], sequences=[x], outputs_info=[mg.zeros((2, 3), "float32"), None]
    )
    return x, w, rows, other


def lowered(given: Graph) -> Graph:
    """A graph without annotations and composites."""
    return lower(strip(given))


def test_unite_loops():
    x = tensor("x", None)
    first = mg.scan(lambda one, state: one + state, sequences=[x], outputs_info=[x[0]])
    second = mg.scan(lambda one, state: one + state, sequences=[x], outputs_info=[x[0]])
    before = merge(lowered(graph([x], first * second)))
    assert_golden("unite_loops", change(lambda given: given.with_roots(unite_loops(given.roots)), before))


def test_tidy_loops():
    x, w, rows, other = looped()
    assert_golden("tidy_loops", change(tidy_loops, lowered(graph([x, w], rows[-1]))))
    assert nothing(tidy_loops, lowered(graph([x, w], rows, other)))


def test_lift_loops():
    x, w, rows, _ = looped()
    assert_golden("lift_loops", change(lift_loops, tidy_loops(lowered(graph([x, w], rows)))))


def test_flatten_stacks():
    x, w, g, column = tensor("x", None, 2, 3), tensor("w", 3, 4), tensor("g", None, 2, 4), tensor("column", 5, 4, 1)
    total = mg.matmul(mg.swapaxes(x, 1, 2), g).sum(0)
    assert_golden("flatten_stacks", change(flatten_stacks, graph([x, w, g, column], x @ w, total, w @ column)))


def test_stacks_that_stay():
    x, w, y, many = tensor("x", 5, 2, 3), tensor("w", 3, 4), tensor("y", 5, 3, 4), tensor("many", 5, 64, 3)
    upright, stretched = tensor("upright", 5, 3, 2), mg.broadcast_to(tensor("row", 2, 3), (5, 2, 3))
    before = graph([x, w, y, many], x @ y, many @ w, mg.swapaxes(upright, 1, 2) @ w, stretched @ w, w.T @ upright)
    assert nothing(flatten_stacks, before)
    product = x @ y
    assert nothing(flatten_stacks, graph([x, y], product.sum(0), product.sum((0, 1)), mg.matmul(upright, x).sum(0)))
    shared = mg.matmul(mg.swapaxes(x, 1, 2), x)
    assert nothing(flatten_stacks, graph([x], shared, shared.sum(0)))


def test_expand_outer_products():
    a, b = tensor("a", None, 1), tensor("b", 1, 4)
    assert_golden("expand_outer_products", change(expand_outer_products, graph([a, b], a @ b)))
    assert nothing(expand_outer_products, graph([a, b], b @ b.T))


def test_outer_products_of_steps_are_one_product_after_the_loop():
    x, w = tensor("x", 7, 1, 3), tensor("w", 3, 3)
    states = mg.scan(lambda row, state: mg.tanh(row + state @ w), sequences=[x], outputs_info=[mg.zeros((1, 3), "float32")])
    given = graph([x, w], mg.grad(states[-1].sum(), w))
    for step in INTERPRETED.whole:
        given = step.run(given)
    (total,) = given.outputs
    assert isinstance(total.op, MatMul) and total.inputs[0].type.shape == (3, 7)


def test_push_slices():
    x = tensor("x", 8, 3)
    y = mg.exp(x)
    assert_golden("push_slices", change(push_slices, graph([x], y[:2], y[2:6])))
    assert nothing(push_slices, graph([x], y[:6], y[2:]))
    assert nothing(push_slices, graph([x], y[:2], y))


def test_view_transposed():
    x, z, b = tensor("x", None, 3), tensor("z", 3, None), tensor("b", 3)
    y, both = mg.exp(x), x + 1
    assert_golden(
        "view_transposed", change(view_transposed, graph([x, b], y.T, mg.expand_dims(x * b, 1).T, (both - b).T, both))
    )
    assert nothing(view_transposed, graph([x], both.T, both, x.T, mg.expand_dims(y, 0)))
    assert nothing(view_transposed, graph([x, z, b], (x + b - z.T).T))


def test_sink_transposes():
    x, b = tensor("x", None, 3, 5), tensor("b", 5)
    assert_golden("sink_transposes", change(sink_transposes, graph([x, b], mg.exp(x.transpose(0, 2, 1)).sum((0, 2)) + b)))
    assert nothing(sink_transposes, graph([x, b], mg.exp(x) + b))


def mixed(layers):
    """Images after convolutions by single elements, `layers` of them."""
    y = tensor("images", None, 16, 8, 8)
    inputs = [y]
    for k in range(layers):
        w = tensor(f"w{k}", 16, 16, 1, 1)
        y, inputs = mg.relu(mg.conv2d(y, w)), [*inputs, w]
    return inputs, y


def test_stack_products():
    (images, w), y = mixed(1)
    assert_golden("stack_products", change(stack_products, prepared([images, w], y)))
    slopes = prepared([images, w], *mg.grad((y**2).sum(), [images, w]))
    (products,) = {one.type.ndim for one in stack_products(slopes).variables if isinstance(one.op, MatMul)}
    assert products == 3
    inputs, deep = mixed(3)
    assert {one.ndim for one in stack_products(prepared(inputs, deep)).variables if isinstance(one.op, MatMul)} == {3}


def test_products_of_channels_that_lie_last_stay():
    images, w, v = tensor("images", None, 8, 8, 16), tensor("w", 16, 16, 1, 1), tensor("v", 16, 16, 3, 3)
    last = mg.conv2d(images.transpose(0, 3, 1, 2), w)
    after = mg.conv2d(mg.relu(mg.conv2d(last, v)), w)
    assert nothing(stack_products, prepared([images, w, v], after))
    assert nothing(stack_products, prepared([w], mg.conv2d(tensor("few", 100, 16, 2, 2), w)))


def prepared(inputs, *outputs):
    """The graph as it is before products become stacks."""
    return sink_transposes(simplify(trace_sizes(lower(graph(inputs, *outputs)))))


def test_fold():
    x = tensor("x", None)
    assert_golden("fold", change(fold, graph([x], x * mg.exp(mg.constant(0.0)) + mg.arange(3).sum())))


def test_one_pass_variance():
    x = tensor("x", None, 3)
    assert_golden("one_pass_variance", change(one_pass_variance, graph([x], *mg.standardize(x, (0,), 1e-5))))


def test_partition():
    x, i = tensor("x", None, 3), tensor("i", None, dtype="int64")
    y = mg.sort(mg.exp(x) + 1, 0)
    assert_golden("partition", change(partition, lowered(graph([x, i], mg.tanh(y) * 2, x[i] + 1, i.sum()))))


@pytest.mark.parametrize("dtype", ["int64", "float16"])
def test_products_without_a_kernel_stay_outside(dtype):
    a, b = tensor("a", 2, 3, dtype=dtype), tensor("b", 3, 2, dtype=dtype)
    assert nothing(partition, graph([a, b], a @ b))
