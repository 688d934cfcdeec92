"""The backends that run on any processor, which most tests go through."""

import pytest

from minigraph.compiler.cpu import jit

BACKENDS = ["numpy", "native"] if jit.is_available() else ["numpy"]
on_each = pytest.mark.parametrize("backend", BACKENDS)
compiled = pytest.mark.skipif("native" not in BACKENDS, reason="llvmlite is not installed")
