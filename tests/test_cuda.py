"""Kernels for CUDA GPUs, run on the host: all ops, random graphs and loops on backend "cupy" give what the reference gives."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import host_cuda
import pytest
from gpu_cases import (
    REDUCTIONS,
    Case,
    fold_cases,
    graph_case,
    loop_case,
    op_cases,
    random_number_cases,
    stage_cases,
)

from minigraph.rewrite.stability import stabilize

compiler = sys.modules["minigraph.function"]
needs_compiler = pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")
pytestmark = needs_compiler

CHUNKS, GRAPHS, LOOPS = 16, 20, 8


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Backend "cupy" on the host."""
    return host_cuda.install(monkeypatch)


def run_together(cases: Sequence[Case]) -> None:
    """Run calls whose kernels are compiled all at once: they are gathered in calls that launch nothing."""
    host_cuda.Module.dry = True
    for _, call, _ in cases:
        try:
            call()
        except Exception:  # of numbers that were never computed
            continue
    host_cuda.Module.dry = False
    failures = []
    for name, call, check in cases:
        try:
            check(call())
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    assert not failures, "\n\n".join([f"{len(failures)} of {len(cases)} cases", *failures])


@pytest.fixture(scope="module", autouse=True)
def compiled_for_gpus() -> Iterator[None]:
    """All that was run on the host is compiled for GPUs in the end, where CUDA's compiler is installed."""
    yield
    host_cuda.compile_for_gpus()


@pytest.fixture(autouse=True)
def wet() -> Iterator[None]:
    """Launches do something again after a test."""
    yield
    host_cuda.Module.dry = False


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_op_gives_the_values_of_the_reference(chunk: int) -> None:
    run_together(op_cases(chunk, CHUNKS))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_graphs_give_what_the_reference_gives(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "PIPELINE", tuple(step for step in compiler.PIPELINE if step is not stabilize))
    run_together([graph_case(seed) for seed in range(chunk * GRAPHS, (chunk + 1) * GRAPHS)])


@pytest.mark.parametrize("chunk", range(4))
def test_random_loops_give_what_their_steps_give(chunk: int) -> None:
    run_together([loop_case(seed) for seed in range(chunk * LOOPS, (chunk + 1) * LOOPS)])


def test_random_numbers_are_those_of_the_processor() -> None:
    run_together(random_number_cases())


@pytest.mark.parametrize("dtype", REDUCTIONS)
def test_folds_of_any_size_along_any_axes(dtype: str) -> None:
    run_together(fold_cases(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stages_vectors_and_products(dtype: str) -> None:
    run_together(stage_cases(dtype))
