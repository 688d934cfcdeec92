"""Layers that store a population: their state, how it is read, and its estimates from minibatches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.record import Record
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import Constant, Initializer, as_initializer
from minigraph.layers.core.roles import BATCH_NORM_SCALE_PARAMETER, BATCH_NORM_SHIFT_PARAMETER, Role
from minigraph.layers.core.settings import Setting, flag
from minigraph.layers.core.state_values import Array, impossible
from minigraph.layers.normalization.apply_options import Freeze, Request
from minigraph.layers.normalization.conventions import Batch, Convention, Sums
from minigraph.ops.array.creation import arange
from minigraph.ops.array.shape import reshape, shape_padright
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.comparison import and_, eq, gt, lt, where
from minigraph.ops.reduce.normalization import FiniteOr, check_epsilon

Pairs = list[tuple[Variable, Variable]]
"""(population statistic, estimate), or (shared variable, new value)."""


class Population(Record):
    """The variables that hold a population, that of its mean first, and how a convention reads and follows them.

    rows: how many populations the variables hold, as rows; None for one without a row.
    """

    variables: Sequence[Variable]
    convention: Convention
    epsilon: float
    rows: int | None

    def read(self, request: Request) -> list[Variable]:
        """The mean and perhaps the deviation of the population that an application is about."""
        row = request.row(self.rows)
        stored = self.variables if self.rows is None else [one[row] for one in self.variables]
        return self.convention.read(stored, self.epsilon)

    def pairs(self, batch: Batch, request: Request, allow_nonfinite: bool = False, otherwise: Sequence[Variable] = ()) -> Pairs:
        """Pairs of each variable and its estimate from the minibatch `batch` of an application that was asked for `request`.

        Where it has no estimate, or none that is finite unless `allow_nonfinite`, the value of `otherwise` in its place stands
        there, by default the variable.
        """
        return self.pairs_of(self.aligned(batch, request), allow_nonfinite, otherwise)

    def pairs_of(self, batch: Batch, allow_nonfinite: bool = False, otherwise: Sequence[Variable] = ()) -> Pairs:
        """The same from a batch that is `aligned`, with a count of 0 where it has no estimate; see `pairs` for the arguments.

        ValueError for `allow_nonfinite` where sums are stored; `otherwise` is as for `pairs`.
        """
        if allow_nonfinite and isinstance(self.convention, Sums):
            raise InvalidValueError(
                f"{self.convention.name} keeps sums, to which nothing can be added in vain: leave out allow_nonfinite"
            )
        pairs: Pairs = []
        estimates = self.convention.estimate(batch, self.epsilon)
        populations = self.variables
        for part, (population, estimate) in enumerate(zip(populations, estimates, strict=True)):
            own, other = reshape(cast(estimate, population.dtype), population.type.shape), (otherwise or populations)[part]
            needed = 1 if part else 0  # a single element has a mean, but no spread
            chosen = where(gt(batch.count, needed), own, other) if allow_nonfinite else FiniteOr()(own, other)
            pairs.append((population, chosen))
        return pairs

    def aligned(self, batch: Batch, request: Request) -> Batch:
        """The statistics of a minibatch laid out as the population is; without finite values, and with a count of 0, in rows
        that the application is not about, or everywhere if a flag freezes them.
        """
        row = self.in_a_row(batch)
        there = self._is_estimated(request, row.mean.ndim + (self.rows is not None))
        if there is None:
            return row
        known = None if row.variance is None else where(there, row.variance, np.nan)
        return Batch(where(there, row.mean, np.nan), known, where(there, row.count, 0))

    def in_a_row(self, batch: Batch) -> Batch:
        """The statistics of a minibatch in the shape of the population, of one row of it if it has rows."""
        stored = self.variables[0].type.shape if self.variables else batch.mean.type.shape
        row = stored if self.rows is None else stored[1:]
        mean, variance = (None if one is None else reshape(one, row) for one in (batch.mean, batch.variance))
        return Batch(mean, variance, reshape(batch.count, row) if batch.count.ndim else batch.count)

    def _is_estimated(self, request: Request, ndim: int) -> Variable | None:
        """A condition that holds where an application estimates the population: in its row, unless frozen; None: everywhere."""
        conditions = []
        if self.rows is not None:
            mine = eq(arange(self.rows), request.row(self.rows))
            conditions.append(shape_padright(mine, ndim - 1))
        if isinstance(request.freeze, Variable):
            conditions.append(lt(request.freeze, int(Freeze.AVERAGES)))
        if not conditions:
            return None
        return and_(*conditions) if len(conditions) == 2 else conditions[0]


def count_or_none(given: Any, what: str) -> int | None:
    """An int of 1 or more, or None; ValueError for anything else."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1):
        raise InvalidValueError(f"{what} must be an int of 1 or more, not {given!r}")
    return given  # type: ignore[return-value]


def _as_convention(given: Any, what: str) -> Convention:
    """A convention; TypeError for anything else."""
    if not isinstance(given, Convention):
        raise InvalidTypeError(f"{what} must be a Convention, such as BLOCKS, not {given!r}")
    return given


def _population_starts(convention: Convention, given: Any) -> dict[str, Initializer]:
    """The initializers of arrays that hold a population, by their names in a convention; errors for anything else."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidTypeError(f"population_init must be a dict of initializers, not {given!r}")
    unknown = [name for name in given or {} if name not in convention.population]
    if unknown:
        raise InvalidValueError(f"population_init is for {', '.join(convention.population)}, not for {', '.join(unknown)}")
    return {name: as_initializer(one, name) for name, one in (given or {}).items()}


class StoresPopulation(Layer):
    """A layer that stores a population, scale and shift, as a system keeps them.

    convention: the statistics that are stored, and their names. epsilon: added to the variance, inside the root; the
    convention's if left out. scale_init, shift_init, and population_init, a dict by name: initializers, numbers, arrays or
    variables for scale, shift and statistics. mean_only: store and subtract means, and divide by nothing. learn_scale,
    learn_shift: whether there are scale and shift. n_iter: the number of populations that are kept, for time steps or domains;
    each application then names one by its index.
    """

    fixed_when_made = frozenset({"convention"})
    fixed_when_allocated = frozenset(
        {"scale_init", "shift_init", "population_init", "mean_only", "learn_scale", "learn_shift", "n_iter"}
    )
    convention, n_iter = Setting(_as_convention), Setting(count_or_none)
    epsilon = Setting(lambda given, what: check_epsilon(given))
    mean_only, learn_scale, learn_shift = Setting(flag), Setting(flag), Setting(flag)

    def __init__(
        self,
        convention: Convention,
        epsilon: float | None,
        *,
        scale_init: Any = None,
        shift_init: Any = None,
        population_init: Mapping[str, Any] | None = None,
        mean_only: bool = False,
        learn_scale: bool = True,
        learn_shift: bool = True,
        n_iter: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.mean_only, self.learn_scale, self.learn_shift = mean_only, learn_scale, learn_shift
        self.convention, self.n_iter = convention, n_iter
        if isinstance(convention, Sums) and (n_iter is not None or mean_only):
            raise InvalidValueError(f"{convention.name} keeps one weight for all its sums: leave out n_iter and mean_only")
        self.epsilon = convention.epsilon if epsilon is None else epsilon
        self.scale_init = Constant(1.0) if scale_init is None else as_initializer(scale_init, "scale_init")
        self.shift_init = Constant(0.0) if shift_init is None else as_initializer(shift_init, "shift_init")
        self.population_init = _population_starts(convention, population_init)

    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of scale, shift and each statistic; ValueError if a size is not known."""
        raise TypeError(f"{type(self).__name__} does not define parameter_shape")

    def allocate_parameters(self) -> None:
        shape = self.parameter_shape()
        statistics = "float32" if self.dtype == np.dtype("float16") else self.dtype
        for name in self.convention.order:
            if name == self.convention.scale and self.learn_scale and not self.mean_only:
                self.add_parameter(name, shape, self.scale_init, BATCH_NORM_SCALE_PARAMETER)
            elif name == self.convention.shift and self.learn_shift:
                self.add_parameter(name, shape, self.shift_init, BATCH_NORM_SHIFT_PARAMETER)
            elif name in self.convention.population and not (self.mean_only and name != self.convention.mean):
                stored = self.convention.population[name]
                rows = () if self.n_iter is None else (self.n_iter,)
                sizes = rows + (shape if stored.shape is None else stored.shape)
                start = self.population_init.get(name, Constant(stored.start))
                self.add_parameter(name, sizes, start, stored.role, statistics)

    @property
    def count(self) -> Variable | None:
        """The variable that counts the minibatches which the population comes from, if the layer has one."""
        return None if self.convention.count is None else self.own_variables.get(self.convention.count)

    @property
    def population_statistics(self) -> list[Variable]:
        """The variables that hold the population: its mean, and unless `mean_only` its deviation as the convention has it."""
        return [self.own_variables[name] for name in self.convention.population if name in self.own_variables]

    @property
    def population(self) -> Population:
        """The population that is stored, with how it is read and followed."""
        return Population(self.population_statistics, self.convention, self.epsilon, self.n_iter)

    def check_value(self, what: str, role: type[Role], array: Array) -> None:
        reason = impossible(array, role, self.epsilon)
        if reason is not None:
            raise InvalidValueError(f"{what} {reason}")

    def check_values(self, values: Mapping[str, Array]) -> None:
        super().check_values(values)
        reason = self.convention.inconsistent(values)
        if reason is not None:
            raise InvalidValueError(f"{self!r}: {reason}")

    def listed(self) -> list[str]:
        return [name for name in self.convention.order if name in self.own_variables]

    def optional(self) -> set[str]:
        return set() if self.convention.count is None else {self.convention.count}
