"""Train an MLP on handwritten digits, with and without batch normalization, and report what normalization bought.

The data are the 1,797 real 8x8 digits that scikit-learn ships. Each network trains at a low and at a high learning rate. The
normalized one is then tested with the moving average of its minibatch statistics, and again with statistics recomputed over
the whole training set. Curves, and how minibatch and population statistics track each other, go to a PNG; the last network is
saved beside it, and a fresh process, which knows nothing of its layers, predicts with it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
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
from minigraph.layers import MLP, BatchNormalizedMLP, Rectifier, Sequence, batch_normalization, find_layers
from minigraph.layers.normalization.batch import BatchNormalization
from minigraph.training import momentum
from minigraph.transforms import apply_batch_normalization, get_batch_normalization_updates, moving_average

HIDDEN = (256, 256, 256)


@dataclass(frozen=True)
class Digits:
    """Images as rows of 64 floats in [0, 1], and the digits they show."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass
class Run:
    """What one training run left behind."""

    name: str
    learning_rate: float
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    minibatch_means: list[float] = field(default_factory=list)
    population_means: list[float] = field(default_factory=list)
    recomputed_accuracy: float | None = None
    seconds: float = 0.0


def load(seed: int, test_share: float = 0.25) -> Digits:
    """The digits, shuffled and split by a fixed seed."""
    bunch = load_digits()
    images, labels = (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    tests, trains = np.split(order, [round(test_share * len(order))])
    return Digits(images[trains], labels[trains], images[tests], labels[tests])


def build(normalized: bool, seed: int) -> Sequence:
    """The network: three hidden layers of rectifiers, ten classes."""
    activations, dims = [*(Rectifier() for _ in HIDDEN), None], [64, *HIDDEN, 10]
    return (BatchNormalizedMLP if normalized else MLP)(activations, dims, seed=seed)


def train(network: Sequence, digits: Digits, name: str, rate: float, options: argparse.Namespace) -> Run:
    """Train a network by SGD with momentum, and measure it after each epoch."""
    x, labels = mg.matrix("x", shape=(None, 64)), mg.lvector("labels")

    # the training graph normalizes by the minibatch; the inference graph, the default, by the population
    with batch_normalization(network):
        cost = mg.softmax_crossentropy(network.apply(x), labels).mean()
    graph = mg.ComputationGraph(cost)
    error_rate = mg.mean(mg.neq(mg.argmax(network.apply(x), axis=1), labels))

    normalized = bool(find_layers(network, lambda layer: isinstance(layer, BatchNormalization)))
    pairs = get_batch_normalization_updates(graph) if normalized else []
    watched = [mg.mean(one) for one in pairs[0]] if pairs else []
    updates = momentum(cost, graph.parameters, rate, 0.9) + (moving_average(pairs, new_weight=0.1) if pairs else [])
    step = mg.function([x, labels], [cost, *watched], updates=updates, backend=options.backend)
    test = mg.function([x, labels], error_rate, backend=options.backend)

    run = Run(name, rate)
    rng = np.random.default_rng(options.seed)
    start = time.perf_counter()
    # disable=None keeps the progress bar quiet when the output is not a terminal
    for _ in tqdm(range(options.epochs), desc=f"{name}, rate {rate:g}", disable=None, leave=False):
        order = rng.permutation(len(digits.train_images))
        losses = []
        for rows in np.array_split(order, max(1, len(order) // options.batch_size)):
            loss, *means = (float(value) for value in step(digits.train_images[rows], digits.train_labels[rows]))
            losses.append(loss)
            if means:
                run.population_means.append(means[0])
                run.minibatch_means.append(means[1])
        run.losses.append(float(np.mean(losses)))
        run.accuracies.append(1 - float(test(digits.test_images, digits.test_labels)))
    run.seconds = time.perf_counter() - start

    if pairs:
        # raw pairs overwrite: one pass over the whole training set leaves its exact statistics in the population
        recompute = mg.function([x], [], updates=pairs, backend=options.backend)
        recompute(digits.train_images)
        run.recomputed_accuracy = 1 - float(test(digits.test_images, digits.test_labels))
    return run


def modes_agree(seed: int, images: np.ndarray, backend: str | None) -> bool:
    """Whether the context manager and the graph transform give the same training graph: the same text, the same values."""
    network = build(True, seed)
    x = mg.matrix("x", shape=(None, 64))
    with batch_normalization(network):
        built = network.apply(x)
    transformed = apply_batch_normalization(network.apply(x)).outputs[0]
    both = mg.function([x], [mg.Out(built, host=True), mg.Out(transformed, host=True)], backend=backend)
    return np.array_equal(*both(images)) and mg.debugprint(built) == mg.debugprint(transformed)


ELSEWHERE = """
import sys
import numpy as np
import minigraph as mg
predict = mg.load_function(sys.argv[1])
np.save(sys.argv[3], predict(np.load(sys.argv[2])))
"""
"""A program that has a saved function alone, and predicts."""


def predicts_elsewhere(network: Sequence, images: np.ndarray, path: Path, backend: str | None) -> bool:
    """Whether the network's predictions, saved as a function for the processor, come out the same in a fresh process."""
    x = mg.matrix("x", shape=(None, 64))
    on_processor = None if backend == "cupy" else backend
    predict = mg.function([x], mg.argmax(network.apply(x), axis=1), backend=on_processor)
    predict.save(path)
    given, found = path.with_suffix(".images.npy"), path.with_suffix(".digits.npy")
    np.save(given, images)
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(path), str(given), str(found)], check=True)
    same = np.array_equal(np.load(found), predict(images))
    given.unlink()
    found.unlink()
    return same


def plot(runs: list[Run], path: Path) -> None:
    """Learning curves, and the first layer's mean by minibatch and by population, as a PNG."""
    figure, (losses, accuracies, statistics) = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    for run in runs:
        normalized = run.recomputed_accuracy is not None
        style = {
            "label": f"{run.name}, rate {run.learning_rate:g}",
            "color": "tab:blue" if normalized else "tab:orange",
            "linestyle": "-" if run.learning_rate == max(one.learning_rate for one in runs) else "--",
        }
        epochs = range(1, len(run.losses) + 1)
        losses.plot(epochs, run.losses, **style)
        accuracies.plot(epochs, [100 * accuracy for accuracy in run.accuracies], **style)
    losses.set(title="Training loss", xlabel="epoch", ylabel="crossentropy (nats)", yscale="log")
    accuracies.set(title="Test accuracy", xlabel="epoch", ylabel="percent")
    accuracies.set_ylim(max(0.0, accuracies.get_ylim()[0]), 100.5)
    accuracies.legend(loc="center right")
    tracked = next(run for run in reversed(runs) if run.recomputed_accuracy is not None)
    statistics.plot(tracked.minibatch_means, color="tab:gray", linewidth=0.7, label="minibatch")
    statistics.plot(tracked.population_means, color="tab:blue", label="population (moving average)")
    statistics.set(
        title=f"First layer's mean, rate {tracked.learning_rate:g}", xlabel="training step", ylabel="averaged over features"
    )
    statistics.legend()
    for axes in (losses, accuracies, statistics):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def table(runs: list[Run]) -> str:
    """The results, a line a run."""
    lines = [f"{'network':<22}{'rate':>7}{'loss':>10}{'test acc.':>11}{'recomputed':>12}{'seconds':>9}"]
    for run in runs:
        recomputed = "-" if run.recomputed_accuracy is None else f"{run.recomputed_accuracy:.2%}"
        loss = f"{run.losses[-1]:.4f}" if np.isfinite(run.losses[-1]) else "diverged"
        measured = f"{loss:>10}{run.accuracies[-1]:>11.2%}{recomputed:>12}{run.seconds:>9.1f}"
        lines.append(f"{run.name:<22}{run.learning_rate:>7g}{measured}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> list[Run]:
    """Train all networks, print the table, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=between(1, 100_000), default=25)
    parser.add_argument("--batch-size", type=between(2, 100_000), default=32)
    parser.add_argument(
        "--learning-rate", type=between(1e-9, 1e3, float), default=0.5, help="the high rate; the low one is a fiftieth of it"
    )
    parser.add_argument("--seed", type=between(0, 2**32 - 1), default=1)
    parser.add_argument("--backend", choices=["native", "numpy", "cupy"])
    parser.add_argument("--output", type=picture, default="output/digits_mlp.png")
    options = parser.parse_args(arguments)
    digits = load(options.seed)
    if options.batch_size > len(digits.train_images):
        parser.error(f"a batch must have at most the {len(digits.train_images)} digits that there are to train on")
    print(f"{len(digits.train_images)} digits to train on, {len(digits.test_images)} to test on")
    runs = []
    for rate in (options.learning_rate / 50, options.learning_rate):
        for normalized, name in ((False, "plain"), (True, "batch-normalized")):
            network = build(normalized, options.seed)
            runs.append(train(network, digits, name, rate, options))
    print(table(runs))
    agree = modes_agree(options.seed, digits.test_images, options.backend)
    print(f"context manager and transform agree: {'yes' if agree else 'NO'}")
    plot(runs, options.output)
    print(f"curves: {options.output}")
    saved = options.output.with_suffix(".safetensors")
    same = predicts_elsewhere(network, digits.test_images, saved, options.backend)
    print(f"saved: {saved}; a fresh process predicts the same: {'yes' if same else 'NO'}")
    return runs


if __name__ == "__main__":
    main()
