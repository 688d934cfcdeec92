"""Batch normalization as PuzzleLib has it: `BatchNorm`, `BatchNorm1D`, `BatchNorm2D`, `BatchNorm3D`, `BatchNormND`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.dialects.base import DialectNormalization, as_weight
from minigraph.layers.core.application import ApplicationCall
from minigraph.layers.core.initialization import Constant, IsotropicGaussian
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_WEIGHT
from minigraph.layers.core.settings import Setting, State, count, flag, number
from minigraph.layers.normalization.apply_options import Request
from minigraph.layers.normalization.conventions import Convention, Variance
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.transforms.averages import puzzlelib_average

PUZZLELIB = Convention("PuzzleLib", "scale", "bias", "mean", "var", Variance(unbiased=True), 1e-5)


class BatchNormND(DialectNormalization):
    """PuzzleLib's module over (batch, maps, *nd spatial axes): the n-th minibatch weighs max(initFactor / n, minFactor).

    maps, or size: the number of features. epsilon: added to the variance. initFactor, minFactor: see above. sscale: scale
    starts as normal numbers of mean 1 and this deviation. affine: whether scale and bias are learned. name: that of the layer.
    empty: nothing is allocated until `set_values`. inplace: accepted for inference, where the input is not overwritten either;
    in training an error. Arrays have the shape (1, maps, 1, ...).

    The count n is `num_of_props`. PuzzleLib does not save it, so that it is not among the arrays of `get_values`, and the first
    minibatch after `set_values` on a new layer counts fully, as it does there. `get_parameter_values` has it.

    >>> layer = mg.dialects.puzzlelib.BatchNormND(2, 3)
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5), ['scale', 'bias', 'mean', 'var'])
    """

    fixed_when_made = frozenset({"nd", "maps"})
    fixed_when_allocated = frozenset({"empty"})
    initFactor, minFactor = Setting(lambda given, what: number(given, what, 0, math.inf)), Setting(as_weight)
    empty, inplace = Setting(flag), Setting(flag)
    scale = State("What a normalized value is multiplied by.")
    bias = State("What is added to it.")
    mean = State("The average of means.")
    var = State("The average of variances.")

    def __init__(
        self,
        nd: int,
        maps: int | None = None,
        epsilon: float = 1e-5,
        initFactor: float = 1.0,
        minFactor: float = 0.1,
        sscale: float = 0.01,
        affine: bool = True,
        name: str | None = None,
        empty: bool = False,
        inplace: bool = False,
        *,
        size: int | None = None,
        **options: Any,
    ) -> None:
        if (maps is None) == (size is None):
            raise InvalidTypeError(f"{type(self).__name__} takes the number of features as maps or as size: give one of them")
        maps = count(size if maps is None else maps, "maps")
        nd = count(nd, "nd")
        learned = flag(affine, "affine")
        super().__init__(
            PUZZLELIB,
            epsilon,
            features=maps,
            ranks=(nd + 2,),
            scale_init=IsotropicGaussian(number(sscale, "sscale", 0, math.inf), 1.0),
            learn_scale=learned,
            learn_shift=learned,
            name=name,
            **options,
        )
        if self.n_iter is not None:
            raise InvalidValueError(f"{self!r} counts the minibatches of one population: leave out n_iter")
        self.nd, self.maps = nd, maps
        self.empty, self.inplace = empty, inplace
        self.initFactor, self.minFactor = initFactor, minFactor

    @property
    def num_of_props(self) -> Variable:
        """The number of minibatches that the averages come from; there once the layer is allocated."""
        return self.own_variables["num_of_props"]

    @property
    def count(self) -> Variable | None:
        return self.own_variables.get("num_of_props")

    def parameter_shape(self) -> tuple[int, ...]:
        return (1, self.maps, *(1 for _ in range(self.nd)))

    def allocate_from(self, values: Mapping[str, Any]) -> None:
        self.empty = False  # unless the next line fails
        super().allocate_from(values)

    def allocate_parameters(self) -> None:
        if self.empty:
            raise InvalidValueError(f"{self!r} is empty: load its arrays with set_values before it is applied")
        super().allocate_parameters()
        self.add_parameter("num_of_props", (), Constant(0), BATCH_NORM_POPULATION_WEIGHT, np.int64)

    def normalize(self, x: Variable, call: ApplicationCall, request: Request, in_training: bool) -> Variable:
        if in_training and self.inplace:
            raise InvalidValueError(f"{self!r} may overwrite its input, which training cannot do without; leave out inplace")
        return super().normalize(x, call, request, in_training)

    def rule(self, pairs: Pairs) -> Pairs:
        return puzzlelib_average(pairs, self.initFactor, self.minFactor, self.num_of_props)


class BatchNorm(BatchNormND):
    """PuzzleLib's module for (batch, size); its arrays have the shape (1, size, 1, 1). Arguments: see `BatchNormND`.

    >>> layer = mg.dialects.puzzlelib.BatchNorm(3)
    >>> layer.apply(mg.matrix("x", shape=(None, 3))).type.shape, layer.listed()
    ((None, 3), ['scale', 'bias', 'mean', 'var'])
    """

    def __init__(
        self,
        size: int,
        epsilon: float = 1e-5,
        initFactor: float = 1.0,
        minFactor: float = 0.1,
        sscale: float = 0.01,
        affine: bool = True,
        name: str | None = None,
        empty: bool = False,
        inplace: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(2, size, epsilon, initFactor, minFactor, sscale, affine, name, empty, inplace, **options)
        self.ranks = (2,)


class _SpatialNormalization(BatchNormND):
    """A module for a number of spatial axes of its own; `size` is another name for maps."""

    axes: ClassVar[int]

    def __init__(
        self,
        maps: int | None = None,
        epsilon: float = 1e-5,
        initFactor: float = 1.0,
        minFactor: float = 0.1,
        sscale: float = 0.01,
        affine: bool = True,
        name: str | None = None,
        empty: bool = False,
        inplace: bool = False,
        *,
        size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            self.axes, maps, epsilon, initFactor, minFactor, sscale, affine, name, empty, inplace, size=size, **options
        )


class BatchNorm1D(_SpatialNormalization):
    """PuzzleLib's module for (batch, maps, steps); `size` is another name for maps. Arguments: see `BatchNormND`.

    >>> layer = mg.dialects.puzzlelib.BatchNorm1D(3)
    >>> layer.apply(mg.tensor3("x", shape=(None, 3, 5))).type.shape, layer.listed()
    ((None, 3, 5), ['scale', 'bias', 'mean', 'var'])
    """

    axes = 1


class BatchNorm2D(_SpatialNormalization):
    """PuzzleLib's module for (batch, maps, height, width); `size` is another name for maps. Arguments: see `BatchNormND`.

    >>> layer = mg.dialects.puzzlelib.BatchNorm2D(3)
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5), ['scale', 'bias', 'mean', 'var'])
    """

    axes = 2


class BatchNorm3D(_SpatialNormalization):
    """PuzzleLib's module for (batch, maps, depth, height, width); `size` is another name for maps. Arguments: see
    `BatchNormND`.

    >>> layer = mg.dialects.puzzlelib.BatchNorm3D(3)
    >>> layer.apply(mg.tensor5("x", shape=(None, 3, 5, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5, 5), ['scale', 'bias', 'mean', 'var'])
    """

    axes = 3
