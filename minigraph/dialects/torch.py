"""Batch normalization as Torch has it: Torch7's modules, and PyTorch's `BatchNorm1d`, `BatchNorm2d`, `BatchNorm3d`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import mul
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.dialects.base import DialectNormalization, as_weight
from minigraph.layers.core.initialization import Constant, Uniform
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_WEIGHT
from minigraph.layers.core.settings import Setting, flag, or_none
from minigraph.layers.normalization.apply_options import Freeze, Request
from minigraph.layers.normalization.conventions import Batch, Convention, InverseStdev, Stored, Values, Variance
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.control import assert_
from minigraph.ops.elementwise.arithmetic import minimum
from minigraph.ops.elementwise.comparison import gt
from minigraph.transforms.averages import averaged, cumulative_average

TORCH7 = Convention("Torch7", "weight", "bias", "running_mean", "running_var", Variance(unbiased=True), 1e-5)
TORCH7_VERSION_1 = Convention(
    "Torch7, version 1", "weight", "bias", "running_mean", "running_std", InverseStdev(unbiased=True), 1e-5
)
"""Checkpoints of version 1 call 1 / sqrt(variance + epsilon) running_std."""
PYTORCH = Convention(
    "PyTorch", "weight", "bias", "running_mean", "running_var", Variance(unbiased=True), 1e-5, "num_batches_tracked"
)


class Untracked(Convention):
    """A convention without population."""

    @property
    def population(self) -> dict[str, Stored]:
        return {}

    def estimate(self, batch: Batch, epsilon: float) -> list[Values]:
        return []


UNTRACKED = Untracked("PyTorch, untracked", "weight", "bias", "", "", Variance(), 1e-5, listed=("weight", "bias"))


class BatchNormalization(DialectNormalization):
    """Torch7's module for (batch, features); the weight starts uniform in (0, 1).

    nOutput: the number of features. eps: added to the variance. momentum: the weight of the new batch. affine: whether there
    are weight and bias.

    >>> layer = mg.dialects.torch.BatchNormalization(3)
    >>> layer.apply(mg.matrix("x", shape=(None, 3))).type.shape, layer.listed()
    ((None, 3), ['weight', 'bias', 'running_mean', 'running_var'])
    """

    rank = 2
    momentum = Setting(as_weight)

    def __init__(
        self, nOutput: int | None = None, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, **options: Any
    ) -> None:
        super().__init__(
            TORCH7,
            eps,
            features=nOutput,
            ranks=(self.rank,),
            scale_init=Uniform(0.5, width=1.0),
            learn_scale=flag(affine, "affine"),
            learn_shift=affine,
            **options,
        )
        self.momentum = momentum

    def rule(self, pairs: Pairs) -> Pairs:
        return averaged(pairs, self.momentum)


class SpatialBatchNormalization(BatchNormalization):
    """Torch7's module for (batch, features, height, width).

    >>> layer = mg.dialects.torch.SpatialBatchNormalization(3)
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5), ['weight', 'bias', 'running_mean', 'running_var'])
    """

    rank = 4


class VolumetricBatchNormalization(BatchNormalization):
    """Torch7's module for (batch, features, depth, height, width).

    >>> layer = mg.dialects.torch.VolumetricBatchNormalization(3)
    >>> layer.apply(mg.tensor5("x", shape=(None, 3, 5, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5, 5), ['weight', 'bias', 'running_mean', 'running_var'])
    """

    rank = 5


class PyTorchNormalization(DialectNormalization):
    """PyTorch's modules. momentum: the weight of the new batch, 0 for averages that stay, None for the mean of all.

    num_features: inferred if left out. eps: added to the variance. affine: whether there are weight and bias; bias: whether
    there is a bias beside the weight.

    track_running_stats=False: there is no population, and the minibatch is used in inference, too. A minibatch with one value
    a channel cannot be trained on: ValueError where that is known, AssertionError when it comes.
    """

    fixed_when_made = frozenset({"track_running_stats"})
    allowed_ranks: Sequence[int] = ()
    momentum = Setting(or_none(as_weight))

    def __init__(
        self,
        num_features: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            PYTORCH if flag(track_running_stats, "track_running_stats") else UNTRACKED,
            eps,
            features=num_features,
            ranks=self.allowed_ranks,
            learn_scale=flag(affine, "affine"),
            learn_shift=flag(bias, "bias") and affine,
            **options,
        )
        self.momentum = momentum
        self.track_running_stats = track_running_stats

    def allocate_parameters(self) -> None:
        super().allocate_parameters()
        if self.track_running_stats:
            self.add_parameter("num_batches_tracked", (), Constant(0), BATCH_NORM_POPULATION_WEIGHT, np.int64)

    def acting(self, request: Request, in_training: bool) -> tuple[Request, bool]:
        if self.track_running_stats:
            return request, in_training
        return Request(request.mask, request.index, Freeze.AVERAGES), True

    def estimate(self, x: Variable, request: Request) -> tuple[Variable, list[Variable], Batch]:
        message = f"{self!r} needs more than one value a channel to train on"
        fewest = self._fewest_values(x)
        if isinstance(fewest, int) and fewest == 1:
            raise InvalidValueError(f"{message}, not {x!r}")
        normalized, statistics, batch = super().estimate(x, request)
        if self.all_reduce is not None and not request.weights:
            fewest = batch.count
        return assert_(normalized, gt(fewest, 1), message), statistics, batch

    def _fewest_values(self, x: Variable) -> int | Variable:
        """The number of values that a channel has in x, or in its last, perhaps smaller, ghost batch."""
        sizes = list(x.shape)
        if self.virtual_batch_size is not None:
            last = (sizes[0] - 1) % self.virtual_batch_size + 1
            sizes[0] = min(sizes[0], last) if isinstance(sizes[0], int) else minimum(sizes[0], last)
        return reduce(mul, [sizes[axis] for axis in self.averaged_axes(x)], 1)

    def rule(self, pairs: Pairs) -> Pairs:
        count = self.own_variables["num_batches_tracked"]
        if self.momentum is None:
            return cumulative_average(pairs, count)
        return averaged(pairs, lambda n: self.momentum, count)


class BatchNorm1d(PyTorchNormalization):
    """PyTorch's module for (batch, features) and (batch, features, steps).

    >>> layer = mg.dialects.torch.BatchNorm1d(3)
    >>> layer.apply(mg.matrix("x", shape=(None, 3))).type.shape, layer.listed()
    ((None, 3), ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'])
    """

    allowed_ranks = (2, 3)


class BatchNorm2d(PyTorchNormalization):
    """PyTorch's module for (batch, features, height, width).

    >>> layer = mg.dialects.torch.BatchNorm2d(3)
    >>> layer.apply(mg.tensor4("x", shape=(None, 3, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5), ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'])
    """

    allowed_ranks = (4,)


class BatchNorm3d(PyTorchNormalization):
    """PyTorch's module for (batch, features, depth, height, width).

    >>> layer = mg.dialects.torch.BatchNorm3d(3)
    >>> layer.apply(mg.tensor5("x", shape=(None, 3, 5, 5, 5))).type.shape, layer.listed()
    ((None, 3, 5, 5, 5), ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'])
    """

    allowed_ranks = (5,)
