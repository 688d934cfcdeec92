"""Convolutional layers, pooling, and sequences of them, over images: (batch, channels, *spatial), or with the channels last."""

from __future__ import annotations

from collections.abc import Sequence as Listed
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Input, Variable
from minigraph.core.types import TensorType, as_ints, as_sizes, default_float
from minigraph.layers.core.application import Application, application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import He, as_initializer
from minigraph.layers.core.roles import BIAS, FILTER
from minigraph.layers.core.settings import Setting, count, flag, flag_or_none, ints, or_none, size
from minigraph.layers.mlp import Sequence
from minigraph.layers.normalization.batch import SpatialBatchNormalization
from minigraph.ops.array.shape import expand_dims, flatten, moveaxis
from minigraph.ops.linear.convolution import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
from minigraph.ops.linear.layouts import as_layout, has_channels_last
from minigraph.ops.linear.pooling import average_pool, global_average_pool, max_pool

_CONVOLUTIONS = {1: conv1d, 2: conv2d, 3: conv3d}
_TRANSPOSED = {1: conv_transpose1d, 2: conv_transpose2d, 3: conv_transpose3d}


class Filtering(Layer):
    """The base of convolutional layers: filters, and biases that may be tied over space.

    filter_size: an int, or one int for each spatial axis. num_filters: the number of channels of the result. num_channels: that
    of the input; inferred at the first application if left out. step, dilation: the distance between windows, and between the
    elements of a window; an int, or one for each spatial axis. groups: the number of groups of channels that are convolved
    apart. use_bias: whether biases are added. tied_biases: one bias for each filter, else one for each filter at each place,
    for which sizes must be known. flip_filters: turn the filters round along all spatial axes, as Theano and Blocks do, and
    Lasagne by default: the convolution of mathematics in place of the correlation. layout: "NHWC", or its like, for images with
    the channels last; see `minigraph.conv2d`. weights_init, biases_init: initializers, `He()` and zeros by default.
    """

    fixed_when_allocated = frozenset(
        {
            "filter_size", "num_filters", "num_channels", "groups", "use_bias", "tied_biases", "layout", "weights_init",
            "biases_init",
        }
    )  # fmt: skip
    num_filters, num_channels, groups = Setting(count), Setting(size), Setting(count)
    step, dilation = Setting(ints(1)), Setting(ints(1))
    use_bias, tied_biases, flip_filters = Setting(flag), Setting(flag), Setting(flag)
    layout = Setting(as_layout)

    def __init__(
        self,
        filter_size: int | Listed[int],
        num_filters: int,
        num_channels: int | None = None,
        *,
        step: int | Listed[int] = 1,
        dilation: int | Listed[int] = 1,
        groups: int = 1,
        use_bias: bool = True,
        tied_biases: bool = True,
        flip_filters: bool = False,
        layout: str | None = None,
        weights_init: Any = None,
        biases_init: Any = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.filter_size = as_ints(filter_size, "filter_size", 1)
        self._same_everywhere = not isinstance(filter_size, list | tuple)
        self.num_filters, self.num_channels, self.groups = num_filters, num_channels, groups
        self.step, self.dilation = step, dilation
        self.use_bias, self.tied_biases, self.flip_filters, self.layout = use_bias, tied_biases, flip_filters, layout
        self.weights_init = He() if weights_init is None else as_initializer(weights_init, "weights_init")
        self.biases_init = as_initializer(biases_init, "biases_init")

    def infer_sizes(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            if x.ndim < 3:
                raise InvalidValueError(f"{self!r} takes (batch, channels, *spatial), not {x!r}")
            if self._same_everywhere and len(self.filter_size) == 1:
                self.filter_size *= x.ndim - 2
            self.num_channels = x.type.shape[self.channel_axis] if self.num_channels is None else self.num_channels

    @property
    def channel_axis(self) -> int:
        """The axis of the channels, in the input and in the result."""
        count = len(self.filter_size)
        return 1 + count if has_channels_last(self.layout, count) else 1

    def filter_shape(self) -> tuple[int, ...]:
        """The shape of the filters."""
        raise TypeError(f"{type(self).__name__} does not define filter_shape")

    def filtered(self, x: Variable, filters: Variable) -> Variable:
        """x convolved with filters, without biases."""
        raise TypeError(f"{type(self).__name__} does not define filtered")

    def allocate_parameters(self) -> None:
        self.need(num_channels=self.num_channels)
        if len(self.filter_size) not in _CONVOLUTIONS:
            raise InvalidValueError(f"{self!r} convolves along 1 to 3 axes, not {len(self.filter_size)}")
        self.add_parameter("W", self.filter_shape(), self.weights_init, FILTER)
        if self.use_bias and self.tied_biases:
            self.add_parameter("b", (self.num_filters,), self.biases_init, BIAS)

    def input_shape(self, x: Variable) -> list[int | None]:
        shape: list[int | None] = [None, *(None for _ in self.filter_size)]
        shape.insert(self.channel_axis, self.num_channels)
        return shape

    def drop_bias(self) -> None:
        """Do without a bias from now on."""
        with self.being_made():
            self.use_bias = False
        self.drop_parameter("b")

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            if x.ndim != len(self.filter_size) + 2 or x.type.shape[self.channel_axis] not in (None, self.num_channels):
                axes = [f"{len(self.filter_size)} spatial axes"]
                axes.insert(self.channel_axis - 1, f"{self.num_channels} channels")
                raise InvalidValueError(f"{self!r} takes (batch, {', '.join(axes)}), not {x!r}")

    @application
    def apply(self, x: Variable) -> Variable:
        """x, (batch, channels, *spatial), or in the layer's layout, convolved with the filters, plus the biases."""
        result = self.filtered(x, self.parameter("W"))
        if not self.use_bias:
            return result
        if self.tied_biases:
            return result + expand_dims(self.parameter("b"), list(range(1, result.ndim - self.channel_axis)))
        places = [size for axis, size in enumerate(result.type.shape[1:], 1) if axis != self.channel_axis]
        return result + moveaxis(self._untied_biases(tuple(places)), 0, self.channel_axis - 1)

    def _untied_biases(self, places: tuple[int | None, ...]) -> Variable:
        """A bias for each filter at each place, made when the places are known."""
        if not self.has_parameter("b"):
            if None in places:
                raise InvalidValueError(f"{self!r}: biases that are not tied need spatial sizes that are known")
            self.add_parameter("b", (self.num_filters, *(size or 0 for size in places)), self.biases_init, BIAS)
        biases = self.parameter("b")
        if biases.type.shape[1:] != places:
            raise InvalidValueError(f"{self!r} has biases for places {biases.type.shape[1:]}, not {places}")
        return biases


def _as_border(value: Any, name: str) -> Any:
    """A border mode; TypeError or ValueError for one that convolutions do not know."""
    if isinstance(value, str) and value not in ("valid", "same", "full"):
        raise InvalidValueError(f"{name} must be 'valid', 'same', 'full', or numbers, not {value!r}")
    for one in [] if value is None or isinstance(value, str) else value if isinstance(value, list | tuple) else [value]:
        as_ints(one, name, 0)
    return as_ints(value, name, 0) if isinstance(value, np.ndarray) else value


class Convolutional(Filtering):
    """Filters slid over the input: W of shape (num_filters, num_channels / groups, *filter_size), b of shape (num_filters,).

    border_mode: "valid", "same", "full", or numbers, as `padding` of `minigraph.conv2d`. Other arguments: see `Filtering`.

    >>> layer = mg.layers.Convolutional((3, 3), num_filters=8, border_mode="same")
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 28, 28))).type.shape
    (None, 8, 28, 28)
    """

    border_mode = Setting(_as_border)

    def __init__(
        self,
        filter_size: int | Listed[int],
        num_filters: int,
        num_channels: int | None = None,
        *,
        border_mode: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(filter_size, num_filters, num_channels, **options)
        self.border_mode = border_mode

    def filter_shape(self) -> tuple[int, ...]:
        if (self.num_channels or 0) % self.groups:
            raise InvalidValueError(f"{self!r}: {self.num_channels} channels do not fall into {self.groups} groups")
        return (self.num_filters, (self.num_channels or 0) // self.groups, *self.filter_size)

    def filtered(self, x: Variable, filters: Variable) -> Variable:
        mode = "valid" if self.border_mode is None else self.border_mode
        convolution = _CONVOLUTIONS[len(self.filter_size)]
        settings = self.step, mode, self.dilation, self.groups
        return convolution(x, filters, *settings, flip_filters=self.flip_filters, layout=self.layout)


class ConvolutionalTranspose(Filtering):
    """The input spread by filters, the way back of a `Convolutional` of the same step and border: W of shape
    (num_channels, num_filters / groups, *filter_size).

    border_mode: "valid", or how much is cut off at the ends, as `padding` of `minigraph.conv_transpose2d`. output_padding: the
    number of places that are added at the end of each axis of the result. Other arguments are those of `Filtering`.

    >>> layer = mg.layers.ConvolutionalTranspose((2, 2), num_filters=3, step=2)
    >>> layer.apply(mg.tensor4("x", shape=(None, 8, 14, 14))).type.shape
    (None, 3, 28, 28)
    """

    border_mode, output_padding = Setting(_as_border), Setting(ints(0))

    def __init__(
        self,
        filter_size: int | Listed[int],
        num_filters: int,
        num_channels: int | None = None,
        *,
        border_mode: Any = "valid",
        output_padding: int | Listed[int] = 0,
        **options: Any,
    ) -> None:
        super().__init__(filter_size, num_filters, num_channels, **options)
        self.border_mode, self.output_padding = border_mode, output_padding

    def filter_shape(self) -> tuple[int, ...]:
        if self.num_filters % self.groups:
            raise InvalidValueError(f"{self!r}: {self.num_filters} filters do not fall into {self.groups} groups")
        return (self.num_channels or 0, self.num_filters // self.groups, *self.filter_size)

    def filtered(self, x: Variable, filters: Variable) -> Variable:
        cut = 0 if self.border_mode == "valid" else self.border_mode
        convolution = _TRANSPOSED[len(self.filter_size)]
        sizes = self.step, cut, self.output_padding, self.dilation, self.groups
        return convolution(x, filters, *sizes, flip_filters=self.flip_filters, layout=self.layout)


class MaxPooling(Layer):
    """The greatest element of every window of (batch, channels, *spatial).

    pooling_size: the size of a window; an int, or one for each spatial axis. step: the distance between windows, the size of
    a window if left out. padding: the number of places added at both ends. ignore_border: leave out windows that reach beyond
    the end. layout: "NHWC", or its like, for images with the channels last. See `minigraph.max_pool`.

    >>> mg.layers.MaxPooling((2, 2)).apply(mg.tensor4("x", shape=(None, 3, 28, 28))).type.shape
    (None, 3, 14, 14)
    """

    pooling_size, step, padding = Setting(ints(1)), Setting(or_none(ints(1))), Setting(ints(0))
    ignore_border, layout = Setting(flag), Setting(as_layout)

    def __init__(
        self, pooling_size: int | Listed[int], step: Any = None, *, padding: Any = 0, ignore_border: bool = True,
        layout: str | None = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(**options)
        self.pooling_size, self.step, self.padding, self.ignore_border = pooling_size, step, padding, ignore_border
        self.layout = layout

    @application
    def apply(self, x: Variable) -> Variable:
        """The maxima of the windows of x."""
        return max_pool(x, self.pooling_size, self.step, self.padding, self.ignore_border, layout=self.layout)


class AveragePooling(MaxPooling):
    """The mean of every window of (batch, channels, *spatial).

    pooling_size, step, and `padding`, `ignore_border` and `layout`: see `MaxPooling`. include_padding: whether zeros of the
    padding count in the means. See `minigraph.average_pool`.

    >>> mg.layers.AveragePooling((2, 2)).apply(mg.tensor4("x", shape=(None, 3, 28, 28))).type.shape
    (None, 3, 14, 14)
    """

    include_padding = Setting(flag)

    def __init__(
        self, pooling_size: int | Listed[int], step: Any = None, *, include_padding: bool = True, **options: Any
    ) -> None:
        super().__init__(pooling_size, step, **options)
        self.include_padding = include_padding

    @application
    def apply(self, x: Variable) -> Variable:
        """The means of the windows of x."""
        settings = self.pooling_size, self.step, self.padding, self.ignore_border, self.include_padding
        return average_pool(x, *settings, layout=self.layout)


class GlobalAveragePooling(Layer):
    """The mean over all spatial axes: (batch, channels).

    layout: "NHWC", or its like, for images with the channels last.

    >>> mg.layers.GlobalAveragePooling().apply(mg.tensor4("x", shape=(None, 3, 28, 28))).type.shape
    (None, 3)
    """

    layout = Setting(as_layout)

    def __init__(self, *, layout: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.layout = layout

    @application
    def apply(self, x: Variable) -> Variable:
        """The means of x over space."""
        return global_average_pool(x, layout=self.layout)


class Flattener(Layer):
    """All axes but that of the batch joined: (batch, features).

    >>> mg.layers.Flattener().apply(mg.tensor4("x", shape=(None, 3, 2, 2))).type.shape
    (None, 12)
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """x as a matrix."""
        return flatten(x, 2)


class ConvolutionalSequence(Sequence):
    """Convolutional layers and others, one after another, with the settings that the convolutional ones have in common.

    stages: layers, or bound applications of layers. num_channels, image_size: those of the input, where its type need not tell
    them; with both, `allocate` and `initialize` make all parameters without an application. border_mode, tied_biases: for the
    convolutional layers to which none was given. layout: "NHWC", or its like, for images with the channels last; also for the
    layers of convolution, pooling and spatial batch normalization to which none was given.

    >>> stages = [mg.layers.Convolutional(3, 8), mg.layers.Rectifier(), mg.layers.MaxPooling(2)]
    >>> network = mg.layers.ConvolutionalSequence(stages, num_channels=3, image_size=(28, 28), border_mode="same")
    >>> network.apply(mg.tensor4("x")).type.shape
    (None, 8, 14, 14)
    """

    fixed_when_made = frozenset({"layout"})
    num_channels, layout = Setting(size), Setting(as_layout)

    def __init__(
        self,
        stages: Listed[Layer | Application[..., Any]],
        num_channels: int | None = None,
        image_size: int | Listed[int | None] | None = None,
        *,
        border_mode: Any = None,
        tied_biases: bool | None = None,
        layout: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(stages, **options)
        tied = flag_or_none(tied_biases, "tied_biases")
        self.num_channels, self.layout = num_channels, layout
        self.image_size = None if image_size is None else as_sizes(image_size, "image_size")
        for layer in self.children:
            if isinstance(layer, Convolutional) and layer.border_mode is None:
                layer.border_mode = border_mode
            if isinstance(layer, Filtering) and tied is not None:
                layer.tied_biases = tied
            if isinstance(layer, Filtering | MaxPooling | GlobalAveragePooling | SpatialBatchNormalization):
                layer.layout = layer.layout or layout

    def input_shape(self, x: Variable) -> list[int | None]:
        return self._image_shape(x.ndim - 2)

    def _image_shape(self, count: int) -> list[int | None]:
        """The shape of images with `count` spatial axes that the layer takes, None for sizes that are unknown."""
        shape = [None, *([None] * count if self.image_size is None else self.image_size)]
        shape.insert(len(shape) if has_channels_last(self.layout, count) else 1, self.num_channels)
        return shape

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            wanted = self._image_shape(x.ndim - 2)
            if len(wanted) != x.ndim or any(
                None not in (one, other) and one != other for one, other in zip(wanted, x.type.shape, strict=True)
            ):
                axes = "*spatial, channels" if has_channels_last(self.layout, x.ndim - 2) else "channels, *spatial"
                raise InvalidValueError(f"{self!r} takes (batch, {axes}) of sizes {tuple(wanted[1:])}, not {x!r}")

    def allocate(self) -> None:
        if self.num_channels is None or self.image_size is None:
            raise InvalidValueError(f"{self!r}: give num_channels and image_size, or apply the layer to an input")
        kind = TensorType(self.dtype or default_float(), tuple(self._image_shape(len(self.image_size))))
        self.apply(Variable(Input(), (), kind, "images"))
