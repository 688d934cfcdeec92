"""Train a small convolutional network on handwritten digits, with batch normalization after every convolution.

The data are the 1,797 real 8x8 digits that scikit-learn ships. In the end the population statistics are recomputed over the
training set, and the normalizations are folded into the convolutions, which changes nothing but the speed. Curves, and what
the first filters look like, go to a PNG.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from command_line import between, picture
from sklearn.datasets import load_digits
from tqdm.auto import tqdm

import minigraph as mg
from minigraph.layers import (
    Convolutional,
    ConvolutionalSequence,
    Dropout,
    Flattener,
    Linear,
    MaxPooling,
    Rectifier,
    SpatialBatchNormalization,
    training,
)
from minigraph.training import adam, cosine_decay
from minigraph.transforms import (
    fold_batch_normalization,
    get_batch_normalization_updates,
    moving_average,
    recompute_population_statistics,
)


@dataclass
class Run:
    """What training left behind."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    recomputed_accuracy: float = 0.0
    folded_difference: float = 0.0
    seconds: float = 0.0
    filters: np.ndarray | None = None


def load(seed: int, test_share: float = 0.25) -> tuple[np.ndarray, ...]:
    """Images (digits, 1, 8, 8) and labels, to train on and to test on; shuffled by a fixed seed."""
    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    images = (bunch.images[order, None] / 8 - 1).astype(np.float32)
    labels, tests = bunch.target[order].astype(np.int64), round(test_share * len(order))
    return images[tests:], labels[tests:], images[:tests], labels[:tests]


def build(seed: int) -> ConvolutionalSequence:
    """Three convolutions, each normalized, rectified and all but the first pooled, and a Linear."""
    stages = []
    for k, filters in enumerate((32, 64, 128)):
        stages += [Convolutional((3, 3), filters, use_bias=False), SpatialBatchNormalization(), Rectifier()]
        stages += [MaxPooling(2)] if k else []
    return ConvolutionalSequence([*stages, Flattener(), Dropout(0.5), Linear(output_dim=10)], border_mode="same", seed=seed)


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images moved by up to one pixel each way."""
    padded = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-1)
    moves = rng.integers(0, 3, (len(images), 2))
    return np.stack([one[:, y : y + 8, x : x + 8] for one, (y, x) in zip(padded, moves, strict=True)])


def train(network: ConvolutionalSequence, data: tuple[np.ndarray, ...], options: argparse.Namespace) -> Run:
    """Train by Adam, and test after each epoch."""
    images, labels, test_images, test_labels = data
    x, targets = mg.tensor4("x", shape=(None, 1, 8, 8)), mg.lvector("targets")
    with training(network):  # batch statistics, and dropout
        cost = mg.softmax_crossentropy(network.apply(x), targets).mean()
    predictions = network.apply(x)

    parameters = mg.ComputationGraph(cost).parameters
    steps = options.epochs * max(1, len(labels) // options.batch_size)
    updates = adam(cost, parameters, cosine_decay(options.learning_rate, steps))
    updates += moving_average(get_batch_normalization_updates(cost), 0.1)
    step = mg.function([x, targets], cost, updates=updates, backend=options.backend)
    predict = mg.function([x], predictions, backend=options.backend)

    def accuracy() -> float:
        return float((np.argmax(_on_host(predict(test_images)), axis=1) == test_labels).mean())

    run = Run()
    rng = np.random.default_rng(options.seed)
    start = time.perf_counter()
    for _ in tqdm(range(options.epochs), desc="epochs", disable=None, leave=False):
        order = rng.permutation(len(labels))
        losses = [
            float(step(shifted(images[rows], rng), labels[rows]))
            for rows in np.array_split(order, max(1, len(order) // options.batch_size))
        ]
        run.losses.append(float(np.mean(losses)))
        run.accuracies.append(accuracy())
    run.seconds = time.perf_counter() - start
    recompute_population_statistics(predictions, list(np.array_split(images, 4)), backend=options.backend)
    run.recomputed_accuracy = accuracy()
    folded = mg.function([x], fold_batch_normalization(predictions).outputs[0], backend=options.backend)
    run.folded_difference = float(np.abs(_on_host(folded(test_images)) - _on_host(predict(test_images))).max())
    run.filters = network.children[0].variables["W"].get_value()
    return run


def _on_host(array: np.ndarray) -> np.ndarray:
    """An array, fetched from the GPU if it lies there."""
    return array if isinstance(array, np.ndarray) else array.get()


def plot(run: Run, path: Path) -> None:
    """Learning curves, and the first filters, as a PNG."""
    figure, (losses, accuracies, filters) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    epochs = range(1, len(run.losses) + 1)
    losses.plot(epochs, run.losses)
    losses.set(title="Training loss", xlabel="epoch", ylabel="crossentropy (nats)", yscale="log")
    accuracies.plot(epochs, [100 * one for one in run.accuracies], label="moving average")
    accuracies.axhline(100 * run.recomputed_accuracy, color="tab:gray", linewidth=0.8, label="recomputed")
    accuracies.set(title="Test accuracy", xlabel="epoch", ylabel="percent")
    accuracies.legend()
    tiles = np.pad(run.filters[:, 0], [(0, 0), (0, 1), (0, 1)], constant_values=np.nan).reshape(4, 8, 4, 4)
    filters.imshow(tiles.transpose(0, 2, 1, 3).reshape(16, 32), cmap="gray")
    filters.set(title="First filters", xticks=[], yticks=[])
    for axes in (losses, accuracies):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> Run:
    """Train, print what came of it, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=between(1, 100_000), default=60)
    parser.add_argument("--batch-size", type=between(2, 100_000), default=64)
    parser.add_argument("--learning-rate", type=between(1e-9, 1e3, float), default=0.003)
    parser.add_argument("--seed", type=between(0, 2**32 - 1), default=1)
    parser.add_argument("--backend", choices=["native", "numpy", "cupy"])
    parser.add_argument("--output", type=picture, default="output/digits_cnn.png")
    options = parser.parse_args(arguments)
    data = load(options.seed)
    if options.batch_size > len(data[1]):
        parser.error(f"a batch must have at most the {len(data[1])} digits that there are to train on")
    print(f"{len(data[1])} digits to train on, {len(data[3])} to test on")
    run = train(build(options.seed), data, options)
    print(f"loss {run.losses[-1]:.4f}, test accuracy {run.accuracies[-1]:.2%}, in {run.seconds:.1f} s")
    print(f"with recomputed statistics {run.recomputed_accuracy:.2%}; folding changes logits by {run.folded_difference:.1e}")
    plot(run, options.output)
    print(f"curves: {options.output}")
    return run


if __name__ == "__main__":
    main()
