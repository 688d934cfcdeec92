"""PyTensor, by its default compiler."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from survey.case import Case
from survey.frameworks.base import MOMENTUM, RATE, Framework, Made, Namespace, UnsupportedError, inputs_of
from survey.frameworks.with_numpy import as_arrays


class PyTensorNamespace(Namespace):
    """pytensor.tensor, under the names of the survey."""

    def relu(self, x: Any) -> Any:
        return pt.maximum(x, np.float32(0))

    def sigmoid(self, x: Any) -> Any:
        return pt.sigmoid(x)

    def softplus(self, x: Any) -> Any:
        return pt.softplus(x)

    def square(self, x: Any) -> Any:
        """x times itself."""
        return pt.sqr(x)

    def softmax(self, x: Any) -> Any:
        return pt.special.softmax(x, axis=-1)

    def logsumexp(self, x: Any, axis: int = -1) -> Any:
        return pt.logsumexp(x, axis=axis, keepdims=True)

    def crossentropy(self, logits: Any, classes: Any) -> Any:
        logs = pt.special.log_softmax(logits, axis=-1)
        return -logs[pt.arange(classes.shape[0]), classes].mean()

    def scan(self, step: Any, sequences: Sequence[Any], states: Sequence[Any]) -> list[Any]:
        stacked = pytensor.scan(lambda *rows: list(step(*rows)), list(sequences), list(states), return_updates=False)
        return list(stacked) if isinstance(stacked, list | tuple) else [stacked]

    def solve_lower(self, a: Any, b: Any) -> Any:
        return pt.linalg.solve_triangular(a, b, lower=True)


class PyTensor(Framework):
    """Expressions as compiled functions, parameters as shared variables."""

    def make(self, case: Case, arguments: Sequence[Any]) -> Made:
        if case.images:
            raise UnsupportedError("too slow to wait for")
        double = any(one.dtype == "float64" for one in arguments if isinstance(one, np.ndarray))
        pytensor.config.floatX = "float64" if double else "float32"
        trusted = all(isinstance(one, np.ndarray) for one in arguments)
        variables = [_variable(case, k, one) for k, one in enumerate(arguments)]
        parameters = [variables[k] for k in case.parameters]
        inputs = [one for k, one in enumerate(variables) if k not in case.parameters]
        outputs = case.expression(PyTensorNamespace(pt), *variables)
        native = partial(inputs_of, case)
        if case.trains:
            momenta = [pytensor.shared(np.zeros_like(one.get_value())) for one in parameters]
            updates = []
            for p, m, g in zip(parameters, momenta, pytensor.grad(outputs, parameters), strict=True):
                new = np.float32(MOMENTUM) * m + g
                updates += [(m, new), (p, p - np.float32(RATE) * new)]
            step = _compiled(trusted, inputs, outputs, updates)
            return Made(step, native, lambda value: [np.asarray(value), *(one.get_value() for one in momenta)])
        if case.gradients_of:
            outputs = [outputs, *pytensor.grad(outputs, [variables[k] for k in case.gradients_of])]
        return Made(_compiled(trusted, inputs, list(outputs) if isinstance(outputs, tuple) else outputs), native, as_arrays)


def _compiled(trusted: bool, inputs: list[Any], outputs: Any, updates: Any = ()) -> Any:
    """A function, which is to take what it is given without a check if it is trusted."""
    function = pytensor.function(inputs, outputs, updates=list(updates))
    function.trust_input = trusted
    return function


def _variable(case: Case, k: int, value: Any) -> Any:
    """The variable that stands for an argument."""
    if k in case.parameters:
        return pytensor.shared(value)
    array = np.asarray(value)
    dtype = "float32" if isinstance(value, float) else array.dtype
    return pt.tensor(f"x{k}", dtype=dtype, shape=tuple(size if size == 1 else None for size in array.shape))
