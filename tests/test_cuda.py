"""Kernels for CUDA GPUs, run on the host: all ops, random graphs and loops on backend "cupy" give what the reference gives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import host_cuda
import numpy as np
import pytest
from graph_generator import wild_graph
from test_ops import HARD, VALUES, inputs_like, variables_of

import minigraph as mg
from minigraph.graph import Input, Shared
from minigraph.rewrite.stability import stabilize

compiler = sys.modules["minigraph.function"]
needs_compiler = pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")
pytestmark = needs_compiler

PRECISION = {"float64": 1e-12, "float32": 1e-5, "float16": 4e-3}
CHUNKS, EACH = 16, 20


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Backend "cupy" on the host."""
    return host_cuda.install(monkeypatch)


def on_host(results: Any) -> Any:
    """Results as NumPy arrays; there are no others among them."""
    if isinstance(results, list):
        return [on_host(one) for one in results]
    assert isinstance(results, host_cuda.ndarray)
    return results._host


Case = tuple[str, Callable[[], Any], Callable[[Any], None]]
"""A name, a call, and the check of its results."""


def run_together(cases: Sequence[Case]) -> None:
    """Run calls whose kernels are compiled all at once: they are gathered in calls that launch nothing."""
    host_cuda.RawModule.dry = True
    for _, call, _ in cases:
        try:
            call()
        except Exception:  # of numbers that were never computed
            continue
    host_cuda.RawModule.dry = False
    failures = []
    for name, call, check in cases:
        try:
            check(call())
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    assert not failures, "\n\n".join([f"{len(failures)} of {len(cases)} cases", *failures])


@pytest.fixture(autouse=True)
def wet() -> Iterator[None]:
    """Launches do something again after a test."""
    yield
    host_cuda.RawModule.dry = False


def assert_equal(actual: Sequence[Any], expected: Sequence[Any], factor: float = 1.0) -> None:
    """Results equal to the reference: dtype, shape, NaN, infinities, and numbers up to rounding."""
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        if theirs.dtype.kind != "f":
            np.testing.assert_array_equal(ours, theirs)
            continue
        margin = PRECISION[theirs.dtype.name] * factor
        np.testing.assert_allclose(ours, theirs, rtol=margin, atol=margin)


def op_case(record: Any, call: Any, operands: Sequence[Any], name: str) -> Case:
    """An op on some operands."""
    inputs = inputs_like(operands)
    results = variables_of(record.build(call, inputs))
    f = mg.function(inputs, results, backend="cupy", on_unused_input="ignore", no_default_updates=True)
    expected = record.expect(call, operands)
    return name, lambda: f(*operands), lambda found: assert_equal(on_host(found), expected, record.tolerance)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_op_gives_the_values_of_the_reference(chunk: int) -> None:
    cases = []
    for record, position, which in VALUES[chunk::CHUNKS]:
        call = record.calls[position]
        cases.append(op_case(record, call, record.draw(call, record.dtypes[which]), f"{record.name}-{position}-{which}"))
    for record, position in HARD[chunk::CHUNKS]:
        cases.append(op_case(record, record.calls[0], record.hard[position], f"{record.name}-hard-{position}"))
    run_together(cases)


def graph_case(seed: int) -> Case:
    """A function of a random graph, called from the same state every time: its results and the new state."""
    graph = wild_graph(seed)
    inputs, state = graph.leaves(Input), graph.leaves(Shared)
    outputs = graph.outputs() if seed % 2 else graph.outputs(1 + seed % 5)
    given = [graph.value(one) for one in inputs]
    before = {
        one: one.get_value()
        for one in mg.Graph((), (*outputs, *graph.updates, *graph.updates.values()), ())
        if isinstance(one.op, Shared)
    }
    f = mg.function(inputs, outputs, updates=graph.updates, on_unused_input="ignore", backend="cupy")

    def call() -> list[Any]:
        for one, value in before.items():
            one.set_value(value)
        return [*f(*given), *(one.get_value(device=True) for one in graph.updates)]

    expected = [graph.value(one) for one in (*outputs, *graph.updates.values())]
    return f"seed {seed}", call, lambda found: assert_equal(on_host(found), expected, 10)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_graphs_give_what_the_reference_gives(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "PIPELINE", tuple(step for step in compiler.PIPELINE if step is not stabilize))
    run_together([graph_case(seed) for seed in range(chunk * EACH, (chunk + 1) * EACH)])
