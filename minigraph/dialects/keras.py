"""Batch normalization as Keras has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.dialects.base import TrainableNormalization, as_weight
from minigraph.layers.core.settings import Setting, flag
from minigraph.layers.normalization.conventions import Convention, Variance
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.transforms.averages import averaged

KERAS = Convention("Keras", "gamma", "beta", "moving_mean", "moving_variance", Variance(), 1e-3)


class BatchNormalization(TrainableNormalization):
    """Keras' layer: `axis` is not averaged over, and `momentum` is the weight of the *old* average, which with 1 stays.

    epsilon: added to the variance. center, scale: whether there are beta and gamma. beta_initializer, gamma_initializer,
    moving_mean_initializer, moving_variance_initializer: initializers, numbers, arrays or variables. trainable=False: training
    is inference, and nothing learns; it can also be set later, for graphs that are built from then on. Masks are given to
    `apply`.

    >>> layer = mg.dialects.keras.BatchNormalization()
    >>> layer.apply(mg.matrix("x", shape=(None, 3))).type.shape, layer.listed()
    ((None, 3), ['gamma', 'beta', 'moving_mean', 'moving_variance'])
    """

    momentum = Setting(as_weight)

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = 0.0,
        gamma_initializer: Any = 1.0,
        moving_mean_initializer: Any = 0.0,
        moving_variance_initializer: Any = 1.0,
        *,
        trainable: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            KERAS,
            epsilon,
            kept_axes=axis,
            scale_init=gamma_initializer,
            shift_init=beta_initializer,
            learn_scale=flag(scale, "scale"),
            learn_shift=flag(center, "center"),
            population_init={"moving_mean": moving_mean_initializer, "moving_variance": moving_variance_initializer},
            trainable=trainable,
            **options,
        )
        self.momentum = momentum

    def rule(self, pairs: Pairs) -> Pairs:
        return averaged(pairs, 1 - self.momentum)
