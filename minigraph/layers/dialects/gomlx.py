"""Batch normalization as GoMLX has it: `New(feature_axis)...` as a layer, `update_averages`, `reset_weights`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.layers.base import Layer, find_layers
from minigraph.layers.conventions import Convention, Variance
from minigraph.layers.dialects.base import DialectNormalization
from minigraph.layers.initialization import Constant
from minigraph.layers.population import Freeze, Pairs
from minigraph.layers.roles import BATCH_NORM_POPULATION_WEIGHT
from minigraph.state import assign, locked
from minigraph.transforms.averages import gomlx_average

GOMLX = Convention(
    "GoMLX",
    ("scale", "offset", "mean", "variance", "avg_weight"),
    scale="scale",
    shift="offset",
    mean="mean",
    spread="variance",
    storage=Variance(),
    epsilon=1e-3,
    count="avg_weight",
    counts_features=True,
)


class BatchNormalization(DialectNormalization):
    """GoMLX' layer: the n-th minibatch weighs 1 - min(momentum, 1 - 1 / n), where `avg_weight` counts for each feature.

    feature_axis: what is *not* averaged over; negative counts from the end, several are allowed. center, scale: whether an
    offset and a scale are learned. frozen_averages: training uses the stored statistics and keeps them. trainable=False:
    nothing changes, and training is inference.
    """

    def __init__(
        self,
        feature_axis: int | Sequence[int] = -1,
        *,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        frozen_averages: bool = False,
        trainable: bool = True,
        **options: Any,
    ) -> None:
        frozen = Freeze.STATISTICS if frozen_averages else Freeze.NOTHING
        super().__init__(
            GOMLX,
            epsilon,
            kept_axes=feature_axis,
            learn_scale=scale,
            learn_shift=center,
            freeze=frozen if trainable else Freeze.EVERYTHING,
            **options,
        )
        self.momentum = momentum

    def allocate_parameters(self) -> None:
        super().allocate_parameters()
        self.add_parameter("avg_weight", self.parameter_shape(), Constant(0.0), BATCH_NORM_POPULATION_WEIGHT)

    def rule(self, pairs: Pairs) -> Pairs:
        return gomlx_average(pairs, self.momentum, self.variables["avg_weight"])


def reset_weights(*tops: Layer) -> None:
    """Forget how many minibatches the averages of all layers at or below `tops` come from: the next one overwrites them."""
    layers = find_layers(tops, lambda layer: isinstance(layer, BatchNormalization) and layer.allocated)
    cells = [layer.variables["avg_weight"].cell for layer in layers]
    with locked(cells):
        assign(cells, [np.zeros_like(cell.value) for cell in cells])
