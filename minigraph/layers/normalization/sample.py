"""Normalizations that take their statistics from each sample alone, and so are the same in training and inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.types import as_ints, check_axes
from minigraph.layers.core.application import application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import Constant, agree, as_initializer
from minigraph.layers.core.roles import BIAS, PARAMETER
from minigraph.layers.core.settings import Setting, flag
from minigraph.layers.normalization.masks import checked_mask
from minigraph.ops.array.shape import expand_dims, reshape, shape
from minigraph.ops.reduce.normalization import DivideByLength, check_epsilon, standardize


class SampleNormalization(Layer):
    """The base of layers that normalize each sample apart, times a scale, plus a shift, which vary along some axes of x.

    input_dim: the sizes of those axes, inferred at the first application if left out. epsilon: added to the variance.
    scale_init, shift_init: initializers, numbers, arrays or variables; 1 and 0 by default. learn_scale, learn_shift: whether
    there is a scale, else 1, and a shift, else 0.
    """

    fixed_when_allocated = frozenset({"input_dim", "scale_init", "shift_init", "learn_scale", "learn_shift"})
    epsilon = Setting(lambda given, what: check_epsilon(given))
    learn_scale, learn_shift = Setting(flag), Setting(flag)

    def __init__(
        self,
        input_dim: int | Sequence[int] | None = None,
        *,
        epsilon: float = 1e-5,
        scale_init: Any = None,
        shift_init: Any = None,
        learn_scale: bool = True,
        learn_shift: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.input_dim = None if input_dim is None else as_ints(input_dim, "input_dim", 1)
        self.epsilon = epsilon
        self.scale_init = Constant(1.0) if scale_init is None else as_initializer(scale_init, "scale_init")
        self.shift_init = Constant(0.0) if shift_init is None else as_initializer(shift_init, "shift_init")
        self.learn_scale, self.learn_shift = learn_scale, learn_shift

    def scaled_axes(self, x: Variable) -> tuple[int, ...]:
        """The axes of x along which scale and shift vary."""
        raise TypeError(f"{type(self).__name__} does not define scaled_axes")

    def normalized(self, x: Variable) -> Variable:
        """x normalized."""
        raise TypeError(f"{type(self).__name__} does not define normalized")

    def infer_sizes(self, *inputs: Variable) -> None:
        if self.input_dim is None and inputs:
            sizes = tuple(inputs[0].type.shape[axis] for axis in self.scaled_axes(inputs[0]))
            self.input_dim = None if None in sizes else tuple(size or 0 for size in sizes)

    def allocate_parameters(self) -> None:
        self.need(input_dim=self.input_dim)
        if self.learn_scale:
            self.add_parameter("scale", self.input_dim or (), self.scale_init, PARAMETER)
        if self.learn_shift:
            self.add_parameter("shift", self.input_dim or (), self.shift_init, BIAS)

    def input_shape(self, x: Variable) -> list[int | None]:
        sizes = dict(zip(self.scaled_axes(x), self.input_dim or (), strict=True))
        return [sizes.get(axis) for axis in range(x.ndim)]

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            if x.dtype.kind != "f":
                raise InvalidTypeError(f"{self!r} takes floats, not {x!r}; cast them first")
            sizes = tuple(x.type.shape[axis] for axis in self.scaled_axes(x))
            if not agree(sizes, self.input_dim or ()):
                raise InvalidValueError(f"{self!r} was made for features of shape {self.input_dim}, not for {x!r}")

    @application
    def apply(self, x: Variable) -> Variable:
        """x normalized, times scale, plus shift."""
        return self.scaled(self.normalized(x))

    def scaled(self, x: Variable) -> Variable:
        """x times scale, plus shift."""
        result = x
        axes, sizes = self.scaled_axes(x), self.input_dim or ()
        pattern = tuple(sizes[axes.index(axis)] if axis in axes else 1 for axis in range(x.ndim))
        if self.learn_scale:
            result = result * reshape(self.parameter("scale"), pattern)
        return result + reshape(self.parameter("shift"), pattern) if self.learn_shift else result


class LayerNormalization(SampleNormalization):
    """Each sample normalized over its features (Ba et al. 2016).

    input_dim: the sizes of the axes that are normalized over; inferred at the first application if left out. axes: these axes,
    the last one by default. Other arguments: see `SampleNormalization`.

    >>> mg.layers.LayerNormalization(epsilon=0.0).apply(mg.constant([[1.0, 3.0], [2.0, 8.0]])).eval().tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    fixed_when_allocated = frozenset({"axes"})

    def __init__(self, input_dim: int | Sequence[int] | None = None, *, axes: int | Sequence[int] = -1, **options: Any) -> None:
        super().__init__(input_dim, **options)
        self.axes = axes

    def scaled_axes(self, x: Variable) -> tuple[int, ...]:
        return check_axes(self.axes, x.ndim)

    def normalized(self, x: Variable) -> Variable:
        return standardize(x, self.axes, self.epsilon)[0]


class RMSNormalization(LayerNormalization):
    """Each sample divided by the root of its features' mean square plus epsilon (Zhang and Sennrich 2019).

    Arguments are those of `LayerNormalization`; there is no shift by default.

    >>> mg.layers.RMSNormalization(epsilon=0.0).apply(mg.constant([[1.0, 7.0]])).eval().round(2).astype(str).tolist()
    [['0.2', '1.4']]
    """

    def __init__(self, input_dim: int | Sequence[int] | None = None, *, learn_shift: bool = False, **options: Any) -> None:
        super().__init__(input_dim, learn_shift=learn_shift, **options)

    def normalized(self, x: Variable) -> Variable:
        return DivideByLength(self.scaled_axes(x), self.epsilon, averaged=True)(x)


class ChannelNormalization(SampleNormalization):
    """(batch, channels, *spatial) normalized over positions, and perhaps over channels, of each sample."""

    least_axes = 3
    """The smallest number of axes that an input may have."""

    def scaled_axes(self, x: Variable) -> tuple[int, ...]:
        if x.ndim < self.least_axes:
            spatial = " with at least one spatial axis" if self.least_axes > 2 else ""
            raise InvalidValueError(f"{self!r} takes (batch, channels, *spatial){spatial}, not {x!r}")
        return (1,)

    def normalized_where(self, x: Variable, mask: Variable | None) -> Variable:
        """x normalized by the elements that a mask with the axes of x leaves, all without one."""
        raise TypeError(f"{type(self).__name__} does not define normalized_where")

    @application
    def apply(self, x: Variable, *, mask: Variable | None = None, lengths: Variable | None = None) -> Variable:
        """x normalized, times scale, plus shift.

        mask: where it is 0 an element counts for nothing, and is normalized to 0; it has the axis of the batch and then spatial
        axes, or all axes of x. lengths: instead of a mask, how many positions of each sample there are along the first spatial
        axis.
        """
        return self.scaled(self.normalized_where(x, checked_mask(x, mask, lengths, tuple(range(2, x.ndim)))))


class GroupNormalization(ChannelNormalization):
    """(batch, channels, *spatial) normalized over each group of channels and all positions (Wu and He 2018).

    groups: the number of groups. channels: the number of channels, inferred at the first application if left out. Other
    arguments: see `SampleNormalization`.

    >>> layer = mg.layers.GroupNormalization(2)
    >>> layer.apply(mg.tensor4("x", shape=(None, 6, 8, 8))).type.shape, layer.variables["scale"].type.shape
    ((None, 6, 8, 8), (6,))
    """

    fixed_when_allocated = frozenset({"groups"})
    least_axes = 2

    def __init__(self, groups: int, channels: int | None = None, **options: Any) -> None:
        super().__init__(channels, **options)
        if isinstance(groups, bool) or not isinstance(groups, int | np.integer) or groups < 1:
            raise InvalidValueError(f"groups must be an int of 1 or more, not {groups!r}")
        self.groups = int(groups)

    def allocate_parameters(self) -> None:
        self.need(channels=self.input_dim)
        if (self.input_dim or (0,))[0] % self.groups:
            raise InvalidValueError(f"{self!r}: {self.input_dim} channels do not fall into {self.groups} equal groups")
        super().allocate_parameters()

    def normalized_where(self, x: Variable, mask: Variable | None) -> Variable:
        (channels,) = self.input_dim or (0,)
        batch, _, *spatial = shape(x)

        def grouped(values: Variable) -> Variable:
            if values.type.shape[1] == 1 != channels:
                return expand_dims(values, 2)
            return reshape(values, (shape(values)[0], self.groups, channels // self.groups, *shape(values)[2:]))

        axes = tuple(range(2, x.ndim + 1))
        x_hat = standardize(grouped(x), axes, self.epsilon, mask=None if mask is None else grouped(mask))[0]
        return reshape(x_hat, (batch, channels, *spatial))


class InstanceNormalization(ChannelNormalization):
    """(batch, channels, *spatial) normalized over the positions of each channel of each sample (Ulyanov et al. 2016).

    >>> layer = mg.layers.InstanceNormalization()
    >>> layer.apply(mg.tensor4("x", shape=(None, 6, 8, 8))).type.shape, layer.variables["scale"].type.shape
    ((None, 6, 8, 8), (6,))
    """

    def normalized_where(self, x: Variable, mask: Variable | None) -> Variable:
        return standardize(x, tuple(range(2, x.ndim)), self.epsilon, mask=mask)[0]
