"""Build and compile a graph from expressions alone: logistic regression on two classes of handwritten digits."""

from __future__ import annotations

import argparse

import numpy as np
from command_line import between
from sklearn.datasets import load_digits

import minigraph as mg


def main(arguments: list[str] | None = None) -> float:
    """Train on the digits 3 and 8, and return the accuracy on those held back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=between(1, 1_000_000), default=200)
    parser.add_argument("--backend", choices=["native", "numpy", "cupy"])
    options = parser.parse_args(arguments)
    bunch = load_digits()
    chosen = np.isin(bunch.target, (3, 8))
    images, labels = (bunch.data[chosen] / 16).astype("float32"), (bunch.target[chosen] == 8).astype("float32")

    # expressions: inputs, state, and what is computed from them
    x, y = mg.matrix("x"), mg.vector("y")
    w, b = mg.shared(np.zeros(64, "float32"), "w"), mg.shared(0.0, "b")
    logits = x @ w + b
    cost = mg.sigmoid_binary_crossentropy(logits, y).mean() + 1e-3 * mg.sum(w**2)
    dw, db = mg.grad(cost, [w, b])
    print("cost =", mg.pprint(cost))

    # compiled functions: one that also updates the state, one that does not
    train = mg.function([x, y], cost, updates=[(w, w - 0.5 * dw), (b, b - 0.5 * db)], backend=options.backend)
    predict = mg.function([x], mg.Out(logits > 0, host=True), backend=options.backend)

    held_back = np.arange(len(labels)) % 4 == 0
    for step in range(options.steps):
        loss = float(train(images[~held_back], labels[~held_back]))
        if step % 50 == 0:
            print(f"step {step:3d}: cost {loss:.4f}")
    accuracy = float(np.mean(predict(images[held_back]) == labels[held_back]))
    print(f"accuracy on {held_back.sum()} digits held back: {accuracy:.2%}")
    print(train.profile(images, labels))
    return accuracy


if __name__ == "__main__":
    main()
