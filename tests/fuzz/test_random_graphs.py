"""Optimized functions equal graphs computed op by op, and gradients equal finite differences, on random graphs."""

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Graph, Identity, Input, Shared
from minigraph.rewrite.lower import strip
from minigraph.rewrite.stability.rules import stabilize
from minigraph.testing import compute_plainly, verify_grad
from support.compare import assert_same_values
from support.graph_generator import RandomGraph, chosen_outputs, moderate_graph, smooth_expression, wild_graph
from support.sweep import rounds

CHUNKS = 12
WILD_EACH, MODERATE_EACH, SMOOTH_EACH, TWICE_EACH = rounds(8, 25), rounds(6, 16), rounds(6, 12), rounds(2, 4)


def check_compiled(graph: RandomGraph, seed: int, strict: bool) -> None:
    """Call a function of the graph twice from one state: values, new state, and memory are as they must be."""
    inputs, state = graph.leaves(Input), graph.leaves(Shared)
    outputs = chosen_outputs(graph, seed)
    given = [graph.value(one) for one in inputs]
    kept = [value.copy() for value in given]
    before = [one.get_value() for one in state]
    f = mg.function(inputs, outputs, updates=graph.updates, on_unused_input="ignore")
    results = f(*given)
    what = f"seed {seed}\n{mg.debugprint(outputs)}"
    for ours, variable in zip(results, outputs, strict=True):
        assert_same_values(ours, graph.value(variable), strict, what)
    for target, new in graph.updates.items():
        assert_same_values(target.get_value(), graph.value(new), strict, what)
    for value, copy in zip(given, kept, strict=True):
        np.testing.assert_array_equal(value, copy, err_msg=f"an input was written to: {what}")
    owners = [*given, *(one.get_value(borrow=True) for one in state)]
    for k, ours in enumerate(results):
        assert not any(np.shares_memory(ours, other) for other in [*owners, *results[:k]]), what
    for one, value in zip(state, before, strict=True):
        one.set_value(value)
    for stream in (one for one in mg.Graph((), tuple(outputs)) if isinstance(one.op, Shared) and one.name == "random_state"):
        stream.set_value(stream.get_value() - np.array([0, 1], dtype=np.uint64))
    for first, second in zip(results, f(*given), strict=True):
        np.testing.assert_array_equal(first, second, err_msg=f"the second call differs: {what}")


def stabilizable(graph: RandomGraph, seed: int) -> bool:
    """Whether a stability rule fires on what `check_compiled` computes."""
    roots = strip(Graph((), tuple(chosen_outputs(graph, seed)), tuple(graph.updates.items())))
    return any(new is not old for new, old in zip(stabilize(roots).roots, roots.roots, strict=True))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_algebra_keeps_every_value_of_any_graph(chunk, monkeypatch):
    monkeypatch.setattr(mg.config, "passes", ["-stabilize"])
    for seed in range(chunk * WILD_EACH, (chunk + 1) * WILD_EACH):
        check_compiled(wild_graph(seed), seed, strict=True)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_whole_pipeline_keeps_moderate_graphs(chunk):
    for seed in range(chunk * MODERATE_EACH, (chunk + 1) * MODERATE_EACH):
        check_compiled(moderate_graph(seed), seed, strict=False)


def test_moderate_graphs_are_full_of_what_stability_rules_rewrite():
    assert sum(stabilizable(moderate_graph(seed), seed) for seed in range(40)) > 20


def bits(value):
    """A value as bytes, every NaN alike."""
    array = np.asarray(value)
    return array.dtype, array.shape, np.where(np.isnan(array), np.nan, array).tobytes()


@pytest.mark.parametrize("chunk", range(4))
def test_annotations_never_change_a_value(chunk):
    for seed in range(chunk * 15, (chunk + 1) * 15):
        graph = wild_graph(seed)
        roots = graph.outputs(3)
        marked = mark(roots)
        stripped = strip(Graph((), tuple(marked)))
        assert not any(isinstance(one.op, Identity) for one in stripped)
        for plain, ours in ((graph.value, marked), (graph.value, stripped.outputs)):
            given = {one: graph.value(one) for one in graph.leaves(Input)}
            for root, value in zip(roots, compute_plainly(ours, given), strict=True):
                assert bits(plain(root)) == bits(value), f"seed {seed}\n{mg.debugprint(root)}"


def mark(roots):
    """The roots with a tagged copy in the place of every operand."""
    copies = {}
    for variable in Graph((), tuple(roots)):
        inputs = tuple(copies[one] for one in variable.inputs)
        new = variable.with_inputs(inputs) if inputs else variable
        copies[variable] = new if isinstance(new.type, tuple) else new.copy(tags=("marked",))
    return [copies[root] for root in roots]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_gradients_equal_finite_differences(chunk):
    for seed in range(chunk * SMOOTH_EACH, (chunk + 1) * SMOOTH_EACH):
        build, points = smooth_expression(seed)
        verify_grad(build, points, seed=seed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_gradients_of_gradients_equal_finite_differences(chunk):
    for seed in range(chunk * TWICE_EACH, (chunk + 1) * TWICE_EACH):
        build, points = smooth_expression(seed)
        verify_grad(build, points, order=2, seed=seed, step=1e-5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(rounds(20, 30)))
def test_tangents_and_cotangents_agree_on_random_graphs(seed):
    build, points = smooth_expression(seed)
    inputs = [mg.tensor(dtype="float64", shape=point.shape) for point in points]
    rng = np.random.default_rng(seed)
    result = build(*inputs)
    tangents = [mg.constant(rng.normal(size=point.shape)) for point in points]
    cotangent = mg.constant(rng.normal(size=result.eval(dict(zip(inputs, points, strict=True))).shape))
    cotangent = mg.reshape(cotangent, result.shape)
    pushed = (mg.jvp(result, inputs, tangents) * cotangent).sum()
    pulled = sum((slope * tangent).sum() for slope, tangent in zip(mg.vjp(result, inputs, cotangent), tangents, strict=True))
    one, other = mg.function(inputs, [pushed, pulled], on_unused_input="ignore")(*points)
    np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)


def test_equal_seeds_give_equal_graphs():
    first, second = (wild_graph(7) for _ in range(2))
    assert [type(one.op) for one in first.pool] == [type(one.op) for one in second.pool]
    assert [bits(first.value(one)) for one in first.pool] == [bits(second.value(one)) for one in second.pool]


def test_wild_graphs_meet_what_is_hard():
    graphs = [wild_graph(seed) for seed in range(150)]
    values = [graph.value(one) for graph in graphs for one in graph.pool]
    floats = [value for value in values if value.dtype.kind == "f"]
    assert {value.dtype.name for value in values} >= {"float32", "float64", "int32", "int64", "bool"}
    assert all(sum(bool(test(value).any()) for value in floats) > 30 for test in (np.isnan, np.isposinf, np.isneginf))
    assert sum(bool((np.signbit(value) & (value == 0)).any()) for value in floats) > 30
    assert sum(value.size == 0 for value in values) > 30
    assert sum(bool(graph.updates) for graph in graphs) > 30
