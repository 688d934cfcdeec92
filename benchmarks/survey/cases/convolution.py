"""Convolutions, pooling, and blocks of convolutional networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from survey.case import Case, Draw, integers, normal, ones, shown, together, weights, without, zeros

FAMILY = "convolution"

PLAIN = {
    "3x3 of 64 channels": ((8, 64, 28, 28), (64, 64, 3, 3), 1, 1, 1),
    "3x3 of 128 channels": ((4, 128, 28, 28), (128, 128, 3, 3), 1, 1, 1),
    "3x3 of one image": ((1, 64, 56, 56), (64, 64, 3, 3), 1, 1, 1),
    "3x3 of 3 channels": ((16, 3, 32, 32), (32, 3, 3, 3), 1, 1, 1),
    "3x3 stride 2": ((8, 64, 28, 28), (128, 64, 3, 3), 2, 1, 1),
    "5x5 stride 2 of 3 channels": ((16, 3, 64, 64), (64, 3, 5, 5), 2, 2, 1),
    "7x7 stride 2 stem": ((2, 3, 224, 224), (64, 3, 7, 7), 2, 3, 1),
    "1x1 of 256 channels": ((16, 256, 14, 14), (256, 256, 1, 1), 1, 0, 1),
    "1x1 from 64 to 256": ((8, 64, 28, 28), (256, 64, 1, 1), 1, 0, 1),
    "depthwise 3x3": ((16, 64, 32, 32), (64, 1, 3, 3), 1, 1, 64),
    "depthwise 3x3 stride 2": ((16, 64, 32, 32), (64, 1, 3, 3), 2, 1, 64),
    "depthwise 5x5 of one image": ((1, 96, 56, 56), (96, 1, 5, 5), 1, 2, 96),
    "groups of 16": ((8, 64, 28, 28), (64, 16, 3, 3), 1, 1, 4),
}
"""The shapes of images and filters, stride, padding and groups."""
POOLS = {
    "2": (2, 2, 0), "3 stride 2": (3, 2, 1), "3 stride 1": (3, 1, 1), "5 stride 1": (5, 1, 2),
}  # fmt: skip
POOLED = (16, 64, 32, 32)


def _flops(images: tuple[int, ...], filters: tuple[int, ...], stride: int) -> float:
    """The operations of a convolution that keeps the size but for the stride."""
    count, _, height, width = images
    outputs, inputs, high, wide = filters
    return 2.0 * count * outputs * (height // stride) * (width // stride) * inputs * high * wide


def _convolutions() -> Iterator[Case]:
    """Every convolution alone, and with its gradients."""
    for name, (images, filters, stride, padding, groups) in PLAIN.items():

        def forward(xp: Any, x: Any, w: Any, options: Any = (stride, padding, groups)) -> Any:
            return xp.conv2d(x, w, *options)

        def cost(xp: Any, x: Any, w: Any, forward: Any = forward) -> Any:
            return xp.mean(xp.square(forward(xp, x, w)))

        draw, flops = together(normal(images), weights(filters)), _flops(images, filters, stride)
        yield Case(f"convolution {name}", FAMILY, draw, forward, flops, parameters=(1,), images=True)
        yield Case(
            f"convolution {name}, gradients", FAMILY, draw, cost, 3 * flops, parameters=(1,), gradients_of=(0, 1), images=True
        )


def _pools() -> Iterator[Case]:
    """Every kind of pooling, alone and with its gradient."""
    for name, sizes in POOLS.items():
        kinds = {
            "max": lambda xp, x, sizes=sizes: xp.max_pool(x, *sizes),
            "average": lambda xp, x, sizes=sizes: xp.average_pool(x, *sizes),
        }
        for kind, forward in kinds.items():

            def cost(xp: Any, x: Any, forward: Any = forward) -> Any:
                return xp.mean(xp.square(forward(xp, x)))

            where = f"{kind} pooling {name} of {shown(POOLED)}"
            yield Case(where, FAMILY, normal(POOLED), forward, images=True)
            yield Case(f"{where}, gradient", FAMILY, normal(POOLED), cost, gradients_of=(0,), images=True)


def _residual(xp: Any, x: Any, w1: Any, g1: Any, b1: Any, w2: Any, g2: Any, b2: Any) -> Any:
    """Two normalized convolutions, and what they are added to."""
    h = xp.relu(xp.batch_norm(xp.conv2d(x, w1, 1, 1), g1, b1))
    return xp.relu(x + xp.batch_norm(xp.conv2d(h, w2, 1, 1), g2, b2))


def _resnet_logits(xp: Any, x: Any, stem: Any, *rest: Any) -> Any:
    """The logits of a small residual network."""
    *block, out = rest
    return xp.global_pool(_residual(xp, xp.conv2d(x, stem, 1, 1), *block)) @ out


def _resnet(xp: Any, x: Any, classes: Any, *parameters: Any) -> Any:
    """The cost of the same network."""
    return xp.crossentropy(_resnet_logits(xp, x, *parameters), classes)


def _normalized(xp: Any, x: Any, scale: Any, shift: Any) -> Any:
    """Normalized images where they are positive."""
    return xp.relu(xp.batch_norm(x, scale, shift))


def _separable(xp: Any, x: Any, depthwise: Any, g1: Any, b1: Any, pointwise: Any, g2: Any, b2: Any) -> Any:
    """A depthwise convolution, and one of 1x1, both normalized."""
    h = xp.relu(xp.batch_norm(xp.conv2d(x, depthwise, 1, 1, 64), g1, b1))
    return xp.relu(xp.batch_norm(xp.conv2d(h, pointwise), g2, b2))


def _block(channels: int) -> list[Draw]:
    """The parameters of a residual block."""
    return [weights((channels, channels, 3, 3)), ones((channels,)), zeros((channels,))] * 2


SEPARABLE = [weights((64, 1, 3, 3)), ones((64,)), zeros((64,)), weights((128, 64, 1, 1)), ones((128,)), zeros((128,))]
RESNET_FLOPS = _flops((16, 3, 32, 32), (32, 3, 3, 3), 1) + 2 * _flops((16, 32, 32, 32), (32, 32, 3, 3), 1)
RESNET = together(
    normal((16, 3, 32, 32)), integers((16,), below=10), weights((32, 3, 3, 3)), *_block(32), weights((32, 10))
)  # fmt: skip
NORMALIZED = together(normal((16, 64, 32, 32)), ones((64,)), zeros((64,)))
SEPARABLE_FLOPS = _flops((8, 64, 32, 32), (64, 1, 3, 3), 1) + _flops((8, 64, 32, 32), (128, 64, 1, 1), 1)


def _temporal(xp: Any, x: Any, *filters: Any) -> Any:
    """Convolutions along time that look ever farther."""
    for k, one in enumerate(filters):
        x = x + xp.relu(xp.conv1d(x, one, 2**k, 2**k))
    return x


CASES = [
    *_convolutions(),
    *_pools(),
    Case(
        "residual network 16x3x32x32, training", FAMILY, RESNET, _resnet, 3 * RESNET_FLOPS, parameters=tuple(range(2, 10)),
        trains=True, images=True, asks=("torch compiled",),
    ),
    Case(
        "residual network 16x3x32x32, inference", FAMILY, without(1, RESNET), _resnet_logits, RESNET_FLOPS,
        parameters=tuple(range(1, 9)), images=True,
    ),
    Case(
        "separable block 8x64x32x32, training", FAMILY, together(normal((8, 64, 32, 32)), *SEPARABLE),
        lambda xp, *given: xp.mean(xp.square(_separable(xp, *given))), 3 * SEPARABLE_FLOPS, parameters=tuple(range(1, 7)),
        trains=True, images=True, asks=("torch compiled",),
    ),
    Case(
        "separable block 8x64x32x32, inference", FAMILY, together(normal((8, 64, 32, 32)), *SEPARABLE), _separable,
        SEPARABLE_FLOPS, parameters=tuple(range(1, 7)), images=True,
    ),
    Case("batch norm and relu 16x64x32x32", FAMILY, NORMALIZED, _normalized, parameters=(1, 2), images=True),
    Case(
        "batch norm and relu 16x64x32x32, gradients", FAMILY, NORMALIZED,
        lambda xp, *given: xp.mean(xp.square(_normalized(xp, *given))), parameters=(1, 2), gradients_of=(0, 1, 2), images=True,
    ),
    Case("global pooling 16x256x14x14", FAMILY, normal((16, 256, 14, 14)), lambda xp, x: xp.global_pool(x), images=True),
    Case(
        "dilated convolutions along time 8x64x512", FAMILY, together(normal((8, 64, 512)), *[weights((64, 64, 3))] * 4),
        _temporal, 4 * 2.0 * 8 * 64 * 64 * 3 * 512, parameters=(1, 2, 3, 4),
    ),
]  # fmt: skip
