"""Read handwritten digits pixel by pixel with an LSTM, with and without batch normalization inside the recurrence.

The data are the 1,797 real 8x8 digits that scikit-learn ships, each as a sequence of 64 pixels; what the digit is must be
remembered until the last. The normalized LSTM (Cooijmans et al. 2016) keeps statistics for every step, which the graph hands
out as pairs without any wiring. It trains for half as many epochs as the plain one. Curves, and what the statistics of the
steps look like, go to a PNG.
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
from minigraph.layers import LSTM, BatchNormalizedLSTM, Freeze, Layer, Linear, batch_normalization
from minigraph.training import adam, clip_gradient_norm, cosine_decay
from minigraph.transforms import freeze_batch_normalization, get_batch_normalization_updates, overwrite

STEPS, CLASSES = 64, 10


@dataclass
class Run:
    """What one training run left behind: after each epoch the loss and the share of test digits that were read rightly."""

    name: str
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    population: dict[str, np.ndarray] = field(default_factory=dict)


def load(seed: int, test_share: float = 0.25) -> tuple[np.ndarray, ...]:
    """Sequences (digits, 64) of pixels around 0, and labels, to train on and to test on; shuffled by a fixed seed."""
    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    pixels, labels = (bunch.data / 8 - 1).astype(np.float32)[order], bunch.target.astype(np.int64)[order]
    tests = round(test_share * len(order))
    return pixels[tests:], labels[tests:], pixels[:tests], labels[:tests]


def in_time(pixels: np.ndarray) -> np.ndarray:
    """Digits (batch, pixels) as sequences (time, batch, 1)."""
    return np.ascontiguousarray(pixels.T[:, :, None])


def train(lstm: Layer, name: str, epochs: int, data: tuple[np.ndarray, ...], options: argparse.Namespace) -> Run:
    """Train an LSTM and a Linear on its last state by Adam, and test after each epoch."""
    x, labels = mg.tensor("x", shape=(STEPS, None, 1)), mg.lvector("labels")
    classify = Linear(options.hidden, CLASSES, seed=options.seed)

    def logits() -> mg.Variable:
        states, _ = lstm.apply(x, return_sequences=False)
        return classify.apply(states)

    with batch_normalization(lstm):
        cost = mg.softmax_crossentropy(logits(), labels).mean()
    wrong = mg.mean(mg.neq(mg.argmax(logits(), axis=1), labels))

    graph = mg.ComputationGraph(cost)
    normalized = isinstance(lstm, BatchNormalizedLSTM)
    pairs = get_batch_normalization_updates(graph) if normalized else []
    graph = freeze_batch_normalization(graph, Freeze.AVERAGES)  # the population follows after each epoch, see below
    cost = graph.outputs[0]
    gradients = clip_gradient_norm(mg.grad(cost, graph.parameters), 1.0)
    steps = epochs * max(1, len(data[1]) // options.batch_size)
    updates = adam(gradients, graph.parameters, cosine_decay(options.learning_rate, steps))
    step = mg.function([x, labels], cost, updates=updates, backend=options.backend)
    # one pass over all digits leaves their exact statistics: those of a minibatch say little about pixels that are seldom set
    settle = mg.function([x], [], updates=overwrite(pairs), backend=options.backend) if pairs else None
    test = mg.function([x, labels], wrong, backend=options.backend)

    run = Run(name)
    pixels, targets, test_pixels, test_targets = data
    rng = np.random.default_rng(options.seed)
    start = time.perf_counter()
    for _ in tqdm(range(epochs), desc=name, disable=None, leave=False):
        order = rng.permutation(len(targets))
        losses = [
            float(step(in_time(pixels[rows]), targets[rows]))
            for rows in np.array_split(order, max(1, len(order) // options.batch_size))
        ]
        run.losses.append(float(np.mean(losses)))
        if settle is not None:
            settle(in_time(pixels))
        run.accuracies.append(1 - float(test(in_time(test_pixels), test_targets)))
    run.seconds = time.perf_counter() - start
    run.population = {f"{layer.name}, {one.name}": one.get_value() for layer in lstm.children for one in _population(layer)}
    return run


def _population(layer: Layer) -> list[mg.Variable]:
    """The variables that hold a layer's population."""
    return list(getattr(layer, "population_statistics", []))


def plot(runs: list[Run], path: Path) -> None:
    """Learning curves, and for each normalization the deviation of every feature at every step, as a PNG."""
    stdevs = {name: one for name, one in runs[-1].population.items() if "stdev" in name}
    figure, axes = plt.subplots(1, 2 + len(stdevs), figsize=(5 * (2 + len(stdevs)), 4.5), layout="constrained")
    for run, color in zip(runs, ("tab:orange", "tab:blue"), strict=True):
        epochs = range(1, len(run.losses) + 1)
        axes[0].plot(epochs, run.losses, label=run.name, color=color)
        axes[1].plot(epochs, [100 * accuracy for accuracy in run.accuracies], label=run.name, color=color)
    axes[0].set(title="Training loss", xlabel="epoch", ylabel="crossentropy (nats)", yscale="log")
    axes[1].set(title="Test accuracy", xlabel="epoch", ylabel="percent")
    axes[1].legend()
    for one, (name, values) in zip(axes[2:], stdevs.items(), strict=True):
        one.plot(np.sort(values, axis=1)[:, :: max(1, values.shape[1] // 20)], color="tab:blue", linewidth=0.6, alpha=0.6)
        one.set(title=name, xlabel="step", ylabel="deviation, a line a quantile of features")
    for one in axes:
        one.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> list[Run]:
    """Train both networks, print the table, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--epochs", type=between(2, 100_000), default=30, help="of the plain LSTM; the normalized one trains for half of them"
    )
    parser.add_argument("--hidden", type=between(1, 100_000), default=100)
    parser.add_argument("--batch-size", type=between(2, 100_000), default=64)
    parser.add_argument("--learning-rate", type=between(1e-9, 1e3, float), default=0.003)
    parser.add_argument("--seed", type=between(0, 2**32 - 1), default=1)
    parser.add_argument("--backend", choices=["native", "numpy", "cupy"])
    parser.add_argument("--output", type=picture, default="output/sequential_digits_lstm.png")
    options = parser.parse_args(arguments)
    data = load(options.seed)
    if options.batch_size > len(data[1]):
        parser.error(f"a batch must have at most the {len(data[1])} digits that there are to train on")
    print(f"{len(data[1])} digits to train on, {len(data[3])} to test on, {STEPS} pixels each")
    plain = LSTM(options.hidden, 1, seed=options.seed)
    normalized = BatchNormalizedLSTM(options.hidden, STEPS, 1, seed=options.seed)
    runs = [
        train(plain, "plain LSTM", options.epochs, data, options),
        train(normalized, "batch-normalized LSTM", options.epochs // 2, data, options),
    ]
    print(f"{'network':<24}{'epochs':>7}{'loss':>9}{'test acc.':>11}{'best':>9}{'seconds':>9}")
    for run in runs:
        accuracies = f"{run.accuracies[-1]:>11.2%}{max(run.accuracies):>9.2%}"
        print(f"{run.name:<24}{len(run.losses):>7}{run.losses[-1]:>9.4f}{accuracies}{run.seconds:>9.1f}")
    plot(runs, options.output)
    print(f"curves: {options.output}")
    return runs


if __name__ == "__main__":
    main()
