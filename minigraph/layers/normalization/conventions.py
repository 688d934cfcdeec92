"""Conventions: the arrays in which each system stores a population, their names, and how they are read.

Everything here is written for arrays and for variables alike: layers build graphs with it, converters compute with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from minigraph.core.record import Record
from minigraph.layers.core.roles import (
    BATCH_NORM_POPULATION_INVERSE_STDEV,
    BATCH_NORM_POPULATION_MEAN,
    BATCH_NORM_POPULATION_STDEV,
    BATCH_NORM_POPULATION_VARIANCE,
    BATCH_NORM_POPULATION_WEIGHT,
    Role,
)

Values = Any
"""An array, or a variable."""


class Batch(Record):
    """The statistics of one minibatch: mean, biased variance (None where nothing is divided), elements per statistic."""

    mean: Values
    variance: Values
    count: Values

    def each(self, change: Callable[[Values], Values]) -> Batch:
        """The batch with each statistic changed in one way."""
        return Batch(change(self.mean), None if self.variance is None else change(self.variance), change(self.count))

    def variance_by(self, unbiased: bool) -> Values:
        """The variance; multiplied by m / (m - 1) if `unbiased`, but by 1 up to m = 1."""
        return self.variance * (np.maximum(self.count, 1) / np.maximum(self.count - 1, 1)) if unbiased else self.variance


def merged(first: Batch, second: Batch) -> Batch:
    """The statistics of two batches together, by the law of total variance; statistics that are not finite do not count.

    Stable for any number of merges: nothing but means of means and of variances is ever kept (after Chan et al. 1979).
    """
    finite = np.isfinite(second.mean) if second.variance is None else np.isfinite(second.mean + second.variance)
    known = np.where(finite, second.count, 0)
    count = first.count + known
    share = np.where(np.greater(count, 0), known / np.where(np.greater(count, 0), count, 1), 0)
    apart = np.where(finite, second.mean - first.mean, 0)
    mean = first.mean + apart * share
    if second.variance is None:
        return Batch(mean, None, count)
    growth = np.where(finite, second.variance - first.variance, 0)
    return Batch(mean, first.variance + growth * share + np.square(apart) * (share * (1 - share)), count)


def pooled(groups: Batch) -> Batch:
    """The statistics of all groups together, which lie along a new first axis, by the law of total variance; NaN for none."""
    count = np.sum(groups.count, axis=0)
    shares = groups.count / count
    there = np.greater(groups.count, 0)
    means = np.where(there, groups.mean, 0)
    mean = np.sum(shares * means, axis=0) + 0 / count  # NaN where there is no element, also where there is no group
    if groups.variance is None:
        return Batch(mean, None, count)
    within = np.where(there, groups.variance, 0)
    between = np.square((means - mean).astype("float64"))  # which may be beyond float32 where the deviation is not
    return Batch(mean, np.sum(shares * (within + between), axis=0) + 0 / count, count)


class Storage(Record):
    """The form in which the spread of a population is stored. `unbiased`: estimated with m - 1 in place of m."""

    unbiased: bool = False

    role: ClassVar[type[Role]]

    def keep(self, variance: Values, epsilon: float) -> Values:
        """The number that is stored for a variance."""
        raise TypeError(f"{type(self).__name__} does not define keep")

    def stdev(self, stored: Values, epsilon: float) -> Values:
        """sqrt(variance + epsilon), from the number that was stored."""
        raise TypeError(f"{type(self).__name__} does not define stdev")


class Stdev(Storage):
    """sqrt(variance + epsilon), as in Blocks."""

    role = BATCH_NORM_POPULATION_STDEV

    def keep(self, variance: Values, epsilon: float) -> Values:
        return np.sqrt(variance + epsilon)

    def stdev(self, stored: Values, epsilon: float) -> Values:
        return stored


class InverseStdev(Storage):
    """1 / sqrt(variance + epsilon), as in Lasagne."""

    role = BATCH_NORM_POPULATION_INVERSE_STDEV

    def keep(self, variance: Values, epsilon: float) -> Values:
        return 1 / np.sqrt(variance + epsilon)

    def stdev(self, stored: Values, epsilon: float) -> Values:
        return 1 / stored


class Variance(Storage):
    """The variance without epsilon, which is added whenever it is used."""

    role = BATCH_NORM_POPULATION_VARIANCE

    def keep(self, variance: Values, epsilon: float) -> Values:
        return variance

    def stdev(self, stored: Values, epsilon: float) -> Values:
        return np.sqrt(stored + epsilon)


class Stored(Record):
    """An array that holds a part of a population: its role, its start, and its shape if that is not a parameter's."""

    role: type[Role]
    start: float
    shape: tuple[int, ...] | None = None


class Convention(Record):
    """The arrays in which a system keeps a normalization, their names, and its default epsilon.

    count: the array that counts batches, None if there is none; it has one number, or, with `counts_features`, one for each
    feature. listed: the names as the system lists them, if that is not scale, shift, mean, spread and count.
    """

    name: str
    scale: str
    shift: str
    mean: str
    spread: str
    storage: Storage
    epsilon: float
    count: str | None = None
    counts_features: bool = False
    listed: tuple[str, ...] = ()

    @property
    def order(self) -> tuple[str, ...]:
        """The names as the system lists them."""
        counts = () if self.count is None else (self.count,)
        return self.listed or (self.scale, self.shift, self.mean, self.spread, *counts)

    @property
    def population(self) -> dict[str, Stored]:
        """The arrays that hold the population, by name; that of the mean first."""
        return {self.mean: Stored(BATCH_NORM_POPULATION_MEAN, 0.0), self.spread: Stored(self.storage.role, 1.0)}

    def read(self, stored: Sequence[Values], epsilon: float) -> list[Values]:
        """The mean and the deviation to normalize by, or the mean alone, from the stored arrays."""
        mean, *spread = stored
        return [mean, *(self.storage.stdev(one, epsilon) for one in spread)]

    def estimate(self, batch: Batch, epsilon: float) -> list[Values]:
        """The estimate from a minibatch of each array that holds the population; NaN for the spread of a single element."""
        if batch.variance is None:
            return [batch.mean]
        spread = self.storage.keep(batch.variance_by(self.storage.unbiased), epsilon)
        several = np.greater(batch.count, 1) | np.greater(batch.variance, 0)  # weights of several elements may add up to 1
        return [batch.mean, np.where(several, spread, np.nan)]

    def settled(self, estimates: Sequence[Values], batches: int) -> list[Values]:
        """The arrays to be stored after a number of minibatches, from the estimates of all of them together."""
        return list(estimates)

    def inconsistent(self, values: Mapping[str, np.ndarray[Any, Any]]) -> str | None:
        """The reason why arrays, each possible, cannot stand beside each other; None if they can."""
        return None

    def write(self, mean: Values, stdev: Values, epsilon: float) -> list[Values]:
        """The arrays from which `read` gets this mean and stdev, with this epsilon."""
        return [mean, self.storage.keep(stdev * stdev - epsilon, epsilon)]


class Sums(Convention):
    """A convention that keeps sums in which each batch fades, and the sum of weights by which they are divided (Caffe)."""

    weight: str = ""
    fraction: float = 0.999
    """The share of a batch that is left after the next."""

    @property
    def population(self) -> dict[str, Stored]:
        return {
            self.mean: Stored(BATCH_NORM_POPULATION_MEAN, 0.0),
            self.spread: Stored(self.storage.role, 0.0),
            self.weight: Stored(BATCH_NORM_POPULATION_WEIGHT, 0.0, (1,)),
        }

    def read(self, stored: Sequence[Values], epsilon: float) -> list[Values]:
        *sums, weight = stored
        seen = np.not_equal(weight, 0)
        mean, *spread = [np.where(seen, one / np.where(seen, weight, 1), 0) for one in sums]
        return super().read([mean, *spread], epsilon)

    def estimate(self, batch: Batch, epsilon: float) -> list[Values]:
        estimates = super().estimate(batch, epsilon)
        known = np.isfinite(sum(one.sum() for one in estimates))  # all sums must count a batch, or none
        return [np.where(known, one, np.nan) for one in [*estimates, 1.0]]

    def settled(self, estimates: Sequence[Values], batches: int) -> list[Values]:
        weight = batches if self.fraction == 1 else (1 - self.fraction**batches) / (1 - self.fraction)
        return [one * weight for one in estimates]

    def inconsistent(self, values: Mapping[str, np.ndarray[Any, Any]]) -> str | None:
        given = [values[name] for name in (self.mean, self.spread) if name in values]
        if self.weight not in values or values[self.weight].any() or not any(sums.any() for sums in given):
            return None
        return f"{self.weight} is 0 beside sums that are not: divide them by the weight that they have, and give 1"

    def write(self, mean: Values, stdev: Values, epsilon: float) -> list[Values]:
        weight = 1000 if self.fraction == 1 else 1 / (1 - self.fraction)  # that of a long training
        return [*(one * weight for one in super().write(mean, stdev, epsilon)), np.reshape(weight, (1,))]


BLOCKS = Convention("Blocks", "scale", "shift", "population_mean", "population_stdev", Stdev(), 1e-4)
