"""Batch normalization as Blocks has it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.types import as_int, as_sizes, check_axis
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import agree
from minigraph.layers.core.modes import training
from minigraph.layers.core.settings import Setting, State, flag, or_none
from minigraph.layers.core.tree import find_layers
from minigraph.layers.normalization.conventions import BLOCKS, Convention
from minigraph.layers.normalization.population import PopulationNormalization
from minigraph.ops.array.shape import expand_dims
from minigraph.ops.linear.layouts import as_layout, has_channels_last

Axis = int | str


def _as_rows(given: Any) -> Any:
    """A number of populations, None for 0."""
    is_zero = isinstance(given, int | np.integer) and not isinstance(given, bool) and given == 0
    return None if is_zero else given


class BatchNormalization(PopulationNormalization):
    """Features made to have mean 0 and deviation 1, then scaled and shifted (Ioffe and Szegedy 2015), as Blocks has it.

    In inference, the default, the statistics are the layer's `population_mean` and `population_stdev`, which start as 0 and 1,
    so that a fresh layer is the identity. Inside `batch_normalization(...)` they are those of the minibatch, and the graph
    remembers them as pairs: see `minigraph.transforms.get_batch_normalization_updates`.

    input_dim: an int, or the shape without the batch axis; inferred at the first application if left out.
    broadcastable: for each of those axes whether it is averaged over, too; its parameters then have size 1 there.
    conserve_memory: accepted for the sake of Blocks' models; memory is planned when a function is compiled, either way.
    epsilon: added to the variance, inside the root, when statistics are taken.
    mean_only: subtract the mean and divide by nothing; then there is no scale.
    learn_scale, learn_shift: whether there is a learned scale (else 1) and shift (else 0).
    scale_init, shift_init: initializers, numbers, arrays or variables for these; 1 and 0 by default.
    n_iter: keep that many populations, for time steps or domains; `apply(x, i)` then uses number i, or the last beyond it.
        0 is None, as in Blocks.
    feature_axes: instead of broadcastable, the axes of the input that are not averaged over, by number or name.
    axis_names: names of all axes of the input. Where some are "batch" and "time", lengths are those of the former's rows along
        the latter.
    convention: the statistics that are stored, and their names. By those of Blocks, the default, the variables also are
        attributes: `layer.scale`, `.shift`, `.population_mean`, `.population_stdev`.
    freeze, virtual_batch_size, all_reduce: see `PopulationNormalization`.

    >>> layer = mg.layers.BatchNormalization(feature_axes=["channel"], axis_names=["batch", "time", "channel"])
    >>> y = layer.apply(mg.tensor3("x", shape=(None, None, 4)))
    >>> layer.variables["scale"].type.shape
    (1, 4)
    """

    fixed_when_made = frozenset({"broadcastable", "feature_axes", "axis_names"})
    fixed_when_allocated = frozenset({"input_dim"})
    input_dim, conserve_memory = Setting(or_none(as_sizes)), Setting(flag)
    scale = State("The factor of normalized values.")
    shift = State("The term that is added to them.")
    population_mean = State("The mean of the population.")
    population_stdev = State("The deviation of the population.")

    def __init__(
        self,
        input_dim: int | Sequence[int] | None = None,
        broadcastable: Sequence[bool] | None = None,
        conserve_memory: bool = True,
        epsilon: float = 1e-4,
        scale_init: Any = None,
        shift_init: Any = None,
        mean_only: bool = False,
        learn_scale: bool = True,
        learn_shift: bool = True,
        n_iter: int | None = None,
        *,
        feature_axes: Axis | Sequence[Axis] | None = None,
        axis_names: Sequence[str] | None = None,
        convention: Convention = BLOCKS,
        **options: Any,
    ) -> None:
        super().__init__(
            convention,
            epsilon,
            scale_init=scale_init,
            shift_init=shift_init,
            mean_only=mean_only,
            learn_scale=learn_scale,
            learn_shift=learn_shift,
            n_iter=_as_rows(n_iter),
            **options,
        )
        if broadcastable is not None and feature_axes is not None:
            raise InvalidValueError("broadcastable and feature_axes say the same thing; leave one out")
        self.input_dim = input_dim
        for what, listed in (("broadcastable", broadcastable), ("axis_names", axis_names)):
            if listed is not None and not isinstance(listed, list | tuple):
                raise InvalidTypeError(f"{what} must be a sequence with one entry for each axis, not {listed!r}")
        self.broadcastable = (
            None if broadcastable is None else tuple(flag(one, "broadcastable, for each axis,") for one in broadcastable)
        )
        self.conserve_memory = conserve_memory
        self.axis_names = None if axis_names is None else tuple(axis_names)
        self.feature_axes = None if feature_axes is None else _as_axes(feature_axes)
        self._settle_axes()

    def _settle_axes(self) -> None:
        """Settle which axes are averaged over, as soon as their number is known; ValueError for axes that do not fit."""
        if self.input_dim is None:
            return
        ndim = len(self.input_dim) + 1
        if self.axis_names is not None and len(self.axis_names) != ndim:
            raise InvalidValueError(f"{self!r}: axis_names {self.axis_names} name {len(self.axis_names)} axes, not {ndim}")
        if self.feature_axes is not None and self.broadcastable is None:
            kept = [self._axis_number(axis, ndim) for axis in self.feature_axes]
            if 0 in kept:
                raise InvalidValueError(f"{self!r}: axis 0, that of the batch, is always averaged over")
            self.broadcastable = tuple(axis not in kept for axis in range(1, ndim))
        if self.broadcastable is not None and len(self.broadcastable) != ndim - 1:
            raise InvalidValueError(
                f"{self!r}: input_dim {self.input_dim} has {ndim - 1} axes, broadcastable {self.broadcastable} has "
                f"{len(self.broadcastable)}"
            )

    def _axis_number(self, axis: Axis, ndim: int) -> int:
        """The number of an axis that is given by number or name."""
        if not isinstance(axis, str):
            return check_axis(axis, ndim)
        if self.axis_names is None or axis not in self.axis_names:
            raise InvalidValueError(f"{self!r}: no axis is named {axis!r}; axis_names is {self.axis_names}")
        return self.axis_names.index(axis)

    # -- sizes -------------------------------------------------------------------------------------------------------

    def infer_sizes(self, *inputs: Variable) -> None:
        if self.input_dim is None and inputs:
            if inputs[0].ndim < 2:
                raise InvalidValueError(f"{self!r} takes a batch axis and at least one axis of features, not {inputs[0]!r}")
            self.input_dim = inputs[0].type.shape[1:]
        self._settle_axes()

    @property
    def averaged(self) -> tuple[bool, ...]:
        """For each axis but that of the batch, whether it is averaged over."""
        return self.broadcastable or (False,) * len(self.input_dim or ())

    def averaged_axes(self, x: Variable) -> tuple[int, ...]:
        return (0, *(axis + 1 for axis, averaged in enumerate(self.averaged) if averaged))

    def axes_of_lengths(self) -> tuple[int, int] | None:
        names = self.axis_names or ()
        return (names.index("batch"), names.index("time")) if {"batch", "time"} <= set(names) else None

    def parameter_shape(self) -> tuple[int, ...]:
        self.need(input_dim=self.input_dim)
        shape: list[int] = []
        for axis, (size, averaged) in enumerate(zip(self.input_dim or (), self.averaged, strict=True)):
            if size is None and not averaged:
                raise InvalidValueError(f"{self!r}: the size of axis {axis + 1} is not known; give input_dim")
            shape.append(1 if averaged or size is None else size)
        return tuple(shape)

    def stretched(self, parameter: Variable, x: Variable) -> Variable:
        return expand_dims(parameter, 0)

    def input_shape(self, x: Variable) -> list[int | None]:
        sizes = zip(self.input_dim or (), self.averaged, strict=True)
        return [None, *(None if averaged else size for size, averaged in sizes)]

    def check_inputs(self, *inputs: Variable) -> None:
        super().check_inputs(*inputs)
        for x in inputs[:1]:
            if not agree(self.input_shape(x), x.type.shape):
                raise InvalidValueError(f"{self!r} takes a batch of shape {self.input_dim}, not {x!r}")


def _as_axes(given: Any) -> list[Axis]:
    """Axes by number or name as a list; TypeError for anything else."""
    listed = list(given) if isinstance(given, list | tuple) else [given]
    return [axis if isinstance(axis, str) else as_int(axis, "feature_axes") for axis in listed]


class SpatialBatchNormalization(BatchNormalization):
    """Batch normalization of (channels, *spatial) that averages over the batch and all spatial axes.

    input_dim: the shape without the batch axis, in which spatial sizes may be None. layout: "NHWC", or its like, for images
    with the channels last. Other arguments: see `BatchNormalization`.

    >>> layer = mg.layers.SpatialBatchNormalization()
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 28, 28))).type.shape, layer.scale.type.shape
    ((None, 3, 28, 28), (3, 1, 1))
    """

    fixed_when_allocated = frozenset({"layout"})
    layout = Setting(as_layout)

    def __init__(self, input_dim: Sequence[int] | None = None, *, layout: str | None = None, **options: Any) -> None:
        if input_dim is not None and len(as_sizes(input_dim, "input_dim")) < 2:
            raise InvalidValueError(f"input_dim must be (channels, *spatial) with at least one spatial axis, not {input_dim!r}")
        for name in ("broadcastable", "feature_axes"):
            if name in options:
                raise InvalidTypeError(f"SpatialBatchNormalization averages over all spatial axes: it takes no {name}")
        self.layout = layout
        super().__init__(input_dim, feature_axes=1, **options)

    def _settle_axes(self) -> None:
        if self.input_dim is not None and len(self.input_dim) > 1:
            self.feature_axes = [len(self.input_dim) if has_channels_last(self.layout, len(self.input_dim) - 1) else 1]
        super()._settle_axes()

    def infer_sizes(self, *inputs: Variable) -> None:
        super().infer_sizes(*inputs)
        if len(self.input_dim or (0, 0)) < 2:
            raise InvalidValueError(f"{self!r} takes (batch, channels, *spatial), not {inputs[0]!r}")


def batch_normalization(*layers: Layer) -> AbstractContextManager[None]:
    """Build training-mode graph inside the block for every layer at or below these that keeps a population.

    The mode is fixed when the graph is built. Blocks nest, can be entered again, are left as they were entered, also
    by an exception, and hold for the current thread alone. Without layers nothing changes, as in Blocks.

    >>> x, layer = mg.matrix("x"), mg.layers.BatchNormalization(4)
    >>> with mg.layers.batch_normalization(layer):
    ...     y = layer.apply(x)
    >>> [population.name for population, _ in mg.transforms.get_batch_normalization_updates(y)]
    ['population_mean', 'population_stdev']
    """
    found = find_layers(layers, lambda layer: isinstance(layer, PopulationNormalization))
    return training(*found) if found else nullcontext()
