"""Layers without parameters that apply a nonlinearity."""

from __future__ import annotations

from typing import Any

from minigraph.core.graph import Variable
from minigraph.layers.core.application import application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.settings import Setting, finite
from minigraph.ops.elementwise import activation
from minigraph.ops.elementwise.comparison import neq
from minigraph.ops.elementwise.transcendental import tanh
from minigraph.ops.reduce import softmax
from minigraph.ops.reduce.crossentropy import softmax_crossentropy


class Tanh(Layer):
    """The hyperbolic tangent.

    >>> mg.layers.Tanh().apply(mg.constant([0.0, 30.0])).eval().tolist()
    [0.0, 1.0]
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """tanh(x)."""
        return tanh(x)


class Logistic(Layer):
    """The sigmoid.

    >>> mg.layers.Logistic().apply(mg.constant([0.0, 40.0])).eval().tolist()
    [0.5, 1.0]
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """1 / (1 + exp(-x))."""
        return activation.sigmoid(x)


class Softplus(Layer):
    """A smooth rectifier.

    >>> mg.layers.Softplus().apply(mg.constant([0.0, 40.0])).eval().round(3).astype(str).tolist()
    ['0.693', '40.0']
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """log(1 + exp(x))."""
        return activation.softplus(x)


class Rectifier(Layer):
    """The rectifier, or ReLU.

    >>> mg.layers.Rectifier().apply(mg.constant([-1.0, 2.0])).eval().tolist()
    [0.0, 2.0]
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """max(x, 0)."""
        return activation.relu(x)


class LeakyRectifier(Layer):
    """A rectifier with a slope of `leak` below 0.

    >>> mg.layers.LeakyRectifier(leak=0.5).apply(mg.constant([-1.0, 2.0])).eval().tolist()
    [-0.5, 2.0]
    """

    leak = Setting(finite)

    def __init__(self, leak: float = 0.01, **options: Any) -> None:
        super().__init__(**options)
        self.leak = leak

    @application
    def apply(self, x: Variable) -> Variable:
        """x where positive, else leak * x."""
        return activation.relu(x, self.leak)


class Elu(Layer):
    """The exponential linear unit, whose values go down to -alpha (Clevert et al. 2016).

    >>> mg.layers.Elu(alpha=2.0).apply(mg.constant([-40.0, 2.0])).eval().tolist()
    [-2.0, 2.0]
    """

    alpha = Setting(finite)

    def __init__(self, alpha: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.alpha = alpha

    @application
    def apply(self, x: Variable) -> Variable:
        """x where positive, else alpha * (exp(x) - 1)."""
        return activation.elu(x, self.alpha)


class Gelu(Layer):
    """The Gaussian error linear unit (Hendrycks and Gimpel 2016).

    >>> mg.layers.Gelu().apply(mg.constant([0.0, 40.0])).eval().tolist()
    [0.0, 40.0]
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """x times the normal distribution function at x."""
        return activation.gelu(x)


class Silu(Layer):
    """The sigmoid linear unit (Elfwing et al. 2018).

    >>> mg.layers.Silu().apply(mg.constant([0.0, 40.0])).eval().tolist()
    [0.0, 40.0]
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """x * sigmoid(x)."""
        return activation.silu(x)


class Softmax(Layer):
    """Probabilities of classes on the last axis.

    >>> mg.layers.Softmax().apply(mg.constant([[1.0, 1.0]])).eval().tolist()
    [[0.5, 0.5]]
    """

    @application
    def apply(self, x: Variable) -> Variable:
        """exp(x) divided by its sum over the last axis."""
        return softmax.softmax(x)

    @application
    def log_probabilities(self, x: Variable) -> Variable:
        """The logarithm of `apply`, without leaving the range of floats."""
        return softmax.log_softmax(x)

    @application
    def categorical_cross_entropy(self, targets: Variable, x: Variable, *, ignore_index: int | None = None) -> Variable:
        """The mean crossentropy of the softmax of x against `targets`: class indices, or distributions of the shape of x.

        Indices equal to `ignore_index` do not count in the mean, which is NaN if no index counts, as in PyTorch.
        """
        costs = softmax_crossentropy(x, targets, ignore_index=ignore_index)
        return costs.mean() if ignore_index is None else costs.sum() / neq(targets, ignore_index).astype(costs.dtype).sum()
