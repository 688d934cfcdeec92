"""NumPy, op by op, and for an expression without gradients alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from survey.case import Case
from survey.frameworks.base import Framework, Made, Namespace, UnsupportedError


class NumPyNamespace(Namespace):
    """NumPy, whose partition finds the greatest elements."""

    def top_k(self, x: Any, k: int) -> Any:
        return np.sort(np.partition(x, -k, axis=-1)[..., -k:], axis=-1)[..., ::-1]


class NumPy(Framework):
    """Expressions, evaluated one operation after the other."""

    def make(self, case: Case, arguments: Sequence[Any]) -> Made:
        if case.trains or case.gradients_of:
            raise UnsupportedError("no gradients")
        return Made(partial(case.expression, NumPyNamespace(np)), list, as_arrays)


def as_arrays(results: Any) -> list[np.ndarray]:
    """Results, be it one or several, as a list of arrays."""
    return [np.asarray(one) for one in (results if isinstance(results, list | tuple) else [results])]
