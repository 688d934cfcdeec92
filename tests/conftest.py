"""What tests share."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from minigraph.compiler.cpu import jit
from minigraph.compiler.cpu import program as native_program
from support.sweep import IS_SWEEP

native_program._recent = deque(maxlen=8192)
"""The kernels of a process are kept longer than usual: many tests need the same."""


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240501)


SHIPPED = jit.CODE_LEVEL


@pytest.fixture(autouse=True)
def machine_code(request: pytest.FixtureRequest) -> None:
    """What is compiled is what users get; but where the machine code is not what is tested, it is chosen quickly.

    That halves LLVM's time, which is most of the suite's; in a sweep all is compiled as for users.
    """
    quick = request.node.get_closest_marker("quick_code") is not None
    level = 0 if quick and not IS_SWEEP else SHIPPED
    if level != jit.CODE_LEVEL:
        jit.CODE_LEVEL = level
        native_program._recent.clear()
        native_program._kernels.clear()
