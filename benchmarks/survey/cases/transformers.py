"""Transformers: blocks, attention, embeddings, normalization, and the cost over many classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from survey.case import Case, Draw, integers, normal, of_product, ones, together, weights, zeros

FAMILY = "transformers"
HEADS, SIZE = 4, 64
WIDTH = HEADS * SIZE


def causal(time: int) -> Draw:
    """A matrix that hides the future from the present when it is added to scores."""
    return lambda rng: [np.triu(np.full((time, time), -1e9, "float32"), 1)]


def _attended(xp: Any, x: Any, w: Any, out: Any, batch: int, time: int, mask: Any) -> Any:
    """Attention of all heads, between two products."""
    heads = xp.transpose(xp.reshape(x @ w, (batch, time, 3, HEADS, SIZE)), (2, 0, 3, 1, 4))
    mixed = xp.transpose(xp.attention(heads[0], heads[1], heads[2], SIZE, mask), (0, 2, 1, 3))
    return xp.reshape(mixed, (batch * time, WIDTH)) @ out


def _block(xp: Any, batch: int, time: int, x: Any, mask: Any, *parameters: Any) -> Any:
    """A block that normalizes first, of rows for every position."""
    g1, b1, w, out, g2, b2, up, down = parameters
    x = x + _attended(xp, xp.layer_norm(x, g1, b1), w, out, batch, time, mask)
    return x + xp.gelu(xp.layer_norm(x, g2, b2) @ up) @ down


def _parameters() -> list[Draw]:
    """The parameters of a block."""
    norm = [ones((WIDTH,)), zeros((WIDTH,))]
    inner = weights((WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))
    return [*norm, weights((WIDTH, 3 * WIDTH), (WIDTH, WIDTH)), *norm, inner]


def _blocks(batch: int, time: int) -> list[Case]:
    """Training and inference of a block."""
    rows = batch * time
    flops = of_product(rows, WIDTH, 12 * WIDTH) + 2 * batch * HEADS * of_product(time, SIZE, time)
    draw = together(normal((rows, WIDTH)), causal(time), *_parameters())
    where = f"block of width {WIDTH}, {batch}x{time}"
    places = tuple(range(2, 10))
    asks = ("torch compiled",) if batch == 8 else ()

    def forward(xp: Any, *given: Any) -> Any:
        return _block(xp, batch, time, *given)

    def cost(xp: Any, *given: Any) -> Any:
        return xp.mean(xp.square(forward(xp, *given)))

    return [
        Case(f"{where}, training", FAMILY, draw, cost, 3 * flops, parameters=places, trains=True, asks=asks),
        Case(f"{where}, inference", FAMILY, draw, forward, flops, parameters=places, asks=asks),
    ]


def _attention(batch: int, time: int) -> list[Case]:
    """Attention alone, and with its gradients."""
    shape = (batch, HEADS, time, SIZE)
    draw = together(normal(shape, shape, shape), causal(time))
    flops = 2 * batch * HEADS * of_product(time, SIZE, time)

    def forward(xp: Any, q: Any, k: Any, v: Any, mask: Any) -> Any:
        return xp.attention(q, k, v, SIZE, mask)

    def cost(xp: Any, *given: Any) -> Any:
        return xp.mean(xp.square(forward(xp, *given)))

    where = f"causal attention {batch}x{HEADS}x{time}x{SIZE}"
    return [
        Case(where, FAMILY, draw, forward, flops / 2),
        Case(f"{where}, gradients", FAMILY, draw, cost, 1.5 * flops, gradients_of=(0, 1, 2)),
    ]


CLASSES = 8000
HEAD = together(normal((512, WIDTH)), integers((512,), below=CLASSES), weights((WIDTH, CLASSES)))
NORM = together(normal((4096, 512)), ones((512,)), zeros((512,)))


def _embedded(xp: Any, table: Any, words: Any) -> Any:
    """A cost of rows of a table."""
    return xp.mean(xp.square(xp.take(table, words, axis=0)))


def _layer_norm(xp: Any, x: Any, scale: Any, shift: Any) -> Any:
    """Layer normalization."""
    return xp.layer_norm(x, scale, shift)


def _rms_norm(xp: Any, x: Any, scale: Any) -> Any:
    """Rows over the root of their mean square."""
    return x / xp.sqrt(xp.mean(xp.square(x), axis=-1, keepdims=True) + 1e-5) * scale


def _gated(xp: Any, x: Any, gate: Any, up: Any, down: Any) -> Any:
    """A layer that one product gates, and another feeds."""
    return (xp.silu(x @ gate) * (x @ up)) @ down


CASES = [
    *_blocks(8, 64), *_blocks(1, 256), *_blocks(4, 256),
    *_attention(4, 128), *_attention(2, 512),
    Case(
        "cost over 8000 classes of 512x256, training", FAMILY, HEAD, lambda xp, x, classes, w: xp.crossentropy(x @ w, classes),
        3 * of_product(512, WIDTH, CLASSES), parameters=(2,), trains=True,
    ),
    Case(
        "crossentropy and gradient 1024x8000", FAMILY, together(normal((1024, CLASSES)), integers((1024,), below=CLASSES)),
        lambda xp, x, classes: xp.crossentropy(x, classes), gradients_of=(0,),
    ),
    Case(
        "logits of one position 1x256 @ 256x8000", FAMILY, together(normal((1, WIDTH)), weights((WIDTH, CLASSES))),
        lambda xp, x, w: x @ w, of_product(1, WIDTH, CLASSES), parameters=(1,),
    ),
    Case(
        "embedding of 4096 words", FAMILY, together(normal((CLASSES, WIDTH)), integers((4096,), below=CLASSES)),
        lambda xp, table, words: xp.take(table, words, axis=0), bytes=8.0 * 4096 * WIDTH,
    ),
    Case(
        "embedding of 4096 words, gradient", FAMILY, together(normal((CLASSES, WIDTH)), integers((4096,), below=CLASSES)),
        _embedded, gradients_of=(0,), bytes=4.0 * WIDTH * (4096 + CLASSES),
    ),
    Case("layer norm 4096x512", FAMILY, NORM, _layer_norm, parameters=(1, 2), asks=("pytensor",)),
    Case(
        "layer norm 4096x512, gradients", FAMILY, NORM, lambda xp, *given: xp.mean(xp.tanh(_layer_norm(xp, *given))),
        parameters=(1, 2), gradients_of=(0, 1, 2),
    ),
    Case("RMS norm 4096x512", FAMILY, together(normal((4096, 512)), ones((512,))), _rms_norm, parameters=(1,)),
    Case(
        "gated layer 512x256, inference", FAMILY, together(normal((512, 256)), weights((256, 768), (256, 768), (768, 256))),
        _gated, 3 * of_product(512, 256, 768), parameters=(1, 2, 3),
    ),
    Case(
        "bias, gelu 4096x1024", FAMILY, normal((4096, 1024), (1024,)), lambda xp, x, b: xp.gelu(x + b), parameters=(1,),
    ),
]  # fmt: skip
