"""Layers after layers: Sequence, MLP, and the MLP with batch normalization."""

from __future__ import annotations

from collections.abc import Sequence as Listed
from functools import partial
from itertools import pairwise
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.application import Application, application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.settings import listed
from minigraph.layers.linear import Linear
from minigraph.layers.normalization.batch import BatchNormalization


class Sequence(Layer):
    """Layers, or bound applications of layers, each applied to the result of the one before.

    >>> network = mg.layers.Sequence([mg.layers.Linear(4, 3), mg.layers.Tanh()])
    >>> network.apply(mg.matrix("x")).type.shape, list(network.variables)
    ((None, 3), ['linear.W', 'linear.b'])
    """

    fixed_when_made = frozenset({"stages"})

    def __init__(self, stages: Listed[Layer | Application[..., Any]], **options: Any) -> None:
        for stage in listed(stages, "stages"):
            if not isinstance(stage, Layer) and not (isinstance(stage, Application) and stage.layer is not None):
                raise InvalidTypeError(f"a sequence is made of layers, or of applications of layers, not {stage!r}")
        owners = [stage.layer if isinstance(stage, Application) else stage for stage in stages]
        super().__init__(children=[owner for owner in owners if owner is not None], **options)
        self.stages = list(stages)

    @application
    def apply(self, x: Variable) -> Variable:
        """The result of the last stage, of a chain that the first stage begins with x."""
        for stage in self.stages:
            x = stage(x)
        return x


def _check_dims(activations: Listed[Layer | None], dims: Listed[int | None], name: str) -> None:
    """ValueError unless there is one more size than activations; TypeError for anything but lists."""
    if len(listed(dims, "dims")) != len(listed(activations, "activations")) + 1:
        raise InvalidValueError(
            f"{name} of {len(activations)} layers needs {len(activations) + 1} dims, not {len(dims)}: {dims}"
        )


def _linears(dims: Listed[int | None], **options: Any) -> list[Linear]:
    """A linear layer from each size to the next."""
    return [Linear(before, after, name=f"linear_{k}", **options) for k, (before, after) in enumerate(pairwise(dims))]


def _in_turn(*layers: Listed[Layer | None]) -> list[Layer]:
    """The first layer of each list, then the second of each, and so on, without those that are None."""
    return [one for row in zip(*layers, strict=True) for one in row if one is not None]


class MLP(Sequence):
    """Linear layers, each followed by an activation.

    activations: a layer for each linear layer, or None for no activation. dims: the sizes of the input and of each linear
    layer's result; the first may be None, and is inferred. use_bias, weights_init, biases_init: those of every `Linear`.

    >>> mlp = mg.layers.MLP([mg.layers.Tanh(), mg.layers.Softmax()], [784, 100, 10])
    >>> mlp.apply(mg.matrix("x")).type.shape
    (None, 10)
    """

    fixed_when_made = frozenset({"dims"})

    def __init__(
        self,
        activations: Listed[Layer | None],
        dims: Listed[int | None],
        *,
        use_bias: bool = True,
        weights_init: Any = None,
        biases_init: Any = 0.0,
        **options: Any,
    ) -> None:
        _check_dims(activations, dims, "an MLP")
        linears = _linears(dims, use_bias=use_bias, weights_init=weights_init, biases_init=biases_init)
        super().__init__(_in_turn(linears, activations), **options)
        self.dims = list(dims)


class BatchNormalizedMLP(Sequence):
    """For each activation a Linear, a BatchNormalization, and the activation.

    activations, dims: see `MLP`. use_bias, weights_init, biases_init: those of every `Linear`, which has no bias by default,
    since the normalization would undo it. epsilon, mean_only, learn_scale, learn_shift, conserve_memory: those of every
    normalization; the last can also be set later, on the whole.

    >>> network = mg.layers.BatchNormalizedMLP([mg.layers.Rectifier(), None], [4, 8, 2])
    >>> [layer.name for layer in network.children]
    ['linear_0', 'batch_normalization_0', 'rectifier', 'linear_1', 'batch_normalization_1']
    """

    fixed_when_made = frozenset({"dims"})

    def __init__(
        self,
        activations: Listed[Layer | None],
        dims: Listed[int | None],
        *,
        use_bias: bool = False,
        weights_init: Any = None,
        biases_init: Any = 0.0,
        epsilon: float = 1e-4,
        mean_only: bool = False,
        learn_scale: bool = True,
        learn_shift: bool = True,
        conserve_memory: bool = True,
        **options: Any,
    ) -> None:
        _check_dims(activations, dims, "a BatchNormalizedMLP")
        make = partial(BatchNormalization, epsilon=epsilon, mean_only=mean_only, conserve_memory=conserve_memory)
        normalizations = [
            make(size, learn_scale=learn_scale, learn_shift=learn_shift, name=f"batch_normalization_{k}")
            for k, size in enumerate(dims[1:])
        ]
        linears = _linears(dims, use_bias=use_bias, weights_init=weights_init, biases_init=biases_init)
        super().__init__(_in_turn(linears, normalizations, activations), **options)
        self.dims = list(dims)

    @property
    def conserve_memory(self) -> bool:
        """Whether all normalizations have it; setting it sets it on all."""
        return all(one.conserve_memory for one in self.children if isinstance(one, BatchNormalization))

    @conserve_memory.setter
    def conserve_memory(self, value: bool) -> None:
        for one in self.children:
            if isinstance(one, BatchNormalization):
                one.conserve_memory = value
