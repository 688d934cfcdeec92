"""Kernels for CUDA GPUs, run on the host: all ops, random graphs and loops on backend "cupy" give what the reference gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from support import host_cuda
from support.gpu_cases import Case, groups
from support.sweep import IS_SWEEP, rounds

pytestmark = pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")

GROUPS = dict(groups(8, graphs=rounds(96, 320), loops=rounds(8, 32), thin=not IS_SWEEP))


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Backend "cupy" on the host."""
    return host_cuda.install(monkeypatch)


@pytest.fixture(scope="module", autouse=True)
def compiled_for_gpus() -> Iterator[None]:
    """All that was run on the host is compiled for GPUs in the end, where CUDA's compiler is installed."""
    yield
    host_cuda.compile_for_gpus()


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """A switch that makes launches do nothing, off after the test."""
    yield lambda on: monkeypatch.setattr(host_cuda.Module, "dry", on)


def run_together(cases: Sequence[Case], dry: Callable[[bool], None]) -> None:
    """Run calls whose kernels are compiled all at once: they are gathered in calls that launch nothing."""
    dry(True)
    for _, call, _ in cases:
        try:
            call()
        except Exception:  # of numbers that were never computed
            continue
    dry(False)
    failures = []
    for name, call, check in cases:
        try:
            check(call())
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {error}")
    assert not failures, "\n\n".join([f"{len(failures)} of {len(cases)} cases", *failures])


@pytest.mark.parametrize("group", GROUPS)
def test_kernels_give_what_the_reference_gives(group: str, dry: Callable[[bool], None]) -> None:
    run_together(GROUPS[group](), dry)
