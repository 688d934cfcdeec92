"""What `make gpu` checks on a GPU: the cases that run on the host elsewhere, each called until it is a captured graph.

Run with `python -m pytest tests/gpu_checks.py`; without a GPU it fails, and says why.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
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

pytestmark = pytest.mark.gpu
compiler = sys.modules["minigraph.function"]

CALLS = 3
"""The first call launches kernel after kernel, the second captures them, the third runs what was captured."""
CHUNKS, GRAPHS, LOOPS = 64, 5, 2
EXAMPLES = Path(__file__).parent.parent / "examples"


def run(cases: Sequence[Case]) -> None:
    """Check every call of every case."""
    failures = []
    for name, call, check in cases:
        for number in range(CALLS):
            try:
                check(call())
            except Exception as error:
                failures.append(f"{name}, call {number}: {type(error).__name__}: {error}")
                break
    assert not failures, "\n\n".join([f"{len(failures)} of {len(cases)} cases", *failures])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_op(chunk: int) -> None:
    run(op_cases(chunk, CHUNKS))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_graphs(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "PIPELINE", tuple(step for step in compiler.PIPELINE if step is not stabilize))
    run([graph_case(seed) for seed in range(chunk * GRAPHS, (chunk + 1) * GRAPHS)])


@pytest.mark.parametrize("chunk", range(16))
def test_random_loops(chunk: int) -> None:
    run([loop_case(seed) for seed in range(chunk * LOOPS, (chunk + 1) * LOOPS)])


def test_random_numbers() -> None:
    run(random_number_cases())


@pytest.mark.parametrize("dtype", REDUCTIONS)
def test_folds(dtype: str) -> None:
    run(fold_cases(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_stages(dtype: str) -> None:
    run(stage_cases(dtype))


@pytest.mark.parametrize(
    ("example", "epochs", "least"), [("digits_mlp", 25, 0.97), ("digits_cnn", 60, 0.98), ("sequential_digits_lstm", 30, 0.8)]
)
def test_examples_reach_their_accuracies(example: str, epochs: int, least: float, tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLES / f"{example}.py"))["main"]
    runs = main(["--backend", "cupy", "--epochs", str(epochs), "--output", str(tmp_path / "curves.png")])
    accuracies = [one.accuracies[-1] for one in (runs if isinstance(runs, list | tuple) else [runs])]
    print(example, accuracies)
    assert np.max(accuracies) > least
