"""JAX, jit-compiled, with donated buffers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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


def mlp_update(sizes: tuple[int, ...], optimizer: str) -> tuple[Any, list[Any]]:
    """A training step of an MLP with batch normalization, from state and data to new state and the loss; and the state."""
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

    return update, [parameters, averages, first, second, jnp.float32(1)]


def mlp_step(sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
    """A training step of an MLP with batch normalization."""
    inputs, classes = work.batch(sizes, count)
    update, state = mlp_update(sizes, optimizer)

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


def _lstm_parameters(hidden: int, normalized: bool) -> Any:
    """Matrices of inputs and states, the bias, those of the classes, and with `normalized` the scales and shifts."""
    rng = np.random.default_rng(1)
    shapes = {"w": (1, 4 * hidden), "u": (hidden, 4 * hidden), "v": (hidden, work.CLASSES)}
    drawn = {name: jnp.asarray(rng.normal(size=shape).astype("float32") * 0.1) for name, shape in shapes.items()}
    drawn |= {"b": jnp.zeros(4 * hidden), "c": jnp.zeros(work.CLASSES), "h0": jnp.zeros(hidden), "c0": jnp.zeros(hidden)}
    if normalized:
        drawn |= {"gx": jnp.full(4 * hidden, 0.1), "gh": jnp.full(4 * hidden, 0.1), "gc": jnp.full(hidden, 0.1)}
        drawn |= {"bc": jnp.zeros(hidden)}
    return drawn


def _normalized(z: Any, scale: Any, stored: Any) -> Any:
    """z normalized by its batch, or by what is stored of it, and the statistics in use."""
    mean = z.mean(0) if stored is None else stored[0]
    variance = jnp.square(z - mean).mean(0) if stored is None else stored[1]
    return (z - mean) * jax.lax.rsqrt(variance + work.EPSILON) * scale, (mean, variance)


def _lstm_logits(p: Any, x: Any, stored: Any, in_training: bool) -> Any:
    """The logits, and the statistics of every step."""
    normalized = "gx" in p
    projected = x @ p["w"] + (0 if normalized else p["b"])

    def step(state: Any, row: Any) -> Any:
        h, c = state
        z, rows = row
        kept = rows if normalized and not in_training else (None, None, None)
        seen = ()
        if normalized:
            zx, sx = _normalized(z, p["gx"], kept[0])
            zh, sh = _normalized(h @ p["u"], p["gh"], kept[1])
            z = zx + zh + p["b"]
        else:
            z = z + h @ p["u"]
        i, f, g, o = jnp.split(z, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        out = c
        if normalized:
            out, sc = _normalized(c, p["gc"], kept[2])
            out, seen = out + p["bc"], (sx, sh, sc)
        return (jax.nn.sigmoid(o) * jnp.tanh(out), c), seen

    first = (jnp.tile(p["h0"], (x.shape[1], 1)), jnp.tile(p["c0"], (x.shape[1], 1)))
    (h, _), seen = jax.lax.scan(step, first, (projected, stored if normalized else projected))
    return h @ p["v"] + p["c"], seen


def _lstm_averages(hidden: int) -> Any:
    """Stored means and variances of every step."""
    sizes = (4 * hidden, 4 * hidden, hidden)
    return tuple((jnp.zeros((work.STEPS, size)), jnp.ones((work.STEPS, size))) for size in sizes)


def lstm_step(hidden: int, normalized: bool) -> Callable[[], Any]:
    """A training step of an LSTM whose last state is classified."""
    inputs, classes = work.sequences()
    parameters = _lstm_parameters(hidden, normalized)

    def loss_of(p: Any, x: Any, t: Any) -> Any:
        logits, seen = _lstm_logits(p, x, _lstm_averages(hidden), True)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), t[:, None], 1).mean(), seen

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(p: Any, s: Any, m: Any, x: Any, t: Any) -> Any:
        (loss, new), g = jax.value_and_grad(loss_of, has_aux=True)(p, x, t)
        if normalized:
            s = each(lambda a, b: (1 - work.AVERAGING) * a + work.AVERAGING * b, s, new)
        m = each(lambda a, b: work.MOMENTUM * a - work.RATE * b, m, g)
        return each(lambda a, b: a + b, p, m), s, m, loss

    state = [parameters, _lstm_averages(hidden), each(jnp.zeros_like, parameters)]

    def step() -> float:
        *state[:], loss = update(*state, inputs, classes)
        return float(loss)

    return step


def lstm_inference(hidden: int, normalized: bool) -> Callable[[], Any]:
    """The logits of the same network."""
    inputs, _ = work.sequences()
    parameters, averages = _lstm_parameters(hidden, normalized), _lstm_averages(hidden)
    forward = jax.jit(lambda p, s, x: _lstm_logits(p, x, s, False)[0])
    return lambda: forward(parameters, averages, inputs).block_until_ready()


def _cnn_parameters(channels: int, size: int) -> Any:
    """Filters, scales and shifts of two convolutions, and the matrix and bias of the classes."""
    rng = np.random.default_rng(1)
    found = []
    for before, filters in zip((channels, *work.FILTERS), work.FILTERS, strict=False):
        kernel = jnp.asarray((rng.normal(size=(3, 3, before, filters)) * 0.1).astype("float32"))
        found.append((kernel, jnp.ones(filters), jnp.zeros(filters)))
    features = work.FILTERS[-1] * (size // 4) ** 2
    matrix = jnp.asarray((rng.normal(size=(features, work.CLASSES)) * 0.05).astype("float32"))
    return [*found, (matrix, jnp.zeros(work.CLASSES))]


def _cnn_logits(p: Any, x: Any, stored: Any) -> Any:
    """The logits of images with the channels last, normalized by the batch or by what is stored; and the statistics."""
    seen = []
    for k, (kernel, scale, shift) in enumerate(p[:-1]):
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        mean = x.mean((0, 1, 2)) if stored is None else stored[k][0]
        variance = jnp.square(x - mean).mean((0, 1, 2)) if stored is None else stored[k][1]
        seen.append((mean, variance))
        x = jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + work.EPSILON) * scale + shift)
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return x.reshape(x.shape[0], -1) @ p[-1][0] + p[-1][1], seen


def cnn_update(channels: int, size: int) -> tuple[Any, list[Any]]:
    """A training step of a small convolutional network, from state and data to new state and the loss; and the state."""
    parameters = _cnn_parameters(channels, size)

    def loss_of(p: Any, x: Any, t: Any) -> Any:
        logits, seen = _cnn_logits(p, x, None)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), t[:, None], 1).mean(), seen

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(p: Any, s: Any, m: Any, x: Any, t: Any) -> Any:
        (loss, new), g = jax.value_and_grad(loss_of, has_aux=True)(p, x, t)
        s = each(lambda a, b: (1 - work.AVERAGING) * a + work.AVERAGING * b, s, new)
        m = each(lambda a, b: work.MOMENTUM * a - work.RATE * b, m, g)
        return each(lambda a, b: a + b, p, m), s, m, loss

    averages = [(jnp.zeros(filters), jnp.ones(filters)) for filters in work.FILTERS]
    return update, [parameters, averages, each(jnp.zeros_like, parameters)]


def cnn_step(channels: int, size: int) -> Callable[[], Any]:
    """A training step of a small convolutional network."""
    inputs, classes = work.images(channels, size)
    inputs = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))
    update, state = cnn_update(channels, size)

    def step() -> float:
        *state[:], loss = update(*state, inputs, classes)
        return float(loss)

    return step


def cnn_inference(channels: int, size: int) -> Callable[[], Any]:
    """The logits of the same network."""
    inputs, _ = work.images(channels, size)
    inputs = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))
    parameters = _cnn_parameters(channels, size)
    averages = [(jnp.zeros(filters), jnp.ones(filters)) for filters in work.FILTERS]
    forward = jax.jit(lambda p, s, x: _cnn_logits(p, x, s)[0])
    return lambda: forward(parameters, averages, inputs).block_until_ready()


def adam_update(elements: int) -> tuple[Any, list[Any], Any]:
    """A step of Adam over so many parameters, from their state and a gradient to the new state; the state, and the gradient."""
    state = [jnp.asarray(one) for one in work.vectors(elements)]
    gradient = state.pop(1)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def adam(p: Any, m: Any, v: Any, g: Any) -> Any:
        m = work.BETA1 * m + (1 - work.BETA1) * g
        v = work.BETA2 * v + (1 - work.BETA2) * g * g
        return p - work.ADAM_RATE * m / (jnp.sqrt(v) + work.ADAM_EPSILON), m, v

    return adam, state, gradient


def micro_function(name: str) -> Any:
    """One kernel."""

    def layer_norm(a: Any) -> Any:
        centered = a - a.mean(-1, keepdims=True)
        return centered * jax.lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-5)

    functions = {"layer_norm": layer_norm, "softmax": jax.nn.softmax, "gelu": partial(jax.nn.gelu, approximate=False)}
    return jax.jit(functions[name])


def micro(name: str, elements: int) -> Callable[[], Any]:
    """One kernel over so many elements."""
    if name == "adam":
        adam, state, gradient = adam_update(elements)

        def run_adam() -> None:
            state[:] = adam(*state, gradient)
            state[0].block_until_ready()

        return run_adam
    x, function = jnp.asarray(work.rows(elements)), micro_function(name)
    return lambda: function(x).block_until_ready()
