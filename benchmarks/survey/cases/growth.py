"""Training of multilayer perceptrons along batch, width and depth."""

from __future__ import annotations

from typing import Any

from survey.case import Case, integers, normal, of_product, together, weights, zeros

FAMILY = "growth"
SIZES = (
    *((batch, 256, 3) for batch in (2, 16, 128, 1024, 4096)), *((64, width, 3) for width in (32, 128, 512, 1024)),
    *((64, 128, depth) for depth in (2, 8, 32)),
)  # fmt: skip
"""Batch, width and depth."""


def logits(xp: Any, x: Any, *parameters: Any) -> Any:
    """The outputs of a network of linear layers, with relu between them."""
    for k in range(0, len(parameters) - 2, 2):
        x = xp.relu(x @ parameters[k] + parameters[k + 1])
    return x @ parameters[-2] + parameters[-1]


def cost(xp: Any, x: Any, classes: Any, *parameters: Any) -> Any:
    """The mean crossentropy of the network."""
    return xp.crossentropy(logits(xp, x, *parameters), classes)


def network(width: int, depth: int, classes: int = 10) -> Any:
    """The weights and biases of as many layers, and of one for the classes."""
    layers = [(width, width)] * depth + [(width, classes)]
    return together(*(draw for shape in layers for draw in (weights(shape), zeros(shape[1:]))))


def training(batch: int, width: int, depth: int, **options: Any) -> Case:
    """A step of training."""
    draw = together(normal((batch, width)), integers((batch,), below=10), network(width, depth))
    flops = depth * of_product(batch, width, width) + of_product(batch, width, 10)
    name = options.pop("name", f"MLP, batch {batch}, width {width}, depth {depth}, training")
    places = tuple(range(2, 4 + 2 * depth))
    return Case(name, options.pop("family", FAMILY), draw, cost, 3 * flops, parameters=places, trains=True, **options)


def _inference(batch: int, width: int, depth: int) -> Case:
    """The logits of a batch."""
    draw = together(normal((batch, width)), network(width, depth))
    flops = depth * of_product(batch, width, width) + of_product(batch, width, 10)
    name = f"MLP, batch {batch}, width {width}, depth {depth}, inference"
    return Case(name, FAMILY, draw, logits, flops, parameters=tuple(range(1, 3 + 2 * depth)))


CASES = [
    *(training(*sizes, asks=("torch compiled", "pytensor") if sizes == (128, 256, 3) else ()) for sizes in SIZES),
    *(_inference(*sizes) for sizes in ((1, 256, 3), (64, 256, 3), (1, 1024, 3), (1024, 512, 3))),
]
