"""JAX, jit-compiled, with donated buffers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from frameworks import work

each = jax.tree_util.tree_map


def _loss(parameters: Any, x: Any, t: Any) -> Any:
    """The mean crossentropy, and the statistics of the batch."""
    h, statistics = x, []
    for matrix, scale, shift in parameters[:-1]:
        z = h @ matrix
        mean = z.mean(0)
        variance = jnp.square(z - mean).mean(0)
        statistics.append((mean, variance))
        h = jax.nn.relu((z - mean) * jax.lax.rsqrt(variance + work.EPSILON) * scale + shift)
    matrix, bias = parameters[-1]
    logs = jax.nn.log_softmax(h @ matrix + bias)
    return -jnp.take_along_axis(logs, t[:, None], 1).mean(), statistics


def _parameters(sizes: tuple[int, ...]) -> Any:
    ws = [jnp.asarray(one) for one in work.weights(sizes)]
    hidden = [(w, jnp.ones(w.shape[1]), jnp.zeros(w.shape[1])) for w in ws[:-1]]
    return [*hidden, (ws[-1], jnp.zeros(sizes[-1]))]


def mlp_step(sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
    """A training step of an MLP with batch normalization."""
    inputs, classes = work.batch(sizes, count)
    parameters = _parameters(sizes)
    averages = [(jnp.zeros(b), jnp.ones(b)) for b in sizes[1:-1]]
    first, second = each(jnp.zeros_like, parameters), each(jnp.zeros_like, parameters)

    @partial(jax.jit, donate_argnums=(0, 1, 2, 3))
    def update(p: Any, s: Any, m: Any, v: Any, k: Any, x: Any, t: Any) -> Any:
        (loss, new), g = jax.value_and_grad(_loss, has_aux=True)(p, x, t)
        s = each(lambda a, b: (1 - work.AVERAGING) * a + work.AVERAGING * b, s, new)
        if optimizer == "adam":
            m = each(lambda a, b: work.BETA1 * a + (1 - work.BETA1) * b, m, g)
            v = each(lambda a, b: work.BETA2 * a + (1 - work.BETA2) * b * b, v, g)
            rate = work.ADAM_RATE * jnp.sqrt(1 - work.BETA2**k) / (1 - work.BETA1**k)
            p = each(lambda a, b, c: a - rate * b / (jnp.sqrt(c) + work.ADAM_EPSILON), p, m, v)
        else:
            m = each(lambda a, b: work.MOMENTUM * a - work.RATE * b, m, g)
            p = each(lambda a, b: a + b, p, m)
        return p, s, m, v, k + 1, loss

    state = [parameters, averages, first, second, jnp.float32(1)]

    def step() -> float:
        *state[:], loss = update(*state, inputs, classes)
        return float(loss)

    return step


def mlp_inference(sizes: tuple[int, ...], count: int) -> Callable[[], Any]:
    """The logits of the same network, with population statistics."""
    inputs, _ = work.batch(sizes, count)
    parameters = _parameters(sizes)
    averages = [(jnp.zeros(b), jnp.ones(b)) for b in sizes[1:-1]]

    @jax.jit
    def forward(p: Any, s: Any, x: Any) -> Any:
        for (matrix, scale, shift), (mean, variance) in zip(p[:-1], s, strict=True):
            x = jax.nn.relu((x @ matrix - mean) * jax.lax.rsqrt(variance + work.EPSILON) * scale + shift)
        return x @ p[-1][0] + p[-1][1]

    return lambda: forward(parameters, averages, inputs).block_until_ready()


def micro(name: str, elements: int) -> Callable[[], Any]:
    """One kernel over so many elements."""
    if name == "adam":
        state = [jnp.asarray(one) for one in work.vectors(elements)]
        gradient = state.pop(1)

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def adam(p: Any, m: Any, v: Any, g: Any) -> Any:
            m = work.BETA1 * m + (1 - work.BETA1) * g
            v = work.BETA2 * v + (1 - work.BETA2) * g * g
            return p - work.ADAM_RATE * m / (jnp.sqrt(v) + work.ADAM_EPSILON), m, v

        def run_adam() -> None:
            state[:] = adam(*state, gradient)
            state[0].block_until_ready()

        return run_adam
    x = jnp.asarray(work.rows(elements))

    def layer_norm(a: Any) -> Any:
        centered = a - a.mean(-1, keepdims=True)
        return centered * jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-5)

    functions = {"layer_norm": layer_norm, "softmax": jax.nn.softmax, "gelu": partial(jax.nn.gelu, approximate=False)}
    function = jax.jit(functions[name])
    return lambda: function(x).block_until_ready()
