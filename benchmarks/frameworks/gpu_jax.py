"""JAX on a GPU: compiled, its buffers donated, its data there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from frameworks import jax_work, work

each = jax.tree_util.tree_map


class Jax:
    """The cases, by functions that JAX compiles."""

    def __init__(self) -> None:
        jax.config.update("jax_default_matmul_precision", "float32")  # it would round to 11 bits on a GPU
        self.version = jax.__version__
        self.card = str(jax.devices()[0].device_kind)

    def wait(self, last: Any) -> None:
        """Wait for the last result, and so for all before it."""
        jax.block_until_ready(last)

    def mlp_step(self, sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
        """A training step of an MLP with batch normalization."""
        update, state = jax_work.mlp_update(sizes, optimizer)
        data = [jax.device_put(one) for one in work.batch(sizes, count)]
        return _stepping(update, state, data)

    def cnn_step(self, channels: int, size: int) -> Callable[[], Any]:
        """A training step of a small convolutional network."""
        update, state = jax_work.cnn_update(channels, size)
        inputs, classes = work.images(channels, size)
        data = [jax.device_put(one) for one in (np.ascontiguousarray(inputs.transpose(0, 2, 3, 1)), classes)]
        return _stepping(update, state, data)

    def normalization(self, shape: tuple[int, ...], backward: bool) -> Callable[[], Any]:
        """Batch normalization of channels on axis 1, with its statistics; or the gradients of x, scale and shift."""
        axes = tuple(axis for axis in range(len(shape)) if axis != 1)
        kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
        keys = jax.random.split(jax.random.PRNGKey(0), 2)
        x, dy = (jax.random.normal(key, shape) for key in keys)
        scale, shift = jnp.ones(kept), jnp.zeros(kept)

        def forward(a: Any, b: Any, c: Any) -> Any:
            mean = a.mean(axes, keepdims=True)
            variance = jnp.square(a - mean).mean(axes, keepdims=True)
            inverse = jax.lax.rsqrt(variance + work.EPSILON)
            return (a - mean) * inverse * b + c, mean, inverse

        if not backward:
            function = jax.jit(forward)
            return lambda: function(x, scale, shift)
        _, mean, inverse = jax.jit(forward)(x, scale, shift)

        @jax.jit
        def slopes(a: Any, b: Any, m: Any, i: Any, d: Any) -> Any:
            normalized = (a - m) * i
            dshift, dscale = d.sum(axes, keepdims=True), (d * normalized).sum(axes, keepdims=True)
            count = a.size / b.size
            return (d - dshift / count - normalized * dscale / count) * (i * b), dscale, dshift

        return lambda: slopes(x, scale, mean, inverse, dy)

    def micro(self, name: str, elements: int) -> Callable[[], Any]:
        """One kernel over so many elements."""
        if name == "adam":
            update, state, gradient = jax_work.adam_update(elements)

            def run() -> Any:
                state[:] = update(*state, gradient)
                return state

            return run
        function = jax_work.micro_function(name)
        x = jax.device_put(work.rows(elements))
        return partial(function, x)


def _stepping(update: Any, state: list[Any], data: list[Any]) -> Callable[[], Any]:
    """A step that replaces the state, and returns the loss."""

    def step() -> Any:
        *state[:], loss = update(*state, *data)
        return loss

    return step
