"""minigraph, by its layers and training rules."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

import minigraph as mg
from frameworks import work
from minigraph import layers, training
from minigraph.transforms import get_batch_normalization_updates, moving_average

made: deque[mg.Function] = deque(maxlen=1)
"""The function that was made last."""


def compiled(*arguments: Any, **options: Any) -> mg.Function:
    """`mg.function`, whose result is kept."""
    made.append(mg.function(*arguments, **options))
    return made[-1]


def network(sizes: tuple[int, ...]) -> Any:
    """Linear, BatchNormalization and Rectifier for each hidden layer, and a Linear."""
    parts: list[Any] = []
    for a, b in zip(sizes[:-2], sizes[1:-1], strict=True):
        parts += [layers.Linear(a, b, use_bias=False), layers.BatchNormalization(b, epsilon=work.EPSILON), layers.Rectifier()]
    return layers.Sequence([*parts, layers.Linear(sizes[-2], sizes[-1])])


def training_function(sizes: tuple[int, ...], optimizer: str) -> Any:
    """A training step: (inputs, classes) to the loss."""
    x, t = mg.matrix("x"), mg.ivector("t")
    net = network(sizes)
    with layers.batch_normalization(net):
        cost = mg.softmax_crossentropy(net.apply(x), t).mean()
    parameters = mg.ComputationGraph(cost).parameters
    if optimizer == "adam":
        updates = training.adam(cost, parameters, work.ADAM_RATE)
    else:
        updates = training.momentum(cost, parameters, work.RATE, work.MOMENTUM)
    averages = [
        (population, (1 - work.AVERAGING) * population + work.AVERAGING * estimate)
        for population, estimate in get_batch_normalization_updates(cost)
    ]
    return compiled([x, t], cost, updates=[*updates, *averages])


def mlp_step(sizes: tuple[int, ...], count: int, optimizer: str) -> Callable[[], Any]:
    """A training step of an MLP with batch normalization."""
    step = training_function(sizes, optimizer)
    inputs, classes = work.batch(sizes, count)
    return lambda: float(step(inputs, classes))


def mlp_inference(sizes: tuple[int, ...], count: int) -> Callable[[], Any]:
    """The logits of the same network."""
    x = mg.matrix("x")
    f = compiled([x], network(sizes).apply(x))
    inputs, _ = work.batch(sizes, count)
    return lambda: f(inputs)


def _lstm(hidden: int, normalized: bool) -> Any:
    """An LSTM, perhaps normalized at every step, and a Linear."""
    if normalized:
        lstm: Any = layers.BatchNormalizedLSTM(hidden, work.STEPS, 1, epsilon=work.EPSILON)
    else:
        lstm = layers.LSTM(hidden, 1)
    return lstm, layers.Linear(hidden, work.CLASSES)


def lstm_step(hidden: int, normalized: bool) -> Callable[[], Any]:
    """A training step of an LSTM whose last state is classified."""
    x, t = mg.tensor("x", shape=(None, None, 1)), mg.ivector("t")
    lstm, classify = _lstm(hidden, normalized)
    with layers.batch_normalization(lstm):
        cost = mg.softmax_crossentropy(classify.apply(lstm.apply(x, return_sequences=False)[0]), t).mean()
    updates = training.momentum(cost, mg.ComputationGraph(cost).parameters, work.RATE, work.MOMENTUM)
    if normalized:
        updates += moving_average(get_batch_normalization_updates(cost), work.AVERAGING)
    step = compiled([x, t], cost, updates=updates)
    inputs, classes = work.sequences()
    return lambda: float(step(inputs, classes))


def lstm_inference(hidden: int, normalized: bool) -> Callable[[], Any]:
    """The logits of the same network."""
    x = mg.tensor("x", shape=(None, None, 1))
    lstm, classify = _lstm(hidden, normalized)
    f = compiled([x], classify.apply(lstm.apply(x, return_sequences=False)[0]))
    inputs, _ = work.sequences()
    return lambda: f(inputs)


def _cnn() -> Any:
    """Two convolutions, each normalized, rectified and pooled, and a Linear."""
    parts: list[Any] = []
    for filters in work.FILTERS:
        convolution = layers.Convolutional((3, 3), filters, use_bias=False)
        parts += [convolution, layers.SpatialBatchNormalization(epsilon=work.EPSILON), layers.Rectifier(), layers.MaxPooling(2)]
    parts += [layers.Flattener(), layers.Linear(output_dim=work.CLASSES)]
    return layers.ConvolutionalSequence(parts, border_mode="same")


def cnn_function(channels: int, size: int) -> Any:
    """A training step of a small convolutional network: (images, classes) to the loss."""
    x, t, net = mg.tensor4("x", shape=(None, channels, size, size)), mg.ivector("t"), _cnn()
    with layers.batch_normalization(net):
        cost = mg.softmax_crossentropy(net.apply(x), t).mean()
    updates = training.momentum(cost, mg.ComputationGraph(cost).parameters, work.RATE, work.MOMENTUM)
    averages = moving_average(get_batch_normalization_updates(cost), work.AVERAGING)
    return compiled([x, t], cost, updates=[*updates, *averages])


def cnn_step(channels: int, size: int) -> Callable[[], Any]:
    """A training step of a small convolutional network."""
    step = cnn_function(channels, size)
    inputs, classes = work.images(channels, size)
    return lambda: float(step(inputs, classes))


def cnn_inference(channels: int, size: int) -> Callable[[], Any]:
    """The logits of the same network."""
    x = mg.tensor4("x", shape=(None, channels, size, size))
    f = compiled([x], _cnn().apply(x))
    inputs, _ = work.images(channels, size)
    return lambda: f(inputs)


def micro_function(name: str, elements: int) -> tuple[Any, ...]:
    """One kernel, and its inputs of so many elements."""
    if name == "adam":
        parameter, gradient, first, second = (mg.shared(one) for one in work.vectors(elements))
        m = work.BETA1 * first + (1 - work.BETA1) * gradient
        v = work.BETA2 * second + (1 - work.BETA2) * gradient**2
        step = work.ADAM_RATE * m / (mg.sqrt(v) + work.ADAM_EPSILON)
        return (compiled([], None, updates={parameter: parameter - step, first: m, second: v}),)
    x = mg.matrix("x")
    results = {
        "layer_norm": lambda: mg.standardize(x, -1, 1e-5)[0],
        "softmax": lambda: mg.softmax(x),
        "gelu": lambda: mg.gelu(x),
    }
    return compiled([x], results[name]()), work.rows(elements)


def micro(name: str, elements: int) -> Callable[[], Any]:
    """One kernel over so many elements."""
    f, *data = micro_function(name, elements)
    return lambda: f(*data)


def compile_time(depth: int) -> Callable[[], Any]:
    """Everything from building to the first step, for so many normalized layers with gradients and Adam."""
    sizes = (64, *[64] * depth, 10)
    inputs, classes = work.batch(sizes, 32)
    return lambda: np.asarray(training_function(sizes, "adam")(inputs, classes))
