"""The record of a case, and what cases are made with: drawn arrays, and counts of operations."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any

import numpy as np

Draw = Callable[[np.random.Generator], Sequence[Any]]
"""The arguments of a case, as NumPy arrays or Python numbers."""


class Way(Enum):
    """The calls of a case that count."""

    CALLS = "calls of a function that has been called before"
    FIRST = "building, compiling and the first call, in a fresh process"
    SHAPES = "calls that each bring arrays of a new size"


@dataclass(frozen=True)
class Case:
    """A piece of work that is written once: `expression(xp, *arguments)`, where `xp` offers the functions of a framework.

    draw: the arguments, from a seeded generator; numbers that are no arrays are handed over like that at every call. flops:
    the least number of operations. bytes: the least number of bytes read and written; 0 for those of all arguments and
    results. parameters: the positions of arguments that live in the framework, such as weights. gradients_of: positions by
    which the result, a number, is differentiated as well. trains: every call is a step of gradient descent with momentum over
    all parameters. images: arrays of four axes are images or, among the parameters, filters, which a framework may lay out as
    it likes. asks: frameworks that are only asked where a case names them. spared: frameworks that are not asked, with the
    reason. tolerance: the greatest relative difference of results, 0 for that of their dtype. way: the calls that count.
    sizes: for Way.SHAPES the arguments of the k-th call.
    """

    name: str
    family: str
    draw: Draw
    expression: Callable[..., Any]
    flops: float = 0.0
    bytes: float = 0.0
    parameters: tuple[int, ...] = ()
    gradients_of: tuple[int, ...] = ()
    trains: bool = False
    images: bool = False
    asks: tuple[str, ...] = ()
    spared: dict[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    way: Way = Way.CALLS
    sizes: Callable[[np.random.Generator, int], Sequence[Any]] | None = None

    def arguments(self, call: int = 0) -> list[Any]:
        """The arguments of a call, equal in every process."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), call])
        return list(self.draw(rng) if self.sizes is None else self.sizes(rng, call))


def normal(*shapes: tuple[int, ...], dtype: str = "float32", scale: float = 1.0) -> Draw:
    """Normal numbers of several shapes."""
    return lambda rng: [np.asarray(_standard(rng, shape, dtype) * np.asarray(scale, dtype), dtype) for shape in shapes]


def _standard(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    """Normal numbers, in float64 if that is the dtype."""
    return rng.standard_normal(shape, "float64" if dtype == "float64" else "float32")


def uniform(*shapes: tuple[int, ...], low: float = 0.0, high: float = 1.0, dtype: str = "float32") -> Draw:
    """Evenly distributed numbers of several shapes."""
    return lambda rng: [np.asarray(rng.uniform(low, high, shape), dtype) for shape in shapes]


def integers(*shapes: tuple[int, ...], below: int, dtype: str = "int32") -> Draw:
    """Integers from 0 of several shapes."""
    return lambda rng: [rng.integers(0, below, shape).astype(dtype) for shape in shapes]


def together(*draws: Draw) -> Draw:
    """The arguments of several draws, one after the other."""
    return lambda rng: [one for draw in draws for one in draw(rng)]


def without(place: int, draw: Draw) -> Draw:
    """The arguments of a draw but for one."""
    return lambda rng: [one for k, one in enumerate(draw(rng)) if k != place]


def weights(*shapes: tuple[int, ...]) -> Draw:
    """Matrices and filters, scaled by the number of inputs of each of their outputs; vectors are small."""

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        return [(rng.normal(size=shape) * _spread(shape)).astype("float32") for shape in shapes]

    return draw


def _spread(shape: tuple[int, ...]) -> float:
    """The standard deviation of weights: filters are (outputs, inputs, ...), matrices (inputs, outputs)."""
    inputs = prod(shape[1:]) if len(shape) > 2 else shape[0]
    return 0.1 if len(shape) == 1 else inputs**-0.5


def ones(*shapes: tuple[int, ...]) -> Draw:
    """Arrays of ones."""
    return lambda rng: [np.ones(shape, "float32") for shape in shapes]


def zeros(*shapes: tuple[int, ...]) -> Draw:
    """Arrays of zeros."""
    return lambda rng: [np.zeros(shape, "float32") for shape in shapes]


def of_product(rows: int, terms: int, columns: int) -> float:
    """The operations of a matrix product."""
    return 2.0 * rows * terms * columns


def shown(shape: Sequence[int]) -> str:
    """A shape as it stands in titles."""
    return "x".join(str(size) for size in shape)
