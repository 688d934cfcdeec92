"""Layers that normalize by the minibatch in training and by a stored population in inference, whatever system they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable, items
from minigraph.layers.core.application import ApplicationCall, application, current_call
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import Constant, as_initializer
from minigraph.layers.core.modes import is_in_training, is_left_out
from minigraph.layers.core.roles import (
    BATCH_NORM_DIVISOR,
    BATCH_NORM_MINIBATCH_ESTIMATE,
    BATCH_NORM_OFFSET,
    BATCH_NORM_SCALE_PARAMETER,
    BATCH_NORM_SHIFT_PARAMETER,
    Role,
)
from minigraph.layers.core.settings import Setting, flag
from minigraph.layers.core.state_values import Array, impossible
from minigraph.layers.normalization.apply_options import Freeze, Request, as_freeze, checked_index, held
from minigraph.layers.normalization.conventions import BLOCKS, Batch, Convention, Stdev, Sums
from minigraph.layers.normalization.ghost_batches import GhostBatches
from minigraph.layers.normalization.masks import checked_mask
from minigraph.ops.array.creation import arange
from minigraph.ops.array.shape import broadcast_like, reshape, shape_padright
from minigraph.ops.control import ifelse
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.comparison import and_, eq, ge, gt, lt, where
from minigraph.ops.reduce.normalization import (
    Center,
    FiniteOr,
    Normalized,
    Reduction,
    Sample,
    Standardize,
    check_epsilon,
    normalize_by,
)

INFERENCE_IS_MEANT = "inference is meant"
"""The tag of an application that was switched to inference, or left out of training, on purpose."""

Pairs = list[tuple[Variable, Variable]]
"""(population statistic, estimate), or (shared variable, new value)."""


class PopulationNormalization(Layer):
    """A layer that normalizes by the minibatch in training and by a stored population in inference, the default.

    convention: which statistics are stored, how, and under which names. epsilon: added to the variance, inside the root.
    freeze: what stands still in training, unless an application says otherwise. n_iter: how many populations are kept, for
    time steps or domains; each application then names one by its index. virtual_batch_size: normalize that many rows at a
    time ("ghost batches", Hoffer et al. 2017); the population follows all of them together. all_reduce: a function from an
    array to the sum of such arrays over the processes that each hold a part of the batch.
    """

    fixed_when_made = frozenset({"convention", "virtual_batch_size", "all_reduce"})
    fixed_when_allocated = frozenset(
        {"scale_init", "shift_init", "population_init", "mean_only", "learn_scale", "learn_shift", "n_iter"}
    )
    keeps_population = True
    epsilon = Setting(lambda given, what: check_epsilon(given))
    freeze = Setting(lambda given, what: as_freeze(given))
    mean_only, learn_scale, learn_shift = Setting(flag), Setting(flag), Setting(flag)

    def __init__(
        self,
        convention: Convention = BLOCKS,
        epsilon: float | None = None,
        *,
        scale_init: Any = None,
        shift_init: Any = None,
        population_init: Mapping[str, Any] | None = None,
        mean_only: bool = False,
        learn_scale: bool = True,
        learn_shift: bool = True,
        n_iter: int | None = None,
        freeze: Freeze | Variable = Freeze.NOTHING,
        virtual_batch_size: int | None = None,
        all_reduce: Reduction | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.mean_only, self.learn_scale, self.learn_shift = mean_only, learn_scale, learn_shift
        for what, number in (("n_iter", n_iter), ("virtual_batch_size", virtual_batch_size)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1):
                raise InvalidValueError(f"{what} must be an int of 1 or more, not {number!r}")
        if virtual_batch_size is not None and all_reduce is not None:
            raise InvalidValueError(
                "virtual batches are parts of one process' batch; leave out virtual_batch_size or all_reduce"
            )
        if not isinstance(convention, Convention):
            raise InvalidTypeError(f"convention must be a Convention, such as BLOCKS, not {convention!r}")
        if all_reduce is not None and not callable(all_reduce):
            raise InvalidTypeError(f"all_reduce must be a function from an array to an array, not {all_reduce!r}")
        if isinstance(convention, Sums) and (n_iter is not None or mean_only):
            raise InvalidValueError(f"{convention.name} keeps one weight for all its sums: leave out n_iter and mean_only")
        if population_init is not None and not isinstance(population_init, Mapping):
            raise InvalidTypeError(f"population_init must be a dict of initializers, not {population_init!r}")
        unknown = [name for name in population_init or {} if name not in convention.population]
        if unknown:
            raise InvalidValueError(f"population_init is for {', '.join(convention.population)}, not for {', '.join(unknown)}")
        self.convention = convention
        self.epsilon = convention.epsilon if epsilon is None else epsilon
        self.scale_init = Constant(1.0) if scale_init is None else as_initializer(scale_init, "scale_init")
        self.shift_init = Constant(0.0) if shift_init is None else as_initializer(shift_init, "shift_init")
        self.population_init = {name: as_initializer(one, name) for name, one in (population_init or {}).items()}
        self.n_iter, self.freeze = n_iter, freeze
        self.virtual_batch_size, self.all_reduce = virtual_batch_size, all_reduce

    # -- what a subclass decides -------------------------------------------------------------------------------------

    def averaged_axes(self, x: Variable) -> tuple[int, ...]:
        """The axes of the input that statistics are taken over."""
        raise TypeError(f"{type(self).__name__} does not define averaged_axes")

    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of scale, shift and each statistic; ValueError if a size is not known."""
        raise TypeError(f"{type(self).__name__} does not define parameter_shape")

    def stretched(self, parameter: Variable, x: Variable) -> Variable:
        """A parameter with the axes of the input, so that it broadcasts."""
        raise TypeError(f"{type(self).__name__} does not define stretched")

    def acting(self, request: Request, in_training: bool) -> tuple[Request, bool]:
        """What a layer does, request and mode, when it is asked for something: that, unless it has a mind of its own."""
        return request, in_training

    @property
    def waits_for_pairs(self) -> bool:
        """Whether the population follows by pairs alone, so that training need not know at once which population is meant."""
        return True

    def followed(self, normalized: Variable, pairs: Pairs) -> Variable:
        """What was normalized by the minibatch, perhaps with a request to update the population when it is computed."""
        return normalized

    def axes_of_lengths(self) -> tuple[int, int] | None:
        """The axis whose rows have lengths and that of their steps, where those that are averaged over do not tell."""
        return None

    # -- parameters --------------------------------------------------------------------------------------------------

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

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            if x.dtype.kind != "f":
                raise InvalidTypeError(f"{self!r} takes floats, not {x!r}; cast them first")

    @property
    def own_parameters(self) -> list[Variable]:
        return [] if self.freeze is Freeze.EVERYTHING else super().own_parameters

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

    # -- application -------------------------------------------------------------------------------------------------

    @application
    def apply(
        self,
        x: Variable,
        index: Any = None,
        *,
        mask: Variable | None = None,
        lengths: Variable | None = None,
        freeze: Freeze | Variable | None = None,
        i: Any = None,
    ) -> Variable:
        """x normalized, times scale, plus shift.

        index, or i: which of the `n_iter` populations; an int or an integer scalar, not looked at if there is one population.
        In training it may be left out where the population follows by pairs; step k of a loop then is about number k. mask:
        where it is 0 an element counts for nothing, and is normalized to 0; it has the axis of the batch and then those that
        are averaged over, as many as there are, or all axes of x. lengths: instead of a mask, how many steps of each row there
        are along the first axis behind the batch that is averaged over. freeze: what stands still in training; the layer's own
        if left out.
        """
        degree = self.freeze if freeze is None else as_freeze(freeze)
        elements = checked_mask(x, mask, lengths, self.averaged_axes(x), self.axes_of_lengths())
        if i is not None and index is not None:
            raise InvalidValueError(f"{self!r}: index and i are two names for one thing; leave one out")
        by_minibatch = (
            self.waits_for_pairs and is_in_training(self) and isinstance(degree, Freeze) and degree < Freeze.STATISTICS
        )
        row = checked_index(i if index is None else index, self.n_iter, may_lack=by_minibatch)
        request = Request(elements, row, degree)
        return self.scaled(self.normalize(x, current_call(), request, is_in_training(self)), request)

    def scaled(self, normalized: Variable, request: Request) -> Variable:
        """A normalized value times scale, plus shift."""
        names = (self.convention.scale, self.convention.shift)
        scale, shift = (self.parameter(name) if self.has_parameter(name) else None for name in names)
        result, call = normalized, current_call()
        if scale is not None:
            result = result * self.stretched(held(scale, request, call), normalized)
        if shift is not None:
            result = result + self.stretched(held(shift, request, call), normalized)
        return result

    def normalize(self, x: Variable, call: ApplicationCall, request: Request, in_training: bool) -> Variable:
        """x normalized as the mode says, with all that is needed to find it, and to build it anew, in the graph."""
        acting, by_minibatch = self.acting(request, in_training)
        if not by_minibatch or acting.freezes(Freeze.STATISTICS):
            normalized, statistics = self.normalize_by_population(x, call, acting)
        else:
            normalized, statistics = self.normalize_by_minibatch(x, call, acting)
            if isinstance(acting.freeze, Variable):
                stored, _ = self.normalize_by_population(x, call, acting)
                normalized = ifelse(ge(acting.freeze, int(Freeze.STATISTICS)), stored, normalized)
        return self.recorded(normalized, x, call, request, in_training, statistics)

    def recorded(
        self,
        normalized: Variable,
        x: Variable,
        call: ApplicationCall,
        request: Request,
        in_training: bool,
        statistics: Sequence[Variable],
    ) -> Variable:
        """What was normalized, with what it was asked for, the variables that hold the population, and its statistics."""
        flag = request.freeze if isinstance(request.freeze, Variable) else None
        options = [one for one in request.options if one is not None]
        op = Normalized(
            training=in_training,
            freeze=None if flag is not None else int(request.freeze),
            options=tuple(one is not None for one in request.options),
            populations=len(self.population_statistics),
        )
        result = op(normalized, x, *options, *self.population_statistics, *statistics)
        tags = (call, INFERENCE_IS_MEANT) if is_left_out(self) else (call,)
        return Variable(result.op, result.inputs, result.type, f"{call.layer.name}_normalized", tags, result.origin)

    def normalize_by_population(self, x: Variable, call: ApplicationCall, request: Request) -> tuple[Variable, list[Variable]]:
        """x normalized by the stored statistics, and these, marked as those in use."""
        in_use = _in_use(self.population_in(x, request), call)
        normalized = normalize_by(x, *in_use)
        for weights in request.weights:
            normalized = where(gt(broadcast_like(weights, x), 0), normalized, 0)
        return normalized, in_use

    def population_in(self, x: Variable, request: Request) -> list[Variable]:
        """The mean and perhaps deviation of the population that an application is about, with the axes of its input."""
        stored = self.population_statistics
        if self.n_iter is not None:
            row = request.row(self.n_iter)
            stored = [one[row] for one in stored]
        mean, *spread = (self.stretched(one, x) for one in self.convention.read(stored, self.epsilon))
        # where nothing deviates, and epsilon does not help, x is normalized to 0, as it is in training
        return [mean, *(spread if self.epsilon else (where(eq(one, 0), np.inf, one) for one in spread))]

    def normalize_by_minibatch(self, x: Variable, call: ApplicationCall, request: Request) -> tuple[Variable, list[Variable]]:
        """x normalized by its own statistics, and these: those in use, marked as such, the variance, the count."""
        normalized, statistics, batch = self.estimate(x, request)
        in_use = _in_use(statistics, call, BATCH_NORM_MINIBATCH_ESTIMATE)
        own = Batch(in_use[0], batch.variance, batch.count)
        if not request.freezes(Freeze.AVERAGES) and not self.waits_for_pairs:
            normalized = self.followed(normalized, self.pairs(own, request))
        return normalized, [*in_use, *([] if batch.variance is None else [batch.variance]), batch.count]

    def estimate(self, x: Variable, request: Request) -> tuple[Variable, list[Variable], Batch]:
        """x normalized by its minibatch, the mean and perhaps deviation in use, and the statistics of the batch."""
        axes = self.averaged_axes(x)
        weights = request.weights
        if self.virtual_batch_size is not None:
            ghosts = GhostBatches(x, axes, weights, self.virtual_batch_size)
            normalized, *statistics = self._normalized(ghosts.x, ghosts.axes, ghosts.weights)
            batch = ghosts.pooled(statistics)
            used = [batch.mean] if batch.variance is None else [batch.mean, Stdev().keep(batch.variance, self.epsilon)]
            return ghosts.joined(normalized), used, batch
        normalized, mean, *spread = self._normalized(x, axes, weights)
        count = Sample(x, axes, self.all_reduce, weights).count
        return normalized, [mean, *spread[:1]], Batch(mean, spread[1] if spread else None, count)

    def _normalized(self, x: Variable, axes: tuple[int, ...], weights: Sequence[Variable]) -> tuple[Variable, ...]:
        """x normalized, its mean, and unless `mean_only` its deviation and variance."""
        if self.mean_only:
            return items(Center(axes, self.all_reduce)(x, *weights))
        return items(Standardize(axes, self.all_reduce, self.epsilon)(x, *weights))

    def pairs(self, batch: Batch, request: Request, allow_nonfinite: bool = False, otherwise: Sequence[Variable] = ()) -> Pairs:
        """(variable that holds the population, what the minibatch says about it). Where it says nothing, or nothing finite
        unless that is allowed, the latter is one of `otherwise`, by default the variable itself.
        """
        return self.pairs_of(self.aligned(batch, request), allow_nonfinite, otherwise)

    def pairs_of(self, batch: Batch, allow_nonfinite: bool = False, otherwise: Sequence[Variable] = ()) -> Pairs:
        """Pairs from statistics that are laid out as the population is, with a count of 0 where they say nothing."""
        if allow_nonfinite and isinstance(self.convention, Sums):
            raise InvalidValueError(f"{self!r} keeps sums, to which nothing can be added in vain: leave out allow_nonfinite")
        pairs: Pairs = []
        estimates = self.convention.estimate(batch, self.epsilon)
        populations = self.population_statistics
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
        there = self._is_estimated(request, row.mean.ndim + (self.n_iter is not None))
        if there is None:
            return row
        known = None if row.variance is None else where(there, row.variance, np.nan)
        return Batch(where(there, row.mean, np.nan), known, where(there, row.count, 0))

    def in_a_row(self, batch: Batch) -> Batch:
        """The statistics of a minibatch in the shape of the population, of one row of it if there are `n_iter`."""
        stored = self.own_variables[self.convention.mean].type.shape if self.population_statistics else batch.mean.type.shape
        row = stored if self.n_iter is None else stored[1:]
        mean, variance = (None if one is None else reshape(one, row) for one in (batch.mean, batch.variance))
        return Batch(mean, variance, reshape(batch.count, row) if batch.count.ndim else batch.count)

    def _is_estimated(self, request: Request, ndim: int) -> Variable | None:
        """Where an application says something about the population: in its row, unless a flag freezes it; None: everywhere."""
        conditions = []
        if self.n_iter is not None:
            mine = eq(arange(self.n_iter), request.row(self.n_iter))
            conditions.append(shape_padright(mine, ndim - 1))
        if isinstance(request.freeze, Variable):
            conditions.append(lt(request.freeze, int(Freeze.AVERAGES)))
        if not conditions:
            return None
        return and_(*conditions) if len(conditions) == 2 else conditions[0]


def _in_use(statistics: Sequence[Variable], call: ApplicationCall, *roles: type[Role]) -> list[Variable]:
    """Copies of a mean and perhaps a deviation, marked as what an application subtracts and divides by."""
    own = (("offset", BATCH_NORM_OFFSET), ("divisor", BATCH_NORM_DIVISOR))
    return [
        one.copy(f"{call.layer.name}_{name}", tags=(role, *roles, call))
        for one, (name, role) in zip(statistics, own, strict=False)
    ]
