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

    @property
    def layout(self) -> str:
        """The layout of images."""
        return "NHWC" if self.channels_last else "NCHW"

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
        axes = (0, 1, 2) if self.channels_last else (0, 2, 3)
        return mg.standardize(x, axes, 1e-5)[0] * self.per_channel(scale) + self.per_channel(shift)

    def global_pool(self, x: Any) -> Any:
        return mg.global_average_pool(x, layout=self.layout)

    def conv2d(self, x: Any, filters: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        """The correlation of images with filters."""
        return mg.conv2d(x, filters, stride, padding, groups=groups, layout=self.layout)

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The greatest element of every window."""
        return mg.max_pool(x, (size, size), stride, padding, layout=self.layout)

    def average_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The mean of every window, zeros that are added included."""
        return mg.average_pool(x, (size, size), stride, padding, layout=self.layout)

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

    def __init__(self, channels_last: bool = False) -> None:
        """channels_last: lay images out so; filters stay as they are."""
        self.channels_last = channels_last

    def make(self, case: Case, arguments: Sequence[Any]) -> Made:
        native, results = (partial(each, case, self.channels_last) for each in (_native, _results))
        variables = [_variable(case, k, one) for k, one in enumerate(_laid_out(case, self.channels_last, arguments))]
        parameters = [variables[k] for k in case.parameters]
        inputs = [one for k, one in enumerate(variables) if k not in case.parameters]
        outputs = case.expression(MinigraphNamespace(mg, self.channels_last), *variables)
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
        return Made(mg.function(inputs, listed), native, results)


def _laid_out(case: Case, channels_last: bool, arguments: Sequence[Any]) -> list[Any]:
    """The arguments of a case, images with their channels where they shall be."""
    images = [channels_last and k not in case.parameters and np.ndim(one) == 4 for k, one in enumerate(arguments)]
    turned = zip(images, arguments, strict=True)
    return [np.ascontiguousarray(np.moveaxis(one, 1, -1)) if image else one for image, one in turned]


def _native(case: Case, channels_last: bool, arguments: Sequence[Any]) -> list[Any]:
    """What is handed over at every call."""
    return inputs_of(case, _laid_out(case, channels_last, arguments))


def _results(case: Case, channels_last: bool, results: Any) -> list[np.ndarray]:
    """NumPy arrays, images with their channels where they were drawn."""
    sources = [None, *case.gradients_of] if case.gradients_of else [None] * len(as_arrays(results))
    return [
        np.moveaxis(one, -1, 1) if channels_last and one.ndim == 4 and source not in case.parameters else one
        for source, one in zip(sources, as_arrays(results), strict=True)
    ]


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
