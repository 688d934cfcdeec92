"""Batch normalization as Caffe has it: `BatchNorm`, which only normalizes, and `Scale`, which scales."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.dialects.base import DialectNormalization
from minigraph.layers.core.application import application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import as_initializer
from minigraph.layers.core.roles import BATCH_NORM_SCALE_PARAMETER, BATCH_NORM_SHIFT_PARAMETER, Role
from minigraph.layers.core.settings import Setting, flag, flag_or_none, number, size
from minigraph.layers.core.state_values import Array, impossible
from minigraph.layers.normalization.apply_options import Freeze, Request
from minigraph.layers.normalization.conventions import Sums, Variance
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.transforms.averages import decayed_sums

CAFFE = Sums(
    "Caffe",
    "scale",
    "bias",
    "mean_sum",
    "variance_sum",
    Variance(unbiased=True),
    1e-5,
    weight="weight_sum",
    listed=("mean_sum", "variance_sum", "weight_sum", "scale", "bias"),
)


class BatchNorm(DialectNormalization):
    """Caffe's layer over axis 1, without scale and bias: its blobs are sums of means, variances and weights.

    Each minibatch is added to `moving_average_fraction` of the sums; the sums divided by that of the weights are the
    population, or 0 before the first minibatch. use_global_stats: None: in inference; True: in training, too, where the blobs
    then do not change; False: never. eps: added to the variance.

    >>> layer = mg.dialects.caffe.BatchNorm()
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5), ['mean_sum', 'variance_sum', 'weight_sum'])
    """

    fixed_when_made = frozenset({"moving_average_fraction"})
    use_global_stats = Setting(flag_or_none)

    def __init__(
        self, use_global_stats: bool | None = None, moving_average_fraction: float = 0.999, eps: float = 1e-5, **options: Any
    ) -> None:
        fraction = float(number(moving_average_fraction, "moving_average_fraction", 0, 1))
        if not fraction:
            raise InvalidValueError("moving_average_fraction must be above 0")
        convention = Sums(**{**vars(CAFFE), "fraction": fraction})
        super().__init__(convention, eps, learn_scale=False, learn_shift=False, **options)
        self.use_global_stats, self.moving_average_fraction = use_global_stats, moving_average_fraction

    def acting(self, request: Request, in_training: bool) -> tuple[Request, bool]:
        if self.use_global_stats and in_training:
            return Request(request.mask, request.index, Freeze.STATISTICS), True
        if self.use_global_stats is False and not in_training:
            return Request(request.mask, request.index, Freeze.AVERAGES), True
        return request, in_training

    def rule(self, pairs: Pairs) -> Pairs:
        return decayed_sums(pairs, self.moving_average_fraction)


class Scale(Layer):
    """Caffe's layer that multiplies each feature of `axis` by a scale, and with `bias_term` adds a bias.

    axis: an int, counted from the end if negative. filler, bias_filler: initializers, 1 and 0 by default. features: the size of
    the axis, inferred at the first application if left out. Its blobs, `get_values` and `set_values`, are scale and bias.

    >>> layer = mg.dialects.caffe.Scale(bias_term=True)
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5), ['scale', 'bias'])
    """

    fixed_when_made = frozenset({"axis"})
    fixed_when_allocated = frozenset({"bias_term", "features", "filler", "bias_filler"})
    bias_term, features = Setting(flag), Setting(size)

    def __init__(
        self,
        axis: int = 1,
        bias_term: bool = False,
        *,
        filler: Any = 1.0,
        bias_filler: Any = 0.0,
        features: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
            raise InvalidTypeError(f"axis must be an int, not {axis!r}")
        self.axis, self.bias_term, self.features = int(axis), bias_term, features
        self.filler, self.bias_filler = as_initializer(filler, "filler"), as_initializer(bias_filler, "bias_filler")

    def _axis_of(self, x: Variable) -> int:
        """The axis of x that is scaled; ValueError if x lacks it."""
        if not -x.ndim <= self.axis < x.ndim:
            raise InvalidValueError(f"{self!r} scales axis {self.axis}, which {x!r} lacks")
        return self.axis % x.ndim

    def infer_sizes(self, *inputs: Variable) -> None:
        if self.features is None and inputs:
            self.features = inputs[0].type.shape[self._axis_of(inputs[0])]

    def allocate_parameters(self) -> None:
        self.need(features=self.features)
        self.add_parameter("scale", (self.features or 0,), self.filler, BATCH_NORM_SCALE_PARAMETER)
        if self.bias_term:
            self.add_parameter("bias", (self.features or 0,), self.bias_filler, BATCH_NORM_SHIFT_PARAMETER)

    def input_shape(self, x: Variable) -> list[int | None]:
        return [self.features if axis == self.axis % x.ndim else None for axis in range(x.ndim)]

    def allocate_from(self, values: Mapping[str, Any]) -> None:
        if self.features is None and "scale" in values:
            self.features = int(np.size(values["scale"]))
        super().allocate_from(values)

    def check_value(self, what: str, role: type[Role], array: Array) -> None:
        reason = impossible(array, role)
        if reason is not None:
            raise InvalidValueError(f"{what} {reason}")

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            if x.type.shape[self._axis_of(x)] not in (None, self.features):
                raise InvalidValueError(f"{self!r} takes {self.features} features on axis {self.axis}, not {x!r}")

    @application
    def apply(self, x: Variable) -> Variable:
        """x times scale, plus bias."""
        sizes = tuple(self.features if axis == self._axis_of(x) else 1 for axis in range(x.ndim))
        scaled = x * self.parameter("scale").reshape(sizes)
        return scaled + self.parameter("bias").reshape(sizes) if self.bias_term else scaled
