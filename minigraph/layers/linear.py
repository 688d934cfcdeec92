"""Affine maps: Linear, Bias, Identity."""

from __future__ import annotations

from typing import Any

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.application import application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import Glorot, as_initializer
from minigraph.layers.core.roles import BIAS, WEIGHT
from minigraph.layers.core.settings import Setting, flag, size
from minigraph.ops.linear.products import dot


def last_size(x: Variable) -> int | None:
    """The static size of the last axis, None if unknown or if there is no axis."""
    return x.type.shape[-1] if x.ndim else None


def with_last_size(x: Variable, size: int | None) -> list[int | None]:
    """A size for each axis of x: this one for the last, None for all others."""
    return [None] * (x.ndim - 1) + [size] * bool(x.ndim)


class _OverLastAxis(Layer):
    """The base of layers that take `input_dim` features on the last axis, inferred at the first application if left out."""

    fixed_when_allocated = frozenset({"input_dim"})
    input_dim = Setting(size)

    def infer_sizes(self, *inputs: Variable) -> None:
        if self.input_dim is None and inputs:
            self.input_dim = last_size(inputs[0])

    def input_shape(self, x: Variable) -> list[int | None]:
        return with_last_size(x, self.input_dim)

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs:
            if not x.ndim or last_size(x) not in (None, self.input_dim):
                raise InvalidValueError(f"{self!r} takes {self.input_dim} features on the last axis, not {x!r}")


class Linear(_OverLastAxis):
    """x @ W + b over the last axis of x: W of shape (input_dim, output_dim), b of shape (output_dim,).

    input_dim: inferred at the first application if left out. output_dim: the size of the last axis of the result. use_bias:
    whether there is b. weights_init, biases_init: initializers, numbers, arrays or variables; `Glorot()` and 0 by default.

    >>> layer = mg.layers.Linear(output_dim=3)
    >>> layer.apply(mg.matrix("x", shape=(None, 4))).type.shape, layer.variables["W"].type.shape
    ((None, 3), (4, 3))
    """

    fixed_when_allocated = frozenset({"output_dim", "use_bias", "weights_init", "biases_init"})
    output_dim, use_bias = Setting(size), Setting(flag)

    def __init__(
        self,
        input_dim: int | None = None,
        output_dim: int | None = None,
        *,
        use_bias: bool = True,
        weights_init: Any = None,
        biases_init: Any = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.input_dim, self.output_dim, self.use_bias = input_dim, output_dim, use_bias
        self.weights_init = Glorot() if weights_init is None else as_initializer(weights_init, "weights_init")
        self.biases_init = as_initializer(biases_init, "biases_init")

    def allocate_parameters(self) -> None:
        self.need(input_dim=self.input_dim, output_dim=self.output_dim)
        self.add_parameter("W", (self.input_dim or 0, self.output_dim or 0), self.weights_init, WEIGHT)
        if self.use_bias:
            self.add_parameter("b", (self.output_dim or 0,), self.biases_init, BIAS)

    def drop_bias(self) -> None:
        """Do without a bias from now on."""
        with self.being_made():
            self.use_bias = False
        self.drop_parameter("b")

    @application
    def apply(self, x: Variable) -> Variable:
        """x @ W + b."""
        product = dot(x, self.parameter("W"))
        return product + self.parameter("b") if self.use_bias else product


class Bias(_OverLastAxis):
    """x + b over the last axis of x, b of shape (input_dim,).

    input_dim: inferred at the first application if left out. biases_init: an initializer, a number, an array or a variable.

    >>> mg.layers.Bias(biases_init=2.0).apply(mg.constant([[1.0, 2.0]])).eval().tolist()
    [[3.0, 4.0]]
    """

    fixed_when_allocated = frozenset({"biases_init"})

    def __init__(self, input_dim: int | None = None, *, biases_init: Any = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.input_dim = input_dim
        self.biases_init = as_initializer(biases_init, "biases_init")

    def allocate_parameters(self) -> None:
        self.need(input_dim=self.input_dim)
        self.add_parameter("b", (self.input_dim or 0,), self.biases_init, BIAS)

    @application
    def apply(self, x: Variable) -> Variable:
        """x + b."""
        return x + self.parameter("b")


class Identity(Layer):
    """The input, unchanged.

    >>> mg.layers.Identity().apply(mg.constant([1.0])).eval().tolist()
    [1.0]
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """x."""
        return x
