"""minigraph, by its functions; arguments of unknown sizes, but for those of images and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

import minigraph as mg
from survey.case import Case
from survey.frameworks.base import MOMENTUM, RATE, Framework, Made, Namespace, inputs_of
from survey.frameworks.with_numpy import as_arrays


class MinigraphNamespace(Namespace):
    """minigraph, under the names of the survey."""

    def relu(self, x: Any) -> Any:
        return mg.relu(x)

    def sigmoid(self, x: Any) -> Any:
        return mg.sigmoid(x)

    def softplus(self, x: Any) -> Any:
        return mg.softplus(x)

    def silu(self, x: Any) -> Any:
        return mg.silu(x)

    def gelu(self, x: Any) -> Any:
        return mg.gelu(x)

    def softmax(self, x: Any) -> Any:
        return mg.softmax(x)

    def logsumexp(self, x: Any, axis: int = -1) -> Any:
        return mg.logsumexp(x, axis, keepdims=True)

    def crossentropy(self, logits: Any, classes: Any) -> Any:
        return mg.softmax_crossentropy(logits, classes).mean()

    def layer_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return mg.standardize(x, -1, 1e-5)[0] * scale + shift

    def batch_norm(self, x: Any, scale: Any, shift: Any) -> Any:
        return mg.standardize(x, (0, 2, 3), 1e-5)[0] * self.per_channel(scale) + self.per_channel(shift)

    def global_pool(self, x: Any) -> Any:
        return mg.global_average_pool(x)

    def conv2d(self, x: Any, filters: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        """The correlation of images with filters."""
        return mg.conv2d(x, filters, stride, padding, groups=groups)

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The greatest element of every window."""
        return mg.max_pool(x, (size, size), stride, padding)

    def average_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The mean of every window, zeros that are added included."""
        return mg.average_pool(x, (size, size), stride, padding)

    def conv1d(self, x: Any, filters: Any, dilation: int, padding: int) -> Any:
        """The correlation of (batch, channels, time) with filters."""
        return mg.conv1d(x, filters, padding=padding, dilation=dilation)

    def top_k(self, x: Any, k: int) -> Any:
        return mg.topk(x, k)[0]

    def solve_lower(self, a: Any, b: Any) -> Any:
        return mg.linalg.solve_triangular(a, b, lower=True)

    def scan(self, step: Any, sequences: Sequence[Any], states: Sequence[Any]) -> list[Any]:
        stacked = mg.scan(step, list(sequences), list(states))
        return list(stacked) if isinstance(stacked, list | tuple) else [stacked]


class Minigraph(Framework):
    """Expressions as compiled functions, parameters as shared variables."""

    def make(self, case: Case, arguments: Sequence[Any]) -> Made:
        variables = [_variable(case, k, one) for k, one in enumerate(arguments)]
        parameters = [variables[k] for k in case.parameters]
        inputs = [one for k, one in enumerate(variables) if k not in case.parameters]
        outputs = case.expression(MinigraphNamespace(mg), *variables)
        native = partial(inputs_of, case)
        if case.trains:
            momenta = [mg.shared(np.zeros_like(one.get_value())) for one in parameters]
            updates: list[Any] = []
            for p, m, g in zip(parameters, momenta, mg.grad(outputs, parameters), strict=True):
                new = MOMENTUM * m + g
                updates += [(m, new), (p, p - RATE * new)]
            step = mg.function(inputs, outputs, updates=updates)
            return Made(step, native, lambda value: [np.asarray(value), *(one.get_value() for one in momenta)])
        if case.gradients_of:
            outputs = [outputs, *mg.grad(outputs, [variables[k] for k in case.gradients_of])]
        listed = list(outputs) if isinstance(outputs, tuple) else outputs
        return Made(mg.function(inputs, listed), native, as_arrays)


def _variable(case: Case, k: int, value: Any) -> Any:
    """The variable that stands for an argument."""
    if k in case.parameters:
        return mg.shared(value)
    array = np.asarray(value)
    if isinstance(value, float):
        return mg.scalar(f"x{k}")
    known = range(1, 4) if case.images else ()
    shape = [size if size == 1 or axis in known else None for axis, size in enumerate(array.shape)]
    return mg.tensor(f"x{k}", dtype=array.dtype, shape=shape)
