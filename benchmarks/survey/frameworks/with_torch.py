"""PyTorch: eager, with its images channels-last, and compiled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from survey.case import Case
from survey.frameworks.base import MOMENTUM, RATE, Framework, Made, UnsupportedError
from survey.frameworks.torch_namespace import TorchNamespace


class Torch(Framework):
    """PyTorch, used in a certain way."""

    def __init__(self, threads: int, channels_last: bool = False, compiled: bool = False) -> None:
        """threads: the number that work. channels_last: lay images out so. compiled: by torch.compile."""
        torch.set_num_threads(threads)
        self.channels_last, self.compiled = channels_last, compiled

    def make(self, case: Case, arguments: Sequence[Any]) -> Made:
        if self.channels_last and not case.images:
            raise UnsupportedError("no images")
        function = partial(case.expression, TorchNamespace(torch))
        if self.compiled:
            torch._dynamo.reset()
            function = torch.compile(function)
        parameters = {k: self._parameter(arguments[k], case.trains or k in case.gradients_of) for k in case.parameters}
        native = partial(self._native, case)
        if case.trains:
            return _trained(case, function, parameters, native)
        if case.gradients_of:
            return _differentiated(case, function, parameters, native)

        def call(*given: Any) -> Any:
            with torch.inference_mode():
                return function(*_merged(case, parameters, given))

        return Made(call, native, _arrays)

    def _parameter(self, value: np.ndarray, differentiated: bool) -> torch.Tensor:
        """A parameter; a matrix lies with its outputs first, as in PyTorch's own layers."""
        tensor = torch.from_numpy(value.T.copy()).T if value.ndim == 2 else self._laid_out(torch.from_numpy(value.copy()))
        return tensor.requires_grad_(differentiated)

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor in the layout of this way."""
        return tensor.to(memory_format=torch.channels_last) if self.channels_last and tensor.ndim == 4 else tensor

    def _native(self, case: Case, arguments: Sequence[Any]) -> list[Any]:
        """Tensors for all arrays but the parameters."""
        return [self._tensor(case, k, one) for k, one in enumerate(arguments) if k not in case.parameters]

    def _tensor(self, case: Case, k: int, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        tensor = self._laid_out(torch.from_numpy(value))
        return tensor.requires_grad_() if k in case.gradients_of else tensor


def _merged(case: Case, parameters: dict[int, Any], given: Sequence[Any]) -> list[Any]:
    """All arguments, in their order."""
    rest, count = iter(given), len(given) + len(parameters)
    return [parameters[k] if k in parameters else next(rest) for k in range(count)]


def _differentiated(case: Case, function: Any, parameters: dict[int, Any], native: Any) -> Made:
    """The value of a case, and its gradients."""

    def call(*given: Any) -> Any:
        merged = _merged(case, parameters, given)
        value = function(*merged)
        return value.detach(), *torch.autograd.grad(value, [merged[k] for k in case.gradients_of])

    return Made(call, native, _arrays)


def _trained(case: Case, function: Any, parameters: dict[int, Any], native: Any) -> Made:
    """A step of training with the fused rule."""
    rule = torch.optim.SGD(parameters.values(), RATE, momentum=MOMENTUM, fused=True)

    def call(*given: Any) -> float:
        rule.zero_grad(set_to_none=True)
        value = function(*_merged(case, parameters, given))
        value.backward()
        rule.step()
        return float(value.item())

    def results(value: float) -> list[np.ndarray]:
        return [np.asarray(value), *(rule.state[one]["momentum_buffer"].numpy() for one in parameters.values())]

    return Made(call, native, results)


def _arrays(results: Any) -> list[np.ndarray]:
    """NumPy arrays of one result or several."""
    listed = results if isinstance(results, list | tuple) else [results]
    return [one.numpy() if isinstance(one, torch.Tensor) else np.asarray(one) for one in listed]
