"""Layers in training mode."""

from typing import Any

from minigraph.layers import batch_normalization


def trained(layer: Any, x: Any, *args: Any, **options: Any) -> Any:
    """The layer's training-mode output."""
    with batch_normalization(layer):
        return layer.apply(x, *args, **options)
