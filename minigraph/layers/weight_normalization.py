"""Linear maps whose weights are given by direction and length."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.application import application
from minigraph.layers.core.initialization import Constant
from minigraph.layers.core.roles import PARAMETER
from minigraph.layers.linear import Linear
from minigraph.ops.linear.products import dot
from minigraph.ops.reduce.normalization import DivideByLength


class WeightNormalizedLinear(Linear):
    """x @ (g * W / |W|) + b, with a length g for each output and |W| that of its column (Salimans and Kingma 2016).

    g starts as |W|, so that the layer starts as the linear map with the same W. A column of zeros has no direction: it stays 0,
    and gets no gradient. The paper pairs it with batch normalization that only subtracts the mean:
    `BatchNormalization(mean_only=True)`. Arguments are those of `Linear`.

    >>> layer = mg.layers.WeightNormalizedLinear(4, 3)
    >>> layer.apply(mg.matrix("x")).type.shape, layer.variables["g"].type.shape
    ((None, 3), (3,))
    """

    def __init__(self, input_dim: int | None = None, output_dim: int | None = None, **options: Any) -> None:
        super().__init__(input_dim, output_dim, **options)

    def allocate_parameters(self) -> None:
        super().allocate_parameters()
        self.add_parameter("g", (self.output_dim or 0,), Constant(1.0), PARAMETER)
        self.settle_initial_values()

    def settle_initial_values(self) -> None:
        if "W" not in self.own_variables:
            raise InvalidValueError(f"{self!r}: the lengths of W start from its values, and an expression has none yet")
        weights = self.own_variables["W"].get_value(borrow=True).astype("float64")
        peak = abs(weights).max(axis=0, initial=0.0)
        lengths = peak * ((weights / np.where(peak > 0, peak, 1)) ** 2).sum(axis=0) ** 0.5
        self.own_variables["g"].set_value(lengths.astype(self.own_variables["g"].dtype))

    @property
    def weights(self) -> Variable:
        """The matrix that x is multiplied by."""
        return DivideByLength((0,), 0.0, averaged=False)(self.own_variables["W"]) * self.own_variables["g"]

    @application
    def apply(self, x: Variable) -> Variable:
        """x @ (g * W / |W|) + b."""
        product = dot(x, self.weights)
        return product + self.parameter("b") if self.use_bias else product
