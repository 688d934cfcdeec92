"""What `make gpu` checks on a GPU: the cases that run on the host elsewhere, each called until it is a captured graph.

Run with `python -m pytest tests/compiler/cuda/gpu_checks.py`; without a GPU it fails, and says why.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from support.gpu_cases import groups
from support.places import EXAMPLES

pytestmark = pytest.mark.gpu

CALLS = 3
"""The first call launches kernel after kernel, the second captures them, the third runs what was captured."""
GROUPS = dict(groups(64, graphs=320, loops=32, thin=False))


@pytest.mark.parametrize("group", GROUPS)
def test_kernels_give_what_the_reference_gives(group: str) -> None:
    cases = GROUPS[group]()
    failures = []
    for name, call, check in cases:
        for number in range(CALLS):
            try:
                check(call())
            except Exception as error:
                failures.append(f"{name}, call {number}: {type(error).__name__}: {error}")
                break
    assert not failures, "\n\n".join([f"{len(failures)} of {len(cases)} cases", *failures])


@pytest.mark.parametrize(
    ("example", "epochs", "least"), [("digits_mlp", 25, 0.97), ("digits_cnn", 60, 0.98), ("sequential_digits_lstm", 30, 0.8)]
)
def test_examples_reach_their_accuracies(example: str, epochs: int, least: float, tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLES / f"{example}.py"))["main"]
    runs = main(["--backend", "cupy", "--epochs", str(epochs), "--output", str(tmp_path / "curves.png")])
    accuracies = [one.accuracies[-1] for one in (runs if isinstance(runs, list | tuple) else [runs])]
    print(example, accuracies)
    assert np.max(accuracies) > least
