"""Train one network under the batch normalization of each system, and show what each one stores.

The network, the data (scikit-learn's handwritten digits), the start and the order of the minibatches are the same; only the
normalization layer differs. Training is alike up to epsilon. What is stored is not: a mean and a deviation, its inverse, a
variance, or sums; averaged with other weights; biased or not. The table shows it for the first feature, with how far the last
minibatch is from it, and the accuracy in inference by the system's own averages and by statistics recomputed over all data.
Theano's two functions keep nothing themselves, and are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from command_line import between
from sklearn.datasets import load_digits
from tqdm.auto import tqdm

import minigraph as mg
from minigraph.dialects import caffe, gomlx, keras, lasagne, onnx, puzzlelib, torch
from minigraph.layers import BatchNormalization, Layer, Linear, Rectifier, Sequence, batch_normalization, find_layers
from minigraph.layers.normalization.population import PopulationNormalization
from minigraph.training import momentum
from minigraph.transforms import (
    get_batch_normalization_updates,
    moving_average,
    population_gap,
    recompute_population_statistics,
)

HIDDEN = 48


SYSTEMS: dict[str, Callable[[], list[Layer]]] = {
    "Blocks": lambda: [BatchNormalization(HIDDEN)],
    "Lasagne": lambda: [lasagne.BatchNormLayer((None, HIDDEN))],
    "Torch7": lambda: [torch.BatchNormalization(HIDDEN)],
    "PyTorch": lambda: [torch.BatchNorm1d(HIDDEN)],
    "PyTorch, momentum=None": lambda: [torch.BatchNorm1d(HIDDEN, momentum=None)],
    "Caffe": lambda: [caffe.BatchNorm(features=HIDDEN), caffe.Scale(bias_term=True, features=HIDDEN)],
    "PuzzleLib": lambda: [puzzlelib.BatchNorm(HIDDEN)],
    "GoMLX": lambda: [gomlx.BatchNormalization(features=HIDDEN)],
    "Keras": lambda: [keras.BatchNormalization(features=HIDDEN)],
    "ONNX": lambda: [onnx.BatchNormalization(features=HIDDEN)],
}
"""The normalization of each system; Caffe's is made of two layers."""


def load(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and digits to train on, and to test on."""
    bunch = load_digits()
    images, labels = (bunch.data / 16).astype(np.float32), bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    tests, trains = np.split(order, [len(order) // 4])
    return images[trains], labels[trains], images[tests], labels[tests]


def train(name: str, data: tuple[np.ndarray, ...], options: argparse.Namespace) -> str:
    """Train the network with one system's normalization; return its row of the table."""
    images, labels, test_images, test_labels = data
    stages = SYSTEMS[name]()
    network = Sequence(
        [Linear(64, HIDDEN, use_bias=False, name="hidden"), *stages, Rectifier(), Linear(HIDDEN, 10, name="output")],
        seed=options.seed,
    )
    x, y = mg.matrix("x", shape=(None, 64)), mg.lvector("y")
    with batch_normalization(network):
        cost = mg.softmax_crossentropy(network.apply(x), y).mean()
    graph = mg.ComputationGraph(cost)

    # the averages of all systems but Blocks' follow by themselves; Blocks leaves the rule to the user
    pairs = moving_average(get_batch_normalization_updates(graph), new_weight=0.1) if name == "Blocks" else []
    updates = momentum(cost, graph.parameters, 0.1, 0.9) + pairs
    step = mg.function([x, y], cost, updates=updates, backend=options.backend)
    inference = network.apply(x)
    accuracy = mg.function([x, y], mg.mean(mg.eq(mg.argmax(inference, axis=1), y)), backend=options.backend)

    rng = np.random.default_rng(options.seed)
    for _ in tqdm(range(options.epochs), desc=name, disable=None, leave=False):
        order = rng.permutation(len(images))
        for rows in np.array_split(order, len(order) // options.batch_size):
            step(images[rows], labels[rows])

    (layer,) = find_layers(network, lambda one: isinstance(one, PopulationNormalization))
    learned = (layer.convention.scale, layer.convention.shift)
    stored = {one: value.flat[0] for one, value in layer.get_values().items() if one not in learned}
    (gap,) = population_gap(inference, images[rows], backend=options.backend).layers
    own = float(accuracy(test_images, test_labels))
    recompute_population_statistics(inference, [images], backend=options.backend)
    recomputed = float(accuracy(test_images, test_labels))
    shown = ", ".join(f"{one} {value:.4g}" for one, value in stored.items())
    return f"{name:<24}{own:>9.2%}{recomputed:>12.2%}{np.sqrt(np.mean(gap.means**2)):>8.3f}  {shown}"


def main(arguments: list[str] | None = None) -> list[str]:
    """Train under every system, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=between(1, 100_000), default=3)
    parser.add_argument("--batch-size", type=between(2, 100_000), default=32)
    parser.add_argument("--seed", type=between(0, 2**32 - 1), default=1)
    parser.add_argument("--backend", choices=["native", "numpy", "cupy"])
    options = parser.parse_args(arguments)
    data = load(options.seed)
    if options.batch_size > len(data[1]):
        parser.error(f"a batch must have at most the {len(data[1])} digits that there are to train on")
    print(f"{'system':<24}{'accuracy':>9}{'recomputed':>12}{'gap':>8}  stored for the first feature")
    rows = []
    for name in SYSTEMS:
        rows.append(train(name, data, options))
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
