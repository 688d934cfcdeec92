"""A framework of the survey in a process of its own, which answers requests as benchmarks/worker.py does.

{"make": ["case", name]} prepares a case and calls it once, {"make": ["results", path]} calls it once more and keeps the
results as a file of NumPy's, and {"make": ["limits", path]} measures the machine. The last two are asked with "first": false.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import worker as benchmark

from survey.case import Case, Way
from survey.cases import CASES
from survey.frameworks.base import Framework, Made
from survey.machine import measured

THREADS = len(os.sched_getaffinity(0))
NEW_SIZES = 30
"""The number of calls for which arrays of new sizes are there."""


def framework(name: str) -> Framework:
    """A framework by its name; imports what it needs."""
    if name.startswith("minigraph"):
        from survey.frameworks.with_minigraph import Minigraph

        return Minigraph(channels_last="channels-last" in name)
    if name == "jax":
        from survey.frameworks.with_jax import Jax

        return Jax()
    if name.startswith("torch"):
        from survey.frameworks.with_torch import Torch

        return Torch(THREADS, channels_last="channels-last" in name, compiled="compiled" in name)
    if name == "pytensor":
        from survey.frameworks.with_pytensor import PyTensor

        return PyTensor()
    from survey.frameworks.with_numpy import NumPy

    return NumPy()


class Offered:
    """The requests that a worker can be asked to make something for."""

    def __init__(self, name: str) -> None:
        self._framework = framework(name)
        self._cases = {case.name: case for case in CASES}
        self._made: Made | None = None
        self._call: Any = None

    def case(self, name: str) -> Any:
        """The call of a case, prepared."""
        self._made = self._call = None
        case = self._cases[name]
        arguments = case.arguments()
        self._made = self._framework.make(case, arguments)
        self._call = _new_sizes(case, self._made) if case.way is Way.SHAPES else _same(self._made, arguments)
        return self._call

    def results(self, path: str) -> Any:
        """The same call, after its results have been written to a file."""
        assert self._made
        np.savez(path, *self._made.results(self._call()))
        return self._call

    def limits(self, path: str) -> Any:
        """Nothing, after what the machine can do has been written to a file."""
        Path(path).write_text(json.dumps(measured(THREADS)))


def _same(made: Made, arguments: list[Any]) -> Any:
    """A call with the same arguments each time."""
    native, call = made.native(arguments), made.call
    if not native:
        return call
    if len(native) == 1:
        (only,) = native
        return lambda: call(only)
    return lambda: call(*native)


def _new_sizes(case: Case, made: Made) -> Any:
    """A call with other arguments each time."""
    natives = iter([made.native(case.arguments(k)) for k in range(NEW_SIZES)])
    return lambda: made.call(*next(natives))


if __name__ == "__main__":
    benchmark.serve(Offered, sys.argv[1])
