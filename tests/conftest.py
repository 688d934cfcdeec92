"""What tests share."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.cpu import jit, plan
from minigraph.compiler.cpu import program as native_program
from support.sweep import IS_SWEEP

native_program._recent = deque(maxlen=8192)
"""The kernels of a process are kept longer than usual: many tests need the same."""


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240501)


SHIPPED = (jit.CODE_LEVEL, dict(jit.TUNING))
QUICK = (0, {**dict.fromkeys(jit.TUNING, False), "speed_level": 0})
"""How code is made: a level of choosing instructions, and how modules are optimized."""


@pytest.fixture(params=["answered", "planned"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small functions are called by answers, and as larger ones are: while other threads of Python run."""
    if request.param == "planned":
        monkeypatch.setattr(plan, "BRIEF", 0)


@pytest.fixture(autouse=True)
def machine_code(request: pytest.FixtureRequest) -> None:
    """Kernels are optimized as for users where the machine code is what is tested, else translated as they are written.

    That takes a tenth of LLVM's time, which is most of the suite's; in a sweep all is optimized.
    """
    shipped = IS_SWEEP or request.node.get_closest_marker("shipped_code") is not None
    level, tuning = SHIPPED if shipped else QUICK
    if (level, tuning) != (jit.CODE_LEVEL, jit.TUNING):
        jit.CODE_LEVEL = level
        jit.TUNING.update(tuning)
        native_program._recent.clear()
        native_program._kernels.clear()


VERIFIED = ("rewrite", "functions", "gradient", "loop", "test_random_graphs")
"""Folders and files whose tests check every pass on the way, which takes a quarter more time; sweeps do so in all tests."""


@pytest.fixture(autouse=True)
def verified_passes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pass keeps types, leaves and outputs."""
    if IS_SWEEP or not {*request.path.parts, request.path.stem}.isdisjoint(VERIFIED):
        monkeypatch.setattr(mg.config, "verify", True)
