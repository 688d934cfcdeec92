"""JAX, jit-compiled, with donated state; its images have their channels last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from survey.case import Case
from survey.frameworks.base import MOMENTUM, RATE, Framework, Made, Namespace

jax.config.update("jax_enable_x64", True)

WINDOWS = {True: ("NHWC", "HWIO", "NHWC"), False: ("NCHW", "OIHW", "NCHW")}


class JaxNamespace(Namespace):
    """jax.numpy, and JAX's own networks and loops."""

    def relu(self, x: Any) -> Any:
        return jax.nn.relu(x)

    def sigmoid(self, x: Any) -> Any:
        return jax.nn.sigmoid(x)

    def softplus(self, x: Any) -> Any:
        return jax.nn.softplus(x)

    def softmax(self, x: Any) -> Any:
        return jax.nn.softmax(x)

    def erf(self, x: Any) -> Any:
        """The error function."""
        return jax.lax.erf(x)

    def crossentropy(self, logits: Any, classes: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), classes[:, None], 1).mean()

    def conv2d(self, x: Any, filters: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        """The correlation of images with filters."""
        pads, layout = [(padding, padding)] * 2, WINDOWS[self.channels_last]
        return jax.lax.conv_general_dilated(
            x, filters, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups
        )

    def conv1d(self, x: Any, filters: Any, dilation: int, padding: int) -> Any:
        """The correlation of (batch, channels, time) with filters."""
        return jax.lax.conv_general_dilated(
            x, filters, (1,), [(padding, padding)], rhs_dilation=(dilation,), dimension_numbers=("NCH", "OIH", "NCH")
        )

    def _windows(self, x: Any, start: float, fold: Any, size: int, stride: int, padding: int) -> Any:
        """A fold over windows of images."""
        spatial = slice(1, 3) if self.channels_last else slice(2, 4)
        sizes, strides, pads = [1] * 4, [1] * 4, [(0, 0)] * 4
        sizes[spatial], strides[spatial], pads[spatial] = [size] * 2, [stride] * 2, [(padding, padding)] * 2
        return jax.lax.reduce_window(x, start, fold, sizes, strides, pads)

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The greatest element of every window."""
        return self._windows(x, -jnp.inf, jax.lax.max, size, stride, padding)

    def average_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """The mean of every window, zeros that are added included."""
        return self._windows(x, 0.0, jax.lax.add, size, stride, padding) / size**2

    def scan(self, step: Any, sequences: Sequence[Any], states: Sequence[Any]) -> list[Any]:
        def one(carry: Any, rows: Any) -> Any:
            new = tuple(step(*rows, *carry))
            return new, new

        return list(jax.lax.scan(one, tuple(states), tuple(sequences))[1])

    def top_k(self, x: Any, k: int) -> Any:
        return jax.lax.top_k(x, k)[0]

    def solve_lower(self, a: Any, b: Any) -> Any:
        return jax.scipy.linalg.solve_triangular(a, b, lower=True)


class Jax(Framework):
    """Expressions under jit."""

    def make(self, case: Case, arguments: Sequence[Any]) -> Made:
        function = partial(case.expression, JaxNamespace(jnp, channels_last=case.images))
        native = partial(_native, case)
        if case.trains:
            return self._trained(case, function, native, arguments)
        kept = {k: one for k, one in enumerate(native(arguments)) if k in case.parameters}
        if case.gradients_of:
            function = jax.value_and_grad(function, argnums=case.gradients_of)
        compiled = jax.jit(function)

        def call(*given: Any) -> Any:
            return jax.block_until_ready(compiled(*(kept.get(k, one) for k, one in enumerate(given))))

        return Made(call, native, partial(_results, case))

    def _trained(self, case: Case, function: Any, native: Any, arguments: Sequence[Any]) -> Made:
        """A step of training, whose state is donated."""
        places = case.parameters

        @partial(jax.jit, donate_argnums=(0, 1))
        def update(parameters: Any, momenta: Any, given: Any) -> Any:
            def loss(new: Any) -> Any:
                merged = dict(zip(places, new, strict=True))
                return function(*(merged.get(k, one) for k, one in enumerate(given)))

            value, gradients = jax.value_and_grad(loss)(parameters)
            momenta = [MOMENTUM * m + g for m, g in zip(momenta, gradients, strict=True)]
            return [p - RATE * m for p, m in zip(parameters, momenta, strict=True)], momenta, value

        given = native(arguments)
        state = [[given[k] for k in places], [jnp.zeros_like(given[k]) for k in places]]

        def call(*inputs: Any) -> float:
            *state[:], value = update(*state, [None if k in places else one for k, one in enumerate(inputs)])
            return float(value)

        return Made(call, native, lambda value: [np.asarray(value), *(_drawn(case, True, one) for one in state[1])])


def _native(case: Case, arguments: Sequence[Any]) -> list[Any]:
    """Arrays on the device, images and filters with their channels last."""
    orders = [((2, 3, 1, 0) if k in case.parameters else (0, 2, 3, 1)) for k in range(len(arguments))]
    turned = [
        np.transpose(one, order) if case.images and np.ndim(one) == 4 else one
        for one, order in zip(arguments, orders, strict=True)
    ]
    return [jnp.asarray(one) if isinstance(one, np.ndarray) else one for one in turned]


def _results(case: Case, results: Any) -> list[np.ndarray]:
    """NumPy arrays, laid out as the arguments were drawn."""
    if not case.gradients_of:
        return [_drawn(case, False, one) for one in (results if isinstance(results, list | tuple) else [results])]
    value, gradients = results
    drawn = [_drawn(case, k in case.parameters, one) for k, one in zip(case.gradients_of, gradients, strict=True)]
    return [np.asarray(value), *drawn]


def _drawn(case: Case, filters: bool, one: Any) -> np.ndarray:
    """An array with its channels where they were drawn."""
    array = np.asarray(one)
    if not case.images or array.ndim != 4:
        return array
    return array.transpose((3, 2, 0, 1) if filters else (0, 3, 1, 2))
