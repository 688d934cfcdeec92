"""Initializers: objects that draw an array of a given shape from a random generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Shared, Variable
from minigraph.core.record import Record

Shape = tuple[int, ...]


class Initializer(Record):
    """Draws initial values; weights are laid out (inputs, outputs), filters (outputs, inputs, *spatial)."""

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        """An array of this shape, in float64."""
        raise TypeError(f"{type(self).__name__} does not define generate")

    def settled(self, shape: Shape) -> Initializer:
        """The initializer that makes a parameter of this shape, where this one only chooses it."""
        return self


def as_initializer(given: Any, what: str) -> Initializer:
    """The initializer that an argument stands for: an initializer itself, a number, an array, a variable, which then is the
    parameter, or a function from a shape to an array or a variable. TypeError, naming `what`, for anything else.
    """
    if isinstance(given, Initializer):
        return given
    if isinstance(given, Variable):
        return Given(given, given.get_value() if isinstance(given.op, Shared) else None)
    if callable(given) and not isinstance(given, type):
        return Called(given, what)
    numbers = isinstance(given, int | float | np.integer | np.floating) and not isinstance(given, bool)
    if not numbers and not isinstance(given, np.ndarray):
        raise InvalidTypeError(
            f"{what} must be an initializer, a number, an array, a variable, or a function of a shape, not {given!r}"
        )
    if isinstance(given, np.ndarray) and given.dtype.kind not in "biuf":
        raise InvalidTypeError(f"{what} must be real numbers, not an array of {given.dtype}")
    return Constant(given)


def same_but_for_ones(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two shapes have the same sizes in the same order, apart from those of 1."""
    return [size for size in first if size != 1] == [size for size in second if size != 1]


def agree(first: Sequence[int | None], second: Sequence[int | None]) -> bool:
    """Whether two shapes have as many axes, and the same sizes where both are known."""
    return len(first) == len(second) and all(None in pair or pair[0] == pair[1] for pair in zip(first, second, strict=True))


def fans(shape: Shape) -> tuple[int, int]:
    """The numbers of inputs and outputs that one unit of weights of this shape connects."""
    if len(shape) < 2:
        raise InvalidValueError(f"weights need at least two axes to count inputs and outputs, not shape {shape}")
    if len(shape) == 2:
        return shape[0], shape[1]
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


class Constant(Initializer):
    """A number, or an array that has the shape but for axes of size 1, or broadcasts to it."""

    constant: Any

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        array = np.asarray(self.constant)
        if array.dtype.kind not in "biuf":
            raise InvalidTypeError(f"a constant must be real numbers, not {array.dtype}")
        if same_but_for_ones(array.shape, shape):
            return array.astype(np.float64).reshape(shape)
        while array.ndim > len(shape) and array.shape[0] == 1:
            array = array[0]
        try:
            return np.array(np.broadcast_to(array.astype(np.float64), shape))
        except ValueError:
            raise InvalidValueError(f"an array of shape {array.shape} does not broadcast to the shape {shape}") from None


class Given(Initializer):
    """A variable that is the parameter itself, and may be that of other layers, too; if it is shared, with its first value."""

    variable: Variable
    start: Any

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        return np.array(self.start)


class Called(Initializer):
    """The result of a function of the shape: an array, or a variable."""

    function: Callable[[Shape], Any]
    what: str

    def settled(self, shape: Shape) -> Initializer:
        made = self.function(shape)
        return as_initializer(made if isinstance(made, Variable) else np.asarray(made), f"what {self.what} makes")

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        return self.settled(shape).generate(rng, shape)


class Restart(Initializer):
    """The integers that the state of a random stream starts from."""

    state: tuple[int, ...]

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        return np.array(self.state, np.uint64).reshape(shape)


class IsotropicGaussian(Initializer):
    """Independent normal numbers."""

    std: float = 1.0
    mean: float = 0.0

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        return rng.normal(self.mean, self.std, shape)


class Uniform(Initializer):
    """Numbers spread evenly around `mean`, given their `width` or their standard deviation `std`."""

    mean: float = 0.0
    width: float | None = None
    std: float | None = None

    def __init__(self, mean: float = 0.0, width: float | None = None, std: float | None = None) -> None:
        super().__init__(mean, width, std)
        if (self.width is None) == (self.std is None):
            raise InvalidValueError("Uniform takes either width or std")

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        width = self.width if self.width is not None else math.sqrt(12) * (self.std or 0.0)
        return rng.uniform(self.mean - width / 2, self.mean + width / 2, shape)


class Scaled(Initializer):
    """A draw multiplied by `scale`."""

    scale: float = 1.0


class Glorot(Scaled):
    """Normal numbers of variance 2 / (inputs + outputs) (Glorot and Bengio 2010), times `scale`."""

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        return rng.normal(0.0, self.scale * math.sqrt(2 / max(sum(fans(shape)), 1)), shape)


class He(Scaled):
    """Normal numbers of variance 2 / inputs, for rectifiers (He et al. 2015), times `scale`."""

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        return rng.normal(0.0, self.scale * math.sqrt(2 / max(fans(shape)[0], 1)), shape)


class Orthogonal(Scaled):
    """A matrix with orthonormal rows or columns, whichever are fewer, times `scale` (Saxe et al. 2014)."""

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        if len(shape) < 2:
            raise InvalidValueError(f"orthogonal weights need at least two axes, not shape {shape}")
        rows, columns = shape[0], math.prod(shape[1:])
        tall = rng.normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # without the signs the draw is not uniform
        return self.scale * (q if rows >= columns else q.T).reshape(shape)


class Identity(Scaled):
    """A square matrix with `scale` on its diagonal."""

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        if len(shape) != 2 or shape[0] != shape[1]:
            raise InvalidValueError(f"an identity needs a square matrix, not shape {shape}")
        return self.scale * np.eye(shape[0])


class Sparse(Initializer):
    """For each output `connections` inputs drawn from `weights`, the others 0 (Martens 2010)."""

    connections: int = 15
    weights: Initializer = IsotropicGaussian()

    def generate(self, rng: np.random.Generator, shape: Shape) -> np.ndarray[Any, Any]:
        if len(shape) != 2:
            raise InvalidValueError(f"sparse weights need a matrix, not shape {shape}")
        count = min(self.connections, shape[0])
        result = np.zeros(shape)
        for column in range(shape[1]):
            rows = rng.choice(shape[0], count, replace=False)
            result[rows, column] = self.weights.generate(rng, (count,))
        return result
