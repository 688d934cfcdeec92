"""What tests share."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from minigraph.kernels import native_program

native_program._recent = deque(maxlen=8192)
"""The kernels of a process are kept longer than usual: many tests need the same."""


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20240501)
