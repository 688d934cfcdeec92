"""Layers, whether they are in training mode, and what they compute by the textbook."""

from typing import Any

import numpy as np

import minigraph as mg
from minigraph.layers import BatchNormalizedMLP, Rectifier, Tanh, batch_normalization
from minigraph.layers.core.roles import BATCH_NORM_MINIBATCH_ESTIMATE


def trained(layer: Any, x: Any, *args: Any, **options: Any) -> Any:
    """The layer's training-mode output."""
    with batch_normalization(layer):
        return layer.apply(x, *args, **options)


def populations(layer):
    """What a layer stores of its population, in order."""
    return [one.get_value() for one in layer.population_statistics]


def normalized(values, axes, epsilon=1e-4):
    """Values normalized over some axes, their mean and deviation, in float64."""
    wide = values.astype("float64")
    mean, stdev = wide.mean(axes, keepdims=True), np.sqrt(wide.var(axes, keepdims=True) + epsilon)
    return (wide - mean) / stdev, mean, stdev


def is_training(variable):
    """Whether a graph holds a minibatch estimate."""
    return bool(mg.VariableFilter(roles=[BATCH_NORM_MINIBATCH_ESTIMATE])(mg.ComputationGraph(variable).variables))


def stacked():
    """Two normalizations, one above the other."""
    return BatchNormalizedMLP([Tanh(), Rectifier()], [4, 5, 3])
